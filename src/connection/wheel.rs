//! A hierarchical timer wheel whose lists run through the entries themselves.
//!
//! Six levels of 64 slots, each level 64 times as coarse as the one below.
//! An entry stands at the level of the highest six bits in which its deadline
//! differs from the cursor, so a list is moved down only when the cursor
//! reaches its span, and never back into a list that is being emptied. Entries
//! are taken out one at a time: a list of a million entries is worked off over
//! as many calls as its owner's budget takes, without a long pause.
//!
//! The wheel may hold an entry too early, for packets move deadlines without
//! telling it: whoever takes an entry out compares its deadline and puts it
//! back when it has moved.
#![forbid(unsafe_code)]

use bytemuck::Zeroable;

use super::time::CoarseTime;
use crate::memory::prefetch_write;

/// What a wheel can hold: something with a deadline, and room for the links.
pub(super) trait Timed {
    /// The step of time at which it is due.
    fn deadline(&self) -> u32;
    /// Its place in the wheel.
    fn links(&self) -> &Links;
    /// Its place in the wheel.
    fn links_mut(&mut self) -> &mut Links;
}

/// The place of an entry in the wheel. Means nothing while it is in none.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C)]
pub(super) struct Links {
    /// Neighbours in the list of one slot.
    pub(super) next: u32,
    pub(super) previous: u32,
    /// The entry that was put into the wheel some places before this one, for
    /// prefetching; a hint that may be stale.
    ahead: u32,
    /// The list that holds this entry.
    pub(super) list: u16,
}

impl Links {
    /// What is likely to be taken out some places after this entry.
    pub(super) const fn ahead(&self) -> u32 {
        self.ahead
    }
}

/// Marks the end of a list, and a list with no entries.
pub(super) const NIL: u32 = u32::MAX;

const LEVELS: usize = 6;
const LEVEL_BITS: u32 = 6;
const SLOTS_PER_LEVEL: usize = 1 << LEVEL_BITS;
const SLOT_MASK: u32 = (1 << LEVEL_BITS) - 1;
/// The coarsest level is the only one whose slots are passed in a circle when
/// the 32-bit time wraps; it has 32 - 5 * 6 = 2 bits, so 4 slots.
const TOP: usize = LEVELS - 1;

/// How many entries ahead of the one taken out are asked for from memory.
const AHEAD: usize = 8;

/// The lists' heads and what time the wheel has got to.
#[derive(Debug)]
pub(super) struct Wheel {
    /// All deadlines before this step have been worked off.
    cursor: u32,
    /// The list that is being emptied.
    current: Option<u16>,
    /// One bit for each list that is not empty.
    occupied: [u64; LEVELS],
    heads: [u32; LEVELS * SLOTS_PER_LEVEL],
    /// The entries put in last, in a circle.
    recent: [u32; AHEAD],
    recent_at: usize,
}

impl Wheel {
    pub(super) const fn new() -> Self {
        Self {
            cursor: 0,
            current: None,
            occupied: [0; LEVELS],
            heads: [NIL; LEVELS * SLOTS_PER_LEVEL],
            recent: [NIL; AHEAD],
            recent_at: 0,
        }
    }

    /// Puts the entry at `index` where its deadline belongs. It must not be in
    /// the wheel. A deadline that the cursor has passed is taken for the next
    /// step.
    #[inline]
    pub(super) fn link<T: Timed>(&mut self, entries: &mut [T], index: u32, now: CoarseTime) {
        if self.occupied == [0; LEVELS] {
            // Nothing is waiting, so nothing lies between the cursor and now.
            self.cursor = now.as_steps();
            self.current = None;
        }
        let ahead = self.remember(index);
        let Some(entry) = entries.get_mut(index as usize) else {
            return;
        };
        let list = self.list_for(entry.deadline());
        let Some(head) = self.heads.get_mut(usize::from(list)) else {
            return;
        };
        let next = std::mem::replace(head, index);
        *entry.links_mut() = Links {
            next,
            previous: NIL,
            ahead,
            list,
        };
        if let Some(next) = entries.get_mut(next as usize) {
            next.links_mut().previous = index;
        }
        self.mark(list, true);
    }

    /// Takes the entry at `index` out. It must be in the wheel.
    #[inline]
    pub(super) fn unlink<T: Timed>(&mut self, entries: &mut [T], index: u32) {
        let Some(&Links {
            next,
            previous,
            list,
            ..
        }) = entries.get(index as usize).map(Timed::links)
        else {
            return;
        };
        if let Some(next) = entries.get_mut(next as usize) {
            next.links_mut().previous = previous;
        }
        if let Some(previous) = entries.get_mut(previous as usize) {
            previous.links_mut().next = next;
        } else if let Some(head) = self.heads.get_mut(usize::from(list)) {
            *head = next;
            if next == NIL {
                self.mark(list, false);
            }
        }
    }

    /// Takes out one entry that the wheel holds for `now` or earlier, or that
    /// it has to sort more finely because the cursor has reached its span.
    /// Empty slots cost nothing, however far `now` has jumped.
    #[inline]
    pub(super) fn take<T: Timed>(&mut self, entries: &mut [T], now: CoarseTime) -> Option<u32> {
        loop {
            if let Some(list) = self.current {
                let head = self.heads.get(usize::from(list)).copied().unwrap_or(NIL);
                if let Some(entry) = entries.get(head as usize) {
                    if let Some(ahead) = entries.get(entry.links().ahead as usize) {
                        prefetch_write(ahead);
                    }
                    self.unlink(entries, head);
                    return Some(head);
                }
            }
            self.current = self.list_at_cursor();
            if self.current.is_none() && !self.advance(now) {
                return None;
            }
        }
    }

    /// The heads of all lists, for checks.
    #[cfg(test)]
    pub(super) const fn heads(&self) -> &[u32] {
        &self.heads
    }

    /// Moves the cursor to the next list that is not empty and reports whether
    /// there was one up to `now`.
    fn advance(&mut self, now: CoarseTime) -> bool {
        if !now.has_reached(CoarseTime::from_steps(self.cursor)) {
            return false;
        }
        match self.next_list() {
            Some(step) if now.has_reached(CoarseTime::from_steps(step)) => {
                self.cursor = step;
                true
            }
            _ => {
                self.cursor = now.as_steps();
                false
            }
        }
    }

    /// The list for a deadline, as seen from the cursor.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 6 * 64 lists")]
    fn list_for(&self, deadline: u32) -> u16 {
        let is_later = deadline != self.cursor
            && CoarseTime::from_steps(deadline).has_reached(CoarseTime::from_steps(self.cursor));
        let step = if is_later {
            deadline
        } else {
            self.cursor.wrapping_add(1)
        };
        let level = ((step ^ self.cursor) | 1).ilog2() / LEVEL_BITS;
        let slot = (step >> (level * LEVEL_BITS)) & SLOT_MASK;
        (level << LEVEL_BITS | slot) as u16
    }

    /// A list whose span begins at the cursor and that is not empty yet.
    #[expect(clippy::cast_possible_truncation, reason = "at most 6 * 64 lists")]
    fn list_at_cursor(&self) -> Option<u16> {
        (0_u32..).zip(self.occupied).find_map(|(level, occupied)| {
            let slot = (self.cursor >> (level * LEVEL_BITS)) & SLOT_MASK;
            (occupied >> slot & 1 == 1).then_some((level << LEVEL_BITS | slot) as u16)
        })
    }

    /// The step at which the span of the next list that is not empty begins.
    ///
    /// All lists of a level begin before those of the next coarser one: the
    /// latter lie beyond the coarser slot that the cursor is in.
    fn next_list(&self) -> Option<u32> {
        let (level, occupied) = (0_u32..).zip(self.occupied).find(|&(_, bits)| bits != 0)?;
        let shift = level * LEVEL_BITS;
        if level as usize == TOP {
            let here = self.cursor >> shift;
            let slots = (1..4).map(|ahead| (here + ahead) & 3);
            return slots
                .into_iter()
                .find(|slot| occupied >> slot & 1 == 1)
                .map(|s| s << shift);
        }
        let slot = occupied.trailing_zeros();
        let base = self.cursor >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
        Some(base | slot << shift)
    }

    #[inline]
    fn mark(&mut self, list: u16, occupied: bool) {
        let bit = 1_u64 << (u32::from(list) & SLOT_MASK);
        if let Some(bits) = self.occupied.get_mut(usize::from(list >> LEVEL_BITS)) {
            *bits = if occupied { *bits | bit } else { *bits & !bit };
        }
    }

    /// Notes `index` as put in now and returns what was put in [`AHEAD`]
    /// entries earlier.
    ///
    /// A list is emptied newest first, and entries put in one after the other
    /// mostly stand in one list. So what was put in some places before an entry
    /// is what will be taken out as many places after it, and can be asked for
    /// in time, where following the list would wait for memory at every step.
    #[inline]
    fn remember(&mut self, index: u32) -> u32 {
        let at = self.recent_at;
        self.recent_at = (at + 1) % AHEAD;
        self.recent
            .get_mut(at)
            .map_or(NIL, |oldest| std::mem::replace(oldest, index))
    }
}
