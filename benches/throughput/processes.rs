//! The processes of a case, and what they share.

use std::{
    fs,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::Failure;

/// The program under test.
pub(crate) const POINTSMAN: &str = env!("CARGO_BIN_EXE_pointsman");

/// Where it all happens.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) director_core: usize,
    pub(crate) generator_core: usize,
    /// As `--hugepages` of pktgen.
    pub(crate) hugepages: &'static str,
    dir: TempDir,
}

impl Surroundings {
    /// On these cores, "A,B", or on the last two that this process may use.
    pub(crate) fn new(cores: Option<&str>, has_hugepages: bool) -> Result<Self, Failure> {
        let allowed = core_affinity::get_core_ids().ok_or("the cores cannot be told")?;
        let (director_core, generator_core) = match cores {
            None => match allowed.as_slice() {
                [.., before, last] => (last.id, before.id),
                [only] => (only.id, only.id),
                [] => return Err("this process may run on no core".into()),
            },
            Some(text) => {
                let (a, b) = text.split_once(',').ok_or("write two cores, like 3,2")?;
                (a.parse()?, b.parse()?)
            }
        };
        // This process stays free, as those that it starts inherit where it may run.
        for core in [director_core, generator_core] {
            if !allowed.iter().any(|allowed| allowed.id == core) {
                return Err(format!("core {core} is none of this process").into());
            }
        }
        Ok(Self {
            director_core,
            generator_core,
            hugepages: if has_hugepages { "auto" } else { "none" },
            dir: tempfile::Builder::new().prefix("pmbench").tempdir()?,
        })
    }

    /// A file of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Removes what a process that was killed left behind.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        for entry in fs::read_dir(self.dir.path())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// One end of the link.
    pub(crate) fn memif(&self, role: &str) -> String {
        let socket = self.path("memif.sock");
        format!(
            "net_memif0,role={role},id=0,socket={},socket-abstract=no",
            socket.display()
        )
    }
}

/// Keeps programs with DPDK apart.
pub(crate) fn file_prefix(of: &str) -> String {
    format!("pmbench{}{of}", std::process::id())
}

/// A process that ends with this at the latest.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Running {
    /// Starts it with what it says going to `log`, and perhaps with its stderr
    /// going to `stderr` in place of that.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        log: &Path,
        stderr: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let output = fs::File::create(log)?;
        let stderr = match stderr {
            Some(pipe) => Stdio::from(pipe),
            None => Stdio::from(output.try_clone()?),
        };
        let child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(stderr)
            .spawn();
        Ok(Self {
            child: child.map_err(|error| format!("{name} cannot be started: {error}"))?,
            name,
            log: log.to_owned(),
        })
    }

    /// What it has said.
    pub(crate) fn said(&self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        fs::File::open(&self.log)?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its last words, for a message.
    pub(crate) fn failed(&self, what: &str) -> Failure {
        let said = self.said().unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(8).collect();
        let last: Vec<&str> = lines.into_iter().rev().collect();
        format!("{} {what}:\n{}", self.name, last.join("\n")).into()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failure> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, time_max: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + time_max;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        Err(self.failed("does not end"))
    }

    /// Waits until `is_so`, while it runs.
    pub(crate) fn wait_until(&mut self, is_so: impl Fn() -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIME_MAX;
        while !is_so() {
            if self.child.try_wait()?.is_some() {
                return Err(self.failed("has ended"));
            }
            if Instant::now() > deadline {
                return Err(self.failed("does not start"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Best effort: nothing else can be done about it.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

const POLL: Duration = Duration::from_millis(10);
const START_TIME_MAX: Duration = Duration::from_secs(20);
