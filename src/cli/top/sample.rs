//! What a director said at one moment, and how fast things went between two
//! such moments. Knows neither a socket nor a clock: the director's own uptime
//! says how long it was between two answers.
#![forbid(unsafe_code)]

use crate::control::{
    socket::QueryError,
    status::{
        CounterKind, CounterStatus, DirectorStatus, NeighborStatus, PortStatus, Request, Response,
        ServiceStatus, WorkerStatus,
    },
};

/// All that is shown of a director.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) director: DirectorStatus,
    pub(super) services: Vec<ServiceStatus>,
    pub(super) workers: Vec<WorkerStatus>,
    pub(super) ports: Vec<PortStatus>,
    pub(super) counters: Vec<CounterStatus>,
    pub(super) neighbors: Vec<NeighborStatus>,
}

impl Sample {
    /// Asks one thing after the other.
    ///
    /// # Errors
    /// What the first question failed by that did.
    pub(super) fn take(
        mut ask: impl FnMut(&Request) -> Result<Response, QueryError>,
    ) -> Result<Self, QueryError> {
        // The answer to a request is the variant of its name; `query` sees to
        // that.
        macro_rules! answer {
            ($what:ident) => {
                match ask(&Request::$what)? {
                    Response::$what(answer) => answer,
                    _ => return Err(QueryError::Refused(OTHER_ANSWER.to_owned())),
                }
            };
        }
        Ok(Self {
            director: answer!(Director),
            services: answer!(Services),
            workers: answer!(Workers),
            ports: answer!(Ports),
            counters: answer!(Counters),
            neighbors: answer!(Neighbors),
        })
    }

    /// Whether `later` is of the same process, so that rates between the two
    /// mean something.
    fn is_continued_by(&self, later: &Self) -> bool {
        self.director.pid == later.director.pid
            && self.director.uptime_ms < later.director.uptime_ms
    }

    /// The counter of this name.
    pub(super) fn counter(&self, name: &str) -> Option<u64> {
        let counter = self.counters.iter().find(|counter| counter.name == name);
        counter.map(|counter| counter.count)
    }

    fn dropped(&self) -> u64 {
        let drops = self.counters.iter();
        drops
            .filter(|counter| counter.kind == CounterKind::Drop)
            .map(|counter| counter.count)
            .sum()
    }
}

const OTHER_ANSWER: &str = "the answer is to another question";

/// The newest answers, and the ones before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'s> {
    pub(super) new: &'s Sample,
    /// None where there is nothing to compare with.
    pub(super) old: Option<&'s Sample>,
}

impl<'s> Pair<'s> {
    /// `old` counts when it is of the same process as `new`.
    pub(super) fn of(new: &'s Sample, old: Option<&'s Sample>) -> Self {
        Self {
            new,
            old: old.filter(|old| old.is_continued_by(new)),
        }
    }

    /// How much more a second, where `old` is what was counted before. What
    /// was set back to 0 meanwhile has no negative rate.
    pub(super) fn rate(&self, old: Option<u64>, new: u64) -> Option<f64> {
        let before = self.old?.director.uptime_ms;
        let ms = self.new.director.uptime_ms.saturating_sub(before);
        Some(float(new.saturating_sub(old?)) * 1000.0 / float(ms.max(1)))
    }

    /// As [`rate`](Self::rate), of something that both samples have.
    pub(super) fn rate_of(&self, read: impl Fn(&Sample) -> u64) -> Option<f64> {
        self.rate(self.old.map(&read), read(self.new))
    }

    /// Of the counter of this name.
    pub(super) fn counter_rate(&self, name: &str) -> Option<f64> {
        self.rate(
            self.old.and_then(|old| old.counter(name)),
            self.new.counter(name)?,
        )
    }

    /// Packets dropped a second, for whatever reason.
    pub(super) fn drop_rate(&self) -> Option<f64> {
        self.rate_of(Sample::dropped)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates for people to read")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// A rate in at most five columns: "-" when unknown, "0.5", "1234", "12.3k".
pub(super) fn rate_text(rate: Option<f64>) -> String {
    let Some(rate) = rate else {
        return "-".to_owned();
    };
    if rate < 0.05 {
        return "0".to_owned();
    }
    if rate < 9.95 {
        return format!("{rate:.1}");
    }
    let mut scaled = rate;
    let mut units = ["", "k", "M", "G", "T"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // Up to 9999 exactly, since that is no longer than "9.9k" and says more.
    let mut limit = 9999.5;
    while scaled >= limit
        && let Some(next) = units.next()
    {
        (scaled, unit, limit) = (scaled / 1000.0, next, 999.5);
    }
    match scaled {
        _ if unit.is_empty() => format!("{scaled:.0}"),
        0.0..99.95 => format!("{scaled:.1}{unit}"),
        _ => format!("{scaled:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn rates_take_five_columns_at_most() {
        let text = |rate| rate_text(Some(rate));
        assert_eq!(rate_text(None), "-");
        assert_eq!(text(0.0), "0");
        assert_eq!(text(0.5), "0.5");
        assert_eq!(text(9.96), "10");
        assert_eq!(text(9999.4), "9999");
        assert_eq!(text(9999.6), "10.0k");
        assert_eq!(text(99_960.0), "100k");
        assert_eq!(text(999_600.0), "1.0M");
        assert_eq!(text(14_880_952.0), "14.9M");
        assert_eq!(text(123_456_000_000.0), "123G");
    }

    #[test]
    fn a_rate_is_what_came_more_by_the_director_s_own_clock() {
        let (old, new) = (fixture::sample(1), fixture::sample(2));
        let pair = Pair::of(&new, Some(&old));
        // 2 s between them, see the fixture.
        assert_eq!(pair.rate(Some(100), 300), Some(100.0));
        assert_eq!(pair.rate(Some(300), 100), Some(0.0));
        assert_eq!(pair.rate(None, 300), None);
        assert_eq!(pair.counter_rate("forwarded"), Some(1000.0));
        assert_eq!(pair.drop_rate(), Some(5.0));
    }

    #[test]
    fn a_director_that_was_restarted_has_no_rates_yet() {
        let (old, mut new) = (fixture::sample(1), fixture::sample(2));
        new.director.pid += 1;
        assert_eq!(Pair::of(&new, Some(&old)).counter_rate("forwarded"), None);
        new.director.pid -= 1;
        new.director.uptime_ms = 10;
        assert_eq!(Pair::of(&new, Some(&old)).counter_rate("forwarded"), None);
    }

    #[test]
    fn the_first_question_that_fails_is_the_error() {
        let error = Sample::take(|_| Err(QueryError::NotRunning("/run/x".into()))).unwrap_err();
        assert!(error.to_string().starts_with("no director is running on"));
    }
}
