//! A made-up machine and configuration for the tests of the checks.
#![forbid(unsafe_code)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Case, Facts, Finding, Level, RunningDirector};
use crate::{
    config::{Config, Device, DirectorConfig, EalConfig, Hugepages, IdlePolicy, PortConfig},
    control::status::{DirectorStatus, PortStatus},
    io::{PortCapabilities, PortStatistics},
    service::{Timeouts, Tunables},
    wire::ethernet::MacAddr,
};

/// Files below a directory of its own.
pub(super) struct FakeRoot {
    directory: tempfile::TempDir,
}

impl FakeRoot {
    /// Four cores on two nodes, hyperthreads next to each other; 1024 free
    /// hugepages of 2 MiB on node 0; an IOMMU; NICs eth0 with the default route
    /// and one that vfio has, both on node 0. Nothing is wrong with it for
    /// workers on cores 2 and 3... except that these are on node 1.
    pub(super) fn machine() -> Self {
        let fake = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let cpu = "sys/devices/system/cpu";
        fake.write(&format!("{cpu}/online"), "0-7\n");
        fake.write(&format!("{cpu}/isolated"), "2-5\n");
        fake.write(&format!("{cpu}/nohz_full"), "2-5\n");
        fake.write("sys/devices/system/node/online", "0-1\n");
        fake.write("sys/devices/system/node/node0/cpulist", "0-5\n");
        fake.write("sys/devices/system/node/node1/cpulist", "6-7\n");
        for core in 0..8 {
            let first = core / 2 * 2;
            let cpu = format!("{cpu}/cpu{core}");
            fake.write(
                &format!("{cpu}/topology/thread_siblings_list"),
                &format!("{first}-{}\n", first + 1),
            );
            fake.write(&format!("{cpu}/cpufreq/scaling_governor"), "performance\n");
        }
        fake.hugepages(0, 1024, 1024);
        fake.hugepages(1, 0, 0);
        fake.write(
            "proc/meminfo",
            "MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n",
        );
        fake.write("proc/sys/kernel/osrelease", "6.1.0-test\n");
        fake.write("sys/class/iommu/dmar0/x", "");
        fake.write("sys/module/vfio_pci/x", "");
        fake.write("sys/module/ipip/x", "");
        fake.write("dev/net/tun", "");
        fake.write(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc\n",
        );
        fake.write(
            "proc/net/route",
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
             eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        );
        fake.write(
            "proc/self/limits",
            "Max locked memory         8388608      8388608     bytes\n",
        );
        fake.write("proc/self/status", "Name: x\nCapEff:\t000001ffffffffff\n");
        fake.nic("0000:01:00.0", "ixgbe", 0);
        fake.write("sys/bus/pci/devices/0000:01:00.0/net/eth0/x", "");
        fake.write("sys/class/net/eth0/operstate", "up\n");
        fake.write("sys/class/net/veth0/operstate", "up\n");
        fake.nic("0000:02:00.0", "vfio-pci", 0);
        fake.link(
            "../../kernel/iommu_groups/17",
            "sys/bus/pci/devices/0000:02:00.0/iommu_group",
        );
        fake
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    pub(super) fn link(&self, target: &str, path: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// Hugepages of 2 MiB.
    pub(super) fn hugepages(&self, node: usize, total: u64, free: u64) {
        let directory = format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
        self.write(&format!("{directory}/nr_hugepages"), &format!("{total}\n"));
        self.write(&format!("{directory}/free_hugepages"), &format!("{free}\n"));
    }

    pub(super) fn nic(&self, address: &str, driver: &str, node: i32) {
        let directory = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{directory}/class"), "0x020000\n");
        self.write(&format!("{directory}/vendor"), "0x8086\n");
        self.write(&format!("{directory}/device"), "0x10fb\n");
        self.write(&format!("{directory}/numa_node"), &format!("{node}\n"));
        self.link(
            &format!("../../drivers/{driver}"),
            &format!("{directory}/driver"),
        );
    }

    pub(super) fn facts(&self) -> Facts {
        Facts::gather(self.path())
    }
}

/// Workers on cores 2 and 4 that poll, 1 GiB of hugepages, one PCI port.
pub(super) fn config() -> Config {
    Config {
        director: DirectorConfig {
            worker_cores: vec![2, 4],
            management_core: Some(0),
            idle: Some(IdlePolicy::Poll),
            connections_max: 1_000_000,
            templates_max: 1024,
            control_socket: PathBuf::from("/nonexistent/control.sock"),
            netlink_socket: PathBuf::from("/nonexistent/ipvs.sock"),
            netlink_group: None,
            control_group: None,
            user: None,
            group: None,
            timeouts: Timeouts::default(),
            tunables: Tunables::default(),
            state_file: None,
            icmp_rate_per_s: 1000,
        },
        eal: EalConfig {
            hugepages: Hugepages::Required,
            memory_mib: 1024,
            memory_channels: None,
            file_prefix: "test".to_owned(),
            extra_arguments: Vec::new(),
        },
        api: None,
        ports: vec![port(Device::Pci("0000:02:00.0".to_owned()))],
        routes: Vec::new(),
        neighbors: Vec::new(),
        mark_groups: Vec::new(),
        services: Vec::new(),
    }
}

pub(super) fn port(device: Device) -> PortConfig {
    PortConfig {
        name: "lan".to_owned(),
        device,
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        mtu: 1500,
        vlan: None,
        mac: None,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
    }
}

/// A director with one port on as many queues as workers, with everything.
pub(super) fn running() -> RunningDirector {
    RunningDirector {
        director: DirectorStatus {
            version: "0.1.0".to_owned(),
            pid: 42,
            uptime_ms: 1000,
            config_file: PathBuf::from("/etc/pointsman.toml"),
            generation: 1,
            workers: 2,
            workers_live: 2,
            services: 0,
            connections: 0,
            timeouts: Timeouts::default(),
            tunables: Tunables::default(),
            state_file: None,
            tables: Vec::new(),
        },
        ports: vec![PortStatus {
            name: "lan".to_owned(),
            device: "0000:02:00.0".to_owned(),
            driver: "net_ixgbe".to_owned(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            vlan: None,
            link_up: true,
            speed_mbps: 10_000,
            numa_node: Some(0),
            rx_queues: 2,
            tx_queues: 3,
            workers: 2,
            capabilities: PortCapabilities {
                tx_ipv4_checksum: true,
                tx_fast_free: true,
                rx_ipv4_checksum: true,
                rss: true,
                ..PortCapabilities::default()
            },
            rx_burst_mode: None,
            tx_burst_mode: None,
            statistics: PortStatistics::default(),
            addresses: Vec::new(),
        }],
    }
}

/// The findings of `check` for this machine and configuration.
pub(super) fn findings(
    check: fn(Case<'_>) -> Vec<Finding>,
    fake: &FakeRoot,
    config: Option<&Config>,
) -> Vec<Finding> {
    check(Case {
        facts: &fake.facts(),
        config,
        running: None,
        silent: None,
        probed: None,
    })
}

/// The one finding about `subject` whose text contains `found`.
#[track_caller]
pub(super) fn one<'a>(findings: &'a [Finding], subject: &str, found: &str) -> &'a Finding {
    let matching: Vec<_> = findings
        .iter()
        .filter(|finding| finding.subject == subject && finding.found.contains(found))
        .collect();
    assert_eq!(matching.len(), 1, "{subject}: {found}: {findings:#?}");
    matching[0]
}

/// Fails when one of them is not ok.
#[track_caller]
pub(super) fn assert_all_ok(findings: &[Finding]) {
    assert!(!findings.is_empty());
    assert!(
        findings.iter().all(|finding| finding.level == Level::Ok),
        "{findings:#?}"
    );
}
