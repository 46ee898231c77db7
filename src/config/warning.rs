//! What works but is probably not meant.
#![forbid(unsafe_code)]

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{
    error::{At, Excerpt},
    source::Place,
};
use crate::service::ServiceKey;

/// Something that works but is probably not meant, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWarning {
    /// The file as it was named to us.
    pub file: String,
    /// Where in the file; `None` when it is about the whole of it.
    pub place: Option<Place>,
    /// What is noteworthy.
    pub doubt: Doubt,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, doubt } = self;
        write!(
            f,
            "{}: warning: {doubt}{}",
            At { file, place },
            Excerpt(place)
        )
    }
}

/// Why a configuration is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// A worker shares its core.
    #[error(
        "core {0} is a worker's and `management_core` too; both get slower, write another core \
         if the machine has one"
    )]
    ManagementOnWorkerCore(usize),
    /// Packets cross between NUMA nodes.
    #[error(
        "this NIC is on NUMA node {node}, and workers on cores {} are on others: each of their \
         packets crosses between nodes; write cores of node {node} in `workers` ({})",
        core_list(far),
        core_list(near)
    )]
    FarFromNic {
        /// The NIC's node.
        node: usize,
        /// Cores of workers on other nodes.
        far: Vec<usize>,
        /// All cores on the NIC's node.
        near: Vec<usize>,
    },
    /// A source that answers to nobody.
    #[error(
        "{0} is no address of this director, so ICMP errors from the tunnels do not come back; \
         write one of a port's `addresses` if path MTU discovery must work"
    )]
    SourceNotOwn(IpAddr),
    /// A service without real servers.
    #[error("service {service} has no real server; clients are refused until one is added")]
    NoRealServer {
        /// The service.
        service: ServiceKey,
    },
    /// All servers quiesced.
    #[error(
        "all real servers of {service} have weight 0; new clients are refused until \
         one gets a weight"
    )]
    AllQuiesced {
        /// The service.
        service: ServiceKey,
    },
    /// A real server behind an unreachable or blackhole route.
    #[error(
        "real server {rip} stands behind the route to {to}, which sends nothing; clients get unreachable errors"
    )]
    RealServerUnreachable {
        /// The RIP.
        rip: IpAddr,
        /// The route's destination.
        to: IpNet,
    },
}

fn core_list(cores: &[usize]) -> String {
    if cores.is_empty() {
        return "it has none".to_owned();
    }
    let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
    cores.join(", ")
}
