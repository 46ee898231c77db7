//! The networks that outer packets come from, where services have some.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::vips::count_in;
use crate::{
    prefixes::NetworkSet,
    service::{ServiceOptions, TunnelKind},
};

/// A way to a real server, as services have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// What packets are wrapped in.
    pub kind: TunnelKind,
    /// Where they come from; `None` is the address that the route says.
    pub source: Option<IpNet>,
}

/// The networks of outer sources of all services.
#[derive(Debug, Default)]
pub(super) struct OuterSources {
    /// How many services each has.
    counts: HashMap<IpNet, usize>,
    networks: NetworkSet,
}

impl OuterSources {
    /// Whether no service has one.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether an address is in one of them.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }

    /// Each of them once.
    pub(super) fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.counts.keys().copied()
    }

    /// A service was added with these options.
    pub(super) fn add(&mut self, options: &ServiceOptions) {
        if let Some(network) = options.outer_source {
            count_in(&mut self.counts, network, true);
            self.networks.insert(network);
        }
    }

    /// A service with these options was deleted.
    pub(super) fn remove(&mut self, options: &ServiceOptions) {
        if let Some(network) = options.outer_source
            && count_in(&mut self.counts, network, false) == 0
        {
            self.networks.remove(network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::SchedulerKind;

    #[test]
    fn a_network_stays_as_long_as_one_service_has_it() {
        let options = ServiceOptions {
            outer_source: Some("10.9.0.0/24".parse().unwrap()),
            ..ServiceOptions::from(SchedulerKind::Rr)
        };
        let inside = IpAddr::from([10, 9, 0, 255]);
        let mut sources = OuterSources::default();
        sources.add(&options);
        sources.add(&options);
        sources.remove(&options);
        assert!(sources.has(inside) && !sources.is_empty());
        sources.remove(&options);
        assert!(!sources.has(inside) && sources.is_empty());
        sources.add(&ServiceOptions::from(SchedulerKind::Rr));
        assert!(sources.is_empty());
    }
}
