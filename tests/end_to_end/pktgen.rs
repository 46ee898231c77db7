//! `pointsman pktgen` against `pointsman run`, two processes that share memory
//! (memif), without hugepages.

use serde_json::Value;

use crate::support::{Configuration, Lab, Pktgen, Shape};

const SERVERS: &str = "10.0.0.11-10.0.0.13";

/// A lab without hosts, and the configuration of a director on memif.
fn lab(test: &str) -> Option<(Lab, Configuration)> {
    let lab = Lab::build(test, Shape::TwoArms, 0)?;
    let configuration = Configuration {
        wan: memif(&lab, 0, "server"),
        lan: memif(&lab, 1, "server"),
        servers: vec![(1, 1), (2, 1), (3, 1)],
        ..lab.configuration()
    };
    Some((lab, configuration))
}

fn memif(lab: &Lab, id: u8, role: &str) -> String {
    let socket = lab.path("memif.sock");
    format!(
        "net_memif{id},role={role},id={id},socket={},socket-abstract=no",
        socket.display()
    )
}

/// Runs pktgen to its end, and returns its exit code and what it reports.
fn pktgen(lab: &Lab, more: &[&str]) -> (Option<i32>, Value) {
    let [clients, servers] = [0, 1].map(|id| memif(lab, id, "client"));
    let words = ["--server", SERVERS, "--flows", "300", "--count", "10k"];
    let words = [&words[..], more].concat();
    Pktgen::start(lab, &lab.director, [&clients, &servers], &words).wait()
}

#[test]
fn pktgen_finds_all_that_a_director_does_right() {
    let Some((lab, configuration)) = lab("pktgen_finds_all_that_a_director_does_right") else {
        return;
    };
    let director = lab.start_director(&configuration);
    let (code, report) = pktgen(
        &lab,
        &[
            "--size",
            "60:3,1400:1",
            "--fragments",
            "20",
            "--tunnel",
            "ipip",
        ],
    );
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["passed"], true, "{report:#}");
    assert_eq!(report["lost"], 0, "{report:#}");
    assert_eq!(report["received"]["packets"], report["sent"]["packets"]);
    assert!(
        report["sent"]["packets"].as_u64() >= Some(10_000),
        "{report:#}"
    );
    assert_eq!(report["mismatches"], Value::Object(serde_json::Map::new()));
    for server in report["servers"].as_array().unwrap() {
        // 150 flows of TCP and 150 of UDP, three servers.
        assert_eq!(server["flows"], 100, "{report:#}");
    }
    assert_eq!(director.counter("connections_opened"), 300);
}

#[test]
fn pktgen_fails_when_a_director_does_what_it_should_not() {
    const NAME: &str = "pktgen_fails_when_a_director_does_what_it_should_not";
    let Some((lab, configuration)) = lab(NAME) else {
        return;
    };
    let _director = lab.start_director(&Configuration {
        tunnel: "tunnel = \"gre\"\n",
        ..configuration
    });
    let (code, report) = pktgen(&lab, &["--tunnel", "gre-csum"]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["passed"], false);
    assert!(
        report["mismatches"]["tunnel_kind"].as_u64() >= Some(10_000),
        "{report:#}"
    );
    assert_eq!(report["lost"], 0, "{report:#}");
    let problem = report["samples"][0]["problem"].as_str().unwrap();
    assert_eq!(problem, "tunnel_kind: 0x1 in place of 0x2");
}
