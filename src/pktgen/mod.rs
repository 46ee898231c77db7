//! `pointsman pktgen`: sends a director traffic, and checks all that it makes
//! of it.
//!
//! It stands for the clients' router and for the real servers at once. Each
//! packet says in its own bytes which flow it belongs to, its place in the flow
//! and when it was made ([`frame`]); the rest of it follows from these by the
//! [`plan`]. So what comes back out of a tunnel can be held against what was
//! sent byte for byte without remembering any packet ([`check`]), and the only
//! memory is 16 bytes a flow ([`flows`]).
//!
//! [`Pktgen`] is the loop over the traits of `io`: it sends, receives, answers
//! for its addresses and keeps the phases of a run apart. It knows no DPDK and
//! reads no clock but the cycle counter that it is given, so that it also runs
//! in memory. The module `run` sets up ports on DPDK for it.
#![forbid(unsafe_code)]

pub mod address;
pub mod check;
pub mod engine;
pub mod flows;
pub mod frame;
pub mod histories;
pub mod mismatch;
mod neighbors;
mod outer;
mod pace;
pub mod plan;
pub mod report;
mod returned;
#[cfg(feature = "dpdk")]
pub mod run;
pub mod service;
pub mod size;
mod source;

pub use self::{
    engine::{Pktgen, PktgenPort},
    mismatch::MismatchKind,
    outer::Tunnel,
    plan::{Options, Plan, PlanError},
    report::Report,
};
