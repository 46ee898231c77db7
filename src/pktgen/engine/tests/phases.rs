//! The course of a run.
use super::*;
use crate::{pktgen::plan::TcpTraffic, wire::test_support::hex};

/// Flags and stamp of a TCP frame.
fn facts(frame: &[u8]) -> (u8, u32, u32) {
    let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    (frame[47], number(42), number(38))
}

#[test]
fn the_director_is_asked_for_until_it_answers() {
    let mut lab = Lab::with("198.51.100.10:80", None, |_| {});
    let question = hex(
        "ffffffffffff 02000000aa01 0806 0001080006040001 02000000aa01 c0000201 \
                        000000000000 c000020a",
    );
    for _ in 0..2 {
        let sent = lab.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0][..42], question);
        lab.now.set(lab.now.get() + 500_000);
    }
    let answer = hex(
        "02000000aa01 02000000d001 0806 0001080006040002 02000000d001 c000020a \
                      02000000aa01 c0000201",
    );
    lab.receive_at(0, &answer);
    let sent = lab.sent();
    assert_eq!(sent[0][..12], *hex("02000000d001 02000000aa01"));
    assert_eq!(facts(&sent[0]), (0x02, 0, 0));
}

#[test]
fn a_director_that_does_not_answer_ends_the_run() {
    let mut lab = Lab::with("198.51.100.10:80", None, |_| {});
    while lab.turn() != Turn::Finished {
        lab.now.set(lab.now.get() + 100_000);
    }
    assert_eq!(lab.network.take_sent().len(), 20);
    let report = Report::of(&lab.pktgen);
    assert!(!report.passed);
    assert_eq!(
        report.failures,
        [
            "the director did not answer ARP or Neighbor Discovery",
            "no packet was sent"
        ]
    );
}

#[test]
fn each_flow_opens_before_anything_counts() {
    let mut lab = Lab::new("198.51.100.10:80", |options| options.flows = 200);
    let mut seen = Vec::new();
    let report = lab.run(|frame| {
        seen.push(facts(&frame));
        vec![ipip(&frame)]
    });
    for (slot, fact) in (0..200).zip(&seen) {
        assert_eq!(*fact, (0x02, slot, 0), "a SYN of each flow, in order");
    }
    for (slot, fact) in (0..200).zip(&seen[200..]) {
        assert_eq!(*fact, (0x18, slot, 1), "and data of each flow");
    }
    assert!(seen[400..].iter().all(|(flags, _, _)| *flags == 0x18));
    assert!(report.passed, "{report}");
    assert_eq!(report.flows.opening_packets, 400);
    assert_eq!(report.flows.opening_lost, 0);
    assert_eq!(report.sent.packets, seen.len() as u64 - 400);
    assert_eq!(report.received.packets, report.sent.packets);
    assert_eq!((report.lost, report.reordered), (0, 0));
    assert_eq!(report.servers[0].flows, 200);
    assert_eq!(report.servers[0].packets, report.sent.packets);
    assert_eq!(report.tunnels["ipip 4in4"], seen.len() as u64);
}

#[test]
fn flows_come_in_random_order_that_the_seed_decides() {
    let slots = |seed| {
        let mut lab = Lab::new("198.51.100.10:80", |options| {
            options.flows = 100;
            options.tcp = TcpTraffic::Ack;
            options.seed = seed;
        });
        let mut seen = Vec::new();
        lab.run(|frame| {
            seen.push(facts(&frame).1);
            vec![ipip(&frame)]
        });
        seen.split_off(100)
    };
    let (one, again, other) = (slots(1), slots(1), slots(2));
    assert_eq!(one, again);
    assert_ne!(one[..50], other[..50]);
    assert!((0..100).all(|slot| one.contains(&slot)));
}

#[test]
fn connections_begin_and_end_and_give_way_to_new_ones() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.flows = 10;
        options.tcp = TcpTraffic::Connections { data_segments: 2 };
    });
    let mut flows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let report = lab.run(|frame| {
        let addresses = frame[26..38].to_vec();
        flows.entry(addresses).or_default().push(frame[47]);
        vec![ipip(&frame)]
    });
    assert!(report.passed, "{report}");
    assert!(report.flows.replaced > 100);
    assert_eq!(flows.len() as u64, report.flows.replaced + 10);
    let whole = [0x02, 0x10, 0x18, 0x18, 0x11];
    let ended = flows.values().filter(|flags| **flags == whole).count();
    assert!(
        flows.len() - ended <= 10,
        "only the last ones are unfinished"
    );
    assert!(flows.values().all(|flags| whole.starts_with(flags)));
}

#[test]
fn flows_are_replaced_at_their_rate() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.flows = 50;
        options.new_flows = 10_000;
        options.rate = Some(100_000);
        options.window = None;
        options.duration = Duration::from_millis(100);
    });
    let mut syns = 0;
    let report = lab.run(|frame| {
        syns += u64::from(frame[47] == 0x02);
        vec![ipip(&frame)]
    });
    assert!(report.passed, "{report}");
    assert!((900..=1000).contains(&report.flows.replaced), "{report}");
    assert_eq!(syns, 50 + report.flows.replaced);
    assert!((9_000..=10_000).contains(&report.sent.packets), "{report}");
}

#[test]
fn a_flood_is_counted_by_itself_and_may_be_lost() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.syn_flood = 200_000;
        options.rate = Some(20_000);
        options.window = None;
        options.duration = Duration::from_millis(50);
    });
    let report = lab.run(|frame| match facts(&frame) {
        (0x02, u32::MAX, number) if number % 2 == 0 => Vec::new(),
        _ => vec![ipip(&frame)],
    });
    assert!(report.passed, "{report}");
    assert!(report.flood.sent > 5_000, "{report}");
    // Flood packets have the sequence 0: all are lost or none is.
    assert_eq!(report.flood.received, 0);
    assert!((900..=1000).contains(&report.sent.packets), "{report}");
}

#[test]
fn a_run_ends_after_the_packets_that_were_asked_for() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.count = Some(1_234);
        options.duration = Duration::from_secs(3600);
    });
    let report = lab.run(|frame| vec![ipip(&frame)]);
    assert!(report.passed, "{report}");
    assert_eq!(report.sent.packets, 1_234);
    assert_eq!(report.received.packets, 1_234);
    assert_eq!(report.sent.bytes, 1_234 * 60);
}

#[test]
fn losses_are_counted_and_judged() {
    let lossy = |loss_max_percent| {
        let mut lab = Lab::new("198.51.100.10:80", |options| {
            options.count = Some(1_000);
            options.duration = Duration::from_secs(3600);
            options.loss_max_percent = loss_max_percent;
        });
        let mut number = 0;
        lab.run(|frame| {
            number += 1;
            // The first two packets are the opening.
            if number % 10 == 5 {
                Vec::new()
            } else {
                vec![ipip(&frame)]
            }
        })
    };
    let report = lossy(10.0);
    assert!(report.passed, "{report}");
    assert_eq!(report.lost, 100);
    let report = lossy(9.9);
    assert_eq!(
        report.failures,
        ["100 packets were lost (10.0000 %); 9.9 % may be"]
    );
}

#[test]
fn packets_that_come_twice_or_late_are_counted() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.count = Some(1_000);
        options.duration = Duration::from_secs(3600);
    });
    let mut number = 0;
    let mut kept = None;
    let report = lab.run(|frame| {
        number += 1;
        match number {
            100 => vec![ipip(&frame), ipip(&frame)],
            200 => {
                kept = Some(ipip(&frame));
                Vec::new()
            }
            201 => vec![ipip(&frame), kept.take().unwrap()],
            _ => vec![ipip(&frame)],
        }
    });
    assert_eq!((report.duplicates, report.reordered), (1, 1), "{report}");
    assert_eq!(report.lost, 0);
    assert_eq!(report.failures, ["1 packets came twice"]);
}

#[test]
fn latency_is_that_of_the_packets() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.count = Some(1);
        options.duration = Duration::from_secs(3600);
    });
    for _ in 0..2 {
        let opening = lab.sent();
        lab.receive(&ipip(&opening[0]));
    }
    let measured = lab.sent();
    lab.now.set(lab.now.get() + 5_000);
    lab.receive(&ipip(&measured[0]));
    while lab.turn() != Turn::Finished {}
    let report = Report::of(&lab.pktgen);
    assert!(report.passed, "{report}");
    let latency = report.latency_us.unwrap();
    assert!((4_950.0..5_050.0).contains(&latency.min), "{latency:?}");
    assert!((5_000.0..5_050.0).contains(&latency.p99), "{latency:?}");
}

#[test]
fn a_port_that_takes_little_at_a_time_loses_nothing() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.count = Some(500);
        options.duration = Duration::from_secs(3600);
    });
    lab.network.set_tx_capacity(PortIndex(0), 3);
    let report = lab.run(|frame| vec![ipip(&frame)]);
    assert!(report.passed, "{report}");
    assert_eq!(report.received.packets, 500);
}

#[test]
fn answers_to_clients_are_counted_by_their_kind() {
    let mut lab = Lab::new("198.51.100.10:80", |_| {});
    lab.sent();
    let mut reset = [CLIENTS_MAC, DIRECTOR_MAC].concat();
    reset.extend(hex("0800 45000028 00004000 40060000 c633640a c6120000 \
                      00504000 00000000 00000001 50140000 00000000"));
    lab.receive_at(0, &reset);
    let mut unreachable = [CLIENTS_MAC, DIRECTOR_MAC].concat();
    unreachable.extend(hex(
        "0800 4500001c 00004000 40010000 c633640a c6120000 0303 0000 00000000",
    ));
    lab.receive_at(0, &unreachable);
    lab.receive_at(0, &unreachable);
    let counts: Vec<_> = lab.pktgen.returned().counts().collect();
    let counts: Vec<_> = counts.iter().map(|(k, c)| (k.to_string(), *c)).collect();
    assert_eq!(
        counts,
        [("icmp_3_3".to_owned(), 2), ("tcp_reset".to_owned(), 1)]
    );
    assert!(lab.mismatches().is_empty());
}

#[test]
fn arp_for_a_real_server_is_answered_by_its_port() {
    let mut lab = Lab::new("198.51.100.10:80", |_| {});
    lab.sent();
    let request = hex(
        "ffffffffffff 02000000d002 0806 0001080006040001 02000000d002 0a000001 \
                       000000000000 0a00000c",
    );
    assert!(lab.network.send(PortIndex(1), 0, &request));
    lab.turn();
    let sent = lab.network.take_sent();
    let (port, reply) = &sent[0];
    assert_eq!(*port, PortIndex(1));
    assert_eq!(
        reply[..42],
        *hex(
            "02000000d002 02000000aa02 0806 0001080006040002 02000000aa02 0a00000c \
              02000000d002 0a000001"
        )
    );
}

#[test]
fn a_report_can_be_read_by_people_and_programs() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.count = Some(10);
        options.duration = Duration::from_secs(3600);
    });
    let report = lab.run(|frame| vec![ipip(&frame)]);
    let text = report.to_string();
    for part in [
        "sent       10 packets",
        "lost       0",
        "ipip 4in4 12",
        "mismatches none",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with("passed"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["passed"], true);
    assert_eq!(json["sent"]["packets"], 10);
    assert_eq!(json["servers"][0]["address"], "10.0.0.11");
    assert!(json["latency_us"]["p99_9"].is_number());
}
