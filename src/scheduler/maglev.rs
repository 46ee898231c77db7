//! mh: the client's address decides, and servers come and go with little
//! effect on the others.
//!
//! Maglev hashing (Eisenbud and others, "Maglev: A Fast and Reliable Software
//! Network Load Balancer", NSDI 2016, section 3.4) with a table of 4093 slots:
//! each server has an order of its own in which it wants slots, and they take
//! turns, as many in a row as their weights say.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{HashedServer, Request, Schedule};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Debug)]
pub(super) struct Maglev;

impl Schedule for Maglev {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let flags = request.service.options.flags;
        let l4_port = if flags.port {
            request.flow.client_port
        } else {
            0
        };
        let slot = |offset| hash(request.flow.client, l4_port, offset, LOOKUP_KEY) % SLOTS;
        let first = slot(0);
        let link = server_in(request, first)?;
        if request.is_usable(link) {
            return Some(link.server);
        }
        if !flags.fallback {
            return None;
        }
        (0..SLOTS)
            .map_while(|step| server_in(request, slot((step + first) % SLOTS)))
            .find(|link| request.is_usable(link))
            .map(|link| link.server)
    }
}

fn server_in<'a>(request: &Request<'a>, slot: u32) -> Option<&'a ServerLink> {
    let place = request.service.table.as_ref()?.place(slot as usize)?;
    request.servers().get(place)
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

#[cfg(test)]
mod tests {
    use super::{
        super::{SchedulerFlags, SchedulerKind, test_support::*},
        *,
    };
    use crate::forwarding::ServerLoads;

    /// The picks of recording `07_mh_24src_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let service = service(
            SchedulerKind::Mh,
            SchedulerFlags::default(),
            &list(&[3, 2, 1]),
        );
        let loads = ServerLoads::new(8);
        let picked: Vec<_> = recorded_clients()
            .map(|client| pick_for(&mut Maglev, &service, &loads, client, 46_000))
            .collect();
        let expected = [
            2, 1, 1, 1, 2, 2, 1, 2, 2, 1, 2, 1, 3, 1, 1, 2, 1, 2, 1, 1, 2, 2, 2, 1,
        ];
        assert_eq!(picked, expected.map(Some));
    }

    #[test]
    fn without_fallback_an_unusable_server_is_no_server() {
        let mut servers = list(&[1, 1]);
        let loads = ServerLoads::new(8);
        let picks = |servers: &[ServerLink], fallback| -> Vec<_> {
            let flags = SchedulerFlags {
                fallback,
                port: false,
            };
            let mut service = service(SchedulerKind::Mh, flags, servers);
            // Maglev's table outlives a weight of 0.
            let full = list(&[1, 1]);
            service.table =
                super::super::test_support::service(SchedulerKind::Mh, flags, &full).table;
            recorded_clients()
                .map(|client| pick_for(&mut Maglev, &service, &loads, client, 46_000))
                .collect()
        };
        let before = picks(&servers, false);
        servers[0].weight = 0;
        for (pick, before) in picks(&servers, false).into_iter().zip(&before) {
            assert_eq!(pick, before.filter(|server| *server == 1));
        }
        assert!(
            picks(&servers, true)
                .into_iter()
                .all(|pick| pick == Some(1))
        );
    }
}
