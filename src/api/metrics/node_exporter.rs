//! The metrics of `node_exporter`'s IPVS collector, by its names.
#![forbid(unsafe_code)]

use super::{
    Facts, ServiceLabels,
    text::{Kind, Text},
};
use crate::control::status::{ServerStatus, Statistics};

pub(super) fn write(facts: &Facts, text: &mut Text) {
    for (name, help, read) in TOTALS {
        text.metric(name, Kind::Counter, help)
            .add(&[], read(&facts.total));
    }
    for (name, help, read) in BACKENDS {
        let mut samples = text.metric(name, Kind::Gauge, help);
        for service in &facts.services {
            let labels = ServiceLabels::of(&service.key);
            for server in &service.servers {
                let rip = server.key.to_string();
                samples.add(&labels.with(&rip), read(server));
            }
        }
    }
}

type Row<T, V> = (&'static str, &'static str, fn(&T) -> V);

/// Of all services, deleted ones included.
const TOTALS: &[Row<Statistics, u64>] = &[
    (
        "node_ipvs_connections_total",
        "The total number of connections made.",
        |it| it.connections,
    ),
    (
        "node_ipvs_incoming_packets_total",
        "The total number of incoming packets.",
        |it| it.in_packets,
    ),
    (
        "node_ipvs_outgoing_packets_total",
        "The total number of outgoing packets.",
        |it| it.out_packets,
    ),
    (
        "node_ipvs_incoming_bytes_total",
        "The total amount of incoming data.",
        |it| it.in_bytes,
    ),
    (
        "node_ipvs_outgoing_bytes_total",
        "The total amount of outgoing data.",
        |it| it.out_bytes,
    ),
];

/// Of each real server.
const BACKENDS: &[Row<ServerStatus, u32>] = &[
    (
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
        |it| it.active_connections,
    ),
    (
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
        |it| it.inactive_connections,
    ),
    (
        "node_ipvs_backend_weight",
        "The current backend weight by local and remote address.",
        |it| it.options.weight,
    ),
];
