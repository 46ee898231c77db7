//! What a host without listeners answers: the director's own part in the
//! conversation.
//!
//! Pure functions from a received IPv4 packet to the packet that answers it,
//! with the header fields that Linux uses: TTL 64, precedence "internetwork
//! control" on ICMP errors, no fragmentation of resets.
#![forbid(unsafe_code)]

use crate::wire::{
    IpProtocol,
    checksum::Sum,
    icmp::{self, IcmpCause, IcmpErrorMessage, IcmpHeader, IcmpType, may_trigger_error},
    ipv4::{self, Ipv4Fields, Ipv4Header},
    ipv4_options, tcp, udp,
};

/// What becomes of a packet for one of the director's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<C = IcmpCause> {
    /// This IP packet goes back.
    Reply(Vec<u8>),
    /// An ICMP error goes back, if the limits allow it.
    Error(C),
    /// Nothing does.
    Nothing,
}

/// The answer to `packet`, an IPv4 packet for an address of the director on
/// which nothing listens. `identification` is for the answer;
/// `ms_since_midnight` is the time of day in UTC.
pub(super) fn answer(packet: &[u8], identification: u16, ms_since_midnight: u32) -> Answer {
    let Ok((ip, payload)) = Ipv4Header::parse(packet) else {
        return Answer::Nothing;
    };
    match ip.protocol() {
        IpProtocol::ICMP => answer_icmp(&ip, payload, identification, ms_since_midnight),
        IpProtocol::TCP => match tcp::reset_answering(packet) {
            Ok(segment) => {
                let tos = ip.tos() & !ECN_MASK;
                let fields = Header {
                    tos,
                    id: 0,
                    dont_fragment: true,
                    protocol: ip.protocol(),
                };
                Answer::Reply(fields.packet_back(&ip, &segment))
            }
            Err(_) => Answer::Nothing,
        },
        IpProtocol::UDP => {
            let Ok((header, data)) = udp::UdpHeader::parse(payload) else {
                return Answer::Nothing;
            };
            if header.is_checksum_correct(ip.pseudo_header(header.len()), data) {
                Answer::Error(IcmpCause::PORT_UNREACHABLE)
            } else {
                Answer::Nothing
            }
        }
        _ => Answer::Error(IcmpCause::PROTOCOL_UNREACHABLE),
    }
}

fn answer_icmp(
    ip: &Ipv4Header<'_>,
    message: &[u8],
    identification: u16,
    ms_since_midnight: u32,
) -> Answer {
    let fields = Header {
        tos: ip.tos(),
        id: identification,
        dont_fragment: false,
        protocol: IpProtocol::ICMP,
    };
    match IcmpHeader::validate(message).map(|(header, _)| header.icmp_type()) {
        Ok(IcmpType::ECHO_REQUEST) => {
            let mut reply = message.to_vec();
            match icmp::make_echo_reply(&mut reply) {
                Ok(()) => Answer::Reply(fields.packet_back(ip, &reply)),
                Err(_) => Answer::Nothing,
            }
        }
        Ok(IcmpType::TIMESTAMP_REQUEST) => {
            match icmp::timestamp_reply(message, ms_since_midnight) {
                Ok(reply) => Answer::Reply(fields.packet_back(ip, &reply)),
                Err(_) => Answer::Nothing,
            }
        }
        _ => Answer::Nothing,
    }
}

/// The packet that tells the sender of `packet` about `cause`, from the
/// address that the packet was for; `None` when there must not be one
/// (RFC 1122 section 3.2.2).
pub(super) fn error_about(packet: &[u8], cause: IcmpCause, identification: u16) -> Option<Vec<u8>> {
    if !may_trigger_error(packet) {
        return None;
    }
    let (ip, _) = Ipv4Header::parse_quoted(packet).ok()?;
    let len = usize::from(ip.total_len());
    let packet = packet.get(..len).unwrap_or(packet);
    // The options that go back take room of what is quoted.
    let options = ipv4_options::echoed(ip.options(), ip.destination());
    let quote = packet.get(..icmp::QUOTE_LEN_MAX - options.len());
    let message = IcmpErrorMessage::about(quote.unwrap_or(packet), cause).to_vec();
    let fields = Header {
        tos: (ip.tos() & TOS_MASK) | TOS_INTERNETWORK_CONTROL,
        id: identification,
        dont_fragment: false,
        protocol: IpProtocol::ICMP,
    };
    Some(fields.packet_back(&ip, &message))
}

/// What differs between the IPv4 headers of answers.
struct Header {
    tos: u8,
    id: u16,
    dont_fragment: bool,
    protocol: IpProtocol,
}

impl Header {
    /// A packet from where `received` went to where it came from.
    fn packet_back(&self, received: &Ipv4Header<'_>, payload: &[u8]) -> Vec<u8> {
        let options = ipv4_options::echoed(received.options(), received.destination());
        let header_len = ipv4::HEADER_LEN + options.len();
        let total_len = u16::try_from(header_len + payload.len()).unwrap_or(u16::MAX);
        let header = Ipv4Fields {
            tos: self.tos,
            total_len,
            id: self.id,
            dont_fragment: self.dont_fragment,
            more_fragments: false,
            fragment_offset: 0,
            ttl: TTL,
            protocol: self.protocol,
            source: received.destination(),
            destination: received.source(),
        };
        let mut packet = [header.to_bytes().as_slice(), &options, payload].concat();
        if !options.is_empty() {
            complete_header(&mut packet, header_len);
        }
        packet
    }
}

/// Makes the header as long as it is with its options.
fn complete_header(packet: &mut [u8], header_len: usize) {
    let words = u8::try_from(header_len / 4).unwrap_or_default();
    let Some(header) = packet.get_mut(..header_len) else {
        return;
    };
    if let Some(first) = header.first_mut() {
        *first = 0x40 | words;
    }
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.copy_from_slice(&[0, 0]);
    }
    let sum = Sum::of(header).checksum();
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.copy_from_slice(&sum.to_be_bytes());
    }
}

const TTL: u8 = 64;
const ECN_MASK: u8 = 3;
/// The TOS bits of RFC 1349 that an error copies.
const TOS_MASK: u8 = 0x1e;
/// Precedence 6 (RFC 1812 section 4.3.2.5).
const TOS_INTERNETWORK_CONTROL: u8 = 0xc0;
