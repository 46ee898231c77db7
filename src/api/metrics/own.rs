//! The metrics that are our own.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    Facts, ServiceLabels,
    text::{Kind, Text},
};
use crate::{
    control::status::{
        CounterKind, DirectorStatus, NextHopStatus, PortStatus, ServerStatus, WorkerStatus,
    },
    version::LONG_VERSION,
};

pub(super) fn write(facts: &Facts, text: &mut Text) {
    write_director(&facts.director, text);
    write_counters(facts, text);
    write_workers(&facts.workers, text);
    write_ports(&facts.ports, text);
    write_neighbors(facts, text);
    write_servers(facts, text);
}

fn write_director(director: &DirectorStatus, text: &mut Text) {
    let build = [
        ("version", director.version.as_str()),
        ("details", LONG_VERSION),
    ];
    text.metric(
        "pointsman_build_info",
        Kind::Gauge,
        "What the director was built from; always 1.",
    )
    .add(&build, 1);
    let mut gauge = |name, help, value: f64| text.metric(name, Kind::Gauge, help).add(&[], value);
    gauge(
        "pointsman_uptime_seconds",
        "Time since the director started.",
        float(director.uptime_ms) / 1000.0,
    );
    gauge(
        "pointsman_generation",
        "Number of the newest forwarding state.",
        float(director.generation),
    );
    gauge(
        "pointsman_workers",
        "How many workers there are.",
        director.workers.into(),
    );
    gauge(
        "pointsman_workers_live",
        "How many workers work with the newest forwarding state.",
        director.workers_live.into(),
    );
    let entries = "Entries of the tables that all workers share.";
    let mut samples = text.metric("pointsman_table_entries", Kind::Gauge, entries);
    for table in &director.tables {
        samples.add(&[("table", &table.name)], table.used);
    }
    let max = "Entries that fit into the tables that all workers share.";
    let mut samples = text.metric("pointsman_table_entries_max", Kind::Gauge, max);
    for table in &director.tables {
        samples.add(&[("table", &table.name)], table.max);
    }
    let Some(file) = &director.state_file else {
        return;
    };
    let saves = "How often services and settings were saved.";
    text.metric("pointsman_state_file_saves_total", Kind::Counter, saves)
        .add(&[], file.saves);
    let errors = "How often services and settings could not be saved.";
    text.metric("pointsman_state_file_errors_total", Kind::Counter, errors)
        .add(&[], file.errors);
    let help = "Whether the state file has all services and settings.";
    text.metric("pointsman_state_file_saved", Kind::Gauge, help)
        .add(&[], u8::from(file.is_saved));
}

/// The rows of `docs/counters.md`.
fn write_counters(facts: &Facts, text: &mut Text) {
    let of_kind = |kind| facts.counters.iter().filter(move |row| row.kind == kind);
    for (name, help, kind) in [
        (
            "pointsman_drops_total",
            "Packets dropped, by reason.",
            CounterKind::Drop,
        ),
        (
            "pointsman_punts_total",
            "Packets handed to the management thread, by reason.",
            CounterKind::Punt,
        ),
    ] {
        let mut samples = text.metric(name, Kind::Counter, help);
        for row in of_kind(kind) {
            samples.add(&[("reason", &row.name)], row.count);
        }
    }
    let counters = of_kind(CounterKind::Other).filter(|row| !GAUGES.contains(&row.name.as_str()));
    for row in counters {
        let help = format!("What was counted: {}.", row.help);
        text.metric(
            &format!("pointsman_{}_total", row.name),
            Kind::Counter,
            &help,
        )
        .add(&[], row.count);
    }
}

fn write_workers(workers: &[WorkerStatus], text: &mut Text) {
    for (name, kind, help, read) in WORKERS {
        let mut samples = text.metric(name, *kind, help);
        for worker in workers {
            let (index, core) = (worker.index.to_string(), worker.core.to_string());
            samples.add(&[("worker", &index), ("core", &core)], read(worker));
        }
    }
}

fn write_ports(ports: &[PortStatus], text: &mut Text) {
    let help = "What the port is; always 1.";
    let mut samples = text.metric("pointsman_port_info", Kind::Gauge, help);
    for port in ports {
        let mac = port.mac.to_string();
        let labels = [
            ("port", port.name.as_str()),
            ("device", &port.device),
            ("driver", &port.driver),
            ("mac", &mac),
        ];
        samples.add(&labels, 1);
    }
    for (name, kind, help, read) in PORTS {
        let mut samples = text.metric(name, *kind, help);
        for port in ports {
            samples.add(&[("port", &port.name)], read(port));
        }
    }
}

fn write_neighbors(facts: &Facts, text: &mut Text) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for neighbor in &facts.neighbors {
        *counts.entry((&neighbor.port, &neighbor.state)).or_default() += 1;
    }
    let help = "Neighbors by port and state, as `ip neigh` names states.";
    let mut samples = text.metric("pointsman_neighbors", Kind::Gauge, help);
    for ((port, state), count) in counts {
        samples.add(&[("port", port), ("state", state)], count);
    }
}

fn write_servers(facts: &Facts, text: &mut Text) {
    for (name, kind, help, read) in SERVERS {
        let mut samples = text.metric(name, *kind, help);
        for service in &facts.services {
            let labels = ServiceLabels::of(&service.key);
            for server in &service.servers {
                let rip = server.key.to_string();
                samples.add(&labels.with(&rip), read(server));
            }
        }
    }
}

type Row<T, V> = (&'static str, Kind, &'static str, fn(&T) -> V);

const WORKERS: &[Row<WorkerStatus, f64>] = &[
    (
        "pointsman_worker_received_packets_total",
        Kind::Counter,
        "Packets received from ports.",
        |it| float(it.rx_packets),
    ),
    (
        "pointsman_worker_forwarded_packets_total",
        Kind::Counter,
        "Packets sent into a tunnel.",
        |it| float(it.forwarded),
    ),
    (
        "pointsman_worker_punted_packets_total",
        Kind::Counter,
        "Packets handed to the management thread.",
        |it| float(it.punted),
    ),
    (
        "pointsman_worker_dropped_packets_total",
        Kind::Counter,
        "Packets dropped, for whatever reason.",
        |it| float(it.dropped),
    ),
    (
        "pointsman_worker_transmitted_packets_total",
        Kind::Counter,
        "Frames that ports accepted.",
        |it| float(it.tx_packets),
    ),
    (
        "pointsman_worker_bursts_total",
        Kind::Counter,
        "Bursts that held a packet.",
        |it| float(it.bursts),
    ),
    (
        "pointsman_worker_busy_seconds_total",
        Kind::Counter,
        "Time spent on packets.",
        |it| seconds(it.busy_cycles, it.tsc_hz),
    ),
    (
        "pointsman_worker_seconds_total",
        Kind::Counter,
        "Time spent in all, pauses included.",
        |it| seconds(it.total_cycles, it.tsc_hz),
    ),
    (
        "pointsman_worker_busy_ratio",
        Kind::Gauge,
        "Share of the last second or so spent on packets.",
        |it| it.busy_share,
    ),
    (
        "pointsman_worker_generation",
        Kind::Gauge,
        "Number of the forwarding state in use.",
        |it| float(it.generation),
    ),
    (
        "pointsman_worker_connections",
        Kind::Gauge,
        "Connections in the worker's table.",
        |it| float(it.connections),
    ),
    (
        "pointsman_worker_connections_max",
        Kind::Gauge,
        "Connections over IPv4 that fit into the worker's table.",
        |it| float(it.connections_max),
    ),
];

const PORTS: &[Row<PortStatus, u64>] = &[
    (
        "pointsman_port_link_up",
        Kind::Gauge,
        "Whether frames can be sent and received.",
        |it| it.link_up.into(),
    ),
    (
        "pointsman_port_speed_bytes",
        Kind::Gauge,
        "Speed of the link in bytes a second; 0 when unknown.",
        |it| u64::from(it.speed_mbps) * 125_000,
    ),
    (
        "pointsman_port_mtu_bytes",
        Kind::Gauge,
        "Largest IP packet.",
        |it| it.mtu.into(),
    ),
    (
        "pointsman_port_received_packets_total",
        Kind::Counter,
        "Frames received.",
        |it| it.statistics.rx_packets,
    ),
    (
        "pointsman_port_received_bytes_total",
        Kind::Counter,
        "Bytes of frames received.",
        |it| it.statistics.rx_bytes,
    ),
    (
        "pointsman_port_missed_packets_total",
        Kind::Counter,
        "Frames that the NIC dropped as no receive descriptor was free.",
        |it| it.statistics.rx_missed,
    ),
    (
        "pointsman_port_receive_errors_total",
        Kind::Counter,
        "Frames received with errors.",
        |it| it.statistics.rx_errors,
    ),
    (
        "pointsman_port_no_buffer_total",
        Kind::Counter,
        "Frames for which no packet buffer was free.",
        |it| it.statistics.rx_no_buffer,
    ),
    (
        "pointsman_port_transmitted_packets_total",
        Kind::Counter,
        "Frames sent.",
        |it| it.statistics.tx_packets,
    ),
    (
        "pointsman_port_transmitted_bytes_total",
        Kind::Counter,
        "Bytes of frames sent.",
        |it| it.statistics.tx_bytes,
    ),
    (
        "pointsman_port_transmit_errors_total",
        Kind::Counter,
        "Frames that could not be sent.",
        |it| it.statistics.tx_errors,
    ),
];

const SERVERS: &[Row<ServerStatus, u64>] = &[
    (
        "pointsman_server_connections_total",
        Kind::Counter,
        "Connections opened to a real server.",
        |it| it.statistics.connections,
    ),
    (
        "pointsman_server_incoming_packets_total",
        Kind::Counter,
        "Packets sent to a real server.",
        |it| it.statistics.in_packets,
    ),
    (
        "pointsman_server_incoming_bytes_total",
        Kind::Counter,
        "Bytes of packets sent to a real server, without outer headers.",
        |it| it.statistics.in_bytes,
    ),
    (
        "pointsman_server_overloaded",
        Kind::Gauge,
        "Whether the upper threshold keeps new connections away.",
        |it| it.overloaded.into(),
    ),
    (
        "pointsman_server_reachable",
        Kind::Gauge,
        "Whether the next hop to a real server is known.",
        |it| matches!(it.next_hop, NextHopStatus::Resolved { .. }).into(),
    ),
];

/// Rows of `show counters` that are no counters; they are metrics of tables.
const GAUGES: [&str; 2] = ["connections", "templates"];

fn seconds(cycles: u64, hz: u64) -> f64 {
    if hz == 0 {
        0.0
    } else {
        float(cycles) / float(hz)
    }
}

/// Prometheus' numbers are doubles: beyond 2^53 they lose their last digits.
#[expect(clippy::cast_precision_loss, reason = "as Prometheus does")]
const fn float(value: u64) -> f64 {
    value as f64
}
