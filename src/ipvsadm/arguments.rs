//! The command line of `ipvsadm` 1.31, parsed into what it asks for.
//!
//! All options of that version are known. What this version of the director
//! cannot do is [`ArgumentError::Unsupported`]; what `ipvsadm` itself refuses
//! is [`ArgumentError::Invalid`], with its message and exit code where those
//! were recorded.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use clap::{
    ArgAction, CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{ArgumentError, Columns, Invocation, Listing};
use crate::{
    control::command::{Command, CommandError},
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{
        ClientMask, GueChecksum, PERSISTENCE_S_MAX, Persistence, Protocol, ServerKey,
        ServerOptions, ServiceKey, ServiceOptions, Timeouts, TunnelKind,
    },
};

/// Parses the arguments of `ipvsadm`, without its own name. Without arguments
/// it lists the services.
///
/// # Errors
///
/// When the director or `ipvsadm` cannot do what is asked for.
pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Invocation, ArgumentError> {
    CommandLine::default().parse(arguments)
}

/// A parser of command lines, for many of them.
#[derive(Debug)]
pub(super) struct CommandLine {
    command: clap::Command,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self {
            command: Arguments::command(),
        }
    }
}

impl CommandLine {
    /// See [`parse`].
    pub(super) fn parse<S: AsRef<str>>(
        &mut self,
        arguments: &[S],
    ) -> Result<Invocation, ArgumentError> {
        let words = std::iter::once("ipvsadm").chain(arguments.iter().map(AsRef::as_ref));
        let matches = self.command.try_get_matches_from_mut(words);
        matches
            .and_then(|matches| Arguments::from_arg_matches(&matches))
            .map_err(|error| usage(&error))?
            .invocation()
    }
}

/// What the parser of options found wrong.
fn usage(error: &clap::Error) -> ArgumentError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg);
    // "--weight <WEIGHT>" is how the parser names an option.
    let option = argument.as_deref().and_then(|text| text.split(' ').next());
    let option = option.unwrap_or("an option");
    let value = context(ContextKind::InvalidValue).filter(|value| !value.is_empty());
    let (problem, word) = match (error.kind(), value) {
        (ErrorKind::UnknownArgument, _) => (
            format!("ipvsadm has no option \"{option}\""),
            argument.clone(),
        ),
        (ErrorKind::ArgumentConflict, _) => (format!("{option} stands twice"), None),
        (_, Some(value)) => (format!("\"{value}\" is no value for {option}"), Some(value)),
        _ => (format!("{option} lacks its value"), None),
    };
    ArgumentError::Usage { problem, word }
}

/// Carries `--set` out on the timeouts in force.
pub fn set_timeouts(now: Timeouts, [tcp, tcp_fin, udp]: [u32; 3]) -> Timeouts {
    let or = |new, old| if new == 0 { old } else { new };
    Timeouts {
        tcp: or(tcp, now.tcp),
        tcp_fin: or(tcp_fin, now.tcp_fin),
        udp: or(udp, now.udp),
    }
}

/// What `ipvsadm` prints when the director refuses a command; its exit code
/// is then 255.
pub fn error_message(command: &Command, error: &CommandError) -> String {
    let message = match error {
        CommandError::ServiceExists(_) => "Service already exists",
        CommandError::ServerExists(..) => "Destination already exists",
        CommandError::NoSuchServer(..) => "No such destination",
        CommandError::NoSuchService(_) => match command {
            Command::AddServer(..) | Command::EditServer(..) | Command::DeleteServer(..) => {
                "Service not defined"
            }
            _ => "No such service",
        },
        other => return other.to_string(),
    };
    message.to_owned()
}

/// The options as `ipvsadm -h` lists them.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = false,
    disable_help_flag = true,
    disable_version_flag = true
)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a command line")]
struct Arguments {
    #[arg(short = 'A', long)]
    add_service: bool,
    #[arg(short = 'E', long)]
    edit_service: bool,
    #[arg(short = 'D', long)]
    delete_service: bool,
    #[arg(short = 'C', long)]
    clear: bool,
    #[arg(short = 'R', long)]
    restore: bool,
    #[arg(short = 'S', long)]
    save: bool,
    #[arg(short = 'a', long)]
    add_server: bool,
    #[arg(short = 'e', long)]
    edit_server: bool,
    #[arg(short = 'd', long)]
    delete_server: bool,
    #[arg(short = 'L', short_alias = 'l', long)]
    list: bool,
    #[arg(short = 'Z', long)]
    zero: bool,
    #[arg(long, num_args = 3, value_names = ["TCP", "TCPFIN", "UDP"])]
    set: Option<Vec<u32>>,
    #[arg(long)]
    start_daemon: Option<String>,
    #[arg(long)]
    stop_daemon: Option<String>,
    #[arg(short = 'h', long)]
    help: bool,

    #[arg(short = 't', long)]
    tcp_service: Option<String>,
    #[arg(short = 'u', long)]
    udp_service: Option<String>,
    #[arg(long)]
    sctp_service: Option<String>,
    #[arg(short = 'f', long)]
    fwmark_service: Option<String>,
    #[arg(short = '6', long)]
    ipv6: bool,

    #[arg(short = 's', long)]
    scheduler: Option<String>,
    #[arg(long)]
    pe: Option<String>,
    #[arg(short = 'p', long, num_args = 0..=1, default_missing_value = "360")]
    persistent: Option<String>,
    #[arg(short = 'M', long)]
    netmask: Option<String>,
    #[arg(short = 'o', long)]
    ops: bool,
    #[arg(short = 'b', long)]
    sched_flags: Option<String>,

    #[arg(short = 'r', long)]
    real_server: Option<String>,
    #[arg(short = 'g', long)]
    gatewaying: bool,
    #[arg(short = 'i', long)]
    ipip: bool,
    #[arg(short = 'm', long)]
    masquerading: bool,
    #[arg(long)]
    tun_type: Option<String>,
    #[arg(long)]
    tun_port: Option<u16>,
    #[arg(long)]
    tun_nocsum: bool,
    #[arg(long)]
    tun_csum: bool,
    #[arg(long)]
    tun_remcsum: bool,
    #[arg(short = 'w', long, allow_hyphen_values = true)]
    weight: Option<String>,
    #[arg(short = 'x', long, allow_hyphen_values = true)]
    u_threshold: Option<String>,
    #[arg(short = 'y', long, allow_hyphen_values = true)]
    l_threshold: Option<String>,

    #[arg(short = 'c', long)]
    connection: bool,
    #[arg(long)]
    timeout: bool,
    #[arg(long)]
    daemon: bool,
    #[arg(long)]
    stats: bool,
    #[arg(long)]
    rate: bool,
    #[arg(long)]
    exact: bool,
    #[arg(long)]
    thresholds: bool,
    #[arg(long)]
    persistent_conn: bool,
    #[arg(long)]
    tun_info: bool,
    #[arg(long)]
    nosort: bool,
    #[arg(long)]
    sort: bool,
    // The director never asks a name server, so that this changes nothing.
    #[arg(short = 'n', long, action = ArgAction::Count)]
    numeric: u8,

    #[arg(long)]
    syncid: Option<u32>,
    #[arg(long)]
    sync_maxlen: Option<u32>,
    #[arg(long)]
    mcast_interface: Option<String>,
    #[arg(long)]
    mcast_group: Option<String>,
    #[arg(long)]
    mcast_port: Option<u16>,
    #[arg(long)]
    mcast_ttl: Option<u8>,
}

/// The commands, of which a command line has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    Help,
}

impl Arguments {
    fn invocation(&self) -> Result<Invocation, ArgumentError> {
        if self.start_daemon.is_some() || self.stop_daemon.is_some() {
            return Err(ArgumentError::Synchronisation);
        }
        let verb = self.verb()?;
        self.check_options(verb)?;
        let change = match verb {
            Verb::List => return self.listing().map(Invocation::List),
            Verb::Save => return Ok(Invocation::Save),
            Verb::Restore => return Ok(Invocation::Restore),
            Verb::Help => return Ok(Invocation::Help),
            Verb::Set => {
                return match self.set.as_deref() {
                    Some(&[tcp, tcp_fin, udp]) => Ok(Invocation::SetTimeouts([tcp, tcp_fin, udp])),
                    _ => Err(invalid("--set option requires 3 timeout values", 2)),
                };
            }
            Verb::AddService => {
                let key = self.service()?;
                Command::AddService(key, self.service_options(&key)?)
            }
            Verb::EditService => {
                let key = self.service()?;
                Command::EditService(key, self.service_options(&key)?)
            }
            Verb::DeleteService => Command::DeleteService(self.service()?),
            Verb::Clear => Command::Flush,
            Verb::Zero => Command::Zero(self.service_if_any()?),
            Verb::AddServer => {
                Command::AddServer(self.service()?, self.server()?, self.server_options()?)
            }
            Verb::EditServer => {
                Command::EditServer(self.service()?, self.server()?, self.server_options()?)
            }
            Verb::DeleteServer => Command::DeleteServer(self.service()?, self.server()?),
        };
        Ok(Invocation::Change(change))
    }

    fn verb(&self) -> Result<Verb, ArgumentError> {
        let given = [
            (self.add_service, Verb::AddService),
            (self.edit_service, Verb::EditService),
            (self.delete_service, Verb::DeleteService),
            (self.clear, Verb::Clear),
            (self.restore, Verb::Restore),
            (self.save, Verb::Save),
            (self.add_server, Verb::AddServer),
            (self.edit_server, Verb::EditServer),
            (self.delete_server, Verb::DeleteServer),
            (self.list, Verb::List),
            (self.zero, Verb::Zero),
            (self.set.is_some(), Verb::Set),
            (self.help, Verb::Help),
        ];
        let mut given = given
            .iter()
            .filter(|(given, _)| *given)
            .map(|(_, verb)| *verb);
        let verb = given.next().unwrap_or(Verb::List);
        match given.next() {
            None => Ok(verb),
            Some(_) => Err(invalid("multiple commands specified", 2)),
        }
    }

    /// Refuses options that do not belong to the command.
    fn check_options(&self, verb: Verb) -> Result<(), ArgumentError> {
        let has_service_options = self.scheduler.is_some()
            || self.pe.is_some()
            || self.persistent.is_some()
            || self.netmask.is_some()
            || self.ops
            || self.sched_flags.is_some();
        let has_server_options = self.has_tunnel_options()
            || self.gatewaying
            || self.ipip
            || self.masquerading
            || self.weight.is_some()
            || self.u_threshold.is_some()
            || self.l_threshold.is_some();
        let edits_service = matches!(verb, Verb::AddService | Verb::EditService);
        let edits_server = matches!(verb, Verb::AddServer | Verb::EditServer);
        let names_server = edits_server || verb == Verb::DeleteServer;
        if has_service_options && !edits_service
            || has_server_options && !edits_server
            || self.real_server.is_some() && !names_server
        {
            return Err(invalid("an option does not belong to this command", 2));
        }
        Ok(())
    }

    fn has_tunnel_options(&self) -> bool {
        self.tun_type.is_some()
            || self.tun_port.is_some()
            || self.tun_nocsum
            || self.tun_csum
            || self.tun_remcsum
    }

    fn listing(&self) -> Result<Listing, ArgumentError> {
        if self.connection {
            return Ok(Listing::Connections);
        }
        if self.timeout {
            return Ok(Listing::Timeouts);
        }
        if self.daemon {
            return Ok(Listing::Daemon);
        }
        let columns = [
            (self.stats, Columns::Statistics),
            (self.rate, Columns::Rates),
            (self.thresholds, Columns::Thresholds),
            (self.persistent_conn, Columns::PersistentConnections),
            (self.tun_info, Columns::TunnelInfo),
        ];
        let columns = columns
            .iter()
            .find(|(asked, _)| *asked)
            .map(|(_, columns)| *columns);
        Ok(Listing::Services {
            only: self.service_if_any()?,
            columns: columns.unwrap_or(Columns::Ordinary),
            exact: self.exact,
            sorted: !self.nosort,
        })
    }

    fn service(&self) -> Result<ServiceKey, ArgumentError> {
        self.service_if_any()?
            .ok_or_else(|| invalid("No virtual service specified", 2))
    }

    fn service_if_any(&self) -> Result<Option<ServiceKey>, ArgumentError> {
        let named = [
            (Protocol::Tcp, &self.tcp_service),
            (Protocol::Udp, &self.udp_service),
            (Protocol::Sctp, &self.sctp_service),
        ];
        let mut named = named
            .into_iter()
            .filter_map(|(protocol, text)| Some((protocol, text.as_ref()?)));
        let Some((protocol, text)) = named.next() else {
            return self.marked_service();
        };
        if named.next().is_some() || self.fwmark_service.is_some() {
            return Err(invalid("multiple services specified", 2));
        }
        let (address, service_port) =
            address_and_port(text).ok_or_else(|| ArgumentError::NotNumeric(text.clone()))?;
        match service_port {
            None | Some(0)
                if (self.add_service || self.edit_service) && self.persistent.is_none() =>
            {
                Err(invalid("Zero port specified for non-persistent service", 2))
            }
            port => {
                let address = SocketAddr::new(address, port.unwrap_or(0));
                Ok(Some(ServiceKey::at(protocol, address)))
            }
        }
    }

    /// `-f`, and `-6`, which is for nothing else.
    fn marked_service(&self) -> Result<Option<ServiceKey>, ArgumentError> {
        let Some(text) = &self.fwmark_service else {
            return Ok(None);
        };
        let fwmark = text.parse().ok().filter(|fwmark| *fwmark > 0);
        let fwmark = fwmark
            .ok_or_else(|| invalid(&format!("invalid fwmark value `{text}' specified"), 2))?;
        let ipv6 = self.ipv6;
        Ok(Some(ServiceKey::Mark { fwmark, ipv6 }))
    }

    fn service_options(&self, key: &ServiceKey) -> Result<ServiceOptions, ArgumentError> {
        if self.pe.is_some() {
            return Err(unsupported("a persistence engine (--pe)"));
        }
        if self.ops && self.udp_service.is_none() && self.fwmark_service.is_none() {
            return Err(invalid(
                "One-Packet Scheduling is only for UDP virtual services",
                2,
            ));
        }
        let name = self.scheduler.as_deref().unwrap_or("wlc");
        let scheduler = name
            .parse::<SchedulerKind>()
            .map_err(|_| invalid("Scheduler or persistence engine not found", 255))?;
        let names = self.sched_flags.iter().flat_map(|names| names.split(','));
        let flags = names
            .into_iter()
            .try_fold(SchedulerFlags::default(), SchedulerFlags::with)
            .ok_or_else(|| invalid("Invalid sched flags", 2))?;
        Ok(ServiceOptions {
            scheduler,
            flags,
            one_packet: self.ops,
            persistence: self.persistence(key.is_ipv6())?,
            outer_source: None,
        })
    }

    /// `-p` and `-M`, which is of no effect alone.
    fn persistence(&self, is_ipv6: bool) -> Result<Option<Persistence>, ArgumentError> {
        let mask = match &self.netmask {
            None => ClientMask::host(is_ipv6),
            Some(text) if is_ipv6 => text
                .parse()
                .ok()
                .filter(|len| (1..=128).contains(len))
                .map(ClientMask::PrefixLen)
                .ok_or_else(|| invalid("illegal ipv6 netmask specified", 2))?,
            Some(text) => text
                .parse()
                .map(ClientMask::Netmask)
                .map_err(|_| invalid("illegal virtual server persistent mask specified", 2))?,
        };
        let Some(text) = &self.persistent else {
            return Ok(None);
        };
        let timeout_s = text
            .parse()
            .ok()
            .filter(|seconds| (1..=PERSISTENCE_S_MAX).contains(seconds))
            .ok_or_else(|| invalid(&format!("invalid timeout value `{text}' specified"), 2))?;
        Ok(Some(Persistence { timeout_s, mask }))
    }

    /// The real server. Its port, if one is named, is of no effect: a tunnelled
    /// packet keeps that of the service.
    fn server(&self) -> Result<ServerKey, ArgumentError> {
        let text = self
            .real_server
            .as_deref()
            .ok_or_else(|| invalid("No real server specified", 2))?;
        let (address, _) =
            address_and_port(text).ok_or_else(|| ArgumentError::NotNumeric(text.to_owned()))?;
        Ok(ServerKey { address })
    }

    fn server_options(&self) -> Result<ServerOptions, ArgumentError> {
        let weight = number(self.weight.as_deref(), 1, "illegal weight specified")?;
        let upper = number(
            self.u_threshold.as_deref(),
            0,
            "illegal u_threshold specified",
        )?;
        let lower = number(
            self.l_threshold.as_deref(),
            0,
            "illegal l_threshold specified",
        )?;
        if self.masquerading {
            return Err(ArgumentError::NotATunnel("masquerading (-m)"));
        }
        if !self.ipip {
            let method = if self.gatewaying {
                "direct routing (-g)"
            } else {
                "direct routing (-g, the default)"
            };
            return Err(ArgumentError::NotATunnel(method));
        }
        Ok(ServerOptions {
            weight,
            upper_threshold: upper,
            lower_threshold: lower,
            tunnel: self.tunnel()?,
        })
    }

    fn tunnel(&self) -> Result<TunnelKind, ArgumentError> {
        let gue_checksum = match (self.tun_nocsum, self.tun_csum, self.tun_remcsum) {
            (_, false, false) => GueChecksum::None,
            (false, true, false) => GueChecksum::Outer,
            (false, false, true) => GueChecksum::Remote,
            _ => return Err(invalid("a tunnel with more than one kind of checksum", 2)),
        };
        let checksum = self.tun_csum;
        let is_plain = !self.tun_nocsum && gue_checksum == GueChecksum::None;
        match (self.tun_type.as_deref(), self.tun_port) {
            (None | Some("ipip"), None) if is_plain => Ok(TunnelKind::Ipip),
            (None | Some("ipip"), _) => {
                Err(invalid("tunnel options need --tun-type gue or gre", 2))
            }
            (Some("gue"), Some(l4_port)) if l4_port > 0 => Ok(TunnelKind::Gue {
                l4_port,
                checksum: gue_checksum,
            }),
            (Some("gue"), _) => Err(invalid("a gue tunnel needs --tun-port", 2)),
            (Some("gre"), _) if self.tun_remcsum => {
                Err(invalid("a gre tunnel has no remote checksum", 2))
            }
            (Some("gre"), None) => Ok(TunnelKind::Gre { checksum }),
            (Some("gre"), Some(_)) => Err(invalid("a gre tunnel has no port", 2)),
            (Some(_), _) => Err(invalid("illegal tunnel type specified", 2)),
        }
    }
}

/// An address, alone or with a port as in `192.0.2.1:80` and
/// `[2001:db8::1]:80`.
pub(super) fn address_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = SocketAddr::from_str(text) {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    Some((bare.parse().ok()?, None))
}

fn number(text: Option<&str>, default: u32, message: &str) -> Result<u32, ArgumentError> {
    text.map_or(Ok(default), |text| {
        text.parse::<u32>()
            .ok()
            .filter(|number| i32::try_from(*number).is_ok())
            .ok_or_else(|| invalid(message, 2))
    })
}

fn unsupported(what: &str) -> ArgumentError {
    ArgumentError::Unsupported(what.to_owned())
}

fn invalid(message: &str, code: u8) -> ArgumentError {
    ArgumentError::Invalid {
        message: message.to_owned(),
        code,
    }
}

#[cfg(test)]
mod tests;
