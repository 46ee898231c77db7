//! Raw bindings to the parts of DPDK that pointsman uses, made by bindgen from
//! the headers of the installed libdpdk, and a C shim (`shim.h`) for what
//! cannot be bound. No logic, and nothing safe: that is `pointsman::io::dpdk`.
//!
//! Names, meaning and contracts are DPDK's own: see <https://doc.dpdk.org/api/>.
//! `RTE_MBUF_OFFSET_*` are the places of the fields of `struct rte_mbuf`, in
//! bytes from its start.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnameable_types,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated from DPDK's headers, which differ between releases"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
