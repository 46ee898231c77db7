//! Which module may use which: the architecture as a table.

use crate::source::node_of;

/// A module and all below it, and what it may use of the others.
pub(crate) struct Layer {
    pub(crate) module: &'static str,
    /// Whether it decides only, and touches neither time nor the machine.
    pub(crate) is_pure: bool,
    /// A module stands for all of it but the parts that have rows of their
    /// own; `module::Item` for this item alone.
    pub(crate) uses: &'static [&'static str],
}

impl Layer {
    /// Whether it may name the item at this path, which begins behind
    /// `crate::`.
    pub(crate) fn may_use(&self, path: &[String]) -> bool {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let node = node_of(&path);
        let allows = |used: &&str| {
            let one_item = node_of(&used.split("::").collect::<Vec<_>>()) != **used;
            let is_below = || path.join("::").strip_prefix(*used).is_some_and(is_path_end);
            **used == node || one_item && is_below()
        };
        node == self.module || self.uses.iter().any(allows)
    }
}

fn is_path_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with("::")
}

const fn core(module: &'static str, uses: &'static [&'static str]) -> Layer {
    Layer {
        module,
        is_pure: true,
        uses,
    }
}

const fn shell(module: &'static str, uses: &'static [&'static str]) -> Layer {
    Layer {
        module,
        is_pure: false,
        uses,
    }
}

/// Files that belong to no layer: the map of the crate, and the program, which
/// calls `cli` from outside.
pub(crate) const OUTSIDE: [&str; 2] = ["src/lib.rs", "src/main.rs"];

/// From the bottom to the top: a module uses modules above it in this list.
pub(crate) const LAYERS: &[Layer] = &[
    core("wire", &[]),
    shell("clock", &[]),
    shell("memory", &[]),
    core("version", &[]),
    core("flow", &["wire"]),
    core("prefixes", &[]),
    // A service names its scheduler, which is a word of the configuration; how
    // the scheduler picks needs the forwarding state, far above.
    core(
        "service",
        &[
            "scheduler::SchedulerFlags",
            "scheduler::SchedulerKind",
            "wire",
        ],
    ),
    core("io", &["wire"]),
    core("io::mem", &["io", "wire"]),
    // Files of packets; their packets are those in memory.
    shell("io::pcap", &["io", "io::mem", "wire"]),
    core("connection", &["clock", "flow", "memory", "service"]),
    core("neighbor", &["clock", "io::PortIndex", "wire"]),
    core("route", &["io::PortIndex"]),
    core(
        "forwarding",
        &[
            "clock",
            "connection::StateTimeouts",
            "connection::Templates",
            "flow",
            "io::PortIndex",
            "neighbor",
            "prefixes",
            "route",
            // The tables of the hashing schedulers are part of the state.
            "scheduler::HashTable",
            "service",
            "wire",
        ],
    ),
    core(
        "scheduler",
        &[
            "connection::CoarseTime",
            "connection::time",
            "flow",
            "forwarding",
        ],
    ),
    core("tunnel", &["forwarding", "io", "service", "wire"]),
    core(
        "fragment",
        &[
            "connection::CoarseDuration",
            "connection::CoarseTime",
            "flow",
            "forwarding",
            "io",
            "tunnel",
            "wire",
        ],
    ),
    // One counter for each way off the packet path.
    core(
        "counters",
        &["pipeline::DropReason", "pipeline::PuntReason"],
    ),
    core(
        "pipeline",
        &[
            "clock",
            "connection",
            "counters",
            "flow",
            "forwarding",
            "fragment",
            "io",
            "memory",
            "scheduler",
            "service",
            "tunnel",
            "wire",
        ],
    ),
    // What became of a packet, from outside the packet path.
    core(
        "capture",
        &[
            "connection::CoarseTime",
            "connection::time",
            "counters",
            "io::PortIndex",
            "pipeline::DropReason",
            "pipeline::PuntReason",
            "wire",
        ],
    ),
    // Sleeps when it is idle and may.
    shell(
        "worker",
        &[
            "capture",
            "clock",
            "connection",
            "counters",
            "flow",
            "forwarding",
            "fragment::HELD_MAX",
            "io",
            "pipeline",
            "scheduler",
            "service",
        ],
    ),
    // A packet path without ports, to try packets on.
    core(
        "explain",
        &[
            "connection",
            "counters",
            "flow",
            "forwarding",
            "io",
            "io::mem",
            "memory::MemoryError",
            "pipeline",
            "scheduler::Consideration",
        ],
    ),
    // The words in which a director is told and asked, in any language.
    core("control::command", &["service"]),
    core(
        "control::edit",
        &[
            "scheduler::SchedulerFlags",
            "scheduler::SchedulerKind",
            "service",
            "wire",
        ],
    ),
    core(
        "control::status",
        &[
            "capture",
            "control::command",
            "control::edit",
            "io",
            "scheduler::SchedulerKind",
            "service",
            "wire",
        ],
    ),
    // What outlives a director, and what a changed file makes of it.
    core("control::snapshot", &["control::command", "service"]),
    core(
        "control::merge",
        &["control::command", "control::snapshot", "service"],
    ),
    core("control::saved", &["control::snapshot"]),
    core(
        "ipvsadm",
        &[
            "control::command",
            "control::status",
            "scheduler::SchedulerFlags",
            "scheduler::SchedulerKind",
            "service",
        ],
    ),
    // What ipvsadm and keepalived say, and what they are told.
    core(
        "netlink",
        &[
            "control::command",
            "control::status",
            "ipvsadm",
            "scheduler::SchedulerFlags",
            "scheduler::SchedulerKind",
            "service",
        ],
    ),
    // Reads its file, and which cores there are.
    shell(
        "config",
        &[
            // How much memory its tables take.
            "connection",
            "io::sharing::Sharing",
            "ipvsadm",
            "scheduler::SchedulerFlags",
            "scheduler::SchedulerKind",
            "service",
            "wire",
        ],
    ),
    // A port is set up as the configuration says.
    shell("io::dpdk", &["config", "io", "memory", "wire"]),
    // Owns all but the packets: it feeds the workers, takes what they punt,
    // and answers it by way of the same checks and tunnels.
    shell(
        "control",
        &[
            "capture",
            "clock",
            "config",
            "connection",
            "control::command",
            "control::edit",
            "control::merge",
            "control::saved",
            "control::snapshot",
            "control::status",
            "counters",
            "explain",
            "flow",
            "forwarding",
            "fragment",
            "io",
            "ipvsadm",
            "neighbor",
            "netlink",
            "pipeline",
            "prefixes",
            "route",
            "scheduler::Candidate",
            "scheduler::Consideration",
            "scheduler::HashTable",
            "scheduler::HashedServer",
            "scheduler::SchedulerKind",
            "service",
            "tunnel",
            "version",
            "wire",
            "worker",
        ],
    ),
    // Asks the management thread as clients of its socket do.
    shell(
        "api",
        &[
            "config",
            "control",
            "control::command",
            "control::edit",
            "control::status",
            "scheduler::SchedulerKind",
            "service",
            "version",
            "wire",
        ],
    ),
    // Connects workers and management over any driver, so that tests can drive
    // the whole without a thread.
    core(
        "director",
        &[
            "clock",
            "config",
            "connection",
            "control",
            "control::command",
            "control::saved",
            "counters",
            "flow",
            "forwarding",
            "io",
            "memory::MemoryError",
            "pipeline::Exchange",
            "pipeline::Peers",
            "pipeline::Shares",
            "worker",
        ],
    ),
    shell("realserver", &["wire"]),
    // Over any driver, as the director is, and knows nothing of it.
    core("pktgen", &["io", "memory", "wire"]),
    shell("pktgen::run", &["config", "io", "io::dpdk", "pktgen"]),
    // Asks the running director over its socket, or DPDK where none runs.
    shell(
        "doctor",
        &[
            "config",
            "control::socket",
            "control::status",
            "io",
            "io::dpdk",
            "version",
        ],
    ),
    // Of the process, and of nothing else here.
    shell("privileges", &[]),
    shell("supervision", &[]),
    shell(
        "run",
        &[
            "api",
            "clock",
            "config",
            "control",
            "control::saved",
            "counters",
            "director",
            "io",
            "io::dpdk",
            "memory",
            "privileges",
            "supervision",
            "version",
            "wire",
            "worker",
        ],
    ),
    shell(
        "cli",
        &[
            "capture",
            "config",
            "control",
            "control::command",
            "control::status",
            "doctor",
            "explain::FRAMES_MAX",
            "io::PortCapabilities",
            "io::dpdk::running_version",
            "io::sharing::Sharing",
            "ipvsadm",
            "pktgen",
            "pktgen::run",
            "realserver",
            "run",
            "service",
            "version",
            "wire",
        ],
    ),
];

/// What the core must not name: clocks, threads, files, sockets, the terminal.
pub(crate) const SHELL_ITEMS: [&str; 20] = [
    "File",
    "Instant",
    "MonotonicClock",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "eprintln",
    "fs",
    "libc",
    "print",
    "println",
    "process",
    "rustix",
    "signal_hook",
    "socket2",
    "thread",
    "tun_rs",
];
