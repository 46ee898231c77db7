//! Steps 3 and 4 of a packet: what it is, found out once.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    DropReason, Exit, PuntReason,
    parse_ipv6::{self, parse_ipv6},
};
use crate::{
    flow::FlowKeyV4,
    forwarding::PortForwarding,
    fragment::{DatagramKey, Fragment},
    service::Protocol,
    tunnel::{DONT_FRAGMENT, Inner},
    wire::{
        IpProtocol, IpVersion,
        checksum::Sum,
        ethernet::{EtherType, MacAddr},
    },
};

/// What later steps need to know of an IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed {
    /// Length, TOS, TTL and place of the IPv4 header.
    pub(super) inner: Inner,
    /// Whether IPv4 options follow the header.
    pub(super) has_options: bool,
    /// Whether the DF flag is set.
    pub(super) dont_fragment: bool,
    /// What it carries.
    pub(super) payload: Payload,
}

/// What an IPv4 packet carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload {
    /// A TCP segment, UDP datagram or SCTP packet: the flow, and TCP's flags or
    /// the type of SCTP's first chunk (0 for UDP).
    Flow(FlowKeyV4, Protocol, u8),
    /// An ICMP message that starts this many bytes into the frame.
    Icmp {
        message_offset: u16,
        destination: Ipv4Addr,
    },
    /// A fragment of whatever.
    Fragment,
    /// Another protocol.
    Other { destination: Ipv4Addr },
    /// As `Flow`, over IPv6: where the L4 header begins in the frame. The flow
    /// is read again when it is needed, so that this stays small.
    FlowV6 {
        l4_offset: u16,
        protocol: Protocol,
        signal: u8,
    },
    /// An ICMPv6 message that starts this many bytes into the frame.
    Icmpv6 { message_offset: u16 },
    /// A message of Neighbor Discovery, or another of ICMPv6 to a group.
    NeighborDiscovery,
    /// Another protocol.
    OtherV6,
}

/// Looks at a received frame: Ethernet, at most one VLAN tag, and IPv4 as
/// RFC 1812 section 5.2.2 asks, or IPv6. The sum over the header of IPv4 is
/// left out where the NIC `has_good_checksum` said already.
#[inline]
pub(super) fn parse(
    frame: &[u8],
    has_good_checksum: bool,
    port: &PortForwarding,
) -> Result<Parsed, Exit> {
    let (ether_type, l3_offset) = parse_ethernet(frame, port)?;
    match ether_type {
        ETHER_TYPE_IPV4 => parse_ipv4(frame, l3_offset, has_good_checksum),
        ETHER_TYPE_IPV6 => {
            let parsed = parse_ipv6(frame, l3_offset)?;
            // Nothing else is for a group here.
            let is_to_group = frame.first().is_some_and(|first| first & 1 != 0);
            if is_to_group && !matches!(parsed.payload, Payload::NeighborDiscovery) {
                return Err(Exit::Drop(DropReason::OtherMac));
            }
            Ok(parsed)
        }
        ETHER_TYPE_ARP => Err(Exit::Punt(PuntReason::Arp)),
        _ => Err(Exit::Drop(DropReason::UnknownEtherType)),
    }
}

#[inline]
fn parse_ethernet(frame: &[u8], port: &PortForwarding) -> Result<(u16, u8), Exit> {
    const SHORT: Exit = Exit::Drop(DropReason::FrameTooShort);
    let (header, rest) = frame.split_first_chunk::<14>().ok_or(SHORT)?;
    let [d0, d1, d2, d3, d4, d5, .., t0, t1] = *header;
    let destination = MacAddr([d0, d1, d2, d3, d4, d5]);
    let mut ether_type = u16::from_be_bytes([t0, t1]);
    let mut l3_offset = 14;
    let mut vlan = None;
    if ether_type == ETHER_TYPE_VLAN {
        let [c0, c1, t0, t1] = *rest.first_chunk::<4>().ok_or(SHORT)?;
        // VLAN 0 is a priority tag only (IEEE 802.1Q-2018 section 6.9).
        vlan = Some(u16::from_be_bytes([c0, c1]) & 0x0fff).filter(|id| *id != 0);
        ether_type = u16::from_be_bytes([t0, t1]);
        l3_offset = 18;
    }
    if vlan != port.vlan {
        return Err(Exit::Drop(DropReason::OtherVlan));
    }
    // A broadcast is only ever an ARP request here, and a frame for a group one
    // of Neighbor Discovery.
    if destination != port.mac
        && !(destination == MacAddr::BROADCAST && ether_type == ETHER_TYPE_ARP)
        && !(matches!(destination, MacAddr([0x33, 0x33, ..])) && ether_type == ETHER_TYPE_IPV6)
    {
        return Err(Exit::Drop(DropReason::OtherMac));
    }
    Ok((ether_type, l3_offset))
}

#[inline]
fn parse_ipv4(frame: &[u8], l3_offset: u8, has_good_checksum: bool) -> Result<Parsed, Exit> {
    const BAD: Exit = Exit::Drop(DropReason::BadIpv4Header);
    let packet = frame.get(usize::from(l3_offset)..).ok_or(BAD)?;
    let header: &[u8; 20] = packet.first_chunk().ok_or(BAD)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = u16::from_be_bytes([header[2], header[3]]);
    if header[0] >> 4 != 4
        || header_len < 20
        || usize::from(total_len) < header_len
        || usize::from(total_len) > packet.len()
    {
        return Err(BAD);
    }
    if !has_good_checksum {
        let sum = if header_len == 20 {
            Sum::of_ipv4_header(header)
        } else {
            Sum::of(packet.get(..header_len).ok_or(BAD)?)
        };
        if !sum.is_intact() {
            return Err(Exit::Drop(DropReason::BadIpv4Checksum));
        }
    }

    let flags = u16::from_be_bytes([header[6], header[7]]);
    let addresses = addresses(header);
    let l4 = packet.get(header_len..usize::from(total_len)).ok_or(BAD)?;
    let payload = if flags & FRAGMENT_MASK != 0 {
        Payload::Fragment
    } else {
        let [.., a, b, c, d] = addresses;
        let destination_ip = Ipv4Addr::new(a, b, c, d);
        match header[9] {
            PROTOCOL_TCP => parse_tcp(l4, addresses)?,
            PROTOCOL_UDP => parse_udp(l4, addresses)?,
            PROTOCOL_SCTP => parse_sctp(l4, addresses)?,
            PROTOCOL_ICMP => Payload::Icmp {
                message_offset: u16::from(l3_offset) + u16::from(header[0] & 0x0f) * 4,
                destination: destination_ip,
            },
            _ => Payload::Other {
                destination: destination_ip,
            },
        }
    };
    let inner = Inner {
        version: IpVersion::V4,
        l3_offset,
        total_len,
        tos: header[1],
        ttl: header[8],
    };
    let has_options = header_len > 20;
    Ok(Parsed {
        inner,
        has_options,
        dont_fragment: flags & DONT_FRAGMENT != 0,
        payload,
    })
}

#[inline]
fn parse_tcp(l4: &[u8], addresses: [u8; 8]) -> Result<Payload, Exit> {
    let header: &[u8; 20] = l4
        .first_chunk()
        .ok_or(Exit::Drop(DropReason::TruncatedL4))?;
    Ok(Payload::Flow(
        flow(header, addresses, PROTOCOL_TCP),
        Protocol::Tcp,
        header[13],
    ))
}

#[inline]
fn parse_udp(l4: &[u8], addresses: [u8; 8]) -> Result<Payload, Exit> {
    let header: &[u8; 8] = l4
        .first_chunk()
        .ok_or(Exit::Drop(DropReason::TruncatedL4))?;
    Ok(Payload::Flow(
        flow(header, addresses, PROTOCOL_UDP),
        Protocol::Udp,
        0,
    ))
}

/// The common header and the head of the first chunk (RFC 9260 section 3).
#[inline]
fn parse_sctp(l4: &[u8], addresses: [u8; 8]) -> Result<Payload, Exit> {
    let header: &[u8; 16] = l4
        .first_chunk()
        .ok_or(Exit::Drop(DropReason::TruncatedL4))?;
    Ok(Payload::Flow(
        flow(header, addresses, PROTOCOL_SCTP),
        Protocol::Sctp,
        header[12],
    ))
}

/// The flow of a packet whose L4 header begins with its ports.
#[inline]
fn flow<const N: usize>(header: &[u8; N], addresses: [u8; 8], protocol: u8) -> FlowKeyV4 {
    let l4_ports = header.first_chunk().copied().unwrap_or_default();
    FlowKeyV4::of_headers(addresses, l4_ports, protocol)
}

/// Source and destination.
#[inline]
fn addresses(header: &[u8; 20]) -> [u8; 8] {
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    [s0, s1, s2, s3, d0, d1, d2, d3]
}

/// What the headers of a fragment say of it. `None` for a packet that is
/// whole or no packet.
pub(super) fn fragment(frame: &[u8], l3_offset: u8) -> Option<Fragment> {
    let packet = frame.get(usize::from(l3_offset)..)?;
    if IpVersion::of_packet(packet) == IpVersion::V6 {
        return parse_ipv6::fragment(packet);
    }
    let header: &[u8; 20] = packet.first_chunk()?;
    let flags = u16::from_be_bytes([header[6], header[7]]);
    if flags & FRAGMENT_MASK == 0 {
        return None;
    }
    let header_len = u16::from(header[0] & 0x0f) * 4;
    let total_len = u16::from_be_bytes([header[2], header[3]]);
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    Some(Fragment {
        key: DatagramKey {
            source: [s0, s1, s2, s3].into(),
            destination: [d0, d1, d2, d3].into(),
            protocol: header[9],
            identification: u32::from(u16::from_be_bytes([header[4], header[5]])),
        },
        header_len,
        offset: (flags & OFFSET_MASK) * 8,
        len: total_len.checked_sub(header_len)?,
        is_last: flags & MORE_FRAGMENTS == 0,
    })
}

/// The flow of a datagram's first fragment.
pub(super) fn flow_of_first(frame: &[u8], l3_offset: u8) -> Option<Payload> {
    let packet = frame.get(usize::from(l3_offset)..)?;
    if IpVersion::of_packet(packet) == IpVersion::V6 {
        return parse_ipv6::flow_of_first(packet, l3_offset);
    }
    let header: &[u8; 20] = packet.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let addresses = addresses(header);
    let l4 = packet.get(header_len..total_len)?;
    match header[9] {
        PROTOCOL_TCP => parse_tcp(l4, addresses).ok(),
        PROTOCOL_UDP => parse_udp(l4, addresses).ok(),
        PROTOCOL_SCTP => parse_sctp(l4, addresses).ok(),
        _ => None,
    }
}

/// The destination of an IP packet.
pub(super) fn destination(frame: &[u8], l3_offset: u8) -> Option<IpAddr> {
    let packet = frame.get(usize::from(l3_offset)..)?;
    if IpVersion::of_packet(packet) == IpVersion::V6 {
        return parse_ipv6::destination(packet);
    }
    let header: &[u8; 20] = packet.first_chunk()?;
    let [.., a, b, c, d] = *header;
    Some(IpAddr::from([a, b, c, d]))
}

const ETHER_TYPE_IPV4: u16 = EtherType::IPV4.0;
const ETHER_TYPE_IPV6: u16 = EtherType::IPV6.0;
const ETHER_TYPE_ARP: u16 = EtherType::ARP.0;
const ETHER_TYPE_VLAN: u16 = EtherType::VLAN.0;
const PROTOCOL_ICMP: u8 = IpProtocol::ICMP.0;
pub(super) const PROTOCOL_TCP: u8 = IpProtocol::TCP.0;
pub(super) const PROTOCOL_UDP: u8 = IpProtocol::UDP.0;
pub(super) const PROTOCOL_SCTP: u8 = IpProtocol::SCTP.0;
/// More-fragments flag and offset.
const FRAGMENT_MASK: u16 = MORE_FRAGMENTS | OFFSET_MASK;
const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of 8 bytes.
const OFFSET_MASK: u16 = 0x1fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_the_nic_has_made_is_not_made_again() {
        const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
        // UDP, 10.0.0.1:1000 to 10.0.0.2:53, and a checksum that is wrong.
        let packet = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0xba, 0xad, 10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xe8,
            0, 53, 0, 8, 0, 0,
        ];
        let frame = [&MAC[..], &[2, 0, 0, 0, 0, 2, 8, 0], &packet].concat();
        let port = PortForwarding {
            mac: MacAddr(MAC),
            vlan: None,
        };
        assert!(matches!(
            parse(&frame, false, &port),
            Err(Exit::Drop(DropReason::BadIpv4Checksum))
        ));
        assert!(parse(&frame, true, &port).is_ok());
    }
}
