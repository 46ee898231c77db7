//! Outer packets from a network of addresses, a flow from one each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    io::PortCapabilities,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions, TunnelKind},
};

use crate::{
    frames::{
        ACK, FIN, GATEWAY_MAC, Ip, MF, PORT_MACS, SERVER_SIDE, SYN, VIP, arp_reply, arp_request,
        checksum, ethernet, icmp, segment, server, server_mac, tcp, tcp_of_len, udp,
    },
    ipv6,
    lab::{Lab, Setup, server_key, service_key},
    tunnels::{GRE, GRE_SUM, GUE, GUE_SUM},
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

fn service_options(network: &str) -> ServiceOptions {
    ServiceOptions {
        outer_source: Some(network.parse().unwrap()),
        ..ServiceOptions::from(SchedulerKind::Rr)
    }
}

fn server_options(tunnel: TunnelKind) -> ServerOptions {
    ServerOptions {
        tunnel,
        ..ServerOptions::default()
    }
}

/// TCP VIP:80 and UDP VIP:53 with the server 10.0.0.HOST.
fn setup(network: &str, tunnel: TunnelKind, host: u8) -> Setup {
    let service = |protocol, l4_port| ServiceConfig {
        key: service_key(VIP, protocol, l4_port),
        options: service_options(network),
        servers: vec![(server_key(host), server_options(tunnel))],
    };
    Setup {
        connections_max: 65_536,
        services: vec![service(Protocol::Tcp, 80), service(Protocol::Udp, 53)],
        ..Setup::default()
    }
}

fn lab(network: &str, tunnel: TunnelKind) -> Lab {
    Lab::with(&setup(network, tunnel, 11))
}

/// The source of an outer IPv4 packet to 10.0.0.11, whose checksums are right.
fn source_of(frame: &[u8], tunnel: TunnelKind) -> Ipv4Addr {
    assert_eq!(frame[12..14], [8, 0]);
    let packet = &frame[14..];
    assert_eq!(checksum(&packet[..20]), 0, "outer checksum");
    assert_eq!(packet[16..20], server(11).octets());
    assert_gue_sum(&packet[12..20], &packet[20..], tunnel);
    Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap())
}

fn assert_gue_sum(addresses: &[u8], udp: &[u8], tunnel: TunnelKind) {
    if tunnel == GUE_SUM {
        let pseudo = [addresses, &[0, 17], &udp[4..6], udp].concat();
        assert_eq!(checksum(&pseudo), 0, "UDP checksum");
        assert_ne!(udp[6..8], [0, 0]);
    }
}

/// The sources of all frames that an arriving packet becomes.
fn sources(lab: &mut Lab, packet: &Ip, tunnel: TunnelKind) -> Vec<Ipv4Addr> {
    let sent = lab.answers(&packet.frame());
    assert!(!sent.is_empty());
    sent.iter()
        .map(|(port, frame)| {
            assert_eq!(*port, 1);
            source_of(frame, tunnel)
        })
        .collect()
}

#[test]
fn flows_cover_the_network_evenly_and_nothing_else() {
    let mut lab = lab("10.9.0.64/26", TunnelKind::Ipip);
    let mut flows = BTreeMap::<_, u32>::new();
    for client_port in 1024..1024 + 6400 {
        let source = sources(&mut lab, &tcp(client_port, SYN), TunnelKind::Ipip)[0];
        *flows.entry(source).or_default() += 1;
    }
    let network: Vec<_> = (64..128).map(|low| Ipv4Addr::new(10, 9, 0, low)).collect();
    assert_eq!(flows.keys().copied().collect::<Vec<_>>(), network);
    // 6,400 over 64: 100 each, and a standard deviation of 10.
    assert!(flows.values().all(|n| (50..150).contains(n)), "{flows:?}");
}

#[test]
fn the_smallest_and_the_largest_network_are_used_whole() {
    let flows = |network| -> BTreeSet<Ipv4Addr> {
        let mut lab = lab(network, TunnelKind::Ipip);
        let ports = 1024..3024;
        ports
            .flat_map(|port| sources(&mut lab, &tcp(port, SYN), TunnelKind::Ipip))
            .collect()
    };
    assert_eq!(
        flows("10.9.0.6/31"),
        BTreeSet::from([Ipv4Addr::new(10, 9, 0, 6), Ipv4Addr::new(10, 9, 0, 7)])
    );
    let large = flows("10.9.0.0/16");
    assert!(large.iter().all(|source| source.octets()[..2] == [10, 9]));
    // Of 2,000 out of 65,536 about 30 meet another one.
    assert!(large.len() > 1900, "{}", large.len());
    let third: BTreeSet<_> = large.iter().map(|source| source.octets()[2]).collect();
    assert!(third.len() > 240, "{third:?}");
}

#[test]
fn all_packets_of_a_flow_have_one_source_in_every_tunnel() {
    for tunnel in [TunnelKind::Ipip, GRE, GRE_SUM, GUE, GUE_SUM] {
        for tx_ipv4_checksum in [false, true] {
            let mut lab = Lab::with(&Setup {
                capabilities: PortCapabilities {
                    tx_ipv4_checksum,
                    ..PortCapabilities::default()
                },
                ..setup("10.9.0.0/24", tunnel, 11)
            });
            let mut all = BTreeSet::new();
            for client_port in 2000..2020 {
                let of_flow: BTreeSet<_> = [
                    tcp(client_port, SYN),
                    tcp(client_port, ACK),
                    tcp_of_len(client_port, ACK, 1001, true),
                    tcp(client_port, FIN | ACK),
                ]
                .iter()
                .flat_map(|packet| sources(&mut lab, packet, tunnel))
                .collect();
                assert_eq!(of_flow.len(), 1, "{tunnel:?}");
                all.extend(of_flow);
            }
            assert!(all.len() > 10, "{all:?}");
            assert!(all.iter().all(|it| it.octets()[..3] == [10, 9, 0]));
        }
    }
}

#[test]
fn all_fragments_of_a_packet_have_one_source() {
    let mut lab = lab("10.9.0.0/24", TunnelKind::Ipip);
    // Outer packets of 1520 bytes, where 1500 fit.
    for client_port in 3000..3010 {
        lab.answers(&tcp(client_port, SYN).frame());
        let long = tcp_of_len(client_port, ACK, 1500, false);
        let pieces = sources(&mut lab, &long, TunnelKind::Ipip);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0], pieces[1]);
    }
    // Fragments of a client's datagram, of which only the first has ports.
    let whole = udp(4000, 53, &[0x55; 1000]);
    let piece = |range: std::ops::Range<usize>, flags| Ip {
        flags,
        id: 77,
        ..Ip::new(17, whole.payload[range].to_vec())
    };
    let first = sources(&mut lab, &piece(0..504, MF), TunnelKind::Ipip);
    let last = sources(&mut lab, &piece(504..1008, 63), TunnelKind::Ipip);
    assert_eq!(first, last);
    assert_eq!(first[0].octets()[..3], [10, 9, 0]);
}

#[test]
fn what_waited_for_arp_has_the_source_of_its_flow() {
    let mut lab = Lab::with(&setup("10.9.0.0/24", TunnelKind::Ipip, 20));
    let source_after = |lab: &mut Lab| {
        let sent = lab.take_sent();
        let mut packets = sent.iter().map(|(_, frame)| frame);
        let is_outer = |frame: &&Vec<u8>| frame[..6] == server_mac(20) && frame[12..14] == [8, 0];
        packets.find(is_outer).unwrap()[26..30].to_vec()
    };
    lab.answers(&tcp(1000, SYN).frame());
    lab.receive_at(1, 0, &arp_reply(server_mac(20), server(20)));
    lab.settle();
    let waited = source_after(&mut lab);
    lab.send(&tcp(1000, ACK).frame());
    assert_eq!(source_after(&mut lab), waited);
    assert_eq!(waited[..3], [10, 9, 0]);
}

#[test]
fn the_network_can_change_while_running() {
    let mut lab = lab("10.9.0.0/24", TunnelKind::Ipip);
    let web = service_key(VIP, Protocol::Tcp, 80);
    lab.answers(&tcp(1000, SYN).frame());
    let source = |lab: &mut Lab| sources(lab, &tcp(1000, ACK), TunnelKind::Ipip)[0];
    lab.apply(&Command::EditService(web, service_options("10.8.0.0/24")));
    assert_eq!(source(&mut lab).octets()[..3], [10, 8, 0]);
    lab.apply(&Command::EditService(web, SchedulerKind::Rr.into()));
    assert_eq!(source(&mut lab), SERVER_SIDE);
}

#[test]
fn arp_requests_for_outer_sources_are_answered_while_a_service_has_them() {
    let mut lab = lab("10.9.0.0/24", TunnelKind::Ipip);
    let asked = Ipv4Addr::new(10, 9, 0, 200);
    let answers = lab.answers(&arp_request(asked));
    assert_eq!(answers.len(), 1, "{answers:02x?}");
    assert_eq!(answers[0].1[20..22], [0, 2], "reply");
    assert_eq!(answers[0].1[28..32], asked.octets());
    assert_eq!(lab.answers(&arp_request(Ipv4Addr::new(10, 9, 1, 0))), []);
    for key in [
        service_key(VIP, Protocol::Tcp, 80),
        service_key(VIP, Protocol::Udp, 53),
    ] {
        assert_eq!(lab.answers(&arp_request(asked)).len(), 1);
        lab.apply(&Command::DeleteService(key));
        lab.take_sent();
    }
    assert_eq!(lab.answers(&arp_request(asked)), []);
}

/// A router's "fragmentation needed" about an outer packet that came from here.
fn too_long(source: Ipv4Addr, mtu: u32) -> Vec<u8> {
    let outer = Ip {
        source,
        destination: server(11),
        id: 0,
        ttl: 63,
        ..Ip::new(4, tcp_of_len(1000, ACK, 1480, true).packet())
    };
    let quote = &outer.packet()[..548];
    let error = Ip {
        source: ROUTER,
        destination: source,
        flags: 0,
        ..icmp(3, 4, &[&mtu.to_be_bytes(), quote].concat())
    };
    ethernet(PORT_MACS[1], GATEWAY_MAC, 0x0800, &error.packet())
}

#[test]
fn an_icmp_error_to_an_outer_source_teaches_the_path_mtu_and_reaches_the_client() {
    let mut lab = lab("10.9.0.0/24", TunnelKind::Ipip);
    let source = sources(&mut lab, &tcp(1000, SYN), TunnelKind::Ipip)[0];
    lab.receive_at(1, 0, &too_long(source, 1400));
    lab.settle();
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1[34..36], [3, 4]);
    assert_eq!(sent[0].1[40..42], 1380_u16.to_be_bytes());
    assert_eq!(lab.counter("path_mtu_learned"), 1);
    let path_mtu = lab.director.management.services()[0].servers[0].path_mtu;
    assert_eq!(path_mtu, 1400);
}

#[test]
fn an_icmp_error_about_another_source_is_foreign() {
    let mut setup = setup("10.9.0.0/24", TunnelKind::Ipip, 11);
    // What comes from here does not go to this server.
    setup.services[1].options = service_options("10.8.0.0/24");
    setup.services[1].servers[0].0 = server_key(12);
    let mut lab = Lab::with(&setup);
    for source in [SERVER_SIDE, Ipv4Addr::new(10, 8, 0, 7)] {
        lab.receive_at(1, 0, &too_long(source, 1400));
        lab.settle();
    }
    assert_eq!(lab.counter("tunnel_error_foreign"), 2);
    assert_eq!(lab.counter("path_mtu_learned"), 0);
}

fn ipv6_service() -> (ServiceKey, ServerKey) {
    let key = ServiceKey::at(Protocol::Tcp, (ipv6::VIP, 80).into());
    let address = ipv6::SERVER.into();
    (key, ServerKey { address })
}

/// The source of an outer IPv6 packet.
fn source_of_v6(frame: &[u8], tunnel: TunnelKind) -> Ipv6Addr {
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    let packet = &frame[14..];
    assert_eq!(packet[24..40], ipv6::SERVER.octets());
    assert_gue_sum(&packet[8..40], &packet[40..], tunnel);
    Ipv6Addr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap())
}

#[test]
fn ipv6_flows_cover_their_network_too() {
    let (key, server) = ipv6_service();
    for tunnel in [TunnelKind::Ipip, GRE_SUM, GUE_SUM] {
        let mut lab = ipv6::lab();
        let options = service_options("2001:db8:9::ab40/122");
        lab.apply(&Command::EditService(key, options));
        lab.apply(&Command::EditServer(key, server, server_options(tunnel)));
        let mut all = BTreeSet::new();
        for client_port in 2000..3000 {
            let of_flow: BTreeSet<_> = [SYN, ACK]
                .iter()
                .flat_map(|flags| {
                    let packet = ipv6::packet(6, &segment(client_port, *flags, b""));
                    lab.answers(&ipv6::frame(&packet))
                })
                .map(|(_, frame)| source_of_v6(&frame, tunnel))
                .collect();
            assert_eq!(of_flow.len(), 1);
            all.extend(of_flow);
        }
        let network: BTreeSet<_> = (0xab40..0xab80)
            .map(|low| Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, low))
            .collect();
        assert_eq!(all, network, "{tunnel:?}");
    }
}

#[test]
fn servers_of_the_other_ip_version_get_packets_from_where_their_route_says() {
    let mut lab = lab("2001:db8:9::ab00/120", TunnelKind::Ipip);
    let source = sources(&mut lab, &tcp(1000, SYN), TunnelKind::Ipip)[0];
    assert_eq!(source, SERVER_SIDE);
    lab.receive_at(1, 0, &too_long(source, 1400));
    lab.settle();
    assert_eq!(lab.counter("path_mtu_learned"), 1);
}
