//! Captures: what is said of packets, and that nothing is forwarded otherwise
//! while there are some.

use pointsman::{
    capture::{Direction, FateKind, Filter},
    control::status::{
        CaptureBatch, CaptureEnd, CaptureRequest, CapturedPacket, Request, Response,
    },
    io::{PortCapabilities, PortIndex},
    scheduler::SchedulerKind,
};

use crate::{
    fragments::{add_dns, cut, datagram},
    frames::{
        ACK, CLIENT_SIDE, Ip, RST, SYN, arp_request, ethernet, icmp, icmp_error, tcp, tcp_of_len,
        udp,
    },
    lab::{Lab, Setup, web_service},
};

fn request(filter: &str) -> CaptureRequest {
    CaptureRequest {
        filter: serde_json::from_str(filter).unwrap(),
        port: None,
        snaplen: 2048,
        packets_max: 1_000_000,
        bytes_max: 1 << 30,
        duration_ms: 60_000,
        rate_per_s: 100_000,
    }
}

fn start_with(lab: &mut Lab, request: CaptureRequest) -> u64 {
    match lab.ask(Request::StartCapture(request)) {
        Response::CaptureStarted { id } => id,
        other => panic!("{other:?}"),
    }
}

fn start(lab: &mut Lab, filter: &str) -> u64 {
    start_with(lab, request(filter))
}

fn refused(lab: &mut Lab, request: Request) -> String {
    match lab.ask(request) {
        Response::Error(why) => why,
        other => panic!("{other:?}"),
    }
}

fn batch(lab: &mut Lab, request: Request) -> CaptureBatch {
    match lab.ask(request) {
        Response::Captured(batch) => batch,
        other => panic!("{other:?}"),
    }
}

fn read(lab: &mut Lab, id: u64) -> CaptureBatch {
    batch(lab, Request::ReadCapture { id })
}

fn packets(lab: &mut Lab, id: u64) -> Vec<CapturedPacket> {
    read(lab, id).packets
}

/// What is said of each packet.
fn texts(packets: &[CapturedPacket]) -> Vec<&str> {
    packets.iter().map(|packet| packet.text.as_str()).collect()
}

/// By port and direction, the bytes.
fn frames(packet: &CapturedPacket) -> Vec<(u8, Direction, Vec<u8>)> {
    let frames = packet.frames.iter();
    frames
        .map(|frame| {
            assert_eq!(frame.len as usize, frame.bytes.len());
            (frame.port, frame.direction, frame.bytes.clone())
        })
        .collect()
}

#[test]
fn a_forwarded_packet_is_shown_as_it_came_and_as_it_went() {
    let mut lab = Lab::start();
    let id = start(&mut lab, "{}");
    let syn = tcp(1000, SYN).frame();
    let sent = lab.answers(&syn);
    let [packet] = packets(&mut lab, id).try_into().unwrap();
    assert_eq!(
        frames(&packet),
        [
            (0, Direction::In, syn),
            (1, Direction::Out, sent[0].1.clone())
        ]
    );
    assert_eq!(packet.text, "forwarded");
    assert_eq!(packet.fate, FateKind::Forwarded);
    assert_eq!(packet.server, "10.0.0.11".parse().ok());
    assert_eq!(packet.reason, None);
    lab.assert_everything_is_accounted_for();
}

#[test]
fn a_packet_that_is_not_forwarded_is_shown_with_its_reason() {
    let mut lab = Lab::start();
    let id = start(&mut lab, "{}");
    let elsewhere = Ip {
        destination: [198, 51, 100, 99].into(),
        ..tcp(1000, SYN)
    };
    let mut broken = tcp(1000, SYN).frame();
    broken[24] ^= 1;
    for frame in [
        elsewhere.frame(),
        broken,
        arp_request(CLIENT_SIDE),
        vec![0; 13],
    ] {
        lab.send(&frame);
    }
    let captured = packets(&mut lab, id);
    let reasons: Vec<_> = captured
        .iter()
        .filter(|packet| packet.fate != FateKind::Own)
        .map(|packet| (packet.fate, packet.reason.as_deref().unwrap()))
        .collect();
    assert_eq!(
        reasons,
        [
            (FateKind::Dropped, "not_local"),
            (FateKind::Dropped, "bad_ipv4_checksum"),
            (FateKind::Punted, "arp"),
            (FateKind::Dropped, "frame_too_short"),
        ]
    );
    assert!(captured[0].text.starts_with("dropped, not_local: "));
}

#[test]
fn what_the_director_itself_sends_is_shown_with_the_client_it_is_for() {
    let mut lab = Lab::start();
    let id = start(
        &mut lab,
        r#"{"client":"203.0.113.7/32","vip":"198.51.100.10/32"}"#,
    );
    // Its TTL runs out here: ICMP time exceeded to the client.
    let dying = Ip {
        ttl: 1,
        ..tcp(1000, SYN)
    };
    let answers = lab.answers(&dying.frame());
    assert_eq!(answers.len(), 1);
    let captured = packets(&mut lab, id);
    assert_eq!(captured[0].reason.as_deref(), Some("ttl_exceeded"));
    assert_eq!(captured[1].text, "sent by the director itself");
    assert_eq!(
        frames(&captured[1]),
        [(0, Direction::Out, answers[0].1.clone())]
    );
    assert_eq!(captured.len(), 2);
}

/// Of which of these packets there is something, by their numbers.
fn passing(filter: &str) -> Vec<usize> {
    let mut lab = Lab::start();
    add_dns(&mut lab);
    lab.add_server(12, 1);
    let id = start(&mut lab, filter);
    let other_client = Ip {
        source: [203, 0, 113, 8].into(),
        ..tcp(1001, SYN)
    };
    let all = [
        tcp(1000, SYN).frame(),
        tcp(1000, ACK).frame(),
        other_client.frame(),
        udp(2000, 53, b"question").frame(),
        icmp_error(3, 4, 1000).frame(),
        arp_request(CLIENT_SIDE),
        tcp(1000, RST).frame(),
    ];
    let mut passing = Vec::new();
    for (number, frame) in all.iter().enumerate() {
        lab.send(frame);
        let captured = packets(&mut lab, id);
        if captured.iter().any(|it| it.fate != FateKind::Own) {
            passing.push(number);
        }
    }
    passing
}

#[test]
fn a_filter_lets_its_packets_pass_alone() {
    for (filter, numbers) in [
        ("{}", vec![0, 1, 2, 3, 4, 5, 6]),
        // The error quotes a packet to client and port.
        (r#"{"client":"203.0.113.7/32"}"#, vec![0, 1, 3, 4, 6]),
        (r#"{"client":"203.0.113.8/32"}"#, vec![2]),
        (r#"{"vip":"198.51.100.10/32"}"#, vec![0, 1, 2, 3, 4, 6]),
        (r#"{"host":"192.0.2.0/24"}"#, vec![5]),
        (r#"{"l4_port":53}"#, vec![3]),
        (r#"{"client_port":1000}"#, vec![0, 1, 4, 6]),
        (r#"{"service_port":80}"#, vec![0, 1, 2, 4, 6]),
        (r#"{"protocol":"tcp"}"#, vec![0, 1, 2, 4, 6]),
        (r#"{"protocol":"icmp"}"#, vec![4]),
        (r#"{"protocol":"arp"}"#, vec![5]),
        (r#"{"fate":"punted"}"#, vec![5]),
        (r#"{"reasons":["arp"]}"#, vec![5]),
        (r#"{"reasons":["not_local"]}"#, vec![]),
        (r#"{"server":"10.0.0.11"}"#, vec![2]),
        (r#"{"server":"10.0.0.12"}"#, vec![0, 1, 3, 4, 6]),
        (r#"{"direction":"out"}"#, vec![0, 1, 2, 3, 4, 6]),
        // tcpdump -ddd 'udp': ends at the end of the frame, and so on.
        (
            r#"{"program":[[40,0,0,12],[21,0,3,2048],[48,0,0,23],[21,0,1,17],[6,0,0,1],[6,0,0,0]]}"#,
            vec![3],
        ),
    ] {
        assert_eq!(passing(filter), numbers, "{filter}");
    }
}

#[test]
fn one_port_and_one_direction_show_their_frames_alone() {
    let mut lab = Lab::start();
    let of_port = |port: &str, filter: &str| CaptureRequest {
        port: Some(port.to_owned()),
        ..request(filter)
    };
    let servers = start_with(&mut lab, of_port("servers", "{}"));
    let received = start(&mut lab, r#"{"direction":"in"}"#);
    let nothing = start_with(&mut lab, of_port("servers", r#"{"direction":"in"}"#));
    let sent = lab.answers(&tcp(1000, SYN).frame());
    let [packet] = packets(&mut lab, servers).try_into().unwrap();
    assert_eq!(frames(&packet), [(1, Direction::Out, sent[0].1.clone())]);
    let [packet] = packets(&mut lab, received).try_into().unwrap();
    assert_eq!(
        frames(&packet),
        [(0, Direction::In, tcp(1000, SYN).frame())]
    );
    assert_eq!(
        (packet.frames_sent, packet.server),
        (1, "10.0.0.11".parse().ok())
    );
    assert_eq!(packets(&mut lab, nothing), []);
}

/// Frames of many kinds, as many as are asked for.
fn mixture(random: &mut fastrand::Rng, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let client_port = random.u16(1000..1040);
        let client = Ip {
            source: [203, 0, 113, random.u8(1..20)].into(),
            ..tcp(client_port, [SYN, ACK, ACK, ACK, RST][random.usize(0..5)])
        };
        match random.u8(0..15) {
            0..7 => frames.push(client.frame()),
            7 => {
                let whole = datagram(random.u16(..), client_port, 3000);
                let mut pieces: Vec<_> = cut(&whole, 1480).iter().map(Ip::frame).collect();
                random.shuffle(&mut pieces);
                frames.extend(pieces);
            }
            8 => frames.push(tcp_of_len(client_port, ACK, 1500, random.bool()).frame()),
            9 => frames.push(icmp_error(3, 4, client_port).frame()),
            10 => frames.push(udp(client_port, 53, b"question").frame()),
            11 => frames.push(arp_request(CLIENT_SIDE)),
            12 => frames.push(icmp(8, 0, b"ping").frame()),
            13 => {
                let elsewhere = Ip {
                    destination: [198, 51, 100, 99].into(),
                    ..client
                };
                frames.push(elsewhere.frame());
            }
            _ => {
                let mut frame = client.frame();
                let at = random.usize(0..frame.len());
                frame[at] ^= 1 << random.u8(0..8);
                frames.push(frame);
            }
        }
    }
    frames
}

/// What a director sends of these frames, in bursts of many, and what it counts.
fn outcome(
    frames: &[Vec<u8>],
    filters: &[&str],
) -> (Vec<(u8, Vec<u8>)>, impl PartialEq + std::fmt::Debug, usize) {
    let mut lab = Lab::with(&Setup {
        services: vec![web_service(SchedulerKind::Rr, &[(11, 1), (12, 3), (13, 1)])],
        ..Setup::default()
    });
    add_dns(&mut lab);
    let ids: Vec<_> = filters
        .iter()
        .map(|filter| start(&mut lab, filter))
        .collect();
    lab.take_sent();
    let mut captured = 0;
    for some in frames.chunks(200) {
        for frame in some {
            lab.receive(frame);
        }
        lab.settle();
        for id in &ids {
            captured += read(&mut lab, *id).packets.len();
        }
        lab.advance(100);
    }
    lab.advance(10_000);
    let sent = lab.take_sent();
    lab.assert_everything_is_accounted_for();
    (sent, lab.counters(), captured)
}

#[test]
fn nothing_is_forwarded_otherwise_or_in_another_order_while_there_are_captures() {
    for seed in 1..=6 {
        let frames = mixture(&mut fastrand::Rng::with_seed(seed), 1500);
        let (sent, counters, none) = outcome(&frames, &[]);
        assert_eq!(none, 0);
        for filters in [
            &["{}"][..],
            &[r#"{"client":"203.0.113.0/29"}"#],
            &[
                r#"{"l4_port":53}"#,
                r#"{"reasons":["arp"]}"#,
                r#"{"server":"10.0.0.12"}"#,
                r#"{"direction":"out"}"#,
            ],
        ] {
            let (traced, traced_counters, captured) = outcome(&frames, filters);
            assert!(captured > 100, "seed {seed}, {filters:?}: {captured}");
            assert_eq!(counters, traced_counters, "seed {seed}, {filters:?}");
            assert_eq!(sent.len(), traced.len());
            for (number, (plain, traced)) in sent.iter().zip(&traced).enumerate() {
                assert!(plain == traced, "seed {seed}, {filters:?}: frame {number}");
            }
        }
    }
}

#[test]
fn each_received_packet_of_a_mixture_is_captured_once_with_its_end() {
    let frames = mixture(&mut fastrand::Rng::with_seed(7), 1500);
    let mut lab = Lab::start();
    add_dns(&mut lab);
    let id = start(&mut lab, r#"{"direction":"in"}"#);
    let mut captured = Vec::new();
    for some in frames.chunks(200) {
        for frame in some {
            lab.receive(frame);
        }
        lab.settle();
        captured.extend(packets(&mut lab, id));
        lab.advance(100);
    }
    let seen: Vec<_> = captured.iter().map(|it| &it.frames[0].bytes).collect();
    assert_eq!(seen, frames.iter().collect::<Vec<_>>());
    // By their reasons, as many as were counted.
    for name in [
        "not_local",
        "bad_ipv4_checksum",
        "arp",
        "local",
        "other_mac",
    ] {
        let of = |it: &&CapturedPacket| it.reason.as_deref() == Some(name);
        let count = captured.iter().filter(of).count() as u64;
        assert_eq!(count, lab.counter(name), "{name}");
        assert!(count > 0, "{name}");
    }
    assert!(captured.iter().all(|it| !it.text.contains("not seen")));
}

#[test]
fn a_packet_in_fragments_is_shown_with_all_of_them() {
    let mut lab = Lab::start();
    lab.send(&tcp(1000, SYN).frame());
    let id = start(&mut lab, "{}");
    let sent = lab.answers(&tcp_of_len(1000, ACK, 1500, false).frame());
    assert_eq!(sent.len(), 2);
    let [packet] = packets(&mut lab, id).try_into().unwrap();
    assert_eq!(packet.frames_sent, 2);
    let out: Vec<_> = frames(&packet).into_iter().skip(1).collect();
    let expected = sent
        .into_iter()
        .map(|(port, frame)| (port, Direction::Out, frame));
    assert_eq!(out, expected.collect::<Vec<_>>());
}

#[test]
fn a_fragment_that_waits_says_so_and_goes_with_the_first() {
    let mut lab = Lab::start();
    add_dns(&mut lab);
    let id = start(&mut lab, "{}");
    let pieces = cut(&datagram(7, 2000, 2500), 1480);
    lab.send(&pieces[1].frame());
    lab.send(&pieces[0].frame());
    let captured = packets(&mut lab, id);
    assert_eq!(
        texts(&captured),
        ["waits for the first fragment of its datagram", "forwarded"]
    );
    // Those of the second fragment, which followed, are among them.
    assert_eq!(captured[1].frames_sent, 3);
}

#[test]
fn a_packet_for_another_worker_says_so_and_is_seen_to_leave() {
    let mut lab = Lab::with(&Setup {
        workers: 2,
        ..Setup::default()
    });
    add_dns(&mut lab);
    // Until a fragment is received by the worker that does not decide.
    for id in 0..100 {
        let capture = start(&mut lab, r#"{"vip":"198.51.100.10/32"}"#);
        lab.receive_at(0, 0, &cut(&datagram(id, 2000 + id, 2500), 1480)[0].frame());
        lab.settle();
        let captured = packets(&mut lab, capture);
        lab.ask(Request::StopCapture { id: capture });
        lab.ask(Request::ReadCapture { id: capture });
        if captured[0].text == "handed to another worker" {
            assert_eq!(captured.len(), 2, "{captured:?}");
            // It may have come back, to the worker that decides about its flow.
            assert_eq!(
                captured[1].text,
                "forwarded after it had waited or changed its worker"
            );
            assert!(captured[1].server.is_some());
            return;
        }
    }
    panic!("all of 100 fragments were for the first worker");
}

#[test]
fn a_packet_that_is_spread_is_shown_by_the_worker_that_forwards_it() {
    let mut lab = Lab::with(&Setup {
        workers: 2,
        queues: Some((1, 1)),
        ..Setup::default()
    });
    let id = start(&mut lab, r#"{"direction":"in"}"#);
    for client_port in 1000..1040 {
        lab.send(&tcp(client_port, SYN).frame());
    }
    let captured = packets(&mut lab, id);
    assert_eq!(captured.len(), 40);
    let mut workers: Vec<_> = captured.iter().map(|it| it.worker).collect();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers, [0, 1]);
    // The last worker has the transmit queue.
    for packet in &captured {
        let text = ["finished, another worker sends it", "forwarded"][packet.worker as usize];
        assert_eq!(packet.text, text);
    }
}

#[test]
fn what_a_port_does_not_take_is_shown_as_dropped() {
    let mut lab = Lab::start();
    let id = start(&mut lab, "{}");
    lab.network.set_tx_capacity(PortIndex(1), 0);
    lab.send(&tcp(1000, SYN).frame());
    let [packet] = packets(&mut lab, id).try_into().unwrap();
    assert_eq!(packet.reason.as_deref(), Some("transmit_queue_full"));
    assert_eq!(packet.frames.len(), 2);
}

#[test]
fn a_frame_is_shown_with_the_checksum_that_its_port_fills_in() {
    let mut lab = Lab::with(&Setup {
        capabilities: PortCapabilities {
            tx_ipv4_checksum: true,
            ..PortCapabilities::default()
        },
        ..Setup::default()
    });
    let id = start(&mut lab, r#"{"direction":"out"}"#);
    let sent = lab.answers(&tcp(1000, SYN).frame());
    let [packet] = packets(&mut lab, id).try_into().unwrap();
    assert_eq!(frames(&packet), [(1, Direction::Out, sent[0].1.clone())]);
}

#[test]
fn frames_are_cut_at_the_snaplen() {
    let mut lab = Lab::start();
    let id = start_with(
        &mut lab,
        CaptureRequest {
            snaplen: 30,
            ..request("{}")
        },
    );
    let frame = tcp(1000, SYN).frame();
    let sent = lab.answers(&frame);
    let [packet] = packets(&mut lab, id).try_into().unwrap();
    let [received, out] = packet.frames.try_into().unwrap();
    assert_eq!((received.len, &received.bytes[..]), (54, &frame[..30]));
    assert_eq!((out.len, &out.bytes[..]), (74, &sent[0].1[..30]));
}

fn flood(lab: &mut Lab, count: u16) {
    for client_port in 1000..1000 + count {
        lab.receive(&tcp(client_port, SYN).frame());
    }
    lab.settle();
}

#[test]
fn a_capture_ends_with_its_last_packet() {
    let mut lab = Lab::start();
    let id = start_with(
        &mut lab,
        CaptureRequest {
            packets_max: 5,
            ..request("{}")
        },
    );
    flood(&mut lab, 3);
    assert_eq!(read(&mut lab, id).end, None);
    flood(&mut lab, 3);
    let last = read(&mut lab, id);
    assert_eq!(
        (last.packets.len(), last.end),
        (2, Some(CaptureEnd::Packets))
    );
    let why = refused(&mut lab, Request::ReadCapture { id });
    assert!(why.contains(&format!("no capture {id}")), "{why}");
}

#[test]
fn a_capture_ends_with_its_last_byte() {
    let mut lab = Lab::start();
    let id = start_with(
        &mut lab,
        CaptureRequest {
            bytes_max: 54 + 74 + 1,
            ..request("{}")
        },
    );
    flood(&mut lab, 1);
    assert_eq!(read(&mut lab, id).end, None);
    flood(&mut lab, 1);
    assert_eq!(read(&mut lab, id).end, Some(CaptureEnd::Bytes));
}

#[test]
fn a_capture_ends_when_its_time_is_over_or_its_client_asks_and_nothing_is_lost() {
    let mut lab = Lab::start();
    let short = CaptureRequest {
        duration_ms: 1000,
        ..request("{}")
    };
    let timed = start_with(&mut lab, short);
    let asked = start(&mut lab, "{}");
    flood(&mut lab, 3);
    lab.advance(999);
    flood(&mut lab, 3);
    lab.advance(1);
    // This one comes too late for the first.
    flood(&mut lab, 1);
    let batch_of_timed = read(&mut lab, timed);
    assert_eq!(
        (batch_of_timed.packets.len(), batch_of_timed.end),
        (6, None)
    );
    let end = read(&mut lab, timed);
    assert_eq!(
        (end.packets.len(), end.end),
        (0, Some(CaptureEnd::Duration))
    );
    let stopped = batch(&mut lab, Request::StopCapture { id: asked });
    assert_eq!((stopped.packets.len(), stopped.end), (7, None));
    let end = read(&mut lab, asked);
    assert_eq!((end.packets.len(), end.end), (0, Some(CaptureEnd::Asked)));
}

#[test]
fn a_capture_that_nobody_reads_ends_and_leaves_its_place() {
    let mut lab = Lab::start();
    let ids: Vec<_> = (0..4).map(|_| start(&mut lab, "{}")).collect();
    let start_one = || Request::StartCapture(request("{}"));
    let why = refused(&mut lab, start_one());
    assert!(why.contains("4 captures are running"), "{why}");
    lab.advance(4_000);
    read(&mut lab, ids[3]);
    lab.advance(1_000);
    for id in &ids[..3] {
        let why = refused(&mut lab, Request::ReadCapture { id: *id });
        assert!(why.contains("not read for 5 s"), "{why}");
    }
    assert_eq!(read(&mut lab, ids[3]).end, None);
    for _ in 0..3 {
        start(&mut lab, "{}");
    }
    refused(&mut lab, start_one());
}

#[test]
fn what_there_is_no_room_for_is_counted_and_forwarded_all_the_same() {
    let mut lab = Lab::start();
    // As many records of this length as there are at least for a worker.
    let id = start_with(
        &mut lab,
        CaptureRequest {
            snaplen: 9_832,
            rate_per_s: 1_000_000,
            ..request("{}")
        },
    );
    let before = lab.counter("forwarded");
    for _ in 0..3 {
        flood(&mut lab, 1000);
    }
    assert_eq!(lab.counter("forwarded") - before, 3000);
    let mut captured = 0;
    let missed = loop {
        let batch = read(&mut lab, id);
        captured += batch.packets.len() as u64;
        if batch.packets.is_empty() {
            break batch.missed;
        }
    };
    assert!(captured > 1000, "{captured}");
    assert!(missed > 0);
    assert_eq!(captured + missed, 3000);
    // There is room again.
    flood(&mut lab, 10);
    assert_eq!(packets(&mut lab, id).len(), 10);
}

#[test]
fn what_is_beyond_the_rate_passes_unseen_and_is_counted() {
    let mut lab = Lab::start();
    let id = start_with(
        &mut lab,
        CaptureRequest {
            rate_per_s: 160,
            ..request("{}")
        },
    );
    flood(&mut lab, 100);
    let first = read(&mut lab, id);
    assert_eq!((first.packets.len(), first.unseen), (10, 90));
    lab.advance(63);
    flood(&mut lab, 100);
    let second = read(&mut lab, id);
    assert_eq!((second.packets.len(), second.unseen), (10, 180));
    assert_eq!(second.missed, 0);
}

#[test]
fn a_capture_that_cannot_be_is_refused_with_a_way_out() {
    let mut lab = Lab::start();
    let base = request("{}");
    for (request, complaint) in [
        (
            CaptureRequest {
                port: Some("wan".to_owned()),
                ..base.clone()
            },
            "there is no port \"wan\"",
        ),
        (
            CaptureRequest {
                snaplen: 0,
                ..base.clone()
            },
            "0 is no snaplen; write 1 to 9832",
        ),
        (
            CaptureRequest {
                packets_max: 0,
                ..base.clone()
            },
            "0 is no number of packets",
        ),
        (
            CaptureRequest {
                bytes_max: 0,
                ..base.clone()
            },
            "0 is no number of bytes",
        ),
        (
            CaptureRequest {
                duration_ms: 3_600_001,
                ..base.clone()
            },
            "3600001 is no duration in ms; write 1 to 3600000",
        ),
        (
            CaptureRequest {
                rate_per_s: 15,
                ..base.clone()
            },
            "15 is no rate in packets/s; write 16 to 1000000",
        ),
    ] {
        let why = refused(&mut lab, Request::StartCapture(request));
        assert!(why.contains(complaint), "{why}");
    }
    for request in [
        Request::ReadCapture { id: 77 },
        Request::StopCapture { id: 77 },
    ] {
        assert!(refused(&mut lab, request).contains("no capture 77"));
    }
    // Nothing of it has taken a place.
    for _ in 0..4 {
        start(&mut lab, "{}");
    }
}

#[test]
fn a_frame_in_several_buffers_is_shown_as_far_as_it_is_at_hand() {
    let mut lab = Lab::start();
    let id = start(&mut lab, "{}");
    let frame = ethernet([2; 6], [4; 6], 0x0800, &[0; 100]);
    assert!(lab.network.send_scattered(PortIndex(0), 0, &frame));
    lab.settle();
    let [packet] = packets(&mut lab, id).try_into().unwrap();
    assert_eq!(packet.reason.as_deref(), Some("not_contiguous"));
    assert!(!packet.frames[0].bytes.is_empty());
}

#[test]
fn a_filter_wants_all_when_nothing_is_said() {
    assert_eq!(
        serde_json::from_str::<Filter>("{}").unwrap(),
        Filter::default()
    );
}
