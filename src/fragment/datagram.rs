//! Fragments and the datagrams they are part of, in the words that IPv4
//! (RFC 791 section 3.2) and IPv6 (RFC 8200 section 4.5) have in common.

use std::net::{IpAddr, Ipv6Addr};

use crate::{
    flow::{FlowHash, HashKey, halves},
    wire::IpProtocol,
};

/// What all fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramKey {
    /// The client.
    pub source: IpAddr,
    /// The VIP.
    pub destination: IpAddr,
    /// The protocol of the datagram's payload.
    pub protocol: u8,
    /// 16 bits of the IPv4 header, or all 32 of the IPv6 fragment header.
    pub identification: u32,
}

impl DatagramKey {
    /// The keyed hash of the datagram. All 64 bits are usable.
    pub fn hash(&self, key: &HashKey) -> FlowHash {
        let rest = u64::from(self.identification) | u64::from(self.protocol) << 32;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses =
                    u64::from(u32::from(source)) | u64::from(u32::from(destination)) << 32;
                key.hash_two(addresses, rest)
            }
            (source, destination) => {
                let [a, b] = halves(as_ipv6(source));
                let [c, d] = halves(as_ipv6(destination));
                key.hash_five([a, b, c, d, rest])
            }
        }
    }
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram it is part of.
    pub key: DatagramKey,
    /// Length of the headers that every fragment repeats, without the fragment
    /// header of IPv6 itself.
    pub header_len: u16,
    /// Where its payload stands in that of the datagram, in bytes.
    pub offset: u16,
    /// Length of its payload in bytes.
    pub len: u16,
    /// Whether the datagram ends with it.
    pub is_last: bool,
}

impl Fragment {
    /// Whether it holds the head of the datagram's payload, with the L4 ports.
    pub const fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Whether it may be part of any datagram at all.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], [`Refusal::Oversize`] or [`Refusal::Tiny`].
    pub(super) fn check(&self) -> Result<(), Refusal> {
        // RFC 791: all but the last fragment are a multiple of 8 bytes long.
        if self.len == 0 || (!self.is_last && !self.len.is_multiple_of(8)) {
            return Err(Refusal::Malformed);
        }
        let total_len = u32::from(self.header_len) + u32::from(self.offset) + u32::from(self.len);
        if total_len > TOTAL_LEN_MAX {
            return Err(Refusal::Oversize);
        }
        // RFC 1858 section 3: neither may the first fragment leave a part of
        // the L4 header to the next, nor the next one reach into it.
        let reaches = if self.is_first() {
            self.len
        } else {
            self.offset
        };
        if reaches < l4_header_len_min(self.key.protocol) {
            return Err(Refusal::Tiny);
        }
        Ok(())
    }
}

/// Why a fragment goes nowhere. Each but [`Duplicate`](Self::Duplicate) ends
/// the whole datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Without payload, or of a length that no fragment but the last may have.
    Malformed,
    /// It would end beyond the 65,535th byte of its datagram.
    Oversize,
    /// It splits the L4 header, or reaches into it (RFC 1858).
    Tiny,
    /// It covers some bytes that another one brought, or contradicts where the
    /// datagram ends (RFC 5722).
    Overlap,
    /// All its bytes have been there before.
    Duplicate,
    /// Its datagram comes in more pieces than are followed.
    TooMany,
    /// Its datagram's first fragment did not come in time.
    TimedOut,
    /// It had to make room for younger ones.
    CrowdedOut,
    /// The first fragment was not forwarded.
    FirstNotForwarded,
}

/// The least that tells a packet's flow and what it does to its connection.
const fn l4_header_len_min(protocol: u8) -> u16 {
    match IpProtocol(protocol) {
        IpProtocol::TCP => 20,
        IpProtocol::UDP => 8,
        // With the head of the first chunk.
        IpProtocol::SCTP => 16,
        _ => 0,
    }
}

/// The largest IPv4 packet; for IPv6 with its 40 bytes of header not counted,
/// which RFC 8200 leaves out as well, a little less than the largest.
const TOTAL_LEN_MAX: u32 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(protocol: u8, offset: u16, len: u16, is_last: bool) -> Fragment {
        Fragment {
            key: DatagramKey {
                source: [203, 0, 113, 7].into(),
                destination: [198, 51, 100, 10].into(),
                protocol,
                identification: 1,
            },
            header_len: 20,
            offset,
            len,
            is_last,
        }
    }

    #[test]
    fn a_fragment_holds_payload_in_multiples_of_eight_bytes_but_the_last() {
        for (len, is_last, checked) in [
            (0, false, Err(Refusal::Malformed)),
            (0, true, Err(Refusal::Malformed)),
            (12, false, Err(Refusal::Malformed)),
            (12, true, Ok(())),
            (16, false, Ok(())),
        ] {
            assert_eq!(fragment(17, 64, len, is_last).check(), checked, "{len}");
        }
    }

    #[test]
    fn a_datagram_ends_with_its_65535th_byte_at_the_latest() {
        assert_eq!(fragment(17, 65_512, 3, true).check(), Ok(()));
        let beyond = fragment(17, 65_512, 4, true);
        assert_eq!(beyond.check(), Err(Refusal::Oversize));
        let with_options = Fragment {
            header_len: 24,
            ..fragment(17, 65_512, 3, true)
        };
        assert_eq!(with_options.check(), Err(Refusal::Oversize));
        let ping_of_death = fragment(1, 65_528, 1480, true);
        assert_eq!(ping_of_death.check(), Err(Refusal::Oversize));
    }

    #[test]
    fn the_first_fragment_has_the_l4_header_and_no_other_reaches_into_it() {
        for (protocol, header_len) in [(6, 24), (17, 8), (132, 16)] {
            assert_eq!(fragment(protocol, 0, header_len, false).check(), Ok(()));
            let cut = fragment(protocol, 0, header_len - 8, false);
            assert!(cut.check().is_err(), "protocol {protocol}: {cut:?}");
        }
        for offset in [8, 16] {
            assert_eq!(fragment(6, offset, 32, false).check(), Err(Refusal::Tiny));
        }
        assert_eq!(fragment(6, 24, 32, false).check(), Ok(()));
        assert_eq!(fragment(17, 8, 32, false).check(), Ok(()));
    }

    #[test]
    fn each_part_of_a_datagrams_key_changes_its_hash() {
        let key = HashKey::from_seed([1, 2, 3]);
        let v4 = fragment(17, 0, 8, false).key;
        let v6 = DatagramKey {
            source: "2001:db8::7".parse().unwrap(),
            destination: "2001:db8:ff::10".parse().unwrap(),
            ..v4
        };
        let mut seen = Vec::new();
        for base in [v4, v6] {
            seen.extend([
                base,
                DatagramKey {
                    source: base.destination,
                    destination: base.source,
                    ..base
                },
                DatagramKey {
                    protocol: 6,
                    ..base
                },
                DatagramKey {
                    identification: 2,
                    ..base
                },
                DatagramKey {
                    identification: 1 << 31,
                    ..base
                },
            ]);
        }
        let mut hashes: Vec<_> = seen.iter().map(|k| k.hash(&key).as_u64()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), seen.len());
    }
}
