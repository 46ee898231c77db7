//! What the director says would become of a packet is what becomes of it, and
//! asking changes nothing.

use std::net::Ipv4Addr;

use pointsman::{
    control::{
        command::Command,
        status::{
            Request, Response, ServiceStatus,
            explanation::{ExplainedPacket, Explanation, Fate, Question, QuestionPacket},
        },
    },
    scheduler::SchedulerKind,
    service::{ClientMask, Persistence, Protocol, ServiceOptions},
};
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::{
    asked::Asked,
    frames::{
        ACK, CLIENT, DF, FIN, Ip, MF, RST, SYN, VIP, icmp, icmp_error, server, tcp, tcp_of_len, udp,
    },
    lab::{Setup, for_all, server_key, service_key, web, web_service, weight},
};

impl Asked {
    fn explain(&mut self, frames: &[Vec<u8>], worker: Option<u32>) -> Explanation {
        let packets = frames.iter().cloned().map(QuestionPacket::Frame).collect();
        let question = Question {
            port: Some("clients".to_owned()),
            worker,
            packets,
        };
        match self.ask(Request::Explain(question)) {
            Response::Explain(explanation) => explanation,
            other => panic!("{other:?}"),
        }
    }

    fn explain_one(&mut self, frame: &[u8]) -> ExplainedPacket {
        let mut explanation = self.explain(&[frame.to_vec()], None);
        assert_eq!(explanation.packets.len(), 1);
        explanation.packets.remove(0)
    }

    fn services(&mut self) -> Vec<ServiceStatus> {
        match self.ask(Request::Services) {
            Response::Services(services) => services,
            other => panic!("{other:?}"),
        }
    }

    /// All that asking could change.
    fn everything(&mut self) -> String {
        let counters = self.lab.counters();
        let workers = &self.lab.director.workers;
        let connections: Vec<_> = workers
            .iter()
            .map(|worker| worker.connections(self.lab.now))
            .collect();
        let in_use = self.lab.network.packets_in_use();
        let services = self.services();
        format!("{counters:?} {connections:?} {in_use} {services:?}")
    }
}

/// A packet of a client, as one of many kinds.
fn any_packet() -> impl Strategy<Value = Ip> {
    let client_port = 1000..1006_u16;
    let flags = prop::sample::select(vec![SYN, ACK, SYN | ACK, FIN | ACK, RST, SYN | RST, 0]);
    prop_oneof![
        6 => (client_port.clone(), flags.clone()).prop_map(|(port, flags)| tcp(port, flags)),
        2 => (client_port.clone(), 0..4_u8).prop_map(|(port, host)| Ip {
            source: [203, 0, 113, host].into(),
            ..tcp(port, SYN)
        }),
        2 => client_port.clone().prop_map(|port| udp(port, 53, b"question")),
        1 => (client_port.clone(), 1400..1600_usize, any::<bool>())
            .prop_map(|(port, len, df)| tcp_of_len(port, ACK, len, df)),
        1 => client_port.clone().prop_map(|port| Ip { ttl: 1, ..tcp(port, ACK) }),
        1 => client_port.clone().prop_map(|port| Ip { flags: 0, ..tcp(port, ACK) }),
        1 => client_port.clone().prop_map(|port| Ip { destination: [192, 0, 2, 77].into(), ..tcp(port, SYN) }),
        1 => client_port.clone().prop_map(|port| Ip { source: [224, 0, 0, 1].into(), ..tcp(port, SYN) }),
        1 => client_port.clone().prop_map(|port| udp(port, 54, b"")),
        1 => client_port.clone().prop_map(|port| icmp_error(3, 4, port)),
        1 => client_port.clone().prop_map(|port| Ip { options: vec![1, 1, 1, 0], ..tcp(port, SYN) }),
        1 => (client_port, any::<u16>()).prop_map(|(port, id)| Ip { id, flags: MF, payload: udp(port, 53, &[7; 24]).payload, ..udp(port, 53, b"") }),
        1 => Just(icmp(8, 0, &[0, 1, 0, 1])),
        1 => Just(Ip { flags: DF, ..Ip::new(89, vec![0; 20]) }),
    ]
}

/// TCP VIP:80 and UDP VIP:53 with servers of these weights.
fn setup_of(scheduler: SchedulerKind, weights: &[u32], is_persistent: bool) -> Setup {
    let servers: Vec<_> = (11..).zip(weights.iter().copied()).collect();
    let mut web = web_service(scheduler, &servers);
    web.options.persistence = is_persistent.then_some(PERSISTENCE);
    let mut questions = web_service(scheduler, &servers);
    questions.key = service_key(VIP, Protocol::Udp, 53);
    Setup {
        services: vec![web, questions],
        ..Setup::default()
    }
}

const PERSISTENCE: Persistence = Persistence {
    timeout_s: 60,
    mask: ClientMask::Netmask(Ipv4Addr::BROADCAST),
};

/// What is said is what happens, packet by packet.
fn said_is_done(asked: &mut Asked, packets: &[(Ip, u16)]) -> TestCaseResult {
    for (packet, wait_s) in packets {
        asked.lab.advance(u64::from(*wait_s) * 1000);
        asked.lab.take_sent();
        let frame = packet.frame();
        let before = asked.everything();
        let explained = asked.explain_one(&frame);
        prop_assert_eq!(&asked.everything(), &before, "asking changed something");

        let counters = asked.lab.counters();
        asked.lab.receive(&frame);
        asked.lab.turn_workers();
        let sent = asked.lab.take_sent();
        let now = asked.lab.counters();
        let counted = |name: &str| now[name] - counters[name];
        match &explained.fate {
            Fate::Forwarded { frames } => {
                let ports = ["clients", "servers"];
                let sent = sent
                    .into_iter()
                    .map(|(port, bytes)| (ports[usize::from(port)], bytes));
                let said = frames
                    .iter()
                    .map(|frame| (frame.port.as_str(), frame.bytes.clone()));
                prop_assert_eq!(said.collect::<Vec<_>>(), sent.collect::<Vec<_>>());
                prop_assert_eq!(counted("forwarded"), 1);
            }
            Fate::Dropped { reason, .. } | Fate::Punted { reason, .. } => {
                prop_assert_eq!(counted(reason), 1, "{}", reason);
                prop_assert_eq!(counted("forwarded"), 0);
            }
            Fate::Waits | Fate::TooLong => {
                prop_assert_eq!(counted("forwarded"), 0);
            }
        }
        asked.lab.settle();
    }
    Ok(())
}

#[test]
fn what_is_said_of_a_packet_is_what_becomes_of_it() {
    let scheduler = prop::sample::select(SchedulerKind::ALL.to_vec());
    let weights = prop::collection::vec(0..4_u32, 1..4);
    let packets = prop::collection::vec((any_packet(), 0..40_u16), 1..30);
    let cases = (scheduler, weights, any::<bool>(), packets);
    for_all(48, &mut (), cases, |(), case| {
        let (scheduler, weights, is_persistent, packets) = case;
        let mut asked = Asked::with(&setup_of(scheduler, &weights, is_persistent));
        said_is_done(&mut asked, &packets)
    });
}

#[test]
fn a_capture_is_explained_as_if_its_packets_came_one_after_the_other() {
    let mut asked = Asked::with(&Setup::default());
    let frames = [tcp(1000, SYN), tcp(1000, ACK), tcp(1001, ACK)].map(|packet| packet.frame());
    let explanation = asked.explain(&frames, None);
    let states: Vec<_> = explanation
        .packets
        .iter()
        .map(|packet| packet.connection_after.as_ref().map(|it| it.state.as_str()))
        .collect();
    assert_eq!(states, [Some("SYN_RECV"), Some("ESTABLISHED"), None]);
    assert_eq!(asked.lab.counter("connections"), 0);
}

#[test]
fn the_worker_with_the_connection_explains() {
    let mut asked = Asked::with(&Setup {
        workers: 3,
        ..Setup::default()
    });
    asked.lab.receive_at(0, 2, &tcp(1000, SYN).frame());
    asked.lab.settle();
    let explanation = asked.explain(&[tcp(1000, ACK).frame()], None);
    assert_eq!(explanation.worker, 2);
    let packet = &explanation.packets[0];
    assert_eq!(packet.connection.as_ref().unwrap().state, "SYN_RECV");
    assert_eq!(packet.server, Some(server(11).into()));
    let explanation = asked.explain(&[tcp(1000, ACK).frame()], Some(1));
    assert_eq!(explanation.worker, 1);
    assert_eq!(explanation.packets[0].connection, None);
}

#[test]
fn the_scheduler_says_what_it_goes_by() {
    let mut asked = Asked::with(&Setup {
        services: vec![web_service(SchedulerKind::Wlc, &[(11, 1), (12, 2)])],
        ..Setup::default()
    });
    // The newest server stands first.
    asked.lab.send(&tcp(1000, SYN).frame());
    let packet = asked.explain_one(&tcp(1001, SYN).frame());
    let scheduling = packet.scheduling.unwrap();
    assert_eq!(scheduling.scheduler, SchedulerKind::Wlc);
    let seen: Vec<_> = scheduling
        .candidates
        .iter()
        .map(|it| {
            (
                it.server.unwrap(),
                it.weight,
                it.active_connections,
                it.cost,
                it.cost_for_weight,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (server(12).into(), 2, 1, Some(256), true),
            (server(11).into(), 1, 0, Some(0), true),
        ]
    );
    assert_eq!(packet.server, Some(server(11).into()));

    let hashing = ServiceOptions::from(SchedulerKind::Sh);
    asked.lab.apply(&Command::EditService(web(), hashing));
    let scheduling = asked
        .explain_one(&tcp(1001, SYN).frame())
        .scheduling
        .unwrap();
    // The high byte of 203.0.113.7 times 0x61c88647.
    let product = u32::from(CLIENT).wrapping_mul(0x61c8_8647);
    assert_eq!(scheduling.slot, Some(product >> 24));
}

#[test]
fn what_opens_no_connection_needs_no_scheduler() {
    let mut asked = Asked::with(&Setup::default());
    let packet = asked.explain_one(&tcp(1000, ACK).frame());
    assert_eq!((packet.scheduling, packet.server), (None, None));
    // There is none to pick from.
    asked.lab.delete_server(11);
    let packet = asked.explain_one(&tcp(1000, SYN).frame());
    assert!(
        matches!(&packet.fate, Fate::Punted { reason, .. } if reason == "no_server"),
        "{packet:?}"
    );
    assert_eq!(packet.scheduling.unwrap().candidates, []);
}

#[test]
fn a_client_with_a_template_needs_no_scheduler() {
    let mut service = web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)]);
    service.options.persistence = Some(PERSISTENCE);
    let mut asked = Asked::with(&Setup {
        services: vec![service],
        ..Setup::default()
    });
    let first = asked.explain_one(&tcp(1000, SYN).frame());
    assert_eq!(first.template, None);
    asked.lab.send(&tcp(1000, SYN).frame());
    let second = asked.explain_one(&tcp(1001, SYN).frame());
    assert_eq!(second.template.unwrap().server, first.server);
    assert_eq!(second.server, first.server);
    assert_eq!(second.scheduling, None);
}

#[test]
fn questions_that_make_no_sense_are_answered_with_an_error() {
    let mut asked = Asked::with(&Setup::default());
    let good = QuestionPacket::Frame(tcp(1, SYN).frame());
    for (question, why) in [
        (Question::default(), "ask about 1 to 256 packets"),
        (
            Question {
                packets: vec![good.clone(); 257],
                ..Question::default()
            },
            "ask about 1 to 256 packets",
        ),
        (
            Question {
                port: Some("wan".to_owned()),
                packets: vec![good.clone()],
                ..Question::default()
            },
            "there is no port \"wan\"",
        ),
        (
            Question {
                worker: Some(1),
                packets: vec![good],
                ..Question::default()
            },
            "there is no worker 1; write 0 to 0",
        ),
        (
            Question {
                packets: vec![QuestionPacket::Ip(Vec::new())],
                ..Question::default()
            },
            "an IP packet has at least one byte",
        ),
    ] {
        match asked.ask(Request::Explain(question)) {
            Response::Error(text) => assert!(text.starts_with(why), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    // Garbage is a packet like any other.
    let packet = asked.explain_one(&[0xff; 60]);
    assert!(matches!(packet.fate, Fate::Dropped { .. }), "{packet:?}");
    let long = asked.explain_one(&vec![0; 20_000]);
    assert_eq!(long.fate, Fate::TooLong);
}

#[test]
fn a_deleted_server_is_named_by_what_it_leaves_behind() {
    let mut asked = Asked::with(&Setup::default());
    asked.lab.send(&tcp(1000, SYN).frame());
    let delete = Command::DeleteServer(web(), server_key(11));
    asked.lab.apply(&delete);
    let packet = asked.explain_one(&tcp(1000, ACK).frame());
    assert!(
        matches!(&packet.fate, Fate::Dropped { reason, .. } if reason == "server_gone"),
        "{packet:?}"
    );
    assert_eq!(packet.connection.unwrap().server, Some(server(11).into()));
    asked
        .lab
        .apply(&Command::AddServer(web(), server_key(11), weight(1)));
    let packet = asked.explain_one(&tcp(1000, ACK).frame());
    assert!(matches!(packet.fate, Fate::Forwarded { .. }), "{packet:?}");
}
