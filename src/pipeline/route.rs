//! Steps 4 to 9 of a packet on the long way: to which server it goes, whether it
//! gets there, and its outer header.

use std::net::Ipv4Addr;

use super::{
    Detour, DropReason, Exit, Outputs, Pipeline, PuntReason,
    parse::{self, Parsed, Payload},
    parse_ipv6,
    selection::Flow,
};
use crate::{
    connection::{CoarseTime, ConnectionKey},
    flow::FlowHash,
    forwarding::{Path, RealServerIndex},
    fragment::fragment_outer,
    io::{Driver, Packet},
    tunnel::{self, Fragmentation},
    wire::{IpVersion, checksum::Sum, ipv4_options, ipv6::Ipv6Header},
};

impl<D: Driver> Pipeline<D> {
    /// Steps 4 to 7: the tunnel that a packet takes, or its exit with the real
    /// server as far as one was found. The TTL is decremented on success, and
    /// where the sender is told that the packet is too long.
    #[inline]
    pub(super) fn route_packet(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        hash: FlowHash,
        now: CoarseTime,
    ) -> Result<Route, (Exit, Option<RealServerIndex>)> {
        let server = match parsed.payload {
            Payload::Flow(key, protocol, signal) => {
                if parsed.has_options {
                    receive_options(packet, parsed.inner, *key.service_address().ip())
                        .map_err(|exit| (exit, None))?;
                }
                let flow = Flow {
                    key,
                    hash,
                    protocol,
                    signal,
                };
                return self.route_flow(packet, parsed, &flow, now);
            }
            Payload::FlowV6 {
                l4_offset,
                protocol,
                signal,
            } => {
                let l3_offset = parsed.inner.l3_offset;
                let key = parse_ipv6::key(packet.bytes(), l3_offset, l4_offset, protocol);
                let key = key.ok_or((Exit::Drop(DropReason::TruncatedL4), None))?;
                let flow = Flow {
                    key,
                    hash,
                    protocol,
                    signal,
                };
                return self.route_flow(packet, parsed, &flow, now);
            }
            Payload::Icmp {
                message_offset,
                destination,
            } => {
                let end = usize::from(parsed.inner.l3_offset) + usize::from(parsed.inner.total_len);
                let message = packet.bytes().get(usize::from(message_offset)..end);
                let server = self.server_of_icmp(
                    message.unwrap_or_default(),
                    (destination, parsed.inner.total_len),
                    now,
                );
                let server = server.map_err(|exit| (exit, None))?;
                self.count_packet_of(server, parsed.inner.total_len);
                server
            }
            Payload::Icmpv6 { message_offset } => {
                let server = self.route_icmpv6(packet, parsed, message_offset, now);
                server.map_err(|exit| (exit, None))?
            }
            Payload::NeighborDiscovery => {
                return Err((Exit::Punt(PuntReason::NeighborDiscovery), None));
            }
            Payload::OtherV6 => {
                let destination = parse::destination(packet.bytes(), parsed.inner.l3_offset);
                let destination =
                    destination.ok_or((Exit::Drop(DropReason::BadIpv6Header), None))?;
                return Err((self.to_host(destination), None));
            }
            Payload::Fragment => return Err((Exit::Detour(Detour::Fragment), None)),
            Payload::Other { destination } => return Err((self.to_host(destination.into()), None)),
        };
        let reach = self.reach(packet, parsed, server, true);
        reach.map_err(|exit| (exit, Some(server)))
    }

    /// The way of a packet that belongs to a connection, or opens one.
    #[inline]
    fn route_flow<K: ConnectionKey>(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        flow: &Flow<K>,
        now: CoarseTime,
    ) -> Result<Route, (Exit, Option<RealServerIndex>)> {
        let server = self.server_of_flow(flow, parsed.inner.total_len, now);
        let server = server.map_err(|exit| (exit, None))?;
        self.reach(packet, parsed, server, false).map_err(|exit| {
            if exit == Exit::Punt(PuntReason::Local) {
                self.close_as_host(flow, now);
            }
            (exit, Some(server))
        })
    }

    /// The real server that an ICMPv6 message goes to, which is counted.
    fn route_icmpv6(
        &mut self,
        packet: &D::Packet,
        parsed: &Parsed,
        message_offset: u16,
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        let start = usize::from(parsed.inner.l3_offset);
        let end = start + usize::from(parsed.inner.total_len);
        let packet = packet.bytes().get(..end).unwrap_or_default();
        let (ip, _) = Ipv6Header::parse(packet.get(start..).unwrap_or_default())
            .map_err(|_| Exit::Drop(DropReason::BadIpv6Header))?;
        let message = packet
            .get(usize::from(message_offset)..)
            .unwrap_or_default();
        let server = self.server_of_icmpv6((ip, parsed.inner.total_len), message, now)?;
        self.count_packet_of(server, parsed.inner.total_len);
        Ok(server)
    }

    /// Step 7 and the checks of step 8: whether the packet fits through the
    /// tunnel to `server`.
    #[inline]
    pub(super) fn reach(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        index: RealServerIndex,
        is_error: bool,
    ) -> Result<Route, Exit> {
        let server = self
            .state
            .server(index)
            .ok_or(Exit::Drop(DropReason::ServerGone))?;
        match server.path {
            Path::Resolved | Path::Unresolved => {}
            Path::Unreachable => return Err(Exit::Punt(PuntReason::Unreachable)),
            Path::Local => return Err(Exit::Punt(PuntReason::Local)),
        }
        if parsed.inner.ttl <= 1 {
            return Err(if is_error {
                Exit::Drop(DropReason::TtlExceededInError)
            } else {
                Exit::Punt(PuntReason::TtlExceeded)
            });
        }
        match parsed.inner.version {
            IpVersion::V4 => {
                tunnel::decrement_ttl(ipv4_header_mut(packet, parsed.inner.l3_offset)?);
            }
            IpVersion::V6 => {
                let hop_limit = usize::from(parsed.inner.l3_offset) + HOP_LIMIT_OFFSET;
                if let Some(hop_limit) = packet.bytes_mut().get_mut(hop_limit) {
                    *hop_limit -= 1;
                }
            }
        }

        if server.is_too_narrow() {
            return Err(Exit::Drop(DropReason::MtuTooSmall));
        }
        let fits = parsed.inner.total_len <= server.inner_len_max();
        let is_v4 = parsed.inner.version == IpVersion::V4;
        let honour_df = parsed.dont_fragment && (!is_v4 || self.state.tunables.pmtu_disc);
        if !fits
            && honour_df
            && parsed.inner.total_len > server.accepted_len_max(parsed.inner.version)
        {
            match (is_error, is_v4) {
                (false, _) => return Err(Exit::Punt(PuntReason::FragmentationNeeded)),
                (true, true) => {}
                (true, false) => return Err(Exit::Drop(DropReason::IcmpErrorTooLong)),
            }
        }
        if server.path == Path::Unresolved {
            return Err(Exit::Punt(PuntReason::Unresolved));
        }
        let inner = tunnel::Inner {
            ttl: parsed.inner.ttl - 1,
            ..parsed.inner
        };
        Ok(Route {
            server: index,
            inner,
            // Over IPv4 the outer packet of an IPv6 one may be fragmented on
            // its way, as from Linux IPVS.
            dont_fragment: honour_df && fits && is_v4,
            fits,
        })
    }

    /// Steps 8 and 9: encapsulates a packet and puts it into the burst of its
    /// port, in fragments when it does not fit.
    #[inline]
    pub(super) fn send(
        &mut self,
        mut packet: D::Packet,
        route: &Route,
        outputs: &mut Outputs<D>,
    ) -> Result<(), DropReason> {
        let Some(server) = self.state.server(route.server) else {
            return Err(DropReason::ServerGone);
        };
        let identification = if route.dont_fragment {
            0
        } else {
            self.identifications.next()
        };
        let fragmentation = Fragmentation {
            identification: short(identification),
            dont_fragment: route.dont_fragment,
        };
        tunnel::encapsulate(&mut packet, route.inner, server, fragmentation)
            .map_err(|tunnel::NoHeadroom| DropReason::NoHeadroom)?;
        if route.fits {
            outputs.forward(server.port, packet);
            return Ok(());
        }
        let port = server.port;
        let send = |piece, is_last| {
            if is_last {
                outputs.forward(port, piece);
            } else {
                outputs.transmit(port, piece);
            }
        };
        fragment_outer(packet, server, identification, &mut self.pool, send)
            .map_err(|_| DropReason::NoPacketBuffer)
    }
}

/// The way of a packet into a tunnel.
pub(super) struct Route {
    pub(super) server: RealServerIndex,
    inner: tunnel::Inner,
    /// Whether the outer DF flag is set.
    dont_fragment: bool,
    /// Whether the outer packet fits the path's MTU.
    fits: bool,
}

/// Outer identifications: each worker has a share of the numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identifications {
    next: u32,
    step: u32,
}

impl Identifications {
    /// The share of worker `own` of `count`.
    pub(super) fn new(own: usize, count: usize) -> Self {
        Self {
            next: u32::try_from(own).unwrap_or(0),
            step: u32::try_from(count).unwrap_or(1),
        }
    }

    fn next(&mut self) -> u32 {
        let identification = self.next;
        self.next = self.next.wrapping_add(self.step);
        identification
    }

    /// As much of the next as IPv4 has room for.
    pub(super) fn next_short(&mut self) -> u16 {
        short(self.next())
    }
}

const fn short(identification: u32) -> u16 {
    let [.., high, low] = identification.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Checks and fills in the IPv4 options of a received packet.
pub(super) fn receive_options<P: Packet>(
    packet: &mut P,
    inner: tunnel::Inner,
    address: Ipv4Addr,
) -> Result<(), Exit> {
    const BAD: Exit = Exit::Drop(DropReason::BadIpv4Options);
    let start = usize::from(inner.l3_offset);
    let header = packet.bytes_mut().get_mut(start..).ok_or(BAD)?;
    let len = usize::from(header.first().ok_or(BAD)? & 0x0f) * 4;
    let header = header.get_mut(..len).ok_or(BAD)?;
    let (fixed, options) = header.split_first_chunk_mut::<20>().ok_or(BAD)?;
    if ipv4_options::receive(options, address).map_err(|_| BAD)? {
        [fixed[10], fixed[11]] = [0, 0];
        let sum = Sum::of(header).checksum();
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
    Ok(())
}

pub(super) fn ipv4_header_mut<P: Packet>(
    packet: &mut P,
    l3_offset: u8,
) -> Result<&mut [u8; 20], Exit> {
    packet
        .bytes_mut()
        .get_mut(usize::from(l3_offset)..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or(Exit::Drop(DropReason::BadIpv4Header))
}

/// In an IPv6 header.
const HOP_LIMIT_OFFSET: usize = 7;
