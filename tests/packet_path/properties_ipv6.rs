//! What holds for every valid packet over IPv6, and for whatever else arrives.

use pointsman::{
    config::ServiceConfig,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions, Tunables},
};
use proptest::prelude::*;

use crate::{
    fragments_ipv6::inner,
    frames::{ACK, GATEWAY_MAC, PORT_MACS, SYN, counting, ethernet},
    frames_ipv6::{
        DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, Ip6, icmpv6, piece, server, tcp, to, udp,
    },
    ipv6::{self, CLIENT_SIDE, VIP, quoted},
    lab::{Lab, Setup, for_all, weight},
};

/// UDP VIP:53 and all SCTP and, with a real server over IPv4, UDP VIP:54 next
/// to TCP VIP:80.
fn lab(workers: usize) -> Lab {
    let service = |protocol, l4_port, address| ServiceConfig {
        key: ServiceKey::Vip {
            protocol,
            address: (VIP, l4_port).into(),
        },
        options: ServiceOptions::from(SchedulerKind::Rr),
        servers: vec![(ServerKey { address }, weight(1))],
    };
    ipv6::lab_of(Setup {
        workers,
        connections_max: 65_536,
        tunables: Tunables {
            sloppy_tcp: true,
            schedule_icmp: true,
            ..Tunables::default()
        },
        services: vec![
            service(Protocol::Udp, 53, server(0x12).into()),
            service(Protocol::Sctp, 80, server(0x13).into()),
            service(Protocol::Udp, 54, crate::frames::server(11).into()),
        ],
        ..Setup::default()
    })
}

/// Options of any length, whose content nobody on the way looks at.
fn options() -> impl Strategy<Value = Vec<u8>> {
    (0..4_u8).prop_map(|units| {
        let mut rest = vec![units, 1, 4 + 8 * units];
        rest.resize(7 + 8 * usize::from(units), 0);
        rest
    })
}

/// Extension headers as RFC 8200 has them: at most six, hop-by-hop options only
/// in front, routing that is over, and a fragment header of a whole packet.
fn chain() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let others = prop_oneof![
        options().prop_map(|rest| (DESTINATION_OPTIONS, rest)),
        Just((43, vec![0, 4, 0, 0, 0, 0, 0])),
    ];
    let parts = (
        prop::option::of(options()),
        prop::collection::vec(others, 0..5),
        prop::option::of(any::<[u8; 4]>()),
    );
    parts.prop_map(|(first, others, atomic)| {
        let first = first.map(|rest| (HOP_BY_HOP, rest));
        let atomic = atomic.map(|id| (FRAGMENT, [&[0; 3][..], &id].concat()));
        first.into_iter().chain(others).chain(atomic).collect()
    })
}

/// A packet for a service by TCP or UDP.
fn packet() -> impl Strategy<Value = Ip6> {
    let l4 = (any::<bool>(), 21..=u16::MAX, 0..1200_usize);
    let header = (any::<u8>(), 0..=0xf_ffff_u32, 2..=255_u8, chain());
    (l4, header).prop_map(|((is_tcp, client_port, data_len), header)| {
        let (tos, flow_label, hop_limit, extensions) = header;
        let data = counting(data_len);
        let whole = if is_tcp {
            tcp(client_port, SYN, &data)
        } else {
            udp(client_port, 53, &data)
        };
        Ip6 {
            tos,
            flow_label,
            hop_limit,
            extensions,
            ..whole
        }
    })
}

#[test]
fn decapsulated_is_the_packet_over_ipv6_that_came_one_hop_on() {
    let mut lab = lab(1);
    for_all(
        512,
        &mut lab,
        (packet(), 0..=64_usize),
        |lab, (packet, padding)| {
            let mut frame = packet.frame();
            prop_assume!(frame.len() <= 14 + 1360);
            frame.resize(frame.len() + padding, 0xaa);
            let sent = lab.answers(&frame);
            prop_assert_eq!(sent.len(), 1);
            prop_assert_eq!(sent[0].0, 1);
            let host = if packet.protocol == 6 { 0x11 } else { 0x12 };
            prop_assert_eq!(inner(&sent[0].1), (host, packet.one_hop_on()));
            Ok(())
        },
    );
    lab.assert_everything_is_accounted_for();
}

/// Any extension header of any content.
fn any_extension() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let kinds = vec![0, 43, 44, 50, 51, 59, 60, 60, 60, 135, 139, 140, 253];
    let units = prop_oneof![6 => 0..3_u8, 1 => any::<u8>()];
    (prop::sample::select(kinds), units, any::<[u8; 6]>()).prop_map(|(kind, units, bytes)| {
        let mut rest = vec![units];
        rest.extend(bytes);
        rest.resize(7 + 8 * usize::from(units % 4), 0);
        (kind, rest)
    })
}

/// Packets of all kinds, valid but for their extension headers.
fn any_packet() -> impl Strategy<Value = Ip6> {
    let client_port = || 1000..1004_u16;
    let l4 = prop_oneof![
        (client_port(), any::<u8>(), 0..1600_usize).prop_map(|(port, flags, len)| tcp(
            port,
            flags,
            &counting(len)
        )),
        (client_port(), 52..56_u16, 0..1600_usize).prop_map(|(port, service, len)| udp(
            port,
            service,
            &counting(len)
        )),
        (client_port(), 0..6_u8, 0..200_usize, any::<u8>()).prop_map(|(port, kind, len, at)| {
            let mut about = quoted(port, 40.max(len));
            let at = usize::from(at) % about.len();
            about[at] ^= kind;
            icmpv6(kind, 0, &[&[0, 0, 5, 0][..], &about].concat())
        }),
        // Echoes, listeners, neighbors and their options.
        (128..=143_u8, prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(kind, rest)| icmpv6(kind, 0, &rest)),
        (133..=137_u8, any::<bool>(), 0..4_u8, 0..4_u8).prop_map(|(kind, own, option, len)| {
            let target = if own { CLIENT_SIDE } else { server(0x11) };
            let mut rest = vec![0x60, 0, 0, 0];
            rest.extend(target.octets());
            rest.extend([option, len, 2, 0, 0, 0, 9, 9]);
            Ip6 {
                hop_limit: 255,
                ..to(CLIENT_SIDE, icmpv6(kind, 0, &rest))
            }
        }),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..100))
            .prop_map(|(protocol, payload)| Ip6::new(protocol, payload)),
    ];
    let extensions = prop::collection::vec(any_extension(), 0..3);
    let more = prop::collection::vec(any_extension(), 0..10);
    let extensions = prop_oneof![6 => Just(Vec::new()), 4 => extensions, 1 => more];
    let fragment = prop::option::of((0..8_u32, 0..30_usize, 0..100_usize));
    (l4, extensions, fragment, 0..4_u8, 0..8_u8).prop_map(
        |(l4, extensions, fragment, hop_limit, source)| {
            let whole = Ip6 {
                extensions,
                hop_limit: if l4.hop_limit == 64 { hop_limit } else { 255 },
                source: match source {
                    0 => VIP,
                    1 => std::net::Ipv6Addr::UNSPECIFIED,
                    _ => l4.source,
                },
                ..l4
            };
            match fragment {
                Some((id, offset, len)) if whole.payload.len() > 16 => {
                    let offset = offset * 8 % whole.payload.len() / 8 * 8;
                    piece(&whole, id, offset, len * 8 + 8)
                }
                _ => whole,
            }
        },
    )
}

/// Such a packet in its frame, with some bytes changed and its end moved.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    // Mostly headers.
    let change = (0..120_usize, any::<u8>());
    let changes = prop_oneof![Just(Vec::new()), prop::collection::vec(change, 1..4),];
    (any_packet(), changes, 0..600_usize).prop_map(|(packet, changes, cut)| {
        let mut frame = packet.frame();
        for (at, byte) in changes {
            let at = at % frame.len();
            frame[at] = byte;
        }
        if cut < 200 {
            frame.truncate(cut);
        }
        // Of some that are cut short the IPv6 header says so.
        if cut < 150
            && let Some(payload_len) = frame.len().checked_sub(54)
        {
            let payload_len = u16::try_from(payload_len).unwrap();
            frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
        }
        frame
    })
}

/// Whatever arrives, the sum of all counters is right, no buffer is lost and
/// what is sent is no longer than the port's MTU.
fn survives(lab: &mut Lab, worker: usize, frame: &[u8]) -> Result<(), TestCaseError> {
    let received = lab.counter("rx_packets");
    lab.receive_at(0, worker, frame);
    lab.settle();
    // What waits for a neighbor has come to an end after four seconds, what
    // waits for other fragments after five.
    for _ in 0..6 {
        lab.advance(1_000);
    }
    let sent = lab.take_sent();
    prop_assert!(sent.iter().all(|(_, frame)| frame.len() <= 1514));
    prop_assert_eq!(lab.counter("rx_packets"), received + 1);
    lab.assert_everything_is_accounted_for();
    Ok(())
}

#[test]
fn random_bytes_as_ipv6_end_in_exactly_one_counter() {
    let mut lab = lab(1);
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    for_all(
        512,
        &mut lab,
        (bytes, any::<[bool; 3]>()),
        |lab, (mut bytes, [version, len, local])| {
            if version && !bytes.is_empty() {
                bytes[0] = 0x60 | bytes[0] & 15;
            }
            if len && bytes.len() >= 40 {
                bytes[4..6].fill(0);
                bytes[5] = u8::try_from(bytes.len()).unwrap() - 40;
            }
            if local && bytes.len() >= 40 {
                bytes[24..40].copy_from_slice(&VIP.octets());
            }
            let frame = ethernet(PORT_MACS[0], GATEWAY_MAC, 0x86dd, &bytes);
            survives(lab, 0, &frame)
        },
    );
}

#[test]
fn mutated_frames_over_ipv6_end_in_exactly_one_counter() {
    let mut lab = lab(2);
    for_all(
        3_000,
        &mut lab,
        (mutated(), 0..2_usize),
        |lab, (frame, worker)| survives(lab, worker, &frame),
    );
    // The frames were not all refused at the door.
    for counter in [
        "forwarded",
        "local",
        "not_local",
        "bad_ipv6_header",
        "bad_ipv6_extensions",
        "truncated_l4",
        "ttl_exceeded",
        "martian_source",
        "fragments",
        "fragment_timed_out",
        "fragment_for_host",
        "icmp_error_unrelated",
    ] {
        assert!(lab.counter(counter) > 0, "{counter}");
    }
}

/// The same without the time between them, so that fragments of one datagram
/// meet and neighbors are waited for.
#[test]
fn mutated_frames_over_ipv6_at_once_lose_no_buffer() {
    let mut lab = lab(2);
    let frames = prop::collection::vec((mutated(), 0..2_usize), 1..60);
    for_all(100, &mut lab, frames, |lab, frames| {
        for (frame, worker) in &frames {
            lab.receive_at(0, *worker, frame);
        }
        lab.settle();
        for _ in 0..6 {
            lab.advance(1_000);
        }
        lab.take_sent();
        lab.assert_everything_is_accounted_for();
        Ok(())
    });
    lab.send(&tcp(2000, ACK, b"").frame());
    assert_eq!(lab.take_sent().len(), 1, "and it goes on");
}
