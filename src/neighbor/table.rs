//! The table of neighbors and the transitions between their states.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, Change, LearnKind, Neighbor, NeighborKey, NeighborParameters, NeighborState, Resolution,
};
use crate::{clock::Ticks, wire::ethernet::MacAddr};

/// All neighbors of all ports; bounded.
///
/// When it is full, a new neighbor takes the place of one that can be spared:
/// one that failed, was never used, or was not used for
/// [`unused_ms`](NeighborParameters::unused_ms), but no permanent one and none
/// that is being asked for; never used ones first, then the longest unused. So a flood of ARP requests with made-up senders cannot
/// push out a neighbor in use. When none can be spared, the new one is refused
/// and counted.
#[derive(Debug)]
pub struct NeighborTable {
    parameters: NeighborParameters,
    entries: BTreeMap<NeighborKey, Entry>,
    /// The deadline of each entry that has one.
    deadlines: BTreeSet<(Ticks, NeighborKey)>,
    refusals: u64,
}

impl NeighborTable {
    /// A table without neighbors.
    pub fn new(parameters: NeighborParameters) -> Self {
        Self {
            parameters: NeighborParameters {
                // A deadline must lie after the step that sets it.
                retrans_ms: parameters.retrans_ms.max(1),
                reachable_ms: parameters.reachable_ms.max(1),
                delay_ms: parameters.delay_ms.max(1),
                unused_ms: parameters.unused_ms.max(1),
                ..parameters
            },
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            refusals: 0,
        }
    }

    /// The MAC of a neighbor that a packet is to be sent to. Starts requests
    /// when it is not known, also after it failed before: the first is due at
    /// once. Counts as use.
    pub fn resolve(&mut self, key: NeighborKey, now: Ticks) -> Resolution {
        match self.entries.get(&key).map(|entry| entry.state) {
            None if !self.make_room(now) => return Resolution::TableFull,
            None | Some(NeighborState::Failed) => self.set(key, Entry::incomplete(now)),
            Some(_) => {}
        }
        self.mark_used(key, now);
        match self.mac(key) {
            Some(mac) => Resolution::Resolved(mac),
            None => Resolution::Pending,
        }
    }

    /// The MAC of a neighbor, when it is known. Does not count as use.
    pub fn mac(&self, key: NeighborKey) -> Option<MacAddr> {
        self.entries.get(&key).and_then(|entry| entry.mac)
    }

    /// Notes that packets are being sent to a neighbor. One that is not known
    /// stays so.
    pub fn mark_used(&mut self, key: NeighborKey, now: Ticks) {
        let Some(&entry) = self.entries.get(&key) else {
            return;
        };
        let mut entry = Entry {
            used: Some(now),
            ..entry
        };
        if entry.state == NeighborState::Stale {
            entry.enter(
                NeighborState::Delay,
                now,
                Some(now + self.parameters.delay_ms),
            );
        }
        self.set(key, entry);
    }

    /// Notes what a message says: the neighbor has this MAC.
    ///
    /// Only a [`LearnKind::Request`] makes a new entry. Nothing changes a
    /// permanent one.
    pub fn learn(&mut self, key: NeighborKey, mac: MacAddr, kind: LearnKind, now: Ticks) -> Change {
        let Some(&entry) = self.entries.get(&key) else {
            return self.learn_new(key, mac, kind, now);
        };
        if entry.state == NeighborState::Permanent {
            return Change::Unchanged;
        }
        let moved_from = entry.mac.filter(|&old| old != mac);
        if moved_from.is_some()
            && let LearnKind::Advertisement {
                overrides: false, ..
            } = kind
        {
            // Somebody else answers as well: what is known is in doubt.
            if entry.state == NeighborState::Reachable {
                let mut doubtful = entry;
                self.enter_stale(&mut doubtful, now);
                self.set(key, doubtful);
            }
            return Change::Unchanged;
        }
        let is_reply = matches!(kind, LearnKind::Reply { .. });
        if moved_from.is_some()
            && is_reply
            && now.ms_since(entry.updated) <= self.parameters.lock_ms
        {
            return Change::Unchanged;
        }
        let mut learned = Entry {
            mac: Some(mac),
            ..entry
        };
        let is_proof = matches!(
            kind,
            LearnKind::Reply { solicited: true }
                | LearnKind::Advertisement {
                    solicited: true,
                    ..
                }
        );
        if is_proof {
            learned.confirmed = Some(now);
            let deadline = Some(now + self.parameters.reachable_ms);
            if learned.state == NeighborState::Reachable && moved_from.is_none() {
                learned.deadline = deadline;
            } else {
                learned.enter(NeighborState::Reachable, now, deadline);
            }
        } else if entry.mac != Some(mac) {
            self.enter_stale(&mut learned, now);
        }
        self.set(key, learned);
        match (entry.mac, moved_from) {
            (None, _) => Change::Resolved,
            (Some(_), None) => Change::Unchanged,
            (Some(_), Some(from)) => Change::Moved { from },
        }
    }

    fn learn_new(&mut self, key: NeighborKey, mac: MacAddr, kind: LearnKind, now: Ticks) -> Change {
        if kind != LearnKind::Request {
            return Change::Unchanged;
        }
        if !self.make_room(now) {
            return Change::TableFull;
        }
        let mut entry = Entry {
            used: None,
            mac: Some(mac),
            ..Entry::incomplete(now)
        };
        self.enter_stale(&mut entry, now);
        self.set(key, entry);
        Change::Resolved
    }

    /// Gives a neighbor a MAC that holds until it is removed.
    pub fn set_permanent(&mut self, key: NeighborKey, mac: MacAddr, now: Ticks) -> Change {
        let before = self.mac(key);
        if !self.entries.contains_key(&key) && !self.make_room(now) {
            return Change::TableFull;
        }
        let used = self.entries.get(&key).and_then(|entry| entry.used);
        let mut entry = Entry {
            used,
            mac: Some(mac),
            ..Entry::incomplete(now)
        };
        entry.enter(NeighborState::Permanent, now, None);
        self.set(key, entry);
        match before {
            None => Change::Resolved,
            Some(before) if before == mac => Change::Unchanged,
            Some(from) => Change::Moved { from },
        }
    }

    /// Forgets a neighbor, permanent or not. Whether there was one.
    pub fn remove(&mut self, key: NeighborKey) -> bool {
        match self.entries.remove(&key) {
            Some(entry) => {
                if let Some(deadline) = entry.deadline {
                    self.deadlines.remove(&(deadline, key));
                }
                true
            }
            None => false,
        }
    }

    /// Does all that is due, and returns what is to be done about it, in order
    /// of time.
    pub fn poll(&mut self, now: Ticks) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(&(deadline, key)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            match self.entries.get(&key) {
                Some(&entry) => actions.extend(self.step(key, entry, now)),
                None => {
                    self.deadlines.remove(&(deadline, key));
                }
            }
        }
        actions
    }

    /// When [`poll`](Self::poll) has something to do next.
    pub fn next_deadline(&self) -> Option<Ticks> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// All neighbors, by port and address.
    pub fn iter(&self) -> impl Iterator<Item = Neighbor> {
        self.entries.iter().map(|(&key, entry)| Neighbor {
            key,
            state: entry.state,
            mac: entry.mac,
            updated: entry.updated,
            confirmed: entry.confirmed,
            used: entry.used,
        })
    }

    /// How many neighbors there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no neighbors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How often a new neighbor was refused because the table was full.
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// What the end of an entry's time means. Leaves the entry with a deadline
    /// after `now`, without one, or gone.
    fn step(&mut self, key: NeighborKey, mut entry: Entry, now: Ticks) -> Option<Action> {
        let parameters = self.parameters;
        match entry.state {
            NeighborState::Incomplete => {
                return Some(self.request_or_fail(key, entry, parameters.broadcast_requests, now));
            }
            NeighborState::Probe => {
                return Some(self.request_or_fail(key, entry, parameters.unicast_requests, now));
            }
            NeighborState::Delay => {
                entry.requests_sent = 0;
                entry.enter(NeighborState::Probe, now, None);
                return Some(self.request_or_fail(key, entry, parameters.unicast_requests, now));
            }
            NeighborState::Reachable if entry.was_used_within(parameters.delay_ms, now) => {
                entry.enter(NeighborState::Delay, now, Some(now + parameters.delay_ms));
            }
            NeighborState::Reachable => self.enter_stale(&mut entry, now),
            NeighborState::Stale | NeighborState::Failed => {
                self.remove(key);
                return Some(Action::Removed { key });
            }
            NeighborState::Permanent => entry.deadline = None,
        }
        self.set(key, entry);
        None
    }

    fn request_or_fail(
        &mut self,
        key: NeighborKey,
        mut entry: Entry,
        requests_max: u8,
        now: Ticks,
    ) -> Action {
        let action = if entry.requests_sent < requests_max {
            entry.requests_sent += 1;
            entry.deadline = Some(now + self.parameters.retrans_ms);
            Action::SendRequest {
                key,
                unicast: entry.mac,
            }
        } else {
            entry.mac = None;
            entry.enter(
                NeighborState::Failed,
                now,
                Some(now + self.parameters.unused_ms),
            );
            Action::Failed { key }
        };
        self.set(key, entry);
        action
    }

    /// The deadline is when the entry goes; use or proof ends the state before.
    fn enter_stale(&self, entry: &mut Entry, now: Ticks) {
        entry.enter(
            NeighborState::Stale,
            now,
            Some(now + self.parameters.unused_ms),
        );
    }

    /// Stores an entry and keeps the deadlines in step.
    fn set(&mut self, key: NeighborKey, entry: Entry) {
        let before = self
            .entries
            .insert(key, entry)
            .and_then(|before| before.deadline);
        if before != entry.deadline {
            if let Some(deadline) = before {
                self.deadlines.remove(&(deadline, key));
            }
            if let Some(deadline) = entry.deadline {
                self.deadlines.insert((deadline, key));
            }
        }
    }

    /// Whether there is room for one more entry, if need be in place of one
    /// that can be spared.
    fn make_room(&mut self, now: Ticks) -> bool {
        if self.entries.len() < self.parameters.entries_max {
            return true;
        }
        let spared = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.can_be_spared(self.parameters.unused_ms, now))
            .min_by_key(|(_, entry)| (entry.used, entry.updated))
            .map(|(&key, _)| key);
        if let Some(key) = spared {
            return self.remove(key);
        }
        self.refusals += 1;
        false
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: NeighborState,
    mac: Option<MacAddr>,
    /// In [`NeighborState::Incomplete`] and [`NeighborState::Probe`].
    requests_sent: u8,
    updated: Ticks,
    confirmed: Option<Ticks>,
    used: Option<Ticks>,
    deadline: Option<Ticks>,
}

impl Entry {
    /// A neighbor to be asked for at once.
    const fn incomplete(now: Ticks) -> Self {
        Self {
            state: NeighborState::Incomplete,
            mac: None,
            requests_sent: 0,
            updated: now,
            confirmed: None,
            used: Some(now),
            deadline: Some(now),
        }
    }

    fn enter(&mut self, state: NeighborState, now: Ticks, deadline: Option<Ticks>) {
        self.state = state;
        self.updated = now;
        self.deadline = deadline;
    }

    fn was_used_within(&self, ms: u64, now: Ticks) -> bool {
        self.used.is_some_and(|used| now.ms_since(used) <= ms)
    }

    fn can_be_spared(&self, unused_ms: u64, now: Ticks) -> bool {
        match self.state {
            // Packets may wait for an incomplete one.
            NeighborState::Permanent | NeighborState::Incomplete => false,
            NeighborState::Failed => true,
            _ => !self.was_used_within(unused_ms, now),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
