//! HTTP through the tunnel.

use crate::support::{Capture, DIRECTOR_LAN, Frame, Lab, Shape, VIP, has_program, skipped};

/// Which server answered how often.
pub(crate) fn shares(answers: &[u8]) -> [usize; 2] {
    let first = answers.iter().filter(|&&server| server < 2).count();
    [first, answers.len() - first]
}

#[test]
fn two_arms_forward_http_and_servers_answer_directly() {
    const NAME: &str = "two_arms_forward_http_and_servers_answer_directly";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    if !has_program("tcpdump") {
        return skipped(
            NAME,
            "tcpdump is missing; scripts/setup.sh --tests installs it",
        );
    }
    let director = lab.start_director(&lab.configuration());
    let captures = ["wan", "lan"].map(|port| Capture::start(&lab, &lab.client, port));
    assert_eq!(shares(&lab.ask(20)), [10, 10]);
    director.settle();
    let [wan, lan] = captures.map(|capture| {
        let mut frames = capture.frames();
        frames.retain(Frame::is_ipv4);
        frames
    });
    let sent_by = |port: &'static str| {
        let mac = lab.director.mac(port);
        move |frame: &&Frame| frame.source_mac() == mac
    };
    assert_eq!(wan.iter().filter(sent_by("wan")).count(), 0, "no answers");
    let requests = wan.iter().filter(|frame| frame.destination() == VIP);
    // Each connection takes five packets of the client at least.
    let requests = requests.count();
    assert!(requests >= 100, "{requests}");
    let lan: Vec<_> = lan.iter().filter(sent_by("lan")).collect();
    for frame in &lan {
        assert_eq!(frame.protocol(), 4, "only tunnels pass: {frame:?}");
        assert_eq!(frame.source(), DIRECTOR_LAN);
        // The inner header comes after an outer one of 20 bytes.
        assert_eq!(frame.address_at(30 + 20), VIP);
    }
    assert_eq!(lan.len(), requests);
    assert_eq!(director.counter("connections_opened"), 20);
    assert_eq!(director.tunnelled(), requests as u64);
}

#[test]
fn one_arm_forwards_http() {
    let Some(lab) = Lab::build("one_arm_forwards_http", Shape::OneArm, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    assert_eq!(shares(&lab.ask(20)), [10, 10]);
    let ports = director.show("ports");
    assert_eq!(ports.as_array().unwrap().len(), 1);
    assert_eq!(ports[0]["name"], "lan");
    assert_eq!(director.counter("connections_opened"), 20);
}

#[test]
fn two_workers_share_the_connections_evenly() {
    const NAME: &str = "two_workers_share_the_connections_evenly";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        return skipped(NAME, "two workers take two cores");
    }
    let mut configuration = lab.configuration();
    configuration.workers = vec![0, 1];
    configuration.wan += ",qpairs=2";
    configuration.lan += ",qpairs=2";
    let director = lab.start_director(&configuration);
    let answers = lab.ask(200);
    let workers = director.show("workers");
    let of_worker = |index: usize| workers[index]["forwarded"].as_u64().unwrap();
    assert_eq!(workers.as_array().unwrap().len(), 2);
    // The kernel spreads 200 flows by a hash with random seed: fewer than 60 on
    // one side happens once in many millions of times.
    let all = of_worker(0) + of_worker(1);
    for worker in 0..2 {
        assert!(of_worker(worker) * 10 >= all * 3, "{workers}");
    }
    let [first, second] = shares(&answers);
    assert!(first.abs_diff(second) <= 2, "{first} and {second}");
    let ports = director.show("ports");
    for port in 0..2 {
        assert_eq!(ports[port]["rx_queues"], 2);
    }
}
