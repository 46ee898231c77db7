//! How much memory a configuration asks for.
#![forbid(unsafe_code)]

use super::{
    Config,
    error::Problem,
    reader::{Findings, Span},
};

/// Bytes that one connection takes in the table of its worker, with the
/// table's spare room.
pub const CONNECTION_LEN: u64 = 107;

/// The memory that a director with some configuration takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Connection tables of all workers.
    pub connections: u64,
    /// Packet buffers of all ports, which are part of `memory_mib`.
    pub packets: u64,
}

/// What the tables and packet buffers of this configuration need, about.
pub fn memory_need(config: &Config) -> MemoryNeed {
    let workers = to_u64(config.director.worker_cores.len());
    let per_port = |port: &super::PortConfig| {
        let queues = u64::from(port.rx_descriptors) + u64::from(port.tx_descriptors);
        let buffers = workers * queues + SPARE_BUFFERS;
        buffers * (BUFFER_OVERHEAD_LEN + u64::from(port.mtu).max(BUFFER_LEN_MIN))
    };
    let cached = workers * CACHED_BUFFERS * (BUFFER_OVERHEAD_LEN + BUFFER_LEN_MIN);
    MemoryNeed {
        connections: workers * to_u64(config.director.connections_max) * CONNECTION_LEN,
        packets: config.ports.iter().map(per_port).sum::<u64>() + cached,
    }
}

/// Refuses a `memory_mib` in which EAL could not place the packet buffers.
pub(super) fn check(config: &Config, place: Option<Span>, findings: &mut Findings<'_>) {
    let needed = (memory_need(config).packets + EAL_LEN).div_ceil(MIB);
    let given = config.eal.memory_mib;
    if u64::from(given) < needed {
        let problem = Problem::MemoryTooSmall { given, needed };
        match place {
            Some(span) => findings.refuse(span, problem),
            None => findings.refuse_file(problem),
        }
    }
}

/// `usize` never has more bits than `u64` on machines that DPDK runs on.
fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

pub(super) const MIB: u64 = 1 << 20;
/// `rte_mbuf` (128), mempool header (64), headroom (128), Ethernet with tag
/// (18), rounded up to cache lines.
const BUFFER_OVERHEAD_LEN: u64 = 384;
/// `RTE_MBUF_DEFAULT_DATAROOM`, `rte_mbuf_core.h`
const BUFFER_LEN_MIN: u64 = 2048;
/// Buffers in flight between workers and the management thread, for each port.
const SPARE_BUFFERS: u64 = 4096;
/// `RTE_MEMPOOL_CACHE_MAX_SIZE`, for each worker.
const CACHED_BUFFERS: u64 = 512;
/// What EAL and the drivers take for themselves, about.
const EAL_LEN: u64 = 32 * MIB;
