//! Steps 3 and 4 of a packet over IPv6: what it is, found out once.

use std::net::IpAddr;

use super::{
    DropReason, Exit,
    parse::{Parsed, Payload},
};
use crate::{
    flow::FlowKeyV6,
    fragment::{DatagramKey, Fragment},
    service::Protocol,
    tunnel::Inner,
    wire::{
        IpProtocol, IpVersion,
        icmpv6::Icmpv6Type,
        ipv6::{self, FragmentHeader, Ipv6Header, UpperLayer},
    },
};

/// Looks at the IPv6 packet at `l3_offset` of a frame, as RFC 8200 asks. The
/// addresses stay in the packet: see [`key`].
#[inline]
pub(super) fn parse_ipv6(frame: &[u8], l3_offset: u8) -> Result<Parsed, Exit> {
    const BAD: Exit = Exit::Drop(DropReason::BadIpv6Header);
    let packet = frame.get(usize::from(l3_offset)..).ok_or(BAD)?;
    let header: &[u8; ipv6::HEADER_LEN] = packet.first_chunk().ok_or(BAD)?;
    let total_len = u16::from_be_bytes([header[4], header[5]])
        .checked_add(IpVersion::V6.header_len())
        .ok_or(BAD)?;
    if header[0] >> 4 != 6 || usize::from(total_len) > packet.len() {
        return Err(BAD);
    }
    let payload = packet
        .get(ipv6::HEADER_LEN..usize::from(total_len))
        .ok_or(BAD)?;
    let next_header = IpProtocol(header[6]);
    let upper = match next_header {
        // No extension header, as nearly always.
        IpProtocol::TCP | IpProtocol::UDP => UpperLayer {
            protocol: next_header,
            offset: 0,
            fragment: None,
            named_at: 0,
        },
        _ => ipv6::upper_layer(next_header, payload)
            .map_err(|_| Exit::Drop(DropReason::BadIpv6Extensions))?,
    };
    let is_multicast = header[24] == 0xff;
    Ok(Parsed {
        inner: Inner {
            version: IpVersion::V6,
            l3_offset,
            total_len,
            tos: (header[0] << 4) | (header[1] >> 4),
            ttl: header[7],
        },
        has_options: false,
        // Nobody but the sender fragments a packet over IPv6.
        dont_fragment: true,
        payload: payload_of(&upper, payload, l3_offset, is_multicast)?,
    })
}

#[inline]
fn payload_of(
    upper: &UpperLayer,
    payload: &[u8],
    l3_offset: u8,
    is_multicast: bool,
) -> Result<Payload, Exit> {
    const CUT: Exit = Exit::Drop(DropReason::TruncatedL4);
    let l4 = payload.get(upper.offset..).unwrap_or_default();
    let l4_offset = usize::from(l3_offset) + ipv6::HEADER_LEN + upper.offset;
    let l4_offset = u16::try_from(l4_offset).map_err(|_| CUT)?;
    if upper
        .fragment
        .is_some_and(|fragment| fragment.is_fragment())
    {
        return Ok(Payload::Fragment);
    }
    upper_layer_of(upper, l4, l4_offset, is_multicast)
}

#[inline]
fn upper_layer_of(
    upper: &UpperLayer,
    l4: &[u8],
    l4_offset: u16,
    is_multicast: bool,
) -> Result<Payload, Exit> {
    const CUT: Exit = Exit::Drop(DropReason::TruncatedL4);
    let (protocol, signal) = match upper.protocol {
        IpProtocol::ICMPV6 => {
            let icmp_type = Icmpv6Type(*l4.first().ok_or(CUT)?);
            return if icmp_type.is_neighbor_discovery() || is_multicast {
                Ok(Payload::NeighborDiscovery)
            } else {
                Ok(Payload::Icmpv6 {
                    message_offset: l4_offset,
                })
            };
        }
        IpProtocol::TCP => (Protocol::Tcp, *l4.get(13).ok_or(CUT)?),
        IpProtocol::UDP => (Protocol::Udp, 0),
        IpProtocol::SCTP => (Protocol::Sctp, *l4.get(12).ok_or(CUT)?),
        _ => return Ok(Payload::OtherV6),
    };
    let len_min = match protocol {
        Protocol::Tcp => 20,
        Protocol::Udp => 8,
        Protocol::Sctp => 16,
    };
    if l4.len() < len_min {
        return Err(CUT);
    }
    Ok(Payload::FlowV6 {
        l4_offset,
        protocol,
        signal,
    })
}

/// The flow of a packet that [`parse_ipv6`] has looked at.
#[inline]
pub(super) fn key(
    frame: &[u8],
    l3_offset: u8,
    l4_offset: u16,
    protocol: Protocol,
) -> Option<FlowKeyV6> {
    let addresses = frame
        .get(usize::from(l3_offset) + ADDRESSES_OFFSET..)?
        .first_chunk::<32>()?;
    let (halves, _) = addresses.as_chunks::<8>();
    let [client_upper, client_lower, vip_upper, vip_lower] =
        halves.first_chunk::<4>()?.map(u64::from_be_bytes);
    let ports = frame.get(usize::from(l4_offset)..)?.first_chunk::<4>()?;
    let (ports, _) = ports.as_chunks::<2>();
    let [client_port, service_port] = ports.first_chunk::<2>()?.map(u16::from_be_bytes);
    Some(FlowKeyV6 {
        client: [client_upper, client_lower],
        vip: [vip_upper, vip_lower],
        client_port,
        service_port,
        protocol: protocol.number(),
    })
}

/// What the headers of a fragment say of it. `None` for a packet that is whole
/// or no packet.
///
/// Fragments of one packet have the same next header in their fragment headers,
/// for everything before the L4 header is repeated in each (RFC 8200 section
/// 4.5). One with extension headers behind the fragment header is of another
/// protocol than a service has.
pub(super) fn fragment(packet: &[u8]) -> Option<Fragment> {
    let (header, payload) = Ipv6Header::parse(packet).ok()?;
    let upper = ipv6::upper_layer(header.next_header(), payload).ok()?;
    let fragment = upper.fragment.filter(FragmentHeader::is_fragment)?;
    let repeated = ipv6::HEADER_LEN + upper.offset - ipv6::FRAGMENT_HEADER_LEN;
    Some(Fragment {
        key: DatagramKey {
            source: header.source().into(),
            destination: header.destination().into(),
            protocol: fragment.next_header.0,
            identification: fragment.id,
        },
        header_len: u16::try_from(repeated).ok()?,
        offset: fragment.offset,
        len: u16::try_from(payload.len().checked_sub(upper.offset)?).ok()?,
        is_last: !fragment.more_fragments,
    })
}

/// The flow of a packet's first fragment.
pub(super) fn flow_of_first(packet: &[u8], l3_offset: u8) -> Option<Payload> {
    let (header, payload) = Ipv6Header::parse(packet).ok()?;
    let upper = ipv6::upper_layer(header.next_header(), payload).ok()?;
    let l4 = payload.get(upper.offset..)?;
    let l4_offset = usize::from(l3_offset) + ipv6::HEADER_LEN + upper.offset;
    let flow = upper_layer_of(&upper, l4, u16::try_from(l4_offset).ok()?, false).ok()?;
    matches!(flow, Payload::FlowV6 { .. }).then_some(flow)
}

/// The destination of a packet.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    let (header, _) = Ipv6Header::parse(packet).ok()?;
    Some(header.destination().into())
}

/// Where source and destination stand in an IPv6 header.
const ADDRESSES_OFFSET: usize = 8;
