//! sh: the client's address decides.
//!
//! 256 buckets; each server in turn takes as many as its weight says, one at
//! least, until all are taken.

use super::{HashedServer, Request, Schedule, hash_table::pick_hashed};
use crate::forwarding::RealServerIndex;

#[derive(Clone, Debug)]
pub(super) struct SourceHashing;

impl Schedule for SourceHashing {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let (client, l4_port) = request.hashed_client();
        pick_hashed(request, BUCKETS, |offset| {
            bucket_of(client, l4_port, offset)
        })
    }

    fn slot(&self, request: &Request<'_>) -> Option<u32> {
        let (client, l4_port) = request.hashed_client();
        Some(bucket_of(client, l4_port, 0))
    }
}

/// The table: which place in the list each bucket leads to.
pub(super) fn places(servers: &[HashedServer]) -> Vec<u32> {
    if servers.is_empty() {
        return Vec::new();
    }
    let in_turn = (0..).zip(servers).flat_map(|(place, server)| {
        std::iter::repeat_n(place, server.weight.clamp(1, BUCKETS) as usize)
    });
    // More than 256 buckets of one server never matter.
    in_turn
        .collect::<Vec<_>>()
        .into_iter()
        .cycle()
        .take(BUCKETS as usize)
        .collect()
}

/// The bucket of an address and L4 port: the high byte of a product with the
/// golden ratio.
pub(super) fn bucket_of(address: u32, l4_port: u16, offset: u32) -> u32 {
    let hash = address
        .wrapping_add(u32::from(l4_port))
        .wrapping_mul(GOLDEN_RATIO)
        >> 24;
    (offset + hash) % BUCKETS
}

pub(super) const BUCKETS: u32 = 256;
const GOLDEN_RATIO: u32 = 0x61C8_8647;
