//! The tables of the hashing schedulers: which server each hash leads to.
//!
//! A table follows from the list of servers alone, so that it is built once by
//! the management thread and shared by all workers. It is the same on every
//! director with the same list, Linux directors included.

use super::{SchedulerKind, destination_hashing, maglev, source_hashing};

/// A server as tables see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedServer {
    /// Its IPv4 address, as a number.
    pub address: u32,
    /// Its L4 port: the service's.
    pub l4_port: u16,
    /// Its weight.
    pub weight: u32,
    /// Its last weight that was not 0, since it was added; 0 when it was added
    /// with 0 and never had another.
    pub last_weight: u32,
}

/// From a hash to a place in the list of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashTable(Box<[u32]>);

impl HashTable {
    /// The table of a scheduler for a list of servers, the newest first;
    /// `None` when the scheduler has no table or no server is in it.
    pub fn build(scheduler: SchedulerKind, servers: &[HashedServer]) -> Option<Self> {
        let places = match scheduler {
            SchedulerKind::Sh => source_hashing::places(servers),
            SchedulerKind::Dh => destination_hashing::places(servers),
            SchedulerKind::Mh => maglev::places(servers),
            _ => return None,
        };
        (!places.is_empty()).then(|| Self(places.into()))
    }

    /// The place in the list that a slot of the table leads to.
    pub(super) fn place(&self, slot: usize) -> Option<usize> {
        self.0.get(slot).map(|&place| place as usize)
    }
}
