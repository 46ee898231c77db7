//! Where packets leave the packet path: transmit queues, the management
//! thread's queue, or nowhere, counted.

use std::sync::Arc;

use crossbeam::{channel::Sender, utils::CachePadded};

use super::{DropReason, PuntReason};
use crate::{
    counters::WorkerCounters,
    forwarding::RealServerIndex,
    io::{BURST_LEN_MAX, Burst, Driver, PortIndex, TxQueue},
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

/// A worker's ways out.
#[derive(Debug)]
pub struct Outputs<D: Driver> {
    ports: Vec<PortOutput<D>>,
    punts: Sender<Punted<D::Packet>>,
    counters: Arc<CachePadded<WorkerCounters>>,
}

#[derive(Debug)]
struct PortOutput<D: Driver> {
    queue: D::TxQueue,
    burst: Burst<D::Packet>,
    /// Which frames of the burst, by bit, end the way of a received packet:
    /// whether it was forwarded or dropped shows when the port took the frame
    /// or did not.
    received: u64,
}

impl<D: Driver> Outputs<D> {
    /// The ways out through a transmit queue of each port, in port order.
    pub fn new(
        queues: Vec<D::TxQueue>,
        punts: Sender<Punted<D::Packet>>,
        counters: Arc<CachePadded<WorkerCounters>>,
    ) -> Self {
        let ports = queues
            .into_iter()
            .map(|queue| PortOutput {
                queue,
                burst: Burst::new(),
                received: 0,
            })
            .collect();
        Self {
            ports,
            punts,
            counters,
        }
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
        if output.burst.is_full() {
            output.flush(&self.counters);
        }
        output.received |= u64::from(is_received) << output.burst.len();
        output.burst.try_push(packet).is_ok()
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
    fn flush(&mut self, counters: &WorkerCounters) {
        let len = self.burst.len();
        let accepted = self.queue.transmit(&mut self.burst);
        counters.tx_packets.add(accepted as u64);
        let received = std::mem::take(&mut self.received);
        if accepted == len {
            counters.forwarded.add(u64::from(received.count_ones()));
            return;
        }
        let refused = received >> accepted;
        let forwarded = received.count_ones() - refused.count_ones();
        counters.forwarded.add(u64::from(forwarded));
        counters
            .drops(DropReason::TransmitQueueFull)
            .add(u64::from(refused.count_ones()));
        counters.tx_refused.add((len - accepted) as u64);
        self.burst.clear();
    }
}

const _: () = assert!(BURST_LEN_MAX == u64::BITS as usize);
