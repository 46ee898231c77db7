//! Captures: what is looked for among packets, and what is known of those that
//! were found.
//!
//! A worker that has a [`Tap`] lets each packet which its [`Filter`] wants go
//! through the packet path alone, and notes in a [`Record`] what came, what
//! went out, and what became of it. The management thread made the tap and all
//! of its records beforehand; full and free ones go to and fro through bounded
//! [`Rings`], so that a worker neither allocates nor waits. How often a worker
//! does that in a second is bounded, too.
//!
//! Nothing here forwards a packet or changes what is done with one.
#![forbid(unsafe_code)]

mod fate;
mod filter;
mod glance;
mod program;
mod record;
mod subject;
mod tap;

pub(crate) use self::fate::Snapshot;
pub use self::{
    fate::{Fate, FateKind, Reason, UnknownReason},
    filter::{Direction, Filter},
    program::{INSTRUCTIONS_MAX, Instruction, InstructionError, Program, ProgramError},
    record::{Frame, Record, Rings},
    subject::{Carried, Ends, Subject, UnknownProtocol},
    tap::{RATE_MIN, Tap, Taps},
};

/// Captures that run at the same time at most.
pub const CAPTURES_MAX: usize = 4;

/// Bytes of a frame that a capture keeps at most: all of the longest that a
/// port receives, with an outer header in front of it.
pub const SNAPLEN_MAX: usize = 9_832;
