//! What is remembered of each flow: 16 bytes.
use bytemuck::Zeroable;

use crate::memory::{HugeSlice, MemoryError, prefetch_write};

/// All flows that live, by slot.
#[derive(Debug)]
pub struct Flows {
    entries: HugeSlice<FlowEntry>,
}

/// What is remembered of the flow that has a slot at present.
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub(super) struct FlowEntry {
    /// How many flows had the slot before.
    pub(super) generation: u32,
    /// Packets made; the next one's place in the flow.
    pub(super) sent: u32,
    /// How many packets the next one to be received lies behind the next one
    /// to be made.
    lag: u16,
    /// Number of its real server and 1; 0 as long as none is known.
    server: u16,
    /// GUE source port; 0 as long as none is known.
    source_port: u16,
    /// Which of the last packets have come: bit 0 is the last one before the
    /// next one that is waited for.
    seen: u16,
}

/// What the place of a received packet in its flow says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is behind all that came before it.
    Next,
    /// One that was made later came earlier.
    Late,
    /// It has come before.
    Duplicate,
    /// It was never made.
    NeverSent,
}

impl Flows {
    /// `flows` flows that have sent nothing.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(flows: u32, numa_node: Option<u32>) -> Result<Self, MemoryError> {
        let len = usize::try_from(flows).unwrap_or(usize::MAX);
        Ok(Self {
            entries: HugeSlice::zeroed(len, numa_node)?,
        })
    }

    /// Hints the processor to load what is known of a flow.
    #[inline]
    pub(super) fn prefetch(&self, slot: u32) {
        if let Some(entry) = self.entries.get(slot as usize) {
            prefetch_write(entry);
        }
    }

    /// Packets made of the flow in each slot.
    pub(super) fn sent(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| entry.sent)
    }

    /// Number of the real server that each flow was with last.
    pub(super) fn servers(&self) -> impl Iterator<Item = Option<u16>> + '_ {
        self.entries.iter().map(|entry| entry.server.checked_sub(1))
    }

    /// What is known of the flow in a slot.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut FlowEntry> {
        self.entries.get_mut(slot as usize)
    }
}

impl FlowEntry {
    /// Takes the next place in the flow.
    #[inline]
    pub(super) fn next(&mut self) -> u32 {
        let sequence = self.sent;
        self.sent = sequence.wrapping_add(1);
        self.lag = self.lag.saturating_add(1);
        sequence
    }

    /// Lets a new flow take the slot.
    #[inline]
    pub(super) fn replace(&mut self) {
        *self = Self {
            generation: self.generation.wrapping_add(1),
            ..Self::default()
        };
    }

    /// Notes where a packet came out. `Err` with the real server before, when
    /// that was another one; from then on it is the new one.
    #[inline]
    pub(super) fn came_by(&mut self, server: u16) -> Result<(), u16> {
        let before = self.server;
        self.server = server.saturating_add(1);
        match before.checked_sub(1) {
            Some(before) if before != server => Err(before),
            _ => Ok(()),
        }
    }

    /// Whether no packet has come yet.
    #[inline]
    pub(super) const fn is_fresh(&self) -> bool {
        self.server == 0
    }

    /// Notes the source port of GUE. `Err` with that before, when it was
    /// another one.
    #[inline]
    pub(super) fn came_from(&mut self, source_port: u16) -> Result<(), u16> {
        let before = self.source_port;
        self.source_port = source_port;
        if before == 0 || before == source_port {
            Ok(())
        } else {
            Err(before)
        }
    }

    /// Notes that the packet with this place has come.
    #[inline]
    pub(super) fn came(&mut self, sequence: u32) -> Order {
        let expected = self.sent.wrapping_sub(u32::from(self.lag));
        let ahead = sequence.wrapping_sub(expected);
        if ahead < HALF {
            // More than the lag can tell was on its way or lost.
            let after = ahead.saturating_add(1);
            let Some(lag) = u32::from(self.lag).checked_sub(after) else {
                return Order::NeverSent;
            };
            self.lag = u16::try_from(lag).unwrap_or(u16::MAX);
            self.seen = self.seen.checked_shl(after).unwrap_or(0) | 1;
            return Order::Next;
        }
        let behind = expected.wrapping_sub(sequence) - 1;
        let bit = 1_u16.checked_shl(behind).unwrap_or(0);
        if self.seen & bit != 0 {
            return Order::Duplicate;
        }
        self.seen |= bit;
        Order::Late
    }
}

const HALF: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_sixteen_bytes() {
        assert_eq!(size_of::<FlowEntry>(), 16);
    }

    fn after(sent: u32) -> FlowEntry {
        let mut entry = FlowEntry::default();
        for expected in 0..sent {
            assert_eq!(entry.next(), expected);
        }
        entry
    }

    #[test]
    fn packets_in_order_are_in_order_also_with_losses_between() {
        let mut entry = after(20);
        for sequence in [0, 1, 4, 5, 19] {
            assert_eq!(entry.came(sequence), Order::Next, "{sequence}");
        }
    }

    #[test]
    fn a_packet_that_comes_late_or_twice_is_told_apart() {
        let mut entry = after(40);
        assert_eq!(entry.came(0), Order::Next);
        assert_eq!(entry.came(3), Order::Next);
        assert_eq!(entry.came(1), Order::Late);
        assert_eq!(entry.came(1), Order::Duplicate);
        assert_eq!(entry.came(3), Order::Duplicate);
        assert_eq!(entry.came(0), Order::Duplicate);
        assert_eq!(entry.came(2), Order::Late);
        assert_eq!(entry.came(30), Order::Next);
        assert_eq!(entry.came(30), Order::Duplicate);
        // Further back than is remembered.
        assert_eq!(entry.came(5), Order::Late);
    }

    #[test]
    fn a_packet_that_was_not_made_is_told() {
        let mut entry = after(2);
        assert_eq!(entry.came(2), Order::NeverSent);
        assert_eq!(entry.came(1), Order::Next);
        assert_eq!(entry.came(0x7000_0000), Order::NeverSent);
    }

    #[test]
    fn order_survives_more_losses_than_can_be_counted() {
        let mut entry = after(100_000);
        assert_eq!(entry.came(99_998), Order::Next);
        assert_eq!(entry.came(99_999), Order::Next);
        assert_eq!(entry.came(100_000), Order::NeverSent);
    }

    #[test]
    fn a_flow_that_moves_is_told_once() {
        let mut entry = after(1);
        assert!(entry.is_fresh());
        assert_eq!(entry.came_by(3), Ok(()));
        assert_eq!(entry.came_by(3), Ok(()));
        assert_eq!(entry.came_by(0), Err(3));
        assert_eq!(entry.came_by(0), Ok(()));
        assert_eq!(entry.came_from(40_000), Ok(()));
        assert_eq!(entry.came_from(40_001), Err(40_000));
    }

    #[test]
    fn a_new_flow_knows_nothing_of_the_one_before() {
        let mut entry = after(7);
        entry.came_by(2).unwrap();
        entry.came(3);
        entry.replace();
        assert_eq!((entry.generation, entry.sent), (1, 0));
        assert!(entry.is_fresh());
    }
}
