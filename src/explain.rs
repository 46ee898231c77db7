//! What would become of a packet, and why: a rehearsal that touches nothing.
//!
//! A [`Rehearsal`] is a pipeline of its own, over ports in memory, that goes on
//! from copies of what the running ones know: the generation, the connections
//! and templates of the flows in question, the states of the schedulers, the
//! loads of the servers. A packet that is sent through it goes the way that it
//! would go through a worker, by the same code. What it opens, counts and picks
//! stays in the rehearsal, so that a capture is explained as if its packets came
//! one after the other.
//!
//! It does not know which fragments a worker holds, and does what the
//! management thread does with a punted packet only in words.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crossbeam::{
    channel::{Receiver, bounded},
    utils::CachePadded,
};

use crate::{
    connection::{
        Capacities, CoarseTime, Held, TableError, Tables, Templates, templates::Template,
    },
    counters::WorkerCounters,
    flow::{Endpoints, HashKey},
    forwarding::{ForwardingState, RealServerIndex, ServiceForwarding},
    io::{
        Burst, PortDescription, PortIndex,
        mem::{MemDriver, MemNetwork, MemPacket},
    },
    memory::MemoryError,
    pipeline::{DropReason, Outputs, Pipeline, PuntReason, Punted, Snapshot, TransmitWay},
    scheduler::Consideration,
};

/// A packet path to try packets on.
#[derive(Debug)]
pub struct Rehearsal {
    pipeline: Pipeline<MemDriver>,
    outputs: Outputs<MemDriver>,
    network: MemNetwork,
    counters: Arc<CachePadded<WorkerCounters>>,
    punts: Receiver<Punted<MemPacket>>,
    live: Arc<ForwardingState>,
    now: CoarseTime,
}

/// Why there can be no rehearsal.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The tables of connections cannot be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table of templates cannot be made.
    #[error(transparent)]
    Templates(#[from] MemoryError),
    /// There is no worker whose place it could take.
    #[error("there is no worker")]
    NoWorker,
}

/// What became of a packet.
#[derive(Debug)]
pub struct Outcome {
    /// The flow whose connection decides about it; `None` when no connection
    /// does.
    pub flow: Option<Endpoints>,
    /// The service that the flow is for.
    pub service: Option<Arc<ServiceForwarding>>,
    /// The connection that was there before.
    pub before: Option<Held>,
    /// The template that would decide if a connection had to be opened.
    pub template: Option<Template>,
    /// What the scheduler saw, when a connection was opened without a template
    /// or none could be.
    pub consideration: Option<Consideration>,
    /// The connection that there is now.
    pub after: Option<Held>,
    /// The real server that it is for.
    pub server: Option<RealServerIndex>,
    /// How it ended.
    pub fate: Fate,
}

/// How a packet ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// These frames go out, by these ports.
    Sent(Vec<(PortIndex, Vec<u8>)>),
    /// It is dropped.
    Dropped(DropReason),
    /// The management thread gets it.
    Punted(PuntReason),
    /// It waits for other fragments of its datagram.
    Waits,
    /// It is longer than any frame that a port takes.
    TooLong,
}

impl Rehearsal {
    /// Goes on from a copy of what a worker knows. `ports` are those of the
    /// director.
    ///
    /// # Errors
    /// [`RehearsalError`]
    pub fn new(
        snapshot: Snapshot,
        ports: Vec<PortDescription>,
        now: CoarseTime,
    ) -> Result<Self, RehearsalError> {
        let live = Arc::clone(&snapshot.state);
        let hash_key = HashKey::random();
        let state = Arc::new(ForwardingState {
            changed_services: Arc::new([]),
            loads: live.loads.snapshot(live.servers.len()),
            templates: Arc::new(Templates::new(TEMPLATES_MAX, hash_key, None)?),
            ..ForwardingState::clone(&live)
        });
        let tables = Tables::new(Capacities::of(CONNECTIONS_MAX), hash_key, None)?;
        let counters = WorkerCounters::new(live.servers.len());
        let network = MemNetwork::new(ports, 1, PACKETS);
        let (_, transmit) = network.queues(0);
        let (punts_in, punts) = bounded(1);
        let ways = transmit.into_iter().flatten().map(TransmitWay::Queue);
        let outputs = Outputs::new(ways.collect(), Vec::new(), punts_in, Arc::clone(&counters));
        let pipeline = Pipeline::resume(
            snapshot,
            state,
            (tables, hash_key),
            Arc::clone(&counters),
            network.pool(),
            now,
        );
        Ok(Self {
            pipeline: pipeline.ok_or(RehearsalError::NoWorker)?,
            outputs,
            network,
            counters,
            punts,
            live,
            now,
        })
    }

    /// The flow whose connection decides about a frame; `None` when that is
    /// none.
    pub fn flow_of(&self, port: PortIndex, frame: &[u8]) -> Option<Endpoints> {
        let packet = self.network.pool().packet_of(frame)?;
        self.pipeline.flow_of(port, packet)
    }

    /// Sends a frame through, as if the port had received it.
    pub fn take(&mut self, port: PortIndex, frame: &[u8]) -> Outcome {
        let flow = self.flow_of(port, frame);
        if let Some(flow) = &flow {
            self.pipeline.restore_template(&self.live, flow, self.now);
        }
        let service = flow.and_then(|flow| self.pipeline.service_of(&flow));
        let service = service.map(|(_, service)| Arc::new(service.clone()));
        let held = |pipeline: &Pipeline<MemDriver>| flow.and_then(|flow| pipeline.held(&flow));
        let before = held(&self.pipeline);
        let template = flow.and_then(|flow| self.pipeline.template_of(&flow));
        let consideration = flow.and_then(|flow| self.pipeline.consider(&flow, self.now));
        let servers = servers_of(service.as_deref(), before.as_ref());
        let packets = self.packets_to(&servers);
        let opened = self.counters.connections_opened.value();

        let (fate, punted_for) = self.forward(port, frame);

        let is_opened = self.counters.connections_opened.value() > opened;
        let after = held(&self.pipeline);
        let picked = after.filter(|_| is_opened || before.is_some());
        let counted = self
            .packets_to(&servers)
            .into_iter()
            .zip(packets)
            .position(|(now, before)| now > before)
            .and_then(|place| servers.get(place).copied());
        let server = counted
            .or(punted_for)
            .or(picked.map(|held| RealServerIndex(held.server)));
        let had_template = template
            .zip(after)
            .is_some_and(|(template, held)| template.server == held.server);
        let was_in_vain = matches!(
            fate,
            Fate::Punted(PuntReason::NoServer) | Fate::Dropped(DropReason::TableFull)
        );
        let had_to_pick = is_opened || before.is_none() && (server.is_some() || was_in_vain);
        Outcome {
            flow,
            service,
            before,
            template,
            consideration: consideration.filter(|_| had_to_pick && !had_template),
            after,
            server,
            fate,
        }
    }

    /// The generation that it goes by.
    pub fn state(&self) -> &ForwardingState {
        &self.live
    }

    fn forward(&mut self, port: PortIndex, frame: &[u8]) -> (Fate, Option<RealServerIndex>) {
        let Some(packet) = self.network.pool().packet_of(frame) else {
            return (Fate::TooLong, None);
        };
        let drops = self.drops();
        let mut burst = Burst::new();
        burst.push(packet);
        self.pipeline
            .forward(port, &mut burst, self.now, &mut self.outputs);
        self.outputs.flush();
        let sent = self.network.take_sent();
        if let Ok(punted) = self.punts.try_recv() {
            return (Fate::Punted(punted.reason), punted.server);
        }
        if !sent.is_empty() {
            return (Fate::Sent(sent), None);
        }
        let mut changed = self.drops().into_iter().zip(drops);
        let reason = changed.position(|(now, before)| now > before);
        let fate = reason
            .and_then(|place| DropReason::ALL.get(place))
            .map_or(Fate::Waits, |reason| Fate::Dropped(*reason));
        (fate, None)
    }

    fn drops(&self) -> Vec<u64> {
        let all = DropReason::ALL.iter();
        all.map(|reason| self.counters.drops(*reason).value())
            .collect()
    }

    fn packets_to(&self, servers: &[RealServerIndex]) -> Vec<u64> {
        let counters = servers.iter().map(|it| self.counters.server(it.as_usize()));
        counters.map(|it| it.in_packets.value()).collect()
    }
}

/// The servers that a packet may go to.
fn servers_of(service: Option<&ServiceForwarding>, held: Option<&Held>) -> Vec<RealServerIndex> {
    let listed = service
        .into_iter()
        .flat_map(|service| service.servers.iter());
    listed
        .map(|link| link.server)
        .chain(held.map(|held| RealServerIndex(held.server)))
        .collect()
}

/// Frames that one rehearsal can take.
pub const FRAMES_MAX: usize = 256;

/// Connections that there is room for: more than that.
const CONNECTIONS_MAX: u32 = 4096;
const TEMPLATES_MAX: u32 = 4096;
/// Packets: those that wait as fragments, and one in as many pieces as it may
/// have.
const PACKETS: usize = FRAMES_MAX + 64;
