//! Frames written by hand: nothing of the director makes or checks them.

use std::net::Ipv4Addr;

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The director's address towards the clients.
pub(crate) const CLIENT_SIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router towards the clients.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// The director's address towards the real servers: the outer source.
pub(crate) const SERVER_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// MAC addresses of the director's ports.
pub(crate) const PORT_MACS: [[u8; 6]; 2] = [*b"\x02pcap\x00", *b"\x02pcap\x01"];
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];

/// The real server 10.0.0.`host`.
pub(crate) const fn server(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

/// The MAC address of the real server 10.0.0.`host`.
pub(crate) const fn server_mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 2, host]
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// An IPv4 packet to be.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    /// Flags and fragment offset.
    pub(crate) flags: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    /// A multiple of 4 bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DF: u16 = 0x4000;
pub(crate) const MF: u16 = 0x2000;

impl Ip {
    /// From the client to the VIP, TTL 64, DF set.
    pub(crate) fn new(protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source: CLIENT,
            destination: VIP,
            tos: 0,
            id: 0x1234,
            flags: DF,
            ttl: 64,
            protocol,
            options: Vec::new(),
            payload,
        }
    }

    /// The packet. The header checksum is filled in, and that of a whole TCP
    /// header that has none.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total_len = u16::try_from(header_len + self.payload.len()).unwrap();
        let mut packet = vec![0x40 | u8::try_from(header_len / 4).unwrap(), self.tos];
        packet.extend(total_len.to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.flags.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(&self.options);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(&self.payload);
        if self.protocol == 6 && self.payload.get(16..18) == Some(&[0, 0]) {
            let len = u16::try_from(self.payload.len()).unwrap();
            let pseudo = [&packet[12..20], &[0, 6], &len.to_be_bytes(), &self.payload].concat();
            let at = header_len + 16;
            packet[at..at + 2].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        }
        packet
    }

    /// The packet in a frame from the router to the director's first port.
    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(PORT_MACS[0], GATEWAY_MAC, 0x0800, &self.packet())
    }
}

/// A TCP segment of a client from `client_port` to port 80.
pub(crate) fn segment(client_port: u16, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = client_port.to_be_bytes().to_vec();
    segment.extend([
        0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0,
    ]);
    segment.extend(data);
    segment
}

/// A TCP packet to VIP:80.
pub(crate) fn tcp(client_port: u16, flags: u8) -> Ip {
    Ip::new(6, segment(client_port, flags, b""))
}

/// A TCP packet of `total_len` bytes with DF set or clear.
pub(crate) fn tcp_of_len(client_port: u16, flags: u8, total_len: usize, df: bool) -> Ip {
    Ip {
        flags: if df { DF } else { 0 },
        ..Ip::new(6, segment(client_port, flags, &counting(total_len - 40)))
    }
}

/// A UDP packet to `service_port`, without a checksum.
pub(crate) fn udp(client_port: u16, service_port: u16, data: &[u8]) -> Ip {
    let mut datagram = client_port.to_be_bytes().to_vec();
    datagram.extend(service_port.to_be_bytes());
    datagram.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    Ip::new(17, datagram)
}

/// An ICMP message to the VIP, checksum filled in.
pub(crate) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Ip {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ip::new(1, message)
}

/// An ICMP error of the client's side about a packet that went from VIP:80 to
/// `client_port`.
pub(crate) fn icmp_error(kind: u8, code: u8, client_port: u16) -> Ip {
    let quoted = Ip {
        source: VIP,
        destination: CLIENT,
        ..Ip::new(
            6,
            [80_u16, client_port, 0, 1].map(u16::to_be_bytes).concat(),
        )
    };
    icmp(kind, code, &[&[0; 4][..], &quoted.packet()].concat())
}

/// ARP, RFC 826: 1 asks, 2 answers.
pub(crate) fn arp(
    operation: u8,
    (sender_mac, sender): ([u8; 6], Ipv4Addr),
    (target_mac, target): ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
    arp.extend(sender_mac);
    arp.extend(sender.octets());
    arp.extend(target_mac);
    arp.extend(target.octets());
    arp
}

/// An ARP request of the router for `target`, broadcast.
pub(crate) fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let request = arp(1, (GATEWAY_MAC, GATEWAY), ([0; 6], target));
    ethernet([0xff; 6], GATEWAY_MAC, 0x0806, &request)
}

/// An ARP reply of the station `mac` to the director's port 1: it is `sender`.
pub(crate) fn arp_reply(mac: [u8; 6], sender: Ipv4Addr) -> Vec<u8> {
    let reply = arp(2, (mac, sender), (PORT_MACS[1], SERVER_SIDE));
    ethernet(PORT_MACS[1], mac, 0x0806, &reply)
}

pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let ether_type = ether_type.to_be_bytes();
    [&to[..], &from, &ether_type, payload].concat()
}

/// The frame with an 802.1Q tag.
pub(crate) fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &tag.to_be_bytes(), &frame[12..]].concat()
}

/// `len` bytes that tell where they stand.
pub(crate) fn counting(len: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(len).collect()
}

/// RFC 1071, the slow way: long division by 0xffff of the whole number.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let padded = bytes
        .iter()
        .copied()
        .chain((bytes.len() % 2 == 1).then_some(0));
    let rest = padded.fold(0_u32, |rest, byte| (rest * 256 + u32::from(byte)) % 0xffff);
    let sum = if rest == 0 && bytes.iter().any(|byte| *byte != 0) {
        0xffff
    } else {
        rest
    };
    !u16::try_from(sum).unwrap()
}

#[test]
fn checksum_is_that_of_a_recorded_header() {
    let header =
        b"\x45\x00\x00\x28\x12\x34\x40\x00\x3f\x06\x00\x00\xcb\x00\x71\x07\xc6\x33\x64\x0a";
    assert_eq!(checksum(header), 0xc356);
}

#[test]
fn frame_is_that_of_the_recorded_syn() {
    assert_eq!(
        tcp(1000, SYN).packet()[..20],
        *b"\x45\x00\x00\x28\x12\x34\x40\x00\x40\x06\xc2\x56\xcb\x00\x71\x07\xc6\x33\x64\x0a"
    );
}
