//! sh, dh and mh for clients over IPv6: the addresses as the number that the
//! models of IPv4 take.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions},
};
use proptest::prelude::*;

use super::{
    hashing::{List, destination_hashed, source_hashed},
    maglev,
};
use crate::{
    fragments_ipv6::inner,
    frames::{self, SYN},
    frames_ipv6::{server, tcp_from, to},
    ipv6,
    lab::{Lab, Setup, for_all, weight},
};

const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x20);

const KEY: ServiceKey = ServiceKey::Vip {
    protocol: Protocol::Tcp,
    address: SocketAddr::V6(SocketAddrV6::new(VIP, 80, 0, 0)),
};

/// An address as one number: its four words, one upon the other.
fn folded(address: Ipv6Addr) -> u32 {
    let octets = address.octets();
    let byte = |at: usize| (0..4).fold(0, |sum, word| sum ^ octets[4 * word + at]);
    u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)])
}

#[test]
fn folded_is_the_xor_of_four_words() {
    let address = "2001:db8:ff::20".parse().unwrap();
    assert_eq!(folded(address), 0x2001_0db8 ^ 0x00ff_0000 ^ 0x20);
}

/// The host for a client of mh, all servers having a weight.
fn maglev_hashed(list: &List, client: u32, client_port: u16, port: bool) -> Option<u8> {
    let entry = |&(host, weight): &(u8, u32)| {
        let address = match server_key(host).address {
            IpAddr::V6(address) => folded(address),
            IpAddr::V4(address) => address.to_bits(),
        };
        (host, address, weight)
    };
    let table = maglev::table(&list.iter().map(entry).collect::<Vec<_>>());
    let value = client.wrapping_add(if port { client_port.into() } else { 0 });
    table.get(maglev::slot(value)).copied()
}

/// The host that a new connection goes to, which comes to a worker.
fn connect(lab: &mut Lab, worker: usize, (client, client_port): (Ipv6Addr, u16)) -> Option<u8> {
    let syn = to(VIP, tcp_from(client, client_port, SYN, b""));
    lab.take_sent();
    lab.receive_at(0, worker, &syn.frame());
    lab.settle();
    let sent = lab.take_sent();
    let (_, frame) = sent.iter().find(|(port, _)| *port == 1)?;
    let host = if frame[12..14] == [8, 0] {
        frame[33]
    } else {
        inner(frame).0
    };
    // The next packet of the same client would be its connection's.
    lab.advance(70_000);
    Some(host)
}

fn lab(kind: SchedulerKind, flags: (bool, bool)) -> Lab {
    ipv6::lab_of(Setup {
        workers: 2,
        services: vec![ServiceConfig {
            key: KEY,
            options: ServiceOptions {
                flags: SchedulerFlags {
                    port: flags.0,
                    fallback: flags.1,
                },
                ..ServiceOptions::from(kind)
            },
            servers: Vec::new(),
        }],
        ..Setup::default()
    })
}

/// From 0x11 on over IPv6, below over IPv4.
fn server_key(host: u8) -> ServerKey {
    let address = if host >= 0x11 {
        server(host.into()).into()
    } else {
        frames::server(host).into()
    };
    ServerKey { address }
}

/// Servers in the order that they are added, and the weights of some after an
/// edit.
fn servers(least: u32) -> impl Strategy<Value = Vec<(u8, u32)>> {
    let hosts = Just(vec![0x11_u8, 0x12, 0x13, 0x14, 12, 13]).prop_shuffle();
    (hosts, prop::collection::vec(least..=9, 1..=6))
        .prop_map(|(hosts, weights)| hosts.into_iter().zip(weights).collect())
}

/// Clients of one network, and of anywhere.
fn clients() -> impl Strategy<Value = Vec<(Ipv6Addr, u16)>> {
    let near = any::<u16>().prop_map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host));
    // Global unicast addresses but for the director's own networks.
    let far = any::<[u16; 7]>()
        .prop_map(|[a, b, c, d, e, f, g]| Ipv6Addr::new(0x2a00 | a & 0xff, b, c, d, e, f, g, 0x77));
    let client = prop_oneof![near, far];
    prop::collection::vec((client, 1024..u16::MAX), 1..40)
}

fn add(lab: &mut Lab, servers: &[(u8, u32)]) -> List {
    let mut list = List::new();
    for &(host, value) in servers {
        lab.apply(&Command::AddServer(KEY, server_key(host), weight(value)));
        list.insert(0, (host, value));
    }
    list
}

#[test]
fn hashed_picks_over_ipv6_are_those_of_the_model() {
    let cases = (any::<bool>(), any::<(bool, bool)>(), servers(0), clients());
    for_all(
        60,
        &mut (),
        cases,
        |(), (is_source, flags, servers, clients)| {
            let kind = if is_source {
                SchedulerKind::Sh
            } else {
                SchedulerKind::Dh
            };
            let mut lab = lab(kind, flags);
            let mut list = add(&mut lab, &servers);
            for (round, &(client, client_port)) in clients.iter().enumerate() {
                if round == clients.len() / 2 {
                    let (host, _) = list.remove(0);
                    lab.apply(&Command::DeleteServer(KEY, server_key(host)));
                }
                let expected = if is_source {
                    source_hashed(&list, folded(client), client_port, flags)
                } else {
                    destination_hashed(&list, folded(VIP))
                };
                prop_assert_eq!(
                    connect(&mut lab, round % 2, (client, client_port)),
                    expected
                );
            }
            Ok(())
        },
    );
}

#[test]
fn maglev_picks_over_ipv6_are_those_of_the_model_on_every_worker() {
    let cases = (any::<bool>(), servers(1), clients());
    for_all(40, &mut (), cases, |(), (port, servers, clients)| {
        let mut lab = lab(SchedulerKind::Mh, (port, false));
        let list = add(&mut lab, &servers);
        for (round, (client, client_port)) in clients.into_iter().enumerate() {
            let expected = maglev_hashed(&list, folded(client), client_port, port);
            prop_assert!(expected.is_some());
            prop_assert_eq!(
                connect(&mut lab, round % 2, (client, client_port)),
                expected
            );
        }
        Ok(())
    });
}
