//! SCTP services: what opens, carries on and ends a connection.

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{Protocol, ServiceOptions, Tunables},
};

use crate::{
    frames::{Ip, VIP},
    lab::{Lab, server_key, service_key, weight},
};

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const COOKIE_ECHO: u8 = 10;

/// Common header and an empty chunk (RFC 9260 section 3).
fn sctp(client_port: u16, chunk_type: u8) -> Ip {
    let mut packet = client_port.to_be_bytes().to_vec();
    packet.extend([0, 132, 0, 0, 0, 0, 0, 0, 0, 0, chunk_type, 0, 0, 4]);
    Ip::new(132, packet)
}

/// SCTP VIP:132 with two real servers in turn.
fn lab() -> Lab {
    let mut lab = Lab::start();
    let key = service_key(VIP, Protocol::Sctp, 132);
    lab.apply(&Command::AddService(
        key,
        ServiceOptions::from(SchedulerKind::Rr),
    ));
    for host in [11, 12] {
        lab.apply(&Command::AddServer(key, server_key(host), weight(1)));
    }
    lab
}

/// The last octet of the real server that a packet goes to; `None` when the
/// client gets "protocol unreachable" (ICMP type 3, code 2) instead.
fn server_of(lab: &mut Lab, client_port: u16, chunk_type: u8) -> Option<u8> {
    let sent = lab.answers(&sctp(client_port, chunk_type).frame());
    assert_eq!(sent.len(), 1, "{sent:?}");
    let frame = &sent[0].1;
    if frame[23] == 1 {
        assert_eq!((sent[0].0, &frame[34..36]), (0, &[3, 2][..]));
        return None;
    }
    assert_eq!((sent[0].0, frame[23]), (1, 4));
    Some(frame[33])
}

#[test]
fn only_an_init_opens_a_connection() {
    let mut lab = lab();
    for chunk_type in [DATA, INIT_ACK, ABORT, COOKIE_ECHO] {
        assert_eq!(server_of(&mut lab, 1000, chunk_type), None, "{chunk_type}");
        assert_eq!(lab.state_of(1000), None);
    }
    assert!(server_of(&mut lab, 1000, INIT).is_some());
    assert_eq!(lab.state_of(1000), Some("INIT1"));
}

#[test]
fn with_sloppy_sctp_anything_but_abort_opens_a_connection() {
    let mut lab = lab();
    lab.apply(&Command::SetTunables(Tunables {
        sloppy_sctp: true,
        ..Tunables::default()
    }));
    assert_eq!(server_of(&mut lab, 1000, ABORT), None);
    assert_eq!(lab.state_of(1000), None);
    for (client_port, chunk_type, state) in [
        (1001, DATA, "ESTABLISHED"),
        (1002, INIT, "INIT1"),
        (1003, COOKIE_ECHO, "ESTABLISHED"),
    ] {
        assert!(server_of(&mut lab, client_port, chunk_type).is_some());
        assert_eq!(lab.state_of(client_port), Some(state));
    }
}

#[test]
fn association_stays_with_its_real_server() {
    let mut lab = lab();
    let first = server_of(&mut lab, 1000, INIT);
    let second = server_of(&mut lab, 1001, INIT);
    assert_ne!(first, second);
    for chunk_type in [INIT, COOKIE_ECHO, INIT_ACK, DATA] {
        assert_eq!(server_of(&mut lab, 1000, chunk_type), first, "{chunk_type}");
    }
    assert_eq!(lab.state_of(1000), Some("ESTABLISHED"));
}

#[test]
fn init_on_a_closed_association_is_scheduled_anew() {
    let mut lab = lab();
    let first = server_of(&mut lab, 1000, INIT);
    assert_eq!(server_of(&mut lab, 1000, ABORT), first);
    assert_eq!(lab.state_of(1000), Some("CLOSED"));
    assert_ne!(server_of(&mut lab, 1000, INIT), first);
    assert_eq!(lab.state_of(1000), Some("INIT1"));
}

#[test]
fn icmp_error_reaches_the_real_server_of_the_association() {
    let mut lab = lab();
    let server = server_of(&mut lab, 1000, INIT);
    // Port unreachable, about a packet from the VIP to the client.
    let mut quoted = sctp(1000, DATA);
    (quoted.source, quoted.destination) = (quoted.destination, quoted.source);
    let mut packet = quoted.packet();
    packet[20..24].copy_from_slice(&[0, 132, 0x03, 0xe8]);
    let sent = lab.answers(&crate::frames::icmp(3, 3, &[&[0; 4][..], &packet].concat()).frame());
    assert_eq!((sent[0].0, Some(sent[0].1[33])), (1, server));
}

#[test]
fn packet_without_a_whole_chunk_header_is_dropped() {
    let mut lab = lab();
    let short = Ip::new(132, sctp(1000, INIT).payload[..15].to_vec());
    let _ = lab.counts_one("truncated_l4", |lab| lab.send(&short.frame()));
}
