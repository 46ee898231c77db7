//! pktgen on DPDK: starts ports, runs the loop on a thread of its own, and
//! stops them again.
use std::{
    cell::Cell,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{
    Pktgen, PktgenPort, Plan, Report,
    engine::{Links, Phase, SetupError},
    report::PortReport,
};
use crate::{
    config::{Device, EalConfig},
    io::{
        Port,
        dpdk::{
            AvailableDevice, DpdkDriver, DpdkPool, DpdkPort, Eal, EalArguments, EalError,
            PoolError, PoolNeeds, PoolSettings, PortError, PortSettings, RSS_KEY, RegisteredThread,
            StartedPort, ThreadError, cycles, data_room_len,
        },
    },
};

/// Ports and surroundings of a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The clients' port and, when it is another one, the real servers'.
    pub devices: Vec<Device>,
    /// Receive and transmit queues of each port.
    pub queues: u16,
    /// Descriptors of each queue.
    pub descriptors: u16,
    /// The largest IP packet of the ports.
    pub mtu: u16,
    /// How DPDK is started.
    pub eal: EalConfig,
    /// Core of the thread that sends and receives.
    pub core: Option<usize>,
    /// How long the ports may take until they have a link.
    pub link_wait: Duration,
    /// Who is on the link.
    pub links: Links,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum PktgenError {
    /// DPDK did not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// There was no memory for packets.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A port did not start.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A port has no link.
    #[error(
        "port {port} has no link after {seconds} s; start the other side, check the cable, or \
         wait longer with --link-wait"
    )]
    NoLink {
        /// Its device.
        port: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The run cannot be made ready.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The thread is not known to DPDK.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// A thread or signal handler could not be made.
    #[error("the operating system refused a thread or a signal handler: {0}")]
    System(#[from] io::Error),
    /// The thread ended in another way than it should.
    #[error("pktgen stopped by a defect; please report what it logged")]
    Panicked,
}

/// Runs until its bounds are reached, or until SIGINT or SIGTERM.
///
/// # Errors
/// Whatever keeps it from running. What it finds wrong with packets is in the
/// report.
pub fn run(plan: Plan, setup: &Setup) -> Result<Report, PktgenError> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    let eal = Eal::start(&EalArguments {
        config: setup.eal.clone(),
        devices: setup.devices.clone(),
        management_core: None,
        worker_cores: setup.core.into_iter().collect(),
    })?;
    let (started, pool) = start_ports(&eal, setup)?;
    let (ports, queues): (Vec<_>, Vec<_>) = started
        .into_iter()
        .map(|started| {
            let queues = PktgenPort {
                mac: started.port.description().mac,
                receive: started.rx_queues,
                transmit: started.tx_queues,
            };
            (started.port, queues)
        })
        .unzip();
    wait_for_links(&ports, setup.link_wait, &stop)?;
    let body = || -> Result<Report, PktgenError> {
        if let Some(core) = setup.core
            && !core_affinity::set_for_current(CoreId { id: core })
        {
            log::warn!("pktgen could not be pinned to core {core}");
        }
        let _registered = RegisteredThread::register(&eal)?;
        let links = setup.links.clone();
        let hz = eal.cycles_per_second();
        let mut pktgen = Pktgen::<DpdkDriver>::new(plan, links, queues, pool, hz)?;
        let last = Cell::new((0, 0));
        pktgen.run(&stop, cycles, thread::yield_now, |pktgen| {
            last.set(log_progress(pktgen, last.get()));
        });
        Ok(Report::of(&pktgen))
    };
    let mut report = thread::scope(|scope| {
        thread::Builder::new()
            .name("pktgen".to_owned())
            .spawn_scoped(scope, body)
            .map(thread::ScopedJoinHandle::join)
    })?
    .map_err(|_| PktgenError::Panicked)??;
    report.ports = ports.iter().map(PortReport::of).collect();
    Ok(report)
}

/// Starts all ports, fed from one pool.
fn start_ports(eal: &Eal, setup: &Setup) -> Result<(Vec<StartedPort>, DpdkPool), PktgenError> {
    let mut needs = PoolNeeds {
        threads: 2,
        tx_queues_per_thread: u32::from(setup.queues) * 2,
        ..PoolNeeds::default()
    };
    let queues = u32::from(setup.queues);
    let mut numa_node = None;
    for device in &setup.devices {
        let found = AvailableDevice::find(eal, device).ok_or_else(|| {
            let (port, device) = (text_of(device), text_of(device));
            PortError::NoDevice { port, device }
        })?;
        let (rx, tx) = found.descriptors(setup.descriptors, setup.descriptors);
        needs.rx_descriptors += u32::from(rx) * queues;
        needs.tx_descriptors += u32::from(tx) * queues;
        needs.packets_held += found.packets_kept_per_queue() * queues;
        numa_node = numa_node.or(found.numa_node);
    }
    let settings = PoolSettings {
        packets: needs.packets(),
        data_room: data_room_len(setup.mtu),
        numa_node,
    };
    let pool = DpdkPool::create(eal, settings)?;
    let mut started = Vec::new();
    for (device, name) in setup.devices.iter().zip(["clients", "servers"]) {
        let settings = PortSettings {
            name: name.to_owned(),
            device: device.clone(),
            mtu: setup.mtu,
            vlan: true,
            mac: None,
            queues: setup.queues,
            rx_descriptors: setup.descriptors,
            tx_descriptors: setup.descriptors,
            rss_key: RSS_KEY,
            single_pool: true,
        };
        let port = DpdkPort::configure(eal, &settings, &pool)?;
        let description = port.port.description();
        log::info!(
            "port {name}: {} ({}), {}, MTU {}, {} queues",
            description.device,
            description.driver,
            description.mac,
            description.mtu,
            description.rx_queues
        );
        started.push(port);
    }
    Ok((started, pool))
}

fn wait_for_links(
    ports: &[DpdkPort],
    link_wait: Duration,
    stop: &AtomicBool,
) -> Result<(), PktgenError> {
    let start = Instant::now();
    for port in ports {
        while !port.link().up && !stop.load(Ordering::Relaxed) {
            if start.elapsed() >= link_wait {
                return Err(PktgenError::NoLink {
                    port: port.description().device.clone(),
                    seconds: link_wait.as_secs(),
                });
            }
            thread::sleep(LINK_POLL);
        }
    }
    Ok(())
}

/// Says how it goes. Takes and returns packets sent and received by then.
fn log_progress(pktgen: &Pktgen<DpdkDriver>, before: (u64, u64)) -> (u64, u64) {
    let phase = match pktgen.phase() {
        Phase::Resolving { .. } => "resolving",
        Phase::Opening => "opening",
        Phase::WarmingUp { .. } => "warming up",
        Phase::Measuring { .. } => "measuring",
        Phase::Draining { .. } => "draining",
        Phase::Done | Phase::Unresolved => "done",
    };
    let (sent, received) = (pktgen.sent().packets, pktgen.checker().received().packets);
    log::info!(
        "{phase}: {} packets a second sent, {} received; {} mismatches",
        sent - before.0,
        received - before.1,
        pktgen.checker().mismatches().total()
    );
    (sent, received)
}

fn text_of(device: &Device) -> String {
    let (Device::Pci(text) | Device::Vdev(text)) = device;
    text.clone()
}

const LINK_POLL: Duration = Duration::from_millis(20);
