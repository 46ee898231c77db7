//! Telling flows apart by what is inside a tunnel, for what spreads them
//! outside: GUE's source port and the outer source address.
#![forbid(unsafe_code)]

use crate::wire::{
    IpProtocol, IpVersion,
    ipv6::{self, Ipv6Header},
};

/// The same for all packets of a flow that are whole: from addresses, protocol
/// and L4 ports. Of a fragment or another protocol than TCP, UDP and SCTP only
/// from addresses and protocol. All bits are spread alike.
pub(super) fn hash(inner: &[u8]) -> u64 {
    let parts = match IpVersion::of_packet(inner) {
        IpVersion::V4 => flow_parts_v4(inner),
        IpVersion::V6 => flow_parts_v6(inner),
    };
    let (addresses, protocol, l4_ports) = parts.unwrap_or_default();
    mix(addresses ^ mix((u64::from(l4_ports) << 8) | u64::from(protocol)))
}

/// Addresses, protocol and L4 ports.
type FlowParts = (u64, u8, u32);

fn flow_parts_v4(inner: &[u8]) -> Option<FlowParts> {
    let header = inner.first_chunk::<20>()?;
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let addresses = u64::from_be_bytes([s0, s1, s2, s3, d0, d1, d2, d3]);
    let protocol = IpProtocol(header[9]);
    let is_whole = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_MASK == 0;
    let l4 = inner.get(usize::from(header[0] & 0x0f) * 4..);
    let ports = l4.filter(|_| is_whole).map_or(0, |l4| ports(protocol, l4));
    Some((addresses, protocol.0, ports))
}

fn flow_parts_v6(inner: &[u8]) -> Option<FlowParts> {
    let (header, payload) = Ipv6Header::parse(inner).ok()?;
    let (halves, _) = inner.get(8..40)?.as_chunks::<8>();
    let addresses = halves
        .iter()
        .fold(0, |sum, half| mix(sum) ^ u64::from_be_bytes(*half));
    let upper = ipv6::upper_layer(header.next_header(), payload).ok()?;
    let is_whole = upper
        .fragment
        .is_none_or(|fragment| !fragment.is_fragment());
    let l4 = payload.get(upper.offset..).filter(|_| is_whole);
    let ports = l4.map_or(0, |l4| ports(upper.protocol, l4));
    Some((addresses, upper.protocol.0, ports))
}

/// The L4 ports of the protocols that have some, or else 0.
fn ports(protocol: IpProtocol, l4: &[u8]) -> u32 {
    match (protocol, l4.first_chunk()) {
        (IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP, Some(ports)) => {
            u32::from_be_bytes(*ports)
        }
        _ => 0,
    }
}

/// The finalizer of `MurmurHash3` for 64 bits.
const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// More fragments, and the fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;
