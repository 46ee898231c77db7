//! The kernel's settings and the timeouts, set at run time: what holds now, and
//! what becomes of it when the configuration is read again.

use super::{
    Management,
    command::Command,
    status::{Response, SettingsStatus},
};
use crate::{
    config::DirectorConfig,
    io::Driver,
    ipvsadm::set_timeouts,
    service::{TUNABLES, Timeouts, Tunables},
};

impl<D: Driver> Management<D> {
    pub(super) fn settings_status(&self) -> SettingsStatus {
        let director = &self.config.director;
        SettingsStatus {
            tunables: self.services.tunables,
            timeouts: self.services.timeouts,
            configured_tunables: director.tunables,
            configured_timeouts: director.timeouts,
        }
    }

    /// `pointsman set NAME VALUE`
    pub(super) fn set_tunable(&mut self, name: &str, value: u32) -> Response {
        let mut tunables = self.services.tunables;
        if let Err(error) = tunables.set(name, value) {
            return Response::Error(error.to_string());
        }
        self.set(&Command::SetTunables(tunables), &format!("{name} {value}"))
    }

    /// `pointsman set timeouts TCP TCPFIN UDP`, where 0 leaves one as it is.
    pub(super) fn set_timeouts(&mut self, seconds: [u32; 3]) -> Response {
        if let Some(wrong) = seconds.iter().find(|seconds| **seconds > Timeouts::MAX_S) {
            return Response::Error(format!(
                "a timeout cannot be {wrong} s; write 0 to leave it as it is, or 1 to {}",
                Timeouts::MAX_S
            ));
        }
        let timeouts = set_timeouts(self.services.timeouts, seconds);
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        let what = format!("timeouts {tcp} {tcp_fin} {udp}");
        self.set(&Command::SetTimeouts(timeouts), &what)
    }

    fn set(&mut self, command: &Command, what: &str) -> Response {
        match self.apply(command) {
            Ok(()) => {
                log::info!("set at run time: {what}");
                Response::Settings(self.settings_status())
            }
            Err(error) => Response::Error(error.to_string()),
        }
    }

    /// Says in the log which settings that were made at run time the file
    /// takes back.
    pub(super) fn log_settings_taken_back(&self, file: &DirectorConfig) {
        for line in taken_back(&self.settings_status(), file.tunables, file.timeouts) {
            log::info!("{line}");
        }
    }
}

/// What was set at run time, and is something else by the file. What the file
/// itself changes is not in it.
fn taken_back(now: &SettingsStatus, tunables: Tunables, timeouts: Timeouts) -> Vec<String> {
    let all = |tunables: Tunables, timeouts: Timeouts| {
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        let timeouts = [("tcp", tcp), ("tcp_fin", tcp_fin), ("udp", udp)];
        TUNABLES
            .iter()
            .map(|tunable| (tunable.name, tunable.of(&tunables)))
            .collect::<Vec<_>>()
            .into_iter()
            .chain(timeouts.map(|(name, seconds)| (name, seconds)))
    };
    let running = all(now.tunables, now.timeouts);
    let before = all(now.configured_tunables, now.configured_timeouts);
    running
        .zip(before)
        .zip(all(tunables, timeouts))
        .filter(|(((_, now), (_, before)), (_, file))| now != before && now != file)
        .map(|(((name, now), _), (_, file))| {
            format!("{name} is {file} again, as the file says; {now} was set at run time")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_at_run_time_is_taken_back() {
        let file = Tunables::default();
        let now = SettingsStatus {
            tunables: Tunables {
                conn_reuse_mode: 0,
                sloppy_tcp: true,
                ..file
            },
            timeouts: Timeouts {
                udp: 10,
                ..Timeouts::default()
            },
            configured_tunables: file,
            configured_timeouts: Timeouts::default(),
        };
        // The file has changed two settings: one of those, and another.
        let changed = Tunables {
            sloppy_tcp: true,
            pmtu_disc: false,
            ..file
        };
        assert_eq!(
            taken_back(&now, changed, Timeouts::default()),
            [
                "conn_reuse_mode is 1 again, as the file says; 0 was set at run time",
                "udp is 300 again, as the file says; 10 was set at run time",
            ]
        );
    }
}
