//! ICMP errors about the director's own outer packets: they teach the path MTU
//! to a real server, and clients are told.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use super::{Management, network::NextHop, punted::ip_bytes};
use crate::{
    clock::Ticks,
    io::Driver,
    pipeline::{Punted, is_martian},
    service::TunnelKind,
    wire::{
        IpProtocol,
        ethernet::EtherType,
        gre::GreHeader,
        gue::{GueError, GueHeader},
        icmp::{self, IcmpCause, IcmpHeader, IcmpType, may_trigger_error},
        ipv4::Ipv4Header,
        udp::UdpHeader,
    },
};

/// An intact ICMP error and what it quotes.
#[derive(Clone, Copy, Debug)]
struct TunnelError<'a> {
    /// Who sent it.
    reporter: Ipv4Addr,
    /// For whom it is.
    destination: Ipv4Addr,
    cause: IcmpCause,
    next_hop_mtu: u16,
    outer: Ipv4Header<'a>,
    /// As much of what the outer packet carried as is quoted.
    payload: &'a [u8],
}

impl<'a> TunnelError<'a> {
    /// `None` when the message is not intact.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let (ip, message) = Ipv4Header::parse(packet).ok()?;
        let (header, data) = IcmpHeader::validate(message).ok()?;
        let icmp_type = header.icmp_type();
        let (outer, payload) = Ipv4Header::parse_quoted(quote_of(icmp_type, message, data)).ok()?;
        Some(Self {
            reporter: ip.source(),
            destination: ip.destination(),
            cause: IcmpCause {
                icmp_type,
                code: header.code(),
                rest: 0,
            },
            next_hop_mtu: header.next_hop_mtu(),
            outer,
            payload,
        })
    }

    fn is_fragmentation_needed(&self) -> bool {
        (self.cause.icmp_type, self.cause.code) == (IcmpType::DESTINATION_UNREACHABLE, 4)
    }

    /// Whether the quoted packet could have led to this error.
    fn is_plausible(&self) -> bool {
        !self.is_fragmentation_needed()
            || (self.outer.dont_fragment() && self.next_hop_mtu < self.outer.total_len())
    }

    /// As much of what a tunnel of this kind carried as is quoted; `None` when
    /// the quoted packet did not come out of such a tunnel.
    fn inner(&self, tunnel: TunnelKind) -> Option<&'a [u8]> {
        let is_later_fragment = self.outer.fragment_offset() != 0;
        if self.outer.protocol() != tunnel.protocol() {
            return None;
        }
        match tunnel {
            // It begins in the middle of the inner packet.
            _ if is_later_fragment => Some(&[]),
            TunnelKind::Ipip => Some(self.payload),
            TunnelKind::Gre { checksum } => inner_of_gre(self.payload, checksum),
            TunnelKind::Gue { l4_port, checksum } => {
                inner_of_gue(self.payload, l4_port, checksum.is_outer_present())
            }
        }
    }
}

fn inner_of_gre(payload: &[u8], checksum: bool) -> Option<&[u8]> {
    let (header, inner) = GreHeader::parse(payload).ok()?;
    let is_ours = header.protocol() == EtherType::IPV4 && header.has_checksum() == checksum;
    is_ours.then_some(inner)
}

/// The UDP header is always quoted (RFC 792), what follows it not always.
fn inner_of_gue(payload: &[u8], l4_port: u16, checksum: bool) -> Option<&[u8]> {
    let (udp, rest) = UdpHeader::parse_quoted(payload).ok()?;
    if udp.destination_port() != l4_port || (udp.checksum() != 0) != checksum {
        return None;
    }
    match GueHeader::parse(rest) {
        Ok((header, inner)) => (header.protocol() == IpProtocol::IPIP).then_some(inner),
        Err(GueError::TooShort(_)) => Some(&[]),
        Err(GueError::Unknown { .. }) => None,
    }
}

/// Whether so much of a client's packet is quoted that the client knows it
/// again, and may be told.
fn is_relayed(inner: &[u8]) -> bool {
    let quoted = Ipv4Header::parse_quoted(inner);
    quoted.is_ok_and(|(_, payload)| payload.len() >= QUOTED_PAYLOAD_MIN) && may_trigger_error(inner)
}

/// The quoted packet without extensions: RFC 4884 has its length, where there
/// are any, in words of 32 bits.
fn quote_of<'a>(icmp_type: IcmpType, message: &[u8], data: &'a [u8]) -> &'a [u8] {
    let has_length = icmp_type != IcmpType::SOURCE_QUENCH;
    match message.get(5) {
        Some(&words) if has_length && words != 0 => {
            data.get(..usize::from(words) * 4).unwrap_or(data)
        }
        _ => data,
    }
}

/// The tunnel that an error is about.
struct OwnTunnel<'a> {
    /// What the path to its end was thought to carry.
    path_mtu: u16,
    kind: TunnelKind,
    /// As much of what it carried as is quoted.
    inner: &'a [u8],
}

impl<D: Driver> Management<D> {
    /// Learns from an ICMP error about an outer packet, and tells the client
    /// whose packet that carried.
    pub(super) fn take_tunnel_error(&mut self, punted: &Punted<D::Packet>, now: Ticks) {
        let Some(packet) = ip_bytes(punted) else {
            return;
        };
        let Some(error) = TunnelError::parse(packet) else {
            return self.host.tunnel_error_bad.add(1);
        };
        let rip = error.outer.destination();
        let Some(OwnTunnel {
            path_mtu,
            kind,
            inner,
        }) = self.own_tunnel(&error)
        else {
            return self.host.tunnel_error_foreign.add(1);
        };
        let mut cause = error.cause;
        if error.is_fragmentation_needed() {
            let learned =
                self.network
                    .path_mtus
                    .learn(rip.into(), error.next_hop_mtu, path_mtu, now);
            if let Some(mtu) = learned {
                self.dirty = true;
                self.host.path_mtu_learned.add(1);
                if self.log_limit.take(now) {
                    let reporter = error.reporter;
                    log::info!("path MTU to real server {rip} is {mtu}, says {reporter}");
                }
            }
            let path_mtu = learned.unwrap_or(path_mtu);
            cause = IcmpCause::fragmentation_needed(kind.inner_len_max(path_mtu));
        }
        if is_relayed(inner) && self.is_from_client(inner) {
            self.send_error(inner, cause, now);
        } else {
            self.host.tunnel_error_not_relayed.add(1);
        }
    }

    /// The tunnel that an error is about; `None` when the director cannot have
    /// sent what it quotes.
    fn own_tunnel<'a>(&self, error: &TunnelError<'a>) -> Option<OwnTunnel<'a>> {
        let rip = error.outer.destination();
        let is_ours = error.outer.source() == error.destination
            && !is_martian(error.reporter.into())
            && !self.is_own(error.reporter.into())
            && error.is_plausible();
        let kinds = self.network.path_mtus.tunnels(rip.into()).iter();
        let (kind, inner) = kinds
            .filter(|_| is_ours)
            .find_map(|&kind| Some((kind, error.inner(kind)?)))?;
        match self.network.next_hop(rip.into()) {
            NextHop::Neighbor {
                source,
                mtu: path_mtu,
                ..
            } if source == error.destination => Some(OwnTunnel {
                path_mtu,
                kind,
                inner,
            }),
            _ => None,
        }
    }

    /// Whether a packet went from elsewhere to a VIP.
    fn is_from_client(&self, packet: &[u8]) -> bool {
        Ipv4Header::parse_quoted(packet).is_ok_and(|(ip, _)| {
            self.services.has_vip(ip.destination().into())
                && !is_martian(ip.source().into())
                && !self.is_own(ip.source().into())
        })
    }

    /// Forgets learned path MTUs that are too old.
    pub(super) fn expire_path_mtus(&mut self, now: Ticks) {
        for rip in self.network.path_mtus.expire(now) {
            self.dirty = true;
            if self.log_limit.take(now) {
                log::info!("path MTU to real server {rip} is that of its route again");
            }
        }
    }
}

/// What a client needs of its packet: RFC 792 has it quoted.
const QUOTED_PAYLOAD_MIN: usize = icmp::HEADER_LEN;
