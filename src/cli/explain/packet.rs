//! A packet of a flow, as a client would send it.

use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;

use crate::wire::{
    IpProtocol,
    checksum::Sum,
    ipv4::{self, Ipv4Fields},
    ipv6::{self, Ipv6Fields},
    tcp::{self, TcpFields, TcpFlags},
    udp::{self, UdpFields},
};

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// What a packet is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) transport: Transport,
    pub(super) client: SocketAddr,
    pub(super) service: SocketAddr,
    /// TCP's flags.
    pub(super) flags: TcpFlags,
    /// Length of the whole packet; headers alone when it is not said.
    pub(super) len: Option<u16>,
    pub(super) ttl: u8,
    /// DSCP and ECN.
    pub(super) tos: u8,
    pub(super) dont_fragment: bool,
}

/// Why there is no such packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DraftError {
    /// Addresses of two IP versions.
    #[error("client and service have addresses of different IP versions")]
    Versions,
    /// Less than the headers.
    #[error("a packet of {0} bytes has no room for its headers; write {1} or more")]
    TooShort(u16, u16),
}

impl Draft {
    /// The packet, with its checksums; what is behind the headers is zeros.
    pub(super) fn packet(&self) -> Result<Vec<u8>, DraftError> {
        let l4_header_len = match self.transport {
            Transport::Tcp => tcp::HEADER_LEN,
            Transport::Udp => udp::HEADER_LEN,
        };
        let l3_header_len = match self.client {
            SocketAddr::V4(_) => ipv4::HEADER_LEN,
            SocketAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let len_min = u16::try_from(l3_header_len + l4_header_len).unwrap_or(u16::MAX);
        let len = self.len.unwrap_or(len_min);
        let Some(payload_len) = len.checked_sub(len_min) else {
            return Err(DraftError::TooShort(len, len_min));
        };
        let payload = vec![0; usize::from(payload_len)];
        let l4_len = len - u16::try_from(l3_header_len).unwrap_or(0);
        let mut packet = match (self.client.ip(), self.service.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Fields {
                tos: self.tos,
                total_len: len,
                id: 0,
                dont_fragment: self.dont_fragment,
                more_fragments: false,
                fragment_offset: 0,
                ttl: self.ttl,
                protocol: self.protocol(),
                source,
                destination,
            }
            .to_bytes()
            .to_vec(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Fields {
                traffic_class: self.tos,
                flow_label: 0,
                payload_len: l4_len,
                next_header: self.protocol(),
                hop_limit: self.ttl,
                source,
                destination,
            }
            .to_bytes()
            .to_vec(),
            _ => return Err(DraftError::Versions),
        };
        let sum = self.pseudo_header(l4_len);
        packet.extend(self.l4_header(l4_len, sum, &payload));
        packet.extend(payload);
        Ok(packet)
    }

    const fn protocol(&self) -> IpProtocol {
        match self.transport {
            Transport::Tcp => IpProtocol::TCP,
            Transport::Udp => IpProtocol::UDP,
        }
    }

    fn pseudo_header(&self, l4_len: u16) -> Sum {
        match (self.client.ip(), self.service.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Sum::ipv4_pseudo_header(source, destination, self.protocol(), l4_len)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Sum::ipv6_pseudo_header(source, destination, self.protocol(), l4_len.into())
            }
            _ => Sum::ZERO,
        }
    }

    fn l4_header(&self, l4_len: u16, sum: Sum, payload: &[u8]) -> Vec<u8> {
        let (source_port, destination_port) = (self.client.port(), self.service.port());
        match self.transport {
            Transport::Tcp => TcpFields {
                source_port,
                destination_port,
                sequence: 0,
                acknowledgment: 0,
                flags: self.flags,
                window: u16::MAX,
            }
            // The header is of an even length, so that what follows it may be
            // added first.
            .to_bytes(sum.add_bytes(payload))
            .to_vec(),
            Transport::Udp => UdpFields {
                source_port,
                destination_port,
                len: l4_len,
            }
            .to_bytes_with_checksum(sum, payload)
            .to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;

    fn draft(transport: Transport, client: &str, service: &str, len: Option<u16>) -> Draft {
        Draft {
            transport,
            client: client.parse().unwrap(),
            service: service.parse().unwrap(),
            flags: TcpFlags::SYN,
            len,
            ttl: 9,
            tos: 0x28,
            dont_fragment: true,
        }
    }

    #[test]
    fn a_packet_is_what_another_parser_takes_it_for() {
        for (client, service) in [
            ("192.0.2.7:40000", "198.51.100.1:80"),
            ("[2001:db8::7]:40000", "[2001:db8:1::1]:80"),
        ] {
            for (transport, len) in [
                (Transport::Tcp, None),
                (Transport::Tcp, Some(1501)),
                (Transport::Udp, Some(77)),
            ] {
                let packet = draft(transport, client, service, len).packet().unwrap();
                let headers = PacketHeaders::from_ip_slice(&packet).unwrap();
                let payload = headers.payload.slice();
                let net = headers.net.unwrap();
                match headers.transport.unwrap() {
                    TransportHeader::Tcp(tcp) => {
                        assert_eq!((tcp.source_port, tcp.destination_port), (40000, 80));
                        assert!(tcp.syn && !tcp.ack && !tcp.fin && !tcp.rst);
                        let sum = match &net {
                            NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, payload),
                            NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload),
                            NetHeaders::Arp(_) => panic!("no ARP"),
                        };
                        assert_eq!(sum.unwrap(), tcp.checksum);
                    }
                    TransportHeader::Udp(udp) => {
                        assert_eq!((udp.source_port, udp.destination_port), (40000, 80));
                        let sum = match &net {
                            NetHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, payload),
                            NetHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, payload),
                            NetHeaders::Arp(_) => panic!("no ARP"),
                        };
                        assert_eq!(sum.unwrap(), udp.checksum);
                    }
                    other => panic!("{other:?}"),
                }
                if let NetHeaders::Ipv4(ip, _) = net {
                    assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
                    assert!(ip.dont_fragment && ip.time_to_live == 9);
                }
                assert!(len.is_none_or(|len| usize::from(len) == packet.len()));
            }
        }
    }

    #[test]
    fn what_cannot_be_a_packet_is_refused() {
        let mixed = draft(Transport::Tcp, "192.0.2.7:1", "[2001:db8::1]:80", None);
        assert_eq!(mixed.packet(), Err(DraftError::Versions));
        let short = draft(Transport::Udp, "192.0.2.7:1", "192.0.2.8:80", Some(27));
        assert_eq!(short.packet(), Err(DraftError::TooShort(27, 28)));
    }
}
