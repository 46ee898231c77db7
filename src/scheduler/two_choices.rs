//! twos: two servers at random, each about as likely as its weight says; the one
//! with the less connections for its weight gets the new one (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 2001). They may be
//! one and the same.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{Cost, Request, Schedule};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug)]
pub(super) struct TwoChoices {
    random: u64,
}

impl Default for TwoChoices {
    fn default() -> Self {
        // The standard library's hasher is keyed by the system's randomness.
        Self {
            random: RandomState::new().build_hasher().finish() | 1,
        }
    }
}

impl Schedule for TwoChoices {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let total = request.usable().map(|link| u64::from(link.weight)).sum();
        let first = self.choose(request, total)?;
        let second = self.choose(request, total)?;
        let cost = |link: &ServerLink, other: &ServerLink| {
            u128::from(request.overhead(link)) * u128::from(other.weight)
        };
        let better = if cost(second, first) < cost(first, second) {
            second
        } else {
            first
        };
        Some(better.server)
    }
    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        Some(Cost {
            value: request.overhead(link),
            for_weight: true,
        })
    }
}

impl TwoChoices {
    /// As in Linux IPVS the number that is drawn may be the sum itself, so that
    /// the first server of the list has one chance more than its weight says.
    fn choose<'a>(&mut self, request: &Request<'a>, total: u64) -> Option<&'a ServerLink> {
        let mut left = self.next() % (total + 1);
        let mut chosen = None;
        for link in request.usable() {
            chosen = Some(link);
            let weight = u64::from(link.weight);
            if left <= weight {
                break;
            }
            left -= weight;
        }
        // The last one when others became overloaded meanwhile.
        chosen
    }

    /// xorshift64*, whose high bits are good enough to share load by.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SchedulerFlags, SchedulerKind, test_support::*},
        *,
    };
    use crate::forwarding::ServerLoads;

    /// How many of all pairs of numbers that may be drawn lead to each server,
    /// by its number, of servers in the order of the list: (weight, overhead).
    fn chances(servers: &[(u32, u32, u64)]) -> [u64; 5] {
        let total: u32 = servers.iter().map(|(_, weight, _)| weight).sum();
        let candidate = |draw: u32| {
            let mut sum = 0;
            let mut servers = servers.iter().filter(|(_, weight, _)| *weight > 0);
            servers.find(|(_, weight, _)| {
                sum += weight;
                draw <= sum
            })
        };
        let mut chances = [0; 5];
        for (one, two) in (0..=total).flat_map(|one| (0..=total).map(move |two| (one, two))) {
            let (Some(one), Some(two)) = (candidate(one), candidate(two)) else {
                panic!("a draw leads nowhere");
            };
            let is_less = two.2 * u64::from(one.1) < one.2 * u64::from(two.1);
            let (number, ..) = if is_less { two } else { one };
            chances[*number as usize] += 1;
        }
        chances
    }

    /// Linux draws from 0 to the sum of the weights, both included, so that the
    /// first server of the list has one chance more than its weight says.
    #[test]
    fn each_server_has_the_chance_that_linux_gives_it() {
        const PICKS: u64 = 40_000;
        for (weights, connections) in [
            (&[1, 1][..], &[0_u32, 0][..]),
            (&[1, 1], &[1, 0]),
            (&[1, 1], &[0, 1]),
            (&[3, 2, 1], &[0, 0, 0]),
            (&[3, 2, 1], &[3, 2, 1]),
            (&[3, 2, 1], &[1, 4, 0]),
            (&[1, 2, 0, 9], &[5, 3, 0, 60]),
        ] {
            let servers = list(weights);
            let loads = ServerLoads::new(8);
            let mut described = Vec::new();
            for link in &servers {
                let count = connections[link.server.0 as usize - 1];
                (0..count).for_each(|_| loads.of(link.server).open(true));
                described.push((link.server.0, link.weight, u64::from(count) * 256));
            }
            let service = service(SchedulerKind::Twos, SchedulerFlags::default(), &servers);
            let mut state = TwoChoices { random: 42 };
            let mut picked = [0_u64; 5];
            for _ in 0..PICKS {
                let server = pick_for(&mut state, &service, &loads, 0xcb00_7107, 50_000).unwrap();
                picked[server as usize] += 1;
            }
            let chances = chances(&described);
            let all: u64 = chances.iter().sum();
            for (picked_one, chance) in picked.iter().zip(&chances) {
                // The square of the deviation, and five times that to expect.
                let deviation = (picked_one * all).abs_diff(PICKS * chance).pow(2);
                let expected = PICKS * chance * (all - chance);
                assert!(
                    deviation <= 25 * expected,
                    "{weights:?} {connections:?}: {picked:?} with {chances:?} of {all}"
                );
            }
        }
    }

    #[test]
    fn load_follows_the_weights() {
        let servers = list(&[1, 2, 0, 3]);
        let mut state = TwoChoices { random: 42 };
        let mut count = [0_u32; 5];
        for server in picks(&mut state, &servers, &ServerLoads::new(8), 6000) {
            count[server as usize] += 1;
        }
        assert_eq!(count[3], 0, "weight 0");
        for (server, share) in [(1, 1000), (2, 2000), (4, 3000)] {
            assert!(count[server].abs_diff(share) < share / 10, "{count:?}");
        }
    }

    #[test]
    fn no_usable_server_is_none() {
        let mut state = TwoChoices { random: 42 };
        assert!(picks(&mut state, &list(&[0, 0]), &ServerLoads::new(8), 1).is_empty());
    }
}
