//! The command line: typed arguments, and what each subcommand does with them.
//!
//! Exit codes: 0 when it went well, 1 when it did not, 2 when the command line
//! was wrong. Errors and logs go to stderr, answers to stdout.
#![forbid(unsafe_code)]

mod capture;
mod explain;
mod format;
mod generate;
mod pktgen;
mod revert;
mod set;
mod show;
mod table;
mod top;

use std::{
    error::Error,
    fmt::Display,
    io::{self, ErrorKind, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::LazyLock,
};

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::{
    config::{self, Files, Loaded, Machine},
    doctor,
    realserver::{self, Options, Signals},
    version::{self, LONG_VERSION},
};

/// Everything that can be written on the command line.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, long_version = long_version(), about, max_term_width = 100)]
pub struct Arguments {
    /// Log more: once for debugging, twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the director until SIGINT or SIGTERM; SIGHUP reads the file again
    Run(RunArguments),
    /// Say what is wrong with a configuration file, or that nothing is
    Check(CheckArguments),
    /// Ask a running director
    Show(show::ShowArguments),
    /// Watch a running director live: services, servers, rates, workers, ports, drops
    Top(top::TopArguments),
    /// Change a setting of a running director
    Set(set::SetArguments),
    /// Say what a running director would do with a packet, and why
    Explain(explain::ExplainArguments),
    /// Take back what was changed at run time: services and settings are as the configuration says
    Revert(revert::RevertArguments),
    /// Capture packets of a running director: what came, what went, and what became of each
    Capture(Box<capture::CaptureArguments>),
    /// Examine this machine: what would keep a director from running well, and what mends it
    Doctor(DoctorArguments),
    /// Take packets out of the tunnel on a real server whose kernel has no ipip
    Realserver(RealserverArguments),
    /// Write manual pages or shell completions into a directory
    Generate(generate::GenerateArguments),
    /// Send traffic to a director by DPDK ports, and check what comes out of its tunnels
    Pktgen(Box<pktgen::PktgenArguments>),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    services: ServicesArgument,
}

#[derive(Debug, Args)]
struct CheckArguments {
    /// The configuration file
    #[arg(value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    services: ServicesArgument,
}

#[derive(Debug, Args)]
struct ServicesArgument {
    /// Services as `ipvsadm -Sn` writes them, beside those of the configuration and in place of
    /// its `services_file`
    #[arg(long = "services", value_name = "RULES")]
    file: Option<PathBuf>,
}

impl ServicesArgument {
    fn with<'p>(&'p self, config: &'p Path) -> Files<'p> {
        Files {
            config,
            services: self.file.as_deref(),
        }
    }
}

#[derive(Debug, Args)]
struct DoctorArguments {
    /// Examine the machine for this configuration
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RealserverArguments {
    /// A virtual address that this server answers for; repeat for more
    #[arg(long = "vip", value_name = "VIP", required = true)]
    vips: Vec<IpAddr>,
    /// The address of this host to which directors send
    #[arg(long, value_name = "RIP")]
    local: IpAddr,
    /// Take packets only from directors in this network; repeat for more [default: from anybody]
    #[arg(long = "director", value_name = "NETWORK")]
    directors: Vec<IpNet>,
    /// Take packets wrapped in GRE, too
    #[arg(long)]
    gre: bool,
    /// Take packets wrapped in GUE, too, at this UDP port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: Option<u16>,
    /// Name of the TUN device to make
    #[arg(long, value_name = "NAME", default_value = Options::TUN_NAME_DEFAULT)]
    tun: String,
}

#[cfg(not(feature = "dpdk"))]
const WITHOUT_DPDK: &str =
    "this pointsman was built without DPDK and has no ports; rebuild it with default features";

/// What the program was built from, how, and on which DPDK it runs.
fn long_version() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("{LONG_VERSION}\n{}{}", version::BUILD, runs_on()));
    &TEXT
}

#[cfg(feature = "dpdk")]
fn runs_on() -> String {
    format!("\nruns on {}", crate::io::dpdk::running_version())
}

#[cfg(not(feature = "dpdk"))]
const fn runs_on() -> &'static str {
    ""
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(&arguments);
    match execute(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        #[cfg(feature = "dpdk")]
        Command::Run(arguments) => crate::run::run(arguments.services.with(&arguments.config))?,
        #[cfg(not(feature = "dpdk"))]
        Command::Run(_) => return Err(WITHOUT_DPDK.into()),
        Command::Check(arguments) => return check(&arguments),
        Command::Show(arguments) => {
            let answer = show::show(&arguments)?;
            if !answer.is_empty() {
                print(answer)?;
            }
        }
        Command::Top(arguments) => {
            let frame = arguments.watch()?;
            if !frame.is_empty() {
                print(frame)?;
            }
        }
        Command::Set(arguments) => {
            let request = arguments.request().unwrap_or_else(|error| error.exit());
            print(arguments.change(&request)?)?;
        }
        Command::Explain(arguments) => print(explain::explain(&arguments)?.trim_end())?,
        Command::Revert(arguments) => arguments.revert()?,
        Command::Capture(arguments) => {
            let summary = capture::capture(&arguments)?;
            if !summary.is_empty() {
                complain(summary);
            }
        }
        Command::Generate(arguments) => arguments.write()?,
        Command::Doctor(arguments) => return examine(&arguments),
        Command::Realserver(arguments) => decapsulate(arguments)?,
        Command::Pktgen(arguments) => return generate(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn examine(arguments: &DoctorArguments) -> Result<ExitCode, Box<dyn Error>> {
    let loaded = match &arguments.config {
        None => None,
        Some(file) => match load(Files::of(file)) {
            None => return Ok(ExitCode::FAILURE),
            Some(loaded) => Some((file.as_path(), loaded.config)),
        },
    };
    let report = doctor::examine(loaded.as_ref().map(|(file, config)| (*file, config)));
    print(if arguments.json {
        report.to_json()?
    } else {
        report.to_string()
    })?;
    Ok(if report.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints what a valid file amounts to. Everything that is wrong goes to
/// stderr, and so do doubts, which fail nothing.
fn check(arguments: &CheckArguments) -> Result<ExitCode, Box<dyn Error>> {
    let Some(loaded) = load(arguments.services.with(&arguments.config)) else {
        return Ok(ExitCode::FAILURE);
    };
    print(config::check_report(&loaded.config).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a configuration; what is wrong or doubtful about it goes to stderr as
/// it stands, since it says file and line first.
fn load(files: Files<'_>) -> Option<Loaded> {
    match config::load_files(files, &Machine::detect()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(warning);
            }
            Some(loaded)
        }
        Err(errors) => {
            complain(errors);
            None
        }
    }
}

fn decapsulate(arguments: RealserverArguments) -> Result<(), Box<dyn Error>> {
    let options = Options {
        vips: arguments.vips,
        local: arguments.local,
        directors: arguments.directors,
        gre: arguments.gre,
        gue_l4_port: arguments.gue_port,
        tun_name: arguments.tun,
    };
    let summary = realserver::run(&options, &Signals::of_process()?)?;
    Ok(print(summary.to_string().trim_end())?)
}

#[cfg(feature = "dpdk")]
fn generate(arguments: &pktgen::PktgenArguments) -> Result<ExitCode, Box<dyn Error>> {
    let plan = arguments.plan().unwrap_or_else(|error| error.exit());
    let report = crate::pktgen::run::run(plan, &arguments.setup())?;
    print(if arguments.wants_json() {
        report.to_json()?
    } else {
        report.to_string()
    })?;
    Ok(if report.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(not(feature = "dpdk"))]
fn generate(arguments: &pktgen::PktgenArguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments.plan().unwrap_or_else(|error| error.exit());
    Err(WITHOUT_DPDK.into())
}

/// Writes an answer to stdout. That its reader has seen enough (`| head`) is
/// no error.
fn print(answer: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{answer}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes an error and what caused it to stderr, in one line.
fn report(error: &dyn Error) {
    let mut line = format!("pointsman: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors quote their cause already.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    complain(line);
}

/// Writes to stderr. Nobody is left to tell when that is gone.
fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

fn start_log(arguments: &Arguments) {
    let serves = matches!(
        arguments.command,
        Command::Run(_) | Command::Realserver(_) | Command::Pktgen(_)
    );
    let level = match (arguments.verbose, serves) {
        (0, false) => log::LevelFilter::Warn,
        (0, true) => log::LevelFilter::Info,
        (1, _) => log::LevelFilter::Debug,
        (_, _) => log::LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
