//! A driver whose packets have no room in front, as with a DPDK that was built
//! with `RTE_PKTMBUF_HEADROOM` 0.

use pointsman::{
    clock::Ticks,
    director::assemble,
    io::{
        Burst, Driver, Packet, PacketPool, PortCapabilities, PortIndex, RxQueue, TxQueue,
        mem::{MemNetwork, MemPacket, MemPool, MemPort, MemRxQueue, MemTxQueue},
    },
    worker::WorkerQueues,
};

use crate::{
    frames::{SYN, tcp},
    lab::{Checked, Lab, Setup, assert_sum, config, counters, descriptions, materials, settle},
};

#[derive(Debug)]
struct TightPacket(MemPacket);

impl Packet for TightPacket {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    fn headroom(&self) -> usize {
        0
    }

    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        (len == 0).then(|| self.0.bytes_mut())
    }

    fn trim_front(&mut self, len: usize) {
        self.0.trim_front(len);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn extend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.extend(len)
    }

    fn offload_ipv4_checksum(&mut self, l2_len: u8, l3_len: u8) {
        self.0.offload_ipv4_checksum(l2_len, l3_len);
    }
}

#[derive(Debug)]
struct TightPool(MemPool);

impl PacketPool for TightPool {
    type Packet = TightPacket;

    fn allocate(&mut self) -> Option<TightPacket> {
        self.0.allocate().map(TightPacket)
    }
}

#[derive(Debug)]
struct TightRxQueue(MemRxQueue);

impl RxQueue for TightRxQueue {
    type Packet = TightPacket;

    fn receive(&mut self, burst: &mut Burst<TightPacket>) -> usize {
        let mut received = Burst::new();
        self.0.receive(&mut received);
        let len = received.len();
        burst.extend(received.into_iter().map(TightPacket));
        len
    }
}

#[derive(Debug)]
struct TightTxQueue(MemTxQueue);

impl TxQueue for TightTxQueue {
    type Packet = TightPacket;

    fn transmit(&mut self, burst: &mut Burst<TightPacket>) -> usize {
        let mut sent = burst.drain(..).map(|packet| packet.0).collect();
        self.0.transmit(&mut sent)
    }
}

#[derive(Debug)]
enum TightDriver {}

impl Driver for TightDriver {
    type Packet = TightPacket;
    type RxQueue = TightRxQueue;
    type TxQueue = TightTxQueue;
    type Pool = TightPool;
    type Port = MemPort;
}

pub(crate) fn a_packet_without_headroom_is_dropped(counter: &str) -> Checked {
    let config = config(&Setup::default());
    let network = MemNetwork::new(descriptions(&config, PortCapabilities::default()), 1, 64);
    let (receive, transmit) = network.queues(0);
    let queues = WorkerQueues::<TightDriver> {
        receive: receive.into_iter().map(|it| it.map(TightRxQueue)).collect(),
        transmit: transmit
            .into_iter()
            .map(|it| it.map(TightTxQueue))
            .collect(),
        pool: TightPool(network.pool()),
    };
    let materials = materials(network.ports(), vec![queues], TightPool(network.pool()));
    let mut director = assemble(config, materials, Ticks::ZERO).unwrap();
    settle(&mut director, Ticks::ZERO);
    network.take_sent();

    let before = counters(&director)[counter];
    assert!(network.send(PortIndex(0), 0, &tcp(1000, SYN).frame()));
    settle(&mut director, Ticks::ZERO);
    let after = counters(&director);
    assert_eq!((before, after[counter]), (0, 1));
    assert_eq!(network.take_sent(), []);
    assert_sum(&after);
    assert_eq!(network.packets_in_use(), 0);
    Checked::by_hand()
}

/// The same packet where there is room.
#[test]
fn the_packet_goes_through_where_there_is_headroom() {
    assert_eq!(Lab::start().answers(&tcp(1000, SYN).frame()).len(), 1);
}
