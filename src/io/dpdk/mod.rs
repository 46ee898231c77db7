//! Ports on DPDK: the fast way in and out.
//!
//! The order of things: [`Eal::start`] once per process, a [`DpdkPool`] for
//! each NUMA node, then [`DpdkPort::configure`] for each port, which hands out
//! its queues. Every worker registers itself ([`RegisteredThread`]) and takes
//! one receive and one transmit queue of each port.
//!
//! Nothing has to be undone by hand. A port stops when its [`DpdkPort`] and
//! all of its queues are dropped, a pool is freed when no port and no worker
//! uses it any more, and the EAL is cleaned up after the last of them: each
//! holds what it needs. A packet alone holds nothing, as it must stay one
//! pointer; a pool that goes away while packets are in use is therefore left
//! allocated, with a warning.
//!
//! This module and `memory` are where `unsafe` may stand: one operation a
//! block, with the reason why it is sound.
#![allow(unsafe_code, reason = "this is the border to DPDK's C interface")]

mod device;
mod eal;
mod eal_arguments;
mod mbuf;
mod mempool;
mod port;
mod port_error;
mod queue;
mod queue_plan;
mod rss;
mod thread;

pub use self::{
    device::AvailableDevice,
    eal::{Eal, EalError, PageKind, running_version},
    eal_arguments::EalArguments,
    mbuf::Mbuf,
    mempool::{DpdkPool, PoolError, PoolNeeds, PoolSettings, data_room_len},
    port::{DpdkPort, PortSettings, RSS_KEY, StartedPort},
    port_error::{PortError, queue_hint},
    queue::{DpdkRxQueue, DpdkTxQueue},
    queue_plan::QueuePlan,
    thread::{RegisteredThread, ThreadError, cycles},
};

use std::ffi::{CStr, c_int};

use super::Driver;

/// The family of types for ports on DPDK.
#[derive(Clone, Copy, Debug)]
pub enum DpdkDriver {}

impl Driver for DpdkDriver {
    type Packet = Mbuf;
    type RxQueue = DpdkRxQueue;
    type TxQueue = DpdkTxQueue;
    type Pool = DpdkPool;
    type Port = DpdkPort;
}

/// The text for an error number of DPDK, given with either sign.
fn error_text(code: c_int) -> String {
    // SAFETY: may be called with any number, at any time.
    let text = unsafe { dpdk_sys::rte_strerror(code.saturating_abs()) };
    if text.is_null() {
        return format!("error {code}");
    }
    // SAFETY: a NUL-terminated string in static memory, or in memory of this
    // thread that lives until its next call.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// What went wrong in the last call of this thread that says so by `rte_errno`.
fn last_error_text() -> String {
    // SAFETY: reads a variable of this thread.
    error_text(unsafe { dpdk_sys::dpdk_shim_errno() })
}
