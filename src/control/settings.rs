//! The kernel's settings and the timeouts, set at run time.

use super::{
    Management,
    changes::Origin,
    command::{Command, CommandError},
    edit::{Edit, EditError, check_service},
    status::{Response, SettingsStatus},
};
use crate::{
    io::Driver,
    ipvsadm::set_timeouts,
    service::{ServerKey, ServerOptions, ServiceKey, Timeouts},
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

    /// Changes parts of options, or some settings.
    pub(super) fn edit(&mut self, edit: &Edit) -> Response {
        match self.edited(edit) {
            Ok(commands) => {
                let applied = commands
                    .iter()
                    .try_for_each(|command| self.apply_from(Origin::Request, command));
                applied.map_or_else(Response::Refused, |()| Response::Applied)
            }
            Err(response) => *response,
        }
    }

    /// The commands that an edit amounts to.
    fn edited(&self, edit: &Edit) -> Result<Vec<Command>, Box<Response>> {
        let wrong = |error: EditError| Box::new(Response::Error(error.to_string()));
        let refused = |error| Box::new(Response::Refused(error));
        match edit {
            Edit::Service(key, patch) => {
                let service = self.services.service(key);
                let service = service.ok_or_else(|| refused(CommandError::NoSuchService(*key)))?;
                let options = patch.applied_to(service.options);
                check_service(key, &options).map_err(wrong)?;
                Ok(vec![Command::EditService(*key, options)])
            }
            Edit::Server(service, key, patch) => {
                let options = self.server_options(service, key).map_err(refused)?;
                Ok(vec![Command::EditServer(
                    *service,
                    *key,
                    patch.applied_to(options),
                )])
            }
            Edit::Settings(patch) => {
                let (tunables, timeouts) = patch
                    .applied_to(self.services.tunables, self.services.timeouts)
                    .map_err(wrong)?;
                Ok(vec![
                    Command::SetTunables(tunables),
                    Command::SetTimeouts(timeouts),
                ])
            }
        }
    }

    fn server_options(
        &self,
        service: &ServiceKey,
        key: &ServerKey,
    ) -> Result<ServerOptions, CommandError> {
        let listed = self
            .services
            .service(service)
            .ok_or(CommandError::NoSuchService(*service))?;
        let mut servers = listed
            .servers
            .iter()
            .filter_map(|&index| self.services.server(index));
        let server = servers.find(|server| server.key == *key);
        server
            .map(|server| server.options)
            .ok_or(CommandError::NoSuchServer(*service, *key))
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
}
