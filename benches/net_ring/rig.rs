//! A ring port, a director on it, and what goes in and comes out.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam::channel::bounded;
use pointsman::{
    clock::Ticks,
    config::{self, Config, Device},
    control::{ProcessInfo, status::CounterKind},
    director::{Director, Materials, assemble},
    io::{
        Burst, Driver, Link, Packet, PacketPool, Port, PortCapabilities, PortDescription,
        PortStatistics, RxQueue, TxQueue,
        dpdk::{
            DpdkPool, DpdkPort, DpdkRxQueue, DpdkTxQueue, Eal, Mbuf, PortSettings, RSS_KEY,
            RegisteredThread,
        },
    },
    worker::WorkerQueues,
};

use crate::{
    Failure,
    traffic::{DIRECTOR, Kind, Order, SERVER, Traffic},
};

/// Packets in a burst.
pub(crate) const BURST: usize = 32;
/// Bytes of a frame without FCS.
pub(crate) const FRAME_LEN: usize = 60;
const DEVICE: &str = "net_ring0";
/// Free space in front of a frame that is received.
const HEADROOM: usize = 128;
const SERVERS: u32 = 100;

#[derive(Debug)]
pub(crate) enum Ring {}

impl Driver for Ring {
    type Packet = Mbuf;
    type RxQueue = Shared<DpdkRxQueue>;
    type TxQueue = Shared<DpdkTxQueue>;
    type Pool = DpdkPool;
    type Port = Described;
}

/// A queue that the director and the bench use by turns, in one thread: its
/// lock is never contended.
#[derive(Debug)]
pub(crate) struct Shared<Q>(Arc<Mutex<Q>>);

impl<Q> Shared<Q> {
    fn new(queue: Q) -> Self {
        Self(Arc::new(Mutex::new(queue)))
    }
}

impl<Q> Clone for Shared<Q> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl RxQueue for Shared<DpdkRxQueue> {
    type Packet = Mbuf;

    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.receive(burst)
    }
}

impl TxQueue for Shared<DpdkTxQueue> {
    type Packet = Mbuf;

    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.transmit(burst)
    }
}

/// What the director is told of the port.
#[derive(Debug)]
pub(crate) struct Described(PortDescription);

impl Port for Described {
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

/// The port and the packets that go round in it.
#[derive(Debug)]
pub(crate) struct Rig {
    // Runs as long as this exists.
    _port: DpdkPort,
    receive: Shared<DpdkRxQueue>,
    transmit: Shared<DpdkTxQueue>,
    pool: DpdkPool,
    traffic: Traffic,
    /// The packets of the burst, when they are not in the ring.
    burst: Burst<Mbuf>,
}

impl Rig {
    pub(crate) fn new(eal: &Eal, pool: &DpdkPool) -> Result<Self, Failure> {
        let settings = PortSettings {
            name: "p".to_owned(),
            device: Device::Vdev(DEVICE.to_owned()),
            mtu: 1500,
            vlan: false,
            mac: None,
            queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            rss_key: RSS_KEY,
            single_pool: true,
        };
        let started = DpdkPort::configure(eal, &settings, pool)?;
        let receive = started.rx_queues.into_iter().next();
        let transmit = started.tx_queues.into_iter().next();
        let mut pool = pool.clone();
        let burst: Option<Burst<Mbuf>> = (0..BURST).map(|_| pool.allocate()).collect();
        Ok(Self {
            _port: started.port,
            receive: Shared::new(receive.ok_or("the port has no receive queue")?),
            transmit: Shared::new(transmit.ok_or("the port has no transmit queue")?),
            pool,
            traffic: Traffic::new(Kind::TcpAck, Order::Random(1), 1, FRAME_LEN),
            burst: burst.ok_or("the pool is too small")?,
        })
    }

    pub(crate) fn queues(&self) -> (Shared<DpdkRxQueue>, Shared<DpdkTxQueue>) {
        (self.receive.clone(), self.transmit.clone())
    }

    pub(crate) fn set_traffic(&mut self, kind: Kind, order: Order) {
        self.traffic = Traffic::new(kind, order, 1, FRAME_LEN);
    }

    /// Writes a burst of frames and puts it into the ring.
    pub(crate) fn feed(&mut self) -> Result<(), Failure> {
        for packet in &mut self.burst {
            let flow = self.traffic.next_flow();
            let headroom = packet.headroom();
            packet.trim_front(HEADROOM.saturating_sub(headroom));
            packet.truncate(0);
            let frame = packet.extend(FRAME_LEN).ok_or("no room for a frame")?;
            self.traffic.write(frame, flow);
        }
        if self.transmit.transmit(&mut self.burst) == BURST {
            Ok(())
        } else {
            Err("the ring did not take a burst".into())
        }
    }

    /// Takes a burst out of the ring.
    pub(crate) fn collect(&mut self) -> Result<(), Failure> {
        match self.receive.receive(&mut self.burst) {
            BURST => Ok(()),
            received => Err(format!("{received} of {BURST} packets came back").into()),
        }
    }

    /// Runs in a thread that DPDK knows, on the last core of this process.
    pub(crate) fn on_core<T: Send>(
        &mut self,
        eal: &Eal,
        run: impl FnOnce(&mut Self) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                if let Some(core) = cores.last() {
                    core_affinity::set_for_current(*core);
                }
                let _registered = RegisteredThread::register(eal)?;
                run(self)
            });
            thread.join().map_err(|_| "the bench panicked")?
        })
    }

    /// A director with its configuration published, and nothing in the ring.
    pub(crate) fn director(&mut self, flows: u64) -> Result<Director<Ring>, Failure> {
        let (receive, transmit) = self.queues();
        let description = PortDescription {
            name: "p".to_owned(),
            device: DEVICE.to_owned(),
            driver: "net_ring".to_owned(),
            mac: DIRECTOR,
            mtu: 1500,
            numa_node: None,
            rx_queues: 1,
            tx_queues: 1,
            capabilities: PortCapabilities::default(),
        };
        let (_, requests) = bounded(1);
        let materials = Materials {
            ports: vec![Described(description)],
            queues: vec![WorkerQueues {
                receive: vec![Some(receive)],
                transmit: vec![Some(transmit)],
                pool: self.pool.clone(),
            }],
            pool: self.pool.clone(),
            numa_node: None,
            requests,
            info: ProcessInfo {
                version: String::new(),
                config_file: "bench".into(),
                tsc_hz: 1,
            },
            saved: None,
        };
        let mut director = assemble(configuration(flows)?, materials, Ticks::ZERO)?;
        let mut own = Burst::new();
        for _ in 0..8 {
            while director.management.turn(Ticks::ZERO) {}
            for worker in &mut director.workers {
                for _ in 0..64 {
                    worker.turn(Ticks::ZERO);
                }
            }
            // What the director announced of itself.
            while self.receive.receive(&mut own) > 0 {
                own.clear();
            }
        }
        Ok(director)
    }
}

/// A director for so many flows.
pub(crate) fn configuration(flows: u64) -> Result<Config, Failure> {
    let mut text = format!(
        "[director]\nworkers = [0]\nconnections_max = {}\n[director.ipvs]\nsloppy_tcp = true\n\
         [eal]\nhugepages = \"auto\"\nmemory_mib = 128\n\
         [[port]]\nname = \"p\"\ndevice = \"{DEVICE}\"\naddresses = [\"10.0.0.1/16\"]\n\
         [[service]]\naddress = \"198.51.0.0:80\"\nprotocol = \"tcp\"\nscheduler = \"wrr\"\n",
        (flows * 5 / 4).max(100_000)
    );
    for server in 0..SERVERS {
        write!(
            text,
            "[[service.real_server]]\naddress = \"10.0.1.{server}\"\n"
        )?;
    }
    for server in 0..SERVERS {
        write!(
            text,
            "[[neighbor]]\nport = \"p\"\naddress = \"10.0.1.{server}\"\nmac = \"{SERVER}\"\n"
        )?;
    }
    Ok(config::parse(&text, "bench")?)
}

/// What the director counted.
#[derive(Debug)]
pub(crate) struct Counts {
    received: u64,
    forwarded: u64,
    lost: u64,
}

impl Counts {
    pub(crate) fn of(director: &Director<Ring>) -> Self {
        let counters = director.management.counters();
        let of = |name: &str| {
            let named = counters.iter().filter(|counter| counter.name == name);
            named.map(|counter| counter.count).sum()
        };
        let lost = counters
            .iter()
            .filter(|counter| counter.kind != CounterKind::Other);
        Self {
            received: of("rx_packets"),
            forwarded: of("forwarded"),
            lost: lost.map(|counter| counter.count).sum(),
        }
    }

    /// Every packet that was `sent` must have been forwarded.
    pub(crate) fn check(&self, before: &Self, sent: u64) -> Result<(), Failure> {
        let is_right = self.received - before.received == sent
            && self.forwarded - before.forwarded == sent
            && self.lost == before.lost;
        if is_right {
            return Ok(());
        }
        Err(format!("the counts do not match {sent} packets: {before:?} to {self:?}").into())
    }
}
