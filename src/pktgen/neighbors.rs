//! ARP and Neighbor Discovery: pktgen answers for the addresses that it stands
//! for, and asks for the director.
use std::net::{IpAddr, Ipv6Addr};

use super::address::AddressRange;
use crate::wire::{
    IpProtocol,
    arp::{ArpFields, ArpOperation, ArpPacket},
    ethernet::{EtherType, EthernetFields, MacAddr},
    ipv6::Ipv6Header,
    ndp::{self, Advertisement, NdpMessage},
    vlan::VlanFields,
};

/// The addresses that pktgen stands for.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbors {
    /// Addresses of its own: of the clients' router.
    pub(super) locals: Vec<IpAddr>,
    /// The real servers.
    pub(super) servers: Vec<AddressRange>,
    pub(super) vlan: Option<u16>,
}

/// What an ARP or Neighbor Discovery packet leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reaction {
    /// A frame to send.
    pub(super) reply: Option<Vec<u8>>,
    /// Who told where it is.
    pub(super) learned: Option<(IpAddr, MacAddr)>,
}

impl Neighbors {
    fn has(&self, address: IpAddr) -> bool {
        let is_in = |range: &AddressRange| range.position(address).is_some();
        self.locals.contains(&address) || self.servers.iter().any(is_in)
    }

    /// Takes what an ARP frame carries, on a port with this MAC address.
    pub(super) fn take_arp(&self, payload: &[u8], mac: MacAddr) -> Reaction {
        let Ok((arp, _)) = ArpPacket::parse(payload) else {
            return Reaction::default();
        };
        let wants = arp.operation() == ArpOperation::Request && self.has(arp.target_ip().into());
        let reply = wants.then(|| {
            let answer = ArpFields::reply(&arp, mac).to_bytes();
            self.frame(arp.sender_mac(), mac, EtherType::ARP, &answer)
        });
        Reaction {
            reply,
            learned: Some((arp.sender_ip().into(), arp.sender_mac())),
        }
    }

    /// Takes an IPv6 packet with an ICMPv6 message. `None` when it is not about
    /// neighbors.
    pub(super) fn take_icmpv6(&self, packet: &[u8], mac: MacAddr) -> Option<Reaction> {
        let (ip, message) = Ipv6Header::parse(packet).ok()?;
        if ip.next_header() != IpProtocol::ICMPV6 {
            // Reports of group members have a hop-by-hop header in front.
            return ip.destination().is_multicast().then(Reaction::default);
        }
        if !matches!(message.first(), Some(133..=137)) {
            return ip.destination().is_multicast().then(Reaction::default);
        }
        let Ok(found) = NdpMessage::parse(&ip, message) else {
            return Some(Reaction::default());
        };
        Some(match found {
            NdpMessage::Solicitation { target, source_mac } => {
                self.answer(ip, target, source_mac, mac)
            }
            NdpMessage::Advertisement(Advertisement {
                target,
                target_mac: Some(target_mac),
                ..
            }) => Reaction {
                reply: None,
                learned: Some((target.into(), target_mac)),
            },
            NdpMessage::Advertisement(_) | NdpMessage::Other => Reaction::default(),
        })
    }

    fn answer(
        &self,
        ip: Ipv6Header<'_>,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
        mac: MacAddr,
    ) -> Reaction {
        let source = ip.source();
        let learned = source_mac.map(|source_mac| (source.into(), source_mac));
        let wants = self.has(target.into()) && !source.is_unspecified();
        let reply = source_mac.filter(|_| wants).map(|source_mac| {
            let advertisement = Advertisement {
                target,
                target_mac: Some(mac),
                router: false,
                solicited: true,
                override_: true,
            };
            let packet = advertisement.to_packet(target, source);
            self.frame(source_mac, mac, EtherType::IPV6, &packet)
        });
        Reaction { reply, learned }
    }

    /// The frame that asks for the MAC address of `address`. `None` without an
    /// address of that version to ask from.
    pub(super) fn question(&self, address: IpAddr, mac: MacAddr) -> Option<Vec<u8>> {
        match address {
            IpAddr::V4(target) => {
                let local = self.locals.iter().find_map(|local| match local {
                    IpAddr::V4(local) => Some(*local),
                    IpAddr::V6(_) => None,
                })?;
                let request = ArpFields::request(mac, local, target).to_bytes();
                Some(self.frame(MacAddr::BROADCAST, mac, EtherType::ARP, &request))
            }
            IpAddr::V6(target) => {
                let local = self.locals.iter().find_map(|local| match local {
                    IpAddr::V6(local) => Some(*local),
                    IpAddr::V4(_) => None,
                });
                let local = local.unwrap_or(ndp::link_local(mac));
                let group = ndp::solicited_node(target);
                let packet = ndp::solicitation_packet(local, mac, target, group);
                let to = ndp::multicast_mac(group);
                Some(self.frame(to, mac, EtherType::IPV6, &packet))
            }
        }
    }

    fn frame(
        &self,
        destination: MacAddr,
        source: MacAddr,
        ether_type: EtherType,
        payload: &[u8],
    ) -> Vec<u8> {
        let ethernet = EthernetFields {
            destination,
            source,
            ether_type: self.vlan.map_or(ether_type, |_| EtherType::VLAN),
        };
        let mut frame = ethernet.to_bytes().to_vec();
        if let Some(vid) = self.vlan {
            let tag = VlanFields {
                priority: 0,
                drop_eligible: false,
                vid,
                ether_type,
            };
            frame.extend(tag.to_bytes());
        }
        frame.extend(payload);
        frame.resize(frame.len().max(usize::from(super::size::FRAME_LEN_MIN)), 0);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_support::hex;

    const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0xaa, 0x01]);
    const DIRECTOR: MacAddr = MacAddr([0x02, 0, 0, 0, 0xd0, 0x01]);

    fn neighbors() -> Neighbors {
        Neighbors {
            locals: vec!["10.0.0.254".parse().unwrap()],
            servers: vec![
                "10.0.0.11-10.0.0.12".parse().unwrap(),
                "2001:db8::11".parse().unwrap(),
            ],
            vlan: None,
        }
    }

    /// What Linux sent to find 10.0.0.99, with another last byte.
    fn request(host: u8) -> Vec<u8> {
        let mut bytes = hex("0001080006040001 02000000d001 0a000001 000000000000 0a000063");
        bytes[27] = host;
        bytes
    }

    #[test]
    fn arp_for_a_real_server_is_answered() {
        let reaction = neighbors().take_arp(&request(12), MAC);
        let mut expected = hex("02000000d001 02000000aa01 0806 \
                                0001080006040002 02000000aa01 0a00000c 02000000d001 0a000001");
        expected.resize(60, 0);
        assert_eq!(reaction.reply, Some(expected));
        let learned = ("10.0.0.1".parse().unwrap(), DIRECTOR);
        assert_eq!(reaction.learned, Some(learned));
    }

    #[test]
    fn arp_for_the_router_is_answered_with_the_tag() {
        let tagged = Neighbors {
            vlan: Some(7),
            ..neighbors()
        };
        let reply = tagged.take_arp(&request(254), MAC).reply.unwrap();
        assert_eq!(reply[12..18], *hex("8100 0007 0806"));
    }

    #[test]
    fn arp_for_others_is_not_answered() {
        for host in [10, 13] {
            assert_eq!(neighbors().take_arp(&request(host), MAC).reply, None);
        }
    }

    #[test]
    fn the_director_is_asked_for_by_arp() {
        let mut expected = hex("ffffffffffff 02000000aa01 0806 \
                                0001080006040001 02000000aa01 0a0000fe 000000000000 0a000001");
        expected.resize(60, 0);
        let question = neighbors().question("10.0.0.1".parse().unwrap(), MAC);
        assert_eq!(question, Some(expected));
        let nobody = Neighbors::default();
        assert_eq!(nobody.question("10.0.0.1".parse().unwrap(), MAC), None);
    }

    #[test]
    fn neighbor_discovery_is_answered_and_asked_alike() {
        // A director asks for the real server, and we ask for a director.
        let asking = Neighbors {
            locals: vec!["2001:db8::1".parse().unwrap()],
            ..Neighbors::default()
        };
        let question = asking.question("2001:db8::11".parse().unwrap(), DIRECTOR);
        let question = question.unwrap();
        assert_eq!(question[..14], *hex("3333ff000011 02000000d001 86dd"));
        let reaction = neighbors().take_icmpv6(&question[14..], MAC).unwrap();
        let learned = ("2001:db8::1".parse().unwrap(), DIRECTOR);
        assert_eq!(reaction.learned, Some(learned));
        let reply = reaction.reply.unwrap();
        assert_eq!(reply[..14], *hex("02000000d001 02000000aa01 86dd"));
        let reaction = asking.take_icmpv6(&reply[14..], DIRECTOR).unwrap();
        let learned = ("2001:db8::11".parse().unwrap(), MAC);
        assert_eq!(reaction.learned, Some(learned));
        assert_eq!(reaction.reply, None);
    }
}
