//! Virtual reassembly: where the fragments of a datagram go.
//!
//! The first fragment has the L4 ports, so it decides, and the others follow
//! it. Those that come before it wait, for [`LIFETIME_SECONDS`] at most. What
//! cannot be part of a sound datagram is refused, and with it the rest of the
//! datagram, so that no real server gets to put overlapping pieces together
//! (RFC 5722 section 4).
//!
//! All of it is bounded and made at start. Datagrams stand in buckets by a
//! keyed hash; in a full bucket the oldest gives way, and so does the oldest of
//! all fragments that wait: who floods the director with fragments pushes out
//! their own first, as those of others follow each other closely.
//!
//! A datagram is forgotten when all of it has gone. What is known of the others
//! lives for a few seconds only: with 16 bits, a busy client uses an
//! identification again soon (RFC 4963).

use super::{
    DatagramKey, Fragment, Refusal,
    extents::Extents,
    holding::{Chain, Holding},
};
use crate::{
    connection::{CoarseDuration, CoarseTime},
    flow::{FlowHash, HashKey},
    forwarding::RealServerIndex,
};

/// Datagrams of which a worker knows at the same time.
pub const DATAGRAMS_MAX: usize = BUCKETS * WAYS;
/// Fragments that wait in a worker.
pub const HELD_MAX: usize = 512;
/// Fragments of one datagram: those of the longest with payloads of 552 bytes.
pub const FRAGMENTS_EACH_MAX: u8 = 128;
/// How long the fragments of a datagram may be apart, from the one that came
/// first. Linux waits for 30 s, RFC 791 suggests 15; but fragments are sent one
/// behind the other, and a path that lets one of them come seconds later than
/// the others loses most anyway.
pub const LIFETIME_SECONDS: u32 = 5;

/// What one worker knows of datagrams in fragments. `T` is a fragment that
/// waits.
#[derive(Debug)]
pub struct Reassembly<T> {
    key: HashKey,
    datagrams: Box<[Option<Datagram>]>,
    /// How many there are.
    len: usize,
    /// Numbers the datagrams by age.
    serial: u64,
    holding: Holding<T>,
    sweep: Sweep,
}

/// Where a fragment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the first one: it decides, and [`Reassembly::settle`] has to be
    /// told.
    First,
    /// To where the first one went.
    Follows(RealServerIndex),
    /// Nobody knows yet: it should be [held](Reassembly::hold).
    Waits,
}

#[derive(Debug)]
struct Datagram {
    key: DatagramKey,
    serial: u64,
    deadline: CoarseTime,
    fate: Fate,
    fragments: u8,
    extents: Extents,
    waiting: Chain,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The first fragment has not come, or its way is not decided.
    Open,
    /// All fragments go to this server.
    Goes(RealServerIndex),
    /// None goes anywhere.
    Refused(Refusal),
}

/// How far the search for datagrams whose time is up has come.
#[derive(Debug, Default)]
struct Sweep {
    next: usize,
    /// When the last one came to its end.
    done: CoarseTime,
}

impl<T> Reassembly<T> {
    /// No datagram yet. Takes all the memory that it will ever take.
    pub fn new(key: HashKey) -> Self {
        Self {
            key,
            datagrams: std::iter::repeat_with(|| None)
                .take(DATAGRAMS_MAX)
                .collect(),
            len: 0,
            serial: 0,
            holding: Holding::new(HELD_MAX),
            sweep: Sweep::default(),
        }
    }

    /// The hash by which a datagram is found here.
    pub fn hash(&self, key: &DatagramKey) -> FlowHash {
        key.hash(&self.key)
    }

    /// Takes note of a fragment and says where it goes. `lose` gets fragments
    /// that wait no longer because of it.
    ///
    /// # Errors
    /// [`Refusal`], when it goes nowhere.
    pub fn arrive(
        &mut self,
        fragment: &Fragment,
        now: CoarseTime,
        lose: &mut impl FnMut(T, Refusal),
    ) -> Result<Arrival, Refusal> {
        let at = match self.find(&fragment.key, now) {
            Some(at) => at,
            None => self.make_room(fragment, now, lose),
        };
        let datagram = self.datagrams.get_mut(at).and_then(Option::as_mut);
        let datagram = datagram.ok_or(Refusal::CrowdedOut)?;
        if let Fate::Refused(refusal) = datagram.fate {
            return Err(refusal);
        }
        match datagram.add(fragment) {
            Ok(()) => {}
            Err(Refusal::Duplicate) => return Err(Refusal::Duplicate),
            Err(refusal) => {
                self.refuse(at, refusal, lose);
                return Err(refusal);
            }
        }
        if fragment.is_first() {
            return Ok(Arrival::First);
        }
        match datagram.fate {
            Fate::Goes(server) => {
                self.forget_if_complete(at);
                Ok(Arrival::Follows(server))
            }
            Fate::Open | Fate::Refused(_) => Ok(Arrival::Waits),
        }
    }

    /// Keeps a fragment that [waits](Arrival::Waits). `lose` gets an older one
    /// whose place it takes, or this one when its datagram is gone.
    pub fn hold(
        &mut self,
        key: &DatagramKey,
        item: T,
        now: CoarseTime,
        lose: &mut impl FnMut(T, Refusal),
    ) {
        if let Some(owner) = self.holding.owner_in_the_way()
            && let Some(Some(owner)) = self.datagrams.get_mut(owner)
            && let Some(oldest) = self.holding.take(&mut owner.waiting)
        {
            lose(oldest, Refusal::CrowdedOut);
        }
        let at = self.find(key, now);
        let item = match at.and_then(|at| Some((at, self.datagrams.get_mut(at)?.as_mut()?))) {
            Some((at, datagram)) => self.holding.push(at, &mut datagram.waiting, item),
            None => Err(item),
        };
        if let Err(item) = item {
            lose(item, Refusal::CrowdedOut);
        }
    }

    /// The first fragment of a datagram went to a server, or nowhere. What
    /// waits has to be [released](Self::release) then; of a refused datagram,
    /// `lose` gets it at once.
    pub fn settle(
        &mut self,
        key: &DatagramKey,
        decision: Result<RealServerIndex, Refusal>,
        now: CoarseTime,
        lose: &mut impl FnMut(T, Refusal),
    ) {
        let Some(at) = self.find(key, now) else {
            return;
        };
        match decision {
            Err(refusal) => self.refuse(at, refusal, lose),
            Ok(server) => {
                if let Some(Some(datagram)) = self.datagrams.get_mut(at)
                    && matches!(datagram.fate, Fate::Open)
                {
                    datagram.fate = Fate::Goes(server);
                    self.forget_if_complete(at);
                }
            }
        }
    }

    /// The oldest fragment that waits for nothing any more, as its datagram has
    /// been settled, and where it goes.
    pub fn release(&mut self, key: &DatagramKey, now: CoarseTime) -> Option<(T, RealServerIndex)> {
        let at = self.find(key, now)?;
        let datagram = self.datagrams.get_mut(at)?.as_mut()?;
        let Fate::Goes(server) = datagram.fate else {
            return None;
        };
        let item = self.holding.take(&mut datagram.waiting)?;
        self.forget_if_complete(at);
        Some((item, server))
    }

    /// Forgets datagrams whose time is up; `lose` gets what waited. Looks at
    /// 256 places and says whether there are more to look at now.
    pub fn expire(&mut self, now: CoarseTime, lose: &mut impl FnMut(T, Refusal)) -> bool {
        if self.len == 0 || (self.sweep.next == 0 && self.sweep.done == now) {
            return false;
        }
        let end = (self.sweep.next + SWEEP_LEN).min(self.datagrams.len());
        for at in self.sweep.next..end {
            let due = |datagram: &Datagram| now.has_reached(datagram.deadline);
            let datagram = self.datagrams.get(at).and_then(Option::as_ref);
            if datagram.is_some_and(due) {
                self.forget(at, Refusal::TimedOut, lose);
            }
        }
        let is_done = end == self.datagrams.len();
        self.sweep.next = if is_done { 0 } else { end };
        if is_done {
            self.sweep.done = now;
        }
        !is_done
    }

    /// Datagrams known at present.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no datagram is known.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn bucket(&self, key: &DatagramKey) -> std::ops::Range<usize> {
        let bucket = self.hash(key).as_u64() & (BUCKETS as u64 - 1);
        let start = usize::try_from(bucket).unwrap_or(0) * WAYS;
        start..start + WAYS
    }

    fn find(&self, key: &DatagramKey, now: CoarseTime) -> Option<usize> {
        let bucket = self.bucket(key);
        let places = self.datagrams.get(bucket.clone())?;
        let is_it = |place: &Option<Datagram>| {
            place
                .as_ref()
                .is_some_and(|datagram| datagram.key == *key && !now.has_reached(datagram.deadline))
        };
        Some(bucket.start + places.iter().position(is_it)?)
    }

    /// Makes a datagram of which nothing has come, in a free place of its
    /// bucket or in that of the oldest.
    fn make_room(
        &mut self,
        fragment: &Fragment,
        now: CoarseTime,
        lose: &mut impl FnMut(T, Refusal),
    ) -> usize {
        let bucket = self.bucket(&fragment.key);
        let age = |at: &usize| {
            let place = self.datagrams.get(*at).and_then(Option::as_ref);
            place.map(|datagram| datagram.serial)
        };
        let at = bucket.clone().min_by_key(age).unwrap_or(bucket.start);
        let is_over = |datagram: &Datagram| now.has_reached(datagram.deadline);
        let before = self.datagrams.get(at).and_then(Option::as_ref);
        let refusal = if before.is_some_and(is_over) {
            Refusal::TimedOut
        } else {
            Refusal::CrowdedOut
        };
        self.forget(at, refusal, lose);
        if let Some(place) = self.datagrams.get_mut(at) {
            *place = Some(Datagram {
                key: fragment.key,
                serial: self.serial,
                deadline: now + CoarseDuration::from_seconds(LIFETIME_SECONDS),
                fate: Fate::Open,
                fragments: 0,
                extents: Extents::default(),
                waiting: Chain::default(),
            });
            self.serial += 1;
            self.len += 1;
        }
        at
    }

    /// No more fragment of this datagram goes anywhere.
    fn refuse(&mut self, at: usize, refusal: Refusal, lose: &mut impl FnMut(T, Refusal)) {
        if let Some(Some(datagram)) = self.datagrams.get_mut(at) {
            datagram.fate = Fate::Refused(refusal);
            while let Some(item) = self.holding.take(&mut datagram.waiting) {
                lose(item, refusal);
            }
        }
    }

    fn forget(&mut self, at: usize, refusal: Refusal, lose: &mut impl FnMut(T, Refusal)) {
        self.refuse(at, refusal, lose);
        if self.datagrams.get_mut(at).and_then(Option::take).is_some() {
            self.len -= 1;
        }
    }

    fn forget_if_complete(&mut self, at: usize) {
        let is_over =
            |datagram: &Datagram| datagram.extents.is_complete() && datagram.waiting.is_empty();
        let datagram = self.datagrams.get(at).and_then(Option::as_ref);
        if datagram.is_some_and(is_over) {
            self.forget(at, Refusal::TimedOut, &mut |_, _| {});
        }
    }
}

impl Datagram {
    fn add(&mut self, fragment: &Fragment) -> Result<(), Refusal> {
        fragment.check()?;
        let end = fragment.offset.saturating_add(fragment.len);
        self.extents.add(fragment.offset, end, fragment.is_last)?;
        if self.fragments == FRAGMENTS_EACH_MAX {
            return Err(Refusal::TooMany);
        }
        self.fragments += 1;
        Ok(())
    }
}

const BUCKETS: usize = 512;
const WAYS: usize = 8;
/// Places that are looked at in one go for datagrams whose time is up.
const SWEEP_LEN: usize = 256;

#[cfg(test)]
mod tests;
