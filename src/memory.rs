//! Memory for tables too large for the processor's caches.
//!
//! A connection table of a million entries touches a random cache line for
//! each packet. With 4 KiB pages most of these accesses miss the TLB as well,
//! so tables live in a [`HugeSlice`]: pages of 2 MiB, on the NUMA node of the
//! worker that uses them, all of them present before the first packet. The
//! lines that a burst needs are asked for together with [`prefetch_read`]
//! before any of them is used.
//!
//! This is the one module of the core that may contain `unsafe`. It knows
//! nothing of what is stored.

use std::{
    fmt, fs, io,
    mem::size_of,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

use bytemuck::Zeroable;

/// Bytes of a hugepage on `x86_64` and on `aarch64` with 4 KiB base pages.
const HUGEPAGE_LEN: usize = 2 << 20;

/// The largest alignment that an element may ask for: a base page.
const ALIGN_MAX: usize = 4096;

/// Asks the processor to load the cache line at the start of `value` for
/// reading. Never blocks, and changes nothing but the time of later accesses.
#[inline]
pub fn prefetch_read<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no architectural effect, whatever the address;
        // SSE, which it needs, is part of x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks the processor to load all cache lines of `value`, which begins one, for
/// writing. Never blocks, and changes nothing but the time of later accesses.
#[inline]
pub fn prefetch_write<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of::<T>().div_ceil(LINE_LEN) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        let start = ptr::from_ref(value).wrapping_byte_add(line * LINE_LEN);
        // SAFETY: a prefetch has no architectural effect, whatever the address;
        // where PREFETCHW is not enabled the compiler emits PREFETCHT0.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(start.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE_LEN: usize = 64;

/// A slice whose memory the kernel gave in hugepages where it could.
///
/// The elements start as zero bytes, at a page boundary, and all pages are
/// present when [`zeroed`](Self::zeroed) returns, so that no later access
/// takes a page fault. Its length never changes.
pub struct HugeSlice<T: Zeroable> {
    start: NonNull<T>,
    len: usize,
    /// Held for its `Drop`; `None` when the slice has no bytes.
    mapping: Option<Mapping>,
}

/// What kind of pages stand behind a [`HugeSlice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Pages from the kernel's hugepage pool (`vm.nr_hugepages`).
    Hugetlb,
    /// Ordinary memory that the kernel was asked to put into transparent
    /// hugepages. How many it found is its own affair (`AnonHugePages` in
    /// `/proc/PID/smaps`).
    TransparentHuge,
    /// Ordinary pages: the slice is smaller than a hugepage, or the kernel has
    /// transparent hugepages turned off.
    Ordinary,
}

/// The memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size in bytes does not fit the address space.
    #[error("a table of {len} entries of {element_len} bytes does not fit the address space")]
    TooLarge {
        /// Elements asked for.
        len: usize,
        /// Bytes of one element.
        element_len: usize,
    },
    /// The kernel refused.
    #[error("the kernel gave no memory for a table of {bytes} bytes; make it smaller: {source}")]
    Refused {
        /// Bytes asked for.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

impl<T: Zeroable> HugeSlice<T> {
    const ALIGN_FITS: () = assert!(align_of::<T>() <= ALIGN_MAX, "aligned to more than a page");

    /// A slice of `len` elements of zero bytes, preferably on the NUMA node
    /// `numa_node`. A node that does not exist or is full is not an error:
    /// the memory then comes from another one.
    ///
    /// # Errors
    /// [`MemoryError`] when the size is absurd or the memory cannot be had.
    pub fn zeroed(len: usize, numa_node: Option<u32>) -> Result<Self, MemoryError> {
        let () = Self::ALIGN_FITS;
        let element_len = size_of::<T>();
        let too_large = || MemoryError::TooLarge { len, element_len };
        let bytes = len.checked_mul(element_len).ok_or_else(too_large)?;
        if isize::try_from(bytes.saturating_add(2 * HUGEPAGE_LEN)).is_err() {
            return Err(too_large());
        }
        if bytes == 0 {
            return Ok(Self {
                start: NonNull::dangling(),
                len,
                mapping: None,
            });
        }
        let mapping = Mapping::of_zeros(bytes, numa_node)
            .map_err(|source| MemoryError::Refused { bytes, source })?;
        Ok(Self {
            start: mapping.start.cast(),
            len,
            mapping: Some(mapping),
        })
    }

    /// What kind of pages the elements are in.
    pub fn backing(&self) -> Backing {
        self.mapping
            .as_ref()
            .map_or(Backing::Ordinary, |mapping| mapping.backing)
    }
}

impl<T: Zeroable> Deref for HugeSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `start` points to `len` elements of a mapping that lives as
        // long as `self`; they started as zeros, which `Zeroable` makes valid.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for HugeSlice<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes the access the only one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroable> Drop for HugeSlice<T> {
    fn drop(&mut self) {
        // SAFETY: the elements are valid and are not used after this; the
        // mapping itself is undone afterwards, by its own `Drop`.
        unsafe { ptr::drop_in_place(ptr::from_mut::<[T]>(self)) };
    }
}

impl<T: Zeroable> fmt::Debug for HugeSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HugeSlice")
            .field("len", &self.len)
            .field("backing", &self.backing())
            .finish_non_exhaustive()
    }
}

// SAFETY: the slice owns its elements as a `Box<[T]>` does.
unsafe impl<T: Zeroable + Send> Send for HugeSlice<T> {}
// SAFETY: shared access gives `&[T]` only, as with a `Box<[T]>`.
unsafe impl<T: Zeroable + Sync> Sync for HugeSlice<T> {}

/// Anonymous memory of the kernel. Undone when dropped.
struct Mapping {
    base: NonNull<libc::c_void>,
    mapped_len: usize,
    /// Where the usable bytes start: `base`, or the next hugepage boundary.
    start: NonNull<u8>,
    backing: Backing,
}

impl Mapping {
    fn of_zeros(bytes: usize, numa_node: Option<u32>) -> io::Result<Self> {
        if bytes >= HUGEPAGE_LEN
            && let Ok(mapping) = Self::of_hugetlb(bytes)
            && mapping.settle(bytes, numa_node).is_ok()
        {
            return Ok(mapping);
        }
        let mapping = Self::of_ordinary(bytes)?;
        mapping.settle(bytes, numa_node)?;
        Ok(mapping)
    }

    fn of_hugetlb(bytes: usize) -> io::Result<Self> {
        let mapped_len = bytes.next_multiple_of(HUGEPAGE_LEN);
        let base = map_anonymous(mapped_len, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB)?;
        Ok(Self {
            base,
            mapped_len,
            start: base.cast(),
            backing: Backing::Hugetlb,
        })
    }

    fn of_ordinary(bytes: usize) -> io::Result<Self> {
        if bytes < HUGEPAGE_LEN {
            let mapped_len = bytes.next_multiple_of(ALIGN_MAX);
            let base = map_anonymous(mapped_len, 0)?;
            return Ok(Self {
                base,
                mapped_len,
                start: base.cast(),
                backing: Backing::Ordinary,
            });
        }
        // One hugepage more than needed, so that the slice can start on a
        // hugepage boundary; what lies before it is never touched.
        let mapped_len = bytes.next_multiple_of(HUGEPAGE_LEN) + HUGEPAGE_LEN;
        let base = map_anonymous(mapped_len, 0)?;
        let skipped = base.cast::<u8>().align_offset(HUGEPAGE_LEN);
        // SAFETY: `skipped` is less than a hugepage, which the mapping has.
        let start = unsafe { base.cast::<u8>().add(skipped) };
        let mut mapping = Self {
            base,
            mapped_len,
            start,
            backing: Backing::Ordinary,
        };
        let advised = mapping.advise(bytes, libc::MADV_HUGEPAGE).is_ok();
        if advised && transparent_hugepages_enabled() {
            mapping.backing = Backing::TransparentHuge;
        }
        Ok(mapping)
    }

    /// Chooses the NUMA node and has all pages brought in.
    fn settle(&self, bytes: usize, numa_node: Option<u32>) -> io::Result<()> {
        if let Some(node) = numa_node
            && let Err(error) = self.prefer_node(bytes, node)
        {
            log::debug!("a table of {bytes} bytes has no preference for NUMA node {node}: {error}");
        }
        match self.advise(bytes, libc::MADV_POPULATE_WRITE) {
            // Kernels before 5.14 do not know it; they bring pages in on use.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        }
    }

    fn advise(&self, bytes: usize, advice: libc::c_int) -> io::Result<()> {
        let len = bytes.next_multiple_of(self.page_len());
        // SAFETY: the range lies within the mapping, and none of the advice
        // used here changes what it contains.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Preferred, not bound: a full node must not stop the director, and with
    /// hugepages a bound mapping would be killed by SIGBUS.
    fn prefer_node(&self, bytes: usize, node: u32) -> io::Result<()> {
        const MPOL_PREFERRED: libc::c_ulong = 1;
        let Some(mask) = 1_u64.checked_shl(node) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // SAFETY: mbind reads 8 bytes of `mask`, which outlives the call, and
        // sets a policy for pages of this mapping alone.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.start.as_ptr(),
                bytes.next_multiple_of(self.page_len()),
                MPOL_PREFERRED,
                &raw const mask,
                libc::c_ulong::from(u64::BITS) + 1,
                0 as libc::c_ulong,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn page_len(&self) -> usize {
        match self.backing {
            Backing::Hugetlb => HUGEPAGE_LEN,
            Backing::TransparentHuge | Backing::Ordinary => ALIGN_MAX,
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping as it was made, and its one owner
        // is going away.
        if unsafe { libc::munmap(self.base.as_ptr(), self.mapped_len) } != 0 {
            log::warn!("could not give memory back: {}", io::Error::last_os_error());
        }
    }
}

fn map_anonymous(len: usize, flags: libc::c_int) -> io::Result<NonNull<libc::c_void>> {
    // SAFETY: a new private mapping at an address that the kernel chooses
    // touches no memory that is in use.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// `madvise` succeeds even where the administrator turned them off.
fn transparent_hugepages_enabled() -> bool {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| !modes.contains("[never]"))
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[derive(Clone, Copy, Zeroable)]
    #[repr(C, align(64))]
    struct Line([u64; 8]);

    #[test]
    fn a_large_slice_starts_as_zeros_on_a_hugepage_boundary_and_keeps_what_is_written() {
        let len = 3 * HUGEPAGE_LEN / size_of::<Line>() + 1;
        let mut lines = HugeSlice::<Line>::zeroed(len, None).unwrap();
        assert_eq!(lines.len(), len);
        assert_eq!(lines.as_ptr().addr() % HUGEPAGE_LEN, 0);
        assert!(lines.iter().all(|line| line.0 == [0; 8]));

        for (value, line) in (0..).zip(lines.iter_mut()) {
            line.0[7] = value;
        }
        prefetch_read(&lines[len - 1]);
        prefetch_write(&lines[0]);
        assert_eq!(lines[0].0[7], 0);
        assert_eq!(lines[len - 1].0[7], len as u64 - 1);
    }

    #[test]
    fn a_small_slice_has_ordinary_pages() {
        let bytes = HugeSlice::<u8>::zeroed(100, None).unwrap();
        assert_eq!(bytes.backing(), Backing::Ordinary);
        assert_eq!(bytes.as_ptr().addr() % ALIGN_MAX, 0);
        assert_eq!(&*bytes, &[0; 100]);
    }

    #[test]
    fn all_pages_are_present_from_the_start() {
        let slice = HugeSlice::<u8>::zeroed(5 * HUGEPAGE_LEN, None).unwrap();
        let mut present = [0_u8; 5 * HUGEPAGE_LEN / ALIGN_MAX];
        // SAFETY: mincore writes one byte per page of the range, for which
        // `present` has room.
        let result = unsafe {
            libc::mincore(
                slice.as_ptr().cast_mut().cast(),
                slice.len(),
                present.as_mut_ptr(),
            )
        };
        assert_eq!(result, 0);
        assert!(present.iter().all(|page| page & 1 == 1));
    }

    #[test]
    fn a_node_that_does_not_exist_is_no_error() {
        for node in [0, 63, 64, u32::MAX] {
            let slice = HugeSlice::<u64>::zeroed(1 << 19, Some(node)).unwrap();
            assert_eq!(slice.iter().sum::<u64>(), 0);
        }
    }

    #[test]
    fn nothing_is_mapped_for_no_bytes() {
        assert!(HugeSlice::<Line>::zeroed(0, Some(0)).unwrap().is_empty());
        assert_eq!(HugeSlice::<()>::zeroed(7, None).unwrap().len(), 7);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for len in [usize::MAX, usize::MAX / 64, usize::MAX / 128] {
            let error = HugeSlice::<Line>::zeroed(len, None).unwrap_err();
            assert!(
                matches!(
                    error,
                    MemoryError::TooLarge {
                        element_len: 64,
                        ..
                    }
                ),
                "{error}"
            );
        }
        let error = HugeSlice::<u8>::zeroed(1 << 47, None).unwrap_err();
        assert!(matches!(error, MemoryError::Refused { .. }), "{error}");
    }

    #[test]
    fn the_slice_can_be_shared_and_sent() {
        #[derive(Zeroable)]
        struct Counter(AtomicU64);
        let counters = HugeSlice::<Counter>::zeroed(2, None).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| counters[1].0.fetch_add(1, Ordering::Relaxed));
            }
        });
        let total = std::thread::spawn(move || counters[1].0.load(Ordering::Relaxed));
        assert_eq!(total.join().unwrap(), 2);
    }

    #[test]
    fn dropping_drops_each_element_once() {
        thread_local!(static DROPPED: Cell<u32> = const { Cell::new(0) });
        #[derive(Zeroable)]
        struct Noted(#[expect(dead_code, reason = "gives the type a size")] u32);
        impl Drop for Noted {
            fn drop(&mut self) {
                DROPPED.set(DROPPED.get() + 1);
            }
        }
        drop(HugeSlice::<Noted>::zeroed(1000, None).unwrap());
        assert_eq!(DROPPED.get(), 1000);
    }
}
