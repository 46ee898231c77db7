//! What works but is probably not meant.
use super::doubted;

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
