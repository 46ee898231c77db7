//! Services by firewall mark and on networks of VIPs.

use std::net::Ipv4Addr;

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::SchedulerKind,
    service::{ClientMask, MarkGroup, Persistence, Protocol, ServiceKey, ServiceOptions},
};

use crate::{
    frames::{Ip, SYN, VIP, arp_request, icmp, tcp, udp},
    lab::{Lab, Setup, server_key, service_key, web_service, weight},
};

const MARK: ServiceKey = ServiceKey::Mark {
    fwmark: 5,
    ipv6: false,
};

fn group(fwmark: u32, vips: &[&str], protocols: &[Protocol], l4_ports: &[u16]) -> MarkGroup {
    MarkGroup {
        fwmark,
        vips: vips.iter().map(|vips| vips.parse().unwrap()).collect(),
        protocols: protocols.to_vec(),
        l4_ports: l4_ports.iter().map(|port| *port..=*port).collect(),
    }
}

fn network(network: &str, l4_port: u16) -> ServiceKey {
    ServiceKey::Network {
        protocol: Protocol::Tcp,
        network: network.parse().unwrap(),
        l4_port,
    }
}

/// A service with one real server, 10.0.0.HOST.
fn service(key: ServiceKey, host: u8) -> ServiceConfig {
    ServiceConfig {
        key,
        ..web_service(SchedulerKind::Rr, &[(host, 1)])
    }
}

fn lab_with(mark_groups: Vec<MarkGroup>, services: Vec<ServiceConfig>) -> Lab {
    Lab::with(&Setup {
        mark_groups,
        services,
        ..Setup::default()
    })
}

fn syn(vip: [u8; 4], service_port: u16) -> Ip {
    let mut packet = Ip {
        destination: vip.into(),
        ..tcp(1000 + service_port, SYN)
    };
    packet.payload[2..4].copy_from_slice(&service_port.to_be_bytes());
    packet
}

/// Where a packet goes: the last byte of the real server. `None` when the
/// director answers it itself, or does not.
fn server_of(lab: &mut Lab, packet: &Ip) -> Option<u8> {
    let sent = lab.answers(&packet.frame());
    let tunnelled = sent.iter().find(|(port, _)| *port == 1);
    tunnelled.map(|(_, frame)| frame[33])
}

#[test]
fn a_service_by_mark_takes_what_its_groups_say_and_goes_before_addresses() {
    let vip = VIP.octets();
    let mut lab = lab_with(
        vec![
            group(5, &["198.51.100.10/32"], &[Protocol::Tcp], &[80, 443]),
            group(5, &["198.51.100.10/32"], &[Protocol::Udp], &[]),
            group(6, &["198.51.100.10/32"], &[Protocol::Tcp], &[443]),
        ],
        vec![
            service(MARK, 11),
            service(service_key(VIP, Protocol::Tcp, 80), 12),
            service(service_key(VIP, Protocol::Tcp, 443), 13),
        ],
    );
    assert_eq!(server_of(&mut lab, &syn(vip, 80)), Some(11));
    // The last group gives mark 6, which no service has.
    assert_eq!(server_of(&mut lab, &syn(vip, 443)), Some(13));
    assert_eq!(server_of(&mut lab, &syn(vip, 81)), None);
    assert_eq!(server_of(&mut lab, &udp(1000, 53, b"")), Some(11));
    assert_eq!(server_of(&mut lab, &udp(1000, 99, b"")), Some(11));

    lab.apply(&Command::DeleteService(MARK));
    assert_eq!(
        server_of(&mut lab, &syn(vip, 80)),
        None,
        "its server is gone"
    );
    let other = Ip {
        source: [203, 0, 113, 99].into(),
        ..syn(vip, 80)
    };
    assert_eq!(server_of(&mut lab, &other), Some(12));
}

/// Recording `08_fwmark_nonlocal`: an address that is a VIP by its mark alone.
#[test]
fn a_marks_vips_are_local_while_a_service_has_the_mark() {
    let alone = [198, 51, 100, 77];
    let groups = vec![group(
        5,
        &["198.51.100.77/32", "198.51.101.0/24"],
        &[],
        &[80],
    )];
    let mut lab = lab_with(groups, vec![service(MARK, 11)]);
    assert_eq!(server_of(&mut lab, &syn(alone, 80)), Some(11));
    assert_eq!(server_of(&mut lab, &syn([198, 51, 101, 9], 80)), Some(11));
    // Other ports, and pings, are the director's own affair.
    for packet in [syn(alone, 81), icmp(8, 0, b"\0\x01\0\x01")] {
        let packet = Ip {
            destination: alone.into(),
            ..packet
        };
        assert_eq!(lab.answers(&packet.frame()).len(), 1);
    }
    lab.apply(&Command::DeleteService(MARK));
    for vip in [alone, [198, 51, 101, 9]] {
        let _ = lab.counts_one("not_local", |lab| lab.send(&syn(vip, 8080).frame()));
    }
}

#[test]
fn a_group_without_vips_is_for_all_that_is_local() {
    let groups = vec![group(5, &[], &[Protocol::Tcp], &[80])];
    let other: Ipv4Addr = [198, 51, 100, 20].into();
    let services = vec![
        service(MARK, 11),
        service(service_key(other, Protocol::Tcp, 443), 12),
    ];
    let mut lab = lab_with(groups, services);
    assert_eq!(server_of(&mut lab, &syn(other.octets(), 80)), Some(11));
    assert_eq!(server_of(&mut lab, &syn(other.octets(), 443)), Some(12));
    // The director's own address is local too.
    assert_eq!(server_of(&mut lab, &syn([192, 0, 2, 1], 80)), Some(11));
    let _ = lab.counts_one("not_local", |lab| {
        lab.send(&syn([198, 51, 100, 21], 80).frame());
    });
}

#[test]
fn a_client_of_a_persistent_mark_has_one_server_for_all_of_it() {
    let options = ServiceOptions {
        persistence: Some(Persistence {
            timeout_s: 100,
            mask: ClientMask::host(false),
        }),
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    let mut config = ServiceConfig {
        options,
        ..service(MARK, 11)
    };
    config.servers.push((server_key(12), weight(1)));
    let mut lab = lab_with(vec![group(5, &["198.51.100.0/24"], &[], &[])], vec![config]);
    let packets = [
        syn([198, 51, 100, 1], 80),
        syn([198, 51, 100, 2], 443),
        udp(1000, 53, b""),
    ];
    let servers = packets.map(|packet| server_of(&mut lab, &packet));
    assert_eq!(servers, [Some(12); 3]);
    assert_eq!(lab.counter("templates"), 1);
}

#[test]
fn a_network_of_vips_gives_way_to_smaller_ones_and_to_addresses() {
    let services = vec![
        service(network("198.51.100.0/24", 80), 11),
        service(network("198.51.100.0/28", 80), 12),
        service(service_key(VIP, Protocol::Tcp, 80), 13),
    ];
    let mut lab = lab_with(Vec::new(), services);
    assert_eq!(server_of(&mut lab, &syn([198, 51, 100, 200], 80)), Some(11));
    assert_eq!(server_of(&mut lab, &syn([198, 51, 100, 11], 80)), Some(12));
    assert_eq!(server_of(&mut lab, &syn(VIP.octets(), 80)), Some(13));
    // All of it is local, and nothing beyond.
    assert_eq!(lab.answers(&syn([198, 51, 100, 7], 81).frame()).len(), 1);
    let _ = lab.counts_one("not_local", |lab| {
        lab.send(&syn([198, 51, 101, 7], 80).frame());
    });
}

/// Routers may ask for any of its addresses; but thousands of announcements
/// tell nobody anything that a route does not.
#[test]
fn arp_is_answered_for_a_network_of_vips_but_not_announced() {
    let services = vec![service(network("192.0.2.128/26", 80), 11)];
    let mut lab = lab_with(Vec::new(), Vec::new());
    lab.take_sent();
    for config in services {
        lab.apply(&Command::AddService(config.key, config.options));
    }
    lab.advance(1_000);
    assert_eq!(lab.take_sent(), [], "nothing is announced");
    let asks = |lab: &mut Lab, target: [u8; 4]| lab.answers(&arp_request(target.into())).len();
    assert_eq!(asks(&mut lab, [192, 0, 2, 130]), 1);
    assert_eq!(asks(&mut lab, [192, 0, 2, 191]), 1);
    assert_eq!(asks(&mut lab, [192, 0, 2, 192]), 0, "another host's");
    lab.apply(&Command::DeleteService(network("192.0.2.128/26", 80)));
    assert_eq!(asks(&mut lab, [192, 0, 2, 130]), 0);
}
