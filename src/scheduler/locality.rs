//! lblc: a VIP keeps its server as long as that one is usable and not
//! overloaded; else it gets the one with the least connections for its weight.
//!
//! With more than [`DESTINATIONS_MAX`] VIPs in one service, those beyond have
//! no server of their own. Linux forgets a VIP that had no connection for a
//! day; here it keeps its server.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::{Cost, Request, Schedule, least_for_weight};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Clone, Debug, Default)]
pub(super) struct Locality {
    servers: HashMap<IpAddr, RealServerIndex>,
}

impl Schedule for Locality {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let vip = request.flow.service.ip();
        let known = self.servers.get(&vip);
        let usable = known
            .and_then(|server| link_of(request, *server))
            .filter(|link| link.weight > 0 && !is_overloaded(request, link));
        if let Some(link) = usable {
            return Some(link.server);
        }
        let link = least_for_weight(request.usable(), |link| request.overhead(link))?;
        if known.is_some() || self.servers.len() < DESTINATIONS_MAX {
            self.servers.insert(vip, link.server);
        }
        Some(link.server)
    }
    fn cost(&self, request: &Request<'_>, link: &ServerLink) -> Option<Cost> {
        Some(Cost {
            value: request.overhead(link),
            for_weight: true,
        })
    }
}

/// The link of a server that is still in the list.
pub(super) fn link_of<'a>(
    request: &Request<'a>,
    server: RealServerIndex,
) -> Option<&'a ServerLink> {
    request.servers().iter().find(|link| link.server == server)
}

/// Whether a server has more active connections than its weight while another
/// has less than half of its own.
pub(super) fn is_overloaded(request: &Request<'_>, link: &ServerLink) -> bool {
    request.active(link) > u64::from(link.weight)
        && request
            .servers()
            .iter()
            .any(|other| request.active(other) * 2 < u64::from(other.weight))
}

/// VIPs of one service that have a server of their own.
pub(super) const DESTINATIONS_MAX: usize = 4096;
