//! The connections of one worker: which real server each flow goes to.
//!
//! [`state`] follows TCP by the client's packets alone.
#![forbid(unsafe_code)]

pub mod state;
pub mod time;

pub use state::{State, StateTimeouts, transition};
pub use time::{CoarseDuration, CoarseTime};
