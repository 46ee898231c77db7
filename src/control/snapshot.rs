//! Services and settings at one moment: what a file says, or what holds in a
//! running director.
//!
//! What is in it can be set at run time and outlives the director; counters and
//! connections are not in it.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::command::Command;
use crate::service::{
    ServerKey, ServerOptions, ServiceKey, ServiceOptions, TUNABLES, Timeouts, Tunables, TunnelKind,
    WEIGHT_MAX,
};

/// Services and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// How long connections live without a packet.
    pub timeouts: Timeouts,
    /// The kernel's settings.
    pub tunables: Tunables,
    /// In any order, no key twice.
    pub services: Vec<ServiceSnapshot>,
}

/// A service with its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSnapshot {
    /// What makes it unique.
    pub key: ServiceKey,
    /// What can be changed of it.
    pub options: ServiceOptions,
    /// In the order in which they were added, none twice.
    pub servers: Vec<ServerSnapshot>,
}

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSnapshot {
    /// What makes it unique in its service.
    pub key: ServerKey,
    /// What can be changed of it.
    pub options: ServerOptions,
    /// Its last weight above 0: Maglev hashing goes by it while the weight
    /// is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_weight: u32,
}

impl ServerSnapshot {
    /// A server that has not had another weight before.
    pub const fn new(key: ServerKey, options: ServerOptions) -> Self {
        let last_weight = options.weight;
        Self {
            key,
            options,
            last_weight,
        }
    }

    /// The commands that add it.
    fn commands(&self, service: ServiceKey) -> impl Iterator<Item = Command> {
        let Self {
            key,
            options,
            last_weight,
        } = *self;
        let is_quiesced = options.weight == 0 && last_weight > 0;
        let added = ServerOptions {
            weight: if is_quiesced {
                last_weight
            } else {
                options.weight
            },
            ..options
        };
        let quiesce = is_quiesced.then_some(Command::EditServer(service, key, options));
        std::iter::once(Command::AddServer(service, key, added)).chain(quiesce)
    }
}

impl ServiceSnapshot {
    /// The commands that add it and its servers.
    pub(super) fn commands(&self) -> impl Iterator<Item = Command> {
        let servers = self.servers.iter();
        std::iter::once(Command::AddService(self.key, self.options))
            .chain(servers.flat_map(|server| server.commands(self.key)))
    }
}

impl Snapshot {
    /// The commands that make all its services where there is none.
    pub(super) fn commands(&self) -> impl Iterator<Item = Command> {
        self.services.iter().flat_map(ServiceSnapshot::commands)
    }

    /// What a director could not have written, if there is something.
    pub fn defect(&self) -> Option<String> {
        let mut services = HashSet::new();
        for ServiceSnapshot { key, servers, .. } in &self.services {
            if !services.insert(*key) {
                return Some(format!("service {key} stands twice"));
            }
            let mut addresses = HashSet::new();
            for server in servers {
                let address = server.key;
                if !addresses.insert(address) {
                    return Some(format!("service {key} has {address} twice"));
                }
                if !is_possible(server) {
                    return Some(format!(
                        "service {key} has {address} with impossible options"
                    ));
                }
            }
        }
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts;
        let are_timeouts = [tcp, tcp_fin, udp]
            .iter()
            .all(|s| (1..=Timeouts::MAX_S).contains(s));
        if !are_timeouts {
            return Some("a timeout is out of range".to_owned());
        }
        let tunable = TUNABLES.iter().find(|it| it.of(&self.tunables) > it.max)?;
        Some(format!("{} is out of range", tunable.name))
    }
}

const fn is_possible(server: &ServerSnapshot) -> bool {
    let ServerOptions {
        weight,
        upper_threshold,
        lower_threshold,
        tunnel,
    } = server.options;
    let has_l4_port = !matches!(tunnel, TunnelKind::Gue { l4_port: 0, .. });
    weight <= WEIGHT_MAX
        && server.last_weight <= WEIGHT_MAX
        && lower_threshold <= upper_threshold
        && has_l4_port
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde prescribes it")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}
