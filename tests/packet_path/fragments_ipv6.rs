//! Fragments over IPv6: what the real server makes of those that it gets, and
//! each way to attack with one.

use std::{collections::BTreeMap, net::Ipv6Addr};

use pointsman::{
    config::ServiceConfig,
    io::BURST_LEN_MAX,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions},
};
use proptest::prelude::*;

use crate::{
    fragments::{Piece, put_together},
    frames::{ACK, PORT_MACS, SYN, counting, ethernet, server_mac},
    frames_ipv6::{
        DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, Ip6, cut, icmpv6, piece, server, tcp, to, udp,
    },
    ipv6::{self, CLIENT_SIDE, SERVER_SIDE, VIP},
    lab::{Checked, Lab, Setup, for_all, weight},
    properties::outer_tos_of,
};

/// The service UDP VIP:53 by rr with the servers 0x12 and 0x13, next to TCP
/// VIP:80 with 0x11.
fn lab_of(workers: usize) -> Lab {
    lab_with(workers, ServiceOptions::from(SchedulerKind::Rr))
}

fn lab_with(workers: usize, options: ServiceOptions) -> Lab {
    let servers = [0x12, 0x13].map(|host| {
        let address = server(host).into();
        (ServerKey { address }, weight(1))
    });
    ipv6::lab_of(Setup {
        workers,
        services: vec![ServiceConfig {
            key: ServiceKey::Vip {
                protocol: Protocol::Udp,
                address: (VIP, 53).into(),
            },
            options,
            servers: servers.to_vec(),
        }],
        ..Setup::default()
    })
}

/// The inner packet of a frame, and the last byte of the server's address.
pub(crate) fn inner(frame: &[u8]) -> (u8, Vec<u8>) {
    let host = frame[53];
    let mac = server_mac(host - 0x11 + 11);
    assert_eq!(frame[..14], *ethernet(mac, PORT_MACS[1], 0x86dd, b""));
    let (outer, inner) = frame[14..].split_at(40);
    // Congestion is not told outside, nor the flow label.
    let tos = outer_tos_of(inner[0] << 4 | inner[1] >> 4);
    assert_eq!(outer[..4], [0x60 | tos >> 4, tos << 4, 0, 0]);
    let payload_len = u16::from_be_bytes([outer[4], outer[5]]);
    assert_eq!(usize::from(payload_len), inner.len());
    assert_eq!(outer[6], 41);
    assert_eq!(outer[7], inner[7], "the hop limit is copied outward");
    assert_eq!(outer[8..24], SERVER_SIDE.octets());
    assert_eq!(outer[24..40], server(host.into()).octets());
    (host, inner.to_vec())
}

/// What real servers make of the packets they got: the payload behind the
/// fragment header of each whole datagram, by server and identification.
/// Written from RFC 8200 section 4.5 alone.
pub(crate) fn reassembled(sent: &[(u8, Vec<u8>)]) -> BTreeMap<(u8, u32), Vec<u8>> {
    let mut pieces = BTreeMap::<(u8, u32), Vec<Piece>>::new();
    for (port, frame) in sent {
        assert_eq!(*port, 1);
        let (host, packet) = inner(frame);
        let (mut next_header, mut at) = (packet[6], 40);
        while next_header != FRAGMENT {
            assert!(matches!(next_header, HOP_BY_HOP | DESTINATION_OPTIONS));
            next_header = packet[at];
            at += 8 * (usize::from(packet[at + 1]) + 1);
        }
        let field = u16::from_be_bytes([packet[at + 2], packet[at + 3]]);
        let id = u32::from_be_bytes(packet[at + 4..at + 8].try_into().unwrap());
        let payload = packet[at + 8..].to_vec();
        let piece = (usize::from(field & 0xfff8), field & 1 == 0, payload);
        pieces.entry((host, id)).or_default().push(piece);
    }
    put_together(pieces)
}

#[test]
fn each_fragment_over_ipv6_travels_by_itself_and_unchanged_but_for_its_hop_limit() {
    let mut lab = lab_of(1);
    let whole = Ip6 {
        tos: 3,
        flow_label: 0x1_2345,
        hop_limit: 9,
        ..udp(1000, 53, &counting(2000)).and_options(HOP_BY_HOP)
    };
    for fragment in cut(&whole, 7, 800) {
        lab.take_sent();
        lab.send(&fragment.frame());
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(inner(&sent[0].1), (0x13, fragment.one_hop_on()));
    }
    assert_eq!(lab.counter("fragments"), 3);
    assert_eq!(lab.counter("fragments_held"), 0);
    assert_eq!(lab.counter("forwarded"), 3);
    assert_eq!(lab.counter("connections"), 1);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn fragments_over_ipv6_that_wait_go_once_the_first_is_there() {
    let mut lab = lab_of(1);
    let whole = udp(1000, 53, &counting(4000));
    let fragments = cut(&whole, 7, 800);
    for fragment in fragments[1..].iter().rev() {
        lab.send(&fragment.frame());
        assert_eq!(lab.take_sent(), []);
    }
    assert_eq!(lab.counter("fragments_held"), 5);
    assert_eq!(lab.network.packets_in_use(), 5);
    assert_eq!(lab.counter("connections"), 0, "none of them schedules");
    lab.send(&fragments[0].frame());
    assert_eq!(reassembled(&lab.take_sent())[&(0x13, 7)], whole.payload);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn fragments_of_tcp_over_ipv6_belong_to_their_connection() {
    let mut lab = lab_of(1);
    lab.send(&tcp(1000, SYN, b"").frame());
    lab.take_sent();
    let whole = tcp(1000, ACK, &counting(1500));
    for fragment in cut(&whole, 7, 800) {
        lab.send(&fragment.frame());
    }
    assert_eq!(reassembled(&lab.take_sent())[&(0x11, 7)], whole.payload);
    assert_eq!(lab.state_of(1000), Some("ESTABLISHED"));
    lab.assert_everything_is_accounted_for();
}

/// Each datagram of a one-packet service has a server of its own, and its
/// fragments stay together.
#[test]
fn one_packet_scheduling_over_ipv6_picks_once_for_each_datagram() {
    let options = ServiceOptions {
        one_packet: true,
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    let mut lab = lab_with(1, options);
    for id in 0..4 {
        for fragment in cut(&udp(1000, 53, &counting(2000)), id, 800) {
            lab.send(&fragment.frame());
        }
    }
    let whole = reassembled(&lab.take_sent());
    let keys: Vec<_> = whole.into_keys().collect();
    assert_eq!(keys, [(0x12, 1), (0x12, 3), (0x13, 0), (0x13, 2)]);
    assert_eq!(lab.counter("connections"), 0);
    // And so has each whole one.
    let hosts = [(); 4].map(|()| {
        let sent = lab.answers(&udp(1000, 53, b"whole").frame());
        inner(&sent[0].1).0
    });
    assert_eq!(hosts, [0x13, 0x12, 0x13, 0x12]);
    assert_eq!(lab.counter("connections"), 0);
    lab.assert_everything_is_accounted_for();
}

/// RFC 6946: one fragment that is all of its packet waits for nothing, whatever
/// else has its identification.
#[test]
fn atomic_fragments_are_whole_packets() {
    let mut lab = lab_of(1);
    let fragments = cut(&udp(1000, 53, &counting(2000)), 7, 800);
    lab.send(&fragments[1].frame());
    assert_eq!(lab.take_sent(), []);
    for client_port in [1001, 1002, 1001] {
        let atomic = udp(client_port, 53, b"whole").and_fragment(7, 0, false);
        lab.take_sent();
        lab.send(&atomic.frame());
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(inner(&sent[0].1).1, atomic.one_hop_on());
    }
    assert_eq!(lab.counter("connections"), 2);
    assert_eq!(lab.counter("fragments"), 1);
    lab.send(&fragments[0].frame());
    assert_eq!(lab.take_sent().len(), 2);
    lab.assert_everything_is_accounted_for();
}

/// A case for the test below: datagrams, each with an own length and size of
/// fragments, and the order in which their fragments come.
fn mix() -> impl Strategy<Value = (Vec<(usize, usize, u8)>, Vec<prop::sample::Index>)> {
    let datagram = (
        0..6000_usize,
        prop::sample::select(vec![8, 64, 504, 800, 1384]),
        0..3_u8,
    );
    (
        prop::collection::vec(datagram, 1..6),
        prop::collection::vec(any::<prop::sample::Index>(), 0..300),
    )
}

/// Fragments in random order, of several datagrams at once, some of them
/// twice: each datagram arrives whole at one server.
fn every_datagram_arrives_whole(workers: usize) {
    let mut lab = (lab_of(workers), 0_u32);
    for_all(64, &mut lab, mix(), |(lab, id), (datagrams, order)| {
        let mut pieces = Vec::new();
        let mut expected = BTreeMap::new();
        for (data_len, len, extensions) in datagrams {
            *id += 1;
            let client_port = 1001 + u16::try_from(*id % 50).unwrap();
            let mut whole = udp(client_port, 53, &counting(data_len.min(len * 100)));
            for kind in [HOP_BY_HOP, DESTINATION_OPTIONS]
                .into_iter()
                .take(extensions.into())
            {
                whole = whole.and_options(kind);
            }
            let mut fragments = cut(&whole, *id, len);
            if fragments.len() > 1 {
                expected.insert(*id, whole.payload);
                pieces.append(&mut fragments);
            }
        }
        let total = pieces.len();
        // Swaps, so that every order is possible; some come twice.
        let mut frames: Vec<_> = pieces.iter().map(Ip6::frame).collect();
        for (at, index) in order.iter().enumerate().take(total) {
            frames.swap(at, index.index(total));
        }
        for (at, frame) in frames.iter().enumerate() {
            let worker = at % workers;
            lab.receive_at(0, worker, frame);
            if at % 3 == 0 {
                lab.receive_at(0, (worker + 1) % workers, frame);
            }
            if at % 7 == 0 {
                lab.turn_workers();
            }
            if at % 200 == 199 {
                lab.settle();
            }
        }
        lab.settle();
        let whole = reassembled(&lab.take_sent());
        for (id, payload) in expected {
            let arrived: Vec<_> = whole.iter().filter(|((_, of), _)| *of == id).collect();
            prop_assert_eq!(arrived.len(), 1, "datagram {}", id);
            prop_assert_eq!(arrived[0].1, &payload);
        }
        // What came twice after all of its datagram had gone waits in vain.
        lab.advance(6_000);
        lab.take_sent();
        lab.assert_everything_is_accounted_for();
        Ok(())
    });
}

#[test]
fn datagrams_over_ipv6_in_any_order_arrive_whole() {
    every_datagram_arrives_whole(1);
}

#[test]
fn datagrams_over_ipv6_sprayed_over_workers_arrive_whole() {
    every_datagram_arrives_whole(2);
    every_datagram_arrives_whole(4);
}

/// A fragment of a flood: each of a packet of its own, from a client for each
/// round.
fn of_flood(round: u16, id: u32, offset: usize) -> Ip6 {
    let whole = Ip6 {
        source: Ipv6Addr::new(0x2001, 0xdb8, 0xf, round, 0, 0, 0, 7),
        ..udp(1000, 53, &counting(1000))
    };
    let whole = if id.is_multiple_of(3) {
        whole.and_options(HOP_BY_HOP)
    } else {
        whole
    };
    piece(&to(VIP, whole), id, offset, 504)
}

/// Whole packets that went to the server of TCP.
fn of_tcp(sent: &[(u8, Vec<u8>)]) -> usize {
    let next_headers = sent.iter().map(|(_, frame)| inner(frame).1[6]);
    next_headers.filter(|next_header| *next_header == 6).count()
}

/// Fragments of all kinds without end, and whole packets of connections between
/// them: none of those is lost, and no buffer.
#[test]
fn a_flood_of_fragments_over_ipv6_costs_no_packet_of_an_established_connection() {
    let mut lab = lab_of(1);
    for client_port in 1001..=1100 {
        lab.send(&tcp(client_port, SYN, b"").frame());
        lab.send(&tcp(client_port, ACK, b"").frame());
    }
    lab.take_sent();
    let mut id = 0;
    for round in 0..500_u16 {
        for n in 0..60_usize {
            id += 1;
            let offset = [0, 504, 0, 8, 504][n % 5];
            lab.receive(&of_flood(round, id, offset).frame());
        }
        lab.receive(&tcp(1001 + round % 100, ACK, b"").frame());
        lab.turn_workers();
        assert_eq!(of_tcp(&lab.take_sent()), 1, "round {round}");
        assert!(lab.network.packets_in_use() <= 512);
    }
    assert_eq!(lab.counter("fragments"), 500 * 60);
    // Three of five wait in vain.
    assert_eq!(lab.counter("fragments_held"), 500 * 36);
    assert!(lab.counter("fragment_crowded_out") > 10_000);
    lab.advance(6_000);
    let lost = lab.counter("fragment_crowded_out") + lab.counter("fragment_timed_out");
    assert_eq!(lost, 500 * 36);
    lab.assert_everything_is_accounted_for();
}

/// The same by way of another worker: what it hands over takes a share of each
/// turn, and the packets of connections need no more turns than without.
#[test]
fn a_flood_over_ipv6_at_one_worker_costs_the_other_no_packet_and_no_turn() {
    let mut lab = lab_of(2);
    for client_port in 1001..=1100 {
        lab.receive_at(0, 1, &tcp(client_port, SYN, b"").frame());
        lab.receive_at(0, 1, &tcp(client_port, ACK, b"").frame());
        lab.settle();
    }
    lab.take_sent();
    let mut id = 0;
    for round in 0..200_u16 {
        for n in 0..60 {
            id += 1;
            let offset = if n % 2 == 0 { 0 } else { 504 };
            lab.receive_at(0, 0, &of_flood(round, id, offset).frame());
        }
        let burst = u16::try_from(BURST_LEN_MAX).unwrap();
        for n in 0..burst {
            let client_port = 1001 + (round + n) % 100;
            lab.receive_at(0, 1, &tcp(client_port, ACK, b"").frame());
        }
        // The flooded worker gets more turns than the other.
        for _ in 0..3 {
            lab.director.workers[0].turn(lab.now);
        }
        lab.director.workers[1].turn(lab.now);
        assert_eq!(of_tcp(&lab.take_sent()), BURST_LEN_MAX, "round {round}");
    }
    lab.settle();
    assert!(lab.counter("handed_over") > 0);
    lab.advance(6_000);
    lab.assert_everything_is_accounted_for();
}

/// Sends a frame that nothing comes of but a count.
fn dropped(lab: &mut Lab, counter: &str, fragment: &Ip6) {
    lab.take_sent();
    let Checked { .. } = lab.counts_one(counter, |lab| lab.send(&fragment.frame()));
    assert_eq!(lab.take_sent(), []);
}

/// The part of a packet that is repeated in each fragment ends at the fragment
/// header: what comes behind it stands in the first fragment only, and the
/// others would not tell their protocol.
#[test]
fn a_fragment_with_extension_headers_behind_its_fragment_header_is_dropped() {
    let mut lab = lab_of(1);
    let datagram = udp(1000, 53, &counting(2000));
    let mut payload = vec![17, 0, 1, 4, 0, 0, 0, 0];
    payload.extend(&datagram.payload);
    let whole = Ip6 {
        protocol: DESTINATION_OPTIONS,
        payload,
        ..datagram
    };
    for fragment in cut(&whole, 7, 800) {
        dropped(&mut lab, "fragment_for_host", &fragment);
    }
}

#[test]
fn fragments_over_ipv6_for_the_host_are_dropped() {
    let mut lab = lab_of(1);
    let ping = icmpv6(128, 0, &counting(2000));
    for destination in [VIP, CLIENT_SIDE] {
        for fragment in cut(&to(destination, ping.clone()), 7, 800) {
            dropped(&mut lab, "fragment_for_host", &fragment);
        }
    }
    // A VIP's port that no service has.
    let nobodys = udp(1000, 54, &counting(1000));
    dropped(&mut lab, "fragment_for_host", &piece(&nobodys, 7, 0, 800));
}

#[test]
fn attacks_with_fragments_over_ipv6_are_counted() {
    let mut lab = lab_of(1);
    let whole = udp(1000, 53, &counting(3000));
    // No multiple of 8, and nothing at all.
    let odd = piece(&whole, 1, 0, 500);
    dropped(&mut lab, "fragment_malformed", &odd);
    let empty = Ip6::new(17, Vec::new()).and_fragment(2, 8, true);
    dropped(&mut lab, "fragment_malformed", &empty);
    // The ping of death.
    let end = Ip6::new(17, vec![7; 100]).and_fragment(3, 65_528, false);
    dropped(&mut lab, "fragment_oversize", &end);
    // A TCP header in two pieces, and one that is written over.
    let syn = tcp(1000, SYN, &counting(100));
    dropped(&mut lab, "fragment_tiny", &piece(&syn, 4, 0, 16));
    dropped(&mut lab, "fragment_tiny", &piece(&syn, 5, 8, 32));
    // RFC 5722: an overlap ends all of the datagram.
    lab.send(&piece(&whole, 6, 0, 800).frame());
    assert_eq!(lab.take_sent().len(), 1);
    dropped(&mut lab, "fragment_overlap", &piece(&whole, 6, 792, 800));
    dropped(&mut lab, "fragment_overlap", &piece(&whole, 6, 800, 800));
    // Twice the same.
    lab.send(&piece(&whole, 8, 0, 800).frame());
    assert_eq!(lab.take_sent().len(), 1);
    dropped(&mut lab, "fragment_duplicate", &piece(&whole, 8, 0, 800));
    // Too many.
    let fragments = cut(&whole, 9, 8);
    for fragment in &fragments[..128] {
        lab.send(&fragment.frame());
    }
    assert_eq!(lab.take_sent().len(), 128);
    dropped(&mut lab, "fragment_too_many", &fragments[128]);
    lab.advance(6_000);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn a_fragment_over_ipv6_without_its_first_is_dropped_after_five_seconds() {
    let mut lab = lab_of(1);
    let fragment = piece(&udp(1000, 53, &counting(3000)), 7, 800, 800);
    lab.send(&fragment.frame());
    lab.advance(4_900);
    assert_eq!(lab.counter("fragment_timed_out"), 0);
    let Checked { .. } = lab.counts_one("fragment_timed_out", |lab| lab.advance(200));
    assert_eq!(lab.take_sent(), []);
}

/// The first fragment has its sender told; the others are silent.
#[test]
fn fragments_over_ipv6_that_cannot_go_on_are_answered_once() {
    let mut lab = lab_of(1);
    let too_long = udp(1000, 53, &counting(4000));
    let first = piece(&too_long, 7, 0, 1448);
    let sent = lab.answers(&first.frame());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, 0);
    assert_eq!(sent[0].1[54..56], [2, 0]);
    assert_eq!(sent[0].1[58..62], 1460_u32.to_be_bytes());
    let second = piece(&too_long, 7, 1448, 1448);
    dropped(&mut lab, "fragment_after_refused", &second);

    // A first that goes, a second too long for the tunnel, a third without a
    // hop left.
    lab.send(&piece(&too_long, 8, 0, 800).frame());
    assert_eq!(lab.take_sent().len(), 1);
    let second = piece(&too_long, 8, 800, 1448);
    dropped(&mut lab, "fragment_unanswered", &second);
    let third = Ip6 {
        hop_limit: 1,
        ..piece(&too_long, 8, 2248, 800)
    };
    dropped(&mut lab, "fragment_unanswered", &third);
}
