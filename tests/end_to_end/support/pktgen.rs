//! `pointsman pktgen` in the place of clients and real servers.

use std::{fs, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    director::PROGRAM,
    lab::{DIRECTOR_WAN, Lab, VIP},
    namespace::Process,
};

/// A running generator. Its flows are in turn of TCP and of UDP.
#[derive(Debug)]
pub(crate) struct Pktgen {
    process: Process,
    output: PathBuf,
}

impl Pktgen {
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
