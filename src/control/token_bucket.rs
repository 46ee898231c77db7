//! A limit on how often something may happen.
#![forbid(unsafe_code)]

use crate::clock::Ticks;

/// Lets `per_second` events through on average, and as many at once after a
/// quiet second.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    per_second: u32,
    /// Thousandths of a token.
    level: u64,
    refilled: Ticks,
}

impl TokenBucket {
    /// A full bucket; `per_second` 0 means no limit.
    pub(super) fn new(per_second: u32, now: Ticks) -> Self {
        Self {
            per_second,
            level: u64::from(per_second) * 1000,
            refilled: now,
        }
    }

    /// Whether an event may happen now.
    pub(super) fn take(&mut self, now: Ticks) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let full = u64::from(self.per_second) * 1000;
        let gained = now
            .ms_since(self.refilled)
            .saturating_mul(u64::from(self.per_second));
        self.level = self.level.saturating_add(gained).min(full);
        self.refilled = now;
        if self.level < 1000 {
            return false;
        }
        self.level -= 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, now: Ticks, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_is_bounded_and_the_average_kept() {
        let mut bucket = TokenBucket::new(10, Ticks::ZERO);
        assert_eq!(taken(&mut bucket, Ticks::ZERO, 100), 10);
        assert_eq!(taken(&mut bucket, Ticks::from_ms(500), 100), 5);
        assert_eq!(taken(&mut bucket, Ticks::from_ms(60_000), 100), 10);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut bucket = TokenBucket::new(0, Ticks::ZERO);
        assert_eq!(taken(&mut bucket, Ticks::ZERO, 1000), 1000);
    }
}
