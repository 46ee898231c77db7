//! The packet path as facts: what becomes of which packet, and what counts it.
//!
//! Every way a packet can end and every counter is reached by a test with its
//! name; random packets, services and commands are held against independent
//! models; and the same frames leave a director over ports in memory, over
//! capture files and over DPDK. The director is driven through its public
//! face: frames in, frames and counters out.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy takes functions that tests call for no part of them"
)]

mod asked;
mod capture;
mod changes;
mod decode;
mod document;
#[cfg(feature = "dpdk")]
#[expect(dead_code, reason = "the tests of the driver use all of it")]
#[path = "../dpdk/support.rs"]
mod dpdk_support;
mod drops;
mod explain;
mod facts;
mod fragments;
mod fragments_ipv6;
mod frames;
mod frames_ipv6;
mod full_table;
mod golden;
#[cfg(feature = "dpdk")]
mod golden_dpdk;
mod handoff;
mod handoff_ipv6;
mod host;
mod ipv6;
mod lab;
mod links;
mod marks;
mod model;
mod neighbor_discovery;
mod no_headroom;
mod outer_source;
mod persistence;
mod properties;
mod properties_ipv6;
mod published;
mod punts;
mod requests;
mod schedule_icmp;
mod sctp;
mod sent_statistics;
mod service_changes;
mod services_ipv6;
mod settings;
mod spread;
mod tunnel_errors;
mod tunnel_errors_ipv6;
mod tunnels;
mod witnesses;
mod witnesses_extensions;
mod witnesses_ipv6;
mod work;
mod workers;
