//! Which VIPs the services have, and what firewall marks stand for.
#![forbid(unsafe_code)]

use std::{net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use ipnet::IpNet;

use crate::{
    forwarding::Marks,
    prefixes::NetworkSet,
    service::{MarkGroup, ServiceKey},
};

/// The VIPs of all services.
#[derive(Debug, Default)]
pub(super) struct Vips {
    /// How many services each VIP has.
    single: HashMap<IpAddr, usize>,
    /// How many services each network of VIPs has.
    in_networks: HashMap<IpNet, usize>,
    /// The same networks, to be searched.
    networks: NetworkSet,
    groups: Vec<MarkGroup>,
    marks: Arc<Marks>,
}

impl Vips {
    /// Each VIP once that services have by itself, not as one of a network.
    pub(super) fn single(&self) -> impl Iterator<Item = IpAddr> {
        self.single.keys().copied()
    }

    /// Whether a service has this VIP by itself.
    pub(super) fn has_single(&self, address: IpAddr) -> bool {
        self.single.contains_key(&address)
    }

    /// Whether a service has this VIP.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.has_single(address) || self.networks.contains(address)
    }

    /// The networks of VIPs.
    pub(super) const fn networks(&self) -> &NetworkSet {
        &self.networks
    }

    /// Which packets have which firewall mark.
    pub(super) const fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The VIPs of one service: a network each, of one address or more.
    pub(super) fn of(&self, key: &ServiceKey) -> Vec<IpNet> {
        let ServiceKey::Mark { fwmark, ipv6 } = *key else {
            return key.vips().into_iter().collect();
        };
        let groups = self.groups.iter().filter(|group| group.fwmark == fwmark);
        groups
            .flat_map(|group| group.vips.iter().copied())
            .filter(|vips| matches!(vips, IpNet::V6(_)) == ipv6)
            .collect()
    }

    /// A service was added.
    pub(super) fn add(&mut self, key: &ServiceKey) {
        for vips in self.of(key) {
            self.count(vips, true);
        }
    }

    /// A service was deleted.
    pub(super) fn remove(&mut self, key: &ServiceKey) {
        for vips in self.of(key) {
            self.count(vips, false);
        }
    }

    /// Says what marks stand for from now on. `services` are all there are.
    pub(super) fn set_groups<'k>(
        &mut self,
        groups: &[MarkGroup],
        services: impl Iterator<Item = &'k ServiceKey>,
    ) {
        let marked: Vec<_> = services.filter(|key| key.vips().is_none()).collect();
        for key in &marked {
            self.remove(key);
        }
        self.groups = groups.to_vec();
        let marks = Marks::new(groups);
        if *self.marks != marks {
            self.marks = Arc::new(marks);
        }
        for key in &marked {
            self.add(key);
        }
    }

    fn count(&mut self, vips: IpNet, is_added: bool) {
        if is_single(vips) {
            count_in(&mut self.single, vips.addr(), is_added);
        } else if count_in(&mut self.in_networks, vips, is_added) == 0 {
            self.networks.remove(vips);
        } else {
            self.networks.insert(vips);
        }
    }
}

/// Whether a network is one address.
pub(super) fn is_single(vips: IpNet) -> bool {
    vips.prefix_len() == vips.max_prefix_len()
}

/// Counts up or down, and returns what it comes to.
pub(super) fn count_in<K: std::hash::Hash + Eq>(
    counts: &mut HashMap<K, usize>,
    key: K,
    is_added: bool,
) -> usize {
    let before = counts.get(&key).copied().unwrap_or_default();
    let count = if is_added {
        before + 1
    } else {
        before.saturating_sub(1)
    };
    if count == 0 {
        counts.remove(&key);
    } else {
        counts.insert(key, count);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Protocol;

    fn group(vips: &[&str]) -> MarkGroup {
        MarkGroup {
            fwmark: 5,
            vips: vips.iter().map(|vips| vips.parse().unwrap()).collect(),
            protocols: Vec::new(),
            l4_ports: Vec::new(),
        }
    }

    fn singles(vips: &Vips) -> Vec<String> {
        let mut singles: Vec<_> = vips.single().map(|vip| vip.to_string()).collect();
        singles.sort();
        singles
    }

    #[test]
    fn a_vip_stays_as_long_as_one_service_has_it() {
        let mut vips = Vips::default();
        let keys = ["192.0.2.1:80", "192.0.2.1:81"]
            .map(|address| ServiceKey::at(Protocol::Tcp, address.parse().unwrap()));
        vips.add(&keys[0]);
        vips.add(&keys[1]);
        vips.remove(&keys[0]);
        assert_eq!(singles(&vips), ["192.0.2.1"]);
        vips.remove(&keys[1]);
        assert!(singles(&vips).is_empty());
    }

    #[test]
    fn a_mark_brings_its_vips_while_it_has_a_service() {
        let mut vips = Vips::default();
        let mark = ServiceKey::Mark {
            fwmark: 5,
            ipv6: false,
        };
        let in_network = IpAddr::from([198, 51, 100, 9]);
        vips.set_groups(
            &[group(&[
                "192.0.2.1/32",
                "198.51.100.0/24",
                "2001:db8::1/128",
            ])],
            std::iter::empty(),
        );
        assert!(singles(&vips).is_empty() && !vips.has(in_network));
        vips.add(&mark);
        assert_eq!(singles(&vips), ["192.0.2.1"]);
        assert!(vips.has(in_network) && !vips.has_single(in_network));
        vips.set_groups(&[group(&["192.0.2.2/32"])], [&mark].into_iter());
        assert_eq!(singles(&vips), ["192.0.2.2"]);
        assert!(!vips.has(in_network));
        vips.remove(&mark);
        assert!(singles(&vips).is_empty());
    }
}
