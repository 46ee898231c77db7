//! What a command line of `ipvsadm` asks for, and why it may be refused.
#![forbid(unsafe_code)]

use crate::{control::command::Command, service::ServiceKey};

/// What an `ipvsadm` command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// A change of the services.
    Change(Command),
    /// `--set TCP TCPFIN UDP`, in seconds; 0 leaves a timeout as it is.
    SetTimeouts([u32; 3]),
    /// `-L`
    List(Listing),
    /// `-S`
    Save,
    /// `-R`: command lines without the word `ipvsadm` come from the input.
    Restore,
    /// `-h`
    Help,
}

impl Invocation {
    /// The option that says so.
    pub const fn option(&self) -> &'static str {
        match self {
            Self::Change(command) => match command {
                Command::AddService(..) => "-A",
                Command::EditService(..) => "-E",
                Command::DeleteService(_) => "-D",
                Command::AddServer(..) => "-a",
                Command::EditServer(..) => "-e",
                Command::DeleteServer(..) => "-d",
                Command::Flush => "-C",
                Command::Zero(_) => "-Z",
                Command::SetTimeouts(_) | Command::SetTunables(_) => "--set",
            },
            Self::SetTimeouts(_) => "--set",
            Self::List(_) => "-L",
            Self::Save => "-S",
            Self::Restore => "-R",
            Self::Help => "-h",
        }
    }
}

/// What `-L` shall show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The services and their real servers.
    Services {
        /// One service instead of all.
        only: Option<ServiceKey>,
        /// The columns.
        columns: Columns,
        /// `--exact`: large numbers in full.
        exact: bool,
        /// Not `--nosort`.
        sorted: bool,
    },
    /// `-c`: the connections.
    Connections,
    /// `--timeout`
    Timeouts,
    /// `--daemon`: the connection synchronisation.
    Daemon,
}

/// The columns of a list of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Forwarding method, weight and connections.
    Ordinary,
    /// `--stats`
    Statistics,
    /// `--rate`
    Rates,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    PersistentConnections,
    /// `--tun-info`
    TunnelInfo,
}

/// Why a command line cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// `ipvsadm` can do it, this version of the director cannot.
    #[error("{0} cannot be done in this version")]
    Unsupported(String),
    /// Connections are not told to other directors: `ipvsadm` gets
    /// `EOPNOTSUPP` for it.
    #[error("connection synchronisation cannot be done in this version")]
    Synchronisation,
    /// A forwarding method other than tunnelling.
    #[error("this director only tunnels, and {0} is something else")]
    NotATunnel(&'static str),
    /// A name in place of an address or of a port.
    #[error("\"{0}\" is not a numeric address and port")]
    NotNumeric(String),
    /// An option that `ipvsadm` does not have, or without its value.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// The word that it is about.
        word: Option<String>,
    },
    /// `ipvsadm` refuses it.
    #[error("{message}")]
    Invalid {
        /// What it prints.
        message: String,
        /// What it exits with.
        code: u8,
    },
}

impl ArgumentError {
    /// What `ipvsadm` itself prints and exits with; `None` for what it can do
    /// and the director cannot.
    pub fn answer(&self) -> Option<(String, u8)> {
        match self {
            Self::Unsupported(_) | Self::NotATunnel(_) => None,
            Self::Synchronisation => Some((NOT_SUPPORTED.to_owned(), 255)),
            Self::NotNumeric(text) => {
                Some((format!("illegal virtual server address[:port] {text}"), 2))
            }
            Self::Usage { .. } => Some((TRY_HELP.to_owned(), 255)),
            Self::Invalid { message, code } => Some((message.clone(), *code)),
        }
    }

    /// What to write instead.
    pub fn instead(&self) -> &'static str {
        match self {
            Self::Unsupported(_) | Self::Synchronisation => "leave it out",
            Self::NotATunnel(_) => {
                "write -i, and have the real server take packets out of the tunnel"
            }
            Self::NotNumeric(_) => "write numbers, as `ipvsadm -Sn` with its -n does",
            Self::Usage { .. } | Self::Invalid { .. } => {
                "correct it, `ipvsadm -h` lists what can be written"
            }
        }
    }

    /// The word that it is about, when it is about one.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::NotNumeric(word) => Some(word),
            Self::Usage { word, .. } => word.as_deref(),
            Self::Unsupported(_)
            | Self::Synchronisation
            | Self::NotATunnel(_)
            | Self::Invalid { .. } => None,
        }
    }
}

/// What `ipvsadm` says for `EOPNOTSUPP`, whatever it is about.
const NOT_SUPPORTED: &str = "Operation not supported with IPv6";
const TRY_HELP: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
