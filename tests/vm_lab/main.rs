//! The program on real PCI drivers, in an emulated machine: runs
//! `scripts/vm-lab.sh`, which needs no NIC and no root, with this build.
//!
//! Its checks count one by one: it prints a line for each that failed or was
//! skipped, and ends with "N passed, N failed, N skipped". Where QEMU cannot be
//! had it says why.
//!
//! `cargo test --test vm_lab` runs it; `scripts/vm-lab.sh` has options.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

const NAME: &str = "vm_lab";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    if !is_selected(&arguments) {
        return ExitCode::SUCCESS;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(root.join("scripts/vm-lab.sh"))
        .args(["--director", env!("CARGO_BIN_EXE_pointsman")])
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{NAME}: scripts/vm-lab.sh ended with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{NAME}: scripts/vm-lab.sh cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the arguments of a test program pick this test.
fn is_selected(arguments: &[String]) -> bool {
    let mut names = Vec::new();
    let mut skipped = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(rest.next()),
            // Options for other test programs with values of their own.
            "--test-threads" | "--format" | "--color" | "-Z" => drop(rest.next()),
            option if option.starts_with('-') => {}
            _ => names.push(argument),
        }
    }
    let names_it = |text: &&String| NAME.contains(text.as_str());
    (names.is_empty() || names.iter().any(names_it)) && !skipped.iter().any(names_it)
}
