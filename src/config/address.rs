//! Reading addresses and networks.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use ipnet::{Ipv4Net, Ipv6Net};

use super::error::Problem;

/// The address of a host; `example` stands in messages, in quotes.
pub(super) fn parse_address(
    text: &str,
    role: &'static str,
    example: &'static str,
) -> Result<Ipv4Addr, Problem> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => check_unicast(address, role),
        Ok(IpAddr::V6(_)) => Err(Problem::Ipv6(text.to_owned())),
        Err(_) if is_ipv6_like(text) => Err(Problem::Ipv6(text.to_owned())),
        Err(_) => Err(Problem::NotAnAddress {
            value: text.to_owned(),
            example,
        }),
    }
}

/// The address of a real server, which has no port.
pub(super) fn parse_real_server(text: &str) -> Result<Ipv4Addr, Problem> {
    if let Ok(SocketAddr::V4(address)) = text.parse() {
        return Err(Problem::RealServerWithPort(*address.ip()));
    }
    parse_address(text, "a real server", "\"10.0.0.11\"")
}

/// VIP and service port.
pub(super) fn parse_service_address(text: &str) -> Result<SocketAddrV4, Problem> {
    match text.parse() {
        Ok(SocketAddr::V4(address)) if address.port() == 0 => Err(Problem::ServicePortZero),
        Ok(SocketAddr::V4(address)) => {
            check_unicast(*address.ip(), "a VIP")?;
            Ok(address)
        }
        Ok(SocketAddr::V6(_)) => Err(Problem::Ipv6(text.to_owned())),
        Err(_) => Err(match text.parse() {
            Ok(IpAddr::V4(address)) => Problem::NoServicePort(address),
            Ok(IpAddr::V6(_)) => Problem::Ipv6(text.to_owned()),
            Err(_) => Problem::NotAServiceAddress(text.to_owned()),
        }),
    }
}

/// An own address with the length of its network.
pub(super) fn parse_interface(text: &str) -> Result<Ipv4Net, Problem> {
    let network = parse_network(text, 24, "\"192.0.2.1/24\"")?;
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

/// The destination of a route.
pub(super) fn parse_destination(text: &str) -> Result<Ipv4Net, Problem> {
    if text == "default" {
        return Ok(Ipv4Net::default());
    }
    let network = parse_network(text, 32, "\"10.1.0.0/16\" or \"default\"")?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(Problem::HostBits(network))
    }
}

fn parse_network(text: &str, length: u8, example: &'static str) -> Result<Ipv4Net, Problem> {
    if let Ok(network) = text.parse() {
        return Ok(network);
    }
    Err(match text.parse() {
        Ok(IpAddr::V4(value)) => Problem::NoPrefixLength { value, length },
        Ok(IpAddr::V6(_)) => Problem::Ipv6(text.to_owned()),
        Err(_) if is_ipv6_like(text) => Problem::Ipv6(text.to_owned()),
        Err(_) => Problem::NotANetwork {
            value: text.to_owned(),
            example,
        },
    })
}

/// Refuses what no single host can have.
pub(super) fn check_unicast(address: Ipv4Addr, role: &'static str) -> Result<Ipv4Addr, Problem> {
    let kind = match address.octets() {
        [0, ..] => "an address of 0.0.0.0/8",
        [127, ..] => "a loopback address",
        [224..=239, ..] => "a multicast address",
        [255, 255, 255, 255] => "the broadcast address",
        [240..=255, ..] => "a reserved address",
        _ => return Ok(address),
    };
    Err(Problem::NotUnicast {
        address,
        kind,
        role,
    })
}

/// What `address` is in `network` that a host there cannot be. Networks of one
/// and two addresses have hosts only (RFC 3021).
pub(super) fn reserved_kind(network: Ipv4Net, address: Ipv4Addr) -> Option<&'static str> {
    if network.prefix_len() >= 31 {
        None
    } else if address == network.network() {
        Some("network")
    } else if address == network.broadcast() {
        Some("broadcast")
    } else {
        None
    }
}

fn is_ipv6_like(text: &str) -> bool {
    text.parse::<Ipv6Net>().is_ok()
        || text.parse::<Ipv6Addr>().is_ok()
        || text.parse::<std::net::SocketAddrV6>().is_ok()
}
