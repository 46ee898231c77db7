//! Answers to requests from the control socket.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Management, WorkerHandle,
    changes::Origin,
    network::NextHop,
    services::Service,
    status::{
        CounterKind, CounterStatus, DirectorStatus, NeighborStatus, NextHopStatus, PortStatus,
        Request, Response, RouteKind, RouteStatus, ServerStatus, ServiceStatus, TableStatus,
        WorkerStatus,
    },
    totals,
};
use crate::{
    clock::Ticks,
    counters::{Counter, WorkerCounters},
    forwarding::{Presence, RealServerIndex, SERVERS_MAX, SERVICES_MAX},
    io::{Driver, Port, PortIndex},
    neighbor::NeighborKey,
    pipeline::{DropReason, PuntReason},
    route::RouteAction,
    service::ServiceKey,
};

/// A worker's cycle counters, sampled once a second for its busy share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoadSample {
    busy: u64,
    total: u64,
    share: f64,
}

impl LoadSample {
    pub(super) fn sample(&mut self, counters: &WorkerCounters) {
        let (busy, total) = (counters.busy_cycles.value(), counters.total_cycles.value());
        let passed = total.saturating_sub(self.total);
        if passed > 0 {
            self.share = ratio(busy.saturating_sub(self.busy), passed).min(1.0);
        }
        (self.busy, self.total) = (busy, total);
    }
}

impl<D: Driver> Management<D> {
    /// Does and answers what clients of the control socket ask.
    pub(super) fn take_requests(&mut self, now: Ticks) -> bool {
        let mut busy = false;
        while let Ok(request) = self.requests.try_recv() {
            busy = true;
            // Whoever asked may have been told that nothing came of it.
            let Some((request, reply)) = request.begin() else {
                continue;
            };
            let response = match request {
                Request::Connections { limit, service } => {
                    self.start_dump(limit, service, reply, now);
                    continue;
                }
                Request::Explain(question) => {
                    self.start_explaining(&question, &reply, now);
                    continue;
                }
                Request::Services => Response::Services(self.service_statuses()),
                Request::Service(key) => Response::Services(self.one_service(&key)),
                Request::Statistics => self.all_statistics(),
                Request::Counters => Response::Counters(self.counter_statuses()),
                Request::Workers => Response::Workers(self.worker_statuses()),
                Request::Ports => Response::Ports(self.port_statuses()),
                Request::Neighbors => Response::Neighbors(self.neighbor_statuses(now)),
                Request::Routes => Response::Routes(self.route_statuses()),
                Request::Director => Response::Director(self.director_status(now)),
                Request::Settings => Response::Settings(self.settings_status()),
                Request::Apply(command) => match self.apply_from(Origin::Request, &command) {
                    Ok(()) => {
                        self.pace.requested();
                        Response::Applied
                    }
                    Err(error) => Response::Refused(error),
                },
                Request::Edit(edit) => self.edit(&edit),
                Request::Revert => match self.revert() {
                    Ok(()) => Response::Applied,
                    Err(error) => Response::Refused(error),
                },
                Request::SetTunable { name, value } => self.set_tunable(&name, value),
                Request::SetTimeouts { tcp, tcp_fin, udp } => {
                    self.set_timeouts([tcp, tcp_fin, udp])
                }
                Request::StartCapture(request) => self.start_capture(&request, now),
                Request::ReadCapture { id } => self.read_capture(id, now),
                Request::StopCapture { id } => self.stop_capture(id, now),
            };
            // A client that has gone away misses nothing.
            let _ = reply.send(response);
        }
        busy
    }

    pub(super) fn service_statuses(&self) -> Vec<ServiceStatus> {
        self.services
            .iter()
            .map(|(key, service)| self.service_status(key, service))
            .collect()
    }

    fn one_service(&self, key: &ServiceKey) -> Vec<ServiceStatus> {
        let service = self.services.service(key);
        let status = service.map(|service| self.service_status(key, service));
        status.into_iter().collect()
    }

    fn service_status(&self, key: &ServiceKey, service: &Service) -> ServiceStatus {
        let totals = |index| totals(&self.workers, index);
        ServiceStatus {
            key: *key,
            options: service.options,
            servers: service
                .servers
                .iter()
                .filter_map(|&index| self.server_status(index))
                .collect(),
            statistics: self.services.statistics(service, &totals),
            rates: self.rates.of_service(key),
        }
    }

    fn server_status(&self, index: RealServerIndex) -> Option<ServerStatus> {
        let server = self.services.server(index)?;
        let load = self.state.loads.of(index);
        let (next_hop, path_mtu) = self.next_hop_status(server.key.address);
        Some(ServerStatus {
            key: server.key,
            options: server.options,
            active_connections: load.active(),
            inactive_connections: load.inactive(),
            templates: load.templates(),
            overloaded: load.is_overloaded(),
            next_hop,
            path_mtu,
            statistics: self
                .services
                .server_statistics(index, &|index| totals(&self.workers, index)),
            rates: self.rates.of_server(index, server.link),
        })
    }

    pub(super) fn next_hop_status(&self, address: IpAddr) -> (NextHopStatus, u16) {
        match self.network.next_hop(address) {
            NextHop::Local => (NextHopStatus::Local, 0),
            NextHop::Unreachable => (NextHopStatus::NoRoute, 0),
            NextHop::Neighbor {
                port, address, mtu, ..
            } => {
                let mac = self
                    .network
                    .neighbors
                    .mac(NeighborKey { port, ip: address });
                let port = self.port_name(port);
                let status = match mac {
                    Some(mac) => NextHopStatus::Resolved { port, address, mac },
                    None => NextHopStatus::Unresolved { port, address },
                };
                (status, mtu)
            }
        }
    }

    pub(super) fn counter_statuses(&self) -> Vec<CounterStatus> {
        let sum = |read: &dyn Fn(&WorkerCounters) -> u64| -> u64 {
            self.workers
                .iter()
                .map(|worker| read(&worker.counters))
                .sum()
        };
        let row = |name: &str, kind, count, help: &str| CounterStatus {
            name: name.to_owned(),
            kind,
            count,
            help: help.to_owned(),
        };
        let work = |rows: &[(&str, ReadCounter, &str)]| -> Vec<_> {
            rows.iter()
                .map(|(name, read, help)| {
                    let count = sum(&|counters| read(counters).value());
                    row(name, CounterKind::Other, count, help)
                })
                .collect()
        };
        let mut rows = work(WORK);
        rows.push(row(
            "templates",
            CounterKind::Other,
            self.state.templates.len() as u64,
            "persistence templates at present",
        ));
        rows.extend(work(TEMPLATE_WORK));
        for &reason in DropReason::ALL {
            let count = sum(&|counters| counters.drops(reason).value());
            rows.push(row(reason.name(), CounterKind::Drop, count, reason.help()));
        }
        for &reason in PuntReason::ALL {
            let count = sum(&|counters| counters.punts(reason).value());
            rows.push(row(reason.name(), CounterKind::Punt, count, reason.help()));
        }
        rows.extend(self.host.statuses());
        rows
    }

    fn worker_statuses(&self) -> Vec<WorkerStatus> {
        let connections_max = self.config.director.connections_max as u64;
        (0..)
            .zip(&self.workers)
            .map(|(index, worker)| worker_status(index, worker, connections_max, self.info.tsc_hz))
            .collect()
    }

    fn port_statuses(&self) -> Vec<PortStatus> {
        self.ports
            .iter()
            .zip(self.network.ports())
            .map(|(port, network)| {
                let description = port.description();
                let link = port.link();
                let burst_modes = port.burst_modes();
                PortStatus {
                    name: description.name.clone(),
                    device: description.device.clone(),
                    driver: description.driver.clone(),
                    mac: description.mac,
                    mtu: network.mtu,
                    vlan: network.vlan,
                    link_up: link.up,
                    speed_mbps: link.speed_mbps,
                    numa_node: description.numa_node,
                    rx_queues: description.rx_queues,
                    tx_queues: description.tx_queues,
                    workers: count(self.workers.len()),
                    capabilities: description.capabilities,
                    rx_burst_mode: burst_modes.receive,
                    tx_burst_mode: burst_modes.transmit,
                    statistics: port.statistics(),
                    addresses: network.addresses.clone(),
                }
            })
            .collect()
    }

    fn neighbor_statuses(&self, now: Ticks) -> Vec<NeighborStatus> {
        self.network
            .neighbors
            .iter()
            .map(|neighbor| NeighborStatus {
                port: self.port_name(neighbor.key.port),
                address: neighbor.key.ip,
                mac: neighbor.mac,
                state: neighbor.state.to_string(),
                age_ms: neighbor.confirmed.map(|confirmed| now.ms_since(confirmed)),
            })
            .collect()
    }

    fn route_statuses(&self) -> Vec<RouteStatus> {
        let connected: Vec<_> = self
            .network
            .ports()
            .iter()
            .flat_map(|port| &port.addresses)
            .map(IpNet::trunc)
            .collect();
        let v4 = self.network.routes().iter().map(|route| {
            let action = route.action.with_addresses(|address| Some(address.into()));
            (IpNet::V4(route.to), action)
        });
        let v6 = self.network.routes_v6().iter().map(|route| {
            let action = route.action.with_addresses(|address| Some(address.into()));
            (IpNet::V6(route.to), action)
        });
        let mut routes: Vec<_> = v4
            .chain(v6)
            .map(|(to, action)| {
                let status = RouteStatus {
                    to,
                    via: None,
                    port: None,
                    source: None,
                    mtu: None,
                    kind: RouteKind::Unreachable,
                };
                match action {
                    RouteAction::Forward {
                        port,
                        gateway,
                        source,
                        mtu,
                    } => RouteStatus {
                        via: gateway,
                        port: Some(self.port_name(port)),
                        source,
                        mtu,
                        kind: if gateway.is_none() && connected.contains(&to) {
                            RouteKind::Connected
                        } else {
                            RouteKind::Static
                        },
                        ..status
                    },
                    RouteAction::Unreachable => status,
                    RouteAction::Blackhole => RouteStatus {
                        kind: RouteKind::Blackhole,
                        ..status
                    },
                }
            })
            .collect();
        routes.sort_by_key(|route| {
            let to: IpNet = route.to;
            (to.addr().is_ipv6(), std::cmp::Reverse(to.prefix_len()))
        });
        routes
    }

    fn director_status(&self, now: Ticks) -> DirectorStatus {
        let generation = self.state.generation;
        let live = self
            .workers
            .iter()
            .filter(|worker| worker.counters.generation.value() == generation)
            .count();
        DirectorStatus {
            version: self.info.version.clone(),
            pid: std::process::id(),
            uptime_ms: now.as_ms(),
            config_file: self.info.config_file.clone(),
            generation,
            workers: count(self.workers.len()),
            workers_live: count(live),
            services: count(self.services.iter().count()),
            connections: self
                .workers
                .iter()
                .map(|w| w.counters.connections.value())
                .sum(),
            timeouts: self.services.timeouts,
            tunables: self.services.tunables,
            state_file: self.state_file_status(),
            tables: self.table_statuses(),
        }
    }

    fn table_statuses(&self) -> Vec<TableStatus> {
        let servers = self.services.servers().iter();
        let servers = servers.filter(|server| server.presence != Presence::Free);
        let row = |name: &str, used: usize, max: usize| TableStatus {
            name: name.to_owned(),
            used: used as u64,
            max: max as u64,
        };
        let templates_max = usize::try_from(self.config.director.templates_max);
        vec![
            row("services", self.services.iter().count(), SERVICES_MAX),
            row("servers", servers.count(), SERVERS_MAX),
            row(
                "templates",
                self.state.templates.len(),
                templates_max.unwrap_or(usize::MAX),
            ),
        ]
    }

    pub(super) fn port_name(&self, index: PortIndex) -> String {
        self.network
            .port(index)
            .map(|port| port.name.clone())
            .unwrap_or_default()
    }
}

fn worker_status<P>(
    index: u32,
    worker: &WorkerHandle<P>,
    connections_max: u64,
    tsc_hz: u64,
) -> WorkerStatus {
    let counters = &worker.counters;
    let sum = |values: &mut dyn Iterator<Item = u64>| values.sum();
    let (rx_packets, taken_over) = (counters.rx_packets.value(), counters.taken_over.value());
    let packets = rx_packets + taken_over;
    WorkerStatus {
        index,
        core: count(worker.core),
        generation: counters.generation.value(),
        bursts: counters.bursts.value(),
        packets,
        packets_per_burst: ratio(packets, counters.bursts.value()),
        busy_share: worker.load.share,
        busy_cycles: counters.busy_cycles.value(),
        total_cycles: counters.total_cycles.value(),
        cycles_per_packet: ratio(counters.busy_cycles.value(), packets),
        tsc_hz,
        connections: counters.connections.value(),
        connections_max,
        rx_packets,
        handed_over: counters.handed_over.value(),
        taken_over,
        tx_handed_over: counters.tx_handed_over.value(),
        tx_packets: counters.tx_packets.value(),
        forwarded: counters.forwarded.value(),
        punted: sum(&mut PuntReason::ALL
            .iter()
            .map(|&reason| counters.punts(reason).value())),
        dropped: sum(&mut DropReason::ALL
            .iter()
            .map(|&reason| counters.drops(reason).value())),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

type ReadCounter = fn(&WorkerCounters) -> &Counter;

/// What workers count of their work: name, counter, meaning.
const WORK: &[(&str, ReadCounter, &str)] = &[
    ("rx_packets", |c| &c.rx_packets, "packets received"),
    ("forwarded", |c| &c.forwarded, "packets sent into a tunnel"),
    (
        "tx_packets",
        |c| &c.tx_packets,
        "frames that ports accepted",
    ),
    (
        "tx_refused",
        |c| &c.tx_refused,
        "frames that ports did not take, the director's own and fragments included",
    ),
    (
        "fragments",
        |c| &c.fragments,
        "fragments of clients' packets received",
    ),
    (
        "fragments_held",
        |c| &c.fragments_held,
        "fragments that waited for the first of their datagram",
    ),
    (
        "handed_over",
        |c| &c.handed_over,
        "packets, and answers about them, that one worker gave to another",
    ),
    (
        "taken_over",
        |c| &c.taken_over,
        "packets that one worker received and another one forwarded",
    ),
    (
        "tx_handed_over",
        |c| &c.tx_handed_over,
        "frames that one worker finished and another one sent",
    ),
    ("connections", |c| &c.connections, "connections at present"),
    (
        "connections_opened",
        |c| &c.connections_opened,
        "connections opened",
    ),
    (
        "connections_expired",
        |c| &c.connections_expired,
        "connections that timed out",
    ),
    (
        "connections_evicted",
        |c| &c.connections_evicted,
        "connections that gave way to new ones in a full table",
    ),
    (
        "untracked",
        |c| &c.untracked,
        "packets forwarded by hash alone, as there was no room for their connection",
    ),
];

/// What workers count of persistence templates.
const TEMPLATE_WORK: &[(&str, ReadCounter, &str)] = &[
    (
        "templates_evicted",
        |c| &c.templates_evicted,
        "persistence templates that ended early to make room",
    ),
    (
        "templates_full",
        |c| &c.templates_full,
        "connections of persistent services opened without a template for want of room",
    ),
];
