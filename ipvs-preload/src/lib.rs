//! Put in front of `ipvsadm` or `keepalived` (`LD_PRELOAD`), this leads them to
//! a pointsman director in the place of the kernel's IPVS.
//!
//! It leaves every socket a netlink socket until one asks nlctrl for "IPVS".
//! That one becomes a connection to the director, which speaks the same
//! language; where there is no director, the question goes on to the kernel. It
//! hooks `sendmsg`, `recvmsg` and `close`, and does nothing about any other
//! descriptor.
//!
//! A program that takes a socket for each command, as `ipvsadm` does, gets the
//! same connection again and again, and which number the family has it is told
//! here: that is always the same. With both, 21,000 commands in a row take 2.3 s
//! in place of 4.5 s (two cores, idle but for this).
//!
//! A netlink socket never ends, and programs do not expect it: they never see
//! the end of a connection, an error of it, or more than half a second of
//! silence. They get `EAGAIN` as an answer of netlink, and with the next
//! question there is another attempt at a connection.

mod director;
mod message;
mod sockets;

use std::{mem, slice, sync::OnceLock, time::Duration};

use libc::{c_int, msghdr, sockaddr_nl, ssize_t};

use self::{
    director::{next, set_errno},
    sockets::Adopted,
};

type SendMsg = unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t;
type RecvMsg = unsafe extern "C" fn(c_int, *mut msghdr, c_int) -> ssize_t;
type Close = unsafe extern "C" fn(c_int) -> c_int;

/// sendmsg(2)
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(
    descriptor: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    static NEXT: OnceLock<Option<SendMsg>> = OnceLock::new();
    // SAFETY: as the caller says.
    if let Some(message) = unsafe { message.as_ref() } {
        let adopted = Adopted::find(descriptor);
        // Most descriptors are none of ours, and most messages are no netlink.
        if adopted.is_some() || is_netlink_name(message) {
            let datagram = gather(message);
            let taken = match adopted {
                Some(adopted) => Some(adopted),
                None if message::asks_for_ipvs(&datagram) => Adopted::adopt(descriptor),
                None => None,
            };
            if let Some(mut adopted) = taken {
                if message::asks_for_ipvs(&datagram) {
                    adopted.ask_for_family(&datagram);
                } else {
                    adopted.send(&datagram);
                }
                return ssize_t::try_from(datagram.len()).unwrap_or(ssize_t::MAX);
            }
        }
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"sendmsg")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(descriptor, message, flags) },
        None => not_there(),
    }
}

/// recvmsg(2)
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if let Some(mut adopted) = Adopted::find(descriptor)
        // SAFETY: as the caller says.
        && let Some(message) = unsafe { message.as_mut() }
    {
        let received = adopted.receive(message, flags);
        if received >= 0 {
            name_the_kernel(message);
        }
        return received;
    }
    next_recvmsg(descriptor, message, flags)
}

/// close(2)
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    static NEXT: OnceLock<Option<Close>> = OnceLock::new();
    Adopted::forget(descriptor);
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"close")) });
    match next {
        // SAFETY: it takes a number.
        Some(next) => unsafe { next(descriptor) },
        None => c_int::try_from(not_there()).unwrap_or(-1),
    }
}

/// recvmsg(2) of the library behind this one.
pub(crate) fn next_recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    static NEXT: OnceLock<Option<RecvMsg>> = OnceLock::new();
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"recvmsg")) });
    match next {
        // SAFETY: whoever called `recvmsg` has seen to it.
        Some(next) => unsafe { next(descriptor, message, flags) },
        None => not_there(),
    }
}

fn not_there() -> ssize_t {
    set_errno(libc::ENOSYS);
    -1
}

/// Whether a message is addressed as one for the kernel may be: to an address of
/// netlink, or to none.
fn is_netlink_name(message: &msghdr) -> bool {
    if message.msg_name.is_null() {
        return true;
    }
    let len = usize::try_from(message.msg_namelen).unwrap_or(0);
    if len < size_of::<sockaddr_nl>() {
        return false;
    }
    // SAFETY: so many bytes are there, and any bytes are an address.
    let name = unsafe { message.msg_name.cast::<sockaddr_nl>().read_unaligned() };
    c_int::from(name.nl_family) == libc::AF_NETLINK
}

/// What a message says, in one piece.
fn gather(message: &msghdr) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts(message) {
        if part.iov_base.is_null() {
            continue;
        }
        // SAFETY: the caller of `sendmsg` says that the bytes are there.
        bytes.extend(unsafe { slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) });
    }
    bytes
}

/// The first bytes of what was received.
pub(crate) fn head(message: &msghdr, received: usize) -> [u8; 16] {
    let mut head = [0; 16];
    if let Some(part) = parts(message).first()
        && part.iov_len >= head.len()
        && received >= head.len()
    {
        let from = part.iov_base.cast::<u8>();
        // SAFETY: so many bytes were received, and the first part has room for them.
        unsafe { from.copy_to_nonoverlapping(head.as_mut_ptr(), head.len()) };
    }
    head
}

/// Puts bytes where a message is to go: how many there was room for.
pub(crate) fn scatter(message: &mut msghdr, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    for part in parts(message) {
        let len = rest.len().min(part.iov_len);
        let (head, tail) = rest.split_at(len);
        rest = tail;
        let to = part.iov_base.cast::<u8>();
        if len > 0 && !to.is_null() {
            // SAFETY: the caller of `recvmsg` says that there is room for so many.
            unsafe { to.copy_from_nonoverlapping(head.as_ptr(), len) };
        }
    }
    message.msg_controllen = 0;
    message.msg_flags = if rest.is_empty() { 0 } else { libc::MSG_TRUNC };
    bytes.len() - rest.len()
}

fn parts(message: &msghdr) -> &[libc::iovec] {
    if message.msg_iov.is_null() {
        return &[];
    }
    // SAFETY: the caller of the hook says that there are so many.
    unsafe { slice::from_raw_parts(message.msg_iov, message.msg_iovlen) }
}

/// libnl takes answers from the kernel only, which is port 0.
fn name_the_kernel(message: &mut msghdr) {
    let len = size_of::<sockaddr_nl>();
    let room = usize::try_from(message.msg_namelen).unwrap_or(0);
    if message.msg_name.is_null() || room < len {
        return;
    }
    // SAFETY: an address of zeros is one.
    let mut name: sockaddr_nl = unsafe { mem::zeroed() };
    name.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    // SAFETY: there is room for it.
    unsafe { message.msg_name.cast::<sockaddr_nl>().write_unaligned(name) };
    message.msg_namelen = libc::socklen_t::try_from(len).unwrap_or_default();
}

/// How long a program waits for the director, which answers within 300 ms also
/// when its management is stuck.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
