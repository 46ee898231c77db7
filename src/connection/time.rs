//! Time as the connection table counts it: sixteenths of a second in 32 bits.
//!
//! The numbers wrap after 8.5 years. Comparisons are right as long as two
//! points lie less than 4.2 years apart; a connection lives 31 days at most
//! without a packet.
#![forbid(unsafe_code)]

use std::ops::Add;

use crate::clock::Ticks;

/// Steps of [`CoarseTime`] in a second.
pub const STEPS_PER_SECOND: u32 = 16;

/// The longest timeout in seconds: 31 days, as `ipvsadm` takes it.
pub const TIMEOUT_SECONDS_MAX: u32 = 31 * 24 * 60 * 60;

/// A point in time, in steps of 62.5 ms since the director started, modulo
/// 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoarseTime(u32);

impl CoarseTime {
    /// The last step that began at or before `now`. Called once a burst.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "wraps after 8.5 years as documented"
    )]
    pub const fn from_ticks(now: Ticks) -> Self {
        Self((now.as_ms() as u128 * STEPS_PER_SECOND as u128 / 1000) as u32)
    }

    /// The point in time `steps` steps after the start, modulo 2^32.
    pub const fn from_steps(steps: u32) -> Self {
        Self(steps)
    }

    /// Steps since the start, modulo 2^32.
    pub const fn as_steps(self) -> u32 {
        self.0
    }

    /// Whether `self` is `other` or later.
    #[inline]
    pub const fn has_reached(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) < HALF
    }

    /// Steps from `earlier` to `self`; 0 when `earlier` lies later.
    #[inline]
    pub const fn steps_since(self, earlier: Self) -> u32 {
        let steps = self.0.wrapping_sub(earlier.0);
        if steps < HALF { steps } else { 0 }
    }

    /// Milliseconds from `now` to this time; 0 when it has been reached.
    pub const fn ms_after(self, now: Self) -> u64 {
        self.steps_since(now) as u64 * 1000 / STEPS_PER_SECOND as u64
    }
}

impl Add<CoarseDuration> for CoarseTime {
    type Output = Self;

    #[inline]
    fn add(self, duration: CoarseDuration) -> Self {
        Self(self.0.wrapping_add(duration.0))
    }
}

/// A span of time in steps of 62.5 ms, one step to 31 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoarseDuration(u32);

impl CoarseDuration {
    /// `seconds`, clamped to 1 to [`TIMEOUT_SECONDS_MAX`].
    pub const fn from_seconds(seconds: u32) -> Self {
        let seconds = if seconds < 1 {
            1
        } else if seconds > TIMEOUT_SECONDS_MAX {
            TIMEOUT_SECONDS_MAX
        } else {
            seconds
        };
        Self(seconds * STEPS_PER_SECOND)
    }

    /// From `now` to `deadline`: one step at least.
    pub fn between(now: CoarseTime, deadline: CoarseTime) -> Self {
        let steps_max = TIMEOUT_SECONDS_MAX * STEPS_PER_SECOND;
        Self(deadline.steps_since(now).clamp(1, steps_max))
    }

    /// Whole seconds.
    pub const fn as_seconds(self) -> u32 {
        self.0 / STEPS_PER_SECOND
    }

    /// Steps of 62.5 ms.
    pub const fn as_steps(self) -> u32 {
        self.0
    }
}

const HALF: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_62_5_ms_and_begins_at_or_before_the_instant() {
        let steps = |ms| CoarseTime::from_ticks(Ticks::from_ms(ms)).as_steps();
        assert_eq!([0, 62, 63, 124, 125, 1000].map(steps), [0, 0, 1, 1, 2, 16]);
    }

    #[test]
    fn time_wraps_and_still_compares() {
        let before = CoarseTime::from_steps(u32::MAX - 4);
        let after = before + CoarseDuration::from_seconds(1);
        assert_eq!(after.as_steps(), 11);
        assert!(after.has_reached(before) && !before.has_reached(after));
        assert_eq!(after.steps_since(before), 16);
        assert_eq!(before.steps_since(after), 0);
    }

    #[test]
    fn durations_are_clamped() {
        assert_eq!(CoarseDuration::from_seconds(0).as_steps(), 16);
        assert_eq!(
            CoarseDuration::from_seconds(u32::MAX).as_seconds(),
            TIMEOUT_SECONDS_MAX
        );
    }
}
