//! Ethernet II frames (IEEE 802.3) and MAC addresses.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      Destination address                      |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//! |                        Source address                         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           EtherType           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

/// Length of the header, without VLAN tags.
pub const HEADER_LEN: usize = 14;

/// What a frame carries (IANA "ethertype" registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// RFC 894.
    pub const IPV4: Self = Self(0x0800);
    /// RFC 826.
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q tag follows.
    pub const VLAN: Self = Self(0x8100);
    /// RFC 2464.
    pub const IPV6: Self = Self(0x86dd);
}

/// Why bytes are not an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EthernetError {
    /// Shorter than the header.
    #[error("a frame of {0} bytes is shorter than an Ethernet header")]
    TooShort(usize),
}

/// A view over an Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct EthernetHeader<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> EthernetHeader<'a> {
    /// The header at the front of `frame`, and what follows it.
    ///
    /// # Errors
    /// When the frame is shorter than the header.
    pub fn parse(frame: &'a [u8]) -> Result<(Self, &'a [u8]), EthernetError> {
        match frame.split_first_chunk() {
            Some((bytes, payload)) => Ok((Self { bytes }, payload)),
            None => Err(EthernetError::TooShort(frame.len())),
        }
    }

    /// Whom the frame is for.
    pub const fn destination(&self) -> MacAddr {
        let [m0, m1, m2, m3, m4, m5, ..] = *self.bytes;
        MacAddr([m0, m1, m2, m3, m4, m5])
    }

    /// Who sent the frame.
    pub const fn source(&self) -> MacAddr {
        let [_, _, _, _, _, _, m0, m1, m2, m3, m4, m5, _, _] = *self.bytes;
        MacAddr([m0, m1, m2, m3, m4, m5])
    }

    /// What the frame carries. Values below 0x600 are the length of an 802.3
    /// frame.
    pub const fn ether_type(&self) -> EtherType {
        let [.., high, low] = *self.bytes;
        EtherType(u16::from_be_bytes([high, low]))
    }
}

/// The values of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetFields {
    /// Whom the frame is for.
    pub destination: MacAddr,
    /// Who sends the frame.
    pub source: MacAddr,
    /// What the frame carries.
    pub ether_type: EtherType,
}

impl EthernetFields {
    /// The header.
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let [d0, d1, d2, d3, d4, d5] = self.destination.0;
        let [s0, s1, s2, s3, s4, s5] = self.source.0;
        let [high, low] = self.ether_type.0.to_be_bytes();
        [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low]
    }
}

/// A MAC address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether this is a group address: broadcast or multicast.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this can be the address of one station: neither a group address
    /// nor all zeros.
    pub const fn is_station(self) -> bool {
        !self.is_multicast() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m0, m1, m2, m3, m4, m5] = self.0;
        write!(f, "{m0:02x}:{m1:02x}:{m2:02x}:{m3:02x}:{m4:02x}:{m5:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a MAC address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address; write six pairs of hexadecimal digits with colons between")]
pub struct InvalidMacAddr(pub String);

impl FromStr for MacAddr {
    type Err = InvalidMacAddr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMacAddr(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            Err(invalid())
        } else {
            Ok(Self(octets))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_support::hex;

    const DIRECTOR: MacAddr = MacAddr([0x02, 0, 0, 0, 0xd0, 0]);
    const CLIENT: MacAddr = MacAddr([0x02, 0, 0, 0, 0xc0, 0]);

    #[test]
    fn header_is_read_from_literal_bytes() {
        let frame = hex("02000000d000 02000000c000 0800 4500");
        let (header, payload) = EthernetHeader::parse(&frame).unwrap();
        assert_eq!(header.destination(), DIRECTOR);
        assert_eq!(header.source(), CLIENT);
        assert_eq!(header.ether_type(), EtherType::IPV4);
        assert_eq!(payload, [0x45, 0x00]);
    }

    #[test]
    fn header_is_written_as_literal_bytes() {
        let fields = EthernetFields {
            destination: CLIENT,
            source: DIRECTOR,
            ether_type: EtherType::ARP,
        };
        assert_eq!(fields.to_bytes(), *hex("02000000c000 02000000d000 0806"));
    }

    #[test]
    fn frame_of_thirteen_bytes_is_too_short() {
        assert_eq!(
            EthernetHeader::parse(&[0; 13]).unwrap_err(),
            EthernetError::TooShort(13)
        );
    }

    #[test]
    fn mac_address_is_read_and_shown_alike() {
        assert_eq!("02:00:00:00:d0:00".parse(), Ok(DIRECTOR));
        assert_eq!(DIRECTOR.to_string(), "02:00:00:00:d0:00");
    }

    #[test]
    fn text_that_is_no_mac_address_is_refused() {
        let wrong = [
            "",
            "02:00:00:00:d0",
            "02:00:00:00:d0:00:01",
            "2:00:00:00:d0:00",
            "02-00-00-00-d0-00",
            "02:00:00:00:d0:0g",
            "02:00:00:00:d0:+1",
        ];
        for text in wrong {
            assert_eq!(
                text.parse::<MacAddr>(),
                Err(InvalidMacAddr(text.to_owned()))
            );
        }
    }

    #[test]
    fn station_is_neither_group_nor_zero() {
        assert!(DIRECTOR.is_station());
        assert!(!MacAddr::BROADCAST.is_station());
        assert!(!MacAddr([1, 0, 0x5e, 0, 0, 1]).is_station());
        assert!(!MacAddr::default().is_station());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_by_etherparse(
            destination in any::<[u8; 6]>(),
            source in any::<[u8; 6]>(),
            ether_type in any::<u16>(),
        ) {
            let bytes = EthernetFields {
                destination: MacAddr(destination),
                source: MacAddr(source),
                ether_type: EtherType(ether_type),
            }
            .to_bytes();
            let theirs = etherparse::Ethernet2Header::from_bytes(bytes);
            prop_assert_eq!(theirs.destination, destination);
            prop_assert_eq!(theirs.source, source);
            prop_assert_eq!(theirs.ether_type.0, ether_type);
            let (ours, _) = EthernetHeader::parse(&bytes).unwrap();
            prop_assert_eq!(ours.destination().0, destination);
            prop_assert_eq!(ours.source().0, source);
            prop_assert_eq!(ours.ether_type().0, ether_type);
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = EthernetHeader::parse(&bytes);
        }
    }
}
