//! mh: the client's address decides, and servers come and go with little
//! effect on the others.
//!
//! Maglev hashing (Eisenbud and others, "Maglev: A Fast and Reliable Software
//! Network Load Balancer", NSDI 2016, section 3.4) with a table of 4093 slots:
//! each server has an order of its own in which it wants slots, and they take
//! turns, as many in a row as their weights say.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{HashedServer, Request, Schedule, hash_table::pick_hashed};
use crate::forwarding::RealServerIndex;

#[derive(Clone, Debug)]
pub(super) struct Maglev;

impl Schedule for Maglev {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let (client, l4_port) = request.hashed_client();
        let slot = |offset| hash(client, l4_port, offset, LOOKUP_KEY) % SLOTS;
        pick_hashed(request, SLOTS, slot)
    }

    fn slot(&self, request: &Request<'_>) -> Option<u32> {
        let (client, l4_port) = request.hashed_client();
        Some(hash(client, l4_port, 0, LOOKUP_KEY) % SLOTS)
    }
}

/// A server's order of preference among the slots that are left.
struct Preference {
    place: u32,
    next: u32,
    skip: u32,
    turns: u32,
}

/// The table: which place in the list each slot leads to; empty when no server
/// has a weight.
pub(super) fn places(servers: &[HashedServer]) -> Vec<u32> {
    let weights = servers.iter().map(|server| server.last_weight);
    let scale = Scale::of(weights);
    let mut preferences: Vec<_> = (0..)
        .zip(servers)
        .filter(|(_, server)| server.last_weight > 0)
        .map(|(place, server)| Preference {
            place,
            next: hash(server.address, server.l4_port, 0, LOOKUP_KEY) % SLOTS,
            skip: hash(server.address, server.l4_port, 0, SKIP_KEY) % (SLOTS - 1) + 1,
            turns: scale.turns(server.last_weight),
        })
        .collect();
    if preferences.is_empty() {
        return Vec::new();
    }
    let mut slots = vec![None; SLOTS as usize];
    let mut left = SLOTS;
    'fill: loop {
        for preference in &mut preferences {
            for _ in 0..preference.turns {
                while slots
                    .get(preference.next as usize)
                    .is_some_and(Option::is_some)
                {
                    preference.next = (preference.next + preference.skip) % SLOTS;
                }
                if let Some(slot) = slots.get_mut(preference.next as usize) {
                    *slot = Some(preference.place);
                }
                left -= 1;
                if left == 0 {
                    break 'fill;
                }
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// How weights become turns in a row: divided by their greatest common
/// divisor, and shifted so that the largest has few enough.
struct Scale {
    divisor: u32,
    shift: u32,
}

impl Scale {
    fn of(weights: impl Iterator<Item = u32> + Clone) -> Self {
        let weights = crate::forwarding::Weights::of(weights);
        let bits = u32::BITS - (weights.max / weights.gcd).leading_zeros();
        Self {
            divisor: weights.gcd,
            shift: bits.saturating_sub(TURNS_BITS),
        }
    }

    fn turns(&self, weight: u32) -> u32 {
        ((weight / self.divisor) >> self.shift).max(1)
    }
}

/// SipHash-1-3 of one number, under a key that is the same everywhere.
fn hash(address: u32, l4_port: u16, offset: u32, key: u64) -> u32 {
    let value = address
        .wrapping_add(u32::from(l4_port))
        .wrapping_add(offset);
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&value.to_le_bytes());
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A prime.
const SLOTS: u32 = 4093;
/// Bits of the most turns in a row.
const TURNS_BITS: u32 = 6;
const LOOKUP_KEY: u64 = 2_654_435_761;
const SKIP_KEY: u64 = 2_654_446_892;
