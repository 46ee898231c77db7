//! What an operator configured: one validated value, made from one TOML file.
//!
//! Only this module says "invalid". What it hands on is consistent: addresses
//! do not overlap, names resolve, numbers are in range. What a file leaves out
//! has a default. Every mistake in a file is reported at once, with its line
//! and with what to write instead ([`ConfigErrors`]); what works but is
//! probably not meant is a [`ConfigWarning`].
//!
//! The file is walked as a tree of TOML values that know their place, not
//! deserialized by derive: that would stop at the first mistake, and could not
//! point at the lines of a mistake that two values make together.
#![forbid(unsafe_code)]

mod address;
mod api;
mod change;
mod check;
mod device_queues;
mod director;
mod error;
mod format;
mod hint;
mod machine;
mod marks;
mod memory;
mod network;
mod port;
mod reader;
mod report;
mod routes;
mod rules;
mod services;
mod source;
mod syntax;
mod warning;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;

pub use self::{
    change::needs_restart,
    director::CONTROL_SOCKET_DEFAULT,
    error::{ConfigError, ConfigErrors, Problem},
    format::{FORMAT, KeyFormat, TableFormat},
    hint::{DeviceHint, KeyHint, MacProblem, WrongText},
    machine::Machine,
    memory::{MemoryNeed, memory_need},
    report::check_report,
    source::{Line, Place},
    warning::{ConfigWarning, Doubt},
};
use self::{
    network::Network,
    reader::{Findings, TableReader},
};
use crate::{
    service::{
        MarkGroup, ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts, Tunables,
    },
    wire::ethernet::MacAddr,
};

/// Reads the file for this machine and logs its warnings.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_for(path, &Machine::detect()).map(Loaded::logged)
}

/// Reads a text for this machine and logs its warnings. `file_name` stands in
/// messages.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    parse_for(text, file_name, &Machine::detect()).map(Loaded::logged)
}

/// Reads the file for a given machine.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn load_for(path: &Path, machine: &Machine) -> Result<Loaded, ConfigErrors> {
    load_files(Files::of(path), machine)
}

/// The files that make up a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Files<'p> {
    /// The TOML file.
    pub config: &'p Path,
    /// Services in the language of `ipvsadm`, in place of those in the file
    /// that `services_file` names.
    pub services: Option<&'p Path>,
}

impl<'p> Files<'p> {
    /// The TOML file, and what it names itself.
    pub const fn of(config: &'p Path) -> Self {
        Self {
            config,
            services: None,
        }
    }
}

/// Reads files for a given machine.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load_files(files: Files<'_>, machine: &Machine) -> Result<Loaded, ConfigErrors> {
    let Files {
        config: path,
        services,
    } = files;
    let file = path.display().to_string();
    let refuse = |problem| {
        let error = ConfigError {
            file: file.clone(),
            place: None,
            problem,
        };
        Err(ConfigErrors {
            errors: vec![error],
        })
    };
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse_with(&text, &file, services, machine),
        Ok(Err(_)) => refuse(Problem::NotUtf8),
        Err(error) => refuse(Problem::Unreadable(error.to_string())),
    }
}

/// Reads a text for a given machine. `file_name` stands in messages, and
/// `services_file` is relative to its directory.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_for(text: &str, file_name: &str, machine: &Machine) -> Result<Loaded, ConfigErrors> {
    parse_with(text, file_name, None, machine)
}

fn parse_with(
    text: &str,
    file_name: &str,
    services_file: Option<&Path>,
    machine: &Machine,
) -> Result<Loaded, ConfigErrors> {
    // What the parser could rescue of a broken text is no ground for further
    // complaints.
    let root = syntax::parse(text, file_name)?;
    let mut findings = Findings::new(file_name, text);
    let file = TableReader::open(&format::FILE, root.span(), root.get_ref(), &mut findings);
    let config = read(&file, file_name, services_file, machine, &mut findings);
    let warnings = findings.finish()?;
    Ok(Loaded { config, warnings })
}

/// Reads everything. What it returns is worth nothing if it finds problems.
fn read(
    file: &TableReader<'_, '_>,
    file_name: &str,
    services_file: Option<&Path>,
    machine: &Machine,
    findings: &mut Findings<'_>,
) -> Config {
    let (eal, memory_place) = director::read_eal(file, findings);
    let (director, named) = director::read_director(file, &eal.file_prefix, machine, findings);
    let api = api::read_api(file, findings);
    let before = findings.problem_count();
    let network = Network::read(file, findings);
    let routes = routes::read_routes(file, &network, findings);
    let is_network_right = findings.problem_count() == before;
    check::check_nodes(&network, &director.worker_cores, machine, findings);
    let neighbors = routes::read_neighbors(file, &network, findings);
    let mut services = services::read_services(file, findings);
    if let Some(path) = services_file.map(Path::to_owned).or_else(|| {
        // Beside the file that names it.
        let folder = Path::new(file_name).parent()?;
        Some(folder.join(named?))
    }) {
        rules::read_rules(&path, &mut services, findings);
    }
    let marks = marks::read_marks(file, findings);
    check::check_roles(&network, &routes, &neighbors, (&marks, &services), findings);
    if is_network_right {
        check::check_reachable(&network, &routes, &services, findings);
    }
    let config = Config {
        director,
        eal,
        api,
        ports: network
            .ports
            .into_iter()
            .map(port::PortDraft::finish)
            .collect(),
        routes: routes.into_iter().map(routes::RouteDraft::finish).collect(),
        neighbors: neighbors.into_iter().map(|draft| draft.neighbor).collect(),
        mark_groups: marks.into_iter().map(marks::MarkDraft::finish).collect(),
        services: services
            .into_iter()
            .map(services::ServiceDraft::finish)
            .collect(),
    };
    memory::check(&config, memory_place, findings);
    config
}

/// A configuration, and what about it is doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In file order; mostly none.
    pub warnings: Vec<ConfigWarning>,
}

impl Loaded {
    /// The configuration, its warnings having gone to the log.
    pub fn logged(self) -> Config {
        for warning in &self.warnings {
            log::warn!("{warning}");
        }
        self.config
    }
}

/// A whole, validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[director]`
    pub director: DirectorConfig,
    /// `[eal]`
    pub eal: EalConfig,
    /// `[api]`
    pub api: Option<ApiConfig>,
    /// `[[port]]`, in file order; at least one.
    pub ports: Vec<PortConfig>,
    /// `[[route]]`, in file order. Connected networks are not in it.
    pub routes: Vec<RouteConfig>,
    /// `[[neighbor]]`, in file order.
    pub neighbors: Vec<NeighborConfig>,
    /// `[[fwmark]]`, in file order.
    pub mark_groups: Vec<MarkGroup>,
    /// `[[service]]`, in file order.
    pub services: Vec<ServiceConfig>,
}

/// `[director]`: the threads, the tables and the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorConfig {
    /// `workers`: the core of each worker; at least one, no core twice.
    pub worker_cores: Vec<usize>,
    /// `management_core`: the core of the management thread, or any.
    pub management_core: Option<usize>,
    /// `idle`: what a worker does when all its queues are empty; `None` when
    /// the kind of ports shall decide.
    pub idle: Option<IdlePolicy>,
    /// `connections_max`: connections that each worker can hold.
    pub connections_max: usize,
    /// `templates_max`: persistence templates that all workers together can
    /// hold.
    pub templates_max: u32,
    /// `control_socket`
    pub control_socket: PathBuf,
    /// `netlink_socket`: where `ipvsadm` and `keepalived` are answered.
    pub netlink_socket: PathBuf,
    /// `netlink_group`: who may use it besides root, by name or number.
    pub netlink_group: Option<String>,
    /// `state_file`: where services and settings outlive the director; `None`
    /// when they do not.
    pub state_file: Option<PathBuf>,
    /// `control_group`: name or number of the group that may use it.
    pub control_group: Option<String>,
    /// `user`: name or number of the user that the director is once it has
    /// started.
    pub user: Option<String>,
    /// `group`: in place of that user's own.
    pub group: Option<String>,
    /// `[director.timeouts]`
    pub timeouts: Timeouts,
    /// `[director.ipvs]`: the kernel's settings under their own names.
    pub tunables: Tunables,
    /// `icmp_rate_per_s`: ICMP errors sent a second at most, all clients
    /// together; 0 means no limit. "Fragmentation needed" is exempt and has a
    /// limit of its own, ten times as high.
    pub icmp_rate_per_s: u32,
}

/// What a worker does when all its queues have been empty for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Poll on: lowest latency, one core busy all the time.
    Poll,
    /// Pause for short, bounded times.
    Adaptive,
}

/// `[api]`: the director over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// `listen`: a loopback address when there is no token.
    pub listen: ApiListen,
    /// `token_file`: what clients have to say stands there.
    pub token_file: Option<PathBuf>,
    /// `read_token_file`: those who say what stands there may read and change
    /// nothing.
    pub read_token_file: Option<PathBuf>,
    /// `metrics_without_token`: whether anybody may read the metrics.
    pub metrics_without_token: bool,
}

/// Where HTTP is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiListen {
    /// A TCP port of the host.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// `[eal]`: how DPDK's environment abstraction layer is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// `hugepages`
    pub hugepages: Hugepages,
    /// `memory_mib`: memory that DPDK takes at start.
    pub memory_mib: u32,
    /// `memory_channels`: `-n`, or DPDK's own guess.
    pub memory_channels: Option<u32>,
    /// `file_prefix`: keeps directors on one host apart.
    pub file_prefix: String,
    /// `extra_arguments`: handed to `rte_eal_init` as they are.
    pub extra_arguments: Vec<String>,
}

/// Where DPDK's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages when there are enough, else ordinary pages with a warning.
    Auto,
    /// Hugepages, or the director does not start.
    Required,
    /// Ordinary pages.
    None,
}

/// `[[port]]`: one NIC port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// `name`: how routes, messages and tables name it.
    pub name: String,
    /// `device`
    pub device: Device,
    /// `addresses`: the director's own addresses with their connected network.
    pub addresses: Vec<IpNet>,
    /// `mtu`: largest IP packet in bytes, 68 to 9702.
    pub mtu: u16,
    /// `vlan`: the 802.1Q tag that frames of this port carry.
    pub vlan: Option<u16>,
    /// `mac`: in place of the device's own.
    pub mac: Option<MacAddr>,
    /// `rx_descriptors`: length of each receive queue.
    pub rx_descriptors: u16,
    /// `tx_descriptors`: length of each transmit queue.
    pub tx_descriptors: u16,
}

/// What a port stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A PCI address as DPDK writes it, `0000:01:00.0`.
    Pci(String),
    /// A virtual device, `net_af_packet0,iface=veth0`.
    Vdev(String),
}

/// `[[route]]`: a static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// `to`: the destination network; "default" is 0.0.0.0/0, or `::/0` with an
    /// IPv6 gateway.
    pub to: IpNet,
    /// What happens to packets that take it.
    pub action: RouteAction,
}

/// What happens to packets that take a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// They leave by a port.
    Forward {
        /// `via`: the gateway; without one the destination is on the link.
        via: Option<IpAddr>,
        /// `port`: index into [`Config::ports`]; found from `via` when the
        /// file does not say.
        port: usize,
        /// `source`: outer source address in place of the port's own.
        source: Option<IpAddr>,
        /// `mtu`: in place of the port's.
        mtu: Option<u16>,
    },
    /// `type = "unreachable"`: the sender is told.
    Unreachable,
    /// `type = "blackhole"`: likewise told, as Linux IPVS does for a real
    /// server behind such a route.
    Blackhole,
}

/// `[[neighbor]]`: a permanent neighbor, as
/// `ip neigh replace ADDRESS lladdr MAC dev PORT nud permanent` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborConfig {
    /// `port`: index into [`Config::ports`].
    pub port: usize,
    /// `address`
    pub address: IpAddr,
    /// `mac`: never asked for, never aged.
    pub mac: MacAddr,
}

/// `[[service]]` with its real servers in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `address` and `protocol`
    pub key: ServiceKey,
    /// `scheduler`
    pub options: ServiceOptions,
    /// `[[service.real_server]]`, added in this order as with `ipvsadm -a`.
    pub servers: Vec<(ServerKey, ServerOptions)>,
}
