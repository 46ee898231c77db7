//! The poll loop of one worker: receive, forward, send, housekeep.
//!
//! A worker owns a receive and a transmit queue of each port, its connections
//! and its counters. Where a port has too few queues, it gets its packets from a
//! worker that has one, or sends by way of one. What it shares with the management thread are four
//! bounded queues: punted packets and retired states out, requests and
//! injected packets in. Nothing here waits for anybody.
#![forbid(unsafe_code)]

mod trace;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam::{
    channel::{Receiver, Sender},
    utils::CachePadded,
};

use self::trace::Path;
use crate::{
    capture::{Tap, Taps},
    clock::{Clock, Ticks},
    connection::{CoarseTime, Held, Tables, templates::Template},
    counters::WorkerCounters,
    flow::{Endpoints, HashKey},
    forwarding::{ForwardingState, RealServerIndex},
    fragment::HELD_MAX,
    io::{
        Burst, Driver, Packet, PortIndex, RxQueue,
        handoff::{Giver, Taker},
    },
    pipeline::{
        Exchange, Finished, HANDED_MAX, Outputs, Peers, Pipeline, Punted, Shares, Snapshot,
        Spreader, Sweep, TransmitWay,
    },
    service::Protocol,
};

/// What the management thread asks of a worker.
#[derive(Debug)]
pub enum WorkerRequest {
    /// Take up the next generation and give back the one before.
    Adopt(Arc<ForwardingState>),
    /// End the connections of deleted servers (`expire_nodest_conn`).
    EndConnectionsOfDeletedServers,
    /// Copy some connections, from a cursor on.
    Connections {
        /// 0, or where the page before ended.
        cursor: u64,
        /// Where the page goes; a reader that has gone away is no harm.
        reply: Sender<ConnectionsPage>,
    },
    /// Copy what is known about some flows.
    Snapshot {
        /// As many as a request may ask about.
        flows: Arc<[Endpoints]>,
        /// Where the copy goes, with the number of the worker.
        reply: Sender<(usize, Snapshot)>,
    },
    /// Capture packets.
    StartCapture(Box<Tap>),
    /// No longer capture for this capture.
    EndCapture {
        /// Which one.
        id: u64,
        /// Where its tap goes, since a worker frees no memory.
        reply: Sender<Box<Tap>>,
    },
}

/// Some connections of a worker.
#[derive(Debug)]
pub struct ConnectionsPage {
    /// The worker.
    pub worker: usize,
    /// The connections found.
    pub connections: Vec<Connection>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A copy of what a worker knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Address and L4 port of the client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub service: SocketAddr,
    /// Transport protocol; `None` for a template of connections of several.
    pub protocol: Option<Protocol>,
    /// Whether this is no connection but a persistence template.
    pub is_template: bool,
    /// Where its packets go.
    pub server: RealServerIndex,
    /// State, as `ipvsadm -Lcn` prints it.
    pub state: &'static str,
    /// Milliseconds until it ends if no packet comes.
    pub expires_ms: u64,
    /// Packets from the client.
    pub packets: u32,
}

/// A frame of the management thread, ready to be sent.
#[derive(Debug)]
pub struct Injected<P> {
    /// The port to send it from.
    pub port: PortIndex,
    /// The frame.
    pub packet: P,
}

/// The worker's ends of the queues between it and the management thread.
#[derive(Debug)]
pub struct WorkerChannels<P> {
    /// Requests, in order.
    pub requests: Receiver<WorkerRequest>,
    /// Frames to send.
    pub injected: Receiver<Injected<P>>,
    /// States no longer in use: large, and for the management thread to free.
    pub retired: Sender<Arc<ForwardingState>>,
    /// Packets that are not for the fast path.
    pub punts: Sender<Punted<P>>,
}

/// The queues of all ports that one worker serves, in port order; `None` where
/// a port has too few of them.
#[derive(Debug)]
pub struct WorkerQueues<D: Driver> {
    /// One receive queue of each port.
    pub receive: Vec<Option<D::RxQueue>>,
    /// One transmit queue of each port.
    pub transmit: Vec<Option<D::TxQueue>>,
    /// Where new packets come from.
    pub pool: D::Pool,
}

/// Where packets come from.
#[derive(Debug)]
struct Inlet<D: Driver> {
    port: PortIndex,
    source: Source<D>,
}

#[derive(Debug)]
enum Source<D: Driver> {
    /// The port, for this worker.
    Own(D::RxQueue),
    /// The port, for all workers.
    Shared(D::RxQueue, Spreader<D::Packet>),
    /// A worker that received them for this one.
    Given(Taker<D::Packet>),
}

/// One worker.
#[derive(Debug)]
pub struct Worker<D: Driver> {
    index: usize,
    inlets: Vec<Inlet<D>>,
    burst: Burst<D::Packet>,
    outputs: Outputs<D>,
    pipeline: Pipeline<D>,
    counters: Arc<CachePadded<WorkerCounters>>,
    requests: Receiver<WorkerRequest>,
    injected: Receiver<Injected<D::Packet>>,
    retired: Sender<Arc<ForwardingState>>,
    sweep: Option<Sweep>,
    taps: Taps,
    turns_to_housekeeping: u32,
}

impl<D: Driver> Worker<D> {
    /// Worker `index`, without connections.
    pub fn new(
        index: usize,
        state: Arc<ForwardingState>,
        (connections, hash_key): (Tables, HashKey),
        counters: Arc<CachePadded<WorkerCounters>>,
        queues: WorkerQueues<D>,
        channels: WorkerChannels<D::Packet>,
        (peers, exchange): (Peers<D::Packet>, Exchange<D::Packet>),
    ) -> Self {
        let pipeline = Pipeline::new(
            state,
            connections,
            Arc::clone(&counters),
            queues.pool,
            hash_key,
            peers,
        );
        let outputs = Outputs::new(
            transmit_ways::<D>(queues.transmit, exchange.relays),
            exchange.finished,
            channels.punts,
            Arc::clone(&counters),
        );
        Self {
            index,
            inlets: inlets(queues.receive, exchange.spreaders, exchange.received),
            burst: Burst::new(),
            outputs,
            pipeline,
            counters,
            requests: channels.requests,
            injected: channels.injected,
            retired: channels.retired,
            sweep: None,
            taps: Taps::default(),
            turns_to_housekeeping: 0,
        }
    }

    /// One turn of the loop. Returns whether there was anything to do.
    #[inline]
    pub fn turn(&mut self, now: Ticks) -> bool {
        let now = CoarseTime::from_ticks(now);
        let mut busy = self.receive_and_forward(now);
        busy |= self.take_handed(now);
        // With each burst, or a flood opens connections faster than they end.
        busy |= self.pipeline.expire(now, EXPIRY_BUDGET).has_backlog;
        busy |= self.outputs.take_finished();
        if self.turns_to_housekeeping == 0 || !busy {
            busy |= self.housekeep(now);
            self.turns_to_housekeeping = TURNS_BETWEEN_HOUSEKEEPING;
        }
        self.turns_to_housekeeping -= 1;
        self.outputs.flush();
        self.counters.turns.add(1);
        busy
    }

    /// All connections.
    pub fn connections(&self, now: Ticks) -> Vec<Connection> {
        let now = CoarseTime::from_ticks(now);
        let tables = self.pipeline.connections();
        let mut found = Vec::new();
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let (page, next) = tables.iter_from(from, PAGE_SLOTS);
            found.extend(page.filter_map(|(_, held)| connection_of(&held, now)));
            cursor = next;
        }
        found
    }

    fn receive_and_forward(&mut self, now: CoarseTime) -> bool {
        let mut busy = false;
        for Inlet { port, source } in &mut self.inlets {
            let (received, counter) = match source {
                Source::Own(queue) | Source::Shared(queue, _) => {
                    (queue.receive(&mut self.burst), &self.counters.rx_packets)
                }
                Source::Given(queue) => (queue.take(&mut self.burst), &self.counters.taken_over),
            };
            if received == 0 {
                continue;
            }
            busy = true;
            counter.add(received as u64);
            self.counters.bursts.add(1);
            let path = Path {
                pipeline: &mut self.pipeline,
                outputs: &mut self.outputs,
                counters: &self.counters,
            };
            if self.taps.is_empty() {
                forward(source, *port, &mut self.burst, now, path);
            } else {
                trace_source(&mut self.taps, source, *port, &mut self.burst, now, path);
            }
        }
        busy
    }

    #[inline]
    fn take_handed(&mut self, now: CoarseTime) -> bool {
        if self.taps.is_empty() {
            return self.pipeline.take_handed(now, &mut self.outputs);
        }
        let mut path = Path {
            pipeline: &mut self.pipeline,
            outputs: &mut self.outputs,
            counters: &self.counters,
        };
        trace::take_handed(&mut self.taps, now, &mut path, |path| {
            path.pipeline.take_handed(now, path.outputs)
        })
    }

    /// Everything that is not due with each burst, in bounded portions.
    fn housekeep(&mut self, now: CoarseTime) -> bool {
        let mut busy = false;
        for Injected { port, packet } in self.injected.try_iter().take(INJECTED_MAX) {
            if !self.taps.is_empty() {
                trace::note_own(&mut self.taps, port, packet.bytes(), now);
            }
            self.outputs.transmit(port, packet);
            busy = true;
        }
        if let Ok(request) = self.requests.try_recv() {
            self.carry_out(request, now);
            busy = true;
        }
        if let Some(sweep) = self.sweep {
            self.sweep = self.pipeline.end_what_leads_to_deleted_servers(sweep, now);
            busy = true;
        }
        busy |= self.pipeline.expire_fragments(now, &mut self.outputs);
        // After connections: a template that outlives its last one ends in time.
        busy | self
            .pipeline
            .expire_templates(now, EXPIRY_BUDGET)
            .has_backlog
    }

    /// Some connections from a cursor on, and where to go on. The templates of
    /// all workers come after the connections of the first.
    fn page(&self, cursor: u64, now: CoarseTime) -> (Vec<Connection>, Option<u64>) {
        if cursor & TEMPLATES_CURSOR != 0 {
            let slot = u32::try_from(cursor & !TEMPLATES_CURSOR).unwrap_or(u32::MAX);
            let (templates, next) = self.pipeline.state().templates.page(slot, PAGE_SLOTS);
            let templates = templates.iter().map(|template| template_of(template, now));
            let next = next.map(|slot| TEMPLATES_CURSOR | u64::from(slot));
            return (templates.collect(), next);
        }
        let (held, next) = self.pipeline.connections().iter_from(cursor, PAGE_SLOTS);
        let connections = held.filter_map(|(_, held)| connection_of(&held, now));
        let templates = (self.index == 0).then_some(TEMPLATES_CURSOR);
        (connections.collect(), next.or(templates))
    }

    fn carry_out(&mut self, request: WorkerRequest, now: CoarseTime) {
        match request {
            WorkerRequest::Adopt(state) => {
                let before = self.pipeline.adopt(state);
                // A management thread that does not collect what it published
                // is gone or stuck; freeing here is then the lesser evil.
                drop(self.retired.try_send(before));
            }
            WorkerRequest::EndConnectionsOfDeletedServers => self.sweep = Some(Sweep::START),
            WorkerRequest::Connections { cursor, reply } => {
                let (connections, next) = self.page(cursor, now);
                drop(reply.try_send(ConnectionsPage {
                    worker: self.index,
                    connections,
                    next,
                }));
            }
            WorkerRequest::Snapshot { flows, reply } => {
                drop(reply.try_send((self.index, self.pipeline.snapshot(&flows))));
            }
            WorkerRequest::StartCapture(tap) => {
                // The management thread starts no more than there can be.
                drop(self.taps.add(tap));
            }
            WorkerRequest::EndCapture { id, reply } => {
                if let Some(tap) = self.taps.remove(id) {
                    drop(reply.try_send(tap));
                }
            }
        }
    }
}

/// Forwards a burst that a source gave.
#[inline]
fn forward<D: Driver>(
    source: &mut Source<D>,
    port: PortIndex,
    burst: &mut Burst<D::Packet>,
    now: CoarseTime,
    path: Path<'_, D>,
) {
    let Path {
        pipeline, outputs, ..
    } = path;
    if let Source::Shared(_, spreader) = source {
        pipeline.spread(port, burst, spreader, now, outputs);
    } else {
        pipeline.forward(port, burst, now, outputs);
    }
}

/// The same, while there are captures.
#[cold]
#[inline(never)]
fn trace_source<D: Driver>(
    taps: &mut Taps,
    source: &mut Source<D>,
    port: PortIndex,
    burst: &mut Burst<D::Packet>,
    now: CoarseTime,
    mut path: Path<'_, D>,
) {
    let is_spread = matches!(source, Source::Shared(..));
    let origin = (port, is_spread);
    trace::forward(taps, origin, burst, now, &mut path, |burst, path| {
        forward(source, port, burst, now, path.reborrow());
    });
}

/// All that a worker receives from: queues of ports first, in port order.
fn inlets<D: Driver>(
    queues: Vec<Option<D::RxQueue>>,
    spreaders: Vec<Option<Spreader<D::Packet>>>,
    given: Vec<(PortIndex, Taker<D::Packet>)>,
) -> Vec<Inlet<D>> {
    let own = queues
        .into_iter()
        .zip(spreaders)
        .map(|shared| match shared {
            (Some(queue), None) => Some(Source::Own(queue)),
            (Some(queue), Some(spreader)) => Some(Source::Shared(queue, spreader)),
            (None, _) => None,
        });
    let own = (0..).map(PortIndex).zip(own);
    let own = own.filter_map(|(port, source)| Some((port, source?)));
    let given = given
        .into_iter()
        .map(|(port, queue)| (port, Source::Given(queue)));
    own.chain(given)
        .map(|(port, source)| Inlet { port, source })
        .collect()
}

fn transmit_ways<D: Driver>(
    queues: Vec<Option<D::TxQueue>>,
    relays: Vec<Option<Giver<Finished<D::Packet>>>>,
) -> Vec<TransmitWay<D>> {
    queues
        .into_iter()
        .zip(relays)
        .filter_map(|(queue, relay)| {
            let queue = queue.map(TransmitWay::Queue);
            queue.or_else(|| relay.map(TransmitWay::Relay))
        })
        .collect()
}

fn template_of(template: &Template, now: CoarseTime) -> Connection {
    let key = template.key;
    Connection {
        client: SocketAddr::new(key.client, 0),
        service: SocketAddr::new(key.service, key.l4_port),
        protocol: Protocol::from_number(key.protocol),
        is_template: true,
        server: RealServerIndex(template.server),
        state: template.state_name(),
        expires_ms: template.deadline.ms_after(now),
        packets: 0,
    }
}

fn connection_of(held: &Held, now: CoarseTime) -> Option<Connection> {
    Some(Connection {
        client: held.endpoints.client,
        service: held.endpoints.service,
        protocol: Some(Protocol::from_number(held.endpoints.protocol)?),
        is_template: false,
        server: RealServerIndex(held.server),
        state: held.state.name(),
        expires_ms: held.deadline.ms_after(now),
        packets: held.packets,
    })
}

/// The queues of a port with so many receive and transmit queues that each of
/// `workers` workers gets; see [`WorkerQueues`]. The first ones receive and the
/// last ones send: as clients' packets mostly come by one port and leave by
/// another, or by the same, those who have both to do are few.
pub fn deal<R, T>(
    receive: Vec<R>,
    transmit: Vec<T>,
    workers: usize,
) -> impl Iterator<Item = (Option<R>, Option<T>)> {
    let receive = receive.into_iter().map(Some);
    let without = workers.saturating_sub(transmit.len());
    let transmit = std::iter::repeat_with(|| None)
        .take(without)
        .chain(transmit.into_iter().map(Some));
    receive
        .chain(std::iter::repeat_with(|| None))
        .zip(transmit)
        .take(workers)
}

/// What a worker does while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    Poll,
    /// After [`IDLE_TURNS_MAX`] empty turns sleeps for [`IDLE_PAUSE`] between
    /// polls, until something comes.
    Pause,
}

/// Packets that the queues in software may hold which stand in for those that
/// a port lacks. It has so many receive and transmit queues, with room for so
/// many packets each.
pub fn packets_held_for_port(
    workers: usize,
    (receive, transmit): (usize, usize),
    (rx_len, tx_len): (usize, usize),
) -> usize {
    let shares = Shares {
        receivers: (0..receive).collect(),
        transmitters: (0..transmit).collect(),
        rx_len,
        tx_len,
    };
    shares.packets_held_max(workers)
}

/// Packets that each of `workers` workers keeps for longer than a turn:
/// fragments that wait, and what others have handed to it.
pub const fn packets_held_max(workers: usize) -> usize {
    let handed = if workers > 1 { HANDED_MAX } else { 0 };
    handed + HELD_MAX
}

/// Empty turns in a row before an adaptive worker begins to pause.
pub const IDLE_TURNS_MAX: u32 = 2_000;

/// How long an adaptive worker pauses; the kernel adds its timer slack, about
/// 50 µs. The first packet after a quiet time waits that long at most.
pub const IDLE_PAUSE: Duration = Duration::from_micros(50);

/// Runs a worker until `stop`. `cycles` reads the time stamp counter.
pub fn run<D: Driver>(
    worker: &mut Worker<D>,
    clock: &impl Clock,
    idle: Idle,
    stop: &AtomicBool,
    cycles: impl Fn() -> u64,
) {
    // The state that has been published meanwhile, before the first packet.
    worker.housekeep(CoarseTime::from_ticks(clock.now()));
    let mut idle_turns = 0_u32;
    let mut before = cycles();
    while !stop.load(Ordering::Relaxed) {
        let busy = worker.turn(clock.now());
        if busy {
            idle_turns = 0;
        } else {
            idle_turns = idle_turns.saturating_add(1);
            if idle == Idle::Pause && idle_turns > IDLE_TURNS_MAX {
                std::thread::sleep(IDLE_PAUSE);
            }
        }
        let after = cycles();
        let spent = after.saturating_sub(before);
        worker.counters.total_cycles.add(spent);
        if busy {
            worker.counters.busy_cycles.add(spent);
        }
        before = after;
    }
}

/// A busy worker looks at its queues from the management thread once in so
/// many bursts; an idle one in each turn.
const TURNS_BETWEEN_HOUSEKEEPING: u32 = 16;
/// Frames of the management thread sent in one go.
const INJECTED_MAX: usize = 64;
/// Connections that expire in one go: as many as a burst can open.
const EXPIRY_BUDGET: u32 = 64;
/// Set in a cursor that goes through the templates.
const TEMPLATES_CURSOR: u64 = 1 << 63;
/// Slots of a table copied in one go.
const PAGE_SLOTS: u32 = 1_024;
