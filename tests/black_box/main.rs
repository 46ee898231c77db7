//! Replays recordings of a Linux kernel's IPVS against the real program:
//! `pointsman run` on two software ports in a network namespace.
//!
//! The frames of a case come from outside, and what comes out is compared as
//! in the replay in memory (tests/oracle), with the same masks and the same
//! list of intended differences. Services are written as a file of ipvsadm and
//! taken up by SIGHUP, settings are set by `pointsman set`, and what `ipvsadm`
//! would print comes from `pointsman show`.
//!
//! There is a case or more of each group in `run.rs`. Time is real here, so that
//! a case ends before the first step that waits for long (`03_fragments` before
//! its wait of 31 s for what nobody completed). Of the cases that `tests/oracle`
//! replays, these cannot be here:
//!
//! - those that are about nothing but time: `12_expiry` lasts for minutes;
//! - `13_default_icmp_ratelimit`, in which it counts how much time goes by
//!   between two packets;
//! - `09_formats`, which sets counters back to 0, and those that add a real
//!   server which is there already or edit one to what it is: files say what
//!   there shall be and not how it came about;
//! - those that change the MTU of a port at work, which takes a restart;
//! - `12_local_and_routes`, which has a real server at an address of the
//!   director: the configuration refuses that.
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
