//! Ports: devices set up and started for the director.

use std::{
    ffi::{CStr, c_int},
    ptr,
    sync::Arc,
};

use dpdk_sys::{
    RTE_ETH_MQ_RX_NONE, RTE_ETH_MQ_RX_RSS, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM,
    RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, RTE_PTYPE_UNKNOWN,
    rte_eth_burst_mode, rte_eth_conf, rte_eth_dev_info, rte_eth_stats, rte_ether_addr,
};

use super::{
    AvailableDevice, DpdkPool, DpdkRxQueue, DpdkTxQueue, Eal, PortError, QueuePlan,
    device::{device_info, mac_of, rss_flows_of},
    error_text,
    mempool::data_room_len,
    rss::Rss,
};
use crate::{
    config::{Device, PortConfig},
    io::{BurstModes, Link, Port, PortCapabilities, PortDescription, PortStatistics},
    wire::ethernet::MacAddr,
};

/// What a port is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// The name from the configuration.
    pub name: String,
    /// The device behind it.
    pub device: Device,
    /// The largest IP packet it shall carry, in bytes.
    pub mtu: u16,
    /// Whether frames carry an 802.1Q tag, which makes them 4 bytes longer.
    pub vlan: bool,
    /// In place of the device's own MAC address.
    pub mac: Option<MacAddr>,
    /// Receive queues, and as many transmit queues: one of each for each
    /// worker. A device that has fewer of them gets these.
    pub queues: u16,
    /// Descriptors of each receive queue, before the device has its say.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, before the device has its say.
    pub tx_descriptors: u16,
    /// Key of the hash that spreads flows over the queues.
    pub rss_key: [u8; 40],
    /// Whether all packets that leave by this port come from one pool. Only
    /// then may the NIC free them in bulk (`MBUF_FAST_FREE`).
    pub single_pool: bool,
}

/// A started port and its queues, in the order of their numbers.
#[derive(Debug)]
pub struct StartedPort {
    /// For the management thread.
    pub port: DpdkPort,
    /// One for each worker, or fewer.
    pub rx_queues: Vec<DpdkRxQueue>,
    /// One for each worker, or fewer.
    pub tx_queues: Vec<DpdkTxQueue>,
}

/// What the management thread holds of a started port. The port is stopped and
/// closed when this and all its queues are dropped.
#[derive(Debug)]
pub struct DpdkPort {
    description: PortDescription,
    handle: Arc<Handle>,
}

/// The key of the verification suite for Toeplitz hashing that RSS is specified
/// with. Where the order of workers must not be guessed, use a random one.
pub const RSS_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

impl PortSettings {
    /// What `config` asks for, with a queue for each of `workers`.
    pub fn new(config: &PortConfig, workers: u16) -> Self {
        Self {
            name: config.name.clone(),
            device: config.device.clone(),
            mtu: config.mtu,
            vlan: config.vlan.is_some(),
            mac: config.mac,
            queues: workers,
            rx_descriptors: config.rx_descriptors,
            tx_descriptors: config.tx_descriptors,
            rss_key: RSS_KEY,
            single_pool: false,
        }
    }

    pub(super) fn device_text(&self) -> String {
        let (Device::Pci(text) | Device::Vdev(text)) = &self.device;
        text.clone()
    }
}

impl DpdkPort {
    /// Sets up the device of `settings` and starts it. Received packets come
    /// from `pool`.
    ///
    /// # Errors
    /// [`PortError`]. When the device was found but refused a step, it is
    /// closed, and cannot be used again in this process.
    pub fn configure(
        eal: &Eal,
        settings: &PortSettings,
        pool: &DpdkPool,
    ) -> Result<StartedPort, PortError> {
        let device = AvailableDevice::find(eal, &settings.device).ok_or_else(|| {
            let (port, device) = (settings.name.clone(), settings.device_text());
            PortError::NoDevice { port, device }
        })?;
        let plan = Plan::new(settings, &device, pool)?;
        if !eal.claim(device.id) {
            let (port, device) = (settings.name.clone(), settings.device_text());
            return Err(PortError::InUse { port, device });
        }
        let handle = Handle {
            id: device.id,
            pool: pool.clone(),
            rss_key: plan.rss_key(),
            eal: eal.clone(),
        };
        let capabilities = handle.start(&plan)?;
        let handle = Arc::new(handle);
        // SAFETY: started with exactly these queues just now.
        let rx_queue = |queue| unsafe { DpdkRxQueue::new(Arc::clone(&handle), queue) };
        // SAFETY: as above.
        let tx_queue = |queue| unsafe { DpdkTxQueue::new(Arc::clone(&handle), queue) };
        Ok(StartedPort {
            rx_queues: (0..plan.queues.receive).map(rx_queue).collect(),
            tx_queues: (0..plan.queues.transmit).map(tx_queue).collect(),
            port: Self {
                description: plan.description(capabilities),
                handle,
            },
        })
    }
}

impl DpdkPort {
    /// What the driver says of the way by which it serves the first queue.
    fn burst_mode(&self, ask: BurstModeFunction) -> Option<String> {
        let mut mode = rte_eth_burst_mode::default();
        // SAFETY: the port is started with this queue; fills `mode`.
        if unsafe { ask(self.handle.id, 0, &raw mut mode) } != 0 {
            return None;
        }
        let text: Vec<u8> = mode.info.iter().map(|&byte| byte.cast_unsigned()).collect();
        let text = CStr::from_bytes_until_nul(&text).ok()?;
        Some(text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
    }
}

/// `rte_eth_rx_burst_mode_get` and its counterpart.
type BurstModeFunction = unsafe extern "C" fn(u16, u16, *mut rte_eth_burst_mode) -> c_int;

impl Port for DpdkPort {
    fn description(&self) -> &PortDescription {
        &self.description
    }

    fn link(&self) -> Link {
        let (mut up, mut speed_mbps) = (false, 0);
        // SAFETY: the port exists; fills the two values.
        let result = unsafe {
            dpdk_sys::dpdk_shim_eth_link(self.handle.id, &raw mut up, &raw mut speed_mbps)
        };
        if result == 0 {
            Link { up, speed_mbps }
        } else {
            Link::default()
        }
    }

    fn statistics(&self) -> PortStatistics {
        let mut stats = rte_eth_stats::default();
        // SAFETY: the port exists; fills `stats`, or leaves zeros.
        unsafe { dpdk_sys::rte_eth_stats_get(self.handle.id, &raw mut stats) };
        PortStatistics {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_buffer: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        }
    }

    fn burst_modes(&self) -> BurstModes {
        BurstModes {
            receive: self.burst_mode(dpdk_sys::rte_eth_rx_burst_mode_get),
            transmit: self.burst_mode(dpdk_sys::rte_eth_tx_burst_mode_get),
        }
    }
}

/// What is going to be done to a device, after all checks.
struct Plan<'a> {
    settings: &'a PortSettings,
    device: &'a AvailableDevice,
    queues: QueuePlan,
    info: rte_eth_dev_info,
    /// MTU for the device: more than the port's where the device does not
    /// count VLAN tags.
    device_mtu: u16,
    rx_offloads: u64,
    tx_offloads: u64,
    rss_flows: u64,
}

impl<'a> Plan<'a> {
    fn new(
        settings: &'a PortSettings,
        device: &'a AvailableDevice,
        pool: &DpdkPool,
    ) -> Result<Self, PortError> {
        let info = device_info(device.id)
            .map_err(|error| settings.refused("tell what it can do", error))?;
        let queues = QueuePlan::new(settings, device)?;
        let data_room = pool.settings().data_room;
        if data_room < data_room_len(settings.mtu) {
            let (port, mtu) = (settings.name.clone(), settings.mtu);
            return Err(PortError::PoolTooSmall {
                port,
                data_room,
                mtu,
            });
        }
        let mut tx_wanted = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
        if settings.single_pool {
            tx_wanted |= RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
        }
        Ok(Self {
            settings,
            device,
            queues,
            info,
            device_mtu: device_mtu(settings, &info)?,
            rx_offloads: info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM,
            tx_offloads: info.tx_offload_capa & tx_wanted,
            // With one queue there is nothing to spread.
            rss_flows: if queues.receive > 1 {
                rss_flows_of(&info)
            } else {
                0
            },
        })
    }

    fn description(&self, capabilities: PortCapabilities) -> PortDescription {
        PortDescription {
            name: self.settings.name.clone(),
            device: self.settings.device_text(),
            driver: self.device.driver.clone(),
            mac: mac_of(self.device.id),
            mtu: self.settings.mtu,
            numa_node: self.device.numa_node,
            rx_queues: self.queues.receive,
            tx_queues: self.queues.transmit,
            capabilities,
        }
    }

    /// The hash key in the length that the device wants, if it says. What is
    /// beyond the 40th byte is not used for IPv4 and IPv6 (RSS hashes 36 bytes).
    fn rss_key(&self) -> Box<[u8]> {
        let key = &self.settings.rss_key;
        let len = match usize::from(self.info.hash_key_size) {
            0 => key.len(),
            len => len,
        };
        key.iter().copied().cycle().take(len).collect()
    }
}

/// How flows come to the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spreading {
    /// There is one queue, or the device cannot spread.
    NotAsked,
    /// By RSS with our key.
    OwnKey,
    /// By RSS with whatever key the device has.
    DeviceKey,
    /// The device refused RSS.
    None,
}

impl PortSettings {
    fn refused(&self, step: impl Into<String>, error: c_int) -> PortError {
        PortError::Refused {
            port: self.name.clone(),
            device: self.device_text(),
            step: step.into(),
            reason: error_text(error),
        }
    }

    fn check(&self, step: impl Into<String>, result: c_int) -> Result<(), PortError> {
        if result < 0 {
            Err(self.refused(step, result))
        } else {
            Ok(())
        }
    }
}

/// Owns a device of DPDK: stops and closes it when dropped.
#[derive(Debug)]
pub(super) struct Handle {
    id: u16,
    /// The receive queues hold packets of it until the port is closed.
    pool: DpdkPool,
    /// DPDK keeps a pointer to it, and drivers read it whenever they start the
    /// port (`igb_rss_configure` in `igb_rxtx.c`).
    rss_key: Box<[u8]>,
    eal: Eal,
}

impl Handle {
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Sets the device up and starts it. Returns what it really does.
    fn start(&self, plan: &Plan<'_>) -> Result<PortCapabilities, PortError> {
        let settings = plan.settings;
        let spreading = self.configure(plan)?;
        self.leave_out_packet_types(plan);
        self.set_mtu(plan)?;
        if let Some(mac) = settings.mac {
            self.set_mac(settings, mac)?;
        }
        self.set_up_queues(plan)?;
        // SAFETY: configured, with all queues set up.
        settings.check("be started", unsafe {
            dpdk_sys::rte_eth_dev_start(self.id)
        })?;
        self.set_filter(settings);
        // SAFETY: the port exists. Where it fails, counters go on.
        unsafe { dpdk_sys::rte_eth_stats_reset(self.id) };
        let mut capabilities = plan.device.capabilities;
        capabilities.tx_fast_free = plan.tx_offloads & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE != 0;
        self.finish_spreading(plan, spreading, &mut capabilities);
        Ok(capabilities)
    }

    /// Drivers put the type of each packet together at some cost. Most cannot
    /// be told to leave it; nothing is lost then.
    fn leave_out_packet_types(&self, plan: &Plan<'_>) {
        if !plan.device.capabilities.packet_types {
            return;
        }
        // SAFETY: the port exists; writes no more than 0 values.
        let result = unsafe {
            dpdk_sys::rte_eth_dev_set_ptypes(self.id, RTE_PTYPE_UNKNOWN, ptr::null_mut(), 0)
        };
        log::debug!(
            "port {}: packet types left out: {}",
            plan.settings.name,
            error_text(result)
        );
    }

    /// What RSS of the started port came to.
    fn finish_spreading(
        &self,
        plan: &Plan<'_>,
        spreading: Spreading,
        capabilities: &mut PortCapabilities,
    ) {
        let key = match spreading {
            Spreading::NotAsked => return,
            Spreading::None => {
                capabilities.rss = false;
                capabilities.redirection_len = 0;
                return;
            }
            Spreading::OwnKey => Some(&*self.rss_key),
            Spreading::DeviceKey => None,
        };
        let rss = Rss {
            port: &plan.settings.name,
            id: self.id,
            queues: plan.settings.queues,
            flows: plan.rss_flows,
            key,
            table_len: plan.info.reta_size,
        };
        capabilities.redirection_len = rss.apply();
    }

    /// Frames to other MAC addresses are not for us, but those to groups are:
    /// IPv6 neighbors ask there. Software ports mostly cannot filter, or not
    /// by groups; then the packet path does.
    fn set_filter(&self, settings: &PortSettings) {
        // SAFETY: the port exists.
        let all_groups = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.id) };
        let result = if all_groups == 0 {
            // SAFETY: the port exists.
            unsafe { dpdk_sys::rte_eth_promiscuous_disable(self.id) }
        } else {
            // SAFETY: the port exists.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.id) }
        };
        log::debug!(
            "port {}: all groups: {}, promiscuous {}: {}",
            settings.name,
            error_text(all_groups),
            if all_groups == 0 { "off" } else { "on" },
            error_text(result)
        );
    }

    /// Configures the device, with as much of RSS as it takes.
    fn configure(&self, plan: &Plan<'_>) -> Result<Spreading, PortError> {
        let settings = plan.settings;
        let QueuePlan { receive, transmit } = plan.queues;
        let tries = if plan.rss_flows == 0 {
            &[Spreading::NotAsked][..]
        } else {
            &[Spreading::OwnKey, Spreading::DeviceKey, Spreading::None]
        };
        let mut result = 0;
        for &spreading in tries {
            result = self.try_to_configure(plan, spreading);
            if result >= 0 {
                return Ok(spreading);
            }
            match spreading {
                Spreading::OwnKey => log::warn!(
                    "port {}: the device did not take RSS with our key ({}); trying its own",
                    settings.name,
                    error_text(result)
                ),
                Spreading::DeviceKey => log::warn!(
                    "port {}: the device did not take RSS ({}); trying without",
                    settings.name,
                    error_text(result)
                ),
                Spreading::NotAsked | Spreading::None => {}
            }
        }
        settings.check(
            format!("be configured with {receive} receive and {transmit} transmit queues"),
            result,
        )?;
        Ok(Spreading::None)
    }

    fn try_to_configure(&self, plan: &Plan<'_>, spreading: Spreading) -> c_int {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(plan.device_mtu);
        conf.rxmode.offloads = plan.rx_offloads;
        conf.txmode.offloads = plan.tx_offloads;
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
        if matches!(spreading, Spreading::OwnKey | Spreading::DeviceKey) {
            conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
            let rss = &mut conf.rx_adv_conf.rss_conf;
            rss.rss_hf = plan.rss_flows;
            if spreading == Spreading::OwnKey {
                // Only ever read, despite its type.
                rss.rss_key = self.rss_key.as_ptr().cast_mut();
                rss.rss_key_len = u8::try_from(self.rss_key.len()).unwrap_or(u8::MAX);
            }
        }
        let QueuePlan { receive, transmit } = plan.queues;
        // SAFETY: the device is not started; `conf` is copied, and the key that
        // it points to lives as long as `self`, which closes the port.
        unsafe { dpdk_sys::rte_eth_dev_configure(self.id, receive, transmit, &raw const conf) }
    }

    /// Software ports keep the MTU in the kernel's interface, which
    /// `rte_eth_dev_configure` does not touch.
    fn set_mtu(&self, plan: &Plan<'_>) -> Result<(), PortError> {
        // SAFETY: the port is configured and not started.
        let result = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.id, plan.device_mtu) };
        if result == -libc::ENOTSUP {
            return Ok(());
        }
        plan.settings
            .check(format!("set its MTU to {}", plan.device_mtu), result)
    }

    fn set_mac(&self, settings: &PortSettings, mac: MacAddr) -> Result<(), PortError> {
        let mut address = rte_ether_addr { addr_bytes: mac.0 };
        // SAFETY: the port exists; the address is copied.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.id, &raw mut address) };
        settings.check(format!("take the MAC address {mac}"), result)
    }

    fn set_up_queues(&self, plan: &Plan<'_>) -> Result<(), PortError> {
        let settings = plan.settings;
        let (rx_descriptors, tx_descriptors) = plan
            .device
            .descriptors(settings.rx_descriptors, settings.tx_descriptors);
        let node = plan.device.numa_node.unwrap_or(SOCKET_ID_ANY);
        let mut rx_conf = plan.info.default_rxconf;
        rx_conf.offloads = plan.rx_offloads;
        let mut tx_conf = plan.info.default_txconf;
        tx_conf.offloads = plan.tx_offloads;
        for queue in 0..plan.queues.receive {
            // SAFETY: configured with this queue; the pool lives as long as
            // `self`, which closes the port.
            let result = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    self.id,
                    queue,
                    rx_descriptors,
                    node,
                    &raw const rx_conf,
                    self.pool.as_ptr(),
                )
            };
            settings.check(format!("set up receive queue {queue}"), result)?;
        }
        for queue in 0..plan.queues.transmit {
            // SAFETY: configured with this queue.
            let result = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(
                    self.id,
                    queue,
                    tx_descriptors,
                    node,
                    &raw const tx_conf,
                )
            };
            settings.check(format!("set up transmit queue {queue}"), result)?;
        }
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: as each queue holds the handle, none is left to be polled.
        let stopped = unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        if stopped != 0 {
            log::warn!("a port did not stop: {}", error_text(stopped));
        }
        // SAFETY: as above; gives the packets in its queues back to the pool.
        let closed = unsafe { dpdk_sys::rte_eth_dev_close(self.id) };
        if closed != 0 {
            log::warn!("a port was not closed: {}", error_text(closed));
        }
        self.eal.release(self.id);
    }
}

/// DPDK takes the length of a frame as MTU plus what the driver counts for
/// Ethernet; some count VLAN tags in, others do not (`eth_dev_get_overhead_len`
/// in `rte_ethdev.c`).
fn device_mtu(settings: &PortSettings, info: &rte_eth_dev_info) -> Result<u16, PortError> {
    const ETHERNET_LEN: u32 = 14 + 4;
    const VLAN_LEN: u32 = 4;
    let overhead = match info.max_rx_pktlen.checked_sub(u32::from(info.max_mtu)) {
        Some(overhead @ 1..) if info.max_mtu != u16::MAX => overhead,
        _ => ETHERNET_LEN,
    };
    // The limit that DPDK checks; drivers that say nothing have the largest.
    let frame_mtu_max = info.max_rx_pktlen.saturating_sub(overhead);
    let mtu_max = u16::try_from(frame_mtu_max).map_or(info.max_mtu, |max| max.min(info.max_mtu));
    if settings.mtu > mtu_max {
        return Err(PortError::MtuTooLarge {
            port: settings.name.clone(),
            device: settings.device_text(),
            mtu: settings.mtu,
            mtu_max,
        });
    }
    let needed = ETHERNET_LEN + if settings.vlan { VLAN_LEN } else { 0 };
    let missing = u16::try_from(needed.saturating_sub(overhead)).unwrap_or_default();
    // A driver without room for a tag at its largest MTU (net_af_packet) is one
    // whose limit means nothing to tags: the kernel lets them pass on top.
    Ok(settings
        .mtu
        .saturating_add(missing)
        .max(info.min_mtu)
        .min(mtu_max))
}

/// `SOCKET_ID_ANY` of `rte_memory.h`, as the queue functions take it.
const SOCKET_ID_ANY: u32 = u32::MAX;
