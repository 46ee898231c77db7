//! What the tests need of the machine, and the programs of an operator, led to
//! the director of a lab.

use std::{path::Path, process::Command};

pub(crate) use crate::installed::{Said, Tools};
use crate::support::{Lab, Namespace, has_program, skipped};

impl Tools {
    /// `None`, with the reason printed, where `ipvsadm` is missing.
    pub(crate) fn find(test: &str, lab: &Lab) -> Option<Self> {
        has(test, "ipvsadm").then(|| Self::install(&lab.path(""), lab.path("ipvs.sock")))
    }
}

/// Whether a program is there; says so if not.
pub(crate) fn has(test: &str, program: &str) -> bool {
    let is_there = has_program(program) || Path::new("/usr/sbin").join(program).exists();
    if !is_there {
        let reason = format!("{program} is missing; scripts/setup.sh --tests installs it");
        skipped(test, &reason);
    }
    is_there
}

/// Runs a command in a namespace to its good end.
#[track_caller]
pub(crate) fn run_in(namespace: &Namespace, command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let run = || Command::new(words[0]).args(&words[1..]).output().unwrap();
    Said::from(namespace.inside(run)).ok()
}
