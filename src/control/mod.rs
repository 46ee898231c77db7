#![forbid(unsafe_code)]
//! The management thread.
pub mod command;
pub mod socket;
pub mod status;
