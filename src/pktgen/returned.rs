//! What a director sends back to clients: errors and resets.
use std::{collections::BTreeMap, fmt};

use super::outer::Outer;
use crate::wire::{
    IpProtocol, icmp::IcmpHeader, icmpv6::Icmpv6Header, tcp::TcpFlags, tcp::TcpHeader,
};

/// Kinds of packets that came, but not out of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReturnedKind {
    /// An ICMP message to a client.
    Icmp {
        /// Its type.
        icmp_type: u8,
        /// Its code.
        code: u8,
    },
    /// An ICMPv6 message to a client.
    Icmpv6 {
        /// Its type.
        icmp_type: u8,
        /// Its code.
        code: u8,
    },
    /// A TCP segment with RST.
    TcpReset,
    /// Anything else, by its protocol.
    Other {
        /// IP protocol.
        protocol: u8,
    },
}

impl fmt::Display for ReturnedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp { icmp_type, code } => write!(f, "icmp_{icmp_type}_{code}"),
            Self::Icmpv6 { icmp_type, code } => write!(f, "icmpv6_{icmp_type}_{code}"),
            Self::TcpReset => f.write_str("tcp_reset"),
            Self::Other { protocol } => write!(f, "protocol_{protocol}"),
        }
    }
}

impl ReturnedKind {
    /// Of which kind a packet is.
    pub(super) fn of(packet: &Outer<'_>) -> Self {
        let other = Self::Other {
            protocol: packet.protocol.0,
        };
        match packet.protocol {
            IpProtocol::ICMP => {
                IcmpHeader::parse(packet.payload).map_or(other, |(header, _)| Self::Icmp {
                    icmp_type: header.icmp_type().0,
                    code: header.code(),
                })
            }
            IpProtocol::ICMPV6 => {
                Icmpv6Header::parse(packet.payload).map_or(other, |(header, _)| Self::Icmpv6 {
                    icmp_type: header.icmp_type().0,
                    code: header.code(),
                })
            }
            IpProtocol::TCP => match TcpHeader::parse(packet.payload) {
                Ok((header, _)) if header.flags().contains(TcpFlags::RST) => Self::TcpReset,
                _ => other,
            },
            _ => other,
        }
    }
}

/// How many came of each kind.
#[derive(Clone, Debug, Default)]
pub struct Returned(BTreeMap<ReturnedKind, u64>);

impl Returned {
    /// Counts a packet.
    pub(super) fn add(&mut self, packet: &Outer<'_>) {
        *self.0.entry(ReturnedKind::of(packet)).or_default() += 1;
    }

    /// The kinds that came.
    pub fn counts(&self) -> impl Iterator<Item = (ReturnedKind, u64)> + '_ {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{IpVersion, test_support::hex};

    fn kind(version: IpVersion, packet: &str) -> String {
        let packet = hex(packet);
        let packet = Outer::read(version, &packet).unwrap();
        ReturnedKind::of(&packet).to_string()
    }

    #[test]
    fn errors_and_resets_are_told_by_their_kind() {
        // Fragmentation needed, from 198.51.100.10 to 203.0.113.7.
        let icmp = "45c00038 00004000 40010000 c633640a cb007107 \
                    0304 0000 0000 05c8 45000028 12344000 4006c256 cb007107 c633640a 00010002 \
                    00000003";
        assert_eq!(kind(IpVersion::V4, icmp), "icmp_3_4");
        let reset = "45000028 00004000 40060000 c633640a cb007107 \
                     00509c41 00000000 00000001 50140000 00000000";
        assert_eq!(kind(IpVersion::V4, reset), "tcp_reset");
        let answer = "45000028 00004000 40060000 c633640a cb007107 \
                      00509c41 00000000 00000001 50120000 00000000";
        assert_eq!(kind(IpVersion::V4, answer), "protocol_6");
        let icmpv6 = "60000000 0008 3a ff 20010db8000000000000000000000001 \
                      20010002000000000000000000000001 0200 0000 000005c8";
        assert_eq!(kind(IpVersion::V6, icmpv6), "icmpv6_2_0");
    }
}
