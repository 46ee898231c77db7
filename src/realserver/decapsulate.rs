//! Takes the outer header off a tunnelled packet: the pure part.
//!
//! The checks are those that Linux makes between a packet's arrival and its
//! leaving `tunl0`: the outer header as `ip_rcv` checks it, ECN as
//! `IP_ECN_decapsulate` treats it, the inner header again as `ip_rcv` does,
//! and the sources that `ip_route_input` calls martian. On top of that the
//! inner destination must be one of our VIPs, since a tunnel that takes any
//! packet lets anybody send from anywhere to anything behind this host.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    ops::Range,
};

use ipnet::IpNet;

use crate::wire::{
    IpProtocol,
    checksum::Sum,
    ethernet::EtherType,
    gre::GreHeader,
    gue::GueHeader,
    ipv4::{Ipv4Header, Ipv4HeaderMut},
    ipv6::{self, Ipv6Header, Ipv6HeaderMut},
    udp::{self, UdpHeader},
};

/// What is taken off and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The outer destination: where this end of the tunnel is.
    pub local: IpAddr,
    /// The inner destinations.
    pub vips: Vec<IpAddr>,
    /// The outer sources; empty takes every director.
    pub directors: Vec<IpNet>,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The outer header is not a whole IPv4 header of protocol 4, 41 or 47.
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
    /// What is inside is not a whole header of the IP version that the outer
    /// one says.
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
    /// The UDP, GRE or GUE header is cut short, has what is not known here, or
    /// says that neither IPv4 nor IPv6 follows.
    TunnelHeader,
    /// The GRE header's checksum is wrong.
    TunnelChecksum,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
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
        Self::TunnelHeader,
        Self::TunnelChecksum,
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
            Self::TunnelHeader => "tunnel_header",
            Self::TunnelChecksum => "tunnel_checksum",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Takes the outer IPv4 header off `packet`, which starts with it, and returns
/// the inner packet without anything that followed it.
///
/// The inner packet is as it was but for its ECN field, which takes over what
/// the outer one says (RFC 6040 section 4.2), with its checksum kept right.
///
/// # Errors
/// The reason for which a kernel, too, would drop the packet.
pub fn decapsulate<'a>(packet: &'a mut [u8], rules: &Rules) -> Result<&'a mut [u8], DropReason> {
    let outer = header_of(packet).ok_or(DropReason::OuterHeader)?;
    let (header_len, total_len) = (outer.header_len(), usize::from(outer.total_len()));
    let (source, protocol) = (outer.source(), outer.protocol());
    let outer_ecn = Some(outer.ecn());
    if !matches!(
        protocol,
        IpProtocol::IPIP | IpProtocol::IPV6 | IpProtocol::GRE
    ) {
        return Err(DropReason::OuterHeader);
    }
    if !outer.is_checksum_correct() {
        return Err(DropReason::OuterChecksum);
    }
    if total_len > packet.len() {
        return Err(DropReason::OuterTruncated);
    }
    if outer.is_fragment() {
        return Err(DropReason::OuterFragment);
    }
    if outer.destination() != rules.local {
        return Err(DropReason::NotForUs);
    }
    check_director(source.into(), rules)?;
    let inner = packet
        .get_mut(header_len..total_len)
        .ok_or(DropReason::OuterHeader)?;
    take(inner, protocol, outer_ecn, rules)
}

/// Returns the inner packet of `payload`, what an outer IPv6 packet from
/// `source` to our end of the tunnel carried as `protocol`.
///
/// A raw socket over IPv6 does not show the outer header (RFC 3542 section 3):
/// congestion that was signalled there stays unheard.
///
/// # Errors
/// The reason for which a kernel, too, would drop the packet.
pub fn decapsulate_from_ipv6<'a>(
    payload: &'a mut [u8],
    source: Ipv6Addr,
    protocol: IpProtocol,
    rules: &Rules,
) -> Result<&'a mut [u8], DropReason> {
    check_director(source.into(), rules)?;
    take(payload, protocol, None, rules)
}

/// Returns the inner packet of `payload`, what a UDP datagram from `source` to
/// the port for GUE carried. As over IPv6, the outer header is not to be seen.
///
/// # Errors
/// The reason for which a kernel, too, would drop the packet.
pub fn decapsulate_gue<'a>(
    payload: &'a mut [u8],
    source: IpAddr,
    rules: &Rules,
) -> Result<&'a mut [u8], DropReason> {
    check_director(source, rules)?;
    let (header, inner) = GueHeader::parse(payload).map_err(|_| DropReason::TunnelHeader)?;
    let (protocol, inner_len) = (header.protocol(), inner.len());
    if !matches!(protocol, IpProtocol::IPIP | IpProtocol::IPV6) {
        return Err(DropReason::TunnelHeader);
    }
    take(last(payload, inner_len)?, protocol, None, rules)
}

/// Returns the inner packet of `datagram`, which begins with a UDP header that
/// has no checksum, from `source` to our end of the tunnel and the port for GUE.
///
/// # Errors
/// The reason for which a kernel, too, would drop the packet.
pub fn decapsulate_gue_without_checksum<'a>(
    datagram: &'a mut [u8],
    source: IpAddr,
    rules: &Rules,
) -> Result<&'a mut [u8], DropReason> {
    let (header, _) = UdpHeader::parse(datagram).map_err(|_| DropReason::TunnelHeader)?;
    if header.checksum() != 0 {
        return Err(DropReason::TunnelHeader);
    }
    let payload = udp::HEADER_LEN..usize::from(header.len());
    let payload = datagram.get_mut(payload).ok_or(DropReason::TunnelHeader)?;
    decapsulate_gue(payload, source, rules)
}

/// The inner packet of what an outer header says is `protocol`.
fn take<'a>(
    payload: &'a mut [u8],
    protocol: IpProtocol,
    outer_ecn: Option<u8>,
    rules: &Rules,
) -> Result<&'a mut [u8], DropReason> {
    match protocol {
        IpProtocol::IPIP => take_ipv4(payload, outer_ecn, rules),
        IpProtocol::IPV6 => take_ipv6(payload, outer_ecn, rules),
        IpProtocol::GRE => {
            let (header, inner) =
                GreHeader::parse(payload).map_err(|_| DropReason::TunnelHeader)?;
            if !header.is_checksum_correct(inner) {
                return Err(DropReason::TunnelChecksum);
            }
            let (ether_type, inner_len) = (header.protocol(), inner.len());
            let inner = last(payload, inner_len)?;
            match ether_type {
                EtherType::IPV4 => take_ipv4(inner, outer_ecn, rules),
                EtherType::IPV6 => take_ipv6(inner, outer_ecn, rules),
                _ => Err(DropReason::TunnelHeader),
            }
        }
        _ => Err(DropReason::OuterHeader),
    }
}

/// The last `len` bytes.
fn last(payload: &mut [u8], len: usize) -> Result<&mut [u8], DropReason> {
    let start = payload.len().saturating_sub(len);
    payload.get_mut(start..).ok_or(DropReason::TunnelHeader)
}

fn check_director(source: IpAddr, rules: &Rules) -> Result<(), DropReason> {
    let is_known = |director: &IpNet| director.contains(&source);
    if rules.directors.is_empty() || rules.directors.iter().any(is_known) {
        Ok(())
    } else {
        Err(DropReason::UnknownDirector)
    }
}

/// The IPv4 packet at the front of `inner_bytes`, with the ECN field that it
/// leaves the tunnel with.
fn take_ipv4<'a>(
    inner_bytes: &'a mut [u8],
    outer_ecn: Option<u8>,
    rules: &Rules,
) -> Result<&'a mut [u8], DropReason> {
    let inner = header_of(inner_bytes).ok_or(DropReason::InnerHeader)?;
    if !inner.is_checksum_correct() {
        return Err(DropReason::InnerChecksum);
    }
    let (source, destination) = (inner.source(), inner.destination());
    let (tos, total_len) = (inner.tos(), usize::from(inner.total_len()));
    let inner_bytes = inner_bytes
        .get_mut(..total_len)
        .ok_or(DropReason::InnerTruncated)?;
    check_ends(source.into(), destination.into(), rules)?;
    let tos = tos_after(outer_ecn, tos)?;
    let mut header = Ipv4HeaderMut::of(inner_bytes).map_err(|_| DropReason::InnerHeader)?;
    header.set_tos(tos);
    Ok(inner_bytes)
}

/// The header of a packet, whose total length may exceed the bytes that there
/// are, but not fall short of the header's own.
fn header_of(packet: &[u8]) -> Option<Ipv4Header<'_>> {
    let (header, _) = Ipv4Header::parse_quoted(packet).ok()?;
    (usize::from(header.total_len()) >= header.header_len()).then_some(header)
}

/// The IPv6 packet at the front of `inner_bytes`, likewise.
fn take_ipv6<'a>(
    inner_bytes: &'a mut [u8],
    outer_ecn: Option<u8>,
    rules: &Rules,
) -> Result<&'a mut [u8], DropReason> {
    let (inner, _) = Ipv6Header::parse_quoted(inner_bytes).map_err(|_| DropReason::InnerHeader)?;
    let (source, destination) = (inner.source(), inner.destination());
    let (traffic_class, total_len) = (inner.traffic_class(), inner.total_len());
    let inner_bytes = inner_bytes
        .get_mut(..total_len)
        .ok_or(DropReason::InnerTruncated)?;
    check_ends(source.into(), destination.into(), rules)?;
    let traffic_class = tos_after(outer_ecn, traffic_class)?;
    let mut header = Ipv6HeaderMut::of(inner_bytes).map_err(|_| DropReason::InnerHeader)?;
    header.set_traffic_class(traffic_class);
    Ok(inner_bytes)
}

fn check_ends(source: IpAddr, destination: IpAddr, rules: &Rules) -> Result<(), DropReason> {
    if !rules.vips.contains(&destination) {
        Err(DropReason::NotAVip)
    } else if is_martian(source, rules) {
        Err(DropReason::MartianSource)
    } else {
        Ok(())
    }
}

/// Whether no client can have sent from here. Linux: `ip_route_input_slow`,
/// `ip6_rcv_core`.
fn is_martian(source: IpAddr, rules: &Rules) -> bool {
    let is_own = source == rules.local || rules.vips.contains(&source);
    let is_no_host = match source {
        IpAddr::V4(source) => source.octets()[0] == 0 || source.is_broadcast(),
        IpAddr::V6(source) => source.is_unspecified(),
    };
    is_no_host || source.is_loopback() || source.is_multicast() || is_own
}

/// DSCP and ECN of the inner packet as it leaves the tunnel; `outer_ecn` is
/// what the outer header said, if that is known.
fn tos_after(outer_ecn: Option<u8>, inner_tos: u8) -> Result<u8, DropReason> {
    let Some(outer_ecn) = outer_ecn else {
        return Ok(inner_tos);
    };
    let ecn = decapsulated_ecn(outer_ecn, inner_tos & ECN_MASK);
    Ok((inner_tos & !ECN_MASK) | ecn.ok_or(DropReason::CongestionUnheard)?)
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

/// Gives a TCP or UDP packet its checksum when the kernel has only prepared
/// it, and returns whether it did.
///
/// A NIC driver that merges tunnelled TCP segments (generic receive offload)
/// leaves the sum over the pseudo header in the place of the checksum, as does
/// a virtual NIC whose other end left the checksum to hardware. Nobody
/// finishes it on the way through a raw socket, and the kernel would drop what
/// we hand back. Checksums that are wrong in any other way stay wrong.
pub fn complete_checksum(packet: &mut [u8]) -> bool {
    let Some((protocol, l4, pseudo_header)) = segment_of(packet) else {
        return false;
    };
    let offset = match protocol.0 {
        PROTOCOL_TCP => 16,
        PROTOCOL_UDP => 6,
        _ => return false,
    };
    let Some(segment) = packet.get_mut(l4) else {
        return false;
    };
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
        0 if protocol.0 == PROTOCOL_UDP => 0xffff,
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

/// What an unfragmented packet carries, where, and the pseudo header of that.
/// IPv6 packets with extension headers do not come with prepared checksums.
fn segment_of(packet: &[u8]) -> Option<(IpProtocol, Range<usize>, Sum)> {
    if let Ok((header, payload)) = Ipv6Header::parse(packet) {
        let (protocol, len) = (header.next_header(), u32::from(header.payload_len()));
        let l4 = ipv6::HEADER_LEN..ipv6::HEADER_LEN + payload.len();
        return Some((protocol, l4, header.pseudo_header(protocol, len)));
    }
    let (header, payload) = Ipv4Header::parse(packet).ok()?;
    if header.is_fragment() {
        return None;
    }
    let len = u16::try_from(payload.len()).ok()?;
    let l4 = header.header_len()..usize::from(header.total_len());
    Some((header.protocol(), l4, header.pseudo_header(len)))
}

const PROTOCOL_TCP: u8 = IpProtocol::TCP.0;
const PROTOCOL_UDP: u8 = IpProtocol::UDP.0;
const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

#[cfg(test)]
mod tests;
