//! `pointsman set`: changes a setting of a running director.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Args, error::ErrorKind};

use crate::{
    config::CONTROL_SOCKET_DEFAULT,
    control::{
        socket::{QueryError, query},
        status::{Request, Response, SettingsStatus},
    },
    service::{Timeouts, Tunable, TunableError, Tunables},
};

/// What to set to what.
#[derive(Debug, Args)]
pub(super) struct SetArguments {
    /// A setting of the kernel, as in /proc/sys/net/ipv4/vs, or "timeouts"
    #[arg(value_name = "NAME")]
    name: String,
    /// Its value, 1 and 0 for on and off; for "timeouts" three, as for `ipvsadm --set`: seconds for
    /// TCP, TCP after FIN, and UDP, of which 0 leaves one as it is
    #[arg(value_name = "VALUE", required = true)]
    values: Vec<u32>,
    /// The control socket of the director
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET_DEFAULT)]
    socket: PathBuf,
}

impl SetArguments {
    /// What to ask of the director.
    ///
    /// # Errors
    /// When there is no such setting, or not with such values.
    pub(super) fn request(&self) -> Result<Request, clap::Error> {
        let wrong = |message: String| clap::Error::raw(ErrorKind::ValueValidation, message + "\n");
        match (self.name.as_str(), self.values.as_slice()) {
            (TIMEOUTS, &[tcp, tcp_fin, udp]) => Ok(Request::SetTimeouts { tcp, tcp_fin, udp }),
            (TIMEOUTS, _) => Err(wrong(
                "timeouts takes three values; write for example: pointsman set timeouts 900 120 \
                 300"
                .to_owned(),
            )),
            (name, &[value]) => {
                // What the director would refuse, nobody has to ask it.
                let checked = Tunables::default().set(name, value);
                checked.map_err(|error| {
                    let more = match error {
                        TunableError::Unknown { .. } => ", or timeouts",
                        TunableError::OutOfRange { .. } => "",
                    };
                    wrong(format!("{error}{more}"))
                })?;
                let name = name.to_owned();
                Ok(Request::SetTunable { name, value })
            }
            (name, _) => Err(wrong(format!(
                "{name} takes one value; write for example: pointsman set {name} 1"
            ))),
        }
    }

    /// Changes it, and says what holds then.
    ///
    /// # Errors
    /// When there is no director, or it refuses.
    pub(super) fn change(&self, request: &Request) -> Result<String, QueryError> {
        Ok(match query(&self.socket, request)? {
            Response::Settings(settings) => self.answer(&settings),
            _ => String::new(),
        })
    }

    fn answer(&self, settings: &SettingsStatus) -> String {
        if let Some(tunable) = Tunable::find(&self.name) {
            return format!("{} = {}", tunable.name, tunable.of(&settings.tunables));
        }
        let Timeouts { tcp, tcp_fin, udp } = settings.timeouts;
        format!("{TIMEOUTS} = {tcp} {tcp_fin} {udp}")
    }
}

const TIMEOUTS: &str = "timeouts";
