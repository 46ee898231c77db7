//! Fragments of clients' packets: each goes to the real server of its
//! datagram's first fragment, in an outer packet of its own.
//!
//! What belongs together is decided in [`crate::fragment`]; here is what
//! happens to the packets. All of it is off the fast path.

use std::net::IpAddr;

use super::{
    DropReason, Exit, Outputs, Pipeline, PuntReason, is_martian, leave,
    parse::{self, Parsed, Payload},
    peers::{Handed, Received},
    route::{self, receive_options},
};
use crate::{
    connection::CoarseTime,
    flow::FlowHash,
    forwarding::{Presence, RealServerIndex},
    fragment::{Arrival, DatagramKey, Fragment, Refusal},
    io::{Driver, Packet},
    service::Protocol,
};

impl<D: Driver> Pipeline<D> {
    /// Takes a fragment that a port received to the worker where the fragments
    /// of its datagram meet.
    pub(super) fn receive_fragment(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        self.counters.fragments.add(1);
        let fragment = match self.check_fragment(&received, parsed) {
            Ok(fragment) => fragment,
            Err(reason) => return outputs.discard(received.packet, reason),
        };
        let meeting = self.peers.worker_of(self.reassembly.hash(&fragment.key));
        if meeting == self.peers.own() {
            self.gather(received, parsed, &fragment, now, outputs);
        } else {
            self.hand_over(meeting, Handed::Fragment(received), now, outputs);
        }
    }

    /// Takes a fragment that another worker received, of a datagram whose
    /// fragments meet here.
    pub(super) fn take_fragment(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        match self.check_fragment(&received, parsed) {
            Ok(fragment) => self.gather(received, parsed, &fragment, now, outputs),
            Err(reason) => outputs.discard(received.packet, reason),
        }
    }

    /// What does not depend on other fragments.
    fn check_fragment(
        &self,
        received: &Received<D::Packet>,
        parsed: &Parsed,
    ) -> Result<Fragment, DropReason> {
        let frame = received.packet.bytes();
        let fragment = parse::fragment(frame, parsed.inner.l3_offset);
        let fragment = fragment.ok_or(DropReason::BadIpv4Header)?;
        let DatagramKey {
            source,
            destination,
            protocol,
            ..
        } = fragment.key;
        if !self.state.local.contains(&destination) {
            return Err(DropReason::NotLocal);
        }
        if is_martian(source) || self.state.local.contains(&source) {
            return Err(DropReason::MartianSource);
        }
        if Protocol::from_number(protocol).is_none() || self.state.services.is_empty() {
            return Err(DropReason::FragmentForHost);
        }
        Ok(fragment)
    }

    /// Sends a fragment after its datagram's first one, or lets it wait.
    fn gather(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        fragment: &Fragment,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let lose = &mut |lost: Received<D::Packet>, refusal: Refusal| {
            outputs.discard(lost.packet, refusal.into());
        };
        match self.reassembly.arrive(fragment, now, lose) {
            Ok(Arrival::First) => self.ask(received, parsed, now, outputs),
            Ok(Arrival::Follows(server)) => self.follow(received, parsed, server, outputs),
            Ok(Arrival::Waits) => {
                self.counters.fragments_held.add(1);
                self.reassembly.hold(&fragment.key, received, now, lose);
            }
            Err(refusal) => outputs.discard(received.packet, refusal.into()),
        }
    }

    /// Sends the first fragment of a datagram as any packet of its flow, and
    /// lets the others follow.
    pub(super) fn decide(
        &mut self,
        received: Received<D::Packet>,
        parsed: &Parsed,
        (flow, hash): (Payload, FlowHash),
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let fragment = parse::fragment(received.packet.bytes(), parsed.inner.l3_offset);
        let parsed = Parsed {
            payload: flow,
            ..*parsed
        };
        let decision = self.send_first(received, &parsed, hash, now, outputs);
        if let Some(fragment) = fragment {
            self.announce(fragment.key, decision, now, outputs);
        }
    }

    fn send_first(
        &mut self,
        Received { port, mut packet }: Received<D::Packet>,
        parsed: &Parsed,
        hash: FlowHash,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) -> Result<RealServerIndex, Refusal> {
        match self.route_packet(&mut packet, parsed, hash, now) {
            Ok(route) => match self.send(packet, &route, outputs) {
                Ok(()) => Ok(route.server),
                Err(reason) => {
                    self.counters.drops(reason).add(1);
                    Err(Refusal::FirstNotForwarded)
                }
            },
            Err((exit, server)) => {
                // The director does not put datagrams together that are for
                // itself.
                let exit = if exit == Exit::Punt(PuntReason::Local) {
                    Exit::Drop(DropReason::FragmentForHost)
                } else {
                    exit
                };
                leave(
                    port,
                    packet,
                    parsed.inner.l3_offset,
                    (exit, server),
                    outputs,
                );
                server
                    .filter(|_| exit == Exit::Punt(PuntReason::Unresolved))
                    .ok_or(Refusal::FirstNotForwarded)
            }
        }
    }

    /// Tells the worker where a datagram's fragments meet what became of the
    /// first.
    pub(super) fn announce(
        &mut self,
        key: DatagramKey,
        decision: Result<RealServerIndex, Refusal>,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        let meeting = self.peers.worker_of(self.reassembly.hash(&key));
        if meeting == self.peers.own() {
            self.settle(key, decision, now, outputs);
        } else {
            self.hand_over(meeting, Handed::Settled { key, decision }, now, outputs);
        }
    }

    /// What became of a datagram's first fragment is known: what has waited for
    /// it goes the same way.
    pub(super) fn settle(
        &mut self,
        key: DatagramKey,
        decision: Result<RealServerIndex, Refusal>,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) {
        self.reassembly
            .settle(&key, decision, now, &mut |lost, refusal| {
                outputs.discard(lost.packet, refusal.into());
            });
        while let Some((received, server)) = self.reassembly.release(&key, now) {
            match self.examine(received.port, &received.packet) {
                Ok((parsed, _)) => self.follow(received, &parsed, server, outputs),
                Err(exit) => leave(received.port, received.packet, 0, (exit, None), outputs),
            }
        }
    }

    /// Sends a later fragment. A server that has been deleted gets none, but in
    /// the seconds that a datagram is remembered its place may be another's:
    /// that one gets pieces without a head, and drops them.
    fn follow(
        &mut self,
        Received { port, mut packet }: Received<D::Packet>,
        parsed: &Parsed,
        server: RealServerIndex,
        outputs: &mut Outputs<D>,
    ) {
        let l3_offset = parsed.inner.l3_offset;
        let exit = match self.reach_later(&mut packet, parsed, server) {
            Ok(route) => match self.send(packet, &route, outputs) {
                Ok(()) => return,
                Err(reason) => return self.counters.drops(reason).add(1),
            },
            Err(exit @ (Exit::Punt(PuntReason::Unresolved) | Exit::Drop(_))) => exit,
            Err(Exit::Punt(PuntReason::Local)) => Exit::Drop(DropReason::FragmentForHost),
            // RFC 1122 section 3.2.2: no error about any fragment but the first.
            Err(Exit::Punt(_) | Exit::Detour(_)) => Exit::Drop(DropReason::FragmentUnanswered),
        };
        leave(port, packet, l3_offset, (exit, Some(server)), outputs);
    }

    fn reach_later(
        &mut self,
        packet: &mut D::Packet,
        parsed: &Parsed,
        index: RealServerIndex,
    ) -> Result<route::Route, Exit> {
        let server = self.state.server(index);
        if server.is_none_or(|server| server.presence != Presence::Listed) {
            return Err(Exit::Drop(DropReason::ServerGone));
        }
        if parsed.has_options {
            let vip = parse::destination(packet.bytes(), parsed.inner.l3_offset);
            if let Some(IpAddr::V4(vip)) = vip {
                receive_options(packet, parsed.inner, vip)?;
            }
        }
        self.count_packet_of(index, parsed.inner.total_len);
        self.reach(packet, parsed, index, false)
    }
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::FragmentMalformed,
            Refusal::Oversize => Self::FragmentOversize,
            Refusal::Tiny => Self::FragmentTiny,
            Refusal::Overlap => Self::FragmentOverlap,
            Refusal::Duplicate => Self::FragmentDuplicate,
            Refusal::TooMany => Self::FragmentTooMany,
            Refusal::TimedOut => Self::FragmentTimedOut,
            Refusal::CrowdedOut => Self::FragmentCrowdedOut,
            Refusal::FirstNotForwarded => Self::FragmentAfterRefused,
        }
    }
}
