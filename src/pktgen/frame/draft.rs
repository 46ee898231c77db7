//! Makes templates: whole frames, with zeros for what is filled in later.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    FRAGMENT_LEN_MIN, L4_HEAD_LEN, Part, STAMP_LEN, Shape, TCP_HEADER_WORDS, fragment_word,
};
use crate::{
    pktgen::{plan::Plan, service::Transport},
    wire::{
        IpProtocol, IpVersion,
        checksum::Sum,
        ethernet::{EtherType, EthernetFields, MacAddr},
        ipv4::Ipv4Fields,
        ipv6::{FRAGMENT, FragmentHeader, Ipv6Fields},
        vlan::VlanFields,
    },
};

/// What a shape is made from.
#[derive(Clone, Copy)]
pub(super) struct Draft {
    pub(super) version: IpVersion,
    pub(super) transport: Transport,
    pub(super) part: Part,
    /// Into how many parts a datagram is cut.
    pub(super) parts: u8,
    /// Of the frame, without VLAN tag.
    pub(super) len: usize,
    pub(super) ttl: u8,
}

impl Draft {
    /// The template, and what its checksums have in common.
    pub(super) fn shape(self, plan: &Plan) -> Shape {
        let (message, sum, stamps) = self.message(plan);
        let header = self.header(plan, message.len());
        let l3_len = header.len();
        let ether_type = self.version.ether_type();
        let ethernet = EthernetFields {
            destination: MacAddr::default(),
            source: MacAddr::default(),
            ether_type: plan.options.vlan.map_or(ether_type, |_| EtherType::VLAN),
        };
        let mut frame = ethernet.to_bytes().to_vec();
        if let Some(vid) = plan.options.vlan {
            let tag = VlanFields {
                priority: 0,
                drop_eligible: false,
                vid,
                ether_type,
            };
            frame.extend(tag.to_bytes());
        }
        let l2_len = frame.len();
        frame.extend(&header);
        frame.extend(&message);
        let ip_sum = match self.version {
            IpVersion::V4 => u32::from(!Sum::of(&header).checksum()),
            IpVersion::V6 => 0,
        };
        Shape {
            version: self.version,
            transport: self.transport,
            part: self.part,
            fragment_word: fragment_word(&header).unwrap_or_default(),
            frame,
            l2_len,
            l3_len,
            ip_sum,
            l4_sum: sum,
            stamps,
            has_identification: self.part != Part::Whole || !plan.options.dont_fragment,
        }
    }

    const fn l3_len(self) -> usize {
        match (self.version, self.part) {
            (IpVersion::V4, _) => 20,
            (IpVersion::V6, Part::Whole) => 40,
            (IpVersion::V6, _) => 48,
        }
    }

    const fn protocol(self) -> IpProtocol {
        match self.transport {
            Transport::Tcp => IpProtocol::TCP,
            Transport::Udp => IpProtocol::UDP,
        }
    }

    /// What the IP packet carries: with zeros where something is filled in; its
    /// sum with that of the pseudo header (for fragments, of the datagram that
    /// they are of), and how many stamps that has.
    fn message(self, plan: &Plan) -> (Vec<u8>, u32, u32) {
        let room = self.len.saturating_sub(14 + self.l3_len());
        if self.part == Part::Whole {
            let message = pattern(self.transport, &[room.max(L4_HEAD_LEN)]);
            let sum = self.sum(plan, &message);
            return (message, sum, 1);
        }
        let len = (room - room % 8).max(FRAGMENT_LEN_MIN);
        let parts = usize::from(self.parts);
        let datagram = pattern(self.transport, &vec![len; parts]);
        let sum = self.sum(plan, &datagram);
        let start = self.part.place() * len;
        let message = datagram.get(start..start + len).unwrap_or_default();
        (message.to_vec(), sum, u32::from(self.parts))
    }

    fn sum(self, plan: &Plan, message: &[u8]) -> u32 {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let pseudo_header = match self.version {
            IpVersion::V4 => Sum::ipv4_pseudo_header(
                Ipv4Addr::UNSPECIFIED,
                Ipv4Addr::UNSPECIFIED,
                self.protocol(),
                u16::try_from(len).unwrap_or(u16::MAX),
            ),
            IpVersion::V6 => Sum::ipv6_pseudo_header(
                self.client_base(plan),
                Ipv6Addr::UNSPECIFIED,
                self.protocol(),
                len,
            ),
        };
        u32::from(!pseudo_header.add_bytes(message).checksum())
    }

    /// The address of the clients without its last four bytes, which are filled
    /// in.
    fn client_base(self, plan: &Plan) -> Ipv6Addr {
        match plan.client_base(self.version) {
            IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() >> 32 << 32),
        }
    }

    fn header(self, plan: &Plan, message_len: usize) -> Vec<u8> {
        let options = &plan.options;
        let more_fragments = match self.part {
            Part::Whole => false,
            Part::First => true,
            Part::Later(place) => place + 1 < self.parts,
        };
        let offset = self.part.place() * message_len;
        let fragment_offset = u16::try_from(offset).unwrap_or(u16::MAX);
        let len = u16::try_from(message_len).unwrap_or(u16::MAX);
        if self.version == IpVersion::V4 {
            let mut header = Ipv4Fields {
                tos: options.tos,
                total_len: len + 20,
                id: 0,
                dont_fragment: options.dont_fragment && self.part == Part::Whole,
                more_fragments,
                fragment_offset,
                ttl: self.ttl,
                protocol: self.protocol(),
                source: Ipv4Addr::UNSPECIFIED,
                destination: Ipv4Addr::UNSPECIFIED,
            }
            .to_bytes();
            [header[10], header[11]] = [0, 0];
            return header.to_vec();
        }
        let is_fragment = self.part != Part::Whole;
        let header = Ipv6Fields {
            traffic_class: options.tos,
            flow_label: 0,
            payload_len: if is_fragment { len + 8 } else { len },
            next_header: if is_fragment {
                FRAGMENT
            } else {
                self.protocol()
            },
            hop_limit: self.ttl,
            source: self.client_base(plan),
            destination: Ipv6Addr::UNSPECIFIED,
        };
        let mut header = header.to_bytes().to_vec();
        if is_fragment {
            let fragment = FragmentHeader {
                id: 0,
                offset: fragment_offset,
                more_fragments,
                next_header: self.protocol(),
            };
            header.extend(fragment.to_bytes());
        }
        header
    }
}

/// An L4 message that is cut into parts of these lengths: bytes that follow a
/// pattern, and zeros for what is filled in.
fn pattern(transport: Transport, parts: &[usize]) -> Vec<u8> {
    let mut message = Vec::new();
    for (place, len) in parts.iter().enumerate() {
        let filled_in = if place == 0 { L4_HEAD_LEN } else { STAMP_LEN };
        for offset in 0..*len {
            let byte = (message.len() * 7 + 3).to_le_bytes()[0];
            message.push(if offset < filled_in { 0 } else { byte });
        }
    }
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
    match transport {
        Transport::Tcp => {
            if let Some(words) = message.get_mut(12) {
                *words = TCP_HEADER_WORDS << 4;
            }
        }
        Transport::Udp => {
            if let Some(field) = message.get_mut(4..6) {
                field.copy_from_slice(&len.to_be_bytes());
            }
        }
    }
    message
}
