//! Packets over IPv6: what is forwarded whatever its extension headers, and
//! what is dropped.

use std::net::Ipv6Addr;

use pointsman::{
    config::{Config, NeighborConfig, RouteAction, RouteConfig, ServiceConfig},
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions},
    wire::ethernet::MacAddr,
};

use crate::{
    frames::{ACK, GATEWAY_MAC, PORT_MACS, SYN, checksum, ethernet, segment, server_mac},
    frames_ipv6::server,
    lab::{Checked, Lab, Setup, weight},
};

pub(crate) const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);
pub(crate) const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);
pub(crate) const CLIENT_SIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
pub(crate) const SERVER_SIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
pub(crate) const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x11);

/// Gives a director IPv6. The path to its server takes 1400 bytes.
pub(crate) fn extend(config: &mut Config) {
    for (port, address) in [(0, "2001:db8:1::1/64"), (1, "2001:db8:2::1/64")] {
        config.ports[port].addresses.push(address.parse().unwrap());
    }
    let gateway = "2001:db8:1::fe".parse().unwrap();
    config.routes.push(RouteConfig {
        to: "::/0".parse().unwrap(),
        action: RouteAction::Forward {
            via: Some(gateway),
            port: 0,
            source: None,
            mtu: None,
        },
    });
    config.routes.push(RouteConfig {
        to: "2001:db8:2::11/128".parse().unwrap(),
        action: RouteAction::Forward {
            via: None,
            port: 1,
            source: Some(SERVER_SIDE.into()),
            mtu: Some(1400),
        },
    });
    config.neighbors.push(NeighborConfig {
        port: 0,
        address: gateway,
        mac: MacAddr(GATEWAY_MAC),
    });
    for (host, mac) in [(0x11, 11), (0x12, 12), (0x13, 13), (0x14, 14)] {
        config.neighbors.push(NeighborConfig {
            port: 1,
            address: server(host).into(),
            mac: MacAddr(server_mac(mac)),
        });
    }
    config.services.push(ServiceConfig {
        key: ServiceKey::Vip {
            protocol: Protocol::Tcp,
            address: (VIP, 80).into(),
        },
        options: ServiceOptions::from(SchedulerKind::Rr),
        servers: vec![(
            ServerKey {
                address: SERVER.into(),
            },
            weight(1),
        )],
    });
}

pub(crate) fn lab() -> Lab {
    lab_of(Setup::default())
}

/// A lab with IPv6 besides.
pub(crate) fn lab_of(setup: Setup) -> Lab {
    let mut lab = Lab::with(&Setup {
        ipv6: true,
        ..setup
    });
    // Until nobody else has claimed its addresses.
    for _ in 0..30 {
        lab.advance(100);
    }
    lab.take_sent();
    lab
}

/// A packet from the client to the VIP.
pub(crate) fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(CLIENT.octets());
    packet.extend(VIP.octets());
    packet.extend(payload);
    packet
}

pub(crate) fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(PORT_MACS[0], GATEWAY_MAC, 0x86dd, packet)
}

/// An extension header of options or routing with 8 bytes.
fn extension(next_header: u8) -> [u8; 8] {
    // PadN over the six bytes that follow.
    [next_header, 0, 1, 4, 0, 0, 0, 0]
}

/// An ICMPv6 message from the client, with its checksum.
fn icmpv6(icmp_type: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(rest);
    let mut summed = Vec::new();
    summed.extend(CLIENT.octets());
    summed.extend(VIP.octets());
    summed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    summed.extend([0, 0, 0, 58]);
    summed.extend(&message);
    let sum = checksum(&summed);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(58, &message)
}

/// A packet of the VIP to the client as an error quotes it.
pub(crate) fn quoted(client_port: u16, len: usize) -> Vec<u8> {
    let mut quoted = vec![0x60, 0, 0, 0, 5, 0xdc, 6, 60];
    quoted.extend(VIP.octets());
    quoted.extend(CLIENT.octets());
    quoted.extend(80_u16.to_be_bytes());
    quoted.extend(client_port.to_be_bytes());
    quoted.resize(len, 0x52);
    quoted
}

/// What one packet is forwarded as: the outer header, and what follows it.
fn forwarded(lab: &mut Lab, packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
    lab.take_sent();
    lab.send(&frame(packet));
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    let (port, frame) = &sent[0];
    assert_eq!(*port, 1);
    assert_eq!(
        frame[..14],
        *ethernet(server_mac(11), PORT_MACS[1], 0x86dd, b"")
    );
    (frame[14..54].to_vec(), frame[54..].to_vec())
}

#[test]
fn extension_headers_travel_on_and_do_not_change_the_connection() {
    let mut lab = lab();
    let plain = packet(6, &segment(1000, SYN, b""));
    let (outer, inner) = forwarded(&mut lab, &plain);
    assert_eq!(outer[4..8], [0, 60, 41, 63]);
    assert_eq!(outer[8..24], SERVER_SIDE.octets());
    assert_eq!(outer[24..40], SERVER.octets());
    let mut expected = plain;
    expected[7] = 63;
    assert_eq!(inner, expected);

    // Hop-by-hop options, destination options, and a fragment header of a
    // whole packet (RFC 6946).
    let mut payload = Vec::new();
    payload.extend(extension(60));
    payload.extend(extension(44));
    payload.extend([6, 0, 0, 0, 1, 2, 3, 4]);
    payload.extend(segment(1000, ACK, b""));
    let mut expected = packet(0, &payload);
    let (outer, inner) = forwarded(&mut lab, &expected);
    assert_eq!(outer[4..8], [0, 84, 41, 63]);
    expected[7] = 63;
    assert_eq!(inner, expected);
    assert_eq!(lab.state_of(1000), Some("ESTABLISHED"));
    lab.assert_everything_is_accounted_for();
}

#[test]
fn padding_of_the_frame_does_not_travel_on() {
    let mut lab = lab();
    let mut padded = packet(6, &segment(1000, SYN, b""));
    padded.extend([0x55; 9]);
    let (_, inner) = forwarded(&mut lab, &padded);
    assert_eq!(inner.len(), 60);
}

#[test]
fn an_error_about_a_connection_goes_to_its_server_and_an_unrelated_one_does_not() {
    let mut lab = lab();
    lab.send(&frame(&packet(6, &segment(1000, SYN, b""))));
    let mut rest = vec![0, 0, 0x05, 0x14];
    rest.extend(quoted(1000, 44));
    let (outer, inner) = forwarded(&mut lab, &icmpv6(2, 0, &rest));
    assert_eq!(outer[6..8], [41, 63]);
    assert_eq!(inner[40..42], [2, 0]);

    let unrelated = icmpv6(2, 0, &[&[0, 0, 5, 0x14][..], &quoted(1001, 44)].concat());
    let checked = lab.counts_one("icmp_error_unrelated", |lab| lab.send(&frame(&unrelated)));
    let Checked { .. } = checked;
    let mut damaged = icmpv6(2, 0, &rest);
    damaged[42] ^= 1;
    let checked = lab.counts_one("bad_icmp_checksum", |lab| lab.send(&frame(&damaged)));
    let Checked { .. } = checked;
}

#[test]
fn a_packet_in_a_frame_for_a_group_opens_no_connection() {
    let mut lab = lab();
    let group = [0x33, 0x33, 0, 0, 0, 0xfb];
    let packet = packet(6, &segment(1000, SYN, b""));
    let frame = ethernet(group, GATEWAY_MAC, 0x86dd, &packet);
    let Checked { .. } = lab.counts_one("other_mac", |lab| lab.send(&frame));
    assert_eq!(lab.state_of(1000), None);
}

#[test]
fn cut_off_headers_are_dropped_wherever_they_end() {
    let mut lab = lab();
    let mut payload = extension(60).to_vec();
    payload.extend(extension(6));
    payload.extend(segment(1000, SYN, b""));
    for len in 0..payload.len() {
        lab.send(&frame(&packet(0, &payload[..len])));
        // The whole of it, but the frame ends early.
        let whole = frame(&packet(0, &payload));
        lab.send(&whole[..14 + len]);
    }
    assert_eq!(lab.take_sent(), []);
    lab.assert_everything_is_accounted_for();
}

pub(crate) fn an_ipv6_packet_longer_than_its_frame_is_dropped(counter: &str) -> Checked {
    let mut lab = lab();
    let whole = frame(&packet(6, &segment(1000, SYN, b"")));
    let mut version_4 = whole.clone();
    version_4[14] = 0x45;
    for bad in [&version_4, &whole[..40]] {
        let Checked { .. } = lab.counts_one(counter, |lab| lab.send(bad));
    }
    let checked = lab.counts_one(counter, |lab| lab.send(&whole[..whole.len() - 1]));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_source_route_over_ipv6_is_dropped(counter: &str) -> Checked {
    let mut lab = lab();
    let mut too_many = Vec::new();
    for _ in 0..8 {
        too_many.extend(extension(60));
    }
    too_many.extend(extension(6));
    too_many.extend(segment(1000, SYN, b""));
    let Checked { .. } = lab.counts_one(counter, |lab| lab.send(&frame(&packet(60, &too_many))));
    // Routing header of type 0 with one address left.
    let mut routed = vec![6, 2, 0, 1, 0, 0, 0, 0];
    routed.extend(CLIENT_SIDE.octets());
    routed.extend(segment(1000, SYN, b""));
    let checked = lab.counts_one(counter, |lab| lab.send(&frame(&packet(43, &routed))));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn an_icmpv6_error_too_long_for_the_tunnel_is_dropped(counter: &str) -> Checked {
    let mut lab = lab();
    lab.send(&frame(&packet(6, &segment(1000, SYN, b""))));
    lab.take_sent();
    let error = |len: usize| icmpv6(3, 0, &[&[0; 4][..], &quoted(1000, len - 48)].concat());
    // 1400 bytes less an outer header.
    let (_, inner) = forwarded(&mut lab, &error(1360));
    assert_eq!(inner.len(), 1360);
    let checked = lab.counts_one(counter, |lab| lab.send(&frame(&error(1361))));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_neighbor_solicitation_is_answered(counter: &str) -> Checked {
    let mut lab = lab();
    let gateway: Ipv6Addr = "2001:db8:1::fe".parse().unwrap();
    let group: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(CLIENT_SIDE.octets());
    message.extend([1, 1]);
    message.extend(GATEWAY_MAC);
    let mut summed = Vec::new();
    summed.extend(gateway.octets());
    summed.extend(group.octets());
    summed.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    summed.extend(&message);
    let sum = checksum(&summed);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut solicitation = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
    solicitation.extend(gateway.octets());
    solicitation.extend(group.octets());
    solicitation.extend(&message);
    let to_group = ethernet(
        [0x33, 0x33, 0xff, 0, 0, 1],
        GATEWAY_MAC,
        0x86dd,
        &solicitation,
    );
    lab.take_sent();
    let checked = lab.counts_one_and(counter, &["host_replies"], |lab| lab.send(&to_group));
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    let (port, answer) = &sent[0];
    assert_eq!(*port, 0);
    assert_eq!(
        answer[..14],
        *ethernet(GATEWAY_MAC, PORT_MACS[0], 0x86dd, b"")
    );
    // An advertisement, solicited and overriding, of the address and its MAC.
    assert_eq!(answer[20..22], [58, 255]);
    assert_eq!(answer[54..56], [136, 0]);
    assert_eq!(answer[58] & 0x60, 0x60);
    assert_eq!(answer[62..78], CLIENT_SIDE.octets());
    assert_eq!(answer[78..80], [2, 1]);
    assert_eq!(answer[80..86], PORT_MACS[0]);
    checked
}
