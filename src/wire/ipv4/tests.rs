use proptest::prelude::*;

use super::*;
use crate::wire::test_support::hex;

/// A recorded client's packet, ten bytes of payload made up.
fn packet() -> Vec<u8> {
    hex(
        "45000028 12344000 4006c256 cb007107 c633640a a028 0050 00001388 00001b58 5010faf0 7f450000",
    )
}

#[test]
fn header_is_read_from_recorded_bytes() {
    let packet = packet();
    let (header, payload) = Ipv4Header::validate(&packet).unwrap();
    assert_eq!(header.header_len(), 20);
    assert_eq!((header.tos(), header.dscp(), header.ecn()), (0, 0, 0));
    assert_eq!(header.total_len(), 40);
    assert_eq!(header.id(), 0x1234);
    assert!(!header.reserved_flag());
    assert!(header.dont_fragment());
    assert!(!header.more_fragments());
    assert!(!header.is_fragment());
    assert_eq!(header.fragment_offset(), 0);
    assert_eq!(header.ttl(), 64);
    assert_eq!(header.protocol(), IpProtocol::TCP);
    assert_eq!(header.checksum(), 0xc256);
    assert_eq!(header.source(), Ipv4Addr::new(203, 0, 113, 7));
    assert_eq!(header.destination(), Ipv4Addr::new(198, 51, 100, 10));
    assert!(header.options().is_empty());
    assert_eq!(payload.len(), 20);
}

#[test]
fn options_are_told_from_the_payload() {
    let packet = hex(
        "4600002c 12344000 4006bf50 cb007107 c633640a 01010101 9c44 0050 000003e8 \
         00000000 5002faf0 ae2f0000",
    );
    let (header, payload) = Ipv4Header::validate(&packet).unwrap();
    assert_eq!(header.header_len(), 24);
    assert_eq!(header.options(), [1; 4]);
    assert_eq!(payload[..4], *hex("9c44 0050"));
}

#[test]
fn tos_splits_into_dscp_and_ecn() {
    let mut packet = packet();
    packet[1] = 0xbb;
    let (header, _) = Ipv4Header::parse(&packet).unwrap();
    assert_eq!((header.dscp(), header.ecn()), (46, 3));
}

#[test]
fn fragments_are_recognised() {
    let with = |high, low| {
        let mut packet = packet();
        packet[6] = high;
        packet[7] = low;
        let (header, _) = Ipv4Header::parse(&packet).unwrap();
        (
            header.is_fragment(),
            header.more_fragments(),
            header.fragment_offset(),
        )
    };
    assert_eq!(with(0x40, 0), (false, false, 0));
    assert_eq!(with(0x20, 0), (true, true, 0));
    assert_eq!(with(0x20, 0xb9), (true, true, 1480));
    assert_eq!(with(0x1f, 0xff), (true, false, 65528));
}

#[test]
fn reserved_flag_is_not_the_df_flag() {
    let mut packet = packet();
    packet[6] = 0x80;
    let (header, _) = Ipv4Header::parse(&packet).unwrap();
    assert!(header.reserved_flag());
    assert!(!header.dont_fragment());
    assert!(!header.is_fragment());
}

#[test]
fn padding_is_not_payload() {
    let mut padded = packet();
    padded.extend([0; 6]);
    assert_eq!(Ipv4Header::validate(&padded).unwrap().1, &packet()[20..]);
}

fn error_with(offset: usize, value: u8) -> Ipv4Error {
    let mut packet = packet();
    packet[offset] = value;
    Ipv4Header::validate(&packet).unwrap_err()
}

#[test]
fn each_check_of_rfc_1812_has_its_own_error() {
    assert_eq!(
        Ipv4Header::validate(&packet()[..19]).unwrap_err(),
        Ipv4Error::TooShort(19)
    );
    assert_eq!(error_with(0, 0x65), Ipv4Error::Version(6));
    assert_eq!(error_with(0, 0x44), Ipv4Error::HeaderLen(4));
    assert_eq!(
        error_with(0, 0x4f),
        Ipv4Error::HeaderTruncated {
            header_len: 60,
            available: 40
        }
    );
    assert_eq!(
        error_with(3, 19),
        Ipv4Error::TotalLenBelowHeader {
            total_len: 19,
            header_len: 20
        }
    );
    assert_eq!(
        error_with(3, 41),
        Ipv4Error::Truncated {
            total_len: 41,
            available: 40
        }
    );
    assert_eq!(error_with(10, 0xc3), Ipv4Error::Checksum(0xc356));
}

#[test]
fn quoted_packet_may_be_cut_after_its_header() {
    let packet = packet();
    let (header, payload) = Ipv4Header::parse_quoted(&packet[..28]).unwrap();
    assert_eq!(header.total_len(), 40);
    assert_eq!(payload, &packet[20..28]);
}

#[test]
fn quoted_packet_ends_at_its_total_length() {
    let mut padded = packet();
    padded.extend([0; 6]);
    assert_eq!(Ipv4Header::parse_quoted(&padded).unwrap().1.len(), 20);
}

#[test]
fn wrong_checksum_stays_wrong_when_a_field_changes() {
    let mut packet = packet();
    packet[10] ^= 0x10;
    Ipv4HeaderMut::of(&mut packet).unwrap().set_tos(0x10);
    assert_eq!(
        Ipv4Header::validate(&packet).unwrap_err(),
        Ipv4Error::Checksum(0xd246)
    );
}

#[test]
fn outer_header_of_a_recorded_tunnel_packet_is_written() {
    let fields = Ipv4Fields {
        tos: 0,
        total_len: 60,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 63,
        protocol: IpProtocol::IPIP,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 12),
    };
    assert_eq!(
        fields.to_bytes(),
        *hex("4500003c 00004000 3f0427b2 0a000001 0a00000c")
    );
}

fn fields() -> impl Strategy<Value = Ipv4Fields> {
    let lengths = (
        any::<u8>(),
        20_u16..2000,
        any::<u16>(),
        any::<u8>(),
        any::<u8>(),
    );
    let fragment = (any::<bool>(), any::<bool>(), 0_u16..0x2000);
    let addresses = (any::<Ipv4Addr>(), any::<Ipv4Addr>());
    (lengths, fragment, addresses).prop_map(|(lengths, fragment, addresses)| Ipv4Fields {
        tos: lengths.0,
        total_len: lengths.1,
        id: lengths.2,
        dont_fragment: fragment.0,
        more_fragments: fragment.1,
        fragment_offset: fragment.2 * 8,
        ttl: lengths.3,
        protocol: IpProtocol(lengths.4),
        source: addresses.0,
        destination: addresses.1,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_by_etherparse(fields in fields()) {
        let bytes = fields.to_bytes();
        let (theirs, _) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.calc_header_checksum(), theirs.header_checksum);
        prop_assert_eq!(theirs.dscp.value() << 2 | theirs.ecn.value(), fields.tos);
        prop_assert_eq!(theirs.total_len, fields.total_len);
        prop_assert_eq!(theirs.identification, fields.id);
        prop_assert_eq!(theirs.dont_fragment, fields.dont_fragment);
        prop_assert_eq!(theirs.more_fragments, fields.more_fragments);
        prop_assert_eq!(theirs.fragment_offset.value() * 8, fields.fragment_offset);
        prop_assert_eq!(theirs.time_to_live, fields.ttl);
        prop_assert_eq!(theirs.protocol.0, fields.protocol.0);
        prop_assert_eq!(theirs.source, fields.source.octets());
        prop_assert_eq!(theirs.destination, fields.destination.octets());
    }

    #[test]
    fn what_is_written_is_read_back(fields in fields()) {
        let mut packet = fields.to_bytes().to_vec();
        packet.resize(usize::from(fields.total_len), 0);
        let (header, _) = Ipv4Header::validate(&packet).unwrap();
        let read = Ipv4Fields {
            tos: header.tos(),
            total_len: header.total_len(),
            id: header.id(),
            dont_fragment: header.dont_fragment(),
            more_fragments: header.more_fragments(),
            fragment_offset: header.fragment_offset(),
            ttl: header.ttl(),
            protocol: header.protocol(),
            source: header.source(),
            destination: header.destination(),
        };
        prop_assert_eq!(read, fields);
    }

    #[test]
    fn another_tos_keeps_the_checksum_right(fields in fields(), tos in any::<u8>()) {
        let mut bytes = fields.to_bytes();
        Ipv4HeaderMut::of(&mut bytes).unwrap().set_tos(tos);
        prop_assert_eq!(bytes, Ipv4Fields { tos, ..fields }.to_bytes());
    }

    #[test]
    fn parsing_never_panics(
        first in 0x40_u8..0x50,
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = Ipv4Header::validate(&bytes);
        let _ = Ipv4Header::parse_quoted(&bytes);
        if let [version, _, len, ..] = bytes.as_mut_slice() {
            *version = first;
            *len = 0;
        }
        let _ = Ipv4Header::validate(&bytes);
        let _ = Ipv4Header::parse_quoted(&bytes);
    }
}
