//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |       Hardware type (1)       |     Protocol type (0x0800)    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Hw length (6) | Proto len (4) |           Operation           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       Sender MAC address                      |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |    Sender IPv4 address ...    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  ... sender IPv4 address      |                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//! |                       Target MAC address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      Target IPv4 address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use super::ethernet::{EtherType, MacAddr};

/// Length of the packet, without Ethernet header and padding.
pub const PACKET_LEN: usize = 28;

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ArpOperation {
    /// Who has the target's IP address?
    Request = 1,
    /// The sender has the sender's IP address.
    Reply = 2,
}

/// Why bytes are not an ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArpError {
    /// Shorter than the packet.
    #[error("{0} bytes are shorter than an ARP packet")]
    TooShort(usize),
    /// Not Ethernet.
    #[error("ARP hardware type {0} is not Ethernet (1)")]
    HardwareType(u16),
    /// Not IPv4.
    #[error("ARP protocol type {0:#06x} is not IPv4 (0x0800)")]
    ProtocolType(u16),
    /// Not the length of a MAC address.
    #[error("ARP hardware address length {0} is not 6")]
    HardwareLen(u8),
    /// Not the length of an IPv4 address.
    #[error("ARP protocol address length {0} is not 4")]
    ProtocolLen(u8),
    /// Neither request nor reply.
    #[error("ARP operation {0} is neither request (1) nor reply (2)")]
    Operation(u16),
    /// A sender whose MAC address is not that of a station: RFC 1812 section
    /// 3.3.2 forbids to believe it. (Linux does.)
    #[error("ARP sender address {0} is not that of a station")]
    SenderMac(MacAddr),
}

/// A checked view over an ARP packet.
#[derive(Clone, Copy, Debug)]
pub struct ArpPacket<'a> {
    bytes: &'a [u8; PACKET_LEN],
    operation: ArpOperation,
}

impl<'a> ArpPacket<'a> {
    /// The packet at the front of an Ethernet payload, and what follows it
    /// (padding).
    ///
    /// # Errors
    /// When it is not a sound ARP packet for IPv4 over Ethernet.
    pub fn parse(payload: &'a [u8]) -> Result<(Self, &'a [u8]), ArpError> {
        let (bytes, padding) = payload
            .split_first_chunk::<PACKET_LEN>()
            .ok_or(ArpError::TooShort(payload.len()))?;
        let [h0, h1, p0, p1, hardware_len, protocol_len, o0, o1, ..] = *bytes;
        let hardware_type = u16::from_be_bytes([h0, h1]);
        if hardware_type != HARDWARE_TYPE_ETHERNET {
            return Err(ArpError::HardwareType(hardware_type));
        }
        let protocol_type = u16::from_be_bytes([p0, p1]);
        if protocol_type != EtherType::IPV4.0 {
            return Err(ArpError::ProtocolType(protocol_type));
        }
        if hardware_len != HARDWARE_LEN {
            return Err(ArpError::HardwareLen(hardware_len));
        }
        if protocol_len != PROTOCOL_LEN {
            return Err(ArpError::ProtocolLen(protocol_len));
        }
        let operation = match u16::from_be_bytes([o0, o1]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            other => return Err(ArpError::Operation(other)),
        };
        let packet = Self { bytes, operation };
        if !packet.sender_mac().is_station() {
            return Err(ArpError::SenderMac(packet.sender_mac()));
        }
        Ok((packet, padding))
    }

    /// Request or reply.
    pub const fn operation(&self) -> ArpOperation {
        self.operation
    }

    /// MAC address of the sender.
    pub const fn sender_mac(&self) -> MacAddr {
        let [_, _, _, _, _, _, _, _, m0, m1, m2, m3, m4, m5, ..] = *self.bytes;
        MacAddr([m0, m1, m2, m3, m4, m5])
    }

    /// IP address of the sender; 0.0.0.0 in a probe for duplicate addresses
    /// (RFC 5227).
    pub const fn sender_ip(&self) -> Ipv4Addr {
        let [.., a, b, c, d, _, _, _, _, _, _, _, _, _, _] = *self.bytes;
        Ipv4Addr::new(a, b, c, d)
    }

    /// MAC address of the target; meaningless in a request.
    pub const fn target_mac(&self) -> MacAddr {
        let [.., m0, m1, m2, m3, m4, m5, _, _, _, _] = *self.bytes;
        MacAddr([m0, m1, m2, m3, m4, m5])
    }

    /// IP address of the target.
    pub const fn target_ip(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.bytes;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Whether the sender announces its own address.
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip() == self.target_ip()
    }
}

/// The values of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpFields {
    /// Request or reply.
    pub operation: ArpOperation,
    /// MAC address of the sender.
    pub sender_mac: MacAddr,
    /// IP address of the sender.
    pub sender_ip: Ipv4Addr,
    /// MAC address of the target; zeros in a request.
    pub target_mac: MacAddr,
    /// IP address of the target.
    pub target_ip: Ipv4Addr,
}

impl ArpFields {
    /// The question who has `target_ip`.
    pub const fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        Self {
            operation: ArpOperation::Request,
            sender_mac,
            sender_ip,
            target_mac: MacAddr([0; 6]),
            target_ip,
        }
    }

    /// The answer to `request`: its target's IP address is at `mac`.
    pub const fn reply(request: &ArpPacket<'_>, mac: MacAddr) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender_ip: request.target_ip(),
            target_mac: request.sender_mac(),
            target_ip: request.sender_ip(),
        }
    }

    /// The announcement that `ip` is at `mac`: a broadcast request for the own
    /// address (RFC 5227 section 3), as Linux sends it.
    pub const fn gratuitous(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// The packet.
    pub const fn to_bytes(&self) -> [u8; PACKET_LEN] {
        let [h0, h1] = HARDWARE_TYPE_ETHERNET.to_be_bytes();
        let [p0, p1] = EtherType::IPV4.0.to_be_bytes();
        let [o0, o1] = (self.operation as u16).to_be_bytes();
        let [s0, s1, s2, s3, s4, s5] = self.sender_mac.0;
        let [a0, a1, a2, a3] = self.sender_ip.octets();
        let [t0, t1, t2, t3, t4, t5] = self.target_mac.0;
        let [b0, b1, b2, b3] = self.target_ip.octets();
        [
            h0,
            h1,
            p0,
            p1,
            HARDWARE_LEN,
            PROTOCOL_LEN,
            o0,
            o1, //
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            a0,
            a1,
            a2,
            a3, //
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
            b0,
            b1,
            b2,
            b3,
        ]
    }
}

const HARDWARE_TYPE_ETHERNET: u16 = 1;
const HARDWARE_LEN: u8 = 6;
const PROTOCOL_LEN: u8 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_support::hex;

    /// What Linux sent to find 10.0.0.99.
    const REQUEST: &str = "0001080006040001 02000000d001 0a000001 000000000000 0a000063";
    const DIRECTOR: MacAddr = MacAddr([0x02, 0, 0, 0, 0xd0, 0x01]);
    const SERVER: MacAddr = MacAddr([0x02, 0, 0, 0, 0xc0, 0x99]);
    const DIRECTOR_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);

    #[test]
    fn request_is_read_from_recorded_bytes() {
        let bytes = hex(REQUEST);
        let (packet, padding) = ArpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.operation(), ArpOperation::Request);
        assert_eq!(packet.sender_mac(), DIRECTOR);
        assert_eq!(packet.sender_ip(), DIRECTOR_IP);
        assert_eq!(packet.target_mac(), MacAddr::default());
        assert_eq!(packet.target_ip(), SERVER_IP);
        assert!(!packet.is_gratuitous());
        assert!(padding.is_empty());
    }

    #[test]
    fn request_is_written_as_linux_writes_it() {
        assert_eq!(
            ArpFields::request(DIRECTOR, DIRECTOR_IP, SERVER_IP).to_bytes(),
            *hex(REQUEST)
        );
    }

    #[test]
    fn reply_goes_back_to_the_sender_of_the_request() {
        let request = hex(REQUEST);
        let (request, _) = ArpPacket::parse(&request).unwrap();
        assert_eq!(
            ArpFields::reply(&request, SERVER).to_bytes(),
            *hex("0001080006040002 02000000c099 0a000063 02000000d001 0a000001")
        );
    }

    #[test]
    fn gratuitous_request_names_its_own_address_twice() {
        let bytes = ArpFields::gratuitous(DIRECTOR, DIRECTOR_IP).to_bytes();
        assert_eq!(
            bytes,
            *hex("0001080006040001 02000000d001 0a000001 000000000000 0a000001")
        );
        assert!(ArpPacket::parse(&bytes).unwrap().0.is_gratuitous());
    }

    #[test]
    fn padding_is_told_from_the_packet() {
        let mut frame = hex(REQUEST);
        frame.extend([0; 18]);
        assert_eq!(ArpPacket::parse(&frame).unwrap().1, [0; 18]);
    }

    fn error_with(offset: usize, value: u8) -> ArpError {
        let mut bytes = hex(REQUEST);
        bytes[offset] = value;
        ArpPacket::parse(&bytes).unwrap_err()
    }

    #[test]
    fn each_unsound_field_is_named() {
        assert_eq!(
            ArpPacket::parse(&[0; 27]).unwrap_err(),
            ArpError::TooShort(27)
        );
        assert_eq!(error_with(1, 6), ArpError::HardwareType(6));
        assert_eq!(error_with(3, 1), ArpError::ProtocolType(0x0801));
        assert_eq!(error_with(4, 8), ArpError::HardwareLen(8));
        assert_eq!(error_with(5, 16), ArpError::ProtocolLen(16));
        assert_eq!(error_with(7, 0), ArpError::Operation(0));
        assert_eq!(error_with(7, 3), ArpError::Operation(3));
        assert_eq!(
            error_with(8, 0x03),
            ArpError::SenderMac(MacAddr([0x03, 0, 0, 0, 0xd0, 0x01]))
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_by_etherparse(
            reply in any::<bool>(),
            sender_mac in any::<[u8; 6]>(),
            sender_ip in any::<[u8; 4]>(),
            target_mac in any::<[u8; 6]>(),
            target_ip in any::<[u8; 4]>(),
        ) {
            let fields = ArpFields {
                operation: if reply { ArpOperation::Reply } else { ArpOperation::Request },
                sender_mac: MacAddr(sender_mac),
                sender_ip: sender_ip.into(),
                target_mac: MacAddr(target_mac),
                target_ip: target_ip.into(),
            };
            let bytes = fields.to_bytes();
            let theirs = etherparse::ArpPacketSlice::from_slice(&bytes).unwrap();
            prop_assert_eq!(theirs.hw_addr_type(), etherparse::ArpHardwareId::ETHERNET);
            prop_assert_eq!(theirs.proto_addr_type(), etherparse::EtherType::IPV4);
            prop_assert_eq!(theirs.operation().0, if reply { 2 } else { 1 });
            prop_assert_eq!(theirs.sender_hw_addr(), sender_mac);
            prop_assert_eq!(theirs.sender_protocol_addr(), sender_ip);
            prop_assert_eq!(theirs.target_hw_addr(), target_mac);
            prop_assert_eq!(theirs.target_protocol_addr(), target_ip);
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = ArpPacket::parse(&bytes);
        }
    }
}
