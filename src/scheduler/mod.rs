//! Picking a real server for a new connection.
//!
//! Each scheduler is a file of its own and implements `Schedule`. Their state
//! (a cursor, say) belongs to one worker and one service; [`Schedulers`] holds
//! all of a worker's. Which servers there are and how loaded they are is
//! shared and not theirs. Picks, ties and what an edit does to a cursor are
//! those of Linux IPVS.
#![forbid(unsafe_code)]

mod least_connections;
mod round_robin;
mod weighted_least_connections;
mod weighted_round_robin;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use self::{
    least_connections::LeastConnections, round_robin::RoundRobin,
    weighted_least_connections::WeightedLeastConnections, weighted_round_robin::WeightedRoundRobin,
};
use crate::forwarding::{
    ForwardingState, ListChange, RealServerIndex, ServerLink, ServerLoads, ServiceEdit,
    ServiceForwarding, ServiceIndex, Weights,
};

/// One way to pick a real server.
trait Schedule {
    /// The state for a service that was just created or got this scheduler.
    fn start(weights: Weights) -> Self;

    /// The list of servers changed, and the weights in it come to this since.
    /// Called once for each change, in order.
    fn list_changed(&mut self, change: ListChange, weights: Weights);

    /// The list as it is when all changes of a generation were told.
    fn list_is(&mut self, servers: &[ServerLink]);

    /// A server for a new connection, or `None` when none is usable.
    fn pick(&mut self, servers: &[ServerLink], loads: &ServerLoads) -> Option<RealServerIndex>;
}

/// Whether a server may get a new connection at all.
fn is_usable(link: &ServerLink, loads: &ServerLoads) -> bool {
    link.weight > 0 && !loads.of(link.server).is_overloaded()
}

/// Connections weighted as Linux IPVS does for lc and wlc: an active one costs
/// 256 times as much as an inactive one.
fn overhead(link: &ServerLink, loads: &ServerLoads) -> u64 {
    let load = loads.of(link.server);
    u64::from(load.active()) * 256 + u64::from(load.inactive())
}

/// The scheduler states of one worker, one for each service.
#[derive(Debug, Default)]
pub struct Schedulers {
    slots: Vec<Option<State>>,
}

#[derive(Debug)]
enum State {
    Rr(RoundRobin),
    Wrr(WeightedRoundRobin),
    Lc(LeastConnections),
    Wlc(WeightedLeastConnections),
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
    pub fn pick(
        &mut self,
        index: ServiceIndex,
        service: &ServiceForwarding,
        loads: &ServerLoads,
    ) -> Option<RealServerIndex> {
        let servers = &service.servers;
        match self.slots.get_mut(index.as_usize())?.as_mut()? {
            State::Rr(state) => state.pick(servers, loads),
            State::Wrr(state) => state.pick(servers, loads),
            State::Lc(state) => state.pick(servers, loads),
            State::Wlc(state) => state.pick(servers, loads),
        }
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
                    *slot = Some(State::start(service.scheduler, weights));
                }
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

impl State {
    fn start(kind: SchedulerKind, weights: Weights) -> Self {
        match kind {
            SchedulerKind::Rr => Self::Rr(RoundRobin::start(weights)),
            SchedulerKind::Wrr => Self::Wrr(WeightedRoundRobin::start(weights)),
            SchedulerKind::Lc => Self::Lc(LeastConnections::start(weights)),
            SchedulerKind::Wlc => Self::Wlc(WeightedLeastConnections::start(weights)),
        }
    }

    fn list_changed(&mut self, change: ListChange, weights: Weights) {
        match self {
            Self::Rr(state) => state.list_changed(change, weights),
            Self::Wrr(state) => state.list_changed(change, weights),
            Self::Lc(state) => state.list_changed(change, weights),
            Self::Wlc(state) => state.list_changed(change, weights),
        }
    }

    fn list_is(&mut self, servers: &[ServerLink]) {
        match self {
            Self::Rr(state) => state.list_is(servers),
            Self::Wrr(state) => state.list_is(servers),
            Self::Lc(state) => state.list_is(servers),
            Self::Wlc(state) => state.list_is(servers),
        }
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
}

impl SchedulerKind {
    /// All of them, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc];

    /// The name as `ipvsadm -s` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no scheduler of this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scheduler \"{0}\"; write rr, wrr, lc or wlc")]
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
mod test_support {
    use super::*;

    /// A list as after `ipvsadm -a` of servers with these weights in order:
    /// server and link numbers count up, the last one stands first.
    pub(super) fn list(weights: &[u32]) -> Vec<ServerLink> {
        let mut links: Vec<_> = (1..)
            .zip(weights)
            .map(|(number, &weight)| ServerLink {
                server: RealServerIndex(number),
                link: u64::from(number),
                weight,
            })
            .collect();
        links.reverse();
        links
    }

    /// The numbers of the servers picked for `n` new connections that stay.
    pub(super) fn picks<S: Schedule>(
        state: &mut S,
        servers: &[ServerLink],
        loads: &ServerLoads,
        n: usize,
    ) -> Vec<u32> {
        std::iter::repeat_with(|| {
            let server = state.pick(servers, loads)?;
            loads.of(server).open(true);
            Some(server.0)
        })
        .take(n)
        .flatten()
        .collect()
    }

    /// The state after the servers of a list were added one by one.
    pub(super) fn started<S: Schedule>(servers: &[ServerLink]) -> S {
        let mut state = S::start(Weights { max: 0, gcd: 1 });
        for added in 1..=servers.len() {
            let list = &servers[servers.len() - added..];
            let weights = Weights::of(list.iter().map(|link| link.weight));
            state.list_changed(ListChange::Added(list[0].link), weights);
        }
        state.list_is(servers);
        state
    }
}
