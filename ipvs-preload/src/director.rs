//! The way to the director: a Unix socket at a path, so that it can be reached
//! from other network namespaces, too.

use std::{
    ffi::CStr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no director.
    Absent,
    /// The socket is not for this user.
    NotPermitted,
    /// There is a director that takes no clients.
    Stuck,
}

/// Connects without waiting. The socket has `O_NONBLOCK`.
pub(crate) fn connect() -> Result<OwnedFd, Failure> {
    let (address, len) = address().ok_or(Failure::Absent)?;
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: it takes numbers.
    let descriptor = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if descriptor < 0 {
        return Err(Failure::Stuck);
    }
    // SAFETY: it is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let pointer = (&raw const address).cast();
    // SAFETY: `address` lives, and has more than `len` bytes.
    let result = unsafe { libc::connect(descriptor, pointer, len) };
    if result == 0 {
        return Ok(socket);
    }
    match errno() {
        libc::EACCES | libc::EPERM => Err(Failure::NotPermitted),
        libc::EAGAIN | libc::EINTR => Err(Failure::Stuck),
        _ => Err(Failure::Absent),
    }
}

/// The director's socket; `POINTSMAN_IPVS_SOCKET` names another one.
fn address() -> Option<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: the name ends with a zero.
    let named = unsafe { libc::getenv(c"POINTSMAN_IPVS_SOCKET".as_ptr()) };
    let path = if named.is_null() {
        c"/run/pointsman/ipvs.sock"
    } else {
        // SAFETY: it is a text of the environment, which nobody changes meanwhile.
        unsafe { CStr::from_ptr(named) }
    };
    let mut address = libc::sockaddr_un {
        sun_family: libc::sa_family_t::try_from(libc::AF_UNIX).ok()?,
        sun_path: [0; 108],
    };
    let bytes = path.to_bytes_with_nul();
    let place = address.sun_path.get_mut(..bytes.len())?;
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let len = size_of::<libc::sockaddr_un>();
    Some((address, libc::socklen_t::try_from(len).ok()?))
}

/// Sends a datagram, and waits until `deadline` for room.
pub(crate) fn send(socket: RawFd, datagram: &[u8], deadline: Instant) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        let (pointer, len) = (datagram.as_ptr().cast(), datagram.len());
        // SAFETY: the bytes are those of the slice.
        let sent = unsafe { libc::send(socket, pointer, len, flags) };
        if sent >= 0 {
            return true;
        }
        let waits = match errno() {
            libc::EINTR => true,
            libc::EAGAIN => wait(socket, libc::POLLOUT, deadline),
            _ => false,
        };
        if !waits {
            return false;
        }
    }
}

/// Waits until the socket is ready, but not beyond `deadline`.
pub(crate) fn wait(socket: RawFd, events: libc::c_short, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left_ms = libc::c_int::try_from(left.as_millis()).unwrap_or(libc::c_int::MAX);
        let mut source = libc::pollfd {
            fd: socket,
            events,
            revents: 0,
        };
        // SAFETY: there is one of them.
        let ready = unsafe { libc::poll(&raw mut source, 1, left_ms) };
        if ready > 0 {
            return true;
        }
        if ready == 0 || errno() != libc::EINTR {
            return false;
        }
    }
}

/// `errno` of this thread.
pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets `errno` of this thread.
pub(crate) fn set_errno(number: i32) {
    // SAFETY: it takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own.
    unsafe { *place = number };
}

/// The next function of this name, behind this library.
pub(crate) fn next(name: &CStr) -> *mut libc::c_void {
    // SAFETY: the name ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// The descriptor's number, for calls that take one.
pub(crate) fn raw(socket: &OwnedFd) -> RawFd {
    socket.as_raw_fd()
}

/// Some time from now.
pub(crate) fn within(time: Duration) -> Instant {
    Instant::now() + time
}
