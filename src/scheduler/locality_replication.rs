//! lblcr: a VIP has a set of servers; the one with the least connections for
//! its weight serves. When that one is overloaded, another joins the set; when
//! the set has not changed for a day, its most loaded server leaves.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::{
    Cost, Request, Schedule, least_for_weight,
    locality::{DESTINATIONS_MAX, is_overloaded, link_of},
};
use crate::{
    connection::CoarseTime,
    forwarding::{RealServerIndex, ServerLink},
};

#[derive(Clone, Debug, Default)]
pub(super) struct LocalityReplication {
    sets: HashMap<IpAddr, ServerSet>,
}

/// The servers of one VIP, the one added last first.
#[derive(Clone, Debug)]
struct ServerSet {
    servers: Vec<RealServerIndex>,
    changed: CoarseTime,
}

impl Schedule for LocalityReplication {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let overhead = |link: &ServerLink| request.overhead(link);
        let anybody = || least_for_weight(request.usable(), overhead).map(|link| link.server);
        let vip = request.flow.service.ip();
        let Some(set) = self.sets.get_mut(&vip) else {
            let server = anybody()?;
            if self.sets.len() < DESTINATIONS_MAX {
                let set = ServerSet {
                    servers: vec![server],
                    changed: request.now,
                };
                self.sets.insert(vip, set);
            }
            return Some(server);
        };
        let members = set
            .servers
            .iter()
            .filter_map(|server| link_of(request, *server));
        let least = least_for_weight(members.filter(|link| request.is_usable(link)), overhead);
        set.shrink(request);
        if let Some(link) = least.filter(|link| !is_overloaded(request, link)) {
            return Some(link.server);
        }
        let server = anybody()?;
        if !set.servers.contains(&server) {
            set.servers.insert(0, server);
            set.changed = request.now;
        }
        Some(server)
    }
    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        Some(Cost {
            value: request.overhead(link),
            for_weight: true,
        })
    }
}

impl ServerSet {
    /// Takes the most loaded server out of a set that has not changed for a
    /// day.
    fn shrink(&mut self, request: &Request<'_>) {
        let age = request.now.steps_since(self.changed);
        if self.servers.len() < 2 || age <= DAY_STEPS {
            return;
        }
        let load = |server: &RealServerIndex| {
            let link = link_of(request, *server).filter(|link| link.weight > 0)?;
            // Millionths are fine enough to compare by.
            Some(request.overhead(link) * 1_000_000 / u64::from(link.weight))
        };
        let most = self.servers.iter().copied().max_by_key(load);
        self.servers.retain(|server| Some(*server) != most);
        self.changed = request.now;
    }
}

const DAY_STEPS: u32 = 24 * 60 * 60 * crate::connection::time::STEPS_PER_SECOND;

#[cfg(test)]
mod tests {
    use super::{super::test_support::*, *};
    use crate::forwarding::ServerLoads;

    #[test]
    fn an_overloaded_server_gets_help() {
        let servers = list(&[4, 4]);
        let loads = ServerLoads::new(8);
        let mut state = LocalityReplication::default();
        assert_eq!(picks(&mut state, &servers, &loads, 6), [2, 2, 2, 2, 2, 1]);
        assert_eq!(state.sets.values().next().unwrap().servers.len(), 2);
    }
}
