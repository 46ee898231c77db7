//! `[[route]]` and `[[neighbor]]`.
use super::refused;

#[test]
fn route_with_host_bits_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "10.1.2.3/16"
via = "192.0.2.1"
"#,
        r#"
director.toml:6: 10.1.2.3/16 has bits set behind its prefix length; write "10.1.0.0/16"
    to = "10.1.2.3/16"
         ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn route_without_prefix_length_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "10.1.2.3"
via = "192.0.2.1"
"#,
        r#"
director.toml:6: "10.1.2.3" lacks the length of its network; write for example "10.1.2.3/32"
    to = "10.1.2.3"
         ^^^^^^^^^^
"#,
    );
}

#[test]
fn route_to_nowhere_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "10.1.0.0/16"
"#,
        r"
director.toml:5: the route to 10.1.0.0/16 has neither `via` nor `port`; write the gateway's address as `via`, or the `port` when the destination is on its link
    [[route]]
    ^^^^^^^^^
",
    );
}

#[test]
fn route_without_destination_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
via = "192.0.2.1"
"#,
        r#"
director.toml:5: [[route]] has no `to`; write for example `to = "10.1.0.0/16"`
    [[route]]
    ^^^^^^^^^
"#,
    );
}

#[test]
fn route_to_no_network_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "everywhere"
via = "192.0.2.1"
"#,
        r#"
director.toml:6: "everywhere" is not an IP address with its prefix length; write for example "10.1.0.0/16" or "default"
    to = "everywhere"
         ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn gateway_that_is_not_connected_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "203.0.113.1"
"#,
        r#"
director.toml:7: gateway 203.0.113.1 is on no network of any port; write an address in 192.0.2.0/24
    via = "203.0.113.1"
          ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn gateway_on_another_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.0.0.1/24"]
[[route]]
to = "default"
via = "192.0.2.1"
port = "lan"
"#,
        r#"
director.toml:11: gateway 192.0.2.1 is on no network of port "lan"; write an address in 10.0.0.0/24
    via = "192.0.2.1"
          ^^^^^^^^^^^
"#,
    );
}

#[test]
fn own_address_as_gateway_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.10"
"#,
        r#"
director.toml:7: 192.0.2.10 is a gateway and, in line 4, a port's address; write the router's own address
    via = "192.0.2.10"
          ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn broadcast_address_as_gateway_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.255"
"#,
        r#"
director.toml:7: 192.0.2.255 is the broadcast address of 192.0.2.0/24 and cannot be a gateway; write a host's address
    via = "192.0.2.255"
          ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn unknown_port_of_a_route_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "10.1.0.0/16"
port = "wlan"
"#,
        r#"
director.toml:7: there is no port "wlan"; write "wan"
    port = "wlan"
           ^^^^^^
"#,
    );
}

#[test]
fn route_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.1"
[[route]]
to = "0.0.0.0/0"
via = "192.0.2.2"
"#,
        r#"
director.toml:9: there is a route to 0.0.0.0/0 already in line 6; remove one of them
    to = "0.0.0.0/0"
         ^^^^^^^^^^^
"#,
    );
}

#[test]
fn route_to_a_connected_network_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "192.0.2.0/24"
via = "192.0.2.1"
"#,
        r#"
director.toml:6: 192.0.2.0/24 is the network of port "wan" itself; remove this route
    to = "192.0.2.0/24"
         ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn multicast_source_of_a_route_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.1"
source = "224.0.0.1"
"#,
        r#"
director.toml:8: 224.0.0.1 is a multicast address and cannot be a source; write a unicast address
    source = "224.0.0.1"
             ^^^^^^^^^^^
"#,
    );
}

#[test]
fn route_mtu_above_the_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "default"
via = "192.0.2.1"
mtu = 1501
"#,
        r#"
director.toml:8: the route's `mtu` 1501 is above that of port "wan"; write 1500 or less
    mtu = 1501
          ^^^^
"#,
    );
}

#[test]
fn blackhole_with_gateway_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "10.0.0.0/8"
type = "blackhole"
via = "192.0.2.1"
"#,
        r#"
director.toml:8: a route of type "blackhole" sends nothing, so it has no `via`; remove the key or the type
    via = "192.0.2.1"
          ^^^^^^^^^^^
"#,
    );
}

#[test]
fn unknown_type_of_route_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[route]]
to = "10.0.0.0/8"
type = "prohibit"
"#,
        r#"
director.toml:7: `type` cannot be "prohibit"; write "unicast", "unreachable" or "blackhole"
    type = "prohibit"
           ^^^^^^^^^^
"#,
    );
}

#[test]
fn route_out_of_a_port_without_address_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = []
[[route]]
to = "10.0.0.0/8"
port = "wan"
"#,
        r#"
director.toml:5: port "wan" has no IPv4 address to send from; give it `addresses`, or the route a `source`
    [[route]]
    ^^^^^^^^^
"#,
    );
}

#[test]
fn neighbor_of_another_network_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[neighbor]]
port = "wan"
address = "10.0.0.1"
mac = "02:00:00:00:00:01"
"#,
        r#"
director.toml:7: neighbor 10.0.0.1 is on no network of port "wan"; write an address in 192.0.2.0/24
    address = "10.0.0.1"
              ^^^^^^^^^^
"#,
    );
}

#[test]
fn neighbor_without_mac_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[neighbor]]
port = "wan"
address = "192.0.2.1"
"#,
        r#"
director.toml:5: [[neighbor]] has no `mac`; write for example `mac = "02:00:00:00:00:fe"`
    [[neighbor]]
    ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn neighbor_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[neighbor]]
port = "wan"
address = "192.0.2.1"
mac = "02:00:00:00:00:01"
[[neighbor]]
port = "wan"
address = "192.0.2.1"
mac = "02:00:00:00:00:01"
"#,
        r#"
director.toml:11: neighbor 192.0.2.1 stands already in line 7; remove one of them
    address = "192.0.2.1"
              ^^^^^^^^^^^
"#,
    );
}
