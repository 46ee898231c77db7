//! Takes the outer header off a tunnelled packet: the pure part.
//!
//! The checks are those that Linux makes between a packet's arrival and its
//! leaving `tunl0`: the outer header as `ip_rcv` checks it, ECN as
//! `IP_ECN_decapsulate` treats it, the inner header again as `ip_rcv` does,
//! and the sources that `ip_route_input` calls martian. On top of that the
//! inner destination must be one of our VIPs, since a tunnel that takes any
//! packet lets anybody send from anywhere to anything behind this host.

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::wire::{
    IpProtocol,
    checksum::{self, Sum},
};

/// What is taken off and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The outer destination: where this end of the tunnel is.
    pub local: Ipv4Addr,
    /// The inner destinations.
    pub vips: Vec<Ipv4Addr>,
    /// The outer sources; empty takes every director.
    pub directors: Vec<Ipv4Net>,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The outer header is not a whole IPv4 header of protocol 4.
    OuterHeader,
    /// The outer header's checksum is wrong.
    OuterChecksum,
    /// The outer header names more bytes than have arrived.
    OuterTruncated,
    /// A fragment: the kernel hands on whole packets only, so this one was
    /// made by something else.
    OuterFragment,
    /// Not sent to our end of the tunnel.
    NotForUs,
    /// Sent by none of the directors that are allowed to.
    UnknownDirector,
    /// What is inside is not a whole IPv4 header.
    InnerHeader,
    /// The inner header's checksum is wrong.
    InnerChecksum,
    /// The inner header names more bytes than the outer one carries.
    InnerTruncated,
    /// The inner destination is none of our VIPs.
    NotAVip,
    /// The inner source can be no client: this network, loopback, multicast,
    /// broadcast, or an address of our own.
    MartianSource,
    /// Congestion was signalled on the way to a sender that does not
    /// understand the signal (RFC 6040 section 4.2).
    CongestionUnheard,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::OuterHeader,
        Self::OuterChecksum,
        Self::OuterTruncated,
        Self::OuterFragment,
        Self::NotForUs,
        Self::UnknownDirector,
        Self::InnerHeader,
        Self::InnerChecksum,
        Self::InnerTruncated,
        Self::NotAVip,
        Self::MartianSource,
        Self::CongestionUnheard,
    ];

    /// How it is named in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OuterHeader => "outer_header",
            Self::OuterChecksum => "outer_checksum",
            Self::OuterTruncated => "outer_truncated",
            Self::OuterFragment => "outer_fragment",
            Self::NotForUs => "not_for_us",
            Self::UnknownDirector => "unknown_director",
            Self::InnerHeader => "inner_header",
            Self::InnerChecksum => "inner_checksum",
            Self::InnerTruncated => "inner_truncated",
            Self::NotAVip => "not_a_vip",
            Self::MartianSource => "martian_source",
            Self::CongestionUnheard => "congestion_unheard",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Takes the outer header off `packet`, which starts with it, and returns the
/// inner packet without anything that followed it.
///
/// The inner packet is as it was but for its ECN field, which takes over what
/// the outer one says (RFC 6040 section 4.2), with its checksum kept right.
///
/// # Errors
/// The reason for which a kernel, too, would drop the packet.
pub fn decapsulate<'a>(packet: &'a mut [u8], rules: &Rules) -> Result<&'a mut [u8], DropReason> {
    let outer = Header::read(packet).ok_or(DropReason::OuterHeader)?;
    if outer.protocol != PROTOCOL_IPIP {
        return Err(DropReason::OuterHeader);
    }
    if !outer.checksum_ok {
        return Err(DropReason::OuterChecksum);
    }
    if outer.total_len > packet.len() {
        return Err(DropReason::OuterTruncated);
    }
    if outer.is_fragment {
        return Err(DropReason::OuterFragment);
    }
    if outer.destination != rules.local {
        return Err(DropReason::NotForUs);
    }
    let is_known = |director: &Ipv4Net| director.contains(&outer.source);
    if !rules.directors.is_empty() && !rules.directors.iter().any(is_known) {
        return Err(DropReason::UnknownDirector);
    }
    let inner_bytes = packet
        .get_mut(outer.len..outer.total_len)
        .ok_or(DropReason::OuterHeader)?;
    let inner = Header::read(inner_bytes).ok_or(DropReason::InnerHeader)?;
    if !inner.checksum_ok {
        return Err(DropReason::InnerChecksum);
    }
    let inner_bytes = inner_bytes
        .get_mut(..inner.total_len)
        .ok_or(DropReason::InnerTruncated)?;
    if !rules.vips.contains(&inner.destination) {
        return Err(DropReason::NotAVip);
    }
    if is_martian(inner.source, rules) {
        return Err(DropReason::MartianSource);
    }
    let ecn = decapsulated_ecn(outer.tos & ECN_MASK, inner.tos & ECN_MASK)
        .ok_or(DropReason::CongestionUnheard)?;
    write_tos(inner_bytes, (inner.tos & !ECN_MASK) | ecn);
    Ok(inner_bytes)
}

/// Whether no client can have sent from here. Linux: `ip_route_input_slow`.
fn is_martian(source: Ipv4Addr, rules: &Rules) -> bool {
    let is_own = source == rules.local || rules.vips.contains(&source);
    source.octets()[0] == 0
        || source.is_loopback()
        || source.is_multicast()
        || source.is_broadcast()
        || is_own
}

/// The ECN field that leaves the tunnel; `None` when the packet must be
/// dropped. RFC 6040 section 4.2, figure 4.
fn decapsulated_ecn(outer: u8, inner: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Writes the second byte of an IPv4 header and mends its checksum
/// (RFC 1624, equation 3).
fn write_tos(header: &mut [u8], tos: u8) {
    let Some(fixed) = header.first_chunk_mut::<HEADER_LEN_MIN>() else {
        return;
    };
    if fixed[1] == tos {
        return;
    }
    let old = u16::from_be_bytes([fixed[0], fixed[1]]);
    fixed[1] = tos;
    let new = u16::from_be_bytes([fixed[0], fixed[1]]);
    let checksum = u16::from_be_bytes([fixed[10], fixed[11]]);
    [fixed[10], fixed[11]] = checksum::update(checksum, old, new).to_be_bytes();
}

/// Gives a TCP or UDP packet its checksum when the kernel has only prepared
/// it, and returns whether it did.
///
/// A NIC driver that merges tunnelled TCP segments (generic receive offload)
/// leaves the sum over the pseudo header in the place of the checksum, as does
/// a virtual NIC whose other end left the checksum to hardware. Nobody
/// finishes it on the way through a raw socket, and the kernel would drop what
/// we hand back. Checksums that are wrong in any other way stay wrong.
pub fn complete_checksum(packet: &mut [u8]) -> bool {
    let Some(header) = Header::read(packet) else {
        return false;
    };
    if header.is_fragment {
        return false;
    }
    let offset = match header.protocol {
        PROTOCOL_TCP => 16,
        PROTOCOL_UDP => 6,
        _ => return false,
    };
    let Some(segment) = packet.get_mut(header.len..header.total_len) else {
        return false;
    };
    let Ok(segment_len) = u16::try_from(segment.len()) else {
        return false;
    };
    let protocol = IpProtocol(header.protocol);
    let pseudo_header =
        Sum::ipv4_pseudo_header(header.source, header.destination, protocol, segment_len);
    let pseudo = !pseudo_header.checksum();
    let Some(field) = segment
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<2>())
    else {
        return false;
    };
    if u16::from_be_bytes(*field) != pseudo {
        return false;
    }
    // The field already holds the pseudo header's sum, as hardware expects it.
    let checksum = match Sum::of(segment).checksum() {
        0 if header.protocol == PROTOCOL_UDP => 0xffff,
        checksum => checksum,
    };
    if checksum == pseudo {
        return false;
    }
    if let Some(field) = segment
        .get_mut(offset..)
        .and_then(|rest| rest.first_chunk_mut::<2>())
    {
        *field = checksum.to_be_bytes();
    }
    true
}

/// What the checks need of an IPv4 header (RFC 791 section 3.1).
struct Header {
    len: usize,
    total_len: usize,
    tos: u8,
    is_fragment: bool,
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    checksum_ok: bool,
}

impl Header {
    /// Reads a header whose version and lengths make sense by themselves; the
    /// total length may exceed `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.first_chunk::<HEADER_LEN_MIN>()?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let header = bytes.get(..header_len)?;
        let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let is_sound =
            fixed[0] >> 4 == 4 && header_len >= HEADER_LEN_MIN && total_len >= header_len;
        let address = |at: [u8; 4]| Ipv4Addr::from(at);
        is_sound.then(|| Self {
            len: header_len,
            total_len,
            tos: fixed[1],
            is_fragment: u16::from_be_bytes([fixed[6], fixed[7]]) & MORE_OR_OFFSET != 0,
            protocol: fixed[9],
            source: address([fixed[12], fixed[13], fixed[14], fixed[15]]),
            destination: address([fixed[16], fixed[17], fixed[18], fixed[19]]),
            checksum_ok: Sum::of(header).is_intact(),
        })
    }
}

const HEADER_LEN_MIN: usize = 20;
const PROTOCOL_IPIP: u8 = IpProtocol::IPIP.0;
const PROTOCOL_TCP: u8 = IpProtocol::TCP.0;
const PROTOCOL_UDP: u8 = IpProtocol::UDP.0;
/// "More fragments" and the fragment offset.
const MORE_OR_OFFSET: u16 = 0x3fff;
const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

#[cfg(test)]
mod tests;
