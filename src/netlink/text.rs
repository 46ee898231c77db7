//! The texts that the kernel shows in `/proc/net`.
#![forbid(unsafe_code)]

use super::{
    AskDirector,
    codec::{Errno, Message},
    reply,
};
use crate::{
    control::status::{CONNECTIONS_SHOWN_MAX, Request, Response},
    ipvsadm::{listing, proc_files},
};

/// One of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// `/proc/net/ip_vs`
    Services,
    /// `/proc/net/ip_vs_conn`
    Connections,
    /// `/proc/net/ip_vs_stats`
    Statistics,
}

impl Text {
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Services),
            1 => Some(Self::Connections),
            2 => Some(Self::Statistics),
            _ => None,
        }
    }
}

pub(super) fn replies(
    to: &Message<'_>,
    text: Text,
    ask: AskDirector<'_>,
) -> Result<Vec<Vec<u8>>, Errno> {
    let request = match text {
        Text::Services => Request::Services,
        Text::Connections => Request::Connections {
            limit: CONNECTIONS_SHOWN_MAX,
            service: None,
        },
        Text::Statistics => Request::Statistics,
    };
    let text = match ask(request)? {
        Response::Services(services) => proc_files::services(&services),
        Response::Connections { connections, .. } => listing::proc_connections(&connections),
        Response::Statistics { total, rates } => proc_files::statistics(&total, &rates),
        _ => return Err(Errno::TryAgain),
    };
    Ok(reply::text(to, &text))
}
