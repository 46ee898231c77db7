//! The connections of one worker over both IP versions: a [`Table`] for each.
//!
//! A connection over IPv4 fits one cache line, one over IPv6 takes two, so
//! that each has a table of its own. Code that does not care which is generic
//! over [`ConnectionKey`].
#![forbid(unsafe_code)]

use super::{Entry, EntryIndex, Expiry, State, Table, TableError, time::CoarseTime};
use crate::flow::{Endpoints, FlowKey, FlowKeyV4, FlowKeyV6, HashKey};

/// The connections of one worker.
#[derive(Debug)]
pub struct Tables {
    v4: Table<FlowKeyV4>,
    v6: Table<FlowKeyV6>,
}

/// How many connections a worker can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// Over IPv4.
    pub v4: u32,
    /// Over IPv6.
    pub v6: u32,
}

impl Capacities {
    /// For a worker that can hold `connections_max` connections over IPv4: those
    /// over IPv6 come on top, a quarter as many.
    pub fn of(connections_max: u32) -> Self {
        Self {
            v4: connections_max,
            v6: (connections_max / IPV6_SHARE).max(1),
        }
    }

    /// Bytes that the tables take, before rounding to whole pages. For each
    /// connection over IPv4 that is 106: a slot of 64 bytes and two and a half
    /// to find it by, of which 65 % are used at most, and 4 bytes in the order
    /// of eviction; for each over IPv6, with slots of 128 bytes, 204.5.
    pub const fn memory_bytes(&self) -> u64 {
        Table::<FlowKeyV4>::memory_bytes_for(self.v4)
            + Table::<FlowKeyV6>::memory_bytes_for(self.v6)
    }
}

const IPV6_SHARE: u32 = 4;

/// A key whose connections one of the [`Tables`] holds.
pub trait ConnectionKey: FlowKey {
    /// The table for this kind of key.
    fn table(tables: &Tables) -> &Table<Self>;
    /// The table for this kind of key.
    fn table_mut(tables: &mut Tables) -> &mut Table<Self>;
}

impl ConnectionKey for FlowKeyV4 {
    #[inline]
    fn table(tables: &Tables) -> &Table<Self> {
        &tables.v4
    }

    #[inline]
    fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.v4
    }
}

impl ConnectionKey for FlowKeyV6 {
    #[inline]
    fn table(tables: &Tables) -> &Table<Self> {
        &tables.v6
    }

    #[inline]
    fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.v6
    }
}

/// A copy of a connection of either IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The flow.
    pub endpoints: Endpoints,
    /// The caller's number of the real server.
    pub server: u32,
    /// The state of the connection.
    pub state: State,
    /// When it ends unless a packet comes.
    pub deadline: CoarseTime,
    /// Packets of the client.
    pub packets: u32,
    /// The caller's number of the controlling persistence template.
    pub controller: u32,
    /// Bits of the caller.
    pub flags: u8,
}

impl<K: FlowKey> From<&Entry<K>> for Held {
    fn from(entry: &Entry<K>) -> Self {
        Self {
            endpoints: entry.key().endpoints(),
            server: entry.server(),
            state: entry.state(),
            deadline: entry.deadline(),
            packets: entry.packets(),
            controller: entry.controller(),
            flags: entry.flags(),
        }
    }
}

impl Tables {
    /// Empty tables, with their memory preferably on `numa_node`.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub fn new(
        capacities: Capacities,
        hash_key: HashKey,
        numa_node: Option<u32>,
    ) -> Result<Self, TableError> {
        Ok(Self {
            v4: Table::new(capacities.v4, hash_key, numa_node)?,
            v6: Table::new(capacities.v6, hash_key, numa_node)?,
        })
    }

    /// The table for connections of one IP version.
    #[inline]
    pub fn of<K: ConnectionKey>(&self) -> &Table<K> {
        K::table(self)
    }

    /// The table for connections of one IP version.
    #[inline]
    pub fn of_mut<K: ConnectionKey>(&mut self) -> &mut Table<K> {
        K::table_mut(self)
    }

    /// Connections of both IP versions.
    pub const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no connection.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Table::expire`], over both tables with `budget` for each.
    pub fn expire(
        &mut self,
        now: CoarseTime,
        budget: u32,
        mut on_expired: impl FnMut(Held),
    ) -> Expiry {
        let v4 = self
            .v4
            .expire(now, budget, |entry| on_expired(Held::from(entry)));
        let v6 = self
            .v6
            .expire(now, budget, |entry| on_expired(Held::from(entry)));
        Expiry {
            expired: v4.expired + v6.expired,
            has_backlog: v4.has_backlog || v6.has_backlog,
        }
    }

    /// As [`Table::iter_from`], through one table after the other.
    pub fn iter_from(
        &self,
        cursor: u64,
        slots_max: u32,
    ) -> (impl Iterator<Item = (Place, Held)>, Option<u64>) {
        let is_v6 = cursor & V6_CURSOR != 0;
        let slot = u32::try_from(cursor & !V6_CURSOR).unwrap_or(u32::MAX);
        let (v4, next_v4) = self.v4.iter_from(slot, if is_v6 { 0 } else { slots_max });
        let (v6, next_v6) = self.v6.iter_from(slot, if is_v6 { slots_max } else { 0 });
        let v4 = v4.map(|(index, entry)| (Place::V4(index), Held::from(entry)));
        let v6 = v6.map(|(index, entry)| (Place::V6(index), Held::from(entry)));
        let next = if is_v6 {
            next_v6.map(|slot| V6_CURSOR | u64::from(slot))
        } else {
            Some(next_v4.map_or(V6_CURSOR, u64::from))
        };
        (v4.chain(v6), next)
    }
}

/// Where a connection of either IP version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the table for IPv4.
    V4(EntryIndex),
    /// In the table for IPv6.
    V6(EntryIndex),
}

/// Set in a cursor that goes through the table for IPv6.
const V6_CURSOR: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;
    use crate::connection::{CoarseDuration, NewEntry};

    fn tables() -> Tables {
        let capacities = Capacities { v4: 100, v6: 50 };
        Tables::new(capacities, HashKey::from_seed([1, 2, 3]), None).unwrap()
    }

    fn open<K: ConnectionKey>(tables: &mut Tables, key: K) {
        let new = NewEntry {
            server: 7,
            state: State::Udp,
            controller: 0,
            flags: 0,
        };
        let table = tables.of_mut::<K>();
        let (hash, now) = (table.hash(&key), CoarseTime::from_steps(0));
        let timeout = CoarseDuration::from_seconds(10);
        let inserted = table.insert(hash, key, &new, timeout, now).unwrap();
        assert_eq!(inserted.evicted, None);
    }

    fn key_v4(client_port: u16) -> FlowKeyV4 {
        let client = SocketAddrV4::new([192, 0, 2, 1].into(), client_port);
        FlowKeyV4::new(client, "198.51.100.10:80".parse().unwrap(), 6)
    }

    fn key_v6(client_port: u16) -> FlowKeyV6 {
        FlowKeyV6 {
            client_port,
            ..FlowKeyV6::default()
        }
    }

    #[test]
    fn a_walk_visits_the_connections_of_both_versions_once() {
        let mut tables = tables();
        for port in 0..20 {
            open(&mut tables, key_v4(port));
            open(&mut tables, key_v6(port + 100));
        }
        let mut seen = Vec::new();
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let (page, next) = tables.iter_from(from, 16);
            seen.extend(page.map(|(_, held)| held.endpoints.client.port()));
            cursor = next;
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..20).chain(100..120).collect::<Vec<_>>());
        assert_eq!(tables.len(), 40);
    }

    #[test]
    fn connections_of_both_versions_expire() {
        let mut tables = tables();
        open(&mut tables, key_v4(1));
        open(&mut tables, key_v6(2));
        let mut ended = Vec::new();
        let late = CoarseTime::from_steps(16 * 60);
        while tables
            .expire(late, 64, |held| ended.push(held.endpoints.client.port()))
            .has_backlog
        {}
        assert_eq!((ended, tables.len()), (vec![1, 2], 0));
    }
}
