//! Views over the bytes of packets: one protocol a file.
#![forbid(unsafe_code)]

pub mod ethernet;
