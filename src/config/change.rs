//! What a running director can take over from a changed file.
#![forbid(unsafe_code)]

use super::{Config, PortConfig};

/// The keys in which `new` differs from `old` and that a running director
/// cannot change, as a message names them: `[director] workers`,
/// `port "wan": mtu`. Empty when SIGHUP may apply the whole file.
///
/// Everything else can change while packets flow: timeouts, the settings of
/// `[director.ipvs]`, the ICMP rate, addresses of ports, routes, neighbors,
/// services and real servers.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let (a, b) = (&old.director, &new.director);
    let director = [
        ("workers", a.worker_cores != b.worker_cores),
        ("management_core", a.management_core != b.management_core),
        ("idle", a.idle != b.idle),
        ("connections_max", a.connections_max != b.connections_max),
        ("templates_max", a.templates_max != b.templates_max),
        ("control_socket", a.control_socket != b.control_socket),
        ("netlink_socket", a.netlink_socket != b.netlink_socket),
        ("netlink_group", a.netlink_group != b.netlink_group),
        ("state_file", a.state_file != b.state_file),
        ("control_group", a.control_group != b.control_group),
        ("user", a.user != b.user),
        ("group", a.group != b.group),
    ];
    let (a, b) = (&old.eal, &new.eal);
    let eal = [
        ("hugepages", a.hugepages != b.hugepages),
        ("memory_mib", a.memory_mib != b.memory_mib),
        ("memory_channels", a.memory_channels != b.memory_channels),
        ("file_prefix", a.file_prefix != b.file_prefix),
        ("extra_arguments", a.extra_arguments != b.extra_arguments),
    ];
    let mut keys = changed("[director] ", &director);
    keys.extend(changed("[eal] ", &eal));
    if old.api != new.api {
        keys.push("[api]".to_owned());
    }
    keys.extend(changed_ports(&old.ports, &new.ports));
    keys
}

fn changed_ports(old: &[PortConfig], new: &[PortConfig]) -> Vec<String> {
    let missing =
        |from: &[PortConfig], port: &PortConfig| !from.iter().any(|other| other.name == port.name);
    let removed = old.iter().filter(|port| missing(new, port));
    let added = new.iter().filter(|port| missing(old, port));
    let mut keys: Vec<String> = removed
        .map(|port| format!("port \"{}\": removed", port.name))
        .chain(added.map(|port| format!("port \"{}\": added", port.name)))
        .collect();
    let names = |ports: &[PortConfig]| -> Vec<String> {
        ports.iter().map(|port| port.name.clone()).collect()
    };
    if keys.is_empty() && names(old) != names(new) {
        keys.push("the order of [[port]]".to_owned());
    }
    for port in new {
        let Some(before) = old.iter().find(|before| before.name == port.name) else {
            continue;
        };
        let port_keys = [
            ("device", before.device != port.device),
            ("mtu", before.mtu != port.mtu),
            ("vlan", before.vlan != port.vlan),
            ("mac", before.mac != port.mac),
            (
                "rx_descriptors",
                before.rx_descriptors != port.rx_descriptors,
            ),
            (
                "tx_descriptors",
                before.tx_descriptors != port.tx_descriptors,
            ),
        ];
        keys.extend(changed(&format!("port \"{}\": ", port.name), &port_keys));
    }
    keys
}

fn changed(prefix: &str, keys: &[(&str, bool)]) -> Vec<String> {
    let changed = keys.iter().filter(|(_, is_changed)| *is_changed);
    changed.map(|(key, _)| format!("{prefix}{key}")).collect()
}
