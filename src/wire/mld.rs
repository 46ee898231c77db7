//! Reports of listened-to groups: Multicast Listener Discovery, version 2 (RFC
//! 3810), of which only the report that a host sends unasked is written.
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   Type (143)  |    Reserved   |            Checksum           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            Reserved           |       Number of records       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Record type  |  Aux len (0)  |     Number of sources (0)     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |              Multicast address, 16 bytes; more records        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Switches that snoop learn from it to which ports the groups go.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::{
    IpProtocol,
    checksum::Sum,
    icmpv6::Icmpv6Type,
    ipv6::{HOP_BY_HOP, Ipv6Fields},
};

/// All routers that understand version 2 of the protocol.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The most groups in one report, so that it fits into 1280 bytes.
pub const GROUPS_MAX: usize = 60;

/// How a report says that its sender listens to a group, whatever the source
/// (RFC 3810 section 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordType {
    /// It does, as it said before: the answer to a query.
    ModeIsExclude = 2,
    /// It has just joined.
    ChangeToExclude = 4,
}

/// The IPv6 packet by which `source`, a link-local address or the unspecified
/// one, reports `groups`; those beyond [`GROUPS_MAX`] are left out.
pub fn report_packet(source: Ipv6Addr, groups: &[Ipv6Addr], record: RecordType) -> Vec<u8> {
    let groups = groups.get(..GROUPS_MAX).unwrap_or(groups);
    let count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
    let records = groups
        .iter()
        .flat_map(|group| [&[record as u8, 0, 0, 0], &group.octets()[..]].concat());
    let [n0, n1] = count.to_be_bytes();
    let head = |[c0, c1]: [u8; 2]| {
        [
            Icmpv6Type::MULTICAST_LISTENER_REPORT.0,
            0,
            c0,
            c1,
            0,
            0,
            n0,
            n1,
        ]
    };
    let records: Vec<u8> = records.collect();
    let message_len = HEAD_LEN + RECORD_LEN * count;
    let sum = Sum::ipv6_pseudo_header(
        source,
        ALL_ROUTERS,
        IpProtocol::ICMPV6,
        u32::from(message_len),
    )
    .add_bytes(&head([0, 0]))
    .add_bytes(&records);
    let header = Ipv6Fields {
        traffic_class: 0,
        flow_label: 0,
        payload_len: ROUTER_ALERT_LEN + message_len,
        next_header: HOP_BY_HOP,
        hop_limit: 1,
        source,
        destination: ALL_ROUTERS,
    };
    [
        &header.to_bytes()[..],
        &ROUTER_ALERT,
        &head(sum.checksum().to_be_bytes()),
        &records,
    ]
    .concat()
}

const HEAD_LEN: u16 = 8;
const RECORD_LEN: u16 = 20;
const ROUTER_ALERT_LEN: u16 = 8;
/// Hop-by-hop options with a Router Alert for MLD (RFC 2711) and padding.
const ROUTER_ALERT: [u8; 8] = [IpProtocol::ICMPV6.0, 0, 5, 2, 0, 0, 1, 0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        icmpv6::Icmpv6Header,
        ipv6::{Ipv6Header, upper_layer},
        test_support::hex,
    };

    /// What Linux sends when a port comes up: for the solicited-node group of
    /// its link-local address.
    #[test]
    fn report_is_written_as_linux_writes_it() {
        let group = "ff02::1:ff00:d000".parse().unwrap();
        let packet = report_packet(Ipv6Addr::UNSPECIFIED, &[group], RecordType::ChangeToExclude);
        let without_checksum = |packet: &[u8]| [&packet[..50], &packet[52..]].concat();
        assert_eq!(
            without_checksum(&packet),
            hex("6000000000240001 00000000000000000000000000000000 \
                 ff020000000000000000000000000016 3a00050200000100 \
                 8f00 00000001 04000000 ff0200000000000000000001ff00d000")
        );
        let (ip, payload) = Ipv6Header::parse(&packet).unwrap();
        let upper = upper_layer(ip.next_header(), payload).unwrap();
        Icmpv6Header::validate(&ip, &payload[upper.offset..]).unwrap();
    }

    #[test]
    fn report_of_many_groups_fits_into_the_smallest_mtu() {
        let groups = vec![ALL_ROUTERS; 100];
        let packet = report_packet(Ipv6Addr::UNSPECIFIED, &groups, RecordType::ModeIsExclude);
        assert_eq!(packet.len(), 1256);
        let (ip, payload) = Ipv6Header::parse(&packet).unwrap();
        assert_eq!(payload[14..16], [0, 60]);
        Icmpv6Header::validate(&ip, &payload[8..]).unwrap();
    }
}
