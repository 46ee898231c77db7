//! SCTP states as a director sees them that only gets the client's packets.
//!
//! The states have the names that `ipvsadm -Lcn` prints. A packet counts by
//! the type of its first chunk; chunks bundled behind it are not looked at.
#![forbid(unsafe_code)]

use super::state::State;

/// The chunk that asks for an association (RFC 9260 section 3.3.2).
pub const INIT: u8 = 1;
/// The chunk that ends an association at once (RFC 9260 section 3.3.7).
pub const ABORT: u8 = 6;
const INIT_ACK: u8 = 2;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The state after an SCTP packet of the client whose first chunk has this
/// type (RFC 9260 section 3.2). `state` is `None` for a packet that opens a
/// connection, which with `sloppy_sctp` others than an INIT may do too.
/// Connections of other protocols keep their state.
///
/// Recorded from a kernel: INIT opens in INIT1, COOKIE ECHO leads from there
/// to ESTABLISHED, which DATA and HEARTBEAT leave as it is; SHUTDOWN leads on
/// to S-RECEIVED and SHUTDOWN COMPLETE from there to CLOSED; ABORT leads from
/// INIT1 to CLOSED. The recording does not decide the rest: it is what Linux
/// does with connections of which it gets the client's packets only, as its
/// `ip_vs_proto_sctp.c` says. In short:
///
/// - a further INIT starts over, unless the association is established, being
///   shut down, or waits for a COOKIE ACK (RFC 9260 section 5.2.2);
/// - INIT ACK and COOKIE ACK are a client's answers when both sides ask for an
///   association at once (section 5.2.1): C-ECHOED, then ESTABLISHED;
/// - SHUTDOWN ACK ends an established association that the real server began
///   to shut down (section 9.2);
/// - SHUTDOWN COMPLETE ends what is not established (section 8.5.1);
/// - ABORT ends a connection in any state (section 9.1);
/// - nothing but INIT brings a closed connection back;
/// - ERROR and all other chunks change nothing (section 3.3.10).
#[inline]
pub const fn transition(state: Option<State>, chunk_type: u8) -> State {
    use State::{
        SctpClosed as Closed, SctpCookieEchoed as CookieEchoed, SctpEstablished as Established,
        SctpInit as Init, SctpInit1 as Init1, SctpShutdownReceived as ShutdownReceived,
    };
    let state = match state {
        None | Some(State::None) => {
            return match chunk_type {
                INIT => Init1,
                INIT_ACK => CookieEchoed,
                SHUTDOWN => ShutdownReceived,
                SHUTDOWN_ACK | SHUTDOWN_COMPLETE | ERROR | ABORT => Closed,
                _ => Established,
            };
        }
        Some(state) => state,
    };
    match (state, chunk_type) {
        (Init1 | Init | Closed, INIT) | (Init1 | Init, SHUTDOWN_ACK) => Init,
        (Init1 | Init, INIT_ACK) => CookieEchoed,
        (Init1 | Init, COOKIE_ECHO) | (CookieEchoed, COOKIE_ACK) => Established,
        (Established, SHUTDOWN) => ShutdownReceived,
        (Established, SHUTDOWN_ACK)
        | (Init1 | Init | ShutdownReceived, SHUTDOWN_COMPLETE)
        | (Init1 | Init | CookieEchoed | Established | ShutdownReceived, ABORT) => Closed,
        (state, _) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::StateTimeouts;

    const DATA: u8 = 0;
    const HEARTBEAT: u8 = 4;

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
            (INIT, [IN, IN, CE, ES, SR, IN]),
            (INIT_ACK, [CE, CE, CE, ES, SR, CL]),
            (HEARTBEAT, from),
            (ABORT, [CL; 6]),
            (SHUTDOWN, [I1, IN, CE, SR, SR, CL]),
            (SHUTDOWN_ACK, [IN, IN, CE, CL, SR, CL]),
            (ERROR, from),
            (COOKIE_ECHO, [ES, ES, CE, ES, SR, CL]),
            (COOKIE_ACK, [I1, IN, ES, ES, SR, CL]),
            (SHUTDOWN_COMPLETE, [CL, CL, CE, ES, CL, CL]),
            (15, from),
            (255, from),
        ];
        for (chunk_type, expected) in table {
            let seen = from.map(|state| transition(Some(state), chunk_type));
            assert_eq!(seen, expected, "chunk {chunk_type}");
        }
    }

    /// With `sloppy_sctp`.
    #[test]
    fn any_chunk_may_open() {
        use State::{
            SctpClosed as CL, SctpCookieEchoed as CE, SctpEstablished as ES, SctpInit1 as I1,
            SctpShutdownReceived as SR,
        };
        for (chunk_type, state) in [
            (DATA, ES),
            (INIT, I1),
            (INIT_ACK, CE),
            (HEARTBEAT, ES),
            (SHUTDOWN, SR),
            (SHUTDOWN_ACK, CL),
            (ERROR, CL),
            (COOKIE_ECHO, ES),
            (COOKIE_ACK, ES),
            (SHUTDOWN_COMPLETE, CL),
            (255, ES),
        ] {
            assert_eq!(transition(None, chunk_type), state, "chunk {chunk_type}");
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
