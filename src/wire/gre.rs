//! The header of Generic Routing Encapsulation (RFC 2784).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |C|       Reserved0       | Ver |         Protocol type         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      Checksum (if C is set)   |           Reserved1           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Keys and sequence numbers (RFC 2890) are not known here.
#![forbid(unsafe_code)]

use super::{checksum::Sum, ethernet::EtherType};

/// Length of a header without a checksum.
pub const HEADER_LEN: usize = 4;

/// Length of a header with a checksum.
pub const HEADER_LEN_WITH_CHECKSUM: usize = 8;

/// Why bytes are not a GRE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreError {
    /// Shorter than the header.
    #[error("{0} bytes are shorter than a GRE header")]
    TooShort(usize),
    /// Another version, or a bit that a receiver must not ignore
    /// (RFC 2784 section 2.3).
    #[error("GRE flags {0:#06x} are not known")]
    Flags(u16),
}

/// A checked view over a GRE header.
#[derive(Clone, Copy, Debug)]
pub struct GreHeader<'a> {
    bytes: &'a [u8; HEADER_LEN],
    /// The checksum and the two bytes behind it.
    checksum: Option<&'a [u8; 4]>,
}

impl<'a> GreHeader<'a> {
    /// The header at the front of an IP payload, and the packet behind it. The
    /// checksum is not checked: see
    /// [`is_checksum_correct`](Self::is_checksum_correct).
    ///
    /// # Errors
    /// When the header is not whole or not understood.
    pub fn parse(packet: &'a [u8]) -> Result<(Self, &'a [u8]), GreError> {
        let short = GreError::TooShort(packet.len());
        let (bytes, rest) = packet.split_first_chunk().ok_or(short)?;
        let flags = u16::from_be_bytes([bytes[0], bytes[1]]);
        if flags & FLAGS_REFUSED != 0 {
            return Err(GreError::Flags(flags));
        }
        if flags & CHECKSUM_PRESENT == 0 {
            let checksum = None;
            return Ok((Self { bytes, checksum }, rest));
        }
        let (checksum, rest) = rest.split_first_chunk().ok_or(short)?;
        let checksum = Some(checksum);
        Ok((Self { bytes, checksum }, rest))
    }

    /// What the packet behind the header is.
    pub const fn protocol(&self) -> EtherType {
        EtherType(u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }

    /// Whether the header has a checksum.
    pub const fn has_checksum(&self) -> bool {
        self.checksum.is_some()
    }

    /// Whether the checksum, over header and `payload`, is right or absent.
    pub fn is_checksum_correct(&self, payload: &[u8]) -> bool {
        self.checksum.is_none_or(|checksum| {
            Sum::of(self.bytes)
                .add_bytes(checksum)
                .add_bytes(payload)
                .is_intact()
        })
    }
}

const CHECKSUM_PRESENT: u16 = 0x8000;
/// Bits 1 to 5, which were routing, key, sequence number, strict routing and
/// recursion once, and the version.
const FLAGS_REFUSED: u16 = 0x7c07;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_support::hex;

    /// The payload of the first tunnelled packet of recording
    /// `11_gre_nocsum`.
    const PLAIN: &str = "00000800 45000028123440003f06c356cb007107c633640a\
                         9c410050000003e8000000005002faf0ae320000";

    #[test]
    fn a_recorded_packet_without_a_checksum_is_read() {
        let packet = hex(PLAIN);
        let (header, payload) = GreHeader::parse(&packet).unwrap();
        assert_eq!(header.protocol(), EtherType::IPV4);
        assert!(!header.has_checksum());
        assert!(header.is_checksum_correct(payload));
        assert_eq!(payload, &packet[4..]);
    }

    /// A packet of recording `r_tun_01`.
    #[test]
    fn a_recorded_checksum_is_right_until_a_bit_flips() {
        let mut packet = hex(CHECKED);
        let (header, payload) = GreHeader::parse(&packet).unwrap();
        assert!(header.has_checksum());
        assert!(header.is_checksum_correct(payload));
        assert_eq!(payload[0], 0x45);
        packet[20] ^= 1;
        let (header, payload) = GreHeader::parse(&packet).unwrap();
        assert!(!header.is_checksum_correct(payload));
    }

    #[test]
    fn what_is_cut_short_or_not_understood_is_refused() {
        for (bytes, error) in [
            ("000008", GreError::TooShort(3)),
            ("80000800 123400", GreError::TooShort(7)),
            ("20000800 00000001", GreError::Flags(0x2000)),
            ("10000800 00000001", GreError::Flags(0x1000)),
            ("00010800", GreError::Flags(0x0001)),
        ] {
            assert_eq!(GreHeader::parse(&hex(bytes)).unwrap_err(), error, "{bytes}");
        }
        // Bits 6 to 12 are ignored on receipt.
        assert!(GreHeader::parse(&hex("02000800")).is_ok());
    }

    /// Of recording `r_tun_01`: a UDP datagram without data.
    const CHECKED: &str = "80000800 df4f0000 4500001c089940003f11cc01cb0071f8c633640a\
                           c07800350008d7f9";
}
