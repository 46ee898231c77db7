//! ICMP errors about flows of which nothing else came here (`schedule_icmp`).

use pointsman::{control::command::Command, scheduler::SchedulerKind, service::Tunables};

use crate::{
    frames::{ACK, CLIENT, Ip, SYN, VIP, icmp, icmp_error, server, tcp},
    lab::{Lab, Setup, web_service},
};

/// TCP VIP:80 with two real servers in turn; the second is picked first.
fn lab() -> Lab {
    Lab::with(&Setup {
        services: vec![web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)])],
        tunables: Tunables {
            schedule_icmp: true,
            ..Tunables::default()
        },
        ..Setup::default()
    })
}

/// The real server that a packet goes to.
fn server_of(lab: &mut Lab, packet: &Ip) -> Option<u8> {
    let sent = lab.answers(&packet.frame());
    let (port, frame) = sent.first()?;
    assert_eq!((sent.len(), *port, frame[23]), (1, 1, 4), "{frame:02x?}");
    Some(frame[33])
}

#[test]
fn an_error_about_an_unknown_flow_opens_a_connection_for_three_seconds() {
    let mut lab = lab();
    assert_eq!(server_of(&mut lab, &icmp_error(3, 1, 1000)), Some(12));
    assert_eq!(lab.state_of(1000), Some("NONE"));
    assert_eq!(lab.counter("connections_opened"), 1);
    let status = &lab.director.management.services()[0].servers;
    let connections = status.iter().map(|server| {
        let counted = server.statistics;
        (
            server.active_connections,
            server.inactive_connections,
            (counted.connections, counted.in_packets, counted.in_bytes),
        )
    });
    // The error has 56 bytes.
    let expected = [(0, 1, (1, 1, 56)), (0, 0, (0, 0, 0))];
    assert_eq!(connections.collect::<Vec<_>>(), expected);
    // The next one goes the same way, and does not make it live longer.
    lab.advance(1_500);
    assert_eq!(server_of(&mut lab, &icmp_error(3, 1, 1000)), Some(12));
    lab.advance(1_400);
    assert_eq!(lab.state_of(1000), Some("NONE"));
    lab.advance(400);
    assert_eq!(lab.state_of(1000), None);
}

#[test]
fn packets_of_the_client_go_on_with_the_connection() {
    for (flags, state) in [(SYN, "SYN_RECV"), (ACK, "ESTABLISHED")] {
        let mut lab = lab();
        assert_eq!(server_of(&mut lab, &icmp_error(3, 1, 1000)), Some(12));
        assert_eq!(server_of(&mut lab, &tcp(1000, flags)), Some(12));
        assert_eq!(lab.state_of(1000), Some(state));
        assert_eq!(
            lab.director.management.services()[0].servers[0].active_connections,
            1
        );
    }
}

#[test]
fn an_error_about_a_udp_flow_opens_a_connection_too() {
    let mut lab = lab();
    lab.add_udp_service(server(11));
    let answer = Ip {
        source: VIP,
        destination: CLIENT,
        ..Ip::new(17, [53_u16, 5000, 8, 0].map(u16::to_be_bytes).concat())
    };
    let error = icmp(3, 3, &[&[0; 4][..], &answer.packet()].concat());
    assert_eq!(server_of(&mut lab, &error), Some(11));
    assert_eq!(lab.state_of(5000), Some("UDP"));
    lab.advance(3_400);
    assert_eq!(lab.state_of(5000), None);
}

/// Linux looks at the checksum only after it has picked a server.
#[test]
fn an_error_with_a_wrong_checksum_opens_a_connection_and_is_dropped() {
    let mut lab = lab();
    let mut error = icmp_error(3, 1, 1000);
    error.payload[3] ^= 1;
    assert_eq!(server_of(&mut lab, &error), None);
    assert_eq!(lab.state_of(1000), Some("NONE"));
    assert_eq!(lab.counter("bad_icmp_checksum"), 1);
}

#[test]
fn an_error_that_no_service_and_no_server_fits_is_dropped() {
    let mut lab = lab();
    // About an answer from another L4 port of the VIP, and one to nobody.
    let about = |source_port: u16, client| {
        let answer = Ip {
            source: VIP,
            destination: client,
            ..Ip::new(6, [source_port, 1000, 0, 1].map(u16::to_be_bytes).concat())
        };
        icmp(3, 1, &[&[0; 4][..], &answer.packet()].concat())
    };
    assert_eq!(server_of(&mut lab, &about(81, CLIENT)), None);
    assert_eq!(server_of(&mut lab, &about(80, VIP)), None);
    lab.delete_server(11);
    lab.delete_server(12);
    assert_eq!(server_of(&mut lab, &about(80, CLIENT)), None);
    assert_eq!(lab.counter("icmp_error_unrelated"), 3);
    assert_eq!(lab.counter("connections_opened"), 0);
}

#[test]
fn without_the_setting_no_error_opens_a_connection() {
    let mut lab = lab();
    lab.apply(&Command::SetTunables(Tunables::default()));
    assert_eq!(server_of(&mut lab, &icmp_error(3, 1, 1000)), None);
    assert_eq!(lab.counter("connections_opened"), 0);
}
