//! What a run came to, for people and for programs.
mod by_flow;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    net::IpAddr,
};

use hdrhistogram::Histogram;
use serde::Serialize;

pub use self::by_flow::{FlowMove, LosingFlow, Losses, Moves};
use super::{
    check::VERSIONS,
    engine::{Phase, Pktgen},
    mismatch::Sample,
    outer::Tunnel,
};
use crate::io::{Driver, Port};

/// A run's figures. Rates are packets and bits of frames without FCS.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every check passed and no more was lost than is allowed.
    pub passed: bool,
    /// Why not, a line each.
    pub failures: Vec<String>,
    /// Seconds in which it was measured.
    pub seconds: f64,
    /// Packets of flows made while it was measured.
    pub sent: Rate,
    /// Those of them that came back.
    pub received: Rate,
    /// Those that did not.
    pub lost: u64,
    /// Of a hundred.
    pub loss_percent: f64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that a later one of their flow overtook.
    pub reordered: u64,
    /// SYNs of the flood.
    pub flood: Flood,
    /// Flows.
    pub flows: FlowCounts,
    /// Times from the making of a packet to its check, in microseconds.
    pub latency_us: Option<Latency>,
    /// By kind: packets that were not as they should be, at any time.
    pub mismatches: BTreeMap<String, u64>,
    /// The first of them.
    pub samples: Vec<MismatchSample>,
    /// Packets by tunnel and by versions, at any time.
    pub tunnels: BTreeMap<String, u64>,
    /// Real servers, in the order of the command line.
    pub servers: Vec<ServerCount>,
    /// Flows that went on with another real server, at any time.
    pub moves: Moves,
    /// Flows that lost packets; `None` when packets were not counted by flow.
    pub losses: Option<Losses>,
    /// Frames to MAC addresses that real servers have beside the port's, at any
    /// time.
    pub server_macs: BTreeMap<String, u64>,
    /// What came back to clients, at any time.
    pub returned: BTreeMap<String, u64>,
    /// ARP and Neighbor Discovery packets received.
    pub neighbor_packets: u64,
    /// Frames that are no IP.
    pub other_frames: u64,
    /// What pktgen itself needed: cycles of the time stamp counter.
    pub own_cost: OwnCost,
    /// What pktgen's own ports lost, which is no loss of the director.
    pub ports: Vec<PortReport>,
}

/// Packets, and their rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames as they were sent, without FCS.
    pub bytes: u64,
    /// Million packets a second.
    pub mpps: f64,
    /// Thousand million bits a second.
    pub gbps: f64,
}

/// SYNs of the flood.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Flood {
    /// Sent while it was measured.
    pub sent: u64,
    /// Those that came back. The others are no loss: a director may refuse
    /// them.
    pub received: u64,
}

/// Flows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlowCounts {
    /// At a time.
    pub concurrent: u32,
    /// Packets with which they were opened before anything counted.
    pub opening_packets: u64,
    /// How many of these did not come back.
    pub opening_lost: u64,
    /// Flows that gave way to new ones while it was measured.
    pub replaced: u64,
    /// Packets whose flow had given way when they came.
    pub packets_of_replaced: u64,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "percentiles, named by their number")]
pub struct Latency {
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// A packet that was not as it should be.
#[derive(Clone, Debug, Serialize)]
pub struct MismatchSample {
    /// What was wrong with it.
    pub problem: String,
    /// The frame, in hexadecimal digits, as far as it was kept.
    pub frame: String,
}

/// Packets of a real server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerCount {
    /// Its address.
    pub address: IpAddr,
    /// Packets made while it was measured.
    pub packets: u64,
    /// Flows that began there, at any time.
    pub flows: u64,
}

/// Frames that a port of pktgen lost.
#[derive(Clone, Debug, Serialize)]
pub struct PortReport {
    /// Its device.
    pub device: String,
    /// Received, with no descriptor free.
    pub rx_missed: u64,
    /// Received, with no packet buffer free.
    pub rx_no_buffer: u64,
    /// Received with errors.
    pub rx_errors: u64,
    /// That could not be sent.
    pub tx_errors: u64,
}

impl PortReport {
    /// What a port says.
    pub fn of(port: &impl Port) -> Self {
        let statistics = port.statistics();
        Self {
            device: port.description().device.clone(),
            rx_missed: statistics.rx_missed,
            rx_no_buffer: statistics.rx_no_buffer,
            rx_errors: statistics.rx_errors,
            tx_errors: statistics.tx_errors,
        }
    }

    const fn lost(&self) -> u64 {
        self.rx_missed + self.rx_no_buffer + self.rx_errors + self.tx_errors
    }
}

/// Cycles of the time stamp counter for a packet, in half of the bursts or
/// more; `None` when there were only short ones.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OwnCost {
    /// For making one.
    pub make_cycles: Option<u64>,
    /// For checking one.
    pub check_cycles: Option<u64>,
}

impl Report {
    /// The figures of a run that has ended.
    pub fn of<D: Driver>(pktgen: &Pktgen<D>) -> Self {
        let (sent, checker) = (pktgen.sent(), pktgen.checker());
        let hz = float(pktgen.cycles_per_second().max(1));
        let timing = pktgen.timing();
        let cycles = timing.measured_to.saturating_sub(timing.measured_from);
        let seconds = float(cycles) / hz;
        let counts = &checker.counts;
        let packets_sent = sent.measured.saturating_sub(sent.unsent);
        let arrived = counts.measured.saturating_sub(counts.measured_duplicates);
        let lost = packets_sent.saturating_sub(arrived);
        let loss_percent = if packets_sent == 0 {
            0.0
        } else {
            100.0 * float(lost) / float(packets_sent)
        };
        let named = |(name, count): (&dyn fmt::Display, u64)| (name.to_string(), count);
        let cost = pktgen.cost();
        let mut report = Self {
            passed: true,
            failures: Vec::new(),
            seconds,
            sent: Rate::of(packets_sent, sent.measured_bytes, seconds),
            received: Rate::of(counts.measured, counts.measured_bytes, seconds),
            lost,
            loss_percent,
            duplicates: counts.duplicates,
            reordered: counts.late,
            flood: Flood {
                sent: sent.flood,
                received: counts.flood,
            },
            flows: FlowCounts {
                concurrent: pktgen.plan().options.flows,
                opening_packets: sent.opening.0,
                opening_lost: sent.opening.0.saturating_sub(sent.opening.1),
                replaced: sent.replaced,
                packets_of_replaced: counts.of_replaced,
            },
            latency_us: Latency::of(pktgen, hz),
            mismatches: checker
                .mismatches
                .counts()
                .map(|(kind, count)| named((&kind.name(), count)))
                .collect(),
            samples: checker
                .mismatches
                .samples()
                .iter()
                .map(MismatchSample::of)
                .collect(),
            tunnels: tunnels_of(&counts.tunnels),
            servers: servers_of(pktgen),
            moves: Moves::of(pktgen, hz),
            losses: Losses::of(pktgen),
            server_macs: checker
                .further_macs()
                .iter()
                .map(|(mac, count)| named((mac, *count)))
                .collect(),
            returned: pktgen
                .returned()
                .counts()
                .map(|(kind, count)| named((&kind, count)))
                .collect(),
            neighbor_packets: sent.neighbor_packets,
            other_frames: sent.other_frames,
            own_cost: OwnCost {
                make_cycles: median(&cost.make),
                check_cycles: median(&cost.check),
            },
            ports: Vec::new(),
        };
        report.judge(pktgen);
        report
    }

    fn judge<D: Driver>(&mut self, pktgen: &Pktgen<D>) {
        let options = &pktgen.plan().options;
        let mut failures = Vec::new();
        if pktgen.phase() == Phase::Unresolved {
            failures.push("the director did not answer ARP or Neighbor Discovery".to_owned());
        }
        let mismatches = pktgen.checker().mismatches.total();
        if mismatches > 0 {
            failures.push(format!("{mismatches} packets were not as they should be"));
        }
        if self.duplicates > 0 {
            failures.push(format!("{} packets came twice", self.duplicates));
        }
        if self.sent.packets == 0 {
            failures.push("no packet was sent".to_owned());
        } else if self.received.packets == 0 {
            failures.push("no packet came back".to_owned());
        }
        let (lost, loss_percent) = self.loss_that_counts();
        if loss_percent > options.loss_max_percent {
            failures.push(format!(
                "{lost} packets were lost ({loss_percent:.4} %); {} % may be",
                options.loss_max_percent
            ));
        }
        self.passed = failures.is_empty();
        self.failures = failures;
    }

    /// Packets lost, and of a hundred, without those of flows that may lose
    /// some.
    fn loss_that_counts(&self) -> (u64, f64) {
        let allowed = self.losses.as_ref().map_or(0, |losses| losses.allowed);
        let lost = self.lost.saturating_sub(allowed);
        let percent = if self.sent.packets == 0 {
            0.0
        } else {
            100.0 * float(lost) / float(self.sent.packets)
        };
        (lost, percent)
    }

    /// Everything as JSON.
    ///
    /// # Errors
    /// Never in practice: all of it can be written.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl Rate {
    fn of(packets: u64, bytes: u64, seconds: f64) -> Self {
        let per_second = |count: u64| {
            if seconds > 0.0 {
                float(count) / seconds
            } else {
                0.0
            }
        };
        Self {
            packets,
            bytes,
            mpps: per_second(packets) / 1e6,
            gbps: per_second(bytes) * 8.0 / 1e9,
        }
    }
}

impl Latency {
    fn of<D: Driver>(pktgen: &Pktgen<D>, hz: f64) -> Option<Self> {
        let latency = pktgen.checker().latency();
        if latency.is_empty() {
            return None;
        }
        let microseconds = |cycles: u64| float(cycles) * 1e6 / hz;
        let percentile = |percent| microseconds(latency.value_at_percentile(percent));
        Some(Self {
            min: microseconds(latency.min()),
            p50: percentile(50.0),
            p90: percentile(90.0),
            p99: percentile(99.0),
            p99_9: percentile(99.9),
            max: microseconds(latency.max()),
        })
    }
}

impl MismatchSample {
    fn of(sample: &Sample) -> Self {
        let mut frame = String::new();
        for byte in &sample.frame {
            // Writing to a string does not fail.
            let _ = write!(frame, "{byte:02x}");
        }
        Self {
            problem: sample.mismatch.to_string(),
            frame,
        }
    }
}

fn tunnels_of(counts: &[[u64; 4]; Tunnel::ALL.len()]) -> BTreeMap<String, u64> {
    let mut tunnels = BTreeMap::new();
    for (tunnel, counts) in Tunnel::ALL.iter().zip(counts) {
        for (versions, count) in VERSIONS.iter().zip(counts) {
            if *count > 0 {
                tunnels.insert(format!("{} {versions}", tunnel.name()), *count);
            }
        }
    }
    tunnels
}

fn servers_of<D: Driver>(pktgen: &Pktgen<D>) -> Vec<ServerCount> {
    let servers = &pktgen.plan().servers;
    let states = (0..).zip(pktgen.checker().servers());
    states
        .filter_map(|(index, state)| {
            Some(ServerCount {
                address: servers.address(index)?,
                packets: state.packets,
                flows: state.flows,
            })
        })
        .collect()
}

fn median(cycles: &Histogram<u64>) -> Option<u64> {
    (!cycles.is_empty()).then(|| cycles.value_at_quantile(0.5))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people have few digits"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "measured   {:.3} s", self.seconds)?;
        writeln!(f, "sent       {}", self.sent)?;
        writeln!(f, "received   {}", self.received)?;
        writeln!(
            f,
            "lost       {} ({:.4} %), came twice {}, overtaken {}",
            self.lost, self.loss_percent, self.duplicates, self.reordered
        )?;
        if self.flood.sent > 0 {
            let Flood { sent, received } = self.flood;
            writeln!(f, "flood      {sent} SYNs sent, {received} came back")?;
        }
        let flows = &self.flows;
        writeln!(
            f,
            "flows      {} at a time, opened by {} packets ({} lost), {} replaced",
            flows.concurrent, flows.opening_packets, flows.opening_lost, flows.replaced
        )?;
        if let Some(latency) = &self.latency_us {
            writeln!(
                f,
                "latency    min {:.1}, 50% {:.1}, 90% {:.1}, 99% {:.1}, 99.9% {:.1}, max {:.1} µs",
                latency.min, latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
            )?;
        }
        list(f, "tunnels", &self.tunnels)?;
        self.write_servers(f)?;
        self.moves.write(f)?;
        if let Some(losses) = &self.losses {
            losses.write(f)?;
        }
        if !self.server_macs.is_empty() {
            list(f, "macs", &self.server_macs)?;
        }
        if !self.returned.is_empty() {
            list(f, "returned", &self.returned)?;
        }
        if let OwnCost {
            make_cycles: Some(make),
            check_cycles: Some(check),
        } = self.own_cost
        {
            writeln!(
                f,
                "own cost   {make} cycles to make a packet, {check} to check one (TSC, median)"
            )?;
        }
        for port in self.ports.iter().filter(|port| port.lost() > 0) {
            writeln!(
                f,
                "port       {}: missed {}, without buffer {}, receive errors {}, send errors {}",
                port.device, port.rx_missed, port.rx_no_buffer, port.rx_errors, port.tx_errors
            )?;
        }
        list(f, "mismatches", &self.mismatches)?;
        for sample in &self.samples {
            writeln!(f, "  {}\n    {}", sample.problem, sample.frame)?;
        }
        if self.passed {
            return f.write_str("passed");
        }
        write!(f, "failed: {}", self.failures.join("; "))
    }
}

impl Report {
    /// How evenly packets are spread; each server when there are few.
    fn write_servers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.servers.iter().filter(|server| server.packets > 0);
        let packets = || self.servers.iter().map(|server| server.packets);
        writeln!(
            f,
            "servers    {} of {} got packets, {} to {} each",
            used.count(),
            self.servers.len(),
            packets().min().unwrap_or(0),
            packets().max().unwrap_or(0)
        )?;
        if self.servers.len() > SERVERS_SHOWN_MAX {
            return Ok(());
        }
        for server in &self.servers {
            let ServerCount {
                address,
                packets,
                flows,
            } = server;
            writeln!(f, "  {address:<24} {packets:>12} packets {flows:>10} flows")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            packets,
            mpps,
            gbps,
            ..
        } = self;
        write!(f, "{packets} packets, {mpps:.3} Mpps, {gbps:.3} Gbit/s")
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    let parts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let text = if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    };
    writeln!(f, "{title:<10} {text}")
}

/// With more real servers only their spread is printed.
const SERVERS_SHOWN_MAX: usize = 16;
