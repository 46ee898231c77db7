//! `[[service.real_server]]`.

use super::refused;

#[test]
fn own_address_as_real_server_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.10"
"#,
        r#"
director.toml:8: 192.0.2.10 is a real server and, in line 4, a port's address; write the address at which the real server itself is reached
    address = "192.0.2.10"
              ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn vip_as_real_server_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "198.51.100.10"
[[route]]
to = "default"
via = "192.0.2.1"
"#,
        r#"
director.toml:8: 198.51.100.10 is a real server and, in line 6, a VIP; write the address at which the real server itself is reached
    address = "198.51.100.10"
              ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn real_server_with_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11:8080"
"#,
        r#"
director.toml:8: a real server has no port of its own, since a tunnelled packet keeps its destination port; write "192.0.2.11"
    address = "192.0.2.11:8080"
              ^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn real_server_by_name_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "web1.example.net"
"#,
        r#"
director.toml:8: "web1.example.net" is not an IP address; write for example "10.0.0.11"
    address = "web1.example.net"
              ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn real_server_without_address_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
weight = 1
"#,
        r#"
director.toml:7: [[service.real_server]] has no `address`; write for example `address = "10.0.0.11"`
    [[service.real_server]]
    ^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn real_server_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:10: real server 192.0.2.11 stands already in line 8 of this service; give it a higher `weight` instead
    address = "192.0.2.11"
              ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn real_server_without_route_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "10.0.0.11"
"#,
        r#"
director.toml:8: no route leads to real server 10.0.0.11; write a [[route]] with `to = "10.0.0.11/32"` (or its network, or "default") and `via = "GATEWAY"`
    address = "10.0.0.11"
              ^^^^^^^^^^^
"#,
    );
}

#[test]
fn weight_out_of_range_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
weight = 2147483648
"#,
        r"
director.toml:9: `weight` is 2147483648; write a whole number from 0 to 2147483647
    weight = 2147483648
             ^^^^^^^^^^
",
    );
}

#[test]
fn negative_weight_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
weight = -1
"#,
        r"
director.toml:9: `weight` is -1; write a whole number from 0 to 2147483647
    weight = -1
             ^^
",
    );
}

#[test]
fn crossed_thresholds_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
upper_threshold = 100
lower_threshold = 200
"#,
        r"
director.toml:10: `lower_threshold` 200 is above `upper_threshold` 100; write a lower one, or leave it out for three quarters of the upper one
    lower_threshold = 200
                      ^^^
",
    );
}

#[test]
fn lower_threshold_alone_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
lower_threshold = 200
"#,
        r"
director.toml:9: `lower_threshold` 200 has no effect without `upper_threshold`; write that too, or remove this one
    lower_threshold = 200
                      ^^^
",
    );
}

#[test]
fn unknown_tunnel_is_refused_alone() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
tunnel = "vxlan"
tunnel_port = 4789
"#,
        r#"
director.toml:9: `tunnel` cannot be "vxlan"; write "ipip", "gue" or "gre"
    tunnel = "vxlan"
             ^^^^^^^
"#,
    );
}

#[test]
fn tunnel_port_of_gre_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
tunnel = "gre"
tunnel_port = 6080
"#,
        r#"
director.toml:10: `tunnel_port` is for `tunnel = "gue"` only; write that too, or remove this one
    tunnel_port = 6080
                  ^^^^
"#,
    );
}

#[test]
fn tunnel_checksum_of_ipip_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
tunnel_checksum = true
"#,
        r#"
director.toml:9: `tunnel_checksum` is for `tunnel = "gue"` and `"gre"` only; write that too, or remove this one
    tunnel_checksum = true
                      ^^^^
"#,
    );
}

#[test]
fn remote_checksum_of_gre_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
tunnel = "gre"
tunnel_remote_checksum = true
"#,
        r#"
director.toml:10: `tunnel_remote_checksum` is for `tunnel = "gue"` only; write that too, or remove this one
    tunnel_remote_checksum = true
                             ^^^^
"#,
    );
}

#[test]
fn remote_checksum_without_the_outer_one_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
tunnel = "gue"
tunnel_checksum = false
tunnel_remote_checksum = true
"#,
        r"
director.toml:10: `tunnel_remote_checksum` needs the checksum of the outer header; write `tunnel_checksum = true` or remove it
    tunnel_checksum = false
                      ^^^^^
",
    );
}

#[test]
fn tunnel_port_0_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
tunnel = "gue"
tunnel_port = 0
"#,
        r"
director.toml:10: `tunnel_port` is 0; write a whole number from 1 to 65535
    tunnel_port = 0
                  ^
",
    );
}
