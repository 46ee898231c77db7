//! The program on real ports: `pointsman run` between clients and real servers
//! in network namespaces, with TCP and UDP of the kernel on both sides.
//!
//! Each test makes a network of its own and takes it away again, also when it
//! fails, so that any number of them may run at the same time.
#![cfg(feature = "dpdk")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod answers;
mod api;
mod capture;
mod changes;
mod explain;
mod few_queues;
mod forwarding;
mod ipv6;
mod large_packets;
mod lifecycle;
mod narrow_path;
mod neighbors;
mod observation;
mod pktgen;
mod ports;
mod privileges;
mod reload;
mod state_as_user;
mod supervision;
mod support;
mod survival;
