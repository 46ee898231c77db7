//! Replays recordings of a Linux kernel's IPVS against the director, over
//! ports in memory and with a virtual clock.
//!
//! `cargo test --test oracle [-- [--exact] [--list] [--skip TEXT] [TEXT...]]`
//! replays the cases in `tests/oracle/cases`. Answers that differ on purpose
//! stand in `intended.toml`, a list that must be true in both directions. With
//! `POINTSMAN_ORACLE_CASES=FOLDER` the cases of that folder are replayed, and
//! those that need what this version cannot do and the list does not name are
//! skipped.
#![expect(unreachable_pub, reason = "the modules are those of one program")]

mod case;
mod frame;
mod interpret;
mod lab;
mod lists;
mod mask;
mod needs;
mod network;
mod output;
mod replay;
mod shell;
mod subject;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use case::Case;
use lab::Lab;
use lists::Intended;
use network::Network;
use pointsman::io::PortCapabilities;

const INTENDED: &str = include_str!("intended.toml");

fn main() -> ExitCode {
    match run(&Selection::of_arguments(env::args().skip(1))) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(summary)) => {
            println!(
                "{} passed, {} failed, {} skipped",
                summary.passed, summary.failed, summary.skipped
            );
            if summary.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(problem) => {
            eprintln!("oracle: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Which cases to replay, as the arguments of a test program say it.
#[derive(Debug, Default)]
struct Selection {
    only_list: bool,
    exact: bool,
    names: Vec<String>,
    skipped: Vec<String>,
}

impl Selection {
    fn of_arguments(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut selection = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => selection.only_list = true,
                "--exact" => selection.exact = true,
                "--skip" => selection.skipped.extend(arguments.next()),
                // Options for other test programs with values of their own.
                "--test-threads" | "--format" | "--color" | "-Z" => drop(arguments.next()),
                option if option.starts_with('-') => {}
                name => selection.names.push(name.to_owned()),
            }
        }
        selection
    }

    fn contains(&self, name: &str) -> bool {
        let matches = |text: &String| {
            if self.exact {
                name == text
            } else {
                name.contains(text)
            }
        };
        (self.names.is_empty() || self.names.iter().any(matches))
            && !self.skipped.iter().any(matches)
    }
}

#[derive(Debug, Default)]
struct Summary {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Replays the selected cases; `None` when they were only to be listed.
fn run(selection: &Selection) -> Result<Option<Summary>, String> {
    let other_folder = env::var_os("POINTSMAN_ORACLE_CASES").map(PathBuf::from);
    let own_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let cases = case::read_folder(other_folder.as_deref().unwrap_or(&own_folder))?;
    let judge = Judge {
        is_own_folder: other_folder.is_none(),
        intended: Intended::parse(INTENDED)?,
    };
    if selection.only_list {
        for case in cases.iter().filter(|case| selection.contains(&case.name)) {
            println!("{}: test", case.name);
        }
        return Ok(None);
    }
    let mut summary = Summary::default();
    for problem in judge.untrue_entries(&cases) {
        println!("failed: oracle lists: {problem}");
        summary.failed += 1;
    }
    for case in cases.iter().filter(|case| selection.contains(&case.name)) {
        match judge.verdict(case) {
            Verdict::Passed => summary.passed += 1,
            Verdict::Failed(problem) => {
                println!("failed: oracle {}: {problem}", case.name);
                summary.failed += 1;
            }
            Verdict::Skipped(reason) => {
                println!("skipped: oracle {}: {reason}", case.name);
                summary.skipped += 1;
            }
        }
    }
    Ok(Some(summary))
}

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Decides what the replay of a case means.
struct Judge {
    /// Or cases of another folder.
    is_own_folder: bool,
    intended: Intended,
}

impl Judge {
    fn verdict(&self, case: &Case) -> Verdict {
        if !self.is_own_folder
            && !self.intended.names(&case.name)
            && let Some(feature) = needs::missing_feature(case)
        {
            return Verdict::Skipped(format!("needs {feature}"));
        }
        match self.replay(case) {
            Ok(()) => Verdict::Passed,
            Err(problem) => Verdict::Failed(problem),
        }
    }

    /// Replays a case on ports that fill in and check header checksums and on
    /// ports that do not, with the same bytes for a result.
    fn replay(&self, case: &Case) -> Result<(), String> {
        let plain = PortCapabilities::default();
        self.replay_on(case, plain)?;
        self.replay_on(
            case,
            PortCapabilities {
                tx_ipv4_checksum: true,
                rx_ipv4_checksum: true,
                ..plain
            },
        )
        .map_err(|problem| format!("with checksum offload: {problem}"))
    }

    /// Replays a case once; a panic is a failure of that case alone.
    fn replay_on(&self, case: &Case, capabilities: PortCapabilities) -> Result<(), String> {
        let start = |network: &Network| {
            let macs = case.mac_director.each_ref().map(|mac| mac.parse());
            let [Ok(first), Ok(second)] = macs else {
                return Err("the MAC addresses of the director cannot be read".to_owned());
            };
            Lab::start(network, [first, second], capabilities)
        };
        let replay = || replay::replay(case, &self.intended, start);
        match catch_unwind(AssertUnwindSafe(replay)) {
            Ok(result) => result.map_err(|failure| failure.to_string()),
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Err(format!(
                    "panicked: {}",
                    message.unwrap_or("without a message")
                ))
            }
        }
    }

    /// Entries of the lists that name what does not exist.
    fn untrue_entries(&self, cases: &[Case]) -> Vec<String> {
        if !self.is_own_folder {
            return Vec::new();
        }
        let exists = |name: &str, step: usize| {
            cases
                .iter()
                .any(|case| case.name == name && step < case.steps.len())
        };
        self.intended
            .unknown(exists)
            .map(|entry| format!("intended.toml names {entry}, which does not exist"))
            .collect()
    }
}
