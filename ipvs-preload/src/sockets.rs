//! The descriptors that lead to the director.

use std::{
    mem,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libc::{c_int, msghdr, ssize_t};

use crate::{
    ANSWER_TIMEOUT,
    director::{self, Failure, errno, raw, set_errno, within},
    head,
    message::{self, Header},
    next_recvmsg, scatter,
};

/// A descriptor that the program takes for a netlink socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adopted {
    descriptor: RawFd,
    /// What it was when it was last looked at: a program may close it by ways
    /// that are not hooked, and its number be another file's.
    identity: (libc::dev_t, libc::ino_t),
    /// Whether it is a connection to the director.
    is_connected: bool,
    /// The question that was asked last.
    question: Header,
    /// What it is to be answered with.
    failure: Option<i32>,
    /// How many answers are left to a question about the family: what it is, and
    /// the acknowledgement.
    family_answers: u8,
    /// Whether everything has come that answers the last question.
    is_done: bool,
}

impl Adopted {
    /// The one with this number.
    pub(crate) fn find(descriptor: RawFd) -> Option<Self> {
        if COUNT.load(Ordering::Acquire) == 0 {
            return None;
        }
        let before = errno();
        let found = table()
            .iter()
            .find(|adopted| adopted.descriptor == descriptor)
            .copied();
        let found = found.filter(|adopted| identity(descriptor) == Some(adopted.identity));
        set_errno(before);
        found
    }

    /// Makes a netlink socket lead to the director; `None` where there is none.
    pub(crate) fn adopt(descriptor: RawFd) -> Option<Self> {
        let mut adopted = Self {
            descriptor,
            identity: identity(descriptor)?,
            is_connected: false,
            question: Header::default(),
            failure: None,
            family_answers: 0,
            is_done: false,
        };
        match connect() {
            Ok(socket) => adopted.lead_to(&socket),
            Err(Failure::Absent) => return None,
            // What is sent will be answered accordingly.
            Err(Failure::NotPermitted | Failure::Stuck) => {}
        }
        let mut table = table();
        table.retain(|other| other.descriptor != descriptor);
        if table.len() >= ADOPTED_MAX {
            table.remove(0);
        }
        table.push(adopted);
        COUNT.store(table.len(), Ordering::Release);
        Some(adopted)
    }

    /// The descriptor is about to be closed. Its connection is kept for the next
    /// one when nothing is left to come: ipvsadm takes a socket for each command.
    pub(crate) fn forget(descriptor: RawFd) {
        let Some(adopted) = Self::find(descriptor) else {
            return;
        };
        if adopted.is_connected && adopted.is_done {
            // SAFETY: it takes numbers.
            let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, SPARE_MIN) };
            if copy >= 0 {
                // SAFETY: it is new and nobody else's.
                let socket = unsafe { OwnedFd::from_raw_fd(copy) };
                *spare() = Some((process(), socket));
            }
        }
        let mut table = table();
        table.retain(|adopted| adopted.descriptor != descriptor);
        COUNT.store(table.len(), Ordering::Release);
    }

    /// Answers the question about the family, which needs no director but that it
    /// is there.
    pub(crate) fn ask_for_family(&mut self, datagram: &[u8]) {
        if !self.is_connected {
            self.send(datagram);
            return;
        }
        self.question = message::header_of(datagram);
        self.failure = None;
        self.family_answers = 2;
        self.store();
    }

    /// Sends a question. What goes wrong is the answer to it: programs take a
    /// question that cannot be sent for one that went well.
    pub(crate) fn send(&mut self, datagram: &[u8]) {
        self.question = message::header_of(datagram);
        self.failure = None;
        self.family_answers = 0;
        self.is_done = false;
        // The director may have been started anew.
        let is_sent = self.is_connected && self.try_send(datagram);
        if !is_sent {
            match director::connect() {
                Ok(socket) => {
                    self.lead_to(&socket);
                    if !self.is_connected || !self.try_send(datagram) {
                        self.fail(libc::EAGAIN);
                    }
                }
                Err(Failure::NotPermitted) => self.fail(libc::EPERM),
                Err(Failure::Absent | Failure::Stuck) => self.fail(libc::EAGAIN),
            }
        }
        self.store();
    }

    fn try_send(&self, datagram: &[u8]) -> bool {
        director::send(self.descriptor, datagram, within(ANSWER_TIMEOUT))
    }

    /// Receives an answer, or makes one.
    pub(crate) fn receive(&mut self, message: &mut msghdr, flags: c_int) -> ssize_t {
        if self.family_answers > 0 {
            return self.receive_family(message, flags);
        }
        let waits = flags & libc::MSG_DONTWAIT == 0 && !self.has_flag(libc::O_NONBLOCK);
        let deadline = within(ANSWER_TIMEOUT);
        while self.failure.is_none() {
            if !self.is_connected {
                self.fail(libc::EAGAIN);
                break;
            }
            let flags = flags | libc::MSG_DONTWAIT;
            let received = next_recvmsg(self.descriptor, message, flags);
            if received > 0 {
                let head = head(message, usize::try_from(received).unwrap_or(0));
                if flags & libc::MSG_PEEK == 0 && message::ends(&head, &self.question) {
                    self.is_done = true;
                    self.store();
                }
                return received;
            }
            let error = if received == 0 { 0 } else { errno() };
            match error {
                libc::EINTR => {}
                libc::EAGAIN if !waits => return -1,
                libc::EAGAIN if director::wait(self.descriptor, libc::POLLIN, deadline) => {}
                // It is over, or too late: an answer that comes after all would
                // be taken for that to the next question.
                _ => self.fail(libc::EAGAIN),
            }
        }
        let number = self.failure.unwrap_or(libc::EAGAIN);
        self.store();
        deliver(message, flags, &message::error(&self.question, number))
    }

    fn receive_family(&mut self, message: &mut msghdr, flags: c_int) -> ssize_t {
        let is_first = self.family_answers > 1;
        if flags & libc::MSG_PEEK == 0 {
            self.family_answers -= 1;
            self.store();
        }
        if is_first {
            deliver(message, flags, &message::family(&self.question))
        } else {
            deliver(message, flags, &message::error(&self.question, 0))
        }
    }

    /// Ends the connection.
    fn fail(&mut self, number: i32) {
        if self.is_connected {
            // SAFETY: it takes numbers.
            unsafe { libc::shutdown(self.descriptor, libc::SHUT_RDWR) };
        }
        self.is_connected = false;
        self.failure = Some(number);
    }

    /// Puts a connection in the place of what the descriptor is.
    fn lead_to(&mut self, socket: &OwnedFd) {
        let is_blocking = !self.has_flag(libc::O_NONBLOCK);
        let flags = if self.closes_on_exec() {
            libc::O_CLOEXEC
        } else {
            0
        };
        // SAFETY: both descriptors are open, and the program's one stays open.
        let result = unsafe { libc::dup3(raw(socket), self.descriptor, flags) };
        let identity = identity(self.descriptor);
        self.is_connected = result >= 0 && identity.is_some();
        self.identity = identity.unwrap_or(self.identity);
        if is_blocking && self.is_connected {
            // SAFETY: it takes numbers.
            unsafe { libc::fcntl(self.descriptor, libc::F_SETFL, 0) };
        }
    }

    fn has_flag(&self, flag: c_int) -> bool {
        // SAFETY: it takes numbers.
        let flags = unsafe { libc::fcntl(self.descriptor, libc::F_GETFL) };
        flags >= 0 && flags & flag != 0
    }

    fn closes_on_exec(&self) -> bool {
        // SAFETY: it takes numbers.
        let flags = unsafe { libc::fcntl(self.descriptor, libc::F_GETFD) };
        flags >= 0 && flags & libc::FD_CLOEXEC != 0
    }

    fn store(&self) {
        let mut table = table();
        let entry = table
            .iter_mut()
            .find(|adopted| adopted.descriptor == self.descriptor);
        if let Some(entry) = entry {
            *entry = *self;
        }
    }
}

/// Puts an answer where the program wants it.
fn deliver(message: &mut msghdr, flags: c_int, answer: &[u8]) -> ssize_t {
    let len = scatter(message, answer);
    let whole = flags & libc::MSG_TRUNC != 0;
    ssize_t::try_from(if whole { answer.len() } else { len }).unwrap_or(-1)
}

/// A connection to the director: one that is left, or a new one.
fn connect() -> Result<OwnedFd, Failure> {
    if let Some((owner, socket)) = spare().take() {
        // A process that was forked off has a copy, and is not to use it; and
        // nothing may have come of it but that it ended.
        if owner == process() && !director::wait(raw(&socket), libc::POLLIN, within(Duration::ZERO))
        {
            return Ok(socket);
        }
    }
    director::connect()
}

fn process() -> libc::pid_t {
    // SAFETY: it takes nothing.
    unsafe { libc::getpid() }
}

fn spare() -> MutexGuard<'static, Option<(libc::pid_t, OwnedFd)>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(descriptor: RawFd) -> Option<(libc::dev_t, libc::ino_t)> {
    // SAFETY: numbers, all of which may be 0.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: there is room for it.
    let result = unsafe { libc::fstat(descriptor, &raw mut status) };
    (result == 0).then_some((status.st_dev, status.st_ino))
}

fn table() -> MutexGuard<'static, Vec<Adopted>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

static TABLE: Mutex<Vec<Adopted>> = Mutex::new(Vec::new());
/// A connection that waits for its next use.
static SPARE: Mutex<Option<(libc::pid_t, OwnedFd)>> = Mutex::new(None);
/// Its number is out of the way of those that programs count on.
const SPARE_MIN: c_int = 200;
/// How many there are, so that a program that has none waits for no lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The oldest is forgotten then, and as good as closed.
const ADOPTED_MAX: usize = 64;
