//! Persistence templates: which real server the next connections of a client
//! go to.
//!
//! The first connection of a client (or of a network of clients, as the
//! service's mask says) to a persistent service makes a template; those that
//! follow take its real server. A template lives for the timeout of its service
//! after the last connection that was opened under it. When that time is over
//! and connections are left, it goes on for [`REARMED_S`] more, again and
//! again, as in Linux IPVS.
//!
//! Unlike connections, templates are shared by all workers: one client has one
//! real server, whichever worker its connections hit. The table is cut into
//! shards, each behind a lock of its own that is held for a search, a pick of
//! the scheduler and a few writes. Only workers take these locks, and only when
//! a connection of a persistent service is opened, established for the first
//! time, or ends; no packet in between does. All memory is taken at start.
//!
//! A table knows no services, schedulers or counters: it tells its caller of
//! every template that begins or ends.
#![forbid(unsafe_code)]

mod shard;

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crossbeam::utils::CachePadded;

use self::shard::{PackedKey, SLOT_LEN, Shard};
use super::{
    table::Expiry,
    time::{CoarseDuration, CoarseTime},
};
use crate::{
    flow::{FlowHash, HashKey},
    memory::MemoryError,
};

/// The most templates that a table can be made for.
pub const TEMPLATES_LIMIT: u32 = 1 << 26;

/// How long a template goes on for connections that outlive it, in seconds.
pub const REARMED_S: u32 = 60;

/// What the connections under one template have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateKey {
    /// The number in the IP header's protocol field; 0 (IP) when the service
    /// takes several protocols.
    pub protocol: u8,
    /// The client's address, masked. Of the same family as `service`.
    pub client: IpAddr,
    /// The VIP, or whatever else names the service.
    pub service: IpAddr,
    /// The service port; 0 when the service takes several.
    pub l4_port: u16,
}

/// The number of a template. Good as long as a connection under it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateIndex(NonZeroU32);

impl TemplateIndex {
    /// As a connection keeps it: 0 is none.
    pub const fn to_controller(index: Option<Self>) -> u32 {
        match index {
            Some(index) => index.0.get(),
            None => 0,
        }
    }

    /// From what a connection keeps.
    pub const fn of_controller(controller: u32) -> Option<Self> {
        match NonZeroU32::new(controller) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// The real server of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The caller's number of the real server.
    pub server: u32,
    /// The template that controls the connection from now on; `None` when there
    /// was no room for one.
    pub template: Option<TemplateIndex>,
}

/// What happened to a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateEvent {
    /// It is new.
    Began,
    /// It ended: its time was over, or its server is gone.
    Ended,
    /// It had to give way to another, or ended with an evicted connection.
    Evicted,
}

/// How a connection under a template ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It timed out or was replaced. The template stays until its time is over.
    Natural,
    /// It was evicted. Its template ends with it, unless it controls others or
    /// one under it was ever established.
    Evicted,
    /// Its server was deleted and its connections flushed. The template ends
    /// with the last of them.
    Flushed,
}

/// A copy of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// What its connections have in common. Of an invalid template the port is
    /// [`INVALID_L4_PORT`].
    pub key: TemplateKey,
    /// The caller's number of the real server.
    pub server: u32,
    /// Whether a connection under it was ever established.
    pub assured: bool,
    /// Open connections under it.
    pub controlled: u32,
    /// When it ends, unless a connection is opened under it or is left.
    pub deadline: CoarseTime,
}

impl Template {
    /// As `ipvsadm -Lcn` prints it.
    pub const fn state_name(&self) -> &'static str {
        if self.assured { "ASSURED" } else { "NONE" }
    }
}

/// The port that Linux IPVS shows for a template which no longer attracts
/// connections, since its server is not available.
pub const INVALID_L4_PORT: u16 = 65_535;

/// All templates of a director.
#[derive(Debug)]
pub struct Templates {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    slots_per_shard: u32,
    hash_key: HashKey,
    len: AtomicU32,
}

impl Templates {
    /// A table for about `templates_max` (1 to [`TEMPLATES_LIMIT`]; others are
    /// taken for the nearest) templates, with its memory preferably on
    /// `numa_node`.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(
        templates_max: u32,
        hash_key: HashKey,
        numa_node: Option<u32>,
    ) -> Result<Self, MemoryError> {
        let templates_max = templates_max.clamp(1, TEMPLATES_LIMIT);
        let shard_count = shard_count_for(templates_max);
        let slots_per_shard = templates_max.div_ceil(shard_count);
        let shards = (0..shard_count)
            .map(|_| {
                Ok(CachePadded::new(Mutex::new(Shard::new(
                    slots_per_shard,
                    numa_node,
                )?)))
            })
            .collect::<Result<_, MemoryError>>()?;
        Ok(Self {
            shards,
            slots_per_shard,
            hash_key,
            len: AtomicU32::new(0),
        })
    }

    /// Bytes that a table for `templates_max` templates takes, about.
    pub const fn memory_bytes_for(templates_max: u32) -> u64 {
        templates_max as u64 * SLOT_LEN
    }

    /// Templates in the table, the invalid ones included.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Whether there is no template.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The real server for a connection that is being opened, under the
    /// template with this key: the template's own if `is_usable` says so, else
    /// what `pick` gives, for which a new template with this `timeout` is made.
    /// `None` when `pick` gives none.
    ///
    /// The lock is held while `pick` runs, so that of two workers that open the
    /// first connections of a client at once, one waits and takes the server of
    /// the other. Neither function may call this table.
    pub fn attach(
        &self,
        key: &TemplateKey,
        timeout: CoarseDuration,
        now: CoarseTime,
        is_usable: impl FnOnce(u32) -> bool,
        pick: impl FnOnce() -> Option<u32>,
        mut on_event: impl FnMut(u32, TemplateEvent),
    ) -> Option<Attached> {
        let key = PackedKey::from(key);
        let hash = key.hash(&self.hash_key);
        let number = self.shard_of(hash)?;
        let mut shard = self.lock(number)?;
        let mut on_event = |server, event| {
            self.count(event);
            on_event(server, event);
        };
        if let Some(index) = shard.find(hash, &key)
            && shard.settle(index, now, &mut on_event)
        {
            if is_usable(shard.server_of(index)) {
                let server = shard.control(index, now);
                return Some(Attached {
                    server,
                    template: self.number(number, index),
                });
            }
            shard.invalidate(index);
        }
        let server = pick()?;
        let index = shard.insert(hash, key, server, timeout, now, &mut on_event);
        Some(Attached {
            server,
            template: index.and_then(|index| self.number(number, index)),
        })
    }

    /// A copy of the template with this key, if connections still come to it.
    pub fn find(&self, key: &TemplateKey) -> Option<Template> {
        let key = PackedKey::from(key);
        let hash = key.hash(&self.hash_key);
        let shard = self.lock(self.shard_of(hash)?)?;
        let index = shard.find(hash, &key)?;
        shard.templates(index..index + 1).next()
    }

    /// A connection under a template ended.
    pub fn release(
        &self,
        template: TemplateIndex,
        ending: Ending,
        now: CoarseTime,
        mut on_event: impl FnMut(u32, TemplateEvent),
    ) {
        let (number, index) = self.place(template);
        if let Some(mut shard) = self.lock(number) {
            shard.release(index, ending, now, &mut |server, event| {
                self.count(event);
                on_event(server, event);
            });
        }
    }

    /// A connection under a template was established.
    pub fn assure(&self, template: TemplateIndex) {
        let (number, index) = self.place(template);
        if let Some(mut shard) = self.lock(number) {
            shard.assure(index);
        }
    }

    /// Ends templates whose time is over, in the shards of the `worker`th of
    /// `workers`. Looks at `budget` templates at most. Shards that are in use
    /// are left for the next call.
    pub fn expire(
        &self,
        (worker, workers): (usize, usize),
        now: CoarseTime,
        budget: u32,
        mut on_event: impl FnMut(u32, TemplateEvent),
    ) -> Expiry {
        let mut expiry = Expiry::default();
        let mut budget = budget;
        let mut on_event = |server, event| {
            self.count(event);
            on_event(server, event);
        };
        for shard in self.shards.iter().skip(worker).step_by(workers.max(1)) {
            let Ok(mut shard) = shard.try_lock() else {
                expiry.has_backlog = true;
                continue;
            };
            expiry.expired += shard.expire(now, &mut budget, &mut on_event);
            if budget == 0 {
                expiry.has_backlog = true;
                break;
            }
        }
        expiry
    }

    /// Ends templates without connections whose server `is_gone`, looking at
    /// `slots_max` slots from `cursor` on, of one shard at most. Returns where
    /// to go on, or `None` at the end.
    pub fn end_unused(
        &self,
        cursor: u32,
        slots_max: u32,
        is_gone: impl Fn(u32) -> bool,
        mut on_event: impl FnMut(u32, TemplateEvent),
    ) -> Option<u32> {
        let (number, slots, next) = self.span(cursor, slots_max)?;
        let mut shard = self.lock(number)?;
        shard.end_unused(slots, is_gone, &mut |server, event| {
            self.count(event);
            on_event(server, event);
        });
        next
    }

    /// Copies of the templates in the `slots_max` slots from `cursor` on, of one
    /// shard at most, and where to go on; `None` at the end. Starts with 0.
    pub fn page(&self, cursor: u32, slots_max: u32) -> (Vec<Template>, Option<u32>) {
        let Some((number, slots, next)) = self.span(cursor, slots_max) else {
            return (Vec::new(), None);
        };
        let mut found = Vec::with_capacity(slots.len());
        if let Some(shard) = self.lock(number) {
            found.extend(shard.templates(slots));
        }
        (found, next)
    }

    fn count(&self, event: TemplateEvent) {
        match event {
            TemplateEvent::Began => self.len.fetch_add(1, Ordering::Relaxed),
            TemplateEvent::Ended | TemplateEvent::Evicted => {
                self.len.fetch_sub(1, Ordering::Relaxed)
            }
        };
    }

    /// The shard of a template. The upper bits of the hash choose the chain in
    /// it.
    fn shard_of(&self, hash: FlowHash) -> Option<usize> {
        usize::try_from(hash.as_u64() % self.shards.len().max(1) as u64).ok()
    }

    fn lock(&self, shard: usize) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(shard)?;
        // A worker that panicked leaves at worst a template that lives too
        // long.
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of a slot of a shard, from 1 on.
    fn number(&self, shard: usize, index: u32) -> Option<TemplateIndex> {
        let shard = u32::try_from(shard).ok()?;
        NonZeroU32::new(shard * self.slots_per_shard + index + 1).map(TemplateIndex)
    }

    fn place(&self, template: TemplateIndex) -> (usize, u32) {
        let number = template.0.get() - 1;
        (
            (number / self.slots_per_shard) as usize,
            number % self.slots_per_shard,
        )
    }

    /// The shard and the slots in it that a walk over all slots comes to at
    /// `cursor`, and where it goes on.
    fn span(
        &self,
        cursor: u32,
        slots_max: u32,
    ) -> Option<(usize, std::ops::Range<u32>, Option<u32>)> {
        let shard = cursor / self.slots_per_shard;
        let start = cursor % self.slots_per_shard;
        let end = start.saturating_add(slots_max).min(self.slots_per_shard);
        let next = shard * self.slots_per_shard + end;
        let total = u32::try_from(self.shards.len()).ok()? * self.slots_per_shard;
        (cursor < total).then_some((shard as usize, start..end, (next < total).then_some(next)))
    }
}

/// Enough that workers seldom meet, and few enough that the shards of a small
/// table are filled evenly.
fn shard_count_for(templates_max: u32) -> u32 {
    (templates_max / SLOTS_PER_SHARD_MIN).clamp(1, SHARDS_MAX)
}

const SHARDS_MAX: u32 = 64;
const SLOTS_PER_SHARD_MIN: u32 = 256;

#[cfg(test)]
mod tests;
