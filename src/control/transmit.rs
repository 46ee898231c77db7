//! Sending what the management thread has to send: through routes and
//! neighbors to a worker's queue.

use std::net::{IpAddr, Ipv4Addr};

use super::{INJECTED_MAX, Management, network::NextHop, punted::ip_bytes};
use crate::{
    clock::Ticks,
    forwarding::{Path, Presence, RealServerIndex},
    fragment::fragment_outer,
    io::{Driver, Packet, PacketPool, PortIndex},
    neighbor::{self, NeighborKey, Resolution},
    pipeline::Punted,
    service::ServerOptions,
    tunnel::{self, DONT_FRAGMENT, Inner},
    wire::{
        ethernet::{EtherType, MacAddr},
        icmp::IcmpCause,
        ipv4::Ipv4Header,
    },
    worker::Injected,
};

/// Packets that wait for a neighbor to be resolved.
#[derive(Debug)]
pub(super) struct Waiting<P>(pub(super) neighbor::Waiting<Item<P>>);

/// One of them.
#[derive(Debug)]
pub(super) enum Item<P> {
    /// A packet of the director itself, from its IPv4 header on.
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
    pub(super) fn neighbor_towards(&self, destination: Ipv4Addr) -> Option<NeighborKey> {
        match self.network.next_hop(destination) {
            NextHop::Neighbor { port, address, .. } => Some(NeighborKey { port, ip: address }),
            NextHop::Local | NextHop::Unreachable => None,
        }
    }

    /// Sends an IPv4 packet of the director itself to where the routes lead.
    pub(super) fn send_ip(&mut self, packet: &[u8], now: Ticks) {
        let Ok((ip, _)) = Ipv4Header::parse(packet) else {
            return;
        };
        let Some(key) = self.neighbor_towards(ip.destination()) else {
            self.host.inject_failed.add(1);
            return;
        };
        match self.network.neighbors.resolve(key, now) {
            Resolution::Resolved(mac) => self.send_frame(key.port, mac, EtherType::IPV4, packet),
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
        let server = server.map(|server| (server.key.address, server.options));
        let Some((IpAddr::V4(address), options)) = server else {
            return self.host.inject_failed.add(1);
        };
        let Some(key) = self.neighbor_towards(address) else {
            return self.refuse(&punted, IcmpCause::HOST_UNREACHABLE, now);
        };
        match self.network.neighbors.resolve(key, now) {
            Resolution::Resolved(_) => self.encapsulate(punted, address, &options),
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

    fn encapsulate(
        &mut self,
        punted: Punted<D::Packet>,
        address: Ipv4Addr,
        options: &ServerOptions,
    ) {
        let server = self
            .network
            .server_forwarding(address, Presence::Listed, options);
        let header = ip_bytes(&punted).and_then(|packet| Ipv4Header::parse(packet).ok());
        let (Some((ip, _)), Path::Resolved) = (header, server.path) else {
            return self.host.inject_failed.add(1);
        };
        let inner = Inner {
            l3_offset: punted.l3_offset,
            total_len: ip.total_len(),
            tos: ip.tos(),
            ttl: ip.ttl(),
        };
        let fits = inner.total_len <= server.inner_len_max();
        let honour_df = ip.dont_fragment() && self.services.tunables.pmtu_disc && fits;
        self.identification = self.identification.wrapping_add(1);
        let (id, flags) = if honour_df {
            (0, DONT_FRAGMENT)
        } else {
            (self.identification, 0)
        };
        let mut packet = punted.packet;
        if tunnel::encapsulate(&mut packet, inner, &server, id, flags).is_err() {
            return self.host.inject_failed.add(1);
        }
        if fits {
            return self.inject(server.port, packet);
        }
        let mut pieces = Vec::new();
        match fragment_outer(packet, &server, &mut self.pool, |piece, _| {
            pieces.push(piece);
        }) {
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

/// Packets that wait for one neighbor.
const WAITING_EACH_MAX: usize = 64;
/// Packets that wait for any neighbor.
pub(super) const WAITING_MAX: usize = 2048;
