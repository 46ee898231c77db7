//! So many packets a second.

/// Gives out permission to send at a steady rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    per_second: u64,
    cycles_per_second: u64,
    /// A packet costs `cycles_per_second`, a cycle gives `per_second`.
    credit: u64,
    last: u64,
}

impl Pacer {
    /// `per_second` packets a second from `now` on, at most
    /// [`PER_SECOND_MAX`].
    pub(super) fn new(per_second: u64, cycles_per_second: u64, now: u64) -> Self {
        Self {
            per_second: per_second.min(PER_SECOND_MAX),
            cycles_per_second: cycles_per_second.max(1),
            credit: 0,
            last: now,
        }
    }

    /// How many packets are due. What was missed is made up for by
    /// [`BEHIND_MAX`] packets at most.
    #[inline]
    pub(super) fn due(&mut self, now: u64) -> usize {
        if self.per_second == 0 {
            return 0;
        }
        let elapsed = now.saturating_sub(self.last).min(self.cycles_per_second);
        self.last = now;
        let credit = self.credit.saturating_add(elapsed * self.per_second);
        self.credit = credit.min(self.cycles_per_second * BEHIND_MAX);
        usize::try_from(self.credit / self.cycles_per_second).unwrap_or(usize::MAX)
    }

    /// Takes off what was sent.
    #[inline]
    pub(super) const fn take(&mut self, packets: usize) {
        let cost = self.cycles_per_second.saturating_mul(packets as u64);
        self.credit = self.credit.saturating_sub(cost);
    }
}

/// The highest rate: with it a second of cycles still fits into the credit.
pub(super) const PER_SECOND_MAX: u64 = 1_000_000_000;
/// Packets that may be made up for.
const BEHIND_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_due_at_their_rate() {
        let mut pacer = Pacer::new(1_000, 2_600_000, 100);
        assert_eq!(pacer.due(100), 0);
        assert_eq!(pacer.due(100 + 2_599), 0);
        assert_eq!(pacer.due(100 + 2_600), 1);
        pacer.take(1);
        assert_eq!(pacer.due(100 + 2 * 2_600 - 1), 0);
        assert_eq!(pacer.due(100 + 12 * 2_600), 11);
        pacer.take(4);
        assert_eq!(pacer.due(100 + 12 * 2_600), 7);
    }

    #[test]
    fn a_pause_is_made_up_for_in_part() {
        let mut pacer = Pacer::new(1_000_000, 2_600_000_000, 0);
        assert_eq!(pacer.due(2_600_000_000), 256);
    }

    #[test]
    fn the_highest_rate_does_not_overflow() {
        let mut pacer = Pacer::new(u64::MAX, 5_000_000_000, 0);
        assert_eq!(pacer.due(u64::MAX), 256);
        assert_eq!(Pacer::new(0, 1_000, 0).due(u64::MAX), 0);
    }
}
