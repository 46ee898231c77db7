//! rr: each server in turn, weights ignored but for 0.
//!
//! The cursor stands on the server picked last. A server that is put into the
//! list stands at its head and does not move the cursor; when the server under
//! the cursor goes, the cursor moves to the one in front of it.

use super::{Request, Schedule};
use crate::forwarding::{ListChange, RealServerIndex, ServerLink, Weights};

#[derive(Clone, Debug, Default)]
pub(super) struct RoundRobin {
    /// Position of the server picked last; `None` stands before the head.
    cursor: Option<usize>,
    /// The links of the list at the last pick or change, in order.
    links: Vec<u64>,
}

impl Schedule for RoundRobin {
    fn list_changed(&mut self, change: ListChange, _: Weights) {
        match change {
            ListChange::Added(link) => {
                self.links.insert(0, link);
                self.cursor = self.cursor.map(|cursor| cursor + 1);
            }
            ListChange::Deleted(link) => {
                let Some(gone) = self.links.iter().position(|known| *known == link) else {
                    return;
                };
                self.links.remove(gone);
                self.cursor = match self.cursor {
                    Some(cursor) if cursor >= gone => cursor.checked_sub(1),
                    cursor => cursor,
                };
            }
            ListChange::Edited => {}
        }
    }

    fn list_is(&mut self, servers: &[ServerLink]) {
        // Told all changes, these are the links already; a scheduler that is
        // new to its service is told no others.
        self.links.clear();
        self.links.extend(servers.iter().map(|server| server.link));
    }

    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let start = self.cursor.map_or(0, |cursor| cursor + 1);
        let (before, after) = request.servers().split_at_checked(start)?;
        let mut in_turn = after.iter().zip(start..).chain(before.iter().zip(0..));
        let (link, position) = in_turn.find(|(link, _)| request.is_usable(link))?;
        self.cursor = Some(position);
        Some(link.server)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    #[test]
    fn servers_take_turns_newest_first() {
        let servers = list(&[3, 2, 1]);
        let mut rr = RoundRobin::default();
        add_one_by_one(&mut rr, &servers);
        let loads = ServerLoads::new(8);
        assert_eq!(picks(&mut rr, &servers, &loads, 7), [3, 2, 1, 3, 2, 1, 3]);
    }

    #[test]
    fn weight_0_and_overloaded_servers_are_passed_over() {
        let servers = list(&[1, 0, 1]);
        let mut rr = RoundRobin::default();
        add_one_by_one(&mut rr, &servers);
        let loads = ServerLoads::new(8);
        loads.of(RealServerIndex(3)).set_thresholds(1, 0);
        assert_eq!(picks(&mut rr, &servers, &loads, 3), [3, 1, 1]);
        loads.of(RealServerIndex(1)).set_thresholds(1, 0);
        loads.of(RealServerIndex(1)).open(true);
        assert!(picks(&mut rr, &servers, &loads, 1).is_empty());
    }

    /// The picks of recording `12_dynamic_rr`.
    #[test]
    fn the_cursor_follows_changes_of_the_list() {
        let loads = ServerLoads::new(8);
        let mut servers = list(&[1, 1, 1]);
        let mut rr = RoundRobin::default();
        add_one_by_one(&mut rr, &servers);
        let weights = Weights { max: 1, gcd: 1 };
        assert_eq!(picks(&mut rr, &servers, &loads, 4), [3, 2, 1, 3]);
        servers.insert(
            0,
            ServerLink {
                server: RealServerIndex(4),
                link: 4,
                weight: 1,
            },
        );
        rr.list_changed(ListChange::Added(4), weights);
        assert_eq!(picks(&mut rr, &servers, &loads, 6), [2, 1, 4, 3, 2, 1]);
        servers.retain(|link| link.server.0 != 2);
        rr.list_changed(ListChange::Deleted(2), weights);
        assert_eq!(picks(&mut rr, &servers, &loads, 6), [4, 3, 1, 4, 3, 1]);
    }

    #[test]
    fn when_the_server_under_the_cursor_goes_the_cursor_moves_to_its_predecessor() {
        let loads = ServerLoads::new(8);
        let mut servers = list(&[1, 1, 1, 1]);
        let mut rr = RoundRobin::default();
        add_one_by_one(&mut rr, &servers);
        assert_eq!(picks(&mut rr, &servers, &loads, 3), [4, 3, 2]);
        servers.retain(|link| link.server.0 != 2);
        rr.list_changed(ListChange::Deleted(2), Weights { max: 1, gcd: 1 });
        assert_eq!(picks(&mut rr, &servers, &loads, 2), [1, 4]);
    }

    /// Also when that one was added since the list was last seen.
    #[test]
    fn the_predecessor_may_be_a_server_that_was_just_added() {
        let loads = ServerLoads::new(8);
        let mut servers = list(&[1, 1]);
        let mut rr = RoundRobin::default();
        add_one_by_one(&mut rr, &servers);
        assert_eq!(picks(&mut rr, &servers, &loads, 1), [2]);
        let weights = Weights { max: 1, gcd: 1 };
        rr.list_changed(ListChange::Added(3), weights);
        rr.list_changed(ListChange::Deleted(2), weights);
        servers[0] = ServerLink {
            server: RealServerIndex(3),
            link: 3,
            weight: 1,
        };
        rr.list_is(&servers);
        assert_eq!(picks(&mut rr, &servers, &loads, 3), [1, 3, 1]);
    }

    #[test]
    fn a_scheduler_set_for_a_service_with_servers_knows_their_order() {
        let loads = ServerLoads::new(8);
        let mut servers = list(&[1, 1, 1]);
        let weights = Weights { max: 1, gcd: 1 };
        let mut rr = RoundRobin::default();
        rr.list_is(&servers);
        assert_eq!(picks(&mut rr, &servers, &loads, 2), [3, 2]);
        servers.remove(0);
        rr.list_changed(ListChange::Deleted(3), weights);
        assert_eq!(picks(&mut rr, &servers, &loads, 2), [1, 2]);
    }

    #[test]
    fn a_server_that_comes_back_is_a_new_one_in_the_list() {
        let loads = ServerLoads::new(8);
        let mut servers = list(&[1, 1, 1]);
        let mut rr = RoundRobin::default();
        add_one_by_one(&mut rr, &servers);
        assert_eq!(picks(&mut rr, &servers, &loads, 2), [3, 2]);
        let mut again = servers.remove(1);
        again.link = 9;
        servers.insert(0, again);
        rr.list_changed(ListChange::Deleted(2), Weights { max: 1, gcd: 1 });
        rr.list_changed(ListChange::Added(9), Weights { max: 1, gcd: 1 });
        assert_eq!(picks(&mut rr, &servers, &loads, 3), [1, 2, 3]);
    }

    #[test]
    fn an_empty_list_has_no_server() {
        let mut rr = RoundRobin::default();
        assert!(picks(&mut rr, &[], &ServerLoads::new(1), 1).is_empty());
    }
}
