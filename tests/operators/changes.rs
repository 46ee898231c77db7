//! What a batch of `ipvsadm` does to traffic.

use crate::{
    support::{Configuration, FLOWS, Lab, Pktgen, brief, wait_for},
    tools::Tools,
};

/// Weights, schedulers and a server more, each for both services.
const BATCH: &str = "\
-E -t 198.51.100.10:80 -s wlc
-e -t 198.51.100.10:80 -r 10.0.0.11 -i -w 0
-a -t 198.51.100.10:80 -r 10.0.0.14 -i -w 3
-e -t 198.51.100.10:80 -r 10.0.0.12 -i -w 9
-E -u 198.51.100.10:7 -s mh
-e -u 198.51.100.10:7 -r 10.0.0.11 -i -w 0
-a -u 198.51.100.10:7 -r 10.0.0.14 -i -w 3
-e -u 198.51.100.10:7 -r 10.0.0.12 -i -w 9
-A -t 198.51.100.99:443 -s sh
-a -t 198.51.100.99:443 -r 10.0.0.11 -i -w 1
";

#[test]
fn batches_of_ipvsadm_move_no_flow_and_lose_no_packet_that_has_a_server() {
    const NAME: &str = "batches_of_ipvsadm_move_no_flow_and_lose_no_packet_that_has_a_server";
    let Some(lab) = Lab::for_pktgen(NAME) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let director = lab.start_director(&Configuration {
        servers: vec![(1, 1), (2, 1), (3, 1)],
        ..lab.configuration()
    });
    let pktgen = Pktgen::measure(&lab, &director, &[]);
    assert_eq!(tools.restore(BATCH).ok(), "");
    director.pass(2000);
    let (code, report) = pktgen.stop();
    assert_eq!(code, Some(0), "{}", brief(&report));
    assert_eq!(report["lost"], 0, "{}", brief(&report));
    assert_eq!(report["moves"]["total"], 0, "{}", brief(&report));
    assert_eq!(director.counter("connections_opened"), FLOWS);

    // Everything is taken away, and restored as it was.
    let pktgen = Pktgen::measure(&lab, &director, &["--may-lose", "10.0.0.11-10.0.0.14"]);
    let saved = tools.ipvsadm("-Sn").ok();
    tools.ipvsadm("-C").ok();
    wait_for("there is no service", || {
        director.show("services").as_array().unwrap().is_empty()
    });
    tools.restore(&saved).ok();
    assert_eq!(tools.ipvsadm("-Sn").ok(), saved);
    director.pass(2000);
    let (code, report) = pktgen.stop();
    assert_eq!(code, Some(0), "{}", brief(&report));
    assert_eq!(report["moves"]["total"], 0, "{}", brief(&report));
    assert_eq!(director.counter("connections_opened"), FLOWS);
}
