//! nq: the first server without an active connection; when there is none, the
//! one with the shortest expected delay.

use super::{Cost, Request, Schedule, least_for_weight};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug)]
pub(super) struct NeverQueue;

impl Schedule for NeverQueue {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let idle = request.usable().find(|link| request.active(link) == 0);
        idle.or_else(|| least_for_weight(request.usable(), |link| request.active(link) + 1))
            .map(|link| link.server)
    }

    /// Of a server without an active connection 0: the first of those is taken
    /// whatever its weight is.
    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        let active = request.active(link);
        Some(Cost {
            value: if active == 0 { 0 } else { active + 1 },
            for_weight: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    /// The picks of recording `07_nq_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let servers = list(&[3, 2, 1]);
        let expected = [3, 2, 1, 1, 2, 1, 1, 2, 1, 3, 2, 1];
        assert_eq!(
            picks(&mut NeverQueue, &servers, &ServerLoads::new(8), 12),
            expected
        );
    }
}
