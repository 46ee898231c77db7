//! Debian's own `ipvsadm` and `keepalived`, unmodified, drive a director by way
//! of the libraries in `ipvs-preload/`.
//!
//! Each test has a director and a network of namespaces of its own, as those in
//! `tests/end_to_end`. `keepalived` and `nginx` run in these namespaces alone.
//! Nothing here is about how long something takes: tests wait for what has to
//! happen, for long enough.
#![cfg(feature = "dpdk")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod changes;
mod failures;
#[expect(dead_code, reason = "tests/black_box uses the rest")]
mod installed;
mod ipvsadm;
mod keepalived;
#[expect(
    dead_code,
    unused_imports,
    reason = "tests/end_to_end uses all of the modules"
)]
#[path = "../end_to_end/support/mod.rs"]
mod support;
mod systemd;
mod tools;
mod tunnels;
