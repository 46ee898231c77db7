use std::path::PathBuf;

use super::*;
use crate::{
    control::status::{CounterKind, RouteKind},
    io::PortStatistics,
    service::{Timeouts, Tunables},
    wire::ethernet::MacAddr,
};

fn counter(name: &str, count: u64, help: &str) -> CounterStatus {
    CounterStatus {
        name: name.to_owned(),
        kind: CounterKind::Drop,
        count,
        help: help.to_owned(),
    }
}

#[test]
fn counters_that_are_zero_are_hidden_unless_asked_for() {
    let list = [
        counter("not_ip", 0, "neither IPv4 nor ARP"),
        counter("no_server", 7, "none left"),
    ];
    assert_eq!(
        counters(&list, false),
        "Kind Name      Count Meaning\n\
         drop no_server     7 none left"
    );
    assert_eq!(
        counters(&list, true),
        "Kind Name      Count Meaning\n\
         drop not_ip        0 neither IPv4 nor ARP\n\
         drop no_server     7 none left"
    );
    assert!(counters(&list[..1], false).starts_with("nothing was counted"));
}

#[test]
fn counters_stay_exact_and_within_the_width() {
    let list = [counter("name_of_a_counter", u64::MAX, &"help ".repeat(50))];
    let text = counters(&list, false);
    assert!(text.contains("18446744073709551615"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

#[test]
fn a_busy_worker_fits_into_the_width() {
    let worker = WorkerStatus {
        index: 15,
        core: 127,
        generation: 123_456,
        bursts: 1,
        packets: 64,
        packets_per_burst: 63.97,
        busy_share: 0.987_6,
        busy_cycles: 0,
        total_cycles: 0,
        cycles_per_packet: 182.4,
        tsc_hz: 2_100_000_000,
        connections: 1_234_567,
        connections_max: 4_194_304,
        rx_packets: 9_876_543_210,
        handed_over: 0,
        taken_over: 0,
        tx_handed_over: 0,
        tx_packets: 9_876_543_210,
        forwarded: 9_876_543_210,
        punted: 17,
        dropped: 999_999,
    };
    let text = workers(std::slice::from_ref(&worker));
    assert_eq!(text, WORKERS);
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");

    let text = workers(&[WorkerStatus {
        handed_over: 12_345,
        taken_over: 1_234_567,
        tx_handed_over: 9_876_543_210,
        ..worker
    }]);
    assert_eq!(text, format!("{WORKERS}\n\n{HANDED}"));
}

const WORKERS: &str = "\
Worker Core Generation  Busy Pkt/burst Cycles/pkt    Connections Received Forwarded Punted Dropped
    15  127     123456 98.8%      64.0        182 1.23M of 4.19M    9.87G     9.87G     17  999999";

const HANDED: &str = "\
Worker Handed over Taken over Sent by others
    15       12345      1.23M          9.87G";

#[test]
fn a_port_says_what_it_is_and_does() {
    let port = PortStatus {
        name: "lan".to_owned(),
        device: "0000:01:00.0".to_owned(),
        driver: "net_ixgbe".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 0xfe]),
        mtu: 9000,
        vlan: Some(7),
        link_up: true,
        speed_mbps: 10_000,
        numa_node: Some(1),
        rx_queues: 4,
        tx_queues: 5,
        workers: 4,
        capabilities: PortCapabilities {
            rss: true,
            redirection_len: 128,
            tx_fast_free: true,
            rss_hash: true,
            packet_types: true,
            ..Default::default()
        },
        rx_burst_mode: Some("Vector AVX2".to_owned()),
        tx_burst_mode: Some("Scalar".to_owned()),
        statistics: PortStatistics {
            rx_packets: 7,
            rx_bytes: 1536,
            ..Default::default()
        },
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
    };
    assert_eq!(
        ports(std::slice::from_ref(&port)),
        "lan: link up at 10000 Mbit/s, MAC 02:00:00:00:00:fe, MTU 9000, VLAN 7, NUMA node 1\n\
         \x20   device     0000:01:00.0 (net_ixgbe), 4 receive and 5 transmit queues\n\
         \x20   addresses  192.0.2.1/24\n\
         \x20   offloads   in hardware: RSS (table of 128), fast free\n\
         \x20              in software: receive IPv4 checksum, transmit IPv4 checksum\n\
         \x20              not used: RSS hash, packet types\n\
         \x20   bursts     receive Vector AVX2, transmit Scalar\n\
         \x20   received   7 packets, 1.50 KiB; 0 missed, 0 errors, 0 without buffer\n\
         \x20   sent       0 packets, 0 B; 0 errors"
    );
    let shared = ports(&[PortStatus { workers: 8, ..port }]);
    let lines: Vec<_> = shared.lines().collect();
    assert_eq!(
        lines[2],
        "    workers    4 of 8 workers receive; spread in software; 5 of 8 workers transmit, for the \
         others too"
    );
    assert_eq!(lines.len(), 10);
}

#[test]
fn what_a_port_lacks_is_done_in_software() {
    assert_eq!(
        offloads(PortCapabilities::default(), 2),
        [
            "in software: receive IPv4 checksum, transmit IPv4 checksum, fast free",
            "missing: RSS",
        ]
    );
    let all = PortCapabilities {
        tx_ipv4_checksum: true,
        tx_fast_free: true,
        rx_ipv4_checksum: true,
        rss: true,
        ..Default::default()
    };
    assert_eq!(
        offloads(all, 2),
        ["in hardware: RSS, receive IPv4 checksum, transmit IPv4 checksum, fast free"]
    );
}

#[test]
fn a_neighbor_that_never_answered_has_no_mac_and_no_age() {
    let neighbor = NeighborStatus {
        port: "lan".to_owned(),
        address: "192.0.2.9".parse().unwrap(),
        mac: None,
        state: "FAILED".to_owned(),
        age_ms: None,
    };
    assert_eq!(
        neighbors(&[neighbor]),
        "Address   Port MAC State  Confirmed ago\n\
         192.0.2.9 lan  -   FAILED         never"
    );
    assert_eq!(neighbors(&[]), "there are no neighbors");
}

#[test]
fn routes_show_what_is_set() {
    let default = RouteStatus {
        to: "0.0.0.0/0".parse().unwrap(),
        via: Some("192.0.2.1".parse().unwrap()),
        port: Some("lan".to_owned()),
        source: None,
        mtu: Some(1400),
        kind: RouteKind::Static,
    };
    let blackhole = RouteStatus {
        to: "10.9.0.0/16".parse().unwrap(),
        via: None,
        port: None,
        source: None,
        mtu: None,
        kind: RouteKind::Blackhole,
    };
    assert_eq!(
        routes(&[blackhole, default]),
        "To          Via       Port Source  MTU Kind\n\
         10.9.0.0/16 -         -    -         - blackhole\n\
         default     192.0.2.1 lan  -      1400 static"
    );
}

#[test]
fn the_director_says_on_how_many_workers_its_state_is_live() {
    let text = director(&DirectorStatus {
        version: "0.1.0".to_owned(),
        pid: 42,
        uptime_ms: 61_000,
        config_file: PathBuf::from("/etc/pointsman.toml"),
        generation: 7,
        workers: 8,
        workers_live: 6,
        services: 2,
        connections: 3,
        timeouts: Timeouts::default(),
        tunables: Tunables::default(),
        state_file: Some(StateFileStatus {
            path: PathBuf::from("/var/lib/pointsman/pointsman.json"),
            saves: 3,
            errors: 1,
            is_saved: false,
        }),
        tables: Vec::new(),
    });
    assert!(
        text.contains("kept in        /var/lib/pointsman/pointsman.json, not yet all; 1 error\n"),
        "{text}"
    );
    assert!(
        text.starts_with("pointsman 0.1.0, process 42, up for 1 min 1 s\n"),
        "{text}"
    );
    assert!(
        text.contains("generation 7, live on 6 of 8 workers\n"),
        "{text}"
    );
    assert!(
        text.contains("tcp 900 s, tcpfin 120 s, udp 300 s\n"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

#[test]
fn settings_are_shown_beside_those_of_the_file() {
    let text = settings(&SettingsStatus {
        tunables: Tunables {
            conn_reuse_mode: 0,
            ..Tunables::default()
        },
        timeouts: Timeouts {
            udp: 10,
            ..Timeouts::default()
        },
        configured_tunables: Tunables::default(),
        configured_timeouts: Timeouts::default(),
    });
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    let words = |name| row(name).split_whitespace().collect::<Vec<_>>();
    assert_eq!(words("Name"), ["Name", "Value", "File", "Meaning"]);
    assert_eq!(words("conn_reuse_mode")[1..3], ["0", "1"]);
    assert_eq!(words("pmtu_disc")[1..3], ["1", "1"]);
    assert_eq!(words("timeouts udp")[2..4], ["10", "300"]);
    for tunable in &TUNABLES {
        assert!(text.contains(tunable.name), "{}", tunable.name);
    }
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}
