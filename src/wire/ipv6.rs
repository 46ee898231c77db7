//! The IPv6 header and its extension headers (RFC 8200).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Traffic class |              Flow label               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Payload length        |  Next header  |   Hop limit   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                    Source address, 16 bytes                   +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                 Destination address, 16 bytes                 +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! What the packet carries stands behind any number of extension headers;
//! [`upper_layer`] walks over as many as [`EXTENSION_HEADERS_MAX`]. The fragment
//! header (section 4.5) among them is read:
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Next header  |   Reserved    |      Fragment offset    |Res|M|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         Identification                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::{IpProtocol, checksum::Sum};

/// Length of the header, without extension headers.
pub const HEADER_LEN: usize = 40;

/// Length of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// Every link must carry packets of this length (RFC 8200 section 5).
pub const MTU_MIN: u16 = 1280;

/// The most extension headers a packet may have. RFC 8200 gives each a place
/// of its own and destination options two: seven. One more is tolerated.
pub const EXTENSION_HEADERS_MAX: usize = 8;

/// Why bytes are not an IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv6Error {
    /// Shorter than the header.
    #[error("{0} bytes are shorter than an IPv6 header")]
    TooShort(usize),
    /// Not version 6.
    #[error("IP version {0} is not 6")]
    Version(u8),
    /// Fewer bytes than the payload length says. Jumbograms (RFC 2675) say 0
    /// and count as empty.
    #[error("{available} bytes are fewer than the IPv6 header and its payload of {payload_len}")]
    Truncated {
        /// Payload length, from the header.
        payload_len: u16,
        /// Bytes there are, the header included.
        available: usize,
    },
}

/// A checked view over an IPv6 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Header<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> Ipv6Header<'a> {
    /// The header at the front of `packet`, and the payload: extension headers
    /// and what they carry. What follows the payload length (Ethernet padding)
    /// belongs to neither.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn parse(packet: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv6Error> {
        let (header, rest) = Self::parse_header(packet)?;
        match rest.split_at_checked(usize::from(header.payload_len())) {
            Some((payload, _padding)) => Ok((header, payload)),
            None => Err(Ipv6Error::Truncated {
                payload_len: header.payload_len(),
                available: packet.len(),
            }),
        }
    }

    /// The header of a packet that an ICMPv6 error quotes, and as much of its
    /// payload as is quoted.
    ///
    /// # Errors
    /// When the header is not whole or not an IPv6 header.
    pub fn parse_quoted(quote: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv6Error> {
        let (header, rest) = Self::parse_header(quote)?;
        Ok((
            header,
            rest.split_at_checked(usize::from(header.payload_len()))
                .map_or(rest, |(payload, _)| payload),
        ))
    }

    /// The header, and all that follows it.
    fn parse_header(packet: &'a [u8]) -> Result<(Self, &'a [u8]), Ipv6Error> {
        let (bytes, rest) = packet
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Ipv6Error::TooShort(packet.len()))?;
        let version = bytes[0] >> 4;
        if version == VERSION {
            Ok((Self { bytes }, rest))
        } else {
            Err(Ipv6Error::Version(version))
        }
    }

    /// Traffic class: DSCP and ECN, as IPv4's type of service.
    pub const fn traffic_class(&self) -> u8 {
        self.bytes[0] << 4 | self.bytes[1] >> 4
    }

    /// Explicit congestion notification (RFC 3168): 0 not capable, 1 ECT(1), 2
    /// ECT(0), 3 congestion experienced.
    pub const fn ecn(&self) -> u8 {
        self.traffic_class() & 0x03
    }

    /// Flow label (RFC 6437), 20 bits.
    pub const fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.bytes[1] & 0x0f, self.bytes[2], self.bytes[3]])
    }

    /// Length of all that follows this header, in bytes.
    pub const fn payload_len(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// Length of header and payload, in bytes: 40 to 65575.
    pub const fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len() as usize
    }

    /// What follows this header: an extension header or the upper layer.
    pub const fn next_header(&self) -> IpProtocol {
        IpProtocol(self.bytes[6])
    }

    /// Hop limit, IPv4's time to live.
    pub const fn hop_limit(&self) -> u8 {
        self.bytes[7]
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        let [_, _, _, _, _, _, _, _, addresses @ ..] = self.bytes;
        address(addresses.first_chunk())
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        address(self.bytes.last_chunk())
    }

    /// The pseudo header of a message of `l4_len` bytes that this packet
    /// carries. `protocol` is that of the upper layer, which need not be the
    /// [`next_header`](Self::next_header).
    pub fn pseudo_header(&self, protocol: IpProtocol, l4_len: u32) -> Sum {
        let [_, _, _, _, _, _, _, _, addresses @ ..] = self.bytes;
        Sum::of(addresses)
            .add_u32(l4_len)
            .add_u16(u16::from(protocol.0))
    }
}

/// A view that changes an IPv6 header, which has no checksum.
#[derive(Debug)]
pub struct Ipv6HeaderMut<'a> {
    bytes: &'a mut [u8; HEADER_LEN],
}

impl<'a> Ipv6HeaderMut<'a> {
    /// The header at the front of `packet`, unchecked but for its length: let
    /// [`Ipv6Header::parse`] check it first.
    ///
    /// # Errors
    /// [`Ipv6Error::TooShort`]
    pub fn of(packet: &'a mut [u8]) -> Result<Self, Ipv6Error> {
        let len = packet.len();
        match packet.first_chunk_mut() {
            Some(bytes) => Ok(Self { bytes }),
            None => Err(Ipv6Error::TooShort(len)),
        }
    }

    /// Replaces the traffic class.
    pub const fn set_traffic_class(&mut self, traffic_class: u8) {
        self.bytes[0] = self.bytes[0] & 0xf0 | traffic_class >> 4;
        self.bytes[1] = self.bytes[1] & 0x0f | traffic_class << 4;
    }

    /// Replaces the payload length, in bytes.
    pub const fn set_payload_len(&mut self, payload_len: u16) {
        [self.bytes[4], self.bytes[5]] = payload_len.to_be_bytes();
    }

    /// Replaces the hop limit.
    pub const fn set_hop_limit(&mut self, hop_limit: u8) {
        self.bytes[7] = hop_limit;
    }

    /// Takes one from the hop limit, which stays 0 when it is 0, and returns
    /// what is left.
    pub const fn decrement_hop_limit(&mut self) -> u8 {
        self.bytes[7] = self.bytes[7].saturating_sub(1);
        self.bytes[7]
    }
}

/// The values of an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Fields {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; the lower 20 bits count.
    pub flow_label: u32,
    /// Length of all that follows the header, in bytes.
    pub payload_len: u16,
    /// What follows the header.
    pub next_header: IpProtocol,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6Fields {
    /// The header.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let first = u32::from(VERSION) << 28
            | u32::from(self.traffic_class) << 20
            | self.flow_label & FLOW_LABEL_MASK;
        let [len0, len1] = self.payload_len.to_be_bytes();
        let mut bytes = [0; HEADER_LEN];
        let fields = [len0, len1, self.next_header.0, self.hop_limit];
        let parts: [&[u8]; 4] = [
            &first.to_be_bytes(),
            &fields,
            &self.source.octets(),
            &self.destination.octets(),
        ];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

/// What a packet carries behind its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// What it is. [`NO_NEXT_HEADER`] when there is nothing.
    pub protocol: IpProtocol,
    /// Where it begins, in bytes from the start of the IPv6 payload. In a
    /// fragment other than the first, where the fragment's bytes begin.
    pub offset: usize,
    /// Where the next header field that names it stands, in bytes from the
    /// start of the IPv6 header.
    pub named_at: usize,
    /// The fragment header, when there is one; it need not say that the packet
    /// is in parts (RFC 6946).
    pub fragment: Option<FragmentHeader>,
}

/// The values of a fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// What the fragments have in common, with their addresses.
    pub id: u32,
    /// Where in the fragmentable part this fragment's bytes belong, in bytes; a
    /// multiple of 8.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more_fragments: bool,
    /// What the fragmentable part begins with.
    pub next_header: IpProtocol,
}

impl FragmentHeader {
    /// Whether this is a part of a packet: any fragment, first or later.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.offset != 0
    }

    /// The header. An offset that is no multiple of 8 is rounded down to one.
    pub const fn to_bytes(&self) -> [u8; FRAGMENT_HEADER_LEN] {
        let [o0, o1] = (self.offset & OFFSET_MASK | self.more_fragments as u16).to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        [self.next_header.0, 0, o0, o1, i0, i1, i2, i3]
    }

    const fn read(bytes: [u8; FRAGMENT_HEADER_LEN]) -> Self {
        let [next_header, _, o0, o1, i0, i1, i2, i3] = bytes;
        let offset = u16::from_be_bytes([o0, o1]);
        Self {
            id: u32::from_be_bytes([i0, i1, i2, i3]),
            offset: offset & OFFSET_MASK,
            more_fragments: offset & 1 != 0,
            next_header: IpProtocol(next_header),
        }
    }
}

/// Why the upper layer of a packet cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// The packet ends within an extension header.
    #[error("the packet ends in its IPv6 extension header {}", .0.0)]
    Truncated(IpProtocol),
    /// More extension headers than [`EXTENSION_HEADERS_MAX`].
    #[error("there are more than {EXTENSION_HEADERS_MAX} IPv6 extension headers")]
    TooMany,
    /// A source route (routing header of type 0) with addresses left to visit:
    /// RFC 5095 has it refused. Without any left it is passed over.
    #[error("the IPv6 source route (routing type 0) has {segments_left} addresses left")]
    SourceRoute {
        /// Addresses left.
        segments_left: u8,
    },
}

/// Finds the upper layer in `payload`, the bytes that follow an IPv6 header
/// whose next header is `next_header`.
///
/// Walks over hop-by-hop options, routing, destination options, authentication
/// and fragment headers, in whatever order they stand. The walk ends at a
/// fragment header that does not begin the packet's contents: what follows is
/// their middle.
///
/// # Errors
/// When there is no end to be found.
#[inline]
pub fn upper_layer(next_header: IpProtocol, payload: &[u8]) -> Result<UpperLayer, ExtensionError> {
    if !is_extension(next_header) {
        return Ok(UpperLayer {
            protocol: next_header,
            offset: 0,
            named_at: NEXT_HEADER_OFFSET,
            fragment: None,
        });
    }
    walk(next_header, payload)
}

fn walk(next_header: IpProtocol, payload: &[u8]) -> Result<UpperLayer, ExtensionError> {
    let mut upper = UpperLayer {
        protocol: next_header,
        offset: 0,
        named_at: NEXT_HEADER_OFFSET,
        fragment: None,
    };
    for _ in 0..EXTENSION_HEADERS_MAX {
        let kind = upper.protocol;
        let rest = payload.get(upper.offset..).unwrap_or_default();
        let Some(&head) = rest.first_chunk::<FRAGMENT_HEADER_LEN>() else {
            return Err(ExtensionError::Truncated(kind));
        };
        let len = match kind {
            AUTHENTICATION => (usize::from(head[1]) + 2) * 4,
            FRAGMENT => FRAGMENT_HEADER_LEN,
            _ => (usize::from(head[1]) + 1) * 8,
        };
        if kind == ROUTING && head[2] == ROUTING_TYPE_SOURCE_ROUTE && head[3] != 0 {
            return Err(ExtensionError::SourceRoute {
                segments_left: head[3],
            });
        }
        if len > rest.len() {
            return Err(ExtensionError::Truncated(kind));
        }
        upper.protocol = IpProtocol(head[0]);
        upper.named_at = HEADER_LEN + upper.offset;
        upper.offset += len;
        if kind == FRAGMENT {
            let fragment = FragmentHeader::read(head);
            upper.fragment = Some(fragment);
            if fragment.offset != 0 {
                return Ok(upper);
            }
        }
        if !is_extension(upper.protocol) {
            return Ok(upper);
        }
    }
    Err(ExtensionError::TooMany)
}

const fn is_extension(header: IpProtocol) -> bool {
    matches!(
        header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

fn address(octets: Option<&[u8; 16]>) -> Ipv6Addr {
    Ipv6Addr::from(octets.copied().unwrap_or_default())
}

/// Extension header with options that every node on the way reads.
pub const HOP_BY_HOP: IpProtocol = IpProtocol(0);
/// Extension header with addresses to visit.
pub const ROUTING: IpProtocol = IpProtocol(43);
/// Extension header of a fragment.
pub const FRAGMENT: IpProtocol = IpProtocol(44);
/// Extension header of RFC 4302.
pub const AUTHENTICATION: IpProtocol = IpProtocol(51);
/// Nothing follows.
pub const NO_NEXT_HEADER: IpProtocol = IpProtocol(59);
/// Extension header with options for the destination.
pub const DESTINATION_OPTIONS: IpProtocol = IpProtocol(60);

const VERSION: u8 = 6;
const NEXT_HEADER_OFFSET: usize = 6;
const FLOW_LABEL_MASK: u32 = 0x000f_ffff;
/// In a fragment header the offset stands in units of 8 bytes above three other
/// bits: masked, it is in bytes.
const OFFSET_MASK: u16 = 0xfff8;
const ROUTING_TYPE_SOURCE_ROUTE: u8 = 0;

#[cfg(test)]
mod tests;
