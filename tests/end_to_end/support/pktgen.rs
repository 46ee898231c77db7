//! `pointsman pktgen` in the place of clients and real servers.

use std::{fs, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    director::{Director, PROGRAM},
    lab::{DIRECTOR_WAN, Lab, Shape, VIP},
    namespace::{Process, wait_for},
};

/// Flows of [`Pktgen::measure`]. A thousand packets are eight of each.
pub(crate) const FLOWS: u64 = 120;

/// A running generator. Its flows are in turn of TCP and of UDP.
#[derive(Debug)]
pub(crate) struct Pktgen {
    process: Process,
    output: PathBuf,
}

impl Lab {
    /// A network without hosts: pktgen alone answers on its two cables.
    pub(crate) fn for_pktgen(test: &str) -> Option<Self> {
        let lab = Self::build(test, Shape::TwoArms, 0)?;
        lab.client.ip("link set lan nomaster");
        for interface in ["wan", "servers"] {
            lab.client.ip(&format!("address flush dev {interface}"));
        }
        lab.client.ip("link set wan arp off");
        lab.client.set("ipv4/conf/lan/arp_ignore", "8");
        Some(lab)
    }
}

impl Pktgen {
    /// Starts it on the cables of [`Lab::for_pktgen`], for the real servers 1 to
    /// 4, and waits until [`FLOWS`] flows are established and it measures.
    pub(crate) fn measure(lab: &Lab, director: &Director, more: &[&str]) -> Self {
        let flows = FLOWS.to_string();
        let words = [
            "--server",
            "10.0.0.11-10.0.0.14",
            "--tunnel",
            "ipip",
            "--flows",
            &flows,
            "--rate",
            "2k",
            "--duration",
            "60",
            "--per-flow",
        ];
        let words = [&words[..], more].concat();
        let ports = ["net_af_packet0,iface=wan", "net_af_packet1,iface=lan"];
        let pktgen = Self::start(lab, &lab.client, ports, &words);
        wait_for("pktgen measures", || pktgen.log().contains("measuring: "));
        assert_eq!(director.counter("connections_opened"), FLOWS);
        pktgen
    }

    /// Starts it in this namespace of the lab, with the clients' and the real
    /// servers' port.
    pub(crate) fn start(
        lab: &Lab,
        namespace: &super::Namespace,
        [clients, servers]: [&str; 2],
        more: &[&str],
    ) -> Self {
        let [tcp, udp] = [80, 7].map(|l4_port| format!("{VIP}:{l4_port}"));
        let udp = format!("{udp}/udp");
        let (director, prefix) = (DIRECTOR_WAN.to_string(), format!("{}g", lab.prefix));
        let words = [
            PROGRAM,
            "pktgen",
            "--port",
            clients,
            "--port",
            servers,
            "--service",
            &tcp,
            "--service",
            &udp,
            "--director",
            &director,
            "--local",
            "192.0.2.254",
            "--hugepages",
            "none",
            "--memory-mib",
            "128",
            "--file-prefix",
            &prefix,
            // What is on its way fits into the queues, however late a side is.
            "--window",
            "200",
            "--warm-up",
            "0.1",
            // Its thread may have to wait for others.
            "--drain",
            "5",
            "--json",
        ];
        let output = lab.path("pktgen.log");
        // Not what another one said before.
        fs::write(&output, "").unwrap();
        let words = [&words[..], more].concat();
        Self {
            process: namespace.spawn(&words, &output),
            output,
        }
    }

    /// Ends it, and returns its exit code and what it reports.
    pub(crate) fn stop(self) -> (Option<i32>, Value) {
        self.process.signal(Signal::INT);
        self.wait()
    }

    /// Waits for its end, and returns its exit code and what it reports.
    pub(crate) fn wait(mut self) -> (Option<i32>, Value) {
        let status = self.process.wait();
        let text = fs::read_to_string(&self.output).unwrap();
        let json = text.find("\n{\n").map(|at| text[at..].to_owned());
        let json = json.unwrap_or_else(|| panic!("{status}: {text}"));
        (status.code(), serde_json::from_str(&json).unwrap())
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

/// A report without all but the first rows of its lists.
pub(crate) fn brief(report: &Value) -> String {
    let mut report = report.clone();
    for what in ["moves", "losses"] {
        if let Some(rows) = report[what]["list"].as_array_mut() {
            rows.truncate(3);
        }
    }
    format!("{report:#}")
}
