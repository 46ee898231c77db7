//! What the paths to real servers were found to carry (RFC 1191, RFC 8201): the
//! path MTU of each RIP, as long as it is less than what the route says.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use hashbrown::HashMap;

use super::outer_sources::Tunnel;
use crate::{clock::Ticks, wire::ipv6};

/// Learned path MTUs. There are never more of them than RIPs.
#[derive(Debug, Default)]
pub(super) struct PathMtus {
    tunnels: HashMap<IpAddr, Vec<Tunnel>>,
    learned: HashMap<IpAddr, Learned>,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    mtu: u16,
    until: Ticks,
}

impl PathMtus {
    /// Takes note of the RIPs that there are and of the tunnels to each; what was
    /// learned of others is forgotten.
    pub(super) fn set_tunnels(&mut self, tunnels: HashMap<IpAddr, Vec<Tunnel>>) {
        self.learned.retain(|rip, _| tunnels.contains_key(rip));
        self.tunnels = tunnels;
    }

    /// Takes note of one more tunnel to a RIP.
    pub(super) fn add_tunnel(&mut self, rip: IpAddr, tunnel: Tunnel) {
        let known = self.tunnels.entry(rip).or_default();
        if !known.contains(&tunnel) {
            known.push(tunnel);
        }
    }

    /// The tunnels to an address: none when it is that of no real
    /// server, listed or deleted.
    pub(super) fn tunnels(&self, address: IpAddr) -> &[Tunnel] {
        self.tunnels.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The learned path MTU of a RIP.
    pub(super) fn get(&self, rip: IpAddr) -> Option<u16> {
        self.learned.get(&rip).map(|learned| learned.mtu)
    }

    /// A router on the path to `rip` said that its next hop takes `told`
    /// bytes; until now the path MTU was `current`. Returns the new one if it
    /// is lower. An error never raises it.
    pub(super) fn learn(
        &mut self,
        rip: IpAddr,
        told: u16,
        current: u16,
        now: Ticks,
    ) -> Option<u16> {
        let mtu = told.max(match rip {
            IpAddr::V4(_) => LEARNED_MTU_MIN,
            IpAddr::V6(_) => ipv6::MTU_MIN,
        });
        let learned = Learned {
            mtu,
            until: now + LIFETIME_MS,
        };
        if mtu < current && self.tunnels.contains_key(&rip) {
            self.learned.insert(rip, learned);
            return Some(mtu);
        }
        if let Some(known) = self.learned.get_mut(&rip)
            && known.mtu == mtu
        {
            *known = learned;
        }
        None
    }

    /// Forgets what is too old, and returns whose it was.
    pub(super) fn expire(&mut self, now: Ticks) -> Vec<IpAddr> {
        self.learned
            .extract_if(|_, learned| learned.until <= now)
            .map(|(rip, _)| rip)
            .collect()
    }
}

/// The least that is believed, as in Linux (`min_pmtu`): it bounds what forged
/// errors can do.
const LEARNED_MTU_MIN: u16 = 552;
/// RFC 1191 section 6.3: a larger MTU may be tried ten minutes later.
const LIFETIME_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::service::TunnelKind;

    const RIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 12));
    const RIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x11));

    const TUNNEL: Tunnel = Tunnel {
        kind: TunnelKind::Ipip,
        source: None,
    };

    fn of(rips: &[IpAddr]) -> PathMtus {
        let mut mtus = PathMtus::default();
        let tunnel = |rip: &IpAddr| (*rip, vec![TUNNEL]);
        mtus.set_tunnels(rips.iter().map(tunnel).collect());
        mtus
    }

    #[test]
    fn a_lower_mtu_is_learned_and_a_higher_one_is_not() {
        let mut mtus = of(&[RIP]);
        assert_eq!(mtus.get(RIP), None);
        assert_eq!(mtus.learn(RIP, 1400, 1500, Ticks::ZERO), Some(1400));
        assert_eq!(mtus.learn(RIP, 1450, 1400, Ticks::ZERO), None);
        assert_eq!(mtus.get(RIP), Some(1400));
        assert_eq!(mtus.learn(RIP, 1300, 1400, Ticks::ZERO), Some(1300));
        assert_eq!(mtus.get(RIP), Some(1300));
    }

    #[test]
    fn what_the_route_says_already_is_not_learned() {
        let mut mtus = of(&[RIP]);
        assert_eq!(mtus.learn(RIP, 1500, 1500, Ticks::ZERO), None);
        // The route is narrower than the floor.
        assert_eq!(mtus.learn(RIP, 100, 500, Ticks::ZERO), None);
        assert_eq!(mtus.get(RIP), None);
    }

    #[test]
    fn no_mtu_below_552_is_believed() {
        for told in [0, 68, 551] {
            let mut mtus = of(&[RIP]);
            assert_eq!(mtus.learn(RIP, told, 1500, Ticks::ZERO), Some(552));
        }
        assert_eq!(of(&[RIP]).learn(RIP, 553, 1500, Ticks::ZERO), Some(553));
    }

    #[test]
    fn no_mtu_below_1280_is_believed_of_an_ipv6_path() {
        assert_eq!(of(&[RIP6]).learn(RIP6, 600, 1500, Ticks::ZERO), Some(1280));
        assert_eq!(of(&[RIP6]).learn(RIP6, 1281, 1500, Ticks::ZERO), Some(1281));
        assert_eq!(of(&[RIP6]).learn(RIP6, 600, 1280, Ticks::ZERO), None);
    }

    #[test]
    fn it_is_forgotten_ten_minutes_after_the_last_error_that_said_so() {
        let mut mtus = of(&[RIP]);
        assert_eq!(mtus.learn(RIP, 1400, 1500, Ticks::ZERO), Some(1400));
        assert_eq!(mtus.learn(RIP, 1400, 1400, Ticks::from_ms(60_000)), None);
        // A larger one says nothing about this one.
        assert_eq!(mtus.learn(RIP, 1450, 1400, Ticks::from_ms(90_000)), None);
        assert!(mtus.expire(Ticks::from_ms(659_999)).is_empty());
        assert_eq!(mtus.get(RIP), Some(1400));
        assert_eq!(mtus.expire(Ticks::from_ms(660_000)), [RIP]);
        assert_eq!(mtus.get(RIP), None);
        assert!(mtus.expire(Ticks::from_ms(660_000)).is_empty());
    }

    #[test]
    fn only_rips_have_a_path_mtu() {
        let mut mtus = of(&[RIP, OTHER]);
        assert_eq!(mtus.tunnels(RIP), [TUNNEL]);
        assert_eq!(mtus.learn(RIP, 1400, 1500, Ticks::ZERO), Some(1400));
        assert_eq!(mtus.learn(OTHER, 1300, 1500, Ticks::ZERO), Some(1300));
        mtus.set_tunnels([(OTHER, vec![TUNNEL])].into_iter().collect());
        assert_eq!(mtus.tunnels(RIP), []);
        assert_eq!((mtus.get(RIP), mtus.get(OTHER)), (None, Some(1300)));
        assert_eq!(mtus.learn(RIP, 1400, 1500, Ticks::ZERO), None);
        assert_eq!(mtus.get(RIP), None);
    }
}
