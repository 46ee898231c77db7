use proptest::prelude::*;

use super::*;
use crate::wire::test_support::hex;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
const PORT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xc0, 0]);
const PORT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xd0, 0]);

/// Sums a message anew after a change.
fn repaired(mut packet: Vec<u8>) -> Vec<u8> {
    packet[42..44].fill(0);
    let (ip, message) = Ipv6Header::parse(&packet).unwrap();
    let len = u32::try_from(message.len()).unwrap();
    let sum = ip
        .pseudo_header(IpProtocol::ICMPV6, len)
        .add_bytes(message)
        .checksum();
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn parse(packet: &[u8]) -> Result<NdpMessage, NdpError> {
    let (ip, message) = Ipv6Header::parse(packet).unwrap();
    NdpMessage::parse(&ip, message)
}

fn question() -> Vec<u8> {
    solicitation_packet(ROUTER, ROUTER_MAC, PORT, solicited_node(PORT))
}

fn answer() -> Vec<u8> {
    Advertisement {
        target: PORT,
        target_mac: Some(PORT_MAC),
        router: false,
        solicited: true,
        override_: true,
    }
    .to_packet(PORT, ROUTER)
}

#[test]
fn groups_and_link_local_addresses_follow_from_addresses() {
    let address: Ipv6Addr = "2001:db8::a:bc12:3456".parse().unwrap();
    let group = solicited_node(address);
    assert_eq!(group, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    assert_eq!(
        multicast_mac(group),
        MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])
    );
    assert_eq!(
        link_local(MacAddr([0x50, 0x54, 0, 0x12, 0x34, 0x56])),
        "fe80::5254:ff:fe12:3456".parse::<Ipv6Addr>().unwrap()
    );
}

#[test]
fn locally_administered_bit_is_inverted_in_link_local_addresses() {
    assert_eq!(
        link_local(PORT_MAC),
        "fe80::ff:fe00:d000".parse::<Ipv6Addr>().unwrap()
    );
}

#[test]
fn question_is_written_as_the_standard_draws_it() {
    let packet = question();
    assert_eq!(
        packet[..42],
        hex("6000000000203aff 20010db80001000000000000000000fe \
             ff0200000000000000000001ff000001 8700")
    );
    assert_eq!(
        packet[44..],
        hex("00000000 20010db8000100000000000000000001 0101 02000000c000")
    );
    assert_eq!(repaired(packet.clone()), packet);
    assert_eq!(
        parse(&packet),
        Ok(NdpMessage::Solicitation {
            target: PORT,
            source_mac: Some(ROUTER_MAC)
        })
    );
}

#[test]
fn answer_is_written_as_the_standard_draws_it() {
    let packet = answer();
    assert_eq!(
        packet[..42],
        hex("6000000000203aff 20010db8000100000000000000000001 \
             20010db80001000000000000000000fe 8800")
    );
    assert_eq!(
        packet[44..],
        hex("60000000 20010db8000100000000000000000001 0201 02000000d000")
    );
    assert_eq!(
        parse(&packet),
        Ok(NdpMessage::Advertisement(Advertisement {
            target: PORT,
            target_mac: Some(PORT_MAC),
            router: false,
            solicited: true,
            override_: true,
        }))
    );
}

#[test]
fn probe_has_neither_source_nor_option() {
    let packet = probe_packet(PORT);
    assert_eq!(packet.len(), 64);
    assert_eq!(packet[8..24], [0; 16]);
    assert_eq!(
        parse(&packet),
        Ok(NdpMessage::Solicitation {
            target: PORT,
            source_mac: None
        })
    );
}

fn changed(packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Result<NdpMessage, NdpError> {
    let mut packet = packet;
    change(&mut packet);
    parse(&repaired(packet))
}

#[test]
fn each_reason_to_discard_a_message_is_named() {
    assert_eq!(
        changed(question(), |p| p[7] = 254),
        Err(NdpError::HopLimit(254))
    );
    assert_eq!(changed(question(), |p| p[41] = 1), Err(NdpError::Code(1)));
    assert_eq!(
        changed(question(), |p| {
            p[5] = 23;
            p.truncate(63);
        }),
        Err(NdpError::TooShort(23))
    );
    assert_eq!(
        changed(question(), |p| p[48] = 0xff),
        Err(NdpError::Target(
            "ff01:db8:1::1".parse::<Ipv6Addr>().unwrap()
        ))
    );
    assert_eq!(changed(question(), |p| p[65] = 0), Err(NdpError::Option(1)));
    assert_eq!(changed(question(), |p| p[65] = 2), Err(NdpError::Option(1)));
    assert_eq!(
        changed(question(), |p| {
            p[5] += 1;
            p.push(7);
        }),
        Err(NdpError::Option(7))
    );
    assert_eq!(
        changed(question(), |p| p[66] = 0x03),
        Err(NdpError::LinkLayer(MacAddr([3, 0, 0, 0, 0xc0, 0])))
    );
    let mut broken = question();
    broken[71] ^= 1;
    assert!(matches!(
        parse(&broken),
        Err(NdpError::Icmpv6(Icmpv6Error::Checksum(_)))
    ));
}

#[test]
fn probe_that_tells_a_mac_or_asks_one_station_is_discarded() {
    assert_eq!(
        changed(question(), |p| p[8..24].fill(0)),
        Err(NdpError::Probe)
    );
    assert_eq!(
        changed(probe_packet(PORT), |p| p[24..40]
            .copy_from_slice(&PORT.octets())),
        Err(NdpError::Probe)
    );
}

#[test]
fn solicited_answer_to_a_group_is_discarded() {
    assert_eq!(
        changed(answer(), |p| p[24..40].copy_from_slice(&ALL_NODES.octets())),
        Err(NdpError::SolicitedToGroup)
    );
}

#[test]
fn unknown_options_and_messages_of_routers_are_passed_over() {
    let with_nonce = changed(question(), |p| {
        p[5] += 8;
        p.splice(64..64, hex("0e01010203040506"));
    });
    assert_eq!(
        with_nonce,
        Ok(NdpMessage::Solicitation {
            target: PORT,
            source_mac: Some(ROUTER_MAC)
        })
    );
    assert_eq!(changed(question(), |p| p[40] = 134), Ok(NdpMessage::Other));
}

proptest! {
    #[test]
    fn parsing_never_panics_and_options_end(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let len = u16::try_from(bytes.len()).unwrap();
        let header = Ipv6Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len: len,
            next_header: IpProtocol::ICMPV6,
            hop_limit: HOP_LIMIT,
            source: ROUTER,
            destination: PORT,
        };
        let mut packet = [&header.to_bytes()[..], &[135, 0, 0, 0], &bytes].concat();
        packet[5] += 4;
        let _ = parse(&repaired(packet));
    }
}
