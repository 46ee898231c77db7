//! `pointsman capture`: packets of a running director, and what became of them.
//!
//! The director captures and this reads, some times a second. Whatever ends it
//! (a limit, Ctrl-C, a reader that has seen enough), the capture in the director
//! ends too, and what has been written is whole.
#![forbid(unsafe_code)]

mod expression;
mod output;
mod pcapng;
mod text;

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use self::{
    expression::ExpressionError,
    output::{Output, Target},
};
use crate::{
    capture::{Carried, Direction, FateKind, Filter, RATE_MIN, Reason, SNAPLEN_MAX},
    config::CONTROL_SOCKET_DEFAULT,
    control::{
        socket::{QueryError, query},
        status::{
            CaptureBatch, CaptureEnd, CaptureRequest, CapturedFrame, CapturedPacket, Request,
            Response,
        },
    },
};

/// What to capture, and where to put it.
#[derive(Debug, Args)]
pub(super) struct CaptureArguments {
    /// Write pcapng to this file, or with "-" to standard output; without it, print a line for each
    /// packet
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Client or VIP, or a network of them
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    host: Option<IpNet>,
    /// Client, or a network of them
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    client: Option<IpNet>,
    /// VIP, or a network of them
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    vip: Option<IpNet>,
    /// L4 port of the client or of the service
    #[arg(long, value_name = "L4_PORT")]
    l4_port: Option<u16>,
    /// L4 port of the client
    #[arg(long, value_name = "L4_PORT")]
    client_port: Option<u16>,
    /// L4 port of the service
    #[arg(long, value_name = "L4_PORT")]
    service_port: Option<u16>,
    /// What it carries: tcp, udp, sctp, icmp, icmpv6, arp, or the number of an IP protocol
    #[arg(long)]
    protocol: Option<Carried>,
    /// Only frames of this NIC port
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Only frames that a port received, or that it sends
    #[arg(long, value_enum)]
    direction: Option<DirectionArgument>,
    /// Packets that were sent to this real server
    #[arg(long, value_name = "RIP")]
    server: Option<IpAddr>,
    /// Packets that ended so
    #[arg(long, value_enum)]
    fate: Option<FateArgument>,
    /// Packets that were dropped or punted for this reason, by the name of its counter; repeat for
    /// more
    #[arg(long = "reason", value_name = "COUNTER")]
    reasons: Vec<Reason>,
    /// End after so many packets
    #[arg(short = 'c', long, value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// End after so many bytes of frames
    #[arg(long, value_name = "N", default_value_t = 256 << 20,
        value_parser = clap::value_parser!(u64).range(1..))]
    bytes: u64,
    /// End after so many seconds
    #[arg(long, value_name = "S", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: u64,
    /// Bytes of each frame that are kept
    #[arg(short, long, value_name = "N", default_value_t = 2048,
        value_parser = clap::value_parser!(u32).range(1..=SNAPLEN_MAX as i64))]
    snaplen: u32,
    /// Packets a second that each worker captures at most
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(i64::from(RATE_MIN)..=1_000_000))]
    rate: u32,
    /// The control socket of the director
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET_DEFAULT)]
    socket: PathBuf,
    /// A filter as tcpdump takes it (pcap-filter(7)), for frames as they were received
    #[arg(value_name = "EXPRESSION")]
    expression: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirectionArgument {
    In,
    Out,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FateArgument {
    /// Sent into a tunnel
    Forwarded,
    /// Dropped
    Dropped,
    /// Handed to the management thread
    Punted,
    /// Handed to another worker, or waiting for the first fragment
    Undecided,
    /// A frame of the director itself
    Own,
}

/// Why there is no capture, or no whole one.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
}

impl CaptureError {
    fn write(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, error }
    }
}

/// An address, or a network of them.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse::<IpNet>().map(|network| network.trunc()))
        .map_err(|_| {
            format!("\"{text}\" is no IP address; write 192.0.2.10, 192.0.2.0/24 or 2001:db8::1")
        })
}

impl CaptureArguments {
    fn request(&self) -> Result<CaptureRequest, ExpressionError> {
        let filter = Filter {
            host: self.host,
            client: self.client,
            vip: self.vip,
            l4_port: self.l4_port,
            client_port: self.client_port,
            service_port: self.service_port,
            protocol: self.protocol,
            program: expression::compile(&self.expression.join(" "))?,
            fate: self.fate.map(|fate| match fate {
                FateArgument::Forwarded => FateKind::Forwarded,
                FateArgument::Dropped => FateKind::Dropped,
                FateArgument::Punted => FateKind::Punted,
                FateArgument::Undecided => FateKind::Undecided,
                FateArgument::Own => FateKind::Own,
            }),
            reasons: self.reasons.clone(),
            server: self.server,
            direction: self.direction.map(|direction| match direction {
                DirectionArgument::In => Direction::In,
                DirectionArgument::Out => Direction::Out,
            }),
            port: None,
        };
        Ok(CaptureRequest {
            filter,
            port: self.port.clone(),
            snaplen: self.snaplen,
            packets_max: self.count,
            bytes_max: self.bytes,
            duration_ms: self.duration * 1000,
            rate_per_s: self.rate,
        })
    }
}

/// Captures until there is an end to it. Returns a line that says how much it
/// was.
pub(super) fn capture(arguments: &CaptureArguments) -> Result<String, CaptureError> {
    let request = arguments.request()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&stop)).map_err(CaptureError::Signals)?;
    }
    let socket = arguments.socket.as_path();
    let director = match query(socket, &Request::Director)? {
        Response::Director(director) => Some(director),
        _ => None,
    };
    let ports = match query(socket, &Request::Ports)? {
        Response::Ports(ports) => ports,
        _ => Vec::new(),
    };
    // Before the director has begun: what cannot be written is not captured.
    let target = Target::open(arguments.write.as_deref())?;
    let id = match query(socket, &Request::StartCapture(request)) {
        Ok(Response::CaptureStarted { id }) => id,
        Ok(_) => return Ok(String::new()),
        Err(error) => {
            target.give_up();
            return Err(error.into());
        }
    };
    let session = Session {
        socket,
        id,
        stop,
        captured: 0,
    };
    match Output::start(target, arguments, &ports, director.as_ref()) {
        Ok(output) => session.run(output),
        Err(error) => {
            session.end();
            Err(error)
        }
    }
}

/// A capture that runs.
struct Session<'a> {
    socket: &'a Path,
    id: u64,
    stop: Arc<AtomicBool>,
    captured: u64,
}

impl Session<'_> {
    fn run(mut self, mut output: Output) -> Result<String, CaptureError> {
        let mut is_stopping = false;
        loop {
            let asked = self.stop.load(Ordering::Relaxed) || output.is_reader_gone();
            let batch = self.next(asked && !is_stopping)?;
            is_stopping |= asked;
            match output.write(&batch, self.captured) {
                Ok(()) => {}
                // Whoever read it has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.end();
                    return Ok(String::new());
                }
                Err(error) => {
                    self.end();
                    return Err(output.error(error));
                }
            }
            self.captured += batch.packets.len() as u64;
            if let Some(end) = batch.end {
                return Ok(self.summary(end, &batch));
            }
            if batch.packets.is_empty() {
                thread::sleep(READ_INTERVAL);
            }
        }
    }

    fn next(&self, stop: bool) -> Result<CaptureBatch, QueryError> {
        let id = self.id;
        let request = if stop {
            Request::StopCapture { id }
        } else {
            Request::ReadCapture { id }
        };
        match query(self.socket, &request)? {
            Response::Captured(batch) => Ok(batch),
            _ => Ok(CaptureBatch::default()),
        }
    }

    /// Ends the capture, whatever it still has.
    fn end(&self) {
        // A director that cannot be told ends it on its own soon.
        let _ = self.next(true);
    }

    fn summary(&self, end: CaptureEnd, batch: &CaptureBatch) -> String {
        let why = match end {
            CaptureEnd::Packets => "as many as asked for",
            CaptureEnd::Bytes => "as many bytes as asked for",
            CaptureEnd::Duration => "the time is over",
            CaptureEnd::Asked => "ended",
        };
        let count = self.captured;
        let unless_none = |count, text: String| if count == 0 { String::new() } else { text };
        let missed = batch.missed;
        let missed = unless_none(missed, format!("; {missed} missed for want of room"));
        let unseen = batch.unseen;
        let unseen = unless_none(
            unseen,
            format!("; {unseen} passed unseen, as the rate was reached (--rate)"),
        );
        format!("{count} packets captured: {why}{missed}{unseen}")
    }
}

/// What became of a packet, in words.
fn story(packet: &CapturedPacket, port_names: &[String]) -> String {
    let is_out = |frame: &&CapturedFrame| frame.direction == Direction::Out;
    let port = packet
        .frames
        .iter()
        .find(is_out)
        .filter(|_| packet.fate == FateKind::Forwarded)
        .and_then(|frame| port_names.get(usize::from(frame.port)));
    let server = packet.server.map(|server| format!(" to {server}"));
    let port = port.map(|name| format!(" by {name}"));
    let frames = (packet.frames_sent > 1).then(|| format!(" in {} frames", packet.frames_sent));
    let more = [server, port, frames].into_iter().flatten();
    [packet.text.clone()].into_iter().chain(more).collect()
}

/// How long this waits when the director had nothing.
const READ_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: CaptureArguments,
    }

    fn request(line: &str) -> Result<CaptureRequest, String> {
        let words = ["capture"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.arguments.request().map_err(|error| error.to_string())
    }

    #[test]
    fn conditions_and_limits_are_asked_for_as_written() {
        let request = request(
            "--client 203.0.113.0/24 --vip 198.51.100.10 --service-port 80 --protocol tcp --port \
             lan --direction in --server 10.0.0.11 --reason not_local --reason local --fate \
             dropped --count 5 --bytes 6 --duration 7 --snaplen 8 --rate 90",
        );
        let json = serde_json::to_value(request.unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "filter": {
                    "host": null, "client": "203.0.113.0/24", "vip": "198.51.100.10/32",
                    "l4_port": null, "client_port": null, "service_port": 80, "protocol": "tcp",
                    "program": null, "fate": "dropped", "reasons": ["not_local", "local"],
                    "server": "10.0.0.11", "direction": "in",
                },
                "port": "lan", "snaplen": 8, "packets_max": 5, "bytes_max": 6,
                "duration_ms": 7000, "rate_per_s": 90,
            })
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_way_out() {
        for (line, complaint) in [
            ("--client lan", "write 192.0.2.10"),
            ("--protocol ospf", "write tcp, udp"),
            ("--reason lost", "pointsman show counters"),
            ("--count 0", "1.."),
            ("--duration 0", "1..=3600"),
            ("--duration 3601", "1..=3600"),
            ("--snaplen 9833", "1..=9832"),
            ("--rate 15", "16..=1000000"),
        ] {
            let refused = request(line).unwrap_err();
            assert!(refused.contains(complaint), "{line}: {refused}");
        }
    }

    #[test]
    fn a_story_names_server_port_and_fragments() {
        let frame = |port, direction| CapturedFrame {
            port,
            direction,
            len: 60,
            bytes: Vec::new(),
        };
        let packet = CapturedPacket {
            time_ns: 0,
            worker: 0,
            fate: FateKind::Forwarded,
            reason: None,
            text: "forwarded".to_owned(),
            server: "10.0.0.11".parse().ok(),
            frames_sent: 2,
            frames: vec![frame(0, Direction::In), frame(1, Direction::Out)],
        };
        let names = ["wan", "lan"].map(str::to_owned);
        assert_eq!(
            story(&packet, &names),
            "forwarded to 10.0.0.11 by lan in 2 frames"
        );
    }
}
