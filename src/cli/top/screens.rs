//! What each screen has rows of, and what they say.
#![forbid(unsafe_code)]

use hashbrown::HashMap;

use super::{
    grid::{Cell, Column, Grid, Row, Tone, left, right},
    sample::{Pair, float, rate_text},
};
use crate::{
    cli::{
        format::{bytes, count, duration},
        show::services::{bracketed, forward, server_state},
    },
    control::status::{
        CounterStatus, NextHopStatus, PortStatus, ServerStatus, ServiceStatus, Statistics,
        WorkerStatus,
    },
    ipvsadm::listing::scheduler,
    service::{ServerKey, ServiceKey},
};

/// A table of one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Screen {
    /// Virtual services
    Services,
    /// Real servers of all services
    Servers,
    /// Worker threads
    Workers,
    /// NIC ports
    Ports,
    /// Why packets were dropped or handed to the management thread, and other events
    Counters,
    /// The neighbor (ARP) table
    Neighbors,
}

impl Screen {
    pub(super) const ALL: [Self; 6] = [
        Self::Services,
        Self::Servers,
        Self::Workers,
        Self::Ports,
        Self::Counters,
        Self::Neighbors,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Servers => "Servers",
            Self::Workers => "Workers",
            Self::Ports => "Ports",
            Self::Counters => "Counters",
            Self::Neighbors => "Neighbors",
        }
    }

    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Services => SERVICES,
            Self::Servers => SERVERS,
            Self::Workers => WORKERS,
            Self::Ports => PORTS,
            Self::Counters => COUNTERS,
            Self::Neighbors => NEIGHBORS,
        }
    }
}

/// What narrows a screen down.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    /// Servers of this service alone.
    pub(super) service: Option<ServiceKey>,
    /// Also counters that are 0.
    pub(super) zeros: bool,
}

/// The rows of a screen, in the director's order.
pub(super) fn grid(screen: Screen, pair: &Pair<'_>, scope: Scope) -> Grid {
    let rows = match screen {
        Screen::Services => services(pair),
        Screen::Servers => servers(pair, scope.service),
        Screen::Workers => workers(pair),
        Screen::Ports => ports(pair),
        Screen::Counters => counters(pair, scope.zeros),
        Screen::Neighbors => neighbors(pair),
    };
    let of_one_service = screen == Screen::Servers && scope.service.is_some();
    Grid {
        columns: screen.columns(),
        hidden: of_one_service.then_some(SERVICE_OF_SERVER),
        rows,
    }
}

/// The service that a row of [`Screen::Services`] stands for.
pub(super) fn service_of(pair: &Pair<'_>, id: &str) -> Option<ServiceKey> {
    let mut keys = pair.new.services.iter().map(|service| service.key);
    keys.find(|key| key.to_string() == id)
}

const SERVICES: &[Column] = &[
    left("Service", 16, 0),
    left("Scheduler", 9, 3),
    right("Servers", 7, 2),
    right("Active", 6, 0),
    right("InAct", 5, 1),
    right("Conn/s", 6, 0),
    right("Pkt/s", 5, 0),
    right("bit/s", 5, 1),
    right("Conns", 7, 5),
    right("Packets", 7, 6),
    right("Bytes", 8, 7),
];

const SERVERS: &[Column] = &[
    left("Server", 14, 0),
    left("Service", 16, 2),
    right("Weight", 6, 1),
    right("Active", 6, 0),
    right("InAct", 5, 3),
    right("Conn/s", 6, 1),
    right("Pkt/s", 5, 0),
    right("bit/s", 5, 3),
    left("State", 4, 0),
    left("Forward", 7, 4),
    right("MTU", 4, 5),
    right("Conns", 7, 6),
    right("Bytes", 8, 7),
];

/// Index of the column of [`SERVERS`] that names the service.
const SERVICE_OF_SERVER: usize = 1;

const WORKERS: &[Column] = &[
    right("Worker", 6, 0),
    right("Core", 4, 1),
    right("Busy", 6, 0),
    right("Rx/s", 5, 0),
    right("Tunnelled/s", 11, 0),
    right("Drop/s", 6, 0),
    right("Punt/s", 6, 2),
    right("Pkt/burst", 9, 3),
    right("Conns", 7, 1),
    right("Table", 6, 2),
    right("Handed/s", 8, 4),
    right("Cycles/pkt", 10, 5),
    right("Generation", 10, 6),
];

const PORTS: &[Column] = &[
    left("Port", 6, 0),
    left("Link", 7, 0),
    right("Rx pkt/s", 8, 0),
    right("Rx bit/s", 8, 1),
    right("Missed/s", 8, 1),
    right("Tx pkt/s", 8, 0),
    right("Tx bit/s", 8, 1),
    right("Errors/s", 8, 2),
    left("Device", 8, 3),
];

const COUNTERS: &[Column] = &[
    left("Kind", 5, 1),
    left("Name", 16, 0),
    right("Per s", 5, 0),
    right("Count", 7, 0),
    left("Meaning", 8, 2),
];

const NEIGHBORS: &[Column] = &[
    left("Address", 15, 0),
    left("Port", 6, 1),
    left("MAC", 17, 0),
    left("State", 10, 0),
    right("Confirmed ago", 13, 2),
];

fn services(pair: &Pair<'_>) -> Vec<Row> {
    let old: HashMap<_, _> = pair
        .old
        .iter()
        .flat_map(|old| &old.services)
        .map(|service| (service.key, service.statistics))
        .collect();
    let row = |service: &ServiceStatus| {
        let usable = service.servers.iter().filter(|s| is_usable(s)).count();
        let of_servers = |read: fn(&ServerStatus) -> u32| {
            let sum: u64 = service.servers.iter().map(|s| u64::from(read(s))).sum();
            counted(sum)
        };
        let mut cells = vec![
            Cell::text(service.key.to_string()),
            Cell::text(scheduler(service.options)),
            Cell::number(
                format!("{usable}/{}", service.servers.len()),
                float(usable as u64),
            ),
            of_servers(|server| server.active_connections),
            of_servers(|server| server.inactive_connections),
        ];
        cells.extend(rates(pair, old.get(&service.key), &service.statistics));
        cells.extend(totals(&service.statistics));
        Row {
            id: service.key.to_string(),
            cells,
            tone: if usable == 0 {
                Tone::Alarm
            } else {
                Tone::Plain
            },
        }
    };
    pair.new.services.iter().map(row).collect()
}

fn servers(pair: &Pair<'_>, of: Option<ServiceKey>) -> Vec<Row> {
    let wanted = |service: &&ServiceStatus| of.is_none_or(|key| service.key == key);
    let old: HashMap<_, _> = pair
        .old
        .iter()
        .flat_map(|old| &old.services)
        .filter(wanted)
        .flat_map(|service| service.servers.iter().map(|s| ((service.key, s.key), s)))
        .collect();
    let row = |service: &ServiceStatus, server: &ServerStatus| {
        let before = old.get(&(service.key, server.key));
        let mut cells = vec![
            Cell::text(bracketed(server.key.address)),
            Cell::text(service.key.to_string()),
            counted(server.options.weight.into()),
            counted(server.active_connections.into()),
            counted(server.inactive_connections.into()),
        ];
        cells.extend(rates(
            pair,
            before.map(|s| &s.statistics),
            &server.statistics,
        ));
        let [conns, _, size] = totals(&server.statistics);
        cells.extend([
            Cell::text(server_state(server)),
            Cell::text(forward(server.options.tunnel)),
            counted(server.path_mtu.into()),
            conns,
            size,
        ]);
        Row {
            id: server_id(&service.key, &server.key),
            cells,
            tone: match server.next_hop {
                NextHopStatus::Resolved { .. } if server.options.weight == 0 => Tone::Dim,
                NextHopStatus::Resolved { .. } if !server.overloaded => Tone::Plain,
                _ => Tone::Alarm,
            },
        }
    };
    pair.new
        .services
        .iter()
        .filter(wanted)
        .flat_map(|service| service.servers.iter().map(move |s| (service, s)))
        .map(|(service, server)| row(service, server))
        .collect()
}

/// Whether new connections can go to it.
fn is_usable(server: &ServerStatus) -> bool {
    matches!(server.next_hop, NextHopStatus::Resolved { .. })
        && server.options.weight > 0
        && !server.overloaded
}

pub(super) fn server_id(service: &ServiceKey, server: &ServerKey) -> String {
    format!("{service} -> {}", server.address)
}

fn rates(pair: &Pair<'_>, old: Option<&Statistics>, new: &Statistics) -> [Cell; 3] {
    [
        paced(pair.rate(old.map(|old| old.connections), new.connections)),
        paced(pair.rate(old.map(|old| old.in_packets), new.in_packets)),
        bits(pair.rate(old.map(|old| old.in_bytes), new.in_bytes)),
    ]
}

fn totals(statistics: &Statistics) -> [Cell; 3] {
    [
        counted(statistics.connections),
        counted(statistics.in_packets),
        Cell::number(bytes(statistics.in_bytes), float(statistics.in_bytes)),
    ]
}

fn workers(pair: &Pair<'_>) -> Vec<Row> {
    let row = |worker: &WorkerStatus| {
        let old = pair.old.and_then(|old| {
            let mut workers = old.workers.iter();
            workers.find(|before| before.index == worker.index)
        });
        let rate = |read: fn(&WorkerStatus) -> u64| pair.rate(old.map(read), read(worker));
        let (packets, bursts) = (rate(|w| w.packets), rate(|w| w.bursts));
        let per_burst = match (packets, bursts) {
            (Some(packets), Some(bursts)) if bursts > 0.0 => packets / bursts,
            _ => 0.0,
        };
        let fill = 100.0 * float(worker.connections) / float(worker.connections_max.max(1));
        Row {
            id: worker.index.to_string(),
            cells: vec![
                counted(worker.index.into()),
                counted(worker.core.into()),
                percent(worker.busy_share * 100.0),
                paced(rate(|w| w.rx_packets)),
                paced(rate(|w| w.forwarded)),
                paced(rate(|w| w.dropped)),
                paced(rate(|w| w.punted)),
                Cell::number(format!("{per_burst:.1}"), per_burst),
                counted(worker.connections),
                percent(fill),
                paced(rate(|w| w.handed_over + w.tx_handed_over)),
                Cell::number(
                    format!("{:.0}", worker.cycles_per_packet),
                    worker.cycles_per_packet,
                ),
                counted(worker.generation),
            ],
            tone: if worker.busy_share > BUSY_SHARE_ALARM || fill > FILL_ALARM {
                Tone::Alarm
            } else {
                Tone::Plain
            },
        }
    };
    pair.new.workers.iter().map(row).collect()
}

/// A worker that is busier than this has little left for a burst of packets.
pub(super) const BUSY_SHARE_ALARM: f64 = 0.9;
/// A table that is fuller than this, in percent, soon evicts connections.
const FILL_ALARM: f64 = 90.0;

fn ports(pair: &Pair<'_>) -> Vec<Row> {
    let row = |port: &PortStatus| {
        let old = pair.old.and_then(|old| {
            let mut ports = old.ports.iter();
            ports.find(|before| before.name == port.name)
        });
        let rate = |read: fn(&PortStatus) -> u64| pair.rate(old.map(read), read(port));
        let errors = rate(|port| {
            let of = &port.statistics;
            of.rx_errors + of.rx_no_buffer + of.tx_errors
        });
        let missed = rate(|port| port.statistics.rx_missed);
        Row {
            id: port.name.clone(),
            cells: vec![
                Cell::text(port.name.clone()),
                Cell::text(link(port)),
                paced(rate(|port| port.statistics.rx_packets)),
                bits(rate(|port| port.statistics.rx_bytes)),
                paced(missed),
                paced(rate(|port| port.statistics.tx_packets)),
                bits(rate(|port| port.statistics.tx_bytes)),
                paced(errors),
                Cell::text(port.device.clone()),
            ],
            tone: if !port.link_up || missed > Some(0.0) || errors > Some(0.0) {
                Tone::Alarm
            } else {
                Tone::Plain
            },
        }
    };
    pair.new.ports.iter().map(row).collect()
}

pub(super) fn link(port: &PortStatus) -> String {
    match (port.link_up, port.speed_mbps) {
        (false, _) => "down".to_owned(),
        (true, 0) => "up".to_owned(),
        (true, mbps) if mbps % 1000 == 0 => format!("up {}G", mbps / 1000),
        (true, mbps) => format!("up {mbps}M"),
    }
}

fn counters(pair: &Pair<'_>, zeros: bool) -> Vec<Row> {
    let old: HashMap<_, _> = pair
        .old
        .iter()
        .flat_map(|old| &old.counters)
        .map(|counter| (counter.name.as_str(), counter.count))
        .collect();
    let row = |counter: &CounterStatus| {
        let before = old.get(counter.name.as_str()).copied();
        let rate = pair
            .rate(before, counter.count)
            .filter(|_| !GAUGES.contains(&counter.name.as_str()));
        Row {
            id: counter.name.clone(),
            cells: vec![
                Cell::text(counter.kind.name()),
                Cell::text(counter.name.clone()),
                paced(rate),
                counted(counter.count),
                Cell::text(counter.help.clone()),
            ],
            tone: if rate == Some(0.0) {
                Tone::Dim
            } else {
                Tone::Plain
            },
        }
    };
    let shown = |counter: &&CounterStatus| zeros || counter.count > 0;
    let mut counters: Vec<_> = pair.new.counters.iter().filter(shown).collect();
    // Drops are what one looks for.
    counters.sort_by_key(|counter| counter.kind);
    counters.into_iter().map(row).collect()
}

/// Among the counters, what goes up and down, and has no rate.
pub(super) const GAUGES: [&str; 2] = ["connections", "templates"];

fn neighbors(pair: &Pair<'_>) -> Vec<Row> {
    let rows = pair.new.neighbors.iter().map(|neighbor| Row {
        id: format!("{} {}", neighbor.port, neighbor.address),
        cells: vec![
            Cell::text(neighbor.address.to_string()),
            Cell::text(neighbor.port.clone()),
            Cell::text(
                neighbor
                    .mac
                    .map_or_else(|| "-".to_owned(), |mac| mac.to_string()),
            ),
            Cell::text(neighbor.state.clone()),
            match neighbor.age_ms {
                Some(ms) => Cell::number(duration(ms), float(ms)),
                None => Cell::number("never", f64::INFINITY),
            },
        ],
        tone: match neighbor.state.as_str() {
            "FAILED" | "INCOMPLETE" => Tone::Alarm,
            _ => Tone::Plain,
        },
    });
    rows.collect()
}

fn counted(value: u64) -> Cell {
    Cell::number(count(value), float(value))
}

fn paced(rate: Option<f64>) -> Cell {
    Cell::number(rate_text(rate), rate.unwrap_or(-1.0))
}

/// From bytes a second.
fn bits(rate: Option<f64>) -> Cell {
    paced(rate.map(|bytes| bytes * 8.0))
}

fn percent(value: f64) -> Cell {
    Cell::number(format!("{value:.1}%"), value)
}
