//! Routes: longest-prefix match from a destination to what happens to it.
//!
//! Pure and without state of links or neighbors; whoever builds the table puts
//! connected networks into it as ordinary routes without a gateway. Looked up
//! by the management thread when it builds a forwarding state, not per packet.
#![forbid(unsafe_code)]

use std::{
    fmt::Debug,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use prefix_trie::{Prefix, PrefixMap};

use crate::io::PortIndex;

/// A network of one address family.
pub trait Network: Prefix + Copy + Debug + Eq {
    /// An address of this family.
    type Address: Copy + Debug + Eq;

    /// The network that holds `address` alone.
    fn host(address: Self::Address) -> Self;

    /// The same network with the host bits of its address cleared.
    #[must_use]
    fn without_host_bits(self) -> Self;
}

impl Network for Ipv4Net {
    type Address = Ipv4Addr;

    fn host(address: Ipv4Addr) -> Self {
        address.into()
    }

    fn without_host_bits(self) -> Self {
        self.trunc()
    }
}

impl Network for Ipv6Net {
    type Address = Ipv6Addr;

    fn host(address: Ipv6Addr) -> Self {
        address.into()
    }

    fn without_host_bits(self) -> Self {
        self.trunc()
    }
}

/// What happens to packets to one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<N: Network = Ipv4Net> {
    /// The destinations it is for.
    pub to: N,
    /// What happens to them.
    pub action: RouteAction<N::Address>,
}

/// What happens to packets that take a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAction<A = Ipv4Addr> {
    /// They leave by a port.
    Forward {
        /// By which port.
        port: PortIndex,
        /// The next hop; without one the destination itself is on the link.
        gateway: Option<A>,
        /// Source address of what the director sends, in place of the port's
        /// own.
        source: Option<A>,
        /// Largest IP packet in bytes, in place of the port's.
        mtu: Option<u16>,
    },
    /// Nothing is there, and the sender is told.
    Unreachable,
    /// Nothing is there.
    Blackhole,
}

impl<A> RouteAction<A> {
    /// The same with addresses of another type. Addresses of which `convert`
    /// makes nothing are left out.
    pub fn with_addresses<B>(self, convert: impl Fn(A) -> Option<B>) -> RouteAction<B> {
        match self {
            Self::Forward {
                port,
                gateway,
                source,
                mtu,
            } => RouteAction::Forward {
                port,
                gateway: gateway.and_then(&convert),
                source: source.and_then(&convert),
                mtu,
            },
            Self::Unreachable => RouteAction::Unreachable,
            Self::Blackhole => RouteAction::Blackhole,
        }
    }
}

/// All routes of one address family, one for each network at most.
#[derive(Clone, Debug)]
pub struct RouteTable<N: Network = Ipv4Net> {
    routes: PrefixMap<N, Route<N>>,
}

impl<N: Network> RouteTable<N> {
    /// A table without routes.
    pub fn new() -> Self {
        Self {
            routes: PrefixMap::new(),
        }
    }

    /// Adds a route and returns the one to the same network that it replaces.
    /// Host bits of the network's address do not count.
    pub fn insert(&mut self, route: Route<N>) -> Option<Route<N>> {
        let to = route.to.without_host_bits();
        self.routes.insert(to, Route { to, ..route })
    }

    /// Takes out the route to exactly this network.
    pub fn remove(&mut self, to: N) -> Option<Route<N>> {
        self.routes.remove(&to)
    }

    /// The route to the smallest network that holds `destination`.
    pub fn lookup(&self, destination: N::Address) -> Option<&Route<N>> {
        self.routes
            .get_lpm(&N::host(destination))
            .map(|(_, route)| route)
    }

    /// All routes, by network address; of two with the same address the larger
    /// network comes first.
    pub fn iter(&self) -> impl Iterator<Item = &Route<N>> {
        self.routes.values()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl<N: Network> Default for RouteTable<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Network> Extend<Route<N>> for RouteTable<N> {
    fn extend<I: IntoIterator<Item = Route<N>>>(&mut self, routes: I) {
        for route in routes {
            self.insert(route);
        }
    }
}

impl<N: Network> FromIterator<Route<N>> for RouteTable<N> {
    /// Of several routes to one network the last stays.
    fn from_iter<I: IntoIterator<Item = Route<N>>>(routes: I) -> Self {
        let mut table = Self::new();
        table.extend(routes);
        table
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forward(to: &str, port: u8) -> Route {
        let port = PortIndex(port);
        let action = RouteAction::Forward {
            port,
            gateway: None,
            source: None,
            mtu: None,
        };
        Route {
            to: to.parse().unwrap(),
            action,
        }
    }

    fn lookup(table: &RouteTable, destination: [u8; 4]) -> Option<String> {
        table
            .lookup(destination.into())
            .map(|route| route.to.to_string())
    }

    #[test]
    fn longest_prefix_wins() {
        let table: RouteTable = [
            forward("0.0.0.0/0", 0),
            forward("10.0.0.0/8", 1),
            forward("10.1.0.0/16", 1),
            forward("10.1.2.3/32", 1),
        ]
        .into_iter()
        .collect();
        assert_eq!(lookup(&table, [10, 1, 2, 3]).unwrap(), "10.1.2.3/32");
        assert_eq!(lookup(&table, [10, 1, 2, 4]).unwrap(), "10.1.0.0/16");
        assert_eq!(lookup(&table, [10, 2, 0, 0]).unwrap(), "10.0.0.0/8");
        assert_eq!(lookup(&table, [11, 0, 0, 0]).unwrap(), "0.0.0.0/0");
    }

    #[test]
    fn without_a_default_route_some_destinations_have_none() {
        let table: RouteTable = [forward("10.0.0.0/24", 1)].into_iter().collect();
        assert_eq!(lookup(&table, [10, 0, 1, 0]), None);
        assert_eq!(lookup(&RouteTable::new(), [10, 0, 1, 0]), None);
    }

    #[test]
    fn later_route_to_the_same_network_replaces_the_earlier() {
        let mut table = RouteTable::new();
        let first = forward("10.0.0.0/24", 1);
        let second = Route {
            action: RouteAction::Unreachable,
            ..first
        };
        assert_eq!(table.insert(first), None);
        assert_eq!(table.insert(second), Some(first));
        assert_eq!(table.len(), 1);
        assert_eq!(table.lookup(Ipv4Addr::new(10, 0, 0, 9)), Some(&second));
    }

    #[test]
    fn host_bits_of_a_network_do_not_count() {
        let mut table = RouteTable::new();
        table.insert(forward("10.0.0.1/24", 1));
        assert_eq!(lookup(&table, [10, 0, 0, 9]).unwrap(), "10.0.0.0/24");
        assert!(table.insert(forward("10.0.0.2/24", 1)).is_some());
    }

    #[test]
    fn removed_route_uncovers_the_larger_network() {
        let mut table: RouteTable = [forward("10.0.0.0/8", 0), forward("10.1.0.0/16", 1)]
            .into_iter()
            .collect();
        assert!(table.remove("10.1.0.0/16".parse().unwrap()).is_some());
        assert!(table.remove("10.1.0.0/16".parse().unwrap()).is_none());
        assert_eq!(lookup(&table, [10, 1, 0, 1]).unwrap(), "10.0.0.0/8");
    }

    #[test]
    fn routes_are_listed_in_order_of_their_networks() {
        let table: RouteTable = [
            forward("192.0.2.0/24", 0),
            forward("10.1.0.0/16", 0),
            forward("0.0.0.0/0", 0),
            forward("10.0.0.0/24", 0),
            forward("10.0.0.0/8", 0),
        ]
        .into_iter()
        .collect();
        let networks: Vec<_> = table.iter().map(|route| route.to.to_string()).collect();
        assert_eq!(
            networks,
            [
                "0.0.0.0/0",
                "10.0.0.0/8",
                "10.0.0.0/24",
                "10.1.0.0/16",
                "192.0.2.0/24"
            ]
        );
    }

    #[test]
    fn networks_of_the_other_family_work_alike() {
        let to: Ipv6Net = "2001:db8:1::/64".parse().unwrap();
        let mut table = RouteTable::new();
        table.insert(Route {
            to,
            action: RouteAction::Blackhole,
        });
        let destination: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
        assert_eq!(table.lookup(destination).unwrap().to, to);
        assert_eq!(table.lookup(Ipv6Addr::LOCALHOST), None);
    }

    /// Networks close together, so that they nest often.
    fn networks() -> impl Strategy<Value = Vec<(Ipv4Net, u8)>> {
        let address = (
            0_u8..4,
            any::<u8>(),
            prop::sample::select(vec![0_u8, 1, 128, 255]),
        );
        let network = (address, 0_u8..=32).prop_map(|((a, b, d), len)| {
            Ipv4Net::new(Ipv4Addr::new(10, a, b & 3, d), len).unwrap()
        });
        prop::collection::vec((network, any::<u8>()), 0..40)
    }

    proptest! {
        #[test]
        fn lookup_equals_a_scan_of_all_routes(
            networks in networks(),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
            destinations in prop::collection::vec((0_u8..5, 0_u8..5, any::<u8>()), 1..50),
        ) {
            let mut table = RouteTable::new();
            let mut naive: Vec<(Ipv4Net, u8)> = Vec::new();
            for &(to, port) in &networks {
                table.insert(forward(&to.to_string(), port));
                naive.retain(|(other, _)| *other != to.trunc());
                naive.push((to.trunc(), port));
            }
            for index in removed {
                if !naive.is_empty() {
                    let (to, _) = naive.swap_remove(index.index(naive.len()));
                    prop_assert!(table.remove(to).is_some());
                }
            }
            prop_assert_eq!(table.len(), naive.len());
            for (a, b, d) in destinations {
                let destination = Ipv4Addr::new(10, a, b, d);
                let expected = naive
                    .iter()
                    .filter(|(to, _)| to.contains(&destination))
                    .max_by_key(|(to, _)| to.prefix_len())
                    .map(|&(to, port)| forward(&to.to_string(), port));
                prop_assert_eq!(table.lookup(destination), expected.as_ref());
            }
        }
    }
}
