//! Packets over IPv6 that come to another worker than the one that has their
//! connection.

use std::net::Ipv6Addr;

use pointsman::{
    config::ServiceConfig,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServiceKey, ServiceOptions, Tunables},
};

use crate::{
    fragments_ipv6::{inner, reassembled},
    frames::{ACK, SYN, counting},
    frames_ipv6::{Ip6, cut, icmpv6, piece, server, tcp, to, udp},
    ipv6::{self, CLIENT, quoted},
    lab::{Lab, Setup, weight},
};

/// A VIP with two real servers in turn by TCP and by UDP.
pub(crate) const OTHER_VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x20);

pub(crate) fn services(options: ServiceOptions) -> Vec<ServiceConfig> {
    let service = |protocol, l4_port| ServiceConfig {
        key: ServiceKey::Vip {
            protocol,
            address: (OTHER_VIP, l4_port).into(),
        },
        options,
        servers: [0x12, 0x13]
            .map(|host| {
                let address = server(host).into();
                (ServerKey { address }, weight(1))
            })
            .to_vec(),
    };
    vec![service(Protocol::Tcp, 80), service(Protocol::Udp, 53)]
}

fn lab_of(workers: usize, schedule_icmp: bool) -> Lab {
    ipv6::lab_of(Setup {
        workers,
        services: services(ServiceOptions::from(SchedulerKind::Rr)),
        tunables: Tunables {
            schedule_icmp,
            ..Tunables::default()
        },
        ..Setup::default()
    })
}

/// What a packet that comes to a worker makes the director send.
pub(crate) fn sent_by(lab: &mut Lab, worker: usize, packet: &Ip6) -> Vec<(u8, Vec<u8>)> {
    lab.take_sent();
    lab.receive_at(0, worker, &packet.frame());
    lab.settle();
    lab.take_sent()
}

/// The server of the one frame that a packet becomes.
pub(crate) fn server_of(lab: &mut Lab, worker: usize, packet: &Ip6) -> u8 {
    let sent = sent_by(lab, worker, packet);
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    assert_eq!(sent[0].0, 1);
    let (host, inner) = inner(&sent[0].1);
    assert_eq!(inner, packet.one_hop_on());
    host
}

pub(crate) fn syn(client_port: u16) -> Ip6 {
    to(OTHER_VIP, tcp(client_port, SYN, b""))
}

pub(crate) fn datagram(client_port: u16, data_len: usize) -> Ip6 {
    to(OTHER_VIP, udp(client_port, 53, &counting(data_len)))
}

/// Packet Too Big about a packet that went from the VIP to the client.
pub(crate) fn error(client_port: u16) -> Ip6 {
    let mut about = quoted(client_port, 100);
    about[8..24].copy_from_slice(&OTHER_VIP.octets());
    assert_eq!(about[24..40], CLIENT.octets());
    let rest = [&1300_u32.to_be_bytes()[..], &about].concat();
    to(OTHER_VIP, icmpv6(2, 0, &rest))
}

#[test]
fn an_icmpv6_error_at_any_worker_reaches_the_connections_server() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers, false);
        for owner in 0..workers {
            let client_port = 1000 + u16::try_from(owner).unwrap();
            let host = server_of(&mut lab, owner, &syn(client_port));
            for worker in 0..workers {
                assert_eq!(server_of(&mut lab, worker, &error(client_port)), host);
            }
        }
        assert_eq!(lab.counter("connections"), workers as u64);
        assert!(lab.counter("handed_over") > 0);
        lab.assert_everything_is_accounted_for();
    }
}

/// It has gone round all workers, and once more to the first.
#[test]
fn an_icmpv6_error_about_no_connection_ends_when_all_were_asked() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers, false);
        let _ = lab.counts_one("icmp_error_unrelated", |lab| {
            lab.receive_at(0, 1, &error(1000).frame());
        });
        let handed_over = lab.counter("handed_over");
        let range = workers as u64..=workers as u64 + 1;
        assert!(range.contains(&handed_over), "{handed_over}");
    }
}

#[test]
fn an_icmpv6_error_with_a_wrong_checksum_is_not_handed_over() {
    let mut lab = lab_of(2, false);
    server_of(&mut lab, 0, &syn(1000));
    let mut error = error(1000);
    error.payload[2] ^= 1;
    let _ = lab.counts_one("bad_icmp_checksum", |lab| {
        lab.receive_at(0, 1, &error.frame());
    });
    assert_eq!(lab.counter("handed_over"), 0);
}

/// The error opens a connection, and all that follows goes there
/// (`schedule_icmp`).
#[test]
fn a_flow_that_begins_with_an_icmpv6_error_has_one_server() {
    for workers in [1, 2, 4] {
        let mut lab = lab_of(workers, true);
        let mut hosts = Vec::new();
        for client_port in 1000..1010 {
            let at = usize::from(client_port) % workers;
            let host = server_of(&mut lab, at, &error(client_port));
            for worker in 0..workers {
                for packet in [error(client_port), syn(client_port)] {
                    assert_eq!(server_of(&mut lab, worker, &packet), host);
                }
            }
            hosts.push(host);
        }
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts, [0x12, 0x13]);
        assert_eq!(lab.counter("connections_opened"), 10);
        lab.assert_everything_is_accounted_for();
    }
}

/// As over IPv4, for three seconds.
#[test]
fn a_connection_that_an_icmpv6_error_opened_ends_soon() {
    let mut lab = lab_of(1, true);
    assert_eq!(server_of(&mut lab, 0, &error(1000)), 0x13);
    assert_eq!(lab.state_of(1000), Some("NONE"));
    lab.advance(2_900);
    assert_eq!(lab.state_of(1000), Some("NONE"));
    lab.advance(400);
    assert_eq!(lab.state_of(1000), None);
}

#[test]
fn fragments_over_ipv6_at_any_worker_follow_the_connection_of_their_flow() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers, false);
        for owner in 0..workers {
            let client_port = 1000 + u16::try_from(owner).unwrap();
            let host = server_of(&mut lab, owner, &syn(client_port));
            for worker in 0..workers {
                let id = u32::from(client_port) * 8 + u32::try_from(worker).unwrap();
                let whole = to(OTHER_VIP, tcp(client_port, ACK, &counting(3000)));
                let mut sent = Vec::new();
                for (n, fragment) in cut(&whole, id, 1000).iter().enumerate() {
                    // And sprayed, which no NIC does.
                    let worker = if id % 2 == 0 { worker } else { n % workers };
                    sent.extend(sent_by(&mut lab, worker, fragment));
                }
                assert_eq!(reassembled(&sent)[&(host, id)], whole.payload);
            }
        }
        assert_eq!(lab.counter("connections"), workers as u64);
        lab.assert_everything_is_accounted_for();
    }
}

/// Even if its whole packets come to one worker, its fragments to another, and
/// the worker that opened the connection is a third.
#[test]
fn a_flow_over_ipv6_that_begins_with_a_fragment_has_one_server() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers, false);
        for client_port in 101..=120_u16 {
            let at = usize::from(client_port) % workers;
            let id = u32::from(client_port);
            let first = piece(&datagram(client_port, 2000), id, 0, 1000);
            let host = server_of(&mut lab, at, &first);
            for worker in 0..workers {
                let whole = datagram(client_port, 10);
                assert_eq!(server_of(&mut lab, worker, &whole), host);
                let id = 1000 * id + u32::try_from(worker).unwrap();
                for fragment in cut(&datagram(client_port, 2000), id, 1000) {
                    assert_eq!(server_of(&mut lab, worker, &fragment), host);
                }
            }
        }
        assert_eq!(lab.counter("connections"), 20);
        assert_eq!(lab.counter("connections_opened"), 20);
        lab.advance(6_000);
        lab.assert_everything_is_accounted_for();
    }
}
