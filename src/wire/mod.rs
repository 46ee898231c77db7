//! Views over the bytes of packets: one protocol a file.
//!
//! Each file has the same skeleton. `XHeader` is a zero-copy view whose
//! `parse` checks once that the header is whole and sound, so that its getters
//! need neither bounds checks nor `Result`; what follows the header comes back
//! as the payload. `XFields` holds a header's values and writes it with
//! `to_bytes`; it exists where the director makes such headers itself. Errors
//! name the cause and hold the offending value.
//!
//! Nothing here decides what happens to a packet.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use self::ethernet::EtherType;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv4_options;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod tcp;
pub mod udp;
pub mod unicast;
pub mod vlan;

/// What an IP packet carries: the protocol numbers of IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// IPv4 in IP (RFC 2003).
    pub const IPIP: Self = Self(4);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// IPv6 in IP (RFC 2473, RFC 4213).
    pub const IPV6: Self = Self(41);
    /// Generic Routing Encapsulation (RFC 2784).
    pub const GRE: Self = Self(47);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// SCTP (RFC 9260).
    pub const SCTP: Self = Self(132);
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IpVersion {
    /// IPv4 (RFC 791).
    V4 = 4,
    /// IPv6 (RFC 8200).
    V6 = 6,
}

impl IpVersion {
    /// The version of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The version of a packet. What is not IPv6 is read as IPv4.
    pub const fn of_packet(packet: &[u8]) -> Self {
        match packet.first() {
            Some(first) if *first >> 4 == 6 => Self::V6,
            _ => Self::V4,
        }
    }

    /// The `EtherType` of its packets.
    pub const fn ether_type(self) -> EtherType {
        match self {
            Self::V4 => EtherType::IPV4,
            Self::V6 => EtherType::IPV6,
        }
    }

    /// Length of its header without options or extension headers, in bytes.
    pub const fn header_len(self) -> u16 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The protocol number of its packets within an IP packet.
    pub const fn encapsulated(self) -> IpProtocol {
        match self {
            Self::V4 => IpProtocol::IPIP,
            Self::V6 => IpProtocol::IPV6,
        }
    }
}

/// The buffer that a message shall be written to is too short for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a buffer of {available} bytes cannot hold {needed} bytes")]
pub struct BufferTooShort {
    /// Length of the message.
    pub needed: usize,
    /// Length of the buffer.
    pub available: usize,
}

#[cfg(test)]
pub(crate) mod test_support {
    /// The bytes written in `digits`, two hexadecimal digits each; white space
    /// does not count.
    pub(crate) fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits
            .chars()
            .filter(|digit| !digit.is_whitespace())
            .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
            .collect();
        assert_eq!(digits.len() % 2, 0, "half a byte");
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }
}
