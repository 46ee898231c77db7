//! ARP: answering, learning, asking and announcing (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use super::{Management, network::NetworkPort, transmit::Item};
use crate::{
    clock::Ticks,
    io::{Driver, Packet, PortIndex},
    neighbor::{Action, Change, LearnKind, NeighborKey},
    pipeline::Punted,
    wire::{
        arp::{ArpFields, ArpOperation, ArpPacket},
        ethernet::{EtherType, EthernetHeader, MacAddr},
        icmp::IcmpCause,
        vlan,
    },
};

impl<D: Driver> Management<D> {
    /// RFC 826, with Linux's way of answering for any own address on any port.
    pub(super) fn take_arp(&mut self, punted: &Punted<D::Packet>, now: Ticks) {
        let frame = punted.packet.bytes();
        let Some(Ok((arp, _))) = arp_of(frame).map(ArpPacket::parse) else {
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
                let (mac, address) = (arp.sender_mac(), arp.sender_ip());
                self.log_limited(
                    now,
                    log::Level::Warn,
                    format_args!("{mac} claims {address}, an address of this director"),
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
        self.log_limited(
            now,
            log::Level::Warn,
            format_args!("neighbor {} does not answer ARP", key.ip),
        );
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

    /// Tells the networks about the director's own addresses. VIPs are announced
    /// as their services are added.
    pub(super) fn announce_own(&mut self) {
        let mut addresses: Vec<_> = self.network.own_addresses().iter().copied().collect();
        addresses.sort_unstable();
        for address in addresses {
            self.announce(address);
        }
    }

    /// Tells the networks about all addresses, VIPs included.
    pub(super) fn announce_all(&mut self) {
        self.announce_own();
        let mut vips: Vec<_> = self
            .services
            .vips()
            .filter_map(|vip| match vip {
                IpAddr::V4(vip) => Some(vip),
                IpAddr::V6(_) => None,
            })
            .collect();
        vips.sort_unstable();
        for vip in vips {
            self.announce(vip);
        }
    }

    /// Has an address announced, as soon as there is room for it.
    pub(super) fn announce(&mut self, address: Ipv4Addr) {
        self.announcements.insert(address);
    }

    /// Sends announcements that are due, but only into the first half of the
    /// queues to the workers: thousands of VIPs must not crowd out answers, or
    /// one another. Returns whether there were any.
    pub(super) fn send_announcements(&mut self) -> bool {
        let mut busy = false;
        while self.has_room_for(self.network.ports().len())
            && let Some(address) = self.announcements.pop_first()
        {
            busy = true;
            // Its service may have gone meanwhile.
            if self.is_own(address) {
                self.send_announcement(address);
            }
        }
        busy
    }

    /// Gratuitous ARP (RFC 5227 section 3) for an address: on the ports whose
    /// network holds it, or on all ports when none does.
    fn send_announcement(&mut self, address: Ipv4Addr) {
        let ports: Vec<_> = (0..).map(PortIndex).zip(self.network.ports()).collect();
        let holds = |port: &NetworkPort| {
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

    /// Logs what an outside party can cause, so often at most.
    fn log_limited(&mut self, now: Ticks, level: log::Level, text: std::fmt::Arguments<'_>) {
        if self.log_limit.take(now) {
            log::log!(level, "{text}");
        }
    }

    /// Whether an address is the director's own or a VIP.
    pub(super) fn is_own(&self, address: Ipv4Addr) -> bool {
        self.network.own_addresses().contains(&address) || self.services.has_vip(address.into())
    }
}

/// What stands after the Ethernet header and the VLAN tag, if there is one.
fn arp_of(frame: &[u8]) -> Option<&[u8]> {
    let (header, payload) = EthernetHeader::parse(frame).ok()?;
    if header.ether_type() == EtherType::VLAN {
        payload.get(vlan::TAG_LEN..)
    } else {
        Some(payload)
    }
}
