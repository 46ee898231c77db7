//! scripts/vm-lab.sh where no machine is emulated: tests/vm_lab runs it.

use crate::machine::Machine;

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
