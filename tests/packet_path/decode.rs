//! Taking apart what the director sent, by hand: an independent decapsulation
//! and reassembly.

use std::net::Ipv4Addr;

use crate::frames::{PORT_MACS, SERVER_SIDE, checksum, server_mac};

/// The fields of an outer IPv4 header that vary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) tos: u8,
    pub(crate) id: u16,
    /// Flags and fragment offset.
    pub(crate) flags: u16,
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
}

/// The outer packet of a frame to the real server `rip`, by way of the station
/// 10.0.0.11. All that does not vary is checked here.
pub(crate) fn outer(frame: &[u8], rip: Ipv4Addr) -> Outer {
    outer_of_protocol(frame, rip, 4)
}

/// The same where the payload is of another protocol than IPv4.
pub(crate) fn outer_of_protocol(frame: &[u8], rip: Ipv4Addr, protocol: u8) -> Outer {
    assert_eq!(frame[..6], server_mac(11));
    assert_eq!(frame[6..12], PORT_MACS[1]);
    assert_eq!(frame[12..14], [8, 0]);
    let packet = &frame[14..];
    let header = &packet[..20];
    assert_eq!(header[0], 0x45);
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    assert_eq!(total_len, packet.len(), "padding or a cut");
    assert_eq!(checksum(header), 0, "outer checksum");
    assert_eq!(header[9], protocol);
    assert_eq!(header[12..16], SERVER_SIDE.octets());
    assert_eq!(header[16..20], rip.octets());
    Outer {
        tos: header[1],
        id: u16::from_be_bytes([header[4], header[5]]),
        flags: u16::from_be_bytes([header[6], header[7]]),
        ttl: header[8],
        payload: packet[20..].to_vec(),
    }
}

/// Puts the fragments of one packet together, in whatever order they are.
/// `None` unless they cover it once, each but the last a multiple of 8 bytes
/// long, with equal headers.
pub(crate) fn reassemble(fragments: &[Outer]) -> Option<Outer> {
    let mut sorted = fragments.to_vec();
    sorted.sort_by_key(|fragment| fragment.flags & 0x1fff);
    let first = sorted.first()?.clone();
    let mut payload = Vec::new();
    for (number, fragment) in (1..).zip(&sorted) {
        let is_last = number == sorted.len();
        let same = (fragment.tos, fragment.id, fragment.ttl) == (first.tos, first.id, first.ttl);
        let more = fragment.flags & 0xe000;
        let offset = usize::from(fragment.flags & 0x1fff) * 8;
        if !same || offset != payload.len() || more != if is_last { 0 } else { 0x2000 } {
            return None;
        }
        payload.extend(&fragment.payload);
    }
    Some(Outer {
        flags: 0,
        payload,
        ..first
    })
}

/// The packet as a router hands it on: TTL less by one, and the checksum
/// computed anew.
pub(crate) fn one_hop_on(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[8] -= 1;
    packet[10..12].fill(0);
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    let sum = checksum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}
