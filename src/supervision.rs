//! What systemd is told, where it started the director: when it is ready,
//! reloads or stops, and that it works (the watchdog).
//!
//! The watchdog is fed by the management thread, and only while every worker
//! has made progress since the last time. Without systemd nothing of this has
//! any effect.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager's ear.
#[derive(Debug)]
pub struct Supervisor {
    /// How often the watchdog wants to hear something.
    watchdog: Option<Duration>,
    fed: Instant,
    /// What the workers had done then.
    progress: Vec<u64>,
    status: String,
    status_told: Instant,
    /// Whether a worker is stuck, which was logged.
    is_stuck: bool,
}

impl Supervisor {
    /// The one that this process's environment names, if any.
    pub fn of_environment() -> Self {
        let now = Instant::now();
        Self {
            watchdog: sd_notify::watchdog_enabled(),
            fed: now,
            progress: Vec::new(),
            status: String::new(),
            status_told: now,
            is_stuck: false,
        }
    }

    /// Packets are taken from now on.
    pub fn ready(&mut self, status: String) {
        self.fed = Instant::now();
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// The configuration is being read again; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        let mut states = vec![
            NotifyState::Reloading,
            NotifyState::Status("reading the configuration again"),
        ];
        states.extend(NotifyState::monotonic_usec_now().ok());
        tell(&states);
    }

    /// No packets are taken any more.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// To be called often, with what each worker has done so far in whatever
    /// unit that grows while it lives, and what there is to say.
    pub fn watch(&mut self, progress: impl FnOnce() -> Vec<u64>, status: impl FnOnce() -> String) {
        self.feed(progress);
        if self.status_told.elapsed() < STATUS_INTERVAL {
            return;
        }
        self.status_told = Instant::now();
        let status = status();
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    fn feed(&mut self, progress: impl FnOnce() -> Vec<u64>) {
        // Twice as often as it has to be, so that being late once is no death.
        let Some(interval) = self.watchdog.map(|interval| interval / 2) else {
            return;
        };
        if self.fed.elapsed() < interval {
            return;
        }
        self.fed = Instant::now();
        let progress = progress();
        match stuck(&self.progress, &progress) {
            None => {
                self.is_stuck = false;
                tell(&[NotifyState::Watchdog]);
            }
            Some(worker) if !self.is_stuck => {
                self.is_stuck = true;
                log::error!(
                    "worker {worker} has made no progress for {} ms; the watchdog is not told \
                     that all is well",
                    interval.as_millis()
                );
            }
            Some(_) => {}
        }
        self.progress = progress;
    }
}

/// The first worker that has done nothing between the two times.
fn stuck(before: &[u64], now: &[u64]) -> Option<usize> {
    before
        .iter()
        .zip(now)
        .position(|(before, now)| before == now)
}

fn tell(states: &[NotifyState<'_>]) {
    // Nothing happens where no service manager wants to hear.
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager cannot be told how the director is: {error}");
    }
}

const STATUS_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_has_done_nothing_is_stuck() {
        assert_eq!(stuck(&[], &[5, 5]), None);
        assert_eq!(stuck(&[5, 5], &[6, 7]), None);
        assert_eq!(stuck(&[5, 5], &[6, 5]), Some(1));
    }
}
