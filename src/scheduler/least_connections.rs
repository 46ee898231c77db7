//! lc: the server with the least connections, weights ignored but for 0.
//! Ties go to the one that stands first.

use super::{Schedule, is_usable, overhead};
use crate::forwarding::{ListChange, RealServerIndex, ServerLink, ServerLoads, Weights};

#[derive(Debug)]
pub(super) struct LeastConnections;

impl Schedule for LeastConnections {
    fn start(_: Weights) -> Self {
        Self
    }

    fn list_changed(&mut self, _: ListChange, _: Weights) {}

    fn list_is(&mut self, _: &[ServerLink]) {}

    fn pick(&mut self, servers: &[ServerLink], loads: &ServerLoads) -> Option<RealServerIndex> {
        let usable = servers.iter().filter(|link| is_usable(link, loads));
        usable
            .min_by_key(|link| overhead(link, loads))
            .map(|link| link.server)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};

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
        assert_eq!(
            LeastConnections.pick(&servers, &loads),
            Some(RealServerIndex(2))
        );
        loads.of(RealServerIndex(2)).open(false);
        loads.of(RealServerIndex(2)).open(false);
        assert_eq!(
            LeastConnections.pick(&servers, &loads),
            Some(RealServerIndex(1))
        );
    }
}
