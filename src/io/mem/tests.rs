use super::*;
use crate::{
    io::{HEADROOM_LEN_MIN, PortCapabilities},
    wire::ethernet::MacAddr,
};

const PORT: PortIndex = PortIndex(0);

fn network(ports: u8, workers: usize, packets: usize, offload: bool) -> MemNetwork {
    let describe = |index| PortDescription {
        name: format!("port{index}"),
        device: "mem".to_owned(),
        driver: "mem".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, index]),
        mtu: 1500,
        numa_node: None,
        rx_queues: 1,
        tx_queues: 1,
        capabilities: PortCapabilities {
            tx_ipv4_checksum: offload,
            rx_ipv4_checksum: offload,
            ..Default::default()
        },
    };
    MemNetwork::new((0..ports).map(describe).collect(), workers, packets)
}

/// The queues of a worker where each port has one for it.
fn queues(network: &MemNetwork, worker: usize) -> (Vec<MemRxQueue>, Vec<MemTxQueue>) {
    let (rx, tx) = network.queues(worker);
    let all = |len| assert_eq!(len, network.ports.len());
    all(rx.iter().flatten().count());
    all(tx.iter().flatten().count());
    (
        rx.into_iter().flatten().collect(),
        tx.into_iter().flatten().collect(),
    )
}

fn burst_of(pool: &mut MemPool, frames: &[&[u8]]) -> Burst<MemPacket> {
    frames
        .iter()
        .map(|frame| pool.packet_of(frame).unwrap())
        .collect()
}

#[test]
fn frame_arrives_in_its_own_queue_only() {
    let network = network(2, 2, 8, false);
    let (mut first, _) = queues(&network, 0);
    let (mut second, _) = queues(&network, 1);
    assert!(network.send(PortIndex(1), 1, b"frame"));
    let mut burst = Burst::new();
    assert_eq!(first[0].receive(&mut burst), 0);
    assert_eq!(first[1].receive(&mut burst), 0);
    assert_eq!(second[0].receive(&mut burst), 0);
    assert_eq!(second[1].receive(&mut burst), 1);
    assert_eq!(burst[0].bytes(), b"frame");
    assert!(burst[0].is_contiguous());
    assert!(burst[0].headroom() >= HEADROOM_LEN_MIN);
}

#[test]
fn header_checksum_is_looked_at_on_receive() {
    // A header from many a textbook, whose checksum is 0xb861.
    let header = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199,
    ];
    let plain = [&[0; 12][..], &[8, 0], &header].concat();
    let tagged = [&[0; 12][..], &[0x81, 0, 0, 7, 8, 0], &header].concat();
    let is_good = |offload, frame: &[u8]| {
        let network = network(1, 1, 1, offload);
        let (mut rx, _) = network.queues(0);
        assert!(network.send(PORT, 0, frame));
        let mut burst = Burst::new();
        assert_eq!(rx[0].as_mut().unwrap().receive(&mut burst), 1);
        burst[0].has_good_ipv4_checksum()
    };
    assert!(is_good(true, &plain));
    assert!(is_good(true, &tagged));
    assert!(!is_good(false, &plain));
    for place in 14..34 {
        let mut wrong = plain.clone();
        wrong[place] ^= 0x21;
        assert!(!is_good(true, &wrong), "byte {place}");
    }
    assert!(!is_good(true, &plain[..33]));
    assert!(!is_good(true, b"frame"));
}

#[test]
fn the_first_workers_have_the_receive_and_the_last_the_transmit_queues() {
    let mut description = network(1, 1, 1, false).ports()[0].description().clone();
    description.rx_queues = 1;
    description.tx_queues = 2;
    let network = MemNetwork::with_queues(vec![description], 3, 1);
    let has = |worker| {
        let (rx, tx) = network.queues(worker);
        assert_eq!((rx.len(), tx.len()), (1, 1));
        (rx[0].is_some(), tx[0].is_some())
    };
    assert_eq!(
        [0, 1, 2].map(has),
        [(true, false), (false, true), (false, true)]
    );
    assert!(!network.send(PORT, 1, b"to a queue that is not there"));
}

#[test]
fn packet_in_use_is_counted_until_dropped() {
    let network = network(1, 1, 2, false);
    let mut pool = network.pool();
    let (a, b) = (pool.allocate(), pool.allocate());
    assert!(a.is_some() && b.is_some());
    assert!(pool.allocate().is_none());
    assert_eq!(network.packets_in_use(), 2);
    assert!(!network.send(PORT, 0, b"no buffer is left"));
    assert_eq!(network.ports()[0].statistics().rx_no_buffer, 1);
    drop(a);
    assert_eq!(network.packets_in_use(), 1);
    assert!(network.send(PORT, 0, b"x"));
    drop(b);
    assert_eq!(network.packets_in_use(), 1);
}

#[test]
fn reused_buffer_starts_empty_with_full_headroom() {
    let mut pool = MemPool::new(1);
    let mut packet = pool.packet_of(b"old").unwrap();
    packet.prepend(100).unwrap();
    packet.offload_ipv4_checksum(14, 20);
    drop(packet);
    let packet = pool.allocate().unwrap();
    assert_eq!(packet.bytes(), b"");
    assert_eq!(packet.headroom(), HEADROOM_LEN);
    assert_eq!(packet.checksum_request, None);
}

#[test]
fn frame_grows_and_shrinks_at_both_ends() {
    let mut pool = MemPool::new(1);
    let mut packet = pool.packet_of(b"abcdef").unwrap();
    packet.trim_front(2);
    packet.truncate(3);
    assert_eq!(packet.bytes(), b"cde");
    packet.prepend(1).unwrap()[0] = b'_';
    packet.extend(1).unwrap()[4] = b'!';
    assert_eq!(packet.bytes(), b"_cde!");
    packet.truncate(9);
    assert_eq!(packet.bytes(), b"_cde!");
    packet.trim_front(9);
    assert_eq!(packet.bytes(), b"");
}

#[test]
fn growth_beyond_the_buffer_is_refused_and_changes_nothing() {
    let mut pool = MemPool::new(1);
    let mut packet = pool.packet_of(b"abc").unwrap();
    assert!(packet.prepend(HEADROOM_LEN + 1).is_none());
    assert!(packet.extend(FRAME_LEN_MAX - 2).is_none());
    assert!(packet.extend(usize::MAX).is_none());
    assert_eq!(packet.bytes(), b"abc");
    assert_eq!(packet.headroom(), HEADROOM_LEN);
    assert!(packet.prepend(HEADROOM_LEN).is_some());
    assert!(packet.extend(FRAME_LEN_MAX - 3).is_some());
}

#[test]
fn sent_frames_come_in_the_order_of_all_ports() {
    let network = network(2, 2, 8, false);
    let mut pool = network.pool();
    let (_, mut tx) = queues(&network, 0);
    let (_, mut other_tx) = queues(&network, 1);
    assert_eq!(tx[1].transmit(&mut burst_of(&mut pool, &[b"1", b"2"])), 2);
    assert_eq!(other_tx[0].transmit(&mut burst_of(&mut pool, &[b"3"])), 1);
    assert_eq!(tx[1].transmit(&mut burst_of(&mut pool, &[b"4"])), 1);
    let expected = [(1, b"1"), (1, b"2"), (0, b"3"), (1, b"4")];
    assert_eq!(
        network.take_sent(),
        expected.map(|(port, f)| (PortIndex(port), f.to_vec()))
    );
    assert_eq!(network.take_sent(), []);
    assert_eq!(network.packets_in_use(), 0);
    assert_eq!(network.ports()[1].statistics().tx_packets, 3);
    assert_eq!(network.ports()[1].statistics().tx_bytes, 3);
}

#[test]
fn full_port_accepts_a_prefix_of_the_burst() {
    let network = network(2, 1, 8, false);
    let (_, mut tx) = queues(&network, 0);
    network.set_tx_capacity(PORT, 2);
    let mut burst = burst_of(&mut network.pool(), &[b"1", b"2", b"3"]);
    assert_eq!(tx[0].transmit(&mut burst), 2);
    assert_eq!(burst.len(), 1);
    assert_eq!(burst[0].bytes(), b"3");
    assert_eq!(tx[0].transmit(&mut burst), 0);
    assert_eq!(network.packets_in_use(), 1);
    assert_eq!(
        tx[1].transmit(&mut burst_of(&mut network.pool(), &[b"4"])),
        1
    );
    assert_eq!(network.take_sent().len(), 3);
    assert_eq!(tx[0].transmit(&mut burst), 1);
}

#[test]
fn port_without_link_takes_nothing() {
    let network = network(1, 1, 8, false);
    let (_, mut tx) = queues(&network, 0);
    let port = &network.ports()[0];
    assert_eq!(
        port.link(),
        Link {
            up: true,
            speed_mbps: LINK_SPEED_MBPS
        }
    );
    network.set_link(PORT, false);
    assert_eq!(port.link(), Link::default());
    let mut burst = burst_of(&mut network.pool(), &[b"1"]);
    assert_eq!(tx[0].transmit(&mut burst), 0);
    assert_eq!(burst.len(), 1);
    assert!(!network.send(PORT, 0, b"x"));
    assert_eq!(port.statistics().rx_errors, 1);
}

#[test]
fn full_receive_queue_loses_the_frame_and_counts_it() {
    let network = network(1, 1, RX_QUEUE_LEN + 1, false);
    for _ in 0..RX_QUEUE_LEN {
        assert!(network.send(PORT, 0, b"x"));
    }
    assert!(!network.send(PORT, 0, b"x"));
    assert!(!network.send(PORT, 1, b"there is no such queue"));
    let statistics = network.ports()[0].statistics();
    assert_eq!(statistics.rx_missed, 2);
    assert_eq!(statistics.rx_packets, RX_QUEUE_LEN as u64);
    assert_eq!(network.packets_in_use(), RX_QUEUE_LEN);
}

#[test]
fn scattered_frame_says_so() {
    let network = network(1, 1, 1, false);
    let (mut rx, _) = queues(&network, 0);
    assert!(network.send_scattered(PORT, 0, b"x"));
    let mut burst = Burst::new();
    rx[0].receive(&mut burst);
    assert!(!burst[0].is_contiguous());
}

/// An Ethernet header of 14 bytes, then the header of a recorded IPIP
/// packet: 10.0.0.1 to 10.1.2.3, checksum 25ba.
const IPIP_FRAME: [u8; 34] = [
    0x02, 0, 0, 0, 0xc0, 0x01, 0x02, 0, 0, 0, 0xd0, 0x01, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 0x3c, 0, 0, 0x40, 0, 0x3f, 0x04, 0x25, 0xba, 10, 0, 0, 1, 10, 1, 2, 3,
];

fn sent_with_wrong_checksum(port_has_offload: bool) -> Vec<u8> {
    let network = network(1, 1, 1, port_has_offload);
    let (_, mut tx) = queues(&network, 0);
    let mut frame = IPIP_FRAME;
    frame[24..26].copy_from_slice(&[0xde, 0xad]);
    let mut burst = burst_of(&mut network.pool(), &[&frame]);
    burst[0].offload_ipv4_checksum(14, 20);
    assert_eq!(tx[0].transmit(&mut burst), 1);
    network.take_sent().remove(0).1
}

#[test]
fn requested_checksum_is_filled_in_on_transmit() {
    assert_eq!(sent_with_wrong_checksum(true), IPIP_FRAME);
}

#[test]
fn port_without_offload_leaves_the_checksum_alone() {
    assert_eq!(sent_with_wrong_checksum(false)[24..26], [0xde, 0xad]);
}

#[test]
fn carries_are_added_to_the_checksum() {
    assert_eq!(internet_checksum(&[0xff, 0xff, 0x00, 0x02]), !0x0002);
}
