//! Which connection an ICMPv6 error from the client's side belongs to (RFC
//! 4443): the packet it quotes went from the VIP to the client.

use std::net::SocketAddr;

use hashbrown::HashSet;

use super::{DropReason, Exit};
use crate::{
    flow::FlowKeyV6,
    wire::{
        IpProtocol,
        icmpv6::{self, Icmpv6Type},
        ipv6::{self, Ipv6Header, UpperLayer},
    },
};

/// Whether an ICMPv6 message is an error: real servers get to see all of them,
/// as from Linux IPVS.
pub(super) fn is_error(message: &[u8]) -> bool {
    message
        .first()
        .is_some_and(|&first| Icmpv6Type(first).is_error())
}

/// Whether an ICMPv6 error quotes an outer packet, perhaps one of the
/// director's own: IP in IP, GRE, or UDP to one of `gue_ends`.
pub(super) fn is_about_tunnel(message: &[u8], gue_ends: &HashSet<SocketAddr>) -> bool {
    let Some((header, upper, payload)) = quoted(message) else {
        return false;
    };
    match upper.protocol {
        IpProtocol::IPIP | IpProtocol::IPV6 | IpProtocol::GRE => true,
        IpProtocol::UDP => l4_ports(&upper, payload).is_some_and(|(_, l4_port)| {
            gue_ends.contains(&SocketAddr::new(header.destination().into(), l4_port))
        }),
        _ => false,
    }
}

/// The flow of the connection that an ICMPv6 error is about, as the client's
/// own packets have it. Four quoted bytes after the IP headers suffice.
pub(super) fn flow_of_error(message: &[u8]) -> Result<FlowKeyV6, Exit> {
    const UNRELATED: Exit = Exit::Drop(DropReason::IcmpErrorUnrelated);
    let (header, upper, payload) = quoted(message).ok_or(UNRELATED)?;
    let protocol = upper.protocol;
    if !matches!(
        protocol,
        IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP
    ) {
        return Err(UNRELATED);
    }
    let (service_port, client_port) = l4_ports(&upper, payload).ok_or(UNRELATED)?;
    let client = std::net::SocketAddrV6::new(header.destination(), client_port, 0, 0);
    let service = std::net::SocketAddrV6::new(header.source(), service_port, 0, 0);
    Ok(FlowKeyV6::new(client, service, protocol.0))
}

/// Header, upper layer and payload of the packet that an error quotes.
fn quoted(message: &[u8]) -> Option<(Ipv6Header<'_>, UpperLayer, &[u8])> {
    let (header, payload) = Ipv6Header::parse_quoted(message.get(icmpv6::HEADER_LEN..)?).ok()?;
    let upper = ipv6::upper_layer(header.next_header(), payload).ok()?;
    Some((header, upper, payload))
}

/// Source and destination port; `None` for a later fragment.
fn l4_ports(upper: &UpperLayer, payload: &[u8]) -> Option<(u16, u16)> {
    if upper.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    let [a, b, c, d] = *payload.get(upper.offset..)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}
