//! The shell scripts against a made-up machine: a tree in the place of /sys,
//! /proc and /etc, and stubs in the place of commands that change things.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bench_sh;
mod build_pgo;
mod dpdk_next;
mod install;
mod machine;
mod pktgen;
mod test_sh;
mod vm_lab;

use std::{fs, os::unix::fs::symlink, path::Path};

use machine::{Machine, script_path};

pub(crate) const NIC: &str = "0000:01:00.0";
const OTHER: &str = "0000:01:00.1";
const DISK: &str = "0000:02:00.0";

const ALL_PAGES: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const NODE_1_PAGES: &str = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";

#[test]
fn hugepages_status_lists_each_node_and_size() {
    let out = Machine::with_hugepages().run("hugepages.sh", &[]).ok();
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .take(4)
        .collect();
    assert_eq!(rows[0], ["NODE", "SIZE", "TOTAL", "FREE", "RESERVED"]);
    assert_eq!(rows[1], ["0", "2M", "3", "3", "6", "MiB"]);
    assert_eq!(rows[2], ["1", "1G", "1", "1", "1024", "MiB"]);
    assert_eq!(rows[3], ["1", "2M", "8", "8", "16", "MiB"]);
}

#[test]
fn hugepages_undo_brings_back_what_was_before_the_first_change() {
    let machine = Machine::with_hugepages();
    machine
        .run("hugepages.sh", &["set", "64", "--node", "1"])
        .ok();
    machine
        .run("hugepages.sh", &["set", "16", "--node", "1"])
        .ok();
    machine.run("hugepages.sh", &["set", "5"]).ok();
    assert_eq!(machine.read(NODE_1_PAGES), "16");
    assert_eq!(machine.read(ALL_PAGES), "5");
    machine.run("hugepages.sh", &["undo"]).ok();
    assert_eq!(machine.read(NODE_1_PAGES), "8");
    assert_eq!(machine.read(ALL_PAGES), "3");
    assert!(
        machine
            .run("hugepages.sh", &["undo"])
            .ok()
            .contains("nothing to undo")
    );
}

#[test]
fn hugepages_persist_until_undone() {
    let machine = Machine::with_hugepages();
    machine
        .run("hugepages.sh", &["set", "9", "--persistent"])
        .ok();
    machine
        .run("hugepages.sh", &["set", "7", "--node", "1", "--persistent"])
        .ok();
    let sysctl = "etc/sysctl.d/80-pointsman-hugepages.conf";
    let tmpfiles = "etc/tmpfiles.d/pointsman-hugepages-2M-node1.conf";
    assert!(machine.read(sysctl).ends_with("vm.nr_hugepages = 9"));
    assert!(machine.read(tmpfiles).ends_with("nr_hugepages - - - - 7"));
    machine.run("hugepages.sh", &["undo"]).ok();
    assert!(!machine.exists(sysctl) && !machine.exists(tmpfiles));
}

#[test]
fn hugepages_dry_run_changes_nothing() {
    let machine = Machine::with_hugepages();
    let out = machine
        .run("hugepages.sh", &["set", "9", "--persistent", "--dry-run"])
        .ok();
    assert!(
        out.contains("would write: 9 to") && out.contains("would make:"),
        "{out}"
    );
    assert_eq!(machine.read(ALL_PAGES), "3");
    assert!(!machine.exists("etc/sysctl.d") && !machine.exists("state/hugepages.before"));
}

#[test]
fn hugepages_refuse_nodes_and_sizes_that_are_not_there() {
    let machine = Machine::with_hugepages();
    machine
        .run("hugepages.sh", &["set", "9", "--node", "4"])
        .refused("no NUMA node 4");
    machine
        .run("hugepages.sh", &["set", "9", "--size", "1G"])
        .refused("no pages of 1G");
    let wrong_lines: [&[&str]; 4] = [
        &["set"],
        &["set", "many"],
        &["set", "9", "--size", "4k"],
        &["set", "--node"],
    ];
    for wrong in wrong_lines {
        assert_eq!(
            machine.run("hugepages.sh", wrong).code,
            Some(2),
            "{wrong:?}"
        );
    }
}

#[test]
fn nic_status_lists_nics_only() {
    let machine = Machine::with_nic();
    machine.device(DISK, "0x010802");
    machine.device(OTHER, "0x020000");
    machine.group(7, &[NIC]);
    let out = machine.run("bind-nic.sh", &["status"]).ok();
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1], [NIC, "i40e", "ens1", "1", "7", "8086:1572"]);
    assert_eq!(rows[2], [OTHER, "-", "-", "1", "-", "8086:1572"]);
    assert_eq!(rows.len(), 3, "{out}");
}

#[test]
fn a_nic_goes_to_vfio_and_back() {
    let machine = Machine::with_nic();
    machine.group(7, &[NIC]);
    let kernel = machine.kernel("i40e", "vfio-pci");
    let out = machine.run("bind-nic.sh", &["bind", "01:00.0"]).ok();
    assert!(out.contains("0000:01:00.0 has vfio-pci now"), "{out}");
    assert_eq!(kernel.join().unwrap(), [NIC, "vfio-pci"]);

    assert!(
        machine
            .run("bind-nic.sh", &["bind", NIC])
            .ok()
            .contains("already")
    );

    let kernel = machine.kernel("vfio-pci", "i40e");
    let out = machine.run("bind-nic.sh", &["restore", NIC]).ok();
    assert!(out.contains("has i40e now"), "{out}");
    assert_eq!(kernel.join().unwrap(), [NIC, ""]);
}

#[test]
fn a_driver_that_refuses_in_silence_is_found_out() {
    let machine = Machine::with_nic();
    machine.group(7, &[NIC]);
    // Plain files take every write, and nothing happens: the link stays.
    machine
        .run("bind-nic.sh", &["bind", NIC])
        .refused("vfio-pci did not take 0000:01:00.0");
}

#[test]
fn the_nic_with_the_default_route_is_refused() {
    let machine = Machine::with_nic();
    machine.group(7, &[NIC]);
    machine.default_route("ens1");
    machine
        .run("bind-nic.sh", &["bind", NIC])
        .refused("carries the default route by ens1");
    let forced = machine.run("bind-nic.sh", &["bind", NIC, "--force", "--dry-run"]);
    assert!(
        forced
            .err
            .contains("warning: 0000:01:00.0 (ens1) carries the default route")
    );
    assert!(forced.ok().contains("would write: vfio-pci to"));
}

#[test]
fn a_nic_under_a_bond_with_the_default_route_is_refused() {
    let machine = Machine::with_nic();
    machine.group(7, &[NIC]);
    machine.default_route("bond0.100");
    for (name, upper) in [("ens1", "bond0"), ("bond0", "bond0.100")] {
        let class = machine.path(&format!("sys/class/net/{name}"));
        fs::create_dir_all(&class).unwrap();
        symlink(format!("../{upper}"), class.join(format!("upper_{upper}"))).unwrap();
    }
    machine
        .run("bind-nic.sh", &["bind", NIC])
        .refused("carries the default route by bond0.100");
}

#[test]
fn an_ipv6_default_route_counts() {
    let machine = Machine::with_nic();
    machine.group(7, &[NIC]);
    let zero = "0".repeat(32);
    let line = format!(
        "{zero} 00 {zero} 00 fe{} 00000400 1 0 3 ens1\n",
        "0".repeat(30)
    );
    machine.write("proc/net/ipv6_route", &line);
    machine
        .run("bind-nic.sh", &["bind", NIC])
        .refused("carries the default route by ens1");
}

#[test]
fn vfio_without_an_iommu_must_be_asked_for() {
    let machine = Machine::with_nic();
    machine
        .run("bind-nic.sh", &["bind", NIC])
        .refused("in no IOMMU group");
    let no_iommu = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    machine.write(no_iommu, "N\n");
    let kernel = machine.kernel("i40e", "vfio-pci");
    let answer = machine.run("bind-nic.sh", &["bind", NIC, "--no-iommu"]);
    assert!(
        answer.err.contains("warning: without an IOMMU"),
        "{answer:?}"
    );
    answer.ok();
    kernel.join().unwrap();
    assert_eq!(machine.read(no_iommu), "Y");
}

#[test]
fn a_shared_iommu_group_names_who_is_in_it() {
    let machine = Machine::with_nic();
    machine.device(OTHER, "0x020000");
    machine.driver(OTHER, "i40e");
    machine.device("0000:00:01.0", "0x060400");
    machine.driver("0000:00:01.0", "pcieport");
    machine.group(7, &[NIC, OTHER, "0000:00:01.0"]);
    machine
        .run("bind-nic.sh", &["bind", NIC])
        .refused("IOMMU group 7 is shared with 0000:01:00.1 (i40e): vfio-pci takes whole groups");
}

#[test]
fn binding_dry_changes_nothing() {
    let machine = Machine::with_nic();
    machine.group(7, &[NIC]);
    let out = machine.run("bind-nic.sh", &["bind", NIC, "--dry-run"]).ok();
    for line in ["driver/unbind", "would write: vfio-pci to", "drivers_probe"] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
    let device = format!("sys/bus/pci/devices/{NIC}");
    assert_eq!(machine.read(&format!("{device}/driver_override")), "(null)");
    assert_eq!(machine.read("sys/bus/pci/drivers_probe"), "");
    assert!(!machine.exists(&format!("state/nic-{NIC}.driver")));
}

#[test]
fn only_nics_are_bound() {
    let machine = Machine::with_nic();
    machine.device(DISK, "0x010802");
    machine
        .run("bind-nic.sh", &["bind", DISK])
        .refused("is no NIC");
    machine
        .run("bind-nic.sh", &["bind", "0000:09:00.0"])
        .refused("there is no PCI device");
    assert_eq!(machine.run("bind-nic.sh", &["bind"]).code, Some(2));
}

pub(crate) const CONF: &str = "proc/sys/net/ipv4/conf";

/// Name, value before, value on a real server.
pub(crate) const SETTINGS: [(&str, &str, &str); 4] = [
    ("all/arp_ignore", "0", "1"),
    ("all/arp_announce", "1", "2"),
    ("all/rp_filter", "1", "0"),
    ("tunl0/rp_filter", "2", "0"),
];

#[test]
fn a_real_server_is_set_up_and_undone() {
    let machine = Machine::with_tunl0();
    machine
        .run(
            "realserver.sh",
            &["--vip", "192.0.2.10", "--vip", "192.0.2.11"],
        )
        .ok();
    for (name, _, after) in SETTINGS {
        assert_eq!(machine.read(&format!("{CONF}/{name}")), after, "{name}");
    }
    let calls = machine.calls();
    for call in [
        "ip link set tunl0 up",
        "ip -4 address add 192.0.2.11/32 dev tunl0",
    ] {
        assert!(calls.contains(call), "{call} is not in {calls}");
    }
    machine.run("realserver.sh", &["--undo"]).ok();
    for (name, before, _) in SETTINGS {
        assert_eq!(machine.read(&format!("{CONF}/{name}")), before, "{name}");
    }
    let calls = machine.calls();
    for call in [
        "ip -4 address delete 192.0.2.10/32 dev tunl0",
        "ip link set tunl0 down",
    ] {
        assert!(calls.contains(call), "{call} is not in {calls}");
    }
    assert!(
        machine
            .run("realserver.sh", &["--undo"])
            .ok()
            .contains("nothing to undo")
    );
}

#[test]
fn a_real_server_dry_run_changes_nothing() {
    let machine = Machine::with_tunl0();
    let out = machine
        .run("realserver.sh", &["--vip", "192.0.2.10", "--dry-run"])
        .ok();
    assert!(
        out.contains("would run: ip -4 address add 192.0.2.10/32 dev tunl0"),
        "{out}"
    );
    for (name, before, _) in SETTINGS {
        assert_eq!(machine.read(&format!("{CONF}/{name}")), before, "{name}");
    }
    assert_eq!(machine.calls(), "");
}

#[test]
fn a_kernel_without_ipip_is_told_what_to_run_instead() {
    let machine = Machine::with_tunl0();
    fs::remove_dir_all(machine.path(&format!("{CONF}/tunl0"))).unwrap();
    machine.stub("modprobe", "exit 1");
    machine
        .run("realserver.sh", &["--vip", "192.0.2.10"])
        .refused("pointsman realserver");
    assert_eq!(machine.read(&format!("{CONF}/all/rp_filter")), "1");
}

#[test]
fn real_servers_need_addresses() {
    let machine = Machine::with_tunl0();
    let wrong_lines: [&[&str]; 3] = [&[], &["--vip"], &["--vip", "www.example.com"]];
    for wrong in wrong_lines {
        assert_eq!(
            machine.run("realserver.sh", wrong).code,
            Some(2),
            "{wrong:?}"
        );
    }
}

#[test]
fn setup_installs_only_what_is_missing() {
    let machine = Machine::new();
    machine.stub("apt-get", "");
    machine.stub(
        "dpkg-query",
        "case $* in *wrk) exit 1 ;; *) printf installed ;; esac",
    );
    let arguments = ["--tests", "--no-build", "--no-hugepages", "--dry-run"];
    let out = machine.run("setup.sh", &arguments).ok();
    let installs: Vec<&str> = out
        .lines()
        .filter(|line| line.contains("apt-get"))
        .collect();
    assert_eq!(installs.len(), 1, "{out}");
    assert!(
        installs[0].ends_with("install --no-install-recommends wrk"),
        "{out}"
    );
    assert!(
        !machine.calls().contains("apt-get --quiet --yes"),
        "{}",
        machine.calls()
    );
}

#[test]
fn setup_takes_a_quarter_of_free_memory_at_most_for_hugepages() {
    let machine = Machine::with_hugepages();
    machine.stub("dpkg-query", "printf installed");
    machine.stub("apt-get", "");
    machine.write(
        "proc/meminfo",
        "MemTotal: 9999999 kB\nMemAvailable: 2457600 kB\n",
    );
    machine.run("setup.sh", &["--no-build"]).ok();
    assert_eq!(machine.read(ALL_PAGES), "300");
    machine.run("setup.sh", &["--undo"]).ok();
    assert_eq!(machine.read(ALL_PAGES), "3");
}

#[test]
fn every_script_explains_itself_and_refuses_what_it_does_not_know() {
    let machine = Machine::new();
    let mut count = 0;
    for entry in fs::read_dir(script_path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if Path::new(&name)
            .extension()
            .is_none_or(|extension| extension != "sh")
        {
            continue;
        }
        count += 1;
        let help = machine.run(&name, &["--help"]).ok();
        assert!(help.contains(&format!("scripts/{name}")), "{name}: {help}");
        assert_eq!(
            machine.run(&name, &["--no-such-option"]).code,
            Some(2),
            "{name}"
        );
    }
    assert!(count >= 6, "{count} scripts");
}
