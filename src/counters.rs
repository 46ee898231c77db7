//! Counters of the packet path: one block per worker, read by the management
//! thread.
//!
//! A worker owns its block and writes with plain loads and stores (no atomic
//! read-modify-write); a reader may see a value that is a few packets old,
//! never a torn one. Every way a packet can end has exactly one counter, so
//! that received = forwarded + dropped + punted holds at any quiet moment.
#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crossbeam::utils::CachePadded;

use crate::pipeline::{DropReason, PuntReason};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the counter may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Replaces the value. Only the thread that owns the counter may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value, from any thread.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker did.
#[derive(Debug)]
pub struct WorkerCounters {
    /// Packets received.
    pub rx_packets: Counter,
    /// Packets sent into a tunnel: a transmit queue took them (a fragmented one
    /// counts once, with its last fragment).
    pub forwarded: Counter,
    /// Frames accepted by transmit queues, those of the management thread
    /// included.
    pub tx_packets: Counter,
    /// Frames that transmit queues did not take, those of the management
    /// thread and fragments included.
    pub tx_refused: Counter,
    /// Bursts that held at least one packet.
    pub bursts: Counter,
    /// Turns of the worker's loop.
    pub turns: Counter,
    /// TSC cycles spent in turns that had something to do.
    pub busy_cycles: Counter,
    /// TSC cycles spent in all turns, pauses included.
    pub total_cycles: Counter,
    /// Fragments of clients' packets received.
    pub fragments: Counter,
    /// Fragments that had to wait for the first of their datagram.
    pub fragments_held: Counter,
    /// Packets and news about them given to other workers.
    pub handed_over: Counter,
    /// Packets taken from other workers that received them for this one.
    pub taken_over: Counter,
    /// Finished frames given to other workers to send.
    pub tx_handed_over: Counter,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections that ended because they timed out.
    pub connections_expired: Counter,
    /// Connections that gave way to new ones in a full table.
    pub connections_evicted: Counter,
    /// Packets of hashing services that were forwarded without a connection,
    /// for which there was no room.
    pub untracked: Counter,
    /// Persistence templates that ended early to make room.
    pub templates_evicted: Counter,
    /// Connections of persistent services for which there was no room for a
    /// template.
    pub templates_full: Counter,
    /// Connections in the table at present.
    pub connections: Counter,
    /// The generation of the forwarding state in use.
    pub generation: Counter,
    drops: Box<[Counter]>,
    punts: Box<[Counter]>,
    servers: Box<[ServerCounters]>,
}

/// What one worker sent to one real server.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Connections opened.
    pub connections: Counter,
    /// Packets from clients.
    pub in_packets: Counter,
    /// Bytes of these: lengths of the inner IP packets.
    pub in_bytes: Counter,
    /// ICMP errors that came as if a client had been sent them; see
    /// `docs/packet-path.md`.
    pub out_packets: Counter,
    /// Bytes of these.
    pub out_bytes: Counter,
}

impl WorkerCounters {
    /// Counters at 0 for up to `servers_max` real servers.
    pub fn new(servers_max: usize) -> Arc<CachePadded<Self>> {
        Arc::new(CachePadded::new(Self {
            rx_packets: Counter::default(),
            forwarded: Counter::default(),
            tx_packets: Counter::default(),
            tx_refused: Counter::default(),
            bursts: Counter::default(),
            turns: Counter::default(),
            busy_cycles: Counter::default(),
            total_cycles: Counter::default(),
            fragments: Counter::default(),
            fragments_held: Counter::default(),
            handed_over: Counter::default(),
            taken_over: Counter::default(),
            tx_handed_over: Counter::default(),
            connections_opened: Counter::default(),
            connections_expired: Counter::default(),
            connections_evicted: Counter::default(),
            untracked: Counter::default(),
            templates_evicted: Counter::default(),
            templates_full: Counter::default(),
            connections: Counter::default(),
            generation: Counter::default(),
            drops: zeroed(DropReason::ALL.len()),
            punts: zeroed(PuntReason::ALL.len()),
            servers: zeroed(servers_max),
        }))
    }

    /// The counter of a reason to drop.
    #[inline]
    pub fn drops(&self, reason: DropReason) -> &Counter {
        self.drops.get(reason as usize).unwrap_or(&UNKNOWN)
    }

    /// The counter of a reason to hand a packet to the management thread.
    #[inline]
    pub fn punts(&self, reason: PuntReason) -> &Counter {
        self.punts.get(reason as usize).unwrap_or(&UNKNOWN)
    }

    /// The counters of the real server in slot `index`.
    #[inline]
    pub fn server(&self, index: usize) -> &ServerCounters {
        self.servers.get(index).unwrap_or(&UNKNOWN_SERVER)
    }
}

fn zeroed<T: Default>(len: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(len).collect()
}

/// Takes what belongs to no counter; its value means nothing.
static UNKNOWN: Counter = Counter(AtomicU64::new(0));
static UNKNOWN_SERVER: ServerCounters = ServerCounters {
    connections: Counter(AtomicU64::new(0)),
    in_packets: Counter(AtomicU64::new(0)),
    in_bytes: Counter(AtomicU64::new(0)),
    out_packets: Counter(AtomicU64::new(0)),
    out_bytes: Counter(AtomicU64::new(0)),
};
