//! fo: the server with the highest weight gets everything, until it is
//! overloaded or quiesced. Ties go to the first.

use super::{Request, Schedule};
use crate::forwarding::RealServerIndex;

#[derive(Clone, Debug)]
pub(super) struct WeightedFailover;

impl Schedule for WeightedFailover {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        request
            .usable()
            .reduce(|best, link| {
                if link.weight > best.weight {
                    link
                } else {
                    best
                }
            })
            .map(|link| link.server)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    #[test]
    fn the_heaviest_gets_all_until_it_is_overloaded() {
        let servers = list(&[3, 2, 3]);
        let loads = ServerLoads::new(8);
        loads.of(RealServerIndex(3)).set_thresholds(2, 0);
        assert_eq!(
            picks(&mut WeightedFailover, &servers, &loads, 4),
            [3, 3, 1, 1]
        );
    }
}
