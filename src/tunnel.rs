//! Writing the outer header in front of a packet: IP in IP (RFC 2003, RFC 4213,
//! RFC 2473) in all pairs of versions, and GRE and GUE with a header of theirs
//! in between.
//!
//! Works in place in the packet's headroom with the real server's ready-made
//! header. Lengths come from the inner IP header, never from the buffer, so
//! that Ethernet padding does not travel on.
#![forbid(unsafe_code)]

mod flow;
mod gre;
mod gue;

use crate::{
    forwarding::{OUTER_HEADER_LEN_MAX, ServerForwarding},
    io::Packet,
    service::TunnelKind,
    wire::{IpVersion, ipv4::Ipv4Header, ipv6::Ipv6Header},
};

/// What of the inner IP header the outer one depends on. With a header in
/// between, that and the inner packet are the payload of the outer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// The version of the inner packet.
    pub version: IpVersion,
    /// Where the payload of the outer packet begins in the frame.
    pub l3_offset: u8,
    /// Length of that payload, at least 20.
    pub total_len: u16,
    /// DSCP and ECN.
    pub tos: u8,
    /// TTL or hop limit, already decremented.
    pub ttl: u8,
}

impl Inner {
    /// Of the packet that begins at `l3_offset` of a frame; `None` when there
    /// is none that could be sent on.
    pub fn of(frame: &[u8], l3_offset: u8) -> Option<Self> {
        let packet = frame.get(usize::from(l3_offset)..)?;
        if IpVersion::of_packet(packet) == IpVersion::V6 {
            let (header, _) = Ipv6Header::parse(packet).ok()?;
            return Some(Self {
                version: IpVersion::V6,
                l3_offset,
                total_len: u16::try_from(header.total_len()).ok()?,
                tos: header.traffic_class(),
                ttl: header.hop_limit(),
            });
        }
        let (header, _) = Ipv4Header::parse(packet).ok()?;
        Some(Self {
            version: IpVersion::V4,
            l3_offset,
            total_len: header.total_len(),
            tos: header.tos(),
            ttl: header.ttl(),
        })
    }
}

/// What the outer IPv4 header says about fragments. An outer IPv6 header has
/// no such fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmentation {
    /// Identification.
    pub identification: u16,
    /// Whether the packet must not be fragmented.
    pub dont_fragment: bool,
}

/// The flags word of an IPv4 header that may not be fragmented.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// There is no room in front of the frame for the outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no headroom for the outer header")]
pub struct NoHeadroom;

/// Replaces the Ethernet header of a frame by the one towards `server` and an
/// outer IP header, and cuts off what follows the inner packet.
///
/// The outer length may exceed the server's MTU: that is for the caller to
/// check.
///
/// # Errors
/// [`NoHeadroom`]; padding and the Ethernet header may be gone.
#[inline]
pub fn encapsulate<P: Packet>(
    packet: &mut P,
    inner: Inner,
    server: &ServerForwarding,
    fragmentation: Fragmentation,
) -> Result<(), NoHeadroom> {
    packet.truncate(usize::from(inner.l3_offset) + usize::from(inner.total_len));
    let source_bits = match server.source_mask {
        0 => 0,
        mask => source_bits(packet.bytes(), inner.l3_offset, mask),
    };
    let inner = if server.tunnel == TunnelKind::Ipip {
        inner
    } else {
        interpose(packet, inner, server, source_bits).ok_or(NoHeadroom)?
    };
    if server.version == IpVersion::V6 {
        return prepend_v6(packet, inner, server, source_bits).ok_or(NoHeadroom);
    }

    let l3_offset = usize::from(inner.l3_offset);
    let l2_len = usize::from(server.l2_len);
    let header_len = l2_len + OUTER_IPV4_LEN;
    let more = header_len.saturating_sub(l3_offset);
    let frame = packet.prepend(more).ok_or(NoHeadroom)?;

    let header = frame.get_mut(..header_len).ok_or(NoHeadroom)?;
    let ready = server.header.get(..header_len).ok_or(NoHeadroom)?;
    header.copy_from_slice(ready);
    let outer = header
        .get_mut(l2_len..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or(NoHeadroom)?;
    complete(outer, inner, server, fragmentation, source_bits);

    if server.offload_checksum {
        packet.offload_ipv4_checksum(server.l2_len, 20);
    }
    Ok(())
}

/// As [`encapsulate`] into IPIP over IPv4, the most frequent one, and with the
/// decrement of the TTL: `inner` is as it came, and over IPv4. For a server that
/// [`is_plain`](ServerForwarding::is_plain).
///
/// # Errors
/// [`NoHeadroom`]; the packet is as it was.
#[inline]
pub fn encapsulate_plain<P: Packet>(
    packet: &mut P,
    inner: Inner,
    server: &ServerForwarding,
    fragmentation: Fragmentation,
) -> Result<(), NoHeadroom> {
    let header_len = usize::from(server.l2_len) + OUTER_IPV4_LEN;
    let more = header_len
        .checked_sub(usize::from(inner.l3_offset))
        .ok_or(NoHeadroom)?;
    let frame = packet
        .reshape(more, header_len + usize::from(inner.total_len))
        .ok_or(NoHeadroom)?;
    // With a length that is known here, copying takes no call.
    if header_len == UNTAGGED_LEN {
        write_plain::<UNTAGGED_LEN>(frame, inner, server, fragmentation)
    } else {
        write_plain::<OUTER_HEADER_LEN_MAX>(frame, inner, server, fragmentation)
    }
    .ok_or(NoHeadroom)?;
    if server.offload_checksum {
        packet.offload_ipv4_checksum(server.l2_len, 20);
    }
    Ok(())
}

#[inline]
fn write_plain<const HEADER_LEN: usize>(
    frame: &mut [u8],
    inner: Inner,
    server: &ServerForwarding,
    fragmentation: Fragmentation,
) -> Option<()> {
    let (header, packet) = frame.split_first_chunk_mut::<HEADER_LEN>()?;
    *header = *server.header.first_chunk()?;
    decrement_ttl(packet.first_chunk_mut()?);
    let inner = Inner {
        ttl: inner.ttl.wrapping_sub(1),
        ..inner
    };
    complete(header.last_chunk_mut()?, inner, server, fragmentation, 0);
    Some(())
}

/// Those of the bits in `mask` that the outer source address of a flow has set,
/// so that the real server's NIC spreads flows that it sees as one pair of
/// addresses. They belong into the last two bytes, which are 0 there.
fn source_bits(frame: &[u8], l3_offset: u8, mask: u16) -> u16 {
    let inner = frame.get(usize::from(l3_offset)..).unwrap_or_default();
    let [.., high, low] = flow::hash(inner).to_be_bytes();
    u16::from_be_bytes([high, low]) & mask
}

/// Writes the header that GRE and GUE have between outer and inner packet. It
/// takes the place of the old Ethernet header, which is longer.
fn interpose<P: Packet>(
    packet: &mut P,
    inner: Inner,
    server: &ServerForwarding,
    source_bits: u16,
) -> Option<Inner> {
    let l3_offset = usize::from(inner.l3_offset);
    let frame = packet.bytes_mut();
    match server.tunnel {
        TunnelKind::Ipip => {}
        TunnelKind::Gre { checksum } => {
            gre::write(frame, l3_offset, inner.version, checksum)?;
        }
        TunnelKind::Gue { l4_port, checksum } => {
            let checksum = checksum.is_outer_present();
            gue::write(frame, inner, server, (l4_port, checksum), source_bits)?;
        }
    }
    let header_len = server.tunnel.header_len();
    Some(Inner {
        l3_offset: inner.l3_offset.checked_sub(header_len)?,
        total_len: inner.total_len.checked_add(u16::from(header_len))?,
        ..inner
    })
}

/// Fills in what differs from packet to packet.
#[inline]
fn complete(
    outer: &mut [u8; 20],
    inner: Inner,
    server: &ServerForwarding,
    Fragmentation {
        identification,
        dont_fragment,
    }: Fragmentation,
    source_bits: u16,
) {
    let tos = outer_tos(inner.tos);
    let total_len = inner.total_len.saturating_add(20);
    let flags = if dont_fragment { DONT_FRAGMENT } else { 0 };
    outer[1] = tos;
    [outer[2], outer[3]] = total_len.to_be_bytes();
    [outer[4], outer[5]] = identification.to_be_bytes();
    [outer[6], outer[7]] = flags.to_be_bytes();
    outer[8] = inner.ttl;
    let [high, low] = source_bits.to_be_bytes();
    outer[14] |= high;
    outer[15] |= low;
    if !server.offload_checksum {
        let sum = server.checksum_seed
            + u32::from(tos)
            + u32::from(total_len)
            + u32::from(identification)
            + u32::from(flags)
            + u32::from(source_bits)
            + (u32::from(inner.ttl) << 8);
        [outer[10], outer[11]] = (!fold(sum)).to_be_bytes();
    }
}

/// Puts Ethernet and IPv6 header in front. The flow label is 0, as Linux IPVS
/// has it.
fn prepend_v6<P: Packet>(
    packet: &mut P,
    inner: Inner,
    server: &ServerForwarding,
    source_bits: u16,
) -> Option<()> {
    let l2_len = usize::from(server.l2_len);
    let header_len = l2_len + server.header_v6.len();
    let more = header_len.saturating_sub(usize::from(inner.l3_offset));
    let frame = packet.prepend(more)?;
    let (l2, outer) = frame.get_mut(..header_len)?.split_at_mut_checked(l2_len)?;
    l2.copy_from_slice(server.header.get(..l2_len)?);
    outer.copy_from_slice(&server.header_v6);
    let outer: &mut [u8; 40] = outer.first_chunk_mut()?;
    let tos = outer_tos(inner.tos);
    outer[0] |= tos >> 4;
    outer[1] |= tos << 4;
    [outer[4], outer[5]] = inner.total_len.to_be_bytes();
    outer[7] = inner.ttl;
    let [high, low] = source_bits.to_be_bytes();
    outer[22] |= high;
    outer[23] |= low;
    Some(())
}

/// DSCP copied; ECN as RFC 6040 section 4.1 in normal mode, but that CE becomes
/// ECT(0), as Linux does: congestion before the tunnel is in the inner header.
#[inline]
pub const fn outer_tos(inner_tos: u8) -> u8 {
    if inner_tos & ECN_MASK == ECN_CE {
        inner_tos ^ 1
    } else {
        inner_tos
    }
}

/// Decrements the TTL of an IPv4 header and updates its checksum (RFC 1141,
/// with the carry as Linux does it).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the carry is added before")]
pub fn decrement_ttl(header: &mut [u8; 20]) {
    header[8] = header[8].wrapping_sub(1);
    // In the machine's own byte order, of which the sum does not depend.
    let one_less_ttl = u32::from(u16::from_ne_bytes([1, 0]));
    let sum = u32::from(u16::from_ne_bytes([header[10], header[11]])) + one_less_ttl;
    let sum = sum + u32::from(sum >= 0xffff);
    [header[10], header[11]] = (sum as u16).to_ne_bytes();
}

/// The part of an outer header's checksum that is the same for each packet:
/// version and header length, protocol and addresses.
pub fn checksum_seed(header: &[u8; 20]) -> u32 {
    let (words, _) = header.as_chunks::<2>();
    words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum()
}

#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

const OUTER_IPV4_LEN: usize = 20;
/// Ethernet without a tag, and the outer IPv4 header.
const UNTAGGED_LEN: usize = 14 + OUTER_IPV4_LEN;
const ECN_MASK: u8 = 3;
const ECN_CE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_experienced_becomes_ect_0_outside() {
        for (inner, outer) in [
            (0x03, 0x02),
            (0xff, 0xfe),
            (0xb8, 0xb8),
            (0x01, 0x01),
            (0x02, 2),
        ] {
            assert_eq!(outer_tos(inner), outer);
        }
    }

    /// Inner headers before and after, from recording `01_encap_basic`.
    #[test]
    fn ttl_goes_down_and_the_checksum_follows() {
        let mut header =
            *b"\x45\x00\x00\x28\x12\x34\x40\x00\x40\x06\xc2\x56\xcb\x00\x71\x07\xc6\x33\x64\x0a";
        decrement_ttl(&mut header);
        assert_eq!(
            header,
            *b"\x45\x00\x00\x28\x12\x34\x40\x00\x3f\x06\xc3\x56\xcb\x00\x71\x07\xc6\x33\x64\x0a"
        );
    }

    #[test]
    fn a_checksum_that_wraps_gets_its_carry() {
        let mut header = [0; 20];
        header[8] = 64;
        for (before, after) in [(0xfeff_u16, 0x0000_u16), (0xff00, 0x0001), (0xfefe, 0xfffe)] {
            [header[10], header[11]] = before.to_be_bytes();
            decrement_ttl(&mut header);
            assert_eq!(
                u16::from_be_bytes([header[10], header[11]]),
                after,
                "{before:04x}"
            );
        }
    }
}
