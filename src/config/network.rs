//! The connected networks of all ports: which port an address is reached by.
#![forbid(unsafe_code)]

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    address::{is_link_local, reserved_kind},
    error::Problem,
    port::{PortDraft, read_ports},
    reader::{Findings, Span, TableReader, or_list},
};

/// All ports with their networks.
#[derive(Debug)]
pub(super) struct Network {
    /// In file order; those that could not be read are not in it.
    pub(super) ports: Vec<PortDraft>,
    /// Whether all ports were read without a problem. Else what seems missing
    /// may only be misspelt, so nobody complains about it.
    pub(super) complete: bool,
}

impl Network {
    /// Reads all ports and checks that their networks are distinct.
    pub(super) fn read(file: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> Self {
        let before = findings.problem_count();
        let ports = read_ports(file, findings);
        let complete = findings.problem_count() == before;
        let network = Self { ports, complete };
        network.check_addresses(findings);
        network
    }

    /// Own addresses and where they stand.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = (IpAddr, Span)> {
        self.networks()
            .map(|(_, network)| (network.get_ref().addr(), network.span()))
    }

    /// The port of this name. A name that is not there is reported.
    pub(super) fn port_named(
        &self,
        name: &Spanned<&str>,
        findings: &mut Findings<'_>,
    ) -> Option<usize> {
        let found = self
            .ports
            .iter()
            .position(|port| port.name.get_ref() == name.get_ref());
        if found.is_none() && self.complete {
            let known = or_list(
                self.ports
                    .iter()
                    .map(|port| format!("\"{}\"", port.name.get_ref())),
            );
            let name_text = (*name.get_ref()).to_owned();
            findings.refuse(
                name.span(),
                Problem::NoSuchPort {
                    name: name_text,
                    known,
                },
            );
        }
        found
    }

    /// The connected network that `address` is in, with the index of its port;
    /// the longest when there are several.
    pub(super) fn connected(&self, address: IpAddr) -> Option<(usize, IpNet)> {
        self.networks()
            .map(|(port, network)| (port, network.get_ref().trunc()))
            .filter(|(_, network)| network.contains(&address) && !is_link_local(network.addr()))
            .max_by_key(|(_, network)| network.prefix_len())
    }

    /// The name of the port with this index.
    pub(super) fn port_name(&self, index: usize) -> String {
        self.ports
            .get(index)
            .map(|port| port.name.get_ref().clone())
            .unwrap_or_default()
    }

    /// The networks of one port, or of all, as a message lists them: those of
    /// the same IP version as `like`.
    pub(super) fn describe(&self, port: Option<usize>, like: IpAddr) -> String {
        let networks = self
            .networks()
            .filter(|(index, _)| port.is_none_or(|port| port == *index))
            .map(|(_, network)| network.get_ref().trunc())
            .filter(|network| network.addr().is_ipv6() == like.is_ipv6())
            .map(|network| network.to_string());
        or_list(networks)
    }

    /// Refuses the first and last address of a connected network.
    pub(super) fn check_host(
        &self,
        address: IpAddr,
        role: &'static str,
        span: Span,
        findings: &mut Findings<'_>,
    ) {
        if let Some((_, network)) = self.connected(address)
            && let Some(kind) = reserved_kind(network, address)
        {
            findings.refuse(
                span,
                Problem::NotAHost {
                    address,
                    kind,
                    network,
                    role,
                },
            );
        }
    }

    /// The first or last address of a connected network that is in `sources`:
    /// the network, what it is there, and the address.
    pub(super) fn reserved_in(&self, sources: IpNet) -> Option<(IpNet, &'static str, IpAddr)> {
        self.networks().find_map(|(_, network)| {
            let network = network.get_ref().trunc();
            let mut ends = [network.network(), network.broadcast()].into_iter();
            ends.find_map(|address| {
                let kind = reserved_kind(network, address)?;
                sources
                    .contains(&address)
                    .then_some((network, kind, address))
            })
        })
    }

    fn networks(&self) -> impl Iterator<Item = (usize, &Spanned<IpNet>)> {
        self.ports
            .iter()
            .enumerate()
            .flat_map(|(index, port)| port.addresses.iter().map(move |network| (index, network)))
    }

    fn check_addresses(&self, findings: &mut Findings<'_>) {
        let mut seen: HashMap<IpAddr, Span> = HashMap::new();
        for (port, network) in self.networks() {
            let address = network.get_ref().addr();
            // Every link has the same link-local network.
            if is_link_local(address) {
                continue;
            }
            if let Some(first) = seen.get(&address) {
                let line = findings.line(first);
                findings.refuse(network.span(), Problem::AddressTwice { address, line });
                continue;
            }
            seen.insert(address, network.span());
            if let Some((other_port, other)) = self.overlap_before(port, *network.get_ref()) {
                let network_text = network.get_ref().trunc();
                let problem = Problem::NetworksOverlap {
                    network: network_text,
                    other,
                    port: other_port,
                };
                findings.refuse(network.span(), problem);
            }
        }
    }

    /// A network of an earlier port that has addresses in common with this.
    fn overlap_before(&self, port: usize, network: IpNet) -> Option<(String, IpNet)> {
        self.ports.iter().take(port).find_map(|earlier| {
            let other = earlier
                .addresses
                .iter()
                .map(|other| other.get_ref().trunc())
                .find(|other| {
                    other.contains(&network.network()) || network.contains(&other.network())
                })?;
            Some((earlier.name.get_ref().clone(), other))
        })
    }
}
