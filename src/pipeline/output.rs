//! Where packets leave the packet path: transmit queues, the management
//! thread's queue, or nowhere, counted.

use std::sync::Arc;

use crossbeam::{channel::Sender, utils::CachePadded};

use super::{DropReason, PuntReason};
use crate::{
    counters::WorkerCounters,
    forwarding::RealServerIndex,
    io::{
        BURST_LEN_MAX, Burst, Driver, PortIndex, TxQueue,
        handoff::{Giver, Taker},
    },
};

/// A packet on its way to the management thread.
#[derive(Debug)]
pub struct Punted<P> {
    /// The frame as received; its TTL may have been decremented.
    pub packet: P,
    /// The port that received it.
    pub port: PortIndex,
    /// Where its IPv4 header stands; 0 for ARP.
    pub l3_offset: u8,
    /// Why it is handed over.
    pub reason: PuntReason,
    /// The real server that it was meant for, as far as that was decided.
    pub server: Option<RealServerIndex>,
}

/// A frame on its way to the worker that can send it.
#[derive(Debug)]
pub struct Finished<P> {
    packet: P,
    /// Whether it ends the way of a received packet.
    is_received: bool,
}

/// How a worker sends by a port.
#[derive(Debug)]
pub enum TransmitWay<D: Driver> {
    /// Through a transmit queue of its own.
    Queue(D::TxQueue),
    /// Through that of another worker.
    Relay(Giver<Finished<D::Packet>>),
}

/// A worker's ways out.
#[derive(Debug)]
pub struct Outputs<D: Driver> {
    ports: Vec<PortOutput<D>>,
    /// What other workers have finished for ports of which they have no queue.
    finished: Vec<(PortIndex, Taker<Finished<D::Packet>>)>,
    punts: Sender<Punted<D::Packet>>,
    counters: Arc<CachePadded<WorkerCounters>>,
}

#[derive(Debug)]
struct PortOutput<D: Driver> {
    way: TransmitWay<D>,
    burst: Burst<D::Packet>,
    /// Which frames of the burst, by bit, end the way of a received packet:
    /// whether it was forwarded or dropped shows when the port took the frame
    /// or did not.
    received: u64,
}

impl<D: Driver> Outputs<D> {
    /// The ways out by each port, in port order, and what others have finished.
    pub fn new(
        ways: Vec<TransmitWay<D>>,
        finished: Vec<(PortIndex, Taker<Finished<D::Packet>>)>,
        punts: Sender<Punted<D::Packet>>,
        counters: Arc<CachePadded<WorkerCounters>>,
    ) -> Self {
        let ports = ways
            .into_iter()
            .map(|way| PortOutput {
                way,
                burst: Burst::new(),
                received: 0,
            })
            .collect();
        Self {
            ports,
            finished,
            punts,
            counters,
        }
    }

    /// Puts what other workers have finished into the ports' bursts, some of
    /// it. Returns whether there was anything.
    #[inline]
    pub fn take_finished(&mut self) -> bool {
        let mut busy = false;
        for (port, queue) in &mut self.finished {
            let mut frames = Burst::new();
            if queue.take(&mut frames) == 0 {
                continue;
            }
            busy = true;
            let Some(output) = self.ports.get_mut(port.as_usize()) else {
                continue;
            };
            for Finished {
                packet,
                is_received,
            } in frames
            {
                output.push(packet, is_received, &self.counters);
            }
        }
        busy
    }

    /// Puts a frame that a received packet became into the port's burst; a
    /// full burst is sent first. The packet is counted when the burst is sent:
    /// as forwarded, or as dropped.
    #[inline]
    pub fn forward(&mut self, port: PortIndex, packet: D::Packet) {
        if !self.push(port, packet, true) {
            self.counters.drops(DropReason::TransmitQueueFull).add(1);
        }
    }

    /// Puts a frame into the port's burst that no received packet is counted
    /// by: of the director itself, or a fragment but the last.
    #[inline]
    pub fn transmit(&mut self, port: PortIndex, packet: D::Packet) {
        if !self.push(port, packet, false) {
            self.counters.tx_refused.add(1);
        }
    }

    /// Returns `false` when there is no such port.
    #[inline]
    fn push(&mut self, port: PortIndex, packet: D::Packet, is_received: bool) -> bool {
        let Some(output) = self.ports.get_mut(port.as_usize()) else {
            return false;
        };
        output.push(packet, is_received, &self.counters);
        true
    }

    /// The frames that wait for the next flush.
    pub fn waiting(&self) -> impl Iterator<Item = (PortIndex, &D::Packet)> {
        let ports = (0..).map(PortIndex).zip(&self.ports);
        ports.flat_map(|(port, output)| output.burst.iter().map(move |packet| (port, packet)))
    }

    /// Hands a packet to the management thread, or drops it when that one does
    /// not keep up.
    pub fn punt(&mut self, punted: Punted<D::Packet>) {
        let reason = punted.reason;
        match self.punts.try_send(punted) {
            Ok(()) => self.counters.punts(reason).add(1),
            Err(_) => self.counters.drops(DropReason::PuntQueueFull).add(1),
        }
    }

    /// Drops a packet.
    #[inline]
    pub fn discard(&mut self, packet: D::Packet, reason: DropReason) {
        drop(packet);
        self.counters.drops(reason).add(1);
    }

    /// Sends all bursts. What a port does not take is dropped and counted.
    #[inline]
    pub fn flush(&mut self) {
        for output in &mut self.ports {
            if !output.burst.is_empty() {
                output.flush(&self.counters);
            }
        }
    }
}

impl<D: Driver> PortOutput<D> {
    #[inline]
    fn push(&mut self, packet: D::Packet, is_received: bool, counters: &WorkerCounters) {
        if self.burst.is_full() {
            self.flush(counters);
        }
        self.received |= u64::from(is_received) << self.burst.len();
        // A flush leaves it empty.
        let _ = self.burst.try_push(packet);
    }

    fn flush(&mut self, counters: &WorkerCounters) {
        let len = self.burst.len();
        let received = std::mem::take(&mut self.received);
        let accepted = match &mut self.way {
            TransmitWay::Queue(queue) => queue.transmit(&mut self.burst),
            TransmitWay::Relay(relay) => {
                let given = relay.give(finished(self.burst.drain(..), received));
                return count_relayed(counters, len, given, received);
            }
        };
        counters.tx_packets.add(accepted as u64);
        if accepted == len {
            counters.forwarded.add(u64::from(received.count_ones()));
            return;
        }
        let refused = received >> accepted;
        let forwarded = received.count_ones() - refused.count_ones();
        counters.forwarded.add(u64::from(forwarded));
        count_refused(counters, len - accepted, refused);
        self.burst.clear();
    }
}

/// Frames for another worker, of which the bits in `received` say which end the
/// way of a received packet.
fn finished<P>(
    packets: impl ExactSizeIterator<Item = P>,
    received: u64,
) -> impl ExactSizeIterator<Item = Finished<P>> {
    packets.enumerate().map(move |(number, packet)| Finished {
        packet,
        is_received: received >> number & 1 != 0,
    })
}

/// Counts the first `given` of `len` frames as on their way, the others as
/// refused.
fn count_relayed(counters: &WorkerCounters, len: usize, given: usize, received: u64) {
    counters.tx_handed_over.add(given as u64);
    if given < len {
        count_refused(counters, len - given, received >> given);
    }
}

/// Counts `count` frames, of which the bits in `received` say which end the way
/// of a received packet.
fn count_refused(counters: &WorkerCounters, count: usize, received: u64) {
    counters
        .drops(DropReason::TransmitQueueFull)
        .add(u64::from(received.count_ones()));
    counters.tx_refused.add(count as u64);
}

const _: () = assert!(BURST_LEN_MAX == u64::BITS as usize);
