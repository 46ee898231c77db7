//! The packets were recorded from Linux 6.1 with IPVS 1.2.1, unless a test
//! says how it changed one.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

/// A SYN that a kernel director tunnelled to 10.0.0.11.
const SYN: &str = "4500003c000040003f0427b30a0000010a00000b\
    45000028123440003f06c356cb007107c633640a9c410050000003e8000000005002faf0ae320000";
/// Inner CE, which a director writes as ECT(0) outside.
const INNER_CE: &str = "4502003c169b00003f0451160a0000010a00000b\
    45030028000000003f061588cb007107c633640a9c410050000003fb000000015010faf0ae100000";
/// Inner and outer ECT(0).
const INNER_ECT_0: &str = "4502003c00004000fe0468b00a0000010a00000b\
    4502002800004000fe061688cb007107c633640a9c410050000003fb000000015010faf0ae100000";
/// An inner header with options.
const INNER_OPTIONS: &str = "45000040000040003f0427af0a0000010a00000b\
    4600002c123440003f06c050cb007107c633640a010101019c440050000003e8000000005002faf0ae2f0000";
/// A UDP datagram, tunnelled to 10.0.0.12.
const DATAGRAM: &str = "4500005057e300003f040fbb0a0000010a00000c\
    4500003c234500003f11f226cb007107c633640a138800350028fe1378787878787878787878787878787878\
    78787878787878787878787878787878";

/// An IPv6 packet of a client that a kernel director tunnelled to 10.0.0.11
/// over IPv4: recording `10_v6svc_v4server`, packet "CE".
const IPV6_CE: &str = "450200507d2c00003f29ea4b0a0000010a00000b\
    603000000014063f20010db8000c0000000000000000000720010db800ff00000000000000000010\
    9c410050000003e8000000005010faf0b7d60000";
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DIRECTOR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn rules() -> Rules {
    Rules {
        local: Ipv4Addr::new(10, 0, 0, 11).into(),
        vips: vec![
            Ipv4Addr::new(198, 51, 100, 9).into(),
            Ipv4Addr::new(198, 51, 100, 10).into(),
            VIP6.into(),
        ],
        directors: Vec::new(),
    }
}

fn decapsulated(mut packet: Vec<u8>) -> Result<Vec<u8>, DropReason> {
    decapsulate(&mut packet, &rules()).map(|inner| inner.to_vec())
}

/// `hex` with bytes replaced, and with the checksums of the headers that start
/// at `mend` made right.
fn changed(hex: &str, changes: &[(usize, u8)], mend: &[usize]) -> Vec<u8> {
    let mut packet = bytes(hex);
    for &(at, value) in changes {
        packet[at] = value;
    }
    for &start in mend {
        mend_checksum(&mut packet[start..]);
    }
    packet
}

/// Written apart from the code under test.
fn mend_checksum(header: &mut [u8]) {
    let len = usize::from(header[0] & 0x0f) * 4;
    header[10..12].fill(0);
    let words = header[..len]
        .chunks(2)
        .map(|word| u32::from(word[0]) * 256 + u32::from(word[1]));
    let total: u32 = words.sum();
    let checksum = !u16::try_from(total % 0xffff).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn a_tunnelled_packet_comes_out_as_it_went_in() {
    assert_eq!(decapsulated(bytes(SYN)), Ok(bytes(&SYN[40..])));
}

#[test]
fn inner_options_stay() {
    assert_eq!(
        decapsulated(bytes(INNER_OPTIONS)),
        Ok(bytes(&INNER_OPTIONS[40..]))
    );
}

#[test]
fn what_follows_the_packet_is_cut_off() {
    let mut packet = bytes(SYN);
    packet.extend([0xee; 6]);
    assert_eq!(decapsulated(packet), Ok(bytes(&SYN[40..])));
}

#[test]
fn room_between_inner_and_outer_length_is_cut_off() {
    let mut packet = changed(SYN, &[(3, 62)], &[0]);
    packet.extend([0xee; 2]);
    assert_eq!(decapsulated(packet), Ok(bytes(&SYN[40..])));
}

#[test]
fn outer_options_are_skipped() {
    let mut packet = bytes(SYN);
    packet.splice(20..20, [1, 1, 1, 1]);
    packet[0] = 0x46;
    packet[3] = 64;
    mend_checksum(&mut packet);
    assert_eq!(decapsulated(packet), Ok(bytes(&SYN[40..])));
}

#[test]
fn inner_congestion_survives_an_outer_ect() {
    assert_eq!(decapsulated(bytes(INNER_CE)), Ok(bytes(&INNER_CE[40..])));
}

#[test]
fn outer_congestion_is_passed_on_with_the_checksum_mended() {
    let inner = decapsulated(changed(INNER_ECT_0, &[(1, 3)], &[0])).unwrap();
    // TOS 2 to 3, so the checksum 1688 falls by one.
    let expected = INNER_ECT_0[40..]
        .replacen("4502", "4503", 1)
        .replacen("1688", "1687", 1);
    assert_eq!(inner, bytes(&expected));
}

#[test]
fn ecn_follows_the_table_of_rfc_6040() {
    // Rows: inner not-ECT, ECT(0), ECT(1), CE; columns: outer in that order.
    let table = [
        [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
        [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
        [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ];
    let order = [NOT_ECT, ECT_0, ECT_1, CE];
    for (row, inner) in order.into_iter().enumerate() {
        for (column, outer) in order.into_iter().enumerate() {
            assert_eq!(
                decapsulated_ecn(outer, inner),
                table[row][column],
                "{inner} in {outer}"
            );
        }
    }
}

#[test]
fn congestion_for_a_sender_without_ecn_drops() {
    let packet = changed(SYN, &[(1, 3)], &[0]);
    assert_eq!(decapsulated(packet), Err(DropReason::CongestionUnheard));
}

#[test]
fn other_outer_protocols_and_versions_drop() {
    assert_eq!(
        decapsulated(changed(SYN, &[(9, 50)], &[0])),
        Err(DropReason::OuterHeader)
    );
    assert_eq!(
        decapsulated(changed(SYN, &[(0, 0x65)], &[0])),
        Err(DropReason::OuterHeader)
    );
    assert_eq!(
        decapsulated(changed(SYN, &[(0, 0x44)], &[0])),
        Err(DropReason::OuterHeader)
    );
    assert_eq!(
        decapsulated(bytes(&SYN[..38])),
        Err(DropReason::OuterHeader)
    );
}

#[test]
fn a_wrong_outer_checksum_drops() {
    assert_eq!(
        decapsulated(changed(SYN, &[(10, 0x28)], &[])),
        Err(DropReason::OuterChecksum)
    );
}

#[test]
fn an_outer_length_beyond_the_packet_drops() {
    assert_eq!(
        decapsulated(changed(SYN, &[(3, 61)], &[0])),
        Err(DropReason::OuterTruncated)
    );
}

#[test]
fn outer_fragments_drop() {
    assert_eq!(
        decapsulated(changed(SYN, &[(6, 0x20)], &[0])),
        Err(DropReason::OuterFragment)
    );
    assert_eq!(
        decapsulated(changed(SYN, &[(7, 0x01)], &[0])),
        Err(DropReason::OuterFragment)
    );
}

#[test]
fn packets_for_another_end_drop() {
    assert_eq!(decapsulated(bytes(DATAGRAM)), Err(DropReason::NotForUs));
}

#[test]
fn only_listed_directors_are_taken() {
    let listed = |net: &str| Rules {
        directors: vec![net.parse().unwrap()],
        ..rules()
    };
    assert!(decapsulate(&mut bytes(SYN), &listed("10.0.0.0/30")).is_ok());
    assert_eq!(
        decapsulate(&mut bytes(SYN), &listed("10.0.0.2/32")),
        Err(DropReason::UnknownDirector)
    );
}

#[test]
fn an_inner_packet_that_is_not_ipv4_drops() {
    assert_eq!(
        decapsulated(changed(SYN, &[(20, 0x65)], &[])),
        Err(DropReason::InnerHeader)
    );
    assert_eq!(
        decapsulated(changed(SYN, &[(3, 39)], &[0])),
        Err(DropReason::InnerHeader)
    );
    assert_eq!(
        decapsulated(changed(SYN, &[(23, 19)], &[20])),
        Err(DropReason::InnerHeader)
    );
}

#[test]
fn a_wrong_inner_checksum_drops() {
    assert_eq!(
        decapsulated(changed(SYN, &[(30, 0xc4)], &[])),
        Err(DropReason::InnerChecksum)
    );
}

#[test]
fn an_inner_length_beyond_the_outer_drops() {
    assert_eq!(
        decapsulated(changed(SYN, &[(23, 41)], &[20])),
        Err(DropReason::InnerTruncated)
    );
}

#[test]
fn inner_destinations_other_than_a_vip_drop() {
    assert_eq!(
        decapsulated(changed(SYN, &[(39, 11)], &[20])),
        Err(DropReason::NotAVip)
    );
}

#[test]
fn sources_that_no_client_has_drop() {
    for source in [
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [10, 0, 0, 11],
        [198, 51, 100, 9],
    ] {
        let changes: Vec<_> = source
            .iter()
            .enumerate()
            .map(|(at, b)| (32 + at, *b))
            .collect();
        let packet = changed(SYN, &changes, &[20]);
        assert_eq!(
            decapsulated(packet),
            Err(DropReason::MartianSource),
            "{source:?}"
        );
    }
}

#[test]
fn a_prepared_checksum_is_finished() {
    // The pseudo header of SYN: addresses cb007107 c633640a, protocol 6, 20 bytes.
    let pseudo: u32 = 0xcb00 + 0x7107 + 0xc633 + 0x640a + 6 + 20;
    let folded = u16::try_from((pseudo & 0xffff) + (pseudo >> 16))
        .unwrap()
        .to_be_bytes();
    let mut packet = changed(&SYN[40..], &[(36, folded[0]), (37, folded[1])], &[]);
    assert!(complete_checksum(&mut packet));
    assert_eq!(packet, bytes(&SYN[40..]));
}

#[test]
fn right_and_wrong_checksums_are_left_alone() {
    let mut right = bytes(&SYN[40..]);
    assert!(!complete_checksum(&mut right));
    assert_eq!(right, bytes(&SYN[40..]));
    let mut wrong = changed(&SYN[40..], &[(36, 0x11), (37, 0x11)], &[]);
    assert!(!complete_checksum(&mut wrong));
    assert_eq!(wrong, changed(&SYN[40..], &[(36, 0x11), (37, 0x11)], &[]));
    let mut datagram = bytes(&DATAGRAM[40..]);
    assert!(!complete_checksum(&mut datagram));
    assert_eq!(datagram, bytes(&DATAGRAM[40..]));
}

#[test]
fn reasons_have_names_of_their_own() {
    for (index, reason) in DropReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
        assert!(
            DropReason::ALL[..index]
                .iter()
                .all(|other| other.name() != reason.name())
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut packet in prop::collection::vec(any::<u8>(), 0..128)) {
        let len = packet.len();
        complete_checksum(&mut packet.clone());
        if let Ok(inner) = decapsulate(&mut packet, &rules()) {
            prop_assert!(inner.len() + 20 <= len);
        }
    }

    #[test]
    fn no_change_of_a_good_packet_makes_it_panic(
        changes in prop::collection::vec((0_usize..60, any::<u8>()), 1..4),
        len in 0_usize..=60,
        mend in any::<bool>(),
    ) {
        let mut packet = changed(SYN, &changes, &[]);
        if mend && packet[0] & 0x0f == 5 {
            mend_checksum(&mut packet);
        }
        packet.truncate(len);
        complete_checksum(&mut packet.clone());
        if let Ok(inner) = decapsulate(&mut packet, &rules()) {
            prop_assert!(inner.len() + 20 <= len);
        }
    }
}

#[test]
fn an_ipv6_packet_comes_out_of_ipv4_as_it_went_in() {
    assert_eq!(decapsulated(bytes(IPV6_CE)), Ok(bytes(&IPV6_CE[40..])));
}

#[test]
fn congestion_in_ipv4_reaches_an_ipv6_packet() {
    // Inner ECT(0), outer CE.
    let packet = changed(IPV6_CE, &[(1, 0x03), (21, 0x20)], &[0]);
    let inner = decapsulated(packet).unwrap();
    assert_eq!(inner[..2], [0x60, 0x30]);
    let unheard = changed(IPV6_CE, &[(1, 0x03), (21, 0x00)], &[0]);
    assert_eq!(decapsulated(unheard), Err(DropReason::CongestionUnheard));
}

#[test]
fn each_reason_to_drop_an_ipv6_packet_is_named() {
    let drop = |changes: &[(usize, u8)]| decapsulated(changed(IPV6_CE, changes, &[0])).unwrap_err();
    assert_eq!(drop(&[(20, 0x45)]), DropReason::InnerHeader);
    assert_eq!(drop(&[(25, 0x15)]), DropReason::InnerTruncated);
    assert_eq!(drop(&[(59, 0x11)]), DropReason::NotAVip);
    assert_eq!(drop(&[(28, 0xff)]), DropReason::MartianSource);
    assert_eq!(drop(&[(9, 4)]), DropReason::InnerHeader);
}

fn decapsulated_from_ipv6(
    payload: &str,
    protocol: IpProtocol,
    rules: &Rules,
) -> Result<Vec<u8>, DropReason> {
    let mut payload = bytes(payload);
    decapsulate_from_ipv6(&mut payload, DIRECTOR6, protocol, rules).map(|inner| inner.to_vec())
}

#[test]
fn packets_of_both_versions_come_out_of_ipv6_as_they_went_in() {
    for (inner, protocol) in [
        (&SYN[40..], IpProtocol::IPIP),
        (&IPV6_CE[40..], IpProtocol::IPV6),
    ] {
        let out = decapsulated_from_ipv6(inner, protocol, &rules());
        assert_eq!(out, Ok(bytes(inner)));
    }
    let other = decapsulated_from_ipv6(&SYN[40..], IpProtocol::UDP, &rules());
    assert_eq!(other, Err(DropReason::OuterHeader));
}

#[test]
fn directors_over_ipv6_can_be_limited() {
    let listed = |net: &str| Rules {
        directors: vec!["192.0.2.0/24".parse().unwrap(), net.parse().unwrap()],
        ..rules()
    };
    let out = |net| decapsulated_from_ipv6(&SYN[40..], IpProtocol::IPIP, &listed(net));
    assert!(out("2001:db8:2::/64").is_ok());
    assert_eq!(out("2001:db8:3::/64"), Err(DropReason::UnknownDirector));
}

#[test]
fn a_prepared_checksum_over_ipv6_is_finished() {
    let finished = bytes(&IPV6_CE[40..]);
    let mut packet = finished.clone();
    let pseudo = packet[8..40]
        .chunks(2)
        .map(|word| u32::from(word[0]) * 256 + u32::from(word[1]))
        .sum::<u32>()
        + 20
        + 6;
    let pseudo = u16::try_from(pseudo % 0xffff).unwrap();
    packet[56..58].copy_from_slice(&pseudo.to_be_bytes());
    assert!(complete_checksum(&mut packet));
    assert_eq!(packet, finished);
    assert!(!complete_checksum(&mut packet));
}

/// Step 1 of recording `11_gre_nocsum`.
const GRE: &str = "45000040000040003f2f27840a0000010a00000b00000800\
    45000028123440003f06c356cb007107c633640a9c410050000003e8000000005002faf0ae320000";
/// Of recording `r_tun_01`: GRE with a checksum, to another real server.
const GRE_CHECKED: &str = "45000038000040003f2f278b0a0000010a00000c80000800df4f0000\
    4500001c089940003f11cc01cb0071f8c633640ac07800350008d7f9";

#[test]
fn recorded_gre_packets_come_out_as_they_went_in() {
    assert_eq!(decapsulated(bytes(GRE)), Ok(bytes(&GRE[48..])));
    let local = bytes(GRE_CHECKED)[16..20].try_into().unwrap();
    let rules = Rules {
        local: Ipv4Addr::from_octets(local).into(),
        ..rules()
    };
    let mut packet = bytes(GRE_CHECKED);
    let inner = decapsulate(&mut packet, &rules).unwrap();
    assert_eq!(inner, bytes(&GRE_CHECKED[56..]));
    let mut packet = changed(GRE_CHECKED, &[(55, 0x55)], &[]);
    let wrong = decapsulate(&mut packet, &rules);
    assert_eq!(wrong, Err(DropReason::TunnelChecksum));
}

#[test]
fn congestion_on_the_way_of_gre_is_heard() {
    // Inner ECT(0), outer CE.
    let packet = changed(GRE, &[(1, 3), (25, 2)], &[0, 24]);
    assert_eq!(decapsulated(packet).unwrap()[1], 3);
}

#[test]
fn gre_and_gue_headers_that_are_not_known_drop() {
    // A key, and an Ethernet frame.
    for change in [(20, 0x20), (22, 0x65)] {
        let packet = changed(GRE, &[change], &[]);
        assert_eq!(decapsulated(packet), Err(DropReason::TunnelHeader));
    }
    // Extension fields, ESP, and nothing.
    for payload in ["01040020", "00320000", "0004"] {
        let out = decapsulate_gue(&mut bytes(payload), DIRECTOR.into(), &rules())
            .map(|inner| inner.to_vec());
        assert_eq!(out, Err(DropReason::TunnelHeader));
    }
}

#[test]
fn packets_of_both_versions_come_out_of_gue_as_they_went_in() {
    for (header, inner) in [("00040000", &SYN[40..]), ("00290000", &IPV6_CE[40..])] {
        let mut payload = bytes(&[header, inner].concat());
        let out = decapsulate_gue(&mut payload, DIRECTOR.into(), &rules());
        assert_eq!(out.map(|inner| inner.to_vec()), Ok(bytes(inner)));
    }
    let mut payload = bytes(&["00040000", &SYN[40..]].concat());
    let limited = Rules {
        directors: vec!["192.0.2.0/24".parse().unwrap()],
        ..rules()
    };
    let out = decapsulate_gue(&mut payload, DIRECTOR.into(), &limited);
    assert_eq!(out, Err(DropReason::UnknownDirector));
}

#[test]
fn packets_come_out_of_gue_without_a_checksum_as_they_went_in() {
    // From port 40000 to 6080; what follows the datagram is none of it.
    let datagram = |len: &str, checksum: &str| {
        let udp = ["9c4017c0", len, checksum, "00290000"].concat();
        bytes(&[&udp, &IPV6_CE[40..], "ffff"].concat())
    };
    let inner = bytes(&IPV6_CE[40..]);
    let len = format!("{:04x}", 12 + inner.len());
    let take = |mut datagram: Vec<u8>| {
        decapsulate_gue_without_checksum(&mut datagram, DIRECTOR.into(), &rules())
            .map(|inner| inner.to_vec())
    };
    assert_eq!(take(datagram(&len, "0000")), Ok(inner));
    for wrong in [
        datagram(&len, "0001"),
        datagram("0007", "0000"),
        datagram("ffff", "0000"),
        bytes("9c4017c0000000"),
    ] {
        assert_eq!(take(wrong), Err(DropReason::TunnelHeader));
    }
}
