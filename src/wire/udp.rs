//! The UDP header (RFC 768).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source port          |        Destination port       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             Length            |            Checksum           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
#![forbid(unsafe_code)]

use super::checksum::Sum;

/// Length of the header.
pub const HEADER_LEN: usize = 8;

/// Why bytes are not a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UdpError {
    /// Shorter than the header.
    #[error("{0} bytes are shorter than a UDP header")]
    TooShort(usize),
    /// A length that does not hold the header.
    #[error("UDP length {0} is below the header length 8")]
    LenBelowHeader(u16),
    /// Fewer bytes than the length says.
    #[error("{available} bytes are fewer than the UDP length {len}")]
    Truncated {
        /// Length, from the header.
        len: u16,
        /// Bytes there are.
        available: usize,
    },
}

/// A checked view over a UDP header.
#[derive(Clone, Copy, Debug)]
pub struct UdpHeader<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> UdpHeader<'a> {
    /// The header at the front of an IP payload, and the datagram's payload.
    ///
    /// # Errors
    /// When the datagram is not whole.
    pub fn parse(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), UdpError> {
        let (header, rest) = Self::parse_quoted(datagram)?;
        let len = header.len();
        let payload_len = usize::from(len)
            .checked_sub(HEADER_LEN)
            .ok_or(UdpError::LenBelowHeader(len))?;
        match rest.split_at_checked(payload_len) {
            Some((payload, _)) => Ok((header, payload)),
            None => Err(UdpError::Truncated {
                len,
                available: datagram.len(),
            }),
        }
    }

    /// The header of a datagram that an ICMP error quotes, or of the first
    /// fragment of one, and all that follows it. The length is not checked.
    ///
    /// # Errors
    /// [`UdpError::TooShort`]
    pub fn parse_quoted(quote: &'a [u8]) -> Result<(Self, &'a [u8]), UdpError> {
        match quote.split_first_chunk() {
            Some((bytes, rest)) => Ok((Self { bytes }, rest)),
            None => Err(UdpError::TooShort(quote.len())),
        }
    }

    /// Source port.
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Destination port.
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Length of header and payload in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a field of the header, not a collection"
    )]
    pub const fn len(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The checksum as it stands there; 0 when the sender made none.
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    /// Whether the checksum is right or absent. `pseudo_header` is that for
    /// this datagram's [`len`](Self::len), `payload` what
    /// [`parse`](Self::parse) returned.
    pub fn is_checksum_correct(&self, pseudo_header: Sum, payload: &[u8]) -> bool {
        self.checksum() == 0
            || pseudo_header
                .add_bytes(self.bytes)
                .add_bytes(payload)
                .is_intact()
    }
}

/// The values of a UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFields {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length of header and payload in bytes.
    pub len: u16,
}

impl UdpFields {
    /// The header without a checksum, as IPv4 allows.
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        self.with_checksum(0)
    }

    /// The header with the checksum over `pseudo_header` and `payload`.
    pub fn to_bytes_with_checksum(&self, pseudo_header: Sum, payload: &[u8]) -> [u8; HEADER_LEN] {
        let sum = pseudo_header.add_bytes(&self.to_bytes()).add_bytes(payload);
        // Zero means "none", so a sum of zero is sent as its other form.
        match sum.checksum() {
            0 => self.with_checksum(0xffff),
            checksum => self.with_checksum(checksum),
        }
    }

    const fn with_checksum(self, checksum: u16) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.source_port.to_be_bytes();
        let [d0, d1] = self.destination_port.to_be_bytes();
        let [l0, l1] = self.len.to_be_bytes();
        let [c0, c1] = checksum.to_be_bytes();
        [s0, s1, d0, d1, l0, l1, c0, c1]
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{IpProtocol, ipv4::Ipv4Header, test_support::hex};

    /// A recorded client's packet.
    fn packet() -> Vec<u8> {
        hex(
            "4500003c 23450000 4011f126 cb007107 c633640a 15180036 0028fc82 \
             78787878 78787878 78787878 78787878 78787878 78787878 78787878 78787878",
        )
    }

    #[test]
    fn header_is_read_from_recorded_bytes() {
        let packet = packet();
        let (ip, datagram) = Ipv4Header::validate(&packet).unwrap();
        let (udp, payload) = UdpHeader::parse(datagram).unwrap();
        assert_eq!(udp.source_port(), 5400);
        assert_eq!(udp.destination_port(), 54);
        assert_eq!(udp.len(), 40);
        assert_eq!(udp.checksum(), 0xfc82);
        assert_eq!(payload, [0x78; 32]);
        assert!(udp.is_checksum_correct(ip.pseudo_header(udp.len()), payload));
    }

    #[test]
    fn header_is_written_as_recorded() {
        let packet = packet();
        let (ip, _) = Ipv4Header::validate(&packet).unwrap();
        let fields = UdpFields {
            source_port: 5400,
            destination_port: 54,
            len: 40,
        };
        assert_eq!(
            fields.to_bytes_with_checksum(ip.pseudo_header(40), &[0x78; 32]),
            *hex("15180036 0028fc82")
        );
        assert_eq!(fields.to_bytes(), *hex("15180036 00280000"));
    }

    #[test]
    fn flipped_bit_makes_the_checksum_wrong_unless_there_is_none() {
        let mut packet = packet();
        packet[59] ^= 1;
        let is_correct = |packet: &[u8]| {
            let (ip, datagram) = Ipv4Header::validate(packet).unwrap();
            let (udp, payload) = UdpHeader::parse(datagram).unwrap();
            udp.is_checksum_correct(ip.pseudo_header(udp.len()), payload)
        };
        assert!(!is_correct(&packet));
        packet[26] = 0;
        packet[27] = 0;
        assert!(is_correct(&packet));
    }

    #[test]
    fn sum_of_zero_is_sent_as_ffff() {
        // 0x0011 (protocol) + 2 * 8 (length) + ports make 0xffff.
        let fields = UdpFields {
            source_port: 0xffff - 0x11 - 16,
            destination_port: 0,
            len: 8,
        };
        let zeros = Ipv4Addr::UNSPECIFIED;
        let pseudo_header = Sum::ipv4_pseudo_header(zeros, zeros, IpProtocol::UDP, 8);
        assert_eq!(
            fields.to_bytes_with_checksum(pseudo_header, &[])[6..],
            [0xff, 0xff]
        );
    }

    #[test]
    fn each_unsound_length_is_named() {
        assert_eq!(
            UdpHeader::parse(&[0; 7]).unwrap_err(),
            UdpError::TooShort(7)
        );
        assert_eq!(
            UdpHeader::parse(&hex("0001 0002 0007 0000")).unwrap_err(),
            UdpError::LenBelowHeader(7)
        );
        assert_eq!(
            UdpHeader::parse(&hex("0001 0002 0009 0000")).unwrap_err(),
            UdpError::Truncated {
                len: 9,
                available: 8
            }
        );
    }

    #[test]
    fn quoted_datagram_may_be_cut_after_its_header() {
        let quote = hex("0001 0002 0100 0000");
        let (udp, rest) = UdpHeader::parse_quoted(&quote).unwrap();
        assert_eq!((udp.source_port(), udp.destination_port()), (1, 2));
        assert!(rest.is_empty());
    }

    #[test]
    fn bytes_after_the_length_are_not_payload() {
        let datagram = hex("0001 0002 0009 0000 aa bb");
        assert_eq!(UdpHeader::parse(&datagram).unwrap().1, [0xaa]);
    }

    proptest! {
        #[test]
        fn checksum_is_that_of_etherparse(
            source in any::<[u8; 4]>(),
            destination in any::<[u8; 4]>(),
            source_port in any::<u16>(),
            destination_port in any::<u16>(),
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let len = u16::try_from(8 + payload.len()).unwrap();
            let fields = UdpFields { source_port, destination_port, len };
            let pseudo_header = Sum::ipv4_pseudo_header(
                source.into(),
                destination.into(),
                IpProtocol::UDP,
                len,
            );
            let bytes = fields.to_bytes_with_checksum(pseudo_header, &payload);
            let theirs = etherparse::UdpHeader::from_bytes(bytes);
            prop_assert_eq!(theirs.source_port, source_port);
            prop_assert_eq!(theirs.destination_port, destination_port);
            prop_assert_eq!(theirs.length, len);
            prop_assert_eq!(
                theirs.calc_checksum_ipv4_raw(source, destination, &payload).unwrap(),
                theirs.checksum
            );
            let datagram = [bytes.as_slice(), &payload].concat();
            let (ours, ours_payload) = UdpHeader::parse(&datagram).unwrap();
            prop_assert!(ours.is_checksum_correct(pseudo_header, ours_payload));
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = UdpHeader::parse(&bytes);
            let _ = UdpHeader::parse_quoted(&bytes);
        }
    }
}
