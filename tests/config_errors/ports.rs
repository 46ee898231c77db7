//! `[[port]]`.
use super::refused;

#[test]
fn file_without_ports_is_refused() {
    refused(
        r"
[director]
workers = [1]
",
        r"
director.toml: there is no [[port]]; write at least one with `name`, `device` and `addresses`, dpdk-config/ has samples
",
    );
}

#[test]
fn empty_file_is_refused() {
    refused(
        r"
",
        r"
director.toml: there is no [[port]]; write at least one with `name`, `device` and `addresses`, dpdk-config/ has samples
",
    );
}

#[test]
fn port_without_name_and_device_is_refused() {
    refused(
        r#"
[[port]]
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:1: [[port]] has no `name`; write for example `name = "wan"`
    [[port]]
    ^^^^^^^^
director.toml:1: [[port]] has no `device`; write for example `device = "0000:01:00.0"`
    [[port]]
    ^^^^^^^^
"#,
    );
}

#[test]
fn port_name_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[port]]
name = "wan"
device = "net_null1"
addresses = ["203.0.113.10/24"]
"#,
        r#"
director.toml:6: port "wan" stands already in line 2; give each port a name of its own
    name = "wan"
           ^^^^^
"#,
    );
}

#[test]
fn odd_port_name_is_refused() {
    refused(
        r#"
[[port]]
name = "uplink 1"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:2: "uplink 1" cannot be a port name; write 1 to 32 letters, digits, `-`, `_` or `.`
    name = "uplink 1"
           ^^^^^^^^^^
"#,
    );
}

#[test]
fn device_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[port]]
name = "lan"
device = "net_null0"
addresses = ["203.0.113.10/24"]
"#,
        r#"
director.toml:7: device "net_null0" stands already in line 3; give each port a device of its own
    device = "net_null0"
             ^^^^^^^^^^^
"#,
    );
}

#[test]
fn same_pci_device_in_capitals_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "0000:0a:00.0"
addresses = ["192.0.2.10/24"]
[[port]]
name = "lan"
device = "0000:0A:00.0"
addresses = ["203.0.113.10/24"]
"#,
        r#"
director.toml:7: device "0000:0a:00.0" stands already in line 3; give each port a device of its own
    device = "0000:0A:00.0"
             ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn short_pci_address_gets_its_domain() {
    refused(
        r#"
[[port]]
name = "wan"
device = "01:00.0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "01:00.0" cannot be a port's `device`; write the PCI address as "0000:01:00.0"
    device = "01:00.0"
             ^^^^^^^^^
"#,
    );
}

#[test]
fn impossible_pci_address_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "0000:01:00.9"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "0000:01:00.9" cannot be a port's `device`; write a PCI address such as "0000:01:00.0" or a virtual device such as "net_af_packet0,iface=veth0"
    device = "0000:01:00.9"
             ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn kernel_interface_is_explained() {
    refused(
        r#"
[[port]]
name = "wan"
device = "eth0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "eth0" cannot be a port's `device`; if that is a kernel interface, write its PCI address (scripts/bind-nic.sh shows it), or "net_af_packet0,iface=eth0" to share it with the kernel
    device = "eth0"
             ^^^^^^
"#,
    );
}

#[test]
fn misspelt_driver_gets_the_nearest_one() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_afpacket0,iface=eth0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "net_afpacket0,iface=eth0" cannot be a port's `device`; did you mean "net_af_packet0"?
    device = "net_afpacket0,iface=eth0"
             ^^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn driver_without_number_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_tap"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "net_tap" cannot be a port's `device`; write a number behind the driver's name, "net_tap0"
    device = "net_tap"
             ^^^^^^^^^
"#,
    );
}

#[test]
fn driver_without_its_interface_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_af_packet0"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "net_af_packet0" cannot be a port's `device`; it needs an argument, write for example "net_af_packet0,iface=veth0"
    device = "net_af_packet0"
             ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn driver_argument_without_value_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_af_packet0,iface"
addresses = ["192.0.2.10/24"]
"#,
        r#"
director.toml:3: "net_af_packet0,iface" cannot be a port's `device`; write "iface" in the form key=value
    device = "net_af_packet0,iface"
             ^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn address_without_prefix_length_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10"]
"#,
        r#"
director.toml:4: "192.0.2.10" lacks the length of its network; write for example "192.0.2.10/24"
    addresses = ["192.0.2.10"]
                 ^^^^^^^^^^^^
"#,
    );
}

#[test]
fn address_out_of_range_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.300/24"]
"#,
        r#"
director.toml:4: "192.0.2.300/24" is not an IP address with its prefix length; write for example "192.0.2.1/24"
    addresses = ["192.0.2.300/24"]
                 ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn network_address_of_a_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.0/24"]
"#,
        r#"
director.toml:4: 192.0.2.0 is the network address of 192.0.2.0/24 and cannot be a port's address; write a host's address
    addresses = ["192.0.2.0/24"]
                 ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn broadcast_address_of_a_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.255/24"]
"#,
        r#"
director.toml:4: 192.0.2.255 is the broadcast address of 192.0.2.0/24 and cannot be a port's address; write a host's address
    addresses = ["192.0.2.255/24"]
                 ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn port_with_the_whole_internet_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/0"]
"#,
        r#"
director.toml:4: 192.0.2.10/0 would put every address on the port's own network; write its real prefix length, and [[route]] with `to = "default"` for the rest
    addresses = ["192.0.2.10/0"]
                 ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn loopback_address_of_a_port_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["127.0.0.1/8"]
"#,
        r#"
director.toml:4: 127.0.0.1 is a loopback address and cannot be a port's address; write a unicast address
    addresses = ["127.0.0.1/8"]
                 ^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn address_twice_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24", "192.0.2.10/24"]
"#,
        r#"
director.toml:4: 192.0.2.10 stands already in line 4; write each address once
    addresses = ["192.0.2.10/24", "192.0.2.10/24"]
                                  ^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn overlapping_networks_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["192.0.2.130/25"]
"#,
        r#"
director.toml:8: 192.0.2.128/25 overlaps 192.0.2.0/24 of port "wan"; give each port a network of its own, or use one port
    addresses = ["192.0.2.130/25"]
                 ^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn mtu_out_of_range_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mtu = 64000
"#,
        r"
director.toml:5: `mtu` is 64000; write a whole number from 68 to 9702 bytes
    mtu = 64000
          ^^^^^
",
    );
}

#[test]
fn vlan_out_of_range_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
vlan = 4095
"#,
        r"
director.toml:5: `vlan` is 4095; write a whole number from 1 to 4094
    vlan = 4095
           ^^^^
",
    );
}

#[test]
fn malformed_mac_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mac = "02-00-00-00-00-01"
"#,
        r#"
director.toml:5: "02-00-00-00-00-01" is not a MAC address; write six pairs of hexadecimal digits with colons between
    mac = "02-00-00-00-00-01"
          ^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn group_mac_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mac = "01:00:5e:00:00:01"
"#,
        r#"
director.toml:5: 01:00:5e:00:00:01 is a group address; write one whose first octet is even, such as 02:00:00:00:00:01
    mac = "01:00:5e:00:00:01"
          ^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn zero_mac_is_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
mac = "00:00:00:00:00:00"
"#,
        r#"
director.toml:5: 00:00:00:00:00:00 is no address of a host; write one such as 02:00:00:00:00:01
    mac = "00:00:00:00:00:00"
          ^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn too_few_descriptors_are_refused() {
    refused(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
rx_descriptors = 32
"#,
        r"
director.toml:5: `rx_descriptors` is 32; write a whole number from 64 to 32768
    rx_descriptors = 32
                     ^^
",
    );
}
