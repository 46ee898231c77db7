//! What a message asks for.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    attributes::{
        FAMILY, FAMILY_NAME, INET, INET6, NLCTRL, command, ctrl, dest, flag, method,
        service as attribute, top, tunnel,
    },
    codec::{Attributes, Errno, Message},
    text::Text,
};
use crate::{
    control::command::Command,
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{
        ClientMask, GueChecksum, PERSISTENCE_S_MAX, Persistence, Protocol, ServerKey,
        ServerOptions, ServiceKey, ServiceOptions, TunnelKind,
    },
};

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// The number of the family.
    Family,
    /// Version and size of the table.
    Information,
    /// `ipvsadm -L --timeout`
    Timeouts,
    /// `ipvsadm --set`; 0 leaves one as it is.
    SetTimeouts([u32; 3]),
    /// `ipvsadm -L --daemon`
    Daemons,
    /// `ipvsadm --start-daemon` and `--stop-daemon`
    Synchronisation,
    /// All services, without their servers.
    Services,
    /// One service.
    Service(ServiceKey),
    /// The servers of one service, if there is one by this name.
    Servers(Option<ServiceKey>),
    /// `ipvsadm -E`
    EditService(ServiceKey, Edit),
    /// A server that is not to be reached by a tunnel.
    OtherMethod {
        key: ServiceKey,
        server: ServerKey,
        name: &'a str,
    },
    /// Everything else that changes services.
    Change(Command),
    /// A text of `/proc/net`.
    Text(Text),
}

/// What a service is to be changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    options: ServiceOptions,
    timeout_s: u32,
    mask: ClientMask,
    flags: u32,
    /// Which of the flags are to change.
    flags_mask: u32,
}

impl Edit {
    /// What becomes of options. Flags outside of the mask stay, and so does
    /// what netlink has no word for.
    pub(super) fn over(self, before: ServiceOptions) -> ServiceOptions {
        let flags = flags_of(before) & !self.flags_mask | self.flags & self.flags_mask;
        let persistence = (flags & flag::PERSISTENT != 0).then_some(Persistence {
            timeout_s: self.timeout_s,
            mask: self.mask,
        });
        ServiceOptions {
            scheduler: self.options.scheduler,
            flags: SchedulerFlags {
                fallback: flags & flag::SCHED1 != 0,
                port: flags & flag::SCHED2 != 0,
            },
            one_packet: flags & flag::ONE_PACKET != 0,
            persistence,
            outer_source: before.outer_source,
        }
    }
}

/// The flags as netlink has them.
pub(super) fn flags_of(options: ServiceOptions) -> u32 {
    [
        (options.persistence.is_some(), flag::PERSISTENT),
        (options.one_packet, flag::ONE_PACKET),
        (options.flags.fallback, flag::SCHED1),
        (options.flags.port, flag::SCHED2),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .fold(flag::HASHED, |flags, (_, bit)| flags | bit)
}

/// Understands a message.
///
/// # Errors
/// What the kernel says to one like that.
pub(super) fn parse<'a>(message: &Message<'a>) -> Result<Ask<'a>, Errno> {
    if message.kind != NLCTRL && message.kind != FAMILY {
        return Err(Errno::NotFound);
    }
    let (number, attributes) = message.generic().ok_or(Errno::Invalid)?;
    if message.kind == NLCTRL {
        return family(number, attributes);
    }
    match (number, message.is_dump()) {
        (command::GET_SERVICE, true) => Ok(Ask::Services),
        (command::GET_DEST, true) => Ok(Ask::Servers(service_key(attributes).ok())),
        (command::GET_DAEMON, true) => Ok(Ask::Daemons),
        (command::GET_TEXT, true) => {
            let which = attributes.u8(top::TEXT).and_then(Text::from_number);
            which.map(Ask::Text).ok_or(Errno::Invalid)
        }
        (_, true) => Err(Errno::NotSupported),
        (command::GET_SERVICE, false) => service_key(attributes).map(Ask::Service),
        (command::GET_CONFIG, false) => Ok(Ask::Timeouts),
        (command::GET_INFO, false) => Ok(Ask::Information),
        (command::SET_CONFIG, false) => {
            let seconds = |kind| attributes.u32(kind).unwrap_or(0);
            Ok(Ask::SetTimeouts([
                seconds(top::TIMEOUT_TCP),
                seconds(top::TIMEOUT_TCP_FIN),
                seconds(top::TIMEOUT_UDP),
            ]))
        }
        (command::NEW_DAEMON | command::DEL_DAEMON, false) => Ok(Ask::Synchronisation),
        (command::FLUSH, false) => Ok(Ask::Change(Command::Flush)),
        (command::ZERO, false) => {
            let key = attributes.get(top::SERVICE);
            let key = key.map(|_| service_key(attributes)).transpose()?;
            Ok(Ask::Change(Command::Zero(key)))
        }
        (number, false) => change(number, attributes),
    }
}

fn family<'a>(number: u8, attributes: Attributes<'_>) -> Result<Ask<'a>, Errno> {
    if number != ctrl::GET_FAMILY {
        return Err(Errno::NotSupported);
    }
    let is_ours = match (
        attributes.u16(ctrl::FAMILY_ID),
        attributes.get(ctrl::FAMILY_NAME),
    ) {
        (Some(number), _) => number == FAMILY,
        (None, Some(name)) => name == FAMILY_NAME,
        (None, None) => return Err(Errno::Invalid),
    };
    if is_ours {
        Ok(Ask::Family)
    } else {
        Err(Errno::NotFound)
    }
}

fn change<'a>(number: u8, attributes: Attributes<'_>) -> Result<Ask<'a>, Errno> {
    let command = match number {
        command::NEW_SERVICE => {
            let key = service_key(attributes)?;
            let edit = service_edit(attributes, &key)?;
            Command::AddService(key, edit.over(edit.options))
        }
        command::SET_SERVICE => {
            let key = service_key(attributes)?;
            return Ok(Ask::EditService(key, service_edit(attributes, &key)?));
        }
        command::DEL_SERVICE => Command::DeleteService(service_key(attributes)?),
        command::NEW_DEST | command::SET_DEST => {
            let key = service_key(attributes)?;
            let (server, nest) = server_key(attributes, &key)?;
            let u32 = |kind| nest.u32(kind).ok_or(Errno::Invalid);
            let forwarding = u32(dest::FWD_METHOD)? & method::MASK;
            let options = ServerOptions {
                weight: u32(dest::WEIGHT)?,
                upper_threshold: u32(dest::U_THRESH)?,
                lower_threshold: u32(dest::L_THRESH)?,
                tunnel: TunnelKind::Ipip,
            };
            if forwarding != method::TUNNEL {
                let name = method_name(forwarding);
                return Ok(Ask::OtherMethod { key, server, name });
            }
            let options = ServerOptions {
                tunnel: tunnel_kind(nest)?,
                ..options
            };
            if number == command::NEW_DEST {
                Command::AddServer(key, server, options)
            } else {
                Command::EditServer(key, server, options)
            }
        }
        command::DEL_DEST => {
            let key = service_key(attributes)?;
            let (server, _) = server_key(attributes, &key)?;
            Command::DeleteServer(key, server)
        }
        _ => return Err(Errno::NotSupported),
    };
    Ok(Ask::Change(command))
}

/// Which service the message is about.
fn service_key(attributes: Attributes<'_>) -> Result<ServiceKey, Errno> {
    let nest = attributes.nested(top::SERVICE).ok_or(Errno::Invalid)?;
    let family = nest.u16(attribute::AF).ok_or(Errno::Invalid)?;
    let fwmark = nest.u32(attribute::FWMARK);
    let named = (|| {
        let protocol = nest.u16(attribute::PROTOCOL)?;
        let l4_port = nest.u16_be(attribute::PORT)?;
        Some((protocol, nest.get(attribute::ADDR)?, l4_port))
    })();
    if fwmark.is_none() && named.is_none() {
        return Err(Errno::Invalid);
    }
    let ipv6 = is_ipv6(family)?;
    match (fwmark, named) {
        (Some(fwmark), _) if fwmark > 0 => Ok(ServiceKey::Mark { fwmark, ipv6 }),
        (None, Some((protocol, address, l4_port))) => {
            let protocol = u8::try_from(protocol).ok().and_then(Protocol::from_number);
            let protocol = protocol.ok_or(Errno::Invalid)?;
            let address = host(address, ipv6)?;
            Ok(ServiceKey::at(protocol, SocketAddr::new(address, l4_port)))
        }
        _ => Err(Errno::Invalid),
    }
}

fn service_edit(attributes: Attributes<'_>, key: &ServiceKey) -> Result<Edit, Errno> {
    let nest = attributes.nested(top::SERVICE).ok_or(Errno::Invalid)?;
    let (Some(scheduler), Some(flags), Some(timeout_s), Some(netmask)) = (
        nest.get(attribute::SCHED_NAME),
        nest.get(attribute::FLAGS),
        nest.u32(attribute::TIMEOUT),
        nest.get(attribute::NETMASK),
    ) else {
        return Err(Errno::Invalid);
    };
    // The flags, and which of them are meant.
    let [flags, flags_mask] = flags
        .first_chunk::<8>()
        .map(|both| {
            let (flags, mask) = both.split_at(4);
            [flags, mask].map(|half| half.first_chunk().copied().map_or(0, u32::from_ne_bytes))
        })
        .ok_or(Errno::Invalid)?;
    let netmask: [u8; 4] = *netmask.first_chunk().ok_or(Errno::Invalid)?;
    let mask = if key.is_ipv6() {
        let len = u8::try_from(u32::from_ne_bytes(netmask)).ok();
        let len = len.filter(|len| (1..=128).contains(len));
        ClientMask::PrefixLen(len.ok_or(Errno::Invalid)?)
    } else {
        ClientMask::Netmask(Ipv4Addr::from(netmask))
    };
    let is_persistent = flags & flags_mask & flag::PERSISTENT != 0;
    if is_persistent && !(1..=PERSISTENCE_S_MAX).contains(&timeout_s) {
        return Err(Errno::Invalid);
    }
    // The kernel looks for the scheduler, and for the persistence engine, of
    // which there is none here.
    let name = scheduler.split(|byte| *byte == 0).next();
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    let scheduler = name
        .and_then(|name| name.parse::<SchedulerKind>().ok())
        .ok_or(Errno::NotFound)?;
    if nest
        .text(attribute::PE_NAME)
        .is_some_and(|name| !name.is_empty())
    {
        return Err(Errno::NotFound);
    }
    Ok(Edit {
        options: ServiceOptions::from(scheduler),
        timeout_s,
        mask,
        flags,
        flags_mask,
    })
}

/// Which server the message is about, and what it says of it. The port, if it is
/// another one than the service's, is of no effect in a tunnel.
fn server_key<'a>(
    attributes: Attributes<'a>,
    service: &ServiceKey,
) -> Result<(ServerKey, Attributes<'a>), Errno> {
    let nest = attributes.nested(top::DEST).ok_or(Errno::Invalid)?;
    let address = nest.get(dest::ADDR).ok_or(Errno::Invalid)?;
    nest.u16_be(dest::PORT).ok_or(Errno::Invalid)?;
    // Clients from before there were two families leave it out or at 0.
    let ipv6 = match nest.u16(dest::ADDR_FAMILY) {
        None | Some(0) => service.is_ipv6(),
        Some(family) => is_ipv6(family)?,
    };
    let address = host(address, ipv6)?;
    Ok((ServerKey { address }, nest))
}

fn tunnel_kind(nest: Attributes<'_>) -> Result<TunnelKind, Errno> {
    let flags = nest.u16(dest::TUN_FLAGS).unwrap_or(0);
    let checksum = flags & tunnel::CHECKSUM != 0;
    match nest.u8(dest::TUN_TYPE).unwrap_or(tunnel::IPIP) {
        tunnel::IPIP => Ok(TunnelKind::Ipip),
        tunnel::GUE => Ok(TunnelKind::Gue {
            l4_port: nest.u16_be(dest::TUN_PORT).unwrap_or(0),
            checksum: if flags & tunnel::REMOTE_CHECKSUM != 0 {
                GueChecksum::Remote
            } else if checksum {
                GueChecksum::Outer
            } else {
                GueChecksum::None
            },
        }),
        tunnel::GRE => Ok(TunnelKind::Gre { checksum }),
        _ => Err(Errno::Invalid),
    }
}

const fn method_name(forwarding: u32) -> &'static str {
    match forwarding {
        method::MASQUERADE => "masquerading",
        method::LOCAL => "local delivery",
        method::DIRECT => "direct routing",
        _ => "an unknown method",
    }
}

const fn is_ipv6(family: u16) -> Result<bool, Errno> {
    match family {
        INET => Ok(false),
        INET6 => Ok(true),
        _ => Err(Errno::FamilyNotSupported),
    }
}

/// An address that a host can have.
fn host(bytes: &[u8], ipv6: bool) -> Result<IpAddr, Errno> {
    let address = if ipv6 {
        let bytes: [u8; 16] = *bytes.first_chunk().ok_or(Errno::Invalid)?;
        IpAddr::from(Ipv6Addr::from(bytes))
    } else {
        let bytes: [u8; 4] = *bytes.first_chunk().ok_or(Errno::Invalid)?;
        IpAddr::from(Ipv4Addr::from(bytes))
    };
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err(Errno::Invalid);
    }
    Ok(address)
}
