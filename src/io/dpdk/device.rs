//! The devices that DPDK found, before they become ports.

use std::{
    ffi::{CStr, CString, c_int},
    ptr,
};

use dpdk_sys::{
    RTE_ETH_DEV_NO_OWNER, RTE_ETH_NAME_MAX_LEN, RTE_ETH_RSS_FRAG_IPV4, RTE_ETH_RSS_FRAG_IPV6,
    RTE_ETH_RSS_IPV4, RTE_ETH_RSS_IPV6, RTE_ETH_RSS_NONFRAG_IPV4_OTHER,
    RTE_ETH_RSS_NONFRAG_IPV4_TCP, RTE_ETH_RSS_NONFRAG_IPV4_UDP, RTE_ETH_RSS_NONFRAG_IPV6_OTHER,
    RTE_ETH_RSS_NONFRAG_IPV6_TCP, RTE_ETH_RSS_NONFRAG_IPV6_UDP, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM,
    RTE_ETH_RX_OFFLOAD_RSS_HASH, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
    RTE_MAX_ETHPORTS, RTE_PTYPE_ALL_MASK, rte_eth_dev_info,
};

use super::{Eal, error_text};
use crate::{config::Device, io::PortCapabilities, wire::ethernet::MacAddr};

/// A device that DPDK can drive, and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailableDevice {
    /// As DPDK names it: `0000:01:00.0`, `net_af_packet0`.
    pub name: String,
    /// The driver, as it calls itself.
    pub driver: String,
    /// Its MAC address.
    pub mac: MacAddr,
    /// NUMA node, when it has one.
    pub numa_node: Option<u32>,
    /// The most receive queues that it can have.
    pub rx_queues_max: u16,
    /// The most transmit queues that it can have.
    pub tx_queues_max: u16,
    /// The largest IP packet that it can carry, in bytes.
    pub mtu_max: u16,
    /// What it can do.
    pub capabilities: PortCapabilities,
    /// DPDK's number for it.
    pub(super) id: u16,
}

impl AvailableDevice {
    /// All devices that DPDK found and that no other device, such as a bond,
    /// has taken.
    pub fn all(_eal: &Eal) -> Vec<Self> {
        let next = |from: u16| {
            // SAFETY: the EAL runs; any number may be asked for.
            let id = unsafe { dpdk_sys::rte_eth_find_next_owned_by(from, RTE_ETH_DEV_NO_OWNER) };
            u16::try_from(id)
                .ok()
                .filter(|&id| u32::from(id) < RTE_MAX_ETHPORTS)
        };
        std::iter::successors(next(0), |&id| next(id + 1))
            .filter_map(Self::of)
            .collect()
    }

    /// The one that `device` names, if DPDK found it.
    pub fn find(_eal: &Eal, device: &Device) -> Option<Self> {
        let name = CString::new(device_name(device)).ok()?;
        let mut id = 0;
        // SAFETY: the EAL runs; reads the string and writes `id`.
        let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
        if result == 0 { Self::of(id) } else { None }
    }

    /// `rx` and `tx` descriptors a queue, changed to what the device allows.
    pub fn descriptors(&self, mut rx: u16, mut tx: u16) -> (u16, u16) {
        let (rx_place, tx_place) = (&raw mut rx, &raw mut tx);
        // SAFETY: checks the number itself; reads and writes the two values.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, rx_place, tx_place) };
        if result != 0 {
            log::warn!(
                "{} does not tell its limits: {}",
                self.name,
                error_text(result)
            );
        }
        (rx, tx)
    }

    /// Packets that the driver keeps for each queue beside its descriptors: to
    /// be counted into [`PoolNeeds::packets_held`](super::PoolNeeds).
    ///
    /// `net_af_xdp` fills rings of its own (2048 frames to receive into, 2048
    /// sent and not yet collected), however few descriptors there are.
    pub fn packets_kept_per_queue(&self) -> u32 {
        if self.driver == "net_af_xdp" {
            2 * 2048
        } else {
            0
        }
    }

    fn of(id: u16) -> Option<Self> {
        let info = device_info(id).ok()?;
        Some(Self {
            name: name_of(id)?,
            driver: driver_of(&info),
            mac: mac_of(id),
            numa_node: numa_node_of(id),
            rx_queues_max: info.max_rx_queues,
            tx_queues_max: info.max_tx_queues,
            mtu_max: info.max_mtu,
            capabilities: capabilities_of(id, &info),
            id,
        })
    }
}

/// The name that DPDK gives the port of `device`.
pub(super) fn device_name(device: &Device) -> String {
    let (Device::Pci(text) | Device::Vdev(text)) = device;
    let name = text.split(',').next().unwrap_or_default();
    match device {
        // The domain may be left out; DPDK always names it.
        Device::Pci(_) if name.matches(':').count() == 1 => format!("0000:{name}"),
        Device::Pci(_) | Device::Vdev(_) => name.to_owned(),
    }
}

/// # Errors
/// DPDK's error number.
pub(super) fn device_info(id: u16) -> Result<rte_eth_dev_info, c_int> {
    let mut info = rte_eth_dev_info::default();
    // SAFETY: checks the number itself, and fills `info`.
    match unsafe { dpdk_sys::rte_eth_dev_info_get(id, &raw mut info) } {
        0 => Ok(info),
        error => Err(error),
    }
}

/// What an RSS-capable NIC hashes: addresses, and L4 ports where there are
/// any. With fragments it hashes the addresses alone.
pub(super) fn rss_flows_of(info: &rte_eth_dev_info) -> u64 {
    info.flow_type_rss_offloads & RSS_FLOWS
}

pub(super) fn mac_of(id: u16) -> MacAddr {
    let mut mac = dpdk_sys::rte_ether_addr::default();
    // SAFETY: checks the number itself, and fills `mac`.
    unsafe { dpdk_sys::rte_eth_macaddr_get(id, &raw mut mac) };
    MacAddr(mac.addr_bytes)
}

fn capabilities_of(id: u16, info: &rte_eth_dev_info) -> PortCapabilities {
    PortCapabilities {
        tx_ipv4_checksum: info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM != 0,
        tx_fast_free: info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE != 0,
        rx_ipv4_checksum: info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM != 0,
        rss: rss_flows_of(info) != 0,
        redirection_len: info.reta_size,
        rss_hash: info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH != 0,
        packet_types: has_packet_types(id),
    }
}

/// Whether the driver can tell anything of packets. Asked without a place for
/// the answer, DPDK says how many types there are, or why not.
fn has_packet_types(id: u16) -> bool {
    // SAFETY: checks the number itself; writes no more than 0 values.
    let count = unsafe {
        dpdk_sys::rte_eth_dev_get_supported_ptypes(id, RTE_PTYPE_ALL_MASK, ptr::null_mut(), 0)
    };
    count > 0
}

fn name_of(id: u16) -> Option<String> {
    const NAME_LEN_MAX: usize = RTE_ETH_NAME_MAX_LEN as usize;
    let mut name = [0_u8; NAME_LEN_MAX];
    // SAFETY: checks the number itself; no name is longer than that constant.
    let result = unsafe { dpdk_sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr().cast()) };
    if result != 0 {
        return None;
    }
    Some(
        CStr::from_bytes_until_nul(&name)
            .ok()?
            .to_string_lossy()
            .into_owned(),
    )
}

fn driver_of(info: &rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: static memory of the driver, NUL-terminated.
    unsafe { CStr::from_ptr(info.driver_name) }
        .to_string_lossy()
        .into_owned()
}

fn numa_node_of(id: u16) -> Option<u32> {
    // SAFETY: checks the number itself. Negative when there is no node.
    u32::try_from(unsafe { dpdk_sys::rte_eth_dev_socket_id(id) }).ok()
}

const RSS_FLOWS: u64 = RTE_ETH_RSS_IPV4
    | RTE_ETH_RSS_FRAG_IPV4
    | RTE_ETH_RSS_NONFRAG_IPV4_TCP
    | RTE_ETH_RSS_NONFRAG_IPV4_UDP
    | RTE_ETH_RSS_NONFRAG_IPV4_OTHER
    | RTE_ETH_RSS_IPV6
    | RTE_ETH_RSS_FRAG_IPV6
    | RTE_ETH_RSS_NONFRAG_IPV6_TCP
    | RTE_ETH_RSS_NONFRAG_IPV6_UDP
    | RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_names_that_dpdk_gives_them() {
        for (device, name) in [
            (Device::Pci("0000:01:00.0".to_owned()), "0000:01:00.0"),
            (
                Device::Pci("01:00.0,txq_inline_max=0".to_owned()),
                "0000:01:00.0",
            ),
            (
                Device::Vdev("net_af_packet0,iface=veth0".to_owned()),
                "net_af_packet0",
            ),
            (Device::Vdev("net_null7".to_owned()), "net_null7"),
        ] {
            assert_eq!(device_name(&device), name);
        }
    }
}
