//! The director's own addresses and all VIPs.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashSet;

use crate::prefixes::NetworkSet;

/// The director's own addresses and all VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddresses {
    v4: HashSet<Ipv4Addr>,
    v6: HashSet<Ipv6Addr>,
    /// Networks of VIPs.
    networks: NetworkSet,
    has_networks: bool,
}

impl LocalAddresses {
    /// These addresses, and all of these networks.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, networks: NetworkSet) -> Self {
        let mut local = Self {
            has_networks: !networks.is_empty(),
            networks,
            ..Self::default()
        };
        for address in addresses {
            match address {
                IpAddr::V4(address) => local.v4.insert(address),
                IpAddr::V6(address) => local.v6.insert(address),
            };
        }
        local
    }

    /// Whether an address is local.
    #[inline]
    pub fn contains(&self, address: &IpAddr) -> bool {
        let is_one = match address {
            IpAddr::V4(address) => self.v4.contains(address),
            IpAddr::V6(address) => self.v6.contains(address),
        };
        is_one || self.has_networks && self.networks.contains(*address)
    }
}
