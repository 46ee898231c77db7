use crate::{
    case::{RecordedFrame, parse_hex},
    frame::describe,
    mask::{Comparison, Difference, is_ignored},
};

/// Recorded: a SYN in an IPIP tunnel, outer DF set.
const TUNNELLED: &str = "02000000c00102000000d00108004500003c000040003f0425ba0a0000010a010203\
    45000028123440003f06c356cb007107c633640ad6d80051000003e8000000005002faf0739a0000";

/// Recorded: an ICMP 3/1, DF clear.
const UNREACHABLE: &str = "02000000c00002000000d000080045c0004412ee0000400100c6c633640acb007107\
    0301635f0000000045000028123440004006c256cb007107c633640ad6d80052000003e8000000005002faf0\
    73990000";

fn recorded(hex: &str) -> RecordedFrame {
    RecordedFrame {
        nic: 1,
        bytes: parse_hex(hex).unwrap(),
    }
}

fn compare(recorded_frame: &RecordedFrame, ours: &[u8]) -> Result<(), Difference> {
    Comparison::new(&[]).compare(recorded_frame, 1, ours)
}

#[test]
fn equal_frames_are_equal_on_the_same_port_only() {
    let frame = recorded(TUNNELLED);
    assert_eq!(compare(&frame, &frame.bytes), Ok(()));
    let other_port = Comparison::new(&[]).compare(&frame, 0, &frame.bytes);
    assert_eq!(
        other_port,
        Err(Difference::Port {
            recorded: 1,
            ours: 0
        })
    );
}

#[test]
fn every_byte_counts_while_df_is_set() {
    let frame = recorded(TUNNELLED);
    for offset in 0..frame.bytes.len() {
        let mut ours = frame.bytes.clone();
        ours[offset] ^= 1;
        assert_eq!(compare(&frame, &ours), Err(Difference::Byte { offset }));
    }
}

#[test]
fn missing_and_surplus_bytes_count() {
    let frame = recorded(TUNNELLED);
    let len = frame.bytes.len();
    let mut ours = frame.bytes.clone();
    ours.push(0);
    let longer = Difference::Length {
        recorded: len,
        ours: len + 1,
    };
    assert_eq!(compare(&frame, &ours), Err(longer));
    let shorter = Difference::Length {
        recorded: len,
        ours: len - 1,
    };
    assert_eq!(compare(&frame, &frame.bytes[..len - 1]), Err(shorter));
}

#[test]
fn identification_is_free_while_df_is_clear_but_the_checksum_must_be_right() {
    let frame = recorded(UNREACHABLE);
    let mut ours = frame.bytes.clone();
    // One more in the identification is one less in the checksum.
    ours[19] += 1;
    assert_eq!(compare(&frame, &ours), Err(Difference::HeaderChecksum));
    ours[25] -= 1;
    assert_eq!(compare(&frame, &ours), Ok(()));
    ours[22] -= 1;
    assert_eq!(compare(&frame, &ours), Err(Difference::Byte { offset: 22 }));
}

/// A fragment of 8 bytes of protocol 4 with the identification `id`.
fn fragment(id: u8, offset: u8) -> Vec<u8> {
    let mut frame = parse_hex("02000000c01102000000d0010800").unwrap();
    let mut header = parse_hex("4500001c00002000400400000a0000010a00000b").unwrap();
    header[5] = id;
    header[7] = offset;
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1]))
        .sum();
    let checksum = u16::try_from(0xffff - (sum & 0xffff) - (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(header);
    frame.extend([0; 8]);
    frame
}

#[test]
fn fragments_of_one_packet_share_their_identification() {
    let recorded_pair = [fragment(7, 0), fragment(7, 1)];
    for (ids, expected) in [
        ([9, 9], Ok(())),
        ([9, 8], Err(Difference::FragmentIdentification)),
    ] {
        let mut comparison = Comparison::new(&[]);
        let ours = [fragment(ids[0], 0), fragment(ids[1], 1)];
        let results: Vec<_> = recorded_pair
            .iter()
            .zip(&ours)
            .map(|(bytes, ours)| {
                let frame = RecordedFrame {
                    nic: 1,
                    bytes: bytes.clone(),
                };
                comparison.compare(&frame, 1, ours)
            })
            .collect();
        assert_eq!(results, [Ok(()), expected]);
    }
}

/// Recorded: the answer to an ICMP timestamp request, DF clear.
const TIMESTAMP: &str = "02000000c00002000000d00008004500002856cd00004001bdc2c633640acb007107\
    0e00737a0000000000d46d3a00d4876700d48767";

#[test]
fn time_of_day_is_free_but_its_checksum_must_be_right() {
    let frame = recorded(TIMESTAMP);
    let mut ours = frame.bytes.clone();
    ours[49] += 1;
    assert_eq!(compare(&frame, &ours), Err(Difference::IcmpChecksum));
    ours[37] -= 1;
    assert_eq!(compare(&frame, &ours), Ok(()));
    ours[45] += 1;
    assert_eq!(compare(&frame, &ours), Err(Difference::Byte { offset: 45 }));
}

/// An IPv4 packet with DF to a UDP port, with source port and checksum given.
fn udp(destination_port: u16, source_port: u16, checksum: u16) -> Vec<u8> {
    let mut frame = parse_hex("02000000c01102000000d0010800").unwrap();
    frame.extend(parse_hex("4500002000004000401126c20a0000010a00000b").unwrap());
    for field in [source_port, destination_port, 12, checksum, 0x0004, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame
}

#[test]
fn gue_source_port_and_checksum_are_free_but_its_presence_is_not() {
    let gue = RecordedFrame {
        nic: 1,
        bytes: udp(6080, 50000, 0x1234),
    };
    assert_eq!(compare(&gue, &udp(6080, 50001, 0x4321)), Ok(()));
    let without = compare(&gue, &udp(6080, 50000, 0));
    assert_eq!(without, Err(Difference::Byte { offset: 40 }));
    let plain = RecordedFrame {
        nic: 1,
        bytes: udp(6081, 50000, 0x1234),
    };
    assert_eq!(
        compare(&plain, &udp(6081, 50001, 0x1234)),
        Err(Difference::Byte { offset: 35 })
    );
    let other = Comparison::new(&[6081]).compare(&plain, 1, &udp(6081, 50001, 0x4321));
    assert_eq!(other, Ok(()));
}

#[test]
fn flow_label_and_fragment_identification_of_ipv6_are_free() {
    let head = "02000000c01102000000d00186dd";
    let addresses = "20010db800020000000000000000000120010db8000200000000000000000011";
    let packet = |start: &str, id: &str| {
        parse_hex(&format!("{head}{start}00082c40{addresses}06000001{id}")).unwrap()
    };
    let frame = RecordedFrame {
        nic: 1,
        bytes: packet("6ab00000", "00000001"),
    };
    assert_eq!(compare(&frame, &packet("6abfffff", "99999999")), Ok(()));
    let other_class = compare(&frame, &packet("6ac00000", "00000001"));
    assert_eq!(other_class, Err(Difference::Byte { offset: 15 }));
}

#[test]
fn multicast_of_the_recording_host_is_ignored() {
    assert!(is_ignored(&parse_hex("33330000000102000000d000").unwrap()));
    assert!(is_ignored(&parse_hex("01005e00005102000000d000").unwrap()));
    assert!(!is_ignored(&parse_hex(TUNNELLED).unwrap()));
}

#[test]
fn frames_are_described_layer_by_layer() {
    assert_eq!(
        describe(&parse_hex(TUNNELLED).unwrap()),
        "02:00:00:00:d0:01>02:00:00:00:c0:01 IPv4[10.0.0.1>10.1.2.3 ihl=5 tos=00 len=60 id=0000 \
         DF offset=0 ttl=63 protocol=4 checksum right] IPv4[203.0.113.7>198.51.100.10 ihl=5 \
         tos=00 len=40 id=1234 DF offset=0 ttl=63 protocol=6 checksum right] TCP[55000>81 S \
         seq=1000 ack=0 payload=0]"
    );
    assert_eq!(
        describe(&parse_hex(UNREACHABLE).unwrap()),
        "02:00:00:00:d0:00>02:00:00:00:c0:00 IPv4[198.51.100.10>203.0.113.7 ihl=5 tos=c0 len=68 \
         id=12ee offset=0 ttl=64 protocol=1 checksum right] ICMP[type=3 code=1 payload=40] \
         quoting 203.0.113.7>198.51.100.10"
    );
    let arp =
        "ffffffffffff02000000d0010806000108000604000102000000d0010a0000010000000000000a000063";
    assert_eq!(
        describe(&parse_hex(arp).unwrap()),
        "02:00:00:00:d0:01>ff:ff:ff:ff:ff:ff ARP[op=1 02:00:00:00:d0:01 10.0.0.1>\
         00:00:00:00:00:00 10.0.0.99]"
    );
    assert_eq!(describe(&[1, 2, 3]), "3 bytes, no Ethernet frame");
}
