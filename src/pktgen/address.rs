//! Ranges of addresses: of real servers, and of whatever else pktgen answers
//! for.
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;

use crate::wire::IpVersion;

/// Addresses of one IP version, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    version: IpVersion,
    first: u128,
    last: u128,
}

/// The text is not a range of addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a range of addresses; write an address, a network like 10.0.1.0/24, or the \
     first and the last address like 10.0.1.2-10.0.1.101"
)]
pub struct InvalidRange(pub String);

impl AddressRange {
    /// A single address.
    pub fn single(address: IpAddr) -> Self {
        let bits = bits_of(address);
        Self {
            version: IpVersion::of(address),
            first: bits,
            last: bits,
        }
    }

    /// IP version of its addresses.
    pub const fn version(&self) -> IpVersion {
        self.version
    }

    /// The first of its addresses.
    pub fn first(&self) -> IpAddr {
        address_of(self.version, self.first)
    }

    /// How many addresses there are; the largest number for more than that.
    #[expect(clippy::len_without_is_empty, reason = "it has one address at least")]
    pub fn len(&self) -> u64 {
        u64::try_from((self.last - self.first).saturating_add(1)).unwrap_or(u64::MAX)
    }

    /// The address at this place in it.
    pub fn nth(&self, place: u64) -> Option<IpAddr> {
        let bits = self.first.checked_add(u128::from(place))?;
        (bits <= self.last).then(|| address_of(self.version, bits))
    }

    /// The place of an address in it.
    #[inline]
    pub fn position(&self, address: IpAddr) -> Option<u64> {
        if IpVersion::of(address) != self.version {
            return None;
        }
        let bits = bits_of(address);
        if bits < self.first || bits > self.last {
            return None;
        }
        u64::try_from(bits - self.first).ok()
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.version == other.version && self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRange(text.to_owned());
        if text.contains('/') {
            let network: IpNet = text.parse().map_err(|_| invalid())?;
            return Ok(Self {
                version: IpVersion::of(network.addr()),
                first: bits_of(network.network()),
                last: bits_of(network.broadcast()),
            });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first: IpAddr = first.parse().map_err(|_| invalid())?;
        let last: IpAddr = last.parse().map_err(|_| invalid())?;
        let range = Self {
            version: IpVersion::of(first),
            first: bits_of(first),
            last: bits_of(last),
        };
        if IpVersion::of(last) == range.version && range.first <= range.last {
            Ok(range)
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.first(), f)?;
        if self.first == self.last {
            return Ok(());
        }
        write!(f, "-{}", address_of(self.version, self.last))
    }
}

/// The real servers, numbered through over all their ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealServers {
    ranges: Vec<(AddressRange, u16)>,
    len: u16,
}

/// Real servers that a run can have: what a flow has room to remember.
pub const REAL_SERVERS_MAX: u16 = u16::MAX - 1;

impl RealServers {
    /// Adds the next servers. Gives the range back when it overlaps another one
    /// or makes them too many.
    pub(super) fn add(&mut self, range: AddressRange) -> Result<(), AddressRange> {
        if self.ranges.iter().any(|(other, _)| other.overlaps(&range)) {
            return Err(range);
        }
        let len = u16::try_from(range.len())
            .ok()
            .and_then(|more| self.len.checked_add(more))
            .filter(|len| *len <= REAL_SERVERS_MAX);
        let len = len.ok_or(range)?;
        self.ranges.push((range, self.len));
        self.len = len;
        Ok(())
    }

    /// How many there are.
    pub const fn len(&self) -> u16 {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of the server with this address.
    #[inline]
    pub fn index_of(&self, address: IpAddr) -> Option<u16> {
        self.ranges.iter().find_map(|(range, base)| {
            let place = range.position(address)?;
            u16::try_from(place).ok().map(|place| base + place)
        })
    }

    /// The address of the server with this number.
    pub fn address(&self, index: u16) -> Option<IpAddr> {
        self.ranges.iter().find_map(|(range, base)| {
            let place = index.checked_sub(*base)?;
            range.nth(u64::from(place))
        })
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(version: IpVersion, bits: u128) -> IpAddr {
    match version {
        // The bits of an IPv4 address are never more than these.
        IpVersion::V4 => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpVersion::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_networks_and_spans_are_read() {
        for (text, first, len) in [
            ("10.0.0.11", "10.0.0.11", 1),
            ("10.0.1.7/24", "10.0.1.0", 256),
            ("10.0.1.2-10.0.1.101", "10.0.1.2", 100),
            ("2001:db8::11", "2001:db8::11", 1),
            ("2001:db8::/120", "2001:db8::", 256),
            ("0.0.0.0/0", "0.0.0.0", 1 << 32),
            ("::/0", "::", u64::MAX),
        ] {
            let range = range(text);
            assert_eq!(range.first(), first.parse::<IpAddr>().unwrap(), "{text}");
            assert_eq!(range.len(), len, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_range_is_refused_with_what_to_write() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.2-10.0.0.1",
            "10.0.0.1-::1",
            "10.0.0.0/33",
            "a-b",
            "10.0.0.1-10.0.0.2-10.0.0.3",
        ] {
            let error = text.parse::<AddressRange>().unwrap_err();
            assert_eq!(error, InvalidRange(text.to_owned()));
            assert!(error.to_string().contains("10.0.1.0/24"));
        }
    }

    #[test]
    fn an_address_has_a_place_in_its_range_only() {
        let range = range("10.0.1.2-10.0.1.4");
        let places = [1, 2, 4, 5].map(|host| range.position(Ipv4Addr::new(10, 0, 1, host).into()));
        assert_eq!(places, [None, Some(0), Some(2), None]);
        assert_eq!(range.position("::a00:102".parse().unwrap()), None);
        assert_eq!(range.nth(2), Some("10.0.1.4".parse().unwrap()));
        assert_eq!(range.nth(3), None);
    }

    #[test]
    fn servers_are_numbered_over_all_ranges() {
        let mut servers = RealServers::default();
        servers.add(range("10.0.0.11-10.0.0.12")).unwrap();
        servers.add(range("2001:db8::11")).unwrap();
        servers.add(range("10.0.1.1")).unwrap();
        assert_eq!(servers.len(), 4);
        for (index, address) in ["10.0.0.11", "10.0.0.12", "2001:db8::11", "10.0.1.1"]
            .into_iter()
            .enumerate()
        {
            let (index, address) = (u16::try_from(index).unwrap(), address.parse().unwrap());
            assert_eq!(servers.index_of(address), Some(index));
            assert_eq!(servers.address(index), Some(address));
        }
        assert_eq!(servers.index_of("10.0.0.13".parse().unwrap()), None);
        assert_eq!(servers.address(4), None);
    }

    #[test]
    fn servers_that_overlap_or_are_too_many_are_refused() {
        let mut servers = RealServers::default();
        servers.add(range("10.0.0.0/24")).unwrap();
        for text in ["10.0.0.255", "10.1.0.0/16", "::/0"] {
            assert_eq!(servers.add(range(text)), Err(range(text)), "{text}");
        }
        assert_eq!(servers.len(), 256);
    }
}
