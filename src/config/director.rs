//! `[director]` and `[eal]`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{
    DirectorConfig, EalConfig, Hugepages, IdlePolicy, Machine,
    error::Problem,
    format::{DIRECTOR, EAL, IPVS, TIMEOUTS},
    hint::WrongText,
    port::parse_name,
    reader::{Findings, Span, TableReader},
    warning::Doubt,
};
use crate::service::{TUNABLES, Timeouts, Tunables};

/// Reads `[director]`; what it does not say, or says wrongly, has its default.
/// With the file of services that it names.
pub(super) fn read_director(
    file: &TableReader<'_, '_>,
    file_prefix: &str,
    machine: &Machine,
    findings: &mut Findings<'_>,
) -> (DirectorConfig, Option<PathBuf>) {
    let mut director = DirectorConfig {
        worker_cores: vec![machine.default_worker()],
        management_core: None,
        idle: None,
        connections_max: CONNECTIONS_MAX_DEFAULT,
        templates_max: TEMPLATES_MAX_DEFAULT,
        control_socket: PathBuf::from(CONTROL_SOCKET_DEFAULT),
        netlink_socket: netlink_socket_beside(Path::new(CONTROL_SOCKET_DEFAULT)),
        netlink_group: None,
        state_file: Some(state_file_default(file_prefix)),
        control_group: None,
        user: None,
        group: None,
        timeouts: Timeouts::default(),
        tunables: Tunables::default(),
        icmp_rate_per_s: ICMP_RATE_DEFAULT,
    };
    let Some(table) = file.table("director", &DIRECTOR, findings) else {
        return (director, None);
    };
    if let Some(cores) = read_workers(&table, machine, findings) {
        director.worker_cores = cores;
    }
    if let Some(core) = table.number("management_core", 0..=CORE_MAX, "", findings) {
        director.management_core = to_core(&core, machine, findings);
        if let Some(number) = director.management_core
            && director.worker_cores.contains(&number)
        {
            findings.doubt(core.span(), Doubt::ManagementOnWorkerCore(number));
        }
    }
    let policies = [
        ("poll", IdlePolicy::Poll),
        ("adaptive", IdlePolicy::Adaptive),
    ];
    director.idle = table
        .choice("idle", &policies, findings)
        .map(Spanned::into_inner);
    let range = CONNECTIONS_MAX_RANGE;
    if let Some(max) = table.number("connections_max", range, CONNECTIONS_UNIT, findings) {
        director.connections_max = usize::try_from(*max.get_ref()).unwrap_or(usize::MAX);
    }
    if let Some(max) = table.number("templates_max", TEMPLATES_MAX_RANGE, "", findings) {
        director.templates_max = max.into_inner();
    }
    read_sockets(&table, &mut director, findings);
    if let Some(path) = table.parsed("state_file", parse_state_file, findings) {
        director.state_file = path.into_inner();
    }
    read_identity(&table, &mut director, findings);
    if let Some(rate) = table.number(
        "icmp_rate_per_s",
        0..=u32::MAX,
        " (0 is no limit)",
        findings,
    ) {
        director.icmp_rate_per_s = rate.into_inner();
    }
    director.timeouts = read_timeouts(&table, findings);
    director.tunables = read_tunables(&table, findings);
    let services_file = table.text("services_file", findings);
    (
        director,
        services_file.map(|path| PathBuf::from(path.into_inner())),
    )
}

/// Whom the director runs as and who may ask it: by names, since the machine
/// that checks a file need not be the one that has these users.
fn read_identity(
    table: &TableReader<'_, '_>,
    director: &mut DirectorConfig,
    findings: &mut Findings<'_>,
) {
    for (key, what, name) in [
        ("control_group", "group", &mut director.control_group),
        ("user", "user", &mut director.user),
        ("group", "group", &mut director.group),
    ] {
        let parse = |text: &str| parse_name(text, what);
        *name = table.parsed(key, parse, findings).map(Spanned::into_inner);
    }
}

/// Reads `[eal]`; what it does not say, or says wrongly, has its default.
/// With the place of `memory_mib`, when it is there.
pub(super) fn read_eal(
    file: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> (EalConfig, Option<Span>) {
    let mut eal = EalConfig {
        hugepages: Hugepages::Auto,
        memory_mib: MEMORY_MIB_DEFAULT,
        memory_channels: None,
        file_prefix: FILE_PREFIX_DEFAULT.to_owned(),
        extra_arguments: Vec::new(),
    };
    let Some(table) = file.table("eal", &EAL, findings) else {
        return (eal, None);
    };
    let choices = [
        ("auto", Hugepages::Auto),
        ("required", Hugepages::Required),
        ("none", Hugepages::None),
    ];
    if let Some(hugepages) = table.choice("hugepages", &choices, findings) {
        eal.hugepages = hugepages.into_inner();
    }
    if let Some(memory) = table.number("memory_mib", MEMORY_MIB_RANGE, " MiB", findings) {
        eal.memory_mib = memory.into_inner();
    }
    eal.memory_channels = table
        .number("memory_channels", 1..=32, "", findings)
        .map(Spanned::into_inner);
    let prefix = |text: &str| parse_name(text, "file prefix");
    if let Some(prefix) = table.parsed("file_prefix", prefix, findings) {
        eal.file_prefix = prefix.into_inner();
    }
    for argument in table.texts("extra_arguments", findings).unwrap_or_default() {
        match reserved(argument.get_ref()) {
            Some(instead) => {
                let argument_text = (*argument.get_ref()).to_owned();
                let problem = Problem::ReservedArgument {
                    argument: argument_text,
                    instead,
                };
                findings.refuse(argument.span(), problem);
            }
            None => eal.extra_arguments.push((*argument.get_ref()).to_owned()),
        }
    }
    (eal, table.value_span("memory_mib"))
}

fn read_workers(
    table: &TableReader<'_, '_>,
    machine: &Machine,
    findings: &mut Findings<'_>,
) -> Option<Vec<usize>> {
    let core = |value: &toml::de::DeValue<'_>| {
        let integer = value.as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    };
    let cores = table.list("workers", "the number of a core", core, findings)?;
    if cores.get_ref().is_empty() {
        findings.refuse(cores.span(), Problem::NoWorkers);
    }
    let count = cores.get_ref().len();
    if count > WORKERS_MAX {
        findings.refuse(
            cores.span(),
            Problem::TooManyWorkers {
                count,
                max: WORKERS_MAX,
            },
        );
    }
    let mut workers = Vec::with_capacity(count);
    for core in cores.into_inner() {
        let Some(number) = to_core(&core, machine, findings) else {
            continue;
        };
        if workers.contains(&number) {
            findings.refuse(core.span(), Problem::WorkerTwice(number));
        }
        workers.push(number);
    }
    Some(workers)
}

fn to_core(core: &Spanned<u64>, machine: &Machine, findings: &mut Findings<'_>) -> Option<usize> {
    let number = usize::try_from(*core.get_ref()).unwrap_or(usize::MAX);
    if machine.has_core(number) {
        return Some(number);
    }
    let problem = Problem::NoSuchCore {
        core: number,
        cores: machine.to_string(),
    };
    findings.refuse(core.span(), problem);
    None
}

fn read_timeouts(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(table) = table.table("timeouts", &TIMEOUTS, findings) else {
        return timeouts;
    };
    for (name, timeout) in [
        ("tcp", &mut timeouts.tcp),
        ("tcp_fin", &mut timeouts.tcp_fin),
        ("udp", &mut timeouts.udp),
    ] {
        if let Some(seconds) = table.number(name, 1..=Timeouts::MAX_S, TIMEOUT_UNIT, findings) {
            *timeout = seconds.into_inner();
        }
    }
    timeouts
}

fn read_tunables(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> Tunables {
    let mut tunables = Tunables::default();
    let Some(table) = table.table("ipvs", &IPVS, findings) else {
        return tunables;
    };
    for tunable in &TUNABLES {
        let value = if tunable.is_switch() {
            table.switch(tunable.name, findings).map(u32::from)
        } else {
            let number = table.number(tunable.name, 0..=tunable.max, "", findings);
            number.map(Spanned::into_inner)
        };
        if let Some(value) = value {
            // In range, as has been checked.
            let _ = tunable.set(&mut tunables, value);
        }
    }
    tunables
}

fn read_sockets(
    table: &TableReader<'_, '_>,
    director: &mut DirectorConfig,
    findings: &mut Findings<'_>,
) {
    let path_of = |key| move |text: &str| parse_socket_path(text, key);
    if let Some(path) = table.parsed(CONTROL_SOCKET, path_of(CONTROL_SOCKET), findings) {
        director.control_socket = path.into_inner();
    }
    director.netlink_socket = table
        .parsed(NETLINK_SOCKET, path_of(NETLINK_SOCKET), findings)
        .map_or_else(
            || netlink_socket_beside(&director.control_socket),
            Spanned::into_inner,
        );
    let group = |text: &str| parse_name(text, "group");
    director.netlink_group = table
        .parsed("netlink_group", group, findings)
        .map(Spanned::into_inner);
}

/// `netlink_socket` when the file does not say: `ipvs.sock` beside
/// `control.sock`, and `NAME-ipvs.sock` beside another one, since directors may
/// share a directory.
fn netlink_socket_beside(control_socket: &Path) -> PathBuf {
    let name = control_socket.file_stem().unwrap_or_default();
    control_socket.with_file_name(match name.to_str() {
        Some("control") | None => "ipvs.sock".to_owned(),
        Some(name) => format!("{name}-ipvs.sock"),
    })
}

fn parse_socket_path(text: &str, key: &'static str) -> Result<PathBuf, Problem> {
    if text.starts_with('/') && text.len() <= SOCKET_PATH_LEN_MAX && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        Err(WrongText {
            key,
            value: text.to_owned(),
            expected: "a path that begins with / and has at most 107 bytes",
        }
        .into())
    }
}

/// `None` for a director that keeps nothing.
fn parse_state_file(text: &str) -> Result<Option<PathBuf>, Problem> {
    match text {
        "none" => Ok(None),
        path if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') => {
            Ok(Some(PathBuf::from(path)))
        }
        _ => Err(WrongText {
            key: "state_file",
            value: text.to_owned(),
            expected: "a path that begins with /, or \"none\" to keep nothing",
        }
        .into()),
    }
}

/// `state_file` when the file does not say: directors that run side by side
/// have file prefixes of their own.
fn state_file_default(file_prefix: &str) -> PathBuf {
    PathBuf::from(format!("/var/lib/pointsman/{file_prefix}.json"))
}

/// The key that stands for this EAL argument, when one does.
fn reserved(argument: &str) -> Option<&'static str> {
    let name = argument.split('=').next().unwrap_or_default();
    match name {
        "--lcores" | "--main-lcore" => Some("`workers` in [director]"),
        "--vdev" | "--allow" => Some("it as `device` of a [[port]]"),
        "--no-huge" | "--in-memory" => Some("`hugepages`"),
        "--file-prefix" => Some("`file_prefix`"),
        _ if name.starts_with("--") => None,
        // Short options may carry their value: "-l0-3".
        _ if name.starts_with("-l") || name.starts_with("-c") => Some("`workers` in [director]"),
        _ if name.starts_with("-a") => Some("it as `device` of a [[port]]"),
        _ if name.starts_with("-n") => Some("`memory_channels`"),
        _ if name.starts_with("-m") => Some("`memory_mib`"),
        _ => None,
    }
}

/// `connections_max` when the file does not say.
pub(super) const CONNECTIONS_MAX_DEFAULT: usize = 1_000_000;
const CONTROL_SOCKET: &str = "control_socket";
const NETLINK_SOCKET: &str = "netlink_socket";

/// `control_socket` when the file does not say: where clients look too.
pub const CONTROL_SOCKET_DEFAULT: &str = "/run/pointsman/control.sock";

const ICMP_RATE_DEFAULT: u32 = 1000;
const MEMORY_MIB_DEFAULT: u32 = 512;
const FILE_PREFIX_DEFAULT: &str = "pointsman";

const CONNECTIONS_MAX_RANGE: std::ops::RangeInclusive<u64> = 1024..=100_000_000;
const TEMPLATES_MAX_DEFAULT: u32 = 131_072;
const TEMPLATES_MAX_RANGE: std::ops::RangeInclusive<u32> = 1024..=67_108_864;
const CONNECTIONS_UNIT: &str = " (connections of each worker, about 157 bytes each)";
const MEMORY_MIB_RANGE: std::ops::RangeInclusive<u32> = 64..=1_048_576;
const TIMEOUT_UNIT: &str = " seconds (31 days)";
/// `RTE_MAX_LCORE` of DPDK's default build, one of which is the management
/// thread's.
const WORKERS_MAX: usize = 127;
const CORE_MAX: u64 = 65_535;
/// `sizeof(sockaddr_un.sun_path)` less the closing zero, unix(7).
pub(super) const SOCKET_PATH_LEN_MAX: usize = 107;
