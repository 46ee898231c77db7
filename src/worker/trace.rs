//! A worker's packets while there are captures.
//!
//! Of a burst, the packets that no capture wants go through the packet path in
//! runs, as ever; one that is wanted goes alone, by the same code, between two
//! flushes. So the order of packets stays, and the counters tell what became of
//! the one. The packet path itself knows nothing of it.

use crate::{
    capture::{Fate, Snapshot, Taps},
    clock,
    connection::CoarseTime,
    counters::WorkerCounters,
    io::{Burst, Driver, Packet, PortIndex},
    pipeline::{Outputs, Pipeline},
};

/// What a worker forwards with.
pub(super) struct Path<'w, D: Driver> {
    pub(super) pipeline: &'w mut Pipeline<D>,
    pub(super) outputs: &'w mut Outputs<D>,
    pub(super) counters: &'w WorkerCounters,
}

impl<D: Driver> Path<'_, D> {
    pub(super) fn reborrow(&mut self) -> Path<'_, D> {
        Path {
            pipeline: self.pipeline,
            outputs: self.outputs,
            counters: self.counters,
        }
    }
}

/// Takes a burst through `forward`, which forwards all of a burst, and captures
/// what is wanted of it. `is_spread` says that another worker may be given a
/// packet, which then captures it in its turn.
pub(super) fn forward<D: Driver>(
    taps: &mut Taps,
    (port, is_spread): (PortIndex, bool),
    burst: &mut Burst<D::Packet>,
    now: CoarseTime,
    path: &mut Path<'_, D>,
    mut forward: impl FnMut(&mut Burst<D::Packet>, &mut Path<'_, D>),
) {
    if !taps.look(now, burst.len()) {
        return forward(burst, path);
    }
    let time_ns = clock::unix_ns();
    let mut run = Burst::new();
    for packet in burst.drain(..) {
        let is_wanted = taps.begin(port, packet.bytes(), time_ns);
        if is_wanted && !run.is_empty() {
            forward(&mut run, path);
        }
        // A run is never longer than the burst was.
        let _ = run.try_push(packet);
        if is_wanted {
            forward_one(taps, is_spread, &mut run, path, &mut forward);
        }
    }
    if !run.is_empty() {
        forward(&mut run, path);
    }
}

fn forward_one<D: Driver>(
    taps: &mut Taps,
    is_spread: bool,
    packet: &mut Burst<D::Packet>,
    path: &mut Path<'_, D>,
    forward: &mut impl FnMut(&mut Burst<D::Packet>, &mut Path<'_, D>),
) {
    path.outputs.flush();
    let before = Snapshot::of(path.counters);
    forward(packet, path);
    for (port, frame) in path.outputs.waiting() {
        taps.note_sent(port, frame.bytes());
    }
    path.outputs.flush();
    let fate = before.fate(path.counters);
    let is_elsewhere = is_spread && fate == Fate::HandedOver;
    taps.finish((!is_elsewhere).then_some(fate));
}

/// Captures what goes out while `act` takes what others have handed over.
pub(super) fn take_handed<D: Driver>(
    taps: &mut Taps,
    now: CoarseTime,
    path: &mut Path<'_, D>,
    act: impl FnOnce(&mut Path<'_, D>) -> bool,
) -> bool {
    path.outputs.flush();
    let busy = act(path);
    if path.outputs.waiting().next().is_some() && taps.look(now, 1) {
        let time_ns = clock::unix_ns();
        for (port, frame) in path.outputs.waiting() {
            taps.note_alone(port, frame.bytes(), Fate::Late, time_ns);
        }
    }
    busy
}

/// Captures a frame of the director itself.
pub(super) fn note_own(taps: &mut Taps, port: PortIndex, frame: &[u8], now: CoarseTime) {
    if taps.look(now, 1) {
        taps.note_alone(port, frame, Fate::Own, clock::unix_ns());
    }
}
