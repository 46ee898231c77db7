//! What a configuration must know of the machine it is for.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fmt, fs, path::Path};

/// The cores of a machine, and what is near to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The numbers of the cores that a thread can be pinned to, ascending.
    /// Empty when that could not be found out; then no core is refused.
    pub cores: Vec<usize>,
    /// The NUMA node of each core, where that could be found out.
    pub core_nodes: BTreeMap<usize, usize>,
    /// The NUMA node of each NIC that says it, by PCI address.
    pub nic_nodes: BTreeMap<String, usize>,
}

impl Machine {
    /// The machine that this runs on.
    ///
    /// The affinity of this process is asked last: cores kept free with
    /// `isolcpus` are not in it, and those are the very ones for workers.
    pub fn detect() -> Self {
        let cores = read_list(Path::new("/sys/fs/cgroup/cpuset.cpus.effective"))
            .or_else(|| read_list(Path::new("/sys/devices/system/cpu/online")))
            .or_else(|| {
                core_affinity::get_core_ids()
                    .map(|cores| cores.into_iter().map(|core| core.id).collect())
            });
        Self {
            cores: cores.unwrap_or_default(),
            core_nodes: core_nodes(Path::new("/sys/devices/system/node")),
            nic_nodes: nic_nodes(Path::new("/sys/bus/pci/devices")),
        }
    }

    /// Whether a thread can be pinned to this core.
    pub fn has_core(&self, core: usize) -> bool {
        self.cores.is_empty() || self.cores.contains(&core)
    }

    /// The core that a worker gets when the file names none: the last, since
    /// interrupts and the rest of the system gather on the first.
    pub fn default_worker(&self) -> usize {
        self.cores.last().copied().unwrap_or(0)
    }
}

impl fmt::Display for Machine {
    /// The cores as the kernel writes them: "0-3, 8-11".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.cores.as_slice();
        let mut separator = "";
        while let Some(&first) = rest.first() {
            let run = rest
                .iter()
                .zip(first..)
                .take_while(|&(&core, next)| core == next)
                .count();
            match run {
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{}", first + run - 1)?,
            }
            separator = ", ";
            rest = rest.get(run..).unwrap_or_default();
        }
        Ok(())
    }
}

fn read_list(path: &Path) -> Option<Vec<usize>> {
    parse_list(&fs::read_to_string(path).ok()?)
}

/// `nodeN/cpulist` of each node.
fn core_nodes(dir: &Path) -> BTreeMap<usize, usize> {
    names_in(dir)
        .filter_map(|name| {
            let node = name.strip_prefix("node")?.parse::<usize>().ok()?;
            let cores = read_list(&dir.join(&name).join("cpulist"))?;
            Some(cores.into_iter().map(move |core| (core, node)))
        })
        .flatten()
        .collect()
}

/// `ADDRESS/numa_node` of each network device; -1 there means none.
fn nic_nodes(dir: &Path) -> BTreeMap<String, usize> {
    const CLASS_NETWORK: &str = "0x02";
    names_in(dir)
        .filter_map(|address| {
            let read = |file| fs::read_to_string(dir.join(&address).join(file)).ok();
            let is_nic = read("class")?.starts_with(CLASS_NETWORK);
            let node = read("numa_node")?.trim().parse().ok()?;
            is_nic.then_some((address, node))
        })
        .collect()
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Reads a list as the kernel writes it: "0-3,8". `None` for an empty or
/// unreadable one.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    (!cores.is_empty()).then_some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(parse_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list("0\n"), Some(vec![0]));
        assert_eq!(parse_list("\n"), None);
        assert_eq!(parse_list("0-x"), None);
    }

    #[test]
    fn cores_are_shown_as_ranges() {
        let shown = |cores: &[usize]| {
            Machine {
                cores: cores.to_vec(),
                ..Machine::default()
            }
            .to_string()
        };
        assert_eq!(shown(&[0, 1, 2, 3, 8, 10, 11]), "0-3, 8, 10-11");
        assert_eq!(shown(&[0]), "0");
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn nodes_of_cores_and_nics_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("nodes/node0/cpulist", "0,2\n");
        write("nodes/node1/cpulist", "1,3\n");
        // A node of memory alone.
        write("nodes/node2/cpulist", "\n");
        write("nodes/online", "0-2\n");
        for (address, class, node) in [
            ("0000:01:00.0", "0x020000\n", "1\n"),
            ("0000:02:00.0", "0x020000\n", "-1\n"),
            ("0000:03:00.0", "0x010802\n", "0\n"),
        ] {
            write(&format!("pci/{address}/class"), class);
            write(&format!("pci/{address}/numa_node"), node);
        }
        assert_eq!(
            core_nodes(&dir.path().join("nodes")),
            BTreeMap::from([(0, 0), (1, 1), (2, 0), (3, 1)])
        );
        assert_eq!(
            nic_nodes(&dir.path().join("pci")),
            BTreeMap::from([("0000:01:00.0".to_owned(), 1)])
        );
        assert!(core_nodes(&dir.path().join("missing")).is_empty());
    }

    #[test]
    fn the_machine_that_runs_this_test_has_a_core_for_a_worker() {
        let machine = Machine::detect();
        assert!(!machine.cores.is_empty());
        assert!(machine.has_core(machine.default_worker()));
    }
}
