//! Queues in software, for ports that have fewer of their own than there are
//! workers.
//!
//! The first workers have a receive queue of such a port each, the last ones a
//! transmit queue. The others get what they lack from these:
//!
//! - A worker that receives looks at each packet and keeps those of its own
//!   flows. Whose flow it is, its keyed hash says ([`Peers::worker_of`]); it is
//!   the worker that fragments and ICMP errors ask about it first. Packets
//!   without a flow, fragments and ICMP errors stay, and go on as on any port.
//! - A worker without a transmit queue gives finished frames to one that has
//!   one, always the same.
//!
//! All this is by bursts, through a queue for each pair of workers and each
//! port, so that the packets of a flow keep their order. A full queue drops and
//! counts.
//!
//! [`Peers::worker_of`]: super::Peers

use super::{
    DropReason, Looks, Outputs, Pipeline, Step,
    express::{self, Station},
    output::Finished,
    parse::Payload,
};
use crate::{
    connection::CoarseTime,
    counters::WorkerCounters,
    flow::{FlowHash, FlowKeyV4},
    io::{
        Burst, Driver, Packet, PortIndex,
        handoff::{Giver, Taker, handoff},
    },
};

/// Which workers have queues of a port, and how long those are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// The workers that have a receive queue.
    pub receivers: Vec<usize>,
    /// The workers that have a transmit queue.
    pub transmitters: Vec<usize>,
    /// Packets for which a receive queue has room.
    pub rx_len: usize,
    /// Packets for which a transmit queue has room.
    pub tx_len: usize,
}

impl Shares {
    /// Packets that may stand in the queues in software of this port.
    pub fn packets_held_max(&self, workers: usize) -> usize {
        let receivers = self.receivers.len();
        let received = if self.is_spread(workers) {
            receivers * (workers - 1) * self.spread_len()
        } else {
            0
        };
        received + workers.saturating_sub(self.transmitters.len()) * self.tx_len
    }

    fn is_spread(&self, workers: usize) -> bool {
        self.receivers.len() < workers
    }

    /// Room in the queue of one receiver to one worker: what comes to a worker
    /// has as much in all as in a queue of the port.
    fn spread_len(&self) -> usize {
        let share = self.rx_len / self.receivers.len().max(1);
        share.max(SPREAD_LEN_MIN)
    }
}

/// A worker's ends of the queues in software.
#[derive(Debug)]
pub struct Exchange<P> {
    /// By port: how to give packets to others, where it is spread in software
    /// and this worker receives.
    pub spreaders: Vec<Option<Spreader<P>>>,
    /// What others received for this worker.
    pub received: Vec<(PortIndex, Taker<P>)>,
    /// By port: where finished frames go, when this worker has no transmit
    /// queue of it.
    pub relays: Vec<Option<Giver<Finished<P>>>>,
    /// What others have finished for the transmit queues of this worker.
    pub finished: Vec<(PortIndex, Taker<Finished<P>>)>,
}

/// A worker's ways to give received packets of one port to the others.
#[derive(Debug)]
pub struct Spreader<P> {
    /// By worker; what belongs to this worker itself does not come here.
    ways: Vec<Way<P>>,
}

#[derive(Debug)]
struct Way<P> {
    burst: Burst<P>,
    queue: Giver<P>,
}

impl<P> Exchange<P> {
    /// The ends of all workers, in their order. `ports` are in their order, too.
    pub fn between(workers: usize, ports: &[Shares]) -> Vec<Self> {
        let mut all: Vec<_> = std::iter::repeat_with(|| Self {
            spreaders: ports.iter().map(|_| None).collect(),
            received: Vec::new(),
            relays: ports.iter().map(|_| None).collect(),
            finished: Vec::new(),
        })
        .take(workers)
        .collect();
        for (index, port) in (0..).map(PortIndex).zip(ports) {
            if port.is_spread(workers) {
                for &receiver in &port.receivers {
                    connect_receiver(&mut all, index, receiver, port.spread_len());
                }
            }
            for worker in (0..workers).filter(|worker| !port.transmitters.contains(worker)) {
                connect_transmitter(&mut all, index, worker, port);
            }
        }
        all
    }
}

fn connect_receiver<P>(all: &mut [Exchange<P>], port: PortIndex, receiver: usize, len: usize) {
    let mut ways = Vec::with_capacity(all.len());
    for (worker, exchange) in all.iter_mut().enumerate() {
        let (queue, taker) = handoff(if worker == receiver { 0 } else { len });
        if worker != receiver {
            exchange.received.push((port, taker));
        }
        ways.push(Way {
            burst: Burst::new(),
            queue,
        });
    }
    let place = all
        .get_mut(receiver)
        .and_then(|exchange| exchange.spreaders.get_mut(port.as_usize()));
    if let Some(place) = place {
        *place = Some(Spreader { ways });
    }
}

fn connect_transmitter<P>(
    all: &mut [Exchange<P>],
    port: PortIndex,
    worker: usize,
    shares: &Shares,
) {
    let transmitters = &shares.transmitters;
    let relay = worker
        .checked_rem(transmitters.len())
        .and_then(|share| transmitters.get(share));
    // Without any transmit queue nothing is taken, and all counted.
    let (giver, taker) = handoff(relay.map_or(0, |_| shares.tx_len));
    if let Some(exchange) = relay.and_then(|&relay| all.get_mut(relay)) {
        exchange.finished.push((port, taker));
    }
    let place = all
        .get_mut(worker)
        .and_then(|exchange| exchange.relays.get_mut(port.as_usize()));
    if let Some(place) = place {
        *place = Some(giver);
    }
}

impl<P> Spreader<P> {
    /// Puts a packet into the burst to a worker. There is room for as many as
    /// are received in one go.
    #[inline]
    fn push(&mut self, worker: usize, packet: P) {
        if let Some(way) = self.ways.get_mut(worker) {
            let _ = way.burst.try_push(packet);
        }
    }

    /// Gives the bursts away.
    #[inline]
    fn flush(&mut self, counters: &WorkerCounters) {
        for Way { burst, queue } in &mut self.ways {
            if burst.is_empty() {
                continue;
            }
            let len = burst.len();
            let given = queue.give(burst.drain(..));
            counters.handed_over.add(given as u64);
            if given < len {
                let lost = counters.drops(DropReason::HandoffQueueFull);
                lost.add((len - given) as u64);
            }
        }
    }
}

impl<D: Driver> Pipeline<D> {
    /// Like [`forward`](Self::forward), for a port that is spread in software:
    /// packets of other workers' flows are given to these.
    pub fn spread(
        &mut self,
        port: PortIndex,
        burst: &mut Burst<D::Packet>,
        spreader: &mut Spreader<D::Packet>,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let Some(forwarding) = self.state.ports.get(port.as_usize()) else {
            return self.forward(port, burst, now, outputs);
        };
        for packet in burst.iter() {
            packet.prefetch();
        }
        let station = Station::of(forwarding);
        let mut looks = Looks::default();
        let mut own = Burst::new();
        for packet in burst.drain(..) {
            match self.keep((port, &station), &packet, own.len(), &mut looks) {
                // There is room for as many as there were.
                Ok(()) => drop(own.try_push(packet)),
                Err(worker) => spreader.push(worker, packet),
            }
        }
        spreader.flush(&self.counters);
        self.go_on(port, &mut own, &mut looks, now, outputs);
    }

    /// Looks at a packet as [`look_at`](Self::look_at) does, or tells which
    /// other worker it belongs to.
    #[inline]
    fn keep(
        &self,
        (port, station): (PortIndex, &Station),
        packet: &D::Packet,
        number: usize,
        looks: &mut Looks,
    ) -> Result<(), usize> {
        let connections = self.connections.of::<FlowKeyV4>();
        let glance = packet
            .is_contiguous()
            .then(|| {
                let is_good = packet.has_good_ipv4_checksum();
                express::glance(packet.bytes(), is_good, station, |key| {
                    connections.hash(key)
                })
            })
            .flatten();
        if let Some(express) = glance {
            self.is_own(express.hash())?;
            connections.prefetch(express.hash());
            looks.note_express(express, number);
        } else {
            let step = self.examine(port, packet);
            if let Some(hash) = hash_of(&step) {
                self.is_own(hash)?;
            }
            looks.note_step(step);
        }
        Ok(())
    }

    #[inline]
    fn is_own(&self, hash: FlowHash) -> Result<(), usize> {
        let worker = self.peers.worker_of(hash);
        if worker == self.peers.own() {
            Ok(())
        } else {
            Err(worker)
        }
    }
}

/// The hash of the flow that a packet belongs to, if it does and is whole.
fn hash_of(step: &Step) -> Option<FlowHash> {
    match step {
        Ok((parsed, hash)) => {
            matches!(parsed.payload, Payload::Flow(..) | Payload::FlowV6 { .. }).then_some(*hash)
        }
        Err(_) => None,
    }
}

/// A burst always finds room in an empty queue.
const SPREAD_LEN_MIN: usize = crate::io::BURST_LEN_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(receivers: &[usize], transmitters: &[usize]) -> Shares {
        Shares {
            receivers: receivers.to_vec(),
            transmitters: transmitters.to_vec(),
            rx_len: 1024,
            tx_len: 512,
        }
    }

    /// Who has which ends: spreaders, queues to take from, relays, queues to
    /// take finished frames from.
    fn ends(workers: usize, ports: &[Shares]) -> Vec<[usize; 4]> {
        let all = Exchange::<()>::between(workers, ports);
        let ends = all.iter().map(|exchange| {
            [
                exchange.spreaders.iter().flatten().count(),
                exchange.received.len(),
                exchange.relays.iter().flatten().count(),
                exchange.finished.len(),
            ]
        });
        ends.collect()
    }

    #[test]
    fn ports_with_a_queue_for_each_worker_need_nothing() {
        let port = shares(&[0, 1, 2], &[0, 1, 2]);
        assert_eq!(port.packets_held_max(3), 0);
        assert_eq!(ends(3, &[port.clone(), port]), [[0; 4]; 3]);
    }

    #[test]
    fn a_single_queue_is_shared_by_all() {
        let port = shares(&[0], &[2]);
        assert_eq!(port.packets_held_max(3), 2 * 1024 + 2 * 512);
        assert_eq!(ends(3, &[port]), [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 2]]);
    }

    #[test]
    fn those_who_have_queues_share_in_serving_the_others() {
        let port = shares(&[0, 1], &[2, 3]);
        assert_eq!(port.packets_held_max(4), 2 * 3 * 512 + 2 * 512);
        assert_eq!(
            ends(4, &[port]),
            [[1, 1, 1, 0], [1, 1, 1, 0], [0, 2, 0, 1], [0, 2, 0, 1]]
        );
    }

    #[test]
    fn a_queue_in_software_has_room_for_a_burst_at_least() {
        let receivers: Vec<_> = (0..100).collect();
        assert_eq!(shares(&receivers, &[0]).spread_len(), 64);
    }
}
