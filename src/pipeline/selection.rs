//! Steps 4 to 6: which real server a packet belongs to, and what it does to its
//! connection.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Detour, DropReason, Exit, Pipeline, PuntReason, icmp_error, icmpv6_error, is_martian,
    persistence,
};
use crate::{
    connection::{
        CoarseDuration, CoarseTime, ConnectionKey, EntryIndex, NewEntry, State, sctp,
        templates::{Ending, TemplateIndex},
        transition,
    },
    flow::{Endpoints, FlowHash},
    forwarding::{
        FTP_DATA_PORT, Presence, RealServerIndex, ServiceAddress, ServiceForwarding, ServiceIndex,
    },
    io::Driver,
    scheduler::{Request, SchedulerKind},
    service::{Protocol, Tunables},
    wire::{icmpv6::Icmpv6Header, ipv6::Ipv6Header, tcp::TcpFlags},
};

/// The flow of a packet of a load-balanced protocol.
pub(super) struct Flow<K> {
    pub(super) key: K,
    pub(super) hash: FlowHash,
    /// What it carries.
    pub(super) protocol: Protocol,
    /// TCP's flags, the type of SCTP's first chunk, 0 for UDP.
    pub(super) signal: u8,
}

impl<K: ConnectionKey> Flow<K> {
    /// Whether the packet asks for a new connection: a TCP SYN or an SCTP INIT.
    pub(super) fn is_opening(&self) -> bool {
        match self.protocol {
            Protocol::Tcp => self.signal & TCP_SYN != 0,
            Protocol::Sctp => self.signal == sctp::INIT,
            Protocol::Udp => false,
        }
    }
}

/// What a packet does to the connection it belongs to.
enum Fate {
    /// It goes on, to this server.
    Keep(RealServerIndex),
    /// It ends, and a new one may begin.
    Replace,
}

/// What scheduling came to.
pub(super) struct Picked {
    pub(super) server: RealServerIndex,
    /// What keeps the client's connections together.
    pub(super) template: Option<TemplateIndex>,
    /// Whether the server is for this packet alone: one-packet scheduling
    /// counts a connection and keeps none, so that neither loads nor
    /// thresholds know of it.
    pub(super) one_packet: bool,
    /// Whether the same client comes to the same server without a connection.
    pub(super) by_hash: bool,
}

impl<D: Driver> Pipeline<D> {
    /// The real server of a TCP, UDP or SCTP packet; opens, advances and ends
    /// connections on the way.
    #[inline]
    pub(super) fn server_of_flow<K: ConnectionKey>(
        &mut self,
        flow: &Flow<K>,
        total_len: u16,
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        // Without any service Linux IPVS is out of the way altogether.
        if self.state.services.is_empty() {
            return Err(self.to_host(flow.key.endpoints().service.ip()));
        }
        let index = match self.connections.of::<K>().find(flow.hash, &flow.key) {
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
            None if self.may_be_astray(flow.hash, now) => return Err(Exit::Detour(Detour::Ask)),
            None => None,
        };
        let picked = self.schedule(flow, now);
        if let Some(index) = index {
            self.end::<K>(index, Ending::Natural, now);
        }
        let picked = picked?;
        let server = picked.server;
        let state = state_after(None, flow, &self.state.tunables);
        let beginning = (state, self.state.timeouts.of(state));
        self.begin(&picked, flow, beginning, now)?;
        self.count_packet_of(server, total_len);
        Ok(server)
    }

    /// Whether a packet goes on with the connection that was found.
    #[inline]
    fn fate_of<K: ConnectionKey>(&self, index: EntryIndex, flow: &Flow<K>) -> Result<Fate, Exit> {
        let Some(entry) = self.connections.of::<K>().entry(index) else {
            return Ok(Fate::Replace);
        };
        let server = RealServerIndex(entry.server());
        let tunables = &self.state.tunables;
        let forwarding = self.state.server(server);
        if flow.is_opening() {
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
    fn schedule<K: ConnectionKey>(
        &mut self,
        flow: &Flow<K>,
        now: CoarseTime,
    ) -> Result<Picked, Exit> {
        let endpoints = flow.key.endpoints();
        let vip = endpoints.service.ip();
        let service = self.state.services.find(&ServiceAddress {
            vip,
            l4_port: endpoints.service.port(),
            protocol: flow.protocol,
        });
        // The VIPs of all services are local; a mark may be without VIPs.
        let is_known = service.is_some() && !self.state.services.has_marks();
        if !is_known && !self.state.local.contains(&vip) {
            return Err(Exit::Drop(DropReason::NotLocal));
        }
        let client = endpoints.client.ip();
        if is_martian(client) || self.state.local.contains(&client) {
            return Err(Exit::Drop(DropReason::MartianSource));
        }
        let tunables = &self.state.tunables;
        // Data connections that FTP servers open come from this port; Linux
        // IPVS never takes them for a client's.
        let may_open = endpoints.client.port() != FTP_DATA_PORT
            && match flow.protocol {
                Protocol::Tcp => {
                    (flow.is_opening() || tunables.sloppy_tcp) && flow.signal & TCP_RST == 0
                }
                Protocol::Sctp => {
                    flow.is_opening() || tunables.sloppy_sctp && flow.signal != sctp::ABORT
                }
                Protocol::Udp => true,
            };
        match service {
            Some((index, service)) if may_open || self.is_untracked(service, now) => {
                self.pick(index, &endpoints, now)
            }
            _ => Err(Exit::Punt(PuntReason::Local)),
        }
    }

    /// Picks a real server of a service.
    fn pick(
        &mut self,
        index: ServiceIndex,
        flow: &Endpoints,
        now: CoarseTime,
    ) -> Result<Picked, Exit> {
        let Some(service) = self.state.services.service(index) else {
            return Err(Exit::Punt(PuntReason::Local));
        };
        let one_packet = service.options.one_packet && flow.protocol == Protocol::Udp.number();
        // Clients of FTP may also want some other port of the VIP.
        let without_server = Exit::Punt(if service.is_ftp_data(flow.service.port()) {
            PuntReason::Local
        } else {
            PuntReason::NoServer
        });
        let request = Request {
            service,
            loads: &self.state.loads,
            flow,
            now,
        };
        let schedulers = &mut self.schedulers;
        let Some(persistence) = service.options.persistence else {
            let server = if service.is_ftp_data(flow.service.port()) {
                None
            } else {
                schedulers.pick(index, &request)
            };
            return Ok(Picked {
                server: server.ok_or(without_server)?,
                template: None,
                one_packet,
                by_hash: goes_by_hash(service),
            });
        };
        let attached = persistence::attach(
            &self.state,
            &self.counters,
            (service, persistence),
            flow,
            now,
            || schedulers.pick(index, &request),
        );
        let attached = attached.ok_or(without_server)?;
        Ok(Picked {
            server: RealServerIndex(attached.server),
            template: attached.template,
            one_packet,
            by_hash: false,
        })
    }

    /// Opens a connection, or counts it when it is for one packet alone.
    pub(super) fn begin<K: ConnectionKey>(
        &mut self,
        picked: &Picked,
        flow: &Flow<K>,
        beginning: (State, CoarseDuration),
        now: CoarseTime,
    ) -> Result<(), Exit> {
        if picked.one_packet {
            let counters = self.counters.server(picked.server.as_usize());
            counters.connections.add(1);
            self.release(picked.template, now);
            return Ok(());
        }
        let opened = self.open(picked, flow, beginning, now);
        if opened.is_err() {
            self.release(picked.template, now);
            if picked.by_hash {
                self.counters.untracked.add(1);
                let established = self.state.timeouts.of(State::Established);
                self.untracked_until = Some(now + established);
                return Ok(());
            }
        }
        opened
    }

    /// Whether a packet that may not open a connection can be one of a flow
    /// that there was no room for. Such a flow lives no longer than it would
    /// have with a connection.
    fn is_untracked(&self, service: &ServiceForwarding, now: CoarseTime) -> bool {
        let is_time = |until: CoarseTime| !now.has_reached(until);
        self.untracked_until.is_some_and(is_time) && goes_by_hash(service)
    }

    /// Opens a connection.
    fn open<K: ConnectionKey>(
        &mut self,
        &Picked {
            server, template, ..
        }: &Picked,
        flow: &Flow<K>,
        (state, timeout): (State, CoarseDuration),
        now: CoarseTime,
    ) -> Result<(), Exit> {
        let mut new = NewEntry {
            server: server.0,
            state,
            controller: TemplateIndex::to_controller(template),
            flags: 0,
        };
        if let Some(template) = template
            && state.is_established()
        {
            self.state.templates.assure(template);
            new.flags |= TEMPLATE_ASSURED;
        }
        let inserted = self
            .connections
            .of_mut::<K>()
            .insert(flow.hash, flow.key, &new, timeout, now)
            .map_err(|_| Exit::Drop(DropReason::TableFull))?;
        if let Some(evicted) = inserted.evicted {
            let load = self.state.loads.of(RealServerIndex(evicted.server));
            load.close(evicted.state.is_active());
            self.counters.connections_evicted.add(1);
            self.release_by(evicted.controller, Ending::Evicted, now);
        }
        self.state.loads.of(server).open(state.is_active());
        self.counters.connections_opened.add(1);
        self.counters.server(server.as_usize()).connections.add(1);
        Ok(())
    }

    /// Moves a connection on by one packet.
    #[inline]
    fn advance<K: ConnectionKey>(
        &mut self,
        index: EntryIndex,
        server: RealServerIndex,
        flow: &Flow<K>,
        now: CoarseTime,
    ) {
        let Some(entry) = self.connections.of_mut::<K>().entry_mut(index) else {
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
            if after.is_established()
                && entry.flags() & TEMPLATE_ASSURED == 0
                && let Some(template) = TemplateIndex::of_controller(entry.controller())
            {
                entry.set_flags(entry.flags() | TEMPLATE_ASSURED);
                self.state.templates.assure(template);
            }
        }
        self.connections
            .of_mut::<K>()
            .touch(index, self.state.timeouts.of(after), now);
    }

    /// Ends a connection before its time.
    pub(super) fn end<K: ConnectionKey>(
        &mut self,
        index: EntryIndex,
        ending: Ending,
        now: CoarseTime,
    ) {
        if let Some(ended) = self.connections.of_mut::<K>().remove(index) {
            let load = self.state.loads.of(RealServerIndex(ended.server));
            load.close(ended.state.is_active());
            self.release_by(ended.controller, ending, now);
        }
    }

    fn release(&self, template: Option<TemplateIndex>, now: CoarseTime) {
        let controller = TemplateIndex::to_controller(template);
        self.release_by(controller, Ending::Natural, now);
    }

    fn release_by(&self, controller: u32, ending: Ending, now: CoarseTime) {
        let shared = (&*self.state.templates, &*self.state.loads);
        persistence::release(shared, &self.counters, controller, ending, now);
    }

    /// The director itself is the real server and answers a segment with a
    /// reset, which ends the connection.
    pub(super) fn close_as_host<K: ConnectionKey>(&mut self, flow: &Flow<K>, now: CoarseTime) {
        let is_answered = flow.protocol == Protocol::Tcp && flow.signal & TCP_RST == 0;
        let found = self.connections.of::<K>().find(flow.hash, &flow.key);
        let Some(index) = found.filter(|_| is_answered) else {
            return;
        };
        let Some(entry) = self.connections.of_mut::<K>().entry_mut(index) else {
            return;
        };
        if entry.state().is_active() {
            self.state
                .loads
                .of(RealServerIndex(entry.server()))
                .reclassify(false);
        }
        entry.set_state(State::Close);
        self.connections
            .of_mut::<K>()
            .touch(index, self.state.timeouts.of(State::Close), now);
    }

    /// The real server that gets to see an ICMP message.
    pub(super) fn server_of_icmp(
        &mut self,
        message: &[u8],
        (destination, total_len): (Ipv4Addr, u16),
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        if icmp_error::is_query(message) {
            return Err(self.to_host(destination.into()));
        }
        if !self.state.local.contains(&IpAddr::V4(destination)) {
            return Err(Exit::Drop(DropReason::NotLocal));
        }
        if !icmp_error::is_forwarded_kind(message) || self.state.services.is_empty() {
            return Err(Exit::Drop(DropReason::IcmpErrorUnrelated));
        }
        if icmp_error::is_about_tunnel(message, &self.state.gue_ends) {
            return Err(Exit::Punt(PuntReason::TunnelError));
        }
        let key = icmp_error::flow_of_error(message)?;
        let is_sound = || icmp_error::has_sound_checksum(message);
        self.server_of_quoted(key, total_len, is_sound, now)
    }

    /// The real server that gets to see an ICMPv6 message, which is what the
    /// packet with the header `ip` carries. As Linux IPVS all errors but no
    /// others.
    pub(super) fn server_of_icmpv6(
        &mut self,
        (ip, total_len): (Ipv6Header<'_>, u16),
        message: &[u8],
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        let destination = IpAddr::V6(ip.destination());
        if !icmpv6_error::is_error(message) {
            return Err(self.to_host(destination));
        }
        if !self.state.local.contains(&destination) {
            return Err(Exit::Drop(DropReason::NotLocal));
        }
        if self.state.services.is_empty() {
            return Err(Exit::Drop(DropReason::IcmpErrorUnrelated));
        }
        if icmpv6_error::is_about_tunnel(message, &self.state.gue_ends) {
            return Err(Exit::Punt(PuntReason::TunnelError));
        }
        let key = icmpv6_error::flow_of_error(message)?;
        let is_sound = || Icmpv6Header::validate(&ip, message).is_ok();
        self.server_of_quoted(key, total_len, is_sound, now)
    }

    /// The real server of the connection that an ICMP error is about. `is_sound`
    /// says whether the error's checksum is right.
    fn server_of_quoted<K: ConnectionKey>(
        &mut self,
        key: K,
        total_len: u16,
        is_sound: impl Fn() -> bool,
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        let connections = self.connections.of();
        let hash = connections.hash(&key);
        let entry = connections
            .find(hash, &key)
            .and_then(|index| connections.entry(index));
        let server = match entry {
            Some(entry) => RealServerIndex(entry.server()),
            None if self.is_about_request(key.reversed(), total_len, &is_sound) => {
                return Err(Exit::Drop(DropReason::IcmpErrorUnrelated));
            }
            None if self.may_ask() => {
                let opens = self.state.tunables.schedule_icmp;
                return Err(if opens || is_sound() {
                    Exit::Detour(Detour::Ask)
                } else {
                    Exit::Drop(DropReason::BadIcmpChecksum)
                });
            }
            None => self.schedule_quoted(key, hash, now)?,
        };
        if is_sound() {
            Ok(server)
        } else {
            Err(Exit::Drop(DropReason::BadIcmpChecksum))
        }
    }

    /// Whether an ICMP error quotes not an answer but a packet of a client,
    /// whose connection is there. Linux IPVS takes it for one that it sends to
    /// the client itself, and counts it as such.
    fn is_about_request<K: ConnectionKey>(
        &self,
        key: K,
        total_len: u16,
        is_sound: impl Fn() -> bool,
    ) -> bool {
        let connections = self.connections.of();
        let entry = connections
            .find(connections.hash(&key), &key)
            .and_then(|index| connections.entry(index));
        let Some(entry) = entry else {
            return false;
        };
        let index = RealServerIndex(entry.server());
        let server = self.state.server(index);
        if server.is_some_and(|server| server.presence == Presence::Listed) && is_sound() {
            let counters = self.counters.server(index.as_usize());
            counters.out_packets.add(1);
            counters.out_bytes.add(u64::from(total_len));
        }
        true
    }

    /// Opens a connection for a flow of which nothing but an ICMP error came
    /// here (`schedule_icmp`): the router before a group of directors spreads
    /// errors by other addresses than the packets that they are about.
    fn schedule_quoted<K: ConnectionKey>(
        &mut self,
        key: K,
        hash: FlowHash,
        now: CoarseTime,
    ) -> Result<RealServerIndex, Exit> {
        const UNRELATED: Exit = Exit::Drop(DropReason::IcmpErrorUnrelated);
        let protocol = Protocol::from_number(key.endpoints().protocol).ok_or(UNRELATED)?;
        if !self.state.tunables.schedule_icmp {
            return Err(UNRELATED);
        }
        let (state, signal) = match protocol {
            Protocol::Tcp => (State::None, TCP_SYN),
            Protocol::Sctp => (State::None, sctp::INIT),
            Protocol::Udp => (State::Udp, 0),
        };
        let flow = Flow {
            key,
            hash,
            protocol,
            signal,
        };
        // No host answers an error, so that what would be punted ends here.
        let picked = self.schedule(&flow, now).map_err(|_| UNRELATED)?;
        let timeout = self.state.timeouts.of(State::None);
        self.begin(&picked, &flow, (state, timeout), now)?;
        Ok(picked.server)
    }
}

/// Whether a service's scheduler alone tells a client's server.
pub(super) fn goes_by_hash(service: &ServiceForwarding) -> bool {
    let is_hashing = matches!(
        service.options.scheduler,
        SchedulerKind::Sh | SchedulerKind::Mh
    );
    is_hashing && service.options.persistence.is_none()
}

#[inline]
pub(super) fn state_after<K>(before: Option<State>, flow: &Flow<K>, tunables: &Tunables) -> State {
    match flow.protocol {
        Protocol::Sctp => sctp::transition(before, flow.signal),
        Protocol::Udp => State::Udp,
        Protocol::Tcp => transition(before, flow.signal, tunables.secure_tcp != 0),
    }
}

/// Whether a SYN or INIT on a connection in this state begins a new one
/// (`conn_reuse_mode`). For SCTP this is not recorded: CLOSED is taken as TCP's
/// CLOSE is.
const fn may_reuse(state: State, conn_reuse_mode: u32) -> bool {
    match state {
        State::TimeWait | State::Close | State::SctpClosed => conn_reuse_mode != 0,
        State::FinWait => conn_reuse_mode & 2 != 0,
        _ => false,
    }
}

/// Flag of a connection whose template knows that it was established.
const TEMPLATE_ASSURED: u8 = 1;
const TCP_SYN: u8 = TcpFlags::SYN.0;
pub(super) const TCP_RST: u8 = TcpFlags::RST.0;
