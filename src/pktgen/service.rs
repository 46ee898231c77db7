//! The virtual services that traffic goes to.
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use super::address::AddressRange;
use crate::wire::{IpVersion, checksum::Sum};

/// Services that a run can have: each takes 32 bytes, and traffic goes round
/// all of them.
pub const SERVICES_MAX: usize = 1 << 20;

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// What `--service` says: VIPs, and service ports at each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    vips: AddressRange,
    l4_ports: RangeInclusive<u16>,
    transport: Transport,
}

/// The text does not name services.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" does not name services; write VIP:PORT like 198.51.100.10:80, with a range like \
     198.51.100.0/24:8000-8255, [2001:db8::10]:80 for IPv6, and /udp at the end for UDP"
)]
pub struct InvalidService(pub String);

impl ServiceRange {
    /// How many services these are.
    pub(super) fn len(&self) -> u64 {
        let l4_ports = u64::from(self.l4_ports.end() - self.l4_ports.start()) + 1;
        self.vips.len().saturating_mul(l4_ports)
    }

    /// All of them, by VIP and then by port.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> + '_ {
        let vips = (0..self.vips.len()).map_while(|place| self.vips.nth(place));
        vips.flat_map(move |vip| {
            let service = move |l4_port| Service::new(vip, l4_port, self.transport);
            self.l4_ports.clone().map(service)
        })
    }
}

impl FromStr for ServiceRange {
    type Err = InvalidService;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidService(text.to_owned());
        let (rest, transport) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Transport::Tcp),
            Some((rest, "udp")) => (rest, Transport::Udp),
            _ => (text, Transport::Tcp),
        };
        let (vips, l4_ports) = rest.rsplit_once(':').ok_or_else(invalid)?;
        let inner = vips
            .strip_prefix('[')
            .and_then(|vips| vips.strip_suffix(']'));
        let vips: AddressRange = inner.unwrap_or(vips).parse().map_err(|_| invalid())?;
        if (vips.version() == IpVersion::V6) != inner.is_some() {
            return Err(invalid());
        }
        let (first, last) = l4_ports.split_once('-').unwrap_or((l4_ports, l4_ports));
        let first: u16 = first.parse().map_err(|_| invalid())?;
        let last: u16 = last.parse().map_err(|_| invalid())?;
        if first == 0 || first > last {
            return Err(invalid());
        }
        Ok(Self {
            vips,
            l4_ports: first..=last,
            transport,
        })
    }
}

/// A virtual service, as packets to it need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The VIP; of IPv4 the last four bytes, and zeros.
    vip: [u8; 16],
    /// What its words add to a checksum.
    vip_sum: u32,
    /// The service port.
    pub l4_port: u16,
    /// IP version of the VIP.
    pub version: IpVersion,
    /// Transport protocol.
    pub transport: Transport,
}

impl Service {
    /// The service at this address.
    pub fn new(vip: IpAddr, l4_port: u16, transport: Transport) -> Self {
        let bytes = match vip {
            IpAddr::V4(vip) => u128::from(vip.to_bits()).to_be_bytes(),
            IpAddr::V6(vip) => vip.octets(),
        };
        Self {
            vip: bytes,
            vip_sum: u32::from(!Sum::of(&bytes).checksum()),
            l4_port,
            version: IpVersion::of(vip),
            transport,
        }
    }

    /// The bytes of an IPv6 VIP.
    #[inline]
    pub(super) const fn vip_v6(&self) -> &[u8; 16] {
        &self.vip
    }

    /// The bytes of an IPv4 VIP.
    #[inline]
    pub(super) const fn vip_v4(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.vip;
        [a, b, c, d]
    }

    /// What the words of the VIP add to a checksum.
    #[inline]
    pub(super) const fn vip_sum(&self) -> u32 {
        self.vip_sum
    }

    /// VIP and service port.
    pub fn address(&self) -> SocketAddr {
        let vip: IpAddr = match self.version {
            IpVersion::V4 => self.vip_v4().into(),
            IpVersion::V6 => self.vip.into(),
        };
        (vip, self.l4_port).into()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{}/{transport}", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(text: &str) -> Vec<String> {
        let range: ServiceRange = text.parse().unwrap();
        let services: Vec<_> = range
            .services()
            .map(|service| service.to_string())
            .collect();
        assert_eq!(range.len(), services.len() as u64);
        services
    }

    #[test]
    fn services_are_read() {
        assert_eq!(services("198.51.100.10:80"), ["198.51.100.10:80/tcp"]);
        assert_eq!(services("[2001:db8::10]:53/udp"), ["[2001:db8::10]:53/udp"]);
        assert_eq!(
            services("198.51.100.10-198.51.100.11:80-81/tcp"),
            [
                "198.51.100.10:80/tcp",
                "198.51.100.10:81/tcp",
                "198.51.100.11:80/tcp",
                "198.51.100.11:81/tcp",
            ]
        );
        assert_eq!(services("198.51.100.0/24:80-335/udp").len(), 65_536);
        assert_eq!(services("[2001:db8::/127]:80").len(), 2);
    }

    #[test]
    fn text_that_names_no_service_is_refused() {
        for text in [
            "",
            "198.51.100.10",
            "198.51.100.10:0",
            "198.51.100.10:65536",
            "198.51.100.10:81-80",
            "198.51.100.10:80/sctp",
            "2001:db8::10:80",
            "[198.51.100.10]:80",
            "name:80",
        ] {
            assert_eq!(
                text.parse::<ServiceRange>(),
                Err(InvalidService(text.to_owned()))
            );
        }
    }

    #[test]
    fn the_bytes_of_a_vip_are_those_of_the_wire() {
        let service = Service::new("198.51.100.10".parse().unwrap(), 80, Transport::Tcp);
        assert_eq!(service.vip_v4(), [198, 51, 100, 10]);
        assert_eq!(service.vip_sum(), 0xc633 + 0x640a - 0xffff);
    }
}
