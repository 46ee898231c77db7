//! Where packets leave the packet path: transmit queues, the management
//! thread's queue, or nowhere, counted.

use std::sync::Arc;

use crossbeam::{channel::Sender, utils::CachePadded};

use super::{DropReason, PuntReason};
use crate::{
    counters::WorkerCounters,
    forwarding::RealServerIndex,
    io::{Burst, Driver, PortIndex, TxQueue},
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
            })
            .collect();
        Self {
            ports,
            punts,
            counters,
        }
    }

    /// Puts a frame into the port's burst; a full burst is sent first.
    #[inline]
    pub fn transmit(&mut self, port: PortIndex, packet: D::Packet) {
        let Some(output) = self.ports.get_mut(port.as_usize()) else {
            self.counters.drops(DropReason::TransmitQueueFull).add(1);
            return;
        };
        if output.burst.is_full() {
            output.flush(&self.counters);
        }
        if output.burst.try_push(packet).is_err() {
            self.counters.drops(DropReason::TransmitQueueFull).add(1);
        }
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
        let accepted = self.queue.transmit(&mut self.burst);
        counters.tx_packets.add(accepted as u64);
        let refused = self.burst.len();
        if refused > 0 {
            counters
                .drops(DropReason::TransmitQueueFull)
                .add(refused as u64);
            self.burst.clear();
        }
    }
}
