//! Which bytes of a datagram have been seen.

use arrayvec::ArrayVec;

use super::Refusal;

/// The parts of a datagram's payload that have come, and where it ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents {
    /// In order, apart from each other by at least a byte.
    parts: ArrayVec<Extent, PARTS_MAX>,
    /// Length of the whole payload, once the last fragment has come.
    len: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u16,
    /// The first byte behind it.
    end: u16,
}

impl Extents {
    /// Adds the bytes from `start` up to `end`.
    ///
    /// # Errors
    /// [`Refusal::Duplicate`], [`Refusal::Overlap`] or [`Refusal::TooMany`];
    /// nothing has changed then.
    pub(super) fn add(&mut self, start: u16, end: u16, is_last: bool) -> Result<(), Refusal> {
        let at = self.parts.partition_point(|part| part.end <= start);
        if let Some(part) = self.parts.get(at).filter(|part| part.start < end) {
            let is_within = part.start <= start && end <= part.end;
            let is_same_end = !is_last || self.len.is_none_or(|len| len == end);
            return Err(if is_within && is_same_end {
                Refusal::Duplicate
            } else {
                Refusal::Overlap
            });
        }
        let is_beyond = self.len.is_some_and(|len| end > len);
        let is_cut_short = is_last && (self.len.is_some() || at < self.parts.len());
        if is_beyond || is_cut_short {
            return Err(Refusal::Overlap);
        }
        self.insert(at, Extent { start, end })?;
        if is_last {
            self.len = Some(end);
        }
        Ok(())
    }

    /// Whether all of the datagram has come.
    pub(super) fn is_complete(&self) -> bool {
        match self.parts.as_slice() {
            [only] => only.start == 0 && Some(only.end) == self.len,
            _ => false,
        }
    }

    /// Puts a part before the one at `at`, joined with those that it touches.
    fn insert(&mut self, at: usize, new: Extent) -> Result<(), Refusal> {
        let touches_next = self.parts.get(at).is_some_and(|next| next.start == new.end);
        let before = at.checked_sub(1).and_then(|at| self.parts.get_mut(at));
        if let Some(before) = before.filter(|before| before.end == new.start) {
            before.end = new.end;
            if touches_next && let Some(next) = self.parts.pop_at(at) {
                let before = at.checked_sub(1).and_then(|at| self.parts.get_mut(at));
                if let Some(before) = before {
                    before.end = next.end;
                }
            }
            return Ok(());
        }
        if touches_next {
            if let Some(next) = self.parts.get_mut(at) {
                next.start = new.start;
            }
            return Ok(());
        }
        self.parts.try_insert(at, new).map_err(|_| Refusal::TooMany)
    }
}

/// Parts with gaps between them: enough for every second fragment of the
/// longest datagram with payloads of 552 bytes.
const PARTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, with a flag for each byte.
    #[derive(Default)]
    struct Naive {
        bytes: Vec<bool>,
        len: Option<u16>,
    }

    impl Naive {
        fn add(&mut self, start: u16, end: u16, is_last: bool) -> Result<(), Refusal> {
            let (from, to) = (usize::from(start), usize::from(end));
            if self.bytes.len() < to {
                self.bytes.resize(to, false);
            }
            let covered = self.bytes[from..to].iter().filter(|seen| **seen).count();
            let highest = self
                .bytes
                .iter()
                .rposition(|seen| *seen)
                .map_or(0, |at| at + 1);
            if covered == to - from && (!is_last || self.len.is_none_or(|len| len == end)) {
                return Err(Refusal::Duplicate);
            }
            if covered > 0
                || self.len.is_some_and(|len| end > len || is_last)
                || is_last && highest > to
            {
                return Err(Refusal::Overlap);
            }
            self.bytes[from..to].fill(true);
            if is_last {
                self.len = Some(end);
            }
            Ok(())
        }

        fn is_complete(&self) -> bool {
            self.len.is_some_and(|len| {
                let seen = self.bytes.iter().take(usize::from(len));
                seen.clone().count() == usize::from(len) && seen.clone().all(|seen| *seen)
            })
        }
    }

    proptest! {
        #[test]
        fn extents_answer_as_a_flag_for_each_byte(
            steps in prop::collection::vec((0_u16..60, 1_u16..9, prop::bool::weighted(0.1)), 1..60)
        ) {
            let (mut extents, mut naive) = (Extents::default(), Naive::default());
            for (start, len, is_last) in steps {
                let added = extents.add(start, start + len, is_last);
                prop_assert_eq!(added, naive.add(start, start + len, is_last));
                prop_assert_eq!(extents.is_complete(), naive.is_complete());
            }
        }
    }

    #[test]
    fn the_longest_datagram_at_576_bytes_may_come_in_the_worst_order() {
        let mut extents = Extents::default();
        let starts = (0..65_515_u16).step_by(552);
        let (even, odd): (Vec<_>, Vec<_>) = starts.partition(|start| start / 552 % 2 == 0);
        for start in even.into_iter().chain(odd) {
            let end = start.saturating_add(552).min(65_515);
            assert_eq!(extents.add(start, end, end == 65_515), Ok(()));
        }
        assert!(extents.is_complete());
    }

    #[test]
    fn more_gaps_than_can_be_remembered_are_too_many() {
        let mut extents = Extents::default();
        for part in 0..64 {
            assert_eq!(extents.add(part * 16, part * 16 + 8, false), Ok(()));
        }
        assert_eq!(extents.add(2048, 2056, false), Err(Refusal::TooMany));
        // One that closes a gap still fits.
        assert_eq!(extents.add(8, 16, false), Ok(()));
        assert_eq!(extents.add(2048, 2056, false), Ok(()));
    }
}
