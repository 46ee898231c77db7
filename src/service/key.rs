//! What makes a virtual service unique: which packets are for it.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// What makes a virtual service unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ServiceKey {
    /// One VIP.
    Vip {
        /// The transport protocol.
        protocol: Protocol,
        /// VIP and service port; port 0 stands for all ports.
        address: SocketAddr,
    },
    /// All addresses of a network.
    Network {
        /// The transport protocol.
        protocol: Protocol,
        /// The VIPs, without host bits.
        network: IpNet,
        /// The service port; 0 stands for all ports.
        l4_port: u16,
    },
    /// What a firewall mark is defined to stand for ([`MarkGroup`]).
    Mark {
        /// Its number, not 0.
        fwmark: u32,
        /// Whether it is for packets over IPv6.
        ipv6: bool,
    },
}

impl ServiceKey {
    /// A service on one VIP.
    pub const fn at(protocol: Protocol, address: SocketAddr) -> Self {
        Self::Vip { protocol, address }
    }

    /// The protocol that it is for; one by mark may be for several.
    pub const fn protocol(&self) -> Option<Protocol> {
        match *self {
            Self::Vip { protocol, .. } | Self::Network { protocol, .. } => Some(protocol),
            Self::Mark { .. } => None,
        }
    }

    /// Its service port; 0 when it takes several.
    pub const fn l4_port(&self) -> u16 {
        match *self {
            Self::Vip { address, .. } => address.port(),
            Self::Network { l4_port, .. } => l4_port,
            Self::Mark { .. } => 0,
        }
    }

    /// Whether its packets come over IPv6.
    pub const fn is_ipv6(&self) -> bool {
        match *self {
            Self::Vip { address, .. } => address.is_ipv6(),
            Self::Network { network, .. } => matches!(network, IpNet::V6(_)),
            Self::Mark { ipv6, .. } => ipv6,
        }
    }

    /// Its VIPs; `None` when a mark says which.
    pub fn vips(&self) -> Option<IpNet> {
        match *self {
            Self::Vip { address, .. } => Some(IpNet::from(address.ip())),
            Self::Network { network, .. } => Some(network),
            Self::Mark { .. } => None,
        }
    }

    /// The address that stands for the service where there is room for one
    /// only. Linux IPVS shows a mark as an address of its number.
    pub fn address(&self) -> IpAddr {
        match *self {
            Self::Vip { address, .. } => address.ip(),
            Self::Network { network, .. } => network.network(),
            Self::Mark {
                fwmark,
                ipv6: false,
            } => Ipv4Addr::from_bits(fwmark).into(),
            Self::Mark { fwmark, ipv6: true } => {
                Ipv6Addr::from_bits(u128::from(fwmark) << 96).into()
            }
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vip { protocol, address } => write!(f, "{protocol} {address}"),
            Self::Network {
                protocol,
                network: IpNet::V4(network),
                l4_port,
            } => write!(f, "{protocol} {network}:{l4_port}"),
            Self::Network {
                protocol,
                network: IpNet::V6(network),
                l4_port,
            } => write!(f, "{protocol} [{network}]:{l4_port}"),
            Self::Mark { fwmark, ipv6 } => {
                write!(f, "FWM {fwmark}{}", if *ipv6 { " IPv6" } else { "" })
            }
        }
    }
}

/// Why a text is no key of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceKeyError {
    /// Not a number above 0.
    #[error("\"{0}\" is no firewall mark; write fwmark/5 or fwmark6/5")]
    NotAMark(String),
    /// No such transport protocol.
    #[error("there is no protocol \"{0}\"; write tcp, udp or sctp")]
    NoSuchProtocol(String),
    /// Neither VIP and port nor network and port.
    #[error("\"{0}\" is not VIP:port; write 192.0.2.10:80 or udp/192.0.2.10:53")]
    NotAnAddress(String),
}

impl FromStr for ServiceKey {
    type Err = ServiceKeyError;

    /// `192.0.2.10:80` (TCP), `udp/192.0.2.10:53`, `tcp/192.0.2.0/28:80`,
    /// `fwmark/5` (IPv4), `fwmark6/5`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, address) = match text.split_once('/') {
            None => (Protocol::Tcp, text),
            Some(("tcp", address)) => (Protocol::Tcp, address),
            Some(("udp", address)) => (Protocol::Udp, address),
            Some(("sctp", address)) => (Protocol::Sctp, address),
            Some((family @ ("fwmark" | "fwmark6"), number)) => {
                let fwmark = number.parse().ok().filter(|number| *number > 0);
                return Ok(Self::Mark {
                    fwmark: fwmark.ok_or_else(|| ServiceKeyError::NotAMark(number.to_owned()))?,
                    ipv6: family == "fwmark6",
                });
            }
            Some((protocol, _)) => {
                return Err(ServiceKeyError::NoSuchProtocol(protocol.to_owned()));
            }
        };
        if let Some((network, l4_port)) = network_and_port(address) {
            return Ok(Self::Network {
                protocol,
                network,
                l4_port,
            });
        }
        let vip = address.parse();
        vip.map(|vip| Self::at(protocol, vip))
            .map_err(|_| ServiceKeyError::NotAnAddress(address.to_owned()))
    }
}

/// A network of VIPs with the service port: `192.0.2.0/28:80`.
fn network_and_port(text: &str) -> Option<(IpNet, u16)> {
    let (network, l4_port) = text.rsplit_once(':')?;
    let brackets: &[char] = &['[', ']'];
    let network: IpNet = network.trim_matches(brackets).parse().ok()?;
    Some((network.trunc(), l4_port.parse().ok()?))
}

/// Packets that get a firewall mark. Of several groups that a packet fits, the
/// last one gives the mark, as with rules that set marks one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkGroup {
    /// The mark, not 0.
    pub fwmark: u32,
    /// Destinations, which are VIPs by this while a service has the mark;
    /// without any, all addresses that the director has anyway.
    pub vips: Vec<IpNet>,
    /// Protocols; without any, all.
    pub protocols: Vec<Protocol>,
    /// Destination ports; without any, all.
    pub l4_ports: Vec<RangeInclusive<u16>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_ipvsadm_writes_them() {
        let vip = |address: &str| ServiceKey::at(Protocol::Tcp, address.parse().unwrap());
        let network = |network: &str| ServiceKey::Network {
            protocol: Protocol::Udp,
            network: network.parse().unwrap(),
            l4_port: 53,
        };
        let mark = |ipv6| ServiceKey::Mark { fwmark: 6, ipv6 };
        for (key, text, address) in [
            (vip("192.0.2.1:80"), "TCP 192.0.2.1:80", "192.0.2.1"),
            (vip("[2001:db8::1]:0"), "TCP [2001:db8::1]:0", "2001:db8::1"),
            (network("192.0.2.0/28"), "UDP 192.0.2.0/28:53", "192.0.2.0"),
            (
                network("2001:db8::/64"),
                "UDP [2001:db8::/64]:53",
                "2001:db8::",
            ),
            (mark(false), "FWM 6", "0.0.0.6"),
            (mark(true), "FWM 6 IPv6", "0:6::"),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(key.address(), address.parse::<IpAddr>().unwrap(), "{text}");
            let json = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<ServiceKey>(&json).unwrap(), key);
        }
        assert_eq!(
            serde_json::to_string(&mark(false)).unwrap(),
            r#"{"fwmark":6,"ipv6":false}"#
        );
    }

    #[test]
    fn a_service_is_written_with_or_without_its_protocol() {
        let parse = |text: &str| {
            text.parse::<ServiceKey>()
                .map(|key| key.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(parse("192.0.2.10:80").unwrap(), "TCP 192.0.2.10:80");
        assert_eq!(parse("udp/192.0.2.10:53").unwrap(), "UDP 192.0.2.10:53");
        assert_eq!(parse("tcp/192.0.2.0/28:80").unwrap(), "TCP 192.0.2.0/28:80");
        assert_eq!(
            parse("udp/[2001:db8::/64]:53").unwrap(),
            "UDP [2001:db8::/64]:53"
        );
        assert_eq!(parse("fwmark/5").unwrap(), "FWM 5");
        assert_eq!(parse("fwmark6/5").unwrap(), "FWM 5 IPv6");
        assert!(
            parse("fwmark/five")
                .unwrap_err()
                .contains("is no firewall mark")
        );
        assert_eq!(
            parse("tcp/[2001:db8::1]:80").unwrap(),
            "TCP [2001:db8::1]:80"
        );
        assert!(
            parse("dccp/192.0.2.10:80")
                .unwrap_err()
                .contains("write tcp, udp or sctp")
        );
        assert!(parse("192.0.2.10").unwrap_err().contains("is not VIP:port"));
    }
}
