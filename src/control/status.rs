//! What a running director says about itself.
//!
//! One vocabulary for everything that looks at a director: the tables and the
//! JSON of `pointsman show`, and later metrics and the HTTP API. These types
//! are plain copies, made on demand by the management thread; nothing here is
//! shared with a worker. Names carry their units, and every counter is counted
//! since the director started unless it says otherwise.
//!
//! On the control socket ([`super::socket`]) a [`RequestMessage`] goes in and
//! a [`ResponseMessage`] comes out, each as one line of JSON.
#![forbid(unsafe_code)]

mod capture;
pub mod explanation;
mod mac;
mod statistics;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::capture::{CaptureBatch, CaptureEnd, CaptureRequest, CapturedFrame, CapturedPacket};
pub use self::statistics::{Rates, Statistics};
use self::{
    explanation::{Explanation, Question},
    mac::{mac_text, mac_text_optional},
};
use super::{
    command::{Command, CommandError},
    edit::Edit,
};
use crate::{
    io::{PortCapabilities, PortStatistics},
    service::{Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts, Tunables},
    wire::ethernet::MacAddr,
};

/// Version of the messages on the control socket. It grows when an older
/// client could misread an answer; a new field or request alone does not do
/// that.
pub const PROTOCOL_VERSION: u32 = 1;

/// How many connections a [`Request::Connections`] shows when it does not say.
pub const CONNECTIONS_SHOWN_DEFAULT: usize = 1000;

/// The most connections that a [`Request::Connections`] is answered with: so
/// that the answer stays a few MiB, whatever was asked for.
pub const CONNECTIONS_SHOWN_MAX: usize = 50_000;

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMessage {
    /// [`PROTOCOL_VERSION`] of the client.
    pub version: u32,
    /// What it asks.
    pub request: Request,
}

/// One line to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseMessage {
    /// [`PROTOCOL_VERSION`] of the director.
    pub version: u32,
    /// What it answers.
    pub response: Response,
}

/// What can be asked over the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// All services with their real servers.
    Services,
    /// One service with its real servers. Answered as
    /// [`Services`](Response::Services), without one when there is none.
    Service(ServiceKey),
    /// What went through all services together.
    Statistics,
    /// Connections of all workers.
    Connections {
        /// How many to answer at most.
        #[serde(default = "connections_shown_default")]
        limit: usize,
        /// Only those of this service.
        #[serde(default)]
        service: Option<ServiceKey>,
    },
    /// All counters, also those that are 0.
    Counters,
    /// The workers.
    Workers,
    /// The NIC ports.
    Ports,
    /// The neighbor table.
    Neighbors,
    /// The route table.
    Routes,
    /// The director as a whole.
    Director,
    /// The kernel's settings and the timeouts.
    Settings,
    /// What would become of packets, and why.
    Explain(Question),
    /// Changes services, real servers or settings. Answered as
    /// [`Applied`](Response::Applied) or [`Refused`](Response::Refused).
    Apply(Command),
    /// Changes parts of options, or some settings. Answered as
    /// [`Applied`](Response::Applied) or [`Refused`](Response::Refused), or as
    /// [`Error`](Response::Error) when the result would make no sense.
    Edit(Edit),
    /// Makes services and settings what the configuration said when it was
    /// read last: what was changed at run time is taken back. Answered as
    /// [`Applied`](Response::Applied) or [`Refused`](Response::Refused).
    Revert,
    /// Gives one of the kernel's settings a value. Answered as
    /// [`Settings`](Self::Settings).
    SetTunable {
        /// Its name in `/proc/sys/net/ipv4/vs`.
        name: String,
        /// Its value; switches take 0 and 1.
        value: u32,
    },
    /// `ipvsadm --set`, in seconds; 0 leaves a timeout as it is. Answered as
    /// [`Settings`](Self::Settings).
    SetTimeouts {
        /// TCP in ESTABLISHED.
        tcp: u32,
        /// TCP in FIN_WAIT.
        tcp_fin: u32,
        /// UDP.
        udp: u32,
    },
    /// Begins a capture. Answered as
    /// [`CaptureStarted`](Response::CaptureStarted).
    StartCapture(CaptureRequest),
    /// Asks what was captured since it was last asked; a capture that is not
    /// asked for some seconds ends. Answered as
    /// [`Captured`](Response::Captured).
    ReadCapture {
        /// Which capture.
        id: u64,
    },
    /// Ends a capture. Answered as [`ReadCapture`](Self::ReadCapture), which is
    /// to be asked on until there is an end.
    StopCapture {
        /// Which capture.
        id: u64,
    },
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// In order of their keys.
    Services(Vec<ServiceStatus>),
    /// Of all services together, deleted ones included.
    Statistics {
        /// Since the director started, or all counters were zeroed.
        total: Statistics,
        /// At present.
        rates: Rates,
    },
    /// Up to as many as were asked for.
    Connections {
        /// In no particular order.
        connections: Vec<ConnectionStatus>,
        /// Connections in the tables of all workers, and templates, of all
        /// services.
        total: u64,
        /// Whether there were more than the limit let through.
        truncated: bool,
    },
    /// In the order of `docs/counters.md`.
    Counters(Vec<CounterStatus>),
    /// In order of their index.
    Workers(Vec<WorkerStatus>),
    /// In the order of the configuration.
    Ports(Vec<PortStatus>),
    /// In order of port and address.
    Neighbors(Vec<NeighborStatus>),
    /// Longest prefix first within an address family.
    Routes(Vec<RouteStatus>),
    /// The director as a whole.
    Director(DirectorStatus),
    /// The kernel's settings and the timeouts.
    Settings(SettingsStatus),
    /// What would become of the packets.
    Explain(Explanation),
    /// The command took effect: the packets that workers take from now on are
    /// soon treated as it says, and whoever asks sees it.
    Applied,
    /// The command was refused, and nothing has changed.
    Refused(CommandError),
    /// A capture has begun.
    CaptureStarted {
        /// By this number it is read and ended.
        id: u64,
    },
    /// What was captured.
    Captured(CaptureBatch),
    /// The request was not carried out; the text says why.
    Error(String),
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Protocol, VIP and service port.
    pub key: ServiceKey,
    /// Its scheduler.
    pub options: ServiceOptions,
    /// Its real servers in the order of the scheduler's list: the newest
    /// first.
    pub servers: Vec<ServerStatus>,
    /// What went through it.
    pub statistics: Statistics,
    /// How much of that it is a second.
    #[serde(default)]
    pub rates: Rates,
}

/// A real server of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The RIP.
    pub key: ServerKey,
    /// Weight and thresholds.
    pub options: ServerOptions,
    /// Connections in ESTABLISHED (TCP) or alive (UDP).
    pub active_connections: u32,
    /// Connections in any other state.
    pub inactive_connections: u32,
    /// Persistence templates that lead to it: clients, or networks of them.
    #[serde(default)]
    pub templates: u32,
    /// Whether its upper threshold keeps new connections away.
    pub overloaded: bool,
    /// Where tunnelled packets go next.
    pub next_hop: NextHopStatus,
    /// Largest IP packet on the way to it, outer header included, in bytes; 0
    /// without a route.
    pub path_mtu: u16,
    /// What went to it.
    pub statistics: Statistics,
    /// How much of that it is a second.
    #[serde(default)]
    pub rates: Rates,
}

/// Whether packets can be sent to a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum NextHopStatus {
    /// They can.
    Resolved {
        /// Name of the port by which they leave.
        port: String,
        /// The gateway, or the RIP itself when it is on the link.
        address: IpAddr,
        /// Its MAC address.
        #[serde(with = "mac_text")]
        mac: MacAddr,
    },
    /// Nobody has answered ARP for the next hop yet, or any more.
    Unresolved {
        /// Name of the port by which packets would leave.
        port: String,
        /// The gateway, or the RIP itself when it is on the link.
        address: IpAddr,
    },
    /// No route leads there, or one that says "unreachable" or "blackhole".
    NoRoute,
    /// The RIP is an address of the director itself.
    Local,
}

/// A connection in a worker's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Index of the worker that holds it; of a template 0.
    pub worker: u32,
    /// Its transport protocol; none for a template of connections of several.
    pub protocol: Option<Protocol>,
    /// Whether this is no connection but a persistence template, which all
    /// workers share.
    #[serde(default)]
    pub is_template: bool,
    /// CIP and source port.
    pub client: SocketAddr,
    /// VIP and service port.
    pub service: SocketAddr,
    /// RIP.
    pub server: IpAddr,
    /// State as `ipvsadm -Lnc` names it: `ESTABLISHED`, `SYN_RECV`, `UDP`.
    pub state: String,
    /// Milliseconds until it ends when no packet comes.
    pub expires_ms: u64,
    /// Packets from the client so far.
    pub packets: u64,
}

/// A worker thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its place in the list of workers.
    pub index: u32,
    /// The core that it is pinned to.
    pub core: u32,
    /// Generation of the forwarding state that it works with.
    pub generation: u64,
    /// Bursts received from ports or other workers that were not empty.
    pub bursts: u64,
    /// Packets in them.
    pub packets: u64,
    /// Mean length of a burst.
    pub packets_per_burst: f64,
    /// Share of the last second or so that it spent on packets, 0 to 1.
    pub busy_share: f64,
    /// Cycles of the time stamp counter spent on packets.
    #[serde(default)]
    pub busy_cycles: u64,
    /// Cycles of the time stamp counter in all, pauses included.
    #[serde(default)]
    pub total_cycles: u64,
    /// Mean cycles of the time stamp counter spent on a packet; 0 before the
    /// first one.
    pub cycles_per_packet: f64,
    /// Frequency of the time stamp counter.
    pub tsc_hz: u64,
    /// Connections in its table.
    pub connections: u64,
    /// Connections that fit into its table.
    pub connections_max: u64,
    /// Packets received from ports.
    pub rx_packets: u64,
    /// Packets and news about them given to other workers.
    pub handed_over: u64,
    /// Packets taken from other workers that received them for this one.
    pub taken_over: u64,
    /// Frames given to other workers to send.
    pub tx_handed_over: u64,
    /// Packets that ports accepted.
    pub tx_packets: u64,
    /// Packets sent on to a real server.
    pub forwarded: u64,
    /// Packets handed to the management thread.
    pub punted: u64,
    /// Packets dropped, for whatever reason.
    pub dropped: u64,
}

/// A NIC port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Its name in the configuration.
    pub name: String,
    /// PCI address or vdev string.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// The address it sends from.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// 802.1Q tag of its frames.
    pub vlan: Option<u16>,
    /// Whether frames can be sent and received.
    pub link_up: bool,
    /// Speed in Mbit/s; 0 when unknown.
    pub speed_mbps: u32,
    /// NUMA node, when it has one.
    pub numa_node: Option<u32>,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Workers that share these queues.
    pub workers: u32,
    /// What it does in hardware: what is false is done in software, but for
    /// `rss_hash` and `packet_types`, which nobody needs.
    #[serde(with = "PortCapabilitiesFields")]
    pub capabilities: PortCapabilities,
    /// How its driver receives ("Vector AVX2"), if it tells.
    #[serde(default)]
    pub rx_burst_mode: Option<String>,
    /// How its driver sends, if it tells.
    #[serde(default)]
    pub tx_burst_mode: Option<String>,
    /// What it counted.
    #[serde(with = "PortStatisticsFields")]
    pub statistics: PortStatistics,
    /// The director's own addresses on it, each with its network.
    pub addresses: Vec<IpNet>,
}

/// A neighbor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborStatus {
    /// Name of its port.
    pub port: String,
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address, when known.
    #[serde(with = "mac_text_optional")]
    pub mac: Option<MacAddr>,
    /// State as `ip neighbor` names it: `REACHABLE`, `STALE`, `FAILED`.
    pub state: String,
    /// Milliseconds since it was last confirmed; `None` if it never was.
    pub age_ms: Option<u64>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The destination network.
    pub to: IpNet,
    /// The gateway; without one the destination is on the link.
    pub via: Option<IpAddr>,
    /// Name of the port by which packets leave, when they do.
    pub port: Option<String>,
    /// Outer source address of tunnelled packets that take it.
    pub source: Option<IpAddr>,
    /// Largest IP packet on it, in bytes, when it is not the port's.
    pub mtu: Option<u16>,
    /// Where it comes from, or what it refuses.
    pub kind: RouteKind,
}

/// Where a route comes from, or what it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// The network of one of the director's addresses.
    Connected,
    /// Configured, and forwards.
    Static,
    /// Configured with `type = "unreachable"`.
    Unreachable,
    /// Configured with `type = "blackhole"`.
    Blackhole,
}

impl RouteKind {
    /// The name in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Static => "static",
            Self::Unreachable => "unreachable",
            Self::Blackhole => "blackhole",
        }
    }
}

/// A counter of the director, summed over its workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterStatus {
    /// What is counted, as `docs/counters.md` names it.
    pub name: String,
    /// What became of the packets that it counts.
    pub kind: CounterKind,
    /// How often it happened.
    pub count: u64,
    /// One line: what it means, and what to do about it.
    pub help: String,
}

/// What became of the packets that a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterKind {
    /// They were dropped.
    Drop,
    /// They went to the management thread.
    Punt,
    /// Something else.
    Other,
}

impl CounterKind {
    /// The name in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Punt => "punt",
            Self::Other => "other",
        }
    }
}

/// The director as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorStatus {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The file that it was started with; SIGHUP reads it again.
    pub config_file: PathBuf,
    /// Number of the newest forwarding state.
    pub generation: u64,
    /// How many workers there are.
    pub workers: u32,
    /// How many of them work with [`generation`](Self::generation) already.
    pub workers_live: u32,
    /// How many virtual services there are.
    pub services: u32,
    /// Connections in the tables of all workers.
    pub connections: u64,
    /// Timeouts of connections (`ipvsadm -L --timeout`).
    pub timeouts: Timeouts,
    /// The kernel's settings.
    pub tunables: Tunables,
    /// Where services and settings are kept; `None` when they are not.
    #[serde(default)]
    pub state_file: Option<StateFileStatus>,
    /// How full what all workers share is.
    #[serde(default)]
    pub tables: Vec<TableStatus>,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// What is in it: `services`, `servers`, `templates`.
    pub name: String,
    /// How many there are.
    pub used: u64,
    /// How many there can be.
    pub max: u64,
}

/// The file in which services and settings outlive the director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFileStatus {
    /// Where it is.
    pub path: PathBuf,
    /// How often it was written.
    pub saves: u64,
    /// How often that failed.
    pub errors: u64,
    /// Whether all that holds is in it.
    pub is_saved: bool,
}

/// What can be set at run time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsStatus {
    /// The kernel's settings that hold now.
    pub tunables: Tunables,
    /// The timeouts that hold now.
    pub timeouts: Timeouts,
    /// Those of the configuration.
    pub configured_tunables: Tunables,
    /// Those of the configuration.
    pub configured_timeouts: Timeouts,
}

/// Fields of [`PortCapabilities`], which itself stays free of serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "PortCapabilities")]
#[expect(clippy::struct_excessive_bools, reason = "mirrors PortCapabilities")]
struct PortCapabilitiesFields {
    tx_ipv4_checksum: bool,
    tx_fast_free: bool,
    rx_ipv4_checksum: bool,
    rss: bool,
    // Unknown to directors before these were named.
    #[serde(default)]
    redirection_len: u16,
    #[serde(default)]
    rss_hash: bool,
    #[serde(default)]
    packet_types: bool,
}

/// Fields of [`PortStatistics`], which itself stays free of serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "PortStatistics")]
struct PortStatisticsFields {
    rx_packets: u64,
    rx_bytes: u64,
    rx_missed: u64,
    rx_errors: u64,
    rx_no_buffer: u64,
    tx_packets: u64,
    tx_bytes: u64,
    tx_errors: u64,
}

const fn connections_shown_default() -> usize {
    CONNECTIONS_SHOWN_DEFAULT
}

#[cfg(test)]
mod tests;
