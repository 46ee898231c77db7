//! The socket on which `ipvsadm` and `keepalived` find what they take for the
//! kernel's IPVS ([`crate::netlink`]).
//!
//! A client's messages keep their bounds (`SOCK_SEQPACKET`), it may stay for as
//! long as it likes, as `keepalived` does, and one thread serves them all: it
//! understands what they say itself, and asks the management thread for the
//! rest, with a limit on the time. A client that does not take its answers is
//! sent away; when there are too many, the one that has been silent longest
//! goes, which its preload library makes good. Long texts have a thread each.
//!
//! Everyone may connect, and everyone but root and one group is told that they
//! have no permission, as the kernel tells them.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
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
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::Mode,
    io::Errno as SystemError,
    net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, sockopt},
};
use socket2::Type;

use super::{
    BindError, ControlRequest, Limits, ask_within,
    file::{Kind, SocketFile},
    peer,
};
use crate::{
    control::status::{Request, Response},
    netlink::{self, DATAGRAM_LEN_MAX, Errno},
};

/// The socket, which holds its place but serves nobody yet.
#[derive(Debug)]
pub struct NetlinkSocket {
    listener: UnixListener,
    file: SocketFile,
    group: Option<u32>,
}

impl NetlinkSocket {
    /// Makes the socket at `path` for root and a group, by its name or number.
    ///
    /// # Errors
    /// As of the control socket, and when there is no such group.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, BindError> {
        let group = group.map(group_number).transpose();
        let group = group.map_err(|error| BindError::Io {
            path: path.to_owned(),
            action: "find `netlink_group`",
            error,
        })?;
        let kind = Kind {
            key: "netlink_socket",
            socket_type: Type::SEQPACKET,
            mode: Mode::from_raw_mode(0o666),
            group: None,
        };
        let (listener, file) = SocketFile::create(path, kind)?;
        Ok(Self {
            listener,
            file,
            group,
        })
    }

    /// Serves clients until the handle is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self, requests: Sender<ControlRequest>) -> io::Result<NetlinkSocketHandle> {
        let Self {
            listener,
            file,
            group,
        } = self;
        listener.set_nonblocking(true)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let server = Server {
            listener: listener.try_clone()?,
            group,
            director: Director {
                requests,
                limits: LIMITS,
                is_stuck: false,
            },
            clients: Vec::new(),
            texts: Arc::default(),
            stopping: Arc::clone(&stopping),
        };
        let thread = thread::Builder::new()
            .name("netlink".to_owned())
            .spawn(move || server.run())?;
        Ok(NetlinkSocketHandle {
            listener,
            stopping,
            thread: Some(thread),
            file,
        })
    }
}

/// A socket that serves clients. Dropping it ends that and removes the file.
#[derive(Debug)]
pub struct NetlinkSocketHandle {
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    file: SocketFile,
}

impl NetlinkSocketHandle {
    /// Gives the socket's files to the user and the group that the director is
    /// to be, so that it can remove them at its end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_to(&self, user: u32, group: u32) -> Result<(), BindError> {
        self.file.give_to(user, group)
    }
}

impl Drop for NetlinkSocketHandle {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = rustix::net::shutdown(&self.listener, Shutdown::Both) {
            warn!("netlink socket: cannot be shut down: {error}");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("netlink socket: its thread had panicked");
        }
    }
}

/// A thread that sleeps is woken up on another core in tens of microseconds, in a
/// virtual machine in a hundred. `ipvsadm -R` waits for each of its commands, so
/// that the thread stays awake for so long after one.
const AWAKE: Duration = Duration::from_micros(200);

/// The thread's state.
struct Server {
    listener: UnixListener,
    group: Option<u32>,
    director: Director,
    clients: Vec<Client>,
    /// Threads that give out texts.
    texts: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

/// One that is connected.
struct Client {
    socket: OwnedFd,
    is_permitted: bool,
    /// Answers that its socket had no room for.
    waiting: VecDeque<Vec<u8>>,
    /// When it last sent or took something.
    active: Instant,
}

impl Server {
    fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_LEN_MAX];
        while !self.stopping.load(Ordering::Acquire) {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    warn!("netlink socket: cannot wait for clients: {error}");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            self.director.is_stuck = false;
            let clients = std::mem::take(&mut self.clients);
            for (mut client, events) in clients.into_iter().zip(ready.clients) {
                if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                    // It has told its user that what it may have sent did not go
                    // well, and is taken at its word.
                    continue;
                }
                if !events.is_empty() {
                    client.active = Instant::now();
                    let served = self.serve(client, &mut buffer);
                    self.clients.extend(served);
                } else if client.waiting.is_empty() || client.active.elapsed() < TAKE_TIMEOUT {
                    self.clients.push(client);
                }
            }
            if ready.listener {
                self.admit();
            }
        }
    }

    /// Whether a client has said something a moment ago, so that it may go on at
    /// once.
    fn is_talking(&self) -> bool {
        self.clients
            .iter()
            .any(|client| client.waiting.is_empty() && client.active.elapsed() < AWAKE)
    }

    /// Waits until there is something to do, but not much longer than a client
    /// may keep its answers waiting.
    fn wait(&self) -> io::Result<Ready> {
        let mut sources = vec![PollFd::new(&self.listener, PollFlags::IN)];
        sources.extend(self.clients.iter().map(|client| {
            // One that does not take its answers is not asked for more.
            let events = if client.waiting.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::OUT
            };
            PollFd::new(&client.socket, events)
        }));
        let is_awake = self.is_talking() && {
            let start = Instant::now();
            loop {
                match poll(&mut sources, Some(&Timespec::default())) {
                    Ok(0) if start.elapsed() < AWAKE => thread::yield_now(),
                    other => break other.is_ok_and(|ready| ready > 0),
                }
            }
        };
        if !is_awake {
            let timeout = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            match poll(&mut sources, Some(&timeout)) {
                Ok(_) | Err(SystemError::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut ready = sources.iter().map(PollFd::revents);
        Ok(Ready {
            listener: ready.next().is_some_and(|events| !events.is_empty()),
            clients: ready.collect(),
        })
    }

    fn admit(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(SystemError::AGAIN | SystemError::INTR | SystemError::CONNABORTED) => return,
            Err(error) => {
                if !self.stopping.load(Ordering::Acquire) {
                    warn!("netlink socket: cannot accept a client: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
                return;
            }
        };
        let is_permitted = match sockopt::socket_peercred(&socket) {
            Ok(peer) => {
                peer.uid.is_root() || self.group.is_some_and(|group| peer::is_in(peer, group))
            }
            Err(error) => {
                warn!("netlink socket: a client has no credentials: {error}");
                false
            }
        };
        if self.clients.len() >= CLIENTS_MAX {
            // Those who may not do anything go first.
            let by_worth = |(_, client): &(usize, &Client)| (client.is_permitted, client.active);
            let least = self.clients.iter().enumerate().min_by_key(by_worth);
            if let Some((index, _)) = least {
                self.clients.swap_remove(index);
            }
        }
        self.clients.push(Client {
            socket,
            is_permitted,
            waiting: VecDeque::new(),
            active: Instant::now(),
        });
    }

    /// Takes what a client has sent, or sends what waits for it. Returns it,
    /// unless it has gone.
    fn serve(&mut self, mut client: Client, buffer: &mut [u8]) -> Option<Client> {
        if client.waiting.is_empty() {
            let datagram = match recv(&client.socket, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, 0)) => return None,
                Ok((len, whole)) if whole <= len => buffer.get(..len)?,
                Ok((_, whole)) => {
                    debug!("netlink socket: a client's message has {whole} bytes");
                    return None;
                }
                Err(SystemError::AGAIN | SystemError::INTR) => return Some(client),
                Err(error) => {
                    debug!("netlink socket: a client went away: {error}");
                    return None;
                }
            };
            if client.is_permitted && netlink::asks_for_text(datagram) {
                self.give_text(client, datagram.to_vec());
                return None;
            }
            let director = &mut self.director;
            client.waiting = netlink::answer(datagram, client.is_permitted, &mut |request| {
                director.ask(request)
            })
            .into();
        }
        client.send_waiting().then_some(client)
    }

    /// Lets a thread of its own answer one question, and part with the client.
    fn give_text(&self, client: Client, datagram: Vec<u8>) {
        if self.texts.fetch_add(1, Ordering::AcqRel) >= TEXTS_MAX {
            self.texts.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let (texts, requests) = (Arc::clone(&self.texts), self.director.requests.clone());
        let spawned = thread::Builder::new()
            .name("netlink-text".to_owned())
            .spawn(move || {
                let mut director = Director {
                    requests,
                    limits: super::LIMITS,
                    is_stuck: false,
                };
                let answers =
                    netlink::answer(&datagram, true, &mut |request| director.ask(request));
                if let Err(error) = send_all(&client.socket, &answers) {
                    debug!("netlink socket: a client went away: {error}");
                }
                texts.fetch_sub(1, Ordering::AcqRel);
            });
        if let Err(error) = spawned {
            self.texts.fetch_sub(1, Ordering::AcqRel);
            warn!("netlink socket: no thread for a client: {error}");
        }
    }
}

impl Client {
    /// Sends what there is room for. Returns whether the client is still there.
    fn send_waiting(&mut self) -> bool {
        while let Some(datagram) = self.waiting.front() {
            match send(&self.socket, datagram, SendFlags::NOSIGNAL) {
                Ok(_) => {
                    self.waiting.pop_front();
                }
                Err(SystemError::INTR) => {}
                Err(SystemError::AGAIN) => return true,
                Err(error) => {
                    debug!("netlink socket: a client went away: {error}");
                    return false;
                }
            }
        }
        true
    }
}

/// What there is to do.
struct Ready {
    listener: bool,
    /// In their order.
    clients: Vec<PollFlags>,
}

/// The management thread, asked.
struct Director {
    requests: Sender<ControlRequest>,
    limits: Limits,
    /// Whether it did not answer in time just now. Other clients are then not
    /// made to wait as long.
    is_stuck: bool,
}

impl Director {
    fn ask(&mut self, request: Request) -> Result<Response, Errno> {
        if self.is_stuck {
            return Err(Errno::TryAgain);
        }
        // It is not done later, behind the client's back.
        let answered = ask_within(self.limits, request, &self.requests);
        self.is_stuck = answered.is_err();
        answered.map_err(|_| Errno::TryAgain)
    }
}

/// Sends to a client that has some time to take it.
fn send_all(socket: &OwnedFd, datagrams: &[Vec<u8>]) -> io::Result<()> {
    let deadline = Instant::now() + TAKE_TIMEOUT;
    for datagram in datagrams {
        loop {
            match send(socket, datagram, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                Err(SystemError::INTR) => {}
                Err(SystemError::AGAIN) => wait_for_room(socket, deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn wait_for_room(socket: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut sources = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut sources, Some(&timeout)) {
        Ok(_) | Err(SystemError::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The number of a group of `/etc/group`, group(5).
fn group_number(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group")?;
    let number_of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    };
    groups
        .lines()
        .find_map(number_of)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no group {group}")))
}

/// Clients at the same time. Each takes a descriptor and its unsent answers.
const CLIENTS_MAX: usize = 64;
/// Of them, those that get a text.
const TEXTS_MAX: usize = 4;
/// Whatever the management thread does, a client hears of it before it has waited
/// for half a second, which is as long as it waits.
const LIMITS: Limits = Limits {
    answer: Duration::from_millis(300),
    end: Duration::from_millis(100),
};
/// A client has to take its answers within this time.
const TAKE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
