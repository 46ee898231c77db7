//! Messages and attributes of netlink, read and written.
//!
//! Integers are in the byte order of the machine, and everything begins at a
//! multiple of four bytes (`linux/netlink.h`):
//!
//! ```text
//! nlmsghdr      length u32 | type u16 | flags u16 | sequence u32 | port u32
//! genlmsghdr    command u8 | version u8 | 0 u16
//! nlattr        length u16 | type u16, then the value
//! ```
#![forbid(unsafe_code)]

/// Bytes of a datagram at most, in either direction.
pub const DATAGRAM_LEN_MAX: usize = 8192;

/// The errors that a client can get (`asm-generic/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// `EPERM`
    NotPermitted = 1,
    /// `ENOENT`: no such real server, scheduler or family.
    NotFound = 2,
    /// `ESRCH`
    NoSuchService = 3,
    /// `EAGAIN`: the director did not answer in time.
    TryAgain = 11,
    /// `ENOMEM`
    NoMemory = 12,
    /// `EEXIST`
    Exists = 17,
    /// `EINVAL`
    Invalid = 22,
    /// `ERANGE`
    Range = 34,
    /// `EOPNOTSUPP`
    NotSupported = 95,
    /// `EAFNOSUPPORT`
    FamilyNotSupported = 97,
}

/// A message with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    /// All of it.
    pub(super) whole: &'a [u8],
    /// What stands behind its header.
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Whether it wants all there is.
    pub(super) const fn is_dump(&self) -> bool {
        self.flags & DUMP == DUMP
    }

    pub(super) const fn wants_acknowledgement(&self) -> bool {
        self.flags & ACKNOWLEDGE != 0
    }

    /// The command, and the attributes behind the generic header.
    pub(super) fn generic(&self) -> Option<(u8, Attributes<'a>)> {
        let command = *self.payload.first()?;
        let attributes = self.payload.get(GENERIC_HEADER_LEN..)?;
        Some((command, Attributes(attributes)))
    }
}

/// The messages of a datagram, up to the first that is none.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(rest, 0)?).ok()?;
        let whole = rest.get(..len)?;
        let payload = whole.get(HEADER_LEN..)?;
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some(Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            sequence: u32_at(whole, 8)?,
            port: u32_at(whole, 12)?,
            whole,
            payload,
        })
    })
}

/// Attributes, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the last attribute of this type, as the kernel takes it;
    /// what cannot be an attribute ends the list.
    pub(super) fn get(self, kind: u16) -> Option<&'a [u8]> {
        let matching = self.iter().filter(|(found, _)| *found == kind);
        matching.last().map(|(_, value)| value)
    }

    /// The attributes in the value of one.
    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }

    pub(super) fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    pub(super) fn u16(self, kind: u16) -> Option<u16> {
        u16_at(self.get(kind)?, 0)
    }

    /// One in network byte order.
    pub(super) fn u16_be(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(*self.get(kind)?.first_chunk()?))
    }

    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// A text up to its first zero.
    pub(super) fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
    }

    fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let len = usize::from(u16_at(rest, 0)?);
            let kind = u16_at(rest, 2)? & TYPE_MASK;
            let value = rest.get(ATTRIBUTE_HEADER_LEN..len)?;
            rest = rest.get(aligned(len)..).unwrap_or_default();
            Some((kind, value))
        })
    }
}

/// Writes messages into one datagram.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// A message that answers `to`; `write` adds what stands behind its header.
    pub(super) fn message(
        &mut self,
        to: &Message<'_>,
        kind: u16,
        flags: u16,
        write: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(to.sequence.to_ne_bytes());
        self.bytes.extend(to.port.to_ne_bytes());
        write(self);
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.put_at(start, &len.to_ne_bytes());
        self.align();
    }

    /// The same with a generic header.
    pub(super) fn generic(
        &mut self,
        to: &Message<'_>,
        flags: u16,
        (command, version): (u8, u8),
        write: impl FnOnce(&mut Self),
    ) {
        self.message(to, to.kind, flags, |writer| {
            writer.bytes.extend([command, version, 0, 0]);
            write(writer);
        });
    }

    /// An attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |writer| writer.bytes.extend(value));
    }

    /// An attribute whose value is what `write` adds.
    pub(super) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend(0_u16.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        write(self);
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.put_at(start, &len.to_ne_bytes());
        self.align();
    }

    fn put_at(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn align(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// `NLMSG_HDRLEN`
pub(super) const HEADER_LEN: usize = 16;
/// `GENL_HDRLEN`
const GENERIC_HEADER_LEN: usize = 4;
/// `NLA_HDRLEN`
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// `NLA_TYPE_MASK`: without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// `NLMSG_ERROR`
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`
pub(super) const DONE: u16 = 3;

/// `NLM_F_MULTI`
pub(super) const MULTI: u16 = 2;
/// `NLM_F_ACK`
const ACKNOWLEDGE: u16 = 4;
/// `NLM_F_CAPPED`: of the message in question there is the header only.
pub(super) const CAPPED: u16 = 0x100;
/// `NLM_F_DUMP`
const DUMP: u16 = 0x300;
