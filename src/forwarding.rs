//! What the packet path needs to know to forward: one immutable generation.
//!
//! The management thread builds a [`ForwardingState`] from services, routes
//! and neighbors and sends it to every worker. Each real server has its outer
//! headers ready-made; a packet only patches lengths, TTL, TOS, identification
//! and checksum. Parts that did not change are shared between generations.
#![forbid(unsafe_code)]

mod local;
mod marks;
mod service_table;

use std::{
    net::IpAddr,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crossbeam::utils::CachePadded;
use hashbrown::HashSet;

pub use self::{local::LocalAddresses, marks::Marks, service_table::ServiceTable};

use crate::{
    connection::{StateTimeouts, Templates},
    io::PortIndex,
    scheduler::HashTable,
    service::{Protocol, ServiceKey, ServiceOptions, Tunables, TunnelKind},
    wire::{IpVersion, ethernet::MacAddr, ipv4, ipv6},
};

/// The most real servers there can be, the deleted ones that still have
/// connections included.
pub const SERVERS_MAX: usize = 131_072;

/// The most virtual services there can be.
pub const SERVICES_MAX: usize = 131_072;

/// The slot of a real server. A slot keeps its meaning as long as any worker
/// has a connection to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RealServerIndex(pub u32);

impl RealServerIndex {
    /// As an index into a slice of real servers.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// The slot of a virtual service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceIndex(pub u32);

impl ServiceIndex {
    /// As an index into a slice of services.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// One generation of everything the packet path reads.
#[derive(Clone, Debug)]
pub struct ForwardingState {
    /// Rises by one with each published state.
    pub generation: u64,
    /// By [`PortIndex`].
    pub ports: Arc<[PortForwarding]>,
    /// The director's own addresses and all VIPs.
    pub local: Arc<LocalAddresses>,
    /// Where GUE packets go: RIP and port of each real server behind such a
    /// tunnel, deleted ones included.
    pub gue_ends: Arc<HashSet<SocketAddr>>,
    /// Services by address.
    pub services: Arc<ServiceTable>,
    /// Slots whose service appeared, changed or went since the generation
    /// before.
    pub changed_services: Arc<[ServiceIndex]>,
    /// By [`RealServerIndex`].
    pub servers: Arc<[ServerForwarding]>,
    /// Connections per real server, shared by all generations and workers.
    pub loads: Arc<ServerLoads>,
    /// Real servers of the clients of persistent services, shared likewise.
    pub templates: Arc<Templates>,
    /// The kernel's settings.
    pub tunables: Tunables,
    /// How long connections live without a packet.
    pub timeouts: StateTimeouts,
}

impl ForwardingState {
    /// The real server in a slot.
    #[inline]
    pub fn server(&self, index: RealServerIndex) -> Option<&ServerForwarding> {
        self.servers.get(index.as_usize())
    }
}

/// What the packet path knows of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortForwarding {
    /// Frames for this station or for a group are looked at, no others.
    pub mac: MacAddr,
    /// The tag that frames carry: VLAN identifier, 1 to 4094.
    pub vlan: Option<u16>,
}

/// What a packet says about the service it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// VIP.
    pub vip: IpAddr,
    /// Service port.
    pub l4_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Control connections of FTP (RFC 959 section 8).
pub const FTP_PORT: u16 = 21;
/// From where FTP servers open data connections.
pub const FTP_DATA_PORT: u16 = 20;
/// From here on any program may listen.
const UNPRIVILEGED_PORT_MIN: u16 = 1024;

/// A virtual service as the packet path sees it.
#[derive(Clone, Debug)]
pub struct ServiceForwarding {
    /// What packets it gets.
    pub key: ServiceKey,
    /// How a real server is picked.
    pub options: ServiceOptions,
    /// The hashing schedulers' table.
    pub table: Option<Arc<HashTable>>,
    /// Its real servers, the one added last first.
    pub servers: Arc<[ServerLink]>,
    /// What happened to it since the generation before, oldest first:
    /// schedulers with a cursor must follow each step.
    pub edits: Arc<[ServiceEdit]>,
}

impl ServiceForwarding {
    /// Whether this is a service of FTP, and `l4_port` that of a data
    /// connection.
    pub const fn is_ftp_data(&self, l4_port: u16) -> bool {
        self.key.l4_port() == FTP_PORT && l4_port != FTP_PORT
    }
}

/// A real server in the list of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLink {
    /// Which server.
    pub server: RealServerIndex,
    /// Differs each time a server is put into a list, also when it is the
    /// same server that comes back.
    pub link: u64,
    /// The server's weight.
    pub weight: u32,
}

/// One step in the life of a service, as far as schedulers care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceEdit {
    /// The service was created or got another scheduler: it starts afresh.
    SchedulerSet(Weights),
    /// Other options than its scheduler changed, and nothing that a scheduler
    /// remembers.
    OptionsChanged,
    /// A server was added, deleted or edited; what the weights come to since.
    ListChanged(ListChange, Weights),
}

/// What happened to the list of a service's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListChange {
    /// This link was put at its head.
    Added(u64),
    /// This link was taken out.
    Deleted(u64),
    /// A server in it has other options.
    Edited,
}

/// What the weights in a service's list come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The largest, 0 in an empty list.
    pub max: u32,
    /// The greatest common divisor of those above 0; 1 when there is none.
    pub gcd: u32,
}

impl Weights {
    /// Of a list of servers.
    pub fn of(servers: impl IntoIterator<Item = u32>) -> Self {
        let (mut max, mut gcd) = (0, 0);
        for weight in servers {
            max = weight.max(max);
            gcd = greatest_common_divisor(gcd, weight);
        }
        Self {
            max,
            gcd: gcd.max(1),
        }
    }
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A real server as the packet path sees it: ready to be sent to.
///
/// What most packets need stands in the first cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct ServerForwarding {
    /// Ethernet header, VLAN tag if any, and outer IPv4 header, whose length,
    /// TOS, identification, flags, TTL and checksum are 0.
    pub header: [u8; OUTER_HEADER_LEN_MAX],
    /// The longest inner packet that can be sent without another look: 0 when
    /// the server is not listed, its path not resolved, or too narrow. See
    /// [`with_express_way`](Self::with_express_way).
    pub express_len_max: u16,
    /// Sum of the 16-bit words of the outer IPv4 header that are the same for
    /// each packet, not folded.
    pub checksum_seed: u32,
    /// Length of the Ethernet header (and VLAN tag) in `header`.
    pub l2_len: u8,
    /// The port that packets leave by.
    pub port: PortIndex,
    /// Whether packets are wrapped in IPIP over IPv4 with one source address.
    /// See [`with_express_way`](Self::with_express_way).
    pub is_plain: bool,
    /// Whether the port fills in the outer header's checksum.
    pub offload_checksum: bool,
    /// Whether the server is in use.
    pub presence: Presence,
    /// How packets get to it.
    pub path: Path,
    /// Whether its weight is 0.
    pub quiesced: bool,
    /// Whether `mtu` is what ICMP errors said of the path, and less than what
    /// its route says.
    pub mtu_is_learned: bool,
    /// The largest outer packet, in bytes.
    pub mtu: u16,
    /// The bits of the last two bytes of the outer source address that each
    /// flow sets in its own way, 0 in the ready-made header. None when all
    /// packets have the same source.
    pub source_mask: u16,
    /// What packets are wrapped in.
    pub tunnel: TunnelKind,
    /// The IP version of the outer header: that of the server's address.
    pub version: IpVersion,
    /// The outer header when it is one of IPv6; payload length, traffic class
    /// and hop limit are 0.
    pub header_v6: [u8; ipv6::HEADER_LEN],
}

/// Ethernet, one VLAN tag and an IPv4 header.
pub const OUTER_HEADER_LEN_MAX: usize = 14 + 4 + 20;

impl ServerForwarding {
    /// An empty slot.
    pub const FREE: Self = Self {
        presence: Presence::Free,
        path: Path::Unreachable,
        quiesced: false,
        mtu_is_learned: false,
        offload_checksum: false,
        port: PortIndex(0),
        l2_len: 0,
        mtu: 0,
        source_mask: 0,
        tunnel: TunnelKind::Ipip,
        version: IpVersion::V4,
        checksum_seed: 0,
        express_len_max: 0,
        is_plain: false,
        header: [0; OUTER_HEADER_LEN_MAX],
        header_v6: [0; ipv6::HEADER_LEN],
    };

    /// With `express_len_max` and `is_plain` as they follow from the rest.
    #[must_use]
    pub fn with_express_way(self) -> Self {
        let is_open = self.presence == Presence::Listed
            && self.path == Path::Resolved
            && !self.is_too_narrow();
        Self {
            express_len_max: if is_open { self.inner_len_max() } else { 0 },
            is_plain: self.tunnel == TunnelKind::Ipip
                && self.version == IpVersion::V4
                && self.source_mask == 0,
            ..self
        }
    }

    /// The largest inner packet that fits into the tunnel, in bytes.
    #[inline]
    pub const fn inner_len_max(&self) -> u16 {
        self.tunnel.inner_len_max(self.version, self.mtu)
    }

    /// The longest inner packet of a version that its sender need not be told
    /// of. It may be longer than what fits into the tunnel: on a path that was
    /// found to be so narrow, the outer packets of IPv6 packets which any link
    /// carries are fragmented (RFC 2473 section 7.1).
    #[inline]
    pub fn accepted_len_max(&self, inner: IpVersion) -> u16 {
        match inner {
            IpVersion::V6 if self.mtu_is_learned => self.inner_len_max().max(ipv6::MTU_MIN),
            _ => self.inner_len_max(),
        }
    }

    /// Whether less fits into the tunnel than Linux IPVS sends through one.
    #[inline]
    pub const fn is_too_narrow(&self) -> bool {
        !self.mtu_is_learned && self.inner_len_max() < self.inner_len_min()
    }

    /// The least that must fit into the tunnel, as Linux IPVS has it: what
    /// every link of the outer IP version carries.
    #[inline]
    const fn inner_len_min(&self) -> u16 {
        match self.version {
            IpVersion::V4 => ipv4::MTU_MIN,
            IpVersion::V6 => ipv6::MTU_MIN,
        }
    }
}

/// Whether a real server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Presence {
    /// The slot holds no server.
    Free,
    /// In a service's list.
    Listed,
    /// Deleted, but connections to it are left; it may come back.
    Deleted,
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Path {
    /// The outer headers are complete.
    Resolved,
    /// The next hop's MAC address is missing.
    Unresolved,
    /// There is no route, or one that says so.
    Unreachable,
    /// The address is the director's own.
    Local,
}

/// How many connections each real server has, over all workers.
///
/// Touched only when a connection begins, ends or changes between active and
/// inactive; each server has a cache line of its own.
#[derive(Debug)]
pub struct ServerLoads {
    slots: Box<[CachePadded<ServerLoad>]>,
}

impl ServerLoads {
    /// Room for `servers_max` real servers without connections.
    pub fn new(servers_max: usize) -> Arc<Self> {
        let slots = std::iter::repeat_with(CachePadded::default)
            .take(servers_max)
            .collect();
        Arc::new(Self { slots })
    }

    /// A copy of the first `len` of them, as they are now.
    pub fn snapshot(&self, len: usize) -> Arc<Self> {
        let slots = self.slots.iter().take(len);
        let slots = slots.map(|slot| CachePadded::new(slot.snapshot()));
        Arc::new(Self {
            slots: slots.collect(),
        })
    }

    /// The load of the server in a slot. Slots beyond the end share one load
    /// that means nothing.
    #[inline]
    pub fn of(&self, server: RealServerIndex) -> &ServerLoad {
        static NOBODY: ServerLoad = ServerLoad::none();
        self.slots
            .get(server.as_usize())
            .map_or(&NOBODY, |slot| slot)
    }
}

/// How many connections one real server has.
#[derive(Debug, Default)]
pub struct ServerLoad {
    active: AtomicU32,
    inactive: AtomicU32,
    templates: AtomicU32,
    upper_threshold: AtomicU32,
    lower_threshold: AtomicU32,
    overloaded: AtomicBool,
}

impl ServerLoad {
    const fn none() -> Self {
        Self {
            active: AtomicU32::new(0),
            inactive: AtomicU32::new(0),
            templates: AtomicU32::new(0),
            upper_threshold: AtomicU32::new(0),
            lower_threshold: AtomicU32::new(0),
            overloaded: AtomicBool::new(false),
        }
    }

    fn snapshot(&self) -> Self {
        let copy = |number: &AtomicU32| AtomicU32::new(number.load(Ordering::Relaxed));
        Self {
            active: copy(&self.active),
            inactive: copy(&self.inactive),
            templates: copy(&self.templates),
            upper_threshold: copy(&self.upper_threshold),
            lower_threshold: copy(&self.lower_threshold),
            overloaded: AtomicBool::new(self.is_overloaded()),
        }
    }

    /// Active connections: TCP in SYN_RECV, SYNACK or ESTABLISHED.
    #[inline]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// All other connections.
    #[inline]
    pub fn inactive(&self) -> u32 {
        self.inactive.load(Ordering::Relaxed)
    }

    /// Whether the server reached its upper threshold and has not yet fallen
    /// below the lower one.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Persistence templates, which are no connections.
    #[inline]
    pub fn templates(&self) -> u32 {
        self.templates.load(Ordering::Relaxed)
    }

    /// Whether there is no connection and no template.
    pub fn is_idle(&self) -> bool {
        self.active() == 0 && self.inactive() == 0 && self.templates() == 0
    }

    /// A connection begins.
    pub fn open(&self, active: bool) {
        self.class(active).fetch_add(1, Ordering::Relaxed);
        self.overload_if_full();
    }

    /// A template begins. It does not count, but as in Linux IPVS thresholds
    /// that were set meanwhile are looked at.
    pub fn open_template(&self) {
        self.templates.fetch_add(1, Ordering::Relaxed);
        self.overload_if_full();
    }

    /// A template ends.
    pub fn close_template(&self) {
        self.templates.fetch_sub(1, Ordering::Relaxed);
        self.relieve_if_below();
    }

    fn overload_if_full(&self) {
        let upper = self.upper_threshold.load(Ordering::Relaxed);
        if upper != 0 && self.active().saturating_add(self.inactive()) >= upper {
            self.overloaded.store(true, Ordering::Relaxed);
        }
    }

    /// A connection ends.
    pub fn close(&self, active: bool) {
        self.class(active).fetch_sub(1, Ordering::Relaxed);
        self.relieve_if_below();
    }

    fn relieve_if_below(&self) {
        if self.is_overloaded() && self.is_below_threshold() {
            self.overloaded.store(false, Ordering::Relaxed);
        }
    }

    /// A connection becomes active (`true`) or inactive (`false`).
    pub fn reclassify(&self, active: bool) {
        self.class(active).fetch_add(1, Ordering::Relaxed);
        self.class(!active).fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the thresholds (`ipvsadm -x`, `-y`). As in Linux IPVS a server
    /// stops being overloaded when its upper threshold is taken away or
    /// raised; it is overloaded again with its next connection if it must be.
    pub fn set_thresholds(&self, upper: u32, lower: u32) {
        let before = self.upper_threshold.swap(upper, Ordering::Relaxed);
        self.lower_threshold.store(lower, Ordering::Relaxed);
        if upper == 0 || upper > before {
            self.overloaded.store(false, Ordering::Relaxed);
        }
    }

    fn class(&self, active: bool) -> &AtomicU32 {
        if active { &self.active } else { &self.inactive }
    }

    fn is_below_threshold(&self) -> bool {
        let connections = u64::from(self.active()) + u64::from(self.inactive());
        let lower = u64::from(self.lower_threshold.load(Ordering::Relaxed));
        let upper = u64::from(self.upper_threshold.load(Ordering::Relaxed));
        if lower != 0 {
            connections < lower
        } else if upper != 0 {
            connections * 4 < upper * 3
        } else {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_one_cache_line_and_another_with_an_ipv6_address() {
        assert!(std::mem::offset_of!(ServerForwarding, header_v6) <= 64);
        assert_eq!(size_of::<ServerForwarding>(), 128);
        assert_eq!(size_of::<CachePadded<ServerLoad>>() % 64, 0);
    }

    #[test]
    fn overload_ends_below_the_lower_threshold() {
        let load = ServerLoad::default();
        load.set_thresholds(2, 1);
        load.open(true);
        assert!(!load.is_overloaded());
        load.open(false);
        assert!(load.is_overloaded());
        load.close(true);
        assert!(load.is_overloaded(), "1 connection is not below 1");
        load.close(false);
        assert!(!load.is_overloaded());
    }

    #[test]
    fn without_a_lower_threshold_overload_ends_below_three_quarters() {
        let load = ServerLoad::default();
        load.set_thresholds(4, 0);
        for _ in 0..4 {
            load.open(true);
        }
        assert!(load.is_overloaded());
        load.close(true);
        assert!(load.is_overloaded(), "3 of 4 is not below three quarters");
        load.close(true);
        assert!(!load.is_overloaded());
    }
}
