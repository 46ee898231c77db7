//! Neighbors: which MAC address an IP address on a link has.
//!
//! The state machine of RFC 4861 section 7.3 as Linux runs it, for ARP too. It is
//! pure: it is told the time, says which requests to send, and never sends or
//! reads anything itself. Its owner is the management thread, which
//!
//! - calls [`resolve`](NeighborTable::resolve) when a packet needs a MAC,
//! - calls [`mark_used`](NeighborTable::mark_used) for the next hops that the
//!   workers use without asking, more often than every
//!   [`delay_ms`](NeighborParameters::delay_ms), so that they are probed again
//!   and a dead one is noticed,
//! - passes on what ARP and Neighbor Discovery say with [`learn`](NeighborTable::learn),
//! - calls [`poll`](NeighborTable::poll) at
//!   [`next_deadline`](NeighborTable::next_deadline) and does what it says.
//!
//! ```text
//!            resolve                 reply                  reachable_ms
//! (nothing) ---------> Incomplete ----------> Reachable ------------------> Stale
//!                       |      ^                ^   ^                         |
//!     no reply to all   |      | resolve        |   | reply            in use |
//!     broadcasts        v      |                |   |                         v
//!                       Failed <------------- Probe <---------------------- Delay
//!                            no reply to unicasts         delay_ms
//! ```
//!
//! Where this departs from Linux: the reachable time is not randomised (a
//! director's few neighbors need no spreading), and unused entries go after
//! [`unused_ms`](NeighborParameters::unused_ms) however few there are, where
//! Linux keeps the first 128.
#![forbid(unsafe_code)]

use std::{fmt, net::IpAddr};

use crate::{clock::Ticks, io::PortIndex, wire::ethernet::MacAddr};

mod table;
mod waiting;

pub use table::NeighborTable;
pub use waiting::Waiting;

/// What makes a neighbor unique: the link and its address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighborKey {
    /// The port it is reached by.
    pub port: PortIndex,
    /// Its address.
    pub ip: IpAddr,
}

/// Times and numbers, named and set as in Linux unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborParameters {
    /// Between two requests; at least 1 (`retrans_time_ms`).
    pub retrans_ms: u64,
    /// Requests to all (by ARP) or to the neighbor's group (by Neighbor
    /// Discovery) before a new neighbor is given up (`mcast_solicit`).
    pub broadcast_requests: u8,
    /// Requests to its last MAC before a known neighbor is given up
    /// (`ucast_solicit`).
    pub unicast_requests: u8,
    /// How long a reply proves that the neighbor is there
    /// (`base_reachable_time_ms`).
    pub reachable_ms: u64,
    /// From the first use of a stale entry to its first probe
    /// (`delay_first_probe_time`).
    pub delay_ms: u64,
    /// How long an entry stays that is stale and that nobody uses, or that
    /// failed (`gc_stale_time`).
    pub unused_ms: u64,
    /// How long a MAC that a neighbor just got is not replaced by another one
    /// from a reply: of two hosts that answer for one address the first wins
    /// (`locktime`).
    pub lock_ms: u64,
    /// The most entries (`gc_thresh3`).
    pub entries_max: usize,
}

impl Default for NeighborParameters {
    fn default() -> Self {
        Self {
            retrans_ms: 1_000,
            broadcast_requests: 3,
            unicast_requests: 3,
            reachable_ms: 30_000,
            delay_ms: 5_000,
            unused_ms: 60_000,
            lock_ms: 1_000,
            entries_max: 1_024,
        }
    }
}

/// How much is known of a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighborState {
    /// Asked for; no answer yet.
    Incomplete,
    /// Known, and proved to be there.
    Reachable,
    /// Known, perhaps no longer there. Stays so until it is used.
    Stale,
    /// Known and in use; will be probed soon.
    Delay,
    /// Known and in use; being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// Known because somebody said so.
    Permanent,
}

impl fmt::Display for NeighborState {
    /// As `ip neigh` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
            Self::Permanent => "PERMANENT",
        })
    }
}

/// One neighbor, as shown to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// The link and the address.
    pub key: NeighborKey,
    /// How much is known of it.
    pub state: NeighborState,
    /// Its MAC, in every state but incomplete and failed.
    pub mac: Option<MacAddr>,
    /// When state or MAC last changed.
    pub updated: Ticks,
    /// When it was last proved to be there.
    pub confirmed: Option<Ticks>,
    /// When it was last needed.
    pub used: Option<Ticks>,
}

/// Answer to the question for a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The neighbor has this MAC.
    Resolved(MacAddr),
    /// Requests are on their way; [`NeighborTable::learn`] or
    /// [`NeighborTable::poll`] will tell how they end.
    Pending,
    /// There is no room for another neighbor; counted.
    TableFull,
}

/// What kind of message tells of a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnKind {
    /// A request for an address of the director: the sender is about to talk
    /// to it, so that a new entry is worth while.
    Request,
    /// An ARP reply.
    Reply {
        /// Whether it came to the director's own MAC, as answers do. A
        /// broadcast reply does not prove that the neighbor is reachable.
        solicited: bool,
    },
    /// The sender announces its own address, by ARP request or reply. Also any
    /// request for somebody else's address: both tell the sender's MAC.
    Gratuitous,
    /// A neighbor advertisement (RFC 4861 section 7.2.5).
    Advertisement {
        /// Whether it answers a solicitation, which proves that the neighbor
        /// is reachable.
        solicited: bool,
        /// Whether it may replace a MAC that is known.
        overrides: bool,
    },
}

/// What changed by learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that senders need to know.
    Unchanged,
    /// A neighbor that had no MAC has one: waiting packets can go.
    Resolved,
    /// A neighbor has another MAC than this one, which it had before.
    Moved {
        /// The MAC before.
        from: MacAddr,
    },
    /// There is no room for another neighbor; counted.
    TableFull,
}

/// What the owner of a table has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an ARP request or a neighbor solicitation for this neighbor.
    SendRequest {
        /// Whom to ask for.
        key: NeighborKey,
        /// The only station to ask; without one, ask all.
        unicast: Option<MacAddr>,
    },
    /// The neighbor did not answer: it has no MAC any more, and what waits for
    /// it is undeliverable.
    Failed {
        /// Who did not answer.
        key: NeighborKey,
    },
    /// The neighbor has been stale and not used, or failed, for long, and its
    /// entry is gone.
    Removed {
        /// Whose entry it was.
        key: NeighborKey,
    },
}
