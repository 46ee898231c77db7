//! `[[service]]`.
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

#[test]
fn outer_sources_of_bad_length_or_family_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
outer_source = "10.0.0.0/8"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:81"
outer_source = "10.9.0.1/32"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:82"
outer_source = "2001:db8:9::/64"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:83"
outer_source = "10.9.0.1/24"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:84"
outer_source = "10.9.0.1"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:85"
outer_source = "127.9.0.0/24"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:86"
outer_source = "2001:db8:9::/112"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:7: `outer_source` cannot be 10.0.0.0/8; write a prefix length from 16 to 31
    outer_source = "10.0.0.0/8"
                   ^^^^^^^^^^^^
director.toml:12: `outer_source` cannot be 10.9.0.1/32; write a prefix length from 16 to 31
    outer_source = "10.9.0.1/32"
                   ^^^^^^^^^^^^^
director.toml:17: `outer_source` cannot be 2001:db8:9::/64; write a prefix length from 112 to 127
    outer_source = "2001:db8:9::/64"
                   ^^^^^^^^^^^^^^^^^
director.toml:22: 10.9.0.1/24 has bits set behind its prefix length; write "10.9.0.0/24"
    outer_source = "10.9.0.1/24"
                   ^^^^^^^^^^^^^
director.toml:27: "10.9.0.1" lacks the length of its network; write for example "10.9.0.1/24"
    outer_source = "10.9.0.1"
                   ^^^^^^^^^^
director.toml:32: 127.9.0.0 is a loopback address and cannot be an outer source; write a unicast address
    outer_source = "127.9.0.0/24"
                   ^^^^^^^^^^^^^^
director.toml:37: `outer_source` is an IPv6 network, and all real servers have IPv4 addresses; write an IPv4 network, or remove it
    outer_source = "2001:db8:9::/112"
                   ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn outer_sources_that_something_else_has_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.254"
[[service]]
address = "198.51.100.10:80"
outer_source = "192.0.2.8/29"
[[service.real_server]]
address = "192.0.2.21"
[[service]]
address = "198.51.100.10:81"
outer_source = "192.0.2.20/30"
[[service.real_server]]
address = "192.0.2.21"
[[service]]
address = "198.51.100.10:82"
outer_source = "198.51.0.0/16"
[[service.real_server]]
address = "192.0.2.21"
[[service]]
address = "203.0.113.0/24:83"
outer_source = "203.0.113.64/26"
[[service.real_server]]
address = "192.0.2.21"
[[service]]
address = "198.51.100.10:84"
outer_source = "192.0.2.0/30"
[[service.real_server]]
address = "192.0.2.21"
[[service]]
address = "198.51.100.10:85"
outer_source = "192.0.2.254/31"
[[service.real_server]]
address = "192.0.2.21"
"#,
        r#"
director.toml:10: outer packets come from all of 192.0.2.8/29, and 192.0.2.10 is a port's address in line 4; write a network that nothing else has an address in
    outer_source = "192.0.2.8/29"
                   ^^^^^^^^^^^^^^
director.toml:15: outer packets come from all of 192.0.2.20/30, and 192.0.2.21 is a real server in line 12; write a network that nothing else has an address in
    outer_source = "192.0.2.20/30"
                   ^^^^^^^^^^^^^^^
director.toml:20: outer packets come from all of 198.51.0.0/16, and 198.51.100.10 is a VIP in line 9; write a network that nothing else has an address in
    outer_source = "198.51.0.0/16"
                   ^^^^^^^^^^^^^^^
director.toml:25: outer packets come from all of 203.0.113.64/26, and 203.0.113.64 is a VIP in line 24; write a network that nothing else has an address in
    outer_source = "203.0.113.64/26"
                   ^^^^^^^^^^^^^^^^^
director.toml:30: outer packets come from all of 192.0.2.0/30, and 192.0.2.0 is the network address of 192.0.2.0/24; write a network that leaves it out
    outer_source = "192.0.2.0/30"
                   ^^^^^^^^^^^^^^
director.toml:35: outer packets come from all of 192.0.2.254/31, and 192.0.2.254 is a gateway in line 7; write a network that nothing else has an address in
    outer_source = "192.0.2.254/31"
                   ^^^^^^^^^^^^^^^^
"#,
    );
}
