//! `[[service]]` with its real servers.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    ServiceConfig,
    address::{parse_outer_source, parse_real_server, parse_service_address},
    error::Problem,
    format::{REAL_SERVER, SERVICE},
    reader::{Findings, Span, TableReader},
    warning::Doubt,
};
use crate::{
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{
        ClientMask, GUE_L4_PORT, GueChecksum, PERSISTENCE_S_MAX, Persistence, Protocol, ServerKey,
        ServerOptions, ServiceKey, ServiceOptions, TunnelKind, WEIGHT_MAX,
    },
};

/// A service that has been read, with the places that later checks point at.
#[derive(Debug)]
pub(super) struct ServiceDraft {
    pub(super) key: Spanned<ServiceKey>,
    pub(super) servers: Vec<(Spanned<IpAddr>, ServerOptions)>,
    pub(super) options: ServiceOptions,
    /// Where the options have their network of outer sources from.
    pub(super) outer_source: Option<Spanned<IpNet>>,
}

impl ServiceDraft {
    /// Doubts services that nobody answers.
    pub(super) fn doubt_servers(&self, findings: &mut Findings<'_>) {
        let service = *self.key.get_ref();
        let doubt = if self.servers.is_empty() {
            Doubt::NoRealServer { service }
        } else if self.servers.iter().all(|(_, options)| options.weight == 0) {
            Doubt::AllQuiesced { service }
        } else {
            return;
        };
        findings.doubt(self.key.span(), doubt);
    }

    pub(super) fn finish(self) -> ServiceConfig {
        let server = |(address, options): (Spanned<IpAddr>, ServerOptions)| {
            (
                ServerKey {
                    address: address.into_inner(),
                },
                options,
            )
        };
        ServiceConfig {
            key: self.key.into_inner(),
            options: self.options,
            servers: self.servers.into_iter().map(server).collect(),
        }
    }
}

/// Reads all services; those without an address are reported and left out.
pub(super) fn read_services(
    file: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Vec<ServiceDraft> {
    let mut seen: HashMap<ServiceKey, Span> = HashMap::new();
    let mut services = Vec::new();
    for table in file.tables("service", &SERVICE, findings) {
        let Some(service) = read_service(&table, findings) else {
            continue;
        };
        let key = *service.key.get_ref();
        if let Some(first) = seen.get(&key) {
            let line = findings.line(first);
            let problem = Problem::ServiceTwice { service: key, line };
            findings.refuse(service.key.span(), problem);
        } else {
            seen.insert(key, service.key.span());
        }
        services.push(service);
    }
    services
}

fn read_service(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> Option<ServiceDraft> {
    let key = if table.has("fwmark") {
        read_mark(table, findings)
    } else {
        read_address(table, findings)
    };
    let schedulers = SchedulerKind::ALL.map(|kind| (kind.name(), kind));
    let scheduler = table.choice("scheduler", &schedulers, findings);
    let flags = read_flags(table, findings);
    let one_packet = table.switch("one_packet", findings).unwrap_or_default();
    let is_ipv6 = key.as_ref().is_some_and(|key| key.get_ref().is_ipv6());
    let persistence = read_persistence(table, is_ipv6, findings);
    let servers = read_servers(table, findings);
    let outer_source = table.parsed("outer_source", parse_outer_source, findings);
    if let Some(network) = &outer_source {
        check_outer_family(network, &servers, findings);
    }
    let scheduler = scheduler.map(Spanned::into_inner).unwrap_or_default();
    let key = key?;
    if let Some(protocol) = key.get_ref().protocol() {
        if one_packet
            && protocol != Protocol::Udp
            && let Some(span) = table.value_span("one_packet")
        {
            findings.refuse(span, Problem::OnePacketWithoutUdp);
        }
        if key.get_ref().l4_port() == 0 && !table.has("persistence_s") {
            findings.refuse(key.span(), Problem::ServicePortZero);
        }
    }
    let draft = ServiceDraft {
        key,
        servers,
        options: ServiceOptions {
            scheduler,
            flags,
            one_packet,
            persistence,
            outer_source: outer_source.as_ref().map(|it| *it.get_ref()),
        },
        outer_source,
    };
    // Real servers that are there and all wrong are complained about already.
    if !(table.has("real_server") && draft.servers.is_empty()) {
        draft.doubt_servers(findings);
    }
    Some(draft)
}

/// Checks that outer packets to some real server can come from a network.
/// Servers may also come later, so that a service without any may have one.
fn check_outer_family(
    network: &Spanned<IpNet>,
    servers: &[(Spanned<IpAddr>, ServerOptions)],
    findings: &mut Findings<'_>,
) {
    let is_ipv6 = network.get_ref().addr().is_ipv6();
    let mut rips = servers.iter().map(|(rip, _)| rip.get_ref());
    if !servers.is_empty() && rips.all(|rip| rip.is_ipv6() != is_ipv6) {
        let (family, other) = if is_ipv6 {
            ("IPv6", "IPv4")
        } else {
            ("IPv4", "IPv6")
        };
        findings.refuse(
            network.span(),
            Problem::OuterSourceOfOtherFamily { family, other },
        );
    }
}

/// `address` and `protocol`.
fn read_address(
    table: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Spanned<ServiceKey>> {
    if let Some(span) = table.value_span("ipv6") {
        findings.refuse(span, Problem::Ipv6WithoutMark);
    }
    let address = table.parsed("address", parse_service_address, findings);
    let address = table.require("address", address, findings);
    let protocols = [
        ("tcp", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("sctp", Protocol::Sctp),
    ];
    let protocol = table.choice("protocol", &protocols, findings);
    if protocol.is_none() && table.has("protocol") {
        return None;
    }
    let protocol = protocol.map_or(Protocol::Tcp, Spanned::into_inner);
    let address = address?;
    let (network, l4_port) = *address.get_ref();
    let key = if network.prefix_len() == network.max_prefix_len() {
        ServiceKey::at(protocol, SocketAddr::new(network.addr(), l4_port))
    } else {
        ServiceKey::Network {
            protocol,
            network,
            l4_port,
        }
    };
    Some(Spanned::new(address.span(), key))
}

/// `fwmark` and `ipv6`.
fn read_mark(
    table: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Spanned<ServiceKey>> {
    for name in ["address", "protocol"] {
        if let Some(span) = table.value_span(name) {
            findings.refuse(span, Problem::MarkAndAddress(name));
        }
    }
    let ipv6 = table.switch("ipv6", findings).unwrap_or_default();
    let fwmark = table.number("fwmark", 1..=u32::MAX, "", findings)?;
    let (span, fwmark) = (fwmark.span(), fwmark.into_inner());
    Some(Spanned::new(span, ServiceKey::Mark { fwmark, ipv6 }))
}

/// `persistence_s` and `persistence_prefix_len`.
fn read_persistence(
    table: &TableReader<'_, '_>,
    is_ipv6: bool,
    findings: &mut Findings<'_>,
) -> Option<Persistence> {
    let seconds = " seconds (31 days)";
    let timeout = table.number("persistence_s", 1..=PERSISTENCE_S_MAX, seconds, findings);
    let len_max: u8 = if is_ipv6 { 128 } else { 32 };
    let len = table.number("persistence_prefix_len", 1..=len_max, "", findings);
    if !table.has("persistence_s")
        && let Some(span) = table.value_span("persistence_prefix_len")
    {
        findings.refuse(span, Problem::PrefixLenWithoutPersistence);
    }
    let mask = match len.map(Spanned::into_inner) {
        None => ClientMask::host(is_ipv6),
        Some(len) if is_ipv6 => ClientMask::PrefixLen(len),
        Some(len) => ClientMask::Netmask(Ipv4Addr::from_bits(u32::MAX << (32 - len))),
    };
    Some(Persistence {
        timeout_s: timeout?.into_inner(),
        mask,
    })
}

/// `scheduler_flags`, with the names of `ipvsadm -b`.
fn read_flags(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> SchedulerFlags {
    let flag = |value: &toml::de::DeValue<'_>| SchedulerFlags::default().with(value.as_str()?);
    let expected = "\"sh-fallback\", \"sh-port\", \"mh-fallback\" or \"mh-port\"";
    let flags = table.list("scheduler_flags", expected, flag, findings);
    let flags = flags.map(Spanned::into_inner).unwrap_or_default();
    flags
        .iter()
        .fold(SchedulerFlags::default(), |set, flag| SchedulerFlags {
            fallback: set.fallback || flag.get_ref().fallback,
            port: set.port || flag.get_ref().port,
        })
}

fn read_servers(
    service: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Vec<(Spanned<IpAddr>, ServerOptions)> {
    let mut seen: HashMap<IpAddr, Span> = HashMap::new();
    let mut servers = Vec::new();
    for table in service.tables("real_server", &REAL_SERVER, findings) {
        let address = table.parsed("address", parse_real_server, findings);
        let address = table.require("address", address, findings);
        let options = read_server_options(&table, findings);
        let Some(address) = address else { continue };
        if let Some(first) = seen.get(address.get_ref()) {
            let line = findings.line(first);
            let problem = Problem::RealServerTwice {
                address: *address.get_ref(),
                line,
            };
            findings.refuse(address.span(), problem);
        } else {
            seen.insert(*address.get_ref(), address.span());
        }
        servers.push((address, options));
    }
    servers
}

fn read_server_options(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> ServerOptions {
    let mut options = ServerOptions {
        tunnel: read_tunnel(table, findings),
        ..ServerOptions::default()
    };
    if let Some(weight) = table.number("weight", 0..=WEIGHT_MAX, "", findings) {
        options.weight = weight.into_inner();
    }
    let upper = table.number("upper_threshold", 0..=u32::MAX, CONNECTIONS, findings);
    let lower = table.number("lower_threshold", 0..=u32::MAX, CONNECTIONS, findings);
    let upper_is_wrong = upper.is_none() && table.has("upper_threshold");
    options.upper_threshold = upper.map_or(0, Spanned::into_inner);
    if let Some(lower) = lower {
        let (span, lower) = (lower.span(), lower.into_inner());
        options.lower_threshold = lower;
        if upper_is_wrong {
            return options;
        }
        match options.upper_threshold {
            0 if lower > 0 => findings.refuse(span, Problem::LowerThresholdAlone(lower)),
            upper if lower > upper => {
                findings.refuse(span, Problem::ThresholdsCrossed { lower, upper });
            }
            _ => {}
        }
    }
    options
}

/// `tunnel`, `tunnel_port`, `tunnel_checksum` and `tunnel_remote_checksum`.
fn read_tunnel(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> TunnelKind {
    let kinds = [
        ("ipip", TunnelKind::Ipip),
        ("gue", GUE_DEFAULT),
        ("gre", TunnelKind::Gre { checksum: false }),
    ];
    let kind = table.choice("tunnel", &kinds, findings);
    let kind_is_wrong = kind.is_none() && table.has("tunnel");
    let kind = kind.map(Spanned::into_inner).unwrap_or_default();
    let port = table.number("tunnel_port", 1..=u16::MAX, "", findings);
    let checksum = table.switch("tunnel_checksum", findings);
    let remote = table.switch("tunnel_remote_checksum", findings);
    if remote == Some(true)
        && checksum == Some(false)
        && let Some(span) = table.value_span("tunnel_checksum")
    {
        findings.refuse(span, Problem::RemoteChecksumAlone);
    }

    let mut refuse = |key, tunnels| {
        if let Some(span) = table.value_span(key).filter(|_| !kind_is_wrong) {
            findings.refuse(span, Problem::OtherTunnel { key, tunnels });
        }
    };
    if !matches!(kind, TunnelKind::Gue { .. }) {
        refuse("tunnel_port", "`tunnel = \"gue\"`");
        refuse("tunnel_remote_checksum", "`tunnel = \"gue\"`");
    }
    if kind == TunnelKind::Ipip {
        refuse("tunnel_checksum", "`tunnel = \"gue\"` and `\"gre\"`");
    }
    let checksum = checksum.unwrap_or(false);
    match kind {
        TunnelKind::Ipip => TunnelKind::Ipip,
        TunnelKind::Gre { .. } => TunnelKind::Gre { checksum },
        TunnelKind::Gue { l4_port, .. } => TunnelKind::Gue {
            l4_port: port.map_or(l4_port, Spanned::into_inner),
            checksum: match remote {
                Some(true) => GueChecksum::Remote,
                _ if checksum => GueChecksum::Outer,
                _ => GueChecksum::None,
            },
        },
    }
}

const GUE_DEFAULT: TunnelKind = TunnelKind::Gue {
    l4_port: GUE_L4_PORT,
    checksum: GueChecksum::None,
};
const CONNECTIONS: &str = " connections";
