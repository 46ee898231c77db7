//! `dpdk-testpmd` in macswap as the forwarder.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    Failure,
    processes::{Running, Surroundings, file_prefix},
};

const PROGRAM: &str = "dpdk-testpmd";
const PROMPT: &str = "testpmd> ";

/// A running testpmd.
#[derive(Debug)]
pub(crate) struct Testpmd {
    process: Running,
    is_measured: bool,
}

impl Testpmd {
    pub(crate) fn is_installed() -> bool {
        let version = Command::new(PROGRAM)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok()
    }

    /// With the same port, burst and queue sizes as the director has.
    pub(crate) fn start(surroundings: &Surroundings) -> Result<Self, Failure> {
        let Surroundings {
            director_core,
            generator_core,
            hugepages,
            ..
        } = surroundings;
        // By lines, so that what it has said is known also when it is killed.
        let mut command = Command::new("stdbuf");
        command.args(["--output=L", PROGRAM]);
        // Its main core only waits for the end.
        command.args(["-l", &format!("{generator_core},{director_core}")]);
        command.args(["--main-lcore", &generator_core.to_string()]);
        command.args(["-m", "128", "--no-pci"]);
        command.arg(match *hugepages {
            "none" => "--no-huge",
            _ => "--in-memory",
        });
        command.args(["--file-prefix", &file_prefix("t")]);
        command.args(["--vdev", &surroundings.memif("server")]);
        command.args([
            "--",
            "--interactive",
            "--forward-mode=macswap",
            "--port-topology=loop",
            "--nb-cores=1",
            "--burst=64",
            "--rxd=1024",
            "--txd=1024",
            "--total-num-mbufs=8192",
            "--disable-link-check",
            "--no-lsc-interrupt",
            "--record-core-cycles",
        ]);
        let log = surroundings.path("testpmd.log");
        let process = Running::start(PROGRAM, &mut command, &log, None)?;
        let mut testpmd = Self {
            process,
            is_measured: false,
        };
        // Its prompt comes when its port is ready.
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        testpmd.process.wait_until(|| said().contains(PROMPT))?;
        testpmd.tell("start")?;
        Ok(testpmd)
    }

    /// About once a second while pktgen measures: it has to tell what it counted
    /// as long as the link is there.
    pub(crate) fn tick(&mut self) -> Result<(), Failure> {
        let command = if self.is_measured { "show" } else { "clear" };
        self.is_measured = true;
        self.tell(&format!("{command} fwd stats all"))
    }

    /// Stops it, and says what a packet cost it, in cycles, and how many of
    /// these a second has: if there was time to measure that.
    pub(crate) fn stop(mut self) -> Result<Option<(f64, f64)>, Failure> {
        if self.process.child.try_wait()?.is_none() {
            self.tell("quit")?;
        }
        let status = self.process.wait(Duration::from_secs(20))?;
        // As a director may be, see there.
        if !status.success() && status.signal() != Some(Signal::SEGV.as_raw()) {
            return Err(self.process.failed("failed"));
        }
        let said = self.process.said()?;
        Ok(cycles_of(&said))
    }

    fn tell(&mut self, command: &str) -> Result<(), Failure> {
        let stdin = self.process.child.stdin.as_mut();
        let stdin = stdin.ok_or("testpmd does not listen")?;
        Ok(writeln!(stdin, "{command}")?)
    }
}

/// "CPU cycles/packet=23.45 (total cycles=4690 / total RX packets=200) at 2600
/// MHz Clock" among what it says. At its end it says so once more, of no packets.
fn cycles_of(said: &str) -> Option<(f64, f64)> {
    let figures = said.split("cycles/packet=").skip(1).filter_map(|after| {
        let cycles: f64 = after.split_whitespace().next()?.parse().ok()?;
        let (before, _) = after.split_once(" MHz")?;
        let mhz: f64 = before.split_whitespace().next_back()?.parse().ok()?;
        Some((cycles, mhz * 1e6))
    });
    figures.filter(|(cycles, _)| *cycles > 0.0).last()
}
