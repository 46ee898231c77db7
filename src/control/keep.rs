//! Keeping services and settings: what there is to be saved and when, and what
//! a director begins with.

use std::time::Duration;

use super::{
    Management,
    changes::Origin,
    command::{Command, CommandError},
    merge::merge,
    saved::Saved,
    snapshot::{ServerSnapshot, ServiceSnapshot, Snapshot},
    state_file::StateWriter,
    status::StateFileStatus,
};
use crate::{
    clock::Ticks,
    config::{Config, ServiceConfig},
    io::Driver,
};

/// The state file of a management thread, and what it does not know yet.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    writer: Option<StateWriter>,
    /// Whether something changed since the file was given a state.
    unsaved: bool,
    saved_at: Option<Ticks>,
}

impl Keeper {
    /// Something changed that is to outlive the director.
    pub(super) const fn changed(&mut self) {
        self.unsaved = true;
    }
}

impl<D: Driver> Management<D> {
    /// Saves services and settings from now on, at once for the first time.
    pub fn keep_state(&mut self, writer: StateWriter) {
        self.keeper.writer = Some(writer);
        self.keeper.unsaved = true;
    }

    /// Saves what has not been saved, and ends that. Waits for the disk.
    pub fn finish_keeping(&mut self) {
        let Some(writer) = self.keeper.writer.take() else {
            return;
        };
        let last = self.keeper.unsaved.then(|| self.saved());
        writer.finish(last);
    }

    /// Gives the state file what it does not know, but not too often, and never
    /// waits for it.
    pub(super) fn save(&mut self, now: Ticks) {
        let Some(writer) = &self.keeper.writer else {
            return;
        };
        let interval_ms = save_interval_ms(writer.took());
        let is_early = |at| now.ms_since(at) < interval_ms;
        if !self.keeper.unsaved || !writer.is_ready() || self.keeper.saved_at.is_some_and(is_early)
        {
            return;
        }
        let saved = self.saved();
        if let Some(writer) = &mut self.keeper.writer {
            writer.save(saved);
        }
        self.keeper.unsaved = false;
        self.keeper.saved_at = Some(now);
    }

    /// Makes services and settings what the last director left, with what the
    /// file has changed since then; without one, what the file says.
    ///
    /// # Errors
    /// [`CommandError`] when the director cannot hold it all.
    pub(super) fn begin_with(&mut self, saved: Option<Saved>) -> Result<(), CommandError> {
        let file = of_config(&self.config);
        let Some(Saved {
            file: base,
            running,
            saved_by,
        }) = saved
        else {
            let nothing = Snapshot {
                services: Vec::new(),
                ..file.clone()
            };
            return self.apply_merge(None, &nothing, &file);
        };
        self.apply(&Command::SetTimeouts(running.timeouts))?;
        self.apply(&Command::SetTunables(running.tunables))?;
        running
            .commands()
            .try_for_each(|command| self.apply(&command))?;
        log::info!(
            "services and settings are those of the last director, pointsman {saved_by}, with \
             what the configuration has changed since: {} services",
            running.services.len()
        );
        self.apply_merge(None, &base, &file)
    }

    /// Takes up what is another in `file` than it was in `base`. With an
    /// `origin` the log has a line for each change.
    ///
    /// # Errors
    /// [`CommandError`] when the director cannot hold it all; what came before
    /// the refused change has taken effect.
    pub(super) fn apply_merge(
        &mut self,
        origin: Option<Origin>,
        base: &Snapshot,
        file: &Snapshot,
    ) -> Result<(), CommandError> {
        let merge = merge(base, file, &self.snapshot());
        for line in merge.overridden.iter().take(LOG_LINES_MAX) {
            log::info!("{line}");
        }
        if let Some(more) = merge
            .overridden
            .len()
            .checked_sub(LOG_LINES_MAX)
            .filter(|n| *n > 0)
        {
            log::info!("and {more} more things that were set at run time are as the file says");
        }
        self.keeper.changed();
        merge.commands.iter().try_for_each(|command| match origin {
            Some(origin) => self.apply_from(origin, command),
            None => self.apply(command),
        })
    }

    /// Takes back all that was changed at run time.
    ///
    /// # Errors
    /// [`CommandError`] when the director cannot hold what the file says.
    pub(super) fn revert(&mut self) -> Result<(), CommandError> {
        let (running, file) = (self.snapshot(), of_config(&self.config));
        log::info!("all that was changed at run time is taken back");
        self.apply_merge(Some(Origin::File), &running, &file)
    }

    pub(super) fn state_file_status(&self) -> Option<StateFileStatus> {
        let writer = self.keeper.writer.as_ref()?;
        Some(StateFileStatus {
            path: writer.path().to_owned(),
            saves: writer.saves(),
            errors: writer.errors(),
            is_saved: !self.keeper.unsaved && writer.is_saved(),
        })
    }

    fn saved(&self) -> Saved {
        Saved {
            saved_by: self.info.version.clone(),
            file: of_config(&self.config),
            running: self.snapshot(),
        }
    }

    /// What holds.
    pub(super) fn snapshot(&self) -> Snapshot {
        let services = self.services.iter().map(|(key, service)| {
            let servers = service.servers.iter().rev();
            let servers = servers.filter_map(|&index| self.services.server(index));
            ServiceSnapshot {
                key: *key,
                options: service.options,
                servers: servers
                    .map(|server| ServerSnapshot {
                        key: server.key,
                        options: server.options,
                        last_weight: server.last_weight,
                    })
                    .collect(),
            }
        });
        Snapshot {
            timeouts: self.services.timeouts,
            tunables: self.services.tunables,
            services: services.collect(),
        }
    }
}

/// What the configuration says.
pub(super) fn of_config(config: &Config) -> Snapshot {
    let service = |service: &ServiceConfig| ServiceSnapshot {
        key: service.key,
        options: service.options,
        servers: service
            .servers
            .iter()
            .map(|&(key, options)| ServerSnapshot::new(key, options))
            .collect(),
    };
    Snapshot {
        timeouts: config.director.timeouts,
        tunables: config.director.tunables,
        services: config.services.iter().map(service).collect(),
    }
}

/// How long after one state the file is given the next one, where writing takes
/// so long: changes that stream in are not to keep a core busy with files.
fn save_interval_ms(took: Duration) -> u64 {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    took_ms
        .saturating_mul(SAVE_SHARE)
        .clamp(SAVE_INTERVAL_MS_MIN, SAVE_INTERVAL_MS_MAX)
}

/// Writing takes one part in so many of the time.
const SAVE_SHARE: u64 = 10;
const SAVE_INTERVAL_MS_MIN: u64 = 250;
const SAVE_INTERVAL_MS_MAX: u64 = 5000;
/// Lines of the log about what the file has overridden.
const LOG_LINES_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_takes_long_to_write_is_written_less_often() {
        for (took_ms, interval_ms) in [(0, 250), (25, 250), (80, 800), (900, 5000)] {
            let took = Duration::from_millis(took_ms);
            assert_eq!(save_interval_ms(took), interval_ms, "{took:?}");
        }
    }
}
