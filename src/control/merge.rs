//! What becomes of a running director when its file says something else.
//!
//! Services and settings are changed in two ways: by the file, and at run time.
//! A file that is read again must not undo what was done at run time, and what
//! was done at run time must not keep the file from having an effect. So three
//! versions are compared: the file as it was read last (the base), the file as
//! it is now, and what holds. What the file changes holds; everything else
//! stays as it is.
//!
//! The parts that are compared one by one: services, of each its scheduler with
//! flags, one-packet scheduling, persistence and outer sources; their servers,
//! of each its weight, its two thresholds and its tunnel; each setting and each
//! timeout. What the file takes out goes, with all that was added to it at run
//! time. What was deleted at run time stays away until the file says something
//! new of it; then it comes back as the file has it.
#![forbid(unsafe_code)]

use std::{collections::HashMap, fmt};

use super::{
    command::Command,
    snapshot::{ServerSnapshot, ServiceSnapshot, Snapshot},
};
use crate::service::{
    Persistence, ServerKey, ServerOptions, ServiceKey, ServiceOptions, TUNABLES, Timeouts,
};

/// What is to be done so that the file's changes hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// In an order in which all of them can be carried out.
    pub commands: Vec<Command>,
    /// What was set at run time and is something else now, as sentences.
    pub overridden: Vec<String>,
}

/// Compares the file as it was (`base`) and is (`file`) with what is `running`.
pub fn merge(base: &Snapshot, file: &Snapshot, running: &Snapshot) -> Merge {
    let mut plan = Plan::default();
    plan.settings(base, file, running);
    plan.services(base, file, running);
    let Plan {
        mut deletions,
        edits,
        additions,
        overridden,
    } = plan;
    // Room is made before it is taken.
    deletions.extend(edits);
    deletions.extend(additions);
    Merge {
        commands: deletions,
        overridden,
    }
}

#[derive(Default)]
struct Plan {
    deletions: Vec<Command>,
    edits: Vec<Command>,
    additions: Vec<Command>,
    overridden: Vec<String>,
}

/// One value in the three versions. Without a base all of the file is new.
struct Versions<T> {
    base: Option<T>,
    file: T,
    running: T,
}

impl<T: PartialEq + Copy> Versions<T> {
    fn of<S>(versions: &Versions<&S>, part: impl Fn(&S) -> T) -> Self {
        Self {
            base: versions.base.map(&part),
            file: part(versions.file),
            running: part(versions.running),
        }
    }

    /// What holds from now on.
    fn merged(&self) -> T {
        if self.base == Some(self.file) {
            self.running
        } else {
            self.file
        }
    }

    /// Whether it was set to something at run time that it no longer is.
    fn is_overridden(&self) -> bool {
        self.merged() != self.running && self.base != Some(self.running)
    }
}

impl Plan {
    /// The value that holds from now on; `what` names it in the log.
    fn part<T: PartialEq + Copy>(
        &mut self,
        what: impl FnOnce() -> String,
        versions: &Versions<T>,
        show: impl Fn(T) -> String,
    ) -> T {
        let merged = versions.merged();
        if versions.is_overridden() {
            self.overridden.push(format!(
                "{} is {}, as the file now says; {} was set at run time",
                what(),
                show(merged),
                show(versions.running)
            ));
        }
        merged
    }

    fn settings(&mut self, base: &Snapshot, file: &Snapshot, running: &Snapshot) {
        let versions = Versions {
            base: Some(base),
            file,
            running,
        };
        let mut tunables = running.tunables;
        for tunable in &TUNABLES {
            let values = Versions::of(&versions, |it: &Snapshot| tunable.of(&it.tunables));
            let value = self.part(
                || tunable.name.to_owned(),
                &values,
                |value| value.to_string(),
            );
            // As it stands in one of the versions, so that it is in range.
            let _ = tunable.set(&mut tunables, value);
        }
        let mut timeout = |name: &str, part: fn(&Timeouts) -> u32| {
            let values = Versions::of(&versions, |it: &Snapshot| part(&it.timeouts));
            self.part(|| name.to_owned(), &values, |value| value.to_string())
        };
        let timeouts = Timeouts {
            tcp: timeout("tcp", |it| it.tcp),
            tcp_fin: timeout("tcp_fin", |it| it.tcp_fin),
            udp: timeout("udp", |it| it.udp),
        };
        if tunables != running.tunables {
            self.edits.push(Command::SetTunables(tunables));
        }
        if timeouts != running.timeouts {
            self.edits.push(Command::SetTimeouts(timeouts));
        }
    }

    fn services(&mut self, base: &Snapshot, file: &Snapshot, running: &Snapshot) {
        let (in_base, in_file) = (by_key(base), by_key(file));
        for service in &running.services {
            let key = service.key;
            let base = in_base.get(&key).copied();
            match (base, in_file.get(&key)) {
                (_, Some(file)) => self.service(&Versions {
                    base,
                    file: *file,
                    running: service,
                }),
                (Some(base), None) => {
                    self.deletions.push(Command::DeleteService(key));
                    if !is_same(base, service) {
                        self.overridden.push(format!(
                            "service {key} goes, as the file no longer has it, with what was \
                             changed of it at run time"
                        ));
                    }
                }
                (None, None) => {}
            }
        }
        let in_running = by_key(running);
        for service in file
            .services
            .iter()
            .filter(|it| !in_running.contains_key(&it.key))
        {
            let base = in_base.get(&service.key).copied();
            if base.is_none_or(|base| says_something_new(base, service)) {
                self.additions.extend(service.commands());
                self.returned(base.is_some(), format_args!("service {}", service.key));
            }
        }
    }

    fn service(&mut self, versions: &Versions<&ServiceSnapshot>) {
        let key = versions.running.key;
        let options = Versions::of(versions, |it| it.options);
        let merged = self.service_options(key, &options);
        if merged != options.running {
            self.edits.push(Command::EditService(key, merged));
        }
        let find = |service: Option<&ServiceSnapshot>, key: ServerKey| -> Option<ServerSnapshot> {
            service?.servers.iter().find(|it| it.key == key).copied()
        };
        for server in &versions.running.servers {
            let base = find(versions.base, server.key);
            match (base, find(Some(versions.file), server.key)) {
                (base, Some(file)) => {
                    let options = Versions {
                        base: base.map(|it| it.options),
                        file: file.options,
                        running: server.options,
                    };
                    let merged = self.server_options(key, server.key, &options);
                    if merged != server.options {
                        let edit = Command::EditServer(key, server.key, merged);
                        self.edits.push(edit);
                    }
                }
                (Some(base), None) => {
                    self.deletions.push(Command::DeleteServer(key, server.key));
                    if base.options != server.options {
                        self.overridden.push(format!(
                            "service {key}: {} goes, as the file no longer has it, with what was \
                             changed of it at run time",
                            server.key
                        ));
                    }
                }
                (None, None) => {}
            }
        }
        for server in &versions.file.servers {
            let base = find(versions.base, server.key);
            let is_new = base.is_none_or(|base| base.options != server.options);
            if is_new && find(Some(versions.running), server.key).is_none() {
                let add = Command::AddServer(key, server.key, server.options);
                self.additions.push(add);
                self.returned(
                    base.is_some(),
                    format_args!("service {key}: {}", server.key),
                );
            }
        }
    }

    fn service_options(
        &mut self,
        key: ServiceKey,
        options: &Versions<ServiceOptions>,
    ) -> ServiceOptions {
        let Versions {
            base,
            file,
            running,
        } = options;
        let options = Versions {
            base: base.as_ref(),
            file,
            running,
        };
        let what = |part: &str| format!("service {key}: {part}");
        let picked = Versions::of(&options, |it| (it.scheduler, it.flags));
        let (scheduler, flags) = self.part(
            || what("the scheduler"),
            &picked,
            |(scheduler, flags)| {
                [vec![scheduler.to_string()], flags.names(scheduler)]
                    .concat()
                    .join(" ")
            },
        );
        let one_packet = Versions::of(&options, |it| it.one_packet);
        let persistence = Versions::of(&options, |it| it.persistence);
        let outer_source = Versions::of(&options, |it| it.outer_source);
        ServiceOptions {
            scheduler,
            flags,
            one_packet: self.part(
                || what("one-packet scheduling"),
                &one_packet,
                |on| if on { "on" } else { "off" }.to_owned(),
            ),
            persistence: self.part(
                || what("the persistence"),
                &persistence,
                |persistence| {
                    let text = |it: Persistence| format!("{} s by {}", it.timeout_s, it.mask);
                    persistence.map_or_else(none, text)
                },
            ),
            outer_source: self.part(
                || what("the outer source"),
                &outer_source,
                |network| network.map_or_else(none, |network| network.to_string()),
            ),
        }
    }

    fn server_options(
        &mut self,
        service: ServiceKey,
        server: ServerKey,
        options: &Versions<ServerOptions>,
    ) -> ServerOptions {
        let options = Versions {
            base: options.base.as_ref(),
            file: &options.file,
            running: &options.running,
        };
        let what = |part: &str| format!("service {service}: the {part} of {server}");
        let weight = Versions::of(&options, |it| it.weight);
        let thresholds = Versions::of(&options, |it| (it.upper_threshold, it.lower_threshold));
        let tunnel = Versions::of(&options, |it| it.tunnel);
        let (upper_threshold, lower_threshold) = self.part(
            || what("upper and lower threshold"),
            &thresholds,
            |(upper, lower)| format!("{upper} and {lower}"),
        );
        ServerOptions {
            weight: self.part(|| what("weight"), &weight, |weight| weight.to_string()),
            upper_threshold,
            lower_threshold,
            tunnel: self.part(|| what("tunnel"), &tunnel, |tunnel| tunnel.to_string()),
        }
    }

    fn returned(&mut self, is_known: bool, what: fmt::Arguments<'_>) {
        if is_known {
            self.overridden.push(format!(
                "{what} is back, as the file says something new of it; it was deleted at run time"
            ));
        }
    }
}

/// Whether the file has something of this service that it did not have before.
fn says_something_new(base: &ServiceSnapshot, file: &ServiceSnapshot) -> bool {
    let is_new = |server: &ServerSnapshot| {
        let before = base.servers.iter().find(|it| it.key == server.key);
        before.is_none_or(|before| before.options != server.options)
    };
    base.options != file.options || file.servers.iter().any(is_new)
}

/// Whether nothing was changed of a service; the order of its servers aside.
fn is_same(base: &ServiceSnapshot, running: &ServiceSnapshot) -> bool {
    let is_in = |all: &[ServerSnapshot], server: &ServerSnapshot| {
        all.iter()
            .any(|it| it.key == server.key && it.options == server.options)
    };
    base.options == running.options
        && base.servers.len() == running.servers.len()
        && base
            .servers
            .iter()
            .all(|server| is_in(&running.servers, server))
}

fn by_key(snapshot: &Snapshot) -> HashMap<ServiceKey, &ServiceSnapshot> {
    snapshot
        .services
        .iter()
        .map(|service| (service.key, service))
        .collect()
}

fn none() -> String {
    "none".to_owned()
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
