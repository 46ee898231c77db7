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
mod icmp_error;
mod output;
mod parse;

use std::{net::Ipv4Addr, sync::Arc};

use crossbeam::utils::CachePadded;

use self::parse::{Parsed, Payload};
pub use self::{
    exit::{DropReason, Exit, PuntReason},
    output::{Outputs, Punted},
};
use crate::{
    connection::{CoarseTime, EntryIndex, Expiry, NewEntry, State, Table, transition},
    counters::WorkerCounters,
    flow::{FlowHash, FlowKeyV4},
    forwarding::{ForwardingState, Path, Presence, RealServerIndex, ServiceAddress},
    fragment::fragment_outer,
    io::{BURST_LEN_MAX, Burst, Driver, Packet, PortIndex},
    scheduler::Schedulers,
    service::{Protocol, Tunables},
    tunnel::{self, DONT_FRAGMENT},
    wire::ipv4_options,
};

/// The packet path of one worker.
#[derive(Debug)]
pub struct Pipeline<D: Driver> {
    state: Arc<ForwardingState>,
    schedulers: Schedulers,
    connections: Table<FlowKeyV4>,
    counters: Arc<CachePadded<WorkerCounters>>,
    identifications: Identifications,
    pool: D::Pool,
}

/// A parsed packet of a burst, with its flow's hash.
type Step = Result<(Parsed, FlowHash), Exit>;

impl<D: Driver> Pipeline<D> {
    /// A pipeline without connections. `worker` of `workers` keeps its outer
    /// identifications apart from those of the others.
    pub fn new(
        state: Arc<ForwardingState>,
        connections: Table<FlowKeyV4>,
        counters: Arc<CachePadded<WorkerCounters>>,
        pool: D::Pool,
        (worker, workers): (u16, u16),
    ) -> Self {
        let mut schedulers = Schedulers::default();
        schedulers.adopt(&state);
        let identifications = Identifications {
            next: worker,
            step: workers,
        };
        Self {
            state,
            schedulers,
            connections,
            counters,
            identifications,
            pool,
        }
    }

    /// The connections of this worker.
    pub fn connections(&self) -> &Table<FlowKeyV4> {
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
        let expiry = self.connections.expire(now, budget, |entry| {
            loads
                .of(RealServerIndex(entry.server()))
                .close(entry.state().is_active());
            counters.connections_expired.add(1);
        });
        if expiry.expired > 0 {
            self.publish_connection_count();
        }
        expiry
    }

    /// Ends all connections of real servers that were deleted
    /// (`expire_nodest_conn`), looking at [`SWEEP_LEN`] slots from `cursor` on.
    /// Returns where to go on, or `None` at the end.
    pub fn end_connections_of_deleted_servers(&mut self, cursor: u32) -> Option<u32> {
        let (connections, next) = self.connections.iter_from(cursor, SWEEP_LEN);
        let gone: arrayvec::ArrayVec<EntryIndex, { SWEEP_LEN as usize }> = connections
            .filter(|(_, entry)| {
                let server = self.state.server(RealServerIndex(entry.server()));
                server.is_none_or(|server| server.presence != Presence::Listed)
            })
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            self.end(index);
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
        if let Payload::Flow(key, _) = &parsed.payload {
            let hash = self.connections.hash(key);
            self.connections.prefetch(hash);
            return Ok((parsed, hash));
        }
        Ok((parsed, FlowHash::default()))
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
            Ok(route) => match self.send(packet, &route, outputs) {
                Ok(()) => self.counters.forwarded.add(1),
                Err(reason) => self.counters.drops(reason).add(1),
            },
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
        let (server, is_error) = match parsed.payload {
            Payload::Flow(key, tcp_flags) => {
                if parsed.has_options {
                    receive_options(packet, parsed.inner, key.vip.into())
                        .map_err(|exit| (exit, None))?;
                }
                let flow = Flow {
                    key,
                    hash,
                    tcp_flags,
                };
                let server = self.server_of_flow(&flow, parsed.inner.total_len, now);
                (server.map_err(|exit| (exit, None))?, false)
            }
            Payload::Icmp {
                message_offset,
                destination,
            } => {
                let end = usize::from(parsed.inner.l3_offset) + usize::from(parsed.inner.total_len);
                let message = packet.bytes().get(usize::from(message_offset)..end);
                let server = self.server_of_icmp(message.unwrap_or_default(), destination);
                let server = server.map_err(|exit| (exit, None))?;
                self.count_packet_of(server, parsed.inner.total_len);
                (server, true)
            }
            Payload::Fragment { destination } => {
                return Err((
                    self.unless_local(destination, DropReason::ClientFragment),
                    None,
                ));
            }
            Payload::Other { destination } => return Err((self.to_host(destination), None)),
        };
        let reach = self.reach(packet, parsed, server, is_error);
        reach.map_err(|exit| (exit, Some(server)))
    }

    /// The real server of a TCP or UDP packet; opens, advances and ends
    /// connections on the way.
    #[inline]
    fn server_of_flow(
        &mut self,
        flow: &Flow,
        total_len: u16,
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        // Without any service Linux IPVS is out of the way altogether.
        if self.state.services.is_empty() {
            return Err(self.to_host(flow.key.vip.into()));
        }
        let index = match self.connections.find(flow.hash, &flow.key) {
            Some(index) => match self.fate_of(index, flow)? {
                Fate::Keep(server) => {
                    self.advance(index, server, flow, now);
                    self.count_packet_of(server, total_len);
                    return Ok(server);
                }
                // The old connection still counts while the new server is
                // picked, as in Linux IPVS.
                Fate::Replace => Some(index),
            },
            None => None,
        };
        let picked = self.schedule(flow);
        if let Some(index) = index {
            self.end(index);
        }
        let server = picked?;
        self.open(server, flow, now)?;
        self.count_packet_of(server, total_len);
        Ok(server)
    }

    /// Whether a packet goes on with the connection that was found.
    #[inline]
    fn fate_of(&self, index: EntryIndex, flow: &Flow) -> Result<Fate, Exit> {
        let Some(entry) = self.connections.entry(index) else {
            return Ok(Fate::Replace);
        };
        let server = RealServerIndex(entry.server());
        let tunables = &self.state.tunables;
        let forwarding = self.state.server(server);
        if flow.is_syn() {
            let quiesced = forwarding.is_some_and(|server| server.quiesced);
            if (tunables.expire_nodest_conn && quiesced)
                || may_reuse(entry.state(), tunables.conn_reuse_mode)
            {
                return Ok(Fate::Replace);
            }
        }
        if forwarding.is_some_and(|server| server.presence == Presence::Listed) {
            Ok(Fate::Keep(server))
        } else if tunables.expire_nodest_conn {
            Ok(Fate::Replace)
        } else {
            Err(Exit::Drop(DropReason::ServerGone))
        }
    }

    /// Picks a real server for a packet without a connection.
    fn schedule(&mut self, flow: &Flow) -> Result<RealServerIndex, Exit> {
        let vip = Ipv4Addr::from(flow.key.vip);
        if !self.state.local.contains(&vip) {
            return Err(Exit::Drop(DropReason::NotLocal));
        }
        let client = Ipv4Addr::from(flow.key.client);
        if is_martian(client) || self.state.local.contains(&client) {
            return Err(Exit::Drop(DropReason::MartianSource));
        }
        let may_open = match flow.protocol() {
            Some(Protocol::Tcp) => {
                (flow.is_syn() || self.state.tunables.sloppy_tcp) && flow.tcp_flags & TCP_RST == 0
            }
            Some(Protocol::Udp) => true,
            None => false,
        };
        let service = flow
            .service_address()
            .and_then(|address| self.state.services.find(&address));
        match service {
            Some((index, service)) if may_open => self
                .schedulers
                .pick(index, service, &self.state.loads)
                .ok_or(Exit::Punt(PuntReason::NoServer)),
            _ => Err(Exit::Punt(PuntReason::Local)),
        }
    }

    /// Opens a connection.
    fn open(&mut self, server: RealServerIndex, flow: &Flow, now: CoarseTime) -> Result<(), Exit> {
        let state = state_after(None, flow, &self.state.tunables);
        let timeout = self.state.timeouts.of(state);
        let new = NewEntry {
            server: server.0,
            state,
            controller: 0,
            flags: 0,
        };
        let inserted = self
            .connections
            .insert(flow.hash, flow.key, &new, timeout, now)
            .map_err(|_| Exit::Drop(DropReason::TableFull))?;
        if let Some(evicted) = inserted.evicted {
            let load = self.state.loads.of(RealServerIndex(evicted.server));
            load.close(evicted.state.is_active());
            self.counters.connections_evicted.add(1);
        }
        self.state.loads.of(server).open(state.is_active());
        self.counters.connections_opened.add(1);
        self.counters.server(server.as_usize()).connections.add(1);
        Ok(())
    }

    /// Moves a connection on by one packet.
    #[inline]
    fn advance(
        &mut self,
        index: EntryIndex,
        server: RealServerIndex,
        flow: &Flow,
        now: CoarseTime,
    ) {
        let Some(entry) = self.connections.entry_mut(index) else {
            return;
        };
        entry.count_packet();
        let before = entry.state();
        let after = state_after(Some(before), flow, &self.state.tunables);
        if after != before {
            entry.set_state(after);
            if after.is_active() != before.is_active() {
                self.state.loads.of(server).reclassify(after.is_active());
            }
        }
        self.connections
            .touch(index, self.state.timeouts.of(after), now);
    }

    /// Ends a connection before its time.
    fn end(&mut self, index: EntryIndex) {
        if let Some(ended) = self.connections.remove(index) {
            let load = self.state.loads.of(RealServerIndex(ended.server));
            load.close(ended.state.is_active());
        }
    }

    /// The real server that gets to see an ICMP message.
    fn server_of_icmp(
        &self,
        message: &[u8],
        destination: Ipv4Addr,
    ) -> Result<RealServerIndex, Exit> {
        if icmp_error::is_query(message) {
            return Err(self.to_host(destination));
        }
        if !self.state.local.contains(&destination) {
            return Err(Exit::Drop(DropReason::NotLocal));
        }
        if !icmp_error::is_forwarded_kind(message) || self.state.services.is_empty() {
            return Err(Exit::Drop(DropReason::IcmpErrorUnrelated));
        }
        let key = icmp_error::flow_of_error(message)?;
        let entry = self
            .connections
            .find(self.connections.hash(&key), &key)
            .and_then(|index| self.connections.entry(index))
            .ok_or(Exit::Drop(DropReason::IcmpErrorUnrelated))?;
        if !icmp_error::has_sound_checksum(message) {
            return Err(Exit::Drop(DropReason::BadIcmpChecksum));
        }
        Ok(RealServerIndex(entry.server()))
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
        let header = ipv4_header_mut(packet, parsed.inner.l3_offset)?;
        tunnel::decrement_ttl(header);

        let inner_len_max = server.inner_len_max();
        if inner_len_max < IPV4_MTU_MIN {
            return Err(Exit::Drop(DropReason::MtuTooSmall));
        }
        let honour_df = parsed.dont_fragment && self.state.tunables.pmtu_disc;
        let fits = parsed.inner.total_len <= inner_len_max;
        if !fits && honour_df && !is_error {
            return Err(Exit::Punt(PuntReason::FragmentationNeeded));
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
            dont_fragment: honour_df && fits,
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
        let (identification, flags) = if route.dont_fragment {
            (0, DONT_FRAGMENT)
        } else {
            (self.identifications.next(), 0)
        };
        tunnel::encapsulate(&mut packet, route.inner, server, identification, flags)
            .map_err(|tunnel::NoHeadroom| DropReason::NoHeadroom)?;
        if route.fits {
            outputs.transmit(server.port, packet);
            return Ok(());
        }
        let port = server.port;
        fragment_outer(packet, server, &mut self.pool, |piece| {
            outputs.transmit(port, piece);
        })
        .map_err(|_| DropReason::NoPacketBuffer)
    }

    #[inline]
    fn count_packet_of(&self, server: RealServerIndex, total_len: u16) {
        let counters = self.counters.server(server.as_usize());
        counters.in_packets.add(1);
        counters.in_bytes.add(u64::from(total_len));
    }

    /// What becomes of a packet that no service wants.
    fn to_host(&self, destination: Ipv4Addr) -> Exit {
        if self.state.local.contains(&destination) {
            Exit::Punt(PuntReason::Local)
        } else {
            Exit::Drop(DropReason::NotLocal)
        }
    }

    fn unless_local(&self, destination: Ipv4Addr, reason: DropReason) -> Exit {
        if self.state.local.contains(&destination) {
            Exit::Drop(reason)
        } else {
            Exit::Drop(DropReason::NotLocal)
        }
    }

    fn publish_connection_count(&self) {
        self.counters.connections.set(self.connections.len() as u64);
    }
}

/// A TCP or UDP packet's flow.
struct Flow {
    key: FlowKeyV4,
    hash: FlowHash,
    /// 0 for UDP.
    tcp_flags: u8,
}

impl Flow {
    fn protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.key.protocol)
    }

    fn is_syn(&self) -> bool {
        self.tcp_flags & TCP_SYN != 0
    }

    fn service_address(&self) -> Option<ServiceAddress> {
        Some(ServiceAddress {
            vip: self.key.vip.into(),
            l4_port: self.key.service_port,
            protocol: self.protocol()?,
        })
    }
}

/// What a packet does to the connection it belongs to.
enum Fate {
    /// It goes on, to this server.
    Keep(RealServerIndex),
    /// It ends, and a new one may begin.
    Replace,
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
    next: u16,
    step: u16,
}

impl Identifications {
    fn next(&mut self) -> u16 {
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
    }
}

#[inline]
fn state_after(before: Option<State>, flow: &Flow, tunables: &Tunables) -> State {
    if flow.key.protocol == Protocol::Udp.number() {
        return State::Udp;
    }
    transition(before, flow.tcp_flags, tunables.secure_tcp != 0)
}

/// Whether a SYN on a connection in this state begins a new one
/// (`conn_reuse_mode`).
const fn may_reuse(state: State, conn_reuse_mode: u32) -> bool {
    match state {
        State::TimeWait | State::Close => conn_reuse_mode != 0,
        State::FinWait => conn_reuse_mode & 2 != 0,
        _ => false,
    }
}

/// Whether an address cannot be that of a sender (RFC 1812 section 5.3.7).
const fn is_martian(source: Ipv4Addr) -> bool {
    source.is_multicast()
        || source.is_broadcast()
        || source.is_loopback()
        || source.octets()[0] == 0
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
        let sum = !parse::sum_words(header);
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

/// Flags in byte 13 of a TCP header (RFC 9293 section 3.1).
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
/// Slots of the connection table that a sweep looks at in one go.
pub const SWEEP_LEN: u32 = 256;
/// Every IPv4 path carries packets of this length (RFC 791).
const IPV4_MTU_MIN: u16 = 68;
