//! dh: the VIP decides. 256 buckets, one for each server in turn, whatever
//! its weight.

use super::{
    HashTable, HashedServer, Request, Schedule, folded,
    source_hashing::{BUCKETS, bucket_of},
};
use crate::forwarding::RealServerIndex;

#[derive(Clone, Debug)]
pub(super) struct DestinationHashing;

impl Schedule for DestinationHashing {
    fn pick(&mut self, request: &Request<'_>) -> Option<RealServerIndex> {
        let bucket = bucket_of(folded(request.flow.service.ip()), 0, 0);
        let link = HashTable::server(request, bucket).filter(|link| request.is_usable(link))?;
        Some(link.server)
    }

    fn slot(&self, request: &Request<'_>) -> Option<u32> {
        Some(bucket_of(folded(request.flow.service.ip()), 0, 0))
    }
}

/// The table: which place in the list each bucket leads to.
pub(super) fn places(servers: &[HashedServer]) -> Vec<u32> {
    let places: Vec<u32> = (0..).take(servers.len()).collect();
    places.into_iter().cycle().take(BUCKETS as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SchedulerFlags, SchedulerKind, test_support::*},
        *,
    };
    use crate::forwarding::ServerLoads;

    /// The picks of recording `07_dh_24vips_w321`: VIPs from 198.51.100.20 on.
    #[test]
    fn picks_are_those_of_the_recorded_kernel() {
        let service = service(
            SchedulerKind::Dh,
            SchedulerFlags::default(),
            &list(&[3, 2, 1]),
        );
        let loads = ServerLoads::new(8);
        let picked: Vec<_> = (0..24)
            .map(|number| {
                let flow = flow([203, 0, 113, 7], 40_000, [198, 51, 100, 20 + number]);
                pick_flow(&mut DestinationHashing, &service, &loads, &flow)
            })
            .collect();
        let expected = [
            3, 2, 1, 2, 1, 2, 1, 3, 1, 3, 1, 3, 2, 3, 1, 3, 2, 1, 2, 3, 3, 1, 3, 1,
        ];
        assert_eq!(picked, expected.map(Some));
    }
}
