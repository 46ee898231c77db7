//! GRE and GUE: what stands between outer and inner packet, and how much room
//! it takes.

use std::collections::{BTreeSet, HashMap};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    io::PortCapabilities,
    scheduler::SchedulerKind,
    service::{GueChecksum, Protocol, ServerOptions, ServiceOptions, TunnelKind},
};
use proptest::prelude::*;

use crate::{
    decode::{Outer, one_hop_on, outer, outer_of_protocol, reassemble},
    frames::{
        ACK, DF, Ip, SERVER_SIDE, SYN, VIP, arp_reply, checksum, icmp_error, server, server_mac,
        tcp, tcp_of_len,
    },
    lab::{Lab, Setup, for_all, server_key, service_key, web},
    properties::{frame_of, outer_tos_of, packet, wrapping},
};

pub(crate) const GRE: TunnelKind = TunnelKind::Gre { checksum: false };
pub(crate) const GRE_SUM: TunnelKind = TunnelKind::Gre { checksum: true };
pub(crate) const GUE: TunnelKind = gue(GueChecksum::None);
pub(crate) const GUE_SUM: TunnelKind = gue(GueChecksum::Outer);

const fn gue(checksum: GueChecksum) -> TunnelKind {
    TunnelKind::Gue {
        l4_port: 6081,
        checksum,
    }
}

/// Each with its largest inner packet at an MTU of 1500, from recordings.
const TUNNELS: [(TunnelKind, usize); 5] = [
    (GRE, 1476),
    (GRE_SUM, 1472),
    (GUE, 1468),
    (GUE_SUM, 1468),
    (gue(GueChecksum::Remote), 1468),
];

fn options(tunnel: TunnelKind) -> ServerOptions {
    ServerOptions {
        tunnel,
        ..ServerOptions::default()
    }
}

/// TCP VIP:80 and UDP VIP:53 with the real server 10.0.0.11 behind a tunnel.
fn setup(tunnel: TunnelKind) -> Setup {
    let service = |protocol, l4_port| ServiceConfig {
        key: service_key(VIP, protocol, l4_port),
        options: ServiceOptions::from(SchedulerKind::Rr),
        servers: vec![(server_key(11), options(tunnel))],
    };
    Setup {
        connections_max: 65_536,
        services: vec![service(Protocol::Tcp, 80), service(Protocol::Udp, 53)],
        ..Setup::default()
    }
}

pub(crate) fn lab(tunnel: TunnelKind) -> Lab {
    Lab::with(&setup(tunnel))
}

const fn protocol(tunnel: TunnelKind) -> u8 {
    match tunnel {
        TunnelKind::Ipip => 4,
        TunnelKind::Gre { .. } => 47,
        TunnelKind::Gue { .. } => 17,
    }
}

/// What is left of the outer packet's payload without the header of the
/// tunnel, which is checked here, and the source port of GUE.
fn decapsulate(payload: &[u8], tunnel: TunnelKind) -> (&[u8], u16) {
    match tunnel {
        TunnelKind::Ipip => (payload, 0),
        TunnelKind::Gre { checksum: false } => {
            assert_eq!(payload[..4], [0, 0, 8, 0]);
            (&payload[4..], 0)
        }
        TunnelKind::Gre { checksum: true } => {
            assert_eq!(payload[..4], [0x80, 0, 8, 0]);
            assert_eq!(payload[6..8], [0, 0]);
            assert_eq!(checksum(payload), 0);
            (&payload[8..], 0)
        }
        TunnelKind::Gue {
            l4_port,
            checksum: has_sum,
        } => {
            let word = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            assert_eq!(word(2), l4_port);
            assert_eq!(usize::from(word(4)), payload.len());
            assert_eq!(payload[8..12], [0, 4, 0, 0]);
            if has_sum.is_outer_present() {
                let addresses = [SERVER_SIDE.octets(), server(11).octets()].concat();
                let pseudo = [&addresses[..], &[0, 17], &payload[4..6], payload].concat();
                assert_eq!(checksum(&pseudo), 0);
                assert_ne!(word(6), 0);
            } else {
                assert_eq!(word(6), 0);
            }
            (&payload[12..], word(0))
        }
    }
}

/// The outer packet of the one frame that an arriving one becomes.
fn sent_as(lab: &mut Lab, frame: &[u8], tunnel: TunnelKind) -> Outer {
    let sent = lab.answers(frame);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, 1);
    outer_of_protocol(&sent[0].1, server(11), protocol(tunnel))
}

/// etherparse has the same opinion of lengths and checksums.
fn check_by_etherparse(frame: &[u8], tunnel: TunnelKind) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = sliced.net else {
        panic!("no IPv4 in {frame:02x?}");
    };
    assert_eq!(ip.header().protocol().0, protocol(tunnel));
    let TunnelKind::Gue { checksum, .. } = tunnel else {
        return;
    };
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        panic!("no UDP in {frame:02x?}");
    };
    let header = udp.to_header();
    assert_eq!(usize::from(header.length), 8 + udp.payload().len());
    if checksum.is_outer_present() {
        let sum = header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload());
        assert_eq!(header.checksum, sum.unwrap());
    }
}

#[test]
fn decapsulated_from_gre_and_gue_is_the_packet_that_came_one_hop_on() {
    for (tunnel, len_max) in TUNNELS {
        for tx_ipv4_checksum in [false, true] {
            let mut lab = Lab::with(&Setup {
                capabilities: PortCapabilities {
                    tx_ipv4_checksum,
                    ..PortCapabilities::default()
                },
                ..setup(tunnel)
            });
            for_all(
                64,
                &mut lab,
                (packet(len_max), wrapping()),
                |lab, (packet, wrapping)| {
                    let sent = lab.answers(&frame_of(&packet, wrapping));
                    prop_assert_eq!(sent.len(), 1);
                    check_by_etherparse(&sent[0].1, tunnel);
                    let outer = outer_of_protocol(&sent[0].1, server(11), protocol(tunnel));
                    let (inner, _) = decapsulate(&outer.payload, tunnel);
                    prop_assert_eq!(inner, &one_hop_on(&packet.packet())[..]);
                    prop_assert_eq!(outer.ttl, packet.ttl - 1);
                    prop_assert_eq!(outer.tos, outer_tos_of(packet.tos));
                    prop_assert_eq!(outer.flags, packet.flags & DF);
                    prop_assert!(packet.flags & DF == 0 || outer.id == 0);
                    Ok(())
                },
            );
            lab.assert_everything_is_accounted_for();
        }
    }
}

/// The outer packet of recording `11_gre_nocsum`, from its IPv4 header on.
#[test]
fn gre_is_the_recorded_one() {
    let syn = Ip::new(
        6,
        b"\x9c\x41\0\x50\0\0\x03\xe8\0\0\0\0\x50\x02\xfa\xf0\xae\x32\0\0".to_vec(),
    );
    let sent = lab(GRE).answers(&syn.frame());
    assert_eq!(
        sent[0].1[14..],
        *b"\x45\x00\x00\x40\x00\x00\x40\x00\x3f\x2f\x27\x84\x0a\x00\x00\x01\x0a\x00\x00\x0b\
           \x00\x00\x08\x00\
           \x45\x00\x00\x28\x12\x34\x40\x00\x3f\x06\xc3\x56\xcb\x00\x71\x07\xc6\x33\x64\x0a\
           \x9c\x41\x00\x50\x00\x00\x03\xe8\x00\x00\x00\x00\x50\x02\xfa\xf0\xae\x32\x00\x00"
    );
}

#[test]
fn the_longest_packet_passes_and_one_byte_more_is_told_what_would() {
    for (tunnel, len_max) in TUNNELS {
        let mut lab = lab(tunnel);
        let longest = tcp_of_len(1000, SYN, len_max, true);
        let outer = sent_as(&mut lab, &longest.frame(), tunnel);
        let (inner, _) = decapsulate(&outer.payload, tunnel);
        assert_eq!(inner, one_hop_on(&longest.packet()));

        let mut error = Vec::new();
        let frame = tcp_of_len(1000, ACK, len_max + 1, true).frame();
        let checked = lab.counts_one("fragmentation_needed", |lab| error = lab.answers(&frame));
        drop(checked);
        assert_eq!(error.len(), 1);
        let (port, error) = &error[0];
        assert_eq!((*port, &error[34..36]), (0, &[3, 4][..]));
        let mtu = u16::from_be_bytes([error[40], error[41]]);
        assert_eq!(usize::from(mtu), len_max, "{tunnel:?}");
    }
}

#[test]
fn too_long_a_packet_without_df_goes_in_outer_fragments() {
    for (tunnel, len_max) in TUNNELS {
        let mut lab = lab(tunnel);
        for len in [len_max + 1, 1500, 4001] {
            let packet = tcp_of_len(1000, SYN, len, false);
            let sent = lab.answers(&packet.frame());
            assert_eq!(sent.len(), if len > 1500 { 3 } else { 2 }, "{tunnel:?}");
            assert!(sent.iter().all(|(_, frame)| frame.len() <= 1514));
            let fragments: Vec<_> = sent
                .iter()
                .map(|(_, frame)| outer_of_protocol(frame, server(11), protocol(tunnel)))
                .collect();
            let whole = reassemble(&fragments).unwrap();
            let (inner, _) = decapsulate(&whole.payload, tunnel);
            assert_eq!(inner, one_hop_on(&packet.packet()));
        }
    }
}

#[test]
fn the_source_port_of_gue_is_constant_in_a_flow_and_differs_between_flows() {
    let mut lab = lab(GUE_SUM);
    let mut seen: HashMap<u16, u16> = HashMap::new();
    for flags in [SYN, ACK, ACK] {
        for client_port in 1000..1200 {
            let outer = sent_as(&mut lab, &tcp(client_port, flags).frame(), GUE_SUM);
            let (_, source_port) = decapsulate(&outer.payload, GUE_SUM);
            assert!((32_768..61_000).contains(&source_port), "{source_port}");
            let first = *seen.entry(client_port).or_insert(source_port);
            assert_eq!(first, source_port);
        }
    }
    let different: BTreeSet<_> = seen.values().collect();
    // 200 out of 28,232: 0.7 pairs are expected to be equal.
    assert!(different.len() > 190, "{}", different.len());
}

#[test]
fn icmp_errors_about_a_connection_are_tunnelled_too() {
    for (tunnel, _) in TUNNELS {
        let mut lab = lab(tunnel);
        lab.answers(&tcp(1000, SYN).frame());
        let error = icmp_error(3, 4, 1000);
        let outer = sent_as(&mut lab, &error.frame(), tunnel);
        let (inner, _) = decapsulate(&outer.payload, tunnel);
        assert_eq!(inner, one_hop_on(&error.packet()));
    }
}

#[test]
fn another_tunnel_holds_for_the_next_packet_of_an_old_connection() {
    let mut lab = lab(TunnelKind::Ipip);
    let sent = lab.answers(&tcp(1000, SYN).frame());
    outer(&sent[0].1, server(11));
    for (tunnel, _) in TUNNELS.into_iter().chain([(TunnelKind::Ipip, 0)]) {
        lab.apply(&Command::EditServer(web(), server_key(11), options(tunnel)));
        let ack = tcp(1000, ACK);
        let outer = sent_as(&mut lab, &ack.frame(), tunnel);
        let (inner, _) = decapsulate(&outer.payload, tunnel);
        assert_eq!(inner, one_hop_on(&ack.packet()));
    }
    assert_eq!(lab.counter("connections_opened"), 1);
}

/// The management thread wraps what waited for an address.
#[test]
fn what_waited_for_arp_is_tunnelled_as_the_rest() {
    for (tunnel, _) in TUNNELS {
        let mut lab = Lab::with(&Setup {
            services: vec![ServiceConfig {
                servers: vec![(server_key(20), options(tunnel))],
                ..setup(tunnel).services.remove(0)
            }],
            ..Setup::default()
        });
        let syn = tcp(1000, SYN);
        lab.answers(&syn.frame());
        lab.receive_at(1, 0, &arp_reply(server_mac(20), server(20)));
        lab.settle();
        let sent = lab.take_sent();
        let packet = sent
            .iter()
            .map(|(_, frame)| frame)
            .find(|frame| frame[..6] == server_mac(20) && frame[12..14] == [8, 0])
            .unwrap();
        assert_eq!(packet[23], protocol(tunnel));
        let header_len = usize::from(tunnel.header_len());
        assert_eq!(packet[34 + header_len..], one_hop_on(&syn.packet()));
        assert_eq!(
            usize::from(u16::from_be_bytes([packet[16], packet[17]])),
            20 + header_len + syn.packet().len()
        );
    }
}

#[test]
fn a_gue_tunnel_to_port_0_is_refused() {
    let mut lab = lab(GUE);
    let tunnel = TunnelKind::Gue {
        l4_port: 0,
        checksum: GueChecksum::None,
    };
    let command = Command::EditServer(web(), server_key(11), options(tunnel));
    let error = lab.director.management.apply(&command).unwrap_err();
    assert_eq!(error.to_string(), "a GUE tunnel needs a destination port");
}
