use proptest::prelude::*;

use super::*;
use crate::wire::test_support::hex;

/// A client's packet with traffic class and flow label, from recording
/// `10_6in6`, packet "ACK tc b8 flow 12345".
const PACKET: &str = "6b812345 0014 06 80 20010db8000c00000000000000000007 \
     20010db800ff00000000000000000010 9c410050000003e8000000005010faf0b7d60000";
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);

#[test]
fn fields_are_read_from_recorded_bytes() {
    let mut packet = hex(PACKET);
    packet.extend([0xee; 3]);
    let (header, payload) = Ipv6Header::parse(&packet).unwrap();
    assert_eq!(header.traffic_class(), 0xb8);
    assert_eq!(header.ecn(), 0);
    assert_eq!(header.flow_label(), 0x12345);
    assert_eq!(header.payload_len(), 20);
    assert_eq!(header.total_len(), 60);
    assert_eq!(header.next_header(), IpProtocol::TCP);
    assert_eq!(header.hop_limit(), 128);
    assert_eq!(header.source(), CLIENT);
    assert_eq!(header.destination(), VIP);
    assert_eq!(payload, &packet[40..60]);
}

#[test]
fn checksum_of_a_recorded_segment_is_correct_with_the_pseudo_header() {
    let packet = hex(PACKET);
    let (header, segment) = Ipv6Header::parse(&packet).unwrap();
    let sum = header.pseudo_header(IpProtocol::TCP, 20).add_bytes(segment);
    assert!(sum.is_intact());
    let sum = Sum::ipv6_pseudo_header(CLIENT, VIP, IpProtocol::TCP, 20).add_bytes(segment);
    assert!(sum.is_intact());
}

#[test]
fn fields_are_written_as_they_were_recorded() {
    let fields = Ipv6Fields {
        traffic_class: 0xb8,
        flow_label: 0x12345,
        payload_len: 20,
        next_header: IpProtocol::TCP,
        hop_limit: 128,
        source: CLIENT,
        destination: VIP,
    };
    assert_eq!(fields.to_bytes(), hex(PACKET)[..40]);
}

#[test]
fn changes_touch_nothing_else() {
    let mut packet = hex(PACKET);
    let mut header = Ipv6HeaderMut::of(&mut packet).unwrap();
    header.set_traffic_class(0x5a);
    assert_eq!(header.decrement_hop_limit(), 127);
    header.set_payload_len(0x0102);
    assert_eq!(packet[..8], hex("65a123450102067f"));
    assert_eq!(packet[8..], hex(PACKET)[8..]);
    let mut header = Ipv6HeaderMut::of(&mut packet).unwrap();
    header.set_hop_limit(0);
    assert_eq!(header.decrement_hop_limit(), 0);
}

#[test]
fn each_unsound_field_is_named() {
    let packet = hex(PACKET);
    assert_eq!(
        Ipv6Header::parse(&packet[..39]).unwrap_err(),
        Ipv6Error::TooShort(39)
    );
    assert_eq!(
        Ipv6Header::parse(&packet[..59]).unwrap_err(),
        Ipv6Error::Truncated {
            payload_len: 20,
            available: 59
        }
    );
    let mut other = packet.clone();
    other[0] = 0x45;
    assert_eq!(
        Ipv6Header::parse(&other).unwrap_err(),
        Ipv6Error::Version(4)
    );
    let (_, payload) = Ipv6Header::parse_quoted(&packet[..48]).unwrap();
    assert_eq!(payload, &packet[40..48]);
}

#[test]
fn upper_layer_without_extension_headers_follows_at_once() {
    let upper = upper_layer(IpProtocol::UDP, &[]).unwrap();
    assert_eq!((upper.protocol, upper.offset), (IpProtocol::UDP, 0));
    assert_eq!((upper.named_at, upper.fragment), (6, None));
}

#[test]
fn every_kind_of_extension_header_is_passed_over() {
    let payload = hex("2b00 0104 00000000 \
         3c02 0000 00000000 0000000000000000 0000000000000000 \
         3300 0104 00000000 \
         2c04 0000 00000001 00000002 000000000000000000000000 \
         0600 0000 01020304 \
         9c410050");
    let upper = upper_layer(HOP_BY_HOP, &payload).unwrap();
    assert_eq!(
        upper,
        UpperLayer {
            protocol: IpProtocol::TCP,
            offset: 72,
            named_at: 104,
            fragment: Some(FragmentHeader {
                id: 0x0102_0304,
                offset: 0,
                more_fragments: false,
                next_header: IpProtocol::TCP,
            }),
        }
    );
    assert!(!upper.fragment.unwrap().is_fragment());
}

/// The fragment headers of recording `10_6in6`, packets "UDP6 fragment".
#[test]
fn fragments_are_read_from_recorded_bytes() {
    let first = upper_layer(FRAGMENT, &hex("1100000100001111 1389003506481234")).unwrap();
    let fragment = first.fragment.unwrap();
    assert_eq!((first.protocol, first.offset), (IpProtocol::UDP, 8));
    assert_eq!((fragment.id, fragment.offset), (0x1111, 0));
    assert!(fragment.more_fragments && fragment.is_fragment());
    let last = upper_layer(FRAGMENT, &hex("1100032000001111 4646")).unwrap();
    let fragment = last.fragment.unwrap();
    assert_eq!(fragment.offset, 800);
    assert!(!fragment.more_fragments && fragment.is_fragment());
    assert_eq!(fragment.to_bytes(), *hex("1100032000001111"));
}

#[test]
fn walk_ends_at_a_later_fragment_even_if_it_looks_like_more_headers() {
    let upper = upper_layer(FRAGMENT, &hex("3c00000900000001 0600000000000000")).unwrap();
    assert_eq!((upper.protocol, upper.offset), (DESTINATION_OPTIONS, 8));
}

#[test]
fn truncated_headers_are_refused() {
    for (next_header, payload) in [
        (HOP_BY_HOP, ""),
        (HOP_BY_HOP, "06000000000000"),
        (DESTINATION_OPTIONS, "0601000000000000"),
        (AUTHENTICATION, "0604000000000000 0000000000000000"),
        (FRAGMENT, "11000001000011"),
    ] {
        assert_eq!(
            upper_layer(next_header, &hex(payload)),
            Err(ExtensionError::Truncated(next_header)),
        );
    }
    assert_eq!(
        upper_layer(HOP_BY_HOP, &hex("3c00000000000000")),
        Err(ExtensionError::Truncated(DESTINATION_OPTIONS)),
    );
}

#[test]
fn ninth_extension_header_is_one_too_many() {
    let mut payload = hex("3c00000000000000").repeat(7);
    payload.extend(hex("0600000000000000"));
    assert_eq!(
        upper_layer(DESTINATION_OPTIONS, &payload).unwrap().offset,
        64
    );
    payload.splice(0..0, hex("3c00000000000000"));
    assert_eq!(
        upper_layer(DESTINATION_OPTIONS, &payload),
        Err(ExtensionError::TooMany)
    );
}

#[test]
fn source_route_is_refused_while_addresses_are_left() {
    let route = |segments_left| {
        let mut payload = hex("0602000000000000 20010db8000c00000000000000000007");
        payload[3] = segments_left;
        upper_layer(ROUTING, &payload)
    };
    assert_eq!(
        route(1),
        Err(ExtensionError::SourceRoute { segments_left: 1 })
    );
    assert_eq!(route(0).unwrap().offset, 24);
}

proptest! {
    #[test]
    fn what_is_written_is_read_by_etherparse(
        traffic_class in any::<u8>(),
        flow_label in 0_u32..1 << 20,
        payload_len in any::<u16>(),
        next_header in any::<u8>(),
        hop_limit in any::<u8>(),
        source in any::<[u8; 16]>(),
        destination in any::<[u8; 16]>(),
    ) {
        let bytes = Ipv6Fields {
            traffic_class,
            flow_label,
            payload_len,
            next_header: IpProtocol(next_header),
            hop_limit,
            source: source.into(),
            destination: destination.into(),
        }
        .to_bytes();
        let theirs = etherparse::Ipv6HeaderSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.traffic_class(), traffic_class);
        prop_assert_eq!(theirs.flow_label().value(), flow_label);
        prop_assert_eq!(theirs.payload_length(), payload_len);
        prop_assert_eq!(theirs.next_header().0, next_header);
        prop_assert_eq!(theirs.hop_limit(), hop_limit);
        prop_assert_eq!(theirs.source(), source);
        prop_assert_eq!(theirs.destination(), destination);
        let (ours, _) = Ipv6Header::parse_quoted(&bytes).unwrap();
        prop_assert_eq!(ours.traffic_class(), traffic_class);
        prop_assert_eq!(ours.flow_label(), flow_label);
    }

    #[test]
    fn upper_layer_never_lies_behind_the_end(
        next_header in prop::sample::select(vec![0_u8, 43, 44, 51, 60, 6]),
        payload in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 6, 43, 44, 51, 60]), 0..120),
    ) {
        if let Ok(upper) = upper_layer(IpProtocol(next_header), &payload) {
            prop_assert!(upper.offset <= payload.len());
        }
    }
}
