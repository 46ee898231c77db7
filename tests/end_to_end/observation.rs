//! What can be seen of a director at work: `pointsman show`, and the wire.

use std::process::Command;

use serde_json::Value;

use crate::support::{Capture, Lab, Shape, has_program, skipped, wait_for};

/// With the fields that each row of it has.
const EVERYTHING: [(&str, &[&str]); 7] = [
    ("services", &["key", "options", "servers", "statistics"]),
    ("counters", &["name", "kind", "count", "help"]),
    (
        "workers",
        &[
            "index",
            "busy_share",
            "packets_per_burst",
            "cycles_per_packet",
        ],
    ),
    ("ports", &["name", "mac", "link_up", "statistics"]),
    ("neighbors", &["port", "address", "mac", "state"]),
    ("routes", &["to", "via", "port", "kind"]),
    ("connections", &["client", "service", "server", "state"]),
];

fn rows<'a>(what: &str, value: &'a Value) -> &'a [Value] {
    let rows = if what == "connections" {
        &value["connections"]
    } else {
        value
    };
    rows.as_array().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| number(&row[field])).sum()
}

#[test]
fn everything_can_be_shown_while_traffic_runs() {
    const NAME: &str = "everything_can_be_shown_while_traffic_runs";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let load = lab.load();
    wait_for("there is load", || director.counter("forwarded") > 100);
    for _ in 0..3 {
        for (what, fields) in EVERYTHING {
            let value = director.show(what);
            let rows = rows(what, &value);
            assert!(!rows.is_empty(), "{what}");
            for (row, field) in rows.iter().zip(fields.iter().cycle()) {
                assert!(row.get(field).is_some(), "{what}: {field}: {row}");
            }
            for field in fields {
                assert!(rows[0].get(field).is_some(), "{what}: {field}");
            }
            assert!(director.show_text(what).lines().count() >= 2, "{what}");
        }
        assert!(director.show_text("director").contains("generation"));
    }
    let workers = director.show("workers");
    assert!(
        workers[0]["cycles_per_packet"].as_f64() > Some(1.0),
        "{workers}"
    );
    assert!(workers[0]["packets_per_burst"].as_f64() >= Some(1.0));
    wait_for("a second of work shows as busy share", || {
        let share = director.show("workers")[0]["busy_share"].as_f64().unwrap();
        (0.0..=1.0).contains(&share) && share > 0.0
    });
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
}

#[test]
fn every_packet_received_was_forwarded_dropped_or_punted() {
    const NAME: &str = "every_packet_received_was_forwarded_dropped_or_punted";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    lab.ask(50);
    // A closed port is punted; a packet for nobody is dropped.
    lab.client.inside(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"closed", ("198.51.100.10", 9)).unwrap();
    });
    lab.client.ip("route add 198.51.100.99/32 via 192.0.2.1");
    lab.client.inside(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"nobody", ("198.51.100.99", 9)).unwrap();
    });
    wait_for("both have arrived", || {
        director.counter("not_local") == 1 && director.counter("local") == 1
    });
    director.settle();
    // The kernel around may send a frame of its own at any time: what is
    // compared is from between two of them.
    let (mut workers, mut counters) = (director.show("workers"), director.show("counters"));
    wait_for("nothing has come in between", || {
        let before = workers.clone();
        workers = director.show("workers");
        let received = |workers: &Value| sum(rows("workers", workers), "rx_packets");
        let is_same = received(&before) == received(&workers);
        if is_same {
            workers = before;
        } else {
            counters = director.show("counters");
        }
        is_same
    });
    let (workers, counters) = (rows("workers", &workers), rows("counters", &counters));
    let services = director.show("services");
    let count =
        |name: &str| number(&counters.iter().find(|row| row["name"] == name).unwrap()["count"]);
    let count_of_kind = |kind: &str| {
        let of_kind: Vec<_> = counters
            .iter()
            .filter(|row| row["kind"] == kind)
            .cloned()
            .collect();
        sum(&of_kind, "count")
    };
    assert_eq!(
        sum(workers, "rx_packets"),
        sum(workers, "forwarded") + sum(workers, "dropped") + sum(workers, "punted")
    );
    assert_eq!(count("rx_packets"), sum(workers, "rx_packets"));
    assert_eq!(count("forwarded"), sum(workers, "forwarded"));
    assert_eq!(count_of_kind("punt"), sum(workers, "punted"));
    assert!(count_of_kind("drop") >= sum(workers, "dropped"));
    let statistics = |row: &Value, field: &str| number(&row["statistics"][field]);
    let all: Vec<_> = rows("services", &services).to_vec();
    let of_services =
        |field: &str| -> u64 { all.iter().map(|service| statistics(service, field)).sum() };
    assert_eq!(of_services("connections"), 50);
    assert_eq!(of_services("in_packets"), director.tunnelled());
    for service in &all {
        let servers = service["servers"].as_array().unwrap();
        for field in ["connections", "in_packets", "in_bytes"] {
            let of_servers: u64 = servers.iter().map(|server| statistics(server, field)).sum();
            assert_eq!(of_servers, statistics(service, field), "{field}");
        }
    }
    let connections = director.show("connections");
    assert_eq!(connections["total"], count("connections"));
    assert_eq!(rows("connections", &connections).len(), 50);
}

#[test]
fn tshark_decodes_tunnelled_packets_without_a_complaint() {
    const NAME: &str = "tshark_decodes_tunnelled_packets_without_a_complaint";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    for program in ["tcpdump", "tshark"] {
        if !has_program(program) {
            return skipped(
                NAME,
                &format!("{program} is missing; scripts/setup.sh --tests installs it"),
            );
        }
    }
    let director = lab.start_director(&lab.configuration());
    let capture = Capture::start(&lab, lab.server(1), "eth0");
    let body = vec![b'x'; 20_000];
    assert!(lab.connect().unwrap().put(&body).unwrap().is_intact);
    assert_eq!(lab.ask(5), [1; 5]);
    director.settle();
    let file = capture.stop();
    let decode = |filter: &str| {
        let output = Command::new("tshark")
            .arg("-r")
            .arg(&file)
            .args([
                "-o",
                "ip.check_checksum:TRUE",
                "-o",
                "tcp.check_checksum:TRUE",
            ])
            .args(["-Y", filter, "-T", "fields"])
            .args(["-e", "ip.src", "-e", "ip.dst", "-e", "tcp.dstport"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let tunnelled = decode("ip.proto == 4");
    assert_eq!(tunnelled.len() as u64, director.tunnelled());
    for line in &tunnelled {
        assert_eq!(line, "10.0.0.1,192.0.2.254\t10.0.0.11,198.51.100.10\t80");
    }
    // 0x800000 is the severity "error".
    let complaints = decode(
        "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 \
         || _ws.expert.severity >= 0x800000",
    );
    assert_eq!(complaints, [""; 0]);
    // Outer and inner checksums were both looked at and found good.
    let good = decode("ip.proto == 4 && ip.checksum.status == 1 && tcp.checksum.status == 1");
    assert_eq!(good, tunnelled);
}

#[test]
fn top_shows_servers_with_their_rates() {
    const NAME: &str = "top_shows_servers_with_their_rates";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let load = lab.load();
    wait_for("there is load", || director.counter("forwarded") > 100);
    let output = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["top", "--once", "--interval", "1", "--screen", "servers"])
        .args(["--filter", "tcp 10.0.0.12", "--socket"])
        .arg(lab.socket())
        .output()
        .unwrap();
    load.stop();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().last().unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        words[..3],
        ["10.0.0.12", "TCP", "198.51.100.10:80"],
        "{text}"
    );
    // Server, a service of two words, weight, connections; then rates, state.
    assert_eq!(words[3], "1", "{text}");
    let (rates, state) = words[4..].split_at(words.len() - 6);
    assert_eq!(state, ["up", "lan"], "{text}");
    for rate in &rates[rates.len() - 2..] {
        assert!(rate.parse::<f64>().unwrap() > 0.0, "{text}");
    }
}
