//! `[director]` and `[eal]`.
use super::refused;

#[test]
fn no_worker_is_refused() {
    refused(
        r#"
[director]
workers = []
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `workers` is empty; write the core of at least one worker, such as `workers = [1]`
    workers = []
              ^^
",
    );
}

#[test]
fn worker_core_twice_is_refused() {
    refused(
        r#"
[director]
workers = [1, 2, 1]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: core 1 stands twice in `workers`; give each worker a core of its own
    workers = [1, 2, 1]
                     ^
",
    );
}

#[test]
fn worker_core_that_does_not_exist_is_refused() {
    refused(
        r#"
[director]
workers = [1, 4]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: this machine has no core 4; write one of its cores 0-3
    workers = [1, 4]
                  ^
",
    );
}

#[test]
fn management_core_that_does_not_exist_is_refused() {
    refused(
        r#"
[director]
management_core = 64
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: this machine has no core 64; write one of its cores 0-3
    management_core = 64
                      ^^
",
    );
}

#[test]
fn unknown_idle_policy_is_refused() {
    refused(
        r#"
[director]
idle = "sleep"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `idle` cannot be "sleep"; write "poll" or "adaptive"
    idle = "sleep"
           ^^^^^^^
"#,
    );
}

#[test]
fn too_few_connections_are_refused() {
    refused(
        r#"
[director]
connections_max = 100
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `connections_max` is 100; write a whole number from 1024 to 100000000 (connections of each worker, about 157 bytes each)
    connections_max = 100
                      ^^^
",
    );
}

#[test]
fn too_many_connections_are_refused() {
    refused(
        r#"
[director]
connections_max = 1_000_000_000
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `connections_max` is 1000000000; write a whole number from 1024 to 100000000 (connections of each worker, about 157 bytes each)
    connections_max = 1_000_000_000
                      ^^^^^^^^^^^^^
",
    );
}

#[test]
fn relative_control_socket_is_refused() {
    refused(
        r#"
[director]
control_socket = "run/control.sock"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `control_socket` is "run/control.sock"; write a path that begins with / and has at most 107 bytes
    control_socket = "run/control.sock"
                     ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn bad_netlink_socket_and_group_are_refused() {
    refused(
        r#"
[director]
netlink_socket = "ipvs.sock"
netlink_group = "load balancers"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `netlink_socket` is "ipvs.sock"; write a path that begins with / and has at most 107 bytes
    netlink_socket = "ipvs.sock"
                     ^^^^^^^^^^^
director.toml:3: "load balancers" cannot be a group; write 1 to 32 letters, digits, `-`, `_` or `.`
    netlink_group = "load balancers"
                    ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn negative_rate_is_refused() {
    refused(
        r#"
[director]
icmp_rate_per_s = -1
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `icmp_rate_per_s` is -1; write a whole number from 0 to 4294967295 (0 is no limit)
    icmp_rate_per_s = -1
                      ^^
",
    );
}

#[test]
fn timeout_zero_is_refused() {
    refused(
        r#"
[director.timeouts]
udp = 0
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `udp` is 0; write a whole number from 1 to 2678400 seconds (31 days)
    udp = 0
          ^
",
    );
}

#[test]
fn timeout_above_a_month_is_refused() {
    refused(
        r#"
[director.timeouts]
tcp = 900_000_000
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `tcp` is 900000000; write a whole number from 1 to 2678400 seconds (31 days)
    tcp = 900_000_000
          ^^^^^^^^^^^
",
    );
}

#[test]
fn reuse_mode_out_of_range_is_refused() {
    refused(
        r#"
[director.ipvs]
conn_reuse_mode = 4
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r"
director.toml:2: `conn_reuse_mode` is 4; write a whole number from 0 to 3
    conn_reuse_mode = 4
                      ^
",
    );
}

#[test]
fn unknown_kind_of_hugepages_is_refused() {
    refused(
        r#"
[eal]
hugepages = "yes"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `hugepages` cannot be "yes"; write "auto", "required" or "none"
    hugepages = "yes"
                ^^^^^
"#,
    );
}

#[test]
fn memory_too_small_for_the_buffers_is_refused() {
    refused(
        r#"
[eal]
memory_mib = 64
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mtu = 9000
rx_descriptors = 4096
"#,
        r"
director.toml:2: `memory_mib` is 64, but packet buffers and DPDK itself take 181 MiB; write `memory_mib = 181` or more, or fewer descriptors or workers
    memory_mib = 64
                 ^^
",
    );
}

#[test]
fn odd_file_prefix_is_refused() {
    refused(
        r#"
[eal]
file_prefix = "a/b"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: "a/b" cannot be a file prefix; write 1 to 32 letters, digits, `-`, `_` or `.`
    file_prefix = "a/b"
                  ^^^^^
"#,
    );
}

#[test]
fn reserved_eal_argument_names_its_key() {
    refused(
        r#"
[eal]
extra_arguments = ["-l", "1-3"]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `extra_arguments` cannot hold -l, which the director sets itself; write `workers` in [director]
    extra_arguments = ["-l", "1-3"]
                       ^^^^
"#,
    );
}

#[test]
fn state_file_that_is_no_path_is_refused() {
    refused(
        r#"
[director]
state_file = "no"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: `state_file` is "no"; write a path that begins with /, or "none" to keep nothing
    state_file = "no"
                 ^^^^
"#,
    );
}
