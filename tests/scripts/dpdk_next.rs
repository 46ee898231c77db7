//! scripts/dpdk-next.sh where it can do nothing: it says why, and fails nobody.
//! That it works is seen by running it, which takes minutes and a mirror.

use crate::machine::{Answer, Machine};

/// What it says, as a user of this number, on a machine with two sources of
/// packages and a debootstrap that fails.
fn dpdk_next(machine: &Machine, user: u32, arguments: &[&str]) -> Answer {
    machine.stub("id", &format!("echo {user}"));
    machine.stub("debootstrap", "echo no such release; exit 1");
    machine.stub("pkg-config", "exit 1");
    machine.stub(
        "apt-get",
        "echo http://mirror.invalid/debian-security; echo http://mirror.invalid/debian",
    );
    machine.run("dpdk-next.sh", arguments)
}

#[track_caller]
fn is_skipped(answer: Answer, because: &str) {
    let out = answer.ok();
    let reason = format!("skipped: dpdk-next: {because}");
    assert!(out.lines().any(|line| line.starts_with(&reason)), "{out}");
    assert_eq!(
        out.lines().last(),
        Some("0 passed, 0 failed, 1 skipped"),
        "{out}"
    );
}

#[test]
fn another_debian_comes_from_where_this_one_does_or_is_skipped() {
    let machine = Machine::new();
    let arguments = ["--suite", "no-such-suite"];
    is_skipped(
        dpdk_next(&machine, 0, &arguments),
        "debootstrap could not make a Debian no-such-suite",
    );
    let calls = machine.calls();
    let call = calls.lines().find(|line| line.starts_with("debootstrap "));
    let call = call.unwrap();
    assert!(call.ends_with(" http://mirror.invalid/debian"), "{call}");
    assert!(
        call.contains(",libdpdk-dev,") && call.contains(" no-such-suite "),
        "{call}"
    );
}

#[test]
fn another_debian_takes_root() {
    let machine = Machine::new();
    let arguments = ["--suite", "no-such-suite"];
    is_skipped(
        dpdk_next(&machine, 1000, &arguments),
        "another Debian in a folder takes root",
    );
    assert!(!machine.calls().contains("debootstrap"));
}

#[test]
fn an_installed_dpdk_has_to_be_found_by_pkg_config() {
    let machine = Machine::new();
    is_skipped(
        dpdk_next(&machine, 1000, &["--installed"]),
        "pkg-config finds no libdpdk",
    );
}
