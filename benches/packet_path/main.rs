//! What a packet costs on one core without a NIC: the packet path of a worker
//! over ports in memory whose packets are mbufs.
//!
//! Each case tells time stamp counter cycles a packet, net of what the same
//! ports cost without a director between them (`io`). Medians over bursts of
//! 32; where packets open connections, whose ends come in bursts of their own,
//! the mean of all but the slowest 1 % (interrupts).
//!
//! `cargo bench --bench packet_path [-- [--json] [--quick] [TEXT...]]` on an
//! idle machine with hugepages; with TEXT only the cases whose name contains
//! it. Exits with 1 when counts do not match or the machine was busy.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a bench may stop at a frame that it made wrong"
)]

mod cases;
mod machine;
mod measure;
mod rig;
mod shared;
mod traffic;

use std::{error::Error, process::ExitCode};

use pointsman::io::dpdk::{DpdkPool, Eal, EalArguments, PoolSettings, data_room_len};

use cases::{Case, cases};
use measure::{Figures, Length};

/// A failure of the bench itself.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packet_path: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    // Without "--bench" this runs as a test: a few bursts show that it works.
    let length = match (has("--bench"), has("--quick")) {
        (false, _) => Length::Smoke,
        (true, true) => Length::Quick,
        (true, false) => Length::Full,
    };
    let texts: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let is_wanted =
        |case: &Case| texts.is_empty() || texts.iter().any(|t| case.name.contains(t.as_str()));

    let eal = Eal::start(&EalArguments::new(&cases::bare_configuration()?))?;
    let pool = DpdkPool::create(
        &eal,
        PoolSettings {
            packets: 8191,
            data_room: data_room_len(1500),
            numa_node: None,
        },
    )?;
    if !has("--json") {
        println!(
            "TSC {} MHz, bursts of {}, TSC cycles a packet; core cycles where the machine counts them",
            eal.cycles_per_second() / 1_000_000,
            rig::BURST
        );
        println!("{}", Figures::TITLE);
    }
    let mut busy = Vec::new();
    for case in cases(length).iter().filter(|case| is_wanted(case)) {
        let figures = measure::run(case, &eal, &pool, length)?;
        if figures.was_busy && length != Length::Smoke {
            busy.push(case.name);
        }
        println!(
            "{}",
            if has("--json") {
                figures.json()
            } else {
                figures.line()
            }
        );
    }
    if busy.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the machine was busy with other things during: {}",
        busy.join(", ")
    )
    .into())
}
