//! Frames of clients, made from a template with the fewest writes.

use std::net::{Ipv4Addr, Ipv6Addr};

use pointsman::wire::{
    IpProtocol,
    ethernet::{EtherType, EthernetFields, MacAddr},
    ipv4::Ipv4Fields,
    ipv6::Ipv6Fields,
};

pub(crate) const DIRECTOR: MacAddr = MacAddr([2, 0, 0, 0, 0xd0, 0]);
pub(crate) const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0xc0, 0]);
pub(crate) const VIP: u32 = 0xc633_0000;

/// What clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    TcpAck,
    TcpSyn,
    Udp,
    /// Like `TcpAck`, over IPv6.
    TcpAckV6,
    /// UDP to an address that is none of the director's.
    Stray,
}

/// Which flow comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One of so many, at random.
    Random(u64),
    /// All of so many, in turn.
    InTurn(u64),
    /// Each packet another, and none twice.
    New,
    /// So many established ones at random, and for each packet of theirs ten of
    /// flows that come only once.
    Flooded(u64),
}

/// An endless sequence of frames.
#[derive(Debug)]
pub(crate) struct Traffic {
    kind: Kind,
    pub(crate) order: Order,
    /// Over how many services, each of a VIP of its own, flows are spread.
    services: u32,
    frame: Vec<u8>,
    random: u64,
    next: u64,
}

impl Traffic {
    pub(crate) fn new(kind: Kind, order: Order, services: u32, frame_len: usize) -> Self {
        Self {
            kind,
            order,
            services,
            frame: template(kind, frame_len),
            random: 0x9e37_79b9,
            next: 0,
        }
    }

    pub(crate) fn frame_len(&self) -> usize {
        self.frame.len()
    }

    /// The flow of the next packet, and whether it is one of the flood.
    pub(crate) fn next_flow(&mut self) -> (u64, bool) {
        self.next += 1;
        match self.order {
            Order::New => (self.next, false),
            Order::Random(flows) => (self.random() % flows, false),
            Order::InTurn(flows) => (self.next % flows.max(1), false),
            Order::Flooded(flows) if self.next.is_multiple_of(11) => (self.random() % flows, false),
            Order::Flooded(flows) => (flows + self.next, true),
        }
    }

    fn random(&mut self) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Writes the headers of a packet of `flow` over what a packet of before
    /// left in `frame`.
    #[inline]
    pub(crate) fn write(&self, frame: &mut [u8], (flow, is_flood): (u64, bool)) {
        let head = self.frame.len().min(HEAD_LEN);
        frame[..head].copy_from_slice(&self.frame[..head]);
        // Neighbours in number are neighbours in nothing else.
        let mixed = (flow as u32).wrapping_mul(0x9e37_79b1);
        let client = 0x0b00_0000 | mixed >> 8;
        let port = 0x4000 | (mixed & 0xff) as u16;
        let service = (flow % u64::from(self.services)) as u32;
        if self.kind == Kind::TcpAckV6 {
            frame[34..38].copy_from_slice(&client.to_be_bytes());
            frame[50..54].copy_from_slice(&service.to_be_bytes());
            frame[54..56].copy_from_slice(&port.to_be_bytes());
            return;
        }
        let vip = VIP + service;
        let before = u16::from_be_bytes([frame[24], frame[25]]);
        frame[26..30].copy_from_slice(&client.to_be_bytes());
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        let mut sum = u32::from(!before) + (client >> 16) + (client & 0xffff);
        if self.kind != Kind::Stray {
            frame[30..34].copy_from_slice(&vip.to_be_bytes());
            sum += (vip >> 16) + (vip & 0xffff);
        }
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        if is_flood {
            frame[47] = SYN;
        }
    }
}

/// What changes from packet to packet lies within so many bytes.
const HEAD_LEN: usize = 78;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn template(kind: Kind, frame_len: usize) -> Vec<u8> {
    let mut frame = vec![0; frame_len];
    let is_v6 = kind == Kind::TcpAckV6;
    let ethernet = EthernetFields {
        destination: DIRECTOR,
        source: SERVER,
        ether_type: if is_v6 {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        },
    };
    frame[..14].copy_from_slice(&ethernet.to_bytes());
    let protocol = match kind {
        Kind::Udp | Kind::Stray => IpProtocol::UDP,
        _ => IpProtocol::TCP,
    };
    let l4 = if is_v6 {
        let ip = Ipv6Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len: (frame_len - 54) as u16,
            next_header: protocol,
            hop_limit: 64,
            source: Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0),
        };
        frame[14..54].copy_from_slice(&ip.to_bytes());
        54
    } else {
        let ip = Ipv4Fields {
            tos: 0,
            total_len: (frame_len - 14) as u16,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol,
            source: Ipv4Addr::UNSPECIFIED,
            destination: match kind {
                Kind::Stray => Ipv4Addr::new(203, 0, 113, 99),
                _ => Ipv4Addr::UNSPECIFIED,
            },
        };
        frame[14..34].copy_from_slice(&ip.to_bytes());
        34
    };
    frame[l4 + 2..l4 + 4].copy_from_slice(&80_u16.to_be_bytes());
    if protocol == IpProtocol::TCP {
        frame[l4 + 12] = 0x50;
        frame[l4 + 13] = if kind == Kind::TcpSyn { SYN } else { ACK };
    }
    frame
}
