use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};

use super::*;
use crate::{
    pktgen::{
        plan::{Fragmentation, Options, TcpTraffic, tests::options},
        size::SizeMix,
    },
    wire::test_support::hex,
};

const LINK: Link = Link {
    source: MacAddr([0x02, 0, 0, 0, 0xaa, 1]),
    destination: MacAddr([0x02, 0, 0, 0, 0xd0, 1]),
};

fn frame_of(plan: &Plan, stamp: Stamp, len: usize, part: usize) -> Vec<u8> {
    let mut shapes = Shapes::new(plan, plan.options.ttl);
    shapes.set_link(LINK);
    let flow = plan.flow(stamp.slot, stamp.generation).unwrap();
    let (version, transport) = (flow.service.version, flow.service.transport);
    let filling = Filling {
        flow,
        stamp,
        flags: plan.segment(stamp.sequence).0,
        identification: plan.identification(version, stamp.slot, stamp.sequence),
    };
    let shape = shapes.get(version, transport, len, part).unwrap();
    let mut frame = vec![0xee; shape.frame_len()];
    shape.write(&mut frame, &filling).unwrap();
    let head = shape.head(&filling).unwrap();
    let packet = [head.bytes(), shape.body()].concat();
    assert_eq!(
        packet,
        frame[plan.l2_len()..],
        "head and body are the packet"
    );
    assert_eq!(Stamp::read(shape, &packet), Some(stamp));
    frame
}

fn plan(service: &str, change: impl FnOnce(&mut Options)) -> Plan {
    let mut options = options(service);
    change(&mut options);
    Plan::new(options).unwrap()
}

const STAMP: Stamp = Stamp {
    slot: 0,
    generation: 0x0102_0304,
    sequence: 0x0506_0708,
    time: 0x1112_1314_1516,
};

#[test]
fn a_segment_of_sixty_bytes_is_these() {
    let plan = plan("198.51.100.10:80", |_| {});
    // The flow's number is its generation, as there is one slot: client
    // 198.18.0.0 + (0x01020304 & 0x1ffff), port 16384 + (0x01020304 >> 17).
    assert_eq!(
        frame_of(&plan, STAMP, 0, 0),
        hex("02000000d001 02000000aa01 0800 \
             4500002e 00004000 40064776 c6120304 c633640a \
             40810050 05060708 00000000 5018 0102 3251 0304 111213141516")
    );
}

#[test]
fn a_datagram_of_sixty_two_bytes_with_a_tag_is_these() {
    let plan = plan("198.51.100.10:53/udp", |options| {
        options.vlan = Some(7);
        options.dont_fragment = false;
        options.tos = 0xb8;
        options.sizes = SizeMix::fixed(62);
    });
    // Byte n of the datagram is 7 n + 3, from the 26th on.
    assert_eq!(
        frame_of(&plan, STAMP, 1, 0),
        hex("02000000d001 02000000aa01 8100 0007 0800 \
             45b80030 07080000 40117fa9 c6120304 c633640a \
             40810035 001c c89a 05060708 00000000 01020304 111213141516 b9c0")
    );
}

/// The identification of a fragment is that of its place in the flow: 2, as
/// there are fewer flows than clients.
#[test]
fn fragments_are_these() {
    let plan = plan("198.51.100.10:53/udp", |options| {
        options.fragmentation = Some(Fragmentation {
            percent: 100,
            parts: 2,
            reversed: false,
        });
    });
    let stamp = Stamp {
        generation: 0,
        sequence: 2,
        ..STAMP
    };
    let first = frame_of(&plan, stamp, 1, 1);
    assert_eq!(
        first[14..],
        *hex("45000034 00022000 40116a67 c6120000 c633640a \
              40000035 0040 33fe 00000002 00000000 00000000 111213141516 b9c0c7ced5dc")
    );
    let last = frame_of(&plan, stamp, 1, 2);
    assert_eq!(
        last[14..],
        *hex("45000034 00020004 40118a63 c6120000 c633640a \
              00000002 00000000 00000000 111213141516 61686f767d848b9299a0a7aeb5bc")
    );
}

/// What etherparse makes of a frame: nothing may be wrong with it, checksums
/// included.
fn decoded(frame: &[u8]) -> (NetHeaders, Option<TransportHeader>) {
    let headers = LaxPacketHeaders::from_ethernet(frame).unwrap();
    assert_eq!(headers.stop_err, None);
    let net = headers.net.unwrap();
    let payload = headers.payload.slice();
    if let NetHeaders::Ipv4(ip, _) = &net {
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    }
    let whole = match &net {
        NetHeaders::Ipv4(ip, _) => !ip.is_fragmenting_payload(),
        NetHeaders::Ipv6(_, extensions) => extensions.fragment.is_none(),
        NetHeaders::Arp(_) => unreachable!(),
    };
    match &headers.transport {
        Some(TransportHeader::Tcp(tcp)) if whole => {
            let checksum = match &net {
                NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, payload),
                NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload),
                NetHeaders::Arp(_) => unreachable!(),
            };
            assert_eq!(checksum.unwrap(), tcp.checksum);
        }
        Some(TransportHeader::Udp(udp)) if whole => {
            let checksum = match &net {
                NetHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, payload),
                NetHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, payload),
                NetHeaders::Arp(_) => unreachable!(),
            };
            assert_eq!(checksum.unwrap(), udp.checksum);
        }
        _ => assert!(!whole),
    }
    (net, headers.transport)
}

#[test]
fn etherparse_finds_nothing_wrong_with_whole_packets() {
    for service in [
        "198.51.100.10:80",
        "198.51.100.10:53/udp",
        "[2001:db8::10]:80",
        "[2001:db8::10]:53/udp",
    ] {
        let plan = plan(service, |options| {
            options.flows = 1000;
            options.sizes = "60,61,577,1514,9230".parse().unwrap();
            options.tcp = TcpTraffic::Connections { data_segments: 1 };
            options.tos = 0x03;
        });
        for slot in [0, 1, 999] {
            for generation in [0, 1, 0xffff_ffff] {
                for sequence in 0..4 {
                    for len in 0..6 {
                        let stamp = Stamp {
                            slot,
                            generation,
                            sequence,
                            time: u64::from(generation) << 16 | 0xabcd,
                        };
                        let frame = frame_of(&plan, stamp, len, 0);
                        let wanted = [60, 60, 61, 577, 1514, 9230][len];
                        let is_v6 = service.starts_with('[');
                        let shortest = if is_v6 { 80 } else { 60 };
                        assert_eq!(frame.len(), wanted.max(shortest));
                        let (net, transport) = decoded(&frame);
                        assert_eq!(net.is_ipv6(), is_v6);
                        if let Some(TransportHeader::Tcp(tcp)) = transport {
                            let flags = (tcp.syn, tcp.ack, tcp.psh, tcp.fin);
                            let expected = [
                                (true, false, false, false),
                                (false, true, false, false),
                                (false, true, true, false),
                                (false, true, false, true),
                            ];
                            assert_eq!(flags, expected[sequence as usize]);
                        }
                    }
                }
            }
        }
    }
}

/// The parts of a datagram put together are one with a right checksum.
#[test]
fn fragments_make_a_datagram_with_a_right_checksum() {
    for (service, l4_at) in [("198.51.100.10:53/udp", 34), ("[2001:db8::10]:53/udp", 62)] {
        for (parts, len) in [(2, 60), (3, 577), (8, 1500)] {
            let plan = plan(service, |options| {
                options.sizes = SizeMix::fixed(len);
                options.fragmentation = Some(Fragmentation {
                    percent: 100,
                    parts,
                    reversed: false,
                });
            });
            let mut datagram = Vec::new();
            for part in 1..=usize::from(parts) {
                let frame = frame_of(&plan, STAMP, 1, part);
                decoded(&frame);
                assert_eq!(frame.len() % 8, l4_at % 8);
                datagram.extend(&frame[l4_at..]);
            }
            let udp = etherparse::UdpHeader::from_slice(&datagram).unwrap();
            assert_eq!(usize::from(udp.0.length), datagram.len());
            let frame = frame_of(&plan, STAMP, 1, 1);
            let checksum = match decoded(&frame).0 {
                NetHeaders::Ipv4(ip, _) => udp.0.calc_checksum_ipv4(&ip, udp.1),
                NetHeaders::Ipv6(ip, _) => udp.0.calc_checksum_ipv6(&ip, udp.1),
                NetHeaders::Arp(_) => unreachable!(),
            };
            assert_eq!(checksum.unwrap(), udp.0.checksum, "{service} {parts}");
        }
    }
}
