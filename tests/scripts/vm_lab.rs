//! scripts/vm-lab.sh without a machine, and with a QEMU that is none and ends
//! when it should not. `tests/vm_lab` runs it with a real one.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::machine::{Answer, Machine, script_path};

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn a_dry_run_fetches_nothing() {
    let machine = Machine::new();
    machine.stub("apt-get", "exit 1");
    let cache = machine.path("cache");
    let variables = [("POINTSMAN_VM_LAB", cache.to_str().unwrap())];
    let out = machine
        .run_with(
            "vm-lab.sh",
            &["--dry-run", "--nic", "igb", "--iommu", "none"],
            &variables,
        )
        .ok();
    assert!(out.contains("would get QEMU"), "{out}");
    assert!(out.contains("--nic igb --iommu none"), "{out}");
    assert_eq!(machine.calls(), "");
    assert!(!machine.exists("cache"));
}

#[test]
fn without_a_mirror_it_is_skipped_and_says_why() {
    let machine = Machine::new();
    machine.stub("apt-get", "exit 1");
    let cache = machine.path("cache");
    let variables = [("POINTSMAN_VM_LAB", cache.to_str().unwrap())];
    let out = machine.run_with("vm-lab.sh", &[], &variables).ok();
    assert!(
        out.ends_with(
            "skipped: vm-lab: the package lists cannot be fetched\n\
             0 passed, 0 failed, 1 skipped\n"
        ),
        "{out}"
    );
}

#[test]
fn nics_that_it_does_not_have_are_refused() {
    for arguments in [["--nic", "mlx5"], ["--iommu", "amd"], ["--nic", "--keep"]] {
        assert_eq!(
            Machine::new().run("vm-lab.sh", &arguments).code,
            Some(2),
            "{arguments:?}"
        );
    }
}

/// Runs the lab with one NIC on a QEMU that ends as `ends` says; see
/// `fake_qemu.py`. Gives what it printed and how often the machine was started,
/// or nothing where frames cannot be made.
fn lab_with_qemu_that_ends(ends: &str) -> Option<(Answer, usize)> {
    let imports = Command::new(PYTHON).args(["-c", "import scapy"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        println!(
            "skipped: vm-lab on a made-up QEMU: {PYTHON} has no scapy; scripts/setup.sh --tests installs it"
        );
        return None;
    }
    let machine = Machine::new();
    machine.write("cache/qemu", include_str!("fake_qemu.py"));
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(machine.path("cache/qemu"), executable).unwrap();
    let output = Command::new(PYTHON)
        .args(["-B".as_ref(), script_path("vm-lab/lab.py").as_os_str()])
        .args(["--root", env!("CARGO_MANIFEST_DIR")])
        .args(["--cache".as_ref(), machine.path("cache").as_os_str()])
        .args(["--director", "/bin/false"])
        .args(["--nic", "virtio-net", "--iommu", "none"])
        .env("ENDS", ends)
        .output()
        .unwrap();
    Some((
        Answer::from(&output),
        machine.read("cache/starts").lines().count(),
    ))
}

/// What it says of a machine that does as told by its first command alone.
const SUM: &str = "1 passed, 3 failed, 0 skipped\n";
const ONCE_MORE: &str = "the machine without IOMMU is started once more: QEMU aborted (SIGABRT)";

#[test]
fn a_qemu_that_aborts_once_is_started_once_more_and_each_check_counts_once() {
    let Some((undisturbed, starts)) = lab_with_qemu_that_ends("never||") else {
        return;
    };
    assert!(undisturbed.out.ends_with(SUM), "{undisturbed:?}");
    assert!(!undisturbed.out.contains(ONCE_MORE), "{undisturbed:?}");
    assert_eq!(starts, 1);
    let binding = "1|bind-nic.sh bind 0000:00:0d.0 --driver|abort";
    for aborts in [binding, "1||abort"] {
        let (answer, starts) = lab_with_qemu_that_ends(aborts).unwrap();
        assert!(answer.out.contains(ONCE_MORE), "{answer:?}");
        assert!(answer.out.ends_with(SUM), "{answer:?}");
        assert_eq!(starts, 2, "{answer:?}");
    }
}

#[test]
fn a_qemu_that_aborts_twice_fails() {
    let Some((answer, starts)) = lab_with_qemu_that_ends("*|bind-nic.sh|abort") else {
        return;
    };
    assert_eq!((answer.code, starts), (Some(1), 2), "{answer:?}");
    let failure = "failed: vm-lab without IOMMU: this is the second start, and that is enough: \
                   QEMU aborted";
    assert!(answer.out.contains(failure), "{answer:?}");
}

#[test]
fn a_qemu_that_ends_otherwise_is_not_started_again() {
    let Some((answer, starts)) = lab_with_qemu_that_ends("*|bind-nic.sh|3") else {
        return;
    };
    assert_eq!((answer.code, starts), (Some(1), 1), "{answer:?}");
    let failure = "failed: vm-lab without IOMMU: QEMU ended with 3";
    assert!(answer.out.contains(failure), "{answer:?}");
}
