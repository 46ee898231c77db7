//! Two workers of which one has the only receive queue and the other one the
//! only transmit queue. So each packet goes from one to the other once: those
//! of the second one's flows before they are forwarded, the others after.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pointsman::{
    clock::Ticks,
    director::Director,
    io::dpdk::{DpdkPool, Eal, cycles},
    worker::Worker,
};

use crate::{
    Failure,
    cases::Case,
    measure::{Counts, Cycles, Length, on_cores, traffic_of, typical, warm_ups},
    rig::{BURST, Bench, Ports, director},
    traffic::Order,
};

/// Cycles of each worker for each received packet, and packets that were not
/// forwarded while that was measured.
pub(crate) fn through_director(
    case: &Case,
    eal: &Eal,
    pool: &DpdkPool,
    bursts: usize,
    length: Length,
) -> Result<(Vec<Cycles>, u64), Failure> {
    let flows = case.flows();
    let traffic = traffic_of(case, Order::InTurn(flows));
    let Ports { source, sink } = Ports::pooled(pool, &traffic);
    let queues = vec![(Some(source), None), (None, Some(sink))];
    let mut director = director(&case.configuration()?, pool, queues, case.capture)?;
    if length != Length::Smoke {
        let all_flows = usize::try_from(flows)?.div_ceil(BURST);
        run(&mut director, case, eal, 0..all_flows, |_| 0)?;
    }
    traffic.lock().map_err(|_| "a worker panicked")?.order = case.order;
    let now_ms = |round| (round as f64 / case.bursts_per_ms) as u64;
    let warm_ups = warm_ups(bursts, case);
    run(&mut director, case, eal, 0..warm_ups, now_ms)?;
    let before = Counts::of(&director);
    let rounds = warm_ups..warm_ups + bursts;
    let spent = run(&mut director, case, eal, rounds, now_ms)?;
    let after = Counts::of(&director);
    after.check(&before, case)?;
    Ok((spent, after.dropped - before.dropped))
}

/// Lets one receive so many bursts, and both forward them.
fn run(
    director: &mut Director<Bench>,
    case: &Case,
    eal: &Eal,
    rounds: Range<usize>,
    now_ms: impl Fn(usize) -> u64 + Sync,
) -> Result<Vec<Cycles>, Failure> {
    let workers: Vec<_> = director.workers.iter_mut().map(Mutex::new).collect();
    let (done, now) = (AtomicBool::new(false), AtomicU64::new(now_ms(rounds.start)));
    on_cores(&[1, 0], eal, |index| {
        let mut worker = workers[index].lock().map_err(|_| "a worker panicked")?;
        if index > 0 {
            return Ok(serve(&mut worker, &done, &now, rounds.len()));
        }
        let mut samples: Vec<u64> = rounds
            .clone()
            .map(|round| {
                let ms = now_ms(round);
                now.store(ms, Ordering::Relaxed);
                let before = cycles();
                worker.turn(Ticks::from_ms(ms));
                cycles() - before
            })
            .collect();
        done.store(true, Ordering::Release);
        Ok(Cycles {
            tsc: typical(&mut samples, case) / BURST as f64,
            core: None,
        })
    })
}

/// Takes what the other one gives until that one is done: cycles in turns that
/// had something to do, but for the slowest 1 % of them (interrupts), for each
/// packet that the other one received.
fn serve(worker: &mut Worker<Bench>, done: &AtomicBool, now: &AtomicU64, bursts: usize) -> Cycles {
    let mut samples = Vec::with_capacity(4 * bursts);
    loop {
        let is_done = done.load(Ordering::Acquire);
        let now = Ticks::from_ms(now.load(Ordering::Relaxed));
        let before = cycles();
        let was_busy = worker.turn(now);
        let spent = cycles() - before;
        if was_busy {
            samples.push(spent);
        } else if is_done {
            break;
        }
    }
    samples.sort_unstable();
    samples.truncate(samples.len() - samples.len() / 100);
    let spent: u64 = samples.iter().sum();
    Cycles {
        tsc: spent as f64 / (bursts * BURST) as f64,
        core: None,
    }
}
