//! Neighbor Discovery for IPv6 (RFC 4861): solicitations and advertisements.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Type (135/136)|    Code (0)   |            Checksum           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|S|O|          Reserved; the flags only in an advertisement   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   Target address, 16 bytes                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Option    |  Length (1)   |  Source (1) or target (2)     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//! |                       link-layer address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Messages of routers (advertisements, redirects) are not read: the director
//! has static routes.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::{
    IpProtocol,
    checksum::Sum,
    ethernet::MacAddr,
    icmpv6::{Icmpv6Error, Icmpv6Header, Icmpv6Type},
    ipv6::{Ipv6Fields, Ipv6Header},
};

/// Hop limit of every message: no router can have passed it on.
pub const HOP_LIMIT: u8 = 255;

/// All nodes of the link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group in which the owner of an address listens for questions about it
/// (RFC 4291 section 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a as u16, low)
}

/// The MAC address of a group (RFC 2464 section 7).
pub const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The link-local address that a port with this MAC address gives itself (RFC
/// 4862 section 5.3, RFC 2464 section 4).
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [m0, m1, m2, m3, m4, m5] = mac.0;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes([m0 ^ 0x02, m1]),
        u16::from_be_bytes([m2, 0xff]),
        u16::from_be_bytes([0xfe, m3]),
        u16::from_be_bytes([m4, m5]),
    )
}

/// Why an ICMPv6 message is not to be believed as one of Neighbor Discovery
/// (RFC 4861 sections 7.1.1 and 7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NdpError {
    /// From beyond a router, or made up there.
    #[error("the hop limit of a Neighbor Discovery message is {0}, not 255")]
    HopLimit(u8),
    /// Not an intact ICMPv6 message.
    #[error(transparent)]
    Icmpv6(#[from] Icmpv6Error),
    /// A code that is not 0.
    #[error("the code of a Neighbor Discovery message is {0}, not 0")]
    Code(u8),
    /// Shorter than a message with a target.
    #[error("{0} bytes are shorter than a Neighbor Discovery message")]
    TooShort(usize),
    /// A message about a group.
    #[error("the target {0} of a Neighbor Discovery message is a group")]
    Target(Ipv6Addr),
    /// An option without length or longer than the message.
    #[error("option {0} of a Neighbor Discovery message is malformed")]
    Option(u8),
    /// A link-layer address that is no station's.
    #[error("the link-layer address {0} is not that of a station")]
    LinkLayer(MacAddr),
    /// A probe for duplicate addresses that is not sent to the solicited-node
    /// group of its target, or that tells its sender's link-layer address.
    #[error("a probe for duplicate addresses is malformed")]
    Probe,
    /// An answer to all that claims to be one to the receiver's question.
    #[error("an advertisement to a group says that it was solicited")]
    SolicitedToGroup,
}

/// A message that was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdpMessage {
    /// Who has the target?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// Source link-layer address option. Without one when the sender
        /// checks whether the target is free, and possibly otherwise.
        source_mac: Option<MacAddr>,
    },
    /// The target is here.
    Advertisement(Advertisement),
    /// A message that is not for a host with static routes: of routers.
    Other,
}

impl NdpMessage {
    /// Reads `message`, the ICMPv6 message that a packet with the header `ip`
    /// carries.
    ///
    /// # Errors
    /// When RFC 4861 has it discarded silently.
    pub fn parse(ip: &Ipv6Header<'_>, message: &[u8]) -> Result<Self, NdpError> {
        if ip.hop_limit() != HOP_LIMIT {
            return Err(NdpError::HopLimit(ip.hop_limit()));
        }
        let (header, data) = Icmpv6Header::validate(ip, message)?;
        if header.code() != 0 {
            return Err(NdpError::Code(header.code()));
        }
        match header.icmp_type() {
            Icmpv6Type::NEIGHBOR_SOLICITATION => solicitation(*ip, message.len(), data),
            Icmpv6Type::NEIGHBOR_ADVERTISEMENT => {
                advertisement(*ip, header.rest(), message.len(), data)
            }
            _ => Ok(Self::Other),
        }
    }
}

fn solicitation(ip: Ipv6Header<'_>, len: usize, data: &[u8]) -> Result<NdpMessage, NdpError> {
    let (target, source_mac) = target_and_option(len, data, OPTION_SOURCE)?;
    let is_to_group = ip.destination() == solicited_node(target);
    if ip.source().is_unspecified() && (source_mac.is_some() || !is_to_group) {
        return Err(NdpError::Probe);
    }
    Ok(NdpMessage::Solicitation { target, source_mac })
}

fn advertisement(
    ip: Ipv6Header<'_>,
    flags: u32,
    len: usize,
    data: &[u8],
) -> Result<NdpMessage, NdpError> {
    let (target, target_mac) = target_and_option(len, data, OPTION_TARGET)?;
    let advertisement = Advertisement {
        target,
        target_mac,
        router: flags & FLAG_ROUTER != 0,
        solicited: flags & FLAG_SOLICITED != 0,
        override_: flags & FLAG_OVERRIDE != 0,
    };
    if advertisement.solicited && ip.destination().is_multicast() {
        return Err(NdpError::SolicitedToGroup);
    }
    Ok(NdpMessage::Advertisement(advertisement))
}

/// The target, and the link-layer address in the option `wanted`. Options that
/// are not known are passed over.
fn target_and_option(
    len: usize,
    data: &[u8],
    wanted: u8,
) -> Result<(Ipv6Addr, Option<MacAddr>), NdpError> {
    let (target, mut options) = data
        .split_first_chunk::<16>()
        .ok_or(NdpError::TooShort(len))?;
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() {
        return Err(NdpError::Target(target));
    }
    let mut mac = None;
    while let [kind, words, ..] = *options {
        let option_len = usize::from(words) * 8;
        let (option, rest) = options
            .split_at_checked(option_len)
            .filter(|_| words != 0)
            .ok_or(NdpError::Option(kind))?;
        if kind == wanted
            && let [_, _, a, b, c, d, e, f] = *option
        {
            mac = Some(MacAddr([a, b, c, d, e, f]));
        }
        options = rest;
    }
    if let Some(&kind) = options.first() {
        return Err(NdpError::Option(kind));
    }
    match mac {
        Some(mac) if !mac.is_station() => Err(NdpError::LinkLayer(mac)),
        mac => Ok((target, mac)),
    }
}

/// The values of an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address that is told about.
    pub target: Ipv6Addr,
    /// Target link-layer address option.
    pub target_mac: Option<MacAddr>,
    /// The sender is a router.
    pub router: bool,
    /// The answer to a solicitation of the receiver.
    pub solicited: bool,
    /// What was known of the target before is to be replaced.
    pub override_: bool,
}

impl Advertisement {
    /// The IPv6 packet that advertises.
    pub fn to_packet(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(self.router, FLAG_ROUTER)
            | flag(self.solicited, FLAG_SOLICITED)
            | flag(self.override_, FLAG_OVERRIDE);
        Message {
            icmp_type: Icmpv6Type::NEIGHBOR_ADVERTISEMENT,
            flags,
            target: self.target,
            option: self.target_mac.map(|mac| (OPTION_TARGET, mac)),
        }
        .to_packet(source, destination)
    }
}

/// The IPv6 packet that asks for the MAC of `target`: from `source`, which has
/// the MAC address `source_mac`, to the group of the target or, to see whether
/// it is still there, to `destination`.
pub fn solicitation_packet(
    source: Ipv6Addr,
    source_mac: MacAddr,
    target: Ipv6Addr,
    destination: Ipv6Addr,
) -> Vec<u8> {
    Message {
        icmp_type: Icmpv6Type::NEIGHBOR_SOLICITATION,
        flags: 0,
        target,
        option: Some((OPTION_SOURCE, source_mac)),
    }
    .to_packet(source, destination)
}

/// The IPv6 packet that asks whether anybody has `target`, which the sender
/// wants for itself (RFC 4862 section 5.4.2).
pub fn probe_packet(target: Ipv6Addr) -> Vec<u8> {
    Message {
        icmp_type: Icmpv6Type::NEIGHBOR_SOLICITATION,
        flags: 0,
        target,
        option: None,
    }
    .to_packet(Ipv6Addr::UNSPECIFIED, solicited_node(target))
}

struct Message {
    icmp_type: Icmpv6Type,
    flags: u32,
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
}

impl Message {
    fn to_packet(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let option = self
            .option
            .map(|(kind, mac)| [&[kind, 1], &mac.0[..]].concat())
            .unwrap_or_default();
        let flags = self.flags.to_be_bytes();
        let target = self.target.octets();
        let head = |[c0, c1]: [u8; 2]| [self.icmp_type.0, 0, c0, c1];
        let body = [&flags[..], &target, &option].concat();
        let payload_len = MESSAGE_LEN + if option.is_empty() { 0 } else { OPTION_LEN };
        let sum = Sum::ipv6_pseudo_header(
            source,
            destination,
            IpProtocol::ICMPV6,
            u32::from(payload_len),
        )
        .add_bytes(&head([0, 0]))
        .add_bytes(&body);
        let header = Ipv6Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len,
            next_header: IpProtocol::ICMPV6,
            hop_limit: HOP_LIMIT,
            source,
            destination,
        };
        let head = head(sum.checksum().to_be_bytes());
        [&header.to_bytes()[..], &head, &body].concat()
    }
}

/// Length of a message without options.
const MESSAGE_LEN: u16 = 24;
const OPTION_LEN: u16 = 8;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const FLAG_ROUTER: u32 = 1 << 31;
const FLAG_SOLICITED: u32 = 1 << 30;
const FLAG_OVERRIDE: u32 = 1 << 29;

#[cfg(test)]
mod tests;
