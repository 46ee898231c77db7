//! Comparing what a shell line prints with what was recorded.
//!
//! Lists of services must be equal line by line. Connections come in any
//! order, and what is left of their time may be less in the recording, for
//! which time went by between the steps.

use std::{iter::Peekable, str::Lines};

/// How much more time a connection may have left than in the recording: a
/// step took up to 125 ms, and some had short waits after them.
fn seconds_tolerated(step: usize) -> u64 {
    3 + step as u64 / 8
}

/// Seconds that a connection may have left less than in the recording.
const SECONDS_LESS: u64 = 2;

/// The recorded output of one step, consumed as its commands are replayed.
#[derive(Debug)]
pub struct RecordedOutput<'a> {
    lines: Peekable<Lines<'a>>,
    step: usize,
    /// Seconds that our steps have taken, which those of a virtual clock do
    /// not.
    lost_s: u64,
    /// A command before printed what is not compared.
    has_unknown: bool,
}

impl<'a> RecordedOutput<'a> {
    pub fn new(text: &'a str, step: usize, lost_s: u64) -> Self {
        Self {
            lines: text.lines().peekable(),
            step,
            lost_s,
            has_unknown: false,
        }
    }

    /// From here on lines that nobody expects may stand.
    pub fn expect_unknown(&mut self) {
        self.has_unknown = true;
    }

    /// Consumes lines equal to those of `ours`.
    pub fn take_lines(&mut self, ours: &str) -> Result<(), String> {
        for ours in ours.lines() {
            self.skip_unknown(|line| line.trim_end() == ours.trim_end());
            match self.lines.next() {
                Some(line) if line.trim_end() == ours.trim_end() => {}
                other => return Err(differ(other.unwrap_or("(nothing)"), ours)),
            }
        }
        Ok(())
    }

    /// Consumes one line, and hands it out.
    pub fn take_line(&mut self) -> Option<&'a str> {
        self.lines.next()
    }

    /// Consumes a list of services. Compares it with `ours` as `compare` says.
    pub fn take_services(&mut self, ours: &str, compare: Compare) -> Result<(), String> {
        self.skip_unknown(is_service_line);
        let mut is_first = true;
        let recorded = self.take_while(|line| {
            let is_title = line.starts_with("IP Virtual Server") || line.starts_with("Prot ");
            let belongs = is_service_line(line) && (is_first || !line.starts_with("IP Virtual"));
            is_first &= is_title;
            belongs
        });
        if compare == Compare::Nothing {
            return Ok(());
        }
        let ours: Vec<&str> = ours.lines().map(str::trim_end).collect();
        let recorded: Vec<&str> = recorded.iter().map(|line| line.trim_end()).collect();
        let alike = match compare {
            Compare::InOrder => ours == recorded,
            _ => sorted_services(&ours) == sorted_services(&recorded),
        };
        if alike {
            Ok(())
        } else {
            Err(differ(&recorded.join("\n"), &ours.join("\n")))
        }
    }

    /// The seconds by which all connections that are in both lists have less
    /// time left in the recording: it waited so long without saying so.
    pub fn seconds_waited(&self, ours: &str) -> u64 {
        let ours = sorted_connections(ours.lines());
        let recorded = sorted_connections(self.lines.clone());
        let lag = |recorded: &Connection| {
            let ours = ours.iter().find(|ours| ours.what == recorded.what)?;
            // Templates may have been given more time meanwhile.
            let is_template =
                recorded.what.contains(" NONE ") || recorded.what.contains(" ASSURED ");
            (!is_template).then(|| ours.seconds.saturating_sub(recorded.seconds))
        };
        let lag = recorded.iter().filter_map(lag).min().unwrap_or(0);
        if lag > seconds_tolerated(self.step) {
            lag - 1
        } else {
            0
        }
    }

    /// Consumes a list of connections as `ipvsadm -Lcn` or
    /// `/proc/net/ip_vs_conn` show it, and compares it.
    pub fn take_connections(&mut self, ours: &str) -> Result<(), String> {
        self.skip_unknown(|line| is_connection_heading(line) || Connection::parse(line).is_some());
        let mut headings = 0;
        let recorded = self.take_while(|line| {
            headings += usize::from(is_first_heading(line));
            headings < 2 && (is_connection_heading(line) || Connection::parse(line).is_some())
        });
        let recorded = sorted_connections(recorded.into_iter());
        let ours_sorted = sorted_connections(ours.lines());
        let tolerated = seconds_tolerated(self.step);
        let is_alike = recorded.len() == ours_sorted.len()
            && recorded.iter().zip(&ours_sorted).all(|(recorded, ours)| {
                recorded.what == ours.what
                    && ours.seconds + SECONDS_LESS + self.lost_s >= recorded.seconds
                    && ours.seconds <= recorded.seconds + tolerated
            });
        if is_alike {
            return Ok(());
        }
        let text = |connections: &[Connection]| {
            let lines: Vec<String> = connections
                .iter()
                .map(|connection| format!("{:>4} s  {}", connection.seconds, connection.what))
                .collect();
            lines.join("\n")
        };
        Err(differ(&text(&recorded), &text(&ours_sorted)))
    }

    /// Ends the comparison of the step.
    pub fn finish(mut self) -> Result<(), String> {
        match self.lines.find(|line| !line.trim().is_empty()) {
            Some(line) if !self.has_unknown => Err(differ(line, "(nothing)")),
            _ => Ok(()),
        }
    }

    fn skip_unknown(&mut self, mut is_expected: impl FnMut(&str) -> bool) {
        if self.has_unknown {
            while self.lines.next_if(|line| !is_expected(line)).is_some() {}
        }
    }

    fn take_while(&mut self, mut belongs: impl FnMut(&str) -> bool) -> Vec<&'a str> {
        let mut taken = Vec::new();
        while let Some(line) = self.lines.next_if(|line| belongs(line)) {
            taken.push(line);
        }
        taken
    }
}

fn differ(recorded: &str, ours: &str) -> String {
    format!("recorded:\n{recorded}\nours:\n{ours}")
}

fn is_service_line(line: &str) -> bool {
    let starts = [
        "IP Virtual Server",
        "Prot ",
        "TCP  ",
        "UDP  ",
        "SCTP ",
        "FWM  ",
        "  -> ",
    ];
    starts.iter().any(|start| line.starts_with(start))
}

fn is_connection_heading(line: &str) -> bool {
    is_first_heading(line) || line.starts_with("pro expire")
}

/// With which a list of connections begins.
fn is_first_heading(line: &str) -> bool {
    line.starts_with("IPVS connection entries") || line.starts_with("Pro FromIP")
}

/// A line about a connection, without what is left of its time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    what: String,
    seconds: u64,
}

impl Connection {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [addresses @ .., state, seconds] if addresses.len() == 7 => Some(Self {
                what: format!("{} {state}", addresses.join(" ")),
                seconds: seconds.parse().ok()?,
            }),
            [protocol, expiry, state, client, service, server, ..] => {
                let (minutes, seconds) = expiry.split_once(':')?;
                Some(Self {
                    what: [*protocol, state, client, service, server].join(" "),
                    seconds: minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?,
                })
            }
            _ => None,
        }
    }
}

/// How a list of services is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Not at all.
    Nothing,
    /// As it is.
    InOrder,
    /// With services in any order: the kernel's is that of its hash table, which
    /// depends on an address in its memory. Servers keep their order.
    AnyOrder,
}

/// Each service with its servers, and the title, sorted.
fn sorted_services<'a>(lines: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut services: Vec<Vec<&str>> = Vec::new();
    for line in lines {
        match services.last_mut() {
            Some(service) if line.starts_with("  ->") => service.push(line),
            _ => services.push(vec![line]),
        }
    }
    services.sort();
    services
}

fn sorted_connections<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Connection> {
    let mut connections: Vec<Connection> = lines.filter_map(Connection::parse).collect();
    connections.sort();
    connections
}
