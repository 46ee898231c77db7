//! How often a state is published while commands stream in.
//!
//! Making one takes time in proportion to the number of real servers, so that
//! a client that adds thousands of them one by one would wait for thousands of
//! states that nobody needs. A command that comes alone is not held up.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::Ticks;

/// Whether a change may be published yet.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Whether a client's command is among the changes.
    is_requested: bool,
    /// When such a change was last published.
    published: Option<Published>,
}

#[derive(Clone, Copy, Debug)]
struct Published {
    at: Ticks,
    /// How long it took, once the next turn has shown it.
    ms: Option<u64>,
}

impl Pace {
    /// A client's command has changed something.
    pub(super) const fn requested(&mut self) {
        self.is_requested = true;
    }

    /// Whether the change has to wait. To be asked every turn.
    pub(super) fn holds(&mut self, now: Ticks) -> bool {
        let Some(Published { at, ms }) = &mut self.published else {
            return false;
        };
        let passed = now.ms_since(*at);
        // The thread does not rest between publishing and its next turn.
        let took = *ms.get_or_insert(passed);
        let interval = (took * SHARE).clamp(INTERVAL_MS_MIN, INTERVAL_MS_MAX);
        self.is_requested && passed < interval
    }

    /// All changes have been published.
    pub(super) const fn published(&mut self, now: Ticks) {
        if self.is_requested {
            self.published = Some(Published { at: now, ms: None });
        }
        self.is_requested = false;
    }
}

/// Publishing takes one part in so many of the time.
const SHARE: u64 = 10;
const INTERVAL_MS_MIN: u64 = 10;
const INTERVAL_MS_MAX: u64 = 100;
/// How long a thread waits at most that has something to publish.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_commands_is_published_at_intervals() {
        let mut pace = Pace::default();
        let published: Vec<_> = (100..=140)
            .filter(|&ms| {
                let now = Ticks::from_ms(ms);
                pace.requested();
                let holds = pace.holds(now);
                if !holds {
                    pace.published(now);
                }
                !holds
            })
            .collect();
        assert_eq!(published, [100, 110, 120, 130, 140]);
    }

    #[test]
    fn what_no_client_asked_for_is_never_held() {
        let mut pace = Pace::default();
        pace.requested();
        pace.published(Ticks::from_ms(7));
        assert!(!pace.holds(Ticks::from_ms(7)));
        pace.published(Ticks::from_ms(7));
        pace.requested();
        assert!(pace.holds(Ticks::from_ms(16)));
        assert!(!pace.holds(Ticks::from_ms(17)));
    }

    #[test]
    fn what_takes_long_is_done_less_often() {
        for (took, until) in [(4, 40), (700, 100)] {
            let mut pace = Pace::default();
            pace.requested();
            pace.published(Ticks::from_ms(1000));
            assert!(!pace.holds(Ticks::from_ms(1000 + took)), "{took}");
            pace.requested();
            let held_at = |pace: &mut Pace, ms: u64| pace.holds(Ticks::from_ms(1000 + ms));
            assert!(held_at(&mut pace, until - 1), "{took}");
            assert!(!held_at(&mut pace, until), "{took}");
        }
    }
}
