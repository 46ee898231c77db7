//! Mistakes with IPv6 addresses.

use super::refused;

#[test]
fn ipv6_network_without_length_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["2001:db8:1::1"]
"#,
        r#"
director.toml:4: "2001:db8:1::1" lacks the length of its network; write for example "2001:db8:1::1/64"
    addresses = ["2001:db8:1::1"]
                 ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn subnet_router_anycast_address_cannot_be_a_ports() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["2001:db8:1::/64"]
"#,
        r#"
director.toml:4: 2001:db8:1:: is the subnet-router anycast address of 2001:db8:1::/64 and cannot be a port's address; write a host's address
    addresses = ["2001:db8:1::/64"]
                 ^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn unspecified_ipv6_address_cannot_be_a_ports() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["::/64"]
"#,
        r#"
director.toml:4: :: is the unspecified address and cannot be a port's address; write a unicast address
    addresses = ["::/64"]
                 ^^^^^^^
"#,
    );
}

#[test]
fn loopback_ipv6_address_cannot_be_a_ports() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["::1/64"]
"#,
        r#"
director.toml:4: ::1 is the loopback address and cannot be a port's address; write a unicast address
    addresses = ["::1/64"]
                 ^^^^^^^^
"#,
    );
}

#[test]
fn multicast_ipv6_address_cannot_be_a_ports() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["ff02::1/64"]
"#,
        r#"
director.toml:4: ff02::1 is a multicast address and cannot be a port's address; write a unicast address
    addresses = ["ff02::1/64"]
                 ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv4_mapped_ipv6_address_cannot_be_a_ports() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["::ffff:192.0.2.1/64"]
"#,
        r#"
director.toml:4: ::ffff:192.0.2.1 is an IPv4-mapped address and cannot be a port's address; write a unicast address
    addresses = ["::ffff:192.0.2.1/64"]
                 ^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn port_too_narrow_for_ipv6_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
mtu = 1279
addresses = ["2001:db8:1::1/64"]
"#,
        r"
director.toml:4: `mtu` 1279 is too small for IPv6; write 1280 or more, or remove the IPv6 addresses
    mtu = 1279
          ^^^^
",
    );
}

#[test]
fn overlapping_ipv6_networks_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["2001:db8:1::1/64"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["2001:db8:1::2/80"]
"#,
        r#"
director.toml:8: 2001:db8:1::/80 overlaps 2001:db8:1::/64 of port "wan"; give each port a network of its own, or use one port
    addresses = ["2001:db8:1::2/80"]
                 ^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn route_too_narrow_for_ipv6_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "2001:db8:2::/64"
via = "2001:db8:1::fe"
mtu = 1000
"#,
        r"
director.toml:8: `mtu` 1000 is too small for IPv6; write 1280 or more, or remove the IPv6 addresses
    mtu = 1000
          ^^^^
",
    );
}

#[test]
fn ipv6_route_via_an_ipv4_gateway_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "2001:db8:2::/64"
via = "192.0.2.1"
"#,
        r#"
director.toml:7: the route to 2001:db8:2::/64 is for IPv6, and `via` is not; write an IPv6 address
    via = "192.0.2.1"
          ^^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv4_route_with_an_ipv6_source_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "10.0.0.0/8"
via = "192.0.2.1"
source = "2001:db8:1::1"
"#,
        r#"
director.toml:8: the route to 10.0.0.0/8 is for IPv4, and `source` is not; write an IPv4 address
    source = "2001:db8:1::1"
             ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn link_local_gateway_without_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "default"
via = "fe80::1"
"#,
        r#"
director.toml:7: gateway fe80::1 is a link-local address, which could be on any port; write the `port` too
    via = "fe80::1"
          ^^^^^^^^^
"#,
    );
}

#[test]
fn link_local_source_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "2001:db8:2::/64"
via = "2001:db8:1::fe"
source = "fe80::1"
"#,
        r#"
director.toml:8: fe80::1 is a link-local address and cannot be a source; write one that is valid beyond the link
    source = "fe80::1"
             ^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_gateway_on_no_network_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "default"
via = "2001:db8:9::1"
"#,
        r#"
director.toml:7: gateway 2001:db8:9::1 is on no network of any port; write an address in 2001:db8:1::/64
    via = "2001:db8:9::1"
          ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn second_ipv6_default_route_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[route]]
to = "default"
via = "2001:db8:1::fe"
[[route]]
to = "::/0"
via = "2001:db8:1::fd"
"#,
        r#"
director.toml:9: there is a route to ::/0 already in line 6; remove one of them
    to = "::/0"
         ^^^^^^
"#,
    );
}

#[test]
fn ipv6_route_out_of_a_port_without_ipv6_address_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "2001:db8:2::/64"
port = "wan"
"#,
        r#"
director.toml:5: port "wan" has no IPv6 address to send from; give it `addresses`, or the route a `source`
    [[route]]
    ^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_vip_without_service_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "2001:db8:ff::10"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: "2001:db8:ff::10" lacks the service port; write for example "[2001:db8:ff::10]:80"
    address = "2001:db8:ff::10"
              ^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn link_local_vip_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "[fe80::10]:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: fe80::10 is a link-local address and cannot be a VIP; write one that is valid beyond the link
    address = "[fe80::10]:80"
              ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn link_local_real_server_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "[2001:db8:ff::10]:80"
[[service.real_server]]
address = "fe80::11"
"#,
        r#"
director.toml:8: fe80::11 is a link-local address and cannot be a real server; write one that is valid beyond the link
    address = "fe80::11"
              ^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_real_server_with_a_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "[2001:db8:ff::10]:80"
[[service.real_server]]
address = "[2001:db8:1::11]:80"
"#,
        r#"
director.toml:8: a real server has no port of its own, since a tunnelled packet keeps its destination port; write "2001:db8:1::11"
    address = "[2001:db8:1::11]:80"
              ^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_real_server_without_a_route_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "198.51.100.10:80"
[[service.real_server]]
address = "2001:db8:2::11"
"#,
        r#"
director.toml:8: no route leads to real server 2001:db8:2::11; write a [[route]] with `to = "2001:db8:2::11/128"` (or its network, or "default") and `via = "GATEWAY"`
    address = "2001:db8:2::11"
              ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_vip_that_is_a_ports_address_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "[2001:db8:1::1]:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:6: 2001:db8:1::1 is a VIP and, in line 4, a port's address; give the service an address that nothing else has
    address = "[2001:db8:1::1]:80"
              ^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_service_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[service]]
address = "[2001:db8:ff::10]:80"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "[2001:db8:ff:0::10]:80"
[[service.real_server]]
address = "192.0.2.11"
"#,
        r#"
director.toml:10: service TCP [2001:db8:ff::10]:80 stands already in line 6; put all real servers into one [[service]]
    address = "[2001:db8:ff:0::10]:80"
              ^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn ipv6_neighbor_on_another_network_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "2001:db8:1::1/64"]
[[neighbor]]
port = "wan"
address = "2001:db8:9::1"
mac = "02:00:00:00:c0:00"
"#,
        r#"
director.toml:7: neighbor 2001:db8:9::1 is on no network of port "wan"; write an address in 2001:db8:1::/64
    address = "2001:db8:9::1"
              ^^^^^^^^^^^^^^^
"#,
    );
}
