//! NICs and the ports of the configuration: drivers, vfio, IOMMU, NUMA, and
//! what a running director says about queues and offloads.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{
    Case, Finding, Probe, ProbedDevice, RunningDirector, core_list, counted,
    facts::{Facts, Module, Nic},
    list,
};
use crate::{
    config::{Config, Device, PortConfig},
    control::status::PortStatus,
    io::{PortCapabilities, sharing::Sharing},
};

/// Whether some process has a NIC of the configuration open.
pub(super) fn is_in_use(facts: &Facts, config: &Config) -> bool {
    let mut nics = config.ports.iter().filter_map(|port| nic_of(facts, port));
    nics.any(|nic| !nic.users.is_empty())
}

pub(super) fn check(case: Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let ports = case.config.map_or(&[][..], |config| &config.ports);
    let is_wanted = |nic: &Nic| {
        ports
            .iter()
            .any(|port| nic_of(facts, port).is_some_and(|used| used.address == nic.address))
    };
    let mut findings: Vec<_> = facts
        .nics
        .iter()
        .filter(|nic| !is_wanted(nic))
        .map(unused_nic)
        .collect();
    if facts.nics.is_empty() {
        findings.push(Finding::ok(
            "nic",
            "there is no NIC on PCI; software ports still work",
        ));
    }
    for port in ports {
        findings.extend(configured_port(facts, port, case.running));
    }
    findings.extend(iommu_and_vfio(facts, case.config));
    if let Some(config) = case.config {
        findings.extend(numa(facts, config));
        findings.extend(hardware(config, case.running, case.probed));
    }
    findings
}

/// The NIC that a port stands on, when it stands on one that is there.
pub(super) fn nic_of<'a>(facts: &'a Facts, port: &PortConfig) -> Option<&'a Nic> {
    let Device::Pci(address) = &port.device else {
        return None;
    };
    facts
        .nics
        .iter()
        .find(|nic| nic.address.eq_ignore_ascii_case(address))
}

/// "0000:01:00.0 (8086:10fb, eth0, ixgbe)"
fn describe(nic: &Nic) -> String {
    let mut parts = vec![nic.id.clone()];
    parts.extend(nic.interfaces.iter().cloned());
    parts.push(nic.driver.clone().unwrap_or_else(|| "no driver".to_owned()));
    format!("{} ({})", nic.address, parts.join(", "))
}

fn unused_nic(nic: &Nic) -> Finding {
    let what = describe(nic);
    let state = if nic.default_route {
        "carries the default route: leave it to the kernel".to_owned()
    } else if !nic.users.is_empty() {
        format!("used by {}", nic.users.join(", "))
    } else if nic.up {
        "up in the kernel".to_owned()
    } else if is_bound_to_dpdk(nic) {
        "ready for DPDK".to_owned()
    } else {
        "not in use".to_owned()
    };
    Finding::ok("nic", format!("{what}: {state}"))
}

/// Drivers that hand a NIC to a program. The others are the kernel's own.
fn is_bound_to_dpdk(nic: &Nic) -> bool {
    matches!(
        nic.driver.as_deref(),
        Some("vfio-pci" | "uio_pci_generic" | "igb_uio")
    )
}

/// DPDK drives these beside their kernel driver, which must stay.
fn is_bifurcated(nic: &Nic) -> bool {
    matches!(
        nic.driver.as_deref(),
        Some("mlx4_core" | "mlx5_core" | "mana")
    )
}

fn configured_port(
    facts: &Facts,
    port: &PortConfig,
    running: Option<&RunningDirector>,
) -> Vec<Finding> {
    match &port.device {
        Device::Pci(address) => vec![match nic_of(facts, port) {
            Some(nic) => configured_nic(port, nic, running),
            None => Finding::error(
                "port",
                format!("{}: there is no NIC {address}", port.name),
                "scripts/bind-nic.sh status  # then correct `device` in [[port]]",
            ),
        }],
        Device::Vdev(vdev) => configured_vdev(facts, port, vdev),
    }
}

fn configured_nic(port: &PortConfig, nic: &Nic, running: Option<&RunningDirector>) -> Finding {
    let what = format!("{}: {}", port.name, describe(nic));
    let bind = format!("scripts/bind-nic.sh bind {}", nic.address);
    if nic.default_route {
        return Finding::error(
            "port",
            format!("{what} carries the default route of this machine"),
            "use another NIC, or move the default route: ip route replace default via ... dev ...",
        );
    }
    if is_bifurcated(nic) {
        return Finding::ok("port", format!("{what}: DPDK uses it beside the kernel"));
    }
    if !is_bound_to_dpdk(nic) {
        return Finding::error("port", format!("{what} still belongs to the kernel"), bind);
    }
    if running.is_none() && !nic.users.is_empty() {
        return Finding::error(
            "port",
            format!("{what} is in use by {}", nic.users.join(", ")),
            "stop that program",
        );
    }
    Finding::ok("port", format!("{what} is bound for DPDK"))
}

fn configured_vdev(facts: &Facts, port: &PortConfig, vdev: &str) -> Vec<Finding> {
    let driver = vdev
        .split(',')
        .next()
        .unwrap_or(vdev)
        .trim_end_matches(|c: char| c.is_ascii_digit());
    if driver == "net_tap" && !facts.tun_device {
        return vec![Finding::error(
            "port",
            format!("{}: {vdev} needs /dev/net/tun, which is missing", port.name),
            "modprobe tun",
        )];
    }
    // For these two, `iface` names what is there; for net_tap, what to make.
    if driver != "net_af_packet" && driver != "net_af_xdp" {
        return vec![Finding::ok(
            "port",
            format!("{}: software port {vdev}", port.name),
        )];
    }
    let Some(interface) = vdev.split(',').find_map(|part| part.strip_prefix("iface=")) else {
        return vec![Finding::error(
            "port",
            format!("{}: {vdev} does not name an interface", port.name),
            "add iface=NAME to `device` in [[port]]",
        )];
    };
    if !facts.interfaces.contains(interface) {
        return vec![Finding::error(
            "port",
            format!(
                "{}: there is no interface {interface} in this network namespace",
                port.name
            ),
            format!("ip link add {interface} type veth peer name {interface}-peer"),
        )];
    }
    if facts.default_route_interfaces.contains(interface) {
        return vec![Finding::warning(
            "port",
            format!(
                "{}: {interface} carries the default route of this machine, whose kernel answers \
                 there as well",
                port.name
            ),
            "use an interface that the kernel has no address on",
        )];
    }
    vec![Finding::ok(
        "port",
        format!("{}: software port on {interface}", port.name),
    )]
}

/// What stands between a NIC on PCI and a program. Only a matter of curiosity
/// when no port needs it.
fn iommu_and_vfio(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let needs = config.is_some_and(|config| {
        config.ports.iter().any(|port| {
            matches!(port.device, Device::Pci(_)) && !nic_of(facts, port).is_some_and(is_bifurcated)
        })
    });
    let iommu = if facts.iommu {
        Finding::ok("iommu", "on")
    } else if !needs {
        Finding::ok("iommu", "off; only NICs bound to vfio-pci need it")
    } else if facts.vfio_noiommu {
        Finding::warning(
            "iommu",
            "off; vfio does without, so that a NIC can write to any memory of this machine",
            IOMMU_MEND,
        )
    } else {
        Finding::error("iommu", "off, which vfio-pci does not accept", IOMMU_MEND)
    };
    let vfio = match facts.vfio_pci {
        Module::Loaded => Finding::ok("vfio", "vfio-pci is loaded"),
        _ if !needs => Finding::ok("vfio", "vfio-pci is not loaded; no port needs it"),
        Module::Loadable => Finding::error("vfio", "vfio-pci is not loaded", "modprobe vfio-pci"),
        Module::Missing => Finding::error(
            "vfio",
            "this kernel has no vfio-pci",
            "install your distribution's full kernel (Debian: linux-image-amd64), or use software \
             ports",
        ),
    };
    vec![iommu, vfio]
}

const IOMMU_MEND: &str = "switch on VT-d or AMD-Vi in the firmware, add intel_iommu=on iommu=pt to \
                          GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and reboot; \
                          or scripts/bind-nic.sh bind ADDR --no-iommu";

fn numa(facts: &Facts, config: &Config) -> Option<Finding> {
    let nic_nodes: BTreeSet<_> = config
        .ports
        .iter()
        .filter_map(|port| nic_of(facts, port)?.numa_node)
        .collect();
    let node_of = |core: &usize| facts.cores.get(core)?.numa_node;
    let far: Vec<_> = config
        .director
        .worker_cores
        .iter()
        .copied()
        .filter(|core| node_of(core).is_some_and(|node| !nic_nodes.contains(&node)))
        .collect();
    if nic_nodes.is_empty() {
        return None;
    }
    let nodes = list(nic_nodes.iter().copied());
    if far.is_empty() {
        return Some(Finding::ok(
            "numa",
            format!("workers are on node {nodes}, as the NICs are"),
        ));
    }
    let near = facts
        .cores
        .iter()
        .filter(|(_, core)| core.numa_node.is_some_and(|node| nic_nodes.contains(&node)));
    Some(Finding::warning(
        "numa",
        format!(
            "workers on {} are far from the NICs on node {nodes}",
            core_list(far)
        ),
        format!(
            "set `workers` in [director] to some of {}",
            core_list(near.map(|(core, _)| *core))
        ),
    ))
}

/// RSS, queues and offloads, as a running director or DPDK tells them.
fn hardware(
    config: &Config,
    running: Option<&RunningDirector>,
    probed: Option<&Probe>,
) -> Vec<Finding> {
    let Some(running) = running else {
        return match probed {
            Some(probed) => probed_ports(config, probed),
            None => Vec::new(),
        };
    };
    config
        .ports
        .iter()
        .flat_map(
            |port| match running.ports.iter().find(|status| status.name == port.name) {
                Some(status) => started_port(status, running.director.workers),
                None => vec![Finding::warning(
                    "offloads",
                    format!(
                        "{}: the running director does not have this port",
                        port.name
                    ),
                    "restart the director",
                )],
            },
        )
        .collect()
}

fn probed_ports(config: &Config, probed: &Probe) -> Vec<Finding> {
    let ports = match probed {
        Ok(ports) => ports,
        Err(reason) => {
            return vec![Finding::warning(
                "offloads",
                format!("DPDK could not be asked about RSS, queues and offloads: {reason}"),
                "start the director, then ask again",
            )];
        }
    };
    let workers = u32::try_from(config.director.worker_cores.len()).unwrap_or(u32::MAX);
    config
        .ports
        .iter()
        .flat_map(|port| {
            let found = ports.iter().find(|probed| probed.name == port.name);
            match found.map(|probed| probed.device.as_ref()) {
                None => vec![Finding::ok(
                    "offloads",
                    format!(
                        "{}: queues and offloads of this software port are known once the \
                         director runs",
                        port.name
                    ),
                )],
                Some(None) => vec![Finding::error(
                    "offloads",
                    format!("{}: DPDK finds no such device", port.name),
                    "scripts/bind-nic.sh status",
                )],
                Some(Some(device)) => available_port(port, device, workers),
            }
        })
        .collect()
}

fn available_port(port: &PortConfig, device: &ProbedDevice, workers: u32) -> Vec<Finding> {
    let (name, driver) = (&port.name, &device.driver);
    let mut findings = vec![match &device.queues {
        Ok(queues) => queues_found(name, driver, *queues, workers),
        Err(reason) => Finding::error(
            "offloads",
            reason.as_str(),
            format!("correct `device` of port \"{name}\""),
        ),
    }];
    if device.mtu_max < port.mtu {
        findings.push(Finding::error(
            "mtu",
            format!(
                "{name}: {driver} carries {} bytes at most, not {}",
                device.mtu_max, port.mtu
            ),
            format!("set `mtu` of port \"{name}\" to {}", device.mtu_max),
        ));
    }
    findings.push(checksums(name, device.capabilities));
    findings
}

fn started_port(port: &PortStatus, workers: u32) -> Vec<Finding> {
    let name = &port.name;
    let mut findings = Vec::new();
    if !port.link_up {
        findings.push(Finding::error(
            "link",
            format!("{name}: no link"),
            "check the cable and the port of the switch",
        ));
    }
    let queues = (port.rx_queues, port.tx_queues);
    findings.push(queues_found(name, &port.driver, queues, workers));
    findings.push(checksums(name, port.capabilities));
    findings
}

/// How many of the workers have queues of a port.
fn queues_found(
    name: &str,
    driver: &str,
    (receive, transmit): (u16, u16),
    workers: u32,
) -> Finding {
    match Sharing::of(receive, transmit, workers) {
        None => Finding::ok(
            "offloads",
            format!(
                "{name}: {} for {}",
                counted(receive.into(), "receive queue"),
                counted(usize::try_from(workers).unwrap_or(usize::MAX), "worker")
            ),
        ),
        Some(sharing) => Finding::warning(
            "offloads",
            format!("{name}: {driver}: {sharing}"),
            "use a NIC with RSS and a queue for each worker (a software port: qpairs= or \
             queue_count= in `device`), or set `workers` in [director] to fewer cores",
        ),
    }
}

fn checksums(name: &str, capabilities: PortCapabilities) -> Finding {
    let by = |hardware| {
        if hardware {
            "by the NIC"
        } else {
            "in software"
        }
    };
    Finding::ok(
        "offloads",
        format!(
            "{name}: IPv4 checksums written {}, checked {}",
            by(capabilities.tx_ipv4_checksum),
            by(capabilities.rx_ipv4_checksum)
        ),
    )
}

#[cfg(test)]
mod tests;
