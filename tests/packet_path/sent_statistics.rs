//! What counts as sent to clients (`OutPkts` and `OutBytes` of `ipvsadm --stats`),
//! which in Linux IPVS are the host's own answers about connections.

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{Protocol, ServerOptions, ServiceOptions},
};

use crate::{
    frames::{
        ACK, CLIENT, GATEWAY_MAC, Ip, PORT_MACS, SERVER_SIDE, SYN, VIP, ethernet, icmp, server,
        tcp, tcp_of_len, udp,
    },
    lab::{Lab, server_key, service_key, web, weight},
};

/// Packets and bytes sent by the first service, which are those of its server.
fn sent(lab: &Lab) -> (u64, u64) {
    let service = &lab.director.management.services()[0];
    let of = |statistics: &pointsman::control::status::Statistics| {
        (statistics.out_packets, statistics.out_bytes)
    };
    if let [server] = service.servers.as_slice() {
        assert_eq!(of(&server.statistics), of(&service.statistics));
    }
    of(&service.statistics)
}

/// TCP VIP:80 with the real server 10.0.0.11 and an established connection.
fn established() -> Lab {
    let mut lab = Lab::start();
    lab.send(&tcp(1000, SYN).frame());
    lab.send(&tcp(1000, ACK).frame());
    assert_eq!(sent(&lab), (0, 0));
    lab
}

#[test]
fn icmp_errors_about_a_connection_count_as_sent() {
    let mut lab = established();
    lab.answers(&tcp_of_len(1000, ACK, 1481, true).frame());
    assert_eq!(sent(&lab), (1, 576));
    let late = Ip {
        ttl: 1,
        ..tcp(1000, ACK)
    };
    lab.answers(&late.frame());
    assert_eq!(sent(&lab), (2, 576 + 68));
}

/// Step 5 of recording `04_icmp_from_tunnel_path`: 28 quoted bytes of the
/// client's packet, and the error of 56 bytes.
#[test]
fn a_relayed_error_counts_twice() {
    let mut lab = established();
    let inner = Ip {
        ttl: 63,
        ..tcp_of_len(1000, ACK, 1480, true)
    };
    let outer = Ip {
        source: SERVER_SIDE,
        destination: server(11),
        ..Ip::new(4, inner.packet())
    };
    let error = Ip {
        source: server(254),
        destination: SERVER_SIDE,
        ..icmp(3, 1, &[&[0; 4], &outer.packet()[..48]].concat())
    };
    let frame = ethernet(PORT_MACS[1], GATEWAY_MAC, 0x0800, &error.packet());
    lab.receive_at(1, 0, &frame);
    lab.settle();
    assert_eq!(sent(&lab), (2, 28 + 56));
}

/// Step 25 of recording `04_icmp_client_side`.
#[test]
fn an_error_about_a_packet_to_the_vip_counts_as_sent_and_is_dropped() {
    let mut lab = established();
    let request = tcp(1000, ACK).packet();
    let mut error = icmp(3, 1, &[&[0; 4], &request[..28]].concat());
    assert_eq!(lab.answers(&error.frame()), []);
    assert_eq!(sent(&lab), (1, 56));
    assert_eq!(lab.counter("icmp_error_unrelated"), 1);
    // Not with a wrong checksum, nor about a connection that is not there.
    error.payload[3] ^= 1;
    lab.send(&error.frame());
    let other = tcp(1001, ACK).packet();
    lab.send(&icmp(3, 1, &[&[0; 4], &other[..28]].concat()).frame());
    assert_eq!(sent(&lab), (1, 56));
    assert_eq!(lab.counter("icmp_error_unrelated"), 3);
}

#[test]
fn answers_of_the_director_as_a_real_server_count_as_sent() {
    let mut lab = Lab::start();
    let key = service_key(VIP, Protocol::Tcp, 80);
    lab.delete_server(11);
    let own = pointsman::service::ServerKey {
        address: SERVER_SIDE.into(),
    };
    lab.apply(&Command::AddServer(key, own, ServerOptions::default()));
    // A reset.
    assert_eq!(
        lab.answers(&tcp(1000, SYN).frame())[0].1[30..34],
        CLIENT.octets()
    );
    assert_eq!(sent(&lab), (1, 40));
}

#[test]
fn answers_to_what_has_no_connection_do_not_count() {
    let mut lab = established();
    // No connection: a reset. No service: ICMP. Not the client's business: ping.
    lab.answers(&tcp(1001, ACK).frame());
    lab.answers(&udp(1002, 9, b"").frame());
    lab.answers(&icmp(8, 0, b"\0\x01\0\x01").frame());
    assert_eq!(sent(&lab), (0, 0));
    lab.apply(&Command::EditServer(web(), server_key(11), weight(0)));
    // No usable server: ICMP.
    assert_eq!(lab.answers(&tcp(1003, SYN).frame()).len(), 1);
    assert_eq!(sent(&lab), (0, 0));
}

#[test]
fn one_packet_scheduling_leaves_nothing_to_count() {
    let mut lab = Lab::start();
    let key = service_key(VIP, Protocol::Udp, 53);
    let options = ServiceOptions {
        one_packet: true,
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    lab.apply(&Command::AddService(key, options));
    lab.apply(&Command::AddServer(key, server_key(11), weight(1)));
    let late = Ip {
        ttl: 1,
        ..udp(1000, 53, b"?")
    };
    assert_eq!(lab.answers(&late.frame()).len(), 1);
    let services = lab.director.management.services();
    let counted: Vec<_> = services
        .iter()
        .map(|service| {
            (
                service.statistics.connections,
                service.statistics.out_packets,
            )
        })
        .collect();
    assert_eq!(counted, [(0, 0), (1, 0)]);
}

#[test]
fn what_was_sent_is_zeroed_and_stays_with_the_service() {
    let mut lab = established();
    let too_long = tcp_of_len(1000, ACK, 1481, true).frame();
    lab.answers(&too_long);
    lab.apply(&Command::Zero(Some(web())));
    assert_eq!(sent(&lab), (0, 0));
    lab.answers(&too_long);
    assert_eq!(sent(&lab), (1, 576));
    lab.delete_server(11);
    assert_eq!(sent(&lab), (1, 576));
    // It comes back with its own counters.
    lab.add_server(11, 1);
    assert_eq!(sent(&lab), (1, 576));
    lab.answers(&too_long);
    assert_eq!(sent(&lab), (2, 2 * 576));
}
