//! The lab's addresses, routes and neighbors, as `ip` commands set them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pointsman::config::{NeighborConfig, RouteAction, RouteConfig};
use pointsman::service::{MarkGroup, Protocol};

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
    /// `iptables -t mangle -A PREROUTING ... -j MARK --set-mark N`
    AddMark(MarkRule),
    /// `ip rule add fwmark N lookup TABLE`, where the table has everything for
    /// local.
    MakeMarkLocal(u32),
}

/// Packets that get a firewall mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    pub fwmark: u32,
    pub destination: Option<IpNet>,
    pub protocol: Option<Protocol>,
    pub l4_ports: Option<RangeInclusive<u16>>,
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
    /// Rules that set firewall marks.
    pub marks: Vec<MarkRule>,
    /// Marks whose packets are taken for local ones, wherever they go.
    pub local_marks: Vec<u32>,
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
            NetworkChange::AddMark(rule) => self.marks.push(rule.clone()),
            NetworkChange::MakeMarkLocal(fwmark) => self.local_marks.push(*fwmark),
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
        // A local route is for the table that a rule about a mark leads to.
        ["link", "set", _, "up"] | ["route", "add", "local", ..] => return Ok(Action::Nothing),
        ["rule", "add", "fwmark", fwmark, "lookup" | "table", _] => {
            fwmark.parse().ok().map(NetworkChange::MakeMarkLocal)
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

/// Parses the arguments of `iptables`.
pub fn parse_iptables(arguments: &[&str], is_ipv6: bool) -> Result<Action, Refusal> {
    let refusal = || Refusal::NotUnderstood(format!("iptables {}", arguments.join(" ")));
    let ["-t", "mangle", "-A", "PREROUTING", rest @ ..] = arguments else {
        return Err(refusal());
    };
    mark_rule(rest, is_ipv6)
        .map(|rule| Action::Network(NetworkChange::AddMark(rule)))
        .ok_or_else(refusal)
}

fn mark_rule(mut rest: &[&str], is_ipv6: bool) -> Option<MarkRule> {
    // A rule of ip6tables without a destination is for IPv6 all the same.
    let mut rule = MarkRule {
        fwmark: 0,
        destination: is_ipv6.then(|| "::/0".parse().ok()).flatten(),
        protocol: None,
        l4_ports: None,
    };
    while let [option, value, more @ ..] = rest {
        match *option {
            "-d" => rule.destination = Some(network(value, is_ipv6)?),
            "-p" => {
                rule.protocol = Some(match *value {
                    "tcp" => Protocol::Tcp,
                    "udp" => Protocol::Udp,
                    "sctp" => Protocol::Sctp,
                    _ => return None,
                });
            }
            "--dport" => {
                let (first, last) = value.split_once(':').unwrap_or((value, value));
                rule.l4_ports = Some(first.parse().ok()?..=last.parse().ok()?);
            }
            "-j" if *value == "MARK" => {}
            "--set-mark" | "--set-xmark" => {
                let number = value.split('/').next()?;
                let hexadecimal = number.strip_prefix("0x");
                let fwmark = hexadecimal
                    .map_or_else(|| number.parse(), |digits| u32::from_str_radix(digits, 16));
                rule.fwmark = fwmark.ok()?;
            }
            _ => return None,
        }
        rest = more;
    }
    (rest.is_empty() && rule.fwmark > 0).then_some(rule)
}

impl Network {
    /// The marks as a director's configuration says them. A destination that
    /// is no address of the director is a VIP of its own there as long as the
    /// mark has a service; a kernel needs a rule for that.
    pub fn mark_groups(&self) -> Vec<MarkGroup> {
        self.marks
            .iter()
            .map(|rule| {
                let addresses = self.ports.iter().flat_map(|port| &port.addresses);
                let vips: Vec<IpNet> = match rule.destination {
                    None => Vec::new(),
                    Some(destination) if self.local_marks.contains(&rule.fwmark) => {
                        vec![destination]
                    }
                    // Those of its addresses that are local.
                    Some(destination) => addresses
                        .filter(|address| destination.contains(&address.addr()))
                        .map(|address| IpNet::from(address.addr()))
                        .collect(),
                };
                let protocols = rule.protocol.into_iter().collect();
                let l4_ports = rule.l4_ports.iter().cloned().collect();
                MarkGroup {
                    fwmark: rule.fwmark,
                    vips,
                    protocols,
                    l4_ports,
                }
            })
            // Without a local destination it marks what is dropped anyway.
            .zip(&self.marks)
            .filter(|(group, rule)| !group.vips.is_empty() || rule.destination.is_none())
            .map(|(group, _)| group)
            .collect()
    }
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
