//! The director's notion of time.
//!
//! Everything below the worker loop and the management thread is given the
//! time as a value; nobody else reads a clock. That makes the core testable
//! with a virtual clock, and keeps clock reads off the packet path (one a
//! burst at most).
#![forbid(unsafe_code)]

use std::{
    ops::Add,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A point in time: milliseconds since the director started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(u64);

impl Ticks {
    /// The instant at which the director started.
    pub const ZERO: Self = Self(0);

    /// A point in time `ms` milliseconds after the start.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the director started.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// Milliseconds from `earlier` to `self`; 0 when `earlier` lies later.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Ticks {
    type Output = Self;

    /// The point in time `ms` milliseconds later.
    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A source of [`Ticks`], read by the worker loop once a burst and by the
/// management thread once a turn.
pub trait Clock {
    /// The present.
    fn now(&self) -> Ticks;
}

/// The real monotonic clock. Copies share one start, so that the threads of a
/// director agree about the time.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Ticks {
        Ticks(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The present as captures note it: nanoseconds since 1970-01-01 UTC. Read once
/// a burst, and only while there is a capture.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_a_later_point_is_zero() {
        assert_eq!(Ticks::from_ms(5).ms_since(Ticks::from_ms(9)), 0);
        assert_eq!(Ticks::from_ms(9).ms_since(Ticks::from_ms(5)), 4);
    }
}
