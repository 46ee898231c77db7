//! What ARP and Neighbor Discovery have in common: what becomes of packets when
//! a neighbor is found or not, and telling the networks about addresses.

use std::net::IpAddr;

use super::{
    Management, duplicate::ProbeEnd, network::NetworkPort, punted::Refusal, touched::Stale,
    transmit::Item,
};
use crate::{
    clock::Ticks,
    io::{Driver, PortIndex},
    neighbor::{Action, Change, NeighborKey},
};

impl<D: Driver> Management<D> {
    /// Follows up on what was learned of a neighbor.
    pub(super) fn neighbor_changed(&mut self, key: NeighborKey, change: Change, now: Ticks) {
        match change {
            Change::Resolved => {
                self.stale = Stale::Everything;
                self.log_found(key, now);
                for item in self.waiting.0.take(key) {
                    match item {
                        Item::Own(packet) => self.send_ip_by(key.port, &packet, now),
                        Item::Client(punted, server) => self.carry(punted, server, now),
                    }
                }
            }
            Change::Moved { from } => {
                self.stale = Stale::Everything;
                self.log_limited(
                    now,
                    log::Level::Info,
                    format_args!("neighbor {} has left {from} for another station", key.ip),
                );
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
                Action::SendRequest { key, unicast } => match key.ip {
                    IpAddr::V4(target) => self.send_arp_request(key.port, target, unicast),
                    IpAddr::V6(target) => self.send_solicitation(key.port, target, unicast),
                },
                Action::Failed { key } => {
                    self.stale = Stale::Everything;
                    self.neighbor_failed(key, now);
                }
                Action::Removed { key } => {
                    self.stale = Stale::Everything;
                    self.lost.remove(&key);
                }
            }
        }
        busy
    }

    fn neighbor_failed(&mut self, key: NeighborKey, now: Ticks) {
        self.log_lost(key, now);
        for item in self.waiting.0.take(key) {
            self.host.neighbor_failed.add(1);
            if let Item::Client(punted, _) = item {
                self.refuse(&punted, Refusal::Unreachable, now);
            }
        }
    }

    /// Says once that a neighbor does not answer, however often it is asked.
    fn log_lost(&mut self, key: NeighborKey, now: Ticks) {
        if !self.lost.insert(key) {
            return;
        }
        let question = match key.ip {
            IpAddr::V4(_) => "ARP",
            IpAddr::V6(_) => "neighbor solicitations",
        };
        let behind = match self.servers_behind(key) {
            0 => String::new(),
            servers => format!("; real servers that cannot be reached without it: {servers}"),
        };
        self.log_limited(
            now,
            log::Level::Warn,
            format_args!("neighbor {} does not answer {question}{behind}", key.ip),
        );
    }

    /// Says that a neighbor is there that was not, or was not known to be.
    fn log_found(&mut self, key: NeighborKey, now: Ticks) {
        let was_lost = self.lost.remove(&key);
        let mac = self.network.neighbors.mac(key);
        let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
        let again = if was_lost { " again" } else { "" };
        self.log_limited(
            now,
            log::Level::Info,
            format_args!("neighbor {} answers{again}, from {mac}", key.ip),
        );
    }

    /// Real servers whose packets go by a neighbor; one in two services counts
    /// twice.
    fn servers_behind(&self, key: NeighborKey) -> usize {
        self.services
            .iter()
            .flat_map(|(_, service)| &service.servers)
            .filter_map(|&index| self.services.server(index))
            .filter(|server| self.neighbor_towards(server.key.address) == Some(key))
            .count()
    }

    /// Next hops of listed servers are in use: the neighbor table keeps an eye
    /// on them, so that a dead one is noticed.
    pub(super) fn keep_neighbors_alive(&mut self, now: Ticks) {
        let mut in_use: Vec<_> = self
            .services
            .iter()
            .flat_map(|(_, service)| &service.servers)
            .filter_map(|&index| self.services.server(index))
            .filter_map(|server| self.neighbor_towards(server.key.address))
            .collect();
        in_use.sort_unstable();
        in_use.dedup();
        for key in in_use {
            self.network.neighbors.mark_used(key, now);
        }
    }

    /// Tells the networks about the director's own addresses. VIPs are announced
    /// as their services are added.
    pub(super) fn announce_own(&mut self) {
        let addresses: Vec<_> = self.network.own_addresses().iter().copied().collect();
        for address in addresses {
            self.announce(address);
        }
    }

    /// Tells the networks about all addresses, VIPs included.
    pub(super) fn announce_all(&mut self) {
        self.announce_own();
        let vips: Vec<_> = self.services.vips().single().collect();
        for vip in vips {
            self.announce(vip);
        }
    }

    /// Has an address announced, as soon as there is room for it. Until then,
    /// and until nobody turns out to have it, an IPv6 address is not used.
    pub(super) fn announce(&mut self, address: IpAddr) {
        if let IpAddr::V6(address) = address {
            self.probes.plan(address);
        }
        self.announcements.insert(address);
    }

    /// Sends announcements that are due, but only into the first half of the
    /// queues to the workers: thousands of VIPs must not crowd out answers, or
    /// one another. Returns whether there were any.
    pub(super) fn send_announcements(&mut self, now: Ticks) -> bool {
        let mut busy = false;
        let ports = self.network.ports().len();
        while self.has_room_for(ports)
            && let Some(address) = self.announcements.pop_first()
        {
            busy = true;
            match address {
                // Its service may have gone meanwhile.
                _ if !self.is_own(address) => self.forget_probe(address),
                IpAddr::V4(v4) => {
                    for port in self.ports_of(address) {
                        self.send_gratuitous_arp(port, v4);
                    }
                }
                IpAddr::V6(v6) => {
                    for port in self.ports_of(address) {
                        self.send_probe(port, v6);
                    }
                    self.probes.sent(v6, now);
                }
            }
        }
        while self.has_room_for(ports)
            && let Some(end) = self.probes.poll(now)
        {
            busy = true;
            match end {
                ProbeEnd::TryAgain(address) => self.announce(address.into()),
                ProbeEnd::Unique(address) if self.is_own(address.into()) => {
                    for port in self.ports_of(address.into()) {
                        self.send_unsolicited_advertisement(port, address);
                    }
                }
                ProbeEnd::Unique(_) => {}
            }
        }
        busy
    }

    fn forget_probe(&mut self, address: IpAddr) {
        if let IpAddr::V6(address) = address {
            self.probes.forget(address);
        }
    }

    /// The ports on whose networks an address is told about: those whose
    /// network holds it, or all of its IP version when none does.
    pub(super) fn ports_of(&self, address: IpAddr) -> Vec<PortIndex> {
        let is_link_local =
            matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let holds = |port: &NetworkPort| {
            if is_link_local {
                port.has_address(address)
            } else {
                port.addresses
                    .iter()
                    .any(|network| network.contains(&address))
            }
        };
        let takes_part = |port: &NetworkPort| address.is_ipv4() || port.link_local().is_some();
        let ports = self.network.ports();
        let any_holds = ports.iter().any(holds);
        (0..)
            .map(PortIndex)
            .zip(ports)
            .filter(|(_, port)| takes_part(port) && (!any_holds || holds(port)))
            .map(|(index, _)| index)
            .collect()
    }

    /// Logs what an outside party can cause, so often at most.
    pub(super) fn log_limited(
        &mut self,
        now: Ticks,
        level: log::Level,
        text: std::fmt::Arguments<'_>,
    ) {
        if self.log_limit.take(now) {
            log::log!(level, "{text}");
        }
    }

    /// Whether an address is the director's own, a VIP or one that outer packets
    /// come from.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.network.own_addresses().contains(&address)
            || self.services.vips().has(address)
            || self.services.outer_sources().has(address)
    }
}
