//! The management thread: everything that is not the packet path.
//!
//! [`Management`] owns services, routes, neighbors and the published
//! forwarding state. Packets that workers do not forward come to it through
//! one bounded queue from each worker; packets that it makes go back through
//! another. It is given the time and never blocks: [`Management::turn`] does
//! what there is to do, and the thread around it waits in
//! [`Management::wait`].
#![forbid(unsafe_code)]

mod answer;
mod arp;
mod capture;
mod changes;
pub mod command;
mod dump;
mod duplicate;
pub mod edit;
mod explain;
mod host;
mod host_ipv6;
mod keep;
pub mod merge;
mod ndp;
mod neighbors;
mod network;
mod outer_sources;
mod pace;
mod path_mtu;
mod publish;
mod punted;
mod rates;
mod reconfigure;
pub mod saved;
mod services;
mod settings;
pub mod snapshot;
pub mod socket;
pub mod state_file;
pub mod status;
mod token_bucket;
mod touched;
mod transmit;
mod tunnel_error;
mod tunnel_quote;
mod vips;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use crossbeam::{
    channel::{Receiver, Select, Sender, bounded},
    utils::{Backoff, CachePadded},
};

use self::{
    capture::Captures,
    command::{Command, CommandError},
    dump::Dump,
    duplicate::AddressProbes,
    explain::Explaining,
    network::{LinkChange, Network},
    pace::Pace,
    punted::HostCounters,
    rates::RateTable,
    saved::Saved,
    services::Services,
    socket::ControlRequest,
    status::{CounterStatus, ServiceStatus, Statistics},
    token_bucket::TokenBucket,
    touched::Stale,
    transmit::Waiting,
};
use crate::{
    clock::Ticks,
    config::Config,
    connection::Templates,
    counters::WorkerCounters,
    forwarding::{ForwardingState, RealServerIndex, ServerLoads},
    io::{Driver, Port, PortIndex},
    neighbor::NeighborKey,
    pipeline::Punted,
    worker::{Injected, WorkerChannels, WorkerRequest},
};

/// The management thread's state.
#[derive(Debug)]
pub struct Management<D: Driver> {
    config: Config,
    services: Services,
    network: Network,
    workers: Vec<WorkerHandle<D::Packet>>,
    ports: Vec<D::Port>,
    pool: D::Pool,
    state: Arc<ForwardingState>,
    /// How much of the published state no longer says what it should.
    stale: Stale,
    /// When the next state may be published.
    pace: Pace,
    rates: RateTable,
    /// Whether connections of deleted servers are to be ended at once.
    end_deleted: bool,
    waiting: Waiting<D::Packet>,
    /// Addresses that the networks have to be told about.
    announcements: BTreeSet<IpAddr>,
    /// IPv6 addresses that others may have.
    probes: AddressProbes,
    /// When the groups of IPv6 addresses were last reported.
    groups_reported: Ticks,
    icmp_limit: TokenBucket,
    fragmentation_needed_limit: TokenBucket,
    /// For messages that outside parties can cause.
    log_limit: TokenBucket,
    /// Neighbors of which the log said that they do not answer.
    lost: BTreeSet<NeighborKey>,
    identification: u16,
    host: HostCounters,
    requests: Receiver<ControlRequest>,
    dumps: Vec<Dump>,
    explaining: Vec<Explaining>,
    captures: Captures,
    housekept: Ticks,
    info: ProcessInfo,
    keeper: keep::Keeper,
}

/// What the director says about its own process.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// The program's version.
    pub version: String,
    /// The configuration file.
    pub config_file: PathBuf,
    /// Cycles of the time stamp counter per second.
    pub tsc_hz: u64,
}

/// The management thread's ends of the queues between it and a worker.
#[derive(Debug)]
pub struct WorkerHandle<P> {
    requests: Sender<WorkerRequest>,
    injected: Sender<Injected<P>>,
    retired: Receiver<Arc<ForwardingState>>,
    punts: Receiver<Punted<P>>,
    counters: Arc<CachePadded<WorkerCounters>>,
    core: usize,
    load: answer::LoadSample,
}

/// Makes the queues between the management thread and a worker on `core`.
pub fn connect<P>(
    core: usize,
    counters: Arc<CachePadded<WorkerCounters>>,
) -> (WorkerHandle<P>, WorkerChannels<P>) {
    let (requests, requests_out) = bounded(REQUESTS_MAX);
    let (injected, injected_out) = bounded(INJECTED_MAX);
    let (retired_in, retired) = bounded(REQUESTS_MAX);
    let (punts_in, punts) = bounded(PUNTS_MAX);
    let load = answer::LoadSample::default();
    let handle = WorkerHandle {
        requests,
        injected,
        retired,
        punts,
        counters,
        core,
        load,
    };
    let channels = WorkerChannels {
        requests: requests_out,
        injected: injected_out,
        retired: retired_in,
        punts: punts_in,
    };
    (handle, channels)
}

/// What a management thread is made of.
#[derive(Debug)]
pub struct Parts<D: Driver> {
    /// Started ports, in configuration order.
    pub ports: Vec<D::Port>,
    /// Packets for the management thread.
    pub pool: D::Pool,
    /// Its ends of the queues to the workers.
    pub workers: Vec<WorkerHandle<D::Packet>>,
    /// The state that the workers start with, see [`initial_state`].
    pub state: Arc<ForwardingState>,
    /// Requests from the control socket.
    pub requests: Receiver<ControlRequest>,
    /// What the director says about itself.
    pub info: ProcessInfo,
    /// What the last director left, if there was one that saved.
    pub saved: Option<Saved>,
}

/// The state that workers start with: nothing is forwarded.
pub fn initial_state(
    config: &Config,
    loads: Arc<ServerLoads>,
    templates: Arc<Templates>,
) -> Arc<ForwardingState> {
    publish::empty(config, loads, templates)
}

/// How often [`Management::wait`] looks before it sleeps while commands stream in: a
/// tenth of a millisecond or so.
const AWAKE_TURNS: u32 = 300;

impl<D: Driver> Management<D> {
    /// A management thread with the services of the configuration and those
    /// that the last director left. The first [`turn`](Self::turn) publishes them.
    ///
    /// # Errors
    /// [`CommandError`] when the configuration asks for what the director
    /// cannot hold.
    pub fn new(config: Config, parts: Parts<D>, now: Ticks) -> Result<Self, CommandError> {
        let descriptions: Vec<_> = parts
            .ports
            .iter()
            .map(|port| port.description().clone())
            .collect();
        let director = &config.director;
        let services = Services::new(
            Arc::clone(&parts.state.loads),
            director.tunables,
            director.timeouts,
        );
        let network = Network::new(&config, &descriptions, now);
        let rate = director.icmp_rate_per_s;
        let captures = Captures::new(parts.workers.len());
        let mut management = Self {
            services,
            network,
            workers: parts.workers,
            ports: parts.ports,
            pool: parts.pool,
            state: parts.state,
            stale: Stale::Everything,
            pace: Pace::default(),
            rates: RateTable::default(),
            end_deleted: false,
            waiting: Waiting::default(),
            announcements: BTreeSet::new(),
            probes: AddressProbes::default(),
            groups_reported: now,
            icmp_limit: TokenBucket::new(rate, now),
            fragmentation_needed_limit: TokenBucket::new(rate.saturating_mul(10), now),
            log_limit: TokenBucket::new(LOG_LINES_PER_S, now),
            lost: BTreeSet::new(),
            identification: 0,
            host: HostCounters::default(),
            requests: parts.requests,
            dumps: Vec::new(),
            explaining: Vec::new(),
            captures,
            housekept: now,
            info: parts.info,
            keeper: keep::Keeper::default(),
            config,
        };
        management.announce_own();
        let groups = management.config.mark_groups.clone();
        management.services.set_mark_groups(&groups);
        management.begin_with(parts.saved)?;
        // A link counts as lost only when it was there before.
        management.watch_links();
        Ok(management)
    }

    /// Carries out a command. Workers see its effect with the next published
    /// generation.
    ///
    /// # Errors
    /// [`CommandError`]; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<(), CommandError> {
        let new_vips = self.new_vips_of(command);
        let workers = &self.workers;
        self.services
            .apply(command, self.state.generation + 1, &|index| {
                totals(workers, index)
            })?;
        self.stale = self.stale.max(Stale::Services);
        if let Command::Zero(key) = command {
            self.zero_rates(key.as_ref());
        }
        self.keeper.changed();
        let deletes = matches!(
            command,
            Command::DeleteServer(..) | Command::DeleteService(_) | Command::Flush
        );
        self.end_deleted |= deletes && self.services.tunables.expire_nodest_conn;
        for vip in new_vips {
            self.announce(vip);
        }
        Ok(())
    }

    /// One turn: punted packets, neighbors, requests, publishing. Returns
    /// whether there was anything to do.
    pub fn turn(&mut self, now: Ticks) -> bool {
        let mut busy = self.take_punts(now);
        busy |= self.poll_neighbors(now);
        busy |= self.take_requests(now);
        busy |= self.continue_dumps(now);
        busy |= self.continue_explaining(now);
        busy |= self.continue_captures(now);
        busy |= self.send_announcements(now);
        if now.ms_since(self.housekept) >= HOUSEKEEPING_INTERVAL_MS {
            self.housekept = now;
            self.housekeep(now);
        }
        self.save(now);
        busy | self.publish(now)
    }

    /// Waits until a worker or a client wants something, but not longer than
    /// `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let timeout = if self.stale == Stale::Nothing {
            timeout
        } else {
            timeout.min(pace::WAIT_MAX)
        };
        let mut select = Select::new();
        for worker in &self.workers {
            select.recv(&worker.punts);
        }
        select.recv(&self.requests);
        if self.stale != Stale::Nothing {
            // Commands are coming in, and whoever sent the last one waits for it.
            let backoff = Backoff::new();
            for _ in 0..AWAKE_TURNS {
                if select.try_ready().is_ok() {
                    return;
                }
                backoff.snooze();
            }
        }
        // Which one it was, the next turn finds out.
        let _ = select.ready_timeout(timeout);
    }

    /// All services with their servers and counters.
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.service_statuses()
    }

    /// All counters, summed over the workers.
    pub fn counters(&self) -> Vec<CounterStatus> {
        self.counter_statuses()
    }

    /// Of each worker, something that grows while it lives.
    pub fn progress(&self) -> Vec<u64> {
        let workers = self.workers.iter();
        workers
            .map(|worker| worker.counters.total_cycles.value())
            .collect()
    }

    /// One line for whoever supervises the process.
    pub fn summary(&self) -> String {
        format!(
            "{} workers, {} services, generation {}",
            self.workers.len(),
            self.services.iter().count(),
            self.state.generation
        )
    }

    /// Follows the links of the ports. A link that comes up again may lead to
    /// another switch, which is told where the addresses are.
    fn watch_links(&mut self) {
        let links: Vec<_> = self.ports.iter().map(|port| port.link().up).collect();
        let mut came_up = false;
        for (port, up) in (0..).map(PortIndex).zip(links) {
            match self.network.set_link(port, up) {
                Some(LinkChange::Down) => self.stale = Stale::Everything,
                Some(LinkChange::Up) => {
                    self.stale = Stale::Everything;
                    came_up = true;
                }
                None => {}
            }
        }
        if came_up {
            self.announce_all();
        }
    }

    /// The state published last.
    pub fn state(&self) -> &Arc<ForwardingState> {
        &self.state
    }

    /// The VIPs that a command adds to the director and that networks are told
    /// about: one by one, and no networks of them.
    fn new_vips_of(&self, command: &Command) -> Vec<IpAddr> {
        let Command::AddService(key, _) = command else {
            return Vec::new();
        };
        let known = self.services.vips();
        let vips = known.of(key).into_iter();
        vips.filter(|vips| vips::is_single(*vips))
            .map(|vips| vips.addr())
            .filter(|vip| !known.has_single(*vip))
            .collect()
    }

    fn housekeep(&mut self, now: Ticks) {
        self.watch_links();
        self.keep_neighbors_alive(now);
        self.report_groups(now);
        self.expire_path_mtus(now);
        let oldest = self
            .workers
            .iter()
            .map(|worker| worker.counters.generation.value())
            .min();
        if self.services.free_deleted(oldest.unwrap_or(0)) {
            self.stale = self.stale.max(Stale::Services);
        }
        self.estimate_rates(now);
        for worker in &mut self.workers {
            worker.load.sample(&worker.counters);
        }
    }
}

/// What went to the server in a slot since the director started.
fn totals<P>(workers: &[WorkerHandle<P>], index: RealServerIndex) -> Statistics {
    workers.iter().fold(Statistics::default(), |sum, worker| {
        let counters = worker.counters.server(index.as_usize());
        Statistics {
            connections: sum.connections + counters.connections.value(),
            in_packets: sum.in_packets + counters.in_packets.value(),
            in_bytes: sum.in_bytes + counters.in_bytes.value(),
            out_packets: sum.out_packets + counters.out_packets.value(),
            out_bytes: sum.out_bytes + counters.out_bytes.value(),
        }
    })
}

/// Packets that the management thread keeps while it waits for neighbors.
pub const PACKETS_HELD_MAX: usize = transmit::WAITING_MAX;

/// Packets that stand in the queues between the management thread and one
/// worker.
pub const PACKETS_HELD_PER_WORKER_MAX: usize = INJECTED_MAX + PUNTS_MAX;

/// Requests that may wait for a worker.
const REQUESTS_MAX: usize = 64;
/// Frames that may wait to be sent by a worker.
const INJECTED_MAX: usize = 1024;
/// Packets that a worker may have waiting for the management thread.
const PUNTS_MAX: usize = 1024;
/// Log lines a second that outside parties can cause.
const LOG_LINES_PER_S: u32 = 5;
const HOUSEKEEPING_INTERVAL_MS: u64 = 1000;
