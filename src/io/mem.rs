//! Ports in memory: the packet path without a NIC and without a clock.
//!
//! [`MemNetwork`] is the world outside the director. A test sends frames into
//! its ports and takes out what the director sent. Everything has a bound, as
//! on a NIC: packet buffers, receive queues and, when a test sets one, what a
//! port takes for transmission before it is full. Buffers are counted, so that
//! a leak shows as [`MemNetwork::packets_in_use`] above 0.
//!
//! It does not model time, wires or receive filters: a frame is there at once,
//! whatever its destination MAC address.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use crossbeam::queue::ArrayQueue;

use super::{
    Burst, Driver, Link, Packet, PacketPool, Port, PortDescription, PortIndex, PortStatistics,
    RxQueue, TxQueue,
};

/// Bytes in front of the frame of a received or allocated packet, as
/// `RTE_PKTMBUF_HEADROOM` is by default.
const HEADROOM_LEN: usize = 128;

/// Bytes from there to the end of the buffer: an IP packet of 9702 bytes with
/// Ethernet header and VLAN tag, rounded up.
const FRAME_LEN_MAX: usize = 9728;

/// Frames that a receive queue holds.
const RX_QUEUE_LEN: usize = 1024;

/// Speed that a memory port reports while its link is up.
const LINK_SPEED_MBPS: u32 = 100_000;

/// What has been sent and not taken yet, over all ports in order.
type SentFrames = Arc<Mutex<Vec<(PortIndex, Vec<u8>)>>>;

/// Ports in memory.
#[derive(Clone, Copy, Debug)]
pub struct MemDriver;

impl Driver for MemDriver {
    type Packet = MemPacket;
    type RxQueue = MemRxQueue;
    type TxQueue = MemTxQueue;
    type Pool = MemPool;
    type Port = MemPort;
}

/// A frame in a buffer of a [`MemPool`].
pub struct MemPacket {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    contiguous: bool,
    has_good_checksum: bool,
    /// Length of what precedes the IPv4 header, and of that header.
    checksum_request: Option<(u8, u8)>,
    home: Arc<ArrayQueue<Box<[u8]>>>,
}

impl MemPacket {
    /// Fills in the checksum that was asked for, as a NIC does on transmit.
    pub(super) fn fill_in_checksum(&mut self) {
        let Some((l2_len, l3_len)) = self.checksum_request.take() else {
            return;
        };
        let start = usize::from(l2_len);
        let header = self.bytes_mut().get_mut(start..start + usize::from(l3_len));
        let Some(header) = header else { return };
        if let Some(field) = header.get_mut(10..12) {
            field.fill(0);
        }
        let sum = internet_checksum(header);
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
}

impl Packet for MemPacket {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start..self.end)
            .unwrap_or_default()
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(len)?;
        Some(self.bytes_mut())
    }

    fn trim_front(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }

    fn extend(&mut self, len: usize) -> Option<&mut [u8]> {
        let end = self
            .end
            .checked_add(len)
            .filter(|end| *end <= self.buffer.len())?;
        self.end = end;
        Some(self.bytes_mut())
    }

    fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    fn has_good_ipv4_checksum(&self) -> bool {
        self.has_good_checksum
    }

    fn offload_ipv4_checksum(&mut self, l2_len: u8, l3_len: u8) {
        self.checksum_request = Some((l2_len, l3_len));
    }
}

impl Drop for MemPacket {
    fn drop(&mut self) {
        // The queue has room for every buffer of the pool, so this never fails.
        let _ = self.home.push(std::mem::take(&mut self.buffer));
    }
}

impl fmt::Debug for MemPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemPacket")
            .field("headroom", &self.start)
            .field("len", &self.bytes().len())
            .finish_non_exhaustive()
    }
}

/// A fixed number of packets. Copies share them.
#[derive(Clone)]
pub struct MemPool {
    free: Arc<ArrayQueue<Box<[u8]>>>,
}

impl MemPool {
    /// A pool of `packets` packets; at least one.
    pub fn new(packets: usize) -> Self {
        let free = ArrayQueue::new(packets.max(1));
        while free
            .push(vec![0; HEADROOM_LEN + FRAME_LEN_MAX].into_boxed_slice())
            .is_ok()
        {}
        Self {
            free: Arc::new(free),
        }
    }

    /// Packets of this pool that somebody owns.
    pub fn packets_in_use(&self) -> usize {
        self.free.capacity() - self.free.len()
    }

    /// A packet that holds `frame`; `None` when all packets are in use or the
    /// frame is longer than a buffer.
    pub fn packet_of(&mut self, frame: &[u8]) -> Option<MemPacket> {
        let mut packet = self.allocate()?;
        packet.extend(frame.len())?.copy_from_slice(frame);
        Some(packet)
    }
}

impl PacketPool for MemPool {
    type Packet = MemPacket;

    fn allocate(&mut self) -> Option<MemPacket> {
        Some(MemPacket {
            buffer: self.free.pop()?,
            start: HEADROOM_LEN,
            end: HEADROOM_LEN,
            contiguous: true,
            has_good_checksum: false,
            checksum_request: None,
            home: Arc::clone(&self.free),
        })
    }
}

impl fmt::Debug for MemPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemPool")
            .field("packets", &self.free.capacity())
            .field("in_use", &self.packets_in_use())
            .finish()
    }
}

/// A receive queue of a memory port.
#[derive(Debug)]
pub struct MemRxQueue {
    frames: Arc<ArrayQueue<MemPacket>>,
}

impl RxQueue for MemRxQueue {
    type Packet = MemPacket;

    fn receive(&mut self, burst: &mut Burst<MemPacket>) -> usize {
        let len_before = burst.len();
        while !burst.is_full()
            && let Some(packet) = self.frames.pop()
        {
            burst.push(packet);
        }
        burst.len() - len_before
    }
}

/// A transmit queue of a memory port.
#[derive(Debug)]
pub struct MemTxQueue {
    index: PortIndex,
    port: Arc<PortState>,
    sent: SentFrames,
}

impl TxQueue for MemTxQueue {
    type Packet = MemPacket;

    fn transmit(&mut self, burst: &mut Burst<MemPacket>) -> usize {
        if !self.port.link_up.load(Relaxed) {
            return 0;
        }
        let mut sent = lock(&self.sent);
        let waiting = sent.iter().filter(|(port, _)| *port == self.index).count();
        let room = self.port.tx_capacity.load(Relaxed).saturating_sub(waiting);
        let accepted = room.min(burst.len());
        for mut packet in burst.drain(..accepted) {
            if self.port.description.capabilities.tx_ipv4_checksum {
                packet.fill_in_checksum();
            }
            let frame = packet.bytes().to_vec();
            count(&self.port.counters.tx_packets, 1);
            count(&self.port.counters.tx_bytes, frame.len());
            sent.push((self.index, frame));
        }
        accepted
    }
}

/// What the management thread holds of a memory port.
#[derive(Debug)]
pub struct MemPort(Arc<PortState>);

impl Port for MemPort {
    fn description(&self) -> &PortDescription {
        &self.0.description
    }

    fn link(&self) -> Link {
        let up = self.0.link_up.load(Relaxed);
        Link {
            up,
            speed_mbps: if up { LINK_SPEED_MBPS } else { 0 },
        }
    }

    fn statistics(&self) -> PortStatistics {
        let counters = &self.0.counters;
        PortStatistics {
            rx_packets: counters.rx_packets.load(Relaxed),
            rx_bytes: counters.rx_bytes.load(Relaxed),
            rx_missed: counters.rx_missed.load(Relaxed),
            rx_errors: counters.rx_errors.load(Relaxed),
            rx_no_buffer: counters.rx_no_buffer.load(Relaxed),
            tx_packets: counters.tx_packets.load(Relaxed),
            tx_bytes: counters.tx_bytes.load(Relaxed),
            tx_errors: 0,
        }
    }
}

/// The world outside the director's memory ports.
#[derive(Debug)]
pub struct MemNetwork {
    pool: MemPool,
    ports: Vec<Arc<PortState>>,
    workers: usize,
    sent: SentFrames,
}

impl MemNetwork {
    /// Ports as described, each with one receive and one transmit queue for
    /// each of `workers` workers (whatever the descriptions say of queues),
    /// over one pool of `packets` packets.
    pub fn new(mut descriptions: Vec<PortDescription>, workers: usize, packets: usize) -> Self {
        let queues = u16::try_from(workers).unwrap_or(u16::MAX);
        for description in &mut descriptions {
            description.rx_queues = queues;
            description.tx_queues = queues;
        }
        Self::with_queues(descriptions, workers, packets)
    }

    /// Ports with as many queues as the descriptions say, over one pool of
    /// `packets` packets.
    pub fn with_queues(descriptions: Vec<PortDescription>, workers: usize, packets: usize) -> Self {
        let ports = descriptions
            .into_iter()
            .map(|description| Arc::new(PortState::new(description)))
            .collect();
        Self {
            pool: MemPool::new(packets),
            ports,
            workers,
            sent: Arc::default(),
        }
    }

    /// The queues of one worker: a receive and a transmit queue for each port,
    /// in port order. Where there are fewer than workers, the first workers have
    /// the receive queues and the last ones the transmit queues. To be taken
    /// once for each worker.
    pub fn queues(&self, worker: usize) -> (Vec<Option<MemRxQueue>>, Vec<Option<MemTxQueue>>) {
        let rx = self.ports.iter().map(|port| {
            let frames = port.rx.get(worker)?;
            Some(MemRxQueue {
                frames: Arc::clone(frames),
            })
        });
        let tx = (0..).map(PortIndex).zip(&self.ports).map(|(index, port)| {
            let workers_without = self
                .workers
                .saturating_sub(port.description.tx_queues.into());
            (worker >= workers_without).then(|| MemTxQueue {
                index,
                port: Arc::clone(port),
                sent: Arc::clone(&self.sent),
            })
        });
        (rx.collect(), tx.collect())
    }

    /// The pool that all packets come from.
    pub fn pool(&self) -> MemPool {
        self.pool.clone()
    }

    /// The ports as the management thread sees them, in port order.
    pub fn ports(&self) -> Vec<MemPort> {
        self.ports
            .iter()
            .map(|port| MemPort(Arc::clone(port)))
            .collect()
    }

    /// Sends a frame to the director: it arrives in the given queue of the
    /// port. Returns `false` when the port lost it, as its statistics then
    /// tell: no link, no such queue, queue full, no buffer, frame too long.
    pub fn send(&self, port: PortIndex, queue: usize, frame: &[u8]) -> bool {
        self.send_packet(port, queue, frame, true)
    }

    /// Like [`send`](Self::send), but the frame says that it is spread over
    /// several buffers, which only a NIC would make.
    pub fn send_scattered(&self, port: PortIndex, queue: usize, frame: &[u8]) -> bool {
        self.send_packet(port, queue, frame, false)
    }

    /// What the director has sent since this was last called, over all ports
    /// in the order of transmission.
    pub fn take_sent(&self) -> Vec<(PortIndex, Vec<u8>)> {
        std::mem::take(&mut *lock(&self.sent))
    }

    /// Lets a port take `frames` frames for transmission and then no more
    /// until [`take_sent`](Self::take_sent) has removed them. Unlimited at
    /// first.
    pub fn set_tx_capacity(&self, port: PortIndex, frames: usize) {
        if let Some(port) = self.ports.get(port.as_usize()) {
            port.tx_capacity.store(frames, Relaxed);
        }
    }

    /// Sets the link of a port up or down. While it is down, nothing is
    /// received or accepted for transmission.
    pub fn set_link(&self, port: PortIndex, up: bool) {
        if let Some(port) = self.ports.get(port.as_usize()) {
            port.link_up.store(up, Relaxed);
        }
    }

    /// Packets that the director owns or that wait in a receive queue. Sent
    /// frames are copied out and do not count.
    pub fn packets_in_use(&self) -> usize {
        self.pool.packets_in_use()
    }

    fn send_packet(&self, port: PortIndex, queue: usize, frame: &[u8], contiguous: bool) -> bool {
        let Some(port) = self.ports.get(port.as_usize()) else {
            return false;
        };
        if !port.link_up.load(Relaxed) || frame.len() > FRAME_LEN_MAX {
            count(&port.counters.rx_errors, 1);
            return false;
        }
        let Some(mut packet) = self.pool.clone().packet_of(frame) else {
            count(&port.counters.rx_no_buffer, 1);
            return false;
        };
        packet.contiguous = contiguous;
        packet.has_good_checksum =
            port.description.capabilities.rx_ipv4_checksum && has_good_checksum(frame);
        if port.rx.get(queue).is_none_or(|rx| rx.push(packet).is_err()) {
            count(&port.counters.rx_missed, 1);
            return false;
        }
        count(&port.counters.rx_packets, 1);
        count(&port.counters.rx_bytes, frame.len());
        true
    }
}

/// One port, shared by the network, its queues and its [`MemPort`].
#[derive(Debug)]
struct PortState {
    description: PortDescription,
    rx: Vec<Arc<ArrayQueue<MemPacket>>>,
    tx_capacity: AtomicUsize,
    link_up: AtomicBool,
    counters: Counters,
}

impl PortState {
    fn new(description: PortDescription) -> Self {
        Self {
            rx: (0..description.rx_queues)
                .map(|_| Arc::new(ArrayQueue::new(RX_QUEUE_LEN)))
                .collect(),
            description,
            tx_capacity: AtomicUsize::new(usize::MAX),
            link_up: AtomicBool::new(true),
            counters: Counters::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    rx_missed: AtomicU64,
    rx_errors: AtomicU64,
    rx_no_buffer: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Relaxed);
}

/// Locks, also when a test thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a NIC says of a frame with at most one VLAN tag.
fn has_good_checksum(frame: &[u8]) -> bool {
    let Some([0x08, 0x00, packet @ ..] | [0x81, 0x00, _, _, 0x08, 0x00, packet @ ..]) =
        frame.get(12..)
    else {
        return false;
    };
    let header_len = packet
        .first()
        .map_or(0, |first| usize::from(first & 0x0f) * 4);
    match packet.get(..header_len) {
        Some(header) if header_len >= 20 => internet_checksum(header) == 0,
        _ => false,
    }
}

/// RFC 1071, over a header of even length: its checksum if that field is 0, and
/// else 0 if it is right. Apart from [`crate::wire`], so that it can tell when
/// that is wrong.
fn internet_checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .as_chunks()
        .0
        .iter()
        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
        .sum();
    while let (carry @ 1.., low) = (sum >> 16, sum & 0xffff) {
        sum = low + carry;
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
