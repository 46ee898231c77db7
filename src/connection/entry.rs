//! One connection in one cache line.
#![forbid(unsafe_code)]
#![expect(
    clippy::multiple_bound_locations,
    reason = "the derived Zeroable repeats the bound of the key"
)]

use std::mem::size_of;

use bytemuck::Zeroable;

use super::{
    state::State,
    time::{CoarseDuration, CoarseTime, STEPS_PER_SECOND},
    wheel::{Links, Timed},
};
use crate::flow::{FlowKey, FlowKeyV4};

/// A connection: the unit of the table, aligned to a cache line.
///
/// 64 bytes with an IPv4 key (all of a connection in one line), 128 with an
/// IPv6 key. A slot of zero bytes is free.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub struct Entry<K: FlowKey> {
    /// The flow.
    pub(super) key: K,
    /// The caller's number of the real server.
    pub(super) server: u32,
    /// When the connection ends unless a packet comes; may be later than the
    /// wheel believes.
    pub(super) deadline: u32,
    /// Last packet.
    pub(super) seen: u32,
    /// Packets of the client.
    packets: u32,
    /// Persistence: the template that controls this connection, in the
    /// caller's numbering.
    controller: u32,
    /// Where the wheel holds this entry.
    pub(super) links: Links,
    /// Number of a `State`; 0 when the slot is free.
    state: u8,
    /// Bits of the caller.
    flags: u8,
    /// Buckets of the directory that this entry passed over.
    pub(super) passed: u8,
}

const _: () = assert!(
    size_of::<Entry<FlowKeyV4>>() == 64,
    "one cache line per connection"
);

/// What a new connection starts with.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry {
    /// The caller's number of the real server.
    pub server: u32,
    /// The state the opening packet leads to.
    pub state: State,
    /// The caller's number of the controlling persistence template, or
    /// whatever it takes for none.
    pub controller: u32,
    /// Bits of the caller.
    pub flags: u8,
}

/// What was known of a connection that is no longer in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<K: FlowKey> {
    /// The flow.
    pub key: K,
    /// The caller's number of the real server.
    pub server: u32,
    /// The state it ended in.
    pub state: State,
    /// The caller's number of the controlling persistence template.
    pub controller: u32,
    /// Bits of the caller.
    pub flags: u8,
}

/// One step more than `timeout`, since `now` is rounded down to a step: the
/// connection must not end early.
#[inline]
pub(super) fn deadline_after(now: CoarseTime, timeout: CoarseDuration) -> u32 {
    (now + timeout).as_steps().wrapping_add(1)
}

impl<K: FlowKey> Timed for Entry<K> {
    #[inline]
    fn deadline(&self) -> u32 {
        self.deadline
    }

    #[inline]
    fn links(&self) -> &Links {
        &self.links
    }

    #[inline]
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl<K: FlowKey> Entry<K> {
    /// The flow.
    #[inline]
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// The caller's number of the real server.
    #[inline]
    pub const fn server(&self) -> u32 {
        self.server
    }

    /// Moves the connection to another real server.
    #[inline]
    pub const fn set_server(&mut self, server: u32) {
        self.server = server;
    }

    /// The state of the connection.
    #[inline]
    pub fn state(&self) -> State {
        // Only a free slot has no state, and the table hands out none of those.
        State::from_number(self.state).unwrap_or(State::Close)
    }

    /// Changes the state. The deadline stays until the next `Table::touch`.
    #[inline]
    pub const fn set_state(&mut self, state: State) {
        self.state = state as u8;
    }

    /// Packets of the client, the opening one included; stays at the largest
    /// number when it gets there.
    #[inline]
    pub const fn packets(&self) -> u32 {
        self.packets
    }

    /// Counts a packet of the client.
    #[inline]
    pub const fn count_packet(&mut self) {
        self.packets = self.packets.saturating_add(1);
    }

    /// Notes a packet at `now`: the connection ends `timeout` later. `false`, and
    /// nothing is noted, when that is earlier than what the timer wheel may
    /// believe: then it takes `Table::touch`.
    #[inline]
    pub fn prolong(&mut self, timeout: CoarseDuration, now: CoarseTime) -> bool {
        let deadline = deadline_after(now, timeout);
        if !CoarseTime::from_steps(deadline).has_reached(self.deadline()) {
            return false;
        }
        self.seen = now.as_steps();
        self.deadline = deadline;
        true
    }

    /// The caller's number of the controlling persistence template.
    #[inline]
    pub const fn controller(&self) -> u32 {
        self.controller
    }

    /// Bits of the caller.
    #[inline]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Replaces the bits of the caller.
    #[inline]
    pub const fn set_flags(&mut self, flags: u8) {
        self.flags = flags;
    }

    /// When the connection ends unless a packet comes.
    #[inline]
    pub const fn deadline(&self) -> CoarseTime {
        CoarseTime::from_steps(self.deadline)
    }

    /// When the last packet came.
    #[inline]
    pub const fn seen(&self) -> CoarseTime {
        CoarseTime::from_steps(self.seen)
    }

    /// Whole seconds until the connection ends, rounded down as `ipvsadm -Lcn`
    /// prints them.
    pub const fn seconds_left(&self, now: CoarseTime) -> u32 {
        self.deadline().steps_since(now).saturating_sub(1) / STEPS_PER_SECOND
    }

    #[inline]
    pub(super) const fn is_free(&self) -> bool {
        self.state == 0
    }

    /// Fills a free slot. Links and deadline are the wheel's.
    #[inline]
    pub(super) fn open(&mut self, key: K, new: &NewEntry, passed: u8, now: CoarseTime) {
        *self = Self {
            key,
            server: new.server,
            seen: now.as_steps(),
            packets: 1,
            controller: new.controller,
            state: new.state as u8,
            flags: new.flags,
            passed,
            ..Self::zeroed()
        };
    }

    /// Frees the slot.
    #[inline]
    pub(super) fn close(&mut self) -> Removed<K> {
        let removed = Removed {
            key: self.key,
            server: self.server,
            state: self.state(),
            controller: self.controller,
            flags: self.flags,
        };
        *self = Self::zeroed();
        removed
    }
}
