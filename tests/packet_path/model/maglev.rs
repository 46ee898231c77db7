//! mh: Maglev's table after the words of its paper and of Linux IPVS, filled anew
//! whenever one is looked up; and over IPv4 all that may happen to the list of
//! servers behind it.

use std::collections::HashMap;

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{ServerOptions, ServiceOptions},
};
use proptest::prelude::*;

use super::hashing::connect;
use crate::{
    frames,
    lab::{Lab, Setup, for_all, server_key, web, web_service},
};

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

fn hash(value: u32, key: u64) -> u32 {
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
/// own permutation as its weight has the common divisor; all weights are halved
/// until the largest leaves no more than 63 in a row. Servers are hosts with
/// their addresses as a number, and weights; one without weight is not there.
pub(super) fn table(servers: &[(u8, u32, u32)]) -> Vec<u8> {
    let divisor = servers.iter().fold(0, |divisor, (_, _, weight)| {
        greatest_common_divisor(*weight, divisor)
    });
    let mut slots = vec![None; SLOTS as usize];
    let mut left = SLOTS;
    let most = servers.iter().map(|(_, _, weight)| weight).max();
    let mut halvings = 0;
    while most.is_some_and(|most| (most / divisor.max(1)) >> halvings > 63) {
        halvings += 1;
    }
    let turns = |weight: u32| match weight {
        0 => 0,
        _ => ((weight / divisor) >> halvings).max(1),
    };
    let permutation = |address: u32| {
        // A server's port is that of its service in a tunnel.
        let value = address.wrapping_add(80);
        let offset = hash(value, LOOKUP) % SLOTS;
        let skip = hash(value, SKIP) % (SLOTS - 1) + 1;
        (0..SLOTS).map(move |n| (u64::from(offset) + u64::from(n) * u64::from(skip)) % 4093)
    };
    let mut rows: Vec<_> = servers
        .iter()
        .map(|&(host, address, weight)| (host, turns(weight), permutation(address)))
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

/// The slot of a client, whose address and L4 port make this number.
pub(super) fn slot(value: u32) -> usize {
    (hash(value, LOOKUP) % SLOTS) as usize
}

/// The servers of a service, the newest first.
#[derive(Debug, Default)]
struct List(Vec<Server>);

#[derive(Clone, Copy, Debug)]
struct Server {
    host: u8,
    weight: u32,
    /// The last one that was not 0, since the server was added.
    last_weight: u32,
}

impl List {
    fn position(&self, host: u8) -> Option<usize> {
        self.0.iter().position(|server| server.host == host)
    }

    fn add(&mut self, host: u8, weight: u32) {
        let last_weight = weight;
        self.0.insert(
            0,
            Server {
                host,
                weight,
                last_weight,
            },
        );
    }

    fn edit(&mut self, host: u8, weight: u32) {
        let at = self.position(host).unwrap();
        let server = &mut self.0[at];
        server.weight = weight;
        if weight > 0 {
            server.last_weight = weight;
        }
    }

    /// The host for a client; `is_full` tells of a host whether it has as many
    /// connections as it may have.
    fn pick(
        &self,
        client: u32,
        client_port: u16,
        flags: SchedulerFlags,
        is_full: impl Fn(u8) -> bool,
    ) -> Option<u8> {
        let entry = |server: &Server| (server.host, address(server.host), server.last_weight);
        let table = table(&self.0.iter().map(entry).collect::<Vec<_>>());
        let client = client.wrapping_add(if flags.port { client_port.into() } else { 0 });
        let usable = |slot: usize| {
            let host = *table.get(slot)?;
            let weight = self.0[self.position(host).unwrap()].weight;
            (weight > 0 && !is_full(host)).then_some(host)
        };
        let first = slot(client);
        let others = (0..SLOTS as usize).filter(|_| flags.fallback);
        usable(first).or_else(|| {
            let mut slots = others.map(|step| {
                let offset = u32::try_from((step + first) % SLOTS as usize).unwrap();
                slot(client.wrapping_add(offset))
            });
            slots.find_map(usable)
        })
    }
}

/// As a number.
fn address(host: u8) -> u32 {
    frames::server(host).to_bits()
}

/// Connections that a host may have; 0 for any number.
const fn threshold(host: u8) -> u32 {
    match host {
        12 => 4,
        14 => 2,
        _ => 0,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u32),
    Delete(u8),
    Edit(u8, u32),
    /// A client, by the last two bytes of its address.
    Connect(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 11..=14_u8;
    let weight = || prop_oneof![2 => Just(0), 8 => 1..=9_u32, 1 => 1..=1_000_000_u32];
    prop_oneof![
        3 => (host(), weight()).prop_map(|(host, weight)| Step::Add(host, weight)),
        1 => host().prop_map(Step::Delete),
        2 => (host(), weight()).prop_map(|(host, weight)| Step::Edit(host, weight)),
        8 => any::<u16>().prop_map(Step::Connect),
    ]
}

fn lab(flags: SchedulerFlags) -> Lab {
    let service = web_service(SchedulerKind::Mh, &[]);
    Lab::with(&Setup {
        services: vec![ServiceConfig {
            options: ServiceOptions {
                flags,
                ..service.options
            },
            ..service
        }],
        ..Setup::default()
    })
}

fn options(host: u8, weight: u32) -> ServerOptions {
    ServerOptions {
        weight,
        upper_threshold: threshold(host),
        ..ServerOptions::default()
    }
}

/// What became of the steps, so that none of the cases is missing.
#[derive(Debug, Default)]
struct Seen {
    /// By the host that the table leads to.
    picked: u32,
    /// By another one.
    fell_back: u32,
    refused: u32,
}

#[test]
fn maglev_picks_are_those_of_the_model_whatever_is_added_deleted_and_edited() {
    let cases = (any::<(bool, bool)>(), prop::collection::vec(step(), 1..80));
    let mut seen = Seen::default();
    for_all(100, &mut seen, cases, |seen, ((port, fallback), steps)| {
        let flags = SchedulerFlags { fallback, port };
        let mut lab = lab(flags);
        let mut list = List::default();
        // Those of a deleted server stay, and count again when it is back.
        let mut connections = HashMap::<u8, u32>::new();
        let mut client_port = 1000;
        for step in steps {
            match step {
                Step::Add(host, value) if list.position(host).is_none() => {
                    let options = options(host, value);
                    lab.command(&Command::AddServer(web(), server_key(host), options));
                    list.add(host, value);
                }
                Step::Edit(host, value) if list.position(host).is_some() => {
                    let options = options(host, value);
                    lab.command(&Command::EditServer(web(), server_key(host), options));
                    list.edit(host, value);
                }
                Step::Delete(host) => {
                    if let Some(at) = list.position(host) {
                        lab.command(&Command::DeleteServer(web(), server_key(host)));
                        list.0.remove(at);
                    }
                }
                Step::Connect(number) => {
                    lab.settle();
                    let client = u32::from_be_bytes([203, 1, 0, 0]) + u32::from(number);
                    // No client comes back to a connection of before.
                    client_port += 1;
                    let is_full = |host| {
                        let count = connections.get(&host).copied().unwrap_or(0);
                        threshold(host) != 0 && count >= threshold(host)
                    };
                    let expected = list.pick(client, client_port, flags, is_full);
                    prop_assert_eq!(connect(&mut lab, client, client_port), expected);
                    let without = SchedulerFlags {
                        fallback: false,
                        ..flags
                    };
                    match expected {
                        None => seen.refused += 1,
                        _ if list.pick(client, client_port, without, is_full) == expected => {
                            seen.picked += 1;
                        }
                        _ => seen.fell_back += 1,
                    }
                    if let Some(host) = expected {
                        *connections.entry(host).or_default() += 1;
                    }
                }
                Step::Add(..) | Step::Edit(..) => {}
            }
        }
        Ok(())
    });
    let all_occurred = seen.picked > 0 && seen.fell_back > 0 && seen.refused > 0;
    assert!(all_occurred, "{seen:?}");
}

/// The model is not the product's twin: it knows the recorded picks of 24
/// clients (`07_mh_24src_w321` and `07_mh_fallback_24src_then_w0`) and of 24
/// ports of one (`07_mh_port_w321`).
#[test]
fn the_model_picks_as_recorded() {
    let mut list = List::default();
    for (host, weight) in [(11, 3), (12, 2), (13, 1)] {
        list.add(host, weight);
    }
    let picks = |list: &List, flags, clients: [u32; 24]| {
        let pick = |(client, client_port)| list.pick(client, client_port, flags, |_| false);
        let picked = clients.into_iter().zip(46_000..).filter_map(pick);
        picked.collect::<Vec<_>>()
    };
    let clients = [
        0x7108, 0x712d, 0x7152, 0x7177, 0x719c, 0x71c1, 0x71e6, 0x710d, 0x7232, 0x7257, 0x727c,
        0x72a1, 0x72c6, 0x72eb, 0x7212, 0x7237, 0x735c, 0x7381, 0x73a6, 0x73cb, 0x73f0, 0x7317,
        0x733c, 0x7361,
    ];
    let clients = clients.map(|low| 0xcb00_0000 | low);
    let mut flags = SchedulerFlags::default();
    assert_eq!(
        picks(&list, flags, clients),
        [
            12, 11, 11, 11, 12, 12, 11, 12, 12, 11, 12, 11, 13, 11, 11, 12, 11, 12, 11, 11, 12, 12,
            12, 11
        ]
    );
    flags.port = true;
    assert_eq!(
        picks(&list, flags, [0xcb00_7107; 24]),
        [
            11, 12, 12, 12, 12, 13, 13, 12, 11, 12, 12, 13, 11, 12, 11, 12, 11, 11, 12, 11, 11, 13,
            11, 12
        ]
    );
    list.edit(11, 0);
    flags = SchedulerFlags {
        fallback: true,
        port: false,
    };
    assert_eq!(
        picks(&list, flags, clients),
        [
            12, 13, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 13, 12, 13, 12, 13, 12, 13, 12, 12, 12,
            12, 13
        ]
    );
}

/// Else the model would be wrong itself.
#[test]
fn all_servers_have_their_share_of_the_table() {
    let table = table(&[
        (11, 0x0a00_000b, 3),
        (12, 0x0a00_000c, 2),
        (13, 0x0a00_000d, 1),
    ]);
    assert_eq!(table.len(), 4093);
    for (host, share) in [(11, 2046), (12, 1364), (13, 682)] {
        let taken = table
            .iter()
            .map(|taken| usize::from(*taken == host))
            .sum::<usize>();
        assert!(taken.abs_diff(share) <= 3, "{host}: {taken}");
    }
}
