//! The order in which connections were opened, for eviction.
#![forbid(unsafe_code)]

use super::wheel::NIL;
use crate::memory::{HugeSlice, MemoryError};

/// Indices of the entries opened last, oldest first, as many as the table may
/// have connections.
///
/// It is not told when an entry ends or changes: whoever takes an index out
/// looks at what stands there now. That costs one sequential write for a new
/// connection and nothing for any other packet.
#[derive(Debug)]
pub(super) struct OpeningQueue {
    ring: HugeSlice<u32>,
    /// Place of the oldest.
    oldest: usize,
    len: usize,
}

impl OpeningQueue {
    pub(super) fn new(len_max: usize, numa_node: Option<u32>) -> Result<Self, MemoryError> {
        Ok(Self {
            ring: HugeSlice::zeroed(len_max, numa_node)?,
            oldest: 0,
            len: 0,
        })
    }

    /// Adds the newest. Forgets the oldest when full.
    #[inline]
    pub(super) fn push(&mut self, index: u32) {
        let place = self.place(self.len);
        if let Some(slot) = self.ring.get_mut(place) {
            *slot = index;
        }
        if self.len == self.ring.len() {
            self.oldest = self.place(1);
        } else {
            self.len += 1;
        }
    }

    /// Takes the oldest out.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let index = self.ring.get(self.oldest).copied();
        self.oldest = self.place(1);
        self.len -= 1;
        index
    }

    /// The one that `pop` gives after `ahead` others, or [`NIL`].
    #[inline]
    pub(super) fn peek(&self, ahead: usize) -> u32 {
        if ahead < self.len {
            self.ring.get(self.place(ahead)).copied().unwrap_or(NIL)
        } else {
            NIL
        }
    }

    /// Place in the ring, `offset` (0 to its length) after the oldest.
    #[inline]
    fn place(&self, offset: usize) -> usize {
        let place = self.oldest + offset;
        if place >= self.ring.len() {
            place - self.ring.len()
        } else {
            place
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_oldest_first_and_forgets_it_when_full() {
        let mut queue = OpeningQueue::new(3, None).unwrap();
        assert_eq!((queue.pop(), queue.peek(0)), (None, NIL));
        for index in 1..=5 {
            queue.push(index);
        }
        assert_eq!([0, 1, 2, 3].map(|ahead| queue.peek(ahead)), [3, 4, 5, NIL]);
        assert_eq!(
            [(); 4].map(|()| queue.pop()),
            [Some(3), Some(4), Some(5), None]
        );
        queue.push(6);
        assert_eq!((queue.pop(), queue.pop()), (Some(6), None));
    }
}
