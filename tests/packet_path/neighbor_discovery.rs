//! Neighbor Discovery between the director and its links.

use std::net::Ipv6Addr;

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions},
};

use crate::{
    frames::{GATEWAY_MAC, PORT_MACS, checksum, ethernet, segment},
    ipv6::{CLIENT, CLIENT_SIDE, SERVER_SIDE, VIP, frame, lab, packet},
    lab::{Checked, Lab, Setup, weight},
};

const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 0x99, 1];
const SYN: u8 = 0x02;

/// The group of an address, and its MAC.
fn group(address: Ipv6Addr) -> (Ipv6Addr, [u8; 6]) {
    let [.., a, b, c] = address.octets();
    let mut group = "ff02::1:ff00:0".parse::<Ipv6Addr>().unwrap().octets();
    group[13..].copy_from_slice(&[a, b, c]);
    (group.into(), [0x33, 0x33, 0xff, a, b, c])
}

/// A packet of Neighbor Discovery with its checksum.
fn message(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    (icmp_type, flags): (u8, u8),
    target: Ipv6Addr,
    option: &[u8],
) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend(option);
    let len = u8::try_from(message.len()).unwrap();
    let mut summed = Vec::new();
    summed.extend(source.octets());
    summed.extend(destination.octets());
    summed.extend([0, 0, 0, len, 0, 0, 0, 58]);
    summed.extend(&message);
    let sum = checksum(&summed);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, len, 58, 255];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}

fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// The gateway asks for an address.
fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let (to, mac) = group(target);
    let packet = message((GATEWAY, to), (135, 0), target, &option(1, GATEWAY_MAC));
    ethernet(mac, GATEWAY_MAC, 0x86dd, &packet)
}

/// Another station asks whether anybody has an address.
fn probe(target: Ipv6Addr) -> Vec<u8> {
    let (to, mac) = group(target);
    let packet = message((Ipv6Addr::UNSPECIFIED, to), (135, 0), target, &[]);
    ethernet(mac, STRANGER_MAC, 0x86dd, &packet)
}

/// Another station says that it has an address.
fn claim(target: Ipv6Addr) -> Vec<u8> {
    let option = option(2, STRANGER_MAC);
    let packet = message((target, ALL_NODES), (136, 0x20), target, &option);
    ethernet(ALL_NODES_MAC, STRANGER_MAC, 0x86dd, &packet)
}

/// Type, flags and target of a sent message, with port and destination.
fn read((port, frame): &(u8, Vec<u8>)) -> (u8, [u8; 6], u8, u8, Ipv6Addr) {
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    let target: [u8; 16] = frame[62..78].try_into().unwrap();
    (
        *port,
        frame[..6].try_into().unwrap(),
        frame[54],
        frame[58],
        target.into(),
    )
}

/// A director whose addresses are not probed yet.
fn fresh() -> Lab {
    Lab::with(&Setup {
        ipv6: true,
        ..Setup::default()
    })
}

#[test]
fn own_addresses_are_answered_for_at_their_port_and_vips_at_any() {
    let mut lab = lab();
    let mut answers = |port: u8, target| {
        lab.take_sent();
        lab.receive_at(port, 0, &{
            let mut frame = solicitation(target);
            frame[6..12].copy_from_slice(&GATEWAY_MAC);
            frame
        });
        lab.settle();
        lab.take_sent().iter().map(read).collect::<Vec<_>>()
    };
    let advertised = |port, target| vec![(port, GATEWAY_MAC, 136, 0x60, target)];
    assert_eq!(answers(0, CLIENT_SIDE), advertised(0, CLIENT_SIDE));
    assert_eq!(answers(1, CLIENT_SIDE), []);
    assert_eq!(answers(1, SERVER_SIDE), advertised(1, SERVER_SIDE));
    assert_eq!(answers(0, VIP), advertised(0, VIP));
    assert_eq!(answers(1, VIP), advertised(1, VIP));
    assert_eq!(answers(0, CLIENT), []);
}

#[test]
fn a_probe_for_an_address_in_use_is_answered_to_all_nodes() {
    let mut lab = lab();
    lab.send(&probe(VIP));
    let sent: Vec<_> = lab.take_sent().iter().map(read).collect();
    assert_eq!(sent, [(0, ALL_NODES_MAC, 136, 0x20, VIP)]);
    assert_eq!(lab.counter("address_conflict"), 1);
}

#[test]
fn addresses_are_probed_and_then_announced() {
    let mut lab = fresh();
    lab.director.management.apply(&Command::Flush).unwrap();
    let key = ServiceKey::Vip {
        protocol: Protocol::Tcp,
        address: (VIP, 81).into(),
    };
    let options = ServiceOptions::from(SchedulerKind::Rr);
    lab.apply(&Command::AddService(key, options));
    let (_, mac) = group(VIP);
    let sent = lab.take_sent();
    let probes: Vec<_> = sent
        .iter()
        .filter(|(_, frame)| frame[54] == 135)
        .map(|sent| (read(sent), sent.1[22..38].to_vec()))
        .collect();
    let unspecified = vec![0; 16];
    assert_eq!(
        probes,
        [0, 1].map(|port| ((port, mac, 135, 0, VIP), unspecified.clone()))
    );
    // Reports of the group, for switches.
    let reports = sent.iter().filter(|(_, frame)| frame[62] == 143);
    assert_eq!(reports.count(), 2);
    assert_eq!(lab.answers(&solicitation(VIP)), []);

    lab.advance(1_000);
    let sent: Vec<_> = lab.take_sent().iter().map(read).collect();
    for port in [0, 1] {
        assert!(
            sent.contains(&(port, ALL_NODES_MAC, 136, 0x20, VIP)),
            "{sent:?}"
        );
    }
    assert_eq!(lab.answers(&solicitation(VIP)).len(), 1);
}

#[test]
fn an_address_that_another_station_has_is_left_to_it() {
    let mut lab = fresh();
    lab.send(&claim(VIP));
    assert_eq!(lab.counter("address_conflict"), 1);
    lab.advance(2_000);
    let sent: Vec<_> = lab.take_sent().iter().map(read).collect();
    assert!(!sent.iter().any(|&(.., target)| target == VIP), "{sent:?}");
    assert_eq!(lab.answers(&solicitation(VIP)), []);
    // Probed again, and free now.
    lab.advance(30_000);
    lab.take_sent();
    lab.advance(1_000);
    let sent: Vec<_> = lab.take_sent().iter().map(read).collect();
    assert!(
        sent.contains(&(0, ALL_NODES_MAC, 136, 0x20, VIP)),
        "{sent:?}"
    );
    assert_eq!(lab.answers(&solicitation(VIP)).len(), 1);
}

/// A director with a service whose server it has to look for.
fn with_unknown_server() -> (Lab, Ipv6Addr) {
    let mut lab = lab();
    let rip: Ipv6Addr = "2001:db8:2::99".parse().unwrap();
    let key = ServiceKey::Vip {
        protocol: Protocol::Tcp,
        address: (VIP, 81).into(),
    };
    let options = ServiceOptions::from(SchedulerKind::Rr);
    lab.command(&Command::AddService(key, options));
    let server = ServerKey {
        address: rip.into(),
    };
    lab.apply(&Command::AddServer(key, server, weight(1)));
    lab.take_sent();
    (lab, rip)
}

fn syn_to_81() -> Vec<u8> {
    let mut segment = segment(1000, SYN, b"");
    segment[3] = 81;
    frame(&packet(6, &segment))
}

#[test]
fn a_server_is_found_by_its_solicited_node_group() {
    let (mut lab, rip) = with_unknown_server();
    let sent = lab.answers(&syn_to_81());
    let (_, mac) = group(rip);
    assert_eq!(
        sent.iter().map(read).collect::<Vec<_>>(),
        [(1, mac, 135, 0, rip)]
    );
    assert_eq!(sent[0].1[22..38], SERVER_SIDE.octets());
    let answer = message(
        (rip, SERVER_SIDE),
        (136, 0x60),
        rip,
        &option(2, STRANGER_MAC),
    );
    lab.receive_at(1, 0, &ethernet(PORT_MACS[1], STRANGER_MAC, 0x86dd, &answer));
    lab.settle();
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    assert_eq!(sent[0].1[..6], STRANGER_MAC);
    assert_eq!(sent[0].1[38..54], rip.octets(), "the waiting packet");
}

#[test]
fn a_server_that_does_not_answer_is_an_unreachable_address() {
    let (mut lab, _) = with_unknown_server();
    lab.send(&syn_to_81());
    let mut solicitations = 0;
    let mut errors = Vec::new();
    for _ in 0..5 {
        for (port, frame) in lab.take_sent() {
            match frame[54] {
                135 => solicitations += 1,
                _ => errors.push((port, frame)),
            }
        }
        lab.advance(1_000);
    }
    assert_eq!(solicitations, 3);
    assert_eq!(errors.len(), 1, "{errors:02x?}");
    assert_eq!(errors[0].1[54..56], [1, 3]);
    assert_eq!(errors[0].1[22..38], VIP.octets());
}

pub(crate) fn a_solicitation_from_beyond_the_link_is_bad(counter: &str) -> Checked {
    let mut lab = lab();
    let mut far = solicitation(VIP);
    far[14 + 7] = 254;
    let allowed = ["neighbor_discovery"];
    let checked = lab.counts_one_and(counter, &allowed, |lab| lab.send(&far));
    assert_eq!(lab.take_sent(), []);
    checked
}
