//! What a director says of packets that it is asked to explain.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::NextHopStatus;
use crate::{
    scheduler::SchedulerKind,
    service::{ServiceKey, TunnelKind},
};

/// Packets to be explained, as if they came one after the other. Nothing
/// changes by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Name of the port that receives them; the first port when it is not
    /// said.
    #[serde(default)]
    pub port: Option<String>,
    /// Index of the worker that gets them. When it is not said, the one that
    /// has a connection of theirs, or else the first.
    #[serde(default)]
    pub worker: Option<u32>,
    /// The packets, 256 at most.
    pub packets: Vec<QuestionPacket>,
}

/// A packet to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionPacket {
    /// A frame from the destination MAC address on.
    Frame(#[serde(with = "hexadecimal")] Vec<u8>),
    /// An IP packet, which comes in a frame to the port.
    Ip(#[serde(with = "hexadecimal")] Vec<u8>),
}

/// What becomes of packets, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Name of the port that receives them.
    pub port: String,
    /// Index of the worker that gets them.
    pub worker: u32,
    /// The generation that it works with.
    pub generation: u64,
    /// The packets, in the order of the question.
    pub packets: Vec<ExplainedPacket>,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPacket {
    /// The flow whose connection decides about it: of an ICMP error the quoted
    /// one. None when no connection decides.
    pub flow: Option<FlowStatus>,
    /// The service that the flow is for.
    pub service: Option<ServiceMatch>,
    /// The connection before the packet.
    pub connection: Option<KnownConnection>,
    /// The persistence template of the client.
    pub template: Option<KnownTemplate>,
    /// How a real server was picked, or would have been.
    pub scheduling: Option<Scheduling>,
    /// The real server that it is for.
    pub server: Option<IpAddr>,
    /// Where tunnelled packets to that one go next.
    pub next_hop: Option<NextHopStatus>,
    /// The tunnel to it, and what fits.
    pub tunnel: Option<TunnelFit>,
    /// How it ends.
    pub fate: Fate,
    /// The connection after the packet.
    pub connection_after: Option<KnownConnection>,
}

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStatus {
    /// The number in the IP header (IANA).
    pub protocol: u8,
    /// Address and L4 port of the client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub service: SocketAddr,
}

/// A service, and why a packet is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMatch {
    /// The service.
    pub key: ServiceKey,
    /// What matched.
    pub rule: ServiceRule,
    /// How it picks real servers.
    pub scheduler: SchedulerKind,
    /// Whether its clients stay with their real server.
    pub persistent: bool,
}

/// Why a packet is for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceRule {
    /// Address and port are the service's.
    AddressAndPort,
    /// The address is in the service's network, and the port is the service's.
    NetworkAndPort,
    /// The service takes all ports.
    AllPorts,
    /// It may be data of an FTP connection.
    FtpData,
    /// It has the firewall mark of the service.
    Mark,
}

impl ServiceRule {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AddressAndPort => "address and port",
            Self::NetworkAndPort => "network and port",
            Self::AllPorts => "all ports of the address",
            Self::FtpData => "FTP data",
            Self::Mark => "firewall mark",
        }
    }
}

/// What is known of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownConnection {
    /// The real server; none when its slot is free.
    pub server: Option<IpAddr>,
    /// State, as `ipvsadm -Lcn` prints it.
    pub state: String,
    /// Milliseconds until it ends if no packet comes.
    pub expires_ms: u64,
}

/// What is known of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTemplate {
    /// The client, or its network's address.
    pub client: IpAddr,
    /// The real server.
    pub server: Option<IpAddr>,
    /// Milliseconds until it ends if no connection is opened or left.
    pub expires_ms: u64,
}

/// How a real server is picked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// The scheduler.
    pub scheduler: SchedulerKind,
    /// The slot of its table that the flow leads to, where it has a table.
    pub slot: Option<u32>,
    /// The servers in the order of its list, as they were before the packet.
    pub candidates: Vec<CandidateStatus>,
}

/// A real server that may be picked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// The RIP.
    pub server: Option<IpAddr>,
    /// Its weight.
    pub weight: u32,
    /// Its active connections.
    pub active_connections: u32,
    /// Its other connections.
    pub inactive_connections: u32,
    /// Whether its upper threshold keeps new connections away.
    pub overloaded: bool,
    /// What it costs, with a scheduler that looks for the cheapest.
    pub cost: Option<u64>,
    /// Whether the cost is divided by the weight.
    pub cost_for_weight: bool,
}

/// Whether a packet fits into its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelFit {
    /// What packets are wrapped in.
    pub kind: TunnelKind,
    /// Largest outer packet on the way, in bytes.
    pub path_mtu: u16,
    /// Whether an ICMP error told so.
    pub path_mtu_is_learned: bool,
    /// Largest inner packet that fits, in bytes.
    pub inner_len_max: u16,
}

/// How a packet ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fate {
    /// It is sent, in one frame or in fragments.
    Forwarded {
        /// What goes out, byte by byte.
        frames: Vec<SentFrame>,
    },
    /// It is dropped.
    Dropped {
        /// The name of the counter.
        reason: String,
        /// What it means.
        help: String,
    },
    /// The management thread gets it.
    Punted {
        /// The name of the counter.
        reason: String,
        /// What it means, and what is done.
        help: String,
    },
    /// It waits for the first fragment of its datagram. What workers have
    /// already seen of the datagram is not looked at.
    Waits,
    /// No port takes a frame so long.
    TooLong,
}

/// A frame that goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentFrame {
    /// Name of the port.
    pub port: String,
    /// From the destination MAC address on.
    #[serde(with = "hexadecimal")]
    pub bytes: Vec<u8>,
}

/// Bytes as hexadecimal digits.
mod hexadecimal {
    use data_encoding::HEXLOWER_PERMISSIVE;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&HEXLOWER_PERMISSIVE.encode(bytes))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(D::Error::custom)
    }
}
