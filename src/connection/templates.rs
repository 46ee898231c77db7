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

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use bytemuck::Zeroable;
use crossbeam::utils::CachePadded;

use super::{
    table::Expiry,
    time::{CoarseDuration, CoarseTime},
    wheel::{Links, Timed, Wheel},
};
use crate::{
    flow::{FlowHash, HashKey},
    memory::{HugeSlice, MemoryError},
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
        templates_max as u64 * (size_of::<Slot>() + size_of::<u32>()) as u64
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
        let number = hash.as_u64() as usize % self.shards.len().max(1);
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
        if let Some(mut shard) = self.lock(number)
            && let Some(slot) = shard.slots.get_mut(index as usize)
        {
            slot.flags |= ASSURED;
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
        for index in slots {
            let ends = shard.slots.get(index as usize).is_some_and(|slot| {
                slot.flags & USED != 0 && slot.controlled == 0 && is_gone(slot.server)
            });
            if ends {
                shard.remove(index, TemplateEvent::Ended, &mut |server, event| {
                    self.count(event);
                    on_event(server, event);
                });
            }
        }
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
            let slots = shard.slots.get(slots.start as usize..slots.end as usize);
            let used = slots.unwrap_or_default().iter();
            found.extend(
                used.filter(|slot| slot.flags & USED != 0)
                    .map(Slot::template),
            );
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

/// A part of the table. Slots are found by key through chains, and by deadline
/// through the wheel.
#[derive(Debug)]
struct Shard {
    slots: HugeSlice<Slot>,
    /// The first slot of each chain.
    buckets: HugeSlice<Link>,
    /// The first of the slots that were used and are free again.
    free: Link,
    /// Slots from here on were never used.
    unused: u32,
    wheel: Wheel,
    /// Where the search for a template to evict goes on.
    hand: u32,
}

/// A slot's index plus 1; 0 is none. So that zero bytes are empty chains.
type Link = u32;

/// A template, or a free slot, which has no flags.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C)]
struct Slot {
    key: PackedKey,
    server: u32,
    deadline: u32,
    /// Steps from an opened connection to the deadline.
    timeout: u32,
    controlled: u32,
    bucket: u32,
    /// The next in the chain of the same bucket, or the next free slot.
    chain: Link,
    links: Links,
    flags: u8,
}

const USED: u8 = 1;
const ASSURED: u8 = 2;
/// No longer in a chain: its server was not available.
const INVALID: u8 = 4;

impl Timed for Slot {
    fn deadline(&self) -> u32 {
        self.deadline
    }

    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Slot {
    /// Goes on for [`REARMED_S`] after each deadline that has passed, while
    /// there are connections. Returns whether the template lives on.
    fn rearm(&mut self, now: CoarseTime) -> bool {
        if !now.has_reached(CoarseTime::from_steps(self.deadline)) {
            return true;
        }
        if self.controlled == 0 {
            return false;
        }
        let rearmed = CoarseDuration::from_seconds(REARMED_S).as_steps();
        let late = now.steps_since(CoarseTime::from_steps(self.deadline));
        let times = late / rearmed + 1;
        self.deadline = self.deadline.wrapping_add(times * rearmed);
        self.timeout = rearmed;
        true
    }

    fn template(&self) -> Template {
        let mut key = TemplateKey::from(&self.key);
        if self.flags & INVALID != 0 {
            key.l4_port = INVALID_L4_PORT;
        }
        Template {
            key,
            server: self.server,
            assured: self.flags & ASSURED != 0,
            controlled: self.controlled,
            deadline: CoarseTime::from_steps(self.deadline),
        }
    }
}

impl Shard {
    fn new(slot_count: u32, numa_node: Option<u32>) -> Result<Self, MemoryError> {
        Ok(Self {
            slots: HugeSlice::zeroed(slot_count as usize, numa_node)?,
            buckets: HugeSlice::zeroed(slot_count as usize, numa_node)?,
            free: 0,
            unused: 0,
            wheel: Wheel::new(),
            hand: 0,
        })
    }

    fn find(&self, hash: FlowHash, key: &PackedKey) -> Option<u32> {
        let mut link = *self.buckets.get(self.bucket(hash) as usize)?;
        loop {
            let index = link.checked_sub(1)?;
            let slot = self.slots.get(index as usize)?;
            if slot.key == *key {
                return Some(index);
            }
            link = slot.chain;
        }
    }

    fn server_of(&self, index: u32) -> u32 {
        self.slots
            .get(index as usize)
            .map_or(u32::MAX, |slot| slot.server)
    }

    /// Does what should have happened to a template by now. Returns whether it
    /// lives on.
    fn settle(
        &mut self,
        index: u32,
        now: CoarseTime,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) -> bool {
        let lives = self
            .slots
            .get_mut(index as usize)
            .is_some_and(|slot| slot.rearm(now));
        if !lives {
            self.remove(index, TemplateEvent::Ended, on_event);
        }
        lives
    }

    /// Another connection is opened under a template. Returns its server.
    fn control(&mut self, index: u32, now: CoarseTime) -> u32 {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return u32::MAX;
        };
        slot.controlled += 1;
        // Never before the old one, as timeouts only ever become a re-armed
        // template's: the wheel need not know.
        slot.deadline = deadline_after(now, slot.timeout);
        slot.server
    }

    /// Takes a template out of its chain: it attracts no more connections, and
    /// ends when its time is over.
    fn invalidate(&mut self, index: u32) {
        self.unchain(index);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.flags |= INVALID;
        }
    }

    /// Puts a template with one connection in. `None` when the shard is full.
    fn insert(
        &mut self,
        hash: FlowHash,
        key: PackedKey,
        server: u32,
        timeout: CoarseDuration,
        now: CoarseTime,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) -> Option<u32> {
        let index = match self.take_free() {
            Some(index) => index,
            None => {
                self.evict(now, on_event)?;
                self.take_free()?
            }
        };
        let bucket = self.bucket(hash);
        let head = self.buckets.get_mut(bucket as usize)?;
        let slot = self.slots.get_mut(index as usize)?;
        *slot = Slot {
            key,
            server,
            deadline: deadline_after(now, timeout.as_steps()),
            timeout: timeout.as_steps(),
            controlled: 1,
            bucket,
            chain: *head,
            flags: USED,
            ..Slot::zeroed()
        };
        *head = index + 1;
        self.wheel.link(&mut self.slots, index, now);
        on_event(server, TemplateEvent::Began);
        Some(index)
    }

    fn release(
        &mut self,
        index: u32,
        ending: Ending,
        now: CoarseTime,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        // What passed while the connection was there comes first.
        slot.rearm(now);
        slot.controlled = slot.controlled.saturating_sub(1);
        if slot.controlled > 0 || slot.flags & USED == 0 {
            return;
        }
        match ending {
            Ending::Natural => {}
            Ending::Evicted if slot.flags & ASSURED != 0 => {}
            Ending::Evicted => self.remove(index, TemplateEvent::Evicted, on_event),
            Ending::Flushed => self.remove(index, TemplateEvent::Ended, on_event),
        }
    }

    fn expire(
        &mut self,
        now: CoarseTime,
        budget: &mut u32,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) -> u32 {
        let mut expired = 0;
        while *budget > 0
            && let Some(index) = self.wheel.take(&mut self.slots, now)
        {
            *budget -= 1;
            let slot = self.slots.get_mut(index as usize);
            if slot.is_some_and(|slot| slot.rearm(now)) {
                self.wheel.link(&mut self.slots, index, now);
            } else {
                self.free(index, TemplateEvent::Ended, on_event);
                expired += 1;
            }
        }
        expired
    }

    /// Makes room by ending a template without connections that was never
    /// assured or is invalid. Looks at a few only.
    #[cold]
    fn evict(
        &mut self,
        now: CoarseTime,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) -> Option<()> {
        let slot_count = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        for _ in 0..EVICTION_LOOKS.min(slot_count) {
            let index = self.hand;
            self.hand = (index + 1) % slot_count;
            let slot = self.slots.get_mut(index as usize)?;
            if !slot.rearm(now) {
                self.remove(index, TemplateEvent::Ended, on_event);
                return Some(());
            }
            if slot.controlled == 0 && (slot.flags & ASSURED == 0 || slot.flags & INVALID != 0) {
                self.remove(index, TemplateEvent::Evicted, on_event);
                return Some(());
            }
        }
        None
    }

    /// Ends a template before the wheel does.
    fn remove(
        &mut self,
        index: u32,
        event: TemplateEvent,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) {
        self.wheel.unlink(&mut self.slots, index);
        self.free(index, event, on_event);
    }

    /// Frees the slot of a template that is no longer in the wheel.
    fn free(
        &mut self,
        index: u32,
        event: TemplateEvent,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) {
        let Some(&Slot { server, flags, .. }) = self.slots.get(index as usize) else {
            return;
        };
        if flags & INVALID == 0 {
            self.unchain(index);
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Slot {
                chain: self.free,
                ..Slot::zeroed()
            };
            self.free = index + 1;
        }
        on_event(server, event);
    }

    fn take_free(&mut self) -> Option<u32> {
        if let Some(index) = self.free.checked_sub(1) {
            self.free = self.slots.get(index as usize)?.chain;
            return Some(index);
        }
        let index = self.unused;
        self.slots.get(index as usize)?;
        self.unused += 1;
        Some(index)
    }

    fn unchain(&mut self, index: u32) {
        let Some(&Slot { bucket, chain, .. }) = self.slots.get(index as usize) else {
            return;
        };
        let Some(head) = self.buckets.get_mut(bucket as usize) else {
            return;
        };
        if *head == index + 1 {
            *head = chain;
            return;
        }
        let mut link = *head;
        while let Some(before) = link.checked_sub(1)
            && let Some(slot) = self.slots.get_mut(before as usize)
        {
            if slot.chain == index + 1 {
                slot.chain = chain;
                return;
            }
            link = slot.chain;
        }
    }

    fn bucket(&self, hash: FlowHash) -> u32 {
        hash.reduce(u32::try_from(self.buckets.len()).unwrap_or(u32::MAX))
    }
}

/// A key without padding: addresses of IPv4 fill the first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable)]
#[repr(C)]
struct PackedKey {
    client: [u8; 16],
    service: [u8; 16],
    l4_port: u16,
    protocol: u8,
    is_ipv6: u8,
}

impl PackedKey {
    fn hash(&self, key: &HashKey) -> FlowHash {
        let halves = |bytes: [u8; 16]| {
            let bits = u128::from_ne_bytes(bytes);
            #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
            let halves = (bits as u64, (bits >> 64) as u64);
            halves
        };
        let (client, service) = (halves(self.client), halves(self.service));
        let rest = u64::from(self.l4_port)
            | u64::from(self.protocol) << 16
            | u64::from(self.is_ipv6) << 24;
        let hash = key.hash_two(client.0, client.1).as_u64();
        let hash = key.hash_two(hash ^ service.0, service.1).as_u64();
        key.hash_two(hash, rest)
    }
}

impl From<&TemplateKey> for PackedKey {
    fn from(key: &TemplateKey) -> Self {
        Self {
            client: packed(key.client),
            service: packed(key.service),
            l4_port: key.l4_port,
            protocol: key.protocol,
            is_ipv6: key.client.is_ipv6().into(),
        }
    }
}

impl From<&PackedKey> for TemplateKey {
    fn from(key: &PackedKey) -> Self {
        let unpacked = |bytes: [u8; 16]| match bytes {
            bytes if key.is_ipv6 != 0 => IpAddr::V6(Ipv6Addr::from(bytes)),
            [a, b, c, d, ..] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        };
        Self {
            protocol: key.protocol,
            client: unpacked(key.client),
            service: unpacked(key.service),
            l4_port: key.l4_port,
        }
    }
}

fn packed(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// One step more than `steps`, since `now` is rounded down to a step: the
/// template must not end early.
fn deadline_after(now: CoarseTime, steps: u32) -> u32 {
    now.as_steps().wrapping_add(steps).wrapping_add(1)
}

/// Enough that workers seldom meet, and few enough that the shards of a small
/// table are filled evenly.
fn shard_count_for(templates_max: u32) -> u32 {
    (templates_max / SLOTS_PER_SHARD_MIN).clamp(1, SHARDS_MAX)
}

const SHARDS_MAX: u32 = 64;
const SLOTS_PER_SHARD_MIN: u32 = 256;

/// How many templates an eviction looks at.
const EVICTION_LOOKS: u32 = 16;

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
