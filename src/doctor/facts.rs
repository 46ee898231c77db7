//! What `/proc` and `/sys` say about the machine.
//!
//! Gathering never fails: what cannot be read is unknown, and each check says
//! what it makes of that. Where the files are documented: `sysfs-devices-system-cpu`,
//! `sysfs-kernel-mm-hugepages`, `sysfs-bus-pci` in the kernel's ABI
//! documentation, and proc(5).
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    str::FromStr,
};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Online cores by number.
    pub cores: BTreeMap<usize, Core>,
    /// Cores that the scheduler keeps free (`isolcpus`, or an isolated cpuset).
    pub isolated: BTreeSet<usize>,
    /// Cores without a timer tick (`nohz_full`).
    pub nohz_full: BTreeSet<usize>,
    /// The clock source of the kernel: "tsc".
    pub clock_source: Option<String>,
    /// Pools of hugepages of every node and size.
    pub hugepages: Vec<HugepagePool>,
    /// Memory that could be had without swapping, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// Whether the kernel manages an IOMMU.
    pub iommu: bool,
    /// Whether vfio may do without (`enable_unsafe_noiommu_mode`).
    pub vfio_noiommu: bool,
    /// The module vfio-pci.
    pub vfio_pci: Module,
    /// Whether `/dev/net/tun` exists.
    pub tun_device: bool,
    /// The module ipip.
    pub ipip: Module,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Kernel network interfaces.
    pub interfaces: BTreeSet<String>,
    /// Interfaces that carry a default route, and those below them.
    pub default_route_interfaces: BTreeSet<String>,
    /// Bytes that this process may lock.
    pub memlock: Option<Limit>,
    /// Effective capabilities of this process, as the bits of capabilities(7).
    pub capabilities: u64,
}

/// A core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// Its NUMA node.
    pub numa_node: Option<usize>,
    /// The cores of the same physical core, itself among them.
    pub siblings: BTreeSet<usize>,
    /// The frequency governor: "performance".
    pub governor: Option<String>,
}

/// Hugepages of one size on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugepagePool {
    /// The node.
    pub numa_node: usize,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages there are.
    pub total: u64,
    /// Pages that nobody uses.
    pub free: u64,
}

impl HugepagePool {
    /// Bytes that nobody uses.
    pub const fn free_bytes(&self) -> u64 {
        self.free.saturating_mul(self.page_bytes)
    }
}

/// A part of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Module {
    /// This kernel does not have it.
    #[default]
    Missing,
    /// It can be loaded.
    Loadable,
    /// It is there.
    Loaded,
}

/// A limit of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// A network card on the PCI bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// "0000:01:00.0"
    pub address: String,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Vendor and device, "8086:10fb".
    pub id: String,
    /// Its NUMA node.
    pub numa_node: Option<usize>,
    /// Names that it has in the kernel.
    pub interfaces: Vec<String>,
    /// Whether one of these is up.
    pub up: bool,
    /// Whether this machine is reached through it.
    pub default_route: bool,
    /// Programs that have it open through vfio, "name (pid)".
    pub users: Vec<String>,
}

impl Facts {
    /// What the files below `root` say ("/", or a copy for tests).
    pub fn gather(root: &Path) -> Self {
        let machine = Files { root };
        let interfaces = machine.names("sys/class/net");
        let default_route_interfaces = default_route_interfaces(machine, &interfaces);
        Self {
            cores: cores(machine),
            isolated: machine.list("sys/devices/system/cpu/isolated"),
            nohz_full: machine.list("sys/devices/system/cpu/nohz_full"),
            clock_source: machine
                .text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            hugepages: hugepages(machine),
            memory_available_bytes: memory_available_bytes(machine),
            iommu: !machine.names("sys/class/iommu").is_empty(),
            vfio_noiommu: machine
                .text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
                .is_some_and(|text| text == "Y" || text == "1"),
            vfio_pci: module(machine, "vfio_pci", "sys/bus/pci/drivers/vfio-pci"),
            tun_device: machine.exists("dev/net/tun"),
            ipip: module(machine, "ipip", "sys/class/net/tunl0"),
            nics: nics(machine, &default_route_interfaces),
            interfaces,
            default_route_interfaces,
            memlock: memlock(machine),
            capabilities: capabilities(machine),
        }
    }
}

/// Files below a root.
#[derive(Clone, Copy)]
struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn exists(self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The content without surrounding space; `None` also when it is empty.
    fn text(self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn number<N: FromStr>(self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// A list such as "1-3,8".
    fn list(self, path: &str) -> BTreeSet<usize> {
        self.text(path)
            .map(|text| parse_list(&text))
            .unwrap_or_default()
    }

    /// What stands in a directory.
    fn names(self, path: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root.join(path))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// The last part of what a symbolic link points to.
    fn link_name(self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }
}

fn parse_list(text: &str) -> BTreeSet<usize> {
    text.split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?)
        })
        .flatten()
        .collect()
}

fn cores(machine: Files<'_>) -> BTreeMap<usize, Core> {
    let mut nodes = BTreeMap::new();
    for node in numa_nodes(machine) {
        for core in machine.list(&format!("sys/devices/system/node/node{node}/cpulist")) {
            nodes.insert(core, node);
        }
    }
    let core = |core: usize| {
        let directory = format!("sys/devices/system/cpu/cpu{core}");
        let facts = Core {
            numa_node: nodes.get(&core).copied(),
            siblings: machine.list(&format!("{directory}/topology/thread_siblings_list")),
            governor: machine.text(&format!("{directory}/cpufreq/scaling_governor")),
        };
        (core, facts)
    };
    machine
        .list("sys/devices/system/cpu/online")
        .into_iter()
        .map(core)
        .collect()
}

fn numa_nodes(machine: Files<'_>) -> BTreeSet<usize> {
    machine.list("sys/devices/system/node/online")
}

fn hugepages(machine: Files<'_>) -> Vec<HugepagePool> {
    let mut pools = Vec::new();
    for node in numa_nodes(machine) {
        let directory = format!("sys/devices/system/node/node{node}/hugepages");
        for name in machine.names(&directory) {
            let kib = name
                .strip_prefix("hugepages-")
                .and_then(|name| name.strip_suffix("kB"));
            let Some(kib) = kib.and_then(|kib| kib.parse::<u64>().ok()) else {
                continue;
            };
            let pages = |file| {
                machine
                    .number(&format!("{directory}/{name}/{file}"))
                    .unwrap_or(0)
            };
            pools.push(HugepagePool {
                numa_node: node,
                page_bytes: kib.saturating_mul(1024),
                total: pages("nr_hugepages"),
                free: pages("free_hugepages"),
            });
        }
    }
    pools
}

fn memory_available_bytes(machine: Files<'_>) -> Option<u64> {
    let text = machine.text("proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A module is there when it shows under its name or by what it makes; a
/// kernel can have it built in without either, which `modules.builtin` tells.
fn module(machine: Files<'_>, name: &str, made: &str) -> Module {
    if machine.exists(&format!("sys/module/{name}")) || machine.exists(made) {
        return Module::Loaded;
    }
    let Some(release) = machine.text("proc/sys/kernel/osrelease") else {
        return Module::Missing;
    };
    let listed = |file: &str| {
        let modules = machine
            .text(&format!("lib/modules/{release}/{file}"))
            .unwrap_or_default();
        modules.lines().any(|line| {
            let path = line.split(':').next().unwrap_or_default();
            let file_name = path.rsplit('/').next().unwrap_or_default();
            let stem = file_name.split('.').next().unwrap_or_default();
            stem.replace('-', "_") == name
        })
    };
    if listed("modules.builtin") {
        Module::Loaded
    } else if listed("modules.dep") {
        Module::Loadable
    } else {
        Module::Missing
    }
}

/// Interfaces with a default route, and the members of bonds, bridges and
/// VLANs that have one: taking such a member away cuts the machine off, too.
fn default_route_interfaces(machine: Files<'_>, all: &BTreeSet<String>) -> BTreeSet<String> {
    let ipv4 = machine.text("proc/net/route").unwrap_or_default();
    let ipv6 = machine.text("proc/net/ipv6_route").unwrap_or_default();
    let mut found: BTreeSet<String> = ipv4
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [name, "00000000", _, _, _, _, _, "00000000", ..] = fields.as_slice() else {
                return None;
            };
            Some((*name).to_owned())
        })
        .chain(ipv6.lines().filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Without a gateway it is the kernel's own "unreachable" entry.
            let [to, "00", _, _, via, .., name] = fields.as_slice() else {
                return None;
            };
            let zero = |address: &str| address.bytes().all(|digit| digit == b'0');
            (zero(to) && !zero(via) && *name != "lo").then(|| (*name).to_owned())
        }))
        .collect();
    for _ in 0..STACKED_INTERFACES_MAX {
        let below: Vec<_> = all
            .iter()
            .filter(|name| {
                found
                    .iter()
                    .any(|upper| machine.exists(&format!("sys/class/net/{name}/upper_{upper}")))
            })
            .cloned()
            .collect();
        found.extend(below);
    }
    found
}

/// VLAN on bridge on bond on NIC.
const STACKED_INTERFACES_MAX: usize = 4;

fn nics(machine: Files<'_>, default_route_interfaces: &BTreeSet<String>) -> Vec<Nic> {
    let mut nics: Vec<_> = machine
        .names("sys/bus/pci/devices")
        .into_iter()
        .filter_map(|address| nic(machine, address, default_route_interfaces))
        .collect();
    // Looking through all processes is only worth it when there is a reason.
    if nics
        .iter()
        .any(|nic| nic.driver.as_deref() == Some("vfio-pci"))
    {
        let users = vfio_users(machine);
        for nic in &mut nics {
            let directory = format!("sys/bus/pci/devices/{}", nic.address);
            let group = machine.link_name(&format!("{directory}/iommu_group"));
            nic.users = group
                .and_then(|group| users.get(&group).cloned())
                .unwrap_or_default();
        }
    }
    nics
}

fn nic(
    machine: Files<'_>,
    address: String,
    default_route_interfaces: &BTreeSet<String>,
) -> Option<Nic> {
    let directory = format!("sys/bus/pci/devices/{address}");
    // Class 02 is "network controller" (PCI Code and ID Assignment 1.4).
    let class = machine.text(&format!("{directory}/class"))?;
    if !class.starts_with("0x02") {
        return None;
    }
    let mut interfaces: Vec<_> = machine
        .names(&format!("{directory}/net"))
        .into_iter()
        .collect();
    for child in machine
        .names(&directory)
        .iter()
        .filter(|name| name.starts_with("virtio"))
    {
        interfaces.extend(machine.names(&format!("{directory}/{child}/net")));
    }
    let hex = |file: &str| {
        let text = machine
            .text(&format!("{directory}/{file}"))
            .unwrap_or_default();
        text.trim_start_matches("0x").to_owned()
    };
    Some(Nic {
        driver: machine.link_name(&format!("{directory}/driver")),
        id: format!("{}:{}", hex("vendor"), hex("device")),
        // The kernel writes -1 where the firmware does not say.
        numa_node: machine.number(&format!("{directory}/numa_node")),
        up: interfaces.iter().any(|name| {
            machine
                .text(&format!("sys/class/net/{name}/operstate"))
                .as_deref()
                == Some("up")
        }),
        default_route: interfaces
            .iter()
            .any(|name| default_route_interfaces.contains(name)),
        interfaces,
        address,
        users: Vec::new(),
    })
}

/// By IOMMU group, the programs that have it open. Those of other users are
/// only seen by root.
fn vfio_users(machine: Files<'_>) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pid in machine
        .names("proc")
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok())
    {
        for descriptor in machine.names(&format!("proc/{pid}/fd")) {
            let Ok(target) =
                fs::read_link(machine.root.join(format!("proc/{pid}/fd/{descriptor}")))
            else {
                continue;
            };
            let Some(group) = target.strip_prefix("/dev/vfio").ok().and_then(Path::to_str) else {
                continue;
            };
            let name = machine
                .text(&format!("proc/{pid}/comm"))
                .unwrap_or_default();
            let group = group.trim_start_matches("noiommu-").to_owned();
            let programs = users.entry(group).or_default();
            let program = format!("{name} ({pid})");
            if !programs.contains(&program) {
                programs.push(program);
            }
        }
    }
    users
}

fn memlock(machine: Files<'_>) -> Option<Limit> {
    let text = machine.text("proc/self/limits")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        bytes => bytes.parse().ok().map(Limit::Bytes),
    }
}

fn capabilities(machine: Files<'_>) -> u64 {
    let text = machine.text("proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}
