//! pktgen against a whole director, both over ports in memory and without a
//! thread: what the product makes of its traffic is right to the last byte,
//! and a director that is made to err is caught.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes functions that tests call for no part of them"
)]

mod lab;

use std::{collections::BTreeMap, time::Duration};

use lab::{Lab, Service, options};
use pointsman::pktgen::{
    Report, Tunnel,
    plan::{Fragmentation, Options, TcpTraffic},
    size::SizeMix,
};

const RR: &str = "scheduler = \"rr\"\n";
const WEB: Service = Service {
    address: "198.51.100.10:80",
    protocol: "tcp",
    options: RR,
    servers: &["10.0.0.11", "10.0.0.12", "10.0.0.13"],
    tunnel: "",
};
const DNS: Service = Service {
    address: "198.51.100.10:53",
    protocol: "udp",
    ..WEB
};
const WEB6: Service = Service {
    address: "[2001:db8:ff::10]:80",
    servers: &["2001:db8:2::11", "2001:db8:2::12"],
    ..WEB
};

/// A run of 3000 packets of 200 flows that passes.
#[track_caller]
fn passes(services: &[Service], change: impl FnOnce(&mut Options)) -> Report {
    let mut options = options(services);
    change(&mut options);
    let report = Lab::new(services, "", options).run(|frame| vec![frame]);
    assert!(report.passed, "{report}");
    assert_eq!(report.mismatches, BTreeMap::new());
    assert_eq!(report.samples.len(), 0);
    assert_eq!(
        (report.lost, report.reordered, report.duplicates),
        (0, 0, 0)
    );
    report
}

#[test]
fn tcp_is_forwarded_right_and_evenly() {
    let report = passes(&[WEB], |_| {});
    assert_eq!(report.flows.opening_packets, 400);
    assert_eq!(report.flows.opening_lost, 0);
    let mut flows: Vec<_> = report.servers.iter().map(|server| server.flows).collect();
    flows.sort_unstable();
    assert_eq!(flows, [0, 0, 66, 67, 67]);
    assert_eq!(report.tunnels.keys().collect::<Vec<_>>(), ["ipip 4in4"]);
}

#[test]
fn connections_open_and_end() {
    let report = passes(&[WEB], |options| {
        options.tcp = TcpTraffic::Connections { data_segments: 3 };
    });
    assert!(report.flows.replaced > 300, "{report}");
}

#[test]
fn flows_are_replaced_while_others_go_on() {
    let report = passes(&[WEB, DNS], |options| {
        options.rate = Some(100_000);
        options.new_flows = 20_000;
    });
    assert!(report.flows.replaced > 400, "{report}");
}

#[test]
fn udp_of_all_lengths_is_forwarded_right() {
    let report = passes(&[DNS], |options| {
        options.sizes = "60,61,577,1400".parse().unwrap();
        options.dont_fragment = false;
        options.tos = 0xbb;
        options.ttl = 3;
    });
    assert!(report.received.bytes > 3000 * 500, "{report}");
}

#[test]
fn imix_fits_a_wide_path() {
    passes(&[WEB, DNS], |options| options.sizes = SizeMix::imix());
}

#[test]
fn fragments_follow_their_first_one_also_when_it_comes_last() {
    for reversed in [false, true] {
        for (percent, parts) in [(100, 2), (30, 3), (100, 8)] {
            passes(&[DNS], |options| {
                options.sizes = SizeMix::fixed(400);
                options.fragmentation = Some(Fragmentation {
                    percent,
                    parts,
                    reversed,
                });
            });
        }
    }
}

#[test]
fn fragments_of_ipv6_follow_their_first_one() {
    let dns = Service {
        address: "[2001:db8:ff::10]:53",
        ..DNS
    };
    for servers in [&["10.0.0.11", "10.0.0.12"], WEB6.servers] {
        passes(&[Service { servers, ..dns }], |options| {
            options.fragmentation = Some(Fragmentation {
                percent: 50,
                parts: 3,
                reversed: true,
            });
        });
    }
}

#[test]
fn every_pair_of_ip_versions_is_forwarded_right() {
    for (service, servers, tunnel) in [
        (WEB, WEB.servers, "ipip 4in4"),
        (WEB, WEB6.servers, "ipip 4in6"),
        (WEB6, WEB.servers, "ipip 6in4"),
        (WEB6, WEB6.servers, "ipip 6in6"),
    ] {
        let report = passes(&[Service { servers, ..service }], |options| {
            options.sizes = "60:3,1300:1".parse().unwrap();
        });
        assert_eq!(report.tunnels.keys().collect::<Vec<_>>(), [tunnel]);
    }
}

#[test]
fn gre_and_gue_are_forwarded_right_with_and_without_checksums() {
    for (tunnel, expected) in [
        ("tunnel = \"gre\"\n", Tunnel::Gre),
        (
            "tunnel = \"gre\"\ntunnel_checksum = true\n",
            Tunnel::GreChecksum,
        ),
        ("tunnel = \"gue\"\n", Tunnel::Gue),
        (
            "tunnel = \"gue\"\ntunnel_checksum = true\n",
            Tunnel::GueChecksum,
        ),
    ] {
        for service in [WEB, DNS, WEB6] {
            passes(&[Service { tunnel, ..service }], |options| {
                options.tunnel = Some(expected);
                options.sizes = "60:3,1300:1".parse().unwrap();
            });
        }
    }
}

#[test]
fn many_services_are_all_reached() {
    const PORTS: [&str; 3] = [
        "198.51.100.10:8000",
        "198.51.100.10:8001",
        "198.51.100.10:8002",
    ];
    let services = PORTS.map(|address| Service { address, ..WEB });
    let mut options = options(&[]);
    options.services = vec!["198.51.100.10:8000-8002".parse().unwrap()];
    let report = Lab::new(&services, "", options).run(|frame| vec![frame]);
    assert!(report.passed, "{report}");
}

#[test]
fn a_flood_beside_established_flows_does_them_no_harm() {
    let mut options = options(&[WEB]);
    options.rate = Some(50_000);
    options.syn_flood = 200_000;
    let lab = Lab::new(&[WEB], "connections_max = 1024\n", options);
    let report = lab.run(|frame| vec![frame]);
    assert!(report.passed, "{report}");
    assert!(report.flood.sent > 5_000, "{report}");
    assert!(report.flood.received > 0, "{report}");
}

#[test]
fn data_without_a_syn_passes_a_director_that_is_told_so() {
    let mut options = options(&[WEB]);
    options.tcp = TcpTraffic::Ack;
    let run = |settings| Lab::new(&[WEB], settings, options.clone()).run(|frame| vec![frame]);
    let report = run("[director.ipvs]\nsloppy_tcp = true\n");
    assert!(report.passed, "{report}");
    let report = run("");
    assert!(!report.passed);
    assert_eq!(report.received.packets, 0);
    assert!(report.returned["tcp_reset"] > 0, "{report}");
}

#[test]
fn an_error_of_the_director_is_counted() {
    let mut options = options(&[WEB]);
    options.sizes = SizeMix::fixed(1514);
    let report = Lab::new(&[WEB], "", options).run(|frame| vec![frame]);
    // With an outer header that is too long for the servers' port, whose MTU
    // is 1500, and DF is set.
    assert!(!report.passed);
    assert!(report.returned["icmp_3_4"] > 0, "{report}");
}

/// What is found when what a director sends is changed on its way.
#[track_caller]
fn found_with(service: Service, change: impl FnMut(Vec<u8>) -> Vec<Vec<u8>>) -> Vec<String> {
    let report = Lab::new(&[service], "", options(&[service])).run(change);
    assert!(!report.passed);
    report.mismatches.into_keys().collect()
}

/// Flips a bit of this byte in each hundredth frame.
fn flipping(at: usize) -> impl FnMut(Vec<u8>) -> Vec<Vec<u8>> {
    let mut number = 0;
    move |mut frame| {
        number += 1;
        if number % 100 == 0
            && let Some(byte) = frame.get_mut(at)
        {
            *byte ^= 1;
        }
        vec![frame]
    }
}

#[test]
fn a_broken_director_is_caught() {
    for (at, name) in [
        (24, "outer_checksum"),
        (42, "inner_ttl"),
        (44, "inner_checksum"),
        (50, "inner_addresses"),
        (55, "inner_ports"),
        (61, "inner_l4"),
    ] {
        assert_eq!(found_with(WEB, flipping(at)), [name], "byte {at}");
    }
    assert_eq!(found_with(WEB6, flipping(16)), ["outer_flow_label"]);
}

#[test]
fn a_director_that_forgets_its_connections_is_caught() {
    // Without a connection each packet goes to the next server.
    let web = Service {
        options: "scheduler = \"rr\"\none_packet = true\n",
        ..DNS
    };
    let found = found_with(web, |frame| vec![frame]);
    assert_eq!(found, ["flow_moved"]);
}

#[test]
fn a_director_that_loses_or_repeats_packets_is_caught() {
    let mut number = 0;
    let report = Lab::new(&[WEB], "", options(&[WEB])).run(|frame| {
        number += 1;
        match number % 500 {
            1 if number > 500 => Vec::new(),
            2 => vec![frame.clone(), frame],
            _ => vec![frame],
        }
    });
    assert!(report.lost > 0 && report.duplicates > 0, "{report}");
    assert_eq!(report.failures.len(), 2, "{report}");
}

#[test]
fn a_tag_is_put_on_and_expected() {
    let mut options = options(&[WEB]);
    options.vlan = Some(7);
    let lab = Lab::tagged(&[WEB], 7, options);
    let report = lab.run(|frame| vec![frame]);
    assert!(report.passed, "{report}");
}

#[test]
fn one_port_serves_clients_and_real_servers() {
    let report = Lab::one_armed(&[WEB], options(&[WEB])).run(|frame| vec![frame]);
    assert!(report.passed, "{report}");
    assert!(report.neighbor_packets > 0, "{report}");
}

#[test]
fn the_plan_is_bounded_in_time() {
    let mut options = options(&[WEB]);
    options.count = None;
    options.duration = Duration::from_millis(5);
    let report = Lab::new(&[WEB], "", options).run(|frame| vec![frame]);
    assert!(report.passed, "{report}");
    assert!((0.005..0.006).contains(&report.seconds), "{report}");
}
