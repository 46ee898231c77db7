//! What works but is probably not meant.
use std::collections::BTreeMap;

use pointsman::config::{self, Machine};

use super::{doubted, machine};

/// Warnings about a NIC on node 1 of two nodes with two cores each.
fn doubts_about_nodes(workers: &str) -> Vec<String> {
    let machine = Machine {
        core_nodes: BTreeMap::from([(0, 0), (1, 0), (2, 1), (3, 1)]),
        nic_nodes: BTreeMap::from([("0000:0a:00.0".to_owned(), 1)]),
        ..machine()
    };
    let text = format!(
        "[director]\nworkers = {workers}\n[[port]]\nname = \"lan\"\ndevice = \"0000:0a:00.0\"\n\
         addresses = [\"192.0.2.10/24\"]\n[[port]]\nname = \"wan\"\ndevice = \"0000:0b:00.0\"\n\
         addresses = [\"192.0.3.10/24\"]\n"
    );
    let loaded = config::parse_for(&text, "director.toml", &machine).expect(&text);
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn workers_on_another_node_than_the_nic_are_doubtful() {
    assert_eq!(
        doubts_about_nodes("[0, 1, 2]"),
        [
            "director.toml:5: warning: this NIC is on NUMA node 1, and workers on cores 0, 1 are \
             on others: each of their packets crosses between nodes; write cores of node 1 in \
             `workers` (2, 3)\n    device = \"0000:0a:00.0\"\n             ^^^^^^^^^^^^^^"
        ]
    );
    assert!(doubts_about_nodes("[2, 3]").is_empty());
}

#[test]
fn management_on_a_worker_core_is_doubtful() {
    doubted(
        r#"
[director]
workers = [1]
management_core = 1
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:3: warning: core 1 is a worker's and `management_core` too; both get slower, write another core if the machine has one
    management_core = 1
                      ^
",
    );
}

#[test]
fn service_without_real_servers_is_doubtful() {
    doubted(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
"#,
        r#"
director.toml:6: warning: service TCP 198.51.100.10:80 has no real server; clients are refused until one is added
    address = "198.51.100.10:80"
              ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn service_with_all_servers_quiesced_is_doubtful() {
    doubted(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
weight = 0
"#,
        r#"
director.toml:6: warning: all real servers of TCP 198.51.100.10:80 have weight 0; new clients are refused until one gets a weight
    address = "198.51.100.10:80"
              ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn foreign_source_is_doubtful() {
    doubted(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.1"
source = "203.0.113.5"
"#,
        r#"
director.toml:8: warning: 203.0.113.5 is no address of this director, so ICMP errors from the tunnels do not come back; write one of a port's `addresses` if path MTU discovery must work
    source = "203.0.113.5"
             ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn real_server_behind_a_blackhole_is_doubtful() {
    doubted(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "10.0.0.11"
[[route]]
to = "10.0.0.0/8"
type = "blackhole"
"#,
        r#"
director.toml:8: warning: real server 10.0.0.11 stands behind the route to 10.0.0.0/8, which sends nothing; clients get unreachable errors
    address = "10.0.0.11"
              ^^^^^^^^^^^
"#,
    );
}
