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

mod exit;
mod fragments;
mod icmp_error;
mod icmpv6_error;
mod output;
mod parse;
mod parse_ipv6;
mod peers;
mod persistence;
mod selection;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crossbeam::utils::CachePadded;

pub use self::{
    exit::{Detour, DropReason, Exit, PuntReason},
    output::{Outputs, Punted},
    peers::{HANDED_MAX, Peers},
};
use self::{
    parse::{Parsed, Payload},
    peers::Received,
    selection::Flow,
};
use crate::{
    connection::{CoarseTime, ConnectionKey, Expiry, Place, Tables, templates::Ending},
    counters::WorkerCounters,
    flow::{FlowHash, FlowKeyV4, FlowKeyV6, HashKey},
    forwarding::{ForwardingState, Path, Presence, RealServerIndex},
    fragment::{Reassembly, fragment_outer},
    io::{BURST_LEN_MAX, Burst, Driver, Packet, PortIndex},
    scheduler::Schedulers,
    tunnel::{self, Fragmentation},
    wire::{IpVersion, checksum::Sum, ipv4_options, ipv6::Ipv6Header},
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
    /// Whether the packet at hand has gone round the workers already.
    everybody_was_asked: bool,
}

/// A parsed packet of a burst, with its flow's hash.
type Step = Result<(Parsed, FlowHash), Exit>;

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
        let identifications = Identifications {
            next: u32::try_from(peers.own()).unwrap_or(0),
            step: u32::try_from(peers.count()).unwrap_or(1),
        };
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

    /// Ends connections whose time is up. Looks at `budget` of them at most,
    /// and says whether more may be due.
    pub fn expire(&mut self, now: CoarseTime, budget: u32) -> Expiry {
        let loads = &self.state.loads;
        let counters = &self.counters;
        let shared = (&*self.state.templates, &**loads);
        let expiry = self.connections.expire(now, budget, |ended| {
            loads
                .of(RealServerIndex(ended.server))
                .close(ended.state.is_active());
            counters.connections_expired.add(1);
            // It was over then, however late it is noticed.
            let then = ended.deadline;
            persistence::release(shared, counters, ended.controller, Ending::Natural, then);
        });
        if expiry.expired > 0 {
            self.publish_connection_count();
        }
        expiry
    }

    /// Ends this worker's share of the persistence templates whose time is up,
    /// `budget` of them at most, and says whether more may be due.
    pub fn expire_templates(&mut self, now: CoarseTime, budget: u32) -> Expiry {
        let templates = &self.state.templates;
        if now == self.templates_expired || templates.is_empty() {
            return Expiry::default();
        }
        let share = (self.peers.own(), self.peers.count());
        let expiry = templates.expire(share, now, budget, |server, event| {
            persistence::count(&self.state.loads, &self.counters, server, event);
        });
        if !expiry.has_backlog {
            self.templates_expired = now;
        }
        expiry
    }

    /// Forgets fragments whose time is up, some of them, and says whether more
    /// may be due.
    pub fn expire_fragments(&mut self, now: CoarseTime, outputs: &mut Outputs<D>) -> bool {
        self.reassembly.expire(now, &mut |lost, refusal| {
            outputs.discard(lost.packet, refusal.into());
        })
    }

    /// Ends all connections of real servers that were deleted
    /// (`expire_nodest_conn`), and then the templates that lead to one, looking
    /// at [`SWEEP_LEN`] slots from `sweep` on. Returns where to go on, or
    /// `None` at the end.
    pub fn end_what_leads_to_deleted_servers(
        &mut self,
        sweep: Sweep,
        now: CoarseTime,
    ) -> Option<Sweep> {
        match sweep {
            Sweep::Connections(cursor) => {
                let next = self.end_connections_of_deleted_servers(cursor, now);
                Some(next.map_or(Sweep::Templates(0), Sweep::Connections))
            }
            Sweep::Templates(cursor) => {
                let state = &self.state;
                let next = state.templates.end_unused(
                    cursor,
                    SWEEP_LEN,
                    |server| !is_listed(state, server),
                    |server, event| {
                        persistence::count(&state.loads, &self.counters, server, event);
                    },
                );
                next.map(Sweep::Templates)
            }
        }
    }

    fn end_connections_of_deleted_servers(&mut self, cursor: u64, now: CoarseTime) -> Option<u64> {
        let (connections, next) = self.connections.iter_from(cursor, SWEEP_LEN);
        let gone: arrayvec::ArrayVec<Place, { SWEEP_LEN as usize }> = connections
            .filter(|(_, held)| !is_listed(&self.state, held.server))
            .map(|(place, _)| place)
            .collect();
        for place in gone {
            match place {
                Place::V4(index) => self.end::<FlowKeyV4>(index, Ending::Flushed, now),
                Place::V6(index) => self.end::<FlowKeyV6>(index, Ending::Flushed, now),
            }
        }
        self.publish_connection_count();
        next
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
        let mut steps = arrayvec::ArrayVec::<Step, BURST_LEN_MAX>::new();
        for packet in burst.iter() {
            packet.prefetch();
        }
        for packet in burst.iter_mut() {
            let step = self.look_at(port, packet);
            if steps.try_push(step).is_err() {
                break;
            }
        }
        for (packet, step) in burst.drain(..).zip(steps) {
            match step {
                Ok((parsed, hash)) => self.carry(port, packet, parsed, hash, now, outputs),
                Err(exit) => leave(port, packet, 0, (exit, None), outputs),
            }
        }
        self.publish_connection_count();
    }

    /// Parses a packet and hashes its flow; the line of the connection that it
    /// will need is on its way when this returns.
    #[inline]
    fn look_at(&self, port: PortIndex, packet: &mut D::Packet) -> Step {
        if !packet.is_contiguous() {
            return Err(Exit::Drop(DropReason::NotContiguous));
        }
        let port = self
            .state
            .ports
            .get(port.as_usize())
            .ok_or(Exit::Drop(DropReason::FrameTooShort))?;
        let parsed = parse::parse(packet.bytes(), port)?;
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
        parsed: Parsed,
        hash: FlowHash,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let l3_offset = parsed.inner.l3_offset;
        match self.route_packet(&mut packet, &parsed, hash, now) {
            Ok(route) => {
                if let Err(reason) = self.send(packet, &route, outputs) {
                    self.counters.drops(reason).add(1);
                }
            }
            Err((Exit::Detour(detour), _)) => {
                let received = Received { port, packet };
                self.take_detour(detour, received, &parsed, now, outputs);
            }
            Err(exit) => leave(port, packet, l3_offset, exit, outputs),
        }
    }

    /// Steps 4 to 7: the tunnel that a packet takes, or its exit with the real
    /// server as far as one was found. The TTL is decremented on success, and
    /// where the sender is told that the packet is too long.
    #[inline]
    fn route_packet(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        hash: FlowHash,
        now: CoarseTime,
    ) -> Result<Route, (Exit, Option<RealServerIndex>)> {
        let server = match parsed.payload {
            Payload::Flow(key, protocol, signal) => {
                if parsed.has_options {
                    receive_options(packet, parsed.inner, key.vip.into())
                        .map_err(|exit| (exit, None))?;
                }
                let flow = Flow {
                    key,
                    hash,
                    protocol,
                    signal,
                };
                return self.route_flow(packet, parsed, &flow, now);
            }
            Payload::FlowV6 {
                l4_offset,
                protocol,
                signal,
            } => {
                let l3_offset = parsed.inner.l3_offset;
                let key = parse_ipv6::key(packet.bytes(), l3_offset, l4_offset, protocol);
                let key = key.ok_or((Exit::Drop(DropReason::TruncatedL4), None))?;
                let flow = Flow {
                    key,
                    hash,
                    protocol,
                    signal,
                };
                return self.route_flow(packet, parsed, &flow, now);
            }
            Payload::Icmp {
                message_offset,
                destination,
            } => {
                let end = usize::from(parsed.inner.l3_offset) + usize::from(parsed.inner.total_len);
                let message = packet.bytes().get(usize::from(message_offset)..end);
                let server = self.server_of_icmp(
                    message.unwrap_or_default(),
                    (destination, parsed.inner.total_len),
                    now,
                );
                let server = server.map_err(|exit| (exit, None))?;
                self.count_packet_of(server, parsed.inner.total_len);
                server
            }
            Payload::Icmpv6 { message_offset } => {
                let server = self.route_icmpv6(packet, parsed, message_offset, now);
                server.map_err(|exit| (exit, None))?
            }
            Payload::NeighborDiscovery => {
                return Err((Exit::Punt(PuntReason::NeighborDiscovery), None));
            }
            Payload::OtherV6 => {
                let destination = parse::destination(packet.bytes(), parsed.inner.l3_offset);
                let destination =
                    destination.ok_or((Exit::Drop(DropReason::BadIpv6Header), None))?;
                return Err((self.to_host(destination), None));
            }
            Payload::Fragment => return Err((Exit::Detour(Detour::Fragment), None)),
            Payload::Other { destination } => return Err((self.to_host(destination.into()), None)),
        };
        let reach = self.reach(packet, parsed, server, true);
        reach.map_err(|exit| (exit, Some(server)))
    }

    /// The way of a packet that belongs to a connection, or opens one.
    #[inline]
    fn route_flow<K: ConnectionKey>(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        flow: &Flow<K>,
        now: CoarseTime,
    ) -> Result<Route, (Exit, Option<RealServerIndex>)> {
        let server = self.server_of_flow(flow, parsed.inner.total_len, now);
        let server = server.map_err(|exit| (exit, None))?;
        self.reach(packet, parsed, server, false).map_err(|exit| {
            if exit == Exit::Punt(PuntReason::Local) {
                self.close_as_host(flow, now);
            }
            (exit, Some(server))
        })
    }

    /// The real server that an ICMPv6 message goes to, which is counted.
    fn route_icmpv6(
        &mut self,
        packet: &D::Packet,
        parsed: &Parsed,
        message_offset: u16,
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        let start = usize::from(parsed.inner.l3_offset);
        let end = start + usize::from(parsed.inner.total_len);
        let packet = packet.bytes().get(..end).unwrap_or_default();
        let (ip, _) = Ipv6Header::parse(packet.get(start..).unwrap_or_default())
            .map_err(|_| Exit::Drop(DropReason::BadIpv6Header))?;
        let message = packet
            .get(usize::from(message_offset)..)
            .unwrap_or_default();
        let server = self.server_of_icmpv6((ip, parsed.inner.total_len), message, now)?;
        self.count_packet_of(server, parsed.inner.total_len);
        Ok(server)
    }

    /// Step 7 and the checks of step 8: whether the packet fits through the
    /// tunnel to `server`.
    #[inline]
    fn reach(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        index: RealServerIndex,
        is_error: bool,
    ) -> Result<Route, Exit> {
        let server = self
            .state
            .server(index)
            .ok_or(Exit::Drop(DropReason::ServerGone))?;
        match server.path {
            Path::Resolved | Path::Unresolved => {}
            Path::Unreachable => return Err(Exit::Punt(PuntReason::Unreachable)),
            Path::Local => return Err(Exit::Punt(PuntReason::Local)),
        }
        if parsed.inner.ttl <= 1 {
            return Err(if is_error {
                Exit::Drop(DropReason::TtlExceededInError)
            } else {
                Exit::Punt(PuntReason::TtlExceeded)
            });
        }
        match parsed.inner.version {
            IpVersion::V4 => {
                tunnel::decrement_ttl(ipv4_header_mut(packet, parsed.inner.l3_offset)?);
            }
            IpVersion::V6 => {
                let hop_limit = usize::from(parsed.inner.l3_offset) + HOP_LIMIT_OFFSET;
                if let Some(hop_limit) = packet.bytes_mut().get_mut(hop_limit) {
                    *hop_limit -= 1;
                }
            }
        }

        if server.is_too_narrow() {
            return Err(Exit::Drop(DropReason::MtuTooSmall));
        }
        let fits = parsed.inner.total_len <= server.inner_len_max();
        let is_v4 = parsed.inner.version == IpVersion::V4;
        let honour_df = parsed.dont_fragment && (!is_v4 || self.state.tunables.pmtu_disc);
        if !fits
            && honour_df
            && parsed.inner.total_len > server.accepted_len_max(parsed.inner.version)
        {
            match (is_error, is_v4) {
                (false, _) => return Err(Exit::Punt(PuntReason::FragmentationNeeded)),
                (true, true) => {}
                (true, false) => return Err(Exit::Drop(DropReason::IcmpErrorTooLong)),
            }
        }
        if server.path == Path::Unresolved {
            return Err(Exit::Punt(PuntReason::Unresolved));
        }
        let inner = tunnel::Inner {
            ttl: parsed.inner.ttl - 1,
            ..parsed.inner
        };
        Ok(Route {
            server: index,
            inner,
            // Over IPv4 the outer packet of an IPv6 one may be fragmented on
            // its way, as from Linux IPVS.
            dont_fragment: honour_df && fits && is_v4,
            fits,
        })
    }

    /// Steps 8 and 9: encapsulates a packet and puts it into the burst of its
    /// port, in fragments when it does not fit.
    #[inline]
    fn send(
        &mut self,
        mut packet: D::Packet,
        route: &Route,
        outputs: &mut Outputs<D>,
    ) -> Result<(), DropReason> {
        let Some(server) = self.state.server(route.server) else {
            return Err(DropReason::ServerGone);
        };
        let identification = if route.dont_fragment {
            0
        } else {
            self.identifications.next()
        };
        let [.., high, low] = identification.to_be_bytes();
        let fragmentation = Fragmentation {
            identification: u16::from_be_bytes([high, low]),
            dont_fragment: route.dont_fragment,
        };
        tunnel::encapsulate(&mut packet, route.inner, server, fragmentation)
            .map_err(|tunnel::NoHeadroom| DropReason::NoHeadroom)?;
        if route.fits {
            outputs.forward(server.port, packet);
            return Ok(());
        }
        let port = server.port;
        let send = |piece, is_last| {
            if is_last {
                outputs.forward(port, piece);
            } else {
                outputs.transmit(port, piece);
            }
        };
        fragment_outer(packet, server, identification, &mut self.pool, send)
            .map_err(|_| DropReason::NoPacketBuffer)
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

/// How far the search for what leads to deleted servers has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// A cursor of the connection tables.
    Connections(u64),
    /// A cursor of the table of templates.
    Templates(u32),
}

impl Sweep {
    /// At its begin.
    pub const START: Self = Self::Connections(0);
}

fn is_listed(state: &ForwardingState, server: u32) -> bool {
    let server = state.server(RealServerIndex(server));
    server.is_some_and(|server| server.presence == Presence::Listed)
}

/// The way of a packet into a tunnel.
struct Route {
    server: RealServerIndex,
    inner: tunnel::Inner,
    /// Whether the outer DF flag is set.
    dont_fragment: bool,
    /// Whether the outer packet fits the path's MTU.
    fits: bool,
}

/// Outer identifications: each worker has a share of the numbers.
#[derive(Debug)]
struct Identifications {
    next: u32,
    step: u32,
}

impl Identifications {
    fn next(&mut self) -> u32 {
        let identification = self.next;
        self.next = self.next.wrapping_add(self.step);
        identification
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

/// Checks and fills in the IPv4 options of a received packet.
fn receive_options<P: Packet>(
    packet: &mut P,
    inner: tunnel::Inner,
    address: Ipv4Addr,
) -> Result<(), Exit> {
    const BAD: Exit = Exit::Drop(DropReason::BadIpv4Options);
    let start = usize::from(inner.l3_offset);
    let header = packet.bytes_mut().get_mut(start..).ok_or(BAD)?;
    let len = usize::from(header.first().ok_or(BAD)? & 0x0f) * 4;
    let header = header.get_mut(..len).ok_or(BAD)?;
    let (fixed, options) = header.split_first_chunk_mut::<20>().ok_or(BAD)?;
    if ipv4_options::receive(options, address).map_err(|_| BAD)? {
        [fixed[10], fixed[11]] = [0, 0];
        let sum = Sum::of(header).checksum();
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
    Ok(())
}

fn ipv4_header_mut<P: Packet>(packet: &mut P, l3_offset: u8) -> Result<&mut [u8; 20], Exit> {
    packet
        .bytes_mut()
        .get_mut(usize::from(l3_offset)..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or(Exit::Drop(DropReason::BadIpv4Header))
}

/// In an IPv6 header.
const HOP_LIMIT_OFFSET: usize = 7;

/// Slots of the connection table that a sweep looks at in one go.
pub const SWEEP_LEN: u32 = 256;
