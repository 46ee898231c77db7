//! The TCP header (RFC 9293) and the reset that answers a stray segment.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source port          |        Destination port       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        Sequence number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     Acknowledgment number                     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Offset| Rsrvd |C|E|U|A|P|R|S|F|             Window            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            Checksum           |         Urgent pointer        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       Options, 0 to 40 bytes                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
#![forbid(unsafe_code)]

use std::ops::BitOr;

use super::{
    IpProtocol,
    checksum::Sum,
    ipv4::{Ipv4Error, Ipv4Header},
    ipv6::Ipv6Header,
};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// The control bits of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push function.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `flags` are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any bit of `flags` is set.
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// The bits of both.
    #[must_use]
    pub const fn union(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// Why bytes are not a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// Shorter than the header without options.
    #[error("{0} bytes are shorter than a TCP header")]
    TooShort(usize),
    /// A header length (in 32-bit words) below five.
    #[error("TCP header length of {0} words is below 5")]
    HeaderLen(u8),
    /// Shorter than the header with its options.
    #[error("{available} bytes are shorter than their TCP header of {header_len} bytes")]
    HeaderTruncated {
        /// Length of the header, from the header.
        header_len: usize,
        /// Bytes there are.
        available: usize,
    },
}

/// A checked view over a TCP header.
#[derive(Clone, Copy, Debug)]
pub struct TcpHeader<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
}

impl<'a> TcpHeader<'a> {
    /// The header at the front of an IP payload, and the segment's payload.
    /// The checksum is not checked.
    ///
    /// # Errors
    /// When the header is not whole.
    pub fn parse(segment: &'a [u8]) -> Result<(Self, &'a [u8]), TcpError> {
        let (fixed, rest) = segment
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(TcpError::TooShort(segment.len()))?;
        let words = fixed[12] >> 4;
        let header_len = usize::from(words) * 4;
        let options_len = header_len
            .checked_sub(HEADER_LEN)
            .ok_or(TcpError::HeaderLen(words))?;
        match rest.split_at_checked(options_len) {
            Some((options, payload)) => Ok((Self { fixed, options }, payload)),
            None => Err(TcpError::HeaderTruncated {
                header_len,
                available: segment.len(),
            }),
        }
    }

    /// Length of the header with options, 20 to 60 bytes.
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Source port.
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.fixed[0], self.fixed[1]])
    }

    /// Destination port.
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Sequence number of the first byte, or of the SYN.
    pub const fn sequence(&self) -> u32 {
        let [_, _, _, _, a, b, c, d, ..] = *self.fixed;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Acknowledgment number; counts only with [`TcpFlags::ACK`].
    pub const fn acknowledgment(&self) -> u32 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.fixed;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The control bits.
    pub const fn flags(&self) -> TcpFlags {
        TcpFlags(self.fixed[13])
    }

    /// Receive window, not scaled.
    pub const fn window(&self) -> u16 {
        u16::from_be_bytes([self.fixed[14], self.fixed[15]])
    }

    /// The checksum as it stands there.
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.fixed[16], self.fixed[17]])
    }

    /// Urgent pointer; counts only with [`TcpFlags::URG`].
    pub const fn urgent_pointer(&self) -> u16 {
        u16::from_be_bytes([self.fixed[18], self.fixed[19]])
    }

    /// The options, 0 to 40 bytes, a multiple of 4.
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// Whether the checksum is right. `pseudo_header` is that for the whole
    /// segment, `payload` what [`parse`](Self::parse) returned.
    pub fn is_checksum_correct(&self, pseudo_header: Sum, payload: &[u8]) -> bool {
        pseudo_header
            .add_bytes(self.fixed)
            .add_bytes(self.options)
            .add_bytes(payload)
            .is_intact()
    }
}

/// The values of a TCP header without options and urgent data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFields {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// Receive window.
    pub window: u16,
}

impl TcpFields {
    /// The header of a segment without payload, with the checksum over
    /// `pseudo_header` (whose length is [`HEADER_LEN`]).
    pub fn to_bytes(&self, pseudo_header: Sum) -> [u8; HEADER_LEN] {
        let unsummed = self.with_checksum(0);
        self.with_checksum(pseudo_header.add_bytes(&unsummed).checksum())
    }

    const fn with_checksum(&self, checksum: u16) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.source_port.to_be_bytes();
        let [d0, d1] = self.destination_port.to_be_bytes();
        let [q0, q1, q2, q3] = self.sequence.to_be_bytes();
        let [a0, a1, a2, a3] = self.acknowledgment.to_be_bytes();
        let [w0, w1] = self.window.to_be_bytes();
        let [c0, c1] = checksum.to_be_bytes();
        let flags = self.flags.0;
        [
            s0,
            s1,
            d0,
            d1,
            q0,
            q1,
            q2,
            q3,
            a0,
            a1,
            a2,
            a3, //
            HEADER_WORDS << 4,
            flags,
            w0,
            w1,
            c0,
            c1,
            0,
            0,
        ]
    }
}

/// Why a packet is not answered with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReset {
    /// Not an IPv4 packet.
    #[error(transparent)]
    Ipv4(#[from] Ipv4Error),
    /// Not TCP.
    #[error("protocol {0:?} is not TCP")]
    Protocol(IpProtocol),
    /// A fragment, from which the length of the segment is not known.
    #[error("fragments are not answered with a reset")]
    Fragment,
    /// Not a TCP segment.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// A segment that did not arrive as it was sent.
    #[error("TCP checksum {0:#06x} is wrong")]
    Checksum(u16),
    /// A reset itself.
    #[error("a reset is not answered with a reset")]
    Reset,
}

/// The segment that answers the one in `packet` when there is no connection
/// (RFC 9293 section 3.10.7.1). It goes to the packet's source, from its
/// destination.
///
/// A segment with ACK gets RST with the sequence number that it acknowledges;
/// any other gets RST and ACK for all that it occupies.
///
/// # Errors
/// When the packet is not answered at all.
pub fn reset_answering(packet: &[u8]) -> Result<[u8; HEADER_LEN], NoReset> {
    let (ip, segment) = Ipv4Header::parse(packet)?;
    if ip.protocol() != IpProtocol::TCP {
        return Err(NoReset::Protocol(ip.protocol()));
    }
    if ip.is_fragment() {
        return Err(NoReset::Fragment);
    }
    // An IPv4 payload is never longer than 65535 bytes.
    let segment_len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let fields = reset_fields(ip.pseudo_header(segment_len), segment)?;
    Ok(fields.to_bytes(Sum::ipv4_pseudo_header(
        ip.destination(),
        ip.source(),
        IpProtocol::TCP,
        HEADER_LEN_U16,
    )))
}

/// Like [`reset_answering`], of `segment` that a packet with the header `ip`
/// carries whole.
///
/// # Errors
/// When the segment is not answered at all.
pub fn reset_answering_ipv6(
    ip: &Ipv6Header<'_>,
    segment: &[u8],
) -> Result<[u8; HEADER_LEN], NoReset> {
    let segment_len = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let fields = reset_fields(ip.pseudo_header(IpProtocol::TCP, segment_len), segment)?;
    Ok(fields.to_bytes(Sum::ipv6_pseudo_header(
        ip.destination(),
        ip.source(),
        IpProtocol::TCP,
        u32::from(HEADER_LEN_U16),
    )))
}

fn reset_fields(pseudo_header: Sum, segment: &[u8]) -> Result<TcpFields, NoReset> {
    let (tcp, payload) = TcpHeader::parse(segment)?;
    if !tcp.is_checksum_correct(pseudo_header, payload) {
        return Err(NoReset::Checksum(tcp.checksum()));
    }
    let flags = tcp.flags();
    if flags.contains(TcpFlags::RST) {
        return Err(NoReset::Reset);
    }
    let (sequence, acknowledgment, answer) = if flags.contains(TcpFlags::ACK) {
        (tcp.acknowledgment(), 0, TcpFlags::RST)
    } else {
        let occupied = u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .wrapping_add(u32::from(flags.contains(TcpFlags::SYN)))
            .wrapping_add(u32::from(flags.contains(TcpFlags::FIN)));
        (
            0,
            tcp.sequence().wrapping_add(occupied),
            TcpFlags::RST | TcpFlags::ACK,
        )
    };
    Ok(TcpFields {
        source_port: tcp.destination_port(),
        destination_port: tcp.source_port(),
        sequence,
        acknowledgment,
        flags: answer,
        window: 0,
    })
}

/// [`HEADER_LEN`] in 32-bit words.
const HEADER_WORDS: u8 = 5;
/// [`HEADER_LEN`] as a pseudo header has it.
const HEADER_LEN_U16: u16 = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_support::hex;

    /// A recorded client's SYN+ACK with options.
    const SYN_ACK: &str = "4f030064 f2870000 8006c2d1 cb0071e5 c633640a \
        01010101 01010101 01010101 01010101 01010101 01010101 01010101 01010101 01010101 01010101 \
        806e01bb 5e8bbd4d 9e8cabed a01244f8 3a180000 020405b4 0402080a a9a8cf96 00000000 01030307";

    #[test]
    fn header_is_read_from_recorded_bytes() {
        let packet = hex(SYN_ACK);
        let (ip, segment) = Ipv4Header::parse(&packet).unwrap();
        let (tcp, payload) = TcpHeader::parse(segment).unwrap();
        assert_eq!(tcp.header_len(), 40);
        assert_eq!(tcp.source_port(), 32878);
        assert_eq!(tcp.destination_port(), 443);
        assert_eq!(tcp.sequence(), 1_586_216_269);
        assert_eq!(tcp.acknowledgment(), 2_660_019_181);
        assert_eq!(tcp.flags(), TcpFlags::SYN | TcpFlags::ACK);
        assert_eq!(tcp.window(), 0x44f8);
        assert_eq!(tcp.checksum(), 0x3a18);
        assert_eq!(tcp.urgent_pointer(), 0);
        assert_eq!(tcp.options()[..4], [2, 4, 0x05, 0xb4]);
        assert_eq!(tcp.options().len(), 20);
        assert!(payload.is_empty());
        assert!(tcp.is_checksum_correct(ip.pseudo_header(40), payload));
    }

    #[test]
    fn flags_are_asked_one_by_one_or_together() {
        let flags = TcpFlags::SYN | TcpFlags::ECE;
        assert!(flags.contains(TcpFlags::SYN));
        assert!(!flags.contains(TcpFlags::SYN | TcpFlags::ACK));
        assert!(flags.intersects(TcpFlags::SYN | TcpFlags::ACK));
        assert!(!flags.intersects(TcpFlags::RST));
    }

    #[test]
    fn each_unsound_length_is_named() {
        let mut segment = [0; 24];
        assert_eq!(
            TcpHeader::parse(&segment[..19]).unwrap_err(),
            TcpError::TooShort(19)
        );
        segment[12] = 0x40;
        assert_eq!(
            TcpHeader::parse(&segment).unwrap_err(),
            TcpError::HeaderLen(4)
        );
        segment[12] = 0x70;
        assert_eq!(
            TcpHeader::parse(&segment).unwrap_err(),
            TcpError::HeaderTruncated {
                header_len: 28,
                available: 24
            }
        );
    }

    /// The answer to a recorded 40-byte packet from 203.0.113.7 to
    /// 198.51.100.10.
    fn answer(segment: &str) -> Result<[u8; HEADER_LEN], NoReset> {
        let header = hex("45000028 12344000 4006c256 cb007107 c633640a");
        reset_answering(&[header, hex(segment)].concat())
    }

    #[test]
    fn ack_gets_the_reset_linux_sends() {
        assert_eq!(
            answer("a0280050 00001388 00001b58 5010faf0 7f450000").unwrap(),
            *hex("0050a028 00001b58 00000000 50040000 8dca0000")
        );
    }

    #[test]
    fn fin_ack_gets_the_reset_linux_sends() {
        assert_eq!(
            answer("a02b0050 00001388 00001b58 5011faf0 7f410000").unwrap(),
            *hex("0050a02b 00001b58 00000000 50040000 8dc70000")
        );
    }

    #[test]
    fn fin_gets_the_reset_linux_sends() {
        assert_eq!(
            answer("a02a0050 00001388 00001b58 5001faf0 7f520000").unwrap(),
            *hex("0050a02a 00000000 00001389 50140000 95870000")
        );
    }

    #[test]
    fn segment_without_flags_gets_the_reset_linux_sends() {
        assert_eq!(
            answer("a0330050 00001388 00001b58 5000faf0 7f4a0000").unwrap(),
            *hex("0050a033 00000000 00001388 50140000 957f0000")
        );
    }

    #[test]
    fn syn_gets_the_reset_linux_sends() {
        assert_eq!(
            answer("abe00051 000003e8 00000000 5002faf0 9e920000").unwrap(),
            *hex("0051abe0 00000000 000003e9 50140000 99700000")
        );
    }

    #[test]
    fn reset_is_not_answered() {
        assert_eq!(
            answer("a02c0050 00001388 00001b58 5004faf0 7f4d0000"),
            Err(NoReset::Reset)
        );
        assert_eq!(
            answer("a02d0050 00001388 00001b58 5014faf0 7f3c0000"),
            Err(NoReset::Reset)
        );
    }

    #[test]
    fn segment_with_a_wrong_checksum_is_not_answered() {
        assert_eq!(
            answer("a0280050 00001388 00001b58 5010faf0 7f460000"),
            Err(NoReset::Checksum(0x7f46))
        );
    }

    #[test]
    fn fragment_is_not_answered() {
        let packet = hex("45000028 12342000 4006e256 cb007107 c633640a \
             a0280050 00001388 00001b58 5010faf0 7f450000");
        assert_eq!(reset_answering(&packet), Err(NoReset::Fragment));
    }

    #[test]
    fn other_protocols_are_not_answered() {
        let packet = hex("45000014 12342000 4011e25f cb007107 c633640a");
        assert_eq!(
            reset_answering(&packet),
            Err(NoReset::Protocol(IpProtocol::UDP))
        );
    }

    fn packet_of(flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(40_000, 80, sequence, 1000);
        header.acknowledgment_number = 77;
        header.fin = flags & 1 != 0;
        header.syn = flags & 2 != 0;
        header.rst = flags & 4 != 0;
        header.psh = flags & 8 != 0;
        header.ack = flags & 16 != 0;
        header.urg = flags & 32 != 0;
        header.ece = flags & 64 != 0;
        header.cwr = flags & 128 != 0;
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([203, 0, 113, 7], [198, 51, 100, 10], 64)
            .tcp_header(header)
            .write(&mut packet, payload)
            .unwrap();
        packet
    }

    #[test]
    fn reset_acknowledges_data_across_the_end_of_the_sequence_space() {
        let answer = reset_answering(&packet_of(0x03, u32::MAX - 4, &[0; 10])).unwrap();
        let (tcp, _) = TcpHeader::parse(&answer).unwrap();
        // 2^32 - 5 and SYN, 10 bytes, FIN.
        assert_eq!(tcp.acknowledgment(), 7);
    }

    proptest! {
        #[test]
        fn header_reads_as_etherparse_wrote_it(
            flags in any::<u8>(),
            sequence in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let packet = packet_of(flags, sequence, &payload);
            let (ip, segment) = Ipv4Header::validate(&packet).unwrap();
            let (tcp, rest) = TcpHeader::parse(segment).unwrap();
            prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 80));
            prop_assert_eq!((tcp.sequence(), tcp.acknowledgment()), (sequence, 77));
            prop_assert_eq!(tcp.flags().0, flags);
            prop_assert_eq!(tcp.window(), 1000);
            prop_assert_eq!(rest, &payload);
            let segment_len = u16::try_from(segment.len()).unwrap();
            prop_assert!(tcp.is_checksum_correct(ip.pseudo_header(segment_len), rest));
        }

        #[test]
        fn checksum_of_an_answer_is_that_of_etherparse(
            flags in any::<u8>(),
            sequence in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            match reset_answering(&packet_of(flags, sequence, &payload)) {
                Err(error) => {
                    prop_assert_eq!(error, NoReset::Reset);
                    prop_assert_eq!(flags & 4, 4);
                }
                Ok(answer) => {
                    let (theirs, _) = etherparse::TcpHeader::from_slice(&answer).unwrap();
                    prop_assert!(theirs.rst);
                    prop_assert_eq!(
                        theirs
                            .calc_checksum_ipv4_raw([198, 51, 100, 10], [203, 0, 113, 7], &[])
                            .unwrap(),
                        theirs.checksum
                    );
                }
            }
        }

        #[test]
        fn parsing_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = TcpHeader::parse(&bytes);
            let _ = reset_answering(&bytes);
            let len = u8::try_from(bytes.len()).unwrap();
            if let [version, _, len0, len1, _, _, frag0, frag1, _, protocol, ..] = &mut bytes[..] {
                *version = 0x45;
                [*len0, *len1, *frag0, *frag1, *protocol] = [0, len, 0, 0, 6];
            }
            let _ = reset_answering(&bytes);
        }
    }
}
