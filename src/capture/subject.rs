//! Who a frame is from and to, as far as it says so: with less care than the
//! packet path takes, since broken packets are captured too.

use std::{fmt, net::IpAddr, str::FromStr};

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use crate::wire::{
    IpProtocol,
    arp::ArpPacket,
    ethernet::{EtherType, EthernetHeader},
    gre::GreHeader,
    gue::GueHeader,
    icmp::IcmpType,
    icmpv6::Icmpv6Type,
    ipv4::Ipv4Header,
    ipv6::{self, Ipv6Header},
    udp::UdpHeader,
    vlan::VlanTag,
};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Carried {
    /// ARP.
    Arp,
    /// A protocol over IPv4 or IPv6.
    Ip(u8),
}

/// The names that protocols are known by here.
const PROTOCOLS: [(&str, Carried); 9] = [
    ("arp", Carried::Arp),
    ("icmp", Carried::Ip(IpProtocol::ICMP.0)),
    ("icmpv6", Carried::Ip(IpProtocol::ICMPV6.0)),
    ("tcp", Carried::Ip(IpProtocol::TCP.0)),
    ("udp", Carried::Ip(IpProtocol::UDP.0)),
    ("sctp", Carried::Ip(IpProtocol::SCTP.0)),
    ("ipip", Carried::Ip(IpProtocol::IPIP.0)),
    ("ipv6", Carried::Ip(IpProtocol::IPV6.0)),
    ("gre", Carried::Ip(IpProtocol::GRE.0)),
];

/// There is no such protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no protocol \"{0}\"; write tcp, udp, sctp, icmp, icmpv6, arp or a number")]
pub struct UnknownProtocol(pub String);

impl FromStr for Carried {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let named = PROTOCOLS.iter().find(|(name, _)| *name == text);
        named
            .map(|(_, carried)| *carried)
            .or_else(|| text.parse().ok().map(Self::Ip))
            .ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

impl TryFrom<String> for Carried {
    type Error = UnknownProtocol;

    fn try_from(text: String) -> Result<Self, UnknownProtocol> {
        text.parse()
    }
}

impl From<Carried> for String {
    fn from(carried: Carried) -> Self {
        carried.to_string()
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = PROTOCOLS.iter().find(|(_, carried)| carried == self);
        match (named, self) {
            (Some((name, _)), _) => f.pad(name),
            (None, Self::Ip(number)) => f.pad(&number.to_string()),
            (None, Self::Arp) => f.pad("arp"),
        }
    }
}

/// From whom to whom, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from: the client, of a packet that the director receives.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The L4 ports of both, where there are some: not in later fragments.
    pub l4_ports: Option<[u16; 2]>,
    /// What it is.
    pub carried: Carried,
    /// Whether it is a part of a packet.
    pub is_fragment: bool,
    /// TCP's flags.
    pub tcp_flags: Option<u8>,
}

impl Ends {
    /// The other way round.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            l4_ports: self
                .l4_ports
                .map(|[source, destination]| [destination, source]),
            ..self
        }
    }
}

/// All that a frame says about ends: its own, and those of the packet that it
/// carries (in a tunnel) or quotes (in an ICMP error).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its own first.
    pub ends: ArrayVec<Ends, 2>,
    /// Whether the second ones are of a packet in a tunnel.
    pub is_tunnelled: bool,
}

impl Subject {
    /// What a received frame says. The ends of a quoted packet are turned round:
    /// it went from the VIP to the client.
    pub fn of_received(frame: &[u8]) -> Self {
        let (mut subject, rest) = Self::of_frame(frame);
        if let Some(quoted) = subject.quoted(rest) {
            let _ = subject.ends.try_push(quoted.reversed());
        }
        subject
    }

    /// What a frame that goes out says: of one into a tunnel the ends within,
    /// too, and of the director's own the ends turned round, so that the client
    /// is the source here as well.
    pub fn of_sent(frame: &[u8]) -> Self {
        let (mut subject, rest) = Self::of_frame(frame);
        if let Some(inner) = subject.inner(rest) {
            let _ = subject.ends.try_push(inner);
            subject.is_tunnelled = true;
            return subject;
        }
        let quoted = subject.quoted(rest);
        for ends in &mut subject.ends {
            *ends = ends.reversed();
        }
        if let Some(quoted) = quoted {
            let _ = subject.ends.try_push(quoted);
        }
        subject
    }

    /// The frame's own ends, and what follows its IP header.
    fn of_frame(frame: &[u8]) -> (Self, &[u8]) {
        let mut subject = Self::default();
        let Some((ether_type, packet)) = packet_in(frame) else {
            return (subject, &[]);
        };
        if ether_type == EtherType::ARP {
            subject.ends.extend(arp_ends(packet));
            return (subject, &[]);
        }
        match ip_ends(packet) {
            Some((ends, rest)) => {
                let _ = subject.ends.try_push(ends);
                (subject, rest)
            }
            None => (subject, &[]),
        }
    }

    /// The ends of the packet that an ICMP error quotes.
    fn quoted(&self, message: &[u8]) -> Option<Ends> {
        let (header, quote) = message.split_first_chunk::<8>()?;
        let is_error = match self.ends.first()?.carried {
            Carried::Ip(1) => IcmpType(header[0]).is_error(),
            Carried::Ip(58) => Icmpv6Type(header[0]).is_error(),
            _ => false,
        };
        is_error
            .then(|| ip_ends(quote))
            .flatten()
            .map(|(ends, _)| ends)
    }

    /// The ends of the packet in a tunnel.
    fn inner(&self, payload: &[u8]) -> Option<Ends> {
        let outer = self.ends.first()?;
        let packet = match outer.carried {
            Carried::Ip(4 | 41) => payload,
            Carried::Ip(47) => GreHeader::parse(payload).ok()?.1,
            Carried::Ip(17) => {
                let (_, datagram) = UdpHeader::parse_quoted(payload).ok()?;
                let (gue, packet) = GueHeader::parse(datagram).ok()?;
                matches!(gue.protocol(), IpProtocol::IPIP | IpProtocol::IPV6).then_some(packet)?
            }
            _ => return None,
        };
        ip_ends(packet).map(|(ends, _)| ends)
    }
}

/// Type and contents of a frame, behind its VLAN tag.
fn packet_in(frame: &[u8]) -> Option<(EtherType, &[u8])> {
    let (ethernet, payload) = EthernetHeader::parse(frame).ok()?;
    if ethernet.ether_type() != EtherType::VLAN {
        return Some((ethernet.ether_type(), payload));
    }
    let (tag, payload) = VlanTag::parse(payload).ok()?;
    Some((tag.ether_type(), payload))
}

fn arp_ends(packet: &[u8]) -> Option<Ends> {
    let (arp, _) = ArpPacket::parse(packet).ok()?;
    Some(Ends {
        source: arp.sender_ip().into(),
        destination: arp.target_ip().into(),
        l4_ports: None,
        carried: Carried::Arp,
        is_fragment: false,
        tcp_flags: None,
    })
}

/// The ends of an IP packet, which may be cut short, and what follows its
/// header and extension headers.
fn ip_ends(packet: &[u8]) -> Option<(Ends, &[u8])> {
    if packet.first()? >> 4 == 6 {
        let (ip, payload) = Ipv6Header::parse_quoted(packet).ok()?;
        let upper = ipv6::upper_layer(ip.next_header(), payload).ok();
        let fragment = upper.and_then(|upper| upper.fragment);
        let rest = payload.get(upper.map_or(0, |upper| upper.offset)..)?;
        let protocol = upper.map_or(ip.next_header(), |upper| upper.protocol);
        let is_later = fragment.is_some_and(|fragment| fragment.offset != 0);
        let is_fragment = fragment.is_some_and(|fragment| fragment.is_fragment());
        let ends = Ends {
            source: ip.source().into(),
            destination: ip.destination().into(),
            l4_ports: None,
            carried: Carried::Ip(protocol.0),
            is_fragment,
            tcp_flags: None,
        };
        return Some((with_l4(ends, is_later, rest), rest));
    }
    let (ip, rest) = Ipv4Header::parse_quoted(packet).ok()?;
    let ends = Ends {
        source: ip.source().into(),
        destination: ip.destination().into(),
        l4_ports: None,
        carried: Carried::Ip(ip.protocol().0),
        is_fragment: ip.is_fragment(),
        tcp_flags: None,
    };
    Some((with_l4(ends, ip.fragment_offset() != 0, rest), rest))
}

fn with_l4(ends: Ends, is_later_fragment: bool, segment: &[u8]) -> Ends {
    let Carried::Ip(protocol) = ends.carried else {
        return ends;
    };
    let has_ports = matches!(
        IpProtocol(protocol),
        IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP
    );
    if is_later_fragment || !has_ports {
        return ends;
    }
    let is_tcp = IpProtocol(protocol) == IpProtocol::TCP;
    Ends {
        l4_ports: segment
            .first_chunk()
            .map(|&[s0, s1, d0, d1]| [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])]),
        tcp_flags: segment.get(TCP_FLAGS_OFFSET).copied().filter(|_| is_tcp),
        ..ends
    }
}

const TCP_FLAGS_OFFSET: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_support::hex;

    const MACS: &str = "02000000 0001 0200 00000002";
    /// TCP SYN 203.0.113.7:40001 to 198.51.100.10:80, of a recording.
    const SYN: &str = "45000028123440003f06c356cb007107c633640a\
                       9c410050000003e8000000005002faf0ae320000";

    fn frame(rest: &str) -> Vec<u8> {
        hex(&[MACS, rest].concat())
    }

    fn text(ends: &Ends) -> String {
        format!(
            "{} {} {} {:?}",
            ends.carried, ends.source, ends.destination, ends.l4_ports
        )
    }

    fn texts(subject: &Subject) -> Vec<String> {
        subject.ends.iter().map(text).collect()
    }

    #[test]
    fn a_segment_has_its_ends_with_and_without_a_tag() {
        let expected = ["tcp 203.0.113.7 198.51.100.10 Some([40001, 80])"];
        let plain = Subject::of_received(&frame(&["0800", SYN].concat()));
        assert_eq!(texts(&plain), expected);
        assert_eq!(plain.ends[0].tcp_flags, Some(2));
        let tagged = Subject::of_received(&frame(&["810000070800", SYN].concat()));
        assert_eq!(texts(&tagged), expected);
    }

    #[test]
    fn an_error_from_outside_is_of_the_flow_that_it_quotes_turned_round() {
        // 203.0.113.1 to the VIP: host unreachable about VIP:80 to the client.
        let error = "0800 45000038000000004001 0000 cb007101c633640a 0301000000000000\
                     450000280000000040060000 c633640acb007107 00509c41 00000000";
        let subject = Subject::of_received(&frame(error));
        assert_eq!(
            texts(&subject),
            [
                "icmp 203.0.113.1 198.51.100.10 None",
                "tcp 203.0.113.7 198.51.100.10 Some([40001, 80])",
            ]
        );
    }

    #[test]
    fn an_error_of_the_director_is_of_the_client_it_goes_to() {
        let error = [
            "0800 45000044000000004001 0000 c633640acb007107 0301000000000000",
            SYN,
        ];
        let subject = Subject::of_sent(&frame(&error.concat()));
        assert!(!subject.is_tunnelled);
        assert_eq!(
            texts(&subject),
            [
                "icmp 203.0.113.7 198.51.100.10 None",
                "tcp 203.0.113.7 198.51.100.10 Some([40001, 80])",
            ]
        );
    }

    #[test]
    fn a_tunnelled_packet_has_the_ends_of_both_headers() {
        let inner = "tcp 203.0.113.7 198.51.100.10 Some([40001, 80])";
        for (protocol, head, outer) in [
            ("04", "", "ipip 10.0.0.1 10.0.0.11 None"),
            ("2f", "00000800", "gre 10.0.0.1 10.0.0.11 None"),
            (
                "11",
                "c00017c000340000 00040000",
                "udp 10.0.0.1 10.0.0.11 Some([49152, 6080])",
            ),
        ] {
            let outer_header = format!("0800 450000500000400040{protocol}0000 0a0000010a00000b");
            let sent = frame(&[&outer_header, head, SYN].concat());
            assert_eq!(texts(&Subject::of_sent(&sent)), [outer, inner]);
            assert!(Subject::of_sent(&sent).is_tunnelled);
        }
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let fragment = SYN.replacen("4000", "00b9", 1);
        let subject = Subject::of_received(&frame(&["0800", &fragment].concat()));
        assert_eq!(texts(&subject), ["tcp 203.0.113.7 198.51.100.10 None"]);
        assert!(subject.ends[0].is_fragment);
    }

    #[test]
    fn ipv6_is_found_behind_extension_headers() {
        let packet = "86dd 6000000000103c40 20010db8000000000000000000000001\
                      20010db8000000000000000000000002 1100010400000000 d431003500080000";
        let subject = Subject::of_received(&frame(packet));
        assert_eq!(
            texts(&subject),
            ["udp 2001:db8::1 2001:db8::2 Some([54321, 53])"]
        );
    }

    #[test]
    fn arp_has_the_addresses_that_it_is_about() {
        let arp = "0806 0001080006040001 020000000002 c0000201 000000000000 c00002fe";
        let subject = Subject::of_received(&frame(arp));
        assert_eq!(texts(&subject), ["arp 192.0.2.1 192.0.2.254 None"]);
    }

    #[test]
    fn nonsense_of_any_length_has_no_ends_and_does_no_harm() {
        let whole = frame(&["0800", SYN].concat());
        for len in 0..34 {
            assert_eq!(texts(&Subject::of_received(&whole[..len])), [""; 0]);
            assert_eq!(texts(&Subject::of_sent(&whole[..len])), [""; 0]);
        }
    }

    #[test]
    fn protocols_have_names_and_numbers() {
        assert_eq!("tcp".parse(), Ok(Carried::Ip(6)));
        assert_eq!("89".parse(), Ok(Carried::Ip(89)));
        assert_eq!("arp".parse(), Ok(Carried::Arp));
        assert!("ospf".parse::<Carried>().is_err());
        assert_eq!(Carried::Ip(89).to_string(), "89");
        assert_eq!(Carried::Ip(132).to_string(), "sctp");
    }
}
