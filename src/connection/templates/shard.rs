//! A shard of the table of templates: what stands behind one lock.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use bytemuck::Zeroable;

use super::{Ending, INVALID_L4_PORT, REARMED_S, Template, TemplateEvent, TemplateKey};
use crate::{
    connection::{
        time::{CoarseDuration, CoarseTime},
        wheel::{Links, Timed, Wheel},
    },
    flow::{FlowHash, HashKey},
    memory::{HugeSlice, MemoryError},
};

/// A part of the table. Slots are found by key through chains, and by deadline
/// through the wheel.
#[derive(Debug)]
pub(super) struct Shard {
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

/// Bytes of a template in its shard.
pub(super) const SLOT_LEN: u64 = (size_of::<Slot>() + size_of::<Link>()) as u64;

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
    pub(super) fn new(slot_count: u32, numa_node: Option<u32>) -> Result<Self, MemoryError> {
        Ok(Self {
            slots: HugeSlice::zeroed(slot_count as usize, numa_node)?,
            buckets: HugeSlice::zeroed(slot_count as usize, numa_node)?,
            free: 0,
            unused: 0,
            wheel: Wheel::new(),
            hand: 0,
        })
    }

    /// Where the template with this key stands, whose hash is `hash`.
    pub(super) fn find(&self, hash: FlowHash, key: &PackedKey) -> Option<u32> {
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

    /// The server of a template.
    pub(super) fn server_of(&self, index: u32) -> u32 {
        self.slots
            .get(index as usize)
            .map_or(u32::MAX, |slot| slot.server)
    }

    /// Does what should have happened to a template by now. Returns whether it
    /// lives on.
    pub(super) fn settle(
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
    pub(super) fn control(&mut self, index: u32, now: CoarseTime) -> u32 {
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
    pub(super) fn invalidate(&mut self, index: u32) {
        self.unchain(index);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.flags |= INVALID;
        }
    }

    /// Puts a template with one connection in. `None` when the shard is full.
    pub(super) fn insert(
        &mut self,
        hash: FlowHash,
        key: PackedKey,
        server: u32,
        timeout: CoarseDuration,
        now: CoarseTime,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) -> Option<u32> {
        let index = if let Some(index) = self.take_free() {
            index
        } else {
            self.evict(now, on_event)?;
            self.take_free()?
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

    /// A connection under a template was established.
    pub(super) fn assure(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.flags |= ASSURED;
        }
    }

    /// A connection under a template ended.
    pub(super) fn release(
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

    /// Ends templates whose time is over, and says how many. Looks at `budget`,
    /// which becomes what is left of it.
    pub(super) fn expire(
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

    /// Ends templates without connections in some slots, whose server `is_gone`.
    pub(super) fn end_unused(
        &mut self,
        slots: Range<u32>,
        is_gone: impl Fn(u32) -> bool,
        on_event: &mut impl FnMut(u32, TemplateEvent),
    ) {
        for index in slots {
            let ends = self.slots.get(index as usize).is_some_and(|slot| {
                slot.flags & USED != 0 && slot.controlled == 0 && is_gone(slot.server)
            });
            if ends {
                self.remove(index, TemplateEvent::Ended, on_event);
            }
        }
    }

    /// The templates in some slots.
    pub(super) fn templates(&self, slots: Range<u32>) -> impl Iterator<Item = Template> {
        let slots = self.slots.get(slots.start as usize..slots.end as usize);
        let used = slots.unwrap_or_default().iter();
        used.filter(|slot| slot.flags & USED != 0)
            .map(Slot::template)
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
pub(super) struct PackedKey {
    client: [u8; 16],
    service: [u8; 16],
    l4_port: u16,
    protocol: u8,
    is_ipv6: u8,
}

impl PackedKey {
    pub(super) fn hash(&self, key: &HashKey) -> FlowHash {
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

/// How many templates an eviction looks at.
const EVICTION_LOOKS: u32 = 16;
