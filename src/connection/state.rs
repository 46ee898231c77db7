//! States of connections, TCP's as a director sees them that only gets the
//! client's packets, and how long an idle connection lives in each.
//!
//! The answers of real servers never pass a tunnelling director, so these are
//! the states that Linux IPVS derives from one direction, under the names that
//! `ipvsadm -Lcn` prints. Recorded from a kernel, not derived from RFC 9293.
#![forbid(unsafe_code)]

use std::fmt;

use super::time::CoarseDuration;
use crate::service::Timeouts;

/// State of a connection. 0 is left out: it marks a free slot of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// The client sent a SYN.
    SynRecv = 1,
    /// The client sent a SYN while `secure_tcp` is on.
    SynAck = 2,
    /// The client acknowledged something.
    Established = 3,
    /// The client closed an established connection.
    FinWait = 4,
    /// The client closed a connection that was never established.
    TimeWait = 5,
    /// The client reset the connection or sent no meaningful flag.
    Close = 6,
    /// UDP knows no states.
    Udp = 7,
    /// SCTP: the client sent an INIT.
    SctpInit1 = 8,
    /// SCTP: the client sent an INIT again.
    SctpInit = 9,
    /// SCTP: the client answered an INIT of the real server.
    SctpCookieEchoed = 10,
    /// SCTP: the client answered the real server's cookie.
    SctpEstablished = 11,
    /// SCTP: the client began to shut the association down.
    SctpShutdownReceived = 12,
    /// SCTP: the association was shut down or aborted.
    SctpClosed = 13,
    /// Opened by an ICMP error alone (`schedule_icmp`): the client has sent
    /// nothing yet.
    None = 14,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::SynRecv,
        Self::SynAck,
        Self::Established,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::Udp,
        Self::SctpInit1,
        Self::SctpInit,
        Self::SctpCookieEchoed,
        Self::SctpEstablished,
        Self::SctpShutdownReceived,
        Self::SctpClosed,
        Self::None,
    ];

    /// Whether the connection counts as active in lc, wlc and displays; all
    /// others count as inactive. No list of servers with SCTP connections has
    /// been recorded; of those an established one is taken for active.
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::SynRecv | Self::SynAck | Self::Established | Self::SctpEstablished
        )
    }

    /// Whether the connection is established.
    #[inline]
    pub const fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::SctpEstablished)
    }

    /// Whether the client has so far only asked for a connection. These are
    /// the first to go when the table runs full.
    #[inline]
    pub const fn is_embryonic(self) -> bool {
        matches!(
            self,
            Self::SynRecv | Self::SynAck | Self::SctpInit1 | Self::SctpInit | Self::None
        )
    }

    /// The name that `ipvsadm -Lcn` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynRecv => "SYN_RECV",
            Self::SynAck => "SYNACK",
            Self::Established | Self::SctpEstablished => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Udp => "UDP",
            Self::SctpInit1 => "INIT1",
            Self::SctpInit => "INIT",
            Self::SctpCookieEchoed => "C-ECHOED",
            Self::SctpShutdownReceived => "S-RECEIVED",
            Self::SctpClosed => "CLOSED",
            Self::None => "NONE",
        }
    }

    /// The state with this number; `None` for the number of a free slot.
    #[inline]
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::SynRecv),
            2 => Some(Self::SynAck),
            3 => Some(Self::Established),
            4 => Some(Self::FinWait),
            5 => Some(Self::TimeWait),
            6 => Some(Self::Close),
            7 => Some(Self::Udp),
            8 => Some(Self::SctpInit1),
            9 => Some(Self::SctpInit),
            10 => Some(Self::SctpCookieEchoed),
            11 => Some(Self::SctpEstablished),
            12 => Some(Self::SctpShutdownReceived),
            13 => Some(Self::SctpClosed),
            14 => Some(Self::None),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The state after a TCP packet of the client with these `flags` (byte 13 of
/// the TCP header, RFC 9293 section 3.1). `state` is `None` for a packet that
/// opens a connection. `secure` tells whether `secure_tcp` is on.
///
/// Of several flags the first of RST, SYN, FIN, ACK counts; a packet with none
/// of them is "null". UDP and SCTP connections stay as they are.
///
/// No RST or null packet to a connection in SYNACK has been recorded; such a
/// connection closes, which is the cautious choice: unlike `SYN_RECV` it would
/// otherwise live for two minutes.
#[inline]
pub const fn transition(state: Option<State>, flags: u8, secure: bool) -> State {
    use State::{Close, Established, FinWait, SynAck, SynRecv, TimeWait};
    let opening = if secure { SynAck } else { SynRecv };
    let [syn, fin, ack, rst, null] = match state {
        None | Some(State::None) => [opening, Close, Established, Close, Close],
        Some(SynRecv) => [SynRecv, TimeWait, Established, SynRecv, Close],
        Some(SynAck) => [opening, TimeWait, Established, Close, Close],
        Some(Established) => [Established, FinWait, Established, Close, Close],
        Some(FinWait) => [opening, FinWait, FinWait, Close, Close],
        Some(TimeWait) => [opening, TimeWait, TimeWait, Close, Close],
        Some(Close) => [opening, Close, Close, Close, Close],
        Some(other) => [other; 5],
    };
    match Signal::of(flags) {
        Signal::Syn => syn,
        Signal::Fin => fin,
        Signal::Ack => ack,
        Signal::Rst => rst,
        Signal::Null => null,
    }
}

/// Whether a connection stays as it is with a packet with these `flags`: as
/// [`transition`], for the many that do.
#[inline]
pub const fn stays(state: State, flags: u8, secure: bool) -> bool {
    let [plain, secured] = &STAYS;
    let states = if secure { secured } else { plain };
    #[expect(clippy::indexing_slicing, reason = "16 states and none beyond")]
    let by_flags = states[state as usize & 0x0f];
    by_flags >> (flags & 0x1f) & 1 != 0
}

/// Without and with `secure_tcp`, for each state: a bit for each combination of
/// the lower five flags, none of the others counts.
const STAYS: [[u32; 16]; 2] = [stays_with(false), stays_with(true)];

#[expect(
    clippy::indexing_slicing,
    reason = "runs when the program is compiled, and not when it is wrong"
)]
const fn stays_with(secure: bool) -> [u32; 16] {
    let mut table = [0; 16];
    let mut index = 0;
    while index < State::ALL.len() {
        let state = State::ALL[index];
        let mut flags = 0;
        while flags < 32 {
            if transition(Some(state), flags, secure) as u8 == state as u8 {
                table[state as usize] |= 1 << flags;
            }
            flags += 1;
        }
        index += 1;
    }
    table
}

/// The one flag of a packet that counts.
#[derive(Clone, Copy)]
enum Signal {
    Rst,
    Syn,
    Fin,
    Ack,
    Null,
}

impl Signal {
    const fn of(flags: u8) -> Self {
        if flags & 0x04 != 0 {
            Self::Rst
        } else if flags & 0x02 != 0 {
            Self::Syn
        } else if flags & 0x01 != 0 {
            Self::Fin
        } else if flags & 0x10 != 0 {
            Self::Ack
        } else {
            Self::Null
        }
    }
}

/// How long a connection lives without a packet, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTimeouts([CoarseDuration; 16]);

impl StateTimeouts {
    /// The fixed timeouts of IPVS, and `timeouts` where the operator may
    /// choose. Those are clamped to 1 second to 31 days.
    pub fn new(timeouts: &Timeouts) -> Self {
        let mut by_number = [CoarseDuration::from_seconds(0); 16];
        for state in State::ALL {
            if let Some(timeout) = by_number.get_mut(state as usize) {
                *timeout = CoarseDuration::from_seconds(seconds_in(state, timeouts));
            }
        }
        Self(by_number)
    }

    /// The timeout of connections in `state`.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "16 states and none beyond")]
    pub const fn of(&self, state: State) -> CoarseDuration {
        self.0[state as usize & 0x0f]
    }
}

const fn seconds_in(state: State, timeouts: &Timeouts) -> u32 {
    match state {
        State::SynRecv => 60,
        State::SynAck | State::TimeWait => 120,
        State::Established => timeouts.tcp,
        State::FinWait => timeouts.tcp_fin,
        State::Close => 10,
        State::Udp => timeouts.udp,
        // Those of SCTP cannot be chosen. Not recorded are INIT and C-ECHOED,
        // which have to outlast a retransmission: its timer is 60 seconds at
        // most (RFC 9260 section 16).
        State::SctpInit1 => 4,
        State::SctpEstablished => 900,
        State::None => 3,
        State::SctpInit
        | State::SctpCookieEchoed
        | State::SctpShutdownReceived
        | State::SctpClosed => 61,
    }
}

impl Default for StateTimeouts {
    fn default() -> Self {
        Self::new(&Timeouts::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(letters: &str) -> u8 {
        letters.chars().fold(0, |flags, letter| {
            flags
                | match letter {
                    'F' => 0x01,
                    'S' => 0x02,
                    'R' => 0x04,
                    'P' => 0x08,
                    'A' => 0x10,
                    'U' => 0x20,
                    other => panic!("no TCP flag {other}"),
                }
        })
    }

    /// Runs packets through the machine and compares what it would print with
    /// what the kernel printed: state, minutes and seconds left (one second
    /// later), active or inactive.
    fn check(secure: bool, recorded: &[(&str, &str, &str, bool)]) {
        let timeouts = StateTimeouts::default();
        let mut state = None;
        for &(letters, left, name, active) in recorded {
            let next = transition(state, flags(letters), secure);
            let seconds = timeouts.of(next).as_seconds() - 1;
            assert_eq!(next.name(), name, "{letters:?} after {state:?}");
            assert_eq!(
                format!("{:02}:{:02}", seconds / 60, seconds % 60),
                left,
                "{name}"
            );
            assert_eq!(next.is_active(), active, "{name}");
            state = Some(next);
        }
    }

    // The recorded sequences, one test each, under the names of the recordings.
    // Kernel: Linux 6.1.176, IPVS 1.2.1.

    #[test]
    fn recorded_09_tcp_close_ack() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("R", "00:09", "CLOSE", false),
                ("A", "00:09", "CLOSE", false),
                ("FA", "00:09", "CLOSE", false),
                ("A", "00:09", "CLOSE", false),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_est_null() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("", "00:09", "CLOSE", false),
                ("U", "00:09", "CLOSE", false),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_est_rst() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("R", "00:09", "CLOSE", false),
                ("A", "00:09", "CLOSE", false),
                ("PA", "00:09", "CLOSE", false),
                ("S", "00:59", "SYN_RECV", true),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_est_synack() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("SA", "14:59", "ESTABLISHED", true),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_fin_fin_rst() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("FA", "01:59", "FIN_WAIT", false),
                ("FA", "01:59", "FIN_WAIT", false),
                ("R", "00:09", "CLOSE", false),
                ("FA", "00:09", "CLOSE", false),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_rst_only_after_fin() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("FA", "01:59", "FIN_WAIT", false),
                ("R", "00:09", "CLOSE", false),
                ("S", "00:59", "SYN_RECV", true),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_syn_ack_fin_ack() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("PA", "14:59", "ESTABLISHED", true),
                ("FA", "01:59", "FIN_WAIT", false),
                ("A", "01:59", "FIN_WAIT", false),
                ("A", "01:59", "FIN_WAIT", false),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_syn_data() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("PA", "14:59", "ESTABLISHED", true),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_syn_rst() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("R", "00:59", "SYN_RECV", true),
            ],
        );
    }

    #[test]
    fn recorded_09_tcp_syn_syn() {
        check(
            false,
            &[
                ("S", "00:59", "SYN_RECV", true),
                ("S", "00:59", "SYN_RECV", true),
                ("A", "14:59", "ESTABLISHED", true),
                ("S", "14:59", "ESTABLISHED", true),
                ("A", "14:59", "ESTABLISHED", true),
            ],
        );
    }

    #[test]
    fn recorded_12_secure_tcp3() {
        let syn = ("S", "01:59", "SYNACK", true);
        let established = ("A", "14:59", "ESTABLISHED", true);
        check(true, &[syn]);
        check(
            true,
            &[
                syn,
                established,
                established,
                ("PA", "14:59", "ESTABLISHED", true),
            ],
        );
        check(
            true,
            &[syn, established, ("FA", "01:59", "FIN_WAIT", false)],
        );
        check(true, &[syn, established, ("R", "00:09", "CLOSE", false)]);
        check(true, &[syn, ("FA", "01:59", "TIME_WAIT", false)]);
    }

    const S: State = State::SynRecv;
    const E: State = State::Established;
    const F: State = State::FinWait;
    const T: State = State::TimeWait;
    const C: State = State::Close;

    #[test]
    fn the_whole_table_without_secure_tcp() {
        // Columns: SYN, FIN, ACK, RST, null.
        let table = [
            (None, [S, C, E, C, C]),
            (Some(S), [S, T, E, S, C]),
            (Some(E), [E, F, E, C, C]),
            (Some(F), [S, F, F, C, C]),
            (Some(T), [S, T, T, C, C]),
            (Some(C), [S, C, C, C, C]),
        ];
        for (from, expected) in table {
            let seen = ["S", "F", "A", "R", ""].map(|name| transition(from, flags(name), false));
            assert_eq!(seen, expected, "from {from:?}");
        }
    }

    #[test]
    fn secure_tcp_changes_only_where_a_syn_leads() {
        let synack = State::SynAck;
        assert_eq!(transition(Some(S), flags("S"), true), S);
        assert_eq!(transition(Some(E), flags("S"), true), E);
        for from in [None, Some(synack), Some(F), Some(T), Some(C)] {
            assert_eq!(transition(from, flags("S"), true), synack, "from {from:?}");
        }
        for from in [None, Some(S), Some(E), Some(F), Some(T), Some(C)] {
            for name in ["F", "A", "R", ""] {
                let (on, off) = (
                    transition(from, flags(name), true),
                    transition(from, flags(name), false),
                );
                assert_eq!(on, off, "{name:?} from {from:?}");
            }
        }
    }

    #[test]
    fn rst_goes_before_syn_before_fin_before_ack() {
        assert_eq!(transition(Some(E), flags("RSFA"), false), C);
        assert_eq!(transition(Some(F), flags("SFA"), false), S);
        assert_eq!(transition(Some(E), flags("FA"), false), F);
    }

    #[test]
    fn udp_stays_udp_and_inactive() {
        assert_eq!(transition(Some(State::Udp), flags("SR"), false), State::Udp);
        assert!(!State::Udp.is_active());
        assert_eq!(StateTimeouts::default().of(State::Udp).as_seconds(), 300);
    }

    #[test]
    fn chosen_timeouts_reach_their_states_and_are_clamped() {
        let timeouts = StateTimeouts::new(&Timeouts {
            tcp: 0,
            tcp_fin: 7,
            udp: u32::MAX,
        });
        let seconds = State::ALL.map(|state| timeouts.of(state).as_seconds());
        let chosen = [60, 120, 1, 7, 120, 10, 31 * 86_400];
        assert_eq!(seconds[..7], chosen);
        assert_eq!(seconds[7..], [4, 61, 61, 900, 61, 61, 3]);
    }

    #[test]
    fn numbers_of_states_are_stable() {
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(15), None);
        for state in State::ALL {
            assert_eq!(State::from_number(state as u8), Some(state));
        }
    }
}
