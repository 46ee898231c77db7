//! What a case came to, for people and for programs.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::case::{Case, Forwarder};

/// The figures of a case.
#[derive(Debug)]
pub(crate) struct Figures {
    case: Case,
    /// pktgen's report.
    report: Value,
    /// TSC cycles a packet of the forwarder, its port included.
    cycles: Option<f64>,
    /// Share of a core that these are.
    busy_share: Option<f64>,
    /// Million packets a second, and cycles, as shares of what testpmd does with
    /// the same packets.
    ratios: (Option<f64>, Option<f64>),
    pub(crate) reloads: u32,
    pub(crate) expired: u64,
    /// What was wrong.
    pub(crate) failures: Vec<String>,
    pub(crate) was_busy: bool,
}

/// What testpmd did, by case without its name: packets a second and cycles.
#[derive(Debug, Default)]
pub(crate) struct Floors(HashMap<String, (f64, Option<f64>)>);

impl Floors {
    /// Remembers a floor, or compares with it.
    pub(crate) fn compare(&mut self, figures: &mut Figures) {
        let case = &figures.case;
        let what = case.name.split_once(' ').map_or("", |(_, what)| what);
        let (mpps, cycles) = (figures.mpps(), figures.cycles);
        match (case.forwarder, self.0.get(what)) {
            (Forwarder::Testpmd, _) => {
                self.0.insert(what.to_owned(), (mpps, cycles));
            }
            (Forwarder::Director, Some((floor_mpps, floor_cycles))) => {
                let of_cycles = cycles.zip(*floor_cycles);
                figures.ratios = (
                    Some(mpps / floor_mpps),
                    of_cycles.map(|(cycles, floor)| cycles / floor),
                );
            }
            (Forwarder::Director, None) => {}
        }
    }
}

impl Figures {
    pub(crate) const TITLE: &str = "case                                                 Mpps  loss wrong  cycles busy  Mpps/floor  cycles/floor   p50   p99   p99.9 µs";

    pub(crate) fn new(case: &Case, report: Value, cycles: Option<(f64, f64)>) -> Self {
        let failures = report["failures"].as_array().into_iter().flatten();
        let failures = failures.filter_map(|text| Some(text.as_str()?.to_owned()));
        let mut figures = Self {
            case: case.clone(),
            failures: failures.collect(),
            report,
            cycles: cycles.map(|(cycles, _)| cycles),
            busy_share: None,
            ratios: (None, None),
            reloads: 0,
            expired: 0,
            was_busy: false,
        };
        let packets_per_s = figures.mpps() * 1e6;
        figures.busy_share = cycles.map(|(cycles, tsc_hz)| packets_per_s * cycles / tsc_hz);
        let is_right = figures.report["received"]["packets"] == figures.report["sent"]["packets"];
        if figures.failures.is_empty() && !is_right {
            let text = "other packets came back than were sent";
            figures.failures.push(text.to_owned());
        }
        figures
    }

    fn mpps(&self) -> f64 {
        self.report["received"]["mpps"].as_f64().unwrap_or(0.0)
    }

    fn mismatches(&self) -> u64 {
        let kinds = self.report["mismatches"].as_object();
        let kinds = kinds.into_iter().flat_map(serde_json::Map::values);
        kinds.filter_map(Value::as_u64).sum()
    }

    fn latency(&self, percentile: &str) -> Option<f64> {
        // With as many packets on their way as fit, it is that of a queue.
        self.case.rate?;
        self.report["latency_us"][percentile].as_f64()
    }

    pub(crate) fn line(&self) -> String {
        let text = |number: Option<f64>, digits: usize| {
            number.map_or("-".to_owned(), |number| format!("{number:.digits$}"))
        };
        let latency = |name| text(self.latency(name), 1);
        format!(
            "{:<50} {:6.2} {:>5} {:5} {:>7} {:>4} {:>11} {:>13} {:>5} {:>5} {:>7}{}",
            self.case.name,
            self.mpps(),
            self.report["lost"].to_string(),
            self.mismatches(),
            text(self.cycles, 1),
            text(self.busy_share, 2),
            text(self.ratios.0, 2),
            text(self.ratios.1, 2),
            latency("p50"),
            latency("p99"),
            latency("p99_9"),
            if self.was_busy { "  BUSY" } else { "" }
        )
    }

    pub(crate) fn json(&self) -> String {
        json!({
            "bench": "throughput",
            "case": self.case.name,
            "flows": self.case.flows,
            "packet_bytes": self.case.frame_len,
            "workers": 1,
            "tsc_cycles_per_packet": self.cycles,
            "core_cycles_per_packet": null,
            "io_cycles_per_packet": null,
            "mpps": self.mpps(),
            "loss": self.report["lost"],
            "mismatches": self.mismatches(),
            "forwarder_busy_share": self.busy_share,
            "mpps_to_floor": self.ratios.0,
            "cycles_to_floor": self.ratios.1,
            "latency_p50_us": self.latency("p50"),
            "latency_p99_us": self.latency("p99"),
            "latency_p99_9_us": self.latency("p99_9"),
            "latency_max_us": self.latency("max"),
            "generator_cycles_per_packet": self.generator_cycles(),
            "reloads": self.reloads,
            "expired": self.expired,
            "failures": self.failures,
            "busy": self.was_busy,
        })
        .to_string()
    }

    /// What pktgen needs for a packet, which bounds what it can ask for.
    fn generator_cycles(&self) -> Option<f64> {
        let cost = &self.report["own_cost"];
        Some(cost["make_cycles"].as_f64()? + cost["check_cycles"].as_f64()?)
    }
}
