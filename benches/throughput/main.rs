//! Two processes that share memory (memif): `pointsman pktgen` on one core
//! makes packets and checks what comes back, `pointsman run` on another one is
//! the director. In its place `dpdk-testpmd` in macswap, which swaps MAC
//! addresses and nothing else, is the floor that anyone can reproduce.
//!
//! `cargo bench --bench throughput [-- [--json] [--quick] [--cores A,B]
//! [TEXT...]]` on an idle machine with hugepages; A is the director's core, and
//! with TEXT only the cases whose name contains it. Exits with 1 when counts do
//! not match or the machine was busy.
//!
//! Cycles are those of the time stamp counter that the forwarding process itself
//! counts for each packet, the port's share included.
#![expect(
    clippy::indexing_slicing,
    reason = "JSON has null where there is nothing; a bench may stop at a case that is not there"
)]

mod case;
mod director;
mod figures;
mod generator;
#[expect(dead_code, reason = "core cycles are for benches of one process")]
#[path = "../packet_path/machine.rs"]
mod machine;
mod processes;
mod testpmd;

use std::{error::Error, process::ExitCode};

use case::{Case, Event, Forwarder, Length, cases};
use director::Director;
use figures::{Figures, Floors};
use machine::Watch;
use processes::Surroundings;
use testpmd::Testpmd;

/// A failure of the bench itself.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut length, mut json, mut cores, mut texts) = (Length::Smoke, false, None, Vec::new());
    let mut is_quick = false;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Without it this runs as a test.
            "--bench" => length = Length::Full,
            "--quick" => is_quick = true,
            "--json" => json = true,
            "--cores" => cores = arguments.next(),
            option if option.starts_with('-') => {}
            text => texts.push(text.to_owned()),
        }
    }
    if is_quick && length == Length::Full {
        length = Length::Quick;
    }
    let surroundings = Surroundings::new(cores.as_deref(), length != Length::Smoke)?;
    if length != Length::Smoke && surroundings.director_core == surroundings.generator_core {
        return Err("two processes that poll take two cores, and there is one".into());
    }
    if !json {
        println!("{}", Figures::TITLE);
    }
    let mut floors = Floors::default();
    let (mut busy, mut wrong) = (Vec::new(), Vec::new());
    let (mut passed, mut skipped) = (0, 0);
    let has_testpmd = Testpmd::is_installed();
    let is_wanted =
        |case: &Case| texts.is_empty() || texts.iter().any(|text| case.name.contains(text));
    for case in cases(length).iter().filter(|case| is_wanted(case)) {
        if case.forwarder == Forwarder::Testpmd && !has_testpmd {
            let name = &case.name;
            let why = "dpdk-testpmd is missing; Debian's dpdk-dev has it";
            println!("skipped: throughput {name}: {why}");
            skipped += 1;
            continue;
        }
        let watch = Watch::start();
        let mut figures = measure(case, &surroundings)?;
        // Its own processes have ended, and count as its own time.
        figures.was_busy = watch.was_busy() && length != Length::Smoke;
        floors.compare(&mut figures);
        if figures.was_busy {
            busy.push(case.name.clone());
        }
        if figures.failures.is_empty() {
            passed += 1;
        } else {
            wrong.push(format!("{}: {}", case.name, figures.failures.join("; ")));
        }
        println!("{}", if json { figures.json() } else { figures.line() });
    }
    if length == Length::Smoke {
        // For scripts/test.sh.
        println!("{passed} passed, {} failed, {skipped} skipped", wrong.len());
    }
    if !wrong.is_empty() {
        return Err(format!("the counts do not match: {}", wrong.join(" | ")).into());
    }
    if !busy.is_empty() {
        let busy = busy.join(", ");
        return Err(format!("the machine was busy with other things during: {busy}").into());
    }
    Ok(())
}

fn measure(case: &Case, surroundings: &Surroundings) -> Result<Figures, Failure> {
    surroundings.clear()?;
    if case.forwarder == Forwarder::Testpmd {
        let mut testpmd = Testpmd::start(surroundings)?;
        let report = generator::run(case, surroundings, || testpmd.tick())?;
        return Ok(Figures::new(case, report, testpmd.stop()?));
    }
    let mut director = Director::start(case, surroundings)?;
    let report = generator::run(case, surroundings, || director.tick())?;
    let account = director.stop()?;
    let mut figures = Figures::new(case, report, account.cycles);
    figures.reloads = account.reloads;
    figures.expired = account.expired;
    if account.reloads < account.reloads_ordered {
        let (reloads, ordered) = (account.reloads, account.reloads_ordered);
        let text = format!("{reloads} of {ordered} reloads took effect");
        figures.failures.push(text);
    }
    if matches!(case.event, Event::Expiry(_)) && account.expired < 1_000_000 {
        let text = format!("only {} entries expired", account.expired);
        figures.failures.push(text);
    }
    Ok(figures)
}
