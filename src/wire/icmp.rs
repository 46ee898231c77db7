//! ICMP for IPv4 (RFC 792): the answers and errors a director sends itself.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      Type     |      Code     |            Checksum           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    Rest of the header: identifier and sequence, MTU, zeros    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |              Data, or the packet an error is about            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Messages here have no IP header; the sender puts one in front. How many
//! errors may be sent is not decided here.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use super::{
    BufferTooShort, IpProtocol,
    checksum::{self, Sum},
    ipv4::{self, Ipv4Header},
};

/// Length of the header.
pub const HEADER_LEN: usize = 8;

/// Length of a timestamp message.
pub const TIMESTAMP_LEN: usize = 20;

/// The longest error with its IP header of 20 bytes (RFC 1812 section
/// 4.3.2.3).
pub const ERROR_PACKET_LEN_MAX: usize = 576;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IcmpType(pub u8);

impl IcmpType {
    /// Answer to [`ECHO_REQUEST`](Self::ECHO_REQUEST).
    pub const ECHO_REPLY: Self = Self(0);
    /// A packet could not be delivered; the code says why.
    pub const DESTINATION_UNREACHABLE: Self = Self(3);
    /// Deprecated (RFC 6633).
    pub const SOURCE_QUENCH: Self = Self(4);
    /// There is a better gateway.
    pub const REDIRECT: Self = Self(5);
    /// "Ping".
    pub const ECHO_REQUEST: Self = Self(8);
    /// TTL or the time for reassembly ran out.
    pub const TIME_EXCEEDED: Self = Self(11);
    /// A header that makes no sense.
    pub const PARAMETER_PROBLEM: Self = Self(12);
    /// Question for the time.
    pub const TIMESTAMP_REQUEST: Self = Self(13);
    /// Answer to [`TIMESTAMP_REQUEST`](Self::TIMESTAMP_REQUEST).
    pub const TIMESTAMP_REPLY: Self = Self(14);

    /// Whether messages of this type quote the packet they are about.
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::DESTINATION_UNREACHABLE
                | Self::SOURCE_QUENCH
                | Self::REDIRECT
                | Self::TIME_EXCEEDED
                | Self::PARAMETER_PROBLEM
        )
    }
}

/// Why bytes are not the ICMP message that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcmpError {
    /// Shorter than such a message is.
    #[error("{available} bytes are shorter than an ICMP message of {needed} bytes")]
    TooShort {
        /// Length of the shortest such message.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A wrong checksum.
    #[error("ICMP checksum {0:#06x} is wrong")]
    Checksum(u16),
    /// A message of another type.
    #[error("ICMP type {} is not {}", found.0, expected.0)]
    Type {
        /// The type there is.
        found: IcmpType,
        /// The type there should be.
        expected: IcmpType,
    },
}

/// A checked view over an ICMP header.
#[derive(Clone, Copy, Debug)]
pub struct IcmpHeader<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> IcmpHeader<'a> {
    /// The header at the front of `message`, a whole IP payload, and the data.
    /// The checksum is not checked: see [`validate`](Self::validate).
    ///
    /// # Errors
    /// [`IcmpError::TooShort`]
    pub fn parse(message: &'a [u8]) -> Result<(Self, &'a [u8]), IcmpError> {
        match message.split_first_chunk() {
            Some((bytes, data)) => Ok((Self { bytes }, data)),
            None => Err(IcmpError::TooShort {
                needed: HEADER_LEN,
                available: message.len(),
            }),
        }
    }

    /// Like [`parse`](Self::parse), and checks the checksum.
    ///
    /// # Errors
    /// [`IcmpError::TooShort`], [`IcmpError::Checksum`]
    pub fn validate(message: &'a [u8]) -> Result<(Self, &'a [u8]), IcmpError> {
        let (header, data) = Self::parse(message)?;
        if Sum::of(message).is_intact() {
            Ok((header, data))
        } else {
            Err(IcmpError::Checksum(header.checksum()))
        }
    }

    /// The kind of message.
    pub const fn icmp_type(&self) -> IcmpType {
        IcmpType(self.bytes[0])
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

    /// MTU of the next hop, of a message that says fragmentation is needed
    /// (RFC 1191 section 4); 0 from routers that do not say.
    pub const fn next_hop_mtu(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }
}

/// Turns an echo request into its reply: only the type and the checksum
/// change.
///
/// # Errors
/// When it is not an intact echo request.
pub fn make_echo_reply(message: &mut [u8]) -> Result<(), IcmpError> {
    let (header, _) = IcmpHeader::validate(message)?;
    expect_type(header, IcmpType::ECHO_REQUEST)?;
    let available = message.len();
    let too_short = IcmpError::TooShort {
        needed: HEADER_LEN,
        available,
    };
    let [icmp_type, code, checksum0, checksum1, ..] = message else {
        return Err(too_short);
    };
    let before = u16::from_be_bytes([*checksum0, *checksum1]);
    let after = checksum::update(
        before,
        u16::from_be_bytes([*icmp_type, *code]),
        u16::from_be_bytes([IcmpType::ECHO_REPLY.0, *code]),
    );
    *icmp_type = IcmpType::ECHO_REPLY.0;
    [*checksum0, *checksum1] = after.to_be_bytes();
    Ok(())
}

/// The answer to a timestamp request. `ms_since_midnight` is the time of day
/// in UTC, given both as the time of receipt and of the answer.
///
/// A request that lacks its receive and transmit timestamps is refused; Linux
/// answers it.
///
/// # Errors
/// When it is not an intact timestamp request.
pub fn timestamp_reply(
    request: &[u8],
    ms_since_midnight: u32,
) -> Result<[u8; TIMESTAMP_LEN], IcmpError> {
    let (header, _) = IcmpHeader::validate(request)?;
    expect_type(header, IcmpType::TIMESTAMP_REQUEST)?;
    let &[_, _, _, _, i0, i1, s0, s1, o0, o1, o2, o3, ..] = request
        .first_chunk::<TIMESTAMP_LEN>()
        .ok_or(IcmpError::TooShort {
            needed: TIMESTAMP_LEN,
            available: request.len(),
        })?;
    let [t0, t1, t2, t3] = ms_since_midnight.to_be_bytes();
    let with_checksum = |[c0, c1]: [u8; 2]| {
        [
            IcmpType::TIMESTAMP_REPLY.0,
            0,
            c0,
            c1,
            i0,
            i1,
            s0,
            s1, //
            o0,
            o1,
            o2,
            o3,
            t0,
            t1,
            t2,
            t3,
            t0,
            t1,
            t2,
            t3,
        ]
    };
    Ok(with_checksum(
        Sum::of(&with_checksum([0, 0])).checksum().to_be_bytes(),
    ))
}

const fn expect_type(header: IcmpHeader<'_>, expected: IcmpType) -> Result<(), IcmpError> {
    let found = header.icmp_type();
    if found.0 == expected.0 {
        Ok(())
    } else {
        Err(IcmpError::Type { found, expected })
    }
}

/// What an error tells the sender of a packet: type, code and the second half
/// of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpCause {
    /// The kind of message.
    pub icmp_type: IcmpType,
    /// What exactly.
    pub code: u8,
    /// The second half of the header.
    pub rest: u32,
}

impl IcmpCause {
    /// 3/0
    pub const NETWORK_UNREACHABLE: Self = Self::unreachable(0, 0);
    /// 3/1
    pub const HOST_UNREACHABLE: Self = Self::unreachable(1, 0);
    /// 3/2
    pub const PROTOCOL_UNREACHABLE: Self = Self::unreachable(2, 0);
    /// 3/3
    pub const PORT_UNREACHABLE: Self = Self::unreachable(3, 0);
    /// 11/0: TTL ran out.
    pub const TTL_EXCEEDED: Self = Self {
        icmp_type: IcmpType::TIME_EXCEEDED,
        code: 0,
        rest: 0,
    };
    /// 11/1: fragments did not arrive in time.
    pub const REASSEMBLY_TIME_EXCEEDED: Self = Self {
        icmp_type: IcmpType::TIME_EXCEEDED,
        code: 1,
        rest: 0,
    };

    /// 3/4: the packet must not be fragmented and is longer than `mtu` bytes
    /// (RFC 1191).
    pub const fn fragmentation_needed(mtu: u16) -> Self {
        Self::unreachable(4, mtu as u32)
    }

    const fn unreachable(code: u8, rest: u32) -> Self {
        Self {
            icmp_type: IcmpType::DESTINATION_UNREACHABLE,
            code,
            rest,
        }
    }
}

/// An error message to be written: a cause and the packet it quotes.
#[derive(Clone, Copy, Debug)]
pub struct IcmpErrorMessage<'a> {
    cause: IcmpCause,
    quote: &'a [u8],
}

impl<'a> IcmpErrorMessage<'a> {
    /// The error about `packet`, an IP packet, perhaps with padding. Quotes as
    /// much of it as fits into [`ERROR_PACKET_LEN_MAX`] behind an IP header
    /// without options.
    ///
    /// Whether there may be an error at all says [`may_trigger_error`].
    pub fn about(packet: &'a [u8], cause: IcmpCause) -> Self {
        let total_len = match Ipv4Header::parse_quoted(packet) {
            Ok((header, _)) => usize::from(header.total_len()),
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

    /// Length of the message in bytes: 8 to 556.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub const fn len(&self) -> usize {
        HEADER_LEN + self.quote.len()
    }

    /// Writes the message to the front of `buffer`.
    ///
    /// # Errors
    /// When the buffer is shorter than [`len`](Self::len).
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), BufferTooShort> {
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
        *header = self.header();
        Ok(())
    }

    /// The message.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.header(), self.quote].concat()
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let type_and_code = u16::from_be_bytes([self.cause.icmp_type.0, self.cause.code]);
        let sum = Sum::of(self.quote)
            .add_u16(type_and_code)
            .add_u32(self.cause.rest);
        let [c0, c1] = sum.checksum().to_be_bytes();
        let [r0, r1, r2, r3] = self.cause.rest.to_be_bytes();
        [
            self.cause.icmp_type.0,
            self.cause.code,
            c0,
            c1,
            r0,
            r1,
            r2,
            r3,
        ]
    }
}

/// Whether an ICMP error about this IP packet may be sent (RFC 1122 section
/// 3.2.2, RFC 1812 section 4.3.2.7).
///
/// Not about an ICMP error, about a fragment other than the first, about a
/// packet to a broadcast or multicast address, or from an address that is not
/// one host's. An ICMP type that is not known counts as an error, as in Linux.
/// Broadcasts of connected networks are not known here; the caller knows them,
/// and whether the frame itself was a broadcast.
pub fn may_trigger_error(packet: &[u8]) -> bool {
    let Ok((ip, payload)) = Ipv4Header::parse_quoted(packet) else {
        return false;
    };
    if ip.fragment_offset() != 0 || !is_host(ip.source()) {
        return false;
    }
    let destination = ip.destination();
    if destination.is_broadcast() || destination.is_multicast() {
        return false;
    }
    ip.protocol() != IpProtocol::ICMP
        || payload
            .first()
            .is_some_and(|&first| first <= ICMP_TYPE_KNOWN_MAX && !IcmpType(first).is_error())
}

/// Whether an address can be one host's on a network: not zero network,
/// loopback, multicast, reserved or broadcast.
const fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// The last type of RFC 950; later ones were assigned and are deprecated (RFC
/// 6918).
const ICMP_TYPE_KNOWN_MAX: u8 = 18;
/// Bytes of a packet that an error about it quotes at most.
pub const QUOTE_LEN_MAX: usize = ERROR_PACKET_LEN_MAX - ipv4::HEADER_LEN - HEADER_LEN;

#[cfg(test)]
mod tests;
