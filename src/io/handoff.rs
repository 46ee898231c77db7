//! Queues in memory between two threads.
//!
//! They stand in for the queues that a port lacks: one thread fills, one
//! empties, both in bursts. A burst costs each of them one store that the other
//! sees, however many packets it has, and no atomic read-modify-write. Full is
//! full: what does not fit stays with the giver.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer, chunks::ChunkError};

use super::BURST_LEN_MAX;

/// The end that fills.
#[derive(Debug)]
pub struct Giver<T>(Producer<T>);

/// The end that empties.
#[derive(Debug)]
pub struct Taker<T>(Consumer<T>);

/// A queue for up to `capacity` items. What is in it is dropped with both ends.
pub fn handoff<T>(capacity: usize) -> (Giver<T>, Taker<T>) {
    let (giver, taker) = RingBuffer::new(capacity);
    (Giver(giver), Taker(taker))
}

impl<T> Giver<T> {
    /// Gives as many of `items` as fit, first ones first, and returns how many
    /// those were. The others are not taken from `items`.
    #[inline]
    pub fn give(&mut self, mut items: impl ExactSizeIterator<Item = T>) -> usize {
        let len = items.len();
        let chunk = match self.0.write_chunk_uninit(len) {
            Ok(chunk) => chunk,
            Err(ChunkError::TooFewSlots(0)) => return 0,
            Err(ChunkError::TooFewSlots(room)) => match self.0.write_chunk_uninit(room) {
                Ok(chunk) => chunk,
                Err(_) => return 0,
            },
        };
        chunk.fill_from_iter(&mut items)
    }
}

impl<T> Taker<T> {
    /// Appends what has been given, as far as `items` has room, and returns how
    /// many those were.
    #[inline]
    pub fn take(&mut self, items: &mut ArrayVec<T, BURST_LEN_MAX>) -> usize {
        let room = items.remaining_capacity();
        let chunk = match self.0.read_chunk(room) {
            Ok(chunk) => chunk,
            Err(ChunkError::TooFewSlots(0)) => return 0,
            Err(ChunkError::TooFewSlots(given)) => match self.0.read_chunk(given) {
                Ok(chunk) => chunk,
                Err(_) => return 0,
            },
        };
        let taken = chunk.len();
        items.extend(chunk);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(taker: &mut Taker<u32>) -> Vec<u32> {
        let mut items = ArrayVec::new();
        let count = taker.take(&mut items);
        assert_eq!(count, items.len());
        items.to_vec()
    }

    #[test]
    fn what_is_given_is_taken_in_order() {
        let (mut giver, mut taker) = handoff(8);
        // Round its end several times.
        for start in (0..100).step_by(5) {
            assert_eq!(giver.give(start..start + 5), 5);
            assert_eq!(taken(&mut taker), (start..start + 5).collect::<Vec<_>>());
            assert!(taken(&mut taker).is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_stays() {
        let (mut giver, mut taker) = handoff(8);
        assert_eq!(giver.give(0..5), 5);
        let mut items = vec![5, 6, 7, 8, 9].into_iter();
        assert_eq!(giver.give(&mut items), 3);
        assert_eq!(items.collect::<Vec<_>>(), [8, 9]);
        assert_eq!(giver.give(8..9), 0);
        assert_eq!(taken(&mut taker), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for() {
        let (mut giver, mut taker) = handoff(128);
        assert_eq!(giver.give(0..100), 100);
        let mut items: ArrayVec<_, BURST_LEN_MAX> = (0..60).collect();
        assert_eq!(taker.take(&mut items), 4);
        assert_eq!(taker.take(&mut items), 0);
        assert_eq!(taken(&mut taker), (4..68).collect::<Vec<_>>());
    }

    #[test]
    fn what_nobody_takes_is_dropped_with_both_ends() {
        let item = std::sync::Arc::new(());
        let (mut giver, taker) = handoff(8);
        giver.give([item.clone(), item.clone()].into_iter());
        drop(giver);
        assert_eq!(std::sync::Arc::strong_count(&item), 3);
        drop(taker);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }
}
