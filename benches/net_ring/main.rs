//! What a packet costs on one core over a real port of DPDK, its ring driver:
//! a worker as in `pointsman run`, in one thread with what feeds it.
//!
//! The port sends into a ring and receives from the same ring. A burst of 32 is
//! put in, the worker takes it, sends it on into the empty ring, and it is taken
//! out again; only the worker's turn is timed. `net_ring io` is a turn that
//! receives and sends and does nothing else; the others are net of that. TSC
//! cycles a packet, medians over bursts.
//!
//! `cargo bench --bench net_ring [-- [--json] [--quick] [--machine] [TEXT...]]`
//! on an idle machine with hugepages; with TEXT only the cases whose name
//! contains it, with `--machine` only what the machine is. Exits with 1 when
//! counts do not match or the machine was busy.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a bench may stop at a frame that it made wrong"
)]

#[path = "../packet_path/machine.rs"]
mod machine;
mod rig;
#[expect(dead_code, reason = "packet_path has more kinds of traffic")]
#[path = "../packet_path/traffic.rs"]
mod traffic;

use std::{error::Error, process::ExitCode};

use pointsman::{
    clock::Ticks,
    io::{
        Burst, RxQueue, TxQueue,
        dpdk::{DpdkPool, Eal, EalArguments, PoolSettings, cycles, data_room_len},
    },
};
use serde_json::json;

use machine::{CoreCycles, Watch};
use rig::{BURST, Rig};
use traffic::{Kind, Order};

/// A failure of the bench itself.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("net_ring: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the result.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// 0 for a worker that only receives and sends.
    flows: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "net_ring io",
        flows: 0,
    },
    Case {
        name: "net_ring director 1k flows",
        flows: 1000,
    },
    Case {
        name: "net_ring director 64k flows",
        flows: 65_536,
    },
    Case {
        name: "net_ring director 1M flows",
        flows: 1_000_000,
    },
];

/// How thoroughly to measure, and how to say what it came to.
#[derive(Clone, Copy, Debug)]
struct Manner {
    bursts: usize,
    /// Whether all flows are there before it is measured.
    opens_all: bool,
    json: bool,
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    // Without "--bench" this runs as a test: a few bursts show that it works.
    let is_smoke = !has("--bench");
    let manner = Manner {
        bursts: match (is_smoke, has("--quick")) {
            (true, _) => 20,
            (false, true) => 100_000,
            (false, false) => 200_000,
        },
        opens_all: !is_smoke,
        json: has("--json"),
    };
    let texts: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |case: &&Case| {
        !has("--machine")
            && (!has("--quick") || case.flows <= 1000)
            && (texts.is_empty() || texts.iter().any(|text| case.name.contains(text.as_str())))
    };

    let eal = Eal::start(&EalArguments::new(&rig::configuration(1)?))?;
    let settings = PoolSettings {
        packets: 8191,
        data_room: data_room_len(1500),
        numa_node: None,
    };
    let pool = DpdkPool::create(&eal, settings)?;
    let mhz = eal.cycles_per_second() / 1_000_000;
    if manner.json {
        let line = json!({
            "bench": "machine",
            "case": "time stamp counter",
            "tsc_hz": eal.cycles_per_second(),
        });
        println!("{line}");
    } else {
        println!("TSC {mhz} MHz, bursts of {BURST}; TSC cycles a packet");
    }
    let mut rig = Rig::new(&eal, &pool)?;
    let mut busy = Vec::new();
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let watch = Watch::start();
    let io = measure_io(&mut rig, &eal, manner)?;
    for case in cases {
        let watch = if case.flows == 0 {
            &watch
        } else {
            &Watch::start()
        };
        let spent = match case.flows {
            0 => io,
            flows => measure_director(&mut rig, &eal, flows, manner)?,
        };
        let was_busy = watch.was_busy() && !is_smoke;
        if was_busy {
            busy.push(case.name);
        }
        report(case, spent, io, was_busy, (manner, eal.cycles_per_second()));
    }
    if busy.is_empty() {
        return Ok(());
    }
    let busy = busy.join(", ");
    Err(format!("the machine was busy with other things during: {busy}").into())
}

/// Cycles a packet.
#[derive(Clone, Copy, Debug)]
struct Cycles {
    tsc: f64,
    core: Option<f64>,
}

fn measure_io(rig: &mut Rig, eal: &Eal, manner: Manner) -> Result<Cycles, Failure> {
    rig.set_traffic(Kind::TcpAck, Order::Random(1000));
    let (mut receive, mut transmit) = rig.queues();
    let mut burst = Burst::new();
    rig.on_core(eal, |rig| {
        samples(rig, manner.bursts, |_| {
            receive.receive(&mut burst);
            transmit.transmit(&mut burst);
        })
    })
}

fn measure_director(
    rig: &mut Rig,
    eal: &Eal,
    flows: u64,
    manner: Manner,
) -> Result<Cycles, Failure> {
    let mut director = rig.director(flows)?;
    let before = rig::Counts::of(&director);
    let (Some(worker), bursts) = (director.workers.first_mut(), manner.bursts) else {
        return Err("the director has no worker".into());
    };
    let mut packets = 0;
    let spent = rig.on_core(eal, |rig| {
        rig.set_traffic(Kind::TcpAck, Order::InTurn(flows));
        if manner.opens_all {
            for _ in 0..flows.div_ceil(BURST as u64) {
                rig.feed()?;
                worker.turn(Ticks::ZERO);
                rig.collect()?;
                packets += BURST as u64;
            }
        }
        rig.set_traffic(Kind::TcpAck, Order::Random(flows));
        packets += (2 * bursts * BURST) as u64;
        samples(rig, bursts, |now| {
            worker.turn(now);
        })
    })?;
    rig::Counts::of(&director).check(&before, packets)?;
    Ok(spent)
}

/// What `turn` takes for each packet of a burst, after as many bursts to warm
/// up.
fn samples(rig: &mut Rig, bursts: usize, mut turn: impl FnMut(Ticks)) -> Result<Cycles, Failure> {
    let mut samples = Vec::with_capacity(bursts);
    let mut core_cycles = CoreCycles::start();
    let mut start = (0, None);
    for round in 0..2 * bursts {
        if round == bursts {
            start = (cycles(), core_cycles.now());
        }
        // Ten million packets a second.
        let now = Ticks::from_ms(round as u64 / 300);
        rig.feed()?;
        let before = cycles();
        turn(now);
        let spent = cycles() - before;
        rig.collect()?;
        if round >= bursts {
            samples.push(spent);
        }
    }
    let elapsed = cycles() - start.0;
    // To read the counter takes longer than a turn, so it is read twice in all.
    let core = core_cycles.now().zip(start.1);
    samples.sort_unstable();
    let tsc = samples[samples.len() / 2] as f64 / BURST as f64;
    Ok(Cycles {
        tsc,
        core: core.map(|(after, before)| tsc * (after - before) as f64 / elapsed as f64),
    })
}

fn report(case: &Case, spent: Cycles, io: Cycles, was_busy: bool, (manner, hz): (Manner, u64)) {
    let is_io = case.flows == 0;
    let net = |of: f64, io: f64| if is_io { of } else { of - io };
    let tsc = net(spent.tsc, io.tsc);
    let core = spent.core.zip(io.core).map(|(core, io)| net(core, io));
    let mpps = hz as f64 / spent.tsc / 1e6;
    if manner.json {
        let line = json!({
            "bench": "net_ring",
            "case": case.name,
            "flows": case.flows,
            "packet_bytes": rig::FRAME_LEN,
            "workers": 1,
            "tsc_cycles_per_packet": tsc,
            "core_cycles_per_packet": core,
            "io_cycles_per_packet": io.tsc,
            "mpps": mpps,
            "loss": 0,
            "busy": was_busy,
        });
        println!("{line}");
        return;
    }
    let core = core.map_or("-".to_owned(), |core| format!("{core:.1}"));
    println!(
        "{:<40} net {tsc:6.1}, io {:5.1}, core {core}, {mpps:6.2} Mpps{}",
        case.name,
        io.tsc,
        if was_busy { "  BUSY" } else { "" }
    );
}
