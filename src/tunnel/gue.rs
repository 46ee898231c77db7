//! Generic UDP Encapsulation (draft-ietf-intarea-gue, version 0): a UDP header
//! and four bytes between outer and inner packet.
//!
//! The source port is the same for all packets of a flow and spreads flows, so
//! that routers and real servers can tell them apart without looking inside.
#![forbid(unsafe_code)]

use super::{Inner, flow};
use crate::{
    forwarding::ServerForwarding,
    wire::{IpProtocol, IpVersion, checksum::Sum},
};

/// Writes the headers in front of the inner packet, which ends with the frame.
/// `source_bits` are those of the outer source address that the flow decides.
/// `None` when there is no room for them.
pub(super) fn write(
    frame: &mut [u8],
    packet: Inner,
    server: &ServerForwarding,
    (l4_port, checksum): (u16, bool),
    source_bits: u16,
) -> Option<()> {
    let (front, inner) = frame.split_at_mut_checked(usize::from(packet.l3_offset))?;
    let header = front.last_chunk_mut::<HEADER_LEN>()?;
    let len = u16::try_from(HEADER_LEN + inner.len()).ok()?;
    let [source_high, source_low] = source_port(inner).to_be_bytes();
    let [port_high, port_low] = l4_port.to_be_bytes();
    let [len_high, len_low] = len.to_be_bytes();
    let protocol = packet.version.encapsulated().0;
    *header = [
        source_high,
        source_low,
        port_high,
        port_low,
        len_high,
        len_low,
        0,
        0,
        0,
        protocol,
        0,
        0,
    ];
    if checksum {
        // The addresses of the pseudo header are those of the outer header.
        let addresses = match server.version {
            IpVersion::V4 => {
                let addresses = usize::from(server.l2_len) + ADDRESSES_OFFSET;
                server.header.get(addresses..addresses + 8)?
            }
            IpVersion::V6 => server.header_v6.last_chunk::<32>()?,
        };
        let sum = Sum::of(addresses)
            .add_u16(source_bits)
            .add_u16(u16::from(IpProtocol::UDP.0))
            .add_u16(len)
            .add_bytes(header)
            .add_bytes(inner)
            .checksum();
        // 0 would mean that there is none (RFC 768).
        let sum = if sum == 0 { 0xffff } else { sum };
        [header[6], header[7]] = sum.to_be_bytes();
    }
    Some(())
}

/// A port out of Linux's range of ephemeral ports, from addresses, protocol and
/// L4 ports of the inner packet; of a fragment or another protocol than TCP, UDP
/// and SCTP only from addresses and protocol.
fn source_port(inner: &[u8]) -> u16 {
    let port = u64::from(SOURCE_PORT_MIN) + (((flow::hash(inner) >> 32) * SOURCE_PORTS) >> 32);
    u16::try_from(port).unwrap_or(SOURCE_PORT_MIN)
}

/// UDP and GUE.
const HEADER_LEN: usize = 12;
/// Where source and destination stand in an IPv4 header.
const ADDRESSES_OFFSET: usize = 12;
const SOURCE_PORT_MIN: u16 = 32_768;
/// Up to 60999.
const SOURCE_PORTS: u64 = 28_232;

#[cfg(test)]
mod tests {
    use super::*;

    /// TCP or UDP from 203.0.113.7 to 198.51.100.10.
    fn packet(protocol: u8, flags: u16, client_port: u16) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&[203, 0, 113, 7, 198, 51, 100, 10]);
        packet[20..22].copy_from_slice(&client_port.to_be_bytes());
        packet
    }

    #[test]
    fn source_ports_are_ephemeral_and_spread_over_all_of_the_range() {
        let mut buckets = [0_u32; 16];
        for client_port in 1024..=u16::MAX {
            let port = source_port(&packet(6, 0x4000, client_port));
            assert!((32_768..61_000).contains(&port), "{port}");
            buckets[usize::from(port - 32_768) * 16 / 28_232] += 1;
        }
        // 64,512 over 16: 4,032 each, and a standard deviation of 62.
        assert!(
            buckets.iter().all(|count| (3_600..4_500).contains(count)),
            "{buckets:?}"
        );
    }

    #[test]
    fn a_source_port_depends_on_the_flow_alone() {
        let one = source_port(&packet(17, 0, 5000));
        assert_eq!(source_port(&packet(17, 0x4000, 5000)), one, "DF");
        let mut other_ttl = packet(17, 0, 5000);
        other_ttl[8] = 9;
        assert_eq!(source_port(&other_ttl), one);
        assert_ne!(source_port(&packet(6, 0, 5000)), one, "protocol");
        assert_ne!(source_port(&packet(17, 0, 5001)), one);
    }

    #[test]
    fn bytes_that_are_no_ports_do_not_count() {
        let icmp = source_port(&packet(1, 0, 1));
        assert_eq!(source_port(&packet(1, 0, 2)), icmp);
        let fragment = source_port(&packet(17, 0x2000, 1));
        assert_eq!(source_port(&packet(17, 0x0001, 2)), fragment);
    }
}
