//! Every way in which a packet can be wrong is found and named.
use std::collections::BTreeSet;

use super::*;
use crate::pktgen::{MismatchKind, Tunnel, plan::Fragmentation, size::SizeMix};

/// Writes the checksum of an outer IPv4 header anew.
fn fix_outer(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
}

/// A lab, and a packet of it that came out of a tunnel well.
fn lab_with(change: impl FnOnce(&mut Options), wrap: impl Fn(&[u8]) -> Vec<u8>) -> (Lab, Vec<u8>) {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.sizes = SizeMix::fixed(100);
        options.tcp = crate::pktgen::plan::TcpTraffic::Ack;
        change(options);
    });
    let sent = lab.sent();
    let frame = wrap(&sent[0]);
    (lab, frame)
}

/// What is wrong with a frame, of which all else is right.
fn found(
    change: impl FnOnce(&mut Options),
    wrap: impl Fn(&[u8]) -> Vec<u8>,
    corrupt: impl FnOnce(&mut Vec<u8>),
) -> &'static str {
    let (mut lab, mut frame) = lab_with(change, wrap);
    corrupt(&mut frame);
    lab.receive(&frame);
    let found = lab.mismatches();
    assert_eq!(found.values().sum::<u64>(), 1, "{found:?}");
    let sample = &lab.pktgen.checker().mismatches().samples()[0];
    assert_eq!(sample.frame, frame);
    found.into_keys().next().unwrap()
}

fn gre(frame: &[u8]) -> Vec<u8> {
    tunnelled(frame, Around::V4, (47, &[0, 0, 8, 0]))
}

/// The inner packet as a director passes it on.
fn inner(frame: &[u8]) -> Vec<u8> {
    ipip(frame)[34..].to_vec()
}

fn gre_csum(frame: &[u8]) -> Vec<u8> {
    let header = [0x80, 0, 8, 0, 0, 0, 0, 0];
    let sum = checksum(&[&header, inner(frame).as_slice()].concat());
    tunnelled(
        frame,
        Around::V4,
        (47, &[0x80, 0, 8, 0, sum[0], sum[1], 0, 0]),
    )
}

fn gue_from(frame: &[u8], source_port: u16, has_checksum: bool) -> Vec<u8> {
    let inner = inner(frame);
    let len = u16::try_from(8 + 4 + inner.len()).unwrap().to_be_bytes();
    let [s0, s1] = source_port.to_be_bytes();
    let mut header = [s0, s1, 0x17, 0xc0, len[0], len[1], 0, 0, 0, 4, 0, 0];
    if has_checksum {
        let pseudo_header = [10, 0, 0, 1, 10, 0, 0, 11, 0, 17, len[0], len[1]];
        let sum = checksum(&[&pseudo_header[..], &header, &inner].concat());
        header[6..8].copy_from_slice(&sum);
    }
    tunnelled(frame, Around::V4, (17, &header))
}

fn gue(frame: &[u8]) -> Vec<u8> {
    gue_from(frame, 50_000, false)
}

fn gue_csum(frame: &[u8]) -> Vec<u8> {
    gue_from(frame, 50_000, true)
}

fn in_ipv6(frame: &[u8]) -> Vec<u8> {
    tunnelled(frame, Around::V6, (4, &[]))
}

fn with_ipv6_server(options: &mut Options) {
    options.servers.push("2001:db8:2::11".parse().unwrap());
}

#[test]
fn good_packets_of_every_tunnel_pass() {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    let wraps: [(Tunnel, &str, Wrap); 6] = [
        (Tunnel::Ipip, "ipip 4in4", ipip),
        (Tunnel::Ipip, "ipip 4in6", in_ipv6),
        (Tunnel::Gre, "gre 4in4", gre),
        (Tunnel::GreChecksum, "gre-csum 4in4", gre_csum),
        (Tunnel::Gue, "gue 4in4", gue),
        (Tunnel::GueChecksum, "gue-csum 4in4", gue_csum),
    ];
    for (tunnel, name, wrap) in wraps {
        let expect = |options: &mut Options| {
            options.tunnel = Some(tunnel);
            with_ipv6_server(options);
        };
        let (mut lab, frame) = lab_with(expect, wrap);
        lab.receive(&frame);
        assert_eq!(lab.mismatches(), BTreeMap::new(), "{name}");
        let report = Report::of(&lab.pktgen);
        assert_eq!(report.tunnels, BTreeMap::from([(name.to_owned(), 1)]));
    }
}

/// What is found, in which run, of which tunnel, after which change of a good
/// frame.
type Case = (
    &'static str,
    fn(&mut Options),
    fn(&[u8]) -> Vec<u8>,
    fn(&mut Vec<u8>),
);

const LINK: [Case; 3] = [
    ("destination_mac", as_it_is, ipip, |f| f[5] ^= 1),
    ("frame_length", as_it_is, ipip, |f| f.push(0)),
    ("vlan_tag", as_it_is, ipip, |f| {
        f.splice(12..12, [0x81, 0, 0, 9]);
    }),
];

const OUTER: [Case; 10] = [
    ("outer_checksum", as_it_is, ipip, |f| f[24] ^= 1),
    ("outer_header", as_it_is, ipip, |f| set_outer(f, 17, 0xff)),
    ("outer_fragment", as_it_is, ipip, |f| set_outer(f, 20, 0x20)),
    ("outer_protocol", as_it_is, ipip, |f| set_outer(f, 23, 5)),
    ("outer_ttl", as_it_is, ipip, |f| set_outer(f, 22, 62)),
    ("outer_tos", as_it_is, ipip, |f| set_outer(f, 15, 4)),
    ("outer_df", as_it_is, ipip, |f| set_outer(f, 20, 0)),
    ("outer_id", as_it_is, ipip, |f| set_outer(f, 19, 1)),
    ("outer_source", from_elsewhere, ipip, |_| {}),
    ("outer_flow_label", with_ipv6_server, in_ipv6, |f| f[17] = 1),
];

const TUNNEL: [Case; 7] = [
    ("tunnel_kind", expecting_gre, ipip, |_| {}),
    ("gre_header", as_it_is, gre, |f| f[34] = 0x20),
    ("gre_header", as_it_is, gre, |f| f[37] = 0x06),
    ("gre_checksum", as_it_is, gre_csum, |f| f[38] ^= 1),
    ("gue_header", as_it_is, gue, |f| f[42] = 0x40),
    ("gue_header", as_it_is, gue, |f| f[43] = 6),
    ("gue_checksum", as_it_is, gue_csum, |f| f[41] ^= 1),
];

const INNER: [Case; 11] = [
    ("inner_length", as_it_is, ipip, |f| {
        f.push(0);
        let len = f[17] + 1;
        set_outer(f, 17, len);
    }),
    ("inner_unknown", as_it_is, ipip, |f| f[34] = 0x65),
    ("inner_unknown", as_it_is, ipip, |f| f[63] = 9),
    ("inner_ttl", as_it_is, ipip, |f| set_inner(f, 42, 64)),
    ("inner_checksum", as_it_is, ipip, |f| f[44] ^= 1),
    ("inner_header", as_it_is, ipip, |f| set_inner(f, 35, 4)),
    ("inner_addresses", as_it_is, ipip, |f| set_inner(f, 53, 11)),
    ("inner_ports", as_it_is, ipip, |f| f[57] ^= 1),
    ("inner_l4", as_it_is, ipip, |f| f[67] ^= 1),
    ("inner_l4", as_it_is, ipip, |f| f[79] ^= 1),
    ("inner_payload", as_it_is, ipip, |f| f[119] ^= 1),
];

/// Have tests of their own, as they take more than a changed frame.
const OTHERS: [&str; 6] = [
    "scattered",
    "wrong_port",
    "source_mac",
    "gue_source_port",
    "never_sent",
    "flow_moved",
];

fn as_it_is(_: &mut Options) {}

fn from_elsewhere(options: &mut Options) {
    options.outer_sources = Some("10.0.9.0/24".parse().unwrap());
}

fn expecting_gre(options: &mut Options) {
    options.tunnel = Some(Tunnel::Gre);
}

/// Changes a byte of an outer IPv4 header, and its checksum with it.
fn set_outer(frame: &mut [u8], at: usize, value: u8) {
    assert_ne!(frame[at], value);
    frame[at] = value;
    fix_outer(frame);
}

/// Changes a byte of the inner IPv4 header in IPIP, and its checksum with it.
fn set_inner(frame: &mut [u8], at: usize, value: u8) {
    assert_ne!(frame[at], value);
    frame[at] = value;
    frame[44..46].fill(0);
    let sum = checksum(&frame[34..54]);
    frame[44..46].copy_from_slice(&sum);
}

#[test]
fn each_kind_is_found_and_named() {
    let mut named = BTreeSet::from(OTHERS);
    let cases = [LINK.as_slice(), &OUTER, &TUNNEL, &INNER].concat();
    for (expected, change, wrap, corrupt) in cases {
        assert_eq!(found(change, wrap, corrupt), expected);
        named.insert(expected);
    }
    let all: BTreeSet<_> = MismatchKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(named, all);
}

/// What is wrong with the second of two packets of a flow.
fn found_in_second(
    change: impl FnOnce(&mut Options),
    wrap: impl Fn(&[u8], usize) -> Vec<u8>,
) -> BTreeMap<&'static str, u64> {
    let (mut lab, first) = lab_with(change, |frame| wrap(frame, 0));
    lab.receive(&first);
    assert_eq!(lab.mismatches(), BTreeMap::new());
    let second = lab.sent();
    lab.receive(&wrap(&second[0], 1));
    lab.mismatches()
}

#[test]
fn a_flow_that_moves_to_another_server_is_found() {
    let found = found_in_second(
        |_| {},
        |frame, number| {
            let mut frame = ipip(frame);
            frame[33] += u8::try_from(number).unwrap();
            fix_outer(&mut frame);
            frame
        },
    );
    assert_eq!(found, BTreeMap::from([("flow_moved", 1)]));
}

#[test]
fn what_is_the_same_for_a_server_must_stay_the_same() {
    let source_mac = |frame: &[u8], number: usize| {
        let mut frame = ipip(frame);
        frame[11] ^= u8::try_from(number).unwrap();
        frame
    };
    let outer_source = |frame: &[u8], number: usize| {
        let mut frame = ipip(frame);
        frame[29] ^= u8::try_from(number).unwrap();
        fix_outer(&mut frame);
        frame
    };
    let tunnel = |frame: &[u8], number: usize| if number == 0 { ipip(frame) } else { gre(frame) };
    let gue_source_port = |frame: &[u8], number: usize| {
        gue_from(frame, 50_000 + u16::try_from(number).unwrap(), true)
    };
    let one = |name| BTreeMap::from([(name, 1)]);
    assert_eq!(found_in_second(|_| {}, source_mac), one("source_mac"));
    assert_eq!(found_in_second(|_| {}, outer_source), one("outer_source"));
    assert_eq!(found_in_second(|_| {}, tunnel), one("tunnel_kind"));
    assert_eq!(
        found_in_second(|_| {}, gue_source_port),
        one("gue_source_port")
    );
}

#[test]
fn an_identification_that_does_not_change_is_found() {
    let (mut lab, frame) = lab_with(|options| options.dont_fragment = false, ipip);
    for _ in 0..3 {
        lab.receive(&frame);
        assert_eq!(lab.mismatches(), BTreeMap::new());
    }
    lab.receive(&frame);
    assert_eq!(lab.mismatches(), BTreeMap::from([("outer_id", 1)]));
}

#[test]
fn an_outer_df_that_may_not_be_set_is_found() {
    let found = found(
        |options| options.outer_df = crate::pktgen::plan::ExpectedDf::Clear,
        ipip,
        |_| {},
    );
    assert_eq!(found, "outer_df");
}

#[test]
fn a_frame_on_the_wrong_port_or_in_pieces_is_found() {
    let (mut lab, frame) = lab_with(|_| {}, ipip);
    lab.receive_at(0, &frame);
    assert_eq!(lab.mismatches(), BTreeMap::from([("wrong_port", 1)]));
    assert!(lab.network.send_scattered(PortIndex(1), 0, &frame));
    lab.turn();
    assert_eq!(lab.mismatches()["scattered"], 1);
}

#[test]
fn a_packet_that_was_never_sent_is_found() {
    // The next packet of another run with the same plan.
    let (mut other, first) = lab_with(|_| {}, ipip);
    other.receive(&first);
    let second = other.sent();
    let (mut lab, _) = lab_with(|_| {}, ipip);
    lab.receive(&ipip(&second[0]));
    assert_eq!(lab.mismatches(), BTreeMap::from([("never_sent", 1)]));
}

#[test]
fn padding_of_a_short_frame_is_no_mismatch() {
    let (mut lab, frame) = lab_with(|options| options.sizes = SizeMix::fixed(60), ipip);
    assert_eq!(frame.len(), 80);
    lab.receive(&frame);
    assert_eq!(lab.mismatches(), BTreeMap::new());
}

#[test]
fn fragments_are_checked_like_other_packets() {
    let mut lab = Lab::new("198.51.100.10:53/udp", |options| {
        options.sizes = SizeMix::fixed(200);
        options.fragmentation = Some(Fragmentation {
            percent: 100,
            parts: 3,
            reversed: true,
        });
    });
    let sent = lab.sent();
    assert_eq!(sent.len() % 3, 0);
    // Offsets 2 * 160, 160 and 0, in units of eight bytes.
    let words: Vec<_> = sent[..3]
        .iter()
        .map(|frame| frame[20..22].to_vec())
        .collect();
    assert_eq!(words, [[0x00, 40], [0x20, 20], [0x20, 0]]);
    for frame in &sent[..3] {
        lab.receive(&ipip(frame));
    }
    assert_eq!(lab.mismatches(), BTreeMap::new());
    assert_eq!(lab.pktgen.checker().received().packets, 3);
    // Another fragment, with a byte changed.
    let mut frame = ipip(&sent[0]);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    lab.receive(&frame);
    assert_eq!(lab.mismatches(), BTreeMap::from([("inner_payload", 1)]));
    // One that went to another server.
    let mut frame = ipip(&sent[1]);
    frame[33] += 1;
    fix_outer(&mut frame);
    lab.receive(&frame);
    assert_eq!(lab.mismatches()["flow_moved"], 1);
}

#[test]
fn ipv6_packets_are_checked_like_those_of_ipv4() {
    let ipv6 = |protocol, around| move |frame: &[u8]| tunnelled(frame, around, (protocol, &[]));
    let mut lab = Lab::new("[2001:db8::10]:80", with_ipv6_server);
    let sent = lab.sent();
    lab.receive(&ipv6(41, Around::V4)(&sent[0]));
    assert_eq!(lab.mismatches(), BTreeMap::new());
    let mut lab = Lab::new("[2001:db8::10]:80", with_ipv6_server);
    let sent = lab.sent();
    let good = ipv6(41, Around::V6)(&sent[0]);
    lab.receive(&good);
    assert_eq!(lab.mismatches(), BTreeMap::new());
    // Inner hop limit, VIP, service port and sequence number.
    for (at, name) in [
        (54 + 7, "inner_ttl"),
        (54 + 39, "inner_addresses"),
        (54 + 43, "inner_ports"),
        (54 + 57, "inner_l4"),
    ] {
        let mut frame = good.clone();
        frame[at] ^= 1;
        lab.receive(&frame);
        assert_eq!(lab.mismatches()[name], 1, "{name}");
    }
}

/// A frame as one that only swaps MAC addresses sends it, by the other port.
fn reflected(frame: &[u8]) -> Vec<u8> {
    [&SERVERS_MAC[..], &DIRECTOR_MAC, &frame[12..]].concat()
}

#[test]
fn reflected_frames_must_be_as_they_were_sent() {
    let reflect = |options: &mut Options| {
        options.reflected = true;
        options.servers.clear();
    };
    let mut lab = Lab::new("198.51.100.10:80", reflect);
    let report = lab.run(|frame| vec![reflected(&frame)]);
    assert!(report.passed, "{report}");
    assert_eq!(report.received.packets, report.sent.packets, "{report}");

    let (mut lab, frame) = lab_with(reflect, reflected);
    lab.receive(&frame);
    assert_eq!(lab.mismatches(), BTreeMap::new());
    assert_eq!(Report::of(&lab.pktgen).tunnels, BTreeMap::new());

    let change = |at: usize| move |frame: &mut Vec<u8>| frame[at] ^= 1;
    assert_eq!(found(reflect, reflected, change(0)), "destination_mac");
    assert_eq!(found(reflect, reflected, change(22)), "inner_ttl");
    assert_eq!(found(reflect, reflected, change(33)), "inner_addresses");
    assert_eq!(found(reflect, reflected, change(99)), "inner_payload");
    let longer = |frame: &mut Vec<u8>| frame.push(0);
    assert_eq!(found(reflect, reflected, longer), "frame_length");
    assert_eq!(found(reflect, ipip, |_| {}), "inner_unknown");
}
