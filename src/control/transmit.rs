//! Sending what the management thread has to send: through routes and
//! neighbors to a worker's queue.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    INJECTED_MAX, Management,
    network::NextHop,
    punted::{Refusal, ip_bytes, is_ipv6},
};
use crate::{
    clock::Ticks,
    forwarding::{Path, Presence, RealServerIndex},
    fragment::fragment_outer,
    io::{Driver, Packet, PacketPool, PortIndex},
    neighbor::{self, NeighborKey, Resolution},
    pipeline::Punted,
    service::ServerOptions,
    tunnel::{self, Fragmentation, Inner},
    wire::{
        IpVersion,
        ethernet::{EtherType, MacAddr},
        ipv4::Ipv4Header,
        ipv6::Ipv6Header,
    },
    worker::Injected,
};

/// Packets that wait for a neighbor to be resolved.
#[derive(Debug)]
pub(super) struct Waiting<P>(pub(super) neighbor::Waiting<Item<P>>);

/// One of them.
#[derive(Debug)]
pub(super) enum Item<P> {
    /// A packet of the director itself, from its IP header on.
    Own(Vec<u8>),
    /// A client's packet on its way to a real server.
    Client(Punted<P>, RealServerIndex),
}

impl<P> Default for Waiting<P> {
    fn default() -> Self {
        Self(neighbor::Waiting::new(WAITING_EACH_MAX, WAITING_MAX))
    }
}

impl<D: Driver> Management<D> {
    /// The neighbor that packets to `destination` go through.
    pub(super) fn neighbor_towards(&self, destination: IpAddr) -> Option<NeighborKey> {
        match self.network.next_hop(destination) {
            NextHop::Neighbor { port, address, .. } => Some(NeighborKey { port, ip: address }),
            NextHop::Local | NextHop::Unreachable => None,
        }
    }

    /// Sends an IP packet of the director itself to where the routes lead.
    pub(super) fn send_ip(&mut self, packet: &[u8], now: Ticks) {
        let Some(destination) = destination_of(packet) else {
            return;
        };
        match self.neighbor_towards(destination) {
            Some(key) => self.send_to(key, packet, now),
            None => self.host.inject_failed.add(1),
        }
    }

    /// The same; but to a link-local address, which no route leads to, by this
    /// port.
    pub(super) fn send_ip_by(&mut self, port: PortIndex, packet: &[u8], now: Ticks) {
        match destination_of(packet) {
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                let ip = ip.into();
                self.send_to(NeighborKey { port, ip }, packet, now);
            }
            _ => self.send_ip(packet, now),
        }
    }

    fn send_to(&mut self, key: NeighborKey, packet: &[u8], now: Ticks) {
        let ether_type = IpVersion::of_packet(packet).ether_type();
        match self.network.neighbors.resolve(key, now) {
            Resolution::Resolved(mac) => self.send_frame(key.port, mac, ether_type, packet),
            Resolution::Pending => {
                if self
                    .waiting
                    .0
                    .push(key, Item::Own(packet.to_vec()))
                    .is_err()
                {
                    self.host.waiting_full.add(1);
                }
            }
            Resolution::TableFull => self.host.waiting_full.add(1),
        }
    }

    /// Sends a client's packet into the tunnel, as a worker would, or lets it
    /// wait until that is possible.
    pub(super) fn carry(&mut self, punted: Punted<D::Packet>, index: RealServerIndex, now: Ticks) {
        let server = self.services.server(index);
        let server = server.map(|server| {
            let source = self.services.outer_source_of(server);
            ((server.key.address, source), server.options)
        });
        let Some((ends, options)) = server else {
            return self.host.inject_failed.add(1);
        };
        let Some(key) = self.neighbor_towards(ends.0) else {
            return self.refuse(&punted, Refusal::Unreachable, now);
        };
        match self.network.neighbors.resolve(key, now) {
            Resolution::Resolved(_) => self.encapsulate(punted, ends, &options),
            Resolution::Pending => {
                if self
                    .waiting
                    .0
                    .push(key, Item::Client(punted, index))
                    .is_err()
                {
                    self.host.waiting_full.add(1);
                }
            }
            Resolution::TableFull => self.host.waiting_full.add(1),
        }
    }

    /// `ends` are the RIP and the network that the outer packet comes from, if
    /// there is one.
    fn encapsulate(
        &mut self,
        punted: Punted<D::Packet>,
        ends: (IpAddr, Option<IpNet>),
        options: &ServerOptions,
    ) {
        let Some(inner) = Inner::of(punted.packet.bytes(), punted.l3_offset) else {
            return self.host.inject_failed.add(1);
        };
        let server = self
            .network
            .server_forwarding(ends, Presence::Listed, options, inner.version);
        if server.path != Path::Resolved {
            return self.host.inject_failed.add(1);
        }
        let header = ip_bytes(&punted).and_then(|packet| Ipv4Header::parse(packet).ok());
        let dont_fragment = header.is_some_and(|(ip, _)| ip.dont_fragment());
        let fits = inner.total_len <= server.inner_len_max();
        let dont_fragment = dont_fragment && self.services.tunables.pmtu_disc && fits;
        self.identification = self.identification.wrapping_add(1);
        let fragmentation = Fragmentation {
            identification: if dont_fragment {
                0
            } else {
                self.identification
            },
            dont_fragment,
        };
        let mut packet = punted.packet;
        if tunnel::encapsulate(&mut packet, inner, &server, fragmentation).is_err() {
            return self.host.inject_failed.add(1);
        }
        if fits {
            return self.inject(server.port, packet);
        }
        let mut pieces = Vec::new();
        let identification = self.identification.into();
        match fragment_outer(
            packet,
            &server,
            identification,
            &mut self.pool,
            |piece, _| {
                pieces.push(piece);
            },
        ) {
            Ok(()) => pieces
                .into_iter()
                .for_each(|piece| self.inject(server.port, piece)),
            Err(_) => self.host.inject_failed.add(1),
        }
    }

    /// Sends a frame of the director itself.
    pub(super) fn send_frame(
        &mut self,
        port: PortIndex,
        destination: MacAddr,
        ether_type: EtherType,
        payload: &[u8],
    ) {
        let Some(header) = self
            .network
            .port(port)
            .map(|port| port.l2_header(destination, ether_type))
        else {
            return;
        };
        let Some(mut packet) = self.pool.allocate() else {
            return self.host.inject_failed.add(1);
        };
        match packet.extend(header.len() + payload.len()) {
            Some(frame) => {
                let bytes = header.iter().chain(payload);
                frame
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = *from);
                self.inject(port, packet);
            }
            None => self.host.inject_failed.add(1),
        }
    }

    /// Whether the first worker takes so many frames and has half of its queue
    /// left for others.
    pub(super) fn has_room_for(&self, frames: usize) -> bool {
        self.workers
            .first()
            .is_some_and(|worker| worker.injected.len() + frames <= INJECTED_MAX / 2)
    }

    /// Hands a frame to the first worker whose queue has room.
    fn inject(&self, port: PortIndex, packet: D::Packet) {
        let mut injected = Injected { port, packet };
        for worker in &self.workers {
            match worker.injected.try_send(injected) {
                Ok(()) => return,
                Err(error) => injected = error.into_inner(),
            }
        }
        self.host.inject_failed.add(1);
    }
}

fn destination_of(packet: &[u8]) -> Option<IpAddr> {
    if is_ipv6(packet) {
        let (ip, _) = Ipv6Header::parse(packet).ok()?;
        Some(ip.destination().into())
    } else {
        let (ip, _) = Ipv4Header::parse(packet).ok()?;
        Some(ip.destination().into())
    }
}

/// Packets that wait for one neighbor.
const WAITING_EACH_MAX: usize = 64;
/// Packets that wait for any neighbor.
pub(super) const WAITING_MAX: usize = 2048;
