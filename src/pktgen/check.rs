//! Holds what comes out of a tunnel against what was sent.
use std::net::IpAddr;

use hdrhistogram::{CreationError, Histogram};

use super::{
    flows::{FlowEntry, Flows, Order},
    frame::{FLOOD_SLOT, Filling, Head, Part, Shape, Shapes, Stamp, TIME_MASK, fragment_word},
    histories::{Histories, Move},
    mismatch::{Mismatch, MismatchKind as Kind, Mismatches},
    outer::{Opened, Outer, Tunnel},
    plan::{ExpectedDf, Plan},
    service::Transport,
};
use crate::wire::{IpProtocol, IpVersion, ethernet::MacAddr, ipv6, tcp::TcpFlags};

/// What was received, and whether it was right.
#[derive(Debug)]
pub struct Checker {
    shapes: Shapes,
    /// From which moment on packets count as measured.
    measured_from: Option<u64>,
    servers: Vec<ServerState>,
    pub(super) counts: Received,
    latency: Histogram<u64>,
    pub(super) mismatches: Mismatches,
    histories: Histories,
    /// Frames to MAC addresses that real servers have beside the port's.
    further_macs: Vec<(MacAddr, u64)>,
}

/// Counters of received packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Packets of flows, from the beginning.
    pub packets: u64,
    /// Those that were made while it was measured.
    pub measured: u64,
    /// Their bytes, as frames were sent.
    pub measured_bytes: u64,
    /// Packets of a flood that were made while it was measured.
    pub flood: u64,
    /// Packets that came a second time.
    pub duplicates: u64,
    /// Those of them that were made while it was measured.
    pub measured_duplicates: u64,
    /// Packets that a later one of their flow overtook.
    pub late: u64,
    /// Packets whose flow had given way to a new one.
    pub of_replaced: u64,
    /// By tunnel, outer and inner version.
    pub tunnels: [[u64; 4]; Tunnel::ALL.len()],
}

/// What is known of a real server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerState {
    /// Packets that were made while it was measured.
    pub packets: u64,
    /// Flows whose first packet came here.
    pub flows: u64,
    tunnel: Option<Tunnel>,
    source: Option<IpAddr>,
    last_id: u16,
    /// How often the last identification came in a row.
    same_ids: u8,
}

/// A frame that may be a tunnel's, from the port that it came in by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) frame: &'a [u8],
    pub(super) destination: MacAddr,
    pub(super) source: MacAddr,
    /// Bytes in front of the IP packet.
    pub(super) l2_len: usize,
    pub(super) outer: &'a Outer<'a>,
    pub(super) server: u16,
    /// Whether real servers are behind this port.
    pub(super) is_servers_port: bool,
    /// MAC address of the port.
    pub(super) port_mac: MacAddr,
    /// MAC address of the director there, when it is known.
    pub(super) director_mac: Option<MacAddr>,
    /// Cycle counter.
    pub(super) now: u64,
}

impl Checker {
    /// A checker that has received nothing. Latencies up to `latency_max`
    /// cycles are told apart, to one part in a hundred.
    pub(super) fn new(
        plan: &Plan,
        latency_max: u64,
        histories: Histories,
    ) -> Result<Self, CreationError> {
        let decrement = u8::from(!plan.options.reflected);
        let ttl = plan.options.ttl.saturating_sub(decrement);
        Ok(Self {
            shapes: Shapes::new(plan, ttl),
            measured_from: None,
            servers: vec![ServerState::default(); usize::from(plan.servers.len())],
            counts: Received::default(),
            latency: Histogram::new_with_max(latency_max, LATENCY_DIGITS)?,
            mismatches: Mismatches::default(),
            histories,
            further_macs: plan
                .options
                .server_macs
                .iter()
                .map(|mac| (*mac, 0))
                .collect(),
        })
    }

    /// Packets that are made from `now` on count as measured.
    pub(super) fn measure_from(&mut self, now: u64, flows: &Flows) {
        self.measured_from = Some(now);
        self.histories.measure_from_here(flows);
    }

    /// Counters.
    pub const fn received(&self) -> &Received {
        &self.counts
    }

    /// What was wrong.
    pub const fn mismatches(&self) -> &Mismatches {
        &self.mismatches
    }

    /// What became of single flows.
    pub const fn histories(&self) -> &Histories {
        &self.histories
    }

    /// Frames to MAC addresses that real servers have beside the port's.
    pub fn further_macs(&self) -> &[(MacAddr, u64)] {
        &self.further_macs
    }

    /// All real servers by number.
    pub fn servers(&self) -> &[ServerState] {
        &self.servers
    }

    /// Cycles from the making of a packet to its check, of those measured.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Checks a frame to a real server, and counts it.
    #[inline]
    pub(super) fn take(&mut self, arrival: &Arrival<'_>, plan: &Plan, flows: &mut Flows) {
        if let Err(mismatch) = self.check(arrival, plan, flows) {
            self.mismatches.add(mismatch, arrival.frame);
        }
    }

    /// The packet is counted as received as soon as it is known which one it
    /// is, whatever else may be wrong with it.
    #[inline]
    fn check(
        &mut self,
        arrival: &Arrival<'_>,
        plan: &Plan,
        flows: &mut Flows,
    ) -> Result<(), Mismatch> {
        let outer = arrival.outer;
        let is_reflected = plan.options.reflected;
        let opened = if is_reflected {
            let packet = arrival.frame.get(arrival.l2_len..).unwrap_or_default();
            let packet = packet.get(..outer.len).unwrap_or(packet);
            Opened::ipip(outer.version, packet)
        } else {
            outer.check()?;
            outer.open()?
        };
        let (inner, shape) = self.inner(&opened)?;
        let unknown = || Mismatch::new(Kind::InnerUnknown, inner.len() as u64, 0_u8);
        let stamp = Stamp::read(shape, inner).ok_or_else(unknown)?;
        let filling = expected(&stamp, shape, plan).ok_or_else(unknown)?;
        // Compared before anything is counted, since the shape is borrowed.
        let difference = if shape.is(inner, &filling) {
            None
        } else {
            Some(difference_in(shape, &filling, inner))
        };
        let (len, part) = (shape.frame_len(), shape.part);
        let inner_len = shape.packet_len();
        let is_measured = self.count(&stamp, len, arrival);

        let is_to_a_server =
            arrival.destination == arrival.port_mac || self.has_further_mac(arrival.destination);
        check_link(arrival, is_to_a_server, plan)?;
        check_length(arrival)?;
        if opened.inner.len() != inner_len {
            let found = opened.inner.len() as u64;
            return Err(Mismatch::new(Kind::InnerLength, found, inner_len as u64));
        }
        if let Some(difference) = difference {
            return Err(difference);
        }
        if !is_reflected {
            self.check_tunnel(arrival, &opened, inner, plan)?;
        }
        if stamp.slot == FLOOD_SLOT {
            return Ok(());
        }
        match flows.get_mut(stamp.slot) {
            Some(entry) if entry.generation == stamp.generation => {
                self.check_flow(entry, &stamp, arrival, &opened, (part, is_measured))
            }
            _ => {
                self.counts.of_replaced += 1;
                Ok(())
            }
        }
    }

    /// Whether real servers, or routers to them, have this MAC address. Counts
    /// the frame.
    #[cold]
    fn has_further_mac(&mut self, destination: MacAddr) -> bool {
        let mut macs = self.further_macs.iter_mut();
        let found = macs.find(|(mac, _)| *mac == destination);
        found.is_some_and(|(_, count)| {
            *count += 1;
            true
        })
    }

    /// Checks what a director put around `inner`, and counts the tunnel.
    #[inline]
    fn check_tunnel(
        &mut self,
        arrival: &Arrival<'_>,
        opened: &Opened<'_>,
        inner: &[u8],
        plan: &Plan,
    ) -> Result<(), Mismatch> {
        let outer = arrival.outer;
        check_outer(outer, opened.version, inner, plan)?;
        let versions = versions_of(outer.version, opened.version);
        if let Some(count) = self
            .counts
            .tunnels
            .get_mut(opened.tunnel as usize)
            .and_then(|counts| counts.get_mut(versions))
        {
            *count += 1;
        }
        let place = usize::from(arrival.server);
        match self.servers.get_mut(place) {
            Some(server) => server.check(opened, outer, plan),
            None => Ok(()),
        }
    }

    /// The inner packet without what follows it, and its shape.
    #[inline]
    fn inner<'a>(&self, opened: &Opened<'a>) -> Result<(&'a [u8], &Shape), Mismatch> {
        let inner = opened.inner;
        let unknown = || Mismatch::new(Kind::InnerUnknown, inner.len() as u64, 0_u8);
        if IpVersion::of_packet(inner) != opened.version {
            return Err(unknown());
        }
        let len = inner_len(inner, opened.version).ok_or_else(unknown)?;
        let inner = inner.get(..len).unwrap_or(inner);
        let transport = transport_of(inner, opened.version).ok_or_else(unknown)?;
        let fragment_word = fragment_word(inner).ok_or_else(unknown)?;
        let shape = self
            .shapes
            .of(opened.version, transport)
            .iter()
            .find(|shape| shape.packet_len() == len && shape.fragment_word == fragment_word);
        shape.map(|shape| (inner, shape)).ok_or_else(unknown)
    }

    /// Counts a packet that is known to be ours. Returns whether it was made
    /// while it was measured.
    #[inline]
    fn count(&mut self, stamp: &Stamp, len: usize, arrival: &Arrival<'_>) -> bool {
        let is_measured = self.measured_from.is_some_and(|from| {
            let since = stamp.time.wrapping_sub(from) & TIME_MASK;
            since <= TIME_MASK / 2
        });
        if stamp.slot == FLOOD_SLOT {
            self.counts.flood += u64::from(is_measured);
            return is_measured;
        }
        self.counts.packets += 1;
        if is_measured {
            self.counts.measured += 1;
            self.counts.measured_bytes += len as u64;
            let latency = arrival.now.wrapping_sub(stamp.time) & TIME_MASK;
            self.latency.saturating_record(latency);
            if let Some(server) = self.servers.get_mut(usize::from(arrival.server)) {
                server.packets += 1;
            }
        }
        is_measured
    }

    #[inline]
    fn check_flow(
        &mut self,
        entry: &mut FlowEntry,
        stamp: &Stamp,
        arrival: &Arrival<'_>,
        opened: &Opened<'_>,
        (part, is_measured): (Part, bool),
    ) -> Result<(), Mismatch> {
        if entry.is_fresh()
            && let Some(server) = self.servers.get_mut(usize::from(arrival.server))
        {
            server.flows += 1;
        }
        let moved = entry.came_by(arrival.server);
        if !matches!(part, Part::Later(_)) {
            let order = entry.came(stamp.sequence);
            let is_counted = is_measured && matches!(order, Order::Next | Order::Late);
            self.histories.came(stamp.slot, arrival.server, is_counted);
            match order {
                Order::Next => {}
                Order::Late => self.counts.late += 1,
                Order::Duplicate => {
                    self.counts.duplicates += 1;
                    self.counts.measured_duplicates += u64::from(is_measured);
                }
                Order::NeverSent => {
                    return Err(Mismatch::new(Kind::NeverSent, stamp.sequence, entry.sent));
                }
            }
        }
        if let Err(before) = moved {
            self.check_move(before, stamp, arrival)?;
        }
        if part == Part::Whole
            && let Some(source_port) = opened.source_port
        {
            entry
                .came_from(source_port)
                .map_err(|before| Mismatch::new(Kind::GueSourcePort, source_port, before))?;
        }
        Ok(())
    }

    /// A flow is with another real server than `before`.
    #[cold]
    fn check_move(
        &mut self,
        before: u16,
        stamp: &Stamp,
        arrival: &Arrival<'_>,
    ) -> Result<(), Mismatch> {
        let is_allowed = self.histories.moved(Move {
            slot: stamp.slot,
            generation: stamp.generation,
            sequence: stamp.sequence,
            from: before,
            to: arrival.server,
            time: stamp.time,
        });
        if is_allowed {
            Ok(())
        } else {
            Err(Mismatch::new(Kind::FlowMoved, arrival.server, before))
        }
    }
}

impl ServerState {
    /// Checks what is the same for all packets to a real server.
    #[inline]
    fn check(
        &mut self,
        opened: &Opened<'_>,
        outer: &Outer<'_>,
        plan: &Plan,
    ) -> Result<(), Mismatch> {
        let tunnel = *self.tunnel.get_or_insert(opened.tunnel);
        let expected = plan.options.tunnel.unwrap_or(tunnel);
        if opened.tunnel != expected {
            let (found, expected) = (opened.tunnel as u8, expected as u8);
            return Err(Mismatch::new(Kind::TunnelKind, found, expected));
        }
        match plan.options.outer_sources {
            Some(network) if network.contains(&outer.source) => {}
            Some(network) => {
                return Err(Mismatch::new(
                    Kind::OuterSource,
                    low_bits(outer.source),
                    low_bits(network.addr()),
                ));
            }
            None => {
                let source = *self.source.get_or_insert(outer.source);
                if source != outer.source {
                    return Err(Mismatch::new(
                        Kind::OuterSource,
                        low_bits(outer.source),
                        low_bits(source),
                    ));
                }
            }
        }
        if outer.version == IpVersion::V4 && !outer.dont_fragment {
            self.check_id(outer.id)?;
        }
        Ok(())
    }

    /// Packets that may be fragmented need identifications that change. Two
    /// workers may come up with the same one, but not again and again.
    #[inline]
    fn check_id(&mut self, id: u16) -> Result<(), Mismatch> {
        self.same_ids = if self.last_id == id {
            self.same_ids.saturating_add(1)
        } else {
            0
        };
        self.last_id = id;
        if self.same_ids >= SAME_IDS_MAX {
            self.same_ids = 0;
            return Err(Mismatch::new(Kind::OuterId, id, id.wrapping_add(1)));
        }
        Ok(())
    }
}

/// The packet that a stamp says it is.
#[inline]
fn expected<'p>(stamp: &Stamp, shape: &Shape, plan: &'p Plan) -> Option<Filling<'p>> {
    let (flow, flags) = if stamp.slot == FLOOD_SLOT {
        (plan.flood(stamp.generation)?, TcpFlags::SYN)
    } else if stamp.slot < plan.options.flows {
        let flow = plan.flow(stamp.slot, stamp.generation)?;
        (flow, plan.segment(stamp.sequence).0)
    } else {
        return None;
    };
    let is_right =
        flow.service.version == shape.version && flow.service.transport == shape.transport;
    is_right.then(|| Filling {
        flow,
        stamp: *stamp,
        flags,
        identification: plan.identification(shape.version, stamp.slot, stamp.sequence),
    })
}

/// What differs between a packet and the one that it should be.
#[cold]
fn difference_in(shape: &Shape, filling: &Filling<'_>, inner: &[u8]) -> Mismatch {
    let head = shape.head(filling);
    let head = head.as_ref().map(Head::bytes).unwrap_or_default();
    let (front, body) = inner.split_at_checked(head.len()).unwrap_or((inner, &[]));
    if front == head {
        difference(Kind::InnerPayload, body, shape.body())
    } else {
        difference_in_head(shape, front, head)
    }
}

/// What differs in the front of a packet. A TTL that was not decremented comes
/// with another checksum; then it is the TTL that is named.
#[cold]
fn difference_in_head(shape: &Shape, found: &[u8], expected: &[u8]) -> Mismatch {
    let (ttl, addresses, end) = match shape.version {
        IpVersion::V4 => (8, 12, 20),
        IpVersion::V6 => (7, 8, expected.len().min(40)),
    };
    let part = |bytes: &[u8], from: usize, to: usize| -> Vec<u8> {
        bytes
            .get(from..to.min(bytes.len()))
            .unwrap_or_default()
            .to_vec()
    };
    let l4 = match (shape.version, shape.part) {
        (IpVersion::V6, Part::First | Part::Later(_)) => end + ipv6::FRAGMENT_HEADER_LEN,
        _ => end,
    };
    // In IPv4 the checksum stands between TTL and addresses.
    let places = [
        (Kind::InnerTtl, ttl, ttl + 1),
        (Kind::InnerHeader, 0, ttl),
        (Kind::InnerHeader, ttl + 1, addresses.min(10)),
        (Kind::InnerAddresses, addresses, end),
        (Kind::InnerChecksum, 10, addresses.max(10)),
        (Kind::InnerHeader, end, l4),
        (Kind::InnerPorts, l4, l4 + 4),
    ];
    for (kind, from, to) in places {
        // A later fragment has no ports.
        let kind = match (kind, shape.part) {
            (Kind::InnerPorts, Part::Later(_)) => Kind::InnerL4,
            _ => kind,
        };
        let (found, expected) = (part(found, from, to), part(expected, from, to));
        if from < to && found != expected {
            return difference(kind, &found, &expected);
        }
    }
    difference(Kind::InnerL4, found, expected)
}

/// Names the first byte that differs.
#[cold]
fn difference(kind: Kind, found: &[u8], expected: &[u8]) -> Mismatch {
    let mut pairs = found.iter().zip(expected);
    let differing = pairs.find(|(found, expected)| found != expected);
    match differing {
        Some((found, expected)) => Mismatch::new(kind, *found, *expected),
        None => Mismatch::new(kind, found.len() as u64, expected.len() as u64),
    }
}

#[inline]
fn check_link(arrival: &Arrival<'_>, is_to_a_server: bool, plan: &Plan) -> Result<(), Mismatch> {
    if !arrival.is_servers_port {
        return Err(Mismatch::new(Kind::WrongPort, 0_u8, 1_u8));
    }
    if !is_to_a_server {
        return Err(Mismatch::new(
            Kind::DestinationMac,
            mac_bits(arrival.destination),
            mac_bits(arrival.port_mac),
        ));
    }
    if let Some(director) = arrival.director_mac
        && arrival.source != director
    {
        return Err(Mismatch::new(
            Kind::SourceMac,
            mac_bits(arrival.source),
            mac_bits(director),
        ));
    }
    let tag = match arrival.frame {
        [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0x81,
            0x00,
            high,
            low,
            ..,
        ] => u16::from_be_bytes([*high, *low]) & 0x0fff,
        _ => 0,
    };
    let expected = plan.options.vlan.unwrap_or(0);
    if tag != expected {
        return Err(Mismatch::new(Kind::VlanTag, tag, expected));
    }
    Ok(())
}

/// Nothing may follow the outer packet but the padding of a short frame.
#[inline]
fn check_length(arrival: &Arrival<'_>) -> Result<(), Mismatch> {
    let len = arrival.l2_len + arrival.outer.len;
    let found = arrival.frame.len();
    if found == len || found <= usize::from(super::size::FRAME_LEN_MIN) {
        Ok(())
    } else {
        Err(Mismatch::new(Kind::FrameLength, found as u64, len as u64))
    }
}

#[inline]
fn check_outer(
    outer: &Outer<'_>,
    version: IpVersion,
    inner: &[u8],
    plan: &Plan,
) -> Result<(), Mismatch> {
    let (ttl, tos, inner_df) = match (version, inner) {
        (IpVersion::V4, [_, tos, _, _, _, _, flags, _, ttl, ..]) => (*ttl, *tos, flags & 0x40 != 0),
        (IpVersion::V6, [first, second, _, _, _, _, _, hop_limit, ..]) => {
            (*hop_limit, first << 4 | second >> 4, false)
        }
        _ => (0, 0, false),
    };
    if outer.ttl != ttl {
        return Err(Mismatch::new(Kind::OuterTtl, outer.ttl, ttl));
    }
    // "Congestion experienced" goes out as "ECN-capable", as Linux has it.
    let tos = if tos & 3 == 3 { tos ^ 1 } else { tos };
    if outer.tos != tos {
        return Err(Mismatch::new(Kind::OuterTos, outer.tos, tos));
    }
    if outer.version == IpVersion::V6 {
        return Ok(());
    }
    let dont_fragment = inner_df && plan.options.outer_df == ExpectedDf::Copied;
    if outer.dont_fragment != dont_fragment {
        return Err(Mismatch::new(
            Kind::OuterDf,
            outer.dont_fragment,
            dont_fragment,
        ));
    }
    if outer.dont_fragment && outer.id != 0 {
        return Err(Mismatch::new(Kind::OuterId, outer.id, 0_u8));
    }
    Ok(())
}

/// Length of the inner packet as its header says, when there are so many bytes.
#[inline]
fn inner_len(inner: &[u8], version: IpVersion) -> Option<usize> {
    let len = match (version, inner) {
        (IpVersion::V4, [_, _, high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
        (IpVersion::V6, [_, _, _, _, high, low, ..]) => {
            40 + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => return None,
    };
    (len <= inner.len()).then_some(len)
}

#[inline]
fn transport_of(inner: &[u8], version: IpVersion) -> Option<Transport> {
    let protocol = match version {
        IpVersion::V4 => *inner.get(9)?,
        IpVersion::V6 => match *inner.get(6)? {
            next if next == ipv6::FRAGMENT.0 => *inner.get(40)?,
            next => next,
        },
    };
    match IpProtocol(protocol) {
        IpProtocol::TCP => Some(Transport::Tcp),
        IpProtocol::UDP => Some(Transport::Udp),
        _ => None,
    }
}

/// Names of pairs of inner and outer version, by number.
pub(super) const VERSIONS: [&str; 4] = ["4in4", "6in4", "4in6", "6in6"];

#[inline]
const fn versions_of(outer: IpVersion, inner: IpVersion) -> usize {
    let outer = match outer {
        IpVersion::V4 => 0,
        IpVersion::V6 => 2,
    };
    outer
        + match inner {
            IpVersion::V4 => 0,
            IpVersion::V6 => 1,
        }
}

fn mac_bits(mac: MacAddr) -> u64 {
    mac.0
        .iter()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// The last 32 bits, for a report.
fn low_bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            u32::from_be_bytes([a, b, c, d])
        }
    }
}

/// Latencies are told apart to one part in a hundred.
const LATENCY_DIGITS: u8 = 2;
/// How often the same identification may come in a row.
const SAME_IDS_MAX: u8 = 3;
