//! Network namespaces, and processes and threads inside them.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// How long anything may take that should be a matter of moments.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace; its name goes with it.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// Makes it, without IPv6 and without a check of source addresses.
    pub(crate) fn create(name: String) -> Self {
        run(&format!("ip netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        for family in ["all", "default"] {
            namespace.set(&format!("ipv6/conf/{family}/disable_ipv6"), "1");
            namespace.set(&format!("ipv4/conf/{family}/rp_filter"), "0");
        }
        namespace
    }

    /// Runs `work` in a thread inside.
    pub(crate) fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        inside(&self.name, work)
    }

    /// `ip` with these arguments, inside.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.name))
    }

    /// Writes a setting below `/proc/sys/net`.
    pub(crate) fn set(&self, path: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(path);
        // A kernel without IPv6 needs no switching off.
        let may_be_missing = path.starts_with("/proc/sys/net/ipv6");
        self.inside(|| {
            if !may_be_missing || path.exists() {
                fs::write(path, value).unwrap();
            }
        });
    }

    /// The MAC address of an interface inside.
    pub(crate) fn mac(&self, interface: &str) -> Vec<u8> {
        let text = self.ip(&format!("-o link show dev {interface}"));
        let mut words = text.split_whitespace();
        words.find(|word| *word == "link/ether").unwrap();
        let octets = words.next().unwrap().split(':');
        octets
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect()
    }

    /// A cable between two namespaces. Both ends are up and leave nothing to
    /// hardware, which packet sockets would see unfinished.
    pub(crate) fn connect(&self, interface: &str, other: &Self, other_interface: &str) {
        run(&format!(
            "ip link add {interface} netns {} type veth peer name {other_interface} netns {}",
            self.name, other.name
        ));
        for (namespace, interface) in [(self, interface), (other, other_interface)] {
            namespace.inside(|| {
                run(&format!(
                    "ethtool -K {interface} tx off tso off gso off gro off"
                ));
            });
            namespace.ip(&format!("link set {interface} up"));
        }
    }

    /// Starts a program inside, with its output in `log`.
    pub(crate) fn spawn(&self, words: &[&str], log: &Path) -> Process {
        Process::start(self, words, log)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about it here.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .output();
    }
}

/// A process that does not outlive its owner, nor a test that is killed: the
/// kernel ends it together with the thread that started it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The thread ends when this is gone.
    _keeper: Sender<()>,
}

impl Process {
    fn start(namespace: &Namespace, words: &[&str], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(words)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let (keeper, kept) = channel::<()>();
        let (started, child) = channel();
        let namespace = namespace.name.clone();
        thread::spawn(move || {
            enter(&namespace);
            started.send(command.spawn()).unwrap();
            // Fails when the keeper is dropped.
            let _ = kept.recv();
        });
        Self {
            child: child.recv().unwrap().unwrap(),
            _keeper: keeper,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, if that does not take long.
    pub(crate) fn wait_quietly(&mut self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the process ends", || {
            status = self.ended();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves the calling thread into a namespace, and no other.
pub(crate) fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Runs `work` in a thread inside a namespace.
pub(crate) fn inside<R: Send>(namespace: &str, work: impl FnOnce() -> R + Send) -> R {
    let there = || {
        enter(namespace);
        work()
    };
    thread::scope(|scope| match scope.spawn(there).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Runs a command to its end, and returns what it said.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).exists())
}

pub(crate) fn wait_for(what: &str, is_so: impl FnMut() -> bool) {
    wait_long_for(PATIENCE, what, is_so);
}

pub(crate) fn wait_long_for(time_max: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < time_max,
            "not within {time_max:?}: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
