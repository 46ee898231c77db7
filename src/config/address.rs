//! Reading addresses and networks of both IP versions.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::error::Problem;
use crate::{service::outer_source_lengths, wire::unicast};

/// The address of a host that packets can come from or go to across routers;
/// `example` stands in messages, in quotes.
pub(super) fn parse_address(
    text: &str,
    role: &'static str,
    example: &'static str,
) -> Result<IpAddr, Problem> {
    check_beyond_link(parse_link_address(text, role, example)?, role)
}

/// The address of a host on a port's link, which may be link-local.
pub(super) fn parse_link_address(
    text: &str,
    role: &'static str,
    example: &'static str,
) -> Result<IpAddr, Problem> {
    match text.parse() {
        Ok(address) => check_unicast(address, role),
        Err(_) => Err(Problem::NotAnAddress {
            value: text.to_owned(),
            example,
        }),
    }
}

/// The address of a real server, which has no port.
pub(super) fn parse_real_server(text: &str) -> Result<IpAddr, Problem> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Err(Problem::RealServerWithPort(address.ip()));
    }
    parse_address(text, "a real server", "\"10.0.0.11\"")
}

/// VIP, or a network of them, and service port.
pub(super) fn parse_service_address(text: &str) -> Result<(IpNet, u16), Problem> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        check_host(address.ip(), "a VIP")?;
        return Ok((IpNet::from(address.ip()), address.port()));
    }
    if let Some((network, port)) = text.rsplit_once(':')
        && let Ok(port) = port.parse()
        && network.contains('/')
    {
        let brackets: &[char] = &['[', ']'];
        return Ok((parse_vips(network.trim_matches(brackets))?, port));
    }
    let brackets: &[char] = &['[', ']'];
    Err(match text.trim_matches(brackets).parse() {
        Ok(address) => Problem::NoServicePort(address),
        Err(_) => Problem::NotAServiceAddress(text.to_owned()),
    })
}

/// A VIP, or a network of them.
pub(super) fn parse_vips(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        check_host(address, "a VIP")?;
        return Ok(IpNet::from(address));
    }
    let network = parse_network(text, (32, 128), "\"198.51.100.0/24\"")?;
    if network.trunc() != network {
        return Err(Problem::HostBits(network));
    }
    if network.prefix_len() == 0 {
        return Err(Problem::AllVips(network));
    }
    check_host(network.addr(), "a VIP")?;
    Ok(network)
}

/// A network that outer packets come from.
pub(super) fn parse_outer_source(text: &str) -> Result<IpNet, Problem> {
    let network = parse_network(text, (24, 120), "\"10.9.0.0/24\"")?;
    if network.trunc() != network {
        return Err(Problem::HostBits(network));
    }
    let lengths = outer_source_lengths(network.addr().is_ipv6());
    if !lengths.contains(&network.prefix_len()) {
        let (min, max) = lengths.into_inner();
        return Err(Problem::OuterSourceLength { network, min, max });
    }
    check_host(network.addr(), "an outer source")?;
    Ok(network)
}

/// An own address with the length of its network.
pub(super) fn parse_interface(text: &str) -> Result<IpNet, Problem> {
    let network = parse_network(text, (24, 64), "\"192.0.2.1/24\"")?;
    check_unicast(network.addr(), "a port's address")?;
    if network.prefix_len() == 0 {
        return Err(Problem::EverythingConnected(network));
    }
    if let Some(kind) = reserved_kind(network, network.addr()) {
        let (address, role) = (network.addr(), "a port's address");
        return Err(Problem::NotAHost {
            address,
            kind,
            network: network.trunc(),
            role,
        });
    }
    Ok(network)
}

/// The destination of a route. "default" is of the IP version that the rest of
/// the route `is_ipv6` of.
pub(super) fn parse_destination(text: &str, is_ipv6: bool) -> Result<IpNet, Problem> {
    match (text, is_ipv6) {
        ("default", false) => return Ok(Ipv4Net::default().into()),
        ("default", true) => return Ok(Ipv6Net::default().into()),
        _ => {}
    }
    let network = parse_network(text, (32, 128), "\"10.1.0.0/16\" or \"default\"")?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(Problem::HostBits(network))
    }
}

/// `lengths` are likely prefix lengths of IPv4 and IPv6 networks.
fn parse_network(text: &str, lengths: (u8, u8), example: &'static str) -> Result<IpNet, Problem> {
    if let Ok(network) = text.parse() {
        return Ok(network);
    }
    Err(match text.parse() {
        Ok(value) => Problem::NoPrefixLength {
            value,
            length: match value {
                IpAddr::V4(_) => lengths.0,
                IpAddr::V6(_) => lengths.1,
            },
        },
        Err(_) => Problem::NotANetwork {
            value: text.to_owned(),
            example,
        },
    })
}

/// Refuses what no single host can have.
fn check_unicast(address: IpAddr, role: &'static str) -> Result<IpAddr, Problem> {
    match unicast::reserved(address) {
        None => Ok(address),
        Some(kind) => Err(Problem::NotUnicast {
            address,
            kind,
            role,
        }),
    }
}

/// Whether an address means something on one link only.
pub(super) const fn is_link_local(address: IpAddr) -> bool {
    match address {
        // 169.254/16 is routed by Linux like any other network.
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Refuses what is no host's address beyond a link.
pub(super) fn check_host(address: IpAddr, role: &'static str) -> Result<IpAddr, Problem> {
    check_beyond_link(check_unicast(address, role)?, role)
}

fn check_beyond_link(address: IpAddr, role: &'static str) -> Result<IpAddr, Problem> {
    if is_link_local(address) {
        Err(Problem::LinkLocal { address, role })
    } else {
        Ok(address)
    }
}

/// What `address` is in `network` that a host there cannot be. Networks of one
/// and two addresses have hosts only (RFC 3021, RFC 6164).
pub(super) fn reserved_kind(network: IpNet, address: IpAddr) -> Option<&'static str> {
    if network.max_prefix_len() - network.prefix_len() <= 1 {
        return None;
    }
    match network {
        IpNet::V4(_) if address == network.network() => Some("network"),
        IpNet::V4(_) if address == network.broadcast() => Some("broadcast"),
        // RFC 4291 section 2.6.1
        IpNet::V6(_) if address == network.network() => Some("subnet-router anycast"),
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}
