//! sh: the client's address decides.
//!
//! 256 buckets; each server in turn takes as many as its weight says, one at
//! least, until all are taken.

use super::{HashedServer, Request, Schedule};
use crate::forwarding::{RealServerIndex, ServerLink};

#[derive(Debug)]
pub(super) struct SourceHashing;

impl Schedule for SourceHashing {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let flags = request.service.options.flags;
        let l4_port = if flags.port {
            request.flow.client_port
        } else {
            0
        };
        let hash = |offset| bucket_of(request.flow.client, l4_port, offset);
        let first = hash(0);
        let link = server_in(request, first)?;
        if request.is_usable(link) {
            return Some(link.server);
        }
        if !flags.fallback {
            return None;
        }
        (0..BUCKETS)
            .map_while(|step| server_in(request, hash((step + first) % BUCKETS)))
            .find(|link| request.is_usable(link))
            .map(|link| link.server)
    }
}

fn server_in<'a>(request: &Request<'a>, bucket: u32) -> Option<&'a ServerLink> {
    let place = request.service.table.as_ref()?.place(bucket as usize)?;
    request.servers().get(place)
}

/// The table: which place in the list each bucket leads to.
pub(super) fn places(servers: &[HashedServer]) -> Vec<u32> {
    if servers.is_empty() {
        return Vec::new();
    }
    let in_turn = (0..).zip(servers).flat_map(|(place, server)| {
        std::iter::repeat_n(place, server.weight.clamp(1, BUCKETS) as usize)
    });
    // More than 256 buckets of one server never matter.
    in_turn
        .collect::<Vec<_>>()
        .into_iter()
        .cycle()
        .take(BUCKETS as usize)
        .collect()
}

/// The bucket of an address and L4 port: the high byte of a product with the
/// golden ratio.
pub(super) fn bucket_of(address: u32, l4_port: u16, offset: u32) -> u32 {
    let hash = address
        .wrapping_add(u32::from(l4_port))
        .wrapping_mul(GOLDEN_RATIO)
        >> 24;
    (offset + hash) % BUCKETS
}

pub(super) const BUCKETS: u32 = 256;
const GOLDEN_RATIO: u32 = 0x61C8_8647;

#[cfg(test)]
mod tests {
    use super::{
        super::{SchedulerFlags, SchedulerKind, test_support::*},
        *,
    };
    use crate::forwarding::ServerLoads;

    /// The picks of recording `07_sh_24src_w321`.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let service = service(
            SchedulerKind::Sh,
            SchedulerFlags::default(),
            &list(&[3, 2, 1]),
        );
        let loads = ServerLoads::new(8);
        let picked: Vec<_> = recorded_clients()
            .map(|client| pick_for(&mut SourceHashing, &service, &loads, client, 46_000))
            .collect();
        let expected = [
            3, 3, 1, 2, 3, 1, 2, 2, 1, 2, 1, 1, 1, 2, 3, 1, 2, 1, 1, 2, 2, 3, 1, 2,
        ];
        assert_eq!(picked, expected.map(Some));
    }

    #[test]
    fn without_fallback_an_unusable_server_is_no_server() {
        let mut servers = list(&[1, 1]);
        let loads = ServerLoads::new(8);
        let picks = |servers: &[ServerLink], fallback| -> Vec<_> {
            let flags = SchedulerFlags {
                fallback,
                port: false,
            };
            let mut service = service(SchedulerKind::Sh, flags, servers);
            // Maglev's table outlives a weight of 0.
            let full = list(&[1, 1]);
            service.table =
                super::super::test_support::service(SchedulerKind::Sh, flags, &full).table;
            recorded_clients()
                .map(|client| pick_for(&mut SourceHashing, &service, &loads, client, 46_000))
                .collect()
        };
        let before = picks(&servers, false);
        servers[0].weight = 0;
        for (pick, before) in picks(&servers, false).into_iter().zip(&before) {
            assert_eq!(pick, before.filter(|server| *server == 1));
        }
        assert!(
            picks(&servers, true)
                .into_iter()
                .all(|pick| pick == Some(1))
        );
    }
}
