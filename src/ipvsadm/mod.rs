//! The language of `ipvsadm` 1.31: what its command lines ask for, and what it
//! prints.
//!
//! It is how services come from, and go back to, a director whose kernel
//! forwards: `ipvsadm -Sn` writes them as lines that this module reads and
//! writes. Nothing here talks to a director; a command line becomes a
//! [`Command`](crate::control::command::Command), and a listing is made of
//! what a director says about itself ([`crate::control::status`]).
#![forbid(unsafe_code)]

mod arguments;
mod invocation;
pub mod listing;
pub mod proc_files;
pub mod rules;

pub use self::{
    arguments::{error_message, parse, set_timeouts},
    invocation::{ArgumentError, Columns, Invocation, Listing},
};
