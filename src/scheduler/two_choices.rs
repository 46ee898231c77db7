//! twos: two servers at random, each as likely as its weight says; the one
//! with the less connections for its weight gets the new one (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 2001).

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{Request, Schedule};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Debug)]
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
}

impl TwoChoices {
    fn choose<'a>(&mut self, request: &Request<'a>, total: u64) -> Option<&'a ServerLink> {
        let mut left = self.next().checked_rem(total)?;
        request.usable().find(|link| {
            let weight = u64::from(link.weight);
            let chosen = left < weight;
            left = left.saturating_sub(weight);
            chosen
        })
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
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

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
