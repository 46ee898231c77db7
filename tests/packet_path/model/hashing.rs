//! sh and dh after the words of Linux IPVS: 256 buckets, filled anew by walking
//! the list of servers, whenever one is looked up.

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::{SchedulerFlags, SchedulerKind},
    service::ServiceOptions,
};
use proptest::prelude::*;

use crate::{
    frames::{Ip, SYN, VIP, tcp},
    lab::{Lab, Setup, for_all, server_key, web, web_service, weight},
};

/// Hosts with their weights, the newest first.
pub(super) type List = Vec<(u8, u32)>;

/// The golden ratio, as `hash_32` of Linux has it: the upper eight bits count.
fn bucket_of(value: u32) -> usize {
    (value.wrapping_mul(0x61c8_8647) >> 24) as usize
}

/// Each server takes as many buckets in a row as `turns` says.
fn buckets(list: &List, turns: impl Fn(u32) -> u32) -> Vec<(u8, u32)> {
    let mut row = Vec::new();
    while row.len() < 256 && !list.is_empty() {
        for &(host, weight) in list {
            row.extend((0..turns(weight)).map(|_| (host, weight)));
        }
    }
    row.truncate(256);
    row
}

/// The host for a client of sh. Weight 0 has a bucket, too, and cannot be used.
pub(super) fn source_hashed(
    list: &List,
    client: u32,
    client_port: u16,
    flags: (bool, bool),
) -> Option<u8> {
    let (port, fallback) = flags;
    let buckets = buckets(list, |weight| weight.max(1));
    let hashed = client.wrapping_add(if port { client_port.into() } else { 0 });
    let first = bucket_of(hashed);
    let usable = |at: usize| buckets.get(at).filter(|(_, weight)| *weight > 0);
    let second = (0..256)
        .filter(|_| fallback)
        .find_map(|offset| usable(((offset + first) % 256 + first) % 256));
    usable(first).or(second).map(|(host, _)| *host)
}

/// The host for a VIP of dh.
pub(super) fn destination_hashed(list: &List, vip: u32) -> Option<u8> {
    let buckets = buckets(list, |_| 1);
    let found = buckets
        .get(bucket_of(vip))
        .filter(|(_, weight)| *weight > 0);
    found.map(|(host, _)| *host)
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
    let weight = || 0..=9_u32;
    prop_oneof![
        3 => (host(), weight()).prop_map(|(host, weight)| Step::Add(host, weight)),
        1 => host().prop_map(Step::Delete),
        2 => (host(), weight()).prop_map(|(host, weight)| Step::Edit(host, weight)),
        8 => any::<u16>().prop_map(Step::Connect),
    ]
}

/// The host that a new connection goes to.
pub(super) fn connect(lab: &mut Lab, client: u32, client_port: u16) -> Option<u8> {
    let syn = Ip {
        source: client.into(),
        ..tcp(client_port, SYN)
    };
    let sent = lab.answers(&syn.frame());
    let tunnelled = sent.iter().find(|(port, _)| *port == 1);
    tunnelled.map(|(_, frame)| frame[33])
}

#[test]
fn hashed_picks_are_those_of_the_model_whatever_is_added_deleted_and_edited() {
    let cases = (
        any::<bool>(),
        any::<(bool, bool)>(),
        prop::collection::vec(step(), 1..80),
    );
    for_all(60, &mut (), cases, |(), (is_source, flags, steps)| {
        let kind = if is_source {
            SchedulerKind::Sh
        } else {
            SchedulerKind::Dh
        };
        let service = web_service(kind, &[]);
        let mut lab = Lab::with(&Setup {
            services: vec![ServiceConfig {
                options: ServiceOptions {
                    flags: SchedulerFlags {
                        port: flags.0,
                        fallback: flags.1,
                    },
                    ..service.options
                },
                ..service
            }],
            ..Setup::default()
        });
        let mut list = List::new();
        let mut client_port = 1000;
        for step in steps {
            let listed = |host| list.iter().position(|(listed, _)| *listed == host);
            match step {
                Step::Add(host, value) if listed(host).is_none() => {
                    lab.apply(&Command::AddServer(web(), server_key(host), weight(value)));
                    list.insert(0, (host, value));
                }
                Step::Edit(host, value) => {
                    if let Some(at) = listed(host) {
                        lab.apply(&Command::EditServer(web(), server_key(host), weight(value)));
                        list[at].1 = value;
                    }
                }
                Step::Delete(host) => {
                    if let Some(at) = listed(host) {
                        lab.delete_server(host);
                        list.remove(at);
                    }
                }
                Step::Connect(number) => {
                    let client = u32::from_be_bytes([203, 1, 0, 0]) + u32::from(number);
                    // No client comes back to a connection of before.
                    client_port += 1;
                    let expected = if is_source {
                        source_hashed(&list, client, client_port, flags)
                    } else {
                        destination_hashed(&list, VIP.to_bits())
                    };
                    prop_assert_eq!(connect(&mut lab, client, client_port), expected);
                }
                Step::Add(..) => {}
            }
        }
        Ok(())
    });
}
