//! Several workers: how they share connections, take up generations, and what
//! one that stalls does to the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
};

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    director::Director,
    io::{BURST_LEN_MAX, PortIndex},
    scheduler::SchedulerKind,
    service::{ClientMask, Persistence, ServiceOptions, Tunables},
};

use crate::{
    frames::{ACK, Ip, SYN, icmp, tcp},
    lab::{Lab, Setup, server_key, web, web_service, weight},
};

const SERVERS: [(u8, u32); 3] = [(11, 3), (12, 2), (13, 1)];

fn lab_of(workers: usize, scheduler: SchedulerKind) -> Lab {
    Lab::with(&Setup {
        workers,
        connections_max: 32_768,
        services: vec![web_service(scheduler, &SERVERS)],
        ..Setup::default()
    })
}

/// A SYN of the client with this number, of many.
fn syn(client: u32) -> Vec<u8> {
    let [_, a, b, c] = client.to_be_bytes();
    Ip {
        source: [100, a, b, c].into(),
        ..tcp(1000, SYN)
    }
    .frame()
}

/// New connections by last byte of the real server's address.
fn connections_by_server(lab: &Lab) -> BTreeMap<u8, u64> {
    let services = lab.director.management.services();
    services[0]
        .servers
        .iter()
        .map(|server| {
            let std::net::IpAddr::V4(address) = server.key.address else {
                panic!("{server:?}");
            };
            (address.octets()[3], server.statistics.connections)
        })
        .collect()
}

/// Deals 6,000 clients to workers in an uneven way.
fn deal(workers: usize, scheduler: SchedulerKind) -> BTreeMap<u8, u64> {
    let mut lab = lab_of(workers, scheduler);
    for client in 0..6_000_u32 {
        // Every fifth goes to the last worker.
        let worker = if client % 5 == 0 {
            workers - 1
        } else {
            client as usize % workers
        };
        lab.receive_at(0, worker, &syn(client));
        if client % 50 == 49 {
            lab.settle();
            lab.take_sent();
        }
    }
    lab.settle();
    lab.assert_everything_is_accounted_for();
    connections_by_server(&lab)
}

#[test]
fn rr_is_even_but_for_one_connection_per_server_and_worker() {
    for workers in [2, 4] {
        let picked = deal(workers, SchedulerKind::Rr);
        for (server, connections) in &picked {
            assert!(
                connections.abs_diff(2_000) <= workers as u64,
                "{workers} workers, {server}: {picked:?}"
            );
        }
    }
}

/// A worker's round has 6 picks; in a part of a round no server has more than
/// its weight, and none is more than its share behind.
#[test]
fn wrr_follows_the_weights_but_for_part_of_a_round_per_worker() {
    for workers in [2, 4] {
        let picked = deal(workers, SchedulerKind::Wrr);
        for (host, weight) in SERVERS {
            let share = u64::from(weight) * 1_000;
            assert!(
                picked[&host].abs_diff(share) <= workers as u64,
                "{workers} workers, {host}: {picked:?}"
            );
        }
    }
}

/// 100,000 connections that stay, from workers on threads of their own that do
/// not wait for each other.
fn connect_in_parallel(workers: usize, scheduler: SchedulerKind) -> BTreeMap<u8, u64> {
    const CONNECTIONS: u32 = 100_000;
    let mut lab = Lab::with(&Setup {
        workers,
        connections_max: 131_072,
        services: vec![web_service(scheduler, &SERVERS)],
        ..Setup::default()
    });
    let now = lab.now;
    let Lab {
        network,
        director: Director { workers: all, .. },
        ..
    } = &mut lab;
    let network = &*network;
    let start = &Barrier::new(workers);
    let share = CONNECTIONS / u32::try_from(workers).unwrap();
    std::thread::scope(|scope| {
        for (index, worker) in (0..).zip(all.iter_mut()) {
            scope.spawn(move || {
                start.wait();
                let clients: Vec<_> = (index * share..(index + 1) * share).collect();
                for clients in clients.chunks(BURST_LEN_MAX) {
                    for &client in clients {
                        assert!(network.send(PortIndex(0), index as usize, &syn(client)));
                    }
                    worker.turn(now);
                    network.take_sent();
                }
            });
        }
    });
    lab.settle();
    assert_eq!(lab.counter("connections"), u64::from(CONNECTIONS));
    lab.assert_everything_is_accounted_for();
    connections_by_server(&lab)
}

fn assert_within_two_percent(picked: &BTreeMap<u8, u64>, shares: [(u8, u64); 3]) {
    for (host, share) in shares {
        let limit = share / 50;
        assert!(picked[&host].abs_diff(share) <= limit, "{host}: {picked:?}");
    }
}

#[test]
fn lc_of_many_workers_is_even_within_two_percent() {
    for workers in [2, 4] {
        let picked = connect_in_parallel(workers, SchedulerKind::Lc);
        assert_within_two_percent(&picked, [(11, 33_333), (12, 33_333), (13, 33_333)]);
    }
}

#[test]
fn wlc_of_many_workers_follows_the_weights_within_two_percent() {
    for workers in [2, 4] {
        let picked = connect_in_parallel(workers, SchedulerKind::Wlc);
        assert_within_two_percent(&picked, [(11, 50_000), (12, 33_333), (13, 16_667)]);
    }
}

/// Which real server 300 clients come to when each worker is asked, and in
/// what order does not matter.
fn hashed(workers: usize, scheduler: SchedulerKind) -> Vec<Vec<u8>> {
    let mut lab = lab_of(workers, scheduler);
    let mut clients: Vec<u32> = (0..300).collect();
    (0..workers)
        .map(|worker| {
            let mut picked: Vec<_> = clients
                .iter()
                .map(|&client| (client, pick(&mut lab, worker, client)))
                .collect();
            clients.reverse();
            picked.sort_unstable();
            picked.into_iter().map(|(_, host)| host).collect()
        })
        .collect()
}

#[test]
fn hashing_schedulers_send_a_client_to_the_same_server_from_every_worker() {
    for scheduler in [SchedulerKind::Sh, SchedulerKind::Mh, SchedulerKind::Dh] {
        let [alone] = hashed(1, scheduler).try_into().unwrap();
        for workers in [2, 4] {
            for picked in hashed(workers, scheduler) {
                assert_eq!(picked, alone, "{scheduler}, {workers} workers");
            }
        }
        // dh goes by the VIP, of which there is one; the others by the client.
        let servers: BTreeSet<_> = alone.iter().collect();
        let expected = if scheduler == SchedulerKind::Dh { 1 } else { 3 };
        assert_eq!(servers.len(), expected, "{scheduler}");
    }
}

/// The templates of a persistent service are those of all workers.
#[test]
fn a_persistent_client_meets_the_same_server_from_every_worker() {
    for workers in [2, 4] {
        let service = web_service(SchedulerKind::Rr, &SERVERS);
        let mut lab = Lab::with(&Setup {
            workers,
            connections_max: 32_768,
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
        let mut met = BTreeSet::new();
        for client in 0..300 {
            let first = client as usize % workers;
            let host = pick(&mut lab, first, client);
            met.insert(host);
            for worker in (0..workers).filter(|worker| *worker != first) {
                assert_eq!(pick(&mut lab, worker, client), host, "client {client}");
            }
        }
        assert_eq!(met.len(), 3);
    }
}

#[test]
fn a_worker_whose_transmit_queue_is_full_drops_and_counts_and_goes_on() {
    let mut lab = lab_of(2, SchedulerKind::Rr);
    lab.network.set_tx_capacity(PortIndex(1), 10);
    for client in 0..100 {
        lab.receive_at(0, client as usize % 2, &syn(client));
    }
    lab.settle();
    assert_eq!(lab.take_sent().len(), 10);
    assert_eq!(lab.counter("forwarded"), 10);
    assert_eq!(lab.counter("transmit_queue_full"), 90);
    assert_eq!(lab.counter("connections"), 100);
    lab.assert_everything_is_accounted_for();
    lab.receive_at(0, 1, &syn(100));
    lab.settle();
    assert_eq!(lab.take_sent().len(), 1);
}

#[test]
fn a_worker_whose_punt_queue_is_full_drops_and_counts_and_the_other_does_not() {
    let mut lab = lab_of(2, SchedulerKind::Rr);
    let ping = icmp(8, 0, b"\0\x01\0\x01").frame();
    for round in 0..1_100 {
        lab.receive_at(0, 0, &ping);
        if round < 10 {
            lab.receive_at(0, 1, &ping);
        }
        if round % 64 == 0 {
            lab.turn_workers();
        }
    }
    lab.turn_workers();
    // Forwarding goes on meanwhile.
    lab.receive_at(0, 0, &syn(1));
    lab.turn_workers();
    assert_eq!(lab.take_sent().len(), 1);
    assert_eq!(lab.counter("punt_queue_full"), 1_100 - 1_024);
    assert_eq!(lab.counter("local"), 1_024 + 10);
    lab.settle();
    assert_eq!(lab.take_sent().len(), 1_024 + 10);
    lab.assert_everything_is_accounted_for();
}

/// Lets all but worker 0 run.
fn settle_without_first(lab: &mut Lab) {
    for _ in 0..10_000 {
        let mut busy = lab.director.management.turn(lab.now);
        for worker in &mut lab.director.workers[1..] {
            busy |= worker.turn(lab.now);
        }
        if !busy {
            return;
        }
    }
    panic!("no end");
}

/// Where a new connection that comes to a worker goes: the real server's last
/// byte.
fn pick(lab: &mut Lab, worker: usize, client: u32) -> u8 {
    lab.take_sent();
    lab.receive_at(0, worker, &syn(client));
    lab.director.workers[worker].turn(lab.now);
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    sent[0].1[33]
}

/// wrr remembers its way: a weight of 1 for all pulls the current weight down to
/// 1, where it stays when one weight rises. A worker that missed that would be
/// at 3 and pick the heaviest first.
#[test]
fn a_worker_that_stalls_gets_every_generation_when_it_goes_on() {
    let mut lab = lab_of(2, SchedulerKind::Wrr);
    for worker in 0..2 {
        let picks: Vec<_> = (0..4)
            .map(|client| pick(&mut lab, worker, client))
            .collect();
        assert_eq!(picks, [13, 12, 11, 11]);
    }
    let before = lab.director.management.state().generation;
    for (host, value) in [(11, 1), (12, 1), (11, 9)] {
        lab.command(&Command::EditServer(web(), server_key(host), weight(value)));
        settle_without_first(&mut lab);
    }
    assert_eq!(lab.director.management.state().generation, before + 3);
    // The other has long been using them.
    let theirs: Vec<_> = (10..16).map(|client| pick(&mut lab, 1, client)).collect();
    assert_eq!(theirs, [13, 12, 11, 11, 11, 11]);
    lab.settle();
    let ours: Vec<_> = (20..26).map(|client| pick(&mut lab, 0, client)).collect();
    assert_eq!(ours, theirs);
}

/// A worker that does not take its requests for 62 generations holds up the
/// next ones; changes gather meanwhile, nothing is lost, packets go on.
#[test]
fn changes_wait_for_a_worker_that_takes_none_and_all_come_when_it_goes_on() {
    let mut lab = lab_of(2, SchedulerKind::Rr);
    let before = lab.director.management.state().generation;
    for weights in 1..=100 {
        lab.command(&Command::EditServer(web(), server_key(11), weight(weights)));
        settle_without_first(&mut lab);
    }
    lab.command(&Command::DeleteServer(web(), server_key(12)));
    lab.command(&Command::DeleteServer(web(), server_key(13)));
    settle_without_first(&mut lab);
    let published = lab.director.management.state().generation - before;
    assert!((60..100).contains(&published), "{published}");
    assert_eq!(pick(&mut lab, 1, 1), 13);
    lab.settle();
    assert_eq!(
        lab.director.management.state().generation,
        before + published + 1
    );
    assert_eq!([pick(&mut lab, 0, 2), pick(&mut lab, 1, 3)], [11, 11]);
}

/// The slot of a deleted server may not become another server's while a worker
/// can still send its packets there: its clients would meet a stranger.
#[test]
fn the_slot_of_a_deleted_server_is_not_used_again_while_a_worker_may_use_it() {
    let mut lab = lab_of(2, SchedulerKind::Rr);
    lab.command(&Command::DeleteServer(web(), server_key(13)));
    settle_without_first(&mut lab);
    // Worker 0 does not know yet, and the server has no connection.
    lab.now = lab.now + 2_000;
    settle_without_first(&mut lab);
    lab.command(&Command::AddServer(web(), server_key(14), weight(1)));
    settle_without_first(&mut lab);
    assert_eq!(pick(&mut lab, 0, 1), 13);
    lab.settle();
    // Its client's packets are lost from now on, but go to nobody else.
    lab.take_sent();
    let ack = Ip {
        source: [100, 0, 0, 1].into(),
        ..tcp(1000, ACK)
    };
    lab.send(&ack.frame());
    assert_eq!(lab.take_sent(), []);
    assert_eq!(lab.counter("server_gone"), 1);

    // When the connection is over and both know, the slot is free again.
    lab.advance(62_000);
    lab.advance(2_000);
    lab.apply(&Command::AddServer(web(), server_key(15), weight(1)));
    let servers = lab.director.management.state().servers.len();
    assert_eq!(servers, 4, "11, 12, 14, and 15 in the slot of 13");
}

/// With `expire_nodest_conn` each worker ends its connections of deleted
/// servers when it gets to it.
#[test]
fn connections_of_a_deleted_server_end_on_every_worker() {
    let mut lab = Lab::with(&Setup {
        workers: 2,
        tunables: Tunables {
            expire_nodest_conn: true,
            ..Tunables::default()
        },
        ..Setup::default()
    });
    for client in 0..2_000 {
        lab.receive_at(0, client as usize % 2, &syn(client));
        lab.turn_workers();
        lab.take_sent();
    }
    lab.settle();
    assert_eq!(lab.counter("connections"), 2_000);
    lab.command(&Command::DeleteServer(web(), server_key(11)));
    settle_without_first(&mut lab);
    assert_eq!(lab.counter("connections"), 1_000);
    lab.settle();
    assert_eq!(lab.counter("connections"), 0);
}

/// Changes while workers forward on threads of their own: no packet is lost,
/// and all workers end with the last generation.
#[test]
fn forwarding_goes_on_while_generations_come() {
    let mut lab = lab_of(4, SchedulerKind::Wlc);
    let now = lab.now;
    let stop = &AtomicBool::new(false);
    let Lab {
        network,
        director: Director {
            workers,
            management,
        },
        ..
    } = &mut lab;
    let network = &*network;
    std::thread::scope(|scope| {
        for (index, worker) in (0..).zip(workers.iter_mut()) {
            scope.spawn(move || {
                let mut client = index << 16;
                while !stop.load(Ordering::Relaxed) {
                    if client & 0xffff < 4_000 {
                        assert!(network.send(PortIndex(0), index as usize, &syn(client)));
                        client += 1;
                    }
                    worker.turn(now);
                }
            });
        }
        for weights in 1..=300 {
            let edit = Command::EditServer(web(), server_key(12), weight(weights));
            management.apply(&edit).unwrap();
            while !management.turn(now) {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    lab.settle();
    let counters = lab.counters();
    assert!(counters["rx_packets"] > 0);
    assert_eq!(counters["forwarded"], counters["rx_packets"]);
    assert_eq!(lab.take_sent().len() as u64, counters["forwarded"]);
    lab.assert_everything_is_accounted_for();
}
