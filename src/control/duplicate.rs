//! Duplicate address detection (RFC 4862 section 5.4): an IPv6 address is the
//! director's to use when nobody answered the question for it.
//!
//! Pure: it is told the time and what others say, and never sends anything.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use crate::clock::Ticks;

/// The addresses that are not the director's to use yet. There are never more
/// of them than it has addresses.
#[derive(Debug, Default)]
pub(super) struct AddressProbes {
    states: BTreeMap<Ipv6Addr, ProbeState>,
    deadlines: BTreeSet<(Ticks, Ipv6Addr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeState {
    /// The probe is not sent yet.
    Planned,
    /// The probe is sent, and others may still answer it.
    Tentative(Ticks),
    /// Another station has it; there will be another probe.
    Duplicate(Ticks),
}

/// What there is to do about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeEnd {
    /// Nobody has it: it can be announced.
    Unique(Ipv6Addr),
    /// It is time for another probe.
    TryAgain(Ipv6Addr),
}

impl AddressProbes {
    /// The address shall be probed: it is not used until that is done.
    pub(super) fn plan(&mut self, address: Ipv6Addr) {
        self.set(address, ProbeState::Planned);
    }

    /// The probe is on its way.
    pub(super) fn sent(&mut self, address: Ipv6Addr, now: Ticks) {
        self.set(address, ProbeState::Tentative(now + PROBE_MS));
    }

    /// The address is no longer the director's.
    pub(super) fn forget(&mut self, address: Ipv6Addr) {
        if let Some(state) = self.states.remove(&address) {
            self.remove_deadline(address, state);
        }
    }

    /// Another station has the address or wants it, too. Returns whether that
    /// ended a probe.
    pub(super) fn conflict(&mut self, address: Ipv6Addr, now: Ticks) -> bool {
        let is_tentative = matches!(
            self.states.get(&address),
            Some(ProbeState::Planned | ProbeState::Tentative(_))
        );
        if is_tentative {
            self.set(address, ProbeState::Duplicate(now + RETRY_MS));
        }
        is_tentative
    }

    /// Whether the director may say that it has the address.
    pub(super) fn is_usable(&self, address: Ipv6Addr) -> bool {
        !self.states.contains_key(&address)
    }

    /// The next address whose time is up.
    pub(super) fn poll(&mut self, now: Ticks) -> Option<ProbeEnd> {
        let &(deadline, address) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        let state = self.states.get(&address).copied();
        self.forget(address);
        if let Some(ProbeState::Duplicate(_)) = state {
            Some(ProbeEnd::TryAgain(address))
        } else {
            Some(ProbeEnd::Unique(address))
        }
    }

    fn set(&mut self, address: Ipv6Addr, state: ProbeState) {
        self.forget(address);
        self.states.insert(address, state);
        if let ProbeState::Tentative(deadline) | ProbeState::Duplicate(deadline) = state {
            self.deadlines.insert((deadline, address));
        }
    }

    fn remove_deadline(&mut self, address: Ipv6Addr, state: ProbeState) {
        if let ProbeState::Tentative(deadline) | ProbeState::Duplicate(deadline) = state {
            self.deadlines.remove(&(deadline, address));
        }
    }
}

/// How long others have to answer a probe: `RetransTimer` of RFC 4861.
const PROBE_MS: u64 = 1000;
/// When an address that another station had is probed again, so that a standby
/// takes it over when its owner is gone. RFC 4862 leaves that to an operator.
pub(super) const RETRY_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

    fn at(ms: u64) -> Ticks {
        Ticks::from_ms(ms)
    }

    #[test]
    fn an_address_is_usable_a_second_after_its_probe() {
        let mut probes = AddressProbes::default();
        probes.plan(ADDRESS);
        assert!(!probes.is_usable(ADDRESS));
        assert_eq!(probes.poll(at(60_000)), None, "the probe is not sent");
        probes.sent(ADDRESS, at(60_000));
        assert_eq!(probes.poll(at(60_999)), None);
        assert!(!probes.is_usable(ADDRESS));
        assert_eq!(probes.poll(at(61_000)), Some(ProbeEnd::Unique(ADDRESS)));
        assert!(probes.is_usable(ADDRESS));
        assert_eq!(probes.poll(at(61_000)), None);
    }

    #[test]
    fn an_address_that_another_station_has_is_probed_again_later() {
        let mut probes = AddressProbes::default();
        probes.sent(ADDRESS, at(0));
        assert!(probes.conflict(ADDRESS, at(10)));
        assert!(!probes.conflict(ADDRESS, at(20)), "told already");
        assert_eq!(probes.poll(at(30_009)), None);
        assert!(!probes.is_usable(ADDRESS));
        assert_eq!(probes.poll(at(30_010)), Some(ProbeEnd::TryAgain(ADDRESS)));
    }

    #[test]
    fn conflict_about_an_address_in_use_ends_nothing() {
        let mut probes = AddressProbes::default();
        probes.sent(OTHER, at(0));
        assert!(!probes.conflict(ADDRESS, at(0)));
        assert!(probes.is_usable(ADDRESS));
    }

    #[test]
    fn address_that_is_given_up_is_forgotten() {
        let mut probes = AddressProbes::default();
        probes.sent(ADDRESS, at(0));
        probes.forget(ADDRESS);
        assert_eq!(probes.poll(at(5_000)), None);
        assert!(probes.is_usable(ADDRESS));
    }

    #[test]
    fn probe_that_is_sent_again_waits_again() {
        let mut probes = AddressProbes::default();
        probes.sent(ADDRESS, at(0));
        probes.sent(ADDRESS, at(500));
        assert_eq!(probes.poll(at(1_400)), None);
        assert_eq!(probes.poll(at(1_500)), Some(ProbeEnd::Unique(ADDRESS)));
    }
}
