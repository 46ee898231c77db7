//! Where in the table a flow's entry stands: buckets of short tags.
//!
//! A table of a million connections is far larger than a processor's caches,
//! and a flow without a place of its own (half of those in a well-filled table)
//! would wait for memory several times. So places are looked for here, in
//! sixteen bytes for seven entries, which stay in the caches; of the entries
//! themselves only the one that is wanted gets read, and it can be asked for in
//! time.
//!
//! A flow has a home bucket. Its entry stands in the first bucket from there on
//! that has a free place, in the four buckets of the home's cache line first
//! and then in those of the lines behind it. Each bucket counts the entries that
//! passed over it because it was full (`overflow`); a search ends at a bucket
//! that nothing passed over. So there is no rehash and no tombstone.
//!
//! A flow may stand in [`WALK_MAX`] buckets, 224 places. At the load of a full
//! table (0.65) about one in ten thousand million finds them all taken.
#![forbid(unsafe_code)]

use bytemuck::Zeroable;

use crate::{
    flow::FlowHash,
    memory::{HugeSlice, MemoryError, prefetch_write},
};

/// Where entries stand, by what their flows' hashes say.
#[derive(Debug)]
pub(super) struct Directory {
    buckets: HugeSlice<Bucket>,
    bucket_count: u32,
}

/// Seven places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
#[repr(C, align(16))]
struct Bucket {
    /// Tags of 16 bits of the places 0 to 3, 0 in a free one.
    low: u64,
    /// Tags of the places 4 to 6, and in the highest 16 bits the overflow count.
    high: u64,
}

impl Directory {
    /// An empty directory with at least `places` of them.
    pub(super) fn new(places: u32, numa_node: Option<u32>) -> Result<Self, MemoryError> {
        let bucket_count = buckets_for(places);
        Ok(Self {
            buckets: HugeSlice::zeroed(bucket_count as usize, numa_node)?,
            bucket_count,
        })
    }

    /// Bytes that a directory of at least `places` takes.
    pub(super) const fn memory_bytes_for(places: u32) -> u64 {
        buckets_for(places) as u64 * size_of::<Bucket>() as u64
    }

    /// How many places one with at least `places` has.
    pub(super) const fn places_for(places: u32) -> u32 {
        buckets_for(places) * PLACES
    }

    /// Asks for the cache line with the home bucket.
    #[inline]
    pub(super) fn prefetch(&self, hash: FlowHash) {
        if let Some(bucket) = self.buckets.get(self.home(hash) as usize) {
            prefetch_write(bucket);
        }
    }

    /// Asks for the cache line of the bucket with the place `index`, which need
    /// not exist.
    #[inline]
    pub(super) fn prefetch_place(&self, index: u32) {
        if let Some(bucket) = self.buckets.get((index / PLACES) as usize) {
            prefetch_write(bucket);
        }
    }

    /// The place in the home bucket where an entry of this hash seems to stand,
    /// or where the next would be put. When there is neither, some place.
    #[inline]
    pub(super) fn guess(&self, hash: FlowHash) -> u32 {
        let home = self.home(hash);
        let bucket = self.bucket(home);
        let tagged = bucket.with_tag(tag(hash));
        let places = if tagged.is_empty() {
            bucket.free()
        } else {
            tagged
        };
        home * PLACES + places.first()
    }

    /// The place at which an entry of this hash stands and `is_it` agrees.
    #[inline]
    pub(super) fn find(&self, hash: FlowHash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let home = self.home(hash);
        let mut bucket = self.bucket(home);
        let mut number = home;
        let mut step = 0;
        loop {
            let mut places = bucket.with_tag(tag(hash));
            while let Some(place) = places.next() {
                let index = number * PLACES + place;
                if is_it(index) {
                    return Some(index);
                }
            }
            step += 1;
            if bucket.overflow() == 0 || step == WALK_MAX {
                return None;
            }
            number = self.step(home, step);
            bucket = self.bucket(number);
        }
    }

    /// The first free place for an entry of this hash, and over how many
    /// buckets it passes.
    #[inline]
    pub(super) fn free_place(&self, hash: FlowHash) -> Option<(u32, u8)> {
        let home = self.home(hash);
        (0..WALK_MAX).find_map(|step| {
            let number = self.step(home, step);
            let place = self.bucket(number).free().next()?;
            Some((number * PLACES + place, step))
        })
    }

    /// All places where an entry of this hash may stand.
    pub(super) fn places(&self, hash: FlowHash) -> impl Iterator<Item = u32> + use<> {
        let (home, bucket_count) = (self.home(hash), self.bucket_count);
        (0..WALK_MAX)
            .map(move |step| bucket_at(home, step, bucket_count))
            .flat_map(|number| number * PLACES..(number + 1) * PLACES)
    }

    /// Notes an entry of this hash at the free place `index`, which passed over
    /// so many buckets.
    #[inline]
    pub(super) fn occupy(&mut self, hash: FlowHash, index: u32, passed: u8) {
        if let Some(bucket) = self.buckets.get_mut((index / PLACES) as usize) {
            bucket.set(index % PLACES, tag(hash));
        }
        let home = self.home(hash);
        for step in 0..passed {
            let number = self.step(home, step);
            if let Some(bucket) = self.buckets.get_mut(number as usize) {
                bucket.high = bucket.high.wrapping_add(OVERFLOW_ONE);
            }
        }
    }

    /// Takes out the entry at `index`, which passed over so many buckets.
    #[inline]
    pub(super) fn vacate(&mut self, index: u32, passed: u8) {
        let number = index / PLACES;
        if let Some(bucket) = self.buckets.get_mut(number as usize) {
            bucket.set(index % PLACES, 0);
        }
        if passed == 0 {
            return;
        }
        let home = home_of(number, passed, self.bucket_count);
        for step in 0..passed {
            let number = self.step(home, step);
            if let Some(bucket) = self.buckets.get_mut(number as usize) {
                bucket.high = bucket.high.wrapping_sub(OVERFLOW_ONE);
            }
        }
    }

    /// How many entries passed over each bucket.
    #[cfg(test)]
    pub(super) fn overflows(&self) -> Vec<u64> {
        self.buckets
            .iter()
            .map(|bucket| bucket.overflow())
            .collect()
    }

    /// The buckets that an entry passed over that stands there.
    #[cfg(test)]
    pub(super) fn passed_over(&self, hash: FlowHash, passed: u8) -> Vec<u32> {
        let home = self.home(hash);
        (0..passed).map(|step| self.step(home, step)).collect()
    }

    #[inline]
    fn home(&self, hash: FlowHash) -> u32 {
        hash.reduce(self.bucket_count)
    }

    #[inline]
    fn bucket(&self, number: u32) -> Bucket {
        self.buckets
            .get(number as usize)
            .copied()
            .unwrap_or_default()
    }

    #[inline]
    fn step(&self, home: u32, step: u8) -> u32 {
        bucket_at(home, step, self.bucket_count)
    }
}

/// The bucket `step` steps from `home`: round its line, then round the next.
#[inline]
const fn bucket_at(home: u32, step: u8, bucket_count: u32) -> u32 {
    let step = step as u32;
    let line = home / LINE + step / LINE;
    let line_count = bucket_count / LINE;
    let line = if line >= line_count {
        line - line_count
    } else {
        line
    };
    line * LINE + (home + step) % LINE
}

/// The bucket from which it takes `step` steps to `number`.
const fn home_of(number: u32, step: u8, bucket_count: u32) -> u32 {
    let step = step as u32;
    let (line, back) = (number / LINE, step / LINE);
    let line = if line < back {
        line + bucket_count / LINE - back
    } else {
        line - back
    };
    line * LINE + (number + LINE - step % LINE) % LINE
}

const fn buckets_for(places: u32) -> u32 {
    let buckets = places.div_ceil(PLACES).next_multiple_of(LINE);
    if buckets < BUCKETS_MIN {
        BUCKETS_MIN
    } else {
        buckets
    }
}

/// Of the bits of the hash that do not choose the bucket; never 0.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "16 of 64 bits")]
const fn tag(hash: FlowHash) -> u16 {
    hash.as_u64() as u16 | 1
}

impl Bucket {
    #[inline]
    const fn overflow(self) -> u64 {
        self.high >> OVERFLOW_SHIFT
    }

    /// The places with this tag, and perhaps, behind one of them, others.
    #[inline]
    const fn with_tag(self, tag: u16) -> Places {
        let all = tag as u64 * LANES;
        Places {
            low: zero_lanes(self.low ^ all),
            high: zero_lanes(self.high ^ all) & TAGS_IN_HIGH,
        }
    }

    /// The free places, the first of which is one.
    #[inline]
    const fn free(self) -> Places {
        Places {
            low: zero_lanes(self.low),
            high: zero_lanes(self.high) & TAGS_IN_HIGH,
        }
    }

    #[inline]
    const fn set(&mut self, place: u32, tag: u16) {
        let (word, lane) = if place < 4 {
            (&mut self.low, place)
        } else {
            (&mut self.high, place - 4)
        };
        *word = *word & !(0xffff << (lane * 16)) | (tag as u64) << (lane * 16);
    }
}

/// Marks the lanes of 16 bits that are 0 by their highest bit. The lowest mark
/// is right; above it, a lane that is 1 may be marked too.
#[inline]
const fn zero_lanes(word: u64) -> u64 {
    word.wrapping_sub(LANES) & !word & (LANES << 15)
}

/// Places of a bucket, by the highest bit of their lanes.
#[derive(Clone, Copy)]
struct Places {
    low: u64,
    high: u64,
}

impl Places {
    #[inline]
    const fn is_empty(self) -> bool {
        self.low | self.high == 0
    }

    /// The first of them; the last place of the bucket when there are none.
    #[inline]
    const fn first(self) -> u32 {
        if self.low != 0 {
            self.low.trailing_zeros() / 16
        } else {
            let lane = self.high.trailing_zeros() / 16;
            if lane > 2 { PLACES - 1 } else { 4 + lane }
        }
    }

    #[inline]
    const fn next(&mut self) -> Option<u32> {
        if self.low != 0 {
            let place = self.low.trailing_zeros() / 16;
            self.low &= self.low - 1;
            Some(place)
        } else if self.high != 0 {
            let place = 4 + self.high.trailing_zeros() / 16;
            self.high &= self.high - 1;
            Some(place)
        } else {
            None
        }
    }
}

/// Places in a bucket.
pub(super) const PLACES: u32 = 7;
/// Buckets in a cache line.
const LINE: u32 = 4;
/// Buckets that a flow may stand in.
pub(super) const WALK_MAX: u8 = 32;
/// A walk must not come round to where it began.
const BUCKETS_MIN: u32 = WALK_MAX as u32;
/// 1 in each lane.
const LANES: u64 = 0x0001_0001_0001_0001;
const TAGS_IN_HIGH: u64 = u64::MAX >> 16;
const OVERFLOW_SHIFT: u32 = 48;
const OVERFLOW_ONE: u64 = 1 << OVERFLOW_SHIFT;

// As many entries as can pass over a bucket, from all homes before it.
const _: () = assert!(WALK_MAX as u32 * WALK_MAX as u32 * PLACES < u16::MAX as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_visits_as_many_buckets_as_it_has_steps_and_can_be_told_backward() {
        for bucket_count in [32, 36, 100] {
            for home in 0..bucket_count {
                let walk: Vec<u32> = (0..WALK_MAX)
                    .map(|step| bucket_at(home, step, bucket_count))
                    .collect();
                let mut each = walk.clone();
                each.sort_unstable();
                each.dedup();
                assert_eq!(each.len(), usize::from(WALK_MAX));
                assert_eq!(walk[0], home);
                assert!(walk.iter().all(|&number| number < bucket_count));
                for (step, &number) in (0..).zip(&walk) {
                    assert_eq!(home_of(number, step, bucket_count), home);
                }
            }
        }
    }

    #[test]
    fn tags_are_found_in_every_place() {
        for place in 0..PLACES {
            let mut bucket = Bucket::default();
            bucket.set(place, 0xabcd);
            assert_eq!(bucket.with_tag(0xabcd).first(), place);
            assert_eq!(bucket.with_tag(0xabcd).next(), Some(place));
            assert_eq!(bucket.with_tag(0xabcf).next(), None);
            assert_eq!(bucket.free().first(), u32::from(place == 0));
            bucket.set(place, 0);
            assert_eq!(bucket, Bucket::default());
        }
    }

    #[test]
    fn a_full_bucket_has_no_free_place_whatever_it_overflows_by() {
        let mut bucket = Bucket::default();
        for place in 0..PLACES {
            assert_eq!(bucket.free().next(), Some(place));
            bucket.set(place, 0x8001);
        }
        assert_eq!(bucket.free().next(), None);
        assert_eq!(bucket.overflow(), 0);
        bucket.high += 3 * OVERFLOW_ONE;
        assert_eq!((bucket.free().next(), bucket.overflow()), (None, 3));
        let mut places = bucket.with_tag(0x8001);
        let found: Vec<_> = std::iter::from_fn(|| places.next()).collect();
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6]);
    }
}
