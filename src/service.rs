//! Virtual services and real servers as an operator names them.
//!
//! This is the vocabulary shared by the configuration, the commands of the
//! control interface and the published forwarding state. It does not hold
//! counters or connections.
#![forbid(unsafe_code)]

mod key;
mod tunables;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::key::{MarkGroup, ServiceKey, ServiceKeyError};
pub use self::tunables::{TUNABLES, Tunable, TunableError};
use crate::{
    scheduler::{SchedulerFlags, SchedulerKind},
    wire::{IpProtocol, IpVersion},
};

/// A transport protocol that can be load-balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
    /// RFC 9260.
    Sctp = 132,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number in the IP header's protocol field (IANA).
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The protocol with this number, when it can be load-balanced.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What can be changed of a virtual service while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOptions {
    /// How a real server is picked for a new connection.
    pub scheduler: SchedulerKind,
    /// What the hashing schedulers are told besides.
    #[serde(default)]
    pub flags: SchedulerFlags,
    /// Whether each packet gets a real server of its own and leaves no
    /// connection behind (`ipvsadm -o`). Only of effect on UDP.
    #[serde(default)]
    pub one_packet: bool,
    /// Whether all connections of a client go to one real server
    /// (`ipvsadm -p`).
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// The network that outer packets come from: each flow from an address of
    /// its own, so that the real server's NIC spreads flows over its queues.
    /// Real servers of the other IP version get packets from where their route
    /// says. Prefix lengths are within [`outer_source_lengths`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer_source: Option<IpNet>,
}

impl ServiceOptions {
    /// The network that outer packets to a real server come from.
    pub fn outer_source_to(&self, rip: IpAddr) -> Option<IpNet> {
        let is_same_version = |network: &IpNet| network.addr().is_ipv6() == rip.is_ipv6();
        self.outer_source.filter(is_same_version)
    }
}

/// The prefix lengths that a network of outer sources can have: 2 to 65,536
/// addresses, more than any NIC has queues to spread flows over.
pub const fn outer_source_lengths(is_ipv6: bool) -> RangeInclusive<u8> {
    if is_ipv6 { 112..=127 } else { 16..=31 }
}

/// How long, and for whom, a service keeps to the real server of a client's
/// first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// Seconds after the last connection was opened (`ipvsadm -p`), 1 to
    /// [`PERSISTENCE_S_MAX`].
    pub timeout_s: u32,
    /// Clients that are the same under this mask count as one (`ipvsadm -M`).
    pub mask: ClientMask,
}

/// Which bits of a client's address tell clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMask {
    /// Those that are 1 in this; not always the first ones. Of a service over
    /// IPv6, none.
    Netmask(Ipv4Addr),
    /// So many first bits of an IPv6 address.
    PrefixLen(u8),
}

impl ClientMask {
    /// All bits: each client has a real server of its own.
    pub const fn host(is_ipv6: bool) -> Self {
        if is_ipv6 {
            Self::PrefixLen(128)
        } else {
            Self::Netmask(Ipv4Addr::BROADCAST)
        }
    }

    /// Whether these are all bits.
    pub fn is_host(self) -> bool {
        matches!(
            self,
            Self::Netmask(Ipv4Addr::BROADCAST) | Self::PrefixLen(128..)
        )
    }

    /// What a client's address has of these bits.
    pub fn apply(self, client: IpAddr) -> IpAddr {
        match (self, client) {
            (Self::Netmask(mask), IpAddr::V4(client)) => IpAddr::V4(client & mask),
            (Self::PrefixLen(len), IpAddr::V6(client)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(len.min(128)))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(client.to_bits() & mask))
            }
            (_, client) => client,
        }
    }
}

impl fmt::Display for ClientMask {
    /// As `ipvsadm -Ln` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netmask(mask) => mask.fmt(f),
            Self::PrefixLen(len) => len.fmt(f),
        }
    }
}

/// The timeout of a persistent service for which none is named, in seconds.
pub const PERSISTENCE_S_DEFAULT: u32 = 360;

/// The longest timeout of a persistent service: 31 days, as `ipvsadm` takes it.
pub const PERSISTENCE_S_MAX: u32 = 31 * 24 * 60 * 60;

impl From<SchedulerKind> for ServiceOptions {
    /// A scheduler without flags, for whole connections.
    fn from(scheduler: SchedulerKind) -> Self {
        Self {
            scheduler,
            flags: SchedulerFlags::default(),
            one_packet: false,
            persistence: None,
            outer_source: None,
        }
    }
}

/// What makes a real server unique within its service. A tunnelled packet
/// keeps its destination port, so the server's port is the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerKey {
    /// The RIP: where the tunnel ends.
    pub address: IpAddr,
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What can be changed of a real server while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerOptions {
    /// Share of new connections relative to the other servers, 0 to
    /// [`WEIGHT_MAX`]; 0 quiesces the server: existing connections go on, new
    /// ones go elsewhere.
    pub weight: u32,
    /// At this many connections the server is overloaded and gets no new ones
    /// (`ipvsadm -x`); 0 means no limit.
    pub upper_threshold: u32,
    /// Below this many connections an overloaded server gets new ones again
    /// (`ipvsadm -y`); with 0 that is below three quarters of the upper one.
    pub lower_threshold: u32,
    /// What packets to it are wrapped in.
    #[serde(default)]
    pub tunnel: TunnelKind,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelKind::Ipip,
        }
    }
}

/// What packets to a real server are wrapped in (`ipvsadm --tun-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TunnelKind {
    /// IPv4 in IPv4 (RFC 2003).
    #[default]
    Ipip,
    /// Generic Routing Encapsulation (RFC 2784).
    Gre {
        /// Whether the header has a checksum.
        checksum: bool,
    },
    /// Generic UDP Encapsulation, version 0.
    Gue {
        /// The destination port of the outer UDP header.
        l4_port: u16,
        /// What becomes of the checksum of the outer UDP header.
        checksum: GueChecksum,
    },
}

/// The checksums of a GUE tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GueChecksum {
    /// The outer UDP header has none.
    #[default]
    None,
    /// The outer UDP header has one.
    Outer,
    /// The outer UDP header has one, and an inner checksum that its sender has
    /// left to hardware is left to the real server
    /// (draft-herbert-remotecsumoffload-02).
    ///
    /// Nothing that comes from a network has such a checksum, only what a host
    /// sends itself, so that the bytes are those of [`Outer`](Self::Outer).
    /// Linux IPVS, too, sends no other ones for packets that it forwards.
    Remote,
}

impl GueChecksum {
    /// Whether the outer UDP header has a checksum.
    pub const fn is_outer_present(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl TunnelKind {
    /// Bytes between the outer IP header and the inner packet.
    pub const fn header_len(self) -> u8 {
        match self {
            Self::Ipip => 0,
            Self::Gre { checksum: false } => 4,
            Self::Gre { checksum: true } => 8,
            Self::Gue { .. } => 12,
        }
    }

    /// What the outer IP header says that follows it.
    pub const fn protocol(self, inner: IpVersion) -> IpProtocol {
        match self {
            Self::Ipip => inner.encapsulated(),
            Self::Gre { .. } => IpProtocol::GRE,
            Self::Gue { .. } => IpProtocol::UDP,
        }
    }

    /// The largest inner packet for an outer packet of `mtu` bytes.
    pub const fn inner_len_max(self, outer: IpVersion, mtu: u16) -> u16 {
        mtu.saturating_sub(outer.header_len() + self.header_len() as u16)
    }
}

impl fmt::Display for TunnelKind {
    /// As `ipvsadm --tun-info` shows it: `gue:6080:+c`, `gue:6080:r+c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |checksum| if checksum { '+' } else { '-' };
        match *self {
            Self::Ipip => f.pad("ipip"),
            Self::Gre { checksum } => f.pad(&format!("gre:{}c", sign(checksum))),
            Self::Gue { l4_port, checksum } => {
                let remote = if checksum == GueChecksum::Remote {
                    "r"
                } else {
                    ""
                };
                let sign = sign(checksum.is_outer_present());
                f.pad(&format!("gue:{l4_port}:{remote}{sign}c"))
            }
        }
    }
}

/// The port of GUE unless another is named (IANA).
pub const GUE_L4_PORT: u16 = 6080;

/// The largest weight of a real server, as `ipvsadm` takes it.
pub const WEIGHT_MAX: u32 = i32::MAX.cast_unsigned();

/// The settings of `/proc/sys/net/ipv4/vs` under their own names, with the
/// kernel's defaults. [`TUNABLES`] lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches, as the kernel has them"
)]
pub struct Tunables {
    /// A new SYN on an existing connection: 0 keeps the connection, 1
    /// schedules anew when it is in CLOSE or TIME_WAIT, 2 or more also in
    /// FIN_WAIT.
    pub conn_reuse_mode: u32,
    /// Whether connections of a deleted server end at once (else their packets
    /// are dropped until the connection expires or the server returns).
    pub expire_nodest_conn: bool,
    /// Whether the inner DF flag is honoured and copied outward.
    pub pmtu_disc: bool,
    /// Whether a persistent service looks for another real server when the
    /// client's has weight 0.
    pub expire_quiescent_template: bool,
    /// Whether an ICMP error about an answer from a VIP may open a connection.
    pub schedule_icmp: bool,
    /// Whether a TCP packet other than SYN may open a connection.
    pub sloppy_tcp: bool,
    /// Whether an SCTP packet other than INIT may open a connection.
    pub sloppy_sctp: bool,
    /// Whether SYN leads to the state SYNACK with its longer timeout (on when
    /// not 0).
    pub secure_tcp: u32,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            pmtu_disc: true,
            expire_quiescent_template: false,
            schedule_icmp: false,
            sloppy_tcp: false,
            sloppy_sctp: false,
            secure_tcp: 0,
        }
    }
}

/// How long connections live without a packet, in seconds: what
/// `ipvsadm --set` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// TCP in ESTABLISHED.
    pub tcp: u32,
    /// TCP in FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Timeouts {
    /// The longest timeout: 31 days. What the kernel takes is of that order,
    /// and longer ones are milliseconds mistaken for seconds.
    pub const MAX_S: u32 = 31 * 24 * 60 * 60;
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_the_bits_that_they_name() {
        let masked =
            |mask: ClientMask, client: &str| mask.apply(client.parse().unwrap()).to_string();
        let netmask = |mask: [u8; 4]| ClientMask::Netmask(mask.into());
        assert_eq!(
            masked(netmask([255, 255, 255, 0]), "203.0.113.7"),
            "203.0.113.0"
        );
        assert_eq!(
            masked(netmask([255, 0, 255, 3]), "203.5.113.7"),
            "203.0.113.3"
        );
        assert_eq!(masked(netmask([0; 4]), "203.0.113.7"), "0.0.0.0");
        assert_eq!(
            masked(ClientMask::host(false), "203.0.113.7"),
            "203.0.113.7"
        );
        let client = "2001:db8:1:2:3:4:5:6";
        assert_eq!(masked(ClientMask::PrefixLen(64), client), "2001:db8:1:2::");
        assert_eq!(masked(ClientMask::PrefixLen(33), client), "2001:db8::");
        assert_eq!(masked(ClientMask::PrefixLen(0), client), "::");
        assert_eq!(masked(ClientMask::host(true), client), client);
    }
}
