//! Which connection an ICMP error from the client's side belongs to (RFC 792):
//! the packet it quotes went from the VIP to the client.

use std::net::SocketAddr;

use hashbrown::HashSet;

use super::{
    DropReason, Exit,
    parse::{PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP},
};
use crate::{
    flow::{FlowKey, FlowKeyV4},
    wire::{IpProtocol, checksum::Sum},
};

/// Whether an ICMP message is an error that real servers get to see:
/// destination unreachable, source quench or time exceeded.
pub(super) fn is_forwarded_kind(message: &[u8]) -> bool {
    matches!(message.first(), Some(3 | 4 | 11))
}

/// Whether a host would answer the message: echo request or timestamp request.
pub(super) fn is_query(message: &[u8]) -> bool {
    matches!(message.first(), Some(8 | 13))
}

/// Whether an ICMP error quotes an outer packet, perhaps one of the director's
/// own: IP in IP, GRE, or UDP to one of `gue_ends`.
pub(super) fn is_about_tunnel(message: &[u8], gue_ends: &HashSet<SocketAddr>) -> bool {
    let quoted = message.get(8..).unwrap_or_default();
    let Some(header) = quoted.first_chunk::<20>().filter(|h| h[0] >> 4 == 4) else {
        return false;
    };
    match header[9] {
        PROTOCOL_IPIP | PROTOCOL_IPV6 | PROTOCOL_GRE => true,
        PROTOCOL_UDP => udp_destination(header, quoted).is_some_and(|end| gue_ends.contains(&end)),
        _ => false,
    }
}

/// Where a quoted datagram went; `None` for a later fragment, or when its ports
/// are not quoted.
fn udp_destination(header: &[u8; 20], quoted: &[u8]) -> Option<SocketAddr> {
    let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    if is_later_fragment {
        return None;
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let [_, _, high, low] = *quoted.get(header_len..)?.first_chunk()?;
    let [.., a, b, c, d] = *header;
    Some(SocketAddr::from((
        [a, b, c, d],
        u16::from_be_bytes([high, low]),
    )))
}

/// The flow of the connection that an ICMP error is about, as the client's own
/// packets have it. Four quoted bytes after the IP header suffice.
pub(super) fn flow_of_error(message: &[u8]) -> Result<FlowKeyV4, Exit> {
    const UNRELATED: Exit = Exit::Drop(DropReason::IcmpErrorUnrelated);
    let quoted = message.get(8..).ok_or(UNRELATED)?;
    let header: &[u8; 20] = quoted.first_chunk().ok_or(UNRELATED)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let protocol = header[9];
    if header[0] >> 4 != 4
        || header_len < 20
        || offset != 0
        || !matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP)
    {
        return Err(UNRELATED);
    }
    let ports: &[u8; 4] = quoted
        .get(header_len..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(UNRELATED)?;
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let addresses = [s0, s1, s2, s3, d0, d1, d2, d3];
    Ok(FlowKeyV4::of_headers(addresses, *ports, protocol).reversed())
}

/// Whether the checksum of an ICMP message is right.
pub(super) fn has_sound_checksum(message: &[u8]) -> bool {
    Sum::of(message).is_intact()
}

const PROTOCOL_IPIP: u8 = IpProtocol::IPIP.0;
const PROTOCOL_IPV6: u8 = IpProtocol::IPV6.0;
const PROTOCOL_GRE: u8 = IpProtocol::GRE.0;
