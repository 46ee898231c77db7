//! Reading ICMP errors of both IP versions that quote an outer packet.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::punted::is_ipv6;
use crate::{
    service::TunnelKind,
    wire::{
        IpProtocol,
        ethernet::EtherType,
        gre::GreHeader,
        gue::{GueError, GueHeader},
        icmp::{IcmpCause, IcmpHeader, IcmpType},
        icmpv6::{Icmpv6Header, Icmpv6Type},
        ipv4::Ipv4Header,
        ipv6::{Ipv6Header, upper_layer},
        udp::UdpHeader,
    },
};

/// What went wrong with a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is longer than the path takes; so many bytes would do.
    TooBig(u16),
    /// Anything else that IPv4 has a message for.
    Icmp(IcmpCause),
    /// Anything else over IPv6.
    Icmpv6,
}

/// An intact ICMP error and the outer packet that it quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelError<'a> {
    /// Who sent it.
    pub(super) reporter: IpAddr,
    /// For whom it is.
    pub(super) destination: IpAddr,
    /// What it is about.
    pub(super) trouble: Trouble,
    /// From where the quoted packet went.
    pub(super) outer_source: IpAddr,
    /// To where it went: the RIP.
    pub(super) outer_destination: IpAddr,
    protocol: IpProtocol,
    is_later_fragment: bool,
    /// Whether the quoted packet could have led to this error.
    pub(super) is_plausible: bool,
    /// As much of what the outer packet carried as is quoted.
    payload: &'a [u8],
}

impl<'a> TunnelError<'a> {
    /// `None` when the message is not intact.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        if is_ipv6(packet) {
            Self::parse_ipv6(packet)
        } else {
            Self::parse_ipv4(packet)
        }
    }

    fn parse_ipv4(packet: &'a [u8]) -> Option<Self> {
        let (ip, message) = Ipv4Header::parse(packet).ok()?;
        let (header, data) = IcmpHeader::validate(message).ok()?;
        let icmp_type = header.icmp_type();
        let has_length = icmp_type != IcmpType::SOURCE_QUENCH;
        let words = message.get(5).filter(|_| has_length);
        let quote = without_extensions(data, words.map_or(0, |words| usize::from(*words) * 4));
        let (outer, payload) = Ipv4Header::parse_quoted(quote).ok()?;
        let is_too_big = (icmp_type, header.code()) == (IcmpType::DESTINATION_UNREACHABLE, 4);
        let mtu = header.next_hop_mtu();
        Some(Self {
            reporter: ip.source().into(),
            destination: ip.destination().into(),
            trouble: if is_too_big {
                Trouble::TooBig(mtu)
            } else {
                Trouble::Icmp(IcmpCause {
                    icmp_type,
                    code: header.code(),
                    rest: 0,
                })
            },
            outer_source: outer.source().into(),
            outer_destination: outer.destination().into(),
            protocol: outer.protocol(),
            is_later_fragment: outer.fragment_offset() != 0,
            is_plausible: !is_too_big || (outer.dont_fragment() && mtu < outer.total_len()),
            payload,
        })
    }

    fn parse_ipv6(packet: &'a [u8]) -> Option<Self> {
        let (ip, payload) = Ipv6Header::parse(packet).ok()?;
        let upper = upper_layer(ip.next_header(), payload).ok()?;
        let message = payload.get(upper.offset..)?;
        let (header, data) = Icmpv6Header::validate(&ip, message).ok()?;
        let icmp_type = header.icmp_type();
        let has_length = matches!(
            icmp_type,
            Icmpv6Type::DESTINATION_UNREACHABLE | Icmpv6Type::TIME_EXCEEDED
        );
        let words = message.get(4).filter(|_| has_length);
        let quote = without_extensions(data, words.map_or(0, |words| usize::from(*words) * 8));
        let (outer, outer_payload) = Ipv6Header::parse_quoted(quote).ok()?;
        let carried = upper_layer(outer.next_header(), outer_payload).ok()?;
        let is_too_big = icmp_type == Icmpv6Type::PACKET_TOO_BIG;
        let mtu = u16::try_from(header.mtu()).unwrap_or(u16::MAX);
        Some(Self {
            reporter: ip.source().into(),
            destination: ip.destination().into(),
            trouble: if is_too_big {
                Trouble::TooBig(mtu)
            } else {
                Trouble::Icmpv6
            },
            outer_source: outer.source().into(),
            outer_destination: outer.destination().into(),
            protocol: carried.protocol,
            is_later_fragment: carried.fragment.is_some_and(|it| it.offset != 0),
            is_plausible: !is_too_big || usize::from(mtu) < outer.total_len(),
            payload: outer_payload.get(carried.offset..)?,
        })
    }

    /// As much of what a tunnel of this kind carried as is quoted; `None` when
    /// the quoted packet did not come out of such a tunnel.
    pub(super) fn inner(&self, tunnel: TunnelKind) -> Option<&'a [u8]> {
        let is_carrier = match tunnel {
            TunnelKind::Ipip => {
                matches!(self.protocol, IpProtocol::IPIP | IpProtocol::IPV6)
            }
            TunnelKind::Gre { .. } => self.protocol == IpProtocol::GRE,
            TunnelKind::Gue { .. } => self.protocol == IpProtocol::UDP,
        };
        if !is_carrier {
            return None;
        }
        match tunnel {
            // It begins in the middle of the inner packet.
            _ if self.is_later_fragment => Some(&[]),
            TunnelKind::Ipip => of_version(self.payload, self.protocol == IpProtocol::IPV6),
            TunnelKind::Gre { checksum } => inner_of_gre(self.payload, checksum),
            TunnelKind::Gue { l4_port, checksum } => {
                inner_of_gue(self.payload, l4_port, checksum.is_outer_present())
            }
        }
    }
}

/// The inner packet if it is of the IP version that the header before it says;
/// it may be cut off before it begins.
fn of_version(inner: &[u8], is_version_6: bool) -> Option<&[u8]> {
    let version = inner.first().map(|first| first >> 4);
    let is_right = version.is_none_or(|version| version == if is_version_6 { 6 } else { 4 });
    is_right.then_some(inner)
}

fn inner_of_gre(payload: &[u8], checksum: bool) -> Option<&[u8]> {
    let (header, inner) = GreHeader::parse(payload).ok()?;
    if header.has_checksum() != checksum {
        return None;
    }
    match header.protocol() {
        EtherType::IPV4 => of_version(inner, false),
        EtherType::IPV6 => of_version(inner, true),
        _ => None,
    }
}

/// The UDP header is always quoted (RFC 792), what follows it not always.
fn inner_of_gue(payload: &[u8], l4_port: u16, checksum: bool) -> Option<&[u8]> {
    let (udp, rest) = UdpHeader::parse_quoted(payload).ok()?;
    if udp.destination_port() != l4_port || (udp.checksum() != 0) != checksum {
        return None;
    }
    match GueHeader::parse(rest) {
        Ok((header, inner)) => match header.protocol() {
            IpProtocol::IPIP => of_version(inner, false),
            IpProtocol::IPV6 => of_version(inner, true),
            _ => None,
        },
        Err(GueError::TooShort(_)) => Some(&[]),
        Err(GueError::Unknown { .. }) => None,
    }
}

/// The quoted packet without extensions: RFC 4884 has its length, where there
/// are any; else it is 0.
fn without_extensions(data: &[u8], len: usize) -> &[u8] {
    match len {
        0 => data,
        _ => data.get(..len).unwrap_or(data),
    }
}
