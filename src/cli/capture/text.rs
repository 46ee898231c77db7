//! Captured packets as lines of text.

use std::{
    fmt::{self, Display},
    io::{self, Write},
};

use super::story;
use crate::{
    capture::{Direction, Ends, Subject},
    control::status::{CapturedFrame, CapturedPacket},
    wire::tcp::TcpFlags,
};

/// Writes a line for each packet.
pub(super) struct Lines<W> {
    sink: W,
    port_names: Vec<String>,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(sink: W, port_names: Vec<String>) -> Self {
        Self { sink, port_names }
    }

    pub(super) fn write<'p>(
        &mut self,
        packets: impl Iterator<Item = (u64, &'p CapturedPacket)>,
    ) -> io::Result<()> {
        for (_, packet) in packets {
            writeln!(self.sink, "{}", self.line(packet))?;
        }
        self.sink.flush()
    }

    /// Time of day, the first frame, and what became of the packet.
    fn line(&self, packet: &CapturedPacket) -> String {
        let time = TimeOfDay(packet.time_ns);
        let worker = packet.worker;
        let what = packet.frames.first().map_or_else(String::new, |frame| {
            let port = self.port_names.get(usize::from(frame.port));
            let port = port.map_or("?", String::as_str);
            let way = frame.direction.name();
            format!(" {port} {way} {}, {} bytes", contents(frame), frame.len)
        });
        let story = story(packet, &self.port_names);
        format!("{time} worker {worker}{what}: {story}")
    }
}

/// The time of day of nanoseconds since 1970-01-01, in UTC.
struct TimeOfDay(u64);

impl Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (h, min, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
        write!(f, "{h:02}:{min:02}:{s:02}.{:06}", ns / 1000)
    }
}

/// From whom to whom, and what.
fn contents(frame: &CapturedFrame) -> String {
    let outer = Subject::of_received(&frame.bytes);
    let Some(outer) = outer.ends.first() else {
        return "neither IP nor ARP".to_owned();
    };
    match Subject::of_sent(&frame.bytes).ends.as_slice() {
        [_, inner] if frame.direction == Direction::Out => {
            format!("{} ({})", ends(outer), ends(inner))
        }
        _ => ends(outer),
    }
}

fn ends(ends: &Ends) -> String {
    let address = |address: std::net::IpAddr, which: usize| match ends.l4_ports {
        Some(l4_ports) => {
            let l4_port = l4_ports.get(which).copied().unwrap_or_default();
            std::net::SocketAddr::new(address, l4_port).to_string()
        }
        None => address.to_string(),
    };
    let source = address(ends.source, 0);
    let destination = address(ends.destination, 1);
    let flags = ends.tcp_flags.map(|flags| flag_letters(TcpFlags(flags)));
    let flags = flags.map_or_else(String::new, |letters| format!(" [{letters}]"));
    let fragment = if ends.is_fragment { " fragment" } else { "" };
    format!("{} {source} > {destination}{flags}{fragment}", ends.carried)
}

/// As tcpdump has them: "S", "S.", "P.".
fn flag_letters(flags: TcpFlags) -> String {
    const LETTERS: [(TcpFlags, char); 5] = [
        (TcpFlags::FIN, 'F'),
        (TcpFlags::SYN, 'S'),
        (TcpFlags::RST, 'R'),
        (TcpFlags::PSH, 'P'),
        (TcpFlags::ACK, '.'),
    ];
    let letters = LETTERS.iter().filter(|(flag, _)| flags.contains(*flag));
    let letters: String = letters.map(|(_, letter)| letter).collect();
    if letters.is_empty() {
        "none".to_owned()
    } else {
        letters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capture::FateKind, wire::test_support::hex};

    const SYN: &str = "45000028123440003f06c356cb007107c633640a\
                       9c410050000003e8000000005002faf0ae320000";

    fn frame(direction: Direction, rest: &str) -> CapturedFrame {
        let bytes = hex(&["020000000001020000000002", rest].concat());
        CapturedFrame {
            port: 0,
            direction,
            len: u32::try_from(bytes.len()).unwrap(),
            bytes,
        }
    }

    fn line(frame: CapturedFrame, text: &str) -> String {
        let packet = CapturedPacket {
            // 2026-11-28 22:14:41.123456789 UTC
            time_ns: 1_795_904_081_123_456_789,
            worker: 3,
            fate: FateKind::Dropped,
            reason: None,
            text: text.to_owned(),
            server: None,
            frames_sent: 0,
            frames: vec![frame],
        };
        Lines::new(Vec::new(), vec!["wan".to_owned()]).line(&packet)
    }

    #[test]
    fn a_line_says_when_who_what_and_what_became_of_it() {
        assert_eq!(
            line(
                frame(Direction::In, &["0800", SYN].concat()),
                "dropped, not_local: why"
            ),
            "22:14:41.123456 worker 3 wan in tcp 203.0.113.7:40001 > 198.51.100.10:80 [S], 54 \
             bytes: dropped, not_local: why"
        );
    }

    #[test]
    fn a_tunnelled_packet_stands_in_brackets() {
        let outer = "0800 4500003c000040003f04 0000 0a0000010a00000b";
        assert_eq!(
            line(frame(Direction::Out, &[outer, SYN].concat()), "late"),
            "22:14:41.123456 worker 3 wan out ipip 10.0.0.1 > 10.0.0.11 (tcp 203.0.113.7:40001 > \
             198.51.100.10:80 [S]), 74 bytes: late"
        );
    }

    #[test]
    fn anything_else_is_said_to_be_so() {
        assert!(line(frame(Direction::In, "88cc00"), "x").contains("in neither IP nor ARP, 15"));
        let later = SYN.replacen("4000", "00b9", 1);
        assert!(
            line(frame(Direction::In, &["0800", &later].concat()), "x")
                .contains("tcp 203.0.113.7 > 198.51.100.10 fragment, 54 bytes")
        );
    }
}
