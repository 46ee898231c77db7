//! The program under test, as a process.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use pointsman::control::{
    socket::query,
    status::{Request, Response},
};
use rustix::process::Signal;
use serde_json::Value;

use super::{
    lab::Lab,
    namespace::{Process, wait_for},
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// A running director.
#[derive(Debug)]
pub(crate) struct Director {
    process: Process,
    log: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Director {
    pub(super) fn start(lab: &Lab, log: &str, environment: &[String]) -> Self {
        let log = lab.path(log);
        // Not what another one said before.
        fs::write(&log, "").unwrap();
        let mut director = Self {
            process: spawn(lab, &log, environment),
            socket: lab.socket(),
            log,
        };
        wait_for("the director is ready", || {
            let ended = director.process.ended();
            assert!(ended.is_none(), "{ended:?}\n{}", director.log());
            director.log().contains("ready: ")
        });
        director
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// `pointsman show WORDS --json`.
    pub(crate) fn show(&self, words: &str) -> Value {
        let text = self.show_text(&format!("{words} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words}: {error}\n{text}"))
    }

    /// `pointsman show WORDS`.
    pub(crate) fn show_text(&self, words: &str) -> String {
        let output = Command::new(PROGRAM)
            .arg("show")
            .args(words.split(' '))
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{words}: {output:?}\n{}",
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `pointsman set WORDS`: what it prints.
    pub(crate) fn set(&self, words: &str) -> String {
        let output = Command::new(PROGRAM)
            .arg("set")
            .args(words.split(' '))
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `pointsman revert`.
    pub(crate) fn revert(&self) {
        let output = Command::new(PROGRAM)
            .args(["revert", "--socket"])
            .arg(&self.socket)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Carries out a command, as any client of the control socket can.
    pub(crate) fn apply(&self, command: &pointsman::control::command::Command) {
        let response = query(&self.socket, &Request::Apply(command.clone())).unwrap();
        assert_eq!(response, Response::Applied, "{command:?}");
    }

    /// Waits until the state file has all that holds.
    pub(crate) fn saved(&self) {
        wait_for("all is saved", || {
            self.show("director")["state_file"]["is_saved"] == true
        });
    }

    pub(crate) fn generation(&self) -> u64 {
        self.show("director")["generation"].as_u64().unwrap()
    }

    /// Count of a row of `show counters`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.show("counters");
        let row = rows(&counters).iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no counter {name}"))["count"]
            .as_u64()
            .unwrap()
    }

    /// Packets that went into tunnels: what workers forwarded, and what waited
    /// with the management thread for a MAC address.
    pub(crate) fn tunnelled(&self) -> u64 {
        self.counter("forwarded") + self.counter("unresolved")
    }

    /// Lets so many more packets of a generator pass.
    pub(crate) fn pass(&self, packets: u64) {
        let before = self.counter("forwarded");
        wait_for("packets pass", || {
            self.counter("forwarded") > before + packets
        });
    }

    /// Waits until nothing has come for a while: connections end a little after
    /// their clients have heard all they wanted.
    pub(crate) fn settle(&self) {
        let mut before = None;
        wait_for("it is quiet", || {
            thread::sleep(QUIET);
            let now = Some(self.counter("rx_packets"));
            std::mem::replace(&mut before, now) == now
        });
    }

    /// State and MAC address of a neighbor, empty where there is none.
    pub(crate) fn neighbor(&self, address: impl Into<IpAddr>) -> (String, String) {
        let address = address.into();
        let neighbors = self.show("neighbors");
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        rows(&neighbors)
            .iter()
            .find(|row| row["address"] == address.to_string())
            .map(|row| (text(row, "state"), text(row, "mac")))
            .unwrap_or_default()
    }

    /// Makes it read its file again, and returns what it logs about that.
    pub(crate) fn reload(&self) -> String {
        let before = self.log().len();
        self.signal(Signal::HUP);
        let mut news = String::new();
        wait_for("the director has dealt with SIGHUP", || {
            news = self.log().split_off(before);
            news.contains("read again") || news.contains("the configuration")
        });
        news
    }

    /// Makes it take up another configuration, and waits until all workers
    /// have it.
    pub(crate) fn change_to(&self, lab: &Lab, configuration: &super::Configuration) {
        lab.write(configuration);
        let before = self.generation();
        let news = self.reload();
        assert!(news.contains("read again"), "{news}");
        wait_for("all workers have the new generation", || {
            let director = self.show("director");
            director["generation"].as_u64() > Some(before)
                && director["workers_live"] == director["workers"]
        });
    }
}

impl Drop for Director {
    /// Whatever it went through, it stops cleanly.
    fn drop(&mut self) {
        if self.process.ended().is_some() {
            return;
        }
        self.signal(Signal::TERM);
        // A failed test has said enough.
        if thread::panicking() {
            self.process.wait_quietly();
            return;
        }
        let status = self.wait();
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("stopped; "), "{log}");
        assert!(!log.contains("defect"), "{log}");
    }
}

/// Runs a director that is expected to end on its own: how it ended, and what
/// it said.
pub(crate) fn run_to_its_end(lab: &Lab) -> (ExitStatus, String) {
    let log = lab.path("ended.log");
    let status = spawn(lab, &log, &[]).wait();
    (status, fs::read_to_string(log).unwrap())
}

fn spawn(lab: &Lab, log: &Path, environment: &[String]) -> Process {
    let file = lab.configuration_file();
    let mut words = vec!["env"];
    words.extend(environment.iter().map(String::as_str));
    words.extend([PROGRAM, "run", "--config", file.to_str().unwrap()]);
    lab.director.spawn(&words, log)
}

/// How long nothing comes when it is quiet.
const QUIET: Duration = Duration::from_millis(200);

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}
