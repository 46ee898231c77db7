//! Asking a running director.
#![forbid(unsafe_code)]

use std::{
    io::{self, ErrorKind},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    ANSWER_TIMEOUT, CLIENT_TIMEOUT, Line, RESPONSE_LEN_MAX, encode, parse_json, read_line,
    write_all,
};
use crate::control::status::{
    PROTOCOL_VERSION, Request, RequestMessage, Response, ResponseMessage,
};

/// Why a director could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no socket, or nobody listens on it.
    #[error(
        "no director is running on {}; start one with `pointsman run`, or name its control socket \
         with --socket",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error(
        "{}: permission denied; ask as root, as the user who runs the director, or as a member of \
         its `control_group`",
        .0.display()
    )]
    NoPermission(PathBuf),
    /// The director is too busy, or stuck.
    #[error("the director on {} did not answer within {} s", .0.display(), QUERY_TIMEOUT.as_secs())]
    Timeout(PathBuf),
    /// The other side is not, or not the same version of, a director.
    #[error("{}: {why}", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The director would not.
    #[error("the director refused: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

impl QueryError {
    fn from_io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Self::NotRunning(path),
            ErrorKind::PermissionDenied => Self::NoPermission(path),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout(path),
            _ => Self::Io { path, error },
        }
    }
}

/// Asks the director whose control socket is at `path`. The answer is the
/// variant of [`Response`] that belongs to `request`, never
/// [`Response::Error`].
///
/// # Errors
/// When there is no director, or it does not give that answer.
pub fn query(path: &Path, request: &Request) -> Result<Response, QueryError> {
    let protocol = |why| QueryError::Protocol {
        path: path.to_owned(),
        why,
    };
    let line = exchange(path, request).map_err(|error| QueryError::from_io(path, error))?;
    let line = match line {
        Line::Whole(line) => line,
        Line::TooLong => return Err(protocol("the answer is too long".to_owned())),
        Line::Cut => {
            return Err(protocol(
                "the director ended before it had answered".to_owned(),
            ));
        }
    };
    super::check_version(&line, "director").map_err(protocol)?;
    let message: ResponseMessage = parse_json(&line)
        .map_err(|error| protocol(format!("the answer makes no sense: {error}")))?;
    match message.response {
        Response::Error(why) => Err(QueryError::Refused(why)),
        response if answers(request, &response) => Ok(response),
        _ => Err(protocol("the answer is to another question".to_owned())),
    }
}

fn exchange(path: &Path, request: &Request) -> io::Result<Line> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Bounds connect(2) too, which else waits while the queue of clients of a
    // stuck director is full.
    socket.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    let mut stream = UnixStream::from(socket);
    let message = RequestMessage {
        version: PROTOCOL_VERSION,
        request: request.clone(),
    };
    // A director that is full answers without having read the request and
    // closes: that answer is still there to be read.
    match write_all(
        &mut stream,
        &encode(&message, super::REQUEST_LEN_MAX)?,
        CLIENT_TIMEOUT,
    ) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    read_line(&mut stream, RESPONSE_LEN_MAX, QUERY_TIMEOUT)
}

fn answers(request: &Request, response: &Response) -> bool {
    matches!(
        (request, response),
        (
            Request::Services | Request::Service(_),
            Response::Services(_)
        ) | (Request::Statistics, Response::Statistics { .. })
            | (Request::Connections { .. }, Response::Connections { .. })
            | (Request::Counters, Response::Counters(_))
            | (Request::Workers, Response::Workers(_))
            | (Request::Ports, Response::Ports(_))
            | (Request::Neighbors, Response::Neighbors(_))
            | (Request::Routes, Response::Routes(_))
            | (Request::Director, Response::Director(_))
            | (Request::Explain(_), Response::Explain(_))
            | (
                Request::Apply(_) | Request::Edit(_) | Request::Revert,
                Response::Applied | Response::Refused(_)
            )
            | (Request::StartCapture(_), Response::CaptureStarted { .. })
            | (
                Request::ReadCapture { .. } | Request::StopCapture { .. },
                Response::Captured(_)
            )
            | (
                Request::Settings | Request::SetTunable { .. } | Request::SetTimeouts { .. },
                Response::Settings(_)
            )
    )
}

/// Longer than the director takes at worst to say that it is too busy.
const QUERY_TIMEOUT: Duration =
    Duration::from_secs(CLIENT_TIMEOUT.as_secs() + ANSWER_TIMEOUT.as_secs() + 1);
