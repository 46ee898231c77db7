//! How scripts/test.sh adds up what test programs say.

use std::fs;

use crate::machine::{Answer, Machine, script_path};

/// What libtest and cargo say of two programs: in one a test of three skips
/// itself and one is ignored, in the other one of two fails.
const LIBTEST: &str = "\
     Running unittests src/lib.rs (target/debug/deps/pointsman-1)

running 4 tests
test flow::tests::a ... ok
test flow::tests::b ... ok
test flow::tests::c ... ok
test flow::tests::d ... ignored, takes an hour

successes:

---- flow::tests::c stdout ----
skipped: c: network namespaces take root

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running tests/cli.rs (target/debug/deps/cli-1)

running 2 tests
test help ... FAILED
test version ... ok

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

error: test failed, to rerun pass `-p pointsman --test cli`
error: 1 target failed:
    `-p pointsman --test cli`
";

/// A program with a harness of its own.
const ORACLE: &str = "\
     Running tests/oracle/main.rs (target/debug/deps/oracle-1)
skipped: oracle 10_6in6: IPv6
skipped: oracle 13_sctp: SCTP
failed: oracle 01_encap_basic: packet 3 differs
5 passed, 1 failed, 2 skipped
error: test failed, to rerun pass `-p pointsman --test oracle`
";

const ALL_WELL: &str = "\
test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
9 passed, 0 failed, 0 skipped
";

const CRASHED: &str = "\
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
error: test failed, to rerun pass `-p pointsman --test cli`
running 1 test
error: test failed, to rerun pass `-p pointsman --test dpdk`

Caused by:
  process didn't exit successfully: `target/debug/deps/dpdk-1` (signal: 11, SIGSEGV)
";

/// Runs test.sh where the first run of cargo says this and ends with `code`,
/// and the others say nothing.
fn test_sh(said: &str, code: u8) -> Answer {
    let machine = Machine::new();
    machine.write("said", said);
    let (said, log) = (machine.path("said"), machine.path("log"));
    machine.stub(
        "cargo",
        &format!(
            "case $* in *--all-targets*) cat '{}'; exit {code} ;; esac",
            said.display()
        ),
    );
    machine.stub("shellcheck", "");
    machine.stub("ip", "");
    let log = ("POINTSMAN_TEST_LOG", log.to_str().unwrap());
    let answer = machine.run_with("test.sh", &["--no-setup"], &[log]);
    let logged = fs::read_to_string(machine.path("log")).unwrap();
    assert!(logged.contains(&fs::read_to_string(machine.path("said")).unwrap()));
    answer
}

#[track_caller]
fn last_line_is(answer: &Answer, passed: usize, failed: usize, skipped: usize) {
    let passed = passed + own_checks();
    let wanted = format!("{passed} passed, {failed} failed, {skipped} skipped");
    assert_eq!(answer.out.lines().last(), Some(&*wanted), "{answer:?}");
    assert_eq!(answer.code, Some(i32::from(failed > 0)), "{answer:?}");
}

/// What test.sh checks itself: each script twice, what they call, and .ci/run.
fn own_checks() -> usize {
    2 * scripts_in("") + scripts_in("lib") + scripts_in("vm-lab") + 1
}

fn scripts_in(folder: &str) -> usize {
    fs::read_dir(script_path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sh"))
        .count()
}

#[test]
fn results_of_libtest_are_added_up() {
    let answer = test_sh(LIBTEST, 101);
    last_line_is(&answer, 3, 1, 2);
    for line in [
        "  tests: c: network namespaces take root",
        "  tests: flow::tests::d: ignored takes an hour",
        "  tests: help",
    ] {
        assert!(answer.out.lines().any(|other| other == line), "{answer:?}");
    }
}

#[test]
fn results_of_programs_with_their_own_harness_count() {
    let answer = test_sh(&format!("{LIBTEST}{ORACLE}"), 101);
    last_line_is(&answer, 3 + 5, 1 + 1, 2 + 2);
    for line in [
        "  tests: oracle 13_sctp: SCTP",
        "  tests: oracle 01_encap_basic: packet 3 differs",
    ] {
        assert!(answer.out.lines().any(|other| other == line), "{answer:?}");
    }
    last_line_is(&test_sh(ALL_WELL, 0), 7 + 9, 0, 0);
}

#[test]
fn a_test_program_that_crashes_has_failed() {
    let answer = test_sh(CRASHED, 101);
    last_line_is(&answer, 1, 1 + 1, 0);
    let line = "  tests: test programs that ended without a result: 1";
    assert!(answer.out.contains(line), "{answer:?}");
}

#[test]
fn a_build_that_fails_is_a_failure() {
    let answer = test_sh("error: could not compile `pointsman`\n", 101);
    last_line_is(&answer, 0, 1, 0);
    assert!(answer.out.contains("  tests: ended with exit code 101"));
}
