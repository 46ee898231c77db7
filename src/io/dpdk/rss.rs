//! How a NIC spreads flows over its queues: the hash and the redirection table.
//!
//! A NIC that does not take what it is told still works, and packets that come
//! to another worker than they should are handed on: so all of this warns and
//! goes on.

use std::ptr;

use dpdk_sys::{RTE_ETH_RETA_GROUP_SIZE, rte_eth_rss_conf, rte_eth_rss_reta_entry64 as TableGroup};

use super::error_text;

/// What RSS of a port is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rss<'a> {
    /// For messages.
    pub(super) port: &'a str,
    /// DPDK's number of it.
    pub(super) id: u16,
    /// Queues to spread over.
    pub(super) queues: u16,
    /// What is hashed (`RTE_ETH_RSS_*`).
    pub(super) flows: u64,
    /// The hash's key; as it came when the device did not take one.
    pub(super) key: Option<&'a [u8]>,
    /// Entries of the redirection table; 0 when there is none.
    pub(super) table_len: u16,
}

const GROUP_LEN: usize = RTE_ETH_RETA_GROUP_SIZE as usize;

impl Rss<'_> {
    /// Spreads the redirection table of a started port evenly, and looks
    /// whether the device has done what it was told. Returns how many entries
    /// the table has now that lead where they should: all or none.
    pub(super) fn apply(&self) -> u16 {
        self.check_hash();
        if self.table_len == 0 {
            return 0;
        }
        match self.set_table() {
            Ok(()) => self.table_len,
            Err(reason) => {
                log::warn!(
                    "port {}: flows may be spread unevenly over its queues: the device did not \
                     take a redirection table: {reason}",
                    self.port
                );
                0
            }
        }
    }

    /// Some drivers take a configuration and leave out what the NIC lacks.
    fn check_hash(&self) {
        let mut key = vec![0; self.key.map_or(0, <[u8]>::len)];
        let mut conf = rte_eth_rss_conf {
            rss_key: if key.is_empty() {
                ptr::null_mut()
            } else {
                key.as_mut_ptr()
            },
            rss_key_len: u8::try_from(key.len()).unwrap_or(u8::MAX),
            ..Default::default()
        };
        // SAFETY: the port exists, and the key has room for as many bytes as it
        // wants, which are those that it was given.
        let result = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(self.id, &raw mut conf) };
        if result != 0 {
            log::debug!(
                "port {}: the device does not tell what it hashes: {}",
                self.port,
                error_text(result)
            );
            return;
        }
        if self.key.is_some_and(|wanted| wanted != key.as_slice()) {
            log::warn!(
                "port {}: the device hashes with another key than ours",
                self.port
            );
        }
        let missing = self.flows & !conf.rss_hf;
        if missing != 0 {
            log::warn!(
                "port {}: the device does not hash all flows that it says it can (RTE_ETH_RSS \
                 bits {missing:#x} are missing): they come to one worker each address, or all to \
                 the first",
                self.port
            );
        }
    }

    fn set_table(&self) -> Result<(), String> {
        let mut wanted = even_table(self.table_len, self.queues);
        let table = wanted.as_mut_ptr();
        // SAFETY: the port is started; `table` has a group for each 64 entries.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(self.id, table, self.table_len) };
        if result != 0 {
            return Err(error_text(result));
        }
        let mut found = even_table(self.table_len, 1);
        let table = found.as_mut_ptr();
        // SAFETY: as above.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(self.id, table, self.table_len) };
        if result != 0 {
            log::debug!(
                "port {}: the device does not show its redirection table: {}",
                self.port,
                error_text(result)
            );
            return Ok(());
        }
        let is_same = wanted
            .iter()
            .zip(&found)
            .all(|(wanted, found)| wanted.reta == found.reta);
        if is_same {
            Ok(())
        } else {
            Err("it shows another one afterwards".to_owned())
        }
    }
}

/// A table of `len` entries that goes round `queues` queues, all of it marked.
fn even_table(len: u16, queues: u16) -> Vec<TableGroup> {
    let mut entries = (0..len).map(|entry| entry % queues.max(1));
    let mut groups = Vec::new();
    for _ in 0..usize::from(len).div_ceil(GROUP_LEN) {
        let mut group = TableGroup::default();
        for (place, entry) in group.reta.iter_mut().zip(&mut entries) {
            *place = entry;
            group.mask = group.mask << 1 | 1;
        }
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_round_the_queues() {
        let table = even_table(128, 3);
        assert_eq!(table.len(), 2);
        assert_eq!(table[0].mask, u64::MAX);
        assert_eq!(table[0].reta[..4], [0, 1, 2, 0]);
        // Entry 64 is the second after a multiple of three.
        assert_eq!(table[1].reta[..3], [1, 2, 0]);
        assert_eq!(table[1].reta[63], 1);
    }

    #[test]
    fn a_short_table_marks_what_it_has() {
        let table = even_table(70, 2);
        assert_eq!(table.len(), 2);
        assert_eq!(table[1].mask, 0b11_1111);
        assert_eq!(table[1].reta[..8], [0, 1, 0, 1, 0, 1, 0, 0]);
    }
}
