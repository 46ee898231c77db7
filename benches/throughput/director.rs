//! `pointsman run` as the forwarder.

use std::{fmt::Write, fs, process::Command, time::Duration};

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
    /// When it began to be measured, or to run.
    begin: WorkerStatus,
    is_measured: bool,
    reloads: u32,
}

/// What a director says of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Cycles of its worker for each packet, from receiving to sending.
    pub(crate) cycles_per_packet: f64,
    /// Of the time stamp counter.
    pub(crate) tsc_hz: f64,
    /// How often it took up another configuration.
    pub(crate) reloads: u32,
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
            begin: worker(surroundings)?,
            is_measured: false,
            reloads: 0,
        })
    }

    /// About once a second while pktgen measures.
    pub(crate) fn tick(&mut self) -> Result<(), Failure> {
        if !self.is_measured {
            self.is_measured = true;
            self.begin = worker(self.surroundings)?;
        }
        if self.case.event == Event::Reload {
            self.reloads += 1;
            // By turns, so that each is a change.
            let weight = 1 + self.reloads % 2;
            let text = configuration(self.case, self.surroundings, weight)?;
            fs::write(self.surroundings.path("director.toml"), text)?;
            self.process.signal(Signal::HUP)?;
        }
        Ok(())
    }

    /// Stops it, and says what it did since it was measured.
    pub(crate) fn stop(mut self) -> Result<Account, Failure> {
        let (begin, end) = (&self.begin, worker(self.surroundings)?);
        let counters = counters(self.surroundings)?;
        let of = |name: &str| -> u64 {
            let named = counters.iter().filter(|counter| counter.name == name);
            named.map(|counter| counter.count).sum()
        };
        let cycles = |status: &WorkerStatus| status.cycles_per_packet * float(status.packets);
        let packets = end.packets - begin.packets;
        let reloads = end.generation - begin.generation;
        self.process.signal(Signal::TERM)?;
        if !self.process.wait(STOP_TIME_MAX)?.success() {
            return Err(self.process.failed("failed"));
        }
        Ok(Account {
            cycles_per_packet: (cycles(&end) - cycles(begin)) / float(packets.max(1)),
            tsc_hz: float(end.tsc_hz),
            reloads: u32::try_from(reloads)?.min(self.reloads),
            expired: of("connections_opened").saturating_sub(end.connections),
        })
    }

    /// How many reloads it was told to do.
    pub(crate) const fn reloads(&self) -> u32 {
        self.reloads
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
