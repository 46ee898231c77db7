//! What a run sends and expects: checked once, and the same for whoever makes
//! packets and whoever checks them.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    address::{AddressRange, REAL_SERVERS_MAX, RealServers},
    outer::Tunnel,
    service::{SERVICES_MAX, Service, ServiceRange, Transport},
    size::SizeMix,
};
use crate::wire::{IpVersion, ethernet::MacAddr, tcp::TcpFlags};

/// Flows that a run can have. Each takes 16 bytes.
pub const FLOWS_MAX: u32 = 100_000_000;
/// Parts that a datagram can be sent in.
pub const FRAGMENTS_MAX: u8 = 8;
/// Flows that one client address can have at a time.
pub const FLOWS_PER_CLIENT: u64 = 1 << CLIENT_PORT_BITS;
/// Real servers whose tunnel has headers between outer and inner packet are
/// sent to at this UDP port, unless told otherwise (Linux, `ipvsadm`).
pub const GUE_PORT_DEFAULT: u16 = 6080;

/// What TCP flows consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpTraffic {
    /// A SYN first, then data for good.
    Established,
    /// SYN, ACK, some segments with data and a FIN; then a new flow takes the
    /// place of this one.
    Connections {
        /// Segments with data between ACK and FIN.
        data_segments: u32,
    },
    /// Data from the first packet on, without a SYN. Needs a director with
    /// `sloppy_tcp`.
    Ack,
}

/// Datagrams that are sent in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmentation {
    /// Of a hundred UDP datagrams so many, at random.
    pub percent: u8,
    /// In how many parts: 2 to [`FRAGMENTS_MAX`].
    pub parts: u8,
    /// The last part first.
    pub reversed: bool,
}

/// The DF flag that the outer IPv4 header of an IPv4 packet has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedDf {
    /// That of the inner header (`pmtu_disc` 1).
    Copied,
    /// None (`pmtu_disc` 0).
    Clear,
}

/// What the user wants, before it is checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where traffic goes.
    pub services: Vec<ServiceRange>,
    /// Real servers that pktgen stands for.
    pub servers: Vec<AddressRange>,
    /// Addresses that IPv4 traffic comes from.
    pub clients_v4: Ipv4Net,
    /// Addresses that IPv6 traffic comes from.
    pub clients_v6: Ipv6Net,
    /// Flows at a time.
    pub flows: u32,
    /// What TCP flows consist of.
    pub tcp: TcpTraffic,
    /// A flow gives way to a new one after so many packets.
    pub packets_per_flow: Option<u32>,
    /// Lengths of frames with data.
    pub sizes: SizeMix,
    /// Datagrams in parts.
    pub fragmentation: Option<Fragmentation>,
    /// Whether IPv4 packets that are no fragments have DF set.
    pub dont_fragment: bool,
    /// TTL or hop limit of what is sent.
    pub ttl: u8,
    /// DSCP and ECN of what is sent.
    pub tos: u8,
    /// Tag of all frames.
    pub vlan: Option<u16>,
    /// What the random order begins from.
    pub seed: u64,
    /// Packets a second; as many as possible when `None`. The flood comes on
    /// top.
    pub rate: Option<u64>,
    /// Flows replaced by new ones a second.
    pub new_flows: u64,
    /// SYNs of ever new clients a second.
    pub syn_flood: u64,
    /// How many packets may be on their way; any number when `None`.
    pub window: Option<u32>,
    /// Ends the run after so many packets.
    pub count: Option<u64>,
    /// Ends the run after this time.
    pub duration: Duration,
    /// How long it runs before anything counts.
    pub warm_up: Duration,
    /// How long it waits at most for what is still on its way at the end.
    pub drain: Duration,
    /// Which tunnel is right; when `None` any, but the same for all packets to
    /// a real server.
    pub tunnel: Option<Tunnel>,
    /// Destination port of GUE.
    pub gue_l4_port: u16,
    /// Where outer source addresses must be from; one for each real server
    /// when `None`.
    pub outer_sources: Option<IpNet>,
    /// The outer DF flag.
    pub outer_df: ExpectedDf,
    /// Whether frames come back as they were sent but for their MAC addresses,
    /// which changed places: from a forwarder that does nothing else, as a floor
    /// for what a director does. Then nothing of tunnels is looked at.
    pub reflected: bool,
    /// Lost packets of a hundred above which the run has failed.
    pub loss_max_percent: f64,
    /// Real servers whose flows may go on with another one.
    pub may_move: Vec<AddressRange>,
    /// Real servers whose flows may lose packets.
    pub may_lose: Vec<AddressRange>,
    /// Whether packets are counted by flow: 12 bytes more for each.
    pub per_flow: bool,
    /// MAC addresses that frames to real servers may have beside the port's.
    pub server_macs: Vec<MacAddr>,
}

/// Why a run cannot be as it is wanted.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to send to.
    #[error("there is no service; add --service VIP:PORT")]
    NoService,
    /// Too much to send to.
    #[error("{count} services are more than {SERVICES_MAX}; make the ranges of --service smaller")]
    TooManyServices {
        /// How many there are.
        count: u64,
    },
    /// Nobody to receive.
    #[error("there is no real server; add --server RIP")]
    NoServer,
    /// Servers that overlap, or too many.
    #[error(
        "real servers {0} overlap others, or are too many; there can be {REAL_SERVERS_MAX}, each \
         named once"
    )]
    Servers(AddressRange),
    /// A number of flows out of range.
    #[error("there can be 1 to {FLOWS_MAX} flows, not {0}")]
    Flows(u32),
    /// Too few client addresses.
    #[error(
        "{flows} flows need more than the {clients} addresses of {network}, as each has \
         {FLOWS_PER_CLIENT} flows at most; give --clients a larger network"
    )]
    TooFewClients {
        /// Flows wanted.
        flows: u32,
        /// Addresses there are.
        clients: u64,
        /// The network of the clients.
        network: IpNet,
    },
    /// A flood of TCP without a TCP service.
    #[error("--syn-flood needs a service of TCP, and there is none")]
    FloodWithoutTcp,
    /// Fragments without a UDP service.
    #[error("--fragments needs a service of UDP, and there is none; add --service VIP:PORT/udp")]
    FragmentsWithoutUdp,
    /// Parts out of range.
    #[error("a datagram can be sent in 2 to {FRAGMENTS_MAX} parts, not {0}")]
    FragmentParts(u8),
    /// A datagram longer than IP allows.
    #[error(
        "{parts} fragments in frames of {len} bytes make a datagram longer than 65515 bytes; use \
         fewer parts or shorter frames"
    )]
    DatagramTooLong {
        /// In how many parts.
        parts: u8,
        /// Length of their frames.
        len: u16,
    },
    /// A share above a hundred.
    #[error("a share of {0} percent is more than all; write 0 to 100")]
    Percent(u8),
    /// A TTL that the director must not pass on.
    #[error("packets with TTL {0} do not pass a director; write 2 or more")]
    Ttl(u8),
    /// A tag that no network has.
    #[error("{0} is no VLAN; write 1 to 4094")]
    Vlan(u16),
    /// Flows of no packets.
    #[error("a flow has one packet at least, not {0}")]
    PacketsPerFlow(u32),
    /// Two ways to end a flow.
    #[error("--packets-per-flow does not go with --tcp connections, which end by themselves")]
    TwoEnds,
    /// Nothing is sent.
    #[error("--rate 0 sends nothing; leave it out for as much as possible")]
    NoRate,
    /// An exception for servers that there are not.
    #[error("{0} is to be treated apart, but not all of it is among the real servers (--server)")]
    NotAServer(AddressRange),
    /// Losses by flow, of flows that are replaced.
    #[error(
        "packets are counted by flow (--per-flow, --may-lose) when flows last; leave out --tcp \
         connections, --packets-per-flow and --new-flows"
    )]
    PerFlow,
    /// Losses by flow, of packets that are not counted by flow.
    #[error(
        "fragments are not counted by flow, so that --may-lose does not go with --fragments; leave \
         out one of them"
    )]
    MayLoseFragments,
    /// A loss that cannot be.
    #[error("--loss-max is a percentage from 0 to 100, not {0}")]
    LossMax(f64),
}

/// A run that can be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was wanted.
    pub options: Options,
    /// All services; a flow's is that at its slot modulo their number.
    pub services: Vec<Service>,
    /// Those of TCP, which a flood goes to.
    pub(super) tcp_services: Vec<Service>,
    /// The real servers.
    pub servers: RealServers,
    /// Packets of a flow, when it ends.
    pub(super) packets_per_flow: Option<u32>,
    clients_v4: Clients,
    clients_v6: Clients,
    services_modulo: Modulo,
}

/// The client's side of a flow, and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowAddresses<'a> {
    /// The last four bytes of the client's address. Those before are the same
    /// for all.
    pub(super) client_low: u32,
    /// The client's port.
    pub(super) l4_port: u16,
    /// Where it goes.
    pub(super) service: &'a Service,
}

impl Plan {
    /// Checks what is wanted.
    ///
    /// # Errors
    /// What cannot be, and what to write instead.
    pub fn new(options: Options) -> Result<Self, PlanError> {
        check_numbers(&options)?;
        let servers = servers_of(&options)?;
        check_exceptions(&options, &servers)?;
        let services = services_of(&options)?;
        let has = |transport| {
            services
                .iter()
                .any(|service| service.transport == transport)
        };
        if options.syn_flood > 0 && !has(Transport::Tcp) {
            return Err(PlanError::FloodWithoutTcp);
        }
        if options.fragmentation.is_some() && !has(Transport::Udp) {
            return Err(PlanError::FragmentsWithoutUdp);
        }
        let clients_v4 = Clients::of(options.clients_v4.into());
        let clients_v6 = Clients::of(options.clients_v6.into());
        for (version, clients, network) in [
            (IpVersion::V4, &clients_v4, options.clients_v4.into()),
            (IpVersion::V6, &clients_v6, options.clients_v6.into()),
        ] {
            let is_used = services.iter().any(|service| service.version == version);
            if is_used && u64::from(options.flows) > clients.len() * FLOWS_PER_CLIENT {
                return Err(PlanError::TooFewClients {
                    flows: options.flows,
                    clients: clients.len(),
                    network,
                });
            }
        }
        let is_tcp = |service: &&Service| service.transport == Transport::Tcp;
        Ok(Self {
            tcp_services: services.iter().filter(is_tcp).copied().collect(),
            packets_per_flow: match options.tcp {
                TcpTraffic::Connections { data_segments } => Some(data_segments.saturating_add(3)),
                _ => options.packets_per_flow,
            },
            services_modulo: Modulo::of(services.len()),
            services,
            servers,
            clients_v4,
            clients_v6,
            options,
        })
    }

    /// Addresses and ports of the flow that has had the place `slot` after
    /// `generation` others.
    ///
    /// The number of a flow, counted over all slots and generations, gives
    /// client address and port: its lowest bits the address, those above the
    /// port. So no two flows that live at the same time have both in common
    /// until the numbers have gone round.
    #[inline]
    pub(super) fn flow(&self, slot: u32, generation: u32) -> Option<FlowAddresses<'_>> {
        let number =
            u64::from(slot).wrapping_add(u64::from(generation) * u64::from(self.options.flows));
        let service = self.services.get(self.services_modulo.apply(slot))?;
        let clients = self.clients(service.version);
        Some(FlowAddresses {
            client_low: clients.address(number),
            l4_port: CLIENT_PORT_MIN
                + (clients.port_bits(number) & (u16::MAX >> (16 - CLIENT_PORT_BITS))),
            service,
        })
    }

    /// Client and service of a flow, for a report.
    pub(super) fn ends(&self, slot: u32, generation: u32) -> Option<(SocketAddr, Service)> {
        let flow = self.flow(slot, generation)?;
        let client: IpAddr = match self.client_base(flow.service.version) {
            IpAddr::V4(_) => Ipv4Addr::from_bits(flow.client_low).into(),
            IpAddr::V6(base) => {
                Ipv6Addr::from_bits(base.to_bits() >> 32 << 32 | u128::from(flow.client_low)).into()
            }
        };
        Some(((client, flow.l4_port).into(), *flow.service))
    }

    /// Addresses and ports of the SYN with this number in a flood. Its ports
    /// are none that a flow has.
    #[inline]
    pub(super) fn flood(&self, number: u32) -> Option<FlowAddresses<'_>> {
        let len = u32::try_from(self.tcp_services.len()).ok()?;
        let place = usize::try_from(number.checked_rem(len)?).ok()?;
        let service = self.tcp_services.get(place)?;
        let clients = self.clients(service.version);
        let bits = clients.port_bits(u64::from(number)) & (u16::MAX >> (16 - FLOOD_PORT_BITS));
        Some(FlowAddresses {
            client_low: clients.address(u64::from(number)),
            l4_port: FLOOD_PORT_MIN + bits,
            service,
        })
    }

    /// What part of a flow's address all clients have in common: the address of
    /// the first client.
    pub(super) fn client_base(&self, version: IpVersion) -> IpAddr {
        match version {
            IpVersion::V4 => self.options.clients_v4.network().into(),
            IpVersion::V6 => self.options.clients_v6.network().into(),
        }
    }

    /// The control bits of the TCP segment with this place in its flow, and
    /// whether it has data of the lengths that were asked for.
    #[inline]
    pub(super) const fn segment(&self, sequence: u32) -> (TcpFlags, bool) {
        match self.options.tcp {
            TcpTraffic::Ack => (TcpFlags::ACK, true),
            TcpTraffic::Established if sequence == 0 => (TcpFlags::SYN, false),
            TcpTraffic::Established => (DATA, true),
            TcpTraffic::Connections { data_segments } => match sequence {
                0 => (TcpFlags::SYN, false),
                1 => (TcpFlags::ACK, false),
                _ if sequence - 2 < data_segments => (DATA, true),
                _ => (FIN, false),
            },
        }
    }

    /// Whether flows last, so that each can send its first packet before
    /// anything counts.
    pub const fn has_lasting_flows(&self) -> bool {
        self.packets_per_flow.is_none()
    }

    /// How many packets of each lasting flow are sent before anything counts.
    /// Of TCP two, as a connection that has seen a SYN only is not established.
    pub(super) fn opening_rounds(&self) -> u32 {
        let begins_with_syn = self.options.tcp == TcpTraffic::Established;
        if begins_with_syn && !self.tcp_services.is_empty() {
            2
        } else {
            1
        }
    }

    /// Identification of an IP packet that may come in fragments: among those
    /// of a client address each has its own, for as long as there are enough.
    #[inline]
    pub(super) fn identification(&self, version: IpVersion, slot: u32, sequence: u32) -> u32 {
        let clients = self.clients(version);
        let flows_each = (self.options.flows >> clients.bits) + 1;
        let which = slot >> clients.bits;
        sequence.wrapping_mul(flows_each).wrapping_add(which)
    }

    #[inline]
    const fn clients(&self, version: IpVersion) -> &Clients {
        match version {
            IpVersion::V4 => &self.clients_v4,
            IpVersion::V6 => &self.clients_v6,
        }
    }

    /// Length of the Ethernet header with its tag.
    pub const fn l2_len(&self) -> usize {
        match self.options.vlan {
            Some(_) => 18,
            None => 14,
        }
    }
}

/// The network of the clients. At most 24 bits of their addresses differ.
#[derive(Clone, Copy, Debug)]
struct Clients {
    base_low: u32,
    bits: u32,
}

impl Clients {
    fn of(network: IpNet) -> Self {
        let host_bits = u32::from(network.max_prefix_len() - network.prefix_len());
        let base_low = match network.network() {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => {
                let [.., a, b, c, d] = address.octets();
                u32::from_be_bytes([a, b, c, d])
            }
        };
        Self {
            base_low,
            bits: host_bits.min(CLIENT_BITS_MAX),
        }
    }

    const fn len(self) -> u64 {
        1 << self.bits
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 24 bits")]
    const fn address(self, number: u64) -> u32 {
        self.base_low | (number & ((1 << self.bits) - 1)) as u32
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the bits above go round")]
    const fn port_bits(self, number: u64) -> u16 {
        (number >> self.bits) as u16
    }
}

/// Remainders by a divisor that does not change, without a division (Lemire,
/// Kaser, Kurz: "Faster remainder by direct computation", 2019).
#[derive(Clone, Copy, Debug)]
struct Modulo {
    divisor: u32,
    magic: u64,
}

impl Modulo {
    /// `divisor` is 1 to [`SERVICES_MAX`].
    fn of(divisor: usize) -> Self {
        let divisor = u32::try_from(divisor).unwrap_or(u32::MAX).max(1);
        Self {
            divisor,
            magic: (u64::MAX / u64::from(divisor)).wrapping_add(1),
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "less than the divisor")]
    const fn apply(&self, number: u32) -> usize {
        let low = self.magic.wrapping_mul(number as u64);
        ((low as u128 * self.divisor as u128) >> 64) as usize
    }
}

fn check_numbers(options: &Options) -> Result<(), PlanError> {
    if !(1..=FLOWS_MAX).contains(&options.flows) {
        return Err(PlanError::Flows(options.flows));
    }
    if options.ttl < 2 {
        return Err(PlanError::Ttl(options.ttl));
    }
    if let Some(vlan) = options.vlan
        && !(1..=crate::wire::vlan::VID_MAX).contains(&vlan)
    {
        return Err(PlanError::Vlan(vlan));
    }
    if options.rate == Some(0) {
        return Err(PlanError::NoRate);
    }
    if !(0.0..=100.0).contains(&options.loss_max_percent) {
        return Err(PlanError::LossMax(options.loss_max_percent));
    }
    match options.packets_per_flow {
        Some(0) => return Err(PlanError::PacketsPerFlow(0)),
        Some(_) if matches!(options.tcp, TcpTraffic::Connections { .. }) => {
            return Err(PlanError::TwoEnds);
        }
        _ => {}
    }
    let Some(Fragmentation { percent, parts, .. }) = options.fragmentation else {
        return Ok(());
    };
    if percent > 100 {
        return Err(PlanError::Percent(percent));
    }
    if !(2..=FRAGMENTS_MAX).contains(&parts) {
        return Err(PlanError::FragmentParts(parts));
    }
    let too_long = |len: &&u16| u32::from(**len) * u32::from(parts) > 65_515;
    match options.sizes.lens().iter().find(too_long) {
        Some(&len) => Err(PlanError::DatagramTooLong { parts, len }),
        None => Ok(()),
    }
}

fn servers_of(options: &Options) -> Result<RealServers, PlanError> {
    let mut servers = RealServers::default();
    for range in &options.servers {
        servers.add(*range).map_err(PlanError::Servers)?;
    }
    if servers.is_empty() && !options.reflected {
        return Err(PlanError::NoServer);
    }
    Ok(servers)
}

/// What is said of single real servers and flows goes with the rest.
fn check_exceptions(options: &Options, servers: &RealServers) -> Result<(), PlanError> {
    let has = |range: &AddressRange| {
        let len = range.len().min(u64::from(REAL_SERVERS_MAX) + 1);
        let mut addresses = (0..len).filter_map(|place| range.nth(place));
        addresses.all(|address| servers.index_of(address).is_some())
    };
    let mut ranges = options.may_move.iter().chain(&options.may_lose);
    if let Some(range) = ranges.find(|range| !has(range)) {
        return Err(PlanError::NotAServer(*range));
    }
    let is_replaced = options.packets_per_flow.is_some()
        || options.new_flows > 0
        || matches!(options.tcp, TcpTraffic::Connections { .. });
    if is_replaced && (options.per_flow || !options.may_lose.is_empty()) {
        return Err(PlanError::PerFlow);
    }
    if options.fragmentation.is_some() && !options.may_lose.is_empty() {
        return Err(PlanError::MayLoseFragments);
    }
    Ok(())
}

fn services_of(options: &Options) -> Result<Vec<Service>, PlanError> {
    let count = options
        .services
        .iter()
        .fold(0_u64, |count, range| count.saturating_add(range.len()));
    match usize::try_from(count) {
        Ok(0) => Err(PlanError::NoService),
        Ok(1..=SERVICES_MAX) => Ok(options
            .services
            .iter()
            .flat_map(ServiceRange::services)
            .collect()),
        _ => Err(PlanError::TooManyServices { count }),
    }
}

const DATA: TcpFlags = TcpFlags::PSH.union(TcpFlags::ACK);
const FIN: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);
const CLIENT_BITS_MAX: u32 = 24;
const CLIENT_PORT_BITS: u32 = 15;
/// Flows have ports from here to 49151.
const CLIENT_PORT_MIN: u16 = 16_384;
const FLOOD_PORT_BITS: u32 = 14;
/// A flood has ports from here to 65535.
const FLOOD_PORT_MIN: u16 = 49_152;

#[cfg(test)]
pub(super) mod tests;
