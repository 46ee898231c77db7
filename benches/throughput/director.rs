//! `pointsman run` as the forwarder.

use std::{fmt::Write, fs, os::unix::process::ExitStatusExt, process::Command, time::Duration};

use pointsman::control::{
    socket,
    status::{CounterStatus, Request, Response, WorkerStatus},
};
use rustix::process::Signal;

use crate::{
    Failure,
    case::{Case, Event},
    processes::{POINTSMAN, Running, Surroundings, file_prefix},
};

/// Its address on the link, and that of the clients' router.
pub(crate) const ADDRESS: &str = "192.0.2.1";
pub(crate) const ROUTER: &str = "192.0.2.254";
pub(crate) const VIP_PORT: &str = "198.51.100.10:80";
/// Real servers, as pktgen takes them.
pub(crate) const SERVERS: &str = "10.0.1.0-10.0.1.99";
const SERVERS_COUNT: u32 = 100;

/// A running director.
#[derive(Debug)]
pub(crate) struct Director<'a> {
    process: Running,
    case: &'a Case,
    surroundings: &'a Surroundings,
    /// When it began to be measured.
    begin: Option<WorkerStatus>,
    account: Account,
    /// Reloads that it was told to do.
    ordered: u32,
}

/// What a director says of a case.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Cycles of its worker for each packet, from receiving to sending, and how
    /// many of these a second has; if there was time to measure that.
    pub(crate) cycles: Option<(f64, f64)>,
    /// How often it took up another configuration.
    pub(crate) reloads: u32,
    /// How often it should have by then.
    pub(crate) reloads_ordered: u32,
    /// Connections that ended.
    pub(crate) expired: u64,
}

impl<'a> Director<'a> {
    pub(crate) fn start(case: &'a Case, surroundings: &'a Surroundings) -> Result<Self, Failure> {
        let config = surroundings.path("director.toml");
        fs::write(&config, configuration(case, surroundings, 1)?)?;
        let mut command = Command::new(POINTSMAN);
        command.args(["run", "--config"]).arg(&config);
        let log = surroundings.path("director.log");
        let mut process = Running::start("pointsman run", &mut command, &log, None)?;
        let socket = surroundings.path("control.sock");
        process.wait_until(|| socket::query(&socket, &Request::Workers).is_ok())?;
        Ok(Self {
            process,
            case,
            surroundings,
            begin: None,
            account: Account::default(),
            ordered: 0,
        })
    }

    /// About once a second while pktgen measures.
    pub(crate) fn tick(&mut self) -> Result<(), Failure> {
        let status = worker(self.surroundings)?;
        match &self.begin {
            None => self.begin = Some(status),
            Some(begin) => self.account = self.account_of(begin, &status)?,
        }
        if self.case.event == Event::Reload {
            self.ordered += 1;
            // By turns, so that each is a change.
            let weight = 1 + self.ordered % 2;
            let text = configuration(self.case, self.surroundings, weight)?;
            fs::write(self.surroundings.path("director.toml"), text)?;
            self.process.signal(Signal::HUP)?;
        }
        Ok(())
    }

    fn account_of(&self, begin: &WorkerStatus, end: &WorkerStatus) -> Result<Account, Failure> {
        let opened: u64 = counters(self.surroundings)?
            .iter()
            .filter(|counter| counter.name == "connections_opened")
            .map(|counter| counter.count)
            .sum();
        let cycles = |status: &WorkerStatus| status.cycles_per_packet * float(status.packets);
        let packets = end.packets - begin.packets;
        let each = (cycles(end) - cycles(begin)) / float(packets.max(1));
        Ok(Account {
            cycles: (packets > 0).then(|| (each, float(end.tsc_hz))),
            reloads: u32::try_from(end.generation - begin.generation)?.min(self.ordered),
            reloads_ordered: self.ordered,
            expired: opened.saturating_sub(end.connections),
        })
    }

    /// Stops it, and says what it did from the first tick to the last one.
    pub(crate) fn stop(mut self) -> Result<Account, Failure> {
        if self.process.child.try_wait()?.is_none() {
            self.process.signal(Signal::TERM)?;
        }
        let status = self.process.wait(STOP_TIME_MAX)?;
        if status.signal() == Some(Signal::SEGV.as_raw()) {
            // What was measured was measured before, and pktgen had its packets.
            eprintln!(
                "{}: the director was killed when pktgen ended: DPDK's net_memif does not always \
                 stand that its peer goes away while it is polled",
                self.case.name
            );
        } else if !status.success() {
            return Err(self.process.failed("failed"));
        }
        Ok(self.account)
    }
}

fn worker(surroundings: &Surroundings) -> Result<WorkerStatus, Failure> {
    let socket = surroundings.path("control.sock");
    match socket::query(&socket, &Request::Workers)? {
        Response::Workers(workers) => {
            let first = workers.into_iter().next();
            Ok(first.ok_or("the director has no worker")?)
        }
        _ => Err("the director does not answer what it was asked".into()),
    }
}

fn counters(surroundings: &Surroundings) -> Result<Vec<CounterStatus>, Failure> {
    let socket = surroundings.path("control.sock");
    match socket::query(&socket, &Request::Counters)? {
        Response::Counters(counters) => Ok(counters),
        _ => Err("the director does not answer what it was asked".into()),
    }
}

/// One arm, one worker that polls, a hundred real servers, the first of this
/// weight.
fn configuration(case: &Case, surroundings: &Surroundings, weight: u32) -> Result<String, Failure> {
    let Surroundings {
        director_core,
        generator_core,
        hugepages,
        ..
    } = surroundings;
    let connections_max = match case.event {
        Event::Expiry(_) => 4_000_000,
        _ => case.flows.saturating_mul(2).max(100_000),
    };
    let mut text = format!(
        "[director]\nworkers = [{director_core}]\nmanagement_core = {generator_core}\n\
         idle = \"poll\"\nconnections_max = {connections_max}\ncontrol_socket = \"{}\"\n\
         state_file = \"none\"\n\
         [eal]\nhugepages = \"{hugepages}\"\nmemory_mib = 128\nfile_prefix = \"{}\"\n\
         [[port]]\nname = \"lan\"\ndevice = \"{}\"\naddresses = [\"{ADDRESS}/24\", \"10.0.0.1/16\"]\n\
         [[route]]\nto = \"default\"\nvia = \"{ROUTER}\"\n",
        surroundings.path("control.sock").display(),
        file_prefix("d"),
        surroundings.memif("server"),
    );
    if let Event::Expiry(_) = case.event {
        write!(text, "[director.timeouts]\nudp = 2\n")?;
    }
    let protocol = case.protocol;
    write!(
        text,
        "[[service]]\naddress = \"{VIP_PORT}\"\nprotocol = \"{protocol}\"\nscheduler = \"wrr\"\n"
    )?;
    for server in 0..SERVERS_COUNT {
        let weight = if server == 0 { weight } else { 1 };
        write!(
            text,
            "[[service.real_server]]\naddress = \"10.0.1.{server}\"\nweight = {weight}\n"
        )?;
    }
    Ok(text)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people have few digits"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

const STOP_TIME_MAX: Duration = Duration::from_secs(20);
