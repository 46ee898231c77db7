use super::{super::ProbedPort, *};
use crate::doctor::{
    Level,
    fake::{FakeRoot, assert_all_ok, config, findings, one, port, running},
};

fn vdev_config(vdev: &str) -> Config {
    let mut config = config();
    config.ports = vec![port(Device::Vdev(vdev.to_owned()))];
    config
}

#[test]
fn a_prepared_machine_is_ok() {
    let found = findings(check, &FakeRoot::machine(), Some(&config()));
    assert_all_ok(&found);
    one(
        &found,
        "nic",
        "0000:01:00.0 (8086:10fb, eth0, ixgbe): carries the default route",
    );
    one(
        &found,
        "port",
        "lan: 0000:02:00.0 (8086:10fb, vfio-pci) is bound for DPDK",
    );
    one(&found, "numa", "workers are on node 0, as the NICs are");
}

#[test]
fn a_nic_that_nobody_configured_is_described() {
    let found = findings(check, &FakeRoot::machine(), None);
    assert_all_ok(&found);
    one(
        &found,
        "nic",
        "0000:02:00.0 (8086:10fb, vfio-pci): ready for DPDK",
    );
}

#[test]
fn other_devices_on_pci_are_not_nics() {
    let fake = FakeRoot::machine();
    fake.write("sys/bus/pci/devices/0000:03:00.0/class", "0x010000\n");
    assert_eq!(fake.facts().nics.len(), 2);
}

#[test]
fn a_nic_that_is_not_there_is_an_error() {
    let mut config = config();
    config.ports = vec![port(Device::Pci("0000:09:00.0".to_owned()))];
    let found = findings(check, &FakeRoot::machine(), Some(&config));
    assert_eq!(
        one(&found, "port", "there is no NIC 0000:09:00.0").level,
        Level::Error
    );
}

#[test]
fn a_nic_that_the_kernel_drives_is_an_error() {
    let fake = FakeRoot::machine();
    fake.nic("0000:02:00.0", "ixgbe", 0);
    let found = findings(check, &fake, Some(&config()));
    let finding = one(&found, "port", "still belongs to the kernel");
    assert_eq!(finding.level, Level::Error);
    assert_eq!(
        finding.mend.as_deref(),
        Some("scripts/bind-nic.sh bind 0000:02:00.0")
    );
}

#[test]
fn a_bifurcated_nic_needs_neither_binding_nor_iommu() {
    let fake = FakeRoot::machine();
    fake.nic("0000:02:00.0", "mlx5_core", 0);
    fake.remove("sys/class/iommu");
    fake.remove("sys/module/vfio_pci");
    let found = findings(check, &fake, Some(&config()));
    assert_all_ok(&found);
    one(&found, "port", "DPDK uses it beside the kernel");
}

#[test]
fn the_nic_of_the_default_route_is_an_error() {
    let mut config = config();
    config.ports = vec![port(Device::Pci("0000:01:00.0".to_owned()))];
    let found = findings(check, &FakeRoot::machine(), Some(&config));
    assert_eq!(
        one(&found, "port", "carries the default route").level,
        Level::Error
    );
}

#[test]
fn the_default_route_is_found_below_a_vlan_on_a_bond() {
    let fake = FakeRoot::machine();
    fake.write(
        "proc/net/route",
        "Iface\nbond0.5\t00000000\t0\t3\t0\t0\t0\t00000000\n",
    );
    fake.write("sys/class/net/bond0.5/operstate", "up\n");
    fake.write("sys/class/net/bond0/upper_bond0.5", "");
    fake.write("sys/class/net/eth0/upper_bond0", "");
    let facts = fake.facts();
    assert!(facts.default_route_interfaces.contains("eth0"));
    assert!(!facts.default_route_interfaces.contains("veth0"));
    assert!(facts.nics[0].default_route);
}

#[test]
fn a_default_route_of_ipv6_counts() {
    let fake = FakeRoot::machine();
    fake.write("proc/net/route", "Iface\n");
    assert!(!fake.facts().nics[0].default_route);
    let (zero, via) = ("0".repeat(32), "fe80".to_owned() + &"0".repeat(27) + "1");
    fake.write(
        "proc/net/ipv6_route",
        &format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 1 0 200200 lo\n\
             {zero} 00 {zero} 00 {via} 400 1 0 3 eth0\n"
        ),
    );
    assert_eq!(fake.facts().default_route_interfaces.len(), 1);
    assert!(fake.facts().nics[0].default_route);
}

#[test]
fn a_nic_that_another_program_uses_is_an_error() {
    let fake = FakeRoot::machine();
    fake.write("proc/4711/comm", "testpmd\n");
    fake.link("/dev/vfio/17", "proc/4711/fd/9");
    let found = findings(check, &fake, Some(&config()));
    assert_eq!(
        one(&found, "port", "is in use by testpmd (4711)").level,
        Level::Error
    );
    let found = findings(check, &fake, None);
    one(
        &found,
        "nic",
        "0000:02:00.0 (8086:10fb, vfio-pci): used by testpmd (4711)",
    );
}

#[test]
fn without_an_iommu_vfio_refuses_or_is_unsafe() {
    let fake = FakeRoot::machine();
    fake.remove("sys/class/iommu");
    let found = findings(check, &fake, Some(&config()));
    assert_eq!(
        one(&found, "iommu", "off, which vfio-pci does not accept").level,
        Level::Error
    );
    fake.write(
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y\n",
    );
    let found = findings(check, &fake, Some(&config()));
    assert_eq!(
        one(&found, "iommu", "off; vfio does without").level,
        Level::Warning
    );
}

#[test]
fn without_an_iommu_software_ports_are_ok() {
    let fake = FakeRoot::machine();
    fake.remove("sys/class/iommu");
    fake.remove("sys/module/vfio_pci");
    let config = vdev_config("net_af_packet0,iface=veth0");
    let found = findings(check, &fake, Some(&config));
    assert_all_ok(&found);
    one(&found, "port", "lan: software port on veth0");
}

#[test]
fn vfio_that_is_not_loaded_can_be_loaded_or_is_missing() {
    let fake = FakeRoot::machine();
    fake.remove("sys/module/vfio_pci");
    let found = findings(check, &fake, Some(&config()));
    assert_eq!(
        one(&found, "vfio", "this kernel has no vfio-pci").level,
        Level::Error
    );
    fake.write(
        "lib/modules/6.1.0-test/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n",
    );
    let found = findings(check, &fake, Some(&config()));
    let finding = one(&found, "vfio", "vfio-pci is not loaded");
    assert_eq!(finding.mend.as_deref(), Some("modprobe vfio-pci"));
    fake.write(
        "lib/modules/6.1.0-test/modules.builtin",
        "kernel/drivers/vfio/pci/vfio-pci.ko\n",
    );
    assert_eq!(fake.facts().vfio_pci, Module::Loaded);
}

#[test]
fn a_software_port_needs_its_interface() {
    let config = vdev_config("net_af_xdp0,iface=pm0,queue_count=1");
    let found = findings(check, &FakeRoot::machine(), Some(&config));
    let finding = one(&found, "port", "there is no interface pm0");
    assert_eq!(finding.level, Level::Error);
    assert!(
        finding
            .mend
            .as_ref()
            .unwrap()
            .starts_with("ip link add pm0 type veth")
    );
}

#[test]
fn a_software_port_without_an_interface_is_an_error() {
    let config = vdev_config("net_af_packet0");
    let found = findings(check, &FakeRoot::machine(), Some(&config));
    assert_eq!(
        one(&found, "port", "does not name an interface").level,
        Level::Error
    );
}

#[test]
fn a_software_port_on_the_default_route_is_a_warning() {
    let config = vdev_config("net_af_packet0,iface=eth0");
    let found = findings(check, &FakeRoot::machine(), Some(&config));
    assert_eq!(
        one(&found, "port", "eth0 carries the default route").level,
        Level::Warning
    );
}

#[test]
fn a_tap_port_needs_the_tun_module_but_no_interface() {
    let fake = FakeRoot::machine();
    let config = vdev_config("net_tap0,iface=pm0");
    assert_all_ok(&findings(check, &fake, Some(&config)));
    fake.remove("dev/net/tun");
    let found = findings(check, &fake, Some(&config));
    assert_eq!(
        one(&found, "port", "needs /dev/net/tun").mend.as_deref(),
        Some("modprobe tun")
    );
}

#[test]
fn workers_far_from_the_nic_are_a_warning() {
    let mut config = config();
    config.director.worker_cores = vec![2, 6];
    let found = findings(check, &FakeRoot::machine(), Some(&config));
    let finding = one(
        &found,
        "numa",
        "workers on core 6 are far from the NICs on node 0",
    );
    assert_eq!(finding.level, Level::Warning);
    assert!(
        finding
            .mend
            .as_ref()
            .unwrap()
            .ends_with("some of cores 0-5")
    );
}

/// What the checks say about this director.
fn with_running(running: &RunningDirector) -> Vec<Finding> {
    let (facts, config) = (FakeRoot::machine().facts(), config());
    check(Case {
        facts: &facts,
        config: Some(&config),
        running: Some(running),
        silent: None,
        probed: None,
    })
}

#[test]
fn a_running_director_tells_queues_and_offloads() {
    let found = with_running(&running());
    assert_all_ok(&found);
    one(&found, "offloads", "lan: 2 receive queues for 2 workers");
    one(
        &found,
        "offloads",
        "lan: IPv4 checksums written by the NIC, checked by the NIC",
    );
}

#[test]
fn a_port_with_fewer_queues_than_workers_is_a_warning() {
    let mut running = running();
    running.ports[0].rx_queues = 1;
    let found = with_running(&running);
    let text = "lan: net_ixgbe: 1 of 2 workers receive; spread in software";
    assert_eq!(one(&found, "offloads", text).level, Level::Warning);
    running.director.workers = 1;
    assert_all_ok(&with_running(&running));
}

#[test]
fn a_port_without_link_is_an_error() {
    let mut running = running();
    running.ports[0].link_up = false;
    assert_eq!(
        one(&with_running(&running), "link", "lan: no link").level,
        Level::Error
    );
}

#[test]
fn a_port_that_the_director_does_not_have_yet_is_a_warning() {
    let mut running = running();
    running.ports.clear();
    let found = with_running(&running);
    assert_eq!(
        one(&found, "offloads", "does not have this port").level,
        Level::Warning
    );
}

/// What the checks say when DPDK said this.
fn with_probe(probe: &Probe) -> Vec<Finding> {
    let (facts, config) = (FakeRoot::machine().facts(), config());
    check(Case {
        facts: &facts,
        config: Some(&config),
        running: None,
        silent: None,
        probed: Some(probe),
    })
}

fn probed(queues: Result<(u16, u16), String>, mtu_max: u16) -> Vec<ProbedPort> {
    vec![ProbedPort {
        name: "lan".to_owned(),
        device: Some(ProbedDevice {
            driver: "net_ixgbe".to_owned(),
            queues,
            mtu_max,
            capabilities: PortCapabilities::default(),
        }),
    }]
}

#[test]
fn dpdk_tells_queues_and_offloads_where_no_director_runs() {
    let found = with_probe(&Ok(probed(Ok((2, 2)), 9702)));
    assert_all_ok(&found);
    one(&found, "offloads", "lan: 2 receive queues for 2 workers");
    one(
        &found,
        "offloads",
        "lan: IPv4 checksums written in software, checked in software",
    );
}

#[test]
fn a_device_that_cannot_do_what_is_configured_is_found_before_the_start() {
    let level = |ports, subject, text| one(&with_probe(&Ok(ports)), subject, text).level;
    let few = level(
        probed(Ok((1, 2)), 9702),
        "offloads",
        "lan: net_ixgbe: 1 of 2 workers receive; spread in software",
    );
    assert_eq!(few, Level::Warning);
    let refused = Err("port lan: it has too many".to_owned());
    let many = level(
        probed(refused, 9702),
        "offloads",
        "port lan: it has too many",
    );
    assert_eq!(many, Level::Error);
    let narrow = level(
        probed(Ok((2, 2)), 1000),
        "mtu",
        "carries 1000 bytes at most",
    );
    assert_eq!(narrow, Level::Error);
}

#[test]
fn a_device_that_dpdk_does_not_find_is_an_error() {
    let missing = Ok(vec![ProbedPort {
        name: "lan".to_owned(),
        device: None,
    }]);
    let found = with_probe(&missing);
    assert_eq!(
        one(&found, "offloads", "lan: DPDK finds no such device").level,
        Level::Error
    );
}

#[test]
fn a_dpdk_that_cannot_be_asked_is_a_warning() {
    let found = with_probe(&Err("no permission".to_owned()));
    assert_eq!(
        one(&found, "offloads", "could not be asked").level,
        Level::Warning
    );
}
