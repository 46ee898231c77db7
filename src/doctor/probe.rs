//! Asking DPDK about the devices of a configuration without starting a port.
//!
//! Only where no director runs: DPDK then opens the devices, reads what they
//! offer and lets them go. Kinds of software ports that would leave something
//! behind (interfaces, sockets) are not opened.
#![forbid(unsafe_code)]

use crate::{config::Config, io::PortCapabilities};

/// What DPDK says of the devices, or why it could not be asked.
pub type Probe = Result<Vec<ProbedPort>, String>;

/// A configured port and what its device offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedPort {
    /// Name of the port in the configuration.
    pub name: String,
    /// `None` when DPDK does not find the device.
    pub device: Option<ProbedDevice>,
}

/// What a device offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedDevice {
    /// DPDK's driver.
    pub driver: String,
    /// Receive and transmit queues that the director would use, or why it
    /// would not start.
    pub queues: Result<(u16, u16), String>,
    /// The largest IP packet that it can carry, in bytes.
    pub mtu_max: u16,
    /// What it can do.
    pub capabilities: PortCapabilities,
}

/// Asks DPDK about the devices of `config`. To be called once in a process.
#[cfg(feature = "dpdk")]
pub(super) fn probe(config: &Config) -> Probe {
    use crate::{
        config::{Hugepages, PortConfig},
        io::dpdk::{AvailableDevice, Eal, EalArguments, PortSettings, QueuePlan},
    };

    let mut config = config.clone();
    config.ports.retain(|port| is_harmless(&port.device));
    if config.ports.is_empty() {
        return Ok(Vec::new());
    }
    config.eal.hugepages = Hugepages::None;
    config.eal.memory_mib = MEMORY_MIB;
    config.eal.file_prefix.push_str("-doctor");
    let eal = Eal::start(&EalArguments::new(&config)).map_err(|error| error.to_string())?;
    let workers = u16::try_from(config.director.worker_cores.len()).unwrap_or(u16::MAX);
    let queues = |port: &PortConfig, device: &AvailableDevice| {
        QueuePlan::new(&PortSettings::new(port, workers), device)
            .map(|plan| (plan.receive, plan.transmit))
            .map_err(|error| error.to_string())
    };
    let ports = config.ports.iter().map(|port| ProbedPort {
        name: port.name.clone(),
        device: AvailableDevice::find(&eal, &port.device).map(|device| ProbedDevice {
            queues: queues(port, &device),
            driver: device.driver,
            mtu_max: device.mtu_max,
            capabilities: device.capabilities,
        }),
    });
    Ok(ports.collect())
}

/// There is no DPDK to ask.
#[cfg(not(feature = "dpdk"))]
pub(super) fn probe(_: &Config) -> Probe {
    Err("this pointsman was built without DPDK".to_owned())
}

/// Whether opening a device leaves nothing behind.
#[cfg(feature = "dpdk")]
fn is_harmless(device: &crate::config::Device) -> bool {
    use crate::config::Device;

    match device {
        Device::Pci(_) => true,
        Device::Vdev(vdev) => vdev.starts_with("net_af_packet"),
    }
}

/// Enough for DPDK to look at devices.
#[cfg(feature = "dpdk")]
const MEMORY_MIB: u32 = 64;
