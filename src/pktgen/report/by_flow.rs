//! The part of a report that is about single flows.
use std::{collections::BTreeMap, fmt, net::IpAddr, net::SocketAddr};

use serde::Serialize;

use super::{SERVERS_SHOWN_MAX, float};
use crate::{
    io::Driver,
    pktgen::{
        engine::Pktgen,
        frame::TIME_MASK,
        histories::{Losing, Move},
    },
};

/// Flows that went on with another real server.
#[derive(Clone, Debug, Serialize)]
pub struct Moves {
    /// How often one did.
    pub total: u64,
    /// How often it was from a real server whose flows may.
    pub allowed: u64,
    /// The first ones, as they came.
    pub list: Vec<FlowMove>,
}

/// A flow that went on with another real server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlowMove {
    /// Its place among the flows, from 0.
    pub flow: u32,
    /// Address and port of the client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub service: SocketAddr,
    /// The real server before.
    pub from: IpAddr,
    /// The real server from then on.
    pub to: IpAddr,
    /// The first packet that came there, as its place in the flow.
    pub packet: u32,
    /// When that was made, in seconds since it was measured.
    pub seconds: f64,
}

/// Flows that lost packets while it was measured. Of a datagram in fragments it
/// is the first one that counts.
#[derive(Clone, Debug, Serialize)]
pub struct Losses {
    /// How many flows did.
    pub flows: u64,
    /// Packets that they lost.
    pub packets: u64,
    /// Of these, packets of flows that may lose some.
    pub allowed: u64,
    /// The first ones.
    pub list: Vec<LosingFlow>,
}

/// A flow that lost packets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LosingFlow {
    /// Its place among the flows, from 0.
    pub flow: u32,
    /// Address and port of the client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub service: SocketAddr,
    /// The real server that it was with last, if it was with any.
    pub server: Option<IpAddr>,
    /// Packets sent.
    pub sent: u32,
    /// Those of them that did not come back.
    pub lost: u32,
    /// Whether it may lose packets.
    pub allowed: bool,
}

impl Moves {
    pub(super) fn of<D: Driver>(pktgen: &Pktgen<D>, hz: f64) -> Self {
        let histories = pktgen.checker().histories();
        let (total, allowed) = histories.move_counts();
        let begin = pktgen.timing().measured_from;
        let row = |it: &Move| {
            let (client, service) = pktgen.plan().ends(it.slot, it.generation)?;
            let since = it.time.wrapping_sub(begin) & TIME_MASK;
            // Before it was measured is at its beginning.
            let since = if since > TIME_MASK / 2 { 0 } else { since };
            Some(FlowMove {
                flow: it.slot,
                client,
                service: service.address(),
                from: pktgen.plan().servers.address(it.from)?,
                to: pktgen.plan().servers.address(it.to)?,
                packet: it.sequence,
                seconds: float(since) / hz,
            })
        };
        Self {
            total,
            allowed,
            list: histories.moves().iter().filter_map(row).collect(),
        }
    }

    /// A line that counts them, and one for each pair of real servers when
    /// there are few.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return Ok(());
        }
        let Self { total, allowed, .. } = self;
        writeln!(
            f,
            "moved      {total} times to another real server, {allowed} of them allowed"
        )?;
        let mut pairs: BTreeMap<(IpAddr, IpAddr), u64> = BTreeMap::new();
        for FlowMove { from, to, .. } in &self.list {
            *pairs.entry((*from, *to)).or_default() += 1;
        }
        if pairs.len() > SERVERS_SHOWN_MAX {
            return Ok(());
        }
        for ((from, to), count) in pairs {
            writeln!(f, "  {from} to {to}: {count}")?;
        }
        Ok(())
    }
}

impl Losses {
    pub(super) fn of<D: Driver>(pktgen: &Pktgen<D>) -> Option<Self> {
        let losing = pktgen.checker().histories().losing(pktgen.flows())?;
        let mut losses = Self {
            flows: 0,
            packets: 0,
            allowed: 0,
            list: Vec::new(),
        };
        let row = |it: &Losing| {
            let (client, service) = pktgen.plan().ends(it.slot, 0)?;
            let servers = &pktgen.plan().servers;
            Some(LosingFlow {
                flow: it.slot,
                client,
                service: service.address(),
                server: it.server.and_then(|server| servers.address(server)),
                sent: it.sent,
                lost: it.lost,
                allowed: it.is_allowed,
            })
        };
        for flow in losing {
            losses.flows += 1;
            losses.packets += u64::from(flow.lost);
            losses.allowed += if flow.is_allowed { flow.lost.into() } else { 0 };
            if losses.list.len() < FLOWS_LISTED_MAX {
                losses.list.extend(row(&flow));
            }
        }
        Some(losses)
    }

    /// A line that counts them, and one for each flow when there are few.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flows == 0 {
            return writeln!(f, "losing     no flow lost a packet");
        }
        let Self {
            flows,
            packets,
            allowed,
            list,
        } = self;
        writeln!(
            f,
            "losing     {flows} flows lost {packets} packets, {allowed} of them allowed"
        )?;
        for flow in list.iter().take(SERVERS_SHOWN_MAX) {
            let LosingFlow {
                client,
                service,
                sent,
                lost,
                ..
            } = flow;
            write!(f, "  {client} to {service}: {lost} of {sent}")?;
            match flow.server {
                Some(server) => writeln!(f, ", with {server}")?,
                None => writeln!(f, ", never seen")?,
            }
        }
        Ok(())
    }
}

/// Flows that lost packets, in a report; the others are counted.
const FLOWS_LISTED_MAX: usize = 10_000;
