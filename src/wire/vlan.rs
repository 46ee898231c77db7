//! VLAN tags (IEEE 802.1Q).
//!
//! The four bytes that follow an Ethernet header of type 0x8100: the tag
//! control information and the type of what is tagged.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | PCP |D|          VID          |           EtherType           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
#![forbid(unsafe_code)]

use super::ethernet::EtherType;

/// Length of the tag.
pub const TAG_LEN: usize = 4;

/// The largest VLAN identifier that a network can have; 0 means "priority
/// only" and 4095 is reserved.
pub const VID_MAX: u16 = 4094;

/// Why bytes are not a VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VlanError {
    /// Shorter than the tag.
    #[error("{0} bytes are shorter than a VLAN tag")]
    TooShort(usize),
}

/// A view over a VLAN tag.
#[derive(Clone, Copy, Debug)]
pub struct VlanTag<'a> {
    bytes: &'a [u8; TAG_LEN],
}

impl<'a> VlanTag<'a> {
    /// The tag at the front of an Ethernet payload, and what follows it.
    ///
    /// # Errors
    /// When the payload is shorter than the tag.
    pub fn parse(payload: &'a [u8]) -> Result<(Self, &'a [u8]), VlanError> {
        match payload.split_first_chunk() {
            Some((bytes, rest)) => Ok((Self { bytes }, rest)),
            None => Err(VlanError::TooShort(payload.len())),
        }
    }

    /// Priority code point, 0 to 7.
    pub const fn priority(&self) -> u8 {
        self.bytes[0] >> 5
    }

    /// Drop eligible indicator.
    pub const fn drop_eligible(&self) -> bool {
        self.bytes[0] & 0x10 != 0
    }

    /// VLAN identifier, 0 to 4095.
    pub const fn vid(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]]) & 0x0fff
    }

    /// What is tagged.
    pub const fn ether_type(&self) -> EtherType {
        EtherType(u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }
}

/// The values of a VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanFields {
    /// Priority code point, 0 to 7; higher bits are ignored.
    pub priority: u8,
    /// Drop eligible indicator.
    pub drop_eligible: bool,
    /// VLAN identifier, 0 to 4095; higher bits are ignored.
    pub vid: u16,
    /// What is tagged.
    pub ether_type: EtherType,
}

impl VlanFields {
    /// The tag.
    pub const fn to_bytes(&self) -> [u8; TAG_LEN] {
        let [vid_high, vid_low] = (self.vid & 0x0fff).to_be_bytes();
        let [type_high, type_low] = self.ether_type.0.to_be_bytes();
        let control = self.priority << 5 | (self.drop_eligible as u8) << 4 | vid_high;
        [control, vid_low, type_high, type_low]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_support::hex;

    #[test]
    fn tag_is_read_from_literal_bytes() {
        let bytes = hex("b064 0800 45");
        let (tag, rest) = VlanTag::parse(&bytes).unwrap();
        assert_eq!(tag.priority(), 5);
        assert!(tag.drop_eligible());
        assert_eq!(tag.vid(), 100);
        assert_eq!(tag.ether_type(), EtherType::IPV4);
        assert_eq!(rest, [0x45]);
    }

    #[test]
    fn tag_is_written_as_literal_bytes() {
        let fields = VlanFields {
            priority: 0,
            drop_eligible: false,
            vid: VID_MAX,
            ether_type: EtherType::ARP,
        };
        assert_eq!(fields.to_bytes(), *hex("0ffe 0806"));
    }

    #[test]
    fn values_out_of_range_do_not_spill_into_their_neighbors() {
        let fields = VlanFields {
            priority: 0xff,
            drop_eligible: false,
            vid: 0xf001,
            ether_type: EtherType::IPV4,
        };
        assert_eq!(fields.to_bytes(), *hex("e001 0800"));
    }

    #[test]
    fn three_bytes_are_too_short() {
        assert_eq!(VlanTag::parse(&[0; 3]).unwrap_err(), VlanError::TooShort(3));
    }

    proptest! {
        #[test]
        fn tag_reads_as_etherparse_reads_it(bytes in any::<[u8; 4]>()) {
            let theirs = etherparse::SingleVlanHeader::from_bytes(bytes);
            let (ours, _) = VlanTag::parse(&bytes).unwrap();
            prop_assert_eq!(ours.priority(), theirs.pcp.value());
            prop_assert_eq!(ours.drop_eligible(), theirs.drop_eligible_indicator);
            prop_assert_eq!(ours.vid(), theirs.vlan_id.value());
            prop_assert_eq!(ours.ether_type().0, theirs.ether_type.0);
            let fields = VlanFields {
                priority: ours.priority(),
                drop_eligible: ours.drop_eligible(),
                vid: ours.vid(),
                ether_type: ours.ether_type(),
            };
            prop_assert_eq!(fields.to_bytes(), bytes);
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..10)) {
            let _ = VlanTag::parse(&bytes);
        }
    }
}
