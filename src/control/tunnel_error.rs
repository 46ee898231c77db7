//! ICMP errors about the director's own outer packets: they teach the path MTU
//! to a real server, and clients are told.
//!
//! Linux IPVS does so where both IP versions are 4. With IPv6 on either side
//! the client is told what RFC 2473 section 8 has the entrance of a tunnel say.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Management,
    network::NextHop,
    punted::{ip_bytes, is_ipv6},
    touched::Stale,
    tunnel_quote::{Trouble, TunnelError},
};
use crate::{
    clock::Ticks,
    forwarding::{RealServerIndex, ServiceAddress},
    io::{Driver, PortIndex},
    pipeline::{Punted, is_martian},
    service::{Protocol, TunnelKind},
    wire::{
        IpProtocol, IpVersion,
        icmp::{self, IcmpCause},
        icmpv6::{self, Icmpv6Cause},
        ipv4::Ipv4Header,
        ipv6::{self, Ipv6Header},
    },
};

/// Whether so much of a client's packet is quoted that the client knows it
/// again, and may be told.
fn is_relayed(inner: &[u8]) -> bool {
    if is_ipv6(inner) {
        let quoted = Ipv6Header::parse_quoted(inner);
        quoted.is_ok_and(|(_, payload)| payload.len() >= QUOTED_PAYLOAD_MIN)
            && icmpv6::may_trigger_error(inner, Icmpv6Cause::ADDRESS_UNREACHABLE)
    } else {
        let quoted = Ipv4Header::parse_quoted(inner);
        quoted.is_ok_and(|(_, payload)| payload.len() >= QUOTED_PAYLOAD_MIN)
            && icmp::may_trigger_error(inner)
    }
}

/// What a client over IPv4 is told.
const fn icmp_cause(trouble: Trouble) -> IcmpCause {
    match trouble {
        Trouble::TooBig(mtu) => IcmpCause::fragmentation_needed(mtu),
        Trouble::Icmp(cause) => cause,
        Trouble::Icmpv6 => IcmpCause::HOST_UNREACHABLE,
    }
}

/// What a client over IPv6 is told. No less than 1280 bytes: RFC 8201 has it
/// ignore less, and what is longer than the tunnel takes is fragmented then.
fn icmpv6_cause(trouble: Trouble) -> Icmpv6Cause {
    match trouble {
        Trouble::TooBig(mtu) => Icmpv6Cause::packet_too_big(u32::from(mtu.max(ipv6::MTU_MIN))),
        Trouble::Icmp(_) | Trouble::Icmpv6 => Icmpv6Cause::ADDRESS_UNREACHABLE,
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
        let rip = error.outer_destination;
        let Some(OwnTunnel {
            path_mtu,
            kind,
            inner,
        }) = self.own_tunnel(&error)
        else {
            return self.host.tunnel_error_foreign.add(1);
        };
        let mut trouble = error.trouble;
        if let Trouble::TooBig(told) = trouble {
            let learned = self.network.path_mtus.learn(rip, told, path_mtu, now);
            if let Some(mtu) = learned {
                self.stale = Stale::Everything;
                self.host.path_mtu_learned.add(1);
                if self.log_limit.take(now) {
                    let reporter = error.reporter;
                    log::info!("path MTU to real server {rip} is {mtu}, says {reporter}");
                }
            }
            let path_mtu = learned.unwrap_or(path_mtu);
            trouble = Trouble::TooBig(kind.inner_len_max(IpVersion::of(rip), path_mtu));
        }
        if is_relayed(inner) && self.is_from_client(inner) {
            // Linux IPVS counts what it relays twice: as much of the client's
            // packet as is quoted, and the error that it sends.
            let server = self.server_behind(rip, inner);
            self.count_sent(server, inner.len());
            let sent = self.tell_client(punted.port, inner, trouble, now);
            self.count_sent(server, sent);
        } else {
            self.host.tunnel_error_not_relayed.add(1);
        }
    }

    /// The real server at `rip` that a client's packet went to.
    fn server_behind(&self, rip: IpAddr, packet: &[u8]) -> Option<RealServerIndex> {
        let (protocol, payload) = protocol_of(packet)?;
        let (_, vip) = ends_of(packet)?;
        let [_, _, high, low] = *payload.first_chunk()?;
        let (_, service) = self.state.services.find(&ServiceAddress {
            vip,
            l4_port: u16::from_be_bytes([high, low]),
            protocol: Protocol::from_number(protocol.0)?,
        })?;
        let mut servers = service.servers.iter().map(|link| link.server);
        servers.find(|&index| {
            let server = self.services.server(index);
            server.is_some_and(|server| server.key.address == rip)
        })
    }

    fn tell_client(
        &mut self,
        port: PortIndex,
        inner: &[u8],
        trouble: Trouble,
        now: Ticks,
    ) -> usize {
        if is_ipv6(inner) {
            self.send_error_ipv6(port, inner, icmpv6_cause(trouble), now)
        } else {
            self.send_error(inner, icmp_cause(trouble), now)
        }
    }

    /// The tunnel that an error is about; `None` when the director cannot have
    /// sent what it quotes.
    fn own_tunnel<'a>(&self, error: &TunnelError<'a>) -> Option<OwnTunnel<'a>> {
        let rip = error.outer_destination;
        let is_ours = error.outer_source == error.destination
            && !is_martian(error.reporter)
            && !self.is_own(error.reporter)
            && error.is_plausible;
        if !is_ours {
            return None;
        }
        let NextHop::Neighbor {
            source: usual,
            mtu: path_mtu,
            ..
        } = self.network.next_hop(rip)
        else {
            return None;
        };
        let comes_from = |source: &Option<IpNet>| match source {
            Some(network) => network.contains(&error.outer_source),
            None => usual == error.outer_source,
        };
        let tunnels = self.network.path_mtus.tunnels(rip).iter();
        let (kind, inner) = tunnels
            .filter(|tunnel| comes_from(&tunnel.source))
            .find_map(|tunnel| Some((tunnel.kind, error.inner(tunnel.kind)?)))?;
        Some(OwnTunnel {
            path_mtu,
            kind,
            inner,
        })
    }

    /// Whether a packet went from elsewhere to a VIP.
    fn is_from_client(&self, packet: &[u8]) -> bool {
        ends_of(packet).is_some_and(|(source, destination)| {
            self.services.vips().has(destination) && !is_martian(source) && !self.is_own(source)
        })
    }

    /// Forgets learned path MTUs that are too old.
    pub(super) fn expire_path_mtus(&mut self, now: Ticks) {
        for rip in self.network.path_mtus.expire(now) {
            self.stale = Stale::Everything;
            if self.log_limit.take(now) {
                log::info!("path MTU to real server {rip} is that of its route again");
            }
        }
    }
}

/// Source and destination of a quoted packet.
fn ends_of(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if is_ipv6(packet) {
        let (ip, _) = Ipv6Header::parse_quoted(packet).ok()?;
        Some((ip.source().into(), ip.destination().into()))
    } else {
        let (ip, _) = Ipv4Header::parse_quoted(packet).ok()?;
        Some((ip.source().into(), ip.destination().into()))
    }
}

/// What a quoted packet carries, and as much of it as is quoted; `None` for a
/// later fragment.
fn protocol_of(packet: &[u8]) -> Option<(IpProtocol, &[u8])> {
    if is_ipv6(packet) {
        let (ip, payload) = Ipv6Header::parse_quoted(packet).ok()?;
        Some((ip.next_header(), payload))
    } else {
        let (ip, payload) = Ipv4Header::parse_quoted(packet).ok()?;
        (ip.fragment_offset() == 0).then_some((ip.protocol(), payload))
    }
}

/// What a client needs of its packet: RFC 792 has it quoted.
const QUOTED_PAYLOAD_MIN: usize = icmp::HEADER_LEN;
