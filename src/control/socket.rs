//! The Unix socket over which a running director is asked.
//!
//! A client sends one line of JSON, a [`RequestMessage`], gets one line back,
//! a [`ResponseMessage`], and the connection ends. The socket's threads only
//! move bytes: a request goes to the management thread as a
//! [`ControlRequest`], and whatever a client does (nothing, garbage, too much,
//! reading nothing) costs one of [`CLIENTS_MAX`] places for a bounded time and
//! never reaches the management thread or a worker.
//!
//! Who may ask is a matter of file permissions: the socket has mode 0600, or
//! 0660 with a control group. Besides, the kernel is asked who a client is.
#![forbid(unsafe_code)]

mod asking;
mod client;
mod file;
mod netlink;
mod peer;

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam::channel::Sender;
use log::{debug, warn};
use rustix::{fs::Mode, net::Shutdown};
use serde::{Deserialize, de::DeserializeOwned};
use socket2::Type;

pub use self::{
    asking::{AskError, ControlRequest, Withdrawal},
    client::{QueryError, query},
    file::BindError,
    netlink::{NetlinkSocket, NetlinkSocketHandle},
};
use self::{
    asking::{Limits, ask_within},
    file::{Kind, SocketFile},
    peer::Admission,
};
use super::status::{
    CONNECTIONS_SHOWN_MAX, PROTOCOL_VERSION, Request, RequestMessage, Response, ResponseMessage,
};

/// Clients served at the same time; one more is told so and sent away.
pub const CLIENTS_MAX: usize = 16;

/// Bytes of a request line at most: as many packets as a question may have
/// (`pointsman explain`), in hexadecimal digits.
pub const REQUEST_LEN_MAX: usize = 1024 * 1024;

/// Bytes of a response line at most.
pub const RESPONSE_LEN_MAX: usize = 16 * 1024 * 1024;

/// A client has to send its whole request, and later to take its whole
/// response, within this time each.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The management thread has to answer within this time.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What the management thread has begun within that time, it has to end within
/// this time more.
pub const END_TIMEOUT: Duration = Duration::from_millis(500);

const LIMITS: Limits = Limits {
    answer: ANSWER_TIMEOUT,
    end: END_TIMEOUT,
};

/// A control socket that exists and holds its place against other directors,
/// but serves nobody yet.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
    admission: Admission,
}

impl ControlSocket {
    /// Makes the socket at `path`, with its directory when that is missing,
    /// and replaces what a dead director left there.
    ///
    /// # Errors
    /// When another director runs on this path, when something else stands
    /// there, or when the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::bind_for(path, None)
    }

    /// As [`bind`](Self::bind), for the members of a group, too.
    ///
    /// # Errors
    /// Likewise.
    pub fn bind_for(path: &Path, group: Option<u32>) -> Result<Self, BindError> {
        let kind = Kind {
            key: "control_socket",
            socket_type: Type::STREAM,
            mode: Mode::from_raw_mode(if group.is_some() { 0o660 } else { 0o600 }),
            group,
        };
        let (listener, file) = SocketFile::create(path, kind)?;
        Ok(Self {
            listener,
            file,
            admission: Admission { group },
        })
    }

    /// Serves clients, in threads of its own, until the handle is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self, requests: Sender<ControlRequest>) -> io::Result<ControlSocketHandle> {
        let Self {
            listener,
            file,
            admission,
        } = self;
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor_listener = listener.try_clone()?;
        let acceptor_stopping = Arc::clone(&stopping);
        let acceptor = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                accept_clients(&acceptor_listener, &acceptor_stopping, admission, &requests);
            })?;
        Ok(ControlSocketHandle {
            listener,
            stopping,
            acceptor: Some(acceptor),
            file,
        })
    }
}

/// A control socket that serves clients. Dropping it ends that and removes the
/// socket's file; clients that are being served keep their thread until their
/// timeouts at most.
#[derive(Debug)]
pub struct ControlSocketHandle {
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
    file: SocketFile,
}

impl ControlSocketHandle {
    /// Gives the socket's files to the user and the group that the director is
    /// to be, so that it can remove them at its end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_to(&self, user: u32, group: u32) -> Result<(), BindError> {
        self.file.give_to(user, group)
    }
}

impl Drop for ControlSocketHandle {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Linux wakes a thread that waits in accept(2) when its listening
        // socket is shut down; closing it would not.
        if let Err(error) = rustix::net::shutdown(&self.listener, Shutdown::Both) {
            warn!("control socket: cannot be shut down: {error}");
            return;
        }
        if let Some(acceptor) = self.acceptor.take()
            && acceptor.join().is_err()
        {
            warn!("control socket: its thread had panicked");
        }
    }
}

fn accept_clients(
    listener: &UnixListener,
    stopping: &AtomicBool,
    admission: Admission,
    requests: &Sender<ControlRequest>,
) {
    let places = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => admit_client(stream, &places, admission, requests),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                // Out of file descriptors, most likely: it passes, and
                // retrying at once would burn a core until then.
                warn!("control socket: cannot accept a client: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn admit_client(
    stream: UnixStream,
    places: &Arc<AtomicUsize>,
    admission: Admission,
    requests: &Sender<ControlRequest>,
) {
    let Some(place) = Place::take(places) else {
        refuse_client(stream);
        return;
    };
    let requests = requests.clone();
    let spawned = thread::Builder::new()
        .name("control-client".to_owned())
        .spawn(move || {
            let _place = place;
            if let Err(error) = serve_client(stream, admission, &requests) {
                debug!("control socket: a client went away: {error}");
            }
        });
    if let Err(error) = spawned {
        warn!("control socket: no thread for a client: {error}");
    }
}

/// Tells a client that there is no place for it. The message fits into an
/// empty socket buffer, so this does not wait for the client.
fn refuse_client(mut stream: UnixStream) {
    let response = Response::Error(format!(
        "{CLIENTS_MAX} clients are being served already; try again in a few seconds"
    ));
    let refused = stream
        .set_nonblocking(true)
        .and_then(|()| stream.write_all(&response_line(response)));
    if let Err(error) = refused {
        debug!("control socket: a client went away: {error}");
    }
}

fn serve_client(
    mut stream: UnixStream,
    admission: Admission,
    requests: &Sender<ControlRequest>,
) -> io::Result<()> {
    // Before the client may have ended.
    let refusal = admission.refusal(&stream)?;
    let response = match read_line(&mut stream, REQUEST_LEN_MAX, CLIENT_TIMEOUT)? {
        Line::Whole(line) => match refusal.map_or_else(|| parse_request(&line), Err) {
            Ok(request) => {
                ask(request, requests).unwrap_or_else(|error| Response::Error(error.to_string()))
            }
            Err(why) => Response::Error(why),
        },
        Line::TooLong => Response::Error(format!(
            "the request is longer than {REQUEST_LEN_MAX} bytes"
        )),
        Line::Cut => Response::Error("the request does not end with a newline".to_owned()),
    };
    write_all(&mut stream, &response_line(response), CLIENT_TIMEOUT)?;
    discard_rest(&mut stream)
}

fn parse_request(line: &[u8]) -> Result<Request, String> {
    check_version(line, "client")?;
    let message: RequestMessage = parse_json(line)
        .map_err(|error| format!("this director does not know the request: {error}"))?;
    Ok(match message.request {
        Request::Connections { limit, service } => Request::Connections {
            limit: limit.min(CONNECTIONS_SHOWN_MAX),
            service,
        },
        request => request,
    })
}

/// Asks the management thread, and waits for its answer for
/// [`ANSWER_TIMEOUT`], or a little longer when it has begun to do what is asked.
///
/// # Errors
/// When there is no answer; see [`AskError`] for what became of the request.
pub fn ask(request: Request, requests: &Sender<ControlRequest>) -> Result<Response, AskError> {
    ask_within(LIMITS, request, requests)
}

/// The line that answers a request, with its newline.
fn response_line(response: Response) -> Vec<u8> {
    encode(
        &ResponseMessage {
            version: PROTOCOL_VERSION,
            response,
        },
        RESPONSE_LEN_MAX,
    )
    .or_else(|_| {
        let response = Response::Error(format!(
            "the answer is longer than {RESPONSE_LEN_MAX} bytes; ask for less of it"
        ));
        encode(
            &ResponseMessage {
                version: PROTOCOL_VERSION,
                response,
            },
            RESPONSE_LEN_MAX,
        )
    })
    .unwrap_or_default()
}

/// `message` as one line of JSON of at most `len_max` bytes.
fn encode(message: &impl serde::Serialize, len_max: usize) -> serde_json::Result<Vec<u8>> {
    let mut line = BoundedLine {
        bytes: Vec::new(),
        len_max,
    };
    serde_json::to_writer(&mut line, message)?;
    line.bytes.push(b'\n');
    Ok(line.bytes)
}

/// Refuses bytes beyond its bound, so that a huge answer is never built whole.
struct BoundedLine {
    bytes: Vec<u8>,
    len_max: usize,
}

impl Write for BoundedLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One byte is kept for the newline.
        if self.bytes.len() + bytes.len() >= self.len_max {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What could be read of a line.
enum Line {
    /// All of it, without the newline.
    Whole(Vec<u8>),
    /// More than was allowed.
    TooLong,
    /// The other side ended before the newline.
    Cut,
}

/// Reads one line of at most `len_max` bytes within `timeout`, however the
/// other side cuts it into pieces.
fn read_line(stream: &mut UnixStream, len_max: usize, timeout: Duration) -> io::Result<Line> {
    let deadline = Instant::now() + timeout;
    let mut line = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        let len = match stream.read(&mut piece) {
            Ok(0) => return Ok(Line::Cut),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = piece.get(..len).unwrap_or_default();
        let end = read.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(read.get(..end.unwrap_or(len)).unwrap_or_default());
        if line.len() > len_max {
            return Ok(Line::TooLong);
        }
        if end.is_some() {
            return Ok(Line::Whole(line));
        }
    }
}

/// Writes all of `bytes` within `timeout`.
fn write_all(stream: &mut UnixStream, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(time_left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes what the client sent beyond its request, as far as it is there
/// already: closing a Unix socket with unread bytes makes the client see a
/// reset in place of the answer.
fn discard_rest(stream: &mut UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut piece = [0; 4096];
    for _ in 0..REQUEST_LEN_MAX / piece.len() * 4 {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is left until `deadline`, never 0 (which a socket takes as "forever").
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// The only field that every version of the messages has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Checks the version before anything else, since the rest may have another
/// shape in another version.
fn check_version(line: &[u8], other_side: &str) -> Result<(), String> {
    match parse_json::<Version>(line) {
        Ok(Version {
            version: PROTOCOL_VERSION,
        }) => Ok(()),
        Ok(Version { version }) => Err(format!(
            "the {other_side} speaks version {version} of the control protocol and this side \
             version {PROTOCOL_VERSION}; use the same pointsman for both"
        )),
        Err(error) => Err(format!("not a message of the control protocol: {error}")),
    }
}

fn parse_json<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(line)
}

/// One of the [`CLIENTS_MAX`] places, given back when dropped.
#[derive(Debug)]
struct Place {
    taken: Arc<AtomicUsize>,
}

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < CLIENTS_MAX).then_some(count + 1)
            })
            .ok()
            .map(|_| Self {
                taken: Arc::clone(taken),
            })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
