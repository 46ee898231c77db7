//! Packets that workers hand over: ARP, packets for the director itself, and
//! packets that cannot be forwarded and whose sender is told.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Management,
    host::{self, Answer},
    network::NextHop,
    status::CounterStatus,
};
use crate::{
    clock::Ticks,
    control::status::CounterKind,
    counters::Counter,
    forwarding::{Path, RealServerIndex, ServerForwarding},
    fragment::fragment_outer,
    io::{Driver, Packet, PacketPool, PortIndex},
    neighbor::{self, Action, Change, LearnKind, NeighborKey, Resolution},
    pipeline::{PuntReason, Punted},
    tunnel::{self, DONT_FRAGMENT, Inner},
    wire::{
        arp::{ArpFields, ArpOperation, ArpPacket},
        ethernet::{EtherType, MacAddr},
        icmp::IcmpCause,
        ipv4::Ipv4Header,
    },
    worker::Injected,
};

/// Packets that wait for a neighbor to be resolved.
#[derive(Debug)]
pub(super) struct Waiting<P>(neighbor::Waiting<Item<P>>);

#[derive(Debug)]
enum Item<P> {
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

/// What the management thread counts of its own.
#[derive(Debug, Default)]
pub(super) struct HostCounters {
    replies: Counter,
    icmp_errors: Counter,
    icmp_limited: Counter,
    not_answered: Counter,
    waiting_full: Counter,
    neighbor_failed: Counter,
    inject_failed: Counter,
    arp_bad: Counter,
    address_conflict: Counter,
}

impl HostCounters {
    pub(super) fn statuses(&self) -> Vec<CounterStatus> {
        let rows = [
            (
                "host_replies",
                CounterKind::Other,
                &self.replies,
                "answers of the director itself: ARP, ping, TCP reset",
            ),
            (
                "host_icmp_errors",
                CounterKind::Other,
                &self.icmp_errors,
                "ICMP errors sent to clients",
            ),
            (
                "host_icmp_limited",
                CounterKind::Other,
                &self.icmp_limited,
                "ICMP errors not sent because of icmp_rate_per_s",
            ),
            (
                "host_not_answered",
                CounterKind::Drop,
                &self.not_answered,
                "packets for the director that a host does not answer",
            ),
            (
                "neighbor_queue_full",
                CounterKind::Drop,
                &self.waiting_full,
                "packets dropped because too many waited for a MAC address",
            ),
            (
                "neighbor_failed",
                CounterKind::Drop,
                &self.neighbor_failed,
                "packets dropped because their next hop did not answer ARP",
            ),
            (
                "inject_failed",
                CounterKind::Drop,
                &self.inject_failed,
                "packets of the director lost: no buffer, no route, or a full queue to the workers",
            ),
            (
                "arp_bad",
                CounterKind::Drop,
                &self.arp_bad,
                "malformed ARP packets",
            ),
            (
                "address_conflict",
                CounterKind::Other,
                &self.address_conflict,
                "ARP packets in which another station claims an address of the director",
            ),
        ];
        rows.into_iter()
            .map(|(name, kind, counter, help)| CounterStatus {
                name: name.to_owned(),
                kind,
                count: counter.value(),
                help: help.to_owned(),
            })
            .collect()
    }
}

impl<D: Driver> Management<D> {
    /// Takes some punted packets of each worker.
    pub(super) fn take_punts(&mut self, now: Ticks) -> bool {
        let mut busy = false;
        for worker in 0..self.workers.len() {
            for _ in 0..PUNTS_A_TURN {
                let Some(handle) = self.workers.get(worker) else {
                    break;
                };
                let Ok(punted) = handle.punts.try_recv() else {
                    break;
                };
                busy = true;
                self.take_punted(punted, now);
            }
        }
        busy
    }

    fn take_punted(&mut self, punted: Punted<D::Packet>, now: Ticks) {
        match punted.reason {
            PuntReason::Arp => self.take_arp(&punted, now),
            PuntReason::Local => self.answer(&punted, now),
            PuntReason::NoServer => self.refuse(&punted, IcmpCause::PORT_UNREACHABLE, now),
            PuntReason::TtlExceeded => self.refuse(&punted, IcmpCause::TTL_EXCEEDED, now),
            PuntReason::Unreachable => self.refuse(&punted, IcmpCause::HOST_UNREACHABLE, now),
            PuntReason::FragmentationNeeded => {
                let server = punted.server.and_then(|index| self.state.server(index));
                let mtu = server.map_or(0, ServerForwarding::inner_len_max);
                self.refuse(&punted, IcmpCause::fragmentation_needed(mtu), now);
            }
            PuntReason::Unresolved => match punted.server {
                Some(server) => self.carry(punted, server, now),
                None => self.host.inject_failed.add(1),
            },
        }
    }

    /// RFC 826, with Linux's way of answering for any own address on any port.
    fn take_arp(&mut self, punted: &Punted<D::Packet>, now: Ticks) {
        let l2_len = if self
            .network
            .port(punted.port)
            .is_some_and(|port| port.vlan.is_some())
        {
            18
        } else {
            14
        };
        let parsed = punted.packet.bytes().get(l2_len..).map(ArpPacket::parse);
        let Some(Ok((arp, _))) = parsed else {
            self.host.arp_bad.add(1);
            return;
        };
        let own = |address: Ipv4Addr| self.is_own(address);
        if own(arp.sender_ip()) {
            if self
                .network
                .port(punted.port)
                .is_none_or(|port| port.mac != arp.sender_mac())
            {
                self.host.address_conflict.add(1);
                log::warn!(
                    "{} claims {}, an address of this director",
                    arp.sender_mac(),
                    arp.sender_ip()
                );
            }
            return;
        }
        let for_us = own(arp.target_ip());
        let kind = match arp.operation() {
            ArpOperation::Request if for_us => LearnKind::Request,
            ArpOperation::Reply if for_us => LearnKind::Reply { solicited: true },
            _ => LearnKind::Gratuitous,
        };
        // A probe (RFC 5227) is answered but teaches nothing.
        if !arp.sender_ip().is_unspecified() {
            let key = NeighborKey {
                port: punted.port,
                ip: arp.sender_ip(),
            };
            let change = self
                .network
                .neighbors
                .learn(key, arp.sender_mac(), kind, now);
            self.neighbor_changed(key, change, now);
        }
        if kind == LearnKind::Request
            && let Some(port) = self.network.port(punted.port)
        {
            let reply = ArpFields::reply(&arp, port.mac).to_bytes();
            let destination = arp.sender_mac();
            self.host.replies.add(1);
            self.send_frame(punted.port, destination, EtherType::ARP, &reply);
        }
    }

    fn neighbor_changed(&mut self, key: NeighborKey, change: Change, now: Ticks) {
        match change {
            Change::Resolved => {
                self.dirty = true;
                for item in self.waiting.0.take(key) {
                    match item {
                        Item::Own(packet) => self.send_ip(&packet, now),
                        Item::Client(punted, server) => self.carry(punted, server, now),
                    }
                }
            }
            Change::Moved { from } => {
                self.dirty = true;
                log::info!("neighbor {} has left {from} for another station", key.ip);
            }
            Change::Unchanged | Change::TableFull => {}
        }
    }

    /// Sends what the neighbor table has become due for.
    pub(super) fn poll_neighbors(&mut self, now: Ticks) -> bool {
        let actions = self.network.neighbors.poll(now);
        let busy = !actions.is_empty();
        for action in actions {
            match action {
                Action::SendRequest { key, unicast } => self.send_arp_request(key, unicast),
                Action::Failed { key } => {
                    self.dirty = true;
                    self.neighbor_failed(key, now);
                }
                Action::Removed { .. } => self.dirty = true,
            }
        }
        busy
    }

    fn neighbor_failed(&mut self, key: NeighborKey, now: Ticks) {
        log::warn!("neighbor {} does not answer ARP", key.ip);
        for item in self.waiting.0.take(key) {
            self.host.neighbor_failed.add(1);
            if let Item::Client(punted, _) = item {
                self.refuse(&punted, IcmpCause::HOST_UNREACHABLE, now);
            }
        }
    }

    /// Next hops of listed servers are in use: the neighbor table keeps an eye
    /// on them, so that a dead one is noticed.
    pub(super) fn keep_neighbors_alive(&mut self, now: Ticks) {
        let mut in_use: Vec<_> = self
            .services
            .iter()
            .flat_map(|(_, service)| &service.servers)
            .filter_map(|&index| self.services.server(index))
            .filter_map(|server| match server.key.address {
                IpAddr::V4(address) => self.neighbor_towards(address),
                IpAddr::V6(_) => None,
            })
            .collect();
        in_use.sort_unstable();
        in_use.dedup();
        for key in in_use {
            self.network.neighbors.mark_used(key, now);
        }
    }

    /// The neighbor that packets to `destination` go through.
    pub(super) fn neighbor_towards(&self, destination: Ipv4Addr) -> Option<NeighborKey> {
        match self.network.next_hop(destination) {
            NextHop::Neighbor { port, address, .. } => Some(NeighborKey { port, ip: address }),
            NextHop::Local | NextHop::Unreachable => None,
        }
    }

    /// Tells every network about all addresses of the director.
    pub(super) fn announce_all(&mut self, now: Ticks) {
        let mut addresses: Vec<_> = self.network.own_addresses().iter().copied().collect();
        addresses.extend(self.vips());
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            self.announce(address, now);
        }
    }

    /// Gratuitous ARP (RFC 5227 section 3) for an address: on the ports whose
    /// network holds it, or on all ports when none does.
    pub(super) fn announce(&mut self, address: Ipv4Addr, _now: Ticks) {
        let ports: Vec<_> = (0..).map(PortIndex).zip(self.network.ports()).collect();
        let holds = |port: &super::network::NetworkPort| {
            port.addresses
                .iter()
                .any(|network| network.contains(&address))
        };
        let any_holds = ports.iter().any(|(_, port)| holds(port));
        let targets: Vec<_> = ports
            .into_iter()
            .filter(|(_, port)| !any_holds || holds(port))
            .map(|(index, port)| (index, ArpFields::gratuitous(port.mac, address).to_bytes()))
            .collect();
        for (port, arp) in targets {
            self.send_frame(port, MacAddr::BROADCAST, EtherType::ARP, &arp);
        }
    }

    fn send_arp_request(&mut self, key: NeighborKey, unicast: Option<MacAddr>) {
        let Some(port) = self.network.port(key.port) else {
            return;
        };
        let Some(source) = port.source_towards(key.ip) else {
            return;
        };
        let request = ArpFields::request(port.mac, source, key.ip).to_bytes();
        let destination = unicast.unwrap_or(MacAddr::BROADCAST);
        self.send_frame(key.port, destination, EtherType::ARP, &request);
    }

    /// Answers a packet for the director as a host without listeners would.
    fn answer(&mut self, punted: &Punted<D::Packet>, now: Ticks) {
        let Some(packet) = ip_bytes(punted) else {
            return;
        };
        self.identification = self.identification.wrapping_add(1);
        match host::answer(packet, self.identification, ms_since_midnight()) {
            Answer::Reply(reply) => {
                self.host.replies.add(1);
                self.send_ip(&reply, now);
            }
            Answer::Error(cause) => self.refuse(punted, cause, now),
            Answer::Nothing => self.host.not_answered.add(1),
        }
    }

    /// Tells the sender of a packet why it was not forwarded.
    fn refuse(&mut self, punted: &Punted<D::Packet>, cause: IcmpCause, now: Ticks) {
        // 3/4 has a limit of its own: without it, a client's path MTU discovery
        // hangs.
        let is_fragmentation_needed = cause.icmp_type.is_error() && cause.code == 4;
        let limit = if is_fragmentation_needed {
            &mut self.fragmentation_needed_limit
        } else {
            &mut self.icmp_limit
        };
        let Some(packet) = ip_bytes(punted) else {
            return;
        };
        self.identification = self.identification.wrapping_add(1);
        let Some(error) = host::error_about(packet, cause, self.identification) else {
            self.host.not_answered.add(1);
            return;
        };
        if limit.take(now) {
            self.host.icmp_errors.add(1);
            self.send_ip(&error, now);
        } else {
            self.host.icmp_limited.add(1);
        }
    }

    /// Sends an IPv4 packet of the director itself to where the routes lead.
    fn send_ip(&mut self, packet: &[u8], now: Ticks) {
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
    fn carry(&mut self, punted: Punted<D::Packet>, index: RealServerIndex, now: Ticks) {
        let server = self.services.server(index);
        let Some(IpAddr::V4(address)) = server.map(|server| server.key.address) else {
            return self.host.inject_failed.add(1);
        };
        let Some(key) = self.neighbor_towards(address) else {
            return self.refuse(&punted, IcmpCause::HOST_UNREACHABLE, now);
        };
        match self.network.neighbors.resolve(key, now) {
            Resolution::Resolved(_) => self.encapsulate(punted, address),
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

    fn encapsulate(&mut self, punted: Punted<D::Packet>, address: Ipv4Addr) {
        let server =
            self.network
                .server_forwarding(address, crate::forwarding::Presence::Listed, false);
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
        match fragment_outer(packet, &server, &mut self.pool, |piece| pieces.push(piece)) {
            Ok(()) => pieces
                .into_iter()
                .for_each(|piece| self.inject(server.port, piece)),
            Err(_) => self.host.inject_failed.add(1),
        }
    }

    /// Sends a frame of the director itself.
    fn send_frame(
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

    fn is_own(&self, address: Ipv4Addr) -> bool {
        self.network.own_addresses().contains(&address)
            || self
                .services
                .iter()
                .any(|(key, _)| key.address.ip() == address)
    }
}

/// The packet from its IPv4 header on.
fn ip_bytes<P: Packet>(punted: &Punted<P>) -> Option<&[u8]> {
    punted.packet.bytes().get(usize::from(punted.l3_offset)..)
}

/// The time of day in UTC, for ICMP timestamp replies.
fn ms_since_midnight() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = now.map_or(0, |since| since.as_millis() % MS_PER_DAY);
    u32::try_from(ms).unwrap_or(0)
}

const MS_PER_DAY: u128 = 86_400_000;
/// Packets of one worker that are looked at in one turn.
const PUNTS_A_TURN: usize = 64;
/// Packets that wait for one neighbor.
const WAITING_EACH_MAX: usize = 64;
/// Packets that wait for any neighbor.
pub(super) const WAITING_MAX: usize = 2048;
