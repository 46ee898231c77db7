//! `pointsman doctor`: what would keep a director from running well on this
//! machine, and the command that mends it.
//!
//! [`Facts`] are gathered from `/proc` and `/sys` first; the checks are pure
//! functions over them, the configuration and what a running director said.
//! Nothing is changed. Where no director runs and nobody uses the configured
//! NICs, DPDK is asked what they offer.
#![forbid(unsafe_code)]

mod cores;
pub mod facts;
mod memory;
mod network;
mod probe;
mod system;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

pub use self::{
    facts::Facts,
    probe::{Probe, ProbedDevice, ProbedPort},
};
use crate::{
    config::{CONTROL_SOCKET_DEFAULT, Config},
    control::{
        socket::{QueryError, query},
        status::{DirectorStatus, PortStatus, Request, Response},
    },
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// The director runs, but worse than it could.
    Warning,
    /// The director does not run, or not as configured.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: "hugepages".
    pub subject: &'static str,
    /// What was found, in one line.
    pub found: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

impl Finding {
    fn ok(subject: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject,
            found: found.into(),
            mend: None,
        }
    }

    fn warning(subject: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            subject,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }

    fn error(subject: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            subject,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }
}

/// A director that runs at present.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningDirector {
    /// What it is.
    pub director: DirectorStatus,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

impl RunningDirector {
    /// Asks the director at this control socket; `None` when there is none.
    fn ask(socket: &Path) -> Result<Option<Self>, QueryError> {
        let director = match query(socket, &Request::Director) {
            Err(QueryError::NotRunning(_)) => return Ok(None),
            response => response?,
        };
        let ports = query(socket, &Request::Ports)?;
        // A query answers with the variant that belongs to the request.
        Ok(match (director, ports) {
            (Response::Director(director), Response::Ports(ports)) => {
                Some(Self { director, ports })
            }
            _ => None,
        })
    }
}

/// Everything that the checks know.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The machine.
    pub facts: &'a Facts,
    /// What it is for, when that is known.
    pub config: Option<&'a Config>,
    /// The director that runs with `config`, or on the default control socket
    /// when there is none.
    pub running: Option<&'a RunningDirector>,
    /// Why the director that seems to be there could not be asked.
    pub silent: Option<&'a QueryError>,
    /// What DPDK says of the configured devices, where no director runs.
    pub probed: Option<&'a Probe>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Runs all checks.
    pub fn of(case: Case<'_>) -> Self {
        let checks: [fn(Case<'_>) -> Vec<Finding>; 4] =
            [cores::check, memory::check, network::check, system::check];
        Self {
            findings: checks.into_iter().flat_map(|check| check(case)).collect(),
        }
    }

    /// All findings, in a fixed order of subjects.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether something keeps the director from running as configured.
    pub fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }

    /// The findings as a JSON list.
    ///
    /// # Errors
    /// None in practice; serde's signature has them.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            writeln!(f, "{level:<8} {:<11} {}", finding.subject, finding.found)?;
            if let Some(mend) = &finding.mend {
                writeln!(f, "{:<20} mend: {mend}", "")?;
            }
        }
        write!(
            f,
            "{} ok, {}, {}",
            self.count(Level::Ok),
            counted(self.count(Level::Warning), "warning"),
            counted(self.count(Level::Error), "error")
        )
    }
}

/// Examines this machine, for this configuration if there is one. The file
/// that it was read from tells whether a running director uses it.
pub fn examine(config: Option<(&Path, &Config)>) -> Report {
    let facts = Facts::gather(Path::new("/"));
    let socket = config.map_or_else(
        || PathBuf::from(CONTROL_SOCKET_DEFAULT),
        |(_, config)| config.director.control_socket.clone(),
    );
    let (running, silent) = match RunningDirector::ask(&socket) {
        Ok(running) => (running, None),
        Err(error) => (None, Some(error)),
    };
    let running =
        running.filter(|running| config.is_none_or(|(file, _)| is_same_file(file, running)));
    let probed = match config {
        Some((_, config))
            if running.is_none() && silent.is_none() && !network::is_in_use(&facts, config) =>
        {
            Some(probe::probe(config))
        }
        _ => None,
    };
    Report::of(Case {
        probed: probed.as_ref(),
        facts: &facts,
        config: config.map(|(_, config)| config),
        running: running.as_ref(),
        silent: silent.as_ref(),
    })
}

fn is_same_file(file: &Path, running: &RunningDirector) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(file).is_some_and(|file| real(&running.director.config_file) == Some(file))
}

/// Core or node numbers as the kernel writes them: "1-3,8".
fn list(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let texts: Vec<_> = runs
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    texts.join(",")
}

/// "1 core", "3 cores"
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// "core 3", "cores 1-3,8"
fn core_list(cores: impl IntoIterator<Item = usize>) -> String {
    let cores = list(cores);
    let plural = if cores.contains([',', '-']) { "s" } else { "" };
    format!("core{plural} {cores}")
}

#[cfg(test)]
mod fake;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_each_and_the_command_below() {
        let report = Report {
            findings: vec![
                Finding::ok("cores", "4 cores"),
                Finding::error("hugepages", "none", "do something"),
            ],
        };
        assert_eq!(
            report.to_string(),
            "ok       cores       4 cores\n\
             error    hugepages   none\n\
             \x20                    mend: do something\n\
             1 ok, 0 warnings, 1 error"
        );
        assert!(report.has_errors());
        let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        assert_eq!(json[1]["level"], "error");
        assert_eq!(json[1]["mend"], "do something");
    }

    #[test]
    fn lists_are_written_as_the_kernel_does() {
        assert_eq!(list([3, 1, 2, 8, 8]), "1-3,8");
        assert_eq!(list([]), "");
    }
}
