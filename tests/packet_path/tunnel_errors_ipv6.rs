//! ICMP errors about the director's own outer packets where IPv6 is on either
//! side.

use std::net::Ipv6Addr;

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{Protocol, ServiceKey, ServiceOptions},
};

use crate::{
    frames::{GATEWAY_MAC, PORT_MACS, checksum, ethernet, segment},
    ipv6::{CLIENT, SERVER, SERVER_SIDE, VIP, lab, packet},
    lab::Lab,
};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0xfe);
const ACK: u8 = 0x10;

/// The packet of the client that the tunnel carried.
fn inner() -> Vec<u8> {
    packet(6, &segment(1000, ACK, &[0x44; 1300]))
}

/// The outer packet as an error quotes it.
fn outer(source: Ipv6Addr, inner: &[u8]) -> Vec<u8> {
    let mut outer = vec![0x60, 0, 0, 0];
    outer.extend(u16::try_from(inner.len()).unwrap().to_be_bytes());
    outer.extend([41, 63]);
    outer.extend(source.octets());
    outer.extend(SERVER.octets());
    outer.extend(inner);
    outer
}

/// A frame with an error from a router on the way to the server.
fn error(cause: (u8, u8), rest: u32, quote: &[u8]) -> Vec<u8> {
    error_to(SERVER_SIDE, cause, rest, quote)
}

fn error_to(
    destination: Ipv6Addr,
    (icmp_type, code): (u8, u8),
    rest: u32,
    quote: &[u8],
) -> Vec<u8> {
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(&quote[..quote.len().min(1232)]);
    let len = u16::try_from(message.len()).unwrap();
    let mut summed = Vec::new();
    summed.extend(ROUTER.octets());
    summed.extend(destination.octets());
    summed.extend(u32::from(len).to_be_bytes());
    summed.extend([0, 0, 0, 58]);
    summed.extend(&message);
    let sum = checksum(&summed);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([58, 64]);
    packet.extend(ROUTER.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    ethernet(PORT_MACS[1], GATEWAY_MAC, 0x86dd, &packet)
}

fn answers(lab: &mut Lab, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
    lab.take_sent();
    lab.receive_at(1, 0, frame);
    lab.settle();
    lab.take_sent()
}

#[test]
fn packet_too_big_reaches_the_client_with_what_the_tunnel_takes() {
    let mut lab = lab();
    let sent = answers(
        &mut lab,
        &error((2, 0), 1350, &outer(SERVER_SIDE, &inner())),
    );
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    let frame = &sent[0].1;
    assert_eq!(frame[22..38], VIP.octets());
    assert_eq!(frame[38..54], CLIENT.octets());
    assert_eq!(frame[54..56], [2, 0]);
    assert_eq!(frame[58..62], 1310_u32.to_be_bytes());
    assert_eq!(frame[62..], inner()[..1192]);
    assert_eq!(lab.counter("path_mtu_learned"), 1);
}

#[test]
fn packet_too_big_to_an_outer_source_teaches_the_path_mtu() {
    let mut lab = lab();
    let key = ServiceKey::at(Protocol::Tcp, (VIP, 80).into());
    let options = ServiceOptions {
        outer_source: Some("2001:db8:9::ab40/122".parse().unwrap()),
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    lab.apply(&Command::EditService(key, options));
    let too_big = |source| error_to(source, (2, 0), 1350, &outer(source, &inner()));
    let beside = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0xab80);
    assert_eq!(answers(&mut lab, &too_big(SERVER_SIDE)), []);
    assert_eq!(answers(&mut lab, &too_big(beside)), []);
    assert_eq!(lab.counter("path_mtu_learned"), 0);
    let inside = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0xab7f);
    let sent = answers(&mut lab, &too_big(inside));
    assert_eq!(sent[0].1[58..62], 1310_u32.to_be_bytes());
    assert_eq!(lab.counter("path_mtu_learned"), 1);
}

#[test]
fn clients_are_told_1280_bytes_of_a_narrower_path() {
    let mut lab = lab();
    let sent = answers(&mut lab, &error((2, 0), 600, &outer(SERVER_SIDE, &inner())));
    assert_eq!(sent[0].1[58..62], 1280_u32.to_be_bytes());
}

#[test]
fn other_errors_make_the_address_unreachable() {
    for cause in [(1, 0), (1, 4), (3, 0), (4, 1)] {
        let mut lab = lab();
        let sent = answers(&mut lab, &error(cause, 0, &outer(SERVER_SIDE, &inner())));
        assert_eq!(sent.len(), 1, "{cause:?}: {sent:02x?}");
        assert_eq!(sent[0].1[54..56], [1, 3], "{cause:?}");
        assert_eq!(lab.counter("path_mtu_learned"), 0);
    }
}

#[test]
fn an_error_about_what_the_director_did_not_send_is_foreign() {
    let mut lab = lab();
    let sent = answers(&mut lab, &error((2, 0), 1350, &outer(ROUTER, &inner())));
    assert_eq!(sent, []);
    // It is not longer than what it says is too long.
    let sent = answers(
        &mut lab,
        &error((2, 0), 1400, &outer(SERVER_SIDE, &inner())),
    );
    assert_eq!(sent, []);
    assert_eq!(lab.counter("tunnel_error_foreign"), 2);
    assert_eq!(lab.counter("path_mtu_learned"), 0);
}

#[test]
fn an_error_that_quotes_the_outer_header_alone_teaches_the_path_mtu() {
    let mut lab = lab();
    let quote = &outer(SERVER_SIDE, &inner())[..48];
    assert_eq!(answers(&mut lab, &error((2, 0), 1350, quote)), []);
    assert_eq!(lab.counter("path_mtu_learned"), 1);
    assert_eq!(lab.counter("tunnel_error_not_relayed"), 1);
}
