#![forbid(unsafe_code)]
//! The management thread.
pub mod command;
pub mod status;
