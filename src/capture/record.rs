//! What is known of a captured packet, and the queues that records go through.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use super::{fate::Fate, filter::Direction};
use crate::{counters::Counter, io::PortIndex};

/// Frames of a packet that a record holds: the received one, and what it became.
const FRAMES_MAX: usize = 8;

/// What two outer headers take at most: a packet in two fragments still fits.
const OUTER_LEN_MAX: usize = 256;

/// A captured packet. Its memory is allocated with it, and stays what it is.
#[derive(Debug)]
pub struct Record {
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// What became of it.
    pub fate: Fate,
    /// The RIP in the outer header that it got.
    pub server: Option<IpAddr>,
    /// Frames that it became, also those that are not here.
    pub frames_sent: u32,
    frames: ArrayVec<Frame, FRAMES_MAX>,
    bytes: Vec<u8>,
    snaplen: usize,
}

/// A frame of a captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The port that received it or sends it.
    pub port: PortIndex,
    /// Which of both.
    pub direction: Direction,
    /// Its length on the wire, in bytes.
    pub len: usize,
    start: usize,
    end: usize,
}

impl Frame {
    /// An empty frame.
    pub(super) const fn new(port: PortIndex, direction: Direction) -> Self {
        Self {
            port,
            direction,
            len: 0,
            start: 0,
            end: 0,
        }
    }
}

impl Record {
    /// An empty record that keeps up to `snaplen` bytes of each frame.
    pub fn new(snaplen: usize) -> Self {
        Self {
            time_ns: 0,
            fate: Fate::Unseen,
            server: None,
            frames_sent: 0,
            frames: ArrayVec::new(),
            bytes: touched(Self::room(snaplen)),
            snaplen,
        }
    }

    /// Bytes of memory that a record takes.
    pub const fn memory_bytes(snaplen: usize) -> usize {
        size_of::<Self>() + Self::room(snaplen)
    }

    const fn room(snaplen: usize) -> usize {
        2 * snaplen + OUTER_LEN_MAX
    }

    /// The frames, in the order in which they came and went.
    pub fn frames(&self) -> impl Iterator<Item = (&Frame, &[u8])> {
        let bytes = |frame: &Frame| self.bytes.get(frame.start..frame.end).unwrap_or_default();
        self.frames.iter().map(move |frame| (frame, bytes(frame)))
    }

    /// Whether no frame is left of it.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes up another packet.
    pub(super) fn begin(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
        self.fate = Fate::Unseen;
        self.server = None;
        self.frames_sent = 0;
        self.frames.clear();
        self.bytes.clear();
    }

    /// Notes a frame, as much of it as there is room for.
    pub(super) fn note(&mut self, port: PortIndex, direction: Direction, frame: &[u8]) {
        if direction == Direction::Out {
            self.frames_sent += 1;
        }
        if self.frames.is_full() {
            return;
        }
        let room = Self::room(self.snaplen).saturating_sub(self.bytes.len());
        let kept = frame.get(..room.min(self.snaplen)).unwrap_or(frame);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(kept);
        let _ = self.frames.try_push(Frame {
            len: frame.len(),
            start,
            end: self.bytes.len(),
            ..Frame::new(port, direction)
        });
    }

    /// Forgets the frames that are not wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Frame) -> bool) {
        self.frames.retain(|frame| wanted(frame));
    }
}

/// Empty, with room for so many bytes that the system has given already: a
/// worker that writes to it does not wait for pages.
fn touched(len: usize) -> Vec<u8> {
    let mut bytes = vec![1; len];
    bytes.clear();
    bytes
}

/// The queues of one capture and one worker: full records to the management
/// thread, free ones back.
#[derive(Debug)]
pub struct Rings {
    free: ArrayQueue<Box<Record>>,
    full: ArrayQueue<Box<Record>>,
    /// Packets that were wanted while no record was free.
    pub(super) missed: Counter,
    /// Packets that were not looked at, since as many as are allowed had been
    /// captured.
    pub(super) unseen: Counter,
}

impl Rings {
    /// Rings with so many free records; at least one.
    pub fn new(records: usize, snaplen: usize) -> Self {
        let records = records.max(1);
        let rings = Self {
            free: ArrayQueue::new(records),
            full: ArrayQueue::new(records),
            missed: Counter::default(),
            unseen: Counter::default(),
        };
        for _ in 0..records {
            rings.give_back(Box::new(Record::new(snaplen)));
        }
        rings
    }

    /// The next captured packet.
    pub fn take(&self) -> Option<Box<Record>> {
        self.full.pop()
    }

    /// Gives a record back that has been read.
    pub fn give_back(&self, record: Box<Record>) {
        // There is room for all that there are.
        let _ = self.free.push(record);
    }

    pub(super) fn begin(&self) -> Option<Box<Record>> {
        self.free.pop()
    }

    pub(super) fn finish(&self, record: Box<Record>) {
        let _ = self.full.push(record);
    }

    /// Packets that were wanted while no record was free.
    pub fn missed(&self) -> u64 {
        self.missed.value()
    }

    /// Packets that were not looked at, since as many as are allowed had been
    /// captured.
    pub fn unseen(&self) -> u64 {
        self.unseen.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(record: &Record) -> Vec<(usize, Vec<u8>)> {
        let frames = record.frames();
        frames
            .map(|(frame, bytes)| (frame.len, bytes.to_vec()))
            .collect()
    }

    #[test]
    fn a_frame_is_cut_at_the_snaplen_and_its_length_remembered() {
        let mut record = Record::new(4);
        record.begin(7);
        record.note(PortIndex(0), Direction::In, &[1, 2, 3, 4, 5, 6]);
        record.note(PortIndex(1), Direction::Out, &[9, 8]);
        assert_eq!(kept(&record), [(6, vec![1, 2, 3, 4]), (2, vec![9, 8])]);
        assert_eq!(record.frames_sent, 1);
        record.begin(8);
        assert!(record.is_empty());
        assert_eq!(record.frames_sent, 0);
    }

    #[test]
    fn memory_does_not_grow_whatever_is_noted() {
        let mut record = Record::new(300);
        let capacity = record.bytes.capacity();
        record.begin(0);
        for _ in 0..20 {
            record.note(PortIndex(1), Direction::Out, &[7; 1000]);
        }
        assert_eq!(record.bytes.capacity(), capacity);
        assert_eq!(record.frames_sent, 20);
        let lens: Vec<_> = kept(&record).iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lens, [300, 300, 256, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn records_go_round() {
        let rings = Rings::new(2, 16);
        let first = rings.begin().unwrap();
        let second = rings.begin().unwrap();
        assert!(rings.begin().is_none());
        rings.finish(first);
        rings.give_back(second);
        assert!(rings.take().is_some());
        assert!(rings.take().is_none());
        assert!(rings.begin().is_some());
    }
}
