//! What a packet costs between receiving and sending, on one core, without a
//! NIC: mbufs from a pool go through a worker and back into the pool.
//!
//! Each row is the median over bursts of 32 in cycles of the time stamp
//! counter, and the same minus the baseline: a worker whose only packets are
//! dropped at the first look, which is what making and freeing a packet costs.
//! `cargo bench --bench packet_path` on an idle machine.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::format_push_string,
    reason = "a bench may stop at a frame that it made wrong"
)]

use std::{error::Error, net::Ipv4Addr};

use crossbeam::channel::bounded;
use pointsman::{
    clock::Ticks,
    config::{self, Config},
    control::ProcessInfo,
    director::{Director, Materials, assemble},
    io::{
        Burst, Driver, Link, Packet, PacketPool, Port, PortCapabilities, PortDescription,
        PortStatistics, RxQueue, TxQueue,
        dpdk::{
            DpdkPool, Eal, EalArguments, Mbuf, PoolSettings, RegisteredThread, cycles,
            data_room_len,
        },
    },
    wire::{
        IpProtocol,
        ethernet::{EtherType, EthernetFields, MacAddr},
        ipv4::Ipv4Fields,
    },
    worker::{Worker, WorkerQueues},
};

const DIRECTOR: MacAddr = MacAddr([2, 0, 0, 0, 0xd0, 0]);
const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0xc0, 0]);
const BURST: usize = 32;
const FRAME_LEN: usize = 60;
const SMOKE_BURSTS: usize = 20;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Ports that are made of nothing: what is received is made on the spot, what
/// is sent goes back into the pool.
#[derive(Debug)]
enum Bench {}

impl Driver for Bench {
    type Packet = Mbuf;
    type RxQueue = Source;
    type TxQueue = Sink;
    type Pool = DpdkPool;
    type Port = Nothing;
}

/// Makes packets of flows in random order.
#[derive(Debug)]
struct Source {
    pool: DpdkPool,
    template: [u8; FRAME_LEN],
    flows: u64,
    random: u64,
    next: u64,
}

impl Source {
    /// The flow of the next packet: `flows` of them at random, or each its own
    /// when that is 0.
    fn next_flow(&mut self) -> u64 {
        self.next += 1;
        if self.flows == 0 {
            return self.next;
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % self.flows
    }
}

impl RxQueue for Source {
    type Packet = Mbuf;

    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let mut received = 0;
        while received < BURST {
            let flow = self.next_flow();
            let Some(mut packet) = self.pool.allocate() else {
                break;
            };
            let Some(frame) = packet.extend(FRAME_LEN) else {
                break;
            };
            frame.copy_from_slice(&self.template);
            give_flow(frame, flow);
            burst.push(packet);
            received += 1;
        }
        received
    }
}

#[derive(Debug)]
struct Sink;

impl TxQueue for Sink {
    type Packet = Mbuf;

    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let sent = burst.len();
        burst.clear();
        sent
    }
}

#[derive(Debug)]
struct Nothing(PortDescription);

impl Port for Nothing {
    fn description(&self) -> &PortDescription {
        &self.0
    }

    fn link(&self) -> Link {
        Link {
            up: true,
            speed_mbps: 0,
        }
    }

    fn statistics(&self) -> PortStatistics {
        PortStatistics::default()
    }
}

/// A TCP segment with these flags to the VIP, in a frame to `destination`.
fn template(destination: MacAddr, flags: u8) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    let ethernet = EthernetFields {
        destination,
        source: SERVER,
        ether_type: EtherType::IPV4,
    }
    .to_bytes();
    let ip = Ipv4Fields {
        tos: 0,
        total_len: 46,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: IpProtocol::TCP,
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::new(198, 51, 100, 10),
    }
    .to_bytes();
    frame[..14].copy_from_slice(&ethernet);
    frame[14..34].copy_from_slice(&ip);
    frame[36..38].copy_from_slice(&80_u16.to_be_bytes());
    frame[46] = 0x50;
    frame[47] = flags;
    frame
}

/// Writes client address and port, and the checksum that follows from them.
fn give_flow(frame: &mut [u8], flow: u64) {
    let client = 0x0b00_0000 | (flow >> 14) as u32;
    let port = 1024 + (flow & 0x3fff) as u16;
    let before = u16::from_be_bytes([frame[24], frame[25]]);
    frame[26..30].copy_from_slice(&client.to_be_bytes());
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    let sum = u32::from(!before) + (client >> 16) + (client & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn configuration() -> Result<Config, Box<dyn Error>> {
    let mut text = String::from(
        "[director]\nworkers = [1]\nconnections_max = 2000000\n[director.ipvs]\nsloppy_tcp = true\n[eal]\nhugepages = \"auto\"\nmemory_mib = 128\n\
         [[port]]\nname = \"p\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/16\"]\n\
         [[service]]\naddress = \"198.51.100.10:80\"\nscheduler = \"wrr\"\n",
    );
    for number in 2..=101 {
        text += &format!("[[service.real_server]]\naddress = \"10.0.1.{number}\"\n");
    }
    for number in 2..=101 {
        text += &format!(
            "[[neighbor]]\nport = \"p\"\naddress = \"10.0.1.{number}\"\nmac = \"{SERVER}\"\n"
        );
    }
    Ok(config::parse(&text, "bench")?)
}

fn worker(
    config: &Config,
    pool: &DpdkPool,
    template: [u8; FRAME_LEN],
    flows: u64,
) -> Result<Director<Bench>, Box<dyn Error>> {
    let source = Source {
        pool: pool.clone(),
        template,
        flows,
        random: 0x9e37_79b9,
        next: 0,
    };
    let queues = WorkerQueues {
        receive: vec![source],
        transmit: vec![Sink],
        pool: pool.clone(),
    };
    let description = PortDescription {
        name: "p".to_owned(),
        device: "bench".to_owned(),
        driver: "bench".to_owned(),
        mac: DIRECTOR,
        mtu: 1500,
        numa_node: None,
        rx_queues: 1,
        tx_queues: 1,
        capabilities: PortCapabilities::default(),
    };
    let (_, requests) = bounded(1);
    let info = ProcessInfo {
        version: String::new(),
        config_file: "bench".into(),
        tsc_hz: 1,
    };
    let materials = Materials {
        ports: vec![Nothing(description)],
        queues: vec![queues],
        pool: pool.clone(),
        numa_node: None,
        requests,
        info,
    };
    Ok(assemble(config.clone(), materials, Ticks::ZERO)?)
}

/// Median cycles per packet over bursts, after as many to warm up.
fn measure(worker: &mut Worker<Bench>, bursts: usize) -> f64 {
    let mut samples = Vec::with_capacity(bursts);
    for round in 0..2 * bursts {
        // 16 bursts a millisecond: half a million packets a second.
        let now = Ticks::from_ms(round as u64 / 16);
        let before = cycles();
        worker.turn(now);
        let spent = cycles() - before;
        if round >= bursts {
            samples.push(spent);
        }
    }
    samples.sort_unstable();
    samples[samples.len() / 2] as f64 / BURST as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = configuration()?;
    let eal = Eal::start(&EalArguments::new(&config))?;
    let pool = DpdkPool::create(
        &eal,
        PoolSettings {
            packets: 8191,
            data_room: data_room_len(1500),
            numa_node: None,
        },
    )?;
    let hz = eal.cycles_per_second();
    std::thread::scope(|scope| {
        let run = || -> Result<(), Box<dyn Error>> {
            let _registered = RegisteredThread::register(&eal)?;
            run_all(&config, &pool, hz)
        };
        scope
            .spawn(move || run().map_err(|error| error.to_string()))
            .join()
    })
    .map_err(|_| "the bench panicked")?
    .map_err(Into::into)
}

fn run_all(config: &Config, pool: &DpdkPool, hz: u64) -> Result<(), Box<dyn Error>> {
    println!(
        "TSC {} MHz, {FRAME_LEN} byte frames, bursts of {BURST}, 100 real servers",
        hz / 1_000_000
    );
    // Without "--bench" this runs as a test: a few bursts show that it works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let bursts_of = |bursts| if is_bench { bursts } else { SMOKE_BURSTS };
    let elsewhere = MacAddr([2, 0, 0, 0, 0xee, 0]);
    let mut director = worker(config, pool, template(elsewhere, ACK), 1)?;
    settle(&mut director);
    let baseline = measure(&mut director.workers[0], bursts_of(20_000));
    println!("{:<28} {baseline:8.1}", "baseline (make, drop)");
    for (name, flags, flows, bursts) in [
        ("established, 1 flow", ACK, 1, 20_000),
        ("established, 1k flows", ACK, 1_000, 20_000),
        ("established, 64k flows", ACK, 65_536, 60_000),
        ("established, 1M flows", ACK, 1_000_000, 400_000),
        ("new flow each packet", SYN, 0, 100_000),
    ] {
        let mut director = worker(config, pool, template(DIRECTOR, flags), flows)?;
        settle(&mut director);
        let before = passed(&director);
        let median = measure(&mut director.workers[0], bursts_of(bursts));
        let after = passed(&director);
        if after.0 - before.0 != after.1 - before.1 {
            return Err(format!(
                "{name}: of received packets {before:?} to {after:?} not all were forwarded"
            )
            .into());
        }
        println!("{name:<28} {median:8.1} {:8.1} net", median - baseline);
    }
    Ok(())
}

/// Packets received, and packets forwarded.
fn passed(director: &Director<Bench>) -> (u64, u64) {
    let counters = director.management.counters();
    let count = |name| {
        counters
            .iter()
            .filter(|c| c.name == name)
            .map(|c| c.count)
            .sum()
    };
    (count("rx_packets"), count("forwarded"))
}

/// Publishes the configuration to the worker.
fn settle(director: &mut Director<Bench>) {
    while director.management.turn(Ticks::ZERO) {}
    for _ in 0..64 {
        director.workers[0].turn(Ticks::ZERO);
    }
}
