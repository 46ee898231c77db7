//! What became of single flows while the director was changed: which of them
//! went on with another real server, and, when it is asked for, how many packets
//! each of them lost.
//!
//! Moves are rare, and noted as they come. Losses take a count for each flow,
//! and so memory that there is only with `--per-flow` or `--may-lose`.
use bytemuck::Zeroable;

use super::{flows::Flows, plan::Plan};
use crate::memory::{HugeSlice, MemoryError};

/// What is known of single flows.
#[derive(Debug)]
pub struct Histories {
    moves: Vec<Move>,
    moved: u64,
    allowed: u64,
    tallies: Option<HugeSlice<Tally>>,
    /// By real server: what may become of its flows.
    rights: Vec<Rights>,
}

/// A flow that went on with another real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Slot of the flow.
    pub slot: u32,
    /// How many flows had the slot before.
    pub generation: u32,
    /// Place in the flow of the first packet that came there.
    pub sequence: u32,
    /// Number of the real server before.
    pub from: u16,
    /// Number of the real server from then on.
    pub to: u16,
    /// When that packet was made, by the cycle counter.
    pub time: u64,
}

/// A flow that lost packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losing {
    /// Slot of the flow.
    pub slot: u32,
    /// Number of the real server that it was with last; `None` when nothing
    /// of it ever came.
    pub server: Option<u16>,
    /// Packets made while it was measured.
    pub sent: u32,
    /// Those of them that did not come.
    pub lost: u32,
    /// Whether it was with a real server whose flows may lose packets.
    pub is_allowed: bool,
}

/// What may become of the flows of a real server.
#[derive(Clone, Copy, Debug, Default)]
struct Rights {
    may_move: bool,
    may_lose: bool,
}

/// Packets of a flow.
#[derive(Clone, Copy, Debug, Default, Zeroable)]
struct Tally {
    /// Made before it was measured.
    sent_before: u32,
    /// Of those made since, how many came.
    received: u32,
    /// Not 0 when it was with a real server whose flows may lose packets.
    may_lose: u32,
}

impl Histories {
    /// Of flows that have sent nothing.
    pub(super) fn new(plan: &Plan) -> Result<Self, MemoryError> {
        let options = &plan.options;
        let is_in = |ranges: &[super::address::AddressRange], server| {
            let address = plan.servers.address(server);
            let mut ranges = ranges.iter();
            address.is_some_and(|address| ranges.any(|range| range.position(address).is_some()))
        };
        let rights = (0..plan.servers.len())
            .map(|server| Rights {
                may_move: is_in(&options.may_move, server),
                may_lose: is_in(&options.may_lose, server),
            })
            .collect();
        let wants_tallies = options.per_flow || !options.may_lose.is_empty();
        let flows = usize::try_from(options.flows).unwrap_or(usize::MAX);
        Ok(Self {
            moves: Vec::with_capacity(MOVES_KEPT_MAX),
            moved: 0,
            allowed: 0,
            tallies: wants_tallies
                .then(|| HugeSlice::zeroed(flows, None))
                .transpose()?,
            rights,
        })
    }

    /// From now on packets count.
    pub(super) fn measure_from_here(&mut self, flows: &Flows) {
        let Some(tallies) = &mut self.tallies else {
            return;
        };
        for (tally, sent) in tallies.iter_mut().zip(flows.sent()) {
            tally.sent_before = sent;
        }
    }

    /// Notes that a packet of a flow came, and where; `is_counted` unless it is
    /// a second one or was made before it was measured.
    #[inline]
    pub(super) fn came(&mut self, slot: u32, server: u16, is_counted: bool) {
        let Some(tallies) = &mut self.tallies else {
            return;
        };
        let rights = self.rights.get(usize::from(server)).copied();
        if let Some(tally) = tallies.get_mut(slot as usize) {
            tally.received += u32::from(is_counted);
            tally.may_lose |= u32::from(rights.unwrap_or_default().may_lose);
        }
    }

    /// Notes a move. Returns whether it may be.
    #[cold]
    pub(super) fn moved(&mut self, flow: Move) -> bool {
        let rights = self.rights.get(usize::from(flow.from)).copied();
        let is_allowed = rights.unwrap_or_default().may_move;
        self.moved += 1;
        self.allowed += u64::from(is_allowed);
        if self.moves.len() < MOVES_KEPT_MAX {
            self.moves.push(flow);
        }
        is_allowed
    }

    /// How often a flow moved, and how often one might.
    pub const fn move_counts(&self) -> (u64, u64) {
        (self.moved, self.allowed)
    }

    /// The first moves, as they came.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// All flows that lost packets, by slot; `None` when packets were not
    /// counted by flow. Meant for the end of a run: what is on its way is lost.
    pub(super) fn losing<'a>(
        &'a self,
        flows: &'a Flows,
    ) -> Option<impl Iterator<Item = Losing> + 'a> {
        let tallies = self.tallies.as_ref()?;
        let flows = flows.sent().zip(flows.servers());
        let flows = (0..).zip(tallies.iter().zip(flows));
        Some(flows.filter_map(|(slot, (tally, (sent, server)))| {
            let sent = sent.wrapping_sub(tally.sent_before);
            let lost = sent.saturating_sub(tally.received);
            (lost > 0).then_some(Losing {
                slot,
                server,
                sent,
                lost,
                is_allowed: tally.may_lose != 0,
            })
        }))
    }
}

/// Moves that are kept with all that is known of them; others are counted.
pub const MOVES_KEPT_MAX: usize = 10_000;
