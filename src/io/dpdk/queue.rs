//! Receive and transmit queues: the two calls that every packet passes.
//!
//! They do what the inline functions `rte_eth_rx_burst` and `rte_eth_tx_burst`
//! do (`rte_ethdev.h`), in Rust: one indirect call through `rte_eth_fp_ops`.
//! DPDK's receive and transmit callbacks are not run.

use std::{
    ffi::c_void,
    ptr::{self, NonNull},
    sync::Arc,
};

use dpdk_sys::{rte_eth_fp_ops, rte_mbuf};

use super::{Mbuf, port::Handle};
use crate::io::{Burst, RxQueue, TxQueue};

/// A receive queue. Its port runs as long as this exists.
#[derive(Debug)]
pub struct DpdkRxQueue {
    place: Place,
}

/// A transmit queue. Its port runs as long as this exists.
#[derive(Debug)]
pub struct DpdkTxQueue {
    place: Place,
}

/// A queue of a started port. There is one of each direction and number, so
/// that no two threads use the same queue, which DPDK forbids.
#[derive(Debug)]
struct Place {
    ops: NonNull<rte_eth_fp_ops>,
    queue: usize,
    /// Keeps the port running.
    _port: Arc<Handle>,
}

// SAFETY: a queue may be used by any thread, by one at a time; `ops` points
// into static memory that DPDK writes only when the port is started or stopped,
// and that does not happen while this holds the port.
unsafe impl Send for Place {}

impl DpdkRxQueue {
    /// # Safety
    /// The port is started with more receive queues than `queue`, and this is
    /// made once for each.
    pub(super) unsafe fn new(port: Arc<Handle>, queue: u16) -> Self {
        Self {
            place: Place::new(port, queue),
        }
    }
}

impl DpdkTxQueue {
    /// # Safety
    /// The port is started with more transmit queues than `queue`, and this is
    /// made once for each.
    pub(super) unsafe fn new(port: Arc<Handle>, queue: u16) -> Self {
        Self {
            place: Place::new(port, queue),
        }
    }
}

impl RxQueue for DpdkRxQueue {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let room = u16::try_from(burst.remaining_capacity()).unwrap_or(u16::MAX);
        if room == 0 {
            return 0;
        }
        let ops = self.place.ops.as_ptr();
        // SAFETY: see `Place`; a field of a static structure.
        let Some(receive) = (unsafe { (*ops).rx_pkt_burst }) else {
            return 0;
        };
        // SAFETY: as above.
        let queues = unsafe { (*ops).rxq.data };
        // SAFETY: the port has this queue.
        let queue = unsafe { queue_data(queues, self.place.queue) };
        let len = burst.len();
        // SAFETY: `len` is within the array.
        let free = unsafe { burst.as_mut_ptr().add(len) };
        // SAFETY: the port is started, only `self` uses this queue, and `free`
        // has room for `room` pointers; `Mbuf` is one pointer to an mbuf.
        let received = unsafe { receive(queue, free.cast::<*mut rte_mbuf>(), room) };
        let received = usize::from(received.min(room));
        // SAFETY: the driver has filled `received` places with pointers to
        // mbufs that it gave away.
        unsafe { burst.set_len(len + received) };
        received
    }
}

impl TxQueue for DpdkTxQueue {
    type Packet = Mbuf;

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let len = burst.len();
        let Ok(count @ 1..) = u16::try_from(len) else {
            return 0;
        };
        let ops = self.place.ops.as_ptr();
        // SAFETY: see `Place`; a field of a static structure.
        let Some(transmit) = (unsafe { (*ops).tx_pkt_burst }) else {
            return 0;
        };
        // SAFETY: as above.
        let queues = unsafe { (*ops).txq.data };
        // SAFETY: the port has this queue.
        let queue = unsafe { queue_data(queues, self.place.queue) };
        let packets = burst.as_mut_ptr();
        // SAFETY: the port is started, only `self` uses this queue, and
        // `packets` are `count` pointers to mbufs.
        let sent = unsafe { transmit(queue, packets.cast::<*mut rte_mbuf>(), count) };
        let sent = usize::from(sent.min(count));
        // From here to the end nothing may unwind: the first `sent` packets
        // belong to the driver.
        // SAFETY: `sent` is at most `len`.
        let rest = unsafe { packets.add(sent) };
        // SAFETY: both ranges are within the array, and what is overwritten is
        // no longer ours.
        unsafe { ptr::copy(rest, packets, len - sent) };
        // SAFETY: so many packets stand at the front now.
        unsafe { burst.set_len(len - sent) };
        sent
    }
}

impl Place {
    fn new(port: Arc<Handle>, queue: u16) -> Self {
        let first = (&raw mut rte_eth_fp_ops).cast::<rte_eth_fp_ops>();
        let index = usize::from(port.id());
        // SAFETY: DPDK numbers ports below RTE_MAX_ETHPORTS, the array's length.
        let ops = unsafe { first.add(index) };
        // SAFETY: within a static array.
        let ops = unsafe { NonNull::new_unchecked(ops) };
        Self {
            ops,
            queue: usize::from(queue),
            _port: port,
        }
    }
}

/// # Safety
/// `queues` has more than `queue` elements.
#[inline]
unsafe fn queue_data(queues: *mut *mut c_void, queue: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    let place = unsafe { queues.add(queue) };
    // SAFETY: as above.
    unsafe { place.read() }
}
