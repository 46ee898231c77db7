//! What makes a virtual service unique: which packets are for it.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
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
}
