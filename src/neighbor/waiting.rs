//! What waits for neighbors to be resolved: bounded for each neighbor and in
//! all.
#![forbid(unsafe_code)]

use hashbrown::HashMap;

use super::NeighborKey;

/// Packets that wait for the MAC of their neighbor, in order of arrival.
///
/// A packet that finds no room is refused and the earlier ones stay; Linux
/// drops the earliest instead. Either way one is lost, and whose loss is
/// counted and answered is up to the owner.
#[derive(Debug)]
pub struct Waiting<T> {
    queues: HashMap<NeighborKey, Vec<T>>,
    len: usize,
    len_max_each: usize,
    len_max: usize,
}

impl<T> Waiting<T> {
    /// Room for `len_max_each` packets of each neighbor and `len_max` in all.
    pub fn new(len_max_each: usize, len_max: usize) -> Self {
        Self {
            queues: HashMap::new(),
            len: 0,
            len_max_each,
            len_max,
        }
    }

    /// Lets a packet wait.
    ///
    /// # Errors
    /// Gives the packet back when there is no room for it.
    pub fn push(&mut self, key: NeighborKey, packet: T) -> Result<(), T> {
        let waiting = self.queues.get(&key).map_or(0, Vec::len);
        if waiting >= self.len_max_each || self.len >= self.len_max {
            return Err(packet);
        }
        self.queues.entry(key).or_default().push(packet);
        self.len += 1;
        Ok(())
    }

    /// All that waits for a neighbor, in order of arrival.
    pub fn take(&mut self, key: NeighborKey) -> Vec<T> {
        let packets = self.queues.remove(&key).unwrap_or_default();
        self.len -= packets.len();
        packets
    }

    /// How many packets wait for any neighbor.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::io::PortIndex;

    fn key(last: u8) -> NeighborKey {
        NeighborKey {
            port: PortIndex(1),
            ip: Ipv4Addr::new(10, 0, 0, last).into(),
        }
    }

    #[test]
    fn packets_leave_in_the_order_of_their_arrival() {
        let mut waiting = Waiting::new(3, 10);
        for packet in ["a", "b", "c"] {
            waiting.push(key(11), packet).unwrap();
        }
        waiting.push(key(12), "d").unwrap();
        assert_eq!(waiting.take(key(11)), ["a", "b", "c"]);
        assert_eq!(waiting.len(), 1);
        assert!(waiting.take(key(11)).is_empty());
        assert_eq!(waiting.take(key(12)), ["d"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn packet_beyond_the_limit_of_its_neighbor_is_given_back() {
        let mut waiting = Waiting::new(2, 10);
        assert_eq!(waiting.push(key(11), 1), Ok(()));
        assert_eq!(waiting.push(key(11), 2), Ok(()));
        assert_eq!(waiting.push(key(11), 3), Err(3));
        assert_eq!(waiting.push(key(12), 4), Ok(()));
        waiting.take(key(11));
        assert_eq!(waiting.push(key(11), 5), Ok(()));
    }

    #[test]
    fn packet_beyond_the_limit_of_all_is_given_back() {
        let mut waiting = Waiting::new(2, 3);
        for (last, packet) in [(11, 1), (11, 2), (12, 3)] {
            waiting.push(key(last), packet).unwrap();
        }
        assert_eq!(waiting.push(key(13), 4), Err(4));
        assert_eq!(waiting.take(key(12)), [3]);
        assert_eq!(waiting.push(key(13), 4), Ok(()));
    }
}
