//! What an operator configured: one validated value, made from one TOML file.
//!
//! Only this module says "invalid". What it hands on is consistent: addresses
//! do not overlap, names resolve, numbers are in range.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    service::{ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts, Tunables},
    wire::ethernet::MacAddr,
};

/// A whole, validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[director]`
    pub director: DirectorConfig,
    /// `[eal]`
    pub eal: EalConfig,
    /// `[[port]]`, in file order; at least one.
    pub ports: Vec<PortConfig>,
    /// `[[route]]`, in file order. Connected networks are not in it.
    pub routes: Vec<RouteConfig>,
    /// `[[neighbor]]`, in file order.
    pub neighbors: Vec<NeighborConfig>,
    /// `[[service]]`, in file order.
    pub services: Vec<ServiceConfig>,
}

/// `[director]`: the threads, the tables and the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorConfig {
    /// `workers`: the core of each worker; at least one, no core twice.
    pub worker_cores: Vec<usize>,
    /// `management_core`: the core of the management thread, or any.
    pub management_core: Option<usize>,
    /// `idle`: what a worker does when all its queues are empty; `None` when
    /// the kind of ports shall decide.
    pub idle: Option<IdlePolicy>,
    /// `connections_max`: connections that each worker can hold.
    pub connections_max: usize,
    /// `control_socket`
    pub control_socket: PathBuf,
    /// `[director.timeouts]`
    pub timeouts: Timeouts,
    /// `[director.ipvs]`: the kernel's settings under their own names.
    pub tunables: Tunables,
    /// `icmp_rate_per_s`: ICMP errors sent a second at most, all clients
    /// together; 0 means no limit. "Fragmentation needed" is exempt and has a
    /// limit of its own, ten times as high.
    pub icmp_rate_per_s: u32,
}

/// What a worker does when all its queues have been empty for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Poll on: lowest latency, one core busy all the time.
    Poll,
    /// Pause for short, bounded times.
    Adaptive,
}

/// `[eal]`: how DPDK's environment abstraction layer is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// `hugepages`
    pub hugepages: Hugepages,
    /// `memory_mib`: memory that DPDK takes at start.
    pub memory_mib: u32,
    /// `memory_channels`: `-n`, or DPDK's own guess.
    pub memory_channels: Option<u32>,
    /// `file_prefix`: keeps directors on one host apart.
    pub file_prefix: String,
    /// `extra_arguments`: handed to `rte_eal_init` as they are.
    pub extra_arguments: Vec<String>,
}

/// Where DPDK's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages when there are enough, else ordinary pages with a warning.
    Auto,
    /// Hugepages, or the director does not start.
    Required,
    /// Ordinary pages.
    None,
}

/// `[[port]]`: one NIC port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// `name`: how routes, messages and tables name it.
    pub name: String,
    /// `device`
    pub device: Device,
    /// `addresses`: the director's own addresses with their connected network.
    pub addresses: Vec<Ipv4Net>,
    /// `mtu`: largest IP packet in bytes, 68 to 9702.
    pub mtu: u16,
    /// `vlan`: the 802.1Q tag that frames of this port carry.
    pub vlan: Option<u16>,
    /// `mac`: in place of the device's own.
    pub mac: Option<MacAddr>,
    /// `rx_descriptors`: length of each receive queue.
    pub rx_descriptors: u16,
    /// `tx_descriptors`: length of each transmit queue.
    pub tx_descriptors: u16,
}

/// What a port stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A PCI address as DPDK writes it, "0000:01:00.0".
    Pci(String),
    /// A virtual device, "net_af_packet0,iface=veth0".
    Vdev(String),
}

/// `[[route]]`: a static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// `to`: the destination network; "default" is 0.0.0.0/0.
    pub to: IpNet,
    /// What happens to packets that take it.
    pub action: RouteAction,
}

/// What happens to packets that take a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// They leave by a port.
    Forward {
        /// `via`: the gateway; without one the destination is on the link.
        via: Option<IpAddr>,
        /// `port`: index into [`Config::ports`]; found from `via` when the
        /// file does not say.
        port: usize,
        /// `source`: outer source address in place of the port's own.
        source: Option<Ipv4Addr>,
        /// `mtu`: in place of the port's.
        mtu: Option<u16>,
    },
    /// `type = "unreachable"`: the sender is told.
    Unreachable,
    /// `type = "blackhole"`: likewise told, as Linux IPVS does for a real
    /// server behind such a route.
    Blackhole,
}

/// `[[neighbor]]`: a permanent neighbor, as
/// `ip neigh replace ADDRESS lladdr MAC dev PORT nud permanent` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborConfig {
    /// `port`: index into [`Config::ports`].
    pub port: usize,
    /// `address`
    pub address: Ipv4Addr,
    /// `mac`: never asked for, never aged.
    pub mac: MacAddr,
}

/// `[[service]]` with its real servers in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `address` and `protocol`
    pub key: ServiceKey,
    /// `scheduler`
    pub options: ServiceOptions,
    /// `[[service.real_server]]`, added in this order as with `ipvsadm -a`.
    pub servers: Vec<(ServerKey, ServerOptions)>,
}
