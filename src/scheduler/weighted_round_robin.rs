//! wrr: each server in turn, as often as its weight says.
//!
//! The classic cyclic method: a current weight falls from the largest weight
//! to 1 in steps of the greatest common divisor, and in each round the servers
//! at or above it are picked in turn. Any change of the list puts the cursor
//! back to the head and the current weight onto the grid of the new weights.

use super::{Request, Schedule};
use crate::forwarding::{ListChange, RealServerIndex, Weights};

#[derive(Clone, Debug)]
pub(super) struct WeightedRoundRobin {
    /// Position of the server picked last; `None` stands before the head.
    cursor: Option<usize>,
    /// Servers below this weight are passed over in the present round.
    current_weight: u32,
    /// The lowest grid point that only the heaviest servers reach.
    weight_top: u32,
    /// Distance of two rounds.
    step: u32,
}

impl WeightedRoundRobin {
    /// The state for a list with these weights.
    pub(super) fn start(weights: Weights) -> Self {
        let mut state = Self {
            cursor: None,
            current_weight: 0,
            weight_top: 0,
            step: 1,
        };
        state.set_weights(weights);
        state.current_weight = state.weight_top;
        state
    }

    fn set_weights(&mut self, weights: Weights) {
        self.cursor = None;
        self.step = weights.gcd;
        self.weight_top = weights.max.saturating_sub(weights.gcd - 1);
    }

    /// Goes down to the first round that a server of this weight is in. Weights
    /// may be so large that it takes long to get there round by round.
    const fn skip_rounds_above(&mut self, weight: u32) {
        if let Some(above) = self.current_weight.checked_sub(weight) {
            let rounds = above.div_ceil(self.step);
            let down = rounds.saturating_mul(self.step);
            self.current_weight = self.current_weight.saturating_sub(down);
        }
    }

    /// Goes down one round; from the lowest to the highest. Says whether it
    /// was the lowest.
    fn next_round(&mut self) -> bool {
        match self.current_weight.checked_sub(self.step) {
            Some(weight) if weight > 0 => {
                self.current_weight = weight;
                false
            }
            _ => {
                self.current_weight = self.weight_top;
                true
            }
        }
    }
}

impl Schedule for WeightedRoundRobin {
    fn list_changed(&mut self, _: ListChange, weights: Weights) {
        self.set_weights(weights);
        if self.current_weight > self.weight_top || self.current_weight == 0 {
            self.current_weight = self.weight_top;
        } else if self.step > 1 {
            self.current_weight = self.current_weight / self.step * self.step + 1;
        }
    }

    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        // The weight of the heaviest usable server, looked for when the present
        // round has nobody left.
        let mut heaviest = None;
        // Ends: some server is usable, so that the lowest round (weight 1),
        // after at most one wrap, picks one.
        let mut wraps = 0;
        while wraps <= 2 {
            let start = self.cursor.map_or(0, |cursor| cursor + 1);
            let mut rest = request.servers().iter().zip(0..).skip(start);
            let found = rest
                .find(|(link, _)| link.weight >= self.current_weight && request.is_usable(link));
            if let Some((link, position)) = found {
                self.cursor = Some(position);
                return Some(link.server);
            }
            let weight = match heaviest {
                Some(weight) => weight,
                None => request.usable().map(|link| link.weight).max()?,
            };
            heaviest = Some(weight);
            self.cursor = None;
            wraps += u32::from(self.next_round());
            self.skip_rounds_above(weight);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::{ServerLink, ServerLoads};

    fn started(servers: &[ServerLink]) -> WeightedRoundRobin {
        let mut state = WeightedRoundRobin::start(Weights { max: 0, gcd: 1 });
        add_one_by_one(&mut state, servers);
        state
    }

    /// Weights of 2^31 - 1 and 1 would take two thousand million rounds.
    #[test]
    fn the_lightest_is_found_at_once_when_a_very_heavy_one_is_overloaded() {
        let servers = list(&[i32::MAX.cast_unsigned(), 1]);
        let mut wrr = started(&servers);
        let loads = ServerLoads::new(8);
        assert_eq!(picks(&mut wrr, &servers, &loads, 3), [2, 1, 1]);
        let heavy = loads.of(RealServerIndex(1));
        heavy.set_thresholds(1, 0);
        heavy.open(true);
        assert_eq!(picks(&mut wrr, &servers, &loads, 3), [2, 2, 2]);
    }

    /// The picks of recordings `07_wrr_w321` and `07_wrr_w111`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        for (weights, expected) in [
            (&[3, 2, 1], [3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1]),
            (&[1, 1, 1], [3, 2, 1, 3, 2, 1, 3, 2, 1, 3, 2, 1]),
        ] {
            let servers = list(weights);
            let mut wrr = started(&servers);
            assert_eq!(
                picks(&mut wrr, &servers, &ServerLoads::new(8), 12),
                expected
            );
        }
    }

    #[test]
    fn a_weight_of_0_gets_nothing() {
        let servers = list(&[4, 2, 0]);
        let mut wrr = started(&servers);
        let mut got = picks(&mut wrr, &servers, &ServerLoads::new(8), 12);
        got.sort_unstable();
        assert_eq!(got, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn shares_are_those_of_the_weights_after_any_edit() {
        let mut servers = list(&[6, 3, 9]);
        let mut wrr = started(&servers);
        let loads = ServerLoads::new(8);
        picks(&mut wrr, &servers, &loads, 5);
        servers[0].weight = 1;
        wrr.list_changed(
            ListChange::Edited,
            Weights::of(servers.iter().map(|link| link.weight)),
        );
        let mut count = [0; 4];
        for server in picks(&mut wrr, &servers, &loads, 100) {
            count[server as usize] += 1;
        }
        assert_eq!(count, [0, 60, 30, 10]);
    }

    #[test]
    fn no_usable_server_is_no_endless_loop() {
        let servers = list(&[0, 0]);
        let mut wrr = started(&servers);
        assert!(picks(&mut wrr, &servers, &ServerLoads::new(8), 1).is_empty());
        let servers = list(&[5, 5]);
        let mut wrr = started(&servers);
        let loads = ServerLoads::new(8);
        for link in &servers {
            loads.of(link.server).set_thresholds(1, 0);
        }
        assert_eq!(picks(&mut wrr, &servers, &loads, 9), [2, 1]);
    }
}
