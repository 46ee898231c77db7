//! A director in the recorded lab: the program itself, in a namespace of its
//! own, between two ports whose other ends the test holds.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    process::Command as Program,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use pointsman::{
    control::{
        command::{Command, CommandError},
        socket::query,
        status::{ConnectionStatus, DirectorStatus, Request, Response, ServiceStatus},
    },
    ipvsadm::Invocation,
    service::Timeouts,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    configuration::{Configuration, RULES_FILE},
    installed::Tools,
    interpret::Action,
    namespace::{Namespace, PATIENCE, Process},
    network::Network,
    ports::Ports,
    subject::{Printed, Subject},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// The director and the world around it.
pub struct RunningDirector {
    /// Started with the first frame or question, so that what a case sets up
    /// before is in the files that it starts with.
    process: Option<Process>,
    ports: Ports,
    configuration: Configuration,
    prefix: String,
    directory: TempDir,
    started: Instant,
    namespace: Namespace,
    /// Debian's `ipvsadm`, when that is what changes services.
    tools: Option<Tools>,
}

/// What changes the services of a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A file of services, which is read again at SIGHUP.
    File,
    /// The program of the recording itself.
    Ipvsadm,
}

/// Namespaces made so far by this process.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl RunningDirector {
    /// With `tools`, they change its services; without, a file does.
    pub fn new(
        tools: Option<&Tools>,
        driver: &'static str,
        network: &Network,
        macs: [&str; 2],
    ) -> Result<Self, String> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pmbb{}-{number}", std::process::id());
        let namespace = Namespace::create(prefix.clone());
        let directory = TempDir::new().map_err(|error| error.to_string())?;
        let tools = tools.map(|tools| tools.of_director(directory.path().join("ipvs.sock")));
        Ok(Self {
            process: None,
            ports: Ports::create(&namespace, macs)?,
            configuration: Configuration::new(driver, network),
            prefix,
            directory,
            started: Instant::now(),
            namespace,
            tools,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn write_files(&self) -> Result<(), String> {
        let socket = self.socket();
        let by = self.by();
        let toml = self
            .configuration
            .toml(by, &socket.display().to_string(), &self.prefix);
        let write = |name, text| fs::write(self.path(name), text);
        if by == By::File {
            let written = write(RULES_FILE, self.configuration.rules());
            written.map_err(|error| error.to_string())?;
        }
        write("director.toml", toml).map_err(|error| error.to_string())
    }

    const fn by(&self) -> By {
        if self.tools.is_some() {
            By::Ipvsadm
        } else {
            By::File
        }
    }

    fn start(&mut self) -> Result<(), String> {
        if self.process.is_some() {
            return Ok(());
        }
        self.write_files()?;
        let file = self.path("director.toml").display().to_string();
        let words = [PROGRAM, "run", "--config", &file];
        let process = self.namespace.spawn(&words, &self.path("log"));
        self.process = Some(process);
        self.wait_for("the director is ready", |director| {
            if let Some(status) = director.process.as_mut().and_then(Process::ended) {
                return Err(format!("the director ended: {status}\n{}", director.log()));
            }
            Ok(director.log().contains("ready: "))
        })?;
        // What it announces of itself is no answer to anything.
        self.ports.fence(self.own_addresses()?)?;
        self.ports.take_sent().map(drop)
    }

    /// Has it take the files up again, when it runs.
    fn reload(&mut self) -> Result<(), String> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        self.write_files()?;
        let before = self.log().len();
        let generation = self.status()?.generation;
        process.signal(Signal::HUP);
        self.wait_for("the director has taken up its files", |director| {
            let news = director.log().split_off(before);
            if news.contains("the configuration") {
                return Err(format!("the director refuses its files: {news}"));
            }
            Ok(news.contains("read again"))
        })?;
        self.wait_until_live(generation)
    }

    fn wait_until_live(&mut self, before: u64) -> Result<(), String> {
        self.wait_for("all workers have the new state", |director| {
            let status = director.status()?;
            Ok(status.generation > before && status.workers_live == status.workers)
        })
    }

    /// A frame may change what the director knows (a path MTU, a neighbor), and
    /// the next one must find all workers to know it. The first answer comes
    /// when the frame has been looked at, the second when what that changed has
    /// been published.
    fn wait_for_what_was_learned(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.wait_for("all workers know what there is", |director| {
                let status = director.status()?;
                Ok(status.workers_live == status.workers)
            })?;
        }
        Ok(())
    }

    fn wait_for(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !is_so(self)? {
            if start.elapsed() > PATIENCE {
                return Err(format!("not in time: {what}\n{}", self.log()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn status(&self) -> Result<DirectorStatus, String> {
        match query(&self.socket(), &Request::Director) {
            Ok(Response::Director(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.log())),
        }
    }

    /// `pointsman WORDS`, which must go well.
    fn pointsman(&self, words: &[&str]) -> Result<String, String> {
        let output = Program::new(PROGRAM)
            .args(words)
            .arg("--socket")
            .arg(self.socket())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            String::from_utf8(output.stdout).map_err(|error| error.to_string())
        } else {
            Err(format!("{words:?}: {output:?}\n{}", self.log()))
        }
    }

    fn show<T: serde::de::DeserializeOwned>(&self, words: &[&str]) -> Result<T, String> {
        let text = self.pointsman(&[&["show"], words, &["--json"]].concat())?;
        serde_json::from_str(&text).map_err(|error| format!("{words:?}: {error}\n{text}"))
    }

    /// Of the two ports: the first address that is not a VIP's.
    fn own_addresses(&self) -> Result<[[u8; 4]; 2], String> {
        let own = self.configuration.network.ports.each_ref().map(|port| {
            port.addresses
                .iter()
                .find(|network| network.prefix_len() < 32)
                .and_then(|network| match network.addr() {
                    IpAddr::V4(address) => Some(address.octets()),
                    IpAddr::V6(_) => None,
                })
        });
        match own {
            [Some(first), Some(second)] => Ok([first, second]),
            _ => Err("a port has no address that answers ARP".to_owned()),
        }
    }
}

impl Subject for RunningDirector {
    fn send(&mut self, port: u8, frame: &[u8]) -> Result<(), String> {
        self.start()?;
        self.ports.send(port, frame)?;
        self.ports.fence(self.own_addresses()?)?;
        self.wait_for_what_was_learned()
    }

    fn take_sent(&mut self) -> Result<Vec<(u8, Vec<u8>)>, String> {
        self.ports.take_sent()
    }

    fn knows_order_of_ports(&self) -> bool {
        false
    }

    fn advance(&mut self, ms: u64) -> Result<(), String> {
        thread::sleep(Duration::from_millis(ms));
        Ok(())
    }

    fn seconds_lost(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn run_program(
        &mut self,
        words: &[String],
        action: &Action,
    ) -> Result<Option<Printed>, String> {
        if self.tools.is_none()
            || !matches!(words, [name, ..] if name == "ipvsadm" || name == "cat")
        {
            return Ok(None);
        }
        self.start()?;
        let before = self.status()?.generation;
        let Some(tools) = &self.tools else {
            return Ok(None);
        };
        let (text, code) = tools.run(&numeric(words));
        let changes = matches!(
            action,
            Action::Ipvsadm(Invocation::Change(_) | Invocation::SetTimeouts(_), _)
        );
        if changes && code == 0 {
            self.wait_until_live(before)?;
        }
        Ok(Some(Printed { text, code }))
    }

    fn apply(&mut self, command: &Command) -> Result<Result<(), CommandError>, String> {
        let answer = self.configuration.apply(command)?;
        if answer.is_ok() {
            self.reload()?;
        }
        Ok(answer)
    }

    fn set_tunable(&mut self, name: &str, value: u32) -> Result<(), String> {
        let tunables = &mut self.configuration.tunables;
        tunables
            .set(name, value)
            .map_err(|error| error.to_string())?;
        if self.process.is_none() {
            return Ok(());
        }
        let before = self.status()?.generation;
        let said = self.pointsman(&["set", name, &value.to_string()])?;
        if said != format!("{name} = {value}\n") {
            return Err(format!("pointsman set {name} {value} says {said}"));
        }
        self.wait_until_live(before)
    }

    fn timeouts(&self) -> Timeouts {
        self.configuration.timeouts
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), String> {
        self.configuration.timeouts = timeouts;
        if self.process.is_none() {
            return Ok(());
        }
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        let seconds = [tcp, tcp_fin, udp].map(|seconds| seconds.to_string());
        let [tcp, tcp_fin, udp] = seconds.each_ref().map(String::as_str);
        let before = self.status()?.generation;
        self.pointsman(&["set", "timeouts", tcp, tcp_fin, udp])?;
        self.wait_until_live(before)
    }

    fn limit_icmp(&mut self, interval_ms: u32) -> Result<(), String> {
        self.configuration.icmp_rate_per_s = 6000_u32.checked_div(interval_ms).unwrap_or(0);
        self.reload()
    }

    fn reconfigure(&mut self, network: &Network) -> Result<(), String> {
        let mtus = |network: &Network| network.ports.each_ref().map(|port| port.mtu);
        let keeps_mtus = mtus(&self.configuration.network) == mtus(network);
        self.configuration.network = network.clone();
        if self.process.is_some() && !keeps_mtus {
            return Err("the MTU of a port at work changes with a restart only".to_owned());
        }
        self.reload()
    }

    fn services(&mut self) -> Result<Vec<ServiceStatus>, String> {
        self.start()?;
        self.show(&["services"])
    }

    fn connections(&mut self) -> Result<Vec<ConnectionStatus>, String> {
        #[derive(serde::Deserialize)]
        struct Connections {
            connections: Vec<ConnectionStatus>,
        }
        self.start()?;
        let shown: Connections = self.show(&["connections", "--limit", "5000"])?;
        Ok(shown.connections)
    }

    fn saved(&mut self) -> Result<String, String> {
        self.start()?;
        self.pointsman(&["show", "services", "--format", "ipvsadm"])
    }

    fn listed_connections(&mut self) -> Result<String, String> {
        self.start()?;
        let words = [
            "show",
            "connections",
            "--limit",
            "5000",
            "--format",
            "ipvsadm",
        ];
        self.pointsman(&words)
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.signal(Signal::TERM);
        let status = process.wait();
        let log = self.log();
        // Of what the driver of AF_XDP keeps, the log speaks otherwise.
        if status.code() == Some(0) && log.contains("stopped; ") && !log.contains("defect") {
            Ok(())
        } else {
            Err(format!(
                "the director did not stop cleanly: {status}\n{log}"
            ))
        }
    }
}

/// The words with `-n`, as this machine may know names for numbers, where that
/// of the recording knew none.
fn numeric(words: &[String]) -> Vec<&str> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ipvsadm"] => vec!["ipvsadm", "-Ln"],
        ["ipvsadm", "-S"] => vec!["ipvsadm", "-Sn"],
        _ => words,
    }
}
