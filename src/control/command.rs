//! What can be asked of a running director.
//!
//! One vocabulary for every way in: the configuration file, SIGHUP, the control
//! socket, netlink messages and the JSON API. A command either takes effect as a whole
//! or is refused with the error that Linux IPVS gives in the same case.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::service::{ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts, Tunables};

/// One change of the services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// `ipvsadm -A`
    AddService(ServiceKey, ServiceOptions),
    /// `ipvsadm -E`
    EditService(ServiceKey, ServiceOptions),
    /// `ipvsadm -D`
    DeleteService(ServiceKey),
    /// `ipvsadm -a`. The new server stands at the head of the list.
    AddServer(ServiceKey, ServerKey, ServerOptions),
    /// `ipvsadm -e`
    EditServer(ServiceKey, ServerKey, ServerOptions),
    /// `ipvsadm -d`
    DeleteServer(ServiceKey, ServerKey),
    /// `ipvsadm -C`
    Flush,
    /// `ipvsadm -Z`: counters back to 0, of one service or of all.
    Zero(Option<ServiceKey>),
    /// `ipvsadm --set`. New timeouts hold from a connection's next packet on.
    SetTimeouts(Timeouts),
    /// Settings under `/proc/sys/net/ipv4/vs`.
    SetTunables(Tunables),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CommandError {
    /// EEXIST
    #[error("service {0} exists already")]
    ServiceExists(ServiceKey),
    /// ESRCH
    #[error("there is no service {0}")]
    NoSuchService(ServiceKey),
    /// EEXIST
    #[error("service {0} has a real server {1} already")]
    ServerExists(ServiceKey, ServerKey),
    /// ENOENT
    #[error("service {0} has no real server {1}")]
    NoSuchServer(ServiceKey, ServerKey),
    /// ERANGE
    #[error("weight {0} is too large; write 0 to {max}", max = crate::service::WEIGHT_MAX)]
    WeightOutOfRange(u32),
    /// ERANGE
    #[error("lower threshold {lower} is above the upper threshold {upper}")]
    ThresholdsCrossed {
        /// `ipvsadm -y`
        lower: u32,
        /// `ipvsadm -x`
        upper: u32,
    },
    /// EINVAL
    #[error("a GUE tunnel needs a destination port")]
    NoTunnelPort,
    /// ENOMEM
    #[error("the director is full: {0} services at most")]
    TooManyServices(usize),
    /// ENOMEM
    #[error("the director is full: {0} real servers at most")]
    TooManyServers(usize),
}
