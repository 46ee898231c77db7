//! Changes of parts: of a service's or a server's options, of the settings.
//!
//! What a patch does not name stays as it is; the management thread puts both
//! together, so that nothing else changes in between. Each part is taken as a
//! whole: a tunnel, a persistence.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{
        ClientMask, PERSISTENCE_S_MAX, Persistence, Protocol, ServerKey, ServerOptions, ServiceKey,
        ServiceOptions, Timeouts, TunableError, Tunables, TunnelKind, outer_source_lengths,
    },
    wire::unicast,
};

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Options of a service.
    Service(ServiceKey, ServicePatch),
    /// Options of a real server.
    Server(ServiceKey, ServerKey, ServerPatch),
    /// Settings of the director.
    Settings(SettingsPatch),
}

/// Parts of [`ServiceOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePatch {
    /// How a real server is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerKind>,
    /// What the hashing schedulers are told besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<SchedulerFlags>,
    /// One-packet scheduling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_packet: Option<bool>,
    /// `Some(None)` ends persistence.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub persistence: Option<Option<Persistence>>,
    /// `Some(None)`: from where the route says.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub outer_source: Option<Option<IpNet>>,
}

impl ServicePatch {
    /// The options with these parts changed.
    pub fn applied_to(&self, options: ServiceOptions) -> ServiceOptions {
        ServiceOptions {
            scheduler: self.scheduler.unwrap_or(options.scheduler),
            flags: self.flags.unwrap_or(options.flags),
            one_packet: self.one_packet.unwrap_or(options.one_packet),
            persistence: self.persistence.unwrap_or(options.persistence),
            outer_source: self.outer_source.unwrap_or(options.outer_source),
        }
    }
}

/// Parts of [`ServerOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPatch {
    /// Share of new connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// At so many connections it gets no new ones; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    /// Below so many it gets new ones again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    /// What packets to it are wrapped in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelKind>,
}

impl ServerPatch {
    /// The options with these parts changed.
    pub fn applied_to(&self, options: ServerOptions) -> ServerOptions {
        ServerOptions {
            weight: self.weight.unwrap_or(options.weight),
            upper_threshold: self.upper_threshold.unwrap_or(options.upper_threshold),
            lower_threshold: self.lower_threshold.unwrap_or(options.lower_threshold),
            tunnel: self.tunnel.unwrap_or(options.tunnel),
        }
    }
}

/// Some settings and timeouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// The kernel's settings by their names.
    #[serde(default)]
    pub tunables: BTreeMap<String, Value>,
    /// Timeouts in seconds.
    #[serde(default)]
    pub timeouts: TimeoutsPatch,
}

/// The value of a setting: a number, or of a switch `true` and `false` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Off and on.
    Switch(bool),
    /// As in `/proc/sys`.
    Number(u32),
}

/// Some of [`Timeouts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsPatch {
    /// TCP in ESTABLISHED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u32>,
    /// TCP in FIN_WAIT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_fin: Option<u32>,
    /// UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<u32>,
}

impl SettingsPatch {
    /// The settings with these changed.
    ///
    /// # Errors
    /// When there is no such setting, or it cannot have such a value.
    pub fn applied_to(
        &self,
        mut tunables: Tunables,
        timeouts: Timeouts,
    ) -> Result<(Tunables, Timeouts), EditError> {
        for (name, value) in &self.tunables {
            let value = match *value {
                Value::Switch(on) => on.into(),
                Value::Number(number) => number,
            };
            tunables.set(name, value)?;
        }
        let timeout = |wanted: Option<u32>, present| match wanted {
            None => Ok(present),
            Some(seconds @ 1..=Timeouts::MAX_S) => Ok(seconds),
            Some(seconds) => Err(EditError::Timeout(seconds)),
        };
        let timeouts = Timeouts {
            tcp: timeout(self.timeouts.tcp, timeouts.tcp)?,
            tcp_fin: timeout(self.timeouts.tcp_fin, timeouts.tcp_fin)?,
            udp: timeout(self.timeouts.udp, timeouts.udp)?,
        };
        Ok((tunables, timeouts))
    }
}

/// Why options or settings make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A setting.
    #[error(transparent)]
    Tunable(#[from] TunableError),
    /// A timeout that is none.
    #[error("a timeout cannot be {0} s; write 1 to {max}", max = Timeouts::MAX_S)]
    Timeout(u32),
    /// An address that no host can have.
    #[error("{address} is {kind}; write a unicast address")]
    NotUnicast {
        /// The address.
        address: IpAddr,
        /// What it is, with an article.
        kind: &'static str,
    },
    /// A network with bits behind its prefix, or without an address.
    #[error("{0} has bits behind its prefix; write {trunc}", trunc = .0.trunc())]
    HostBits(IpNet),
    /// Firewall mark 0.
    #[error("a firewall mark cannot be 0; write 1 to 4294967295")]
    MarkZero,
    /// Service port 0 without persistence.
    #[error("a service at port 0 takes all ports, and needs `persistence` for that")]
    PortZero,
    /// One-packet scheduling of what is not UDP.
    #[error("`one_packet` is for UDP only")]
    OnePacketWithoutUdp,
    /// A persistence that is none.
    #[error("`timeout_s` of `persistence` cannot be {0}; write 1 to {PERSISTENCE_S_MAX}")]
    PersistenceTimeout(u32),
    /// A mask of the other IP version.
    #[error(
        "`mask` of `persistence` is {{\"netmask\": \"255.255.255.255\"}} over IPv4 and \
         {{\"prefix_len\": 128}} over IPv6, with 1 to 128"
    )]
    PersistenceMask,
    /// A network of outer sources that is too small or too large.
    #[error("`outer_source` cannot be {network}; its prefix length is {min} to {max}")]
    OuterSource {
        /// The network.
        network: IpNet,
        /// The shortest prefix.
        min: u8,
        /// The longest prefix.
        max: u8,
    },
}

/// Checks what a service can be, apart from what else there is.
///
/// # Errors
/// What is wrong with it.
pub fn check_service(key: &ServiceKey, options: &ServiceOptions) -> Result<(), EditError> {
    check_key(key)?;
    if let Some(protocol) = key.protocol() {
        if options.one_packet && protocol != Protocol::Udp {
            return Err(EditError::OnePacketWithoutUdp);
        }
        if key.l4_port() == 0 && options.persistence.is_none() {
            return Err(EditError::PortZero);
        }
    }
    if let Some(Persistence { timeout_s, mask }) = options.persistence {
        if !(1..=PERSISTENCE_S_MAX).contains(&timeout_s) {
            return Err(EditError::PersistenceTimeout(timeout_s));
        }
        let is_possible = match mask {
            ClientMask::Netmask(_) => !key.is_ipv6(),
            ClientMask::PrefixLen(len) => key.is_ipv6() && (1..=128).contains(&len),
        };
        if !is_possible {
            return Err(EditError::PersistenceMask);
        }
    }
    if let Some(network) = options.outer_source {
        check_network(network)?;
        let lengths = outer_source_lengths(network.addr().is_ipv6());
        if !lengths.contains(&network.prefix_len()) {
            let (min, max) = lengths.into_inner();
            return Err(EditError::OuterSource { network, min, max });
        }
    }
    Ok(())
}

/// Checks the address of a real server.
///
/// # Errors
/// When no host can have it.
pub fn check_server(key: &ServerKey) -> Result<(), EditError> {
    check_host(key.address)
}

fn check_key(key: &ServiceKey) -> Result<(), EditError> {
    match *key {
        ServiceKey::Vip { address, .. } => check_host(address.ip()),
        ServiceKey::Network { network, .. } => check_network(network),
        ServiceKey::Mark { fwmark: 0, .. } => Err(EditError::MarkZero),
        ServiceKey::Mark { .. } => Ok(()),
    }
}

fn check_network(network: IpNet) -> Result<(), EditError> {
    if network.trunc() != network {
        return Err(EditError::HostBits(network));
    }
    check_host(network.addr())
}

fn check_host(address: IpAddr) -> Result<(), EditError> {
    match unicast::reserved(address) {
        Some(kind) => Err(EditError::NotUnicast { address, kind }),
        None => Ok(()),
    }
}

/// A field that is there, also when it is null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
