//! Packets that come to another worker than the one that has their connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Barrier,
};

use pointsman::{director::Director, io::PortIndex, scheduler::SchedulerKind, service::Tunables};

use crate::{
    decode::one_hop_on,
    fragments::{add_dns, cut, datagram, inner, piece, reassembled},
    frames::{ACK, Ip, SYN, counting, icmp, icmp_error, segment, tcp, udp},
    lab::{Lab, Setup, web_service},
};

/// TCP VIP:80 and UDP VIP:53, each by rr over 10.0.0.11 and .12.
fn lab_of(workers: usize) -> Lab {
    let mut lab = Lab::with(&Setup {
        workers,
        services: vec![web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)])],
        ..Setup::default()
    });
    add_dns(&mut lab);
    lab
}

/// What a frame that comes to a worker makes the director send.
fn sent_by(lab: &mut Lab, worker: usize, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
    lab.take_sent();
    lab.receive_at(0, worker, frame);
    lab.settle();
    lab.take_sent()
}

#[test]
fn an_icmp_error_at_any_worker_reaches_the_connections_server() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers);
        for owner in 0..workers {
            let client_port = 1000 + u16::try_from(owner).unwrap();
            let syn = sent_by(&mut lab, owner, &tcp(client_port, SYN).frame());
            let host = inner(&syn[0].1).0;
            for worker in 0..workers {
                let error = icmp_error(3, 4, client_port);
                let sent = sent_by(&mut lab, worker, &error.frame());
                assert_eq!(sent.len(), 1, "of {owner} at {worker} of {workers}");
                assert_eq!(inner(&sent[0].1), (host, one_hop_on(&error.packet())));
            }
        }
        assert_eq!(lab.counter("connections"), workers as u64);
        lab.assert_everything_is_accounted_for();
    }
}

/// It has gone round all workers, and once more to the first.
#[test]
fn an_icmp_error_about_no_connection_ends_when_all_were_asked() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers);
        let _ = lab.counts_one("icmp_error_unrelated", |lab| {
            lab.receive_at(0, 1, &icmp_error(3, 3, 1000).frame());
        });
        let handed_over = lab.counter("handed_over");
        let range = workers as u64..=workers as u64 + 1;
        assert!(range.contains(&handed_over), "{handed_over}");
    }
}

#[test]
fn an_icmp_error_with_a_wrong_checksum_is_not_handed_over() {
    let mut lab = lab_of(2);
    lab.receive_at(0, 0, &tcp(1000, SYN).frame());
    lab.settle();
    let mut error = icmp_error(3, 3, 1000);
    error.payload[2] ^= 1;
    let _ = lab.counts_one("bad_icmp_checksum", |lab| {
        lab.receive_at(0, 1, &error.frame());
    });
    assert_eq!(lab.counter("handed_over"), 0);
}

/// An error about a packet that the client sent is counted for its server, and
/// goes nowhere, whichever worker has the connection.
#[test]
fn an_icmp_error_about_a_clients_packet_counts_once_for_its_server() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers);
        lab.receive_at(0, 0, &tcp(1000, SYN).frame());
        lab.settle();
        let request = tcp(1000, ACK).packet();
        let error = icmp(3, 1, &[&[0; 4], &request[..28]].concat());
        for worker in 0..workers {
            let _ = lab.counts_one("icmp_error_unrelated", |lab| {
                lab.receive_at(0, worker, &error.frame());
            });
        }
        let services = lab.director.management.services();
        let sent: u64 = services
            .iter()
            .map(|service| service.statistics.out_packets)
            .sum();
        assert_eq!(sent, workers as u64);
    }
}

/// The error opens a connection, and all that follows goes there.
#[test]
fn a_flow_that_begins_with_an_icmp_error_has_one_server() {
    for workers in [2, 4] {
        let mut lab = Lab::with(&Setup {
            workers,
            services: vec![web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)])],
            tunables: Tunables {
                schedule_icmp: true,
                ..Tunables::default()
            },
            ..Setup::default()
        });
        for client_port in 1000..1010 {
            let at = usize::from(client_port) % workers;
            let error = icmp_error(3, 4, client_port);
            let host = inner(&sent_by(&mut lab, at, &error.frame())[0].1).0;
            for worker in 0..workers {
                for packet in [error.clone(), tcp(client_port, SYN)] {
                    let sent = sent_by(&mut lab, worker, &packet.frame());
                    assert_eq!(inner(&sent[0].1).0, host);
                }
            }
        }
        assert_eq!(lab.counter("connections_opened"), 10);
        lab.assert_everything_is_accounted_for();
    }
}

/// RSS puts all fragments of a client to one worker, which is another one than
/// that of its connections.
#[test]
fn fragments_at_any_worker_follow_the_connection_of_their_flow() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers);
        for owner in 0..workers {
            let client_port = 1000 + u16::try_from(owner).unwrap();
            let syn = sent_by(&mut lab, owner, &tcp(client_port, SYN).frame());
            let host = inner(&syn[0].1).0;
            for worker in 0..workers {
                let id = client_port * 8 + u16::try_from(worker).unwrap();
                let mut data = segment(client_port, ACK, &counting(3000));
                data[16..18].copy_from_slice(&[1, 2]);
                let whole = Ip {
                    id,
                    flags: 0,
                    ..Ip::new(6, data)
                };
                let mut sent = Vec::new();
                for (n, fragment) in cut(&whole, 1000).iter().enumerate() {
                    // And sprayed, which no NIC does.
                    let worker = if id % 2 == 0 { worker } else { n % workers };
                    sent.extend(sent_by(&mut lab, worker, &fragment.frame()));
                }
                assert_eq!(reassembled(&sent)[&(host, id)], whole.payload);
            }
        }
        assert_eq!(lab.counter("connections"), workers as u64);
        lab.assert_everything_is_accounted_for();
    }
}

/// The servers that a flow's packets go to: whole ones at each worker, and
/// fragments at each.
fn servers_of(lab: &mut Lab, workers: usize, client_port: u16) -> Vec<u8> {
    let mut hosts = Vec::new();
    for worker in 0..workers {
        let whole = udp(client_port, 53, b"whole").frame();
        hosts.push(inner(&sent_by(lab, worker, &whole)[0].1).0);
        let id = client_port * 8 + u16::try_from(worker).unwrap();
        for fragment in cut(&datagram(id, client_port, 2000), 1000) {
            hosts.push(inner(&sent_by(lab, worker, &fragment.frame())[0].1).0);
        }
    }
    hosts
}

/// Even if its whole packets come to one worker, its fragments to another, and
/// the worker that opened the connection is a third.
#[test]
fn a_flow_that_begins_with_a_fragment_has_one_server() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers);
        for client_port in 101..=120 {
            let at = usize::from(client_port) % workers;
            let first = piece(&datagram(client_port, client_port, 2000), 0, 1000);
            let host = inner(&sent_by(&mut lab, at, &first.frame())[0].1).0;
            let hosts = servers_of(&mut lab, workers, client_port);
            assert!(hosts.iter().all(|other| *other == host), "{hosts:?}");
        }
        assert_eq!(lab.counter("connections"), 20);
        assert_eq!(lab.counter("connections_opened"), 20);
        lab.advance(6_000);
        lab.assert_everything_is_accounted_for();
    }
}

/// The other way round: where its whole packets come to one worker only, as
/// they do, the fragments of a flow go after them.
#[test]
fn a_flow_that_begins_with_a_whole_packet_has_one_server() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers);
        for client_port in 101..=120 {
            let owner = usize::from(client_port) % workers;
            let whole = udp(client_port, 53, b"whole").frame();
            let host = inner(&sent_by(&mut lab, owner, &whole)[0].1).0;
            for worker in 0..workers {
                let id = client_port * 8 + u16::try_from(worker).unwrap();
                for fragment in cut(&datagram(id, client_port, 2000), 1000) {
                    let sent = sent_by(&mut lab, worker, &fragment.frame());
                    assert_eq!(inner(&sent[0].1).0, host);
                }
            }
        }
        assert_eq!(lab.counter("connections"), 20);
    }
}

/// The news that a flow may be on another worker is forgotten when it cannot
/// live any more, so that no packet goes round for nothing.
#[test]
fn a_flow_that_is_over_begins_anew_where_it_comes_to() {
    let mut lab = lab_of(2);
    let first = piece(&datagram(7, 1000, 2000), 0, 1000);
    sent_by(&mut lab, 0, &first.frame());
    lab.advance(310_000);
    assert_eq!(lab.counter("connections"), 0);
    let before = lab.counter("handed_over");
    for worker in 0..2 {
        let whole = udp(1000, 53, b"whole").frame();
        assert_eq!(sent_by(&mut lab, worker, &whole).len(), 1);
        assert_eq!(lab.director.workers[worker].connections(lab.now).len(), 1);
    }
    assert_eq!(lab.counter("handed_over"), before);
}

/// The queue to the worker that has to be asked is full of fragments: a flow
/// that may be there opens where it came to.
#[test]
fn a_new_flow_needs_no_room_in_a_full_queue() {
    let mut lab = lab_of(2);
    // A note for many flows, and their connections gone.
    for client_port in 101..=120 {
        let first = piece(&datagram(client_port, client_port, 2000), 0, 1000);
        lab.send(&first.frame());
    }
    let elsewhere: Vec<_> = (101..=120)
        .filter(|port| {
            let connections = lab.director.workers[1].connections(lab.now);
            connections.iter().any(|it| it.client.port() == *port)
        })
        .collect();
    assert!(!elsewhere.is_empty());
    for id in 100.. {
        lab.receive_at(0, 0, &piece(&datagram(id, 1, 2000), 800, 800).frame());
        lab.director.workers[0].turn(lab.now);
        if lab.counter("handoff_queue_full") > 0 {
            break;
        }
    }
    lab.take_sent();
    let opened = lab.counter("connections_opened");
    for client_port in &elsewhere {
        lab.receive_at(0, 0, &udp(*client_port, 53, b"whole").frame());
        lab.director.workers[0].turn(lab.now);
        assert_eq!(lab.take_sent().len(), 1);
    }
    let opened = lab.counter("connections_opened") - opened;
    assert_eq!(opened, elsewhere.len() as u64);
    lab.settle();
    lab.advance(6_000);
    lab.assert_everything_is_accounted_for();
}

/// Workers on threads of their own, which see each other's packets in whatever
/// order: whole packets of each flow come to one of them, its fragments to
/// another, and nobody knows which is first.
#[test]
fn workers_in_parallel_agree_on_one_server_for_each_flow() {
    const WORKERS: usize = 4;
    const FLOWS: u16 = 320;
    let mut lab = lab_of(WORKERS);
    let mut frames = vec![Vec::new(); WORKERS];
    for round in 0..4 {
        for flow in 0..FLOWS {
            let client_port = 1000 + flow;
            let at = |share: u16| usize::from(share) % WORKERS;
            let whole = udp(client_port, 53, b"whole").frame();
            let id = round * FLOWS + flow;
            let fragments = cut(&datagram(id, client_port, 1200), 800);
            let fragments = fragments.iter().map(Ip::frame);
            frames[at(flow)].push(whole);
            frames[at(flow / 4)].extend(fragments);
        }
    }
    let (now, steps) = (lab.now, frames.iter().map(|of| of.len().div_ceil(8)).max());
    let Lab {
        network,
        director: Director { workers, .. },
        ..
    } = &mut lab;
    let network = &*network;
    let step = &Barrier::new(WORKERS);
    std::thread::scope(|scope| {
        for ((index, worker), frames) in (0..).zip(workers.iter_mut()).zip(&frames) {
            scope.spawn(move || {
                let mut chunks = frames.chunks(8);
                // In step, so that no queue runs full, but not within a step.
                for _ in 0..steps.unwrap() + 8 {
                    step.wait();
                    for frame in chunks.next().unwrap_or_default() {
                        assert!(network.send(PortIndex(0), index, frame));
                        worker.turn(now);
                    }
                    for _ in 0..8 {
                        worker.turn(now);
                    }
                }
            });
        }
    });
    lab.settle();
    assert_eq!(lab.counter("handoff_queue_full"), 0);
    let sent = lab.take_sent();
    assert_eq!(sent.len(), usize::from(FLOWS) * 4 * 3);
    let mut servers = BTreeMap::<u16, BTreeSet<u8>>::new();
    for (_, frame) in &sent {
        let (host, packet) = inner(frame);
        let id = u16::from_be_bytes([packet[4], packet[5]]);
        let flags = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff;
        let flow = if flags == 0 {
            u16::from_be_bytes([packet[20], packet[21]]) - 1000
        } else {
            id % FLOWS
        };
        servers.entry(flow).or_default().insert(host);
    }
    assert_eq!(servers.len(), usize::from(FLOWS));
    let torn: Vec<_> = servers
        .iter()
        .filter(|(_, hosts)| hosts.len() > 1)
        .collect();
    assert!(torn.is_empty(), "{torn:?}");
    assert_eq!(lab.counter("connections_opened"), u64::from(FLOWS));
    lab.assert_everything_is_accounted_for();
}
