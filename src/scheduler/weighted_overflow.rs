//! ovf: the server with the highest weight, until it has more active
//! connections than its weight; then the next. Ties go to the first.

use super::{Request, Schedule};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug)]
pub(super) struct WeightedOverflow;

impl Schedule for WeightedOverflow {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let has_room = |link: &&ServerLink| request.active(link) <= u64::from(link.weight);
        let candidates = request.usable().filter(has_room);
        candidates
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

    /// The picks of recording `07_ovf_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let servers = list(&[3, 2, 1]);
        let expected = [1, 1, 1, 1, 2, 2, 2, 3, 3];
        assert_eq!(
            picks(&mut WeightedOverflow, &servers, &ServerLoads::new(8), 12),
            expected
        );
    }
}
