//! A file of services in the language of `ipvsadm`, as `ipvsadm -Sn` and
//! `ipvsadm-save -n` write it and `ipvsadm -R` reads it.
//!
//! Such a file says what there shall be: a line `-A` for each service and,
//! somewhere below it, a line `-a` for each of its real servers, which are
//! added in that order. Empty lines, and what follows a `#`, are for the
//! reader. Every mistake is reported, not only the first.
#![forbid(unsafe_code)]

use std::ops::Range;

use hashbrown::{HashMap, HashSet};

use super::{ArgumentError, Invocation, arguments::CommandLine};
use crate::{
    control::command::Command,
    service::{ServerKey, ServerOptions, ServiceKey, ServiceOptions},
};

/// A service of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRule {
    /// Its address in the text, in bytes.
    pub span: Range<usize>,
    /// What makes it unique.
    pub key: ServiceKey,
    /// Its scheduler and the rest.
    pub options: ServiceOptions,
    /// In the order of their lines.
    pub servers: Vec<ServerRule>,
}

/// A real server of a service of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRule {
    /// Its address in the text, in bytes.
    pub span: Range<usize>,
    /// What makes it unique in its service.
    pub key: ServerKey,
    /// Weight, thresholds and tunnel.
    pub options: ServerOptions,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// In the order of their lines.
    pub services: Vec<ServiceRule>,
    /// What is wrong, each with its bytes in the text, in the order of lines.
    pub problems: Vec<(Range<usize>, RuleProblem)>,
}

/// Why a line is refused. Each message says what is wrong and, after the
/// semicolon, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    /// The line starts with the name of the program.
    #[error("a line begins with its command; leave out the word \"{0}\"")]
    ProgramName(String),
    /// The line is no command line of `ipvsadm`, or asks for too much.
    #[error("{0}; {instead}", instead = .0.instead())]
    Arguments(ArgumentError),
    /// Another command than `-A` and `-a`.
    #[error(
        "this file says what there shall be, and {0} does not; write lines with -A and -a only, \
         as `ipvsadm -Sn` does"
    )]
    NotAnAddition(&'static str),
    /// A real server of a service that no line above adds.
    #[error("no line above adds the service {0}; write its -A line first")]
    NoSuchService(ServiceKey),
    /// A service twice.
    #[error("service {key} stands already in line {line}; remove one of them")]
    ServiceTwice {
        /// The service.
        key: ServiceKey,
        /// Where it stands first.
        line: usize,
    },
    /// A real server twice in one service.
    #[error(
        "{service} has the real server {server} already from line {line}; remove one of them, or \
         give that one a higher weight"
    )]
    ServerTwice {
        /// The service.
        service: ServiceKey,
        /// The real server.
        server: ServerKey,
        /// Where it stands first.
        line: usize,
    },
    /// Thresholds the wrong way round.
    #[error("the lower threshold {lower} is above the upper one, {upper}; write -y below -x")]
    ThresholdsCrossed {
        /// `-y`
        lower: u32,
        /// `-x`
        upper: u32,
    },
}

/// Reads a whole text.
pub fn parse(text: &str) -> Rules {
    let mut reader = Reader::default();
    let mut start = 0;
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        let words = words(content, start);
        if !words.is_empty() {
            reader.read_line(line, &words);
        }
        start += content.len();
    }
    reader.rules
}

/// A word and where it stands.
type Word<'t> = (Range<usize>, &'t str);

/// The words of a line that begins at `start`, without what follows a `#`.
fn words(line: &str, start: usize) -> Vec<Word<'_>> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = Vec::new();
    let mut at = start;
    for piece in line.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        if !word.is_empty() {
            words.push((at..at + word.len(), word));
        }
        at += piece.len();
    }
    words
}

/// Where the values of some options stand: behind them, or in the same word.
fn value_span(words: &[Word<'_>], is_value: impl Fn(&str) -> bool) -> Range<usize> {
    let values = words.iter().skip(1).map(|(span, word)| {
        let value = word.rsplit('=').next().unwrap_or_default();
        (span.end - value.len()..span.end, value)
    });
    let whole = match (words.first(), words.last()) {
        (Some((first, _)), Some((last, _))) => first.start..last.end,
        _ => 0..0,
    };
    values
        .into_iter()
        .find(|(_, value)| is_value(value))
        .map_or(whole, |(span, _)| span)
}

#[derive(Debug, Default)]
struct Reader {
    command_line: CommandLine,
    rules: Rules,
    /// Place and line of each service.
    services: HashMap<ServiceKey, (usize, usize)>,
    servers: HashMap<(ServiceKey, ServerKey), usize>,
    /// Services that no line adds, of which one real server is complained
    /// about.
    missing: HashSet<ServiceKey>,
    /// Whether the line of a service was refused: then others may only seem to
    /// lack theirs.
    has_refused_service: bool,
}

impl Reader {
    fn read_line(&mut self, line: usize, words: &[Word<'_>]) {
        let whole = value_span(words, |_| false);
        if let Some((span, word)) = words.first().filter(|(_, word)| is_program(word)) {
            let problem = RuleProblem::ProgramName((*word).to_owned());
            self.rules.problems.push((span.clone(), problem));
            return;
        }
        let arguments: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
        match self.command_line.parse(&arguments) {
            Ok(Invocation::Change(Command::AddService(key, options))) => {
                let span = value_span(words, |value| names_service(value, &key));
                self.add_service(line, span, key, options);
            }
            Ok(Invocation::Change(Command::AddServer(service, key, options))) => {
                let last = words.iter().rposition(|(_, word)| names(word, key.address));
                let from = last.unwrap_or_default().saturating_sub(1);
                let words = words.get(from..).unwrap_or_default();
                let span = value_span(words, |value| names(value, key.address));
                self.add_server(line, (span, whole), service, key, options);
            }
            Ok(other) => {
                let problem = RuleProblem::NotAnAddition(other.option());
                self.rules.problems.push((whole, problem));
            }
            Err(error) => {
                let adds =
                    |word: &&str| word.starts_with("-A") || word.starts_with("--add-service");
                self.has_refused_service |= arguments.iter().any(adds);
                let span = match error.word() {
                    Some(wrong) => value_span(words, |value| value == wrong),
                    None => whole,
                };
                self.rules
                    .problems
                    .push((span, RuleProblem::Arguments(error)));
            }
        }
    }

    fn add_service(
        &mut self,
        line: usize,
        span: Range<usize>,
        key: ServiceKey,
        options: ServiceOptions,
    ) {
        if let Some(&(_, line)) = self.services.get(&key) {
            let problem = RuleProblem::ServiceTwice { key, line };
            self.rules.problems.push((span, problem));
            return;
        }
        self.services.insert(key, (self.rules.services.len(), line));
        self.rules.services.push(ServiceRule {
            span,
            key,
            options,
            servers: Vec::new(),
        });
    }

    fn add_server(
        &mut self,
        line: usize,
        (span, whole): (Range<usize>, Range<usize>),
        service: ServiceKey,
        key: ServerKey,
        options: ServerOptions,
    ) {
        let place = self.services.get(&service).map(|&(place, _)| place);
        let Some(rule) = place.and_then(|place| self.rules.services.get_mut(place)) else {
            if self.missing.insert(service) && !self.has_refused_service {
                let problem = RuleProblem::NoSuchService(service);
                self.rules.problems.push((whole, problem));
            }
            return;
        };
        if let Some(&line) = self.servers.get(&(service, key)) {
            let problem = RuleProblem::ServerTwice {
                service,
                server: key,
                line,
            };
            self.rules.problems.push((span, problem));
            return;
        }
        let ServerOptions {
            upper_threshold: upper,
            lower_threshold: lower,
            ..
        } = options;
        if lower > upper {
            let problem = RuleProblem::ThresholdsCrossed { lower, upper };
            self.rules.problems.push((whole, problem));
        }
        self.servers.insert((service, key), line);
        rule.servers.push(ServerRule { span, key, options });
    }
}

/// Whether a word is how the program itself is called.
fn is_program(word: &str) -> bool {
    word.rsplit('/').next() == Some("ipvsadm")
}

/// Whether a word is the address or the mark of a service.
fn names_service(word: &str, key: &ServiceKey) -> bool {
    match *key {
        ServiceKey::Mark { fwmark, .. } => word.parse() == Ok(fwmark),
        _ => names(word, key.address()),
    }
}

/// Whether a word is an address, with or without a port.
fn names(word: &str, address: std::net::IpAddr) -> bool {
    super::arguments::address_and_port(word).is_some_and(|(named, _)| named == address)
}

#[cfg(test)]
mod tests;
