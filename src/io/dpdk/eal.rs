//! DPDK's environment abstraction layer (EAL): started once, cleaned up once.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, c_char, c_int},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{EalArguments, error_text, last_error_text};
use crate::config::{EalConfig, Hugepages};

/// The running EAL.
///
/// Copies share it. It is cleaned up when the last copy goes, and ports and
/// pools hold copies, so that it outlives them.
#[derive(Clone, Debug)]
pub struct Eal {
    inner: Arc<Inner>,
}

/// What kind of pages DPDK's memory is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Hugepages.
    Huge,
    /// Ordinary pages of 4 KiB.
    Ordinary,
}

/// The EAL could not be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EalError {
    /// This process started it before; it cannot be started twice.
    #[error("DPDK was started in this process before, and can be started only once")]
    AlreadyStarted,
    /// `hugepages = "required"`, and there are not enough.
    #[error(
        "hugepages = \"required\" and memory_mib = {wanted_mib}, but only {free_mib} MiB of \
         hugepages are free; reserve more with scripts/hugepages.sh, or write hugepages = \"auto\""
    )]
    TooFewHugepages {
        /// `memory_mib`
        wanted_mib: u32,
        /// Free hugepages of all sizes and NUMA nodes.
        free_mib: u64,
    },
    /// An argument holds a NUL byte.
    #[error("the EAL argument {0:?} holds a NUL byte; remove it")]
    NulInArgument(String),
    /// `rte_eal_init` failed.
    #[error(
        "DPDK did not start: {reason}; its own messages above say more (arguments: {arguments})"
    )]
    Init {
        /// DPDK's error.
        reason: String,
        /// What it was started with.
        arguments: String,
    },
}

impl Eal {
    /// Starts the EAL on the calling thread, which becomes its main lcore and
    /// is bound to the management core.
    ///
    /// With [`Hugepages::Auto`] it is known before the start whether there are
    /// enough hugepages, as a failed start cannot be repeated; without them
    /// ordinary pages are used, with a warning.
    ///
    /// # Errors
    /// [`EalError`]. After [`EalError::Init`] this process cannot try again.
    pub fn start(arguments: &EalArguments) -> Result<Self, EalError> {
        let pages = choose_pages(
            &arguments.config,
            free_hugepages_mib(Path::new(HUGEPAGES_DIR)),
        )?;
        let cores: Vec<usize> = core_affinity::get_core_ids()
            .unwrap_or_default()
            .into_iter()
            .map(|core| core.id)
            .collect();
        let words = arguments.build(pages, &cores);
        let c_words = to_c(&words)?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        log::debug!("starting DPDK: {}", words.join(" "));
        init(c_words).map_err(|reason| EalError::Init {
            reason,
            arguments: words.join(" "),
        })?;
        if let Some(dir) = runtime_dir() {
            // Made although nothing is put into it, with these arguments. Gone
            // at once, it cannot stay behind whatever ends the process. When it
            // is not empty, another process has the same prefix.
            let _ = fs::remove_dir(dir);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                pages,
                claimed: Mutex::default(),
            }),
        })
    }

    /// What kind of pages DPDK's memory is in.
    pub fn page_kind(&self) -> PageKind {
        self.inner.pages
    }

    /// The release of DPDK that runs, "DPDK 22.11.11".
    pub fn version(&self) -> String {
        running_version()
    }

    /// How much [`cycles`](super::cycles) advances in a second.
    pub fn cycles_per_second(&self) -> u64 {
        // SAFETY: the EAL measured it when it started.
        unsafe { dpdk_sys::rte_get_tsc_hz() }
    }
}

impl Eal {
    /// Whether the device was free; from now on it is not.
    pub(super) fn claim(&self, device: u16) -> bool {
        self.inner
            .claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(device)
    }

    pub(super) fn release(&self, device: u16) {
        self.inner
            .claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&device);
    }
}

/// The release of DPDK that was loaded, "DPDK 22.11.11", whether or not it was
/// started.
pub fn running_version() -> String {
    // SAFETY: returns static memory.
    let version = unsafe { dpdk_sys::rte_version() };
    // SAFETY: as above; NUL-terminated.
    unsafe { CStr::from_ptr(version) }
        .to_string_lossy()
        .into_owned()
}

/// There is one at most in a process.
#[derive(Debug)]
struct Inner {
    pages: PageKind,
    /// DPDK's numbers of the devices that are ports at present.
    claimed: Mutex<BTreeSet<u16>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the EAL runs, and as this is its last owner no port, pool or
        // registered thread is left.
        let result = unsafe { dpdk_sys::rte_eal_cleanup() };
        if result != 0 {
            log::warn!("DPDK did not clean up: {}", error_text(result));
        }
    }
}

/// Set for good once `rte_eal_init` was called.
static STARTED: AtomicBool = AtomicBool::new(false);

const HUGEPAGES_DIR: &str = "/sys/kernel/mm/hugepages";

fn init(mut words: Vec<*mut c_char>) -> Result<(), String> {
    // SAFETY: the EAL does not run yet; hands it a stream that lives for good.
    // It would log to standard output otherwise, which belongs to `show`.
    unsafe { dpdk_sys::dpdk_shim_log_to_stderr() };
    let count = c_int::try_from(words.len()).map_err(|_| "too many arguments".to_owned())?;
    // SAFETY: `words` has `count` strings that are never freed, as DPDK keeps
    // pointers into them; this is the one call in this process.
    let result = unsafe { dpdk_sys::rte_eal_init(count, words.as_mut_ptr()) };
    if result < 0 {
        Err(last_error_text())
    } else {
        Ok(())
    }
}

/// Strings for `rte_eal_init`. They are leaked: DPDK keeps pointers to some.
fn to_c(words: &[String]) -> Result<Vec<*mut c_char>, EalError> {
    let strings: Result<Vec<CString>, EalError> = words
        .iter()
        .map(|word| CString::new(word.as_str()).map_err(|_| EalError::NulInArgument(word.clone())))
        .collect();
    Ok(strings?.into_iter().map(CString::into_raw).collect())
}

fn runtime_dir() -> Option<PathBuf> {
    // SAFETY: the EAL was started; returns static memory.
    let dir = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    if dir.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated, and not changed after the start.
    let dir = unsafe { CStr::from_ptr(dir) };
    Some(PathBuf::from(dir.to_str().ok()?))
}

fn choose_pages(config: &EalConfig, free_mib: u64) -> Result<PageKind, EalError> {
    let wanted_mib = config.memory_mib;
    let enough = free_mib >= u64::from(wanted_mib);
    match config.hugepages {
        Hugepages::None => Ok(PageKind::Ordinary),
        Hugepages::Auto | Hugepages::Required if enough => Ok(PageKind::Huge),
        Hugepages::Required => Err(EalError::TooFewHugepages {
            wanted_mib,
            free_mib,
        }),
        Hugepages::Auto => {
            log::warn!(
                "{free_mib} MiB of hugepages are free but memory_mib is {wanted_mib}: running on \
                 ordinary pages, which is slower; scripts/hugepages.sh reserves hugepages"
            );
            Ok(PageKind::Ordinary)
        }
    }
}

/// Free hugepages of all sizes: `DIR/hugepages-2048kB/free_hugepages` and so on.
fn free_hugepages_mib(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let kib_of = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let page_kib: u64 = name
            .to_str()?
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let text = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        page_kib.checked_mul(text.trim().parse().ok()?)
    };
    entries.flatten().filter_map(kib_of).sum::<u64>() / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_chosen_by_what_is_free() {
        let config = |hugepages| EalConfig {
            hugepages,
            memory_mib: 512,
            memory_channels: None,
            file_prefix: "pointsman".to_owned(),
            extra_arguments: Vec::new(),
        };
        for (hugepages, free_mib, expected) in [
            (Hugepages::None, 4096, Ok(PageKind::Ordinary)),
            (Hugepages::Auto, 512, Ok(PageKind::Huge)),
            (Hugepages::Auto, 511, Ok(PageKind::Ordinary)),
            (Hugepages::Required, 512, Ok(PageKind::Huge)),
            (
                Hugepages::Required,
                510,
                Err(EalError::TooFewHugepages {
                    wanted_mib: 512,
                    free_mib: 510,
                }),
            ),
        ] {
            assert_eq!(choose_pages(&config(hugepages), free_mib), expected);
        }
    }

    #[test]
    fn free_hugepages_of_all_sizes_are_added() {
        let dir = tempfile::tempdir().unwrap();
        for (name, free) in [("hugepages-2048kB", "5\n"), ("hugepages-1048576kB", "2\n")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("free_hugepages"), free).unwrap();
        }
        fs::create_dir(dir.path().join("something else")).unwrap();
        assert_eq!(free_hugepages_mib(dir.path()), 10 + 2048);
        assert_eq!(free_hugepages_mib(&dir.path().join("none")), 0);
    }
}
