//! What a device string says of queues.
#![forbid(unsafe_code)]

use super::Device;

impl Device {
    /// How many receive and transmit queues a device has whose arguments say
    /// so, or whose driver has one unless they do. `None` where only the driver
    /// can tell.
    pub fn known_queues(&self) -> Option<(u16, u16)> {
        let Self::Vdev(text) = self else {
            return None;
        };
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        let driver = name.trim_end_matches(|character: char| character.is_ascii_digit());
        let pairs = |key| {
            let mut arguments = arguments.split(',');
            let value = arguments.find_map(|argument| {
                let value = argument.strip_prefix(key)?;
                value.strip_prefix('=')
            });
            let count = value.map_or(Some(1), |value| value.parse().ok())?;
            Some((count, count))
        };
        match driver {
            "net_af_packet" => pairs("qpairs"),
            "net_af_xdp" => pairs("queue_count"),
            "net_vhost" | "net_virtio_user" => pairs("queues"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_tell_the_number_of_queues() {
        let queues = |text: &str| Device::Vdev(text.to_owned()).known_queues();
        assert_eq!(queues("net_af_packet0,iface=veth0"), Some((1, 1)));
        assert_eq!(queues("net_af_packet0,iface=veth0,qpairs=4"), Some((4, 4)));
        let xdp = "net_af_xdp1,iface=veth0,start_queue=1,queue_count=2";
        assert_eq!(queues(xdp), Some((2, 2)));
        assert_eq!(queues("net_vhost0,iface=/tmp/v,queues=3"), Some((3, 3)));
        assert_eq!(queues("net_af_packet0,iface=veth0,qpairs=many"), None);
        assert_eq!(queues("net_tap0,iface=tap0"), None);
        assert_eq!(Device::Pci("0000:01:00.0".to_owned()).known_queues(), None);
    }
}
