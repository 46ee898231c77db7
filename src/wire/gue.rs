//! The header of Generic UDP Encapsulation, version 0
//! (draft-ietf-intarea-gue-09 section 3).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | 0 |C|   Hlen  |  Proto/ctype  |             Flags             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! It follows a UDP header. Extension fields, of which `Hlen` is the length in
//! words of 32 bits, are not known here, nor are control messages (C).
#![forbid(unsafe_code)]

use super::IpProtocol;

/// Length of a header without extension fields.
pub const HEADER_LEN: usize = 4;

/// Why bytes are not a GUE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GueError {
    /// Shorter than the header.
    #[error("{0} bytes are shorter than a GUE header")]
    TooShort(usize),
    /// Another version than 0, a control message, or extension fields.
    #[error("a GUE header that begins with {first:#04x} and has flags {flags:#06x} is not known")]
    Unknown {
        /// Version, C and Hlen.
        first: u8,
        /// Which extension fields there are.
        flags: u16,
    },
}

/// A checked view over a GUE header.
#[derive(Clone, Copy, Debug)]
pub struct GueHeader<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> GueHeader<'a> {
    /// The header at the front of a UDP payload, and the packet behind it.
    ///
    /// # Errors
    /// When the header is not whole or not understood.
    pub fn parse(packet: &'a [u8]) -> Result<(Self, &'a [u8]), GueError> {
        let short = GueError::TooShort(packet.len());
        let (bytes, rest) = packet.split_first_chunk().ok_or(short)?;
        let [first, _, high, low] = *bytes;
        let flags = u16::from_be_bytes([high, low]);
        if first != 0 || flags != 0 {
            return Err(GueError::Unknown { first, flags });
        }
        Ok((Self { bytes }, rest))
    }

    /// What the packet behind the header is.
    pub const fn protocol(&self) -> IpProtocol {
        IpProtocol(self.bytes[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_support::hex;

    /// Behind the UDP header of the first tunnelled packet of recording
    /// `11_gue_csum`.
    #[test]
    fn a_recorded_packet_is_read() {
        let packet = hex("00040000 45000028123440003f06c356cb007107c633640a");
        let (header, payload) = GueHeader::parse(&packet).unwrap();
        assert_eq!(header.protocol(), IpProtocol::IPIP);
        assert_eq!(payload, &packet[4..]);
    }

    #[test]
    fn what_is_cut_short_or_not_understood_is_refused() {
        assert_eq!(
            GueHeader::parse(&hex("000400")).unwrap_err(),
            GueError::TooShort(3)
        );
        // Version 1, a control message, extension fields.
        for (bytes, first, flags) in [
            ("45000028", 0x45, 0x0028),
            ("20040000", 0x20, 0),
            ("01040020 00000000", 0x01, 0x20),
        ] {
            let error = GueError::Unknown { first, flags };
            assert_eq!(GueHeader::parse(&hex(bytes)).unwrap_err(), error);
        }
    }
}
