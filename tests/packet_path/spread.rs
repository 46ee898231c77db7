//! Ports with fewer queues than there are workers: flows are spread over the
//! workers in software, and those without a transmit queue send by another.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use pointsman::{
    config::ServiceConfig,
    director::Director,
    io::PortIndex,
    scheduler::SchedulerKind,
    service::{ClientMask, Persistence, ServiceOptions, Tunables},
};

use crate::{
    decode::one_hop_on,
    fragments::{add_dns, cut, datagram, inner, reassembled},
    frames::{ACK, CLIENT_SIDE, Ip, SYN, arp_request, icmp, icmp_error, tcp, udp},
    frames_ipv6,
    handoff_ipv6::{self, server_of},
    ipv6,
    lab::{Checked, Lab, Setup, assert_sum, web_service},
};

/// `workers` workers over ports with so many receive and transmit queues.
/// TCP VIP:80 and UDP VIP:53, each by rr over 10.0.0.11 and .12.
fn lab_of(workers: usize, queues: (u16, u16)) -> Lab {
    let mut lab = Lab::with(&Setup {
        workers,
        queues: Some(queues),
        connections_max: 16_384,
        services: vec![web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)])],
        ..Setup::default()
    });
    add_dns(&mut lab);
    lab
}

/// A packet of the client with this number, of many.
fn of_client(client: u32, flags: u8) -> Ip {
    let [_, a, b, c] = client.to_be_bytes();
    Ip {
        source: [100, a, b, c].into(),
        ..tcp(1000, flags)
    }
}

/// The clients of the connections that each worker has.
fn clients_of_workers(lab: &Lab) -> Vec<BTreeSet<String>> {
    let of = |worker: &pointsman::worker::Worker<_>| {
        let connections = worker.connections(lab.now);
        connections.iter().map(|it| it.client.to_string()).collect()
    };
    lab.director.workers.iter().map(of).collect()
}

/// What a frame to a queue of port 0 makes the director send.
fn sent_by(lab: &mut Lab, queue: usize, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
    lab.take_sent();
    lab.receive_at(0, queue, frame);
    lab.settle();
    lab.take_sent()
}

/// A flow whose packets belong to a worker of two, by client port.
fn flow_of_worker(lab: &mut Lab, worker: usize) -> u16 {
    let found = (1000..1100).find(|&client_port| {
        lab.send(&tcp(client_port, SYN).frame());
        let connections = lab.director.workers[worker].connections(lab.now);
        connections.iter().any(|it| it.client.port() == client_port)
    });
    lab.take_sent();
    // A hash gives one of 100 flows to each.
    found.unwrap()
}

#[test]
fn flows_from_one_queue_are_spread_evenly_and_stay_where_they_are() {
    const FLOWS: u32 = 10_000;
    for workers in [2, 3, 4] {
        let mut lab = lab_of(workers, (1, 1));
        let mut at = Vec::new();
        for flags in [SYN, ACK, ACK] {
            for client in 0..FLOWS {
                lab.receive(&of_client(client, flags).frame());
                if client % 50 == 49 {
                    lab.settle();
                }
            }
            assert_eq!(lab.take_sent().len(), FLOWS as usize);
            at.push(clients_of_workers(&lab));
        }
        assert!(at[1..].iter().all(|clients| *clients == at[0]));
        assert_eq!(lab.counter("connections_opened"), u64::from(FLOWS));

        // Chi-square; beyond 30 once in a million keys, with 3 degrees of freedom.
        let squares = at[0]
            .iter()
            .map(|clients| (clients.len() * workers).abs_diff(FLOWS as usize).pow(2));
        let chi = squares.sum::<usize>() / (FLOWS as usize * workers);
        assert!(chi < 30, "{workers} workers: chi-square {chi}");
        // All but those of the worker that receives are handed over.
        let others = FLOWS as usize - at[0][0].len();
        assert_eq!(lab.counter("handed_over"), 3 * others as u64);
        assert_eq!(lab.counter("taken_over"), 3 * others as u64);
        lab.assert_everything_is_accounted_for();
    }
}

/// A worker's flows use all of its table: with those of one of four workers, as
/// many connections as a table has room for find a place, all but a few.
#[test]
fn the_flows_of_a_worker_fill_its_table() {
    let mut lab = Lab::with(&Setup {
        workers: 4,
        queues: Some((1, 1)),
        connections_max: 1024,
        ..Setup::default()
    });
    for client in 0..3_400 {
        lab.receive(&of_client(client, SYN).frame());
        if client % 50 == 49 {
            lab.settle();
            lab.take_sent();
        }
    }
    lab.settle();
    // 850 for each of the 1024 places, give or take.
    let connections = lab.counter("connections");
    assert!(connections > 3_350, "{connections}");
}

#[test]
fn several_queues_serve_more_workers() {
    let mut lab = lab_of(4, (2, 3));
    let before = lab.counter("tx_handed_over");
    for client in 0..400 {
        lab.receive_at(0, client as usize % 2, &of_client(client, SYN).frame());
        lab.settle();
    }
    let counts: Vec<_> = clients_of_workers(&lab).iter().map(BTreeSet::len).collect();
    assert!(counts.iter().all(|count| *count > 40), "{counts:?}");
    // Only the first has no transmit queue.
    let handed_over = lab.counter("tx_handed_over") - before;
    assert_eq!(handed_over, counts[0] as u64);
    assert_eq!(lab.take_sent().len(), 400);
    lab.assert_everything_is_accounted_for();
}

/// Where each packet leaves with a number of its own, those of a flow leave in
/// order, though four threads have part in it.
#[test]
fn packets_of_a_flow_keep_their_order() {
    const PACKETS: u16 = 4_000;
    const FLOWS: u16 = 8;
    let mut lab = lab_of(4, (1, 1));
    let now = lab.now;
    let Lab {
        network,
        director: Director { workers, .. },
        ..
    } = &mut lab;
    let network = &*network;
    let done = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in workers.iter_mut() {
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    if !worker.turn(now) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        for id in 0..PACKETS {
            let packet = Ip {
                id,
                flags: 0,
                ..udp(1000 + id % FLOWS, 53, b"in order")
            };
            // No more at a time than any queue has room for.
            while network.packets_in_use() > 128 {
                std::thread::yield_now();
            }
            assert!(network.send(PortIndex(0), 0, &packet.frame()));
        }
        while network.packets_in_use() > 0 {
            std::thread::yield_now();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut ids = BTreeMap::<u16, Vec<u16>>::new();
    for (_, frame) in lab.take_sent() {
        let (_, packet) = inner(&frame);
        let id = u16::from_be_bytes([packet[4], packet[5]]);
        ids.entry(id % FLOWS).or_default().push(id);
    }
    for (flow, ids) in ids {
        let sent: Vec<_> = (flow..PACKETS).step_by(FLOWS.into()).collect();
        assert!(ids == sent, "flow {flow}: {ids:?}");
    }
    lab.assert_everything_is_accounted_for();
}

#[test]
fn what_belongs_to_no_flow_stays_with_the_worker_that_received_it() {
    let mut lab = lab_of(4, (1, 4));
    for _ in 0..20 {
        let answer = sent_by(&mut lab, 0, &arp_request(CLIENT_SIDE));
        assert_eq!(answer.len(), 1);
        let ping = icmp(8, 0, b"\0\x01\0\x01").frame();
        assert_eq!(sent_by(&mut lab, 0, &ping).len(), 1);
    }
    assert_eq!(lab.counter("handed_over"), 0);
    lab.assert_everything_is_accounted_for();
}

/// The management thread's frames leave by the worker that can send.
#[test]
fn the_directors_own_frames_leave_by_the_only_transmit_queue() {
    let mut lab = lab_of(2, (2, 1));
    for queue in 0..2 {
        let ping = icmp(8, 0, b"\0\x01\0\x01").frame();
        let sent = sent_by(&mut lab, queue, &ping);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].0, 0);
    }
    let refused = sent_by(&mut lab, 1, &tcp(1000, ACK).frame());
    assert_eq!(refused.len(), 1, "a reset");
    lab.assert_everything_is_accounted_for();
}

#[test]
fn a_full_queue_to_another_worker_drops_and_counts() {
    let mut lab = lab_of(2, (1, 2));
    let client_port = flow_of_worker(&mut lab, 1);
    let before = lab.counter("handed_over");
    for _ in 0..300 {
        lab.receive(&tcp(client_port, ACK).frame());
        // The other one is stuck.
        lab.director.workers[0].turn(lab.now);
    }
    // As many as rx_descriptors.
    assert_eq!(lab.counter("handed_over") - before, 256);
    assert_eq!(lab.counter("handoff_queue_full"), 44);
    assert_eq!(lab.take_sent(), []);
    lab.settle();
    assert_eq!(lab.take_sent().len(), 256);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn a_full_queue_to_a_worker_that_sends_drops_and_counts() {
    let mut lab = lab_of(2, (2, 1));
    let before = lab.counters();
    for client in 0..300 {
        lab.receive_at(0, 0, &of_client(client, SYN).frame());
        lab.director.workers[0].turn(lab.now);
    }
    // As many as tx_descriptors.
    let counted = |lab: &Lab, name: &str| lab.counter(name) - before[name];
    assert_eq!(counted(&lab, "tx_handed_over"), 256);
    assert_eq!(counted(&lab, "transmit_queue_full"), 44);
    assert_eq!(counted(&lab, "tx_refused"), 44);
    assert_eq!(counted(&lab, "forwarded"), 0);
    lab.settle();
    assert_eq!(counted(&lab, "forwarded"), 256);
    assert_eq!(lab.take_sent().len(), 256);
    lab.assert_everything_is_accounted_for();
}

/// What the port refuses is counted by the worker that tried.
#[test]
fn a_full_port_drops_what_was_finished_elsewhere() {
    let mut lab = lab_of(2, (1, 1));
    lab.network.set_tx_capacity(PortIndex(1), 10);
    for client in 0..100 {
        lab.receive(&of_client(client, SYN).frame());
    }
    lab.settle();
    assert_eq!(lab.counter("forwarded"), 10);
    assert_eq!(lab.counter("transmit_queue_full"), 90);
    assert_eq!(lab.counter("tx_refused"), 90);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn fragments_and_icmp_errors_follow_the_connection_of_their_flow() {
    for workers in [2, 4] {
        let mut lab = lab_of(workers, (1, 1));
        for client_port in 1000..1040 {
            let syn = sent_by(&mut lab, 0, &tcp(client_port, SYN).frame());
            let host = inner(&syn[0].1).0;
            let error = icmp_error(3, 4, client_port);
            let sent = sent_by(&mut lab, 0, &error.frame());
            assert_eq!(inner(&sent[0].1), (host, one_hop_on(&error.packet())));

            // A flow by UDP, whose whole packets and fragments take turns.
            let whole = udp(client_port, 53, b"whole").frame();
            let host = inner(&sent_by(&mut lab, 0, &whole)[0].1).0;
            let cut_up = datagram(client_port, client_port, 3000);
            let mut sent = Vec::new();
            for fragment in cut(&cut_up, 1000) {
                sent.extend(sent_by(&mut lab, 0, &fragment.frame()));
            }
            assert_eq!(reassembled(&sent)[&(host, client_port)], cut_up.payload);
            assert_eq!(inner(&sent_by(&mut lab, 0, &whole)[0].1).0, host);
        }
        assert_eq!(lab.counter("connections"), 80);
        lab.assert_everything_is_accounted_for();
    }
}

/// The worker that is asked first about a flow is the one that it belongs to, so
/// that a flow which begins with a fragment needs no second look.
#[test]
fn a_flow_that_begins_with_a_fragment_is_opened_by_its_worker() {
    let mut lab = lab_of(4, (1, 1));
    for client_port in 1000..1040 {
        for fragment in cut(&datagram(client_port, client_port, 2000), 1000) {
            lab.send(&fragment.frame());
        }
    }
    let with_fragments = clients_of_workers(&lab);
    for client_port in 1000..1040 {
        lab.send(&udp(client_port, 53, b"whole").frame());
    }
    assert_eq!(clients_of_workers(&lab), with_fragments);
    assert_eq!(lab.counter("connections_opened"), 40);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn a_persistent_client_has_one_server_on_all_workers() {
    let service = web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)]);
    let mut lab = Lab::with(&Setup {
        workers: 4,
        queues: Some((1, 1)),
        services: vec![ServiceConfig {
            options: ServiceOptions {
                persistence: Some(Persistence {
                    timeout_s: 360,
                    mask: ClientMask::Netmask(Ipv4Addr::BROADCAST),
                }),
                ..service.options
            },
            ..service
        }],
        ..Setup::default()
    });
    let mut hosts = BTreeSet::new();
    for client_port in 1000..1100 {
        let sent = sent_by(&mut lab, 0, &tcp(client_port, SYN).frame());
        hosts.insert(inner(&sent[0].1).0);
    }
    assert_eq!(hosts.len(), 1);
    let clients = clients_of_workers(&lab);
    assert!(clients.iter().all(|clients| !clients.is_empty()));
}

#[test]
fn flows_over_ipv6_are_spread_too() {
    let mut lab = ipv6::lab_of(Setup {
        workers: 4,
        queues: Some((1, 1)),
        services: handoff_ipv6::services(ServiceOptions::from(SchedulerKind::Rr)),
        tunables: Tunables::default(),
        ..Setup::default()
    });
    for client_port in 1000..1100 {
        let packet = |flags| {
            frames_ipv6::to(
                handoff_ipv6::OTHER_VIP,
                frames_ipv6::tcp(client_port, flags, b""),
            )
        };
        let host = server_of(&mut lab, 0, &packet(SYN));
        assert_eq!(server_of(&mut lab, 0, &packet(ACK)), host);
    }
    let clients = clients_of_workers(&lab);
    assert!(clients.iter().all(|clients| clients.len() > 5));
    assert_eq!(lab.counter("connections_opened"), 100);
    lab.assert_everything_is_accounted_for();
}

/// No worker loses packets of a port that has no transmit queue at all without
/// counting them.
#[test]
fn without_any_transmit_queue_all_is_refused() {
    let mut lab = lab_of(2, (1, 0));
    for client in 0..20 {
        lab.send(&of_client(client, SYN).frame());
    }
    assert_eq!(lab.counter("transmit_queue_full"), 20);
    assert_sum(&lab.counters());
    assert_eq!(lab.network.packets_in_use(), 0);
}

pub(crate) fn a_packet_of_another_workers_flow_is_taken_over(counter: &str) -> Checked {
    let mut lab = lab_of(2, (1, 2));
    lab.counts_one(counter, |lab| {
        for client in 0.. {
            lab.send(&of_client(client, SYN).frame());
            if lab.counter(counter) > 0 {
                break;
            }
        }
    })
}

pub(crate) fn a_worker_without_a_transmit_queue_hands_frames_over(counter: &str) -> Checked {
    let mut lab = lab_of(2, (2, 1));
    lab.counts_one(counter, |lab| lab.send(&tcp(1000, SYN).frame()))
}
