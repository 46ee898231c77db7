//! A director over ports in memory, with a virtual clock.
//!
//! Clients stand behind a router on port 0, real servers on port 1. Who is
//! known there stands in the configuration, so that a packet needs no ARP.

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr};

use crossbeam::channel::{Sender, bounded};
use ipnet::IpNet;
use pointsman::{
    clock::Ticks,
    config::{
        Config, Device, DirectorConfig, EalConfig, Hugepages, NeighborConfig, PortConfig,
        RouteAction, RouteConfig, ServiceConfig,
    },
    control::{
        ProcessInfo,
        command::Command,
        socket::ControlRequest,
        status::{Request, Response},
    },
    director::{Director, Materials, assemble},
    io::{
        Driver, PortCapabilities, PortDescription, PortIndex,
        mem::{MemDriver, MemNetwork},
    },
    pipeline::{DropReason, PuntReason},
    scheduler::SchedulerKind,
    service::{
        MarkGroup, Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts,
        Tunables,
    },
    wire::ethernet::MacAddr,
    worker::WorkerQueues,
};
use proptest::{
    prelude::ProptestConfig,
    strategy::Strategy,
    test_runner::{TestCaseResult, TestRunner},
};

use crate::frames::{GATEWAY, GATEWAY_MAC, PORT_MACS, VIP, server, server_mac};

/// What a lab is like. The default: one worker, one real server 10.0.0.11 of
/// the service TCP VIP:80 by rr, and no limit on ICMP errors.
pub(crate) struct Setup {
    pub(crate) workers: usize,
    /// Receive and transmit queues of each port; one for each worker if `None`.
    pub(crate) queues: Option<(u16, u16)>,
    pub(crate) packets: usize,
    pub(crate) connections_max: usize,
    pub(crate) templates_max: u32,
    pub(crate) icmp_rate_per_s: u32,
    pub(crate) tunables: Tunables,
    /// The tag of both ports.
    pub(crate) vlan: Option<u16>,
    pub(crate) capabilities: PortCapabilities,
    pub(crate) mark_groups: Vec<MarkGroup>,
    pub(crate) services: Vec<ServiceConfig>,
    /// Whether there is IPv6 too: addresses, routes, and the service TCP
    /// `[2001:db8:ff::10]:80` with the server `2001:db8:2::11`.
    pub(crate) ipv6: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            queues: None,
            packets: 2300,
            connections_max: 4096,
            templates_max: 1024,
            icmp_rate_per_s: 0,
            tunables: Tunables::default(),
            vlan: None,
            capabilities: PortCapabilities::default(),
            mark_groups: Vec::new(),
            services: vec![web_service(SchedulerKind::Rr, &[(11, 1)])],
            ipv6: false,
        }
    }
}

pub(crate) fn service_key(vip: Ipv4Addr, protocol: Protocol, l4_port: u16) -> ServiceKey {
    ServiceKey::Vip {
        protocol,
        address: (vip, l4_port).into(),
    }
}

/// TCP VIP:80.
pub(crate) fn web() -> ServiceKey {
    service_key(VIP, Protocol::Tcp, 80)
}

pub(crate) fn server_key(host: u8) -> ServerKey {
    ServerKey {
        address: server(host).into(),
    }
}

pub(crate) fn weight(weight: u32) -> ServerOptions {
    ServerOptions {
        weight,
        ..ServerOptions::default()
    }
}

/// TCP VIP:80 with servers 10.0.0.HOST of these weights, added in this order.
pub(crate) fn web_service(scheduler: SchedulerKind, servers: &[(u8, u32)]) -> ServiceConfig {
    ServiceConfig {
        key: web(),
        options: ServiceOptions::from(scheduler),
        servers: servers
            .iter()
            .map(|&(host, value)| (server_key(host), weight(value)))
            .collect(),
    }
}

/// A director and the world around it.
pub(crate) struct Lab {
    pub(crate) network: MemNetwork,
    pub(crate) director: Director<MemDriver>,
    pub(crate) now: Ticks,
    requests: Sender<ControlRequest>,
}

/// A counter was seen to count by one. [`Lab::counts_one`] says so.
#[must_use]
pub(crate) struct Checked(());

impl Checked {
    /// Of a director that is no [`Lab`], whose test has checked as much.
    pub(crate) const fn by_hand() -> Self {
        Self(())
    }
}

impl Lab {
    pub(crate) fn start() -> Self {
        Self::with(&Setup::default())
    }

    pub(crate) fn with(setup: &Setup) -> Self {
        let config = config(setup);
        let workers = u16::try_from(setup.workers).unwrap();
        let (rx_queues, tx_queues) = setup.queues.unwrap_or((workers, workers));
        let mut descriptions = descriptions(&config, setup.capabilities);
        for port in &mut descriptions {
            port.rx_queues = rx_queues;
            port.tx_queues = tx_queues;
        }
        let network = MemNetwork::with_queues(descriptions, setup.workers, setup.packets);
        let queues = (0..setup.workers).map(|worker| {
            let (receive, transmit) = network.queues(worker);
            WorkerQueues {
                receive,
                transmit,
                pool: network.pool(),
            }
        });
        let (requests_in, requests) = bounded(1);
        let materials = Materials {
            requests,
            ..materials(network.ports(), queues.collect(), network.pool())
        };
        let director = assemble(config, materials, Ticks::ZERO).unwrap();
        let mut lab = Self {
            network,
            director,
            now: Ticks::ZERO,
            requests: requests_in,
        };
        lab.settle();
        lab.network.take_sent();
        lab
    }

    /// A frame arrives at port 0 for the first worker.
    pub(crate) fn receive(&self, frame: &[u8]) {
        self.receive_at(0, 0, frame);
    }

    pub(crate) fn receive_at(&self, port: u8, worker: usize, frame: &[u8]) {
        assert!(self.network.send(PortIndex(port), worker, frame));
    }

    /// A frame arrives at port 0, and the director does its work.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.receive(frame);
        self.settle();
    }

    /// What a frame to port 0 makes the director send.
    pub(crate) fn answers(&mut self, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.take_sent();
        self.send(frame);
        self.take_sent()
    }

    pub(crate) fn take_sent(&self) -> Vec<(u8, Vec<u8>)> {
        let sent = self.network.take_sent();
        sent.into_iter()
            .map(|(port, frame)| (port.0, frame))
            .collect()
    }

    /// One turn of each worker, none of the management thread.
    pub(crate) fn turn_workers(&mut self) {
        for worker in &mut self.director.workers {
            worker.turn(self.now);
        }
    }

    /// Lets the director run until there is nothing to do.
    pub(crate) fn settle(&mut self) {
        settle(&mut self.director, self.now);
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now = self.now + ms;
        self.settle();
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        self.command(command);
        self.settle();
    }

    /// Carries out a command that workers do not hear of yet.
    pub(crate) fn command(&mut self, command: &Command) {
        let result = self.director.management.apply(command);
        result.unwrap();
    }

    /// What the director answers over its control socket.
    pub(crate) fn ask(&mut self, request: Request) -> Response {
        let (reply, answer) = bounded(1);
        let request = ControlRequest::new(request, reply);
        self.requests.send(request).unwrap();
        self.settle();
        answer.try_recv().unwrap()
    }

    /// Asks, and gives up before anybody has heard of it.
    pub(crate) fn give_up(&mut self, request: Request) {
        let (reply, _answer) = bounded(1);
        let request = ControlRequest::new(request, reply);
        assert!(request.withdrawal().withdraw());
        self.requests.send(request).unwrap();
        self.settle();
    }

    pub(crate) fn add_server(&mut self, host: u8, value: u32) {
        self.apply(&Command::AddServer(web(), server_key(host), weight(value)));
    }

    pub(crate) fn delete_server(&mut self, host: u8) {
        self.apply(&Command::DeleteServer(web(), server_key(host)));
    }

    /// A service UDP VIP:53 with the one server `address`.
    pub(crate) fn add_udp_service(&mut self, address: Ipv4Addr) {
        let key = service_key(VIP, Protocol::Udp, 53);
        let options = ServiceOptions::from(SchedulerKind::Rr);
        let address = ServerKey {
            address: address.into(),
        };
        self.command(&Command::AddService(key, options));
        self.command(&Command::AddServer(key, address, weight(1)));
        self.settle();
    }

    /// All counters by name.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        counters(&self.director)
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.counters()[name]
    }

    /// The state of the connection of a client's L4 port, by worker 0.
    pub(crate) fn state_of(&self, client_port: u16) -> Option<&'static str> {
        let connections = self.director.workers[0].connections(self.now);
        let found = connections
            .iter()
            .find(|connection| connection.client.port() == client_port);
        found.map(|connection| connection.state)
    }

    /// Does `act` and lets the director finish. The counter `name` is then
    /// larger by exactly one; no other reason to drop or to punt has counted,
    /// but for `allowed`; every received packet is accounted for; and every
    /// packet buffer is free.
    pub(crate) fn counts_one_and(
        &mut self,
        name: &str,
        allowed: &[&str],
        act: impl FnOnce(&mut Self),
    ) -> Checked {
        let before = self.counters();
        act(self);
        self.settle();
        let after = self.counters();
        for (counter, count) in &after {
            let counted = i128::from(*count) - i128::from(before[counter]);
            if counter == name {
                assert_eq!(counted, 1, "{counter}");
            } else if is_reason(counter) && !allowed.contains(&counter.as_str()) {
                assert_eq!(counted, 0, "{counter}");
            }
        }
        self.assert_everything_is_accounted_for();
        Checked(())
    }

    pub(crate) fn counts_one(&mut self, name: &str, act: impl FnOnce(&mut Self)) -> Checked {
        self.counts_one_and(name, &[], act)
    }

    /// received = forwarded + dropped + punted, and no packet buffer in use.
    pub(crate) fn assert_everything_is_accounted_for(&self) {
        assert_sum(&self.counters());
        assert_eq!(self.network.packets_in_use(), 0, "packet buffers in use");
    }
}

pub(crate) fn assert_sum(counters: &BTreeMap<String, u64>) {
    let reasons: u64 = counters
        .iter()
        .filter(|(name, _)| is_reason(name))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(
        counters["rx_packets"],
        counters["forwarded"] + reasons,
        "{counters:?}"
    );
}

/// Whether a counter counts a way off the fast path.
fn is_reason(counter: &str) -> bool {
    DropReason::ALL
        .iter()
        .any(|reason| reason.name() == counter)
        || PuntReason::ALL
            .iter()
            .any(|reason| reason.name() == counter)
}

pub(crate) fn counters<D: Driver>(director: &Director<D>) -> BTreeMap<String, u64> {
    let counters = director.management.counters();
    counters
        .into_iter()
        .map(|counter| (counter.name, counter.count))
        .collect()
}

/// Lets a director run until there is nothing to do.
pub(crate) fn settle<D: Driver>(director: &mut Director<D>, now: Ticks) {
    for _ in 0..10_000 {
        let mut busy = director.management.turn(now);
        for worker in &mut director.workers {
            busy |= worker.turn(now);
        }
        if !busy {
            return;
        }
    }
    panic!("the director found something to do 10,000 times in a row");
}

pub(crate) fn materials<D: Driver>(
    ports: Vec<D::Port>,
    queues: Vec<WorkerQueues<D>>,
    pool: D::Pool,
) -> Materials<D> {
    let (_, requests) = bounded(1);
    Materials {
        ports,
        queues,
        pool,
        numa_node: None,
        requests,
        info: ProcessInfo {
            version: String::new(),
            config_file: "lab.toml".into(),
            tsc_hz: 1,
        },
        saved: None,
    }
}

pub(crate) fn descriptions(
    config: &Config,
    capabilities: PortCapabilities,
) -> Vec<PortDescription> {
    let describe = |(port, mac): (&PortConfig, [u8; 6])| PortDescription {
        name: port.name.clone(),
        device: "memory".to_owned(),
        driver: "mem".to_owned(),
        mac: MacAddr(mac),
        mtu: 9702,
        numa_node: None,
        rx_queues: 1,
        tx_queues: 1,
        capabilities,
    };
    config.ports.iter().zip(PORT_MACS).map(describe).collect()
}

pub(crate) fn config(setup: &Setup) -> Config {
    let neighbors = [11, 12, 13, 14].map(|host| NeighborConfig {
        port: 1,
        address: server(host).into(),
        mac: MacAddr(server_mac(host)),
    });
    let router = NeighborConfig {
        port: 0,
        address: GATEWAY.into(),
        mac: MacAddr(GATEWAY_MAC),
    };
    let mut config = Config {
        director: DirectorConfig {
            worker_cores: (0..setup.workers).collect(),
            management_core: None,
            idle: None,
            connections_max: setup.connections_max,
            templates_max: setup.templates_max,
            control_socket: "lab.sock".into(),
            netlink_socket: "ipvs.sock".into(),
            netlink_group: None,
            control_group: None,
            user: None,
            group: None,
            timeouts: Timeouts::default(),
            tunables: setup.tunables,
            state_file: None,
            icmp_rate_per_s: setup.icmp_rate_per_s,
        },
        eal: EalConfig {
            hugepages: Hugepages::None,
            memory_mib: 0,
            memory_channels: None,
            file_prefix: "lab".to_owned(),
            extra_arguments: Vec::new(),
        },
        api: None,
        ports: vec![
            port("clients", "192.0.2.1/24", setup.vlan),
            port("servers", "10.0.0.1/24", setup.vlan),
        ],
        routes: vec![
            route("0.0.0.0/0", Some(GATEWAY), 0, None),
            // A path too narrow for IPv4 in IPv4, one just above it, and one
            // that does not exist.
            route("10.0.1.0/24", Some(server(11)), 1, Some(80)),
            route("10.0.3.0/24", Some(server(11)), 1, Some(576)),
            RouteConfig {
                to: network("10.0.2.0/24"),
                action: RouteAction::Unreachable,
            },
        ],
        neighbors: neighbors.into_iter().chain([router]).collect(),
        mark_groups: setup.mark_groups.clone(),
        services: setup.services.clone(),
    };
    if setup.ipv6 {
        crate::ipv6::extend(&mut config);
    }
    config
}

pub(crate) fn port(name: &str, address: &str, vlan: Option<u16>) -> PortConfig {
    PortConfig {
        name: name.to_owned(),
        device: Device::Vdev(format!("memory_{name}")),
        addresses: vec![address.parse().unwrap()],
        mtu: 1500,
        vlan,
        mac: None,
        rx_descriptors: 256,
        tx_descriptors: 256,
    }
}

fn route(to: &str, via: Option<Ipv4Addr>, port: usize, mtu: Option<u16>) -> RouteConfig {
    RouteConfig {
        to: network(to),
        action: RouteAction::Forward {
            via: via.map(Into::into),
            port,
            source: None,
            mtu,
        },
    }
}

fn network(network: &str) -> IpNet {
    network.parse().unwrap()
}

/// Tries `cases` values on a `state` that goes on from one to the next. A
/// failure shows the smallest value that still fails.
#[track_caller]
pub(crate) fn for_all<S, T: Strategy>(
    cases: u32,
    state: &mut S,
    values: T,
    test: impl Fn(&mut S, T::Value) -> TestCaseResult,
) {
    let state = RefCell::new(state);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&values, |value| test(&mut state.borrow_mut(), value));
    if let Err(error) = result {
        panic!("{error}");
    }
}
