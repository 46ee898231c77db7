//! From the configuration to the arguments of `rte_eal_init`.

use super::PageKind;
use crate::config::{Config, Device, EalConfig};

/// What the EAL is started with.
#[derive(Clone, Debug)]
pub struct EalArguments {
    /// `[eal]`
    pub config: EalConfig,
    /// The devices of all ports; no others are touched.
    pub devices: Vec<Device>,
    /// The core of the thread that calls [`Eal::start`](super::Eal::start), or any that no
    /// worker has.
    pub management_core: Option<usize>,
    /// The cores of the workers. They are not the EAL's: workers are threads
    /// of our own that register themselves.
    pub worker_cores: Vec<usize>,
}

impl EalArguments {
    /// What `config` asks for.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.eal.clone(),
            devices: config
                .ports
                .iter()
                .map(|port| port.device.clone())
                .collect(),
            management_core: config.director.management_core,
            worker_cores: config.director.worker_cores.clone(),
        }
    }

    /// The arguments of `rte_eal_init`, the name of the program first.
    ///
    /// `cores` are those that this process may use. Memory is private to the
    /// process: `--in-memory` for hugepages, and `--no-shconf` for ordinary
    /// pages, which `--in-memory` does not allow. So several directors run on
    /// one host, and a killed one leaves no files in hugetlbfs or in
    /// `/var/run/dpdk`. The price is that DPDK's secondary processes cannot
    /// attach, which registered threads do not allow anyway. Drivers that share
    /// memory with another process (vhost, virtio-user, memif without copying)
    /// get it by `--single-file-segments` among the extra arguments.
    pub fn build(&self, pages: PageKind, cores: &[usize]) -> Vec<String> {
        let mut arguments = vec!["pointsman".to_owned()];
        let mut add = |argument: String| arguments.push(argument);
        add(format!(
            "--lcores=0@({})",
            core_list(&self.main_cores(cores))
        ));
        match pages {
            PageKind::Huge => add("--in-memory".to_owned()),
            PageKind::Ordinary => {
                add("--no-huge".to_owned());
                add("--no-shconf".to_owned());
            }
        }
        add("-m".to_owned());
        add(self.config.memory_mib.to_string());
        if let Some(channels) = self.config.memory_channels {
            add("-n".to_owned());
            add(channels.to_string());
        }
        add(format!("--file-prefix={}", self.config.file_prefix));
        add("--no-telemetry".to_owned());
        add("--log-level=warning".to_owned());
        let pci_addresses = self.pci_addresses();
        if pci_addresses.is_empty() {
            add("--no-pci".to_owned());
        }
        for address in pci_addresses {
            add("-a".to_owned());
            add(address.to_owned());
        }
        for device in &self.devices {
            if let Device::Vdev(vdev) = device {
                add(format!("--vdev={vdev}"));
            }
        }
        arguments.extend(self.config.extra_arguments.iter().cloned());
        arguments
    }

    /// Where the calling thread may run: DPDK binds it to its main lcore.
    fn main_cores(&self, cores: &[usize]) -> Vec<usize> {
        if let Some(core) = self.management_core {
            return vec![core];
        }
        let mut free: Vec<usize> = cores
            .iter()
            .copied()
            .filter(|core| !self.worker_cores.contains(core))
            .collect();
        if free.is_empty() {
            free = cores.to_vec();
        }
        if free.is_empty() {
            free.push(0);
        }
        free
    }

    /// Of the ports, and of the NICs behind a bonding device.
    fn pci_addresses<'a>(&'a self) -> Vec<&'a str> {
        let of_device = |device: &'a Device| match device {
            Device::Pci(address) => vec![address.as_str()],
            Device::Vdev(vdev) => vdev
                .split([',', '='])
                .filter(|word| is_pci_address(word))
                .collect(),
        };
        self.devices.iter().flat_map(of_device).collect()
    }
}

/// Cores as DPDK writes them: "0-2,5". Sorts them first.
fn core_list(cores: &[usize]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| a + 1 == *b)
        .filter_map(|run| match run {
            [] => None,
            [one] => Some(one.to_string()),
            [first, .., last] => Some(format!("{first}-{last}")),
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// "0000:01:00.0" or "01:00.0".
fn is_pci_address(word: &str) -> bool {
    let Some((rest, function)) = word.rsplit_once('.') else {
        return false;
    };
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let bus_is_valid = match rest.split(':').collect::<Vec<_>>().as_slice() {
        [domain, bus, device] => is_hex(domain, 4) && is_hex(bus, 2) && is_hex(device, 2),
        [bus, device] => is_hex(bus, 2) && is_hex(device, 2),
        _ => false,
    };
    bus_is_valid && is_hex(function, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hugepages;

    fn arguments(devices: Vec<Device>) -> EalArguments {
        EalArguments {
            config: EalConfig {
                hugepages: Hugepages::Auto,
                memory_mib: 512,
                memory_channels: None,
                file_prefix: "pointsman".to_owned(),
                extra_arguments: Vec::new(),
            },
            devices,
            management_core: None,
            worker_cores: vec![2, 3],
        }
    }

    #[test]
    fn software_ports_without_hugepages() {
        let arguments = arguments(vec![
            Device::Vdev("net_af_packet0,iface=veth0".to_owned()),
            Device::Vdev("net_null0".to_owned()),
        ]);
        assert_eq!(
            arguments.build(PageKind::Ordinary, &[0, 1, 2, 3]),
            [
                "pointsman",
                "--lcores=0@(0-1)",
                "--no-huge",
                "--no-shconf",
                "-m",
                "512",
                "--file-prefix=pointsman",
                "--no-telemetry",
                "--log-level=warning",
                "--no-pci",
                "--vdev=net_af_packet0,iface=veth0",
                "--vdev=net_null0",
            ]
        );
    }

    #[test]
    fn a_nic_with_hugepages_channels_and_extra_arguments() {
        let mut arguments = arguments(vec![Device::Pci("0000:01:00.0".to_owned())]);
        arguments.management_core = Some(7);
        arguments.config.memory_channels = Some(4);
        arguments.config.extra_arguments = vec!["--iova-mode=va".to_owned()];
        assert_eq!(
            arguments.build(PageKind::Huge, &[0, 1, 2, 3]),
            [
                "pointsman",
                "--lcores=0@(7)",
                "--in-memory",
                "-m",
                "512",
                "-n",
                "4",
                "--file-prefix=pointsman",
                "--no-telemetry",
                "--log-level=warning",
                "-a",
                "0000:01:00.0",
                "--iova-mode=va",
            ]
        );
    }

    #[test]
    fn nics_behind_a_bond_are_allowed() {
        let vdev = "net_bonding0,mode=4,slave=0000:01:00.0,slave=0000:01:00.1";
        let arguments = arguments(vec![Device::Vdev(vdev.to_owned())]);
        assert_eq!(arguments.pci_addresses(), ["0000:01:00.0", "0000:01:00.1"]);
    }

    #[test]
    fn the_main_thread_shares_cores_when_workers_have_all() {
        let arguments = arguments(Vec::new());
        assert_eq!(arguments.main_cores(&[2, 3]), [2, 3]);
        assert_eq!(arguments.main_cores(&[]), [0]);
    }

    #[test]
    fn core_lists_use_ranges() {
        assert_eq!(core_list(&[4, 0, 2, 1, 1, 7, 8]), "0-2,4,7-8");
    }

    #[test]
    fn pci_addresses_are_told_from_other_words() {
        for word in ["0000:01:00.0", "01:00.1", "00ff:af:1f.7"] {
            assert!(is_pci_address(word), "{word}");
        }
        for word in [
            "eth0.100",
            "net_ring0",
            "10.0.0.1",
            "0000:01:00",
            "1.2",
            "a:b.0",
            "",
        ] {
            assert!(!is_pci_address(word), "{word}");
        }
    }
}
