//! Networks as a set that is searched by address.
//!
//! A search asks a hash table once for each prefix length that is in use, the
//! longest first; how many networks there are does not count.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use hashbrown::HashSet;
use ipnet::IpNet;

/// How many networks there are of each prefix length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixLengths {
    /// Of IPv4, and of IPv6: length and count, the longest first.
    lengths: [Vec<(u8, usize)>; 2],
}

impl PrefixLengths {
    /// Counts a network.
    pub fn add(&mut self, network: IpNet) {
        let lengths = self.of_mut(matches!(network, IpNet::V6(_)));
        let len = network.prefix_len();
        let place = lengths.partition_point(|(other, _)| *other > len);
        match lengths.get_mut(place) {
            Some((other, count)) if *other == len => *count += 1,
            _ => lengths.insert(place, (len, 1)),
        }
    }

    /// Takes back what [`add`](Self::add) did.
    pub fn remove(&mut self, network: IpNet) {
        let lengths = self.of_mut(matches!(network, IpNet::V6(_)));
        for (len, count) in lengths.iter_mut() {
            if *len == network.prefix_len() {
                *count -= 1;
            }
        }
        lengths.retain(|(_, count)| *count > 0);
    }

    /// The networks of these lengths that hold an address, the smallest first.
    #[inline]
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let [v4, v6] = &self.lengths;
        let lengths = if address.is_ipv6() { v6 } else { v4 };
        lengths
            .iter()
            .filter_map(move |(len, _)| Some(IpNet::new(address, *len).ok()?.trunc()))
    }

    const fn of_mut(&mut self, is_ipv6: bool) -> &mut Vec<(u8, usize)> {
        let [v4, v6] = &mut self.lengths;
        if is_ipv6 { v6 } else { v4 }
    }
}

/// Networks, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    networks: HashSet<IpNet>,
    lengths: PrefixLengths,
}

impl NetworkSet {
    /// Adds a network without host bits, unless it is there.
    pub fn insert(&mut self, network: IpNet) {
        if self.networks.insert(network) {
            self.lengths.add(network);
        }
    }

    /// Takes a network out.
    pub fn remove(&mut self, network: IpNet) {
        if self.networks.remove(&network) {
            self.lengths.remove(network);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether one of them holds an address.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.lengths
            .around(address)
            .any(|network| self.networks.contains(&network))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[u8; 2]>(), 8..=32_u8)
            .prop_map(|([a, b], len)| IpNet::new([10, 0, a & 1, b & 15].into(), len));
        let v6 = (0..16_u128, 110..=128_u8)
            .prop_map(|(low, len)| IpNet::new(IpAddr::V6((low | 1 << 120).into()), len));
        prop_oneof![v4, v6].prop_map(|network| network.unwrap().trunc())
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            changes in proptest::collection::vec((network(), any::<bool>()), 0..20),
            asked in proptest::collection::vec(network(), 20),
        ) {
            let mut set = NetworkSet::default();
            let mut list: Vec<IpNet> = Vec::new();
            for (network, is_added) in changes {
                list.retain(|other| *other != network);
                if is_added {
                    set.insert(network);
                    list.push(network);
                } else {
                    set.remove(network);
                }
            }
            for address in asked.iter().map(IpNet::addr) {
                let expected = list.iter().any(|network| network.contains(&address));
                prop_assert_eq!(set.contains(address), expected, "{}", address);
            }
        }
    }

    #[test]
    fn the_smallest_network_comes_first() {
        let mut lengths = PrefixLengths::default();
        for network in ["10.0.0.0/8", "10.1.2.3/32", "10.1.0.0/16", "2001:db8::/32"] {
            lengths.add(network.parse().unwrap());
        }
        let around: Vec<_> = lengths
            .around([10, 1, 9, 9].into())
            .map(|network| network.to_string())
            .collect();
        assert_eq!(around, ["10.1.9.9/32", "10.1.0.0/16", "10.0.0.0/8"]);
    }
}
