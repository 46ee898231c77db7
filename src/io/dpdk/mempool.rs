//! Pools of mbufs: one for each NUMA node that has ports.

use std::{
    ffi::{CString, c_int},
    mem,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{Eal, Mbuf, last_error_text};
use crate::io::{BURST_LEN_MAX, PacketPool};

/// A pool of packets.
///
/// Copies share it: each worker has one, and each port. A thread that is
/// registered ([`RegisteredThread`](super::RegisteredThread)) takes from a
/// cache of its own and seldom touches the shared ring.
#[derive(Clone, Debug)]
pub struct DpdkPool {
    inner: Arc<Inner>,
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How many packets it holds. See [`PoolNeeds::packets`].
    pub packets: u32,
    /// Bytes of each packet's buffer, with its headroom. See [`data_room_len`].
    pub data_room: u16,
    /// Where the memory shall be; anywhere when `None`.
    pub numa_node: Option<u32>,
}

/// Where packets of a pool may be at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolNeeds {
    /// Descriptors of all receive queues that the pool feeds, as adjusted to
    /// the devices ([`AvailableDevice::descriptors`](super::AvailableDevice::descriptors)).
    pub rx_descriptors: u32,
    /// Descriptors of all transmit queues that its packets may leave by.
    pub tx_descriptors: u32,
    /// Threads that take from the pool: workers and the management thread.
    pub threads: u32,
    /// Transmit queues that each thread gathers bursts for.
    pub tx_queues_per_thread: u32,
    /// Packets kept for longer: the lengths of all queues between workers and
    /// the management thread, packets that wait for a neighbor, fragments.
    pub packets_held: u32,
}

/// The pool could not be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// DPDK refused, nearly always for lack of memory.
    #[error(
        "DPDK gave no memory for {} packets of {} bytes, about {mib} MiB ({reason}); raise \
         memory_mib in [eal], or lower rx_descriptors, tx_descriptors or the number of workers",
        settings.packets, settings.data_room
    )]
    Refused {
        /// What was asked for.
        settings: PoolSettings,
        /// The memory that it takes.
        mib: u64,
        /// DPDK's error.
        reason: String,
    },
}

impl PoolNeeds {
    /// How many packets a pool needs so that no thread ever finds it empty
    /// while every place that can hold packets is full: all descriptors; in
    /// each thread a received burst and one for each transmit queue; what is
    /// held; and what the caches of the threads may hoard (DPDK flushes them
    /// at one and a half times their size). Rounded up to one less than a
    /// power of two, which fills DPDK's ring best.
    pub fn packets(&self) -> u32 {
        let bursts = (1 + self.tx_queues_per_thread).saturating_mul(BURST_LEN_MAX_U32);
        let per_thread = bursts.saturating_add(CACHE_LEN + CACHE_LEN / 2);
        let packets = self
            .rx_descriptors
            .saturating_add(self.tx_descriptors)
            .saturating_add(self.packets_held)
            .saturating_add(self.threads.saturating_mul(per_thread))
            .max(PACKETS_MIN);
        // All bits below the highest set: 0b101 becomes 0b111.
        u32::MAX >> packets.leading_zeros()
    }
}

/// Bytes of a packet's buffer for IP packets of up to `mtu` bytes: DPDK's
/// headroom, then Ethernet header, two VLAN tags, the packet and the FCS that
/// some drivers leave on. The part behind the headroom is at least 2 KiB and
/// rounded up to whole KiB, as several NICs round it down and would spread a
/// frame over two buffers.
pub fn data_room_len(mtu: u16) -> u16 {
    const L2_LEN: u32 = 14 + 2 * 4 + 4;
    let frame_len = (u32::from(mtu) + L2_LEN).max(2048).next_multiple_of(1024);
    u16::try_from(frame_len + dpdk_sys::RTE_PKTMBUF_HEADROOM).unwrap_or(u16::MAX)
}

impl DpdkPool {
    /// Takes memory for a pool from DPDK.
    ///
    /// # Errors
    /// [`PoolError`] when there is not enough.
    pub fn create(eal: &Eal, settings: PoolSettings) -> Result<Self, PoolError> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let name = format!("pointsman{}", CREATED.fetch_add(1, Ordering::Relaxed));
        let refused = |reason| PoolError::Refused {
            settings,
            mib: settings.mib(),
            reason,
        };
        let c_name = CString::new(name).map_err(|error| refused(error.to_string()))?;
        let node = settings
            .numa_node
            .and_then(|node| c_int::try_from(node).ok());
        // SAFETY: the EAL runs, as `eal` proves; the name is copied.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                c_name.as_ptr(),
                settings.packets,
                settings.cache_len(),
                0,
                settings.data_room,
                node.unwrap_or(SOCKET_ID_ANY),
            )
        };
        let pool = NonNull::new(pool).ok_or_else(|| refused(last_error_text()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                settings,
                eal: eal.clone(),
            }),
        })
    }

    /// What it was made of.
    pub fn settings(&self) -> PoolSettings {
        self.inner.settings
    }

    /// Packets that are neither in the pool nor in a thread's cache. Counts
    /// those that ports hold for receiving. Exact only while no thread works.
    ///
    /// 0 when all ports are closed and all packets dropped, but for ports on
    /// `net_af_xdp`: that driver (DPDK 22.11) does not give back the packets
    /// of its fill queue.
    pub fn in_use(&self) -> u32 {
        self.inner.in_use()
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.inner.pool.as_ptr()
    }
}

impl PacketPool for DpdkPool {
    type Packet = Mbuf;

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        // SAFETY: the pool lives; any thread may take from it.
        let mbuf = unsafe { dpdk_sys::dpdk_shim_pktmbuf_alloc(self.as_ptr()) };
        let mbuf = NonNull::new(mbuf)?;
        // SAFETY: just allocated, so with one owner; the pool is not freed
        // while packets are in use.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }
}

impl PoolSettings {
    /// DPDK wants a cache of at most two thirds of the pool.
    fn cache_len(&self) -> u32 {
        CACHE_LEN.min(self.packets / 3)
    }

    /// The buffer, the mbuf (128) and the header of the mempool (64).
    fn mib(&self) -> u64 {
        (u64::from(self.packets) * (u64::from(self.data_room) + 192)).div_ceil(1 << 20)
    }
}

#[derive(Debug)]
struct Inner {
    pool: NonNull<dpdk_sys::rte_mempool>,
    settings: PoolSettings,
    eal: Eal,
}

// SAFETY: mempools are made for use by many threads; those that are not
// registered with DPDK have no cache and use the shared ring.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    fn in_use(&self) -> u32 {
        // SAFETY: the pool lives; only reads counters.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.pool.as_ptr()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // With the last handle gone nobody can take a packet, so the number
        // can only fall.
        match self.in_use() {
            // SAFETY: no packet and no handle is left, so nobody has a pointer
            // into the pool.
            0 => unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) },
            packets => {
                log::warn!("{packets} packets outlive their pool, which is left allocated");
                mem::forget(self.eal.clone());
            }
        }
    }
}

/// Packets that each registered thread keeps at hand: four bursts.
const CACHE_LEN: u32 = 4 * BURST_LEN_MAX_U32;

#[expect(clippy::cast_possible_truncation, reason = "64")]
const BURST_LEN_MAX_U32: u32 = BURST_LEN_MAX as u32;

/// Below this there is nothing to save.
const PACKETS_MIN: u32 = 1023;

/// `SOCKET_ID_ANY` of `rte_memory.h`.
const SOCKET_ID_ANY: c_int = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_a_packet_for_every_place() {
        // One port, two workers and the management thread.
        let needs = PoolNeeds {
            rx_descriptors: 2 * 1024,
            tx_descriptors: 2 * 1024,
            threads: 3,
            tx_queues_per_thread: 1,
            packets_held: 4096,
        };
        // 2048 + 2048 + 4096 + 3 * (128 + 384) = 9728
        assert_eq!(needs.packets(), 16383);
        assert_eq!(PoolNeeds::default().packets(), 1023);
    }

    #[test]
    fn a_pool_is_never_smaller_than_its_needs() {
        for held in [
            1023,
            1024,
            1025,
            2047,
            2048,
            65_535,
            65_536,
            u32::MAX - 1,
            u32::MAX,
        ] {
            let packets = PoolNeeds {
                packets_held: held,
                ..PoolNeeds::default()
            }
            .packets();
            assert!(packets >= held, "{packets} for {held}");
        }
    }

    #[test]
    fn the_data_room_fits_the_frame_in_whole_kib() {
        assert_eq!(data_room_len(68), 128 + 2048);
        assert_eq!(data_room_len(1500), 128 + 2048);
        assert_eq!(data_room_len(9000), 128 + 9216);
        assert_eq!(data_room_len(9702), 128 + 10240);
    }
}
