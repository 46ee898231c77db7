//! `[[route]]` and `[[neighbor]]`.
#![forbid(unsafe_code)]

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    NeighborConfig, RouteAction, RouteConfig,
    address::{is_link_local, parse_address, parse_destination, parse_link_address},
    error::Problem,
    format::{NEIGHBOR, ROUTE},
    network::Network,
    port::{MTU_MAX, MTU_MIN, PortDraft, parse_mac},
    reader::{Findings, Span, TableReader},
    warning::Doubt,
};
use crate::wire::ipv6;

/// A route that has been read, with the places that later checks point at.
#[derive(Debug)]
pub(super) struct RouteDraft {
    pub(super) to: IpNet,
    pub(super) via: Option<Spanned<IpAddr>>,
    pub(super) action: RouteAction,
}

impl RouteDraft {
    pub(super) fn finish(self) -> RouteConfig {
        RouteConfig {
            to: self.to,
            action: self.action,
        }
    }
}

/// A permanent neighbor with its place.
#[derive(Debug)]
pub(super) struct NeighborDraft {
    pub(super) neighbor: NeighborConfig,
    pub(super) span: Span,
}

/// Reads all routes; those that are wrong are reported and left out.
pub(super) fn read_routes(
    file: &TableReader<'_, '_>,
    network: &Network,
    findings: &mut Findings<'_>,
) -> Vec<RouteDraft> {
    let mut seen: HashMap<IpNet, Span> = HashMap::new();
    let mut routes = Vec::new();
    for table in file.tables("route", &ROUTE, findings) {
        let is_ipv6 = table.hint("via").is_some_and(|via| via.contains(':'));
        let to = |text: &str| parse_destination(text, is_ipv6);
        let to = table.parsed("to", to, findings);
        let to = table.require("to", to, findings);
        if let Some(to) = &to {
            check_destination(to, network, &mut seen, findings);
        }
        let kind = table.choice("type", &KINDS, findings);
        let kind = match kind {
            Some(kind) => kind.into_inner(),
            None if table.has("type") => continue,
            None => Kind::Unicast,
        };
        let (via, action) = match kind {
            Kind::Unicast => read_forward(&table, to.as_ref(), network, findings),
            Kind::Unreachable => {
                refuse_forward_keys(&table, "unreachable", findings);
                (None, Some(RouteAction::Unreachable))
            }
            Kind::Blackhole => {
                refuse_forward_keys(&table, "blackhole", findings);
                (None, Some(RouteAction::Blackhole))
            }
        };
        if let (Some(to), Some(action)) = (to, action) {
            routes.push(RouteDraft {
                to: to.into_inner(),
                via,
                action,
            });
        }
    }
    routes
}

/// Reads all permanent neighbors; those that are wrong are reported and left
/// out.
pub(super) fn read_neighbors(
    file: &TableReader<'_, '_>,
    network: &Network,
    findings: &mut Findings<'_>,
) -> Vec<NeighborDraft> {
    let mut seen: HashMap<IpAddr, Span> = HashMap::new();
    let mut neighbors = Vec::new();
    for table in file.tables("neighbor", &NEIGHBOR, findings) {
        let port_name = table.text("port", findings);
        let port_name = table.require("port", port_name, findings);
        let port = port_name.and_then(|name| network.port_named(&name, findings));
        let address = |text: &str| parse_link_address(text, "a neighbor", "\"192.0.2.254\"");
        let address = table.parsed("address", address, findings);
        let address = table.require("address", address, findings);
        let mac = table.parsed("mac", parse_mac, findings);
        let mac = table.require("mac", mac, findings);
        let (Some(port), Some(address), Some(mac)) = (port, address, mac) else {
            continue;
        };
        let (span, address) = (address.span(), address.into_inner());
        if let Some(first) = seen.get(&address) {
            let line = findings.line(first);
            findings.refuse(span.clone(), Problem::NeighborTwice { address, line });
        } else {
            seen.insert(address, span.clone());
        }
        if network.complete
            && !is_link_local(address)
            && network
                .connected(address)
                .is_none_or(|(found, _)| found != port)
        {
            let (port, networks) = (
                network.port_name(port),
                network.describe(Some(port), address),
            );
            let problem = Problem::NeighborNotConnected {
                address,
                port,
                networks,
            };
            findings.refuse(span.clone(), problem);
        }
        let neighbor = NeighborConfig {
            port,
            address,
            mac: mac.into_inner(),
        };
        neighbors.push(NeighborDraft { neighbor, span });
    }
    neighbors
}

fn check_destination(
    to: &Spanned<IpNet>,
    network: &Network,
    seen: &mut HashMap<IpNet, Span>,
    findings: &mut Findings<'_>,
) {
    let (span, to) = (to.span(), *to.get_ref());
    if let Some(first) = seen.get(&to) {
        let line = findings.line(first);
        findings.refuse(span, Problem::RouteTwice { to, line });
        return;
    }
    seen.insert(to, span.clone());
    if let Some((port, connected)) = network.connected(to.network())
        && connected == to
    {
        findings.refuse(
            span,
            Problem::RouteToConnected {
                to,
                port: network.port_name(port),
            },
        );
    }
}

/// An unreachable or blackhole route has no other keys.
fn refuse_forward_keys(
    table: &TableReader<'_, '_>,
    kind: &'static str,
    findings: &mut Findings<'_>,
) {
    for key in ["via", "port", "source", "mtu"] {
        if let Some(span) = table.value_span(key) {
            findings.refuse(span, Problem::RouteSendsNothing { kind, key });
        }
    }
}

/// A route that leads out of a port.
fn read_forward(
    table: &TableReader<'_, '_>,
    to: Option<&Spanned<IpNet>>,
    network: &Network,
    findings: &mut Findings<'_>,
) -> (Option<Spanned<IpAddr>>, Option<RouteAction>) {
    let via = |text: &str| parse_link_address(text, "a gateway", "\"192.0.2.254\"");
    let via = table.parsed("via", via, findings);
    let source = |text: &str| parse_address(text, "a source", "\"192.0.2.1\"");
    let source = table.parsed("source", source, findings);
    if let Some(to) = to {
        for (key, address) in [("via", &via), ("source", &source)] {
            check_family(*to.get_ref(), key, address.as_ref(), findings);
        }
    }
    let mtu = table.number("mtu", MTU_MIN..=MTU_MAX, " bytes", findings);
    let name = table.text("port", findings);
    let named = name
        .as_ref()
        .and_then(|name| network.port_named(name, findings));
    if let Some(to) = to
        && !["via", "port"]
            .iter()
            .any(|key| table.has(key) || table.is_meant(key))
    {
        findings.refuse(table.span.clone(), Problem::RouteGoesNowhere(*to.get_ref()));
    }
    if named.is_none() && table.has("port") {
        return (via, None);
    }
    let port = match &via {
        Some(via) => check_gateway(via, named, network, findings),
        None => named,
    };
    let Some(index) = port else {
        return (via, None);
    };
    let Some(port) = network.ports.get(index) else {
        return (via, None);
    };
    let is_ipv6 = to.is_some_and(|to| matches!(to.get_ref(), IpNet::V6(_)));
    if let Some(mtu) = &mtu
        && is_ipv6
        && *mtu.get_ref() < ipv6::MTU_MIN
    {
        findings.refuse(mtu.span(), Problem::MtuBelowIpv6(*mtu.get_ref()));
    }
    if let Some(mtu) = &mtu
        && *mtu.get_ref() > port.mtu
    {
        let (port, port_mtu) = (port.name.get_ref().clone(), port.mtu);
        let problem = Problem::RouteMtuAbovePort {
            mtu: *mtu.get_ref(),
            port,
            port_mtu,
        };
        findings.refuse(mtu.span(), problem);
    }
    match &source {
        Some(source)
            if network
                .own_addresses()
                .all(|(own, _)| own != *source.get_ref()) =>
        {
            findings.doubt(source.span(), Doubt::SourceNotOwn(*source.get_ref()));
        }
        None if !has_source(port, is_ipv6) && network.complete && !table.has("source") => {
            let problem = Problem::NoSourceAddress {
                port: port.name.get_ref().clone(),
                family: family_name(is_ipv6),
            };
            findings.refuse(table.span.clone(), problem);
        }
        _ => {}
    }
    let action = RouteAction::Forward {
        via: via.as_ref().map(|via| *via.get_ref()),
        port: index,
        source: source.map(Spanned::into_inner),
        mtu: mtu.map(Spanned::into_inner),
    };
    (via, Some(action))
}

/// The port on one of whose networks the gateway is.
fn check_gateway(
    via: &Spanned<IpAddr>,
    named: Option<usize>,
    network: &Network,
    findings: &mut Findings<'_>,
) -> Option<usize> {
    if is_link_local(*via.get_ref()) {
        if named.is_none() {
            findings.refuse(via.span(), Problem::LinkLocalGateway(*via.get_ref()));
        }
        return named;
    }
    let found = network.connected(*via.get_ref()).map(|(port, _)| port);
    let found = found.filter(|found| named.is_none_or(|named| named == *found));
    if found.is_none() && network.complete {
        let ports = match named {
            Some(port) => format!("port \"{}\"", network.port_name(port)),
            None => "any port".to_owned(),
        };
        let networks = network.describe(named, *via.get_ref());
        let problem = Problem::GatewayNotConnected {
            via: *via.get_ref(),
            ports,
            networks,
        };
        findings.refuse(via.span(), problem);
    }
    found
}

/// A route and its addresses are of one IP version.
fn check_family(
    to: IpNet,
    key: &'static str,
    address: Option<&Spanned<IpAddr>>,
    findings: &mut Findings<'_>,
) {
    let is_ipv6 = matches!(to, IpNet::V6(_));
    if let Some(address) = address
        && address.get_ref().is_ipv6() != is_ipv6
    {
        let problem = Problem::RouteOfOtherFamily {
            to,
            family: family_name(is_ipv6),
            key,
        };
        findings.refuse(address.span(), problem);
    }
}

/// Whether the port has an address that packets of an IP version can come
/// from.
fn has_source(port: &PortDraft, is_ipv6: bool) -> bool {
    port.addresses
        .iter()
        .map(|network| network.get_ref().addr())
        .any(|address| address.is_ipv6() == is_ipv6 && !is_link_local(address))
}

const fn family_name(is_ipv6: bool) -> &'static str {
    if is_ipv6 { "IPv6" } else { "IPv4" }
}

/// `type`
#[derive(Clone, Copy, Debug)]
enum Kind {
    Unicast,
    Unreachable,
    Blackhole,
}

const KINDS: [(&str, Kind); 3] = [
    ("unicast", Kind::Unicast),
    ("unreachable", Kind::Unreachable),
    ("blackhole", Kind::Blackhole),
];
