//! What happens to a burst of packets between receiving and sending.
//!
//! [`Pipeline::forward`] takes the steps 2 to 9 of a packet
//! (`docs/packet-path.md`): the whole burst is parsed and hashed first and the
//! connections it will need are prefetched; then each packet is decided and
//! encapsulated. The ways off this path are [`Exit`]s, each with one counter.
//!
//! A pipeline belongs to one worker. It takes no lock, allocates nothing and
//! reads no clock.
#![forbid(unsafe_code)]

mod aging;
mod exit;
mod express;
mod fragments;
mod icmp_error;
mod icmpv6_error;
mod opening;
mod output;
mod parse;
mod parse_ipv6;
mod peers;
mod persistence;
mod route;
mod selection;
mod snapshot;
mod spread;

use std::{net::IpAddr, sync::Arc};

use crossbeam::utils::CachePadded;

pub use self::{
    aging::{SWEEP_LEN, Sweep},
    exit::{Detour, DropReason, Exit, PuntReason},
    output::{Finished, Outputs, Punted, TransmitWay},
    peers::{HANDED_MAX, Peers},
    snapshot::Snapshot,
    spread::{Exchange, Shares, Spreader},
};
use self::{
    express::{Express, Station},
    parse::{Parsed, Payload},
    peers::Received,
    route::Identifications,
};
use crate::{
    connection::{CoarseTime, ConnectionKey, Tables},
    counters::WorkerCounters,
    flow::{FlowHash, FlowKeyV4, FlowKeyV6, HashKey},
    forwarding::{ForwardingState, RealServerIndex},
    fragment::Reassembly,
    io::{BURST_LEN_MAX, Burst, Driver, Packet, PortIndex},
    memory::{prefetch_read, prefetch_write},
    scheduler::Schedulers,
};

/// The packet path of one worker.
#[derive(Debug)]
pub struct Pipeline<D: Driver> {
    state: Arc<ForwardingState>,
    schedulers: Schedulers,
    connections: Tables,
    counters: Arc<CachePadded<WorkerCounters>>,
    identifications: Identifications,
    pool: D::Pool,
    /// When templates that are over were last ended.
    templates_expired: CoarseTime,
    reassembly: Reassembly<Received<D::Packet>>,
    peers: Peers<D::Packet>,
    /// Until when packets of hashing services are forwarded without a
    /// connection, since there was no room for some.
    untracked_until: Option<CoarseTime>,
    /// Whether the packet at hand has gone round the workers already.
    everybody_was_asked: bool,
}

/// A parsed packet of a burst, with its flow's hash.
type Step = Result<(Parsed, FlowHash), Exit>;

/// What a first look at the packets of a burst showed, in their order.
#[derive(Default)]
struct Looks {
    /// Which of them may go the short way, by bit.
    is_express: u64,
    /// Those.
    express: arrayvec::ArrayVec<Express, BURST_LEN_MAX>,
    /// The others.
    steps: arrayvec::ArrayVec<Step, BURST_LEN_MAX>,
}

// There is room for as many as a burst can have.
impl Looks {
    #[inline]
    fn note_express(&mut self, express: Express, number: usize) {
        let _ = self.express.try_push(express);
        self.is_express |= 1 << number;
    }

    #[inline]
    fn note_step(&mut self, step: Step) {
        let _ = self.steps.try_push(step);
    }
}

impl<D: Driver> Pipeline<D> {
    /// A pipeline without connections. It keeps its outer identifications apart
    /// from those of its `peers`. All of them have the same `hash_key`.
    pub fn new(
        state: Arc<ForwardingState>,
        connections: Tables,
        counters: Arc<CachePadded<WorkerCounters>>,
        pool: D::Pool,
        hash_key: HashKey,
        peers: Peers<D::Packet>,
    ) -> Self {
        let mut schedulers = Schedulers::default();
        schedulers.adopt(&state);
        let identifications = Identifications::new(peers.own(), peers.count());
        Self {
            state,
            schedulers,
            connections,
            counters,
            identifications,
            pool,
            templates_expired: CoarseTime::default(),
            reassembly: Reassembly::new(hash_key),
            peers,
            untracked_until: None,
            everybody_was_asked: false,
        }
    }

    /// The connections of this worker.
    pub fn connections(&self) -> &Tables {
        &self.connections
    }

    /// The forwarding state in use.
    pub fn state(&self) -> &Arc<ForwardingState> {
        &self.state
    }

    /// Takes up the next generation and gives back the one before. No
    /// generation may be left out.
    pub fn adopt(&mut self, state: Arc<ForwardingState>) -> Arc<ForwardingState> {
        self.schedulers.adopt(&state);
        self.counters
            .generation
            .add(state.generation - self.state.generation);
        std::mem::replace(&mut self.state, state)
    }

    /// Forwards what a port received. Packets leave through `outputs`, whose
    /// bursts are not flushed.
    pub fn forward(
        &mut self,
        port: PortIndex,
        burst: &mut Burst<D::Packet>,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        for packet in burst.iter() {
            packet.prefetch();
        }
        let mut looks = Looks::default();
        if let Some(forwarding) = self.state.ports.get(port.as_usize()) {
            let station = Station::of(forwarding);
            for (number, packet) in burst.iter().enumerate() {
                self.look_at((port, &station), packet, number, &mut looks);
            }
        }
        self.go_on(port, burst, &mut looks, now, outputs);
    }

    /// Forwards a burst that has been looked at.
    #[inline]
    fn go_on(
        &mut self,
        port: PortIndex,
        burst: &mut Burst<D::Packet>,
        looks: &mut Looks,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        self.prefetch_entries(looks);
        let (mut express, mut steps) = (looks.express.iter(), looks.steps.iter());
        let mut is_express = looks.is_express;
        for packet in burst.drain(..) {
            if is_express & 1 == 0 {
                if let Some(step) = steps.next() {
                    self.take_step(port, packet, step, now, outputs);
                }
            } else if let Some(express) = express.next()
                && let Err(packet) = self.express(port, packet, express, now, outputs)
            {
                self.take_step(port, packet, &Ok(express.parsed()), now, outputs);
            }
            is_express >>= 1;
        }
        self.publish_connection_count();
    }

    /// Asks for the connections that the packets will need.
    #[inline]
    fn prefetch_entries(&self, looks: &mut Looks) {
        let v4 = self.connections.of::<FlowKeyV4>();
        for express in &mut looks.express {
            express.set_guess(v4.prefetch_entry(express.hash()));
        }
        // A few servers stay in the caches by themselves.
        if self.state.servers.len() > SERVERS_IN_CACHE {
            for express in &looks.express {
                if let Some(server) = v4.peek_server(express.guess()) {
                    self.prefetch_server(RealServerIndex(server));
                }
            }
        }
        let v6 = self.connections.of::<FlowKeyV6>();
        for (parsed, hash) in looks.steps.iter().flatten() {
            if matches!(parsed.payload, Payload::FlowV6 { .. }) {
                v6.prefetch_entry(*hash);
            }
        }
    }

    #[inline]
    fn prefetch_server(&self, index: RealServerIndex) {
        if let Some(server) = self.state.server(index) {
            prefetch_read(server);
        }
        prefetch_write(self.counters.server(index.as_usize()));
    }

    /// Looks at a packet and hashes its flow; what tells where its connection
    /// stands is on its way when this returns.
    #[inline]
    fn look_at(
        &self,
        (port, station): (PortIndex, &Station),
        packet: &D::Packet,
        number: usize,
        looks: &mut Looks,
    ) {
        let glance = packet
            .is_contiguous()
            .then(|| {
                express::glance(
                    packet.bytes(),
                    packet.has_good_ipv4_checksum(),
                    station,
                    |key| self.prefetch(key),
                )
            })
            .flatten();
        if let Some(express) = glance {
            looks.note_express(express, number);
        } else {
            looks.note_step(self.examine(port, packet));
        }
    }

    #[inline(never)]
    fn take_step(
        &mut self,
        port: PortIndex,
        packet: D::Packet,
        step: &Step,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        match step {
            Ok((parsed, hash)) => self.carry(port, packet, parsed, *hash, now, outputs),
            Err(exit) => leave(port, packet, 0, (*exit, None), outputs),
        }
    }

    /// Parses a packet and hashes its flow.
    #[inline(never)]
    fn examine(&self, port: PortIndex, packet: &D::Packet) -> Step {
        if !packet.is_contiguous() {
            return Err(Exit::Drop(DropReason::NotContiguous));
        }
        let port = self
            .state
            .ports
            .get(port.as_usize())
            .ok_or(Exit::Drop(DropReason::FrameTooShort))?;
        let parsed = parse::parse(packet.bytes(), packet.has_good_ipv4_checksum(), port)?;
        let hash = match &parsed.payload {
            Payload::Flow(key, ..) => self.prefetch(key),
            Payload::FlowV6 {
                l4_offset,
                protocol,
                ..
            } => {
                let l3_offset = parsed.inner.l3_offset;
                let key = parse_ipv6::key(packet.bytes(), l3_offset, *l4_offset, *protocol);
                key.map_or_else(FlowHash::default, |key| self.prefetch(&key))
            }
            _ => FlowHash::default(),
        };
        Ok((parsed, hash))
    }

    #[inline]
    fn prefetch<K: ConnectionKey>(&self, key: &K) -> FlowHash {
        let connections = self.connections.of();
        let hash = connections.hash(key);
        connections.prefetch(hash);
        hash
    }

    /// Takes one packet from "parsed" to its end.
    #[inline]
    fn carry(
        &mut self,
        port: PortIndex,
        mut packet: D::Packet,
        parsed: &Parsed,
        hash: FlowHash,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let l3_offset = parsed.inner.l3_offset;
        match self.route_packet(&mut packet, parsed, hash, now) {
            Ok(route) => {
                if let Err(reason) = self.send(packet, &route, outputs) {
                    self.counters.drops(reason).add(1);
                }
            }
            Err((Exit::Detour(detour), _)) => {
                let received = Received { port, packet };
                self.take_detour(detour, received, parsed, now, outputs);
            }
            Err(exit) => leave(port, packet, l3_offset, exit, outputs),
        }
    }

    #[inline]
    fn count_packet_of(&self, server: RealServerIndex, total_len: u16) {
        let counters = self.counters.server(server.as_usize());
        counters.in_packets.add(1);
        counters.in_bytes.add(u64::from(total_len));
    }

    /// What becomes of a packet that no service wants.
    fn to_host(&self, destination: IpAddr) -> Exit {
        if self.state.local.contains(&destination) {
            Exit::Punt(PuntReason::Local)
        } else {
            Exit::Drop(DropReason::NotLocal)
        }
    }

    fn publish_connection_count(&self) {
        self.counters.connections.set(self.connections.len() as u64);
    }
}

/// Sends a packet off the fast path.
#[cold]
fn leave<D: Driver>(
    port: PortIndex,
    packet: D::Packet,
    l3_offset: u8,
    (exit, server): (Exit, Option<RealServerIndex>),
    outputs: &mut Outputs<D>,
) {
    match exit {
        Exit::Drop(reason) => outputs.discard(packet, reason),
        Exit::Punt(reason) => outputs.punt(Punted {
            packet,
            port,
            l3_offset,
            reason,
            server,
        }),
        // Taken before it comes to this.
        Exit::Detour(_) => drop(packet),
    }
}

/// Whether an address cannot be that of a sender (RFC 1812 section 5.3.7, RFC
/// 4291 section 2.5).
pub(crate) const fn is_martian(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => {
            source.is_multicast()
                || source.is_broadcast()
                || source.is_loopback()
                || source.octets()[0] == 0
        }
        IpAddr::V6(source) => {
            source.is_multicast() || source.is_loopback() || source.is_unspecified()
        }
    }
}

/// So many real servers take part of a processor's second-level cache, and no
/// more than that.
const SERVERS_IN_CACHE: usize = 1024;
