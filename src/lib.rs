//! pointsman: a layer-4 director that does LVS tunnel mode (VS/TUN) on DPDK.
//!
//! A client's packet for a virtual address (VIP) takes nine steps: `worker`
//! receives a burst, `pipeline` parses it (`wire`), finds the connection
//! (`connection`) or has `scheduler` pick a real server, looks up the ready
//! next hop in the immutable `forwarding` state, lets `tunnel` write the outer
//! IP header into the packet's headroom and hands it to a transmit queue
//! (`io`). Whatever is not for this path goes to the management thread
//! (`control`), which also owns ARP, routes and commands and publishes new
//! forwarding states.
//!
//! The core knows no DPDK, no sockets and no clock: `--no-default-features`
//! builds it on a machine without DPDK.

pub mod api;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod control;
pub mod counters;
pub mod director;
pub mod doctor;
pub mod explain;
pub mod flow;
pub mod forwarding;
pub mod fragment;
pub mod io;
pub mod ipvsadm;
pub mod memory;
pub mod neighbor;
pub mod netlink;
pub mod pipeline;
pub mod pktgen;
pub mod prefixes;
pub mod privileges;
pub mod realserver;
pub mod route;
#[cfg(feature = "dpdk")]
pub mod run;
pub mod scheduler;
pub mod service;
pub mod supervision;
pub mod tunnel;
pub mod version;
pub mod wire;
pub mod worker;
