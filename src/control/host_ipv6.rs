//! What a host without listeners answers over IPv6: as [`super::host`] does over
//! IPv4, with the header fields that Linux uses there.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::host::Answer;
use crate::wire::{
    IpProtocol,
    icmpv6::{self, Icmpv6Cause, Icmpv6ErrorMessage, Icmpv6Type, may_trigger_error},
    ipv6::{Ipv6Fields, Ipv6Header, NO_NEXT_HEADER, upper_layer},
    tcp, udp,
};

/// Whether a packet is a message of Neighbor Discovery. Those behind extension
/// headers are malformed, but are such messages.
pub(super) fn is_neighbor_discovery(packet: &[u8]) -> bool {
    let Ok((ip, payload)) = Ipv6Header::parse(packet) else {
        return false;
    };
    let Ok(upper) = upper_layer(ip.next_header(), payload) else {
        return false;
    };
    upper.protocol == IpProtocol::ICMPV6
        && payload
            .get(upper.offset)
            .is_some_and(|&first| Icmpv6Type(first).is_neighbor_discovery())
}

/// The answer to `packet`, an IPv6 packet for an address of the director on
/// which nothing listens.
pub(super) fn answer(packet: &[u8]) -> Answer<Icmpv6Cause> {
    let Ok((ip, payload)) = Ipv6Header::parse(packet) else {
        return Answer::Nothing;
    };
    // Fragments that could be put together would be packets; these are not.
    let upper = upper_layer(ip.next_header(), payload).ok();
    let Some(upper) = upper.filter(|upper| upper.fragment.is_none_or(|it| !it.is_fragment()))
    else {
        return Answer::Nothing;
    };
    let message = payload.get(upper.offset..).unwrap_or_default();
    match upper.protocol {
        IpProtocol::ICMPV6 => answer_echo(ip, message),
        IpProtocol::TCP => match tcp::reset_answering_ipv6(&ip, message) {
            Ok(segment) => {
                let traffic_class = ip.traffic_class() & !ECN_MASK;
                Answer::Reply(packet_back(ip, traffic_class, IpProtocol::TCP, &segment))
            }
            Err(_) => Answer::Nothing,
        },
        IpProtocol::UDP => answer_udp(ip, message),
        NO_NEXT_HEADER => Answer::Nothing,
        _ => {
            let named_at = u32::try_from(upper.named_at).unwrap_or(0);
            Answer::Error(Icmpv6Cause::unknown_next_header(named_at))
        }
    }
}

fn answer_echo(ip: Ipv6Header<'_>, message: &[u8]) -> Answer<Icmpv6Cause> {
    let mut reply = message.to_vec();
    match icmpv6::make_echo_reply(&ip, &mut reply) {
        Ok(()) => Answer::Reply(packet_back(
            ip,
            ip.traffic_class(),
            IpProtocol::ICMPV6,
            &reply,
        )),
        Err(_) => Answer::Nothing,
    }
}

/// Without a checksum a datagram is damaged (RFC 8200 section 8.1).
fn answer_udp(ip: Ipv6Header<'_>, message: &[u8]) -> Answer<Icmpv6Cause> {
    let Ok((header, data)) = udp::UdpHeader::parse(message) else {
        return Answer::Nothing;
    };
    let pseudo_header = ip.pseudo_header(IpProtocol::UDP, u32::from(header.len()));
    if header.checksum() != 0 && header.is_checksum_correct(pseudo_header, data) {
        Answer::Error(Icmpv6Cause::PORT_UNREACHABLE)
    } else {
        Answer::Nothing
    }
}

/// The packet that tells the sender of `packet` about `cause`, from the address
/// that the packet was for; `None` when there must not be one (RFC 4443 section
/// 2.4).
pub(super) fn error_about(packet: &[u8], cause: Icmpv6Cause) -> Option<Vec<u8>> {
    if !may_trigger_error(packet, cause) {
        return None;
    }
    let (ip, _) = Ipv6Header::parse_quoted(packet).ok()?;
    // The director is no member of groups that anybody sends to.
    let (source, destination): (Ipv6Addr, _) = (ip.destination(), ip.source());
    if source.is_multicast() {
        return None;
    }
    let message = Icmpv6ErrorMessage::about(packet, cause).to_vec(source, destination);
    Some(packet_back(ip, 0, IpProtocol::ICMPV6, &message))
}

/// A packet from where `received` went to where it came from.
fn packet_back(
    received: Ipv6Header<'_>,
    traffic_class: u8,
    next_header: IpProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let header = Ipv6Fields {
        traffic_class,
        // RFC 6437 section 3: a source that does not label flows writes 0.
        flow_label: 0,
        payload_len: u16::try_from(payload.len()).unwrap_or(u16::MAX),
        next_header,
        hop_limit: HOP_LIMIT,
        source: received.destination(),
        destination: received.source(),
    };
    [header.to_bytes().as_slice(), payload].concat()
}

const HOP_LIMIT: u8 = 64;
const ECN_MASK: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_support::hex;

    /// Recording `10_6in6`, packet "UDP no service".
    const UDP: &str = "6000000000281140 20010db8000c00000000000000000007 \
         20010db800ff00000000000000000010 13910036002807bc 7878787878787878 \
         7878787878787878 7878787878787878 7878787878787878";

    #[test]
    fn udp_is_answered_when_its_checksum_is_there_and_right() {
        let packet = hex(UDP);
        assert_eq!(
            answer(&packet),
            Answer::Error(Icmpv6Cause::PORT_UNREACHABLE)
        );
        for checksum in [[0, 0], [0x07, 0xbd]] {
            let mut packet = packet.clone();
            packet[46..48].copy_from_slice(&checksum);
            assert_eq!(answer(&packet), Answer::Nothing, "{checksum:02x?}");
        }
    }

    #[test]
    fn an_unknown_protocol_is_answered_with_where_it_is_named() {
        let mut packet = hex(UDP);
        packet[6] = 89;
        let cause = Icmpv6Cause::unknown_next_header(6);
        assert_eq!(answer(&packet), Answer::Error(cause));
        // Behind destination options.
        packet[5] += 8;
        packet[6] = 60;
        packet.splice(40..40, hex("5900010400000000"));
        let cause = Icmpv6Cause::unknown_next_header(40);
        assert_eq!(answer(&packet), Answer::Error(cause));
        assert!(error_about(&packet, cause).is_some());
        packet[40] = NO_NEXT_HEADER.0;
        assert_eq!(answer(&packet), Answer::Nothing);
    }

    #[test]
    fn fragments_are_not_answered() {
        let packet = hex("6000000000102c40 20010db8000c00000000000000000007 \
             20010db800ff00000000000000000010 1100000100001111 1391003600080000");
        assert_eq!(answer(&packet), Answer::Nothing);
    }

    #[test]
    fn neighbor_discovery_is_told_from_other_messages() {
        let mut packet = hex("6000000000083a40 20010db8000c00000000000000000007 \
             20010db800ff00000000000000000010 8000000000000000");
        assert!(!is_neighbor_discovery(&packet));
        for icmp_type in 133..=137 {
            packet[40] = icmp_type;
            assert!(is_neighbor_discovery(&packet));
        }
        packet[40] = 138;
        assert!(!is_neighbor_discovery(&packet));
    }
}
