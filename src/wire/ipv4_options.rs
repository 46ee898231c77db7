//! Options of an IPv4 header, as a host that receives them treats them
//! (RFC 791 section 3.1, RFC 1122 section 3.2.1.8).
//!
//! ```text
//!  type | length | pointer | data ...      (End of List and No Operation are
//!  1 B  | 1 B    | 1 B     |                one byte)
//! ```

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

/// An option is malformed, or asks for source routing, which is refused as
/// Linux does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed IPv4 option or source route")]
pub struct BadOptions;

/// Checks the options and fills in `address` where Record Route asks for it.
/// Returns whether a byte changed; the header checksum is then to be computed
/// anew.
///
/// # Errors
/// [`BadOptions`]; the options may have been changed in part.
pub fn receive(options: &mut [u8], address: Ipv4Addr) -> Result<bool, BadOptions> {
    let mut changed = false;
    let mut rest = options;
    while let Some(&kind) = rest.first() {
        match kind {
            END_OF_LIST => break,
            NO_OPERATION => rest = rest.get_mut(1..).ok_or(BadOptions)?,
            _ => {
                let len = usize::from(*rest.get(1).ok_or(BadOptions)?);
                if len < 2 {
                    return Err(BadOptions);
                }
                let (option, after) = rest.split_at_mut_checked(len).ok_or(BadOptions)?;
                match kind {
                    LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(BadOptions),
                    RECORD_ROUTE => changed |= record_route(option, address)?,
                    _ => {}
                }
                rest = after;
            }
        }
    }
    Ok(changed)
}

/// The options of an answer to a packet that had `options` (RFC 1122 section
/// 3.2.1.8): a recorded route goes back, and goes on with `address`, that of
/// the answering host. Empty or a multiple of 4 bytes.
pub fn echoed(options: &[u8], address: Ipv4Addr) -> ArrayVec<u8, OPTIONS_LEN_MAX> {
    let mut echoed = ArrayVec::new();
    let mut rest = options;
    while let Some(&kind) = rest.first() {
        let len = match kind {
            END_OF_LIST => break,
            NO_OPERATION => 1,
            _ => usize::from(rest.get(1).copied().unwrap_or_default()),
        };
        let Some((option, after)) = rest.split_at_checked(len).filter(|_| len > 0) else {
            break;
        };
        if kind == RECORD_ROUTE && echoed.try_extend_from_slice(option).is_ok() {
            if record_route(&mut echoed, address).is_err() {
                return ArrayVec::new();
            }
            break;
        }
        rest = after;
    }
    while echoed.len() % 4 != 0 && echoed.try_push(END_OF_LIST).is_ok() {}
    echoed
}

/// Options in a header of 15 words.
const OPTIONS_LEN_MAX: usize = 40;

/// Writes the address at the pointer, when there is room, and moves it on.
fn record_route(option: &mut [u8], address: Ipv4Addr) -> Result<bool, BadOptions> {
    let pointer = usize::from(*option.get(2).ok_or(BadOptions)?);
    if pointer < 4 {
        return Err(BadOptions);
    }
    if pointer > option.len() {
        return Ok(false);
    }
    let slot = option.get_mut(pointer - 1..pointer + 3).ok_or(BadOptions)?;
    slot.copy_from_slice(&address.octets());
    if let Some(pointer) = option.get_mut(2) {
        *pointer += 4;
    }
    Ok(true)
}

const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

    /// From recording `01_encap_basic`, packet "IP options record-route".
    #[test]
    fn record_route_is_filled_in() {
        let mut options = *b"\x07\x0b\x04\x00\x00\x00\x00\x00\x00\x00\x00\x01";
        assert_eq!(receive(&mut options, VIP), Ok(true));
        assert_eq!(
            options,
            *b"\x07\x0b\x08\xc6\x33\x64\x0a\x00\x00\x00\x00\x01"
        );
    }

    /// From recording `r_persist_00`: the answer to a packet with room for two
    /// addresses, the first of which is filled in already; and one with an
    /// option that hosts do not echo (`r_mix_05`).
    #[test]
    fn a_recorded_route_goes_back_and_goes_on() {
        let received = b"\x07\x0b\x08\xc6\x33\x64\x0a\x00\x00\x00\x00\x01";
        let sent = b"\x07\x0b\x0c\xc6\x33\x64\x0a\xc6\x33\x64\x0a\x00";
        assert_eq!(echoed(received, VIP).as_slice(), sent);
        let behind = [&b"\x01\x94\x04\x00\x00"[..], received].concat();
        assert_eq!(echoed(&behind, VIP).as_slice(), sent);
        let full = b"\x07\x07\x08\x01\x02\x03\x04\x00";
        assert_eq!(echoed(full, VIP).as_slice(), full);
        for options in [
            &b""[..],
            b"\x94\x04\x00\x00",
            b"\x00\x07\x07\x04",
            b"\x07\x00\x00\x00",
        ] {
            assert!(echoed(options, VIP).is_empty(), "{options:02x?}");
        }
    }

    #[test]
    fn a_full_record_route_stays_as_it_is() {
        let mut options = *b"\x07\x07\x08\x01\x02\x03\x04\x00";
        assert_eq!(receive(&mut options, VIP), Ok(false));
    }

    #[test]
    fn options_without_meaning_to_a_host_are_left_alone() {
        for mut options in [
            *b"\x01\x01\x01\x01",
            *b"\x94\x04\x00\x00",
            *b"\x01\x01\x01\x00",
        ] {
            assert_eq!(receive(&mut options, VIP), Ok(false));
        }
    }

    #[test]
    fn malformed_options_and_source_routes_are_refused() {
        for options in [
            &b"\x07\x01\x04\x00"[..],
            b"\x07\x0b\x04\x00",
            b"\x94",
            b"\x07\x07\x03\x00\x00\x00\x00\x00",
            b"\x07\x06\x04\x00\x00\x00\x00\x00",
            b"\x83\x07\x04\x00\x00\x00\x00\x00",
            b"\x89\x07\x04\x00\x00\x00\x00\x00",
        ] {
            assert_eq!(
                receive(&mut options.to_vec(), VIP),
                Err(BadOptions),
                "{options:02x?}"
            );
        }
    }
}
