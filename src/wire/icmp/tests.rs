use proptest::prelude::*;

use super::*;
use crate::wire::test_support::hex;

const ECHO_REQUEST: &str = "0800012b 004d0001 70696e67 70696e67 70696e67 70696e67 70696e67 \
    70696e67 70696e67 70696e67";

#[test]
fn header_is_read_from_recorded_bytes() {
    let message = hex(ECHO_REQUEST);
    let (icmp, data) = IcmpHeader::validate(&message).unwrap();
    assert_eq!(icmp.icmp_type(), IcmpType::ECHO_REQUEST);
    assert_eq!(icmp.code(), 0);
    assert_eq!(icmp.checksum(), 0x012b);
    assert_eq!(icmp.rest(), 0x004d_0001);
    assert_eq!(data, b"pingpingpingpingpingpingpingping");
}

#[test]
fn mtu_of_a_recorded_fragmentation_needed_is_read() {
    let message = hex("0304eb79 000005c8");
    let (icmp, _) = IcmpHeader::parse(&message).unwrap();
    assert_eq!(icmp.next_hop_mtu(), 1480);
}

#[test]
fn echo_request_is_answered_as_linux_answers_it() {
    let mut message = hex(ECHO_REQUEST);
    make_echo_reply(&mut message).unwrap();
    assert_eq!(message[..8], *hex("0000092b 004d0001"));
    assert_eq!(message[8..], hex(ECHO_REQUEST)[8..]);
}

#[test]
fn only_intact_echo_requests_are_answered() {
    let mut reply = hex(
        "0000092b 004d0001 70696e67 70696e67 70696e67 70696e67 70696e67 \
         70696e67 70696e67 70696e67",
    );
    assert_eq!(
        make_echo_reply(&mut reply),
        Err(IcmpError::Type {
            found: IcmpType(0),
            expected: IcmpType(8)
        })
    );
    let mut damaged = hex(ECHO_REQUEST);
    damaged[9] ^= 1;
    let before = damaged.clone();
    assert_eq!(
        make_echo_reply(&mut damaged),
        Err(IcmpError::Checksum(0x012b))
    );
    assert_eq!(damaged, before);
    assert_eq!(
        make_echo_reply(&mut [8; 7]),
        Err(IcmpError::TooShort {
            needed: 8,
            available: 7
        })
    );
}

#[test]
fn timestamp_request_is_answered_as_linux_answers_it() {
    let request = hex("0d00a8d4 00000000 00d46d3a 00d46d3a 00d46d3a");
    assert_eq!(
        timestamp_reply(&request, 0x00d4_8767).unwrap(),
        *hex("0e00737a 00000000 00d46d3a 00d48767 00d48767")
    );
}

#[test]
fn only_whole_timestamp_requests_are_answered() {
    let cut = hex("0d00f2ff 00000000");
    assert_eq!(
        timestamp_reply(&cut, 0),
        Err(IcmpError::TooShort {
            needed: 20,
            available: 8
        })
    );
    assert_eq!(
        timestamp_reply(&hex(ECHO_REQUEST), 0),
        Err(IcmpError::Type {
            found: IcmpType(8),
            expected: IcmpType(13)
        })
    );
}

/// A recorded packet to a port without a service, and the error about it.
const UDP_PACKET: &str = "4500003c 23450000 4011f126 cb007107 c633640a 15180036 0028fc82 \
    78787878 78787878 78787878 78787878 78787878 78787878 78787878 78787878";

#[test]
fn port_unreachable_is_what_linux_sends() {
    let packet = hex(UDP_PACKET);
    let message = IcmpErrorMessage::about(&packet, IcmpCause::PORT_UNREACHABLE);
    assert_eq!(message.len(), 68);
    assert_eq!(
        message.to_vec(),
        [hex("0303637c 00000000"), packet.clone()].concat()
    );
    let mut buffer = [0xee; 70];
    message.emit(&mut buffer).unwrap();
    assert_eq!(buffer[..68], message.to_vec());
    assert_eq!(buffer[68..], [0xee, 0xee]);
}

#[test]
fn host_unreachable_is_what_linux_sends() {
    let packet = hex("45000028 12344000 4006c256 cb007107 c633640a \
         d6d80052 000003e8 00000000 5002faf0 73990000");
    assert_eq!(
        IcmpErrorMessage::about(&packet, IcmpCause::HOST_UNREACHABLE).to_vec(),
        [hex("0301635f 00000000"), packet].concat()
    );
}

#[test]
fn fragmentation_needed_is_what_linux_sends_and_ends_at_576_bytes() {
    // Inner length 1481 with its TTL already decremented.
    let mut packet = hex("450005c9 12344000 3f06bdb5 cb007107 c633640a \
         9c410050 000003e9 00000001 5018faf0 64790000");
    packet.resize(1481, 0x44);
    let message = IcmpErrorMessage::about(&packet, IcmpCause::fragmentation_needed(1480)).to_vec();
    assert_eq!(message.len() + 20, 576);
    assert_eq!(message[..8], *hex("0304eb79 000005c8"));
    assert_eq!(message[8..], packet[..548]);
}

#[test]
fn padding_is_not_quoted() {
    let mut padded = hex(UDP_PACKET);
    padded.extend([0; 4]);
    let message = IcmpErrorMessage::about(&padded, IcmpCause::PORT_UNREACHABLE).to_vec();
    assert_eq!(message[8..], hex(UDP_PACKET));
}

#[test]
fn buffer_that_is_too_short_is_refused() {
    let packet = hex(UDP_PACKET);
    let message = IcmpErrorMessage::about(&packet, IcmpCause::TTL_EXCEEDED);
    for len in [0, 7, 8, 67] {
        assert_eq!(
            message.emit(&mut vec![0; len]),
            Err(BufferTooShort {
                needed: 68,
                available: len
            })
        );
    }
}

fn may_with(offset: usize, bytes: &[u8]) -> bool {
    let mut packet = hex(UDP_PACKET);
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    may_trigger_error(&packet)
}

#[test]
fn ordinary_packet_may_trigger_an_error() {
    assert!(may_trigger_error(&hex(UDP_PACKET)));
}

#[test]
fn first_fragment_may_trigger_an_error_and_later_ones_may_not() {
    assert!(may_with(6, &[0x20, 0]));
    assert!(!may_with(6, &[0x20, 1]));
    assert!(!may_with(6, &[0, 1]));
}

#[test]
fn no_error_goes_to_an_address_that_is_not_a_host() {
    for source in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
    ] {
        assert!(!may_with(12, &source), "{source:?}");
    }
    assert!(may_with(12, &[223, 255, 255, 255]));
}

#[test]
fn no_error_is_about_a_packet_to_many() {
    assert!(!may_with(16, &[255; 4]));
    assert!(!may_with(16, &[224, 0, 0, 5]));
    assert!(!may_with(16, &[239, 255, 255, 255]));
}

#[test]
fn no_error_is_about_an_icmp_error() {
    let may_with_type = |icmp_type| {
        let mut packet = hex(UDP_PACKET);
        packet[9] = 1;
        packet[20] = icmp_type;
        may_trigger_error(&packet)
    };
    let errors: Vec<u8> = (0..=255)
        .filter(|&icmp_type| !may_with_type(icmp_type))
        .collect();
    let expected: Vec<u8> = [3, 4, 5, 11, 12].into_iter().chain(19..=255).collect();
    assert_eq!(errors, expected);
}

#[test]
fn no_error_is_about_what_is_not_a_whole_header() {
    assert!(!may_trigger_error(&hex(UDP_PACKET)[..19]));
    assert!(!may_with(0, &[0x65]));
    let mut icmp_without_type = hex(UDP_PACKET);
    icmp_without_type[9] = 1;
    assert!(!may_trigger_error(&icmp_without_type[..20]));
}

proptest! {
    #[test]
    fn errors_read_as_etherparse_reads_them(
        packet in prop::collection::vec(any::<u8>(), 0..1600),
        mtu in any::<u16>(),
    ) {
        let message = IcmpErrorMessage::about(&packet, IcmpCause::fragmentation_needed(mtu));
        let bytes = message.to_vec();
        prop_assert!(bytes.len() <= 556);
        let theirs = etherparse::Icmpv4Slice::from_slice(&bytes).unwrap();
        let expected = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu: mtu,
            },
        );
        prop_assert_eq!(theirs.icmp_type(), expected.clone());
        prop_assert_eq!(expected.calc_checksum(theirs.payload()), theirs.checksum());
    }

    #[test]
    fn echo_reply_is_that_of_etherparse(
        id in any::<u16>(),
        seq in any::<u16>(),
        data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let echo = etherparse::IcmpEchoHeader { id, seq };
        let message = |icmp_type: etherparse::Icmpv4Type| {
            let header = etherparse::Icmpv4Header::with_checksum(icmp_type, &data);
            [header.to_bytes().as_slice(), &data].concat()
        };
        let mut ours = message(etherparse::Icmpv4Type::EchoRequest(echo));
        make_echo_reply(&mut ours).unwrap();
        // Of the two forms of zero an all-zero reply has the other one.
        if ours[..8] != [0; 8] || data.iter().any(|&byte| byte != 0) {
            prop_assert_eq!(ours, message(etherparse::Icmpv4Type::EchoReply(echo)));
        }
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = IcmpHeader::validate(&bytes);
        let _ = timestamp_reply(&bytes, 0);
        let _ = may_trigger_error(&bytes);
        let _ = IcmpErrorMessage::about(&bytes, IcmpCause::TTL_EXCEEDED).to_vec();
        let _ = make_echo_reply(&mut bytes);
    }
}
