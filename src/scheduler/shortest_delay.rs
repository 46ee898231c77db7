//! sed: the server on which the new connection waits the least: active
//! connections, the new one included, for the weight. Ties go to the first.

use super::{Cost, Request, Schedule, least_for_weight};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug)]
pub(super) struct ShortestDelay;

impl Schedule for ShortestDelay {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        least_for_weight(request.usable(), |link| request.active(link) + 1).map(|link| link.server)
    }

    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        Some(Cost {
            value: request.active(link) + 1,
            for_weight: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    /// The picks of recording `07_sed_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let servers = list(&[3, 2, 1]);
        let expected = [1, 2, 1, 3, 2, 1, 1, 2, 1, 3, 2, 1];
        assert_eq!(
            picks(&mut ShortestDelay, &servers, &ServerLoads::new(8), 12),
            expected
        );
    }
}
