//! scripts/build-pgo.sh without a build: what it would do, and when it gives up.
//! That it works is seen by running it, which takes minutes and two idle cores.

use crate::machine::Machine;

#[test]
fn a_dry_run_builds_nothing() {
    let machine = Machine::new();
    machine.stub("cargo", "exit 1");
    let out = machine
        .run("build-pgo.sh", &["--dry-run", "--seconds", "3"])
        .ok();
    let lines: Vec<&str> = out.lines().collect();
    let place_of = |start: &str, end: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(start) && line.ends_with(end))
            .unwrap_or_else(|| panic!("no line {start} ... {end} in {out}"))
    };
    let instrumented = place_of(
        "would run: env RUSTFLAGS=-Cprofile-generate=",
        " --target-dir target/pgo-instrumented",
    );
    let established = place_of("would run: target/pgo-instrumented/", " --flows 1k");
    let merged = place_of("would run: llvm-profdata", "/target/pgo-data/raw");
    let optimised = place_of(
        "would run: env RUSTFLAGS=-Cprofile-use=",
        " --target-dir target/pgo",
    );
    assert!(instrumented < established && established < merged && merged < optimised);
    let traffic: Vec<&&str> = lines
        .iter()
        .filter(|line| line.contains(" pktgen "))
        .collect();
    assert_eq!(traffic.len(), 4, "{out}");
    // Else directors that know the servers send to where nobody is any more.
    let has_all =
        |line: &&&str| line.contains(" --duration 3 ") && line.matches(",mac=").count() == 2;
    assert!(traffic.iter().all(has_all), "{out}");
    assert_eq!(machine.calls(), "");
}

#[test]
fn a_build_that_fails_ends_it() {
    let machine = Machine::new();
    machine.stub("cargo", "echo cannot >&2; exit 101");
    machine.stub("llvm-profdata-99", "");
    // The profile of an earlier run stays.
    machine.stub("rm", "");
    let folder = machine.path("state");
    let variables = [("TMPDIR", folder.to_str().unwrap())];
    let answer = machine.run_with("build-pgo.sh", &[], &variables);
    assert_eq!(answer.code, Some(101), "{answer:?}");
    assert!(!answer.out.contains("== traffic"), "{answer:?}");
}

#[test]
fn lengths_that_are_none_are_refused() {
    for seconds in ["0", "ten", "10000", ""] {
        let answer = Machine::new().run("build-pgo.sh", &["--seconds", seconds]);
        assert_eq!(answer.code, Some(2), "{seconds:?}: {answer:?}");
    }
}
