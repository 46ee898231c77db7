//! The metrics of a made-up director, before Prometheus' own linter.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::*;

fn facts() -> Facts {
    let statistics = json!({
        "connections": 5, "in_packets": 50, "in_bytes": 5000, "out_packets": 1, "out_bytes": 100,
    });
    let server = json!({
        "key": {"address": "10.0.0.11"},
        "options": {"weight": 3, "upper_threshold": 0, "lower_threshold": 0},
        "active_connections": 2, "inactive_connections": 4, "overloaded": false,
        "next_hop": {
            "state": "resolved", "port": "lan", "address": "10.0.0.11", "mac": "02:00:00:00:00:0b",
        },
        "path_mtu": 1500, "statistics": statistics,
    });
    let service = |key: Value| {
        json!({
            "key": key, "options": {"scheduler": "rr"}, "servers": [server],
            "statistics": statistics,
        })
    };
    let services = json!([
        service(json!({"protocol": "tcp", "address": "198.51.100.10:80"})),
        service(json!({"fwmark": 268_439_552, "ipv6": false})),
    ]);
    let director = json!({
        "version": "0.1.0", "pid": 1, "uptime_ms": 2500, "config_file": "/etc/p.toml",
        "generation": 7, "workers": 1, "workers_live": 1, "services": 2, "connections": 6,
        "timeouts": {}, "tunables": {},
        "state_file": {"path": "/s", "saves": 3, "errors": 1, "is_saved": true},
        "tables": [{"name": "services", "used": 2, "max": 131_072}],
    });
    let counters = json!([
        {"name": "connections", "kind": "other", "count": 6, "help": "connections at present"},
        {"name": "connections_opened", "kind": "other", "count": 9, "help": "connections opened"},
        {"name": "not_ip", "kind": "drop", "count": 3, "help": "neither IPv4 nor ARP"},
        {"name": "arp", "kind": "punt", "count": 4, "help": "an ARP packet"},
    ]);
    let workers = json!([{
        "index": 0, "core": 3, "generation": 7, "bursts": 10, "packets": 60,
        "packets_per_burst": 6.0, "busy_share": 0.25, "busy_cycles": 500, "total_cycles": 2000,
        "cycles_per_packet": 8.0, "tsc_hz": 1000, "connections": 6, "connections_max": 1024,
        "rx_packets": 60, "handed_over": 0, "taken_over": 0, "tx_handed_over": 0, "tx_packets": 53,
        "forwarded": 53, "punted": 4, "dropped": 3,
    }]);
    let ports = json!([{
        "name": "lan", "device": "net_tap0,iface=\"x\"", "driver": "net_tap",
        "mac": "02:00:00:00:00:01", "mtu": 1500, "vlan": null, "link_up": true,
        "speed_mbps": 10_000, "numa_node": null, "rx_queues": 1, "tx_queues": 1, "workers": 1,
        "capabilities": {
            "tx_ipv4_checksum": false, "tx_fast_free": false, "rx_ipv4_checksum": false,
            "rss": false,
        },
        "rx_burst_mode": null, "tx_burst_mode": null,
        "statistics": {
            "rx_packets": 60, "rx_bytes": 6000, "rx_missed": 0, "rx_errors": 0, "rx_no_buffer": 0,
            "tx_packets": 53, "tx_bytes": 6360, "tx_errors": 0,
        },
        "addresses": [],
    }]);
    let neighbor = |address: &str, state: &str| json!({"port": "lan", "address": address, "mac": null, "state": state, "age_ms": null});
    let neighbors = json!([
        neighbor("10.0.0.11", "REACHABLE"),
        neighbor("10.0.0.12", "REACHABLE"),
        neighbor("10.0.0.13", "FAILED"),
    ]);
    let total = Statistics {
        connections: 10,
        in_packets: 100,
        in_bytes: 10_000,
        out_packets: 2,
        out_bytes: 200,
    };
    Facts {
        total,
        director: serde_json::from_value(director).unwrap(),
        services: serde_json::from_value(services).unwrap(),
        counters: serde_json::from_value(counters).unwrap(),
        workers: serde_json::from_value(workers).unwrap(),
        ports: serde_json::from_value(ports).unwrap(),
        neighbors: serde_json::from_value(neighbors).unwrap(),
    }
}

/// Samples whose line begins so.
fn samples(text: &str, beginning: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with(beginning))
        .map(ToOwned::to_owned)
        .collect()
}

/// Names, labels and texts as in `node_exporter`'s `collector/ipvs_linux.go`
/// and its fixtures.
#[test]
fn the_metrics_of_node_exporter_have_its_names_labels_and_texts() {
    let text = render(&facts());
    for line in [
        "# HELP node_ipvs_connections_total The total number of connections made.",
        "# TYPE node_ipvs_connections_total counter",
        "node_ipvs_connections_total 10",
        "node_ipvs_incoming_packets_total 100",
        "node_ipvs_incoming_bytes_total 10000",
        "node_ipvs_outgoing_packets_total 2",
        "node_ipvs_outgoing_bytes_total 200",
        "# HELP node_ipvs_backend_weight The current backend weight by local and remote address.",
        "# TYPE node_ipvs_backend_weight gauge",
        "node_ipvs_backend_weight{local_address=\"198.51.100.10\",local_port=\"80\",\
         remote_address=\"10.0.0.11\",remote_port=\"80\",proto=\"TCP\",local_mark=\"\"} 3",
        "node_ipvs_backend_connections_active{local_address=\"\",local_port=\"0\",\
         remote_address=\"10.0.0.11\",remote_port=\"0\",proto=\"FWM\",local_mark=\"10001000\"} 2",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert_eq!(
        samples(&text, "node_ipvs_backend_connections_inactive{").len(),
        2
    );
}

#[test]
fn units_are_base_units_and_states_are_counted() {
    let text = render(&facts());
    for line in [
        "pointsman_uptime_seconds 2.5",
        "pointsman_drops_total{reason=\"not_ip\"} 3",
        "pointsman_punts_total{reason=\"arp\"} 4",
        "pointsman_connections_opened_total 9",
        "pointsman_worker_busy_seconds_total{worker=\"0\",core=\"3\"} 0.5",
        "pointsman_worker_seconds_total{worker=\"0\",core=\"3\"} 2",
        "pointsman_worker_busy_ratio{worker=\"0\",core=\"3\"} 0.25",
        "pointsman_port_speed_bytes{port=\"lan\"} 1250000000",
        "pointsman_port_info{port=\"lan\",device=\"net_tap0,iface=\\\"x\\\"\",driver=\"net_tap\",\
         mac=\"02:00:00:00:00:01\"} 1",
        "pointsman_neighbors{port=\"lan\",state=\"FAILED\"} 1",
        "pointsman_neighbors{port=\"lan\",state=\"REACHABLE\"} 2",
        "pointsman_table_entries{table=\"services\"} 2",
        "pointsman_table_entries_max{table=\"services\"} 131072",
        "pointsman_state_file_errors_total 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    // A gauge among the counters is a metric of its table.
    assert_eq!(samples(&text, "pointsman_connections_total"), [""; 0]);
}

#[test]
fn every_metric_begins_once_and_every_sample_belongs_to_it() {
    let text = render(&facts());
    let mut begun = BTreeSet::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            name = rest.split(' ').next().unwrap();
            assert!(begun.insert(name), "{name} begins twice");
        } else if !line.starts_with('#') {
            assert_eq!(line.split(['{', ' ']).next().unwrap(), name, "{line}");
        }
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!(
            "skipped: promtool_finds_nothing_to_complain_about: promtool is missing; \
             scripts/setup.sh --tests installs it"
        );
        return;
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(render(&facts()).as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
}

/// All words of a query that are names of ours or `node_exporter`'s.
fn metrics_in(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("pointsman_") || word.starts_with("node_ipvs_"))
}

fn queries<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text)
                        if name == "expr" || name == "query" || name == "definition" =>
                    {
                        found.push(text);
                    }
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../dpdk-config/grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    // The variable that picks a data source asks for a kind of them.
    found.retain(|query| *query != "prometheus");
    assert!(found.len() > 10, "{found:?}");
    let text = render(&facts());
    let names: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for query in found {
        let mut metrics = metrics_in(query).peekable();
        assert!(metrics.peek().is_some(), "{query}");
        for metric in metrics {
            assert!(names.contains(metric), "{metric} in {query}");
        }
    }
}

#[test]
fn the_document_has_every_metric_and_no_other() {
    let document = include_str!("../../../docs/counters.md");
    let documented: BTreeSet<_> = metrics_in(document).collect();
    let text = render(&facts());
    let names: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert_eq!(documented, names);
}
