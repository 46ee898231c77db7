//! The bounded connection table of one worker.
//!
//! An entry stands in a place that the [`Directory`] finds and never moves, so
//! its index is a handle. There is no rehash and no second level of memory.
#![forbid(unsafe_code)]

use super::{
    directory::Directory,
    entry::{Entry, NewEntry, Removed, deadline_after},
    opening_queue::OpeningQueue,
    state::State,
    time::{CoarseDuration, CoarseTime, STEPS_PER_SECOND},
    wheel::Wheel,
};
use crate::{
    flow::{FlowHash, FlowKey, HashKey},
    memory::{HugeSlice, MemoryError, prefetch_write},
};

/// The most connections that a table can be made for.
pub const CONNECTIONS_LIMIT: u32 = 1 << 30;

/// The connections of one worker.
///
/// Time is passed in and must not go backward from call to call.
///
/// # Handles
/// An [`EntryIndex`] is good until its connection ends by
/// [`remove`](Self::remove), [`expire`](Self::expire) or by eviction in
/// [`insert`](Self::insert). After any of these, an index found earlier may
/// name a free slot or another connection. Within a burst: hash and prefetch
/// all packets first, but find, insert and use an entry packet by packet; an
/// index kept longer is checked with [`entry_of`](Self::entry_of).
#[derive(Debug)]
pub struct Table<K: FlowKey> {
    directory: Directory,
    slots: HugeSlice<Entry<K>>,
    slot_count: u32,
    connections_max: u32,
    len: u32,
    hash_key: HashKey,
    wheel: Wheel,
    opened: OpeningQueue,
    /// The time up to which all connections have ended that had to.
    expired: Option<CoarseTime>,
    /// Where the search for connections to evict goes on.
    sweep: u32,
}

/// Where a connection stands in its table. See [`Table`] for how long it is
/// good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryIndex(u32);

/// Where an entry seems to stand, or would be put: a hint, however old.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryGuess(u32);

/// A connection was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the caller has to count the connection that was evicted"]
pub struct Inserted<K: FlowKey> {
    /// Where it stands.
    pub index: EntryIndex,
    /// The connection that had to go for it.
    pub evicted: Option<Removed<K>>,
}

/// There is no room for a connection, and none that may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection table is full and holds nothing that may be evicted")]
pub struct Full;

/// What a call of [`Table::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Connections that ended.
    pub expired: u32,
    /// Whether the budget ran out, so that more may be due.
    pub has_backlog: bool,
}

/// A table could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The number of connections is out of range.
    #[error("a connection table of {0} connections: use 1 to {CONNECTIONS_LIMIT} per worker")]
    ConnectionsMax(u32),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl<K: FlowKey> Table<K> {
    /// A table for up to `connections_max` (1 to [`CONNECTIONS_LIMIT`])
    /// connections, with its memory preferably on `numa_node`.
    ///
    /// # Errors
    /// [`TableError`] when the number is out of range or the memory cannot be
    /// had.
    pub fn new(
        connections_max: u32,
        hash_key: HashKey,
        numa_node: Option<u32>,
    ) -> Result<Self, TableError> {
        if !(1..=CONNECTIONS_LIMIT).contains(&connections_max) {
            return Err(TableError::ConnectionsMax(connections_max));
        }
        let slot_count = slots_for(connections_max);
        Ok(Self {
            directory: Directory::new(slot_count, numa_node)?,
            slots: HugeSlice::zeroed(slot_count as usize, numa_node)?,
            slot_count,
            connections_max,
            len: 0,
            hash_key,
            wheel: Wheel::new(),
            opened: OpeningQueue::new(connections_max as usize, numa_node)?,
            expired: None,
            sweep: 0,
        })
    }

    /// Bytes that a table for `connections_max` connections takes, before
    /// rounding to whole pages.
    pub const fn memory_bytes_for(connections_max: u32) -> u64 {
        let slots = slots_for(connections_max);
        slots as u64 * size_of::<Entry<K>>() as u64
            + Directory::memory_bytes_for(slots)
            + connections_max as u64 * size_of::<u32>() as u64
    }

    /// Bytes that this table takes, before rounding to whole pages.
    pub const fn memory_bytes(&self) -> u64 {
        Self::memory_bytes_for(self.connections_max)
    }

    /// Connections in the table.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no connection.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most connections that the table takes.
    pub const fn capacity(&self) -> usize {
        self.connections_max as usize
    }

    /// The hash that the calls below want for `key`.
    #[inline]
    pub fn hash(&self, key: &K) -> FlowHash {
        key.hash(&self.hash_key)
    }

    /// Asks for the cache line that tells where a flow with this hash stands.
    /// Done for the whole burst before the first
    /// [`prefetch_entry`](Self::prefetch_entry).
    #[inline]
    pub fn prefetch(&self, hash: FlowHash) {
        self.directory.prefetch(hash);
    }

    /// Asks for the entry of a flow with this hash, or where it would be opened.
    /// Done for the whole burst before the first [`find`](Self::find). Returns
    /// where that is, for [`find_entry`](Self::find_entry).
    #[inline]
    pub fn prefetch_entry(&self, hash: FlowHash) -> EntryGuess {
        let guess = self.directory.guess(hash);
        if let Some(entry) = self.slots.get(guess as usize) {
            // Found connections are written to at once: state, deadline, packets.
            prefetch_write(entry);
        }
        EntryGuess(guess)
    }

    /// The server of the entry at a guessed place, whosever that is, for
    /// prefetching. `None` for a free one.
    #[inline]
    pub fn peek_server(&self, guess: EntryGuess) -> Option<u32> {
        let entry = self.slots.get(guess.0 as usize)?;
        (!entry.is_free()).then_some(entry.server)
    }

    /// The connection of flow `key`, whose hash is `hash`.
    #[inline]
    pub fn find(&self, hash: FlowHash, key: &K) -> Option<EntryIndex> {
        let slots = &self.slots;
        let is_it = |index| {
            let entry = slots.get(index as usize);
            entry.is_some_and(|entry| entry.key.is(key))
        };
        self.directory.find(hash, is_it).map(EntryIndex)
    }

    /// As [`find`](Self::find) and [`entry_mut`](Self::entry_mut) in one, and
    /// at once when the guess was right.
    #[inline]
    pub fn find_entry(
        &mut self,
        (hash, guess): (FlowHash, EntryGuess),
        key: &K,
    ) -> Option<&mut Entry<K>> {
        let guessed = self.slots.get(guess.0 as usize)?;
        let index = if guessed.key.is(key) && !guessed.is_free() {
            guess.0
        } else {
            self.find_elsewhere(hash, key)?.0
        };
        self.slots.get_mut(index as usize)
    }

    #[inline(never)]
    fn find_elsewhere(&self, hash: FlowHash, key: &K) -> Option<EntryIndex> {
        self.find(hash, key)
    }

    /// Opens the connection of flow `key`, whose hash is `hash` and which must
    /// not be in the table. It ends `timeout` after `now` unless touched.
    ///
    /// When few entries are free (a sixteenth of the capacity), another
    /// connection is evicted for the new one where possible: one that has only
    /// seen a SYN, or else an idle one of few packets. A connection in
    /// ESTABLISHED is never evicted.
    ///
    /// # Errors
    /// [`Full`] when there is no room and nothing to evict.
    #[inline]
    pub fn insert(
        &mut self,
        hash: FlowHash,
        key: K,
        new: &NewEntry,
        timeout: CoarseDuration,
        now: CoarseTime,
    ) -> Result<Inserted<K>, Full> {
        debug_assert!(self.find(hash, &key).is_none(), "{key:?} is in the table");
        let mut evicted = None;
        let (index, passed) = if let Some(free) = self.directory.free_place(hash) {
            if self.is_under_pressure() {
                evicted = self.evict_any(now);
                if evicted.is_none() && self.len >= self.connections_max {
                    return Err(Full);
                }
            }
            free
        } else {
            evicted = self.evict_from_places(hash, now);
            self.directory.free_place(hash).ok_or(Full)?
        };
        self.directory.occupy(hash, index, passed);
        let entry = self.slots.get_mut(index as usize).ok_or(Full)?;
        entry.open(key, new, passed, now);
        entry.deadline = deadline_after(now, timeout);
        self.wheel.link(&mut self.slots, index, now);
        self.opened.push(index);
        self.len += 1;
        Ok(Inserted {
            index: EntryIndex(index),
            evicted,
        })
    }

    /// The connection at `index`; `None` when it has ended.
    #[inline]
    pub fn entry(&self, index: EntryIndex) -> Option<&Entry<K>> {
        self.slots
            .get(index.0 as usize)
            .filter(|entry| !entry.is_free())
    }

    /// The connection at `index`; `None` when it has ended.
    #[inline]
    pub fn entry_mut(&mut self, index: EntryIndex) -> Option<&mut Entry<K>> {
        self.slots
            .get_mut(index.0 as usize)
            .filter(|entry| !entry.is_free())
    }

    /// The connection at `index` if it is still that of flow `key`.
    #[inline]
    pub fn entry_of(&mut self, index: EntryIndex, key: &K) -> Option<&mut Entry<K>> {
        self.entry_mut(index).filter(|entry| entry.key.is(key))
    }

    /// Notes a packet at `now`: the connection at `index` ends `timeout` later.
    /// Does nothing when it has ended already.
    ///
    /// A deadline that moves later, as nearly all do, is only written down; the
    /// wheel notices when it comes to the old one.
    #[inline]
    pub fn touch(&mut self, index: EntryIndex, timeout: CoarseDuration, now: CoarseTime) {
        let Some(entry) = self.entry_mut(index) else {
            return;
        };
        if !entry.prolong(timeout, now) {
            entry.seen = now.as_steps();
            entry.deadline = deadline_after(now, timeout);
            self.wheel.unlink(&mut self.slots, index.0);
            self.wheel.link(&mut self.slots, index.0, now);
        }
    }

    /// Ends the connection at `index` and tells what it was.
    #[inline]
    pub fn remove(&mut self, index: EntryIndex) -> Option<Removed<K>> {
        self.entry(index)?;
        self.wheel.unlink(&mut self.slots, index.0);
        self.release(index.0)
    }

    /// Ends connections whose deadline has come at `now`, and calls
    /// `on_expired` with each before it goes. Looks at `budget` entries at
    /// most, so that a call has a bounded cost; to be called every burst or so.
    ///
    /// A connection ends at its deadline or within one step (62.5 ms) after it,
    /// plus what the budget left for later calls.
    pub fn expire(
        &mut self,
        now: CoarseTime,
        budget: u32,
        mut on_expired: impl FnMut(&Entry<K>),
    ) -> Expiry {
        let mut expiry = Expiry::default();
        // What is opened or touched meanwhile ends a step later at least.
        if self.expired == Some(now) {
            return expiry;
        }
        for _ in 0..budget {
            let Some(index) = self.wheel.take(&mut self.slots, now) else {
                self.expired = Some(now);
                return expiry;
            };
            let Some(entry) = self.slots.get(index as usize) else {
                return expiry;
            };
            self.directory.prefetch_place(entry.links.ahead());
            if now.has_reached(entry.deadline()) {
                on_expired(entry);
                self.release(index);
                expiry.expired += 1;
            } else {
                self.wheel.link(&mut self.slots, index, now);
            }
        }
        expiry.has_backlog = true;
        expiry
    }

    /// The connections in the `slots_max` slots from `cursor` on, and the
    /// cursor to go on from; `None` after the last slot. Starts with 0, and
    /// visits every connection that lives through the whole walk once.
    pub fn iter_from(
        &self,
        cursor: u32,
        slots_max: u32,
    ) -> (impl Iterator<Item = (EntryIndex, &Entry<K>)>, Option<u32>) {
        let end = cursor.saturating_add(slots_max).min(self.slot_count);
        let slots = self
            .slots
            .get(cursor as usize..end as usize)
            .unwrap_or_default();
        let used = (cursor..end)
            .zip(slots)
            .filter(|(_, entry)| !entry.is_free())
            .map(|(index, entry)| (EntryIndex(index), entry));
        (used, (end < self.slot_count).then_some(end))
    }

    /// Frees the slot of an entry that is no longer in the wheel.
    #[inline]
    fn release(&mut self, index: u32) -> Option<Removed<K>> {
        let entry = self.slots.get_mut(index as usize)?;
        self.directory.vacate(index, entry.passed);
        self.len -= 1;
        Some(entry.close())
    }

    #[inline]
    const fn is_under_pressure(&self) -> bool {
        let free = self.connections_max - self.len;
        free == 0 || free < self.connections_max / PRESSURE_FRACTION
    }

    /// Evicts a connection that waits for its handshake, oldest first, or else
    /// an idle one of few packets. Looks at a few candidates only.
    #[cold]
    #[inline(never)]
    fn evict_any(&mut self, now: CoarseTime) -> Option<Removed<K>> {
        let mut second_choice = None;
        for _ in 0..OLDEST_MAX {
            let Some(index) = self.opened.pop() else {
                break;
            };
            let ahead = self.opened.peek(OLDEST_AHEAD);
            if let Some(slot) = self.slots.get(ahead as usize) {
                prefetch_write(slot);
                self.directory.prefetch_place(ahead);
            }
            match self
                .slots
                .get(index as usize)
                .and_then(|entry| worth(entry, now))
            {
                Some(Worth::Embryonic) => return self.remove(EntryIndex(index)),
                Some(Worth::Idle) => second_choice = second_choice.or(Some(index)),
                None => {}
            }
        }
        for _ in 0..SWEEP_MAX {
            let index = self.sweep;
            self.sweep = if index + 1 == self.slot_count {
                0
            } else {
                index + 1
            };
            match self
                .slots
                .get(index as usize)
                .and_then(|entry| worth(entry, now))
            {
                Some(Worth::Embryonic) => return self.remove(EntryIndex(index)),
                Some(Worth::Idle) => second_choice = second_choice.or(Some(index)),
                None => {}
            }
        }
        self.remove(EntryIndex(second_choice?))
    }

    /// Evicts from the places where a flow with this hash may stand.
    #[cold]
    fn evict_from_places(&mut self, hash: FlowHash, now: CoarseTime) -> Option<Removed<K>> {
        let mut second_choice = None;
        for index in self.directory.places(hash) {
            match self
                .slots
                .get(index as usize)
                .and_then(|entry| worth(entry, now))
            {
                Some(Worth::Embryonic) => return self.remove(EntryIndex(index)),
                Some(Worth::Idle) => second_choice = second_choice.or(Some(index)),
                None => {}
            }
        }
        self.remove(EntryIndex(second_choice?))
    }
}

/// Why a connection may be evicted.
enum Worth {
    /// It has only seen a SYN or INIT.
    Embryonic,
    /// Few packets, none of them recent.
    Idle,
}

/// `None` when the slot is free or its connection may not be evicted.
#[inline]
fn worth<K: FlowKey>(entry: &Entry<K>, now: CoarseTime) -> Option<Worth> {
    if entry.is_free() {
        return None;
    }
    let state = entry.state();
    if state.is_embryonic() {
        return Some(Worth::Embryonic);
    }
    let is_idle = now.steps_since(entry.seen()) >= IDLE_STEPS_MIN;
    let has_few_packets = entry.packets() <= EVICTABLE_PACKETS_MAX;
    let is_established = matches!(state, State::Established | State::SctpEstablished);
    (!is_established && is_idle && has_few_packets).then_some(Worth::Idle)
}

/// Slots for a load of at most 0.65. The number of slots is not a power of
/// two, which would double the memory of a table just above one.
#[expect(clippy::cast_possible_truncation, reason = "at most 1.54 * 2^30")]
const fn slots_for(connections_max: u32) -> u32 {
    Directory::places_for((connections_max as u64 * 20).div_ceil(13) as u32)
}

/// Below this part of the capacity free, new connections evict others.
const PRESSURE_FRACTION: u32 = 16;

/// How many of the connections opened longest ago an eviction looks at. As the
/// reserve is a sixteenth of the capacity, even a queue that begins with all
/// of it in ESTABLISHED is worked off before the reserve is gone.
const OLDEST_MAX: usize = 17;

/// How many slots an eviction looks at when those gave nothing.
const SWEEP_MAX: usize = 8;

/// How far ahead of the oldest its successors are asked for from memory.
const OLDEST_AHEAD: usize = 8;

/// A connection of more packets is in use and not a scan or a flood.
const EVICTABLE_PACKETS_MAX: u32 = 3;

/// A connection without a packet for this long is idle.
const IDLE_STEPS_MIN: u32 = STEPS_PER_SECOND;

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
