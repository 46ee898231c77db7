//! Packets over IPv6 written by hand, with their extension headers, and cut
//! into fragments: nothing of the director makes or checks them.

use std::net::Ipv6Addr;

use crate::{
    frames::{GATEWAY_MAC, PORT_MACS, checksum, ethernet, segment},
    ipv6::{CLIENT, VIP},
};

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

/// The real server `2001:db8:2::HOST`, HOST as it is written: 0x11 to 0x14.
pub(crate) const fn server(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host)
}

/// An IPv6 packet to be.
#[derive(Clone, Debug)]
pub(crate) struct Ip6 {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) tos: u8,
    pub(crate) flow_label: u32,
    pub(crate) hop_limit: u8,
    /// Extension headers from the outermost on: which one, and its bytes after
    /// the next header.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) protocol: u8,
    pub(crate) payload: Vec<u8>,
}

impl Ip6 {
    /// From the client to the VIP, hop limit 64.
    pub(crate) fn new(protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source: CLIENT,
            destination: VIP,
            tos: 0,
            flow_label: 0,
            hop_limit: 64,
            extensions: Vec::new(),
            protocol,
            payload,
        }
    }

    /// With an extension header of options, which are eight bytes of padding.
    pub(crate) fn and_options(mut self, kind: u8) -> Self {
        self.extensions.push((kind, vec![0, 1, 4, 0, 0, 0, 0]));
        self
    }

    /// With a fragment header. `offset` in bytes.
    pub(crate) fn and_fragment(mut self, id: u32, offset: usize, more: bool) -> Self {
        let field = u16::try_from(offset).unwrap() | u16::from(more);
        let mut header = vec![0];
        header.extend(field.to_be_bytes());
        header.extend(id.to_be_bytes());
        self.extensions.push((FRAGMENT, header));
        self
    }

    /// With the checksum of TCP, UDP or ICMPv6 filled in, which is at `at` of
    /// the payload.
    fn summed_at(mut self, at: usize) -> Self {
        self.payload[at..at + 2].fill(0);
        let mut summed = self.source.octets().to_vec();
        summed.extend(self.destination.octets());
        summed.extend(u32::try_from(self.payload.len()).unwrap().to_be_bytes());
        summed.extend([0, 0, 0, self.protocol]);
        summed.extend(&self.payload);
        let sum = checksum(&summed).to_be_bytes();
        self.payload[at..at + 2].copy_from_slice(&sum);
        self
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut headers = Vec::new();
        let mut kinds = self.extensions.iter().map(|(kind, _)| *kind);
        let first = kinds.next().unwrap_or(self.protocol);
        for (_, rest) in &self.extensions {
            headers.push(kinds.next().unwrap_or(self.protocol));
            headers.extend(rest);
        }
        let word = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label;
        let mut packet = word.to_be_bytes().to_vec();
        let payload_len = headers.len() + self.payload.len();
        packet.extend(u16::try_from(payload_len).unwrap().to_be_bytes());
        packet.extend([first, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(headers);
        packet.extend(&self.payload);
        packet
    }

    /// The packet in a frame from the router to the director's first port.
    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(PORT_MACS[0], GATEWAY_MAC, 0x86dd, &self.packet())
    }

    /// The packet as a router hands it on.
    pub(crate) fn one_hop_on(&self) -> Vec<u8> {
        Self {
            hop_limit: self.hop_limit - 1,
            ..self.clone()
        }
        .packet()
    }
}

/// A TCP packet from `source` to VIP:80.
pub(crate) fn tcp_from(source: Ipv6Addr, client_port: u16, flags: u8, data: &[u8]) -> Ip6 {
    Ip6 {
        source,
        ..Ip6::new(6, segment(client_port, flags, data))
    }
    .summed_at(16)
}

/// A TCP packet of the client to VIP:80.
pub(crate) fn tcp(client_port: u16, flags: u8, data: &[u8]) -> Ip6 {
    tcp_from(CLIENT, client_port, flags, data)
}

/// A UDP packet of the client to `service_port` of the VIP.
pub(crate) fn udp(client_port: u16, service_port: u16, data: &[u8]) -> Ip6 {
    let mut datagram = client_port.to_be_bytes().to_vec();
    datagram.extend(service_port.to_be_bytes());
    datagram.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    Ip6::new(17, datagram).summed_at(6)
}

/// An ICMPv6 message of the client to the VIP: type, code, and what follows the
/// checksum.
pub(crate) fn icmpv6(icmp_type: u8, code: u8, rest: &[u8]) -> Ip6 {
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(rest);
    Ip6::new(58, message).summed_at(2)
}

/// The packet with its destination changed, and the checksum of its protocol
/// with it.
pub(crate) fn to(destination: Ipv6Addr, packet: Ip6) -> Ip6 {
    let at = match packet.protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    };
    Ip6 {
        destination,
        ..packet
    }
    .summed_at(at)
}

/// The fragment of a packet that holds `len` bytes of its payload from `offset`
/// on.
pub(crate) fn piece(whole: &Ip6, id: u32, offset: usize, len: usize) -> Ip6 {
    let end = whole.payload.len().min(offset + len);
    let fragment = Ip6 {
        payload: whole.payload[offset..end].to_vec(),
        ..whole.clone()
    };
    fragment.and_fragment(id, offset, end < whole.payload.len())
}

/// A packet in fragments of `len` bytes of payload.
pub(crate) fn cut(whole: &Ip6, id: u32, len: usize) -> Vec<Ip6> {
    let starts = (0..whole.payload.len()).step_by(len);
    starts.map(|offset| piece(whole, id, offset, len)).collect()
}

#[test]
fn chain_of_headers_is_that_of_rfc_8200() {
    let packet = piece(
        &Ip6::new(17, vec![7; 24]).and_options(HOP_BY_HOP),
        0x0102_0304,
        16,
        8,
    )
    .packet();
    assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 24, 0, 64]);
    assert_eq!(
        packet[40..],
        [
            44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 16, 1, 2, 3, 4, 7, 7, 7, 7, 7, 7, 7, 7
        ]
    );
}
