//! Changes of services at run time, each with one line in the log: what, and by
//! which way it came.
#![forbid(unsafe_code)]

use super::{
    Management,
    command::{Command, CommandError},
};
use crate::{
    io::Driver,
    service::{ServerKey, ServerOptions, ServiceKey},
};

/// The way by which a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration was read again.
    File,
    /// A client asked: over the control socket, as ipvsadm, or by HTTP.
    Request,
}

impl Origin {
    const fn name(self) -> &'static str {
        match self {
            Self::File => "configuration file",
            Self::Request => "at run time",
        }
    }
}

impl<D: Driver> Management<D> {
    /// [`apply`](Self::apply), and a line in the log when it took effect.
    pub(super) fn apply_from(
        &mut self,
        origin: Origin,
        command: &Command,
    ) -> Result<(), CommandError> {
        let before = match command {
            Command::EditServer(service, server, _) => self.options_of(service, server),
            _ => None,
        };
        self.apply(command)?;
        if let Some(what) = describe(command, before) {
            log::info!("{}: {what}", origin.name());
        }
        Ok(())
    }

    fn options_of(&self, service: &ServiceKey, server: &ServerKey) -> Option<ServerOptions> {
        let servers = &self.services.service(service)?.servers;
        servers
            .iter()
            .filter_map(|&index| self.services.server(index))
            .find(|present| present.key == *server)
            .map(|present| present.options)
    }
}

/// What a command did, where `before` is what the server that it edits was
/// like. Settings have lines of their own.
fn describe(command: &Command, before: Option<ServerOptions>) -> Option<String> {
    Some(match command {
        Command::AddService(service, options) => {
            format!("service {service} added, scheduler {}", options.scheduler)
        }
        Command::EditService(service, options) => {
            format!("service {service} changed, scheduler {}", options.scheduler)
        }
        Command::DeleteService(service) => format!("service {service} deleted"),
        Command::AddServer(service, server, options) => {
            format!(
                "server {server} added to {service}, weight {}",
                options.weight
            )
        }
        Command::EditServer(service, server, options) => match before {
            Some(before) if before.weight != options.weight => format!(
                "server {server} of {service} has weight {}, had {}",
                options.weight, before.weight
            ),
            _ => format!("server {server} of {service} changed"),
        },
        Command::DeleteServer(service, server) => format!("server {server} deleted from {service}"),
        Command::Flush => "all services deleted".to_owned(),
        Command::Zero(None) => "counters of all services back to 0".to_owned(),
        Command::Zero(Some(service)) => format!("counters of {service} back to 0"),
        Command::SetTimeouts(_) | Command::SetTunables(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Protocol;

    #[test]
    fn each_change_is_one_line_that_names_the_server_and_its_service() {
        let service = ServiceKey::at(Protocol::Tcp, "192.0.2.10:80".parse().unwrap());
        let server = ServerKey {
            address: "10.0.0.11".parse().unwrap(),
        };
        let weight = |weight| ServerOptions {
            weight,
            ..ServerOptions::default()
        };
        let edit = Command::EditServer(service, server, weight(5));
        for (command, before, line) in [
            (
                Command::AddServer(service, server, weight(3)),
                None,
                "server 10.0.0.11 added to TCP 192.0.2.10:80, weight 3",
            ),
            (
                edit.clone(),
                Some(weight(3)),
                "server 10.0.0.11 of TCP 192.0.2.10:80 has weight 5, had 3",
            ),
            (
                edit,
                Some(weight(5)),
                "server 10.0.0.11 of TCP 192.0.2.10:80 changed",
            ),
            (
                Command::DeleteServer(service, server),
                None,
                "server 10.0.0.11 deleted from TCP 192.0.2.10:80",
            ),
            (
                Command::DeleteService(service),
                None,
                "service TCP 192.0.2.10:80 deleted",
            ),
            (Command::Flush, None, "all services deleted"),
        ] {
            assert_eq!(describe(&command, before).unwrap(), line);
        }
    }
}
