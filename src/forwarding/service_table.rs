//! Virtual services, found by what a packet says.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::{
    FTP_DATA_PORT, FTP_PORT, Marks, ServiceAddress, ServiceForwarding, ServiceIndex,
    UNPRIVILEGED_PORT_MIN,
};
use crate::{
    flow::FlowKeyV4,
    prefixes::PrefixLengths,
    service::{Protocol, ServiceKey},
};

/// Virtual services, found by address at a cost that does not depend on how
/// many there are.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    /// Those on one VIP over IPv4 and one port, which most are, by both and the
    /// protocol in one number; `by_vips` has them too.
    by_v4: HashMap<u64, ServiceIndex>,
    /// By VIPs, port (0 for all) and protocol.
    by_vips: HashMap<(IpNet, u16, Protocol), ServiceIndex>,
    /// The prefix lengths of their VIPs.
    lengths: PrefixLengths,
    /// By firewall mark, and whether it is for IPv6.
    by_mark: HashMap<(u32, bool), ServiceIndex>,
    marks: Arc<Marks>,
    slots: Vec<Option<Arc<ServiceForwarding>>>,
    /// How many services there are on FTP's port, on all ports, and others:
    /// what there is none of is not looked for.
    ftp: usize,
    all_ports: usize,
    ordinary: usize,
}

impl ServiceTable {
    /// The service that a packet is for, in the order of Linux IPVS: the one of
    /// its firewall mark; one on its port; FTP's when it may belong to an FTP
    /// data connection, which comes to the client's port or to one that the
    /// server chose; one on all ports. A smaller network of VIPs goes before a
    /// larger one.
    pub fn find(&self, address: &ServiceAddress) -> Option<(ServiceIndex, &ServiceForwarding)> {
        let index = self
            .find_marked(address)
            .or_else(|| self.find_v4(address))
            .or_else(|| {
                if self.by_v4.len() == self.by_vips.len() && self.ftp == 0 {
                    return None;
                }
                let mut networks = self.lengths.around(address.vip);
                networks.find_map(|vips| self.find_on(vips, address))
            })?;
        Some((index, self.service(index)?))
    }

    /// The service on one VIP and one port, as most are, that a flow is to: the
    /// one that [`find`](Self::find) finds where no service
    /// [has a mark](Self::has_marks), but for services of other kinds.
    #[inline]
    pub fn find_plain(&self, flow: &FlowKeyV4) -> Option<(ServiceIndex, &ServiceForwarding)> {
        let index = *self.by_v4.get(&flow.service_word())?;
        Some((index, self.service(index)?))
    }

    #[inline]
    fn find_v4(&self, address: &ServiceAddress) -> Option<ServiceIndex> {
        let IpAddr::V4(vip) = address.vip else {
            return None;
        };
        let key = v4_key(vip, address.l4_port, address.protocol);
        self.by_v4.get(&key).copied()
    }

    fn find_marked(&self, address: &ServiceAddress) -> Option<ServiceIndex> {
        if self.by_mark.is_empty() {
            return None;
        }
        let fwmark = self.marks.of(address)?;
        self.by_mark.get(&(fwmark, address.vip.is_ipv6())).copied()
    }

    fn find_on(&self, vips: IpNet, address: &ServiceAddress) -> Option<ServiceIndex> {
        let &ServiceAddress {
            l4_port, protocol, ..
        } = address;
        let on = |l4_port| self.by_vips.get(&(vips, l4_port, protocol)).copied();
        let is_ftp_data = protocol == Protocol::Tcp
            && (l4_port == FTP_DATA_PORT || l4_port >= UNPRIVILEGED_PORT_MIN);
        on(l4_port)
            .or_else(|| {
                (self.ftp > 0 && is_ftp_data)
                    .then(|| on(FTP_PORT))
                    .flatten()
            })
            .or_else(|| (self.all_ports > 0).then(|| on(0)).flatten())
    }

    /// The firewall marks.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// Replaces the firewall marks.
    pub fn set_marks(&mut self, marks: Arc<Marks>) {
        self.marks = marks;
    }

    /// The service in a slot.
    pub fn service(&self, index: ServiceIndex) -> Option<&ServiceForwarding> {
        self.slots.get(index.as_usize())?.as_deref()
    }

    /// Whether there are services by firewall mark.
    #[inline]
    pub fn has_marks(&self) -> bool {
        !self.by_mark.is_empty()
    }

    /// Whether there is no service at all.
    pub fn is_empty(&self) -> bool {
        self.by_vips.is_empty() && self.by_mark.is_empty()
    }

    /// Puts a service into a slot, in place of what it held.
    pub fn set(&mut self, index: ServiceIndex, service: Arc<ServiceForwarding>) {
        self.remove(index);
        if self.slots.len() <= index.as_usize() {
            self.slots.resize(index.as_usize() + 1, None);
        }
        match Place::of(&service.key) {
            Place::Mark(mark) => {
                self.by_mark.insert(mark, index);
            }
            Place::Vips(vips) => {
                if let Some(key) = v4_key_of(&vips) {
                    self.by_v4.insert(key, index);
                }
                if self.by_vips.insert(vips, index).is_none() {
                    let (network, l4_port, _) = vips;
                    self.lengths.add(network);
                    *self.count_on(l4_port) += 1;
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(index.as_usize()) {
            *slot = Some(service);
        }
    }

    /// Empties a slot.
    pub fn remove(&mut self, index: ServiceIndex) {
        let Some(service) = self.slots.get_mut(index.as_usize()).and_then(Option::take) else {
            return;
        };
        // Its key may have another slot already: deleted and added again, it
        // took the one that became free last.
        match Place::of(&service.key) {
            Place::Mark(mark) => {
                if self.by_mark.get(&mark) == Some(&index) {
                    self.by_mark.remove(&mark);
                }
            }
            Place::Vips(vips) => {
                if self.by_vips.get(&vips) == Some(&index) {
                    self.by_vips.remove(&vips);
                    if let Some(key) = v4_key_of(&vips) {
                        self.by_v4.remove(&key);
                    }
                    let (network, l4_port, _) = vips;
                    self.lengths.remove(network);
                    *self.count_on(l4_port) -= 1;
                }
            }
        }
    }

    /// How many services are on a port, as they are counted.
    fn count_on(&mut self, l4_port: u16) -> &mut usize {
        match l4_port {
            0 => &mut self.all_ports,
            FTP_PORT => &mut self.ftp,
            _ => &mut self.ordinary,
        }
    }
}

/// VIP, port and protocol of a service on one VIP over IPv4 and one port.
fn v4_key_of(&(vips, l4_port, protocol): &(IpNet, u16, Protocol)) -> Option<u64> {
    match vips {
        IpNet::V4(vips) if vips.prefix_len() == 32 && l4_port != 0 => {
            Some(v4_key(vips.addr(), l4_port, protocol))
        }
        _ => None,
    }
}

/// The [`FlowKeyV4::service_word`] of all flows to a service.
const fn v4_key(vip: Ipv4Addr, l4_port: u16, protocol: Protocol) -> u64 {
    (vip.to_bits() as u64) << 32 | (protocol.number() as u64) << 16 | l4_port as u64
}

/// Where a service stands in the table.
enum Place {
    Vips((IpNet, u16, Protocol)),
    Mark((u32, bool)),
}

impl Place {
    fn of(key: &ServiceKey) -> Self {
        match *key {
            ServiceKey::Vip { protocol, address } => {
                Self::Vips((IpNet::from(address.ip()), address.port(), protocol))
            }
            ServiceKey::Network {
                protocol,
                network,
                l4_port,
            } => Self::Vips((network.trunc(), l4_port, protocol)),
            ServiceKey::Mark { fwmark, ipv6 } => Self::Mark((fwmark, ipv6)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        scheduler::SchedulerKind,
        service::{MarkGroup, ServiceOptions},
    };

    fn vip(address: &str) -> ServiceKey {
        ServiceKey::at(Protocol::Tcp, address.parse().unwrap())
    }

    fn network(network: &str, l4_port: u16) -> ServiceKey {
        ServiceKey::Network {
            protocol: Protocol::Tcp,
            network: network.parse().unwrap(),
            l4_port,
        }
    }

    fn service(key: ServiceKey) -> Arc<ServiceForwarding> {
        Arc::new(ServiceForwarding {
            key,
            options: ServiceOptions::from(SchedulerKind::Rr),
            table: None,
            servers: Arc::new([]),
            edits: Arc::new([]),
        })
    }

    fn table(keys: &[ServiceKey]) -> ServiceTable {
        let mut table = ServiceTable::default();
        for (index, key) in (0..).zip(keys) {
            table.set(ServiceIndex(index), service(*key));
        }
        table
    }

    fn found(table: &ServiceTable, address: &str) -> Option<ServiceKey> {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let address = ServiceAddress {
            vip: address.ip(),
            l4_port: address.port(),
            protocol: Protocol::Tcp,
        };
        Some(table.find(&address)?.1.key)
    }

    fn any_key() -> impl Strategy<Value = ServiceKey> {
        let fields = (
            prop::sample::select(Protocol::ALL.to_vec()),
            (0..3_u8, 0..8_u8),
            prop::sample::select(vec![23, 24, 29, 30, 32]),
            any_port(),
        );
        fields.prop_map(|(protocol, (third, fourth), len, l4_port)| {
            let address = [10, 0, third, fourth].into();
            match len {
                32 => ServiceKey::at(protocol, (address, l4_port).into()),
                len => ServiceKey::Network {
                    protocol,
                    network: IpNet::new(address, len).unwrap().trunc(),
                    l4_port,
                },
            }
        })
    }

    fn any_port() -> impl Strategy<Value = u16> {
        prop::sample::select(vec![0, 20, 21, 80, 1023, 1024, 2000])
    }

    /// How well a service fits a packet: the smaller network first, and in it
    /// the order of ports. `None` when it does not.
    fn fit(key: &ServiceKey, packet: &ServiceAddress) -> Option<(u8, u8)> {
        let vips = key.vips().filter(|vips| vips.contains(&packet.vip))?;
        if key.protocol() != Some(packet.protocol) {
            return None;
        }
        let may_be_ftp_data =
            packet.protocol == Protocol::Tcp && (packet.l4_port == 20 || packet.l4_port >= 1024);
        let rank = match key.l4_port() {
            port if port == packet.l4_port => 3,
            21 if may_be_ftp_data => 2,
            0 => 1,
            _ => return None,
        };
        Some((vips.prefix_len(), rank))
    }

    proptest! {
        #[test]
        fn the_service_that_fits_best_is_found(
            changes in prop::collection::vec((0..8_u32, prop::option::of(any_key())), 0..20),
            packets in prop::collection::vec((any_key(), any_port()), 30),
        ) {
            let mut table = ServiceTable::default();
            let mut list: [Option<ServiceKey>; 8] = [None; 8];
            for (slot, key) in changes {
                match key {
                    // One service stands in one slot only, as the management
                    // thread sees to it.
                    Some(key) if !list.contains(&Some(key)) => {
                        table.set(ServiceIndex(slot), service(key));
                        list[slot as usize] = Some(key);
                    }
                    Some(_) => {}
                    None => {
                        table.remove(ServiceIndex(slot));
                        list[slot as usize] = None;
                    }
                }
            }
            for (key, l4_port) in packets {
                let packet = ServiceAddress {
                    vip: key.address(),
                    l4_port,
                    protocol: key.protocol().unwrap(),
                };
                let expected = list
                    .iter()
                    .flatten()
                    .filter(|key| fit(key, &packet).is_some())
                    .max_by_key(|key| fit(key, &packet));
                let found = table.find(&packet).map(|(_, service)| service.key);
                prop_assert_eq!(found.as_ref(), expected, "{:?}", packet);

                let plain = found.filter(|key| {
                    matches!(key, ServiceKey::Vip { address, .. }
                        if address.is_ipv4() && l4_port != 0 && address.port() == l4_port)
                });
                let IpAddr::V4(vip) = packet.vip else { continue };
                let client = SocketAddrV4::new([203, 0, 113, 1].into(), 12345);
                let service = SocketAddrV4::new(vip, l4_port);
                let flow = FlowKeyV4::new(client, service, packet.protocol.number());
                let found = table.find_plain(&flow).map(|(_, service)| service.key);
                prop_assert_eq!(found, plain, "{:?}", flow);
            }
            prop_assert_eq!(table.is_empty(), list.iter().all(Option::is_none));
        }
    }

    #[test]
    fn two_services_that_swap_slots_are_both_found() {
        let (first, second) = (vip("192.0.2.1:80"), vip("192.0.2.1:81"));
        let mut table = table(&[first, second]);
        table.set(ServiceIndex(1), service(first));
        table.set(ServiceIndex(0), service(second));
        assert_eq!(found(&table, "192.0.2.1:80"), Some(first));
        assert_eq!(found(&table, "192.0.2.1:81"), Some(second));
        table.remove(ServiceIndex(0));
        table.remove(ServiceIndex(1));
        assert!(table.is_empty());
        assert_eq!(table.lengths, PrefixLengths::default());
    }

    #[test]
    fn a_service_put_into_a_used_slot_replaces_the_other() {
        let (first, second) = (vip("192.0.2.1:80"), vip("192.0.2.1:81"));
        let mut table = ServiceTable::default();
        table.set(ServiceIndex(3), service(first));
        table.set(ServiceIndex(3), service(second));
        assert_eq!(found(&table, "192.0.2.1:80"), None);
        assert_eq!(found(&table, "192.0.2.1:81"), Some(second));
        table.remove(ServiceIndex(3));
        assert!(table.is_empty());
    }

    #[test]
    fn the_port_goes_before_ftp_and_ftp_before_all_ports() {
        let (web, ftp, all) = (
            vip("192.0.2.1:8080"),
            vip("192.0.2.1:21"),
            vip("192.0.2.1:0"),
        );
        let both = table(&[web, ftp, all]);
        for (port, key) in [
            (8080, web),
            (21, ftp),
            (20, ftp),
            (1024, ftp),
            (1023, all),
            (22, all),
        ] {
            let address = format!("192.0.2.1:{port}");
            assert_eq!(found(&both, &address), Some(key), "{port}");
        }
        assert_eq!(found(&both, "192.0.2.2:8080"), None);
    }

    #[test]
    fn an_address_goes_before_its_network_and_a_small_network_before_a_large_one() {
        let keys = [
            network("192.0.2.0/24", 80),
            network("192.0.2.0/25", 80),
            vip("192.0.2.1:0"),
            network("0.0.0.0/0", 443),
            network("2001:db8::/32", 80),
        ];
        let table = table(&keys);
        for (address, place) in [
            ("192.0.2.1:80", Some(2)),
            ("192.0.2.1:443", Some(2)),
            ("192.0.2.2:80", Some(1)),
            ("192.0.2.200:80", Some(0)),
            ("192.0.2.2:443", Some(3)),
            ("192.0.2.2:81", None),
            ("[2001:db8:1::1]:80", Some(4)),
            ("[2001:db9::1]:80", None),
        ] {
            assert_eq!(
                found(&table, address),
                place.map(|place| keys[place]),
                "{address}"
            );
        }
    }

    #[test]
    fn a_mark_goes_before_addresses_as_far_as_it_has_a_service() {
        let mark = ServiceKey::Mark {
            fwmark: 5,
            ipv6: false,
        };
        let web = vip("192.0.2.1:80");
        let mut table = table(&[mark, web]);
        let group = |fwmark, vips: &str| MarkGroup {
            fwmark,
            vips: vec![vips.parse().unwrap()],
            protocols: Vec::new(),
            l4_ports: Vec::new(),
        };
        let groups = [
            group(5, "192.0.2.0/31"),
            group(6, "192.0.2.4/32"),
            group(5, "::/0"),
        ];
        assert_eq!(found(&table, "192.0.2.1:80"), Some(web));
        table.set_marks(Arc::new(Marks::new(&groups)));
        assert_eq!(found(&table, "192.0.2.1:80"), Some(mark));
        assert_eq!(found(&table, "192.0.2.4:80"), None);
        assert_eq!(found(&table, "[2001:db8::1]:80"), None, "it is for IPv4");
        table.remove(ServiceIndex(0));
        assert_eq!(found(&table, "192.0.2.1:80"), Some(web));
    }
}
