//! The IPv4 header (RFC 791).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version|  IHL  |    DSCP   |ECN|          Total length         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Identification        |R|D|M|     Fragment offset     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Time to live |    Protocol   |        Header checksum        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         Source address                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      Destination address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       Options, 0 to 40 bytes                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Options are handed out as bytes; nothing here looks into them.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use super::{
    IpProtocol,
    checksum::{self, Sum},
};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// Length of a header with all the options it can have.
pub const HEADER_LEN_MAX: usize = 60;

/// Every link must carry packets of this length (RFC 791).
pub const MTU_MIN: u16 = 68;

/// Offset of the header checksum.
pub const CHECKSUM_OFFSET: usize = 10;

/// Why bytes are not an IPv4 packet (RFC 1812 section 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv4Error {
    /// Shorter than the header without options.
    #[error("{0} bytes are shorter than an IPv4 header")]
    TooShort(usize),
    /// Not version 4.
    #[error("IP version {0} is not 4")]
    Version(u8),
    /// A header length (in 32-bit words) below five.
    #[error("IPv4 header length of {0} words is below 5")]
    HeaderLen(u8),
    /// Shorter than the header with its options.
    #[error("{available} bytes are shorter than their IPv4 header of {header_len} bytes")]
    HeaderTruncated {
        /// Length of the header, from the header.
        header_len: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A total length that does not hold the header.
    #[error("IPv4 total length {total_len} is below the header length {header_len}")]
    TotalLenBelowHeader {
        /// Total length, from the header.
        total_len: u16,
        /// Length of the header, from the header.
        header_len: usize,
    },
    /// Fewer bytes than the total length says.
    #[error("{available} bytes are fewer than the IPv4 total length {total_len}")]
    Truncated {
        /// Total length, from the header.
        total_len: u16,
        /// Bytes there are.
        available: usize,
    },
    /// A wrong header checksum.
    #[error("IPv4 header checksum {0:#06x} is wrong")]
    Checksum(u16),
}

/// A checked view over an IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Header<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
}

impl<'a> Ipv4Header<'a> {
    /// The header at the front of `packet`, and the payload. What follows the
    /// total length (Ethernet padding) belongs to neither.
    ///
    /// Checks all that RFC 1812 section 5.2.2 lists but the checksum, which
    /// the NIC may have checked: see [`validate`](Self::validate).
    ///
    /// # Errors
    /// The first check that fails.
    pub fn parse(packet: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv4Error> {
        let (header, rest) = Self::parse_header(packet)?;
        let total_len = header.total_len();
        let payload_len = usize::from(total_len)
            .checked_sub(header.header_len())
            .ok_or(Ipv4Error::TotalLenBelowHeader {
                total_len,
                header_len: header.header_len(),
            })?;
        match rest.split_at_checked(payload_len) {
            Some((payload, _padding)) => Ok((header, payload)),
            None => Err(Ipv4Error::Truncated {
                total_len,
                available: packet.len(),
            }),
        }
    }

    /// Like [`parse`](Self::parse), and checks the header checksum.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn validate(packet: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv4Error> {
        let (header, payload) = Self::parse(packet)?;
        if header.is_checksum_correct() {
            Ok((header, payload))
        } else {
            Err(Ipv4Error::Checksum(header.checksum()))
        }
    }

    /// The header of a packet that an ICMP error quotes, and as much of its
    /// payload as is quoted. Neither total length nor checksum are checked:
    /// the quote may be cut, and routers change quoted headers.
    ///
    /// # Errors
    /// When the header is not whole or not an IPv4 header.
    pub fn parse_quoted(quote: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv4Error> {
        let (header, rest) = Self::parse_header(quote)?;
        let payload_len = usize::from(header.total_len()).saturating_sub(header.header_len());
        Ok((
            header,
            rest.split_at_checked(payload_len)
                .map_or(rest, |(payload, _)| payload),
        ))
    }

    /// The header, and all that follows it.
    fn parse_header(packet: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv4Error> {
        let (fixed, rest) = packet
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Ipv4Error::TooShort(packet.len()))?;
        let version = fixed[0] >> 4;
        if version != VERSION {
            return Err(Ipv4Error::Version(version));
        }
        let words = fixed[0] & 0x0f;
        let header_len = usize::from(words) * 4;
        let options_len = header_len
            .checked_sub(HEADER_LEN)
            .ok_or(Ipv4Error::HeaderLen(words))?;
        match rest.split_at_checked(options_len) {
            Some((options, rest)) => Ok((Self { fixed, options }, rest)),
            None => Err(Ipv4Error::HeaderTruncated {
                header_len,
                available: packet.len(),
            }),
        }
    }

    /// Length of the header with options, 20 to 60 bytes.
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// DSCP and ECN together: what was once "type of service".
    pub const fn tos(&self) -> u8 {
        self.fixed[1]
    }

    /// Differentiated services code point (RFC 2474), 0 to 63.
    pub const fn dscp(&self) -> u8 {
        self.tos() >> 2
    }

    /// Explicit congestion notification (RFC 3168): 0 not capable, 1 ECT(1), 2
    /// ECT(0), 3 congestion experienced.
    pub const fn ecn(&self) -> u8 {
        self.tos() & 0x03
    }

    /// Length of header and payload in bytes.
    pub const fn total_len(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Identification: what fragments of one packet have in common.
    pub const fn id(&self) -> u16 {
        u16::from_be_bytes([self.fixed[4], self.fixed[5]])
    }

    /// The flag that must be zero.
    pub const fn reserved_flag(&self) -> bool {
        self.fixed[6] & 0x80 != 0
    }

    /// Don't fragment (DF).
    pub const fn dont_fragment(&self) -> bool {
        self.fixed[6] & 0x40 != 0
    }

    /// More fragments (MF).
    pub const fn more_fragments(&self) -> bool {
        self.fixed[6] & 0x20 != 0
    }

    /// Where in the original payload this packet's payload belongs, in bytes;
    /// a multiple of 8.
    pub const fn fragment_offset(&self) -> u16 {
        (u16::from_be_bytes([self.fixed[6], self.fixed[7]]) & FRAGMENT_OFFSET_MASK) * 8
    }

    /// Whether this is a part of a packet: any fragment, first or later.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset() != 0
    }

    /// Time to live.
    pub const fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// What the payload is.
    pub const fn protocol(&self) -> IpProtocol {
        IpProtocol(self.fixed[9])
    }

    /// The header checksum as it stands there.
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.fixed[CHECKSUM_OFFSET], self.fixed[CHECKSUM_OFFSET + 1]])
    }

    /// Source address.
    pub const fn source(&self) -> Ipv4Addr {
        let [.., a, b, c, d, _, _, _, _] = *self.fixed;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination address.
    pub const fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.fixed;
        Ipv4Addr::new(a, b, c, d)
    }

    /// The options, 0 to 40 bytes, a multiple of 4.
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// Whether the header checksum is right.
    pub fn is_checksum_correct(&self) -> bool {
        Sum::of(self.fixed).add_bytes(self.options).is_intact()
    }

    /// The pseudo header of a TCP segment or UDP datagram of `l4_len` bytes in
    /// this packet.
    pub const fn pseudo_header(&self, l4_len: u16) -> Sum {
        Sum::ipv4_pseudo_header(self.source(), self.destination(), self.protocol(), l4_len)
    }
}

/// A view that changes an IPv4 header and keeps its checksum right, or as
/// wrong as it was.
#[derive(Debug)]
pub struct Ipv4HeaderMut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
}

impl<'a> Ipv4HeaderMut<'a> {
    /// The header at the front of `packet`, unchecked but for its length: let
    /// [`Ipv4Header::parse`] check it first.
    ///
    /// # Errors
    /// [`Ipv4Error::TooShort`]
    pub fn of(packet: &'a mut [u8]) -> Result<Self, Ipv4Error> {
        let len = packet.len();
        match packet.first_chunk_mut() {
            Some(fixed) => Ok(Self { fixed }),
            None => Err(Ipv4Error::TooShort(len)),
        }
    }

    /// Replaces DSCP and ECN.
    pub fn set_tos(&mut self, tos: u8) {
        let [version, old, ..] = *self.fixed;
        self.fixed[1] = tos;
        self.update_checksum([version, old], [version, tos]);
    }

    fn update_checksum(&mut self, old: [u8; 2], new: [u8; 2]) {
        let before =
            u16::from_be_bytes([self.fixed[CHECKSUM_OFFSET], self.fixed[CHECKSUM_OFFSET + 1]]);
        let after = checksum::update(before, u16::from_be_bytes(old), u16::from_be_bytes(new));
        [self.fixed[CHECKSUM_OFFSET], self.fixed[CHECKSUM_OFFSET + 1]] = after.to_be_bytes();
    }
}

/// The values of an IPv4 header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Fields {
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Don't fragment (DF).
    pub dont_fragment: bool,
    /// More fragments (MF).
    pub more_fragments: bool,
    /// Fragment offset in bytes; a multiple of 8, or it is rounded down to one.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4Fields {
    /// The header, with its checksum.
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let [len0, len1] = self.total_len.to_be_bytes();
        let [id0, id1] = self.id.to_be_bytes();
        let flags = (self.dont_fragment as u16) << 14 | (self.more_fragments as u16) << 13;
        let fragment = flags | (self.fragment_offset / 8);
        let [fragment0, fragment1] = fragment.to_be_bytes();
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        let version = VERSION << 4 | HEADER_WORDS;
        let checksum = Sum::ZERO
            .add_u16(u16::from_be_bytes([version, self.tos]))
            .add_u16(self.total_len)
            .add_u16(self.id)
            .add_u16(fragment)
            .add_u16(u16::from_be_bytes([self.ttl, self.protocol.0]))
            .add_u32(self.source.to_bits())
            .add_u32(self.destination.to_bits())
            .checksum();
        let [sum0, sum1] = checksum.to_be_bytes();
        [
            version,
            self.tos,
            len0,
            len1, //
            id0,
            id1,
            fragment0,
            fragment1, //
            self.ttl,
            self.protocol.0,
            sum0,
            sum1, //
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ]
    }
}

const VERSION: u8 = 4;
/// [`HEADER_LEN`] in 32-bit words.
const HEADER_WORDS: u8 = 5;
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

#[cfg(test)]
mod tests;
