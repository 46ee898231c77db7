//! What is counted of services and real servers.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// What went through a service or to a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Connections opened.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes of IP packets from clients, without the outer header.
    pub in_bytes: u64,
    /// Packets to clients; always 0 in tunnel mode, where real servers answer
    /// directly.
    pub out_packets: u64,
    /// Bytes to clients; always 0 in tunnel mode.
    pub out_bytes: u64,
}

/// How much of that it is a second, as Linux IPVS estimates it: an average of
/// the last seconds in which those before count ever less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections opened a second.
    pub connections_per_s: u64,
    /// Packets from clients a second.
    pub in_packets_per_s: u64,
    /// Packets to clients a second.
    pub out_packets_per_s: u64,
    /// Bytes from clients a second.
    pub in_bytes_per_s: u64,
    /// Bytes to clients a second.
    pub out_bytes_per_s: u64,
}
