//! `[[service]]` and `[[service.real_server]]`.
use super::refused;

#[test]
fn service_without_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: "198.51.100.10" lacks the service port; write for example "198.51.100.10:80"
    address = "198.51.100.10"
              ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn service_port_zero_without_persistence_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:0"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: service port 0 stands for all ports, on which clients find their real server by persistence; write `persistence_s = 360` too, or one [[service]] for each service port
    address = "198.51.100.10:0"
              ^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn persistence_out_of_range_and_without_a_timeout_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
persistence_s = 0
persistence_prefix_len = 33
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:81"
persistence_prefix_len = 24
[[service.real_server]]
address = "192.0.2.11"
"#,
        r"
director.toml:7: `persistence_s` is 0; write a whole number from 1 to 2678400 seconds (31 days)
    persistence_s = 0
                    ^
director.toml:8: `persistence_prefix_len` is 33; write a whole number from 1 to 32
    persistence_prefix_len = 33
                             ^^
director.toml:13: `persistence_prefix_len` is for persistent services; write `persistence_s` too
    persistence_prefix_len = 24
                             ^^
",
    );
}

#[test]
fn marks_that_no_packet_has_and_other_words_beside_a_mark_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[fwmark]]
vips = ["198.51.100.300", "198.51.100.1/24", "0.0.0.0/0"]
protocols = ["icmp"]
ports = ["80-70", "0"]
[[service]]
fwmark = 6
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:80"
ipv6 = true
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:5: [[fwmark]] has no `number`; write for example `number = 5`
    [[fwmark]]
    ^^^^^^^^^^
director.toml:6: "198.51.100.300" is not an IP address with its prefix length; write for example "198.51.100.0/24"
    vips = ["198.51.100.300", "198.51.100.1/24", "0.0.0.0/0"]
            ^^^^^^^^^^^^^^^^
director.toml:6: 198.51.100.1/24 has bits set behind its prefix length; write "198.51.100.0/24"
    vips = ["198.51.100.300", "198.51.100.1/24", "0.0.0.0/0"]
                              ^^^^^^^^^^^^^^^^^
director.toml:6: 0.0.0.0/0 would take every packet for a VIP; write the networks that are yours
    vips = ["198.51.100.300", "198.51.100.1/24", "0.0.0.0/0"]
                                                 ^^^^^^^^^^^
director.toml:7: `protocols` holds a text where "tcp", "udp" or "sctp" must stand; write for example `protocols = ["tcp"]`
    protocols = ["icmp"]
                 ^^^^^^
director.toml:8: "80-70" is no port and no range of ports; write for example "80" or "8000-8999"
    ports = ["80-70", "0"]
             ^^^^^^^
director.toml:8: "0" is no port and no range of ports; write for example "80" or "8000-8999"
    ports = ["80-70", "0"]
                      ^^^
director.toml:10: no [[fwmark]] has this number; add one that says which packets have `number = 6`
    fwmark = 6
             ^
director.toml:11: a service by `fwmark` has the packets that [[fwmark]] says; remove `address`, or `fwmark`
    address = "198.51.100.10:80"
              ^^^^^^^^^^^^^^^^^^
director.toml:16: `ipv6` is for services by `fwmark`, an address says it itself; remove it
    ipv6 = true
           ^^^^
"#,
    );
}

#[test]
fn networks_of_vips_hold_nothing_else() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.254"
[[fwmark]]
number = 5
vips = ["192.0.2.248/29"]
[[service]]
address = "192.0.2.8/29:80"
[[service.real_server]]
address = "10.0.0.11"
[[service]]
address = "10.0.0.0/28:0"
persistence_s = 60
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:10: 192.0.2.248/29 is for VIPs and holds 192.0.2.254, which is a gateway in line 7; write smaller networks that leave it out
    vips = ["192.0.2.248/29"]
            ^^^^^^^^^^^^^^^^
director.toml:12: 192.0.2.8/29 is for VIPs and holds 192.0.2.10, which is a port's address in line 4; write smaller networks that leave it out
    address = "192.0.2.8/29:80"
              ^^^^^^^^^^^^^^^^^
director.toml:16: 10.0.0.0/28 is for VIPs and holds 10.0.0.11, which is a real server in line 14; write smaller networks that leave it out
    address = "10.0.0.0/28:0"
              ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn service_port_out_of_range_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80000"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: "198.51.100.10:80000" is not a VIP with a service port; write for example "198.51.100.10:80" or "[2001:db8::10]:80"
    address = "198.51.100.10:80000"
              ^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn multicast_vip_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "224.0.0.18:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: 224.0.0.18 is a multicast address and cannot be a VIP; write a unicast address
    address = "224.0.0.18:80"
              ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn any_address_as_vip_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "0.0.0.0:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: 0.0.0.0 is an address of 0.0.0.0/8 and cannot be a VIP; write a unicast address
    address = "0.0.0.0:80"
              ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn service_twice_is_refused() {
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
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:10: service TCP 198.51.100.10:80 stands already in line 6; put all real servers into one [[service]]
    address = "198.51.100.10:80"
              ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn unknown_protocol_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
protocol = "dccp"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:7: `protocol` cannot be "dccp"; write "tcp", "udp" or "sctp"
    protocol = "dccp"
               ^^^^^^
"#,
    );
}

#[test]
fn unknown_scheduler_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
scheduler = "maglev"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:7: `scheduler` cannot be "maglev"; write "rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "fo", "ovf", "lblc", "lblcr" or "twos"
    scheduler = "maglev"
                ^^^^^^^^
"#,
    );
}

#[test]
fn own_address_as_vip_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "192.0.2.10:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: 192.0.2.10 is a VIP and, in line 4, a port's address; give the service an address that nothing else has
    address = "192.0.2.10:80"
              ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn broadcast_address_as_vip_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "192.0.2.255:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: 192.0.2.255 is the broadcast address of 192.0.2.0/24 and cannot be a VIP; write a host's address
    address = "192.0.2.255:80"
              ^^^^^^^^^^^^^^^^
"#,
    );
}

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

#[test]
fn all_mistakes_are_reported_in_order() {
    refused(
        r#"
[director]
workers = [9]
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mtu = 1
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "192.0.2.11"
weight = 2147483648
"#,
        r"
director.toml:2: this machine has no core 9; write one of its cores 0-3
    workers = [9]
               ^
director.toml:7: `mtu` is 1; write a whole number from 68 to 9702 bytes
    mtu = 1
          ^
director.toml:12: `weight` is 2147483648; write a whole number from 0 to 2147483647
    weight = 2147483648
             ^^^^^^^^^^
",
    );
}

#[test]
fn one_packet_scheduling_of_tcp_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
one_packet = true
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:7: one-packet scheduling is for UDP services only; write `protocol = "udp"`, or remove `one_packet`
    one_packet = true
                 ^^^^
"#,
    );
}
