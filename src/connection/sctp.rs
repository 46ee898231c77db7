//! SCTP states as a director sees them that only gets the client's packets.
//!
//! The states have the names that `ipvsadm -Lcn` prints. A packet counts by
//! the type of its first chunk; chunks bundled behind it are not looked at.
#![forbid(unsafe_code)]

use super::state::State;

/// The chunk that asks for an association (RFC 9260 section 3.3.2).
pub const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The state after an SCTP packet of the client whose first chunk has this
/// type (RFC 9260 section 3.2). `state` is `None` for a packet that opens a
/// connection, which only an INIT does. Connections of other protocols keep
/// their state.
///
/// Recorded from a kernel: INIT opens in INIT1, COOKIE ECHO leads from there
/// to ESTABLISHED, which DATA and HEARTBEAT leave as it is; SHUTDOWN leads on
/// to S-RECEIVED and SHUTDOWN COMPLETE from there to CLOSED; ABORT leads from
/// INIT1 to CLOSED. The recording does not decide the rest, which is our
/// reading of RFC 9260 for one direction, and not shown to be what Linux does:
///
/// - a further INIT starts over, unless the association is established or
///   being shut down (section 5.2.2);
/// - COOKIE ECHO establishes what waits for it, from whichever state (section
///   5.1);
/// - INIT ACK and COOKIE ACK are a client's answers when both sides ask for an
///   association at once (section 5.2.1): C-ECHOED, a
///   name not recorded, then ESTABLISHED;
/// - SHUTDOWN ACK ends an established association that the real server began
///   to shut down (section 9.2);
/// - SHUTDOWN COMPLETE ends what is not established; an established
///   association has to be shut down first (section 8.5.1);
/// - ABORT ends a connection in any state (section 9.1);
/// - nothing but INIT brings a closed connection back;
/// - ERROR and all other chunks change nothing (section 3.3.10).
#[inline]
pub const fn transition(state: Option<State>, chunk_type: u8) -> State {
    use State::{
        SctpClosed as Closed, SctpCookieEchoed as CookieEchoed, SctpEstablished as Established,
        SctpInit as Init, SctpInit1 as Init1, SctpShutdownReceived as ShutdownReceived,
    };
    let Some(state) = state else {
        return Init1;
    };
    match (state, chunk_type) {
        (Init1 | Init | CookieEchoed | Closed, INIT) => Init,
        (Init1 | Init | CookieEchoed, INIT_ACK) => CookieEchoed,
        (Init1 | Init | CookieEchoed, COOKIE_ECHO) | (CookieEchoed, COOKIE_ACK) => Established,
        (Established, SHUTDOWN) => ShutdownReceived,
        (Established, SHUTDOWN_ACK | ABORT)
        | (Init1 | Init | CookieEchoed | ShutdownReceived, SHUTDOWN_COMPLETE | ABORT) => Closed,
        (state, _) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::StateTimeouts;

    const DATA: u8 = 0;
    const HEARTBEAT: u8 = 4;
    const ERROR: u8 = 9;

    /// Runs chunks through the machine and compares what it would print one
    /// second later with what the kernel printed.
    fn check(recorded: &[(u8, &str, &str)]) {
        let timeouts = StateTimeouts::default();
        let mut state = None;
        for &(chunk_type, left, name) in recorded {
            let next = transition(state, chunk_type);
            let seconds = timeouts.of(next).as_seconds() - 1;
            let printed = format!("{:02}:{:02}", seconds / 60, seconds % 60);
            assert_eq!(
                (printed.as_str(), next.name()),
                (left, name),
                "{chunk_type} after {state:?}"
            );
            state = Some(next);
        }
    }

    // Kernel: Linux 6.1.176, IPVS 1.2.1.

    #[test]
    fn recorded_13_sctp_association() {
        check(&[
            (INIT, "00:03", "INIT1"),
            (COOKIE_ECHO, "14:59", "ESTABLISHED"),
            (DATA, "14:59", "ESTABLISHED"),
            (HEARTBEAT, "14:59", "ESTABLISHED"),
            (SHUTDOWN, "01:00", "S-RECEIVED"),
            (SHUTDOWN_COMPLETE, "01:00", "CLOSED"),
        ]);
    }

    #[test]
    fn recorded_13_sctp_abort() {
        check(&[(INIT, "00:03", "INIT1"), (ABORT, "01:00", "CLOSED")]);
    }

    #[test]
    fn the_whole_table() {
        use State::{
            SctpClosed as CL, SctpCookieEchoed as CE, SctpEstablished as ES, SctpInit as IN,
            SctpInit1 as I1, SctpShutdownReceived as SR,
        };
        let from = [I1, IN, CE, ES, SR, CL];
        let table = [
            (DATA, from),
            (INIT, [IN, IN, IN, ES, SR, IN]),
            (INIT_ACK, [CE, CE, CE, ES, SR, CL]),
            (HEARTBEAT, from),
            (ABORT, [CL; 6]),
            (SHUTDOWN, [I1, IN, CE, SR, SR, CL]),
            (SHUTDOWN_ACK, [I1, IN, CE, CL, SR, CL]),
            (ERROR, from),
            (COOKIE_ECHO, [ES, ES, ES, ES, SR, CL]),
            (COOKIE_ACK, [I1, IN, ES, ES, SR, CL]),
            (SHUTDOWN_COMPLETE, [CL, CL, CL, ES, CL, CL]),
            (15, from),
            (255, from),
        ];
        for (chunk_type, expected) in table {
            let seen = from.map(|state| transition(Some(state), chunk_type));
            assert_eq!(seen, expected, "chunk {chunk_type}");
        }
    }

    #[test]
    fn only_an_established_association_is_active() {
        for state in State::ALL {
            let name = format!("{state:?}");
            if name.starts_with("Sctp") {
                assert_eq!(state.is_active(), name == "SctpEstablished", "{name}");
            }
        }
    }
}
