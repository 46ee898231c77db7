//! A packet in an `rte_mbuf`.
//!
//! All of it is plain reads and writes of the mbuf's fields (`rte_mbuf_core.h`);
//! C is called only to free. Where each field is comes from the compiler that
//! read DPDK's header.

use std::{fmt, mem, ptr::NonNull, slice};

use dpdk_sys::{
    RTE_MBUF_F_RX_IP_CKSUM_GOOD, RTE_MBUF_F_RX_IP_CKSUM_MASK, RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD,
    RTE_MBUF_F_TX_IP_CKSUM, RTE_MBUF_F_TX_IPV4, RTE_MBUF_L2_LEN_BITS, RTE_MBUF_OFFSET_BUF_ADDR,
    RTE_MBUF_OFFSET_BUF_LEN, RTE_MBUF_OFFSET_DATA_LEN, RTE_MBUF_OFFSET_DATA_OFF,
    RTE_MBUF_OFFSET_NB_SEGS, RTE_MBUF_OFFSET_OL_FLAGS, RTE_MBUF_OFFSET_PKT_LEN,
    RTE_MBUF_OFFSET_TX_OFFLOAD, rte_mbuf,
};

use crate::{io::Packet, memory::prefetch_read};

/// The one owner of an mbuf. Dropping it gives the mbuf back to its pool.
///
/// It has the layout of the pointer that DPDK takes, so that a burst of them is
/// the array that `rte_eth_rx_burst` fills. Its reference count is 1: pointsman
/// never clones mbufs.
///
/// The frame is in the first segment. A NIC may add further segments to it;
/// then [`is_contiguous`](Packet::is_contiguous) is false, the operations at
/// the front work on the first segment alone, and those at the end refuse.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf is owned by whoever holds the pointer, and may be freed by
// any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// `mbuf` is an allocated mbuf whose fields are consistent, with a
    /// reference count of 1 and no other owner, from a pool that lives as long
    /// as this.
    pub(super) const unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Hands the mbuf over: whoever gets the pointer has to free it.
    pub fn into_raw(self) -> NonNull<rte_mbuf> {
        let mbuf = self.0;
        mem::forget(self);
        mbuf
    }

    /// Bytes that [`extend`](Packet::extend) can still give.
    pub fn tailroom(&self) -> usize {
        let buf_len: u16 = self.read(RTE_MBUF_OFFSET_BUF_LEN);
        usize::from(buf_len).saturating_sub(usize::from(self.data_off()) + self.data_len())
    }

    #[inline]
    fn field<T: Copy>(&self, offset: usize) -> *mut T {
        // SAFETY: `offset` is that of a field, so within the mbuf.
        unsafe { self.0.as_ptr().byte_add(offset) }.cast()
    }

    #[inline]
    fn read<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: the place of an initialised field, whose size dpdk-sys has
        // checked to be T's, of an mbuf that only `self` owns.
        unsafe { self.field::<T>(offset).read() }
    }

    #[inline]
    fn write<T: Copy>(&mut self, offset: usize, value: T) {
        // SAFETY: as in `read`, and `&mut self` makes the access the only one.
        unsafe { self.field::<T>(offset).write(value) }
    }

    #[inline]
    fn data_off(&self) -> u16 {
        self.read(RTE_MBUF_OFFSET_DATA_OFF)
    }

    #[inline]
    fn data_len(&self) -> usize {
        usize::from(self.read::<u16>(RTE_MBUF_OFFSET_DATA_LEN))
    }

    /// Sets the place and length of the data. The length of further segments
    /// stays what it was.
    #[inline]
    fn set_data(&mut self, data_off: u16, data_len: u16) {
        let pkt_len: u32 = self.read(RTE_MBUF_OFFSET_PKT_LEN);
        let old_len: u16 = self.read(RTE_MBUF_OFFSET_DATA_LEN);
        let others_len = pkt_len.saturating_sub(u32::from(old_len));
        self.write(RTE_MBUF_OFFSET_DATA_OFF, data_off);
        self.write(RTE_MBUF_OFFSET_DATA_LEN, data_len);
        self.write(RTE_MBUF_OFFSET_PKT_LEN, others_len + u32::from(data_len));
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        let buf_addr: *mut u8 = self.read(RTE_MBUF_OFFSET_BUF_ADDR);
        // SAFETY: the data starts within the buffer, or at its end when empty.
        unsafe { buf_addr.add(usize::from(self.data_off())) }
    }
}

impl Packet for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the data of the first segment, `data_len` bytes within its
        // buffer that were written before (DPDK zeroes a pool's memory), and
        // owned by `self` alone.
        unsafe { slice::from_raw_parts(self.data(), self.data_len()) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes the access the only one.
        unsafe { slice::from_raw_parts_mut(self.data(), self.data_len()) }
    }

    #[inline]
    fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        let added = u16::try_from(len).ok()?;
        let data_off = self.data_off().checked_sub(added)?;
        let data_len = self
            .read::<u16>(RTE_MBUF_OFFSET_DATA_LEN)
            .checked_add(added)?;
        self.set_data(data_off, data_len);
        Some(self.bytes_mut())
    }

    #[inline]
    fn trim_front(&mut self, len: usize) {
        let data_len: u16 = self.read(RTE_MBUF_OFFSET_DATA_LEN);
        let removed = u16::try_from(len).unwrap_or(u16::MAX).min(data_len);
        self.set_data(self.data_off() + removed, data_len - removed);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if let Ok(data_len) = u16::try_from(len)
            && len < self.data_len()
            && self.is_contiguous()
        {
            self.set_data(self.data_off(), data_len);
        }
    }

    #[inline]
    fn extend(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.tailroom() || !self.is_contiguous() {
            return None;
        }
        let old_len = self.data_len();
        let data_len = u16::try_from(old_len + len).ok()?;
        self.set_data(self.data_off(), data_len);
        Some(self.bytes_mut())
    }

    #[inline]
    fn reshape(&mut self, more: usize, len: usize) -> Option<&mut [u8]> {
        let (data_off, data_len) = (self.data_off(), self.data_len());
        let new_off = data_off.checked_sub(u16::try_from(more).ok()?)?;
        let new_len = u16::try_from(len).ok()?;
        if len > data_len + more || !self.is_contiguous() {
            return None;
        }
        self.write(RTE_MBUF_OFFSET_DATA_OFF, new_off);
        self.write(RTE_MBUF_OFFSET_DATA_LEN, new_len);
        self.write(RTE_MBUF_OFFSET_PKT_LEN, u32::from(new_len));
        Some(self.bytes_mut())
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        self.read::<u16>(RTE_MBUF_OFFSET_NB_SEGS) == 1
    }

    #[inline]
    fn has_good_ipv4_checksum(&self) -> bool {
        is_checksum_good(self.read(RTE_MBUF_OFFSET_OL_FLAGS))
    }

    /// The NIC wants to find the checksum field zero; this sees to it.
    #[inline]
    fn offload_ipv4_checksum(&mut self, l2_len: u8, l3_len: u8) {
        const CHECKSUM_OFFSET: usize = 10;
        let start = usize::from(l2_len) + CHECKSUM_OFFSET;
        if let Some(checksum) = self.bytes_mut().get_mut(start..start + 2) {
            checksum.fill(0);
        }
        let l2_mask = (1 << RTE_MBUF_L2_LEN_BITS) - 1;
        let lengths = u64::from(l2_len) & l2_mask | u64::from(l3_len) << RTE_MBUF_L2_LEN_BITS;
        self.write(RTE_MBUF_OFFSET_TX_OFFLOAD, lengths);
        let flags: u64 = self.read(RTE_MBUF_OFFSET_OL_FLAGS);
        let flags = flags | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
        self.write(RTE_MBUF_OFFSET_OL_FLAGS, flags);
    }

    #[inline]
    fn prefetch(&self) {
        prefetch_read(self.bytes());
    }
}

/// What the flags of a received frame say of its first IPv4 header. In what a
/// NIC takes for a tunnel, "good" is about the inner header, and there is a
/// flag of its own for the outer one (`rte_mbuf_core.h`).
#[inline]
const fn is_checksum_good(flags: u64) -> bool {
    flags & (RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD)
        == RTE_MBUF_F_RX_IP_CKSUM_GOOD
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: `self` is the one owner and goes away.
        unsafe { dpdk_sys::dpdk_shim_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.data_len())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .field("segments", &self.read::<u16>(RTE_MBUF_OFFSET_NB_SEGS))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of `ol_flags` as `rte_mbuf_core.h` numbers them.
    #[test]
    fn only_what_the_nic_has_looked_at_and_found_right_is_good() {
        let (bad, outer_bad, good, vlan) = (1 << 4, 1 << 5, 1 << 7, 1);
        for flags in [good, good | vlan] {
            assert!(is_checksum_good(flags), "{flags:#x}");
        }
        // Both together: right on the wire, but not in the buffer.
        for flags in [0, vlan, bad, good | bad, good | outer_bad] {
            assert!(!is_checksum_good(flags), "{flags:#x}");
        }
    }
}
