//! What a recorded shell line does to a director.

use pointsman::{
    ipvsadm::{self, ArgumentError, Invocation},
    service::Tunable,
};

use super::{
    network::{self, NetworkChange},
    shell::Pipeline,
};

/// One thing that a shell line does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `ipvsadm`, with what its output is piped through.
    Ipvsadm(Invocation, Vec<Filter>),
    /// The command itself refuses its arguments.
    Refused {
        message: String,
        code: u8,
    },
    /// Starts or stops connection synchronisation, of which there is none.
    Synchronise,
    /// A setting under `/proc/sys/net/ipv4/vs` with its new value.
    Tunable(&'static str, u32),
    /// `net.ipv4.icmp_ratelimit`: milliseconds between ICMP errors; 0 is no
    /// limit.
    IcmpInterval(u32),
    Network(NetworkChange),
    SleepMs(u64),
    /// `date +%s`: the recording waited before it.
    Date,
    /// `cat /proc/net/ip_vs_conn`
    ReadConnections,
    /// `echo`, with `$?` still in it.
    Print(String),
    /// Prints what the comparison does not care for.
    Look,
    /// Does nothing to a director and prints nothing.
    Nothing,
}

/// What lines of output are piped through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    Sort,
    /// `tail -n +N`: from the Nth line on.
    TailFrom(usize),
    /// `tail -N`: the last N lines.
    TailLast(usize),
    Grep(String),
}

impl Filter {
    pub fn apply(&self, text: &str) -> String {
        let mut lines: Vec<&str> = text.lines().collect();
        match self {
            Self::Sort => lines.sort_unstable(),
            Self::TailFrom(line) => {
                lines = lines.split_off(line.saturating_sub(1).min(lines.len()));
            }
            Self::TailLast(count) => lines = lines.split_off(lines.len().saturating_sub(*count)),
            Self::Grep(pattern) => lines.retain(|line| line.contains(pattern.as_str())),
        }
        lines.iter().flat_map(|line| [*line, "\n"]).collect()
    }
}

/// Why a line cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs something that this version of the director does not do.
    Unsupported(String),
    /// The interpreter does not know the command.
    NotUnderstood(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsupported(what) => write!(f, "needs {what}"),
            Self::NotUnderstood(line) => write!(f, "the line is not understood: {line}"),
        }
    }
}

/// Tells what a pipeline does.
pub fn interpret(pipeline: &Pipeline) -> Result<Action, Refusal> {
    let Some((command, piped)) = pipeline.commands.split_first() else {
        return Ok(Action::Nothing);
    };
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    if let Some(path) = &pipeline.redirect {
        return interpret_write(&words, path);
    }
    match words.as_slice() {
        ["ipvsadm", arguments @ ..] => interpret_ipvsadm(arguments, piped),
        ["ip" | "/sbin/ip", arguments @ ..] => network::parse(arguments),
        ["sleep", seconds] => match seconds.parse::<u64>() {
            Ok(seconds) => Ok(Action::SleepMs(seconds * 1000)),
            Err(_) => not_understood(pipeline),
        },
        ["date", ..] => Ok(Action::Date),
        ["cat", "/proc/net/ip_vs_conn"] if piped.is_empty() => Ok(Action::ReadConnections),
        ["cat" | "ls" | "grep", ..] => Ok(Action::Look),
        ["modprobe", ..] => Ok(Action::Nothing),
        ["echo", words @ ..] => Ok(Action::Print(words.join(" "))),
        ["xtables-legacy-multi", "iptables", arguments @ ..] | ["iptables", arguments @ ..] => {
            network::parse_iptables(arguments, false)
        }
        ["xtables-legacy-multi", "ip6tables", arguments @ ..] | ["ip6tables", arguments @ ..] => {
            network::parse_iptables(arguments, true)
        }
        _ => not_understood(pipeline),
    }
}

fn interpret_ipvsadm(arguments: &[&str], piped: &[Vec<String>]) -> Result<Action, Refusal> {
    let filters: Result<Vec<Filter>, Refusal> = piped.iter().map(|words| filter(words)).collect();
    match ipvsadm::parse(arguments) {
        Ok(invocation) => Ok(Action::Ipvsadm(invocation, filters?)),
        Err(ArgumentError::Synchronisation) => Ok(Action::Synchronise),
        Err(ArgumentError::Unsupported(what)) => Err(Refusal::Unsupported(what)),
        Err(error) => match error.answer() {
            Some((message, code)) => Ok(Action::Refused { message, code }),
            None => Err(Refusal::Unsupported(error.to_string())),
        },
    }
}

fn filter(words: &[String]) -> Result<Filter, Refusal> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().ok();
    let filter = match words.as_slice() {
        ["sort"] => Some(Filter::Sort),
        ["tail", "-n", from] => from
            .strip_prefix('+')
            .and_then(number)
            .map(Filter::TailFrom),
        ["tail", last] => last
            .strip_prefix('-')
            .and_then(number)
            .map(Filter::TailLast),
        ["grep", pattern] => Some(Filter::Grep((*pattern).to_owned())),
        _ => None,
    };
    filter.ok_or_else(|| Refusal::NotUnderstood(words.join(" ")))
}

/// `echo VALUE > PATH`
fn interpret_write(words: &[&str], path: &str) -> Result<Action, Refusal> {
    let line = || Refusal::NotUnderstood(format!("{} > {path}", words.join(" ")));
    let ["echo", values @ ..] = words else {
        return Err(line());
    };
    let value = values.join(" ");
    let Some(name) = path.strip_prefix("/proc/sys/net/") else {
        return if path == "/dev/null" {
            Ok(Action::Nothing)
        } else {
            Err(line())
        };
    };
    let number = || value.parse::<u32>().map_err(|_| line());
    match name {
        "ipv4/icmp_ratelimit" => Ok(Action::IcmpInterval(number()?)),
        // The kernel has a limit for each IP version, the director one for
        // both: the recordings that lift this one have lifted the other.
        "ipv6/icmp/ratelimit" if number()? == 0 => Ok(Action::Nothing),
        // How often connections are told to other directors, which is never.
        "ipv4/vs/sync_threshold" => Ok(Action::Nothing),
        _ if name.starts_with("ipv4/vs/") => {
            let setting = name.trim_start_matches("ipv4/vs/");
            let tunable = Tunable::find(setting)
                .ok_or_else(|| Refusal::Unsupported(format!("the setting {setting}")))?;
            // For the kernel, any other number than 0 turns a switch on.
            Ok(Action::Tunable(tunable.name, number()?.min(tunable.max)))
        }
        // What the host does with packets that are not for it; and rules about
        // source addresses and autoconfiguration that a director has not.
        "ipv4/ip_forward" => Ok(Action::Nothing),
        _ if name.starts_with("ipv4/conf/") || name.starts_with("ipv6/conf/") => {
            Ok(Action::Nothing)
        }
        _ => Err(line()),
    }
}

fn not_understood(pipeline: &Pipeline) -> Result<Action, Refusal> {
    let commands: Vec<String> = pipeline
        .commands
        .iter()
        .map(|words| words.join(" "))
        .collect();
    Err(Refusal::NotUnderstood(commands.join(" | ")))
}
