//! wlc: the server with the least connections for its weight. Ties go to the
//! one that stands first.

use super::{Schedule, is_usable, overhead};
use crate::forwarding::{ListChange, RealServerIndex, ServerLink, ServerLoads, Weights};

#[derive(Debug)]
pub(super) struct WeightedLeastConnections;

impl Schedule for WeightedLeastConnections {
    fn start(_: Weights) -> Self {
        Self
    }

    fn list_changed(&mut self, _: ListChange, _: Weights) {}

    fn list_is(&mut self, _: &[ServerLink]) {}

    fn pick(&mut self, servers: &[ServerLink], loads: &ServerLoads) -> Option<RealServerIndex> {
        let mut usable = servers.iter().filter(|link| is_usable(link, loads));
        let first = usable.next()?;
        let mut least = (first, overhead(first, loads));
        for link in usable {
            let candidate = overhead(link, loads);
            // Compares candidate / weight without dividing.
            if least.1 * u64::from(link.weight) > candidate * u64::from(least.0.weight) {
                least = (link, candidate);
            }
        }
        Some(least.0.server)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};

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
