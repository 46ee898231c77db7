//! `pointsman show`: asks a running director and prints what it says.
#![forbid(unsafe_code)]

mod parts;
pub(super) mod services;

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    config::CONTROL_SOCKET_DEFAULT,
    control::{
        socket::{QueryError, query},
        status::{CONNECTIONS_SHOWN_DEFAULT, Request, Response, ServiceStatus},
    },
    ipvsadm::{Columns, listing},
    service::{ServiceKey, ServiceKeyError},
};

/// What to ask whom.
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    #[command(subcommand)]
    what: What,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// The control socket of the director
    #[arg(long, global = true, value_name = "PATH", default_value = CONTROL_SOCKET_DEFAULT)]
    socket: PathBuf,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Virtual services with their real servers, as ipvsadm -Ln has them
    Services {
        /// How to print them; those that begin with "ipvsadm" are its own texts
        #[arg(long, value_enum, default_value_t, conflicts_with = "json")]
        format: ServicesFormat,
    },
    /// Connections, as ipvsadm -Lnc has them
    Connections {
        /// How to print them; "ipvsadm" is the text of its -Lcn
        #[arg(long, value_enum, default_value_t, conflicts_with = "json")]
        format: ConnectionsFormat,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = CONNECTIONS_SHOWN_DEFAULT)]
        limit: usize,
        /// Only those of this service: 192.0.2.10:80 (TCP), udp/192.0.2.10:53, tcp/192.0.2.0/28:80,
        /// or by firewall mark: fwmark/5 (IPv4), fwmark6/5
        #[arg(long)]
        service: Option<ServiceFilter>,
    },
    /// Packets dropped and handed to the management thread, by reason, and other events
    Counters {
        /// Also those that are 0
        #[arg(long)]
        all: bool,
    },
    /// Worker threads: how busy they are, and with what
    Workers,
    /// NIC ports: link, queues, offloads, frames
    Ports,
    /// The neighbor (ARP) table
    Neighbors,
    /// The route table
    Routes,
    /// The director as a whole
    Director,
    /// The kernel's settings and the timeouts, which `pointsman set` changes
    Settings,
}

impl What {
    fn request(&self) -> Request {
        match *self {
            Self::Services { .. } => Request::Services,
            Self::Connections { limit, service, .. } => Request::Connections {
                limit,
                service: service.map(|filter| filter.0),
            },
            Self::Counters { .. } => Request::Counters,
            Self::Workers => Request::Workers,
            Self::Ports => Request::Ports,
            Self::Neighbors => Request::Neighbors,
            Self::Routes => Request::Routes,
            Self::Director => Request::Director,
            Self::Settings => Request::Settings,
        }
    }
}

/// How services are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ServicesFormat {
    /// A table for people
    #[default]
    Table,
    /// Command lines that make these services, as `ipvsadm -Sn` prints them
    Ipvsadm,
    /// `ipvsadm -Ln`
    IpvsadmList,
    /// `ipvsadm -Ln --stats --exact`
    IpvsadmStats,
    /// `ipvsadm -Ln --rate --exact`
    IpvsadmRate,
    /// `ipvsadm -Ln --thresholds`
    IpvsadmThresholds,
    /// `ipvsadm -Ln --persistent-conn`
    IpvsadmPersistentConn,
    /// `ipvsadm -Ln --tun-info`
    IpvsadmTunInfo,
}

impl ServicesFormat {
    fn text(self, services: &[ServiceStatus]) -> String {
        let list = |columns| listing::services(services, columns, true, true, true);
        match self {
            Self::Table => services::services(services),
            Self::Ipvsadm => listing::save(services),
            Self::IpvsadmList => list(Columns::Ordinary),
            Self::IpvsadmStats => list(Columns::Statistics),
            Self::IpvsadmRate => list(Columns::Rates),
            Self::IpvsadmThresholds => list(Columns::Thresholds),
            Self::IpvsadmPersistentConn => list(Columns::PersistentConnections),
            Self::IpvsadmTunInfo => list(Columns::TunnelInfo),
        }
    }
}

/// How connections are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ConnectionsFormat {
    /// A table for people
    #[default]
    Table,
    /// `ipvsadm -Lcn`
    Ipvsadm,
}

/// A service as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServiceFilter(ServiceKey);

impl FromStr for ServiceFilter {
    type Err = ServiceKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShowError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The text that answers, without a newline at its end.
pub(super) fn show(arguments: &ShowArguments) -> Result<String, ShowError> {
    let response = query(&arguments.socket, &arguments.what.request())?;
    if arguments.json {
        return Ok(json(&response)?);
    }
    Ok(text(&response, &arguments.what)
        .trim_end_matches('\n')
        .to_owned())
}

fn text(response: &Response, what: &What) -> String {
    match response {
        Response::Services(services) => match what {
            What::Services { format } => format.text(services),
            _ => services::services(services),
        },
        Response::Connections {
            connections,
            total,
            truncated,
        } => match what {
            What::Connections {
                format: ConnectionsFormat::Ipvsadm,
                ..
            } => {
                if *truncated {
                    // The text itself has no place for that.
                    let shown = connections.len();
                    log::warn!("{shown} of {total} connections are shown; --limit shows more");
                }
                listing::connections(connections)
            }
            _ => services::connections(connections, *total, *truncated),
        },
        Response::Counters(counters) => {
            parts::counters(counters, matches!(what, What::Counters { all: true }))
        }
        Response::Workers(workers) => parts::workers(workers),
        Response::Ports(ports) => parts::ports(ports),
        Response::Neighbors(neighbors) => parts::neighbors(neighbors),
        Response::Routes(routes) => parts::routes(routes),
        Response::Director(director) => parts::director(director),
        Response::Settings(settings) => parts::settings(settings),
        // Nothing that is shown is answered so.
        Response::Applied
        | Response::Explain(_)
        | Response::CaptureStarted { .. }
        | Response::Captured(_)
        | Response::Statistics { .. } => String::new(),
        Response::Refused(error) => error.to_string(),
        Response::Error(why) => why.clone(),
    }
}

/// What was asked for, without the name of the answer around it.
fn json(response: &Response) -> serde_json::Result<String> {
    match response {
        Response::Services(services) => serde_json::to_string_pretty(services),
        Response::Connections { .. } => match serde_json::to_value(response)? {
            serde_json::Value::Object(fields) => {
                serde_json::to_string_pretty(&fields.into_iter().next().map(|(_, value)| value))
            }
            value => serde_json::to_string_pretty(&value),
        },
        Response::Counters(counters) => serde_json::to_string_pretty(counters),
        Response::Workers(workers) => serde_json::to_string_pretty(workers),
        Response::Ports(ports) => serde_json::to_string_pretty(ports),
        Response::Neighbors(neighbors) => serde_json::to_string_pretty(neighbors),
        Response::Routes(routes) => serde_json::to_string_pretty(routes),
        Response::Director(director) => serde_json::to_string_pretty(director),
        Response::Settings(settings) => serde_json::to_string_pretty(settings),
        Response::Applied
        | Response::Explain(_)
        | Response::Refused(_)
        | Response::CaptureStarted { .. }
        | Response::Captured(_)
        | Response::Statistics { .. } => serde_json::to_string_pretty(response),
        Response::Error(why) => serde_json::to_string_pretty(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_answer_alone() {
        assert_eq!(json(&Response::Services(Vec::new())).unwrap(), "[]");
        let connections = Response::Connections {
            connections: Vec::new(),
            total: 5,
            truncated: true,
        };
        let value: serde_json::Value = serde_json::from_str(&json(&connections).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"connections": [], "total": 5, "truncated": true})
        );
    }
}
