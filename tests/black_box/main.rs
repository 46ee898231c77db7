//! Replays recordings of a Linux kernel's IPVS against the real program:
//! `pointsman run` on two software ports in a network namespace.
//!
//! The frames of a case come from outside, and what comes out is compared as
//! in the replay in memory (tests/oracle), with the same masks and the same
//! list of intended differences. There are two ways in which services change:
//!
//! - `ipvsadm NAME`: Debian's own `ipvsadm` runs with the words of the recording,
//!   led to the director by the libraries of `ipvs-preload/`. What it prints and
//!   the code that it ends with are those of the recording, and so is what it
//!   reads in `/proc/net/ip_vs_conn`. This is done with all cases but those of
//!   `NOT_BY_IPVSADM` in `run.rs`, which says why.
//! - `file NAME`: services are written as a file of ipvsadm and taken up by
//!   SIGHUP, and what `ipvsadm` would print comes from `pointsman show`. There is
//!   a case or more of each group in `run.rs`. Files say what there shall be and
//!   not how it came about, so that cases which zero counters, add a server twice
//!   or edit one to what it is are not among them.
//!
//! Settings are set by `pointsman set`. Time is real here, so that a case ends
//! before the first step that waits for long (`03_fragments` before its wait of
//! 31 s for what nobody completed).
//!
//! It prints its own summary, as `tests/oracle` does.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "tests/oracle and tests/end_to_end use all of the modules"
)]

#[path = "../oracle/case.rs"]
mod case;
mod configuration;
#[path = "../oracle/frame.rs"]
mod frame;
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "../operators/installed.rs"]
mod installed;
#[path = "../oracle/interpret.rs"]
mod interpret;
#[path = "../oracle/lists.rs"]
mod lists;
#[path = "../oracle/mask.rs"]
mod mask;
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#[path = "../end_to_end/support/namespace.rs"]
mod namespace;
#[path = "../oracle/network.rs"]
mod network;
#[path = "../oracle/output.rs"]
mod output;
mod ports;
mod process;
#[path = "../oracle/replay.rs"]
mod replay;
mod run;
#[path = "../oracle/shell.rs"]
mod shell;
#[path = "../oracle/subject.rs"]
mod subject;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
