//! Fragments in both directions: those of clients are taken as they are and
//! sent after their first one ([`Reassembly`]), outer packets that are too long
//! for the path to a real server are cut ([`fragment_outer`]).
//!
//! Nothing is ever put together here: each fragment of a client travels in an
//! outer packet of its own, and the real server has the datagram to itself.
#![forbid(unsafe_code)]

mod datagram;
mod extents;
mod holding;
mod outer;
mod reassembly;

pub use self::{
    datagram::{DatagramKey, Fragment, Refusal},
    outer::{NoPacketBuffer, fragment_outer},
    reassembly::{
        Arrival, DATAGRAMS_MAX, FRAGMENTS_EACH_MAX, HELD_MAX, LIFETIME_SECONDS, Reassembly,
    },
};
