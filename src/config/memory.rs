//! How much memory a configuration asks for.
#![forbid(unsafe_code)]

use super::{
    Config, PortConfig,
    error::Problem,
    reader::{Findings, Span},
};
use crate::connection::{CONNECTIONS_LIMIT, Capacities, Templates};

/// The memory that a director with some configuration takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Connection tables of all workers, and the persistence templates.
    pub connections: u64,
    /// Packet buffers of all ports, which are part of `memory_mib`.
    pub packets: u64,
}

/// What the tables and packet buffers of this configuration need, about.
pub fn memory_need(config: &Config) -> MemoryNeed {
    let workers = to_u64(config.director.worker_cores.len());
    let ports = to_u64(config.ports.len());
    let descriptors = |port: &PortConfig| {
        workers * (u64::from(port.rx_descriptors) + u64::from(port.tx_descriptors))
    };
    let descriptors: u64 = config.ports.iter().map(descriptors).sum();
    let per_thread = (1 + ports) * BURST_LEN + CACHED_PACKETS;
    let handed = if workers > 1 { HANDED_PACKETS } else { 0 };
    let held = WAITING_PACKETS + workers * (HELD_PACKETS + handed);
    let packets = descriptors + held + (workers + 1) * per_thread;
    // Any packet may leave by any port, so all buffers have the length that
    // the largest MTU needs.
    let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(0);
    let frame = (u64::from(mtu) + L2_LEN)
        .max(FRAME_LEN_MIN)
        .next_multiple_of(KIB);
    MemoryNeed {
        connections: workers * tables_len(config.director.connections_max)
            + Templates::memory_bytes_for(config.director.templates_max),
        packets: packets.next_power_of_two() * (frame + BUFFER_OVERHEAD_LEN),
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

/// Bytes of the connection tables of one worker.
fn tables_len(connections_max: usize) -> u64 {
    let connections_max = u32::try_from(connections_max).unwrap_or(CONNECTIONS_LIMIT);
    Capacities::of(connections_max.min(CONNECTIONS_LIMIT)).memory_bytes()
}

/// `usize` never has more bits than `u64` on machines that DPDK runs on.
fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

pub(super) const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// `rte_mbuf` (128), header of a mempool's element (64), headroom (128).
const BUFFER_OVERHEAD_LEN: u64 = 320;
/// Ethernet header, two VLAN tags and FCS.
const L2_LEN: u64 = 14 + 2 * 4 + 4;
/// `RTE_MBUF_DEFAULT_DATAROOM` of `rte_mbuf_core.h`; no NIC takes less.
const FRAME_LEN_MIN: u64 = 2048;
/// Packets that wait for a neighbor.
const WAITING_PACKETS: u64 = 2048;
/// Packets in the queues between a worker and the management thread, and
/// fragments that wait in a worker.
const HELD_PACKETS: u64 = 2048 + 512;
/// Packets that other workers have handed to a worker.
const HANDED_PACKETS: u64 = 512;
/// What the pool's cache of one thread may hoard: one and a half times four
/// bursts.
const CACHED_PACKETS: u64 = 384;
/// Packets that a thread receives in one go, and gathers for each port.
const BURST_LEN: u64 = 64;
/// What EAL and the drivers take for themselves, about.
const EAL_LEN: u64 = 32 * MIB;
