//! `pointsman revert`: takes back what was changed at run time.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::CONTROL_SOCKET_DEFAULT,
    control::{
        command::CommandError,
        socket::{QueryError, query},
        status::{Request, Response},
    },
};

/// Of which director.
#[derive(Debug, Args)]
pub(super) struct RevertArguments {
    /// The control socket of the director
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET_DEFAULT)]
    socket: PathBuf,
}

/// Why not all was taken back.
#[derive(Debug, thiserror::Error)]
pub(super) enum RevertError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("taken back in part: {0}")]
    Refused(CommandError),
}

impl RevertArguments {
    /// Makes services and settings what the configuration says.
    ///
    /// # Errors
    /// When there is no director, or it cannot hold them.
    pub(super) fn revert(&self) -> Result<(), RevertError> {
        match query(&self.socket, &Request::Revert)? {
            Response::Refused(error) => Err(RevertError::Refused(error)),
            _ => Ok(()),
        }
    }
}
