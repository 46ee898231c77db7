//! Captures, as the management thread has them: it makes the taps of workers,
//! reads what they note, and ends captures that are over or that nobody reads.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{
    Management, WorkerHandle,
    status::{CaptureBatch, CaptureEnd, CaptureRequest, CapturedFrame, CapturedPacket, Response},
};
use crate::{
    capture::{CAPTURES_MAX, Direction, Filter, Frame, RATE_MIN, Record, Rings, SNAPLEN_MAX, Tap},
    clock::Ticks,
    io::{Driver, Port, PortIndex},
    wire::{
        checksum::Sum,
        ethernet::{EtherType, EthernetHeader},
        vlan::VlanTag,
    },
    worker::WorkerRequest,
};

/// All captures.
#[derive(Debug)]
pub(super) struct Captures {
    running: Vec<Capture>,
    next_id: u64,
    /// Workers that have still to be told of the end of a capture.
    to_end: Vec<(usize, u64)>,
    /// Taps that workers have.
    taps_out: usize,
    home: (Sender<Box<Tap>>, Receiver<Box<Tap>>),
}

/// One of them.
#[derive(Debug)]
struct Capture {
    id: u64,
    /// Of each worker.
    rings: Vec<Arc<Rings>>,
    /// Workers that still have a tap of it.
    taps_out: usize,
    packets_left: u64,
    bytes_left: u64,
    deadline: Ticks,
    last_read: Ticks,
    end: Option<CaptureEnd>,
}

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
    #[error("{CAPTURES_MAX} captures are running already; end one of them first")]
    TooMany,
    #[error("workers are still ending other captures; try again")]
    Ending,
    #[error("there is no port \"{0}\"; `pointsman show ports` lists them")]
    NoPort(String),
    #[error("{value} is no {what}; write {min} to {max}")]
    OutOfRange {
        what: &'static str,
        value: u64,
        min: u64,
        max: u64,
    },
    #[error(
        "there is no capture {0}, or no longer: one that is not read for {seconds} s ends",
        seconds = UNREAD_MS_MAX / 1000
    )]
    Unknown(u64),
}

impl Captures {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            running: Vec::new(),
            next_id: 1,
            to_end: Vec::new(),
            taps_out: 0,
            home: bounded(CAPTURES_MAX * workers.max(1)),
        }
    }

    /// Has a capture end: what workers have noted until then can still be read.
    fn end(&mut self, id: u64, why: CaptureEnd, workers: usize) {
        let capture = self.running.iter_mut().find(|capture| capture.id == id);
        if let Some(capture) = capture.filter(|capture| capture.end.is_none()) {
            capture.end = Some(why);
            self.to_end.extend((0..workers).map(|worker| (worker, id)));
        }
    }

    /// Takes taps that workers gave back, and frees them.
    fn take_home(&mut self) {
        for tap in self.home.1.try_iter() {
            self.taps_out = self.taps_out.saturating_sub(1);
            let of = |capture: &&mut Capture| capture.id == tap.id;
            if let Some(capture) = self.running.iter_mut().find(of) {
                capture.taps_out = capture.taps_out.saturating_sub(1);
            }
        }
    }
}

impl<D: Driver> Management<D> {
    pub(super) fn start_capture(&mut self, request: &CaptureRequest, now: Ticks) -> Response {
        match self.try_start_capture(request, now) {
            Ok(id) => Response::CaptureStarted { id },
            Err(error) => Response::Error(error.to_string()),
        }
    }

    fn try_start_capture(
        &mut self,
        request: &CaptureRequest,
        now: Ticks,
    ) -> Result<u64, CaptureError> {
        check_ranges(request)?;
        let port = self.port_called(request.port.as_deref())?;
        let filter = Arc::new(Filter {
            port,
            ..request.filter.clone()
        });
        self.captures.take_home();
        let workers = self.workers.len();
        if self.captures.running.len() >= CAPTURES_MAX {
            return Err(CaptureError::TooMany);
        }
        let taps_max = CAPTURES_MAX * workers;
        if !self.captures.to_end.is_empty()
            || self.captures.taps_out + workers > taps_max
            || !self.workers.iter().all(has_room)
        {
            return Err(CaptureError::Ending);
        }
        let id = self.captures.next_id;
        self.captures.next_id += 1;
        let snaplen = usize::try_from(request.snaplen).unwrap_or(SNAPLEN_MAX);
        let records = records_each(snaplen, workers);
        let mut capture = Capture {
            id,
            rings: Vec::with_capacity(workers),
            taps_out: 0,
            packets_left: request.packets_max,
            bytes_left: request.bytes_max,
            deadline: now + request.duration_ms,
            last_read: now,
            end: None,
        };
        for worker in &self.workers {
            let rings = Arc::new(Rings::new(records, snaplen));
            let tap = Tap::new(
                id,
                Arc::clone(&filter),
                Arc::clone(&rings),
                request.rate_per_s,
            );
            capture.rings.push(rings);
            let request = WorkerRequest::StartCapture(Box::new(tap));
            if worker.requests.try_send(request).is_ok() {
                capture.taps_out += 1;
            }
        }
        self.captures.taps_out += capture.taps_out;
        self.captures.running.push(capture);
        Ok(id)
    }

    /// What has been captured since it was last asked.
    pub(super) fn read_capture(&mut self, id: u64, now: Ticks) -> Response {
        match self.try_read_capture(id, now) {
            Ok(batch) => Response::Captured(batch),
            Err(error) => Response::Error(error.to_string()),
        }
    }

    /// Ends a capture; answers as [`read_capture`](Self::read_capture).
    pub(super) fn stop_capture(&mut self, id: u64, now: Ticks) -> Response {
        self.captures.end(id, CaptureEnd::Asked, self.workers.len());
        self.continue_captures(now);
        self.read_capture(id, now)
    }

    fn try_read_capture(&mut self, id: u64, now: Ticks) -> Result<CaptureBatch, CaptureError> {
        self.captures.take_home();
        let has_offload = self.ports.iter().map(|port| {
            let capabilities = port.description().capabilities;
            capabilities.tx_ipv4_checksum
        });
        let has_offload: Vec<_> = has_offload.collect();
        let captures = &mut self.captures;
        let running = captures.running.iter_mut().enumerate();
        let (index, capture) = { running }
            .find(|(_, capture)| capture.id == id)
            .ok_or(CaptureError::Unknown(id))?;
        capture.last_read = now;
        // What workers give back now has nothing behind it any more.
        let are_taps_home = capture.taps_out == 0;
        let packets = capture.collect(&has_offload);
        let full = capture.charge(&packets);
        let sum = |count: fn(&Rings) -> u64| capture.rings.iter().map(|rings| count(rings)).sum();
        let is_drained = are_taps_home && packets.is_empty();
        let mut batch = CaptureBatch {
            packets,
            missed: sum(Rings::missed),
            unseen: sum(Rings::unseen),
            end: full.or_else(|| capture.end.filter(|_| is_drained)),
        };
        if let Some(why) = batch.end {
            batch.end = Some(capture.end.unwrap_or(why));
            captures.end(id, why, self.workers.len());
            captures.running.remove(index);
        }
        Ok(batch)
    }

    /// Ends what is over, and tells workers. Returns whether some have still to
    /// be told.
    pub(super) fn continue_captures(&mut self, now: Ticks) -> bool {
        let workers = self.workers.len();
        let captures = &mut self.captures;
        if captures.running.is_empty() && captures.taps_out == 0 {
            return false;
        }
        captures.take_home();
        let is_unread = |capture: &Capture| now.ms_since(capture.last_read) >= UNREAD_MS_MAX;
        let over: Vec<_> = captures
            .running
            .iter()
            .filter(|capture| now >= capture.deadline || is_unread(capture))
            .map(|capture| capture.id)
            .collect();
        for id in over {
            captures.end(id, CaptureEnd::Duration, workers);
        }
        captures.running.retain(|capture| {
            let unread = is_unread(capture);
            if unread {
                log::info!("capture {} ends: nobody reads it", capture.id);
            }
            !unread
        });
        let reply = captures.home.0.clone();
        captures.to_end.retain(|&(worker, id)| {
            let reply = reply.clone();
            let request = WorkerRequest::EndCapture { id, reply };
            let worker = self.workers.get(worker);
            worker.is_some_and(|worker| {
                !has_room(worker) || worker.requests.try_send(request).is_err()
            })
        });
        !captures.to_end.is_empty()
    }

    fn port_called(&self, name: Option<&str>) -> Result<Option<PortIndex>, CaptureError> {
        let Some(name) = name else {
            return Ok(None);
        };
        let mut ports = (0..).map(PortIndex).zip(self.network.ports());
        let found = ports.find(|(_, port)| port.name == name);
        let (index, _) = found.ok_or_else(|| CaptureError::NoPort(name.to_owned()))?;
        Ok(Some(index))
    }
}

/// Publishing needs room in the queue of a worker too.
fn has_room<P>(worker: &WorkerHandle<P>) -> bool {
    worker.requests.len() * 2 < super::REQUESTS_MAX
}

impl Capture {
    /// Takes what the workers have noted, up to as much as one answer holds.
    fn collect(&self, has_offload: &[bool]) -> Vec<CapturedPacket> {
        let packets_max = usize::try_from(self.packets_left).unwrap_or(usize::MAX);
        let mut room = BATCH_BYTES_MAX;
        let mut packets = Vec::new();
        for (worker, rings) in (0..).zip(&self.rings) {
            let each = packets_max.min(BATCH_LEN_MAX / self.rings.len().max(1) + 1);
            for _ in 0..each {
                if room == 0 {
                    break;
                }
                let Some(record) = rings.take() else {
                    break;
                };
                let packet = packet_of(&record, worker, has_offload);
                room = room.saturating_sub(len_of(&packet));
                packets.push(packet);
                rings.give_back(record);
            }
        }
        packets.sort_by_key(|packet| packet.time_ns);
        packets.truncate(packets_max);
        packets
    }

    /// Counts packets against the limits. Returns the limit that is reached.
    fn charge(&mut self, packets: &[CapturedPacket]) -> Option<CaptureEnd> {
        self.packets_left = self.packets_left.saturating_sub(packets.len() as u64);
        let bytes: usize = packets.iter().map(len_of).sum();
        self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        match (self.packets_left, self.bytes_left) {
            (0, _) => Some(CaptureEnd::Packets),
            (_, 0) => Some(CaptureEnd::Bytes),
            _ => None,
        }
    }
}

fn len_of(packet: &CapturedPacket) -> usize {
    packet.frames.iter().map(|frame| frame.bytes.len()).sum()
}

fn packet_of(record: &Record, worker: u32, has_offload: &[bool]) -> CapturedPacket {
    let frame = |(frame, bytes): (&Frame, &[u8])| {
        let mut bytes = bytes.to_vec();
        let offload = has_offload.get(frame.port.as_usize());
        if frame.direction == Direction::Out && offload == Some(&true) {
            fill_in_checksum(&mut bytes);
        }
        CapturedFrame {
            port: frame.port.0,
            direction: frame.direction,
            len: u32::try_from(frame.len).unwrap_or(u32::MAX),
            bytes,
        }
    };
    CapturedPacket {
        time_ns: record.time_ns,
        worker,
        fate: record.fate.kind(),
        reason: record.fate.reason().map(|reason| reason.name().to_owned()),
        text: record.fate.to_string(),
        server: record.server,
        frames_sent: record.frames_sent,
        frames: record.frames().map(frame).collect(),
    }
}

/// Fills in the checksum of the IPv4 header that the port does while it sends
/// the frame.
fn fill_in_checksum(frame: &mut [u8]) {
    let Some((header_at, header_len)) = ipv4_header_in(frame) else {
        return;
    };
    let Some(header) = frame.get_mut(header_at..header_at + header_len) else {
        return;
    };
    let sum = Sum::of(header).checksum().to_be_bytes();
    if let Some(field @ [0, 0]) = header.get_mut(10..12) {
        field.copy_from_slice(&sum);
    }
}

/// Where the IPv4 header of a frame stands, and how long it is.
fn ipv4_header_in(frame: &[u8]) -> Option<(usize, usize)> {
    let (ethernet, mut packet) = EthernetHeader::parse(frame).ok()?;
    let mut ether_type = ethernet.ether_type();
    if ether_type == EtherType::VLAN {
        let (tag, rest) = VlanTag::parse(packet).ok()?;
        (ether_type, packet) = (tag.ether_type(), rest);
    }
    let first = packet.first().filter(|_| ether_type == EtherType::IPV4)?;
    Some((frame.len() - packet.len(), usize::from(first & 0x0f) * 4))
}

fn check_ranges(request: &CaptureRequest) -> Result<(), CaptureError> {
    let snaplen_max = SNAPLEN_MAX as u64;
    let ranges = [
        ("snaplen", request.snaplen.into(), 1, snaplen_max),
        ("number of packets", request.packets_max, 1, u64::MAX),
        ("number of bytes", request.bytes_max, 1, u64::MAX),
        ("duration in ms", request.duration_ms, 1, DURATION_MS_MAX),
        (
            "rate in packets/s",
            request.rate_per_s.into(),
            RATE_MIN.into(),
            RATE_MAX.into(),
        ),
    ];
    for (what, value, min, max) in ranges {
        if !(min..=max).contains(&value) {
            return Err(CaptureError::OutOfRange {
                what,
                value,
                min,
                max,
            });
        }
    }
    Ok(())
}

/// Records of each of so many workers.
fn records_each(snaplen: usize, workers: usize) -> usize {
    let fit = MEMORY_BYTES_MAX / workers.max(1) / Record::memory_bytes(snaplen);
    fit.clamp(RECORDS_MIN, RECORDS_MAX)
}

/// A capture that is not read for so long ends.
const UNREAD_MS_MAX: u64 = 5_000;
/// The longest that a capture can run.
const DURATION_MS_MAX: u64 = 3_600_000;
/// The most packets a second that a worker may capture.
const RATE_MAX: u32 = 1_000_000;
/// Packets in an answer.
const BATCH_LEN_MAX: usize = 4_096;
/// Bytes of frames in an answer, but for the last packet.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Memory that the records of a capture take.
const MEMORY_BYTES_MAX: usize = 32 << 20;
const RECORDS_MAX: usize = 4_096;
const RECORDS_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_support::hex;

    #[test]
    fn a_checksum_that_the_port_fills_in_is_filled_in_here_too() {
        let header = "45000028123440003f06c356cb007107c633640a";
        for l2 in [
            "0200000000010200000000020800",
            "020000000001020000000002810000070800",
        ] {
            let whole = hex(&[l2, header].concat());
            let mut frame = hex(&[l2, &header.replace("c356", "0000")].concat());
            fill_in_checksum(&mut frame);
            assert_eq!(frame, whole);
            // One that is there stays.
            let mut wrong = hex(&[l2, &header.replace("c356", "c357")].concat());
            let before = wrong.clone();
            fill_in_checksum(&mut wrong);
            assert_eq!(wrong, before);
            // A header that is cut has none.
            let mut cut = frame[..frame.len() - 1].to_vec();
            let before = cut.clone();
            fill_in_checksum(&mut cut);
            assert_eq!(cut, before);
        }
    }

    #[test]
    fn memory_is_shared_between_workers_and_bounded() {
        assert_eq!(records_each(64, 1), 4096);
        for (snaplen, workers) in [(2048, 1), (2048, 8), (SNAPLEN_MAX, 4)] {
            let bytes = records_each(snaplen, workers) * workers * Record::memory_bytes(snaplen);
            assert!(bytes <= MEMORY_BYTES_MAX, "{snaplen} {workers}");
            assert!(bytes > MEMORY_BYTES_MAX / 2, "{snaplen} {workers}");
        }
        assert_eq!(records_each(SNAPLEN_MAX, 128), 64);
    }
}
