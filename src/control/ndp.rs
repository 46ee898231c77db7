//! Neighbor Discovery over IPv6: answering, learning, asking and announcing
//! (RFC 4861), and noticing who has an address of the director already (RFC
//! 4862).

use std::net::{IpAddr, Ipv6Addr};

use super::{Management, duplicate, punted::ip_bytes};
use crate::{
    clock::Ticks,
    io::{Driver, Packet, PortIndex},
    neighbor::{LearnKind, NeighborKey},
    pipeline::{Punted, is_martian},
    wire::{
        IpProtocol,
        ethernet::{EtherType, EthernetHeader, MacAddr},
        ipv6::Ipv6Header,
        mld::{self, RecordType},
        ndp::{self, Advertisement, NdpMessage, multicast_mac, solicited_node},
    },
};

impl<D: Driver> Management<D> {
    /// A message of Neighbor Discovery.
    pub(super) fn take_neighbor_discovery(&mut self, punted: &Punted<D::Packet>, now: Ticks) {
        let Some(packet) = ip_bytes(punted) else {
            return;
        };
        let Ok((ip, message)) = Ipv6Header::parse(packet) else {
            return self.host.nd_bad.add(1);
        };
        // RFC 6980: extension headers only help those who hide.
        if ip.next_header() != IpProtocol::ICMPV6 {
            return self.host.nd_bad.add(1);
        }
        let sender = EthernetHeader::parse(punted.packet.bytes())
            .map(|(ethernet, _)| ethernet.source())
            .unwrap_or_default();
        let source = ip.source();
        // Switches in a loop, or ports of the director on one network, bring
        // back what it sent itself.
        if self.network.ports().iter().any(|port| port.mac == sender) {
            return;
        }
        match NdpMessage::parse(&ip, message) {
            Ok(NdpMessage::Solicitation { target, source_mac }) => {
                let question = Question {
                    port: punted.port,
                    sender,
                    source,
                    source_mac,
                    target,
                };
                self.take_solicitation(&question, now);
            }
            Ok(NdpMessage::Advertisement(advertisement)) => {
                self.take_advertisement(punted.port, sender, &advertisement, now);
            }
            Ok(NdpMessage::Other) => {}
            Err(_) => self.host.nd_bad.add(1),
        }
    }

    fn take_solicitation(&mut self, question: &Question, now: Ticks) {
        let &Question {
            port,
            sender,
            source,
            source_mac,
            target,
        } = question;
        if source.is_unspecified() {
            // Somebody wants the address for itself.
            if !self.is_answered_for(port, target) {
                return;
            }
            self.address_conflict(target, sender, now);
            if self.probes.is_usable(target) {
                self.host.replies.add(1);
                self.send_advertisement(port, target, ndp::ALL_NODES, None);
            }
            return;
        }
        if self.is_own(source.into()) {
            return self.address_conflict(source, sender, now);
        }
        if !self.is_answered_for(port, target)
            || !self.probes.is_usable(target)
            || is_martian(source.into())
        {
            return;
        }
        if let Some(mac) = source_mac {
            let key = NeighborKey {
                port,
                ip: source.into(),
            };
            let change = self
                .network
                .neighbors
                .learn(key, mac, LearnKind::Request, now);
            self.neighbor_changed(key, change, now);
        }
        self.host.replies.add(1);
        // A question without the asker's MAC came to us alone: from a station
        // that knows us, and that the frame names.
        self.send_advertisement(port, target, source, Some(source_mac.unwrap_or(sender)));
    }

    fn take_advertisement(
        &mut self,
        port: PortIndex,
        sender: MacAddr,
        advertisement: &Advertisement,
        now: Ticks,
    ) {
        let target = advertisement.target;
        if self.is_own(target.into()) {
            return self.address_conflict(target, sender, now);
        }
        let key = NeighborKey {
            port,
            ip: target.into(),
        };
        // Without the option it can only confirm what is known.
        let Some(mac) = advertisement
            .target_mac
            .or_else(|| self.network.neighbors.mac(key))
        else {
            return;
        };
        let kind = LearnKind::Advertisement {
            solicited: advertisement.solicited,
            overrides: advertisement.override_,
        };
        let change = self.network.neighbors.learn(key, mac, kind, now);
        self.neighbor_changed(key, change, now);
    }

    /// Another station has an address of the director, or wants it.
    fn address_conflict(&mut self, address: Ipv6Addr, sender: MacAddr, now: Ticks) {
        self.host.address_conflict.add(1);
        if self.probes.conflict(address, now) {
            log::error!(
                "{sender} has {address}, an address of this director: it is neither announced \
                 nor answered for until a probe, every {} s, finds it free",
                duplicate::RETRY_MS / 1000
            );
        } else {
            self.log_limited(
                now,
                log::Level::Warn,
                format_args!("{sender} claims {address}, an address of this director"),
            );
        }
    }

    /// Whether questions for an address that arrive at a port are answered:
    /// for the port's own addresses, for all VIPs and for the networks that outer
    /// packets come from.
    fn is_answered_for(&self, port: PortIndex, target: Ipv6Addr) -> bool {
        let target = IpAddr::V6(target);
        self.services.vips().has(target)
            || self.services.outer_sources().has(target)
            || self
                .network
                .port(port)
                .is_some_and(|port| port.has_address(target))
    }

    /// Asks for a neighbor over IPv6: its group, or one station.
    pub(super) fn send_solicitation(
        &mut self,
        port_index: PortIndex,
        target: Ipv6Addr,
        unicast: Option<MacAddr>,
    ) {
        let Some(port) = self.network.port(port_index) else {
            return;
        };
        let Some(IpAddr::V6(source)) = port.source_towards(target.into()) else {
            return;
        };
        let (destination, mac) = match unicast {
            Some(mac) => (target, mac),
            None => group_of(target),
        };
        let packet = ndp::solicitation_packet(source, port.mac, target, destination);
        self.send_frame(port_index, mac, EtherType::IPV6, &packet);
    }

    /// Joins the group of an address and asks whether anybody has it.
    pub(super) fn send_probe(&mut self, port_index: PortIndex, address: Ipv6Addr) {
        self.send_group_report(
            port_index,
            &[solicited_node(address)],
            RecordType::ChangeToExclude,
        );
        let (_, mac) = group_of(address);
        let packet = ndp::probe_packet(address);
        self.send_frame(port_index, mac, EtherType::IPV6, &packet);
    }

    /// Tells all nodes that an address is here (RFC 4861 section 7.2.6).
    pub(super) fn send_unsolicited_advertisement(&mut self, port: PortIndex, address: Ipv6Addr) {
        self.send_advertisement(port, address, ndp::ALL_NODES, None);
    }

    /// Says that `target` is here: to all nodes, or to the station at `mac` that
    /// asked.
    fn send_advertisement(
        &mut self,
        port_index: PortIndex,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        mac: Option<MacAddr>,
    ) {
        let Some(port) = self.network.port(port_index) else {
            return;
        };
        let packet = Advertisement {
            target,
            target_mac: Some(port.mac),
            router: false,
            solicited: mac.is_some(),
            override_: true,
        }
        .to_packet(target, destination);
        let mac = mac.unwrap_or(multicast_mac(destination));
        self.send_frame(port_index, mac, EtherType::IPV6, &packet);
    }

    /// Tells switches that snoop, so often that they do not forget, to which
    /// ports the groups of the addresses go.
    pub(super) fn report_groups(&mut self, now: Ticks) {
        if now.ms_since(self.groups_reported) < GROUP_REPORT_INTERVAL_MS {
            return;
        }
        self.groups_reported = now;
        let own = self.network.own_addresses().iter().copied();
        let addresses: Vec<_> = own.chain(self.services.vips().single()).collect();
        let mut groups: Vec<(PortIndex, Ipv6Addr)> = addresses
            .into_iter()
            .filter_map(|address| match address {
                IpAddr::V6(v6) => Some((address, solicited_node(v6))),
                IpAddr::V4(_) => None,
            })
            .flat_map(|(address, group)| {
                self.ports_of(address)
                    .into_iter()
                    .map(move |port| (port, group))
            })
            .collect();
        groups.sort_unstable();
        groups.dedup();
        for same_port in groups.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(port, _)) = same_port.first() else {
                continue;
            };
            let groups: Vec<_> = same_port.iter().map(|&(_, group)| group).collect();
            for groups in groups.chunks(mld::GROUPS_MAX) {
                // What finds no room now is reported next time.
                if self.has_room_for(1) {
                    self.send_group_report(port, groups, RecordType::ModeIsExclude);
                }
            }
        }
    }

    fn send_group_report(
        &mut self,
        port_index: PortIndex,
        groups: &[Ipv6Addr],
        record: RecordType,
    ) {
        let Some(port) = self.network.port(port_index) else {
            return;
        };
        let source = port
            .link_local()
            .filter(|&address| self.probes.is_usable(address))
            .unwrap_or(Ipv6Addr::UNSPECIFIED);
        let packet = mld::report_packet(source, groups, record);
        let mac = multicast_mac(mld::ALL_ROUTERS);
        self.send_frame(port_index, mac, EtherType::IPV6, &packet);
    }
}

/// Who has `target`?
struct Question {
    port: PortIndex,
    /// The station that the frame came from.
    sender: MacAddr,
    source: Ipv6Addr,
    source_mac: Option<MacAddr>,
    target: Ipv6Addr,
}

/// The group in which the owner of an address listens, and its MAC address.
fn group_of(address: Ipv6Addr) -> (Ipv6Addr, MacAddr) {
    let group = solicited_node(address);
    (group, multicast_mac(group))
}

/// Half of what snooping switches wait with the defaults of RFC 3810 section
/// 9.4 (260 s), so that one report may be lost.
const GROUP_REPORT_INTERVAL_MS: u64 = 125_000;
