//! What to write in place of a wrong key or value.
#![forbid(unsafe_code)]

use std::fmt;

use crate::wire::ethernet::{InvalidMacAddr, MacAddr};

/// What was probably meant by an unknown key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHint {
    /// A key of similar spelling or meaning.
    DidYouMean(&'static str),
    /// A table of similar spelling: its header.
    DidYouMeanTable(&'static str),
    /// A key of another table: its header.
    BelongsTo(&'static str),
    /// No idea: everything there is.
    OneOf(String),
}

impl fmt::Display for KeyHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DidYouMean(key) => write!(f, "did you mean `{key}`?"),
            Self::DidYouMeanTable(header) => write!(f, "did you mean {header}?"),
            Self::BelongsTo(header) => write!(f, "write it below {header}"),
            Self::OneOf(all) => write!(f, "write one of {all}"),
        }
    }
}

/// What to write as `device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceHint {
    /// A PCI address without domain.
    FullPciAddress(String),
    /// The name of a kernel interface.
    KernelInterface(String),
    /// A driver's name, nearly.
    DidYouMean(&'static str),
    /// A driver without instance number.
    InstanceNumber(&'static str),
    /// A driver that needs an argument: the whole string with it.
    MissingArgument(String),
    /// An argument that is not `key=value`.
    BadArgument(String),
    /// No idea: what there is.
    Forms,
}

impl fmt::Display for DeviceHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullPciAddress(address) => write!(f, "write the PCI address as \"{address}\""),
            Self::KernelInterface(name) => write!(
                f,
                "if that is a kernel interface, write its PCI address (scripts/bind-nic.sh shows \
                 it), or \"net_af_packet0,iface={name}\" to share it with the kernel"
            ),
            Self::DidYouMean(driver) => write!(f, "did you mean \"{driver}0\"?"),
            Self::InstanceNumber(driver) => {
                write!(f, "write a number behind the driver's name, \"{driver}0\"")
            }
            Self::MissingArgument(device) => {
                write!(f, "it needs an argument, write for example \"{device}\"")
            }
            Self::BadArgument(argument) => {
                write!(f, "write \"{argument}\" in the form key=value")
            }
            Self::Forms => f.write_str(
                "write a PCI address such as \"0000:01:00.0\" or a virtual device such as \
                 \"net_af_packet0,iface=veth0\"",
            ),
        }
    }
}

/// A path or address that cannot be what the key wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is \"{value}\"; write {expected}")]
pub struct WrongText {
    /// The key.
    pub key: &'static str,
    /// As the file has it.
    pub value: String,
    /// What to write.
    pub expected: &'static str,
}

/// Why a MAC address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacProblem {
    /// Not of that form.
    #[error(
        "\"{0}\" is not a MAC address; write six pairs of hexadecimal digits with colons between"
    )]
    Malformed(String),
    /// A group address.
    #[error(
        "{0} is a group address; write one whose first octet is even, such as 02:00:00:00:00:01"
    )]
    Group(MacAddr),
    /// 00:00:00:00:00:00
    #[error(
        "{0} is no address of a host; write one such as 02:00:00:00:00:01",
        MacAddr::default()
    )]
    Zero,
}

impl From<InvalidMacAddr> for MacProblem {
    fn from(invalid: InvalidMacAddr) -> Self {
        Self::Malformed(invalid.0)
    }
}
