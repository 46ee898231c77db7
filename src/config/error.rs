//! What can be wrong with a configuration file, and how that is said.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{
    hint::{DeviceHint, KeyHint, MacProblem, WrongText},
    source::{Line, Place, Printable},
};
use crate::{ipvsadm::rules::RuleProblem, service::ServiceKey};

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().take(ERRORS_SHOWN_MAX).enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        match self.errors.len().saturating_sub(ERRORS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more errors"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// More errors than these are counted only: an operator reads the first ones.
const ERRORS_SHOWN_MAX: usize = 50;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}{}", At { file, place }, Printable(problem), Excerpt(place))]
pub struct ConfigError {
    /// The file as it was named to us.
    pub file: String,
    /// Where in the file; `None` when it is about the whole of it.
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: Problem,
}

/// A file and the line in it.
pub(super) struct At<'a> {
    pub(super) file: &'a str,
    pub(super) place: &'a Option<Place>,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}:{}", self.file, place.line),
            None => f.write_str(self.file),
        }
    }
}

/// The line itself, when there is one.
pub(super) struct Excerpt<'a>(pub(super) &'a Option<Place>);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |place| place.fmt(f))
    }
}

/// Why a configuration is refused. Each message says what is wrong and, after
/// the semicolon, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    // The file as a whole.
    /// The file could not be read.
    #[error("cannot be read: {0}; name a readable configuration file")]
    Unreadable(String),
    /// The file is not UTF-8 text.
    #[error("is not UTF-8 text; save it in that encoding")]
    NotUtf8,
    /// The text is not TOML. Holds what is wrong and what to write.
    #[error("{0}")]
    Syntax(String),

    // Keys and the types of their values.
    /// No such key here.
    #[error("unknown key `{key}` in {table}; {hint}")]
    UnknownKey {
        /// As the file has it.
        key: String,
        /// The header of the table.
        table: &'static str,
        /// What was probably meant.
        hint: KeyHint,
    },
    /// No such table.
    #[error("unknown table [{key}]; {hint}")]
    UnknownTable {
        /// As the file has it.
        key: String,
        /// What was probably meant.
        hint: KeyHint,
    },
    /// A required key is not there.
    #[error("{table} has no `{key}`; write for example `{key} = {example}`")]
    MissingKey {
        /// The header of the table.
        table: &'static str,
        /// The key that is missing.
        key: &'static str,
        /// A value it could have.
        example: &'static str,
    },
    /// A value of another type.
    #[error("`{key}` is {found}, not {expected}; write for example `{key} = {example}`")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What stands there, with an article.
        found: &'static str,
        /// What must stand there, with an article.
        expected: &'static str,
        /// A value it could have.
        example: &'static str,
    },
    /// An element of a list of another type.
    #[error(
        "`{key}` holds {found} where {expected} must stand; write for example `{key} = {example}`"
    )]
    WrongElementType {
        /// The key.
        key: &'static str,
        /// What stands there, with an article.
        found: &'static str,
        /// What must stand there, with an article.
        expected: &'static str,
        /// A value it could have.
        example: &'static str,
    },
    /// `port = ...` or `[port]` where `[[port]]` must stand, or the like.
    #[error("`{key}` must be a list of tables; write {header} on a line of its own above each")]
    NotATableList {
        /// The key.
        key: &'static str,
        /// How each table is opened.
        header: &'static str,
    },
    /// `director = ...` where `[director]` must stand, or the like.
    #[error("`{key}` must be a table; write {header} on a line of its own and its keys below")]
    NotATable {
        /// The key.
        key: &'static str,
        /// How the table is opened.
        header: &'static str,
    },
    /// A number out of range.
    #[error("`{key}` is {value}; write a whole number from {min} to {max}{unit}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// As the file has it.
        value: String,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
        /// What it counts, with a space in front, or nothing.
        unit: &'static str,
    },
    /// A word that is not one of the choices.
    #[error("`{key}` cannot be \"{value}\"; write {choices}")]
    NotAChoice {
        /// The key.
        key: &'static str,
        /// As the file has it.
        value: String,
        /// What it can be.
        choices: String,
    },

    // Single values.
    /// Not an address.
    #[error("\"{value}\" is not an IP address; write for example {example}")]
    NotAnAddress {
        /// As the file has it.
        value: String,
        /// A value it could have.
        example: &'static str,
    },
    /// Not an address with a prefix length.
    #[error("\"{value}\" is not an IP address with its prefix length; write for example {example}")]
    NotANetwork {
        /// As the file has it.
        value: String,
        /// A value it could have.
        example: &'static str,
    },
    /// An address where a network is wanted.
    #[error("\"{value}\" lacks the length of its network; write for example \"{value}/{length}\"")]
    NoPrefixLength {
        /// As the file has it.
        value: IpAddr,
        /// What it is likely to be.
        length: u8,
    },
    /// A network with bits behind the prefix.
    #[error("{0} has bits set behind its prefix length; write \"{network}\"", network = .0.trunc())]
    HostBits(IpNet),
    /// `192.0.2.1/0`
    #[error(
        "{0} would put every address on the port's own network; write its real prefix length, \
         and [[route]] with `to = \"default\"` for the rest"
    )]
    EverythingConnected(IpNet),
    /// A service address without service port.
    #[error(
        "\"{0}\" lacks the service port; write for example \"{example}\"",
        example = SocketAddr::new(*.0, 80)
    )]
    NoServicePort(IpAddr),
    /// Not a service address at all.
    #[error(
        "\"{0}\" is not a VIP with a service port; write for example \"198.51.100.10:80\" or \"[2001:db8::10]:80\""
    )]
    NotAServiceAddress(String),
    /// Service port 0.
    #[error(
        "service port 0 stands for all ports, on which clients find their real server by \
         persistence; write `persistence_s = 360` too, or one [[service]] for each service port"
    )]
    ServicePortZero,
    /// A network of VIPs that is everything.
    #[error("{0} would take every packet for a VIP; write the networks that are yours")]
    AllVips(IpNet),
    /// Ports of a firewall mark that are none.
    #[error("\"{0}\" is no port and no range of ports; write for example \"80\" or \"8000-8999\"")]
    NotPorts(String),
    /// A service by mark that has an address or a protocol.
    #[error(
        "a service by `fwmark` has the packets that [[fwmark]] says; remove `{0}`, or `fwmark`"
    )]
    MarkAndAddress(&'static str),
    /// The IP version of a service that has an address.
    #[error("`ipv6` is for services by `fwmark`, an address says it itself; remove it")]
    Ipv6WithoutMark,
    /// A service by a mark that no packet has.
    #[error("no [[fwmark]] has this number; add one that says which packets have `number = {0}`")]
    NoSuchMark(u32),
    /// An address that is no VIP in a network of VIPs.
    #[error(
        "{network} is for VIPs and holds {address}, which is {other} in line {line}; write \
         smaller networks that leave it out"
    )]
    VipNetworkHolds {
        /// The network.
        network: IpNet,
        /// The address.
        address: IpAddr,
        /// What that is for.
        other: &'static str,
        /// Where it stands.
        line: Line,
    },
    /// A network of outer sources that is too small or too large.
    #[error("`outer_source` cannot be {network}; write a prefix length from {min} to {max}")]
    OuterSourceLength {
        /// The network.
        network: IpNet,
        /// The shortest prefix.
        min: u8,
        /// The longest prefix.
        max: u8,
    },
    /// A network of outer sources that nothing comes from.
    #[error(
        "`outer_source` is an {family} network, and all real servers have {other} addresses; \
         write an {other} network, or remove it"
    )]
    OuterSourceOfOtherFamily {
        /// Of the network: "IPv4" or "IPv6".
        family: &'static str,
        /// Of the real servers.
        other: &'static str,
    },
    /// An address that is no outer source in a network of them.
    #[error(
        "outer packets come from all of {network}, and {address} is {other} in line {line}; \
         write a network that nothing else has an address in"
    )]
    OuterSourceHolds {
        /// The network.
        network: IpNet,
        /// The address.
        address: IpAddr,
        /// What that is for.
        other: &'static str,
        /// Where it stands.
        line: Line,
    },
    /// A network of outer sources with an address that no host has.
    #[error(
        "outer packets come from all of {network}, and {address} is the {kind} address of \
         {connected}; write a network that leaves it out"
    )]
    OuterSourceNotAHost {
        /// The network.
        network: IpNet,
        /// The address.
        address: IpAddr,
        /// "network" or "broadcast".
        kind: &'static str,
        /// The port's network.
        connected: IpNet,
    },
    /// A network of clients without persistence.
    #[error("`persistence_prefix_len` is for persistent services; write `persistence_s` too")]
    PrefixLenWithoutPersistence,
    /// A real server with an L4 port.
    #[error(
        "a real server has no port of its own, since a tunnelled packet keeps its destination \
         port; write \"{0}\""
    )]
    RealServerWithPort(IpAddr),
    /// An address that no host can have.
    #[error("{address} is {kind} and cannot be {role}; write a unicast address")]
    NotUnicast {
        /// The address.
        address: IpAddr,
        /// What it is instead, with an article.
        kind: &'static str,
        /// What it should have been, with an article.
        role: &'static str,
    },
    /// A link-local address where packets come from or go beyond the link.
    #[error(
        "{address} is a link-local address and cannot be {role}; write one that is valid \
         beyond the link"
    )]
    LinkLocal {
        /// The address.
        address: IpAddr,
        /// What it should have been, with an article.
        role: &'static str,
    },
    /// A link too narrow for IPv6.
    #[error("`mtu` {0} is too small for IPv6; write 1280 or more, or remove the IPv6 addresses")]
    MtuBelowIpv6(u16),
    /// Not a MAC address.
    #[error(transparent)]
    NotAMac(#[from] MacProblem),
    /// A name with odd characters or of odd length.
    #[error("\"{value}\" cannot be a {what}; write 1 to 32 letters, digits, `-`, `_` or `.`")]
    BadName {
        /// As the file has it.
        value: String,
        /// What it names.
        what: &'static str,
    },
    /// A path or address that cannot be what the key wants.
    #[error(transparent)]
    WrongText(#[from] WrongText),
    /// An EAL argument that another key stands for.
    #[error(
        "`extra_arguments` cannot hold {argument}, which the director sets itself; write {instead}"
    )]
    ReservedArgument {
        /// As the file has it.
        argument: String,
        /// The key that sets it.
        instead: &'static str,
    },

    // Cores.
    /// No worker at all.
    #[error("`workers` is empty; write the core of at least one worker, such as `workers = [1]`")]
    NoWorkers,
    /// More workers than DPDK has thread numbers for.
    #[error("`workers` lists {count} cores; write {max} at most")]
    TooManyWorkers {
        /// As the file has it.
        count: usize,
        /// The most that can be.
        max: usize,
    },
    /// A core twice.
    #[error("core {0} stands twice in `workers`; give each worker a core of its own")]
    WorkerTwice(usize),
    /// No such core.
    #[error("this machine has no core {core}; write one of its cores {cores}")]
    NoSuchCore {
        /// As the file has it.
        core: usize,
        /// Those that exist.
        cores: String,
    },

    // Ports.
    /// No `[[port]]`.
    #[error(
        "there is no [[port]]; write at least one with `name`, `device` and `addresses`, \
         dpdk-config/ has samples"
    )]
    NoPort,
    /// More ports than DPDK takes.
    #[error("there are {count} ports; write {max} at most")]
    TooManyPorts {
        /// As the file has it.
        count: usize,
        /// The most that can be.
        max: usize,
    },
    /// A name twice.
    #[error("port \"{name}\" stands already in line {line}; give each port a name of its own")]
    PortNameTwice {
        /// The name.
        name: String,
        /// Where it stands first.
        line: usize,
    },
    /// A device twice.
    #[error(
        "device \"{device}\" stands already in line {line}; give each port a device of its own"
    )]
    DeviceTwice {
        /// The PCI address or the name of the virtual device.
        device: String,
        /// Where it stands first.
        line: usize,
    },
    /// Neither a PCI address nor a virtual device.
    #[error("\"{value}\" cannot be a port's `device`; {hint}")]
    NotADevice {
        /// As the file has it.
        value: String,
        /// What to write.
        hint: DeviceHint,
    },
    /// A mempool too large for EAL's memory.
    #[error(
        "`memory_mib` is {given}, but packet buffers and DPDK itself take {needed} MiB; write \
         `memory_mib = {needed}` or more, or fewer descriptors or workers"
    )]
    MemoryTooSmall {
        /// As the file has it, or the default.
        given: u32,
        /// What is needed at least.
        needed: u64,
    },

    // Addresses.
    /// An own address twice.
    #[error("{address} stands already in line {line}; write each address once")]
    AddressTwice {
        /// The address.
        address: IpAddr,
        /// Where it stands first.
        line: usize,
    },
    /// Two ports on one network.
    #[error(
        "{network} overlaps {other} of port \"{port}\"; give each port a network of its own, or \
         use one port"
    )]
    NetworksOverlap {
        /// The later one.
        network: IpNet,
        /// The earlier one.
        other: IpNet,
        /// The port of the earlier one.
        port: String,
    },
    /// The first or last address of a connected network.
    #[error(
        "{address} is the {kind} address of {network} and cannot be {role}; write a host's address"
    )]
    NotAHost {
        /// The address.
        address: IpAddr,
        /// "network" or "broadcast".
        kind: &'static str,
        /// The connected network.
        network: IpNet,
        /// What it should have been, with an article.
        role: &'static str,
    },
    /// An address with two roles.
    #[error("{address} is {role} and, in line {line}, {other}; {instead}")]
    TwoRoles {
        /// The address.
        address: IpAddr,
        /// What it is here, with an article.
        role: &'static str,
        /// What it is there, with an article.
        other: &'static str,
        /// Where that is.
        line: Line,
        /// What to write.
        instead: &'static str,
    },

    // Routes and neighbors.
    /// A port that is not configured.
    #[error("there is no port \"{name}\"; write {known}")]
    NoSuchPort {
        /// As the file has it.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Neither gateway nor port.
    #[error(
        "the route to {0} has neither `via` nor `port`; write the gateway's address as `via`, or \
         the `port` when the destination is on its link"
    )]
    RouteGoesNowhere(IpNet),
    /// Keys that an unreachable or blackhole route cannot have.
    #[error(
        "a route of type \"{kind}\" sends nothing, so it has no `{key}`; remove the key or the type"
    )]
    RouteSendsNothing {
        /// Its type.
        kind: &'static str,
        /// The key that cannot be.
        key: &'static str,
    },
    /// A gateway that is not a neighbor.
    #[error("gateway {via} is on no network of {ports}; write an address in {networks}")]
    GatewayNotConnected {
        /// The gateway.
        via: IpAddr,
        /// Where it was looked for.
        ports: String,
        /// The networks there.
        networks: String,
    },
    /// A neighbor on none of its port's networks.
    #[error(
        "neighbor {address} is on no network of port \"{port}\"; write an address in {networks}"
    )]
    NeighborNotConnected {
        /// The neighbor.
        address: IpAddr,
        /// Its port.
        port: String,
        /// The networks there.
        networks: String,
    },
    /// A destination twice.
    #[error("there is a route to {to} already in line {line}; remove one of them")]
    RouteTwice {
        /// The destination.
        to: IpNet,
        /// Where it stands first.
        line: usize,
    },
    /// A route to a connected network.
    #[error("{to} is the network of port \"{port}\" itself; remove this route")]
    RouteToConnected {
        /// The destination.
        to: IpNet,
        /// The port that it is connected to.
        port: String,
    },
    /// A route larger than its port.
    #[error("the route's `mtu` {mtu} is above that of port \"{port}\"; write {port_mtu} or less")]
    RouteMtuAbovePort {
        /// Of the route.
        mtu: u16,
        /// The port.
        port: String,
        /// Of the port.
        port_mtu: u16,
    },
    /// No address that outer headers could have as source.
    #[error(
        "port \"{port}\" has no {family} address to send from; give it `addresses`, or the route \
         a `source`"
    )]
    NoSourceAddress {
        /// The port.
        port: String,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
    /// An address of the other IP version than the route's destination.
    #[error("the route to {to} is for {family}, and `{key}` is not; write an {family} address")]
    RouteOfOtherFamily {
        /// The destination.
        to: IpNet,
        /// Its family: "IPv4" or "IPv6".
        family: &'static str,
        /// "via" or "source".
        key: &'static str,
    },
    /// A link-local gateway without port.
    #[error(
        "gateway {0} is a link-local address, which could be on any port; write the `port` too"
    )]
    LinkLocalGateway(IpAddr),
    /// A neighbor twice.
    #[error("neighbor {address} stands already in line {line}; remove one of them")]
    NeighborTwice {
        /// The neighbor.
        address: IpAddr,
        /// Where it stands first.
        line: usize,
    },

    // Services.
    /// A service twice.
    #[error(
        "service {service} stands already in line {line}; put all real servers into one [[service]]"
    )]
    ServiceTwice {
        /// The service.
        service: ServiceKey,
        /// Where it stands first.
        line: usize,
    },
    /// A service in the configuration and in the file of services.
    #[error("service {service} stands already in line {line}; remove one of the two")]
    ServiceInBothFiles {
        /// The service.
        service: ServiceKey,
        /// Where it stands in the configuration.
        line: Line,
    },
    /// The file of services could not be read.
    #[error("cannot be read: {0}; name a file that `ipvsadm -Sn` wrote")]
    ServicesUnreadable(String),
    /// A line of the file of services.
    #[error(transparent)]
    Rule(RuleProblem),
    /// A real server twice in one service.
    #[error(
        "real server {address} stands already in line {line} of this service; give it a higher `weight` instead"
    )]
    RealServerTwice {
        /// The RIP.
        address: IpAddr,
        /// Where it stands first.
        line: usize,
    },
    /// Thresholds the wrong way round.
    #[error(
        "`lower_threshold` {lower} is above `upper_threshold` {upper}; write a lower one, or \
         leave it out for three quarters of the upper one"
    )]
    ThresholdsCrossed {
        /// `lower_threshold`
        lower: u32,
        /// `upper_threshold`
        upper: u32,
    },
    /// A lower threshold alone.
    #[error(
        "`lower_threshold` {0} has no effect without `upper_threshold`; write that too, or remove \
         this one"
    )]
    LowerThresholdAlone(u32),
    /// One-packet scheduling of a service that is not UDP.
    #[error(
        "one-packet scheduling is for UDP services only; write `protocol = \"udp\"`, or remove \
         `one_packet`"
    )]
    OnePacketWithoutUdp,
    /// A key of another kind of tunnel.
    #[error("`{key}` is for {tunnels} only; write that too, or remove this one")]
    OtherTunnel {
        /// The key.
        key: &'static str,
        /// The kinds of tunnels that have it.
        tunnels: &'static str,
    },
    /// Remote checksum offload without the checksum that it needs.
    #[error(
        "`tunnel_remote_checksum` needs the checksum of the outer header; write \
         `tunnel_checksum = true` or remove it"
    )]
    RemoteChecksumAlone,
    /// A real server that no route leads to.
    #[error(
        "no route leads to real server {rip}; write a [[route]] with `to = \"{to}\"` (or its \
         network, or \"default\") and `via = \"GATEWAY\"`",
        to = IpNet::from(*rip)
    )]
    NoRoute {
        /// The RIP.
        rip: IpAddr,
    },
}
