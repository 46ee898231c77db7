//! Picking a real server for a new connection.
//!
//! Each scheduler is a file of its own and implements `Schedule`. Their state
//! (a cursor, say) belongs to one worker and one service; [`Schedulers`] holds
//! all of a worker's. Which servers there are and how loaded they are is
//! shared and not theirs. Picks, ties and what an edit does to a cursor are
//! those of Linux IPVS.
#![forbid(unsafe_code)]

mod destination_hashing;
mod hash_table;
mod least_connections;
mod locality;
mod locality_replication;
mod maglev;
mod never_queue;
mod round_robin;
mod shortest_delay;
mod source_hashing;
mod two_choices;
mod weighted_failover;
mod weighted_least_connections;
mod weighted_overflow;
mod weighted_round_robin;

use std::{
    fmt::{self, Debug},
    net::IpAddr,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

pub use self::hash_table::{HashTable, HashedServer};
use self::{
    destination_hashing::DestinationHashing, least_connections::LeastConnections,
    locality::Locality, locality_replication::LocalityReplication, maglev::Maglev,
    never_queue::NeverQueue, round_robin::RoundRobin, shortest_delay::ShortestDelay,
    source_hashing::SourceHashing, two_choices::TwoChoices, weighted_failover::WeightedFailover,
    weighted_least_connections::WeightedLeastConnections, weighted_overflow::WeightedOverflow,
    weighted_round_robin::WeightedRoundRobin,
};
use crate::{
    connection::CoarseTime,
    flow::Endpoints,
    forwarding::{
        ForwardingState, ListChange, RealServerIndex, ServerLink, ServerLoads, ServiceEdit,
        ServiceForwarding, ServiceIndex, Weights,
    },
};

/// One way to pick a real server.
trait Schedule: Debug + Send + Snapshot {
    /// The list of servers changed, and came to these weights. Called once for
    /// each change, in order.
    fn list_changed(&mut self, _change: ListChange, _weights: Weights) {}

    /// What the list is, once all changes of a generation are told.
    fn list_is(&mut self, _servers: &[ServerLink]) {}

    /// A server for a new connection, or `None` when none is usable.
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex>;

    /// What a server costs, if that is what `pick` goes by.
    fn cost(&self, _request: &Request<'_>, _link: &ServerLink) -> Option<Cost> {
        None
    }

    /// The slot of the service's table that the flow leads to, if there is one.
    fn slot(&self, _request: &Request<'_>) -> Option<u32> {
        None
    }
}

/// A copy of a scheduler's state.
trait Snapshot {
    fn snapshot(&self) -> Box<dyn Schedule>;
}

impl<S: Schedule + Clone + 'static> Snapshot for S {
    fn snapshot(&self) -> Box<dyn Schedule> {
        Box::new(self.clone())
    }
}

/// What a server costs the scheduler that looks for the cheapest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The number.
    pub value: u64,
    /// Whether it is divided by the server's weight.
    pub for_weight: bool,
}

/// What a scheduler sees when it picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consideration {
    /// The slot of the hash table that the flow leads to.
    pub slot: Option<u32>,
    /// All servers of the service, in the order of its list.
    pub candidates: Vec<Candidate>,
}

/// One of the servers that a scheduler picks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub server: RealServerIndex,
    /// Its weight.
    pub weight: u32,
    /// Its active connections.
    pub active: u32,
    /// Its other connections.
    pub inactive: u32,
    /// Whether its upper threshold keeps new connections away.
    pub is_overloaded: bool,
    /// What it costs.
    pub cost: Option<Cost>,
}

/// A new connection that needs a real server.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The service that it is for.
    pub service: &'a ServiceForwarding,
    /// How loaded the servers are.
    pub loads: &'a ServerLoads,
    /// The connection's flow.
    pub flow: &'a Endpoints,
    /// The time.
    pub now: CoarseTime,
}

impl<'a> Request<'a> {
    fn servers(&self) -> &'a [ServerLink] {
        &self.service.servers
    }

    /// The client as hashing schedulers see it: address, and L4 port when the
    /// flag `port` says so.
    fn hashed_client(&self) -> (u32, u16) {
        let counts = self.service.options.flags.port;
        let client = self.flow.client;
        (folded(client.ip()), if counts { client.port() } else { 0 })
    }

    fn is_usable(&self, link: &ServerLink) -> bool {
        is_usable(link, self.loads)
    }

    fn usable(&self) -> impl Iterator<Item = &'a ServerLink> {
        let loads = self.loads;
        self.servers()
            .iter()
            .filter(move |link| is_usable(link, loads))
    }

    fn active(&self, link: &ServerLink) -> u64 {
        u64::from(self.loads.of(link.server).active())
    }

    /// Connections weighted as Linux IPVS does for lc and wlc: an active one
    /// costs 256 times as much as an inactive one.
    fn overhead(&self, link: &ServerLink) -> u64 {
        self.active(link) * 256 + u64::from(self.loads.of(link.server).inactive())
    }
}

/// An address as the hashing schedulers take it: an IPv6 address is the XOR of
/// its four 32-bit words.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<4>();
            words
                .iter()
                .fold(0, |sum, word| sum ^ u32::from_be_bytes(*word))
        }
    }
}

/// Whether a server may get a new connection at all.
fn is_usable(link: &ServerLink, loads: &ServerLoads) -> bool {
    link.weight > 0 && !loads.of(link.server).is_overloaded()
}

/// The server with the least cost for its weight, the first of several.
fn least_for_weight<'a>(
    mut servers: impl Iterator<Item = &'a ServerLink>,
    cost: impl Fn(&ServerLink) -> u64,
) -> Option<&'a ServerLink> {
    let first = servers.next()?;
    let mut least = (first, cost(first));
    for link in servers {
        let candidate = cost(link);
        // Compares cost / weight without dividing.
        if u128::from(least.1) * u128::from(link.weight)
            > u128::from(candidate) * u128::from(least.0.weight)
        {
            least = (link, candidate);
        }
    }
    Some(least.0)
}

/// The scheduler states of one worker, one for each service.
#[derive(Debug, Default)]
pub struct Schedulers {
    // A boxed state costs an indirect call for each new connection, and none
    // for any other packet.
    slots: Vec<Option<Box<dyn Schedule>>>,
}

impl Schedulers {
    /// Follows what happened to the services from the generation before to
    /// this one. No generation may be left out.
    pub fn adopt(&mut self, state: &ForwardingState) {
        for &index in state.changed_services.iter() {
            self.adopt_service(index, state.services.service(index));
        }
    }

    /// A server for a new connection to the service in this slot.
    pub fn pick(&mut self, index: ServiceIndex, request: &Request<'_>) -> Option<RealServerIndex> {
        self.slots
            .get_mut(index.as_usize())?
            .as_mut()?
            .pick(request)
    }

    /// What the scheduler of the service in this slot would go by; picks
    /// nothing.
    pub fn consider(&self, index: ServiceIndex, request: &Request<'_>) -> Option<Consideration> {
        let scheduler = self.slots.get(index.as_usize())?.as_ref()?;
        let candidate = |link: &ServerLink| {
            let load = request.loads.of(link.server);
            Candidate {
                server: link.server,
                weight: link.weight,
                active: load.active(),
                inactive: load.inactive(),
                is_overloaded: load.is_overloaded(),
                cost: scheduler.cost(request, link),
            }
        };
        Some(Consideration {
            slot: scheduler.slot(request),
            candidates: request.servers().iter().map(candidate).collect(),
        })
    }

    /// A copy with the states of these services alone.
    #[must_use]
    pub fn snapshot(&self, services: &[ServiceIndex]) -> Self {
        let mut copy = Self::default();
        for index in services {
            let Some(Some(state)) = self.slots.get(index.as_usize()) else {
                continue;
            };
            if copy.slots.len() <= index.as_usize() {
                copy.slots.resize_with(index.as_usize() + 1, || None);
            }
            if let Some(slot) = copy.slots.get_mut(index.as_usize()) {
                *slot = Some(state.snapshot());
            }
        }
        copy
    }

    fn adopt_service(&mut self, index: ServiceIndex, service: Option<&ServiceForwarding>) {
        if self.slots.len() <= index.as_usize() {
            self.slots.resize_with(index.as_usize() + 1, || None);
        }
        let Some(slot) = self.slots.get_mut(index.as_usize()) else {
            return;
        };
        let Some(service) = service else {
            *slot = None;
            return;
        };
        for edit in service.edits.iter() {
            match *edit {
                ServiceEdit::SchedulerSet(weights) => {
                    *slot = Some(start(service.options.scheduler, weights));
                }
                ServiceEdit::OptionsChanged => {}
                ServiceEdit::ListChanged(change, weights) => {
                    if let Some(state) = slot {
                        state.list_changed(change, weights);
                    }
                }
            }
        }
        if let Some(state) = slot {
            state.list_is(&service.servers);
        }
    }
}

/// The state for a service that was just created or got this scheduler.
fn start(kind: SchedulerKind, weights: Weights) -> Box<dyn Schedule> {
    match kind {
        SchedulerKind::Rr => Box::new(RoundRobin::default()),
        SchedulerKind::Wrr => Box::new(WeightedRoundRobin::start(weights)),
        SchedulerKind::Lc => Box::new(LeastConnections),
        SchedulerKind::Wlc => Box::new(WeightedLeastConnections),
        SchedulerKind::Sh => Box::new(SourceHashing),
        SchedulerKind::Dh => Box::new(DestinationHashing),
        SchedulerKind::Mh => Box::new(Maglev),
        SchedulerKind::Sed => Box::new(ShortestDelay),
        SchedulerKind::Nq => Box::new(NeverQueue),
        SchedulerKind::Fo => Box::new(WeightedFailover),
        SchedulerKind::Ovf => Box::new(WeightedOverflow),
        SchedulerKind::Lblc => Box::new(Locality::default()),
        SchedulerKind::Lblcr => Box::new(LocalityReplication::default()),
        SchedulerKind::Twos => Box::new(TwoChoices::default()),
    }
}

/// Which scheduler a service uses. Names are those of `ipvsadm -s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerKind {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections: what `ipvsadm` takes when nothing is said.
    #[default]
    Wlc,
    /// Source hashing.
    Sh,
    /// Destination hashing.
    Dh,
    /// Maglev hashing.
    Mh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Locality-based least connections.
    Lblc,
    /// Locality-based least connections with replication.
    Lblcr,
    /// The better of two random choices.
    Twos,
}

/// Flags of the hashing schedulers (`ipvsadm -b`): sh-fallback, sh-port,
/// mh-fallback and mh-port. Other schedulers keep them without a use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerFlags {
    /// Whether another server is taken when the one that the hash picks is not
    /// usable.
    pub fallback: bool,
    /// Whether the client's L4 port counts too.
    pub port: bool,
}

impl SchedulerKind {
    /// All of them, in the order in which messages list them.
    pub const ALL: [Self; 14] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sh,
        Self::Dh,
        Self::Mh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Lblc,
        Self::Lblcr,
        Self::Twos,
    ];

    /// The name as `ipvsadm -s` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Dh => "dh",
            Self::Mh => "mh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Twos => "twos",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl SchedulerFlags {
    /// The flags that are set, as `ipvsadm -b` names them for a scheduler.
    pub fn names(self, scheduler: SchedulerKind) -> Vec<String> {
        let [fallback, port] = Self::names_for(scheduler);
        let flags = [(self.fallback, fallback), (self.port, port)];
        flags
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| name)
            .collect()
    }

    /// The names of `fallback` and `port` for a scheduler.
    pub fn names_for(scheduler: SchedulerKind) -> [String; 2] {
        match scheduler {
            SchedulerKind::Sh | SchedulerKind::Mh => {
                [format!("{scheduler}-fallback"), format!("{scheduler}-port")]
            }
            _ => ["flag-1".to_owned(), "flag-2".to_owned()],
        }
    }

    /// Sets the flag of this name: `sh-fallback`, `mh-fallback` or `flag-1`,
    /// `sh-port`, `mh-port` or `flag-2`. Returns `None` when there is none.
    #[must_use]
    pub fn with(self, name: &str) -> Option<Self> {
        match name {
            "sh-fallback" | "mh-fallback" | "flag-1" => Some(Self {
                fallback: true,
                ..self
            }),
            "sh-port" | "mh-port" | "flag-2" => Some(Self { port: true, ..self }),
            _ => None,
        }
    }
}

/// There is no scheduler of this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no scheduler \"{0}\"; write one of rr, wrr, lc, wlc, sh, dh, mh, sed, nq, fo, ovf, lblc, lblcr and twos"
)]
pub struct UnknownScheduler(pub String);

impl FromStr for SchedulerKind {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

#[cfg(test)]
#[path = "test_support.rs"]
mod test_support;
