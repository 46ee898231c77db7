//! `pointsman run`: a director on DPDK ports, from start to stop.
//!
//! Reads the configuration, starts DPDK and the ports, gives each worker a
//! thread on its core and runs the management thread itself, until SIGINT or
//! SIGTERM. SIGHUP reads the files again. Everything that may fail does so
//! before the first packet is taken.
#![forbid(unsafe_code)]

mod identity;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use core_affinity::CoreId;
use crossbeam::channel::{Receiver, bounded};
use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::identity::{become_user, identities};
use crate::{
    api::{Api, ApiError},
    clock::{Clock, MonotonicClock},
    config::{self, Config, ConfigErrors, Device, Files, IdlePolicy, Loaded, Machine, PortConfig},
    control::{
        Management, ProcessInfo,
        saved::Saved,
        socket::{BindError, ControlRequest, ControlSocket, NetlinkSocket},
        state_file::StateFile,
    },
    director::{AssemblyError, Director, Materials, assemble},
    io::{
        Port, PortDescription,
        dpdk::{
            AvailableDevice, DpdkDriver, DpdkPool, DpdkPort, Eal, EalArguments, EalError,
            PoolError, PoolNeeds, PoolSettings, PortError, PortSettings, QueuePlan,
            RegisteredThread, StartedPort, cycles, data_room_len, queue_hint,
        },
        sharing::Sharing,
    },
    privileges::{self, PrivilegeError},
    supervision::Supervisor,
    version,
    worker::{self, Idle, Worker, WorkerQueues},
};

/// Why the director did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to receive from.
    #[error("the configuration has no port; write a [[port]]")]
    NoPorts,
    /// The file is wrong.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The control socket could not be made.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The API has no place or no token.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no such user, or the director could not become it.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// DPDK did not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// There was no memory for packets.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A port did not start.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Tables or services do not fit.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// A thread or signal handler could not be made.
    #[error("the operating system refused a thread or a signal handler: {0}")]
    System(#[from] io::Error),
    /// A worker ended though nobody asked it to.
    #[error("worker {0} ended on its own; this is a defect, please report what it logged")]
    WorkerDied(usize),
}

/// Runs the director until SIGINT or SIGTERM.
///
/// # Errors
/// Whatever keeps it from running.
pub fn run(files: Files<'_>) -> Result<(), RunError> {
    let config = load(files).map_err(RunError::Config)?;
    let signals = Signals::install()?;
    let (account, control_group) = identities(&config)?;
    privileges::forbid_new()?;
    let mut supervisor = Supervisor::of_environment();
    // First of all, so that a second director on the same socket touches no
    // port.
    let socket = ControlSocket::bind_for(&config.director.control_socket, control_group)?;
    let netlink_socket = NetlinkSocket::bind(
        &config.director.netlink_socket,
        config.director.netlink_group.as_deref(),
    )?;
    let api = config.api.as_ref().map(Api::bind).transpose()?;
    let clock = MonotonicClock::start();

    let eal = Eal::start(&EalArguments::new(&config))?;
    log::info!("pointsman {}, {}", version::VERSION, eal.version());
    let (ports, pools) = start_ports(&eal, &config)?;
    let pool = pools.first().ok_or(RunError::NoPorts)?;
    let (requests_in, requests) = bounded(CONTROL_REQUESTS_MAX);
    let info = ProcessInfo {
        version: version::VERSION.to_owned(),
        config_file: absolute(files.config),
        tsc_hz: eal.cycles_per_second(),
    };
    let idle = idle_policy(&config);
    let cores = config.director.worker_cores.clone();
    let netlink_thread = netlink_socket.spawn(requests_in.clone())?;
    let api_thread = api.map(|api| api.spawn(requests_in.clone())).transpose()?;
    let socket_thread = socket.spawn(requests_in)?;
    let (saved, state_file) = open_state(&config);
    let materials = materials(ports, pool, cores.len(), requests, (info, saved));
    let Director {
        mut management,
        workers,
    } = assemble(config.clone(), materials, clock.now())?;

    // A thread from before the change of user keeps no capability over it.
    let state_writer = match state_file {
        Some(file) => {
            if let Some(account) = &account
                && let Err(error) = file.give_to(account.uid(), account.gid())
            {
                log::error!("{error}");
            }
            Some(file.spawn()?)
        }
        None => None,
    };
    // Publishes, so that the first packet finds everything in place.
    management.turn(clock.now());
    if let Some(account) = &account {
        socket_thread.give_to(account.uid(), account.gid())?;
        netlink_thread.give_to(account.uid(), account.gid())?;
        if let Some(api) = &api_thread {
            api.give_to(account.uid(), account.gid())?;
        }
        become_user(account, &config, files)?;
    }
    if let Some(writer) = state_writer {
        // Not before, or the first state would be root's.
        management.keep_state(writer);
    }
    let threads = Threads::start(&eal, workers, &cores, (clock, idle), account.is_some())?;
    log::info!(
        "ready: {} workers on cores {cores:?}, {idle:?} when idle",
        cores.len()
    );
    supervisor.ready(management.summary());
    let result = manage(
        &mut management,
        config.clone(),
        files,
        &signals,
        clock,
        (&threads, &mut supervisor),
    );
    log::info!("stopping");
    supervisor.stopping();
    drop(netlink_thread);
    drop(api_thread);
    drop(socket_thread);
    management.finish_keeping();
    threads.join();
    summarize(&management);
    drop(management);
    report_leaks(&pools, &config);
    result
}

/// What the last director left, and the file to leave it in for the next one.
/// A file that cannot be used keeps no director from running.
fn open_state(config: &Config) -> (Option<Saved>, Option<StateFile>) {
    let Some(path) = &config.director.state_file else {
        log::info!("`state_file` is \"none\": what changes at run time ends with this director");
        return (None, None);
    };
    let file = match StateFile::open(path) {
        Ok(file) => file,
        Err(error) => {
            log::error!("{error}");
            return (None, None);
        }
    };
    match file.load() {
        Ok(saved) => (saved, Some(file)),
        Err(error) => {
            log::error!("{error}");
            (None, (!error.is_in_the_way()).then_some(file))
        }
    }
}

fn load(files: Files<'_>) -> Result<Config, ConfigErrors> {
    config::load_files(files, &Machine::detect()).map(Loaded::logged)
}

/// Flags that signals set.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn install() -> io::Result<Self> {
        let signals = Self {
            stop: Arc::default(),
            reload: Arc::default(),
        };
        signal_hook::flag::register(SIGINT, Arc::clone(&signals.stop))?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&signals.stop))?;
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }
}

/// The management thread's loop.
fn manage(
    management: &mut Management<DpdkDriver>,
    mut config: Config,
    files: Files<'_>,
    signals: &Signals,
    clock: MonotonicClock,
    (threads, supervisor): (&Threads, &mut Supervisor),
) -> Result<(), RunError> {
    while !signals.stop.load(Ordering::Relaxed) {
        if signals.reload.swap(false, Ordering::Relaxed) {
            supervisor.reloading();
            reload(management, &mut config, files, clock);
            supervisor.ready(management.summary());
        }
        supervisor.watch(|| management.progress(), || management.summary());
        if let Some(index) = threads.finished() {
            return Err(RunError::WorkerDied(index));
        }
        if !management.turn(clock.now()) {
            management.wait(MANAGEMENT_WAIT_MAX);
        }
    }
    Ok(())
}

/// Takes up changed files. One that is wrong, or asks for what only a restart
/// can give, changes nothing.
fn reload(
    management: &mut Management<DpdkDriver>,
    config: &mut Config,
    files: Files<'_>,
    clock: MonotonicClock,
) {
    let new = match load(files) {
        Ok(new) => new,
        Err(errors) => {
            log::error!("the configuration stays as it is, since the file is wrong:\n{errors}");
            return;
        }
    };
    let keys = config::needs_restart(config, &new);
    if !keys.is_empty() {
        log::error!(
            "the configuration stays as it is: only a restart can change {}",
            keys.join(", ")
        );
        return;
    }
    match management.reconfigure(&new, clock.now()) {
        Ok(()) => {
            log::info!("{} read again", files.config.display());
            *config = new;
        }
        Err(error) => log::error!("the configuration was taken up in part: {error}"),
    }
}

/// The worker threads.
struct Threads {
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Returns when all of them work, or have ended. With `drops` they give up
    /// all capabilities.
    fn start(
        eal: &Eal,
        workers: Vec<Worker<DpdkDriver>>,
        cores: &[usize],
        (clock, idle): (MonotonicClock, Idle),
        drops: bool,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut handles = Vec::with_capacity(workers.len());
        // Nothing is sent: it is that nobody is left to send that tells.
        let (starting, all_started) = bounded::<()>(1);
        for ((index, mut worker), &core) in workers.into_iter().enumerate().zip(cores) {
            let (eal, stop) = (eal.clone(), Arc::clone(&stop));
            let starting = starting.clone();
            let body = move || {
                if !core_affinity::set_for_current(CoreId { id: core }) {
                    log::warn!("worker {index} could not be pinned to core {core}");
                }
                // Those that the director keeps are not for packets.
                if drops && let Err(error) = privileges::keep_only(CapabilitySet::empty()) {
                    log::error!("worker {index}: {error}");
                    return;
                }
                match RegisteredThread::register(&eal) {
                    Ok(_registered) => {
                        drop(starting);
                        worker::run(&mut worker, &clock, idle, &stop, cycles);
                    }
                    Err(error) => log::error!("worker {index}: {error}"),
                }
            };
            handles.push(
                thread::Builder::new()
                    .name(format!("worker-{index}"))
                    .spawn(body)?,
            );
        }
        drop(starting);
        let _ = all_started.recv();
        Ok(Self { stop, handles })
    }

    /// A worker that has ended.
    fn finished(&self) -> Option<usize> {
        self.handles.iter().position(JoinHandle::is_finished)
    }

    fn join(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (index, handle) in self.handles.into_iter().enumerate() {
            if handle.join().is_err() {
                log::error!("worker {index} panicked");
            }
        }
    }
}

/// Starts all ports, each fed from the pool of its NUMA node.
fn start_ports(eal: &Eal, config: &Config) -> Result<(Vec<StartedPort>, Vec<DpdkPool>), RunError> {
    let workers = config.director.worker_cores.len();
    let queues = u16::try_from(workers).unwrap_or(u16::MAX);
    // All of them before the first one is touched.
    let devices = config
        .ports
        .iter()
        .map(|port| {
            let device = find_device(eal, port)?;
            let plan = QueuePlan::new(&PortSettings::new(port, queues), &device)?;
            Ok((device, plan))
        })
        .collect::<Result<Vec<_>, PortError>>()?;
    let mut nodes: Vec<_> = devices.iter().map(|(device, _)| device.numa_node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() > 1 {
        log::warn!("ports are on different NUMA nodes; some packets will cross between them");
    }

    let mtu_max = config
        .ports
        .iter()
        .map(|port| port.mtu)
        .max()
        .unwrap_or_default();
    let packets = packets_needed(config, &devices, workers);
    let mut pools = Vec::new();
    for &numa_node in &nodes {
        let settings = PoolSettings {
            packets,
            data_room: data_room_len(mtu_max),
            numa_node,
        };
        pools.push(DpdkPool::create(eal, settings)?);
    }
    let mut ports = Vec::new();
    for (port, (device, _)) in config.ports.iter().zip(&devices) {
        let pool = nodes
            .iter()
            .position(|node| *node == device.numa_node)
            .and_then(|at| pools.get(at));
        let Some(pool) = pool else { continue };
        let single_pool = pools.len() == 1;
        let settings = PortSettings {
            single_pool,
            ..PortSettings::new(port, queues)
        };
        let started = DpdkPort::configure(eal, &settings, pool)?;
        let description = started.port.description();
        log::info!(
            "port {}: {} ({}), {}, MTU {}, {} receive and {} transmit queues, link {}",
            description.name,
            description.device,
            description.driver,
            description.mac,
            description.mtu,
            description.rx_queues,
            description.tx_queues,
            if started.port.link().up { "up" } else { "down" }
        );
        warn_of_few_queues(description, queues);
        ports.push(started);
    }
    Ok((ports, pools))
}

/// Says how a port is shared that has fewer queues than there are workers.
fn warn_of_few_queues(port: &PortDescription, workers: u16) {
    let Some(sharing) = Sharing::of(port.rx_queues, port.tx_queues, workers.into()) else {
        return;
    };
    let hint = queue_hint(&port.device, &port.driver, workers)
        .map_or_else(String::new, |hint| format!("; for a queue each, {hint}"));
    log::warn!("port {}: {sharing}{hint}", port.name);
}

fn find_device(eal: &Eal, port: &PortConfig) -> Result<AvailableDevice, PortError> {
    AvailableDevice::find(eal, &port.device).ok_or_else(|| {
        let (Device::Pci(device) | Device::Vdev(device)) = &port.device;
        PortError::NoDevice {
            port: port.name.clone(),
            device: device.clone(),
        }
    })
}

/// Packets that a pool must hold, see [`PoolNeeds::packets`].
fn packets_needed(
    config: &Config,
    devices: &[(AvailableDevice, QueuePlan)],
    workers: usize,
) -> u32 {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (mut rx_descriptors, mut tx_descriptors, mut kept) = (0, 0, 0);
    for (port, (device, plan)) in config.ports.iter().zip(devices) {
        let (rx, tx) = device.descriptors(port.rx_descriptors, port.tx_descriptors);
        rx_descriptors += u32::from(rx) * u32::from(plan.receive);
        tx_descriptors += u32::from(tx) * u32::from(plan.transmit);
        let queues = plan.receive.max(plan.transmit);
        kept += device.packets_kept_per_queue() * u32::from(queues);
        kept += count(worker::packets_held_for_port(
            workers,
            (plan.receive.into(), plan.transmit.into()),
            (port.rx_descriptors.into(), port.tx_descriptors.into()),
        ));
    }
    PoolNeeds {
        rx_descriptors,
        tx_descriptors,
        threads: count(workers) + 1,
        tx_queues_per_thread: count(config.ports.len()),
        packets_held: kept
            + count(crate::control::PACKETS_HELD_MAX)
            + count(workers)
                * (count(crate::control::PACKETS_HELD_PER_WORKER_MAX)
                    + count(worker::packets_held_max(workers))),
    }
    .packets()
}

/// Deals the queues of all ports out to the workers.
fn materials(
    started: Vec<StartedPort>,
    pool: &DpdkPool,
    workers: usize,
    requests: Receiver<ControlRequest>,
    (info, saved): (ProcessInfo, Option<Saved>),
) -> Materials<DpdkDriver> {
    let mut queues: Vec<_> = std::iter::repeat_with(|| WorkerQueues {
        receive: Vec::new(),
        transmit: Vec::new(),
        pool: pool.clone(),
    })
    .take(workers)
    .collect();
    let mut ports = Vec::new();
    for StartedPort {
        port,
        rx_queues,
        tx_queues,
    } in started
    {
        let dealt = worker::deal(rx_queues, tx_queues, workers);
        for (worker, (rx, tx)) in queues.iter_mut().zip(dealt) {
            worker.receive.push(rx);
            worker.transmit.push(tx);
        }
        ports.push(port);
    }
    let numa_node = ports.first().and_then(|port| port.description().numa_node);
    Materials {
        ports,
        queues,
        pool: pool.clone(),
        numa_node,
        requests,
        info,
        saved,
    }
}

/// Polls on NICs, pauses where all ports are software, unless told otherwise.
fn idle_policy(config: &Config) -> Idle {
    let all_software = config
        .ports
        .iter()
        .all(|port| matches!(port.device, Device::Vdev(_)));
    match config.director.idle {
        Some(IdlePolicy::Adaptive) => Idle::Pause,
        None if all_software => Idle::Pause,
        Some(IdlePolicy::Poll) | None => Idle::Poll,
    }
}

fn summarize(management: &Management<DpdkDriver>) {
    for counter in management
        .counters()
        .into_iter()
        .filter(|counter| counter.count > 0)
    {
        log::info!(
            "{} {}: {}",
            counter.kind.name(),
            counter.name,
            counter.count
        );
    }
}

/// All packets must be back once ports and queues are gone.
fn report_leaks(pools: &[DpdkPool], config: &Config) {
    let in_use: u32 = pools.iter().map(DpdkPool::in_use).sum();
    let has_af_xdp = config.ports.iter().any(
        |port| matches!(&port.device, Device::Vdev(device) if device.starts_with("net_af_xdp")),
    );
    if in_use == 0 {
        log::info!("stopped; no packet buffer left in use");
    } else if has_af_xdp {
        // The driver of DPDK 22.11 does not empty its rings when it closes.
        log::info!("stopped; {in_use} packet buffers left in use by net_af_xdp's rings");
    } else {
        log::error!("stopped; {in_use} packet buffers are still in use: this is a defect");
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Requests of clients that may wait for the management thread.
const CONTROL_REQUESTS_MAX: usize = 64;
/// How long the management thread sleeps when there is nothing to do: timers
/// are this late at most.
const MANAGEMENT_WAIT_MAX: Duration = Duration::from_millis(10);
