//! What a connection costs the packet path.
//!
//! `find/N`: established packets of N flows in random order, in bursts of 32:
//! hash all, prefetch all, then find, count and touch each. `churn`: a new flow
//! with each packet on top of a million live ones, each ending after its
//! timeout. `flood`: SYNs against a table under pressure. Times are per burst
//! of 32; the throughput is packets per second.
#![forbid(unsafe_code)]

use std::{hint::black_box, net::SocketAddrV4, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pointsman::{
    connection::{CoarseTime, NewEntry, State, StateTimeouts, Table, time::STEPS_PER_SECOND},
    flow::{FlowHash, FlowKeyV4, HashKey},
};

const BURST_LEN: usize = 32;

fn flow(n: u32) -> FlowKeyV4 {
    // A bijection of 32 bits, so that neighbours in number are none in memory.
    let client = n.wrapping_mul(0x9e37_79b1);
    let client = SocketAddrV4::new(client.into(), 40_000);
    FlowKeyV4::new(client, SocketAddrV4::new([198, 51, 100, 10].into(), 80), 6)
}

fn table(connections_max: u32) -> Table<FlowKeyV4> {
    Table::new(connections_max, HashKey::random(), None).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    })
}

fn opening(state: State) -> NewEntry {
    NewEntry {
        server: 1,
        state,
        controller: 0,
        flags: 0,
    }
}

fn fill(table: &mut Table<FlowKeyV4>, count: u32, state: State, now: CoarseTime) {
    let timeout = StateTimeouts::default().of(state);
    for n in 0..count {
        let key = flow(n);
        black_box(
            table
                .insert(table.hash(&key), key, &opening(state), timeout, now)
                .is_ok(),
        );
    }
}

fn hash_and_prefetch(
    table: &Table<FlowKeyV4>,
    burst: &[FlowKeyV4; BURST_LEN],
) -> [FlowHash; BURST_LEN] {
    let hashes = burst.each_ref().map(|key| table.hash(key));
    for &hash in &hashes {
        table.prefetch(hash);
    }
    hashes
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    group.throughput(Throughput::Elements(BURST_LEN as u64));
    let timeout = StateTimeouts::default().of(State::Established);
    for flows in [1_000_u32, 64_000, 1_000_000] {
        let mut table = table(flows);
        fill(
            &mut table,
            flows,
            State::Established,
            CoarseTime::from_steps(0),
        );
        let mut random = 1_u64;
        group.bench_function(BenchmarkId::from_parameter(flows), |b| {
            b.iter(|| {
                let burst = [(); BURST_LEN].map(|()| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let n = ((random >> 32) * u64::from(flows)) >> 32;
                    flow(u32::try_from(n).unwrap_or(0))
                });
                let hashes = hash_and_prefetch(&table, &burst);
                for (key, hash) in burst.iter().zip(hashes) {
                    if let Some(index) = table.find(hash, key) {
                        table.touch(index, timeout, CoarseTime::from_steps(1));
                        if let Some(entry) = table.entry_mut(index) {
                            entry.count_packet();
                            black_box(entry.server());
                        }
                    }
                }
            });
        });
    }
    group.finish();
}

/// Opens the connections of one burst, all of them new, the first of them
/// `opened`.
fn open_burst(table: &mut Table<FlowKeyV4>, opened: u32, now: CoarseTime) {
    let state = State::SynRecv;
    let timeout = StateTimeouts::default().of(state);
    let mut n = opened;
    let burst = [(); BURST_LEN].map(|()| {
        n = n.wrapping_add(1);
        flow(n)
    });
    let hashes = hash_and_prefetch(table, &burst);
    for (&key, hash) in burst.iter().zip(hashes) {
        if table.find(hash, &key).is_none() {
            black_box(
                table
                    .insert(hash, key, &opening(state), timeout, now)
                    .is_ok(),
            );
        }
    }
}

/// One new flow a packet at such a rate that a million connections are open at
/// a time.
fn churn(c: &mut Criterion) {
    let mut group = c.benchmark_group("churn");
    group.throughput(Throughput::Elements(BURST_LEN as u64));
    let live = 1_000_000_u32;
    let per_step = live / (60 * STEPS_PER_SECOND);
    // Twice the room, so that nothing is evicted.
    let mut table = table(2 * live);
    let mut opened = 0_u32;
    let mut burst = || {
        let now = CoarseTime::from_steps(opened / per_step);
        open_burst(&mut table, opened, now);
        opened = opened.wrapping_add(32);
        let expiry = table.expire(now, 4 * 32, |entry| {
            black_box(entry.server());
        });
        black_box(expiry);
    };
    for _ in 0..2 * live / 32 {
        burst();
    }
    group.bench_function("1000000 live", |b| b.iter(&mut burst));
    group.finish();
}

fn flood(c: &mut Criterion) {
    let mut group = c.benchmark_group("flood");
    group.throughput(Throughput::Elements(BURST_LEN as u64));
    let limit = 1_000_000_u32;
    let now = CoarseTime::from_steps(0);
    let mut table = table(limit);
    fill(&mut table, limit / 2, State::Established, now);
    let mut opened = limit / 2;
    let mut burst = || {
        open_burst(&mut table, opened, now);
        opened = opened.wrapping_add(32);
    };
    for _ in 0..2 * limit / 32 {
        burst();
    }
    group.bench_function("1000000 at most, half established", |b| b.iter(&mut burst));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .without_plots();
    targets = find, churn, flood
}
criterion_main!(benches);
