//! A worker's end of captures.

use std::{net::IpAddr, sync::Arc};

use arrayvec::{ArrayVec, CapacityError};

use super::{
    CAPTURES_MAX,
    fate::Fate,
    filter::{Direction, Filter},
    glance::{Glance, Words},
    record::{Record, Rings},
    subject::Subject,
};
use crate::{
    connection::{CoarseTime, time::STEPS_PER_SECOND},
    io::PortIndex,
};

/// The least packets a second that a worker may be allowed to capture: one in
/// each step of its time.
pub const RATE_MIN: u32 = STEPS_PER_SECOND;

/// One capture, as a worker has it.
#[derive(Debug)]
pub struct Tap {
    /// Which capture it is.
    pub id: u64,
    filter: Arc<Filter>,
    glance: Glance,
    rings: Arc<Rings>,
    allowance: Allowance,
    open: Option<Box<Record>>,
}

/// How many packets may be captured: so many in each step of time.
#[derive(Debug)]
struct Allowance {
    each: u32,
    left: u32,
    since: Option<CoarseTime>,
}

impl Allowance {
    fn renew(&mut self, now: CoarseTime) {
        if self.since != Some(now) {
            self.since = Some(now);
            self.left = self.each;
        }
    }
}

impl Tap {
    /// A tap of capture `id`, by which a worker captures up to `rate_per_s`
    /// packets a second, and [`RATE_MIN`] at least.
    pub fn new(id: u64, filter: Arc<Filter>, rings: Arc<Rings>, rate_per_s: u32) -> Self {
        Self {
            id,
            glance: Glance::of(&filter),
            filter,
            rings,
            allowance: Allowance {
                each: rate_per_s.max(RATE_MIN) / STEPS_PER_SECOND,
                left: 0,
                since: None,
            },
            open: None,
        }
    }

    /// Begins a record of a frame, if it is wanted. Returns whether it is.
    fn begin(
        &mut self,
        (port, direction): (PortIndex, Direction),
        subject: &Subject,
        frame: &[u8],
        time_ns: u64,
    ) -> bool {
        if self.allowance.left == 0 {
            self.rings.unseen.add(1);
            return false;
        }
        let received_by = (direction == Direction::In).then_some(port);
        if !self.filter.wants(received_by, subject, frame) {
            return false;
        }
        let Some(mut record) = self.rings.begin() else {
            self.rings.missed.add(1);
            return false;
        };
        self.allowance.left -= 1;
        record.begin(time_ns);
        record.note(port, direction, frame);
        self.open = Some(record);
        true
    }

    fn finish(&mut self, fate: Fate) {
        let Some(mut record) = self.open.take() else {
            return;
        };
        record.fate = fate;
        record.retain(|frame| self.filter.keeps_frame(frame));
        if record.is_empty() || !self.filter.keeps(fate, record.server) {
            self.rings.give_back(record);
        } else {
            self.rings.finish(record);
        }
    }
}

/// All captures of a worker.
#[derive(Debug, Default)]
pub struct Taps {
    taps: ArrayVec<Box<Tap>, CAPTURES_MAX>,
}

impl Taps {
    /// Whether there is none, and nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Adds a capture.
    ///
    /// # Errors
    /// Gives it back when there are as many as there can be.
    pub fn add(&mut self, tap: Box<Tap>) -> Result<(), Box<Tap>> {
        self.taps.try_push(tap).map_err(CapacityError::element)
    }

    /// Takes a capture out.
    pub fn remove(&mut self, id: u64) -> Option<Box<Tap>> {
        let index = self.taps.iter().position(|tap| tap.id == id)?;
        Some(self.taps.remove(index))
    }

    /// Whether packets of a burst that begins now are to be looked at; if not,
    /// `len` packets pass unseen.
    pub fn look(&mut self, now: CoarseTime, len: usize) -> bool {
        for tap in &mut self.taps {
            tap.allowance.renew(now);
        }
        let is_any_left = self.taps.iter().any(|tap| tap.allowance.left > 0);
        if !is_any_left {
            for tap in &self.taps {
                tap.rings.unseen.add(len as u64);
            }
        }
        is_any_left
    }

    /// A packet has been received. Returns whether a capture wants it; what
    /// becomes of it is to be [noted](Self::note_sent) and the end
    /// [told](Self::finish) then.
    pub fn begin(&mut self, port: PortIndex, frame: &[u8], time_ns: u64) -> bool {
        if let Some(words) = Words::of(frame)
            && self.taps.iter().all(|tap| tap.glance.rejects(&words))
        {
            return false;
        }
        let subject = Subject::of_received(frame);
        let mut is_wanted = false;
        for tap in &mut self.taps {
            is_wanted |= tap.begin((port, Direction::In), &subject, frame, time_ns);
        }
        is_wanted
    }

    /// A frame goes out, which the packet at hand became. It is one of a tunnel.
    pub fn note_sent(&mut self, port: PortIndex, frame: &[u8]) {
        let server = server_of(frame);
        for record in self.taps.iter_mut().filter_map(|tap| tap.open.as_mut()) {
            record.server = record.server.or(server);
            record.note(port, Direction::Out, frame);
        }
    }

    /// What became of the packet at hand. One that the captures shall not see
    /// after all is forgotten.
    pub fn finish(&mut self, fate: Option<Fate>) {
        for tap in &mut self.taps {
            match fate {
                Some(fate) => tap.finish(fate),
                None => {
                    if let Some(record) = tap.open.take() {
                        tap.rings.give_back(record);
                    }
                }
            }
        }
    }

    /// A frame goes out that no packet at hand became.
    pub fn note_alone(&mut self, port: PortIndex, frame: &[u8], fate: Fate, time_ns: u64) {
        let subject = Subject::of_sent(frame);
        // A client's packet may have waited for its server's MAC address.
        let is_for_server = fate == Fate::Late || subject.is_tunnelled;
        let server = is_for_server.then(|| server_of(frame)).flatten();
        for tap in &mut self.taps {
            if tap.begin((port, Direction::Out), &subject, frame, time_ns) {
                if let Some(record) = tap.open.as_mut() {
                    record.server = server;
                    record.frames_sent = 1;
                }
                tap.finish(fate);
            }
        }
    }
}

/// The RIP that a frame of a tunnel goes to.
fn server_of(frame: &[u8]) -> Option<IpAddr> {
    let outer = Subject::of_received(frame);
    outer.ends.first().map(|ends| ends.destination)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::DropReason;

    fn taps(filter: Filter, records: usize, rate_per_s: u32) -> (Taps, Arc<Rings>) {
        let rings = Arc::new(Rings::new(records, 64));
        let tap = Tap::new(1, Arc::new(filter), Arc::clone(&rings), rate_per_s);
        let mut taps = Taps::default();
        taps.add(Box::new(tap)).unwrap();
        (taps, rings)
    }

    fn at(steps: u32) -> CoarseTime {
        CoarseTime::from_steps(steps)
    }

    #[test]
    fn no_more_is_captured_in_a_step_of_time_than_is_allowed() {
        let (mut taps, rings) = taps(Filter::default(), 100, 32);
        let captured = |taps: &mut Taps, now| {
            let mut count = 0;
            for _ in 0..5 {
                if taps.look(now, 1) && taps.begin(PortIndex(0), &[0; 60], 0) {
                    taps.finish(Some(Fate::Forwarded));
                    count += 1;
                }
            }
            count
        };
        assert_eq!(captured(&mut taps, at(0)), 2);
        assert_eq!(captured(&mut taps, at(1)), 2);
        assert_eq!(captured(&mut taps, at(1)), 0);
        assert_eq!(rings.unseen(), 3 + 3 + 5);
        assert_eq!(rings.missed(), 0);
    }

    #[test]
    fn without_a_free_record_a_packet_is_missed_and_counted() {
        let (mut taps, rings) = taps(Filter::default(), 1, 1600);
        assert!(taps.look(at(0), 2));
        assert!(taps.begin(PortIndex(0), &[0; 60], 5));
        taps.finish(Some(Fate::Forwarded));
        assert!(!taps.begin(PortIndex(0), &[0; 60], 6));
        assert_eq!(rings.missed(), 1);
        let record = rings.take().unwrap();
        assert_eq!(record.time_ns, 5);
        rings.give_back(record);
        assert!(taps.begin(PortIndex(0), &[0; 60], 7));
    }

    #[test]
    fn a_packet_with_another_end_gives_its_record_back() {
        let filter = Filter {
            reasons: vec!["not_local".parse().unwrap()],
            ..Filter::default()
        };
        let (mut taps, rings) = taps(filter, 1, 1600);
        for fate in [Some(Fate::Forwarded), None, Some(Fate::Held)] {
            assert!(taps.look(at(0), 1));
            assert!(taps.begin(PortIndex(0), &[0; 60], 0), "{fate:?}");
            taps.finish(fate);
            assert!(rings.take().is_none());
        }
        assert!(taps.begin(PortIndex(0), &[0; 60], 0));
        taps.finish(Some(Fate::Dropped(DropReason::NotLocal)));
        assert!(rings.take().is_some());
    }

    #[test]
    fn there_are_as_many_captures_as_there_can_be() {
        let (mut taps, rings) = taps(Filter::default(), 1, 1600);
        let tap = |id| Box::new(Tap::new(id, Arc::default(), Arc::clone(&rings), 16));
        for id in 2..=4 {
            taps.add(tap(id)).unwrap();
        }
        assert_eq!(taps.add(tap(5)).unwrap_err().id, 5);
        assert_eq!(taps.remove(3).unwrap().id, 3);
        assert!(taps.remove(3).is_none());
        assert!(taps.add(tap(5)).is_ok());
    }
}
