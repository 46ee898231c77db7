//! Put in front of `ipvsadm` (`LD_PRELOAD`), this shows it `/proc/net/ip_vs`,
//! `ip_vs_conn` and `ip_vs_stats` as a pointsman director would have them:
//! `ipvsadm -Lc` reads one of them.
//!
//! It hooks the functions that open files, and does nothing about other paths.
//! Where there is no director, the kernel's files are opened. `keepalived` needs
//! none of it and is better off without, since the programs that it starts
//! would have it, too.

#[path = "../../src/director.rs"]
mod director;

use std::{
    ffi::CStr,
    mem,
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    sync::OnceLock,
    time::Duration,
};

use libc::{FILE, c_char, c_int, mode_t};

use self::director::{Failure, next, raw, set_errno, within};

type Open = unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int;
type OpenAt = unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int;
type FOpen = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut FILE;

/// fopen(3)
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    static NEXT: OnceLock<Option<FOpen>> = OnceLock::new();
    if let Some(answer) = fopen_text(path) {
        return answer;
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"fopen")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(path, mode) },
        None => std::ptr::null_mut(),
    }
}

/// fopen(3) with large files.
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    static NEXT: OnceLock<Option<FOpen>> = OnceLock::new();
    if let Some(answer) = fopen_text(path) {
        return answer;
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"fopen64")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(path, mode) },
        None => std::ptr::null_mut(),
    }
}

/// open(2). The mode stands where the optional argument does in the calling
/// conventions of Linux on the machines that DPDK has.
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    static NEXT: OnceLock<Option<Open>> = OnceLock::new();
    if let Some(answer) = open_text(path) {
        return answer;
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"open")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(path, flags, mode) },
        None => -1,
    }
}

/// open(2) with large files.
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    static NEXT: OnceLock<Option<Open>> = OnceLock::new();
    if let Some(answer) = open_text(path) {
        return answer;
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"open64")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(path, flags, mode) },
        None => -1,
    }
}

/// openat(2)
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    static NEXT: OnceLock<Option<OpenAt>> = OnceLock::new();
    if let Some(answer) = open_text(path) {
        return answer;
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"openat")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(directory, path, flags, mode) },
        None => -1,
    }
}

/// openat(2) with large files.
///
/// # Safety
/// As of the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    static NEXT: OnceLock<Option<OpenAt>> = OnceLock::new();
    if let Some(answer) = open_text(path) {
        return answer;
    }
    // SAFETY: a function of this name has this type, or is not there.
    let next = NEXT.get_or_init(|| unsafe { mem::transmute(next(c"openat64")) });
    match next {
        // SAFETY: as the caller says.
        Some(next) => unsafe { next(directory, path, flags, mode) },
        None => -1,
    }
}

/// A stream of the text that stands at this path; `None` where the director has
/// none.
fn fopen_text(path: *const c_char) -> Option<*mut FILE> {
    let descriptor = open_text(path)?;
    if descriptor < 0 {
        return Some(std::ptr::null_mut());
    }
    // SAFETY: the descriptor is open and nobody else's, and the mode a text.
    Some(unsafe { libc::fdopen(descriptor, c"r".as_ptr()) })
}

/// The same as a descriptor; -1, with `errno` set, when it cannot be had.
fn open_text(path: *const c_char) -> Option<c_int> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller of the hook says that it is a text.
    let path = unsafe { CStr::from_ptr(path) };
    let number = match path.to_bytes() {
        b"/proc/net/ip_vs" => 0,
        b"/proc/net/ip_vs_conn" => 1,
        b"/proc/net/ip_vs_stats" => 2,
        _ => return None,
    };
    let error = match director::connect() {
        Ok(socket) => match fetch(&socket, number).map(|text| in_memory(&text)) {
            Ok(Some(file)) => return Some(file.into_raw_fd()),
            Ok(None) => libc::ENOMEM,
            Err(error) => error,
        },
        Err(Failure::Absent) => return None,
        Err(Failure::NotPermitted) => libc::EPERM,
        Err(Failure::Stuck) => libc::EAGAIN,
    };
    set_errno(error);
    Some(-1)
}

/// Asks the director for a text.
fn fetch(socket: &OwnedFd, number: u8) -> Result<Vec<u8>, i32> {
    let deadline = within(ANSWER_TIMEOUT);
    if !director::send(raw(socket), &question(number), deadline) {
        return Err(libc::EAGAIN);
    }
    let mut text = Vec::new();
    let mut buffer = vec![0_u8; DATAGRAM_LEN_MAX];
    loop {
        if !director::wait(raw(socket), libc::POLLIN, deadline) {
            return Err(libc::EAGAIN);
        }
        let (pointer, room) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: there is room for so many bytes.
        let received = unsafe { libc::recv(raw(socket), pointer, room, libc::MSG_DONTWAIT) };
        let len = usize::try_from(received).unwrap_or(0);
        let Some(answer) = buffer.get(..len).and_then(Answer::parse) else {
            return Err(libc::EAGAIN);
        };
        match answer {
            Answer::Piece(piece) => text.extend(piece),
            Answer::Done => return Ok(text),
            Answer::Error(number) => return Err(number),
        }
    }
}

/// A dump of command `GET_TEXT`, with the number of the text.
fn question(number: u8) -> Vec<u8> {
    let parts: [&[u8]; 7] = [
        &28_u32.to_ne_bytes(),
        &FAMILY.to_ne_bytes(),
        // NLM_F_REQUEST | NLM_F_DUMP
        &0x301_u16.to_ne_bytes(),
        // Sequence, port, generic header.
        &[1, 0, 0, 0, 0, 0, 0, 0, GET_TEXT, 1, 0, 0],
        &5_u16.to_ne_bytes(),
        &1_u16.to_ne_bytes(),
        &[number, 0, 0, 0],
    ];
    parts.concat()
}

/// A datagram from the director.
enum Answer<'a> {
    Piece(&'a [u8]),
    Done,
    Error(i32),
}

impl<'a> Answer<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
        match kind {
            NLMSG_DONE => Some(Self::Done),
            NLMSG_ERROR => {
                let number = i32::from_ne_bytes(*datagram.get(16..)?.first_chunk()?);
                Some(Self::Error(number.wrapping_neg()))
            }
            FAMILY => {
                // Behind both headers: an attribute.
                let attribute = datagram.get(20..)?;
                let len = usize::from(u16::from_ne_bytes(*attribute.first_chunk()?));
                Some(Self::Piece(attribute.get(4..len)?))
            }
            _ => None,
        }
    }
}

/// A file of memory with this text, read from its beginning.
fn in_memory(text: &[u8]) -> Option<OwnedFd> {
    // SAFETY: the name is a text.
    let descriptor = unsafe { libc::memfd_create(c"ip_vs".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return None;
    }
    // SAFETY: it is new and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut rest = text;
    while !rest.is_empty() {
        // SAFETY: the bytes are those of the slice.
        let written = unsafe { libc::write(raw(&file), rest.as_ptr().cast(), rest.len()) };
        let len = usize::try_from(written).ok().filter(|len| *len > 0)?;
        rest = rest.get(len..)?;
    }
    // SAFETY: it takes numbers.
    let start = unsafe { libc::lseek(raw(&file), 0, libc::SEEK_SET) };
    (start == 0).then_some(file)
}

/// The director walks over the workers' tables for up to 1.5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const DATAGRAM_LEN_MAX: usize = 8192;

/// The director's number of the family "IPVS", and its command for texts.
const FAMILY: u16 = 37;
const GET_TEXT: u8 = 128;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
