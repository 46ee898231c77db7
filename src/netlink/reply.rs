//! The replies, as the kernel writes them.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::{
    attributes::{
        CONN_TAB_SIZE, FAMILY, FAMILY_NAME, FAMILY_VERSION, INET, INET6, VERSION_CODE, command,
        ctrl, dest, info, method, service, top, tunnel,
    },
    codec::{CAPPED, DATAGRAM_LEN_MAX, DONE, ERROR, Errno, HEADER_LEN, MULTI, Message, Writer},
    request::flags_of,
};
use crate::{
    control::status::{Rates, ServerStatus, ServiceStatus, Statistics},
    service::{ClientMask, GueChecksum, Persistence, Protocol, ServiceKey, Timeouts, TunnelKind},
};

/// Which number the family has.
pub(super) fn family(to: &Message<'_>) -> Vec<u8> {
    one(to, (ctrl::NEW_FAMILY, ctrl::OWN_VERSION), |writer| {
        writer.attribute(ctrl::FAMILY_NAME, FAMILY_NAME);
        writer.attribute(ctrl::FAMILY_ID, &FAMILY.to_ne_bytes());
        let version = u32::from(FAMILY_VERSION);
        writer.attribute(ctrl::VERSION, &version.to_ne_bytes());
        writer.attribute(ctrl::HEADER_SIZE, &0_u32.to_ne_bytes());
        writer.attribute(ctrl::MAX_ATTRIBUTE, &top::MAX.to_ne_bytes());
    })
}

/// Version and size of the table.
pub(super) fn information(to: &Message<'_>) -> Vec<u8> {
    one(to, (command::SET_INFO, FAMILY_VERSION), |writer| {
        writer.attribute(info::VERSION, &VERSION_CODE.to_ne_bytes());
        writer.attribute(info::CONN_TAB_SIZE, &CONN_TAB_SIZE.to_ne_bytes());
    })
}

/// `ipvsadm -L --timeout`
pub(super) fn timeouts(to: &Message<'_>, timeouts: Timeouts) -> Vec<u8> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    one(to, (command::SET_CONFIG, FAMILY_VERSION), |writer| {
        writer.attribute(top::TIMEOUT_TCP, &tcp.to_ne_bytes());
        writer.attribute(top::TIMEOUT_TCP_FIN, &tcp_fin.to_ne_bytes());
        writer.attribute(top::TIMEOUT_UDP, &udp.to_ne_bytes());
    })
}

/// Services, as many to a datagram as go in. Those of networks of VIPs are left
/// out, for which there are no words.
pub(super) fn services(to: &Message<'_>, listed: &[ServiceStatus]) -> Vec<Vec<u8>> {
    let has_words = |status: &&ServiceStatus| !matches!(status.key, ServiceKey::Network { .. });
    let mut packing = Packing::default();
    for status in listed.iter().filter(has_words) {
        packing.add(to, command::NEW_SERVICE, |writer| {
            writer.nest(top::SERVICE, |writer| service_entry(writer, status));
        });
    }
    packing.datagrams
}

/// The servers of a service.
pub(super) fn servers(to: &Message<'_>, service: &ServiceStatus) -> Vec<Vec<u8>> {
    let mut packing = Packing::default();
    for status in &service.servers {
        packing.add(to, command::NEW_DEST, |writer| {
            writer.nest(top::DEST, |writer| {
                server_entry(writer, &service.key, status);
            });
        });
    }
    packing.datagrams
}

/// Pieces of a text, one to a datagram: who asks for it looks for no second one.
pub(super) fn text(to: &Message<'_>, text: &str) -> Vec<Vec<u8>> {
    let pieces = text.as_bytes().chunks(TEXT_PIECE_LEN);
    let datagram = |piece| {
        let mut packing = Packing::default();
        packing.add(to, command::GET_TEXT, |writer| {
            writer.attribute(top::TEXT, piece);
        });
        packing.datagrams
    };
    pieces.flat_map(datagram).collect()
}

/// The end of a dump.
pub(super) fn end_dump(replies: &mut Vec<Vec<u8>>, to: &Message<'_>) {
    let mut writer = Writer::default();
    writer.message(to, DONE, MULTI, |writer| {
        writer.bytes.extend(0_i32.to_ne_bytes());
    });
    replies.push(writer.bytes);
}

/// An acknowledgement, with the header of what it is about, or an error, with all
/// of it.
pub(super) fn error(to: &Message<'_>, errno: Option<Errno>) -> Vec<u8> {
    let (header, fits) = (to.whole.get(..HEADER_LEN), to.whole.len() < ECHO_LEN_MAX);
    let (echo, flags) = match errno {
        Some(_) if fits => (Some(to.whole), 0),
        Some(_) => (header, CAPPED),
        None => (header, 0),
    };
    let mut writer = Writer::default();
    writer.message(to, ERROR, flags, |writer| {
        let number = errno.map_or(0, |errno| -(errno as i32));
        writer.bytes.extend(number.to_ne_bytes());
        writer.bytes.extend(echo.unwrap_or_default());
    });
    writer.bytes
}

fn one(to: &Message<'_>, command: (u8, u8), write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.generic(to, 0, command, write);
    writer.bytes
}

/// Datagrams of several messages each.
#[derive(Debug, Default)]
struct Packing {
    datagrams: Vec<Vec<u8>>,
}

impl Packing {
    fn add(&mut self, to: &Message<'_>, command: u8, write: impl FnOnce(&mut Writer)) {
        let flags = if to.is_dump() { MULTI } else { 0 };
        let mut writer = Writer::default();
        writer.generic(to, flags, (command, FAMILY_VERSION), write);
        match self.datagrams.last_mut() {
            Some(last) if last.len() + writer.bytes.len() <= DATAGRAM_LEN_MAX => {
                last.extend(writer.bytes);
            }
            _ => self.datagrams.push(writer.bytes),
        }
    }
}

fn service_entry(writer: &mut Writer, status: &ServiceStatus) {
    let ServiceStatus { key, options, .. } = status;
    writer.attribute(service::AF, &family_of(key.is_ipv6()).to_ne_bytes());
    if let ServiceKey::Mark { fwmark, .. } = key {
        writer.attribute(service::FWMARK, &fwmark.to_ne_bytes());
    } else {
        let protocol = key.protocol().map_or(0, Protocol::number);
        writer.attribute(service::PROTOCOL, &u16::from(protocol).to_ne_bytes());
        writer.attribute(service::ADDR, &address(key.address()));
        writer.attribute(service::PORT, &key.l4_port().to_be_bytes());
    }
    let scheduler = format!("{}\0", options.scheduler);
    writer.attribute(service::SCHED_NAME, scheduler.as_bytes());
    let flags = [flags_of(*options), u32::MAX].map(u32::to_ne_bytes);
    writer.attribute(service::FLAGS, flags.as_flattened());
    let Persistence { timeout_s, mask } = options.persistence.unwrap_or(Persistence {
        timeout_s: 0,
        mask: ClientMask::host(key.is_ipv6()),
    });
    writer.attribute(service::TIMEOUT, &timeout_s.to_ne_bytes());
    let mask = match mask {
        ClientMask::Netmask(mask) => mask.octets(),
        ClientMask::PrefixLen(len) => u32::from(len).to_ne_bytes(),
    };
    writer.attribute(service::NETMASK, &mask);
    let counted = (&status.statistics, &status.rates);
    statistics(writer, (service::STATS, service::STATS64), counted);
}

fn server_entry(writer: &mut Writer, service: &ServiceKey, status: &ServerStatus) {
    let options = &status.options;
    let rip = status.key.address;
    writer.attribute(dest::ADDR_FAMILY, &family_of(rip.is_ipv6()).to_ne_bytes());
    writer.attribute(dest::ADDR, &address(rip));
    writer.attribute(dest::PORT, &service.l4_port().to_be_bytes());
    for (kind, value) in [
        (dest::FWD_METHOD, method::TUNNEL),
        (dest::WEIGHT, options.weight),
        (dest::U_THRESH, options.upper_threshold),
        (dest::L_THRESH, options.lower_threshold),
        (dest::ACTIVE_CONNS, status.active_connections),
        (dest::INACT_CONNS, status.inactive_connections),
        (dest::PERSIST_CONNS, status.templates),
    ] {
        writer.attribute(kind, &value.to_ne_bytes());
    }
    let (kind, l4_port, flags) = match options.tunnel {
        TunnelKind::Ipip => (tunnel::IPIP, 0, 0),
        TunnelKind::Gre { checksum } => (tunnel::GRE, 0, u16::from(checksum)),
        TunnelKind::Gue { l4_port, checksum } => {
            let flags = match checksum {
                GueChecksum::None => 0,
                GueChecksum::Outer => tunnel::CHECKSUM,
                GueChecksum::Remote => tunnel::REMOTE_CHECKSUM,
            };
            (tunnel::GUE, l4_port, flags)
        }
    };
    writer.attribute(dest::TUN_TYPE, &[kind]);
    writer.attribute(dest::TUN_PORT, &l4_port.to_be_bytes());
    writer.attribute(dest::TUN_FLAGS, &flags.to_ne_bytes());
    let counted = (&status.statistics, &status.rates);
    statistics(writer, (dest::STATS, dest::STATS64), counted);
}

/// `IPVS_STATS_ATTR_*`, twice: with the widths of before, and all of 64 bits.
fn statistics(writer: &mut Writer, kinds: (u16, u16), counted: (&Statistics, &Rates)) {
    let (counts, rates) = counted;
    // Whether the attribute has 64 bits in the older of the two.
    let values = [
        (counts.connections, false),
        (counts.in_packets, false),
        (counts.out_packets, false),
        (counts.in_bytes, true),
        (counts.out_bytes, true),
        (rates.connections_per_s, false),
        (rates.in_packets_per_s, false),
        (rates.out_packets_per_s, false),
        (rates.in_bytes_per_s, false),
        (rates.out_bytes_per_s, false),
    ];
    let (old, new) = kinds;
    writer.nest(old, |writer| {
        for (kind, (value, is_long)) in (1..).zip(values) {
            if is_long {
                writer.attribute(kind, &value.to_ne_bytes());
            } else {
                writer.attribute(kind, &low_half(value).to_ne_bytes());
            }
        }
    });
    writer.nest(new, |writer| {
        for (kind, (value, _)) in (1..).zip(values) {
            writer.attribute(kind, &value.to_ne_bytes());
        }
    });
}

/// As the kernel shortens its counters.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn low_half(value: u64) -> u32 {
    value as u32
}

const fn family_of(is_ipv6: bool) -> u16 {
    if is_ipv6 { INET6 } else { INET }
}

/// An address in the 16 bytes that one of either version gets.
fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// What of a wrong message goes back with the error.
const ECHO_LEN_MAX: usize = DATAGRAM_LEN_MAX / 2;

/// So that one piece fills a datagram, and two do not go in.
const TEXT_PIECE_LEN: usize = 6144;

#[cfg(test)]
mod tests {
    use super::{super::codec::messages, *};

    #[test]
    fn each_piece_of_a_text_is_a_datagram_also_a_short_last_one() {
        let question = [
            &20_u32.to_ne_bytes()[..],
            &[37, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 128, 1, 0, 0],
        ]
        .concat();
        let to = messages(&question).next().unwrap();
        for (len, count) in [(1, 1), (6144, 1), (6145, 2), (6644, 2), (12_289, 3)] {
            let whole: String = ('a'..='z').cycle().take(len).collect();
            let datagrams = text(&to, &whole);
            assert_eq!(datagrams.len(), count, "{len}");
            let pieces = datagrams.iter().map(|datagram| {
                let mut messages = messages(datagram);
                let (_, attributes) = messages.next().unwrap().generic().unwrap();
                assert!(messages.next().is_none(), "{len}");
                attributes.text(top::TEXT).unwrap()
            });
            assert_eq!(pieces.collect::<String>(), whole, "{len}");
        }
    }
}
