//! As much of netlink as it takes to know what is asked, and to answer in the
//! director's place (`linux/netlink.h`, `linux/genetlink.h`).
#![forbid(unsafe_code)]

/// The header of a message.
pub(crate) type Header = [u8; HEADER_LEN];

/// Whether it asks nlctrl for the family "IPVS".
pub(crate) fn asks_for_ipvs(message: &[u8]) -> bool {
    let kind = message.get(4..6);
    let command = message.get(HEADER_LEN);
    let attributes = message.get(GENERIC_LEN..).unwrap_or_default();
    kind == Some(&NLCTRL.to_ne_bytes())
        && command == Some(&GET_FAMILY)
        && attributes_of(attributes).any(|(kind, value)| {
            kind == FAMILY_NAME && value.strip_suffix(b"\0").unwrap_or(value) == b"IPVS"
        })
}

/// Type and value of each attribute.
fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]), value))
    })
}

/// What nlctrl says about the family "IPVS" of a director, whose number never
/// changes.
pub(crate) fn family(header: &Header) -> [u8; FAMILY_LEN] {
    let mut message = [0; FAMILY_LEN];
    let parts: [&[u8]; 14] = [
        &48_u32.to_ne_bytes(),
        &NLCTRL.to_ne_bytes(),
        &0_u16.to_ne_bytes(),
        // Sequence and port.
        header.get(8..).unwrap_or_default(),
        &[NEW_FAMILY, 2, 0, 0],
        &9_u16.to_ne_bytes(),
        &FAMILY_NAME.to_ne_bytes(),
        b"IPVS\0\0\0\0",
        &6_u16.to_ne_bytes(),
        &FAMILY_ID.to_ne_bytes(),
        &padded(FAMILY),
        &8_u16.to_ne_bytes(),
        &VERSION.to_ne_bytes(),
        &1_u32.to_ne_bytes(),
    ];
    for (to, from) in message.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    message
}

/// A number with two bytes behind it.
fn padded(number: u16) -> [u8; 4] {
    let [a, b] = number.to_ne_bytes();
    [a, b, 0, 0]
}

/// Whether a datagram is the last one that answers the question with this
/// header: its acknowledgement, an error, or the end of a dump.
pub(crate) fn ends(datagram: &[u8], question: &Header) -> bool {
    let kind = datagram.get(4..6);
    let is_last = [NLMSG_ERROR, NLMSG_DONE].map(u16::to_ne_bytes);
    is_last.iter().any(|last| kind == Some(last)) && datagram.get(8..12) == question.get(8..12)
}

/// The header of the first message of a datagram.
pub(crate) fn header_of(datagram: &[u8]) -> Header {
    datagram.first_chunk().copied().unwrap_or_default()
}

/// `NLMSG_ERROR` to the message with this header.
pub(crate) fn error(header: &Header, errno: i32) -> [u8; ERROR_LEN] {
    let mut message = [0; ERROR_LEN];
    let parts: [&[u8]; 6] = [
        &36_u32.to_ne_bytes(),
        &NLMSG_ERROR.to_ne_bytes(),
        &CAPPED.to_ne_bytes(),
        // Sequence and port.
        header.get(8..).unwrap_or_default(),
        &errno.wrapping_neg().to_ne_bytes(),
        header,
    ];
    for (to, from) in message.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    message
}

/// `NLMSG_HDRLEN`
pub(crate) const HEADER_LEN: usize = 16;
/// With the generic header.
const GENERIC_LEN: usize = HEADER_LEN + 4;
pub(crate) const ERROR_LEN: usize = HEADER_LEN + 4 + HEADER_LEN;

const NLCTRL: u16 = 16;
const NEW_FAMILY: u8 = 1;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const VERSION: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The director's number of the family "IPVS".
const FAMILY: u16 = 37;
pub(crate) const FAMILY_LEN: usize = 48;
/// `NLM_F_CAPPED`
const CAPPED: u16 = 0x100;
