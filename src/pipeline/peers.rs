//! Packets for other workers.
//!
//! A NIC spreads packets over workers by addresses and L4 ports, but fragments
//! by addresses alone, and ICMP errors by the addresses of whoever sent them.
//! So a packet may come to another worker than the one that has its
//! connection. It is handed on then, through a bounded queue of each worker:
//!
//! - The fragments of a datagram meet on one worker, chosen by the keyed hash
//!   of what they have in common.
//! - The first fragment of a datagram, and an ICMP error of unknown flow, are
//!   *asked* about: they go round the workers, and the one that has the
//!   connection takes them. When nobody has it, the packet is back at the
//!   worker that was asked first, which does what is to be done without a
//!   connection. That worker depends on the flow alone, so that a flow never
//!   gets two connections by way of two fragments.
//! - That worker may be another than the one that gets the flow's whole
//!   packets. So each flow that was asked about leaves a [note](Strays) where
//!   all workers see it, and a worker without the connection asks too, for such
//!   a flow, before it opens one.
//!
//! A full queue drops and counts; no worker ever waits for another.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crossbeam::queue::ArrayQueue;

use super::{
    Detour, DropReason, Outputs, Pipeline, icmp_error, icmpv6_error, leave,
    parse::{self, Parsed, Payload},
    parse_ipv6,
};
use crate::{
    connection::{CoarseDuration, CoarseTime, ConnectionKey, State},
    flow::{Endpoints, FlowHash, FlowKey, FlowKeyV4, FlowKeyV6},
    forwarding::RealServerIndex,
    fragment::{DatagramKey, Refusal},
    io::{Driver, Packet, PortIndex},
};

/// A packet and the port that received it.
#[derive(Debug)]
pub(super) struct Received<P> {
    pub(super) port: PortIndex,
    pub(super) packet: P,
}

/// What one worker gives to another.
#[derive(Debug)]
pub(super) enum Handed<P> {
    /// A fragment, to where those of its datagram meet.
    Fragment(Received<P>),
    /// A packet whose connection is looked for.
    Asked {
        received: Received<P>,
        /// How many workers have been asked before.
        asked: u16,
    },
    /// What became of a datagram's first fragment.
    Settled {
        key: DatagramKey,
        decision: Result<RealServerIndex, Refusal>,
    },
}

/// A worker's place among all of them.
#[derive(Debug)]
pub struct Peers<P> {
    own: usize,
    inboxes: Arc<[ArrayQueue<Handed<P>>]>,
    strays: Arc<Strays>,
}

/// Packets that may stand in the queues to each worker.
pub const HANDED_MAX: usize = 512;

impl<P> Peers<P> {
    /// The places of `workers` workers, in their order.
    pub fn of(workers: usize) -> Vec<Self> {
        // With one worker there is nobody to hand anything to.
        let capacity = if workers > 1 { HANDED_MAX } else { 1 };
        let inboxes: Arc<[_]> = std::iter::repeat_with(|| ArrayQueue::new(capacity))
            .take(workers)
            .collect();
        let strays = Arc::new(Strays::new());
        (0..workers)
            .map(|own| Self {
                own,
                inboxes: Arc::clone(&inboxes),
                strays: Arc::clone(&strays),
            })
            .collect()
    }

    /// The number of this worker.
    pub(super) const fn own(&self) -> usize {
        self.own
    }

    /// How many workers there are.
    pub(super) fn count(&self) -> usize {
        self.inboxes.len()
    }

    /// The worker that a hash chooses. Its connections then still use all of
    /// its table, where the same hash tells their places.
    #[inline]
    pub(super) fn worker_of(&self, hash: FlowHash) -> usize {
        hash.reduce_apart(u16::try_from(self.count()).unwrap_or(1)) as usize
    }

    fn next(&self) -> usize {
        (self.own + 1) % self.count().max(1)
    }

    fn give(&self, worker: usize, handed: Handed<P>) -> Result<(), Handed<P>> {
        match self.inboxes.get(worker) {
            Some(inbox) => inbox.push(handed),
            None => Err(handed),
        }
    }

    fn take(&self) -> Option<Handed<P>> {
        self.inboxes.get(self.own)?.pop()
    }
}

impl<D: Driver> Pipeline<D> {
    /// Does what other workers handed over, a little of it. Returns whether
    /// there was anything.
    pub fn take_handed(&mut self, now: CoarseTime, outputs: &mut Outputs<D>) -> bool {
        let mut busy = false;
        for _ in 0..HANDED_A_TURN {
            let Some(handed) = self.peers.take() else {
                break;
            };
            busy = true;
            self.take_one(handed, now, outputs);
        }
        if busy {
            self.publish_connection_count();
        }
        busy
    }

    #[cold]
    fn take_one(&mut self, handed: Handed<D::Packet>, now: CoarseTime, outputs: &mut Outputs<D>) {
        let (received, asked) = match handed {
            Handed::Fragment(received) => (received, None),
            Handed::Asked { received, asked } => (received, Some(asked)),
            Handed::Settled { key, decision } => {
                return self.settle(key, decision, now, outputs);
            }
        };
        match (self.examine(received.port, &received.packet), asked) {
            (Ok((parsed, _)), None) => self.take_fragment(received, &parsed, now, outputs),
            (Ok((parsed, _)), Some(asked)) => {
                self.answer(received, &parsed, asked, now, outputs);
            }
            (Err(exit), _) => leave(received.port, received.packet, 0, (exit, None), outputs),
        }
    }

    /// Takes a packet that the fast path cannot go on with.
    #[cold]
    pub(super) fn take_detour(
        &mut self,
        detour: Detour,
        received: Received<D::Packet>,
        parsed: &Parsed,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        match detour {
            Detour::Fragment => self.receive_fragment(received, parsed, now, outputs),
            Detour::Ask => self.ask(received, parsed, now, outputs),
        }
    }

    /// Whether the connection of a flow that is not here may be on another
    /// worker.
    #[inline]
    pub(super) fn may_be_astray(&self, hash: FlowHash, now: CoarseTime) -> bool {
        !self.everybody_was_asked && self.peers.count() > 1 && self.peers.strays.has(hash, now)
    }

    /// Whether other workers may know the connection that an ICMP error is
    /// about.
    pub(super) fn may_ask(&self) -> bool {
        !self.everybody_was_asked && self.peers.count() > 1
    }

    /// Begins to look for the connection of a packet.
    pub(super) fn ask(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        if self.peers.count() <= 1 {
            return self.answer(received, parsed, 0, now, outputs);
        }
        let Some((_, key, hash)) = self.flow_asked_for(&received, parsed) else {
            return outputs.discard(received.packet, DropReason::TruncatedL4);
        };
        if !is_error(&parsed.payload) || self.state.tunables.schedule_icmp {
            let lifetime = self.lifetime(key.protocol());
            self.peers.strays.note(hash, now, lifetime);
        }
        let first = self.peers.worker_of(hash);
        if first == self.peers.own() {
            return self.answer(received, parsed, 0, now, outputs);
        }
        let is_whole = matches!(parsed.payload, Payload::Flow(..) | Payload::FlowV6 { .. });
        match self.peers.give(first, Handed::Asked { received, asked: 0 }) {
            Ok(()) => self.counters.handed_over.add(1),
            // A flood of fragments must not keep new flows from opening. At
            // worst, such a flow has two servers.
            Err(Handed::Asked { received, .. }) if is_whole => {
                self.finish(received, parsed, now, outputs);
            }
            Err(handed) => self.lose(handed, now, outputs),
        }
    }

    /// Takes a packet if its connection is here or everybody has been asked,
    /// and else asks the next worker.
    fn answer(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        asked: u16,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let Some((_, key, hash)) = self.flow_asked_for(&received, parsed) else {
            return outputs.discard(received.packet, DropReason::TruncatedL4);
        };
        let workers = self.peers.count();
        let is_error = is_error(&parsed.payload);
        let is_here = match key {
            AskedKey::V4(key) => self.has_connection(key, hash, is_error),
            AskedKey::V6(key) => self.has_connection(key, hash, is_error),
        };
        if is_here || workers <= 1 || usize::from(asked) >= workers {
            return self.finish(received, parsed, now, outputs);
        }
        let handed = Handed::Asked {
            received,
            asked: asked + 1,
        };
        self.hand_over(self.peers.next(), handed, now, outputs);
    }
}

impl<D: Driver> Pipeline<D> {
    /// Does with a packet what is to be done when its connection is here or
    /// nowhere.
    fn finish(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let Some((flow, _, hash)) = self.flow_asked_for(&received, parsed) else {
            return outputs.discard(received.packet, DropReason::TruncatedL4);
        };
        self.everybody_was_asked = true;
        if matches!(parsed.payload, Payload::Fragment) {
            self.decide(received, parsed, (flow, hash), now, outputs);
        } else {
            // The worker that received it has seen to its options.
            let parsed = Parsed {
                has_options: false,
                ..*parsed
            };
            let Received { port, packet } = received;
            self.carry(port, packet, &parsed, hash, now, outputs);
        }
        self.everybody_was_asked = false;
    }

    /// The flow whose connection decides about a packet.
    pub(super) fn flow_asked_for(
        &self,
        received: &Received<D::Packet>,
        parsed: &Parsed,
    ) -> Option<(Payload, AskedKey, FlowHash)> {
        let frame = received.packet.bytes();
        let l3_offset = parsed.inner.l3_offset;
        let payload = match parsed.payload {
            Payload::Fragment => parse::flow_of_first(frame, l3_offset)?,
            other => other,
        };
        let end = usize::from(l3_offset) + usize::from(parsed.inner.total_len);
        let message = |offset| frame.get(usize::from(offset)..end);
        let key = match payload {
            Payload::Flow(key, ..) => AskedKey::V4(key),
            Payload::FlowV6 {
                l4_offset,
                protocol,
                ..
            } => AskedKey::V6(parse_ipv6::key(frame, l3_offset, l4_offset, protocol)?),
            Payload::Icmp { message_offset, .. } => {
                AskedKey::V4(icmp_error::flow_of_error(message(message_offset)?).ok()?)
            }
            Payload::Icmpv6 { message_offset } => {
                AskedKey::V6(icmpv6_error::flow_of_error(message(message_offset)?).ok()?)
            }
            Payload::Fragment
            | Payload::NeighborDiscovery
            | Payload::Other { .. }
            | Payload::OtherV6 => return None,
        };
        let hash = match &key {
            AskedKey::V4(key) => self.connections.of().hash(key),
            AskedKey::V6(key) => self.connections.of().hash(key),
        };
        Some((payload, key, hash))
    }

    /// Whether a connection is here: that of a flow or, for an error that may
    /// quote a packet of the client, of the flow the other way round.
    fn has_connection<K: ConnectionKey>(&self, key: K, hash: FlowHash, is_error: bool) -> bool {
        let connections = self.connections.of();
        let request = key.reversed();
        connections.find(hash, &key).is_some()
            || is_error
                && connections
                    .find(connections.hash(&request), &request)
                    .is_some()
    }

    /// The longest that a connection of this protocol may live without a packet.
    fn lifetime(&self, protocol: u8) -> CoarseDuration {
        let timeouts = &self.state.timeouts;
        match protocol {
            parse::PROTOCOL_UDP => timeouts.of(State::Udp),
            parse::PROTOCOL_SCTP => timeouts.of(State::SctpEstablished),
            _ => timeouts.of(State::Established),
        }
    }

    pub(super) fn hand_over(
        &mut self,
        worker: usize,
        handed: Handed<D::Packet>,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        match self.peers.give(worker, handed) {
            Ok(()) => self.counters.handed_over.add(1),
            Err(handed) => self.lose(handed, now, outputs),
        }
    }

    /// Another worker's queue is full.
    fn lose(&mut self, handed: Handed<D::Packet>, now: CoarseTime, outputs: &mut Outputs<D>) {
        let received = match handed {
            Handed::Fragment(received) => received,
            Handed::Asked { received, .. } => {
                if let Ok((parsed, _)) = self.examine(received.port, &received.packet)
                    && let Some(first) =
                        parse::fragment(received.packet.bytes(), parsed.inner.l3_offset)
                {
                    let decision = Err(Refusal::FirstNotForwarded);
                    self.announce(first.key, decision, now, outputs);
                }
                received
            }
            // What waits for the news waits until its time is up.
            Handed::Settled { .. } => return,
        };
        outputs.discard(received.packet, DropReason::HandoffQueueFull);
    }
}

/// The flow whose connection is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum AskedKey {
    V4(FlowKeyV4),
    V6(FlowKeyV6),
}

impl AskedKey {
    pub(super) fn endpoints(self) -> Endpoints {
        match self {
            Self::V4(key) => key.endpoints(),
            Self::V6(key) => key.endpoints(),
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Self::V4(key) => key.protocol(),
            Self::V6(key) => key.protocol,
        }
    }
}

const fn is_error(payload: &Payload) -> bool {
    matches!(payload, Payload::Icmp { .. } | Payload::Icmpv6 { .. })
}

/// Flows that were asked about, so that a worker which does not have the
/// connection of one knows that another may.
///
/// It is no more than a table of times by hash: a flow that shares its place
/// with another is asked about in vain, and opens its connection a little
/// later.
#[derive(Debug)]
struct Strays {
    /// Until when, as [`CoarseTime`].
    until: Box<[AtomicU32]>,
}

impl Strays {
    fn new() -> Self {
        Self {
            until: std::iter::repeat_with(AtomicU32::default)
                .take(STRAYS_LEN)
                .collect(),
        }
    }

    fn place(&self, hash: FlowHash) -> Option<&AtomicU32> {
        let place = hash.as_u64() & (STRAYS_LEN as u64 - 1);
        self.until.get(usize::try_from(place).unwrap_or(0))
    }

    fn note(&self, hash: FlowHash, now: CoarseTime, lifetime: CoarseDuration) {
        // Connections end a little after their time.
        let deadline = now + lifetime + CoarseDuration::from_seconds(1);
        let later = |before: u32| {
            let is_later = !CoarseTime::from_steps(before).has_reached(deadline);
            is_later.then(|| deadline.as_steps())
        };
        if let Some(until) = self.place(hash) {
            // One that is noted for longer already stays.
            let _ = until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        }
    }

    fn has(&self, hash: FlowHash, now: CoarseTime) -> bool {
        let until = self.place(hash).map(|until| until.load(Ordering::Relaxed));
        until.is_some_and(|until| !now.has_reached(CoarseTime::from_steps(until)))
    }
}

/// 64 KiB.
const STRAYS_LEN: usize = 16_384;
/// Packets of other workers that are taken in one go: fewer than a burst, so
/// that a flood that comes by way of another worker has the smaller part of the
/// time.
const HANDED_A_TURN: usize = 32;
