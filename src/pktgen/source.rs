//! Makes the packets of a run.
use arrayvec::ArrayVec;
use fastrand::Rng;

use super::{
    flows::Flows,
    frame::{FLOOD_SLOT, Filling, Link, Shapes, Stamp},
    plan::{FlowAddresses, Plan},
    service::Transport,
};
use crate::{
    io::{BURST_LEN_MAX, Burst, Packet, PacketPool},
    wire::{IpVersion, tcp::TcpFlags},
};

/// Packets made in one go, if each is a frame of its own.
pub(super) const BATCH_LEN: usize = BURST_LEN_MAX / 2;

/// Makes packets of flows in random order.
#[derive(Debug)]
pub(super) struct Source {
    shapes: Shapes,
    random: Rng,
    /// Place in the pattern of lengths.
    at: usize,
    /// Number of the next SYN of a flood.
    flood: u32,
    lanes: Vec<Lane>,
    picks: ArrayVec<Pick, BATCH_LEN>,
}

/// The flows of one transmit queue: those whose slot modulo the number of
/// queues is its number, so that a flow stays in its queue.
#[derive(Clone, Copy, Debug)]
struct Lane {
    first: u32,
    step: u32,
    /// How many flows it has.
    flows: u32,
    /// Packets of the opening that are left.
    unopened: u64,
    /// The flow that opens next.
    opening: u32,
    /// The flow that is replaced next.
    replaced: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pick {
    slot: u32,
    /// Whether a new flow takes the slot.
    is_new: bool,
}

/// What shall be made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    /// Packets of flows.
    pub(super) packets: usize,
    /// Those of them that belong to new flows.
    pub(super) new_flows: usize,
    /// SYNs of a flood.
    pub(super) flood: usize,
    /// Whether flows send their first packets, one after the other.
    pub(super) is_opening: bool,
    /// Cycle counter, for the stamps.
    pub(super) time: u64,
}

/// What has been made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// Frames of flows.
    pub(super) packets: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Flows that gave way to a new one.
    pub(super) replaced: usize,
    /// SYNs of a flood.
    pub(super) flood: usize,
}

impl Lane {
    /// Takes the flow that a cursor stands at, and moves the cursor on.
    #[inline]
    fn next(&mut self, cursor: impl Fn(&mut Self) -> &mut u32) -> u32 {
        let flows = self.flows;
        let cursor = cursor(self);
        let place = *cursor;
        *cursor = if place + 1 < flows { place + 1 } else { 0 };
        place
    }
}

impl Source {
    /// A source for so many transmit queues.
    pub(super) fn new(plan: &Plan, queues: u32) -> Self {
        let flows = plan.options.flows;
        let lane = |first| {
            let flows = flows.saturating_sub(first).div_ceil(queues.max(1));
            Lane {
                first,
                step: queues,
                flows,
                unopened: u64::from(flows) * u64::from(plan.opening_rounds()),
                opening: 0,
                replaced: 0,
            }
        };
        Self {
            shapes: Shapes::new(plan, plan.options.ttl),
            random: Rng::with_seed(plan.options.seed),
            at: 0,
            flood: 0,
            lanes: (0..queues).map(lane).collect(),
            picks: ArrayVec::new(),
        }
    }

    /// Tells how frames go on the link.
    pub(super) fn set_link(&mut self, link: Link) {
        self.shapes.set_link(link);
    }

    /// How many packets of the opening a queue has not sent.
    pub(super) fn unopened(&self, queue: usize) -> usize {
        let left = self.lanes.get(queue).map_or(0, |lane| lane.unopened);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Adds packets to a burst, as many as were ordered and as there are
    /// buffers.
    #[inline]
    pub(super) fn make<P: PacketPool>(
        &mut self,
        queue: usize,
        order: &Order,
        (plan, flows): (&Plan, &mut Flows),
        pool: &mut P,
        burst: &mut Burst<P::Packet>,
    ) -> Made {
        let mut made = Made::default();
        self.pick(queue, order, flows);
        let mut place = 0;
        while let Some(&pick) = self.picks.get(place)
            && self
                .make_one(pick, order, (plan, flows), pool, burst, &mut made)
                .is_some()
        {
            place += 1;
        }
        self.picks.clear();
        for _ in 0..order.flood.min(burst.remaining_capacity()) {
            if self.make_flood(order.time, plan, pool, burst).is_none() {
                break;
            }
            made.flood += 1;
        }
        made
    }

    /// Chooses flows, and has what is known of them loaded meanwhile.
    #[inline]
    fn pick(&mut self, queue: usize, order: &Order, flows: &Flows) {
        let Some(lane) = self.lanes.get_mut(queue).filter(|lane| lane.flows > 0) else {
            return;
        };
        for number in 0..order.packets.min(BATCH_LEN) {
            let is_new = number < order.new_flows;
            let place = if order.is_opening {
                lane.unopened = lane.unopened.saturating_sub(1);
                lane.next(|lane| &mut lane.opening)
            } else if is_new {
                lane.next(|lane| &mut lane.replaced)
            } else {
                self.random.u32(..lane.flows)
            };
            let slot = place * lane.step + lane.first;
            flows.prefetch(slot);
            self.picks.push(Pick { slot, is_new });
        }
    }

    /// The next packet of a flow, in one frame or several. `None` when there
    /// was no buffer.
    #[inline]
    fn make_one<P: PacketPool>(
        &mut self,
        pick: Pick,
        order: &Order,
        (plan, flows): (&Plan, &mut Flows),
        pool: &mut P,
        burst: &mut Burst<P::Packet>,
        made: &mut Made,
    ) -> Option<()> {
        let slot = pick.slot;
        let entry = flows.get_mut(slot)?;
        if pick.is_new || plan.packets_per_flow.is_some_and(|len| entry.sent >= len) {
            entry.replace();
            made.replaced += 1;
        }
        let stamp = Stamp {
            slot,
            generation: entry.generation,
            sequence: entry.next(),
            time: order.time,
        };
        let flow = plan.flow(slot, stamp.generation)?;
        let (version, transport) = (flow.service.version, flow.service.transport);
        let (flags, has_data) = match transport {
            Transport::Tcp => plan.segment(stamp.sequence),
            Transport::Udp => (TcpFlags(0), true),
        };
        let filling = Filling {
            flow,
            stamp,
            flags,
            identification: plan.identification(version, slot, stamp.sequence),
        };
        let len = if has_data { self.next_len(plan) } else { 0 };
        let parts = match plan.options.fragmentation {
            Some(fragments)
                if transport == Transport::Udp && self.random.u8(..100) < fragments.percent =>
            {
                fragments.parts
            }
            _ => 0,
        };
        for place in 0..parts.max(1) {
            let part = part_at(place, parts, plan);
            let shape = self.shapes.get(version, transport, len, part)?;
            let mut packet = pool.allocate()?;
            let frame_len = shape.frame_len();
            shape.write(packet.extend(frame_len)?, &filling)?;
            burst.try_push(packet).ok()?;
            made.packets += 1;
            made.bytes += frame_len;
        }
        Some(())
    }

    /// A SYN of a client that was not there before.
    #[inline]
    fn make_flood<P: PacketPool>(
        &mut self,
        time: u64,
        plan: &Plan,
        pool: &mut P,
        burst: &mut Burst<P::Packet>,
    ) -> Option<()> {
        let flow: FlowAddresses<'_> = plan.flood(self.flood)?;
        let version: IpVersion = flow.service.version;
        let filling = Filling {
            flow,
            stamp: Stamp {
                slot: FLOOD_SLOT,
                generation: self.flood,
                sequence: 0,
                time,
            },
            flags: TcpFlags::SYN,
            identification: plan.identification(version, FLOOD_SLOT, 0),
        };
        let shape = self.shapes.get(version, Transport::Tcp, 0, 0)?;
        let mut packet = pool.allocate()?;
        shape.write(packet.extend(shape.frame_len())?, &filling)?;
        burst.try_push(packet).ok()?;
        self.flood = self.flood.wrapping_add(1);
        Some(())
    }

    /// The length of the next packet with data; 0 is not among them.
    #[inline]
    fn next_len(&mut self, plan: &Plan) -> usize {
        let pattern = plan.options.sizes.pattern();
        let len = pattern.get(self.at).copied().unwrap_or(0);
        self.at = if self.at + 1 < pattern.len() {
            self.at + 1
        } else {
            0
        };
        usize::from(len) + 1
    }
}

/// Which part of a datagram comes at this place: 0 is all of it, others are
/// numbers of fragments.
#[inline]
fn part_at(place: u8, parts: u8, plan: &Plan) -> usize {
    let is_reversed = plan.options.fragmentation.is_some_and(|f| f.reversed);
    usize::from(match parts {
        0 => 0,
        parts if is_reversed => parts - place,
        _ => place + 1,
    })
}
