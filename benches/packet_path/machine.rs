//! What the machine tells: whether it was idle otherwise, and core cycles.

use std::{fs, time::Instant};

use perf_event::{Builder, Counter, events::Hardware};

/// Share of one core's time that others may have used meanwhile.
const OTHERS_MAX: f64 = 0.06;

/// A look at how busy the machine is.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    others: Option<f64>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            others: seconds_of_others(),
        }
    }

    /// Whether others used the machine since.
    pub(crate) fn was_busy(&self) -> bool {
        let elapsed = self.begun.elapsed().as_secs_f64();
        // The kernel counts in hundredths of a second.
        let slack = 0.03;
        match (self.others, seconds_of_others()) {
            (Some(before), Some(after)) => after - before > elapsed * OTHERS_MAX + slack,
            _ => false,
        }
    }
}

/// Seconds that processors spent on other processes, the hypervisor's included.
fn seconds_of_others() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let numbers = |line: &str| -> Vec<f64> {
        line.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let all = numbers(text.lines().next()?);
    // user nice system idle iowait irq softirq steal
    let used = all.get(..3)?.iter().chain(all.get(5..8)?).sum::<f64>();
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    let own = numbers(own.rsplit_once(')')?.1);
    // utime stime, and those of children that have ended
    let own = own.get(10..14)?.iter().sum::<f64>();
    Some((used - own) / 100.0)
}

/// Cycles of the core that this thread runs on, where they can be counted:
/// unlike those of the time stamp counter they follow the clock rate.
#[derive(Debug)]
pub(crate) struct CoreCycles(Option<Counter>);

impl CoreCycles {
    pub(crate) fn start() -> Self {
        let counter = Builder::new(Hardware::CPU_CYCLES)
            .exclude_kernel(false)
            .build();
        Self(counter.ok().and_then(|mut counter| {
            counter.enable().ok()?;
            Some(counter)
        }))
    }

    pub(crate) fn now(&mut self) -> Option<u64> {
        self.0.as_mut().and_then(|counter| counter.read().ok())
    }
}
