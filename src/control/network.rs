//! The director as a host: ports with addresses, routes and neighbors.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashSet;
use ipnet::{IpNet, Ipv6Net};

use super::path_mtu::PathMtus;
use crate::{
    clock::Ticks,
    config::{self, Config},
    forwarding::{Path, PortForwarding, Presence, ServerForwarding},
    io::{PortDescription, PortIndex},
    neighbor::{NeighborKey, NeighborParameters, NeighborTable},
    route::{Route, RouteAction, RouteTable},
    service::ServerOptions,
    tunnel,
    wire::{
        IpProtocol, IpVersion,
        ethernet::{EtherType, MacAddr},
        ipv4::{self, Ipv4Fields},
        ipv6::{self, Ipv6Fields},
        ndp,
    },
};

/// Everything that decides where a packet of the director goes next.
#[derive(Debug)]
pub(super) struct Network {
    ports: Vec<NetworkPort>,
    routes: RouteTable,
    routes_v6: RouteTable<Ipv6Net>,
    /// Who is where.
    pub neighbors: NeighborTable,
    /// What ICMP errors said about paths.
    pub path_mtus: PathMtus,
    own: HashSet<IpAddr>,
    permanent: Vec<NeighborKey>,
}

/// A port as part of the network.
#[derive(Clone, Debug)]
pub(super) struct NetworkPort {
    /// Its name in the configuration.
    pub name: String,
    /// The address that frames are sent from.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// 802.1Q tag.
    pub vlan: Option<u16>,
    /// The director's addresses with their networks. With IPv6 there is a
    /// link-local one among them (RFC 4291 section 2.8).
    pub addresses: Vec<IpNet>,
    /// Whether the port fills in IPv4 header checksums.
    pub offload_checksum: bool,
    /// What is known of its link.
    pub link: LinkState,
}

/// What is known of the link of a port.
///
/// Some drivers of software ports never report a link, so that only one that
/// was up before counts as down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    /// It was never seen up.
    #[default]
    Unknown,
    /// It is up.
    Up,
    /// It was up once, and is not.
    Down,
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkChange {
    /// It came back.
    Up,
    /// It was lost.
    Down,
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextHop {
    /// To a neighbor.
    Neighbor {
        /// By this port.
        port: PortIndex,
        /// To this address: the gateway, or the destination itself.
        address: IpAddr,
        /// From this address, when the director is the source.
        source: IpAddr,
        /// Largest IP packet in bytes.
        mtu: u16,
    },
    /// It stays: the destination is the director.
    Local,
    /// There is no way.
    Unreachable,
}

impl Network {
    /// The network of a configuration over started ports.
    pub(super) fn new(config: &Config, descriptions: &[PortDescription], now: Ticks) -> Self {
        let mut network = Self {
            ports: Vec::new(),
            routes: RouteTable::new(),
            routes_v6: RouteTable::new(),
            neighbors: NeighborTable::new(NeighborParameters::default()),
            path_mtus: PathMtus::default(),
            own: HashSet::new(),
            permanent: Vec::new(),
        };
        network.configure(config, descriptions, now);
        network
    }

    /// Takes up the addresses, routes and permanent neighbors of a
    /// configuration; learnt neighbors stay. Returns the addresses that are
    /// new.
    pub(super) fn configure(
        &mut self,
        config: &Config,
        descriptions: &[PortDescription],
        now: Ticks,
    ) -> Vec<IpAddr> {
        let links = self.ports.iter().map(|port| port.link).collect::<Vec<_>>();
        let links = links
            .into_iter()
            .chain(std::iter::repeat(LinkState::Unknown));
        self.ports = config
            .ports
            .iter()
            .zip(descriptions)
            .zip(links)
            .map(|((port, description), link)| NetworkPort {
                name: port.name.clone(),
                mac: description.mac,
                mtu: port.mtu.min(description.mtu),
                vlan: port.vlan,
                addresses: with_link_local(&port.addresses, description.mac),
                link,
                offload_checksum: description.capabilities.tx_ipv4_checksum,
            })
            .collect();
        let own: HashSet<_> = self
            .ports
            .iter()
            .flat_map(|port| &port.addresses)
            .map(IpNet::addr)
            .collect();
        let new = own.difference(&self.own).copied().collect();
        self.own = own;
        self.configure_routes(config);
        self.configure_neighbors(config, now);
        new
    }

    /// All ports, by index.
    pub(super) fn ports(&self) -> &[NetworkPort] {
        &self.ports
    }

    /// A port.
    pub(super) fn port(&self, index: PortIndex) -> Option<&NetworkPort> {
        self.ports.get(index.as_usize())
    }

    /// All routes over IPv4, connected networks included.
    pub(super) fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// All routes over IPv6, connected networks included.
    pub(super) fn routes_v6(&self) -> &RouteTable<Ipv6Net> {
        &self.routes_v6
    }

    /// The director's own addresses, VIPs not included.
    pub(super) fn own_addresses(&self) -> &HashSet<IpAddr> {
        &self.own
    }

    /// Where a packet to `destination` goes next.
    pub(super) fn next_hop(&self, destination: IpAddr) -> NextHop {
        if self.own.contains(&destination) {
            return NextHop::Local;
        }
        let Some(RouteAction::Forward {
            port: index,
            gateway,
            source,
            mtu,
        }) = self.route_towards(destination)
        else {
            return NextHop::Unreachable;
        };
        let address = gateway.unwrap_or(destination);
        let Some(port) = self.port(index).filter(|port| port.link != LinkState::Down) else {
            return NextHop::Unreachable;
        };
        let Some(source) = source.or_else(|| port.source_towards(address)) else {
            return NextHop::Unreachable;
        };
        let mtu = mtu.unwrap_or(port.mtu);
        NextHop::Neighbor {
            port: index,
            address,
            source,
            mtu: self
                .path_mtus
                .get(destination)
                .map_or(mtu, |learned| learned.min(mtu)),
        }
    }

    /// What the routes say about packets to `destination`.
    fn route_towards(&self, destination: IpAddr) -> Option<RouteAction<IpAddr>> {
        match destination {
            IpAddr::V4(destination) => {
                let route = self.routes.lookup(destination)?;
                Some(route.action.with_addresses(|address| Some(address.into())))
            }
            // Each link has its own: no route leads there.
            IpAddr::V6(destination) if destination.is_unicast_link_local() => None,
            IpAddr::V6(destination) => {
                let route = self.routes_v6.lookup(destination)?;
                Some(route.action.with_addresses(|address| Some(address.into())))
            }
        }
    }

    /// Takes note of a port's link, and says whether it was lost or came back.
    /// Servers behind a lost link are unreachable.
    pub(super) fn set_link(&mut self, port: PortIndex, up: bool) -> Option<LinkChange> {
        let port = self.ports.get_mut(port.as_usize())?;
        let (state, change) = match (port.link, up) {
            (LinkState::Unknown, true) => (LinkState::Up, None),
            (LinkState::Up, false) => (LinkState::Down, Some(LinkChange::Down)),
            (LinkState::Down, true) => (LinkState::Up, Some(LinkChange::Up)),
            (state, _) => (state, None),
        };
        port.link = state;
        match change {
            Some(LinkChange::Down) => log::warn!("port {} lost its link", port.name),
            Some(LinkChange::Up) => log::info!("port {} has its link back", port.name),
            None => {}
        }
        change
    }

    /// What the packet path needs to know of the ports.
    pub(super) fn port_forwarding(&self) -> Vec<PortForwarding> {
        self.ports
            .iter()
            .map(|port| PortForwarding {
                mac: port.mac,
                vlan: port.vlan,
            })
            .collect()
    }

    /// The ready-made headers for a real server at `address` that gets packets
    /// of version `inner`, from any address of the network `outer_source` when
    /// there is one, which is of the IP version of `address`.
    pub(super) fn server_forwarding(
        &self,
        (address, outer_source): (IpAddr, Option<IpNet>),
        presence: Presence,
        options: &ServerOptions,
        inner: IpVersion,
    ) -> ServerForwarding {
        let quiesced = options.weight == 0;
        let unreachable = ServerForwarding {
            presence,
            quiesced,
            tunnel: options.tunnel,
            ..ServerForwarding::FREE
        };
        let (index, neighbor, source, mtu) = match self.next_hop(address) {
            NextHop::Neighbor {
                port,
                address,
                source,
                mtu,
            } => (port, address, source, mtu),
            NextHop::Local => {
                return ServerForwarding {
                    path: Path::Local,
                    ..unreachable
                };
            }
            NextHop::Unreachable => return unreachable,
        };
        let Some(port) = self.port(index) else {
            return unreachable;
        };
        let mac = self.neighbors.mac(NeighborKey {
            port: index,
            ip: neighbor,
        });
        let mut header = [0; crate::forwarding::OUTER_HEADER_LEN_MAX];
        let version = IpVersion::of(address);
        let l2 = port.l2_header(mac.unwrap_or_default(), version.ether_type());
        let protocol = options.tunnel.protocol(inner);
        let source = outer_source.map_or(source, |network| network.network());
        let (mut outer, mut header_v6) = ([0; 20], [0; ipv6::HEADER_LEN]);
        match (source, address) {
            (IpAddr::V4(source), IpAddr::V4(address)) => {
                outer = outer_header(source, address, protocol);
            }
            (IpAddr::V6(source), IpAddr::V6(address)) => {
                header_v6 = outer_header_v6(source, address, protocol);
            }
            _ => return unreachable,
        }
        for (to, from) in header.iter_mut().zip(l2.iter().chain(&outer)) {
            *to = *from;
        }
        ServerForwarding {
            presence,
            quiesced,
            path: if mac.is_some() {
                Path::Resolved
            } else {
                Path::Unresolved
            },
            mtu_is_learned: self.path_mtus.get(address) == Some(mtu),
            offload_checksum: port.offload_checksum,
            port: index,
            l2_len: u8::try_from(l2.len()).unwrap_or(u8::MAX),
            mtu,
            source_mask: outer_source.map_or(0, host_bits),
            tunnel: options.tunnel,
            version,
            checksum_seed: tunnel::checksum_seed(&outer),
            header,
            header_v6,
            ..unreachable
        }
        .with_express_way()
    }

    fn configure_routes(&mut self, config: &Config) {
        self.routes = RouteTable::new();
        self.routes_v6 = RouteTable::new();
        let ports = (0..).map(PortIndex).zip(&self.ports);
        let connected: Vec<_> = ports
            .flat_map(|(index, port)| port.addresses.iter().map(move |network| (index, *network)))
            // A /32 has no network beside the address itself.
            .filter(|(_, network)| network.prefix_len() < network.max_prefix_len())
            .map(|(port, network)| {
                let action = RouteAction::Forward {
                    port,
                    gateway: None,
                    source: Some(network.addr()),
                    mtu: None,
                };
                (network, action)
            })
            .collect();
        let configured = config
            .routes
            .iter()
            .map(|route| (route.to, action_of(&route.action, route.to)));
        for (to, action) in connected.into_iter().chain(configured) {
            match to {
                IpNet::V4(to) => {
                    let action = action.with_addresses(ipv4_of);
                    self.routes.insert(Route { to, action });
                }
                IpNet::V6(to) => {
                    let action = action.with_addresses(ipv6_of);
                    self.routes_v6.insert(Route { to, action });
                }
            }
        }
    }

    fn configure_neighbors(&mut self, config: &Config, now: Ticks) {
        for key in std::mem::take(&mut self.permanent) {
            self.neighbors.remove(key);
        }
        for neighbor in &config.neighbors {
            let port = PortIndex(u8::try_from(neighbor.port).unwrap_or(u8::MAX));
            let key = NeighborKey {
                port,
                ip: neighbor.address,
            };
            self.neighbors.set_permanent(key, neighbor.mac, now);
            self.permanent.push(key);
        }
    }
}

impl NetworkPort {
    /// The Ethernet header, with the port's VLAN tag, of a frame to `mac`.
    pub(super) fn l2_header(
        &self,
        mac: MacAddr,
        ether_type: EtherType,
    ) -> arrayvec::ArrayVec<u8, 18> {
        let mut header = arrayvec::ArrayVec::new();
        header.extend(mac.0);
        header.extend(self.mac.0);
        if let Some(vlan) = self.vlan {
            header.extend(EtherType::VLAN.0.to_be_bytes());
            header.extend(vlan.to_be_bytes());
        }
        header.extend(ether_type.0.to_be_bytes());
        header
    }

    /// The port's address in the network of `neighbor`, or its first of that
    /// IP version.
    pub(super) fn source_towards(&self, neighbor: IpAddr) -> Option<IpAddr> {
        let mut same_version = self
            .addresses
            .iter()
            .filter(|network| network.addr().is_ipv6() == neighbor.is_ipv6());
        let first = same_version.clone().next();
        let on_link = same_version.find(|network| network.contains(&neighbor));
        on_link.or(first).map(IpNet::addr)
    }

    /// Whether the port itself has this address, VIPs not included.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|network| network.addr() == address)
    }

    /// The port's link-local address, when it takes part in IPv6.
    pub(super) fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|network| match network {
            IpNet::V6(network) if network.addr().is_unicast_link_local() => Some(network.addr()),
            _ => None,
        })
    }
}

/// The bits behind the prefix of a network, in the last two bytes of its
/// addresses.
fn host_bits(network: IpNet) -> u16 {
    let len = network.max_prefix_len() - network.prefix_len();
    match len {
        0..16 => (1 << len) - 1,
        _ => u16::MAX,
    }
}

/// The outer header with all that differs from packet to packet left 0.
fn outer_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: IpProtocol) -> [u8; 20] {
    let mut header = Ipv4Fields {
        tos: 0,
        total_len: 0,
        id: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 0,
        protocol,
        source,
        destination,
    }
    .to_bytes();
    [header[10], header[11]] = [0, 0];
    header
}

/// The outer IPv6 header with all that differs from packet to packet left 0,
/// and the flow label too, as Linux IPVS has it.
fn outer_header_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: IpProtocol,
) -> [u8; ipv6::HEADER_LEN] {
    Ipv6Fields {
        traffic_class: 0,
        flow_label: 0,
        payload_len: 0,
        next_header,
        hop_limit: 0,
        source,
        destination,
    }
    .to_bytes()
}

/// The addresses of a port, with a link-local one made from its MAC if there
/// are others over IPv6 and none is configured.
fn with_link_local(configured: &[IpNet], mac: MacAddr) -> Vec<IpNet> {
    let mut addresses = configured.to_vec();
    let mut v6 = configured.iter().filter_map(|network| match network {
        IpNet::V6(network) => Some(network.addr()),
        IpNet::V4(_) => None,
    });
    let has_v6 = v6.clone().next().is_some();
    if has_v6
        && !v6.any(|address| address.is_unicast_link_local())
        && let Ok(network) = Ipv6Net::new(ndp::link_local(mac), 64)
    {
        addresses.push(network.into());
    }
    addresses
}

/// `to` is of the same IP version as the addresses of the action: the
/// configuration has seen to it.
fn action_of(action: &config::RouteAction, to: IpNet) -> RouteAction<IpAddr> {
    let mtu_min = match to {
        IpNet::V4(_) => ipv4::MTU_MIN,
        IpNet::V6(_) => ipv6::MTU_MIN,
    };
    match *action {
        config::RouteAction::Forward {
            via,
            port,
            source,
            mtu,
        } => RouteAction::Forward {
            port: PortIndex(u8::try_from(port).unwrap_or(u8::MAX)),
            gateway: via,
            source,
            mtu: mtu.map(|mtu| mtu.max(mtu_min)),
        },
        config::RouteAction::Unreachable => RouteAction::Unreachable,
        config::RouteAction::Blackhole => RouteAction::Blackhole,
    }
}

const fn ipv4_of(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

const fn ipv6_of(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}
