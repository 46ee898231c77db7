use proptest::prelude::*;

use super::*;
use crate::wire::test_support::hex;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);

/// Recording `10_6in6`, packet "echo6 to VIP".
const ECHO_REQUEST: &str = "60000000000d3a40 20010db8000c00000000000000000007 \
     20010db800ff00000000000000000010 80000e4b0007000170696e6736";
/// The same, packet "ACK hlim 1".
const HOP_LIMIT_1: &str = "6000000000140601 20010db8000c00000000000000000007 \
     20010db800ff00000000000000000010 9c410050000003e8000000005010faf0b7d60000";
/// The same, packet "UDP no service".
const UDP: &str = "6000000000281140 20010db8000c00000000000000000007 \
     20010db800ff00000000000000000010 13910036002807bc 7878787878787878 \
     7878787878787878 7878787878787878 7878787878787878";

#[test]
fn echo_reply_equals_the_recorded_one() {
    let packet = hex(ECHO_REQUEST);
    let (ip, message) = Ipv6Header::parse(&packet).unwrap();
    let mut message = message.to_vec();
    make_echo_reply(&ip, &mut message).unwrap();
    assert_eq!(message, hex("81000d4b0007000170696e6736"));
}

#[test]
fn echo_request_that_is_not_intact_gets_no_reply() {
    let mut packet = hex(ECHO_REQUEST);
    packet[50] ^= 1;
    let (ip, message) = Ipv6Header::parse(&packet).unwrap();
    assert_eq!(
        make_echo_reply(&ip, &mut message.to_vec()),
        Err(Icmpv6Error::Checksum(0x0e4b))
    );
    let mut reply = hex("81000d4b0007000170696e6736");
    assert_eq!(
        make_echo_reply(&ip, &mut reply),
        Err(Icmpv6Error::Type {
            found: Icmpv6Type::ECHO_REPLY,
            expected: Icmpv6Type::ECHO_REQUEST
        })
    );
    assert_eq!(
        make_echo_reply(&ip, &mut [0x80, 0, 0]),
        Err(Icmpv6Error::TooShort(3))
    );
}

#[test]
fn hop_limit_exceeded_equals_the_recorded_one() {
    let packet = hex(HOP_LIMIT_1);
    let error = Icmpv6ErrorMessage::about(&packet, Icmpv6Cause::HOP_LIMIT_EXCEEDED);
    assert_eq!(
        error.to_vec(VIP, CLIENT),
        [hex("030039f200000000"), packet].concat()
    );
}

#[test]
fn port_unreachable_equals_the_recorded_one_and_leaves_padding_out() {
    let packet = hex(UDP);
    let padded = [packet.clone(), vec![0; 6]].concat();
    let error = Icmpv6ErrorMessage::about(&padded, Icmpv6Cause::PORT_UNREACHABLE);
    let recorded = [hex("010430a600000000"), packet].concat();
    assert_eq!(error.to_vec(VIP, CLIENT), recorded);
    let mut buffer = vec![0xee; error.len() + 1];
    error.emit(VIP, CLIENT, &mut buffer).unwrap();
    assert_eq!(buffer.split_last().unwrap(), (&0xee, &recorded[..]));
    assert_eq!(
        error.emit(VIP, CLIENT, &mut buffer[..87]),
        Err(BufferTooShort {
            needed: 88,
            available: 87
        })
    );
}

/// Recording `10_6in6`, packet "TCP6 total 1461".
#[test]
fn packet_too_big_is_cut_to_1280_bytes_as_recorded() {
    let mut packet = hex("60000000058d063f 20010db8000c00000000000000000007 \
         20010db800ff00000000000000000010 9c410050000003e8000000005018faf0c3aa0000");
    packet.resize(1461, 0x44);
    let error = Icmpv6ErrorMessage::about(&packet, Icmpv6Cause::packet_too_big(1460));
    let message = error.to_vec(VIP, CLIENT);
    assert_eq!(message.len(), 1240);
    assert_eq!(message[..8], hex("0200dad2000005b4"));
    assert_eq!(message[8..], packet[..1232]);
}

#[test]
fn causes_have_the_numbers_of_the_standard() {
    let cause = |cause: Icmpv6Cause| (cause.icmp_type.0, cause.code, cause.rest);
    assert_eq!(cause(Icmpv6Cause::NO_ROUTE), (1, 0, 0));
    assert_eq!(cause(Icmpv6Cause::ADDRESS_UNREACHABLE), (1, 3, 0));
    assert_eq!(cause(Icmpv6Cause::PORT_UNREACHABLE), (1, 4, 0));
    assert_eq!(cause(Icmpv6Cause::packet_too_big(1460)), (2, 0, 1460));
    assert_eq!(cause(Icmpv6Cause::HOP_LIMIT_EXCEEDED), (3, 0, 0));
    assert_eq!(cause(Icmpv6Cause::unknown_next_header(6)), (4, 1, 6));
}

fn may_trigger(change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut packet = hex(ECHO_REQUEST);
    change(&mut packet);
    may_trigger_error(&packet, Icmpv6Cause::HOP_LIMIT_EXCEEDED)
}

#[test]
fn errors_are_sent_about_queries_and_other_protocols() {
    assert!(may_trigger(|_| {}));
    assert!(may_trigger(|packet| packet[6] = 132));
    assert!(may_trigger_error(&hex(UDP), Icmpv6Cause::PORT_UNREACHABLE));
}

#[test]
fn errors_are_not_sent_about_errors() {
    assert!(!may_trigger(|packet| packet[40] = 1));
    assert!(!may_trigger(|packet| packet[40] = 127));
    assert!(!may_trigger(|packet| packet[40] = 137));
    assert!(!may_trigger(|packet| packet.truncate(40)));
}

#[test]
fn errors_are_not_sent_to_or_about_groups() {
    assert!(!may_trigger(|packet| packet[8..24].fill(0)));
    assert!(!may_trigger(|packet| packet[8] = 0xff));
    assert!(!may_trigger(|packet| packet[24] = 0xff));
    let mut to_group = hex(UDP);
    to_group[24] = 0xff;
    assert!(may_trigger_error(
        &to_group,
        Icmpv6Cause::packet_too_big(1280)
    ));
}

#[test]
fn errors_are_not_sent_about_later_fragments_or_headers_without_end() {
    let mut fragment = hex("6000000000102c40 20010db8000c00000000000000000007 \
         20010db800ff00000000000000000010 1100032000001111 4646464646464646");
    let cause = Icmpv6Cause::HOP_LIMIT_EXCEEDED;
    assert!(!may_trigger_error(&fragment, cause));
    fragment[42..44].copy_from_slice(&[0, 1]);
    assert!(may_trigger_error(&fragment, cause));
    fragment.truncate(44);
    assert!(!may_trigger_error(&fragment, cause));
}

proptest! {
    #[test]
    fn errors_have_a_sound_checksum(
        packet in prop::collection::vec(any::<u8>(), 0..1400),
        rest in any::<u32>(),
        source in any::<[u8; 16]>(),
        destination in any::<[u8; 16]>(),
    ) {
        let error = Icmpv6ErrorMessage::about(&packet, Icmpv6Cause::packet_too_big(rest));
        let message = error.to_vec(source.into(), destination.into());
        let theirs = etherparse::Icmpv6Slice::from_slice(&message).unwrap();
        prop_assert!(theirs.is_checksum_valid(source, destination));
    }
}
