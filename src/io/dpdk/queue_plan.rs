//! How many queues of a device the director uses.

use super::{AvailableDevice, PortError, PortSettings};
use crate::config::Device;

/// Queues of a port, one for each worker as far as the device has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// Receive queues.
    pub receive: u16,
    /// Transmit queues.
    pub transmit: u16,
}

impl QueuePlan {
    /// What `device` can have of what `settings` want.
    ///
    /// # Errors
    /// It has none at all, or more than packets could be taken from.
    pub fn new(settings: &PortSettings, device: &AvailableDevice) -> Result<Self, PortError> {
        let name = || settings.name.clone();
        let no_queue = |direction| PortError::NoQueue {
            port: name(),
            device: settings.device_text(),
            direction,
        };
        let plan = Self {
            receive: settings.queues.min(receive_queues_in_use(settings, device)),
            transmit: settings.queues.min(device.tx_queues_max),
        };
        if plan.receive == 0 {
            return Err(no_queue("receive"));
        }
        if plan.transmit == 0 {
            return Err(no_queue("transmit"));
        }
        // All its sockets are in the kernel's fanout group from the beginning.
        if device.driver == "net_af_packet" && device.rx_queues_max > plan.receive {
            return Err(PortError::TooManyQueues {
                port: name(),
                device: settings.device_text(),
                driver: device.driver.clone(),
                available: device.rx_queues_max,
                wanted: plan.receive,
            });
        }
        Ok(plan)
    }
}

/// Receive queues that packets come to. The queues of software ports, and of
/// virtio, are filled by somebody else; those of a NIC by RSS, or only the
/// first.
fn receive_queues_in_use(settings: &PortSettings, device: &AvailableDevice) -> u16 {
    let is_nic = matches!(settings.device, Device::Pci(_)) && device.driver != "net_virtio";
    if is_nic && !device.capabilities.rss {
        device.rx_queues_max.min(1)
    } else {
        device.rx_queues_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        io::{PortCapabilities, dpdk::port::RSS_KEY},
        wire::ethernet::MacAddr,
    };

    fn settings(device: Device) -> PortSettings {
        PortSettings {
            name: "lan".to_owned(),
            device,
            mtu: 1500,
            vlan: false,
            mac: None,
            queues: 4,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            rss_key: RSS_KEY,
            single_pool: true,
        }
    }

    fn plan(
        device: &str,
        driver: &str,
        (rx, tx, rss): (u16, u16, bool),
    ) -> Result<[u16; 2], String> {
        let available = AvailableDevice {
            name: device.to_owned(),
            driver: driver.to_owned(),
            mac: MacAddr::default(),
            numa_node: None,
            rx_queues_max: rx,
            tx_queues_max: tx,
            mtu_max: 1500,
            capabilities: PortCapabilities {
                rss,
                ..PortCapabilities::default()
            },
            id: 0,
        };
        let device = if device.contains(':') {
            Device::Pci(device.to_owned())
        } else {
            Device::Vdev(device.to_owned())
        };
        QueuePlan::new(&settings(device), &available)
            .map(|plan| [plan.receive, plan.transmit])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_a_queue_for_each_worker_while_there_are_any() {
        let nic = "0000:01:00.0";
        assert_eq!(plan(nic, "net_ice", (64, 64, true)), Ok([4, 4]));
        assert_eq!(plan(nic, "net_ixgbe", (2, 3, true)), Ok([2, 3]));
        assert_eq!(plan("net_tap0", "net_tap", (16, 16, true)), Ok([4, 4]));
    }

    #[test]
    fn a_nic_without_rss_has_one_receive_queue() {
        let nic = "0000:01:00.0";
        assert_eq!(plan(nic, "net_e1000_em", (2, 2, false)), Ok([1, 2]));
        assert_eq!(plan(nic, "net_virtio", (4, 4, false)), Ok([4, 4]));
        let xdp = "net_af_xdp0,iface=veth0,queue_count=4";
        assert_eq!(plan(xdp, "net_af_xdp", (4, 4, false)), Ok([4, 4]));
    }

    #[test]
    fn queues_that_would_not_be_emptied_are_refused() {
        let device = "net_af_packet0,iface=veth0,qpairs=8";
        assert_eq!(
            plan(device, "net_af_packet", (8, 8, false)).unwrap_err(),
            "port lan: net_af_packet0,iface=veth0,qpairs=8 has 8 receive queues, but there are \
             workers for 4, and what arrives on the others would be lost; write qpairs=4 for \
             qpairs=8 in its device string"
        );
        assert_eq!(
            plan("net_null0", "net_null", (0, 1, true)).unwrap_err(),
            "port lan: net_null0 has no receive queue"
        );
        assert_eq!(
            plan("net_null0", "net_null", (1, 0, true)).unwrap_err(),
            "port lan: net_null0 has no transmit queue"
        );
    }
}
