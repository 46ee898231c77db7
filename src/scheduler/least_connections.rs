//! lc: the server with the least connections, weights ignored but for 0.
//! Ties go to the one that stands first.

use super::{Cost, Request, Schedule};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug)]
pub(super) struct LeastConnections;

impl Schedule for LeastConnections {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        request
            .usable()
            .min_by_key(|link| request.overhead(link))
            .map(|link| link.server)
    }

    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        Some(Cost {
            value: request.overhead(link),
            for_weight: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    #[test]
    fn ties_go_to_the_newest() {
        let servers = list(&[3, 2, 1]);
        let loads = ServerLoads::new(8);
        assert_eq!(
            picks(&mut LeastConnections, &servers, &loads, 6),
            [3, 2, 1, 3, 2, 1]
        );
    }

    #[test]
    fn an_active_connection_outweighs_255_inactive_ones() {
        let servers = list(&[1, 1]);
        let loads = ServerLoads::new(8);
        loads.of(RealServerIndex(1)).open(true);
        for _ in 0..255 {
            loads.of(RealServerIndex(2)).open(false);
        }
        assert_eq!(picks(&mut LeastConnections, &servers, &loads, 1), [2]);
        assert_eq!(picks(&mut LeastConnections, &servers, &loads, 1), [1]);
    }
}
