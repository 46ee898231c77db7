//! Fragments of clients' packets: each reason to drop one, and what the real
//! server makes of those that it gets.

use std::collections::BTreeMap;

use pointsman::{
    control::command::Command,
    io::{BURST_LEN_MAX, PortIndex},
    scheduler::SchedulerKind,
    service::{Protocol, ServiceOptions},
};
use proptest::prelude::*;

use crate::{
    decode::{one_hop_on, outer},
    frames::{
        ACK, CLIENT_SIDE, DF, Ip, MF, SYN, VIP, counting, icmp, segment, server, server_mac, tcp,
        udp,
    },
    lab::{Checked, Lab, Setup, for_all, server_key, service_key, weight},
};

/// The fragment of a packet that holds `len` bytes of its payload from `offset`
/// on. DF and identification stay as they are.
pub(crate) fn piece(whole: &Ip, offset: usize, len: usize) -> Ip {
    let end = whole.payload.len().min(offset + len);
    let more = if end < whole.payload.len() { MF } else { 0 };
    Ip {
        flags: (whole.flags & DF) | more | u16::try_from(offset / 8).unwrap(),
        payload: whole.payload[offset..end].to_vec(),
        ..whole.clone()
    }
}

/// A packet in fragments of `len` bytes of payload.
pub(crate) fn cut(whole: &Ip, len: usize) -> Vec<Ip> {
    let starts = (0..whole.payload.len()).step_by(len);
    starts.map(|offset| piece(whole, offset, len)).collect()
}

/// A UDP packet to VIP:53 with DF clear.
pub(crate) fn datagram(id: u16, client_port: u16, data_len: usize) -> Ip {
    Ip {
        id,
        flags: 0,
        ..udp(client_port, 53, &counting(data_len))
    }
}

/// The service UDP VIP:53 by rr with 10.0.0.11 and .12, next to TCP VIP:80.
fn lab_of(workers: usize) -> Lab {
    let mut lab = Lab::with(&Setup {
        workers,
        ..Setup::default()
    });
    add_dns(&mut lab);
    lab
}

pub(crate) fn add_dns(lab: &mut Lab) {
    let key = service_key(VIP, Protocol::Udp, 53);
    let options = ServiceOptions::from(SchedulerKind::Rr);
    lab.command(&Command::AddService(key, options));
    for host in [11, 12] {
        lab.command(&Command::AddServer(key, server_key(host), weight(1)));
    }
    lab.settle();
    lab.take_sent();
}

/// The inner packet of a frame to 10.0.0.11 or .12, and which of both.
pub(crate) fn inner(frame: &[u8]) -> (u8, Vec<u8>) {
    let host = frame[33];
    let mut frame = frame.to_vec();
    assert_eq!(frame[..6], server_mac(host));
    frame[..6].copy_from_slice(&server_mac(11));
    let outer = outer(&frame, server(host));
    assert_eq!(outer.flags & 0x3fff, 0, "the outer packet is whole");
    (host, outer.payload)
}

/// What real servers make of the packets they got: whole datagrams by server
/// and identification. Written from RFC 791 alone.
pub(crate) fn reassembled(sent: &[(u8, Vec<u8>)]) -> BTreeMap<(u8, u16), Vec<u8>> {
    let mut pieces = BTreeMap::<(u8, u16), Vec<Piece>>::new();
    for (port, frame) in sent {
        assert_eq!(*port, 1);
        let (host, packet) = inner(frame);
        let id = u16::from_be_bytes([packet[4], packet[5]]);
        let flags = u16::from_be_bytes([packet[6], packet[7]]);
        let header_len = usize::from(packet[0] & 15) * 4;
        let payload = packet[header_len..].to_vec();
        let piece = (usize::from(flags & 0x1fff) * 8, flags & MF == 0, payload);
        pieces.entry((host, id)).or_default().push(piece);
    }
    put_together(pieces)
}

/// Offset, whether it is the last, and payload.
pub(crate) type Piece = (usize, bool, Vec<u8>);

/// The payloads of the datagrams of which all pieces are there.
pub(crate) fn put_together<K: Ord>(pieces: BTreeMap<K, Vec<Piece>>) -> BTreeMap<K, Vec<u8>> {
    let mut whole = BTreeMap::new();
    for (key, mut pieces) in pieces {
        pieces.sort();
        // Copies that came when all of the datagram had gone.
        pieces.dedup();
        let mut payload = Vec::new();
        let mut is_over = false;
        for (offset, is_last, bytes) in pieces {
            if offset != payload.len() || is_over {
                is_over = false;
                break;
            }
            payload.extend(bytes);
            is_over = is_last;
        }
        if is_over {
            whole.insert(key, payload);
        }
    }
    whole
}

#[test]
fn each_fragment_travels_by_itself_and_unchanged_but_for_its_ttl() {
    let mut lab = lab_of(1);
    let whole = Ip {
        tos: 3,
        ttl: 9,
        ..datagram(7, 1000, 2000)
    };
    for fragment in cut(&whole, 800) {
        lab.send(&fragment.frame());
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(inner(&sent[0].1), (12, one_hop_on(&fragment.packet())));
    }
    assert_eq!(lab.counter("fragments"), 3);
    assert_eq!(lab.counter("fragments_held"), 0);
    assert_eq!(lab.counter("forwarded"), 3);
    assert_eq!(lab.counter("connections"), 1);
    lab.assert_everything_is_accounted_for();
}

/// A fragment with DF is as long as the path allows, or has its sender told;
/// outside it may be fragmented only without.
#[test]
fn df_of_each_fragment_is_its_own() {
    let mut lab = lab_of(1);
    let with_df = Ip {
        flags: DF,
        ..datagram(7, 1000, 2900)
    };
    // 1,500 bytes: too long for a tunnel through 1,500.
    let fragments = cut(&with_df, 1480);
    lab.send(&fragments[0].frame());
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1);
    let error = &sent[0].1[34..];
    assert_eq!(error[..2], [3, 4]);
    assert_eq!(error[6..8], 1480_u16.to_be_bytes());
    assert_eq!(lab.counter("fragmentation_needed"), 1);
    lab.send(&fragments[1].frame());
    assert_eq!(lab.take_sent(), []);
    assert_eq!(lab.counter("fragment_after_refused"), 1);

    let without = datagram(8, 1000, 2900);
    for fragment in cut(&without, 1480) {
        lab.send(&fragment.frame());
    }
    let lens: Vec<_> = lab.take_sent().iter().map(|(_, f)| f.len() - 14).collect();
    // 1,520 through an MTU of 1,500 becomes 1,500 and 40; the rest is 1,468.
    assert_eq!(lens, [1500, 40, 1468]);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn fragments_of_an_established_connection_go_to_its_server() {
    let mut lab = lab_of(1);
    lab.add_server(12, 1);
    for client_port in [1000, 1001] {
        let syn = lab.answers(&tcp(client_port, SYN).frame());
        let host = inner(&syn[0].1).0;
        let data = Ip {
            flags: 0,
            id: client_port,
            ..Ip::new(6, segment_with_checksum(client_port))
        };
        let fragments = cut(&data, 752);
        let mut sent = Vec::new();
        for fragment in &fragments {
            sent.extend(lab.answers(&fragment.frame()));
        }
        assert_eq!(reassembled(&sent)[&(host, client_port)], data.payload);
        assert_eq!(lab.state_of(client_port), Some("ESTABLISHED"));
    }
    lab.assert_everything_is_accounted_for();
}

/// A segment whose checksum is not filled in, nor looked at by a director.
fn segment_with_checksum(client_port: u16) -> Vec<u8> {
    let mut segment = segment(client_port, ACK, &counting(1500));
    segment[16..18].copy_from_slice(&[1, 2]);
    segment
}

/// Each datagram of a one-packet service has a server of its own, and its
/// fragments stay together.
#[test]
fn one_packet_scheduling_picks_once_for_each_datagram() {
    let mut lab = Lab::start();
    let key = service_key(VIP, Protocol::Udp, 53);
    let options = ServiceOptions {
        one_packet: true,
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    lab.command(&Command::AddService(key, options));
    for host in [11, 12] {
        lab.command(&Command::AddServer(key, server_key(host), weight(1)));
    }
    lab.settle();
    lab.take_sent();
    for id in 0..4 {
        for fragment in cut(&datagram(id, 1000, 2000), 800) {
            lab.send(&fragment.frame());
        }
    }
    let whole = reassembled(&lab.take_sent());
    let keys: Vec<_> = whole.into_keys().collect();
    assert_eq!(keys, [(11, 1), (11, 3), (12, 0), (12, 2)]);
    assert_eq!(lab.counter("connections"), 0);
}

#[test]
fn fragments_that_wait_go_once_the_first_is_there() {
    let mut lab = lab_of(1);
    let whole = datagram(7, 1000, 4000);
    let fragments = cut(&whole, 800);
    for fragment in fragments[1..].iter().rev() {
        lab.send(&fragment.frame());
        assert_eq!(lab.take_sent(), []);
    }
    assert_eq!(lab.counter("fragments_held"), 5);
    assert_eq!(lab.network.packets_in_use(), 5);
    assert_eq!(lab.counter("connections"), 0, "none of them schedules");
    lab.send(&fragments[0].frame());
    assert_eq!(reassembled(&lab.take_sent())[&(12, 7)], whole.payload);
    lab.assert_everything_is_accounted_for();
}

/// A case for the test below: datagrams, each with an own length and size of
/// fragments, and the order in which their fragments come.
fn mix() -> impl Strategy<Value = (Vec<(usize, usize)>, Vec<prop::sample::Index>)> {
    let datagram = (
        0..6000_usize,
        prop::sample::select(vec![8, 64, 504, 800, 1456]),
    );
    (
        prop::collection::vec(datagram, 1..6),
        prop::collection::vec(any::<prop::sample::Index>(), 0..300),
    )
}

/// Fragments in random order, of several datagrams at once, some of them
/// twice: each datagram arrives whole at one server.
fn every_datagram_arrives_whole(workers: usize) {
    let mut lab = (lab_of(workers), 0_u16);
    for_all(96, &mut lab, mix(), |(lab, id), (datagrams, order)| {
        let mut pieces = Vec::new();
        let mut expected = BTreeMap::new();
        for (data_len, len) in datagrams {
            *id = id.wrapping_add(1);
            let whole = datagram(*id, 1001 + *id % 50, data_len.min(len * 100));
            let mut fragments = cut(&whole, len.max(8));
            if fragments.len() > 1 {
                expected.insert(*id, whole.payload);
                pieces.append(&mut fragments);
            }
        }
        let total = pieces.len();
        // Swaps, so that every order is possible; some come twice.
        let mut frames: Vec<_> = pieces.iter().map(Ip::frame).collect();
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
        let sent = lab.take_sent();
        let whole = reassembled(&sent);
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
fn datagrams_in_any_order_arrive_whole() {
    every_datagram_arrives_whole(1);
}

#[test]
fn datagrams_sprayed_over_workers_arrive_whole() {
    every_datagram_arrives_whole(2);
    every_datagram_arrives_whole(4);
}

/// Fragments of all kinds without end, from one client each, and whole packets
/// of connections between them: none of those is lost, and no buffer.
#[test]
fn a_flood_of_fragments_costs_no_packet_of_an_established_connection() {
    let mut lab = lab_of(1);
    for client_port in 1001..=1100 {
        lab.send(&tcp(client_port, SYN).frame());
        lab.send(&tcp(client_port, ACK).frame());
    }
    lab.take_sent();
    let mut id = 0_u16;
    for round in 0..500_u16 {
        for n in 0..60_u16 {
            id = id.wrapping_add(1);
            let whole = Ip {
                source: [100, 64, (round >> 8) as u8, (round & 0xff) as u8].into(),
                ..datagram(id, 1000, 1000)
            };
            let offset = [0, 504, 0, 8, 504][usize::from(n) % 5];
            lab.receive(&piece(&whole, offset, 504).frame());
        }
        lab.receive(&tcp(1001 + round % 100, ACK).frame());
        lab.turn_workers();
        let sent = lab.take_sent();
        let established = sent.iter().filter(|(_, frame)| frame[43] == 6);
        assert_eq!(established.count(), 1, "round {round}");
        assert!(lab.network.packets_in_use() <= 512);
    }
    assert!(lab.counter("fragment_crowded_out") > 10_000);
    lab.advance(6_000);
    lab.assert_everything_is_accounted_for();
}

/// The same by way of another worker: what it hands over takes a share of each
/// turn, and the packets of connections need no more turns than without.
#[test]
fn a_flood_at_one_worker_costs_the_other_no_packet_and_no_turn() {
    let mut lab = lab_of(2);
    for client_port in 1001..=1100 {
        lab.receive_at(0, 1, &tcp(client_port, SYN).frame());
        lab.receive_at(0, 1, &tcp(client_port, ACK).frame());
        lab.settle();
    }
    lab.take_sent();
    let mut id = 0_u16;
    for round in 0..200_u16 {
        for n in 0..60_u16 {
            id = id.wrapping_add(1);
            let whole = Ip {
                source: [100, 64, (round >> 8) as u8, (round & 0xff) as u8].into(),
                ..datagram(id, 1000, 1000)
            };
            let offset = if n % 2 == 0 { 0 } else { 504 };
            lab.receive_at(0, 0, &piece(&whole, offset, 504).frame());
        }
        let burst = u16::try_from(BURST_LEN_MAX).unwrap();
        for n in 0..burst {
            lab.receive_at(0, 1, &tcp(1001 + (round + n) % 100, ACK).frame());
        }
        // The flooded worker gets more turns than the other.
        for _ in 0..3 {
            lab.director.workers[0].turn(lab.now);
        }
        lab.director.workers[1].turn(lab.now);
        let sent = lab.take_sent();
        let established = sent.iter().filter(|(_, frame)| frame[43] == 6);
        assert_eq!(established.count(), BURST_LEN_MAX, "round {round}");
    }
    lab.settle();
    lab.advance(6_000);
    lab.assert_everything_is_accounted_for();
}

/// Sends a frame that nothing comes of but a count.
fn dropped(lab: &mut Lab, counter: &str, fragment: &Ip) -> Checked {
    lab.take_sent();
    let checked = lab.counts_one(counter, |lab| lab.send(&fragment.frame()));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_fragmented_ping_is_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let ping = Ip {
        flags: 0,
        ..icmp(8, 0, &counting(2000))
    };
    for destination in [VIP, CLIENT_SIDE] {
        let to = Ip {
            destination,
            ..ping.clone()
        };
        let _ = dropped(&mut lab, counter, &piece(&to, 0, 800));
        let _ = dropped(&mut lab, counter, &piece(&to, 800, 800));
    }
    // A VIP's port that no service has.
    let nobodys = Ip {
        flags: 0,
        ..udp(1000, 54, &[7; 1000])
    };
    dropped(&mut lab, counter, &piece(&nobodys, 0, 800))
}

pub(crate) fn a_fragment_that_is_no_multiple_of_8_long_is_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let empty = Ip {
        flags: MF | 4,
        ..Ip::new(17, Vec::new())
    };
    let _ = dropped(&mut lab, counter, &empty);
    dropped(&mut lab, counter, &piece(&datagram(7, 1000, 1000), 0, 500))
}

pub(crate) fn a_ping_of_death_by_udp_is_dropped(counter: &str) -> Checked {
    let last = Ip {
        flags: 65_528 / 8,
        ..Ip::new(17, vec![7; 100])
    };
    dropped(&mut lab_of(1), counter, &last)
}

pub(crate) fn a_fragment_that_splits_the_tcp_header_is_dropped(counter: &str) -> Checked {
    let syn = Ip {
        flags: 0,
        ..Ip::new(6, segment(1000, SYN, &[7; 100]))
    };
    let mut lab = lab_of(1);
    let _ = dropped(&mut lab, counter, &piece(&syn, 0, 16));
    let _ = dropped(&mut lab, counter, &piece(&syn, 16, 16));
    // And so is one that would write over a header already seen.
    let other = Ip { id: 9, ..syn };
    dropped(&mut lab, counter, &piece(&other, 8, 32))
}

pub(crate) fn an_overlapping_fragment_and_the_rest_are_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let whole = datagram(7, 1000, 3000);
    lab.send(&piece(&whole, 0, 800).frame());
    assert_eq!(lab.take_sent().len(), 1);
    let _ = dropped(&mut lab, counter, &piece(&whole, 792, 800));
    dropped(&mut lab, counter, &piece(&whole, 800, 800))
}

pub(crate) fn a_fragment_that_came_before_is_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let whole = datagram(7, 1000, 3000);
    for offset in [0, 800] {
        lab.send(&piece(&whole, offset, 800).frame());
    }
    let _ = dropped(&mut lab, counter, &piece(&whole, 0, 800));
    dropped(&mut lab, counter, &piece(&whole, 800, 800))
}

pub(crate) fn the_129th_fragment_of_a_datagram_is_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let whole = datagram(7, 1000, 2000);
    let fragments = cut(&whole, 8);
    for fragment in &fragments[..128] {
        lab.send(&fragment.frame());
    }
    assert_eq!(lab.take_sent().len(), 128);
    dropped(&mut lab, counter, &fragments[128])
}

pub(crate) fn a_fragment_without_its_first_is_dropped_after_five_seconds(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let fragment = piece(&datagram(7, 1000, 3000), 800, 800);
    lab.send(&fragment.frame());
    lab.advance(4_900);
    assert_eq!(lab.counter(counter), 0);
    let checked = lab.counts_one(counter, |lab| lab.advance(200));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn the_513th_fragment_that_waits_takes_the_place_of_the_first(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let wait = |lab: &mut Lab, id| lab.send(&piece(&datagram(id, 1, 2000), 800, 800).frame());
    (0..512).for_each(|id| wait(&mut lab, id));
    let checked = lab.counts_one_and(counter, &["fragment_timed_out"], |lab| {
        wait(lab, 512);
        assert_eq!(lab.network.packets_in_use(), 512);
        // It was the first that went: its datagram stays incomplete, the second
        // one does not.
        lab.send(&piece(&datagram(0, 1, 2000), 0, 800).frame());
        assert_eq!(lab.take_sent().len(), 1);
        lab.send(&piece(&datagram(1, 1, 2000), 0, 800).frame());
        assert_eq!(lab.take_sent().len(), 2);
        lab.advance(6_000);
    });
    assert_eq!(lab.counter("fragment_timed_out"), 511);
    checked
}

pub(crate) fn a_fragment_whose_first_was_refused_is_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    lab.delete_server(11);
    let data = Ip {
        flags: 0,
        ..Ip::new(6, segment(1000, SYN, &counting(1000)))
    };
    // ICMP 3/3, as for a whole packet.
    let answer = lab.answers(&piece(&data, 0, 800).frame());
    assert_eq!(answer[0].1[34..36], [3, 3]);
    dropped(&mut lab, counter, &piece(&data, 800, 800))
}

pub(crate) fn a_later_fragment_whose_ttl_runs_out_ends_silently(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let whole = datagram(7, 1000, 3000);
    lab.send(&piece(&whole, 0, 800).frame());
    let expired = Ip {
        ttl: 1,
        ..piece(&whole, 800, 800)
    };
    let _ = dropped(&mut lab, counter, &expired);
    // Too long with DF, too.
    let too_long = Ip {
        flags: DF | piece(&whole, 1600, 1480).flags,
        payload: vec![7; 1480],
        ..whole
    };
    dropped(&mut lab, counter, &too_long)
}

pub(crate) fn a_fragment_for_a_worker_whose_queue_is_full_is_dropped(counter: &str) -> Checked {
    let mut lab = lab_of(2);
    // All wait, here or there, and end with their time.
    let allowed = ["fragment_timed_out", "fragment_crowded_out"];
    lab.counts_one_and(counter, &allowed, |lab| {
        for id in 0.. {
            lab.receive_at(0, 0, &piece(&datagram(id, 1, 2000), 800, 800).frame());
            lab.director.workers[0].turn(lab.now);
            if lab.counter("handoff_queue_full") > 0 {
                break;
            }
        }
        assert_eq!(lab.counter("handed_over"), 512);
        lab.settle();
        lab.advance(6_000);
    })
}

pub(crate) fn a_fragment_is_counted_once(counter: &str) -> Checked {
    let mut lab = lab_of(4);
    lab.counts_one(counter, |lab| {
        lab.send(&piece(&datagram(7, 1, 2000), 0, 800).frame());
    })
}

pub(crate) fn a_fragment_that_comes_before_the_first_waits(counter: &str) -> Checked {
    let mut lab = lab_of(1);
    let whole = datagram(7, 1, 1000);
    lab.counts_one(counter, |lab| {
        lab.send(&piece(&whole, 800, 800).frame());
        lab.send(&piece(&whole, 0, 800).frame());
    })
}

pub(crate) fn a_fragment_goes_to_where_its_datagrams_fragments_meet(counter: &str) -> Checked {
    let mut lab = lab_of(2);
    // One that meets the others at worker 1, which has them wait.
    lab.counts_one_and(counter, &["fragment_timed_out"], |lab| {
        for id in 0.. {
            lab.receive_at(0, 0, &piece(&datagram(id, 1, 2000), 800, 800).frame());
            lab.settle();
            if lab.counter("handed_over") > 0 {
                break;
            }
        }
        lab.advance(6_000);
    })
}

/// The network's own port limits: a fragment goes out where its server is.
#[test]
fn a_port_that_takes_nothing_loses_fragments_and_no_buffer() {
    let mut lab = lab_of(1);
    lab.network.set_tx_capacity(PortIndex(1), 0);
    for fragment in cut(&datagram(7, 1000, 3000), 800) {
        lab.send(&fragment.frame());
    }
    assert_eq!(lab.counter("transmit_queue_full"), 4);
    lab.assert_everything_is_accounted_for();
}
