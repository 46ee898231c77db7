//! The receiving side of the loop: what is a tunnel's goes to the checker, and
//! the rest is answered or counted.
use std::mem;

use super::{Phase, Pktgen, note_cost};
use crate::{
    io::{Burst, Driver, Packet, PacketPool, RxQueue, TxQueue},
    pktgen::{
        check::Arrival,
        frame::TIME_MASK,
        mismatch::{Mismatch, MismatchKind},
        neighbors::Reaction,
        outer::Outer,
    },
    wire::{
        IpProtocol, IpVersion,
        ethernet::{EtherType, EthernetHeader},
        ipv6,
        vlan::VlanTag,
    },
};

impl<D: Driver> Pktgen<D> {
    /// Takes what has come in by all queues. Returns whether there was any.
    pub(super) fn receive(&mut self, cycles: &impl Fn() -> u64) -> bool {
        let mut busy = false;
        for port in 0..self.ports.len() {
            let queues = self.ports.get(port).map_or(0, |port| port.receive.len());
            for queue in 0..queues {
                let mut burst = mem::take(&mut self.received);
                let count = self
                    .ports
                    .get_mut(port)
                    .and_then(|port| port.receive.get_mut(queue))
                    .map_or(0, |queue| queue.receive(&mut burst));
                if count > 0 {
                    busy = true;
                    let now = cycles();
                    for packet in &burst {
                        packet.prefetch();
                    }
                    for packet in &burst {
                        self.take(port, packet, now);
                    }
                    if matches!(self.phase, Phase::Measuring { .. }) {
                        let cycles = cycles().saturating_sub(now);
                        note_cost(&mut self.cost.check, cycles, count);
                    }
                    burst.clear();
                }
                self.received = burst;
            }
        }
        busy
    }

    /// Looks at a received frame.
    #[inline]
    fn take(&mut self, port: usize, packet: &D::Packet, now: u64) {
        let frame = packet.bytes();
        let Ok((ethernet, mut payload)) = EthernetHeader::parse(frame) else {
            self.counts.other_frames += 1;
            return;
        };
        let mut ether_type = ethernet.ether_type();
        if ether_type == EtherType::VLAN
            && let Ok((tag, rest)) = VlanTag::parse(payload)
        {
            (ether_type, payload) = (tag.ether_type(), rest);
        }
        let version = match ether_type {
            EtherType::IPV4 => IpVersion::V4,
            EtherType::IPV6 => IpVersion::V6,
            EtherType::ARP => return self.take_arp(port, payload),
            _ => {
                self.counts.other_frames += 1;
                return;
            }
        };
        let Some(outer) = Outer::read(version, payload) else {
            self.counts.other_frames += 1;
            return;
        };
        let is_reflected = self.plan.options.reflected;
        let server = if is_reflected {
            Some(0)
        } else {
            self.plan.servers.index_of(outer.destination)
        };
        let is_tunnel = is_reflected || outer.is_tunnel(self.plan.options.gue_l4_port);
        let Some(server) = server.filter(|_| is_tunnel || is_odd(&outer)) else {
            return self.take_other(port, payload, &outer);
        };
        let is_servers_port = port + 1 == self.ports.len();
        let Some(place) = self.ports.get_mut(port) else {
            return;
        };
        let arrival = Arrival {
            frame,
            destination: ethernet.destination(),
            source: ethernet.source(),
            l2_len: frame.len() - payload.len(),
            outer: &outer,
            server,
            is_servers_port,
            port_mac: place.mac,
            director_mac: Some(*place.director_mac.get_or_insert(ethernet.source())),
            now: now & TIME_MASK,
        };
        if !packet.is_contiguous() {
            let mismatch = Mismatch::new(MismatchKind::Scattered, frame.len() as u64, 0_u8);
            return self.checker.mismatches.add(mismatch, frame);
        }
        if !is_tunnel {
            let mismatch = Mismatch::new(MismatchKind::OuterProtocol, outer.protocol.0, 4_u8);
            return self.checker.mismatches.add(mismatch, frame);
        }
        self.checker.take(&arrival, &self.plan, &mut self.flows);
        self.window.last_received = now;
    }

    #[cold]
    fn take_arp(&mut self, port: usize, payload: &[u8]) {
        let Some(mac) = self.ports.get(port).map(|port| port.mac) else {
            return;
        };
        let reaction = self.neighbors.take_arp(payload, mac);
        self.react(port, reaction);
    }

    #[cold]
    fn take_other(&mut self, port: usize, packet: &[u8], outer: &Outer<'_>) {
        let Some(mac) = self.ports.get(port).map(|port| port.mac) else {
            return;
        };
        let about_neighbors = match outer.version {
            IpVersion::V6 => self.neighbors.take_icmpv6(packet, mac),
            IpVersion::V4 => None,
        };
        match about_neighbors {
            Some(reaction) => self.react(port, reaction),
            None => self.returned.add(outer),
        }
    }

    fn react(&mut self, port: usize, reaction: Reaction) {
        self.counts.neighbor_packets += 1;
        if let Some((address, mac)) = reaction.learned
            && Some(address) == self.director
            && port == 0
            && let Some(port) = self.ports.get_mut(port)
        {
            port.director_mac.get_or_insert(mac);
        }
        if let Some(reply) = reaction.reply {
            self.transmit_frame(port, &reply);
        }
    }

    /// Sends a frame of our own. It is lost when the port does not take it:
    /// whoever misses it asks again.
    pub(super) fn transmit_frame(&mut self, port: usize, frame: &[u8]) {
        let mut burst: Burst<D::Packet> = Burst::new();
        let Some(mut packet) = self.pool.allocate() else {
            return;
        };
        let Some(bytes) = packet.extend(frame.len()) else {
            return;
        };
        bytes.copy_from_slice(frame);
        burst.push(packet);
        let queue = self
            .ports
            .get_mut(port)
            .and_then(|port| port.transmit.first_mut());
        if let Some(queue) = queue {
            queue.transmit(&mut burst);
        }
    }
}

/// Whether a packet to a real server is of a protocol that nobody sends there
/// but by mistake.
fn is_odd(outer: &Outer<'_>) -> bool {
    !matches!(
        outer.protocol,
        IpProtocol::ICMP
            | IpProtocol::TCP
            | IpProtocol::UDP
            | IpProtocol::ICMPV6
            | ipv6::HOP_BY_HOP
    )
}
