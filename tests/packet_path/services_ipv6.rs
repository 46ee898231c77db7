//! What services over IPv6 can do besides: persistence, marks, networks of
//! VIPs, and bounds of the connection table.

use std::net::{IpAddr, Ipv6Addr};

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::SchedulerKind,
    service::{
        ClientMask, MarkGroup, Persistence, Protocol, ServerKey, ServiceKey, ServiceOptions,
        Tunables,
    },
};

use crate::{
    fragments_ipv6::inner,
    frames::{self, ACK, SYN},
    frames_ipv6::{Ip6, server, tcp, tcp_from, to},
    handoff_ipv6::{OTHER_VIP, datagram, server_of, services, syn},
    ipv6,
    lab::{Lab, Setup, web_service, weight},
};

fn persistent(prefix_len: u8) -> ServiceOptions {
    ServiceOptions {
        persistence: Some(Persistence {
            timeout_s: 360,
            mask: ClientMask::PrefixLen(prefix_len),
        }),
        ..ServiceOptions::from(SchedulerKind::Rr)
    }
}

fn client(network: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, network, host, 0, 0, host)
}

fn syn_from(source: Ipv6Addr, client_port: u16) -> Ip6 {
    to(OTHER_VIP, tcp_from(source, client_port, SYN, b""))
}

#[test]
fn clients_of_one_prefix_go_to_one_server_by_all_workers() {
    // A prefix length that is no whole number of words, and one of all bits.
    for (prefix_len, templates) in [(62, 5), (64, 20), (128, 60)] {
        for workers in [1, 2, 4] {
            let mut lab = ipv6::lab_of(Setup {
                workers,
                services: services(persistent(prefix_len)),
                ..Setup::default()
            });
            let mut picked = Vec::new();
            for network in 0..20_u16 {
                for host in 0..3 {
                    for worker in 0..workers {
                        let port = 1000 + u16::try_from(worker).unwrap();
                        let packet = syn_from(client(network, host), port);
                        let to = server_of(&mut lab, worker, &packet);
                        picked.push((masked(client(network, host), prefix_len), to));
                    }
                }
            }
            picked.sort_unstable();
            picked.dedup();
            // One server each, and both have some.
            assert_eq!(picked.len(), templates, "/{prefix_len}, {workers} workers");
            for host in [0x12, 0x13] {
                assert!(picked.iter().any(|(_, to)| *to == host));
            }
            assert_eq!(lab.counter("templates"), templates as u64);
            lab.assert_everything_is_accounted_for();
        }
    }
}

fn masked(address: Ipv6Addr, prefix_len: u8) -> u128 {
    address.to_bits() >> (128 - u32::from(prefix_len))
}

const MARK: ServiceKey = ServiceKey::Mark {
    fwmark: 5,
    ipv6: true,
};

fn service_of(key: ServiceKey, host: u16) -> ServiceConfig {
    let address = server(host).into();
    ServiceConfig {
        key,
        options: ServiceOptions::from(SchedulerKind::Rr),
        servers: vec![(ServerKey { address }, weight(1))],
    }
}

fn group(vips: &[&str], protocols: &[Protocol], l4_ports: &[u16]) -> MarkGroup {
    MarkGroup {
        fwmark: 5,
        vips: vips.iter().map(|vips| vips.parse().unwrap()).collect(),
        protocols: protocols.to_vec(),
        l4_ports: l4_ports.iter().map(|port| *port..=*port).collect(),
    }
}

/// The last byte of the server that a packet goes to; `None` when into no
/// tunnel.
fn tunnelled(lab: &mut Lab, packet: &Ip6) -> Option<u8> {
    let sent = lab.answers(&packet.frame());
    let (_, frame) = sent.iter().find(|(port, _)| *port == 1)?;
    Some(inner(frame).0)
}

#[test]
fn a_mark_has_one_service_over_ipv6_and_one_over_ipv4() {
    let mark_over_ipv4 = ServiceKey::Mark {
        fwmark: 5,
        ipv6: false,
    };
    let mut lab = ipv6::lab_of(Setup {
        mark_groups: vec![
            group(
                &["2001:db8:ff::20/128", "198.51.100.10/32"],
                &[Protocol::Tcp],
                &[80],
            ),
            group(&["2001:db8:aa::/48"], &[Protocol::Udp], &[]),
        ],
        services: vec![
            service_of(MARK, 0x12),
            ServiceConfig {
                key: mark_over_ipv4,
                ..web_service(SchedulerKind::Rr, &[(14, 1)])
            },
            service_of(ServiceKey::at(Protocol::Tcp, (OTHER_VIP, 80).into()), 0x13),
        ],
        ..Setup::default()
    });
    // The mark goes before the address.
    assert_eq!(tunnelled(&mut lab, &syn(1000)), Some(0x12));
    assert_eq!(tunnelled(&mut lab, &datagram(1000, 8)), None);
    let in_network = Ipv6Addr::new(0x2001, 0xdb8, 0xaa, 7, 0, 0, 0, 9);
    let to_network = to(in_network, datagram(1000, 8));
    assert_eq!(tunnelled(&mut lab, &to_network), Some(0x12));
    let tcp_to_network = to(in_network, syn(1001));
    assert_eq!(tunnelled(&mut lab, &tcp_to_network), None);
    let over_ipv4 = lab.answers(&frames::tcp(1000, SYN).frame());
    assert_eq!(over_ipv4[0].1[30..34], [10, 0, 0, 14]);

    // Each goes without the other.
    lab.apply(&Command::DeleteService(mark_over_ipv4));
    assert_eq!(tunnelled(&mut lab, &syn(1000)), Some(0x12));
    assert_eq!(tunnelled(&mut lab, &syn(1002)), Some(0x12));
    lab.apply(&Command::DeleteService(MARK));
    assert_eq!(tunnelled(&mut lab, &syn(1003)), Some(0x13));
    let to_network = to(in_network, datagram(1004, 8));
    assert_eq!(tunnelled(&mut lab, &to_network), None);
    assert_eq!(lab.counter("not_local"), 1, "no VIP any more");
    lab.assert_everything_is_accounted_for();
}

#[test]
fn a_service_on_a_network_takes_all_its_vips_but_those_with_their_own() {
    let network = |network: &str, l4_port| ServiceKey::Network {
        protocol: Protocol::Tcp,
        network: network.parse().unwrap(),
        l4_port,
    };
    let mut lab = ipv6::lab_of(Setup {
        services: vec![
            service_of(network("2001:db8:a8::/46", 80), 0x11),
            service_of(network("2001:db8:aa:8000::/49", 80), 0x12),
            service_of(
                ServiceKey::at(Protocol::Tcp, "[2001:db8:aa:8000::1]:80".parse().unwrap()),
                0x13,
            ),
        ],
        ..Setup::default()
    });
    for (vip, expected) in [
        ("2001:db8:a8::", Some(0x11)),
        ("2001:db8:ab:ffff::1", Some(0x11)),
        ("2001:db8:aa:7fff:ffff:ffff:ffff:ffff", Some(0x11)),
        ("2001:db8:aa:8000::", Some(0x12)),
        ("2001:db8:aa:ffff::1", Some(0x12)),
        ("2001:db8:aa:8000::1", Some(0x13)),
        ("2001:db8:ac::", None),
        ("2001:db8:a7:ffff::", None),
    ] {
        let packet = to(vip.parse().unwrap(), tcp(1000, SYN, b""));
        assert_eq!(tunnelled(&mut lab, &packet), expected, "{vip}");
    }
    assert_eq!(lab.counter("not_local"), 2);
    lab.assert_everything_is_accounted_for();
}

/// With `expire_nodest_conn` each worker ends its connections of deleted
/// servers.
#[test]
fn connections_over_ipv6_of_a_deleted_server_end_on_every_worker() {
    let mut lab = ipv6::lab_of(Setup {
        workers: 2,
        tunables: Tunables {
            expire_nodest_conn: true,
            ..Tunables::default()
        },
        services: services(ServiceOptions::from(SchedulerKind::Rr)),
        ..Setup::default()
    });
    let mut hosts = Vec::new();
    for number in 0..400_u16 {
        let packet = syn_from(client(number, 1), 1000);
        hosts.push(server_of(&mut lab, usize::from(number) % 2, &packet));
    }
    assert_eq!(lab.counter("connections"), 400);
    let address = server(0x12).into();
    let key = services(ServiceOptions::from(SchedulerKind::Rr))[0].key;
    lab.apply(&Command::DeleteServer(key, ServerKey { address }));
    for worker in &mut lab.director.workers {
        let connections = worker.connections(lab.now);
        assert_eq!(connections.len(), 100);
        for connection in connections {
            let IpAddr::V6(client) = connection.client.ip() else {
                panic!("{connection:?}");
            };
            let number = usize::from(client.segments()[3]);
            assert_eq!(hosts[number], 0x13, "{connection:?}");
        }
    }
    assert_eq!(lab.counter("connections"), 200);
    lab.assert_everything_is_accounted_for();
}

/// A lab whose table has room for four connections over IPv6.
fn small() -> Lab {
    ipv6::lab_of(Setup {
        connections_max: 16,
        ..Setup::default()
    })
}

#[test]
fn a_full_table_of_established_connections_over_ipv6_takes_no_new_one() {
    let mut lab = small();
    for client_port in 1..=4 {
        for flags in [SYN, ACK] {
            lab.send(&tcp(client_port, flags, b"").frame());
        }
    }
    lab.take_sent();
    let _ = lab.counts_one("table_full", |lab| lab.send(&tcp(5, SYN, b"").frame()));
    assert_eq!(lab.take_sent(), []);
    assert_eq!(lab.counter("connections"), 4);
    // Those over IPv4 have room of their own.
    assert_eq!(lab.answers(&frames::tcp(5, SYN).frame()).len(), 1);
    assert_eq!(lab.counter("connections"), 5);
}

#[test]
fn a_syn_alone_over_ipv6_gives_way_in_a_full_table() {
    let mut lab = small();
    for client_port in 1..=4 {
        lab.send(&tcp(client_port, SYN, b"").frame());
    }
    lab.send(&tcp(1, ACK, b"").frame());
    let _ = lab.counts_one("connections_evicted", |lab| {
        lab.send(&tcp(5, SYN, b"").frame());
    });
    let states = [1, 2, 3, 4, 5].map(|client_port| lab.state_of(client_port));
    let syn = Some("SYN_RECV");
    assert_eq!(states, [Some("ESTABLISHED"), None, syn, syn, syn]);
}

/// One that ends frees its place.
#[test]
fn connections_over_ipv6_expire() {
    let mut lab = small();
    for client_port in 1..=4 {
        lab.send(&tcp(client_port, SYN, b"").frame());
    }
    lab.advance(62_000);
    lab.advance(2_000);
    assert_eq!(lab.counter("connections"), 0);
    assert_eq!(lab.counter("connections_expired"), 4);
}
