//! What only the whole file can show: addresses with two roles, real servers
//! that nothing leads to, memory that is too small.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    Device, Machine, RouteAction,
    error::Problem,
    marks::MarkDraft,
    network::Network,
    reader::{Findings, Span},
    routes::{NeighborDraft, RouteDraft},
    services::ServiceDraft,
    warning::Doubt,
};
use crate::service::ServiceKey;

/// Checks that every address has one role and is a host's.
pub(super) fn check_roles(
    network: &Network,
    routes: &[RouteDraft],
    neighbors: &[NeighborDraft],
    (marks, services): (&[MarkDraft], &[ServiceDraft]),
    findings: &mut Findings<'_>,
) {
    let mut taken: Roles = network
        .own_addresses()
        .map(|(own, span)| (own, (span, "a port's address")))
        .collect();
    check_marks(marks, services, findings);
    let vips = services
        .iter()
        .filter_map(|service| Some((service.key.get_ref().vips()?, service.key.span())))
        .chain(marks.iter().flat_map(|mark| {
            let vips = mark.vips.iter();
            vips.map(|vips| (*vips.get_ref(), vips.span()))
        }));
    let mut networks = Vec::new();
    for (vips, span) in vips {
        if vips.prefix_len() < vips.max_prefix_len() {
            networks.push((vips, span));
            continue;
        }
        let vip = vips.addr();
        check_role(&taken, &VIP, vip, &span, findings);
        network.check_host(vip, VIP.name, span.clone(), findings);
        taken.entry(vip).or_insert((span, VIP.name));
    }
    let servers = services.iter().flat_map(|service| &service.servers);
    let others = servers
        .map(|(rip, _)| (&REAL_SERVER, *rip.get_ref(), rip.span()))
        .chain(routes.iter().filter_map(|route| {
            route
                .via
                .as_ref()
                .map(|via| (&GATEWAY, *via.get_ref(), via.span()))
        }))
        .chain(
            neighbors
                .iter()
                .map(|draft| (&NEIGHBOR, draft.neighbor.address, draft.span.clone())),
        );
    // A gateway may be a neighbor too, so that these are no roles of one alone.
    let mut used = taken.clone();
    for (role, address, span) in others {
        check_role(&taken, role, address, &span, findings);
        network.check_host(address, role.name, span.clone(), findings);
        used.entry(address).or_insert((span, role.name));
    }
    check_networks(&used, &networks, findings);
    for source in services.iter().filter_map(|it| it.outer_source.as_ref()) {
        check_outer_source(source, network, (&used, &networks), findings);
    }
}

/// Doubts workers that are on another NUMA node than a NIC.
pub(super) fn check_nodes(
    network: &Network,
    worker_cores: &[usize],
    machine: &Machine,
    findings: &mut Findings<'_>,
) {
    for port in &network.ports {
        let Device::Pci(address) = port.device.get_ref() else {
            continue;
        };
        let Some(&node) = machine.nic_nodes.get(address) else {
            continue;
        };
        let is_far = |core: &&usize| machine.core_nodes.get(core).is_some_and(|&it| it != node);
        let far: Vec<_> = worker_cores.iter().filter(is_far).copied().collect();
        if !far.is_empty() {
            let nodes = machine.core_nodes.iter();
            let near = nodes.filter(|(_, it)| **it == node).map(|(core, _)| *core);
            let near = near.filter(|core| machine.has_core(*core)).collect();
            findings.doubt(port.device.span(), Doubt::FarFromNic { node, far, near });
        }
    }
}

/// Checks that nothing else has the addresses that outer packets come from. The
/// director answers ARP for them, and real servers take no packets from their
/// own addresses, of which VIPs are some, nor from broadcast addresses.
fn check_outer_source(
    source: &Spanned<IpNet>,
    network: &Network,
    (used, vips): (&Roles, &[(IpNet, Span)]),
    findings: &mut Findings<'_>,
) {
    let (span, sources) = (source.span(), *source.get_ref());
    let held = used
        .iter()
        .filter(|(address, _)| sources.contains(*address))
        .map(|(&address, (first, other))| (address, first, *other));
    let overlapping = vips
        .iter()
        .filter(|(vips, _)| vips.contains(&sources) || sources.contains(vips))
        .map(|(vips, first)| (vips.network().max(sources.network()), first, VIP.name));
    if let Some((address, first, other)) = held.chain(overlapping).min_by_key(|it| it.0) {
        let line = findings.line_from(first, &span);
        let problem = Problem::OuterSourceHolds {
            network: sources,
            address,
            other,
            line,
        };
        findings.refuse(span, problem);
    } else if let Some((connected, kind, address)) = network.reserved_in(sources) {
        let problem = Problem::OuterSourceNotAHost {
            network: sources,
            address,
            kind,
            connected,
        };
        findings.refuse(span, problem);
    }
}

/// Checks that networks of VIPs hold nothing but VIPs: the director answers ARP
/// for all of them.
fn check_networks(used: &Roles, networks: &[(IpNet, Span)], findings: &mut Findings<'_>) {
    for (network, span) in networks {
        let held = used
            .iter()
            .filter(|(address, (_, role))| *role != VIP.name && network.contains(*address))
            .min_by_key(|(address, _)| **address);
        if let Some((&address, (first, other))) = held {
            let line = findings.line_from(first, span);
            let problem = Problem::VipNetworkHolds {
                network: *network,
                address,
                other,
                line,
            };
            findings.refuse(span.clone(), problem);
        }
    }
}

/// Checks that some packets have the marks of services.
fn check_marks(marks: &[MarkDraft], services: &[ServiceDraft], findings: &mut Findings<'_>) {
    for service in services {
        if let ServiceKey::Mark { fwmark, .. } = *service.key.get_ref()
            && !marks.iter().any(|mark| mark.fwmark == fwmark)
        {
            findings.refuse(service.key.span(), Problem::NoSuchMark(fwmark));
        }
    }
}

/// Checks that there is a route to every real server.
pub(super) fn check_reachable(
    network: &Network,
    routes: &[RouteDraft],
    services: &[ServiceDraft],
    findings: &mut Findings<'_>,
) {
    let mut known: HashSet<IpAddr> = HashSet::new();
    for (rip, _) in services.iter().flat_map(|service| &service.servers) {
        let (span, rip) = (rip.span(), *rip.get_ref());
        // The same server in many services is one mistake, not many.
        if !known.insert(rip) {
            continue;
        }
        let connected = network
            .connected(rip)
            .map(|(_, network)| network.prefix_len());
        let route = routes
            .iter()
            .filter(|route| route.to.contains(&rip))
            .max_by_key(|route| route.to.prefix_len());
        match route {
            None if connected.is_none() => findings.refuse(span, Problem::NoRoute { rip }),
            Some(route) if connected < Some(route.to.prefix_len()) && is_silent(&route.action) => {
                let to = route.to;
                findings.doubt(span, Doubt::RealServerUnreachable { rip, to });
            }
            _ => {}
        }
    }
}

/// Where addresses stand, and what they are for.
type Roles = HashMap<IpAddr, (Span, &'static str)>;

/// What an address is for.
struct Role {
    name: &'static str,
    /// What to write when the address has another role as well.
    instead: &'static str,
}

const VIP: Role = Role {
    name: "a VIP",
    instead: "give the service an address that nothing else has",
};
const REAL_SERVER: Role = Role {
    name: "a real server",
    instead: "write the address at which the real server itself is reached",
};
const GATEWAY: Role = Role {
    name: "a gateway",
    instead: "write the router's own address",
};
const NEIGHBOR: Role = Role {
    name: "a neighbor",
    instead: "write the neighbor's own address",
};

fn check_role(
    taken: &Roles,
    role: &Role,
    address: IpAddr,
    span: &Span,
    findings: &mut Findings<'_>,
) {
    let Some((first, other)) = taken.get(&address) else {
        return;
    };
    if *other == role.name {
        return;
    }
    let line = findings.line_from(first, span);
    let Role { name, instead } = *role;
    let problem = Problem::TwoRoles {
        address,
        role: name,
        other,
        line,
        instead,
    };
    findings.refuse(span.clone(), problem);
}

const fn is_silent(action: &RouteAction) -> bool {
    matches!(action, RouteAction::Unreachable | RouteAction::Blackhole)
}
