//! The loop: sends, receives and checks, from the first question for the
//! director's MAC address to the last packet.
//!
//! A run has phases. *Resolving* asks for the director; *opening* sends the
//! first packets of each flow, one after the other, and lets few be on their
//! way; *warming up* and *measuring* send alike, but only what is made in the
//! latter counts; *draining* waits for what is still on its way.
mod receive;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hdrhistogram::{CreationError, Histogram};

use super::{
    check::Checker,
    flows::Flows,
    frame::{Link, TIME_MASK},
    histories::Histories,
    neighbors::Neighbors,
    pace::Pacer,
    plan::Plan,
    returned::Returned,
    source::{BATCH_LEN, Made, Order, Source},
};
use crate::{
    io::{BURST_LEN_MAX, Burst, Driver, TxQueue},
    memory::MemoryError,
    wire::ethernet::MacAddr,
};

/// A port of pktgen.
#[derive(Debug)]
pub struct PktgenPort<D: Driver> {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its receive queues.
    pub receive: Vec<D::RxQueue>,
    /// Its transmit queues.
    pub transmit: Vec<D::TxQueue>,
}

/// Who is on the link.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// MAC address of the director on the clients' side, when it is known.
    pub director_mac: Option<MacAddr>,
    /// Its address, to ask for it otherwise.
    pub director: Option<IpAddr>,
    /// Addresses of pktgen itself, as the clients' router.
    pub locals: Vec<IpAddr>,
}

/// Why a run could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No memory for the flows.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No histogram for latencies.
    #[error("latencies cannot be counted: {0}")]
    Latency(#[from] CreationError),
    /// Nobody to send to.
    #[error("neither the director's MAC address nor its address is known")]
    NoDirector,
    /// No address to ask from.
    #[error(
        "asking for the director {0} by ARP takes an address of pktgen's own; add --local ADDRESS"
    )]
    NoLocal(IpAddr),
    /// No port, or too many.
    #[error("there can be one port or two, not {0}")]
    Ports(usize),
    /// More queues than flows.
    #[error("{queues} queues are more than {flows} flows; use fewer")]
    Queues {
        /// Transmit queues of the clients' port.
        queues: usize,
        /// Flows of the plan.
        flows: u32,
    },
}

/// A generator and checker over ports of one driver.
#[derive(Debug)]
pub struct Pktgen<D: Driver> {
    plan: Plan,
    flows: Flows,
    source: Source,
    checker: Checker,
    returned: Returned,
    neighbors: Neighbors,
    director: Option<IpAddr>,
    ports: Vec<Port<D>>,
    pool: D::Pool,
    received: Burst<D::Packet>,
    cycles_per_second: u64,
    phase: Phase,
    pacers: Pacers,
    /// Transmit queue whose turn it is.
    queue: usize,
    window: Window,
    counts: Sent,
    cost: Cost,
    timing: Timing,
}

/// Counters of what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets of flows, from the beginning.
    pub packets: u64,
    /// Those that were made while it was measured.
    pub measured: u64,
    /// Their bytes, without FCS.
    pub measured_bytes: u64,
    /// SYNs of a flood that were made while it was measured.
    pub flood: u64,
    /// Flows that gave way to new ones while it was measured.
    pub replaced: u64,
    /// Packets of the opening, and how many of them came back by its end.
    pub opening: (u64, u64),
    /// Packets that a port had not taken by the end.
    pub unsent: u64,
    /// ARP and Neighbor Discovery packets received.
    pub neighbor_packets: u64,
    /// Frames that are no IP.
    pub other_frames: u64,
}

/// Cycles that pktgen itself needs for a packet while it measures, by bursts of
/// [`Cost::BURST_LEN_MIN`] packets or more.
#[derive(Clone, Debug)]
pub struct Cost {
    /// For making one.
    pub make: Histogram<u64>,
    /// For checking one.
    pub check: Histogram<u64>,
}

impl Cost {
    /// In shorter bursts there is more to a packet than the packet.
    pub const BURST_LEN_MIN: u64 = 8;

    fn new() -> Result<Self, CreationError> {
        const CYCLES_MAX: u64 = 100_000;
        const DIGITS: u8 = 2;
        let cycles = Histogram::new_with_max(CYCLES_MAX, DIGITS)?;
        Ok(Self {
            make: cycles.clone(),
            check: cycles,
        })
    }
}

/// Notes what a burst cost.
fn note_cost(histogram: &mut Histogram<u64>, cycles: u64, packets: usize) {
    let packets = packets as u64;
    if packets >= Cost::BURST_LEN_MIN {
        histogram.saturating_record(cycles / packets);
    }
}

/// When what happened, by the cycle counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// When it began to measure.
    pub measured_from: u64,
    /// When it stopped sending.
    pub measured_to: u64,
}

/// What a run does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asks for the director's MAC address.
    Resolving {
        /// Questions asked.
        asked: u32,
        /// When the next one is due.
        next: u64,
    },
    /// Sends the first packets of each flow.
    Opening,
    /// Sends without counting until this moment.
    WarmingUp {
        /// When it begins to measure.
        until: u64,
    },
    /// Sends and counts until this moment at the latest.
    Measuring {
        /// When it stops.
        until: u64,
    },
    /// Waits for what is on its way until this moment at the latest.
    Draining {
        /// When it gives up.
        until: u64,
    },
    /// Ended, as it should.
    Done,
    /// Ended because the director did not answer.
    Unresolved,
}

/// What one turn of the loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was something to do.
    Busy,
    /// There was nothing to do.
    Idle,
    /// The run has ended.
    Finished,
}

#[derive(Debug)]
struct Port<D: Driver> {
    mac: MacAddr,
    director_mac: Option<MacAddr>,
    receive: Vec<D::RxQueue>,
    transmit: Vec<D::TxQueue>,
    /// What each transmit queue has not taken yet.
    waiting: Vec<Burst<D::Packet>>,
}

#[derive(Clone, Copy, Debug)]
struct Pacers {
    packets: Option<Pacer>,
    new_flows: Pacer,
    flood: Pacer,
}

/// How many packets may be on their way.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Packets that are not waited for any more.
    given_up: u64,
    last_received: u64,
    patience: u64,
}

impl<D: Driver> Pktgen<D> {
    /// Makes a run ready. The first port is the clients', the last one the
    /// real servers'. `cycles_per_second` tells what cycle counters mean.
    ///
    /// # Errors
    /// [`SetupError`]
    pub fn new(
        plan: Plan,
        links: Links,
        ports: Vec<PktgenPort<D>>,
        pool: D::Pool,
        cycles_per_second: u64,
    ) -> Result<Self, SetupError> {
        let queues = match ports.as_slice() {
            [clients] | [clients, _] => clients.transmit.len(),
            _ => return Err(SetupError::Ports(ports.len())),
        };
        let lanes = u32::try_from(queues).unwrap_or(u32::MAX);
        if lanes > plan.options.flows || lanes == 0 {
            let flows = plan.options.flows;
            return Err(SetupError::Queues { queues, flows });
        }
        let neighbors = Neighbors {
            locals: links.locals,
            servers: plan.options.servers.clone(),
            vlan: plan.options.vlan,
        };
        if links.director_mac.is_none() {
            let director = links.director.ok_or(SetupError::NoDirector)?;
            let question = neighbors.question(director, MacAddr::default());
            question.ok_or(SetupError::NoLocal(director))?;
        }
        let mut ports: Vec<Port<D>> = ports.into_iter().map(Port::new).collect();
        if let Some(clients) = ports.first_mut() {
            clients.director_mac = links.director_mac;
        }
        let pacer = |rate| Pacer::new(rate, cycles_per_second, 0);
        Ok(Self {
            flows: Flows::new(plan.options.flows, None)?,
            source: Source::new(&plan, lanes),
            checker: Checker::new(
                &plan,
                cycles_per_second.saturating_mul(LATENCY_SECONDS_MAX),
                Histories::new(&plan)?,
            )?,
            returned: Returned::default(),
            neighbors,
            director: links.director,
            ports,
            pool,
            received: Burst::new(),
            cycles_per_second,
            phase: Phase::Resolving { asked: 0, next: 0 },
            pacers: Pacers {
                packets: plan.options.rate.map(pacer),
                new_flows: pacer(plan.options.new_flows),
                flood: pacer(plan.options.syn_flood),
            },
            queue: 0,
            window: Window {
                given_up: 0,
                last_received: 0,
                patience: cycles_per_second / 10,
            },
            counts: Sent::default(),
            cost: Cost::new()?,
            timing: Timing::default(),
            plan,
        })
    }

    /// One turn of the loop: receives what has come, and sends what is due.
    pub fn turn(&mut self, cycles: &impl Fn() -> u64) -> Turn {
        let mut busy = self.receive(cycles);
        busy |= self.flush();
        let now = cycles();
        match self.phase {
            Phase::Resolving { asked, next } => busy |= self.resolve(asked, next, now),
            Phase::Opening => busy |= self.open(now, cycles),
            Phase::WarmingUp { until } if now >= until => self.begin_to_measure(now),
            Phase::WarmingUp { .. } => busy |= self.send(now, cycles, usize::MAX),
            Phase::Measuring { until } if now >= until => self.drain(now),
            Phase::Measuring { .. } => match self.left() {
                0 => self.drain(now),
                left => busy |= self.send(now, cycles, left),
            },
            Phase::Draining { until } => {
                if now >= until || self.is_all_back(now) {
                    self.end();
                }
            }
            Phase::Done | Phase::Unresolved => return Turn::Finished,
        }
        if busy { Turn::Busy } else { Turn::Idle }
    }

    /// Turns until the run has ended, or `stop` says so: then it ends as if its
    /// time were up. `idle` is called in turns with nothing to do, and
    /// `progress` about once a second.
    pub fn run(
        &mut self,
        stop: &AtomicBool,
        cycles: impl Fn() -> u64,
        idle: impl Fn(),
        progress: impl Fn(&Self),
    ) {
        let mut next = cycles().saturating_add(self.cycles_per_second);
        loop {
            match self.turn(&cycles) {
                Turn::Busy => {}
                Turn::Idle => idle(),
                Turn::Finished => return,
            }
            if stop.load(Ordering::Relaxed) {
                self.stop(cycles());
            }
            let now = cycles();
            if now >= next {
                progress(self);
                next = now.saturating_add(self.cycles_per_second);
            }
        }
    }

    /// Lets the run end early.
    pub fn stop(&mut self, now: u64) {
        match self.phase {
            Phase::Measuring { .. } => self.drain(now),
            Phase::Draining { .. } | Phase::Done | Phase::Unresolved => {}
            Phase::Resolving { .. } => self.phase = Phase::Unresolved,
            Phase::Opening | Phase::WarmingUp { .. } => {
                self.begin_to_measure(now);
                self.drain(now);
            }
        }
    }

    /// What it does at present.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What it was told to do.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was sent.
    pub const fn sent(&self) -> &Sent {
        &self.counts
    }

    /// What was received.
    pub const fn checker(&self) -> &Checker {
        &self.checker
    }

    /// All flows, as they are now.
    pub(super) const fn flows(&self) -> &Flows {
        &self.flows
    }

    /// What came, but not out of a tunnel.
    pub const fn returned(&self) -> &Returned {
        &self.returned
    }

    /// What it cost to make and to check packets.
    pub const fn cost(&self) -> &Cost {
        &self.cost
    }

    /// When it was measured.
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// How much the cycle counter advances in a second.
    pub const fn cycles_per_second(&self) -> u64 {
        self.cycles_per_second
    }

    /// Sends again what ports have not taken.
    fn flush(&mut self) -> bool {
        self.ports
            .iter_mut()
            .fold(false, |busy, port| busy | port.flush())
    }

    fn resolve(&mut self, asked: u32, next: u64, now: u64) -> bool {
        let Some((mac, known)) = self.ports.first().map(|port| (port.mac, port.director_mac))
        else {
            return false;
        };
        if let Some(destination) = known {
            self.source.set_link(Link {
                source: mac,
                destination,
            });
            self.phase = Phase::Opening;
            self.restart_pacers(now);
            return true;
        }
        if asked > 0 && now < next {
            return false;
        }
        if asked >= QUESTIONS_MAX {
            self.phase = Phase::Unresolved;
            return false;
        }
        if let Some(question) = self
            .director
            .and_then(|director| self.neighbors.question(director, mac))
        {
            self.transmit_frame(0, &question);
        }
        self.phase = Phase::Resolving {
            asked: asked + 1,
            next: now.saturating_add(self.cycles_per_second / 2),
        };
        true
    }

    fn open(&mut self, now: u64, cycles: &impl Fn() -> u64) -> bool {
        let queues = self.queues();
        let unopened: usize = (0..queues).map(|queue| self.source.unopened(queue)).sum();
        if !self.plan.has_lasting_flows() || unopened == 0 && self.is_all_back(now) {
            self.counts.opening = (self.counts.packets, self.checker.counts.packets);
            self.restart_pacers(now);
            self.phase = Phase::WarmingUp {
                until: now.saturating_add(self.cycles_in(self.plan.options.warm_up)),
            };
            return true;
        }
        unopened > 0 && self.send(now, cycles, usize::MAX)
    }

    fn begin_to_measure(&mut self, now: u64) {
        self.checker.measure_from(now & TIME_MASK, &self.flows);
        self.timing.measured_from = now;
        self.counts.replaced = 0;
        self.phase = Phase::Measuring {
            until: now.saturating_add(self.cycles_in(self.plan.options.duration)),
        };
    }

    fn drain(&mut self, now: u64) {
        self.timing.measured_to = now;
        self.phase = Phase::Draining {
            until: now.saturating_add(self.cycles_in(self.plan.options.drain)),
        };
    }

    fn end(&mut self) {
        let waiting = self.ports.iter_mut().flat_map(|port| &mut port.waiting);
        for burst in waiting {
            self.counts.unsent += burst.len() as u64;
            burst.clear();
        }
        self.phase = Phase::Done;
    }

    /// Packets that may still be made, when their number is limited.
    fn left(&self) -> usize {
        let Some(count) = self.plan.options.count else {
            return usize::MAX;
        };
        let left = count.saturating_sub(self.counts.measured);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn on_their_way(&self) -> u64 {
        let gone = self.checker.counts.packets + self.window.given_up;
        self.counts.packets.saturating_sub(gone)
    }

    /// Whether nothing is on its way, or nothing has come for so long that the
    /// rest must be lost.
    fn is_all_back(&self, now: u64) -> bool {
        let quiet = now.saturating_sub(self.window.last_received) > self.window.patience;
        let flood = self.counts.flood.saturating_sub(self.checker.counts.flood);
        let is_draining = matches!(self.phase, Phase::Draining { .. });
        self.on_their_way() == 0 && flood == 0 || quiet && !is_draining
    }

    /// How many packets the window lets out.
    fn room(&mut self, now: u64) -> usize {
        let limit = match self.phase {
            Phase::Opening => {
                let limit = self.plan.options.window.unwrap_or(OPENING_WINDOW);
                let servers = u64::from(self.plan.servers.len().min(GREETED_MAX));
                let more = self.checker.counts.packets.saturating_sub(servers);
                Some(limit.min(u32::try_from(more + 1).unwrap_or(u32::MAX)))
            }
            _ => self.plan.options.window,
        };
        let Some(limit) = limit else {
            return usize::MAX;
        };
        let on_their_way = self.on_their_way();
        let room = u64::from(limit).saturating_sub(on_their_way);
        if room == 0 && now.saturating_sub(self.window.last_received) > self.window.patience {
            self.window.given_up += on_their_way;
            self.window.last_received = now;
        }
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Makes and sends what is due, at most `left` packets of flows.
    fn send(&mut self, now: u64, cycles: &impl Fn() -> u64, left: usize) -> bool {
        let queue = self.queue;
        self.queue = if queue + 1 < self.queues() {
            queue + 1
        } else {
            0
        };
        let is_opening = self.phase == Phase::Opening;
        let is_free = self
            .ports
            .first()
            .and_then(|port| port.waiting.get(queue))
            .is_some_and(Burst::is_empty);
        if !is_free {
            return false;
        }
        let mut order = Order {
            packets: self.batch_len().min(left).min(self.room(now)),
            is_opening,
            time: now & TIME_MASK,
            ..Order::default()
        };
        if let Some(pacer) = &mut self.pacers.packets {
            order.packets = order.packets.min(pacer.due(now));
        }
        if is_opening {
            order.packets = order.packets.min(self.source.unopened(queue));
        } else {
            order.new_flows = self.pacers.new_flows.due(now).min(order.packets);
            order.flood = self.pacers.flood.due(now).min(BATCH_LEN);
        }
        if order.packets + order.flood == 0 {
            return false;
        }
        let made = self.make(queue, &order);
        if matches!(self.phase, Phase::Measuring { .. }) {
            let cycles = cycles().saturating_sub(now);
            note_cost(&mut self.cost.make, cycles, made.packets + made.flood);
        }
        if let Some(clients) = self.ports.first_mut() {
            clients.flush();
        }
        true
    }

    fn make(&mut self, queue: usize, order: &Order) -> Made {
        let Some(burst) = self
            .ports
            .first_mut()
            .and_then(|port| port.waiting.get_mut(queue))
        else {
            return Made::default();
        };
        let what = (&self.plan, &mut self.flows);
        let made = self.source.make(queue, order, what, &mut self.pool, burst);
        if let Some(pacer) = &mut self.pacers.packets {
            pacer.take(made.packets);
        }
        self.pacers
            .new_flows
            .take(order.new_flows.min(made.replaced));
        self.pacers.flood.take(made.flood);
        let counts = &mut self.counts;
        counts.packets += made.packets as u64;
        counts.replaced += made.replaced as u64;
        if matches!(self.phase, Phase::Measuring { .. }) {
            counts.measured += made.packets as u64;
            counts.measured_bytes += made.bytes as u64;
            counts.flood += made.flood as u64;
        }
        made
    }

    /// Packets made in one go: fragments of all of them have to fit a burst.
    fn batch_len(&self) -> usize {
        match self.plan.options.fragmentation {
            Some(fragments) => (BURST_LEN_MAX / usize::from(fragments.parts.max(1))).min(BATCH_LEN),
            None => BATCH_LEN,
        }
    }

    fn queues(&self) -> usize {
        self.ports.first().map_or(0, |port| port.transmit.len())
    }

    fn restart_pacers(&mut self, now: u64) {
        let options = &self.plan.options;
        let pacer = |rate| Pacer::new(rate, self.cycles_per_second, now);
        self.pacers = Pacers {
            packets: options.rate.map(pacer),
            new_flows: pacer(options.new_flows),
            flood: pacer(options.syn_flood),
        };
        self.window.last_received = now;
    }

    fn cycles_in(&self, time: Duration) -> u64 {
        let cycles = u128::from(self.cycles_per_second) * time.as_nanos() / 1_000_000_000;
        u64::try_from(cycles).unwrap_or(u64::MAX)
    }
}

impl<D: Driver> Port<D> {
    fn new(port: PktgenPort<D>) -> Self {
        Self {
            mac: port.mac,
            director_mac: None,
            receive: port.receive,
            waiting: port.transmit.iter().map(|_| Burst::new()).collect(),
            transmit: port.transmit,
        }
    }

    /// Sends what waits. Returns whether the port took any of it.
    fn flush(&mut self) -> bool {
        let mut busy = false;
        for (queue, burst) in self.transmit.iter_mut().zip(&mut self.waiting) {
            if !burst.is_empty() {
                busy |= queue.transmit(burst) > 0;
            }
        }
        busy
    }
}

/// Packets on their way in the opening, at most. It begins with one at a time,
/// until as many have come back as there are real servers, and goes on with one
/// more for each that comes: the director has to ask for each real server, and
/// keeps few packets meanwhile.
const OPENING_WINDOW: u32 = 256;
/// With more real servers than this it does not wait for each.
const GREETED_MAX: u16 = 4096;
/// Questions for the director's MAC address, half a second apart.
const QUESTIONS_MAX: u32 = 20;
/// Longer latencies count as these.
const LATENCY_SECONDS_MAX: u64 = 60;

#[cfg(test)]
mod tests;
