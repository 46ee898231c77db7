//! Fragmenting outer packets that are too long for the path to a real server
//! (RFC 791 section 3.2). Only packets whose inner DF flag is clear, or that
//! carry an ICMP error, come here.
#![forbid(unsafe_code)]

use crate::{
    forwarding::ServerForwarding,
    io::{Packet, PacketPool},
    wire::checksum::Sum,
};

/// No packet buffer was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no packet buffer to fragment into")]
pub struct NoPacketBuffer;

/// Cuts an encapsulated frame into fragments that fit `server.mtu`, and hands
/// each to `send`, in order and with whether it is the last. The DF flag of the
/// outer header must be clear.
///
/// # Errors
/// [`NoPacketBuffer`]: nothing was sent, the frame is lost.
pub fn fragment_outer<Q: PacketPool>(
    mut whole: Q::Packet,
    server: &ServerForwarding,
    pool: &mut Q,
    mut send: impl FnMut(Q::Packet, bool),
) -> Result<(), NoPacketBuffer> {
    let l2_len = usize::from(server.l2_len);
    let payload_offset = l2_len + HEADER_LEN;
    let piece_len = usize::from(server.mtu).saturating_sub(HEADER_LEN) & !7;
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
            is_last: number == pieces,
        };
        mark(&mut packet, server, position, piece.len())?;
        rest.try_push(packet).map_err(|_| NoPacketBuffer)?;
    }
    whole.truncate(first_len);
    mark(
        &mut whole,
        server,
        Position {
            offset: 0,
            is_last: false,
        },
        piece_len,
    )?;

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
    is_last: bool,
}

/// Writes length, flags, offset and checksum of a fragment.
fn mark<P: Packet>(
    packet: &mut P,
    server: &ServerForwarding,
    position: Position,
    payload_len: usize,
) -> Result<(), NoPacketBuffer> {
    let header: &mut [u8; HEADER_LEN] = packet
        .bytes_mut()
        .get_mut(usize::from(server.l2_len)..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or(NoPacketBuffer)?;
    let total_len = u16::try_from(HEADER_LEN + payload_len).map_err(|_| NoPacketBuffer)?;
    let offset = u16::try_from(position.offset / 8).map_err(|_| NoPacketBuffer)?;
    let flags = if position.is_last {
        offset
    } else {
        offset | MORE_FRAGMENTS
    };
    [header[2], header[3]] = total_len.to_be_bytes();
    [header[6], header[7]] = flags.to_be_bytes();
    [header[10], header[11]] = [0, 0];
    if server.offload_checksum {
        packet.offload_ipv4_checksum(server.l2_len, 20);
    } else {
        let checksum = Sum::of(header).checksum();
        [header[10], header[11]] = checksum.to_be_bytes();
    }
    Ok(())
}

/// Enough for the largest frame (9,720 bytes) on a path with an MTU of 576.
/// A path so narrow that a packet would need more loses it, counted.
const FRAGMENTS_MAX: usize = 18;
const HEADER_LEN: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
