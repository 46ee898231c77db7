//! Why a port could not be set up, and what to write instead.

/// The port could not be set up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// DPDK has no such device.
    #[error("port {port}: DPDK has no device {device}; {}", missing_hint(device))]
    NoDevice {
        /// The port's name.
        port: String,
        /// The device as configured.
        device: String,
    },
    /// The device is a port already.
    #[error("port {port}: {device} is another port already; give each port a device of its own")]
    InUse {
        /// The port's name.
        port: String,
        /// The device as configured.
        device: String,
    },
    /// The device can only send, or only receive.
    #[error("port {port}: {device} has no {direction} queue")]
    NoQueue {
        /// The port's name.
        port: String,
        /// The device as configured.
        device: String,
        /// "receive" or "transmit".
        direction: &'static str,
    },
    /// The kernel spreads packets over more queues than there are workers, and
    /// those of the others would be lost.
    #[error(
        "port {port}: {device} has {available} receive queues, but there are workers for \
         {wanted}, and what arrives on the others would be lost; {}",
        queue_hint(device, driver, *wanted)
            .unwrap_or_else(|| "use a device with fewer of them".to_owned())
    )]
    TooManyQueues {
        /// The port's name.
        port: String,
        /// The device as configured.
        device: String,
        /// Its driver.
        driver: String,
        /// Queues that it has.
        available: u16,
        /// Queues that the director needs.
        wanted: u16,
    },
    /// The device cannot carry such large packets.
    #[error("port {port}: mtu = {mtu}, but {device} can carry {mtu_max} at most")]
    MtuTooLarge {
        /// The port's name.
        port: String,
        /// The device as configured.
        device: String,
        /// Configured.
        mtu: u16,
        /// Possible.
        mtu_max: u16,
    },
    /// The packets of the pool are too small for the MTU.
    #[error("port {port}: packets of {data_room} bytes cannot hold an MTU of {mtu}")]
    PoolTooSmall {
        /// The port's name.
        port: String,
        /// Bytes of a packet's buffer.
        data_room: u16,
        /// Configured.
        mtu: u16,
    },
    /// DPDK or the device refused a step.
    #[error("port {port}: {device} could not {step}: {reason}")]
    Refused {
        /// The port's name.
        port: String,
        /// The device as configured.
        device: String,
        /// What was to be done: "set its MTU to 9000".
        step: String,
        /// DPDK's error.
        reason: String,
    },
}

fn missing_hint(device: &str) -> &'static str {
    if device.contains(':') {
        "scripts/bind-nic.sh shows which driver the NIC is bound to, and binds it to vfio-pci"
    } else {
        "DPDK's messages above say why its driver did not take it"
    }
}

/// What to write so that a device has `wanted` queues, where that can be said in
/// its device string.
pub fn queue_hint(device: &str, driver: &str, wanted: u16) -> Option<String> {
    let option = match driver {
        "net_af_packet" => "qpairs",
        "net_af_xdp" => "queue_count",
        "net_vhost" | "net_virtio_user" => "queues",
        "net_pcap" => {
            let hint = format!("give {wanted} rx_pcap and tx_pcap in its device string");
            return Some(hint);
        }
        _ => return None,
    };
    let present = device.split(',').find(|word| {
        word.strip_prefix(option)
            .is_some_and(|rest| rest.starts_with('='))
    });
    Some(match present {
        Some(word) => format!("write {option}={wanted} for {word} in its device string"),
        None => format!("add {option}={wanted} to its device string"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_says_what_to_write_for_more_queues() {
        let hint = |device, driver, wanted| queue_hint(device, driver, wanted);
        assert_eq!(
            hint("net_af_packet0,iface=veth0", "net_af_packet", 2).as_deref(),
            Some("add qpairs=2 to its device string")
        );
        assert_eq!(
            hint("net_af_packet0,qpairs=2,iface=veth0", "net_af_packet", 4).as_deref(),
            Some("write qpairs=4 for qpairs=2 in its device string")
        );
        assert_eq!(hint("0000:01:00.0", "net_e1000_em", 2), None);
    }

    #[test]
    fn a_missing_device_says_where_to_look() {
        let missing = |device: &str| {
            PortError::NoDevice {
                port: "wan".to_owned(),
                device: device.to_owned(),
            }
            .to_string()
        };
        assert_eq!(
            missing("0000:01:00.0"),
            "port wan: DPDK has no device 0000:01:00.0; scripts/bind-nic.sh shows which driver \
             the NIC is bound to, and binds it to vfio-pci"
        );
        assert_eq!(
            missing("net_tap0"),
            "port wan: DPDK has no device net_tap0; DPDK's messages above say why its driver \
             did not take it"
        );
    }
}
