//! Everything about one row of a screen.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::{
    sample::{Pair, rate_text},
    screens::{GAUGES, Screen, link, server_id},
};
use crate::{
    cli::{format::bytes, show::services::server_state},
    control::status::{
        CounterStatus, NextHopStatus, PortStatus, ServerStatus, ServiceStatus, WorkerStatus,
    },
    ipvsadm::listing::scheduler,
};

/// Everything about one row, as labels and values.
pub(super) fn detail(screen: Screen, pair: &Pair<'_>, id: &str) -> Option<Vec<Line>> {
    let new = pair.new;
    match screen {
        // Their detail is the list of their servers.
        Screen::Services | Screen::Neighbors => None,
        Screen::Servers => new.services.iter().find_map(|service| {
            let mut servers = service.servers.iter();
            let server = servers.find(|server| server_id(&service.key, &server.key) == id)?;
            Some(server_detail(service, server))
        }),
        Screen::Workers => {
            let worker = new.workers.iter().find(|w| w.index.to_string() == id)?;
            Some(worker_detail(worker))
        }
        Screen::Ports => Some(port_detail(new.ports.iter().find(|port| port.name == id)?)),
        Screen::Counters => {
            let counter = new.counters.iter().find(|counter| counter.name == id)?;
            Some(counter_detail(counter, pair))
        }
    }
}

/// A label and its value.
pub(super) type Line = (&'static str, String);

fn server_detail(service: &ServiceStatus, server: &ServerStatus) -> Vec<Line> {
    let options = &server.options;
    let limit = |threshold: u32| match threshold {
        0 => "none".to_owned(),
        threshold => format!("{threshold} connections"),
    };
    let statistics = &server.statistics;
    vec![
        ("server", server.key.address.to_string()),
        ("service", service.key.to_string()),
        ("scheduler", scheduler(service.options)),
        ("state", server_state(server)),
        ("weight", options.weight.to_string()),
        ("upper threshold", limit(options.upper_threshold)),
        ("lower threshold", limit(options.lower_threshold)),
        ("tunnel", options.tunnel.to_string()),
        ("next hop", next_hop(&server.next_hop)),
        ("path MTU", format!("{} bytes", server.path_mtu)),
        ("active", server.active_connections.to_string()),
        ("inactive", server.inactive_connections.to_string()),
        ("templates", server.templates.to_string()),
        ("connections", statistics.connections.to_string()),
        ("packets", statistics.in_packets.to_string()),
        ("bytes", bytes(statistics.in_bytes)),
    ]
}

fn next_hop(next_hop: &NextHopStatus) -> String {
    let at = |port: &str, address: &IpAddr| format!("{address} by port {port}");
    match next_hop {
        NextHopStatus::Resolved { port, address, mac } => {
            format!("{}, MAC {mac}", at(port, address))
        }
        NextHopStatus::Unresolved { port, address } => {
            format!("{}, which does not answer", at(port, address))
        }
        NextHopStatus::NoRoute => "no route leads there".to_owned(),
        NextHopStatus::Local => "an address of the director itself".to_owned(),
    }
}

fn worker_detail(worker: &WorkerStatus) -> Vec<Line> {
    vec![
        ("worker", worker.index.to_string()),
        ("core", worker.core.to_string()),
        ("generation", worker.generation.to_string()),
        ("busy", format!("{:.1}%", worker.busy_share * 100.0)),
        (
            "packets per burst",
            format!("{:.1} since the start", worker.packets_per_burst),
        ),
        (
            "cycles per packet",
            format!("{:.0} since the start", worker.cycles_per_packet),
        ),
        (
            "connections",
            format!("{} of {}", worker.connections, worker.connections_max),
        ),
        ("received", worker.rx_packets.to_string()),
        ("tunnelled", worker.forwarded.to_string()),
        ("sent", worker.tx_packets.to_string()),
        ("dropped", worker.dropped.to_string()),
        ("punted", worker.punted.to_string()),
        ("handed over", worker.handed_over.to_string()),
        ("taken over", worker.taken_over.to_string()),
        ("sent by others", worker.tx_handed_over.to_string()),
    ]
}

fn port_detail(port: &PortStatus) -> Vec<Line> {
    let statistics = &port.statistics;
    let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
    let or_unknown = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "unknown".to_owned());
    vec![
        ("port", port.name.clone()),
        ("device", format!("{} ({})", port.device, port.driver)),
        ("link", link(port)),
        ("MAC", port.mac.to_string()),
        ("MTU", format!("{} bytes", port.mtu)),
        (
            "VLAN",
            port.vlan
                .map_or_else(|| "untagged".to_owned(), |vlan| vlan.to_string()),
        ),
        ("addresses", addresses.join(", ")),
        (
            "queues",
            format!(
                "{} receive and {} transmit for {} workers",
                port.rx_queues, port.tx_queues, port.workers
            ),
        ),
        ("receive mode", or_unknown(&port.rx_burst_mode)),
        ("transmit mode", or_unknown(&port.tx_burst_mode)),
        ("received", statistics.rx_packets.to_string()),
        ("received bytes", bytes(statistics.rx_bytes)),
        ("missed", statistics.rx_missed.to_string()),
        ("receive errors", statistics.rx_errors.to_string()),
        ("without buffer", statistics.rx_no_buffer.to_string()),
        ("sent", statistics.tx_packets.to_string()),
        ("sent bytes", bytes(statistics.tx_bytes)),
        ("transmit errors", statistics.tx_errors.to_string()),
    ]
}

fn counter_detail(counter: &CounterStatus, pair: &Pair<'_>) -> Vec<Line> {
    let is_gauge = GAUGES.contains(&counter.name.as_str());
    let rate = pair.counter_rate(&counter.name).filter(|_| !is_gauge);
    vec![
        ("counter", counter.name.clone()),
        ("kind", counter.kind.name().to_owned()),
        ("count", counter.count.to_string()),
        ("per second", rate_text(rate)),
        ("meaning", counter.help.clone()),
    ]
}
