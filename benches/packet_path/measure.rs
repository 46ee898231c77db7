//! Running a case.

use std::sync::{Arc, Barrier, Mutex};

use pointsman::{
    clock::Ticks,
    control::status::CounterKind,
    director::Director,
    io::{
        Burst, RxQueue, TxQueue,
        dpdk::{DpdkPool, Eal, RegisteredThread, cycles},
    },
    worker::Worker,
};
use serde_json::json;

use crate::{
    Failure,
    cases::Case,
    machine::{CoreCycles, Watch},
    rig::{BURST, Bench, Ports, director},
    shared,
    traffic::{Kind, Order, Traffic},
};

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A few bursts, to see whether it works.
    Smoke,
    Quick,
    Full,
}

/// What a case came to.
#[derive(Debug)]
pub(crate) struct Figures {
    case: &'static str,
    flows: u64,
    packet_bytes: usize,
    workers: usize,
    tsc: f64,
    core: Option<f64>,
    io: f64,
    mpps: f64,
    loss: u64,
    pub(crate) was_busy: bool,
}

impl Figures {
    pub(crate) const TITLE: &str = "case                                                 net TSC     io TSC   core cycles    Mpps";

    pub(crate) fn line(&self) -> String {
        let core = self
            .core
            .map_or("-".to_owned(), |core| format!("{core:.1}"));
        let busy = if self.was_busy { "  BUSY" } else { "" };
        format!(
            "{:<50} {:9.1} {:10.1} {core:>13} {:7.2}{busy}",
            self.case, self.tsc, self.io, self.mpps
        )
    }

    pub(crate) fn json(&self) -> String {
        json!({
            "bench": "packet_path",
            "case": self.case,
            "flows": self.flows,
            "packet_bytes": self.packet_bytes,
            "workers": self.workers,
            "tsc_cycles_per_packet": self.tsc,
            "core_cycles_per_packet": self.core,
            "io_cycles_per_packet": self.io,
            "mpps": self.mpps,
            "loss": self.loss,
            "busy": self.was_busy,
        })
        .to_string()
    }
}

/// Cycles a packet of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cycles {
    pub(crate) tsc: f64,
    pub(crate) core: Option<f64>,
}

/// Runs a case, and its ports without a director.
pub(crate) fn run(
    case: &Case,
    eal: &Eal,
    pool: &DpdkPool,
    length: Length,
) -> Result<Figures, Failure> {
    let bursts = match length {
        Length::Smoke => 20,
        Length::Quick => case.bursts / 2,
        Length::Full => case.bursts,
    };
    let watch = Watch::start();
    let io = on_cores(&[1], eal, |_| {
        let traffic = traffic_of(case, case.order);
        let mut ports = if case.is_shared {
            Ports::pooled(pool, &traffic)
        } else {
            Ports::new(pool, &traffic)?
        };
        let mut burst = Burst::new();
        Ok(samples(bursts, case, |_| {
            ports.source.receive(&mut burst);
            ports.sink.transmit(&mut burst);
        }))
    })?;
    let Some(&io) = io.first() else {
        return Err("no thread measured anything".into());
    };

    let (spent, loss) = if case.is_shared {
        shared::through_director(case, eal, pool, bursts, length)?
    } else {
        through_director(case, eal, pool, bursts, length)?
    };
    // Each packet takes all workers that share a queue, and the first of them is
    // the one that never waits; else it takes one worker.
    let all: f64 = spent.iter().map(|cycles| cycles.tsc).sum();
    let (count, tsc, slowest) = match spent.first() {
        Some(first) if case.is_shared => (1.0, all, first.tsc),
        _ => {
            let count = spent.len() as f64;
            (count, all / count, all / count)
        }
    };
    let core: Option<f64> = spent
        .iter()
        .map(|cycles| Some(cycles.core? - io.core?))
        .sum();
    let hz = eal.cycles_per_second() as f64;
    Ok(Figures {
        case: case.name,
        flows: case.flows(),
        packet_bytes: case.frame_len,
        workers: case.workers,
        tsc: tsc - io.tsc,
        core: core.map(|core| core / count),
        io: io.tsc,
        mpps: count * hz / slowest / 1e6,
        loss,
        was_busy: watch.was_busy(),
    })
}

/// Cycles a packet of each worker, and packets that were not forwarded.
fn through_director(
    case: &Case,
    eal: &Eal,
    pool: &DpdkPool,
    bursts: usize,
    length: Length,
) -> Result<(Vec<Cycles>, u64), Failure> {
    let config = case.configuration()?;
    let flows = case.flows();
    let traffics: Vec<_> = (0..case.workers)
        .map(|_| traffic_of(case, Order::InTurn(flows)))
        .collect();
    let ports: Result<Vec<Ports>, Failure> = traffics
        .iter()
        .map(|traffic| Ports::new(pool, traffic))
        .collect();
    let queues = ports?
        .into_iter()
        .map(|ports| (Some(ports.source), Some(ports.sink)));
    let mut director = director(&config, pool, queues.collect(), case.capture)?;
    let before = Counts::of(&director);
    let barrier = Barrier::new(case.workers);
    let workers: Vec<Mutex<&mut Worker<Bench>>> =
        director.workers.iter_mut().map(Mutex::new).collect();
    let cores: Vec<usize> = (0..case.workers).map(|worker| 1 - worker).collect();
    let spent = on_cores(&cores, eal, |index| {
        let mut worker = workers[index].lock().map_err(|_| "a worker panicked")?;
        if length != Length::Smoke {
            for _ in 0..flows.div_ceil(BURST as u64) {
                worker.turn(Ticks::ZERO);
            }
        }
        traffics[index]
            .lock()
            .map_err(|_| "a worker panicked")?
            .order = case.order;
        barrier.wait();
        Ok(samples(bursts, case, |now| {
            worker.turn(now);
        }))
    })?;
    drop(workers);
    let after = Counts::of(&director);
    after.check(&before, case)?;
    Ok((spent, after.dropped - before.dropped))
}

pub(crate) fn traffic_of(case: &Case, order: Order) -> Arc<Mutex<Traffic>> {
    let traffic = Traffic::new(case.kind, order, case.services, case.frame_len);
    Arc::new(Mutex::new(traffic))
}

/// Runs the same on each of these cores at the same time, in threads that DPDK
/// knows.
pub(crate) fn on_cores(
    cores: &[usize],
    eal: &Eal,
    run: impl Fn(usize) -> Result<Cycles, Failure> + Sync,
) -> Result<Vec<Cycles>, Failure> {
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = cores
            .iter()
            .enumerate()
            .map(|(index, core)| {
                scope.spawn(move || {
                    core_affinity::set_for_current(core_affinity::CoreId { id: *core });
                    let _registered = RegisteredThread::register(eal)?;
                    run(index)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "the bench panicked")?)
            .collect()
    })
}

/// Cycles per packet over bursts, after as many to warm up.
fn samples(bursts: usize, case: &Case, mut turn: impl FnMut(Ticks)) -> Cycles {
    let mut samples = Vec::with_capacity(bursts);
    let mut core_cycles = CoreCycles::start();
    let warm_ups = warm_ups(bursts, case);
    let mut core_before = None;
    for round in 0..warm_ups + bursts {
        let now = Ticks::from_ms((round as f64 / case.bursts_per_ms) as u64);
        if round == warm_ups {
            core_before = core_cycles.now();
        }
        let before = cycles();
        turn(now);
        let spent = cycles() - before;
        if round >= warm_ups {
            samples.push(spent);
        }
    }
    let core_after = core_cycles.now();
    let per_burst = typical(&mut samples, case);
    let core = core_after
        .zip(core_before)
        .map(|(after, before)| after - before);
    Cycles {
        tsc: per_burst / BURST as f64,
        core: core.map(|core| core as f64 / (bursts * BURST) as f64),
    }
}

/// Bursts before those that are measured.
pub(crate) fn warm_ups(bursts: usize, case: &Case) -> usize {
    match case.order {
        // Until the table holds as much as it will.
        Order::New => bursts.max((case.connections_max as usize).min(1_200_000) / BURST),
        _ => bursts,
    }
}

/// The cycles of a burst.
pub(crate) fn typical(samples: &mut [u64], case: &Case) -> f64 {
    samples.sort_unstable();
    if matches!(case.order, Order::Random(_)) {
        return samples[samples.len() / 2] as f64;
    }
    let kept = &samples[..samples.len() - samples.len() / 100];
    kept.iter().sum::<u64>() as f64 / kept.len() as f64
}

/// What the director counted.
#[derive(Debug)]
pub(crate) struct Counts {
    received: u64,
    forwarded: u64,
    pub(crate) dropped: u64,
    table_full: u64,
    /// For which there was no room on the way from one worker to another.
    crowded: u64,
    not_local: u64,
}

impl Counts {
    pub(crate) fn of(director: &Director<Bench>) -> Self {
        let counters = director.management.counters();
        let of = |name: &str| {
            let named = counters.iter().filter(|counter| counter.name == name);
            named.map(|counter| counter.count).sum()
        };
        let drops = counters
            .iter()
            .filter(|counter| counter.kind == CounterKind::Drop);
        Self {
            received: of("rx_packets"),
            forwarded: of("forwarded"),
            dropped: drops.map(|counter| counter.count).sum(),
            table_full: of("table_full"),
            crowded: of("handoff_queue_full") + of("transmit_queue_full"),
            not_local: of("not_local"),
        }
    }

    /// Every packet must have gone the way that the case is about.
    pub(crate) fn check(&self, before: &Self, case: &Case) -> Result<(), Failure> {
        let received = self.received - before.received;
        let forwarded = self.forwarded - before.forwarded;
        let expected = if case.kind == Kind::Stray {
            self.not_local - before.not_local
        } else {
            forwarded + self.table_full - before.table_full + self.crowded - before.crowded
        };
        if received == 0 || received != expected {
            let name = case.name;
            return Err(format!("{name}: the counts do not match: {before:?} to {self:?}").into());
        }
        Ok(())
    }
}
