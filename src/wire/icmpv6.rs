//! ICMP for IPv6 (RFC 4443): the answers and errors a director sends itself.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      Type     |      Code     |            Checksum           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   Rest of the header: identifier and sequence, MTU, pointer   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |              Data, or the packet an error is about            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The checksum covers a pseudo header, so that messages are written for a
//! source and a destination; the sender puts the IP header in front. How many
//! errors may be sent is not decided here.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::{
    BufferTooShort, IpProtocol,
    checksum::{self, Sum},
    ipv6::{self, Ipv6Header, upper_layer},
};

/// Length of the header.
pub const HEADER_LEN: usize = 8;

/// The longest error with its IP header of 40 bytes (RFC 4443 section 2.4).
pub const ERROR_PACKET_LEN_MAX: usize = 1280;

/// The kind of a message. Those below 128 are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Icmpv6Type(pub u8);

impl Icmpv6Type {
    /// A packet could not be delivered; the code says why.
    pub const DESTINATION_UNREACHABLE: Self = Self(1);
    /// A link on the way carries only shorter packets.
    pub const PACKET_TOO_BIG: Self = Self(2);
    /// The hop limit or the time for reassembly ran out.
    pub const TIME_EXCEEDED: Self = Self(3);
    /// A header that makes no sense.
    pub const PARAMETER_PROBLEM: Self = Self(4);
    /// "Ping".
    pub const ECHO_REQUEST: Self = Self(128);
    /// Answer to [`ECHO_REQUEST`](Self::ECHO_REQUEST).
    pub const ECHO_REPLY: Self = Self(129);
    /// Question for routers (RFC 4861).
    pub const ROUTER_SOLICITATION: Self = Self(133);
    /// A router says that it is there (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: Self = Self(134);
    /// Question for a MAC address (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: Self = Self(135);
    /// Answer to it (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: Self = Self(136);
    /// There is a better gateway (RFC 4861).
    pub const REDIRECT: Self = Self(137);
    /// Multicast groups of the sender (RFC 3810).
    pub const MULTICAST_LISTENER_REPORT: Self = Self(143);

    /// Whether messages of this type quote the packet they are about.
    pub const fn is_error(self) -> bool {
        self.0 < 128
    }

    /// Whether this is a message of Neighbor Discovery.
    pub const fn is_neighbor_discovery(self) -> bool {
        matches!(self.0, 133..=137)
    }
}

/// Why bytes are not the ICMPv6 message that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Icmpv6Error {
    /// Shorter than the header.
    #[error("{0} bytes are shorter than an ICMPv6 header")]
    TooShort(usize),
    /// A wrong checksum.
    #[error("ICMPv6 checksum {0:#06x} is wrong")]
    Checksum(u16),
    /// A message of another type.
    #[error("ICMPv6 type {} is not {}", found.0, expected.0)]
    Type {
        /// The type there is.
        found: Icmpv6Type,
        /// The type there should be.
        expected: Icmpv6Type,
    },
}

/// A checked view over an ICMPv6 header.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6Header<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> Icmpv6Header<'a> {
    /// The header at the front of `message`, and the data. The checksum is not
    /// checked: see [`validate`](Self::validate).
    ///
    /// # Errors
    /// [`Icmpv6Error::TooShort`]
    pub fn parse(message: &'a [u8]) -> Result<(Self, &'a [u8]), Icmpv6Error> {
        match message.split_first_chunk() {
            Some((bytes, data)) => Ok((Self { bytes }, data)),
            None => Err(Icmpv6Error::TooShort(message.len())),
        }
    }

    /// Like [`parse`](Self::parse), and checks the checksum of the message that
    /// a packet with the header `ip` carries.
    ///
    /// # Errors
    /// [`Icmpv6Error::TooShort`], [`Icmpv6Error::Checksum`]
    pub fn validate(
        ip: &Ipv6Header<'_>,
        message: &'a [u8],
    ) -> Result<(Self, &'a [u8]), Icmpv6Error> {
        let (header, data) = Self::parse(message)?;
        let pseudo_header = ip.pseudo_header(IpProtocol::ICMPV6, len_of(message));
        if pseudo_header.add_bytes(message).is_intact() {
            Ok((header, data))
        } else {
            Err(Icmpv6Error::Checksum(header.checksum()))
        }
    }

    /// The kind of message.
    pub const fn icmp_type(&self) -> Icmpv6Type {
        Icmpv6Type(self.bytes[0])
    }

    /// What exactly, depending on the type.
    pub const fn code(&self) -> u8 {
        self.bytes[1]
    }

    /// The checksum as it stands there.
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The second half of the header.
    pub const fn rest(&self) -> u32 {
        let [.., a, b, c, d] = *self.bytes;
        u32::from_be_bytes([a, b, c, d])
    }

    /// MTU of the next hop, of a message that says that a packet is too big.
    pub const fn mtu(&self) -> u32 {
        self.rest()
    }
}

/// Turns the echo request that a packet with the header `ip` carries into the
/// reply to be sent with source and destination exchanged: only the type and
/// the checksum change.
///
/// # Errors
/// When it is not an intact echo request.
pub fn make_echo_reply(ip: &Ipv6Header<'_>, message: &mut [u8]) -> Result<(), Icmpv6Error> {
    let (header, _) = Icmpv6Header::validate(ip, message)?;
    let found = header.icmp_type();
    let expected = Icmpv6Type::ECHO_REQUEST;
    if found != expected {
        return Err(Icmpv6Error::Type { found, expected });
    }
    let len = message.len();
    let [icmp_type, code, checksum0, checksum1, ..] = message else {
        return Err(Icmpv6Error::TooShort(len));
    };
    let after = checksum::update(
        u16::from_be_bytes([*checksum0, *checksum1]),
        u16::from_be_bytes([*icmp_type, *code]),
        u16::from_be_bytes([Icmpv6Type::ECHO_REPLY.0, *code]),
    );
    *icmp_type = Icmpv6Type::ECHO_REPLY.0;
    [*checksum0, *checksum1] = after.to_be_bytes();
    Ok(())
}

/// What an error tells the sender of a packet: type, code and the second half
/// of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmpv6Cause {
    /// The kind of message.
    pub icmp_type: Icmpv6Type,
    /// What exactly.
    pub code: u8,
    /// The second half of the header.
    pub rest: u32,
}

impl Icmpv6Cause {
    /// 1/0: no route to the destination.
    pub const NO_ROUTE: Self = Self::unreachable(0);
    /// 1/3: the destination does not answer.
    pub const ADDRESS_UNREACHABLE: Self = Self::unreachable(3);
    /// 1/4: nobody listens.
    pub const PORT_UNREACHABLE: Self = Self::unreachable(4);
    /// 3/0: the hop limit ran out.
    pub const HOP_LIMIT_EXCEEDED: Self = Self {
        icmp_type: Icmpv6Type::TIME_EXCEEDED,
        code: 0,
        rest: 0,
    };

    /// 2/0: the packet is longer than `mtu` bytes.
    pub const fn packet_too_big(mtu: u32) -> Self {
        Self {
            icmp_type: Icmpv6Type::PACKET_TOO_BIG,
            code: 0,
            rest: mtu,
        }
    }

    /// 4/1: the next header at `offset` bytes from the start of the packet is
    /// not known.
    pub const fn unknown_next_header(offset: u32) -> Self {
        Self {
            icmp_type: Icmpv6Type::PARAMETER_PROBLEM,
            code: 1,
            rest: offset,
        }
    }

    const fn unreachable(code: u8) -> Self {
        Self {
            icmp_type: Icmpv6Type::DESTINATION_UNREACHABLE,
            code,
            rest: 0,
        }
    }
}

/// An error message to be written: a cause and the packet it quotes.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6ErrorMessage<'a> {
    cause: Icmpv6Cause,
    quote: &'a [u8],
}

impl<'a> Icmpv6ErrorMessage<'a> {
    /// The error about `packet`, an IPv6 packet, perhaps with padding. Quotes
    /// as much of it as fits into [`ERROR_PACKET_LEN_MAX`].
    ///
    /// Whether there may be an error at all says [`may_trigger_error`].
    pub fn about(packet: &'a [u8], cause: Icmpv6Cause) -> Self {
        let total_len = match Ipv6Header::parse_quoted(packet) {
            Ok((header, _)) => header.total_len(),
            Err(_) => packet.len(),
        };
        let len = total_len.min(QUOTE_LEN_MAX);
        Self {
            cause,
            quote: packet
                .split_at_checked(len)
                .map_or(packet, |(quote, _)| quote),
        }
    }

    /// Length of the message in bytes: 8 to 1240.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub const fn len(&self) -> usize {
        HEADER_LEN + self.quote.len()
    }

    /// Writes the message from `source` to `destination` to the front of
    /// `buffer`.
    ///
    /// # Errors
    /// When the buffer is shorter than [`len`](Self::len).
    pub fn emit(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        buffer: &mut [u8],
    ) -> Result<(), BufferTooShort> {
        let too_short = BufferTooShort {
            needed: self.len(),
            available: buffer.len(),
        };
        let (header, rest) = buffer
            .split_first_chunk_mut::<HEADER_LEN>()
            .ok_or(too_short)?;
        let (quote, _) = rest
            .split_at_mut_checked(self.quote.len())
            .ok_or(too_short)?;
        quote.copy_from_slice(self.quote);
        *header = self.header(source, destination);
        Ok(())
    }

    /// The message from `source` to `destination`.
    pub fn to_vec(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        [&self.header(source, destination), self.quote].concat()
    }

    fn header(&self, source: Ipv6Addr, destination: Ipv6Addr) -> [u8; HEADER_LEN] {
        let Icmpv6Cause {
            icmp_type,
            code,
            rest,
        } = self.cause;
        let len = HEADER_LEN + self.quote.len();
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let sum = Sum::ipv6_pseudo_header(source, destination, IpProtocol::ICMPV6, len)
            .add_u16(u16::from_be_bytes([icmp_type.0, code]))
            .add_u32(rest)
            .add_bytes(self.quote);
        let [c0, c1] = sum.checksum().to_be_bytes();
        let [r0, r1, r2, r3] = rest.to_be_bytes();
        [icmp_type.0, code, c0, c1, r0, r1, r2, r3]
    }
}

/// Whether an ICMPv6 error with this cause about this IPv6 packet may be sent
/// (RFC 4443 section 2.4 e).
///
/// Not about an ICMPv6 error or redirect, about a fragment other than the
/// first, from an address that is not one host's, or, unless the packet is too
/// big, about one to a group. A packet whose upper layer cannot be found counts
/// as an error, since it may be one.
pub fn may_trigger_error(packet: &[u8], cause: Icmpv6Cause) -> bool {
    let Ok((ip, payload)) = Ipv6Header::parse_quoted(packet) else {
        return false;
    };
    if !is_host(ip.source()) {
        return false;
    }
    if ip.destination().is_multicast() && cause.icmp_type != Icmpv6Type::PACKET_TOO_BIG {
        return false;
    }
    let Ok(upper) = upper_layer(ip.next_header(), payload) else {
        return false;
    };
    if upper.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return false;
    }
    let message = payload.get(upper.offset..).unwrap_or_default();
    upper.protocol != IpProtocol::ICMPV6
        || message.first().is_some_and(|&first| {
            let first = Icmpv6Type(first);
            !first.is_error() && first != Icmpv6Type::REDIRECT
        })
}

/// Whether an address can be one host's on a network.
const fn is_host(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

fn len_of(message: &[u8]) -> u32 {
    u32::try_from(message.len()).unwrap_or(u32::MAX)
}

const QUOTE_LEN_MAX: usize = ERROR_PACKET_LEN_MAX - ipv6::HEADER_LEN - HEADER_LEN;

#[cfg(test)]
mod tests;
