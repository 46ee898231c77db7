//! A director in numbers, for tests.

use super::sample::Sample;
use crate::{
    control::status::{
        CounterKind, CounterStatus, DirectorStatus, NeighborStatus, NextHopStatus, PortStatus,
        Rates, ServerStatus, ServiceStatus, Statistics, WorkerStatus,
    },
    io::{PortCapabilities, PortStatistics},
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts, Tunables},
    wire::ethernet::MacAddr,
};

/// What it says the `number`th time: 2 s pass from one to the next.
pub(super) fn sample(number: u64) -> Sample {
    Sample {
        director: DirectorStatus {
            version: "0.1.0".to_owned(),
            pid: 7,
            uptime_ms: 60_000 + number * 2000,
            config_file: "/etc/pointsman/pointsman.toml".into(),
            generation: 7,
            workers: 2,
            workers_live: 2,
            services: 3,
            connections: 1500,
            timeouts: Timeouts::default(),
            tunables: Tunables::default(),
            state_file: None,
            tables: Vec::new(),
        },
        services: services(number),
        workers: vec![worker(0, number, 0.25), worker(1, number, 0.95)],
        ports: vec![port("wan", number), port("lan", 0)],
        counters: vec![
            counter("rx_packets", CounterKind::Other, 3000 * number),
            counter("forwarded", CounterKind::Other, 2000 * number),
            counter("connections_opened", CounterKind::Other, 40 * number),
            counter("connections", CounterKind::Other, 700 * number),
            counter("malformed", CounterKind::Drop, 10 * number),
            counter("ttl_exceeded", CounterKind::Drop, 3),
            counter("no_memory", CounterKind::Drop, 0),
            counter("arp", CounterKind::Punt, 5),
        ],
        neighbors: vec![
            neighbor("10.0.0.11", Some(1), "REACHABLE"),
            neighbor("10.0.0.12", None, "FAILED"),
        ],
    }
}

fn services(number: u64) -> Vec<ServiceStatus> {
    let service = |address: &str, protocol, servers| ServiceStatus {
        key: ServiceKey::Vip {
            protocol,
            address: address.parse().unwrap(),
        },
        options: ServiceOptions::from(SchedulerKind::Wlc),
        servers,
        statistics: statistics(30 * number),
        rates: Rates::default(),
    };
    vec![
        service(
            "192.0.2.10:80",
            Protocol::Tcp,
            vec![
                server("10.0.0.12", 1, false, number),
                server("10.0.0.11", 3, true, 2 * number),
            ],
        ),
        service(
            "192.0.2.10:443",
            Protocol::Tcp,
            vec![server("10.0.0.11", 1, true, 0)],
        ),
        service("192.0.2.53:53", Protocol::Udp, Vec::new()),
    ]
}

fn server(address: &str, weight: u32, answers: bool, number: u64) -> ServerStatus {
    let (port, address) = ("lan".to_owned(), address.parse().unwrap());
    ServerStatus {
        key: ServerKey { address },
        options: ServerOptions {
            weight,
            ..ServerOptions::default()
        },
        active_connections: 12,
        inactive_connections: 345,
        templates: 0,
        overloaded: false,
        next_hop: if answers {
            let mac = MacAddr([2, 0, 0, 0, 0, 1]);
            NextHopStatus::Resolved { port, address, mac }
        } else {
            NextHopStatus::Unresolved { port, address }
        },
        path_mtu: 1500,
        statistics: statistics(10 * number),
        rates: Rates::default(),
    }
}

fn statistics(connections: u64) -> Statistics {
    Statistics {
        connections,
        in_packets: 100 * connections,
        in_bytes: 12_500 * connections,
        ..Statistics::default()
    }
}

fn worker(index: u32, number: u64, busy_share: f64) -> WorkerStatus {
    WorkerStatus {
        index,
        core: index + 2,
        generation: 7,
        bursts: 100 * number,
        packets: 1500 * number,
        packets_per_burst: 15.0,
        busy_share,
        cycles_per_packet: 123.4,
        tsc_hz: 2_000_000_000,
        busy_cycles: 0,
        total_cycles: 0,
        connections: 750,
        connections_max: 1000,
        rx_packets: 1500 * number,
        handed_over: 0,
        taken_over: 0,
        tx_handed_over: 0,
        tx_packets: 1000 * number,
        forwarded: 1000 * number,
        punted: 0,
        dropped: 5 * number,
    }
}

fn port(name: &str, number: u64) -> PortStatus {
    PortStatus {
        name: name.to_owned(),
        device: "0000:01:00.0".to_owned(),
        driver: "net_ixgbe".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 0xfe]),
        mtu: 1500,
        vlan: None,
        link_up: name == "wan",
        speed_mbps: 10_000,
        numa_node: Some(0),
        rx_queues: 2,
        tx_queues: 2,
        workers: 2,
        capabilities: PortCapabilities::default(),
        rx_burst_mode: Some("Vector AVX2".to_owned()),
        tx_burst_mode: None,
        statistics: PortStatistics {
            rx_packets: 3000 * number,
            rx_bytes: 2_000_000 * number,
            ..PortStatistics::default()
        },
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
    }
}

fn counter(name: &str, kind: CounterKind, count: u64) -> CounterStatus {
    CounterStatus {
        name: name.to_owned(),
        kind,
        count,
        help: format!("what {name} means, and what an operator does about it on a bad day"),
    }
}

fn neighbor(address: &str, last: Option<u8>, state: &str) -> NeighborStatus {
    NeighborStatus {
        port: "lan".to_owned(),
        address: address.parse().unwrap(),
        mac: last.map(|last| MacAddr([2, 0, 0, 0, 0, last])),
        state: state.to_owned(),
        age_ms: last.map(|_| 4000),
    }
}
