//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr};

use super::IpProtocol;

/// A one's complement sum of 16-bit big-endian words, not yet folded.
///
/// Parts of a message can be added one by one; only the last may have an odd
/// length, since it is padded with a zero byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::ZERO.add_bytes(bytes)
    }

    /// The sum of an IPv4 header without options.
    #[inline]
    pub fn of_ipv4_header(header: &[u8; 20]) -> Self {
        let [words @ .., l0, l1, l2, l3] = *header;
        let ([first, second], _) = words.as_chunks::<8>() else {
            return Self::ZERO;
        };
        let (first, second) = (u64::from_ne_bytes(*first), u64::from_ne_bytes(*second));
        let last = u32::from_ne_bytes([l0, l1, l2, l3]);
        let (sum, carry) = first.overflowing_add(second);
        let sum = (sum >> 32) + (sum & 0xffff_ffff) + u64::from(last) + u64::from(carry);
        Self(u64::from(u16::from_be(fold_below_34_bits(sum))))
    }

    /// The pseudo header that TCP and UDP checksums over IPv4 begin with (RFC
    /// 9293 section 3.1). `l4_len` is the length of the segment or datagram
    /// with its header.
    pub const fn ipv4_pseudo_header(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: IpProtocol,
        l4_len: u16,
    ) -> Self {
        Self::ZERO
            .add_u32(source.to_bits())
            .add_u32(destination.to_bits())
            .add_u16(protocol.0 as u16)
            .add_u16(l4_len)
    }

    /// The pseudo header that checksums of upper layers over IPv6 begin with
    /// (RFC 8200 section 8.1), those of ICMPv6 too. `l4_len` is the length of
    /// the message with its header.
    pub fn ipv6_pseudo_header(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        protocol: IpProtocol,
        l4_len: u32,
    ) -> Self {
        Self::of(&source.octets())
            .add_bytes(&destination.octets())
            .add_u32(l4_len)
            .add_u16(u16::from(protocol.0))
    }

    /// Adds `bytes`, which start at an even offset of the message.
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // RFC 1071 section 2 (B): the sum of words in the machine's own byte
        // order is the sum in network order with its two bytes swapped. That
        // keeps the loop free of byte swaps.
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut native = 0_u64;
        for chunk in chunks {
            let word = u64::from_ne_bytes(*chunk);
            native += (word & 0xffff_ffff) + (word >> 32);
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        let word = u64::from_ne_bytes(last);
        native += (word & 0xffff_ffff) + (word >> 32);
        self.add_u16(u16::from_be(fold(native)))
    }

    /// Adds one word.
    pub const fn add_u16(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds two words.
    pub const fn add_u32(self, words: u32) -> Self {
        Self(self.0 + (words >> 16) as u64 + (words & 0xffff) as u64)
    }

    /// The checksum of what was added: what stands in a header whose checksum
    /// field was zero in the sum. 0xffff only for a message of zeros.
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }

    /// Whether a message that was added with its checksum is intact.
    pub const fn is_intact(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// The checksum after one 16-bit word of the message changed from `old` to
/// `new` (RFC 1624 equation 3).
///
/// Equals the recomputed checksum for every message that is not all zeros.
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::ZERO
        .add_u16(!checksum)
        .add_u16(!old)
        .add_u16(new)
        .checksum()
}

/// The end-around carry: a sum of words as a 16-bit one's complement sum.
///
/// Folds as often as the largest sum needs. How often a smaller one needs it is
/// nothing that a processor could foresee.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    fold_below_34_bits(sum)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "16 bits are left")]
const fn fold_below_34_bits(sum: u64) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_support::hex;

    /// RFC 1071 section 1 as it is written, word by word.
    fn slow_checksum(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn example_of_rfc_1071_section_3_sums_to_ddf2() {
        assert_eq!(Sum::of(&hex("0001 f203 f4f5 f6f7")).checksum(), !0xddf2);
    }

    #[test]
    fn recorded_header_is_intact_until_a_bit_flips() {
        let mut header = hex("45000028 12344000 4006c256 cb007107 c633640a");
        assert!(Sum::of(&header).is_intact());
        header[8] ^= 1;
        assert!(!Sum::of(&header).is_intact());
    }

    #[test]
    fn example_of_rfc_1624_section_4_gives_zero() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn nothing_has_the_checksum_ffff() {
        assert_eq!(Sum::of(&[]).checksum(), 0xffff);
    }

    proptest! {
        #[test]
        fn sum_equals_the_slow_reference(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::of(&bytes).checksum(), slow_checksum(&bytes));
        }

        #[test]
        fn sum_of_large_words_does_not_overflow(len in 0_usize..70_000) {
            let bytes = vec![0xff; len];
            prop_assert_eq!(Sum::of(&bytes).checksum(), slow_checksum(&bytes));
        }

        #[test]
        fn parts_of_even_length_can_be_added_one_by_one(
            words in prop::collection::vec(any::<[u8; 2]>(), 0..200),
            tail in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let head = words.as_flattened();
            let whole = [head, &tail].concat();
            prop_assert_eq!(
                Sum::of(head).add_bytes(&tail).checksum(),
                slow_checksum(&whole)
            );
        }

        #[test]
        fn incremental_update_equals_recomputing(
            mut words in prop::collection::vec(any::<u16>(), 1..50),
            index in any::<prop::sample::Index>(),
            new in any::<u16>(),
        ) {
            // A first word that is not zero, as in every IP header.
            words[0] |= 0x4000;
            let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
            let before = slow_checksum(&bytes(&words));
            let index = index.index(words.len());
            let new = if index == 0 { new | 0x4000 } else { new };
            let old = std::mem::replace(&mut words[index], new);
            prop_assert_eq!(update(before, old, new), slow_checksum(&bytes(&words)));
        }
    }
}
