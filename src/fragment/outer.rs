//! Fragmenting outer packets that are too long for the path to a real server
//! (RFC 791 section 3.2, RFC 8200 section 4.5). Only packets whose inner DF flag is clear, or that
//! carry an ICMP error, come here.
#![forbid(unsafe_code)]

use crate::{
    forwarding::ServerForwarding,
    io::{Packet, PacketPool},
    wire::{
        IpProtocol, IpVersion,
        checksum::Sum,
        ipv6::{self, FragmentHeader},
    },
};

/// No packet buffer was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no packet buffer to fragment into")]
pub struct NoPacketBuffer;

/// Cuts an encapsulated frame into fragments that fit `server.mtu`, and hands
/// each to `send`, in order and with whether it is the last. The DF flag of an
/// outer IPv4 header must be clear; an outer IPv6 header gets a fragment header
/// behind it. All fragments have this `identification`, of which IPv4 has had
/// its half already.
///
/// # Errors
/// [`NoPacketBuffer`]: nothing was sent, the frame is lost.
pub fn fragment_outer<Q: PacketPool>(
    mut whole: Q::Packet,
    server: &ServerForwarding,
    identification: u32,
    pool: &mut Q,
    mut send: impl FnMut(Q::Packet, bool),
) -> Result<(), NoPacketBuffer> {
    if server.version == IpVersion::V6 {
        insert_fragment_header(&mut whole, server, identification).ok_or(NoPacketBuffer)?;
    }
    let payload_offset = usize::from(server.l2_len) + header_len(server.version);
    let piece_len = usize::from(server.mtu).saturating_sub(header_len(server.version)) & !7;
    if piece_len == 0 || whole.bytes().len() <= payload_offset {
        return Err(NoPacketBuffer);
    }

    let first_len = payload_offset + piece_len;
    let (head, tail) = whole
        .bytes()
        .split_at_checked(first_len)
        .ok_or(NoPacketBuffer)?;
    let header = head.get(..payload_offset).ok_or(NoPacketBuffer)?;
    let mut rest = arrayvec::ArrayVec::<Q::Packet, FRAGMENTS_MAX>::new();
    let pieces = tail.chunks(piece_len).count();
    for (number, piece) in (1..).zip(tail.chunks(piece_len)) {
        let mut packet = pool.allocate().ok_or(NoPacketBuffer)?;
        let frame = packet
            .extend(header.len() + piece.len())
            .ok_or(NoPacketBuffer)?;
        let (to_header, to_payload) = frame
            .split_at_mut_checked(header.len())
            .ok_or(NoPacketBuffer)?;
        to_header.copy_from_slice(header);
        to_payload.copy_from_slice(piece);
        let position = Position {
            offset: number * piece_len,
            len: piece.len(),
            is_last: number == pieces,
        };
        mark(&mut packet, server, position).ok_or(NoPacketBuffer)?;
        rest.try_push(packet).map_err(|_| NoPacketBuffer)?;
    }
    whole.truncate(first_len);
    let first = Position {
        offset: 0,
        len: piece_len,
        is_last: false,
    };
    mark(&mut whole, server, first).ok_or(NoPacketBuffer)?;

    send(whole, pieces == 0);
    for (number, piece) in (1..).zip(rest) {
        send(piece, number == pieces);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Position {
    /// In bytes, a multiple of 8.
    offset: usize,
    /// Bytes of the payload.
    len: usize,
    is_last: bool,
}

/// Length of what each fragment begins with.
const fn header_len(version: IpVersion) -> usize {
    match version {
        IpVersion::V4 => IPV4_HEADER_LEN,
        IpVersion::V6 => ipv6::HEADER_LEN + ipv6::FRAGMENT_HEADER_LEN,
    }
}

/// Makes room for a fragment header behind the outer IPv6 header, which moves
/// forward.
fn insert_fragment_header<P: Packet>(
    packet: &mut P,
    server: &ServerForwarding,
    identification: u32,
) -> Option<()> {
    let moved = usize::from(server.l2_len) + ipv6::HEADER_LEN;
    let frame = packet.prepend(ipv6::FRAGMENT_HEADER_LEN)?;
    let front = frame.get_mut(..moved + ipv6::FRAGMENT_HEADER_LEN)?;
    front.copy_within(ipv6::FRAGMENT_HEADER_LEN.., 0);
    let next_header = front.get_mut(usize::from(server.l2_len) + NEXT_HEADER_OFFSET)?;
    let fragment = FragmentHeader {
        id: identification,
        offset: 0,
        more_fragments: true,
        next_header: IpProtocol(*next_header),
    };
    *next_header = ipv6::FRAGMENT.0;
    *front.last_chunk_mut()? = fragment.to_bytes();
    Some(())
}

/// Writes length, flags, offset and checksum of a fragment.
fn mark<P: Packet>(packet: &mut P, server: &ServerForwarding, position: Position) -> Option<()> {
    let bytes = packet.bytes_mut().get_mut(usize::from(server.l2_len)..)?;
    let offset = u16::try_from(position.offset).ok()?;
    if server.version == IpVersion::V6 {
        let payload_len = u16::try_from(ipv6::FRAGMENT_HEADER_LEN + position.len).ok()?;
        let header: &mut [u8; ipv6::HEADER_LEN + ipv6::FRAGMENT_HEADER_LEN] =
            bytes.first_chunk_mut()?;
        [header[4], header[5]] = payload_len.to_be_bytes();
        // The offset in bytes, a multiple of 8, with the flag below it.
        let field = offset | u16::from(!position.is_last);
        [header[42], header[43]] = field.to_be_bytes();
        return Some(());
    }
    let header: &mut [u8; IPV4_HEADER_LEN] = bytes.first_chunk_mut()?;
    let total_len = u16::try_from(IPV4_HEADER_LEN + position.len).ok()?;
    let more = if position.is_last { 0 } else { MORE_FRAGMENTS };
    [header[2], header[3]] = total_len.to_be_bytes();
    [header[6], header[7]] = ((offset / 8) | more).to_be_bytes();
    [header[10], header[11]] = [0, 0];
    if server.offload_checksum {
        packet.offload_ipv4_checksum(server.l2_len, 20);
    } else {
        let checksum = Sum::of(header).checksum();
        [header[10], header[11]] = checksum.to_be_bytes();
    }
    Some(())
}

/// Enough for the largest frame (9,720 bytes) on a path with an MTU of 576.
/// A path so narrow that a packet would need more loses it, counted.
const FRAGMENTS_MAX: usize = 18;
const IPV4_HEADER_LEN: usize = 20;
/// In an IPv6 header.
const NEXT_HEADER_OFFSET: usize = 6;
const MORE_FRAGMENTS: u16 = 0x2000;
