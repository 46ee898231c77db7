//! The lab's addresses, routes and neighbors, as `ip` commands set them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pointsman::config::{NeighborConfig, RouteAction, RouteConfig};

use super::interpret::{Action, Refusal};

/// The largest MTU that the ports of the recording machine could have.
const MTU_MAX: u16 = 1500;

/// One change by an `ip` command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkChange {
    AddAddress {
        port: usize,
        address: IpNet,
    },
    DeleteAddress {
        port: usize,
        address: IpNet,
    },
    SetMtu {
        port: usize,
        mtu: u16,
    },
    /// Its port is found when it is added, from the addresses there are then.
    AddRoute {
        to: IpNet,
        kind: RouteKind,
    },
    SetNeighbor(NeighborConfig),
}

/// Where a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Via {
        gateway: IpAddr,
        source: Option<IpAddr>,
        mtu: Option<u16>,
    },
    Unreachable,
    Blackhole,
}

/// The network part of the lab.
#[derive(Clone, Debug, Default)]
pub struct Network {
    pub ports: [NetworkPort; 2],
    pub routes: Vec<RouteConfig>,
    /// All of them permanent.
    pub neighbors: Vec<NeighborConfig>,
}

/// One port of the director as the commands set it up.
#[derive(Clone, Debug)]
pub struct NetworkPort {
    pub addresses: Vec<IpNet>,
    pub mtu: u16,
}

impl Default for NetworkPort {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            mtu: 1500,
        }
    }
}

impl Network {
    pub fn change(&mut self, change: &NetworkChange) -> Result<(), Refusal> {
        match change {
            NetworkChange::AddAddress { port, address } => {
                self.port(*port)?.addresses.push(*address);
            }
            NetworkChange::DeleteAddress { port, address } => {
                self.port(*port)?.addresses.retain(|other| other != address);
            }
            NetworkChange::SetMtu { port, mtu } => self.port(*port)?.mtu = *mtu,
            NetworkChange::AddRoute { to, kind } => {
                let action = self.route_action(kind)?;
                self.routes.push(RouteConfig { to: *to, action });
            }
            NetworkChange::SetNeighbor(neighbor) => {
                self.neighbors
                    .retain(|other| other.address != neighbor.address);
                self.neighbors.push(*neighbor);
            }
        }
        Ok(())
    }

    fn port(&mut self, port: usize) -> Result<&mut NetworkPort, Refusal> {
        self.ports
            .get_mut(port)
            .ok_or_else(|| Refusal::NotUnderstood(format!("there is no vec{port}")))
    }

    fn route_action(&self, kind: &RouteKind) -> Result<RouteAction, Refusal> {
        let (gateway, source, mtu) = match kind {
            RouteKind::Via {
                gateway,
                source,
                mtu,
            } => (gateway, source, mtu),
            RouteKind::Unreachable => return Ok(RouteAction::Unreachable),
            RouteKind::Blackhole => return Ok(RouteAction::Blackhole),
        };
        let port = self
            .ports
            .iter()
            .position(|port| port.addresses.iter().any(|net| net.contains(gateway)))
            .ok_or_else(|| Refusal::NotUnderstood(format!("{gateway} is on no port")))?;
        Ok(RouteAction::Forward {
            via: Some(*gateway),
            port,
            source: *source,
            mtu: *mtu,
        })
    }
}

/// Parses the arguments of `ip`.
pub fn parse(arguments: &[&str]) -> Result<Action, Refusal> {
    let (is_ipv6, arguments) = match arguments {
        ["-6", rest @ ..] => (true, rest),
        _ => (false, arguments),
    };
    let network = |text: &str| network(text, is_ipv6);
    let change = match arguments {
        ["link", "set", _, "up"] => return Ok(Action::Nothing),
        ["rule", ..] | ["route", "add", "local", ..] => {
            return Err(Refusal::Unsupported(
                "a service by firewall mark".to_owned(),
            ));
        }
        ["route" | "r", "get" | "show", ..] | ["addr" | "neigh", "show", ..] => {
            return Ok(Action::Look);
        }
        ["link", "set", _, "mtu", mtu] if mtu.parse().is_ok_and(|mtu: u16| mtu > MTU_MAX) => {
            let message = "Error: mtu greater than device maximum.".to_owned();
            return Ok(Action::Refused { message, code: 2 });
        }
        ["link", "set", device, "mtu", mtu] => port(device)
            .zip(mtu.parse().ok())
            .map(|(port, mtu)| NetworkChange::SetMtu { port, mtu }),
        ["addr", "add", address, "dev", device]
        | ["addr", "add", address, "dev", device, "nodad"] => port(device)
            .zip(network(address))
            .map(|(port, address)| NetworkChange::AddAddress { port, address }),
        ["addr", "del", address, "dev", device] => port(device)
            .zip(network(address))
            .map(|(port, address)| NetworkChange::DeleteAddress { port, address }),
        [
            "neigh",
            "replace",
            address,
            "lladdr",
            mac,
            "dev",
            device,
            "nud",
            "permanent",
        ] => neighbor(address, mac, device).map(NetworkChange::SetNeighbor),
        ["route", "add", "unreachable", to] => network(to).map(|to| NetworkChange::AddRoute {
            to,
            kind: RouteKind::Unreachable,
        }),
        ["route", "add", "blackhole", to] => network(to).map(|to| NetworkChange::AddRoute {
            to,
            kind: RouteKind::Blackhole,
        }),
        ["route", "add", to, "via", gateway, rest @ ..] => network(to)
            .zip(via(gateway, rest))
            .map(|(to, kind)| NetworkChange::AddRoute { to, kind }),
        _ => None,
    };
    change
        .map(Action::Network)
        .ok_or_else(|| Refusal::NotUnderstood(format!("ip {}", arguments.join(" "))))
}

fn via(gateway: &str, mut rest: &[&str]) -> Option<RouteKind> {
    let (mut source, mut mtu) = (None, None);
    while let [key, value, more @ ..] = rest {
        match *key {
            "src" => source = Some(value.parse().ok()?),
            "mtu" => mtu = Some(value.parse().ok()?),
            "dev" => {}
            _ => return None,
        }
        rest = more;
    }
    rest.is_empty().then_some(())?;
    Some(RouteKind::Via {
        gateway: gateway.parse().ok()?,
        source,
        mtu,
    })
}

fn neighbor(address: &str, mac: &str, device: &str) -> Option<NeighborConfig> {
    Some(NeighborConfig {
        port: port(device)?,
        address: address.parse().ok()?,
        mac: mac.parse().ok()?,
    })
}

fn port(device: &str) -> Option<usize> {
    device.strip_prefix("vec")?.parse().ok()
}

fn network(text: &str, is_ipv6: bool) -> Option<IpNet> {
    match (text, is_ipv6) {
        ("default", false) => Some(Ipv4Net::default().into()),
        ("default", true) => Some(Ipv6Net::default().into()),
        _ => text
            .parse()
            .ok()
            .or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?))),
    }
}
