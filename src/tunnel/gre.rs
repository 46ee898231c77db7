//! Generic Routing Encapsulation (RFC 2784): the header between outer and
//! inner packet, with or without a checksum.
#![forbid(unsafe_code)]

use crate::wire::{IpVersion, checksum::Sum};

/// Writes the header in front of the inner packet, which begins at `l3_offset`
/// and ends with the frame. `None` when there is no room for it.
pub(super) fn write(
    frame: &mut [u8],
    l3_offset: usize,
    version: IpVersion,
    checksum: bool,
) -> Option<()> {
    let (front, inner) = frame.split_at_mut_checked(l3_offset)?;
    let [high, low] = version.ether_type().0.to_be_bytes();
    if checksum {
        let header = front.last_chunk_mut::<8>()?;
        *header = [CHECKSUM_PRESENT, 0, high, low, 0, 0, 0, 0];
        let sum = Sum::of(header).add_bytes(inner).checksum();
        [header[4], header[5]] = sum.to_be_bytes();
    } else {
        *front.last_chunk_mut()? = [0, 0, high, low];
    }
    Some(())
}

/// In the first byte of the header.
const CHECKSUM_PRESENT: u8 = 0x80;
