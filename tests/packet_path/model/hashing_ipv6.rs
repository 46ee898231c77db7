//! sh, dh and mh for clients over IPv6: the addresses as the number that the
//! model of IPv4 takes, and Maglev's table after the words of its paper.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions},
};
use proptest::prelude::*;

use super::hashing::{List, destination_hashed, source_hashed};
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

/// SipHash-1-3 of four bytes, by its paper (Aumasson and Bernstein, 2012).
fn sip_hash_1_3(key: u64, value: u32) -> u64 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
    let mut v = [*b"somepseu", *b"dorandom", *b"lygenera", *b"tedbytes"]
        .map(|text| u64::from_be_bytes(text) ^ key);
    // The only word: its bytes, and how many there are in all.
    let word = u64::from(value) | 4 << 56;
    v[3] ^= word;
    round(&mut v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn maglev_hash(value: u32, key: u64) -> u32 {
    let bytes = sip_hash_1_3(key, value).to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

const SLOTS: u32 = 4093;
const LOOKUP: u64 = 2_654_435_761;
const SKIP: u64 = 2_654_446_892;

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// The table of Maglev: in each round a server takes so many free slots of its
/// own permutation as its weight has the common divisor.
fn maglev_table(list: &List) -> Vec<u8> {
    let divisor = list.iter().fold(0, |divisor, (_, weight)| {
        greatest_common_divisor(*weight, divisor)
    });
    let mut slots = vec![None; SLOTS as usize];
    let mut left = SLOTS;
    let permutation = |host: u8| {
        let address = match server_key(host).address {
            IpAddr::V6(address) => folded(address),
            IpAddr::V4(address) => address.to_bits(),
        };
        // A server's port is that of its service in a tunnel.
        let value = address.wrapping_add(80);
        let offset = maglev_hash(value, LOOKUP) % SLOTS;
        let skip = maglev_hash(value, SKIP) % (SLOTS - 1) + 1;
        (0..SLOTS).map(move |n| (u64::from(offset) + u64::from(n) * u64::from(skip)) % 4093)
    };
    let mut rows: Vec<_> = list
        .iter()
        .map(|&(host, weight)| (host, weight / divisor.max(1), permutation(host)))
        .collect();
    while left > 0 && divisor > 0 {
        for (host, turns, permutation) in &mut rows {
            for _ in 0..*turns {
                let free =
                    permutation.find(|slot| slots[usize::try_from(*slot).unwrap()].is_none());
                if let Some(slot) = free {
                    slots[usize::try_from(slot).unwrap()] = Some(*host);
                    left -= 1;
                }
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// The host for a client of mh, all servers having a weight.
fn maglev(list: &List, client: u32, client_port: u16, port: bool) -> Option<u8> {
    let value = client.wrapping_add(if port { client_port.into() } else { 0 });
    let slot = maglev_hash(value, LOOKUP) % SLOTS;
    maglev_table(list).get(slot as usize).copied()
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
            let expected = maglev(&list, folded(client), client_port, port);
            prop_assert!(expected.is_some());
            prop_assert_eq!(
                connect(&mut lab, round % 2, (client, client_port)),
                expected
            );
        }
        Ok(())
    });
}

/// Else the model would be wrong itself.
#[test]
fn all_servers_have_their_share_of_the_table() {
    let table = maglev_table(&vec![(0x11, 3), (0x12, 2), (0x13, 1)]);
    assert_eq!(table.len(), 4093);
    for (host, share) in [(0x11, 2046), (0x12, 1364), (0x13, 682)] {
        let taken = table
            .iter()
            .map(|taken| usize::from(*taken == host))
            .sum::<usize>();
        assert!(taken.abs_diff(share) <= 3, "{host}: {taken}");
    }
}
