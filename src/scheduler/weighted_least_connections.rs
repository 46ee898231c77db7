//! wlc: the server with the least connections for its weight. Ties go to the
//! one that stands first.

use super::{Cost, Request, Schedule, least_for_weight};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug)]
pub(super) struct WeightedLeastConnections;

impl Schedule for WeightedLeastConnections {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        least_for_weight(request.usable(), |link| request.overhead(link)).map(|link| link.server)
    }

    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        Some(Cost {
            value: request.overhead(link),
            for_weight: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    /// The picks of recording `07_wlc_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let servers = list(&[3, 2, 1]);
        let loads = ServerLoads::new(8);
        let expected = [3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1];
        assert_eq!(
            picks(&mut WeightedLeastConnections, &servers, &loads, 12),
            expected
        );
    }

    #[test]
    fn a_weight_of_0_gets_nothing() {
        let servers = list(&[1, 0]);
        let loads = ServerLoads::new(8);
        assert_eq!(
            picks(&mut WeightedLeastConnections, &servers, &loads, 3),
            [1, 1, 1]
        );
    }
}
