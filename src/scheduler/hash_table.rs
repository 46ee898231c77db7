//! The tables of the hashing schedulers: which server each hash leads to.
//!
//! A table follows from the list of servers alone, so that it is built once by
//! the management thread and shared by all workers. It is the same on every
//! director with the same list, Linux directors included.

use std::net::IpAddr;

use super::{Request, SchedulerKind, destination_hashing, folded, maglev, source_hashing};
use crate::forwarding::{RealServerIndex, ServerLink};

/// A server as tables see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedServer {
    /// Its address as [`HashedServer::address_of`] gives it.
    pub address: u32,
    /// Its L4 port: the service's.
    pub l4_port: u16,
    /// Its weight.
    pub weight: u32,
    /// Its last weight that was not 0, since it was added; 0 when it was added
    /// with 0 and never had another.
    pub last_weight: u32,
}

impl HashedServer {
    /// The address of a server of the service at `vip`, as a number. As in
    /// Linux IPVS the service's IP version says how it is read: as IPv4 only
    /// the first word of an IPv6 address counts.
    pub fn address_of(server: IpAddr, vip: IpAddr) -> u32 {
        match (server, vip) {
            (IpAddr::V6(server), IpAddr::V4(_)) => {
                let [a, b, c, d, ..] = server.octets();
                u32::from_be_bytes([a, b, c, d])
            }
            _ => folded(server),
        }
    }
}

/// From a hash to a place in the list of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashTable(Box<[u32]>);

impl HashTable {
    /// The table of a scheduler for a list of servers, the newest first;
    /// `None` when the scheduler has no table or no server is in it.
    pub fn build(scheduler: SchedulerKind, servers: &[HashedServer]) -> Option<Self> {
        let places = match scheduler {
            SchedulerKind::Sh => source_hashing::places(servers),
            SchedulerKind::Dh => destination_hashing::places(servers),
            SchedulerKind::Mh => maglev::places(servers),
            _ => return None,
        };
        (!places.is_empty()).then(|| Self(places.into()))
    }

    /// The server that a slot of the service's table leads to.
    pub(super) fn server<'a>(request: &Request<'a>, slot: u32) -> Option<&'a ServerLink> {
        let HashTable(places) = request.service.table.as_deref()?;
        request.servers().get(*places.get(slot as usize)? as usize)
    }
}

/// The server that a client's hash leads to. With the flag `fallback`, when
/// that one is not usable, the first usable one of those that other hashes lead
/// to: `slot_of` is the hash with an offset added, of a table of `slots`.
pub(super) fn pick_hashed(
    request: &Request<'_>,
    slots: u32,
    slot_of: impl Fn(u32) -> u32,
) -> Option<RealServerIndex> {
    let first = slot_of(0);
    let link = HashTable::server(request, first)?;
    if request.is_usable(link) {
        return Some(link.server);
    }
    if !request.service.options.flags.fallback {
        return None;
    }
    (0..slots)
        .map_while(|step| HashTable::server(request, slot_of((step + first) % slots)))
        .find(|link| request.is_usable(link))
        .map(|link| link.server)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Schedule, SchedulerFlags, maglev::Maglev, source_hashing::SourceHashing,
            test_support::*,
        },
        *,
    };
    use crate::forwarding::ServerLoads;

    fn picks(
        (kind, state): (SchedulerKind, &mut dyn Schedule),
        flags: SchedulerFlags,
        servers: &[ServerLink],
        table_of: &[ServerLink],
    ) -> Vec<Option<u32>> {
        let table = service(kind, flags, table_of).table;
        let service = crate::forwarding::ServiceForwarding {
            table,
            ..service(kind, flags, servers)
        };
        let loads = ServerLoads::new(8);
        recorded_clients()
            .map(|client| pick_for(state, &service, &loads, client, 46_000))
            .collect()
    }

    /// The picks of recordings `07_sh_24src_w321` and `07_mh_24src_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let servers = list(&[3, 2, 1]);
        let flags = SchedulerFlags::default();
        let sh = [
            3, 3, 1, 2, 3, 1, 2, 2, 1, 2, 1, 1, 1, 2, 3, 1, 2, 1, 1, 2, 2, 3, 1, 2,
        ];
        let picked = picks(
            (SchedulerKind::Sh, &mut SourceHashing),
            flags,
            &servers,
            &servers,
        );
        assert_eq!(picked, sh.map(Some));
        let mh = [
            2, 1, 1, 1, 2, 2, 1, 2, 2, 1, 2, 1, 3, 1, 1, 2, 1, 2, 1, 1, 2, 2, 2, 1,
        ];
        let picked = picks((SchedulerKind::Mh, &mut Maglev), flags, &servers, &servers);
        assert_eq!(picked, mh.map(Some));
    }

    #[test]
    fn only_with_fallback_another_server_stands_in() {
        let full = list(&[1, 1]);
        let mut quiesced = full.clone();
        quiesced[0].weight = 0;
        let schedulers: [(SchedulerKind, Box<dyn Schedule>); 2] = [
            (SchedulerKind::Sh, Box::new(SourceHashing)),
            (SchedulerKind::Mh, Box::new(Maglev)),
        ];
        for (kind, mut state) in schedulers {
            let mut picks = |fallback, servers: &[ServerLink]| {
                let flags = SchedulerFlags {
                    fallback,
                    port: false,
                };
                picks((kind, &mut *state), flags, servers, &full)
            };
            let before = picks(false, &full);
            let without = picks(false, &quiesced);
            for (pick, before) in without.into_iter().zip(before) {
                assert_eq!(pick, before.filter(|server| *server == 1), "{kind}");
            }
            assert!(
                picks(true, &quiesced)
                    .into_iter()
                    .all(|pick| pick == Some(1)),
                "{kind}"
            );
        }
    }
}
