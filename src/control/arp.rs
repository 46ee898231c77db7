//! ARP: answering, learning and asking (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use super::Management;
use crate::{
    clock::Ticks,
    io::{Driver, Packet, PortIndex},
    neighbor::{LearnKind, NeighborKey},
    pipeline::Punted,
    wire::{
        arp::{ArpFields, ArpOperation, ArpPacket},
        ethernet::{EtherType, EthernetHeader, MacAddr},
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
        let own = |address: Ipv4Addr| self.is_own(address.into());
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
                ip: arp.sender_ip().into(),
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

    /// Asks for a neighbor over IPv4, all stations or one.
    pub(super) fn send_arp_request(
        &mut self,
        port_index: PortIndex,
        target: Ipv4Addr,
        unicast: Option<MacAddr>,
    ) {
        let Some(port) = self.network.port(port_index) else {
            return;
        };
        let Some(IpAddr::V4(source)) = port.source_towards(target.into()) else {
            return;
        };
        let request = ArpFields::request(port.mac, source, target).to_bytes();
        let destination = unicast.unwrap_or(MacAddr::BROADCAST);
        self.send_frame(port_index, destination, EtherType::ARP, &request);
    }

    /// Gratuitous ARP (RFC 5227 section 3) for an address.
    pub(super) fn send_gratuitous_arp(&mut self, port_index: PortIndex, address: Ipv4Addr) {
        let Some(port) = self.network.port(port_index) else {
            return;
        };
        let arp = ArpFields::gratuitous(port.mac, address).to_bytes();
        self.send_frame(port_index, MacAddr::BROADCAST, EtherType::ARP, &arp);
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
