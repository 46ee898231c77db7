//! What holds for every valid packet of a client.

use std::net::Ipv4Addr;

use etherparse::{NetSlice, SlicedPacket};
use pointsman::{
    control::command::Command,
    io::PortCapabilities,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServiceOptions, Tunables},
};
use proptest::prelude::*;

use crate::{
    decode::{one_hop_on, outer, reassemble},
    frames::{
        CLIENT, CLIENT_SIDE, DF, Ip, PORT_MACS, SYN, VIP, arp_reply, arp_request, checksum,
        counting, icmp_error, segment, server, server_mac, tagged, udp,
    },
    lab::{Lab, Setup, for_all, service_key, weight},
};

/// Options that a host leaves as they are: no operation, end of list, router
/// alert, a time stamp that is full.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        vec![1, 1, 1, 1],
        vec![1, 1, 1, 0],
        vec![148, 4, 0, 0],
        vec![68, 4, 5, 0],
    ]);
    prop::collection::vec(words, 0..=10).prop_map(|words| {
        // Nothing but padding may follow the end of the list.
        let end = words.iter().position(|word| word[3] == 0 && word[0] == 1);
        let len = end.map_or(words.len(), |end| end + 1);
        words[..len].concat()
    })
}

/// A TCP SYN to VIP:80 or a UDP packet to VIP:53 that fits into `len_max`
/// bytes.
pub(crate) fn packet(len_max: usize) -> impl Strategy<Value = Ip> {
    let header = (
        any::<u8>(),
        any::<u16>(),
        // Reserved flag and DF.
        any::<[bool; 2]>(),
        2..=255_u8,
        options(),
    );
    // The port of FTP data is none of a client's.
    let client_port = 21..=u16::MAX;
    let payload = (any::<bool>(), client_port, any::<u8>(), 0..len_max - 80);
    (header, payload).prop_map(|((tos, id, [reserved, df], ttl, options), payload)| {
        let (is_tcp, client_port, more_flags, data_len) = payload;
        let data = counting(data_len);
        let whole = if is_tcp {
            Ip::new(6, segment(client_port, SYN | (more_flags & 0xf8), &data))
        } else {
            udp(client_port, 53, &data)
        };
        Ip {
            tos,
            id,
            flags: u16::from(reserved) << 15 | if df { DF } else { 0 },
            ttl,
            options,
            ..whole
        }
    })
}

/// What follows the packet in its frame, and its priority tag.
pub(crate) fn wrapping() -> impl Strategy<Value = (usize, Option<u16>)> {
    (
        0..=64_usize,
        prop::option::of((0..8_u16).prop_map(|priority| priority << 13)),
    )
}

pub(crate) fn frame_of(packet: &Ip, (padding, tag): (usize, Option<u16>)) -> Vec<u8> {
    let mut frame = packet.frame();
    frame.extend(vec![0xaa; padding]);
    tag.map_or(frame.clone(), |tag| tagged(&frame, tag))
}

fn lab(tunables: Tunables, checksums_in_hardware: bool) -> Lab {
    let mut lab = Lab::with(&Setup {
        tunables,
        capabilities: PortCapabilities {
            tx_ipv4_checksum: checksums_in_hardware,
            rx_ipv4_checksum: checksums_in_hardware,
            ..PortCapabilities::default()
        },
        connections_max: 65_536,
        ..Setup::default()
    });
    lab.add_udp_service(server(11));
    lab
}

/// RFC 6040 as Linux does it: congestion is not told outside.
pub(crate) fn outer_tos_of(inner: u8) -> u8 {
    if inner % 4 == 3 { inner - 1 } else { inner }
}

#[test]
fn decapsulated_is_the_packet_that_came_one_hop_on() {
    let mut lab = lab(Tunables::default(), false);
    for_all(
        256,
        &mut (&mut lab, None),
        (packet(1480), wrapping()),
        |(lab, last_id), (packet, wrapping)| {
            let sent = lab.answers(&frame_of(&packet, wrapping));
            prop_assert_eq!(sent.len(), 1);
            let (port, frame) = &sent[0];
            prop_assert_eq!(*port, 1);
            let outer = outer(frame, server(11));
            prop_assert_eq!(&outer.payload, &one_hop_on(&packet.packet()));
            prop_assert_eq!(outer.ttl, packet.ttl - 1);
            prop_assert_eq!(outer.tos, outer_tos_of(packet.tos));
            let df = packet.flags & DF;
            prop_assert_eq!(outer.flags, df);
            if df == 0 {
                // A counter that rises by one.
                prop_assert!(last_id.is_none_or(|id: u16| outer.id == id.wrapping_add(1)));
                *last_id = Some(outer.id);
            } else {
                prop_assert_eq!(outer.id, 0);
            }
            // And another decoder agrees.
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(NetSlice::Ipv4(ip)) = sliced.net else {
                panic!("no IPv4 in {frame:02x?}");
            };
            prop_assert_eq!(ip.header().protocol(), etherparse::IpNumber::IPV4);
            prop_assert_eq!(
                ip.header().header_checksum(),
                ip.header().to_header().calc_header_checksum()
            );
            prop_assert_eq!(ip.payload().payload, &outer.payload[..]);
            Ok(())
        },
    );
    lab.assert_everything_is_accounted_for();
}

#[test]
fn without_pmtu_disc_the_outer_df_flag_is_always_clear() {
    let mut lab = lab(
        Tunables {
            pmtu_disc: false,
            ..Tunables::default()
        },
        false,
    );
    for_all(
        256,
        &mut lab,
        (packet(1480), wrapping()),
        |lab, (packet, wrapping)| {
            let sent = lab.answers(&frame_of(&packet, wrapping));
            prop_assert_eq!(sent.len(), 1);
            let outer = outer(&sent[0].1, server(11));
            prop_assert_eq!(&outer.payload, &one_hop_on(&packet.packet()));
            prop_assert_eq!(outer.flags, 0);
            Ok(())
        },
    );
    lab.assert_everything_is_accounted_for();
}

/// A real server behind an MTU of 576.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);
/// The VIP of its service.
const FAR_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

#[test]
fn outer_fragments_reassemble_to_the_outer_packet() {
    let mut lab = lab(Tunables::default(), false);
    let key = service_key(FAR_VIP, Protocol::Udp, 53);
    let scheduler = SchedulerKind::Rr;
    let far = ServerKey {
        address: FAR.into(),
    };
    lab.command(&Command::AddService(key, ServiceOptions::from(scheduler)));
    lab.apply(&Command::AddServer(key, far, weight(1)));

    let mut fragmented = 0;
    for_all(
        256,
        &mut (&mut lab, &mut fragmented),
        (packet(9000), any::<bool>(), any::<u64>()),
        |(lab, fragmented), (packet, is_far, shuffle)| {
            let is_far = is_far && packet.protocol == 17;
            let (rip, destination, mtu) = if is_far {
                (FAR, FAR_VIP, 576)
            } else {
                (server(11), VIP, 1500)
            };
            let packet = Ip {
                destination,
                flags: packet.flags & !DF,
                ..packet
            };
            let inner = one_hop_on(&packet.packet());
            let sent = lab.answers(&packet.frame());
            let mut outers: Vec<_> = sent.iter().map(|(_, frame)| outer(frame, rip)).collect();
            prop_assert!(outers.iter().all(|outer| outer.payload.len() + 20 <= mtu));
            let full = (mtu - 20) / 8 * 8;
            let needed = if inner.len() + 20 <= mtu {
                1
            } else {
                inner.len().div_ceil(full)
            };
            prop_assert_eq!(outers.len(), needed);
            **fragmented += usize::from(needed > 1);

            let len = outers.len();
            outers.rotate_left(usize::try_from(shuffle % len as u64).unwrap());
            let whole = reassemble(&outers).unwrap();
            prop_assert_eq!(&whole.payload, &inner);
            prop_assert_eq!(whole.ttl, packet.ttl - 1);
            prop_assert_eq!(whole.tos, outer_tos_of(packet.tos));
            Ok(())
        },
    );
    assert!(fragmented > 100, "only {fragmented} packets were long");
    lab.assert_everything_is_accounted_for();
}

#[test]
fn checksums_filled_in_by_the_port_give_the_same_bytes() {
    let mut labs = [false, true].map(|offload| lab(Tunables::default(), offload));
    for_all(
        256,
        &mut labs,
        (packet(4000), wrapping()),
        |labs, (packet, wrapping)| {
            let frame = frame_of(&packet, wrapping);
            let [by_software, by_port] = labs.each_mut().map(|lab| lab.answers(&frame));
            // Fragments, and ICMP errors about packets with DF, too.
            prop_assert!(!by_software.is_empty());
            prop_assert_eq!(by_software, by_port);
            Ok(())
        },
    );
    for lab in &labs {
        lab.assert_everything_is_accounted_for();
    }
}

/// A valid frame of any kind with some bytes changed and its end moved.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop_oneof![
        (packet(1600), wrapping(), 0..4_u8)
            .prop_map(|(packet, wrapping, ttl)| { frame_of(&Ip { ttl, ..packet }, wrapping) }),
        (0..16_u8, 0..16_u8, 0..3_u16).prop_map(|(kind, code, client_port)| icmp_error(
            kind,
            code,
            client_port
        )
        .frame()),
        prop::sample::select(vec![VIP, CLIENT, CLIENT_SIDE]).prop_map(arp_request),
        (0..4_u8).prop_map(|host| arp_reply(server_mac(host), server(host))),
    ];
    // Mostly headers, and mostly the bits that mean something.
    let change = (0..80_usize, any::<u8>());
    let changes = prop::collection::vec(change, 0..6);
    (valid, changes, 0..400_usize).prop_map(|(mut frame, changes, cut)| {
        for (at, byte) in changes {
            let at = at % frame.len();
            frame[at] = byte;
        }
        // One in four is cut, or has its header checksum put right again.
        match cut {
            0..100 => frame.truncate(cut),
            100..300 if frame.len() >= 34 => {
                frame[24..26].fill(0);
                let sum = checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            _ => {}
        }
        frame
    })
}

/// Whatever arrives, the sum of all counters is right, no buffer is lost and
/// what is sent is no longer than the port's MTU.
fn survives(lab: &mut Lab, frame: &[u8]) -> Result<(), TestCaseError> {
    let received = lab.counter("rx_packets");
    lab.send(frame);
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
fn random_bytes_end_in_exactly_one_counter() {
    let mut lab = lab(Tunables::default(), false);
    for_all(
        256,
        &mut lab,
        (prop::collection::vec(any::<u8>(), 0..200), any::<bool>()),
        |lab, (frame, for_us)| {
            let mut frame = frame;
            if for_us && frame.len() >= 14 {
                frame[..6].copy_from_slice(&PORT_MACS[0]);
                frame[12..14].copy_from_slice(&[8, 0]);
            }
            survives(lab, &frame)?;
            Ok(())
        },
    );
}

#[test]
fn mutated_frames_end_in_exactly_one_counter() {
    let mut lab = lab(
        Tunables {
            sloppy_tcp: true,
            ..Tunables::default()
        },
        false,
    );
    for_all(2_000, &mut lab, mutated(), |lab, frame| {
        survives(lab, &frame)?;
        Ok(())
    });
    // The frames were not all refused at the door.
    for counter in [
        "forwarded",
        "local",
        "not_local",
        "bad_ipv4_header",
        "ttl_exceeded",
        "arp",
    ] {
        assert!(lab.counter(counter) > 0, "{counter}");
    }
}
