//! Ports with one queue for two workers: one receives and spreads in software,
//! the other one transmits.

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    forwarding::shares,
    ports::over_af_xdp,
    support::{Configuration, Director, Lab, Shape, skipped},
};

const SHARING: &str = "1 of 2 workers receive; spread in software; \
                       1 of 2 workers transmit, for the others too";

/// 200 requests to a director with two workers, whose ports have one queue.
fn share(test: &str, configuration: fn(&Lab) -> Configuration, check: impl Fn(&mut Director)) {
    let Some(lab) = Lab::build(test, Shape::TwoArms, 2) else {
        return;
    };
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        return skipped(test, "two workers take two cores");
    }
    let configuration = Configuration {
        workers: vec![0, 1],
        ..configuration(&lab)
    };
    let mut director = lab.start_director(&configuration);
    let [first, second] = shares(&lab.ask(200));
    assert!(first.abs_diff(second) <= 2, "{first} and {second}");
    director.settle();
    assert_shared(&director.show("workers"));
    let (workers, ports) = (director.show_text("workers"), director.show_text("ports"));
    assert!(workers.contains("Taken over"), "{workers}");
    assert!(ports.contains(SHARING), "{ports}");
    assert_eq!(director.counter("connections_opened"), 200);
    assert_eq!(director.counter("handoff_queue_full"), 0);
    check(&mut director);
}

/// The first one received all and forwarded by way of the second, which also
/// forwarded about half of the flows.
fn assert_shared(workers: &Value) {
    let of = |index: usize, name: &str| workers[index][name].as_u64().unwrap();
    assert_eq!(of(1, "rx_packets"), 0, "{workers}");
    assert_eq!(of(0, "handed_over"), of(1, "taken_over"), "{workers}");
    assert_eq!(of(0, "tx_packets"), 0, "{workers}");
    assert!(of(0, "tx_handed_over") > 0, "{workers}");
    assert_eq!(of(1, "tx_handed_over"), 0, "{workers}");
    // Of 200 flows by a random hash, fewer than 60 on one side come once in
    // many millions of times.
    for worker in 0..2 {
        assert!(of(worker, "connections") >= 60, "{workers}");
    }
    let all = |name: &str| of(0, name) + of(1, name);
    assert_eq!(
        all("rx_packets"),
        all("forwarded") + all("punted") + all("dropped"),
        "{workers}"
    );
}

#[test]
fn two_workers_share_the_one_queue_of_af_packet() {
    const NAME: &str = "two_workers_share_the_one_queue_of_af_packet";
    share(NAME, Lab::configuration, |director| {
        let log = director.log();
        for port in ["wan", "lan"] {
            let stated = format!(
                "port {port}: {SHARING}; for a queue each, add qpairs=2 to its device string"
            );
            assert!(log.contains(&stated), "{log}");
        }
        director.signal(Signal::TERM);
        assert!(director.wait().success());
        let log = director.log();
        assert!(log.contains("no packet buffer left in use"), "{log}");
    });
}

#[test]
fn two_workers_share_the_one_queue_of_af_xdp() {
    const NAME: &str = "two_workers_share_the_one_queue_of_af_xdp";
    share(NAME, over_af_xdp, |_| {});
}
