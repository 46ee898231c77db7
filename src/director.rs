//! Putting a director together: workers and a management thread over the
//! ports of one driver, connected by their queues.
//!
//! Nothing here starts a thread or reads a clock. `run` does that for
//! the program; tests drive the parts by hand with a virtual clock.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crossbeam::channel::Receiver;

use crate::{
    clock::Ticks,
    config::Config,
    connection::{CONNECTIONS_LIMIT, Capacities, TableError, Tables, Templates},
    control::{
        Management, Parts, ProcessInfo, command::CommandError, connect, initial_state,
        saved::Saved, socket::ControlRequest,
    },
    counters::WorkerCounters,
    flow::HashKey,
    forwarding::{SERVERS_MAX, ServerLoads},
    io::Driver,
    memory::MemoryError,
    pipeline::{Exchange, Peers, Shares},
    worker::{Worker, WorkerQueues},
};

/// What a director is put together from.
#[derive(Debug)]
pub struct Materials<D: Driver> {
    /// Started ports, in configuration order.
    pub ports: Vec<D::Port>,
    /// The queues of each worker, in the order of `worker_cores`.
    pub queues: Vec<WorkerQueues<D>>,
    /// Packets for the management thread.
    pub pool: D::Pool,
    /// NUMA node of the ports, when they have one: connection tables are put
    /// there.
    pub numa_node: Option<u32>,
    /// Requests from the control socket.
    pub requests: Receiver<ControlRequest>,
    /// What the director says about itself.
    pub info: ProcessInfo,
    /// What the last director left, if there was one that saved.
    pub saved: Option<Saved>,
}

/// A director, ready to run.
#[derive(Debug)]
pub struct Director<D: Driver> {
    /// The management thread's part.
    pub management: Management<D>,
    /// The workers, in the order of `worker_cores`.
    pub workers: Vec<Worker<D>>,
}

/// Why a director could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The connection tables do not fit.
    #[error("the connection tables cannot be made: {0}")]
    Table(#[from] TableError),
    /// The table of persistence templates does not fit.
    #[error("the table of templates cannot be made: {0}")]
    Templates(MemoryError),
    /// The configured services do not fit.
    #[error(transparent)]
    Services(#[from] CommandError),
}

/// Puts a director together.
///
/// # Errors
/// [`AssemblyError`] when memory or limits do not suffice.
pub fn assemble<D: Driver>(
    config: Config,
    materials: Materials<D>,
    now: Ticks,
) -> Result<Director<D>, AssemblyError> {
    let hash_key = HashKey::random();
    let templates = Templates::new(config.director.templates_max, hash_key, materials.numa_node)
        .map_err(AssemblyError::Templates)?;
    let loads = ServerLoads::new(SERVERS_MAX);
    let state = initial_state(&config, loads, Arc::new(templates));
    let capacities = capacities(&config);
    let count = materials.queues.len();
    let cores = config
        .director
        .worker_cores
        .iter()
        .copied()
        .chain(std::iter::repeat(0));

    let mut workers = Vec::with_capacity(count);
    let mut handles = Vec::with_capacity(count);
    let exchanges = Exchange::between(count, &shares(&config, &materials.queues));
    let peers = Peers::of(count).into_iter().zip(exchanges);
    let queues = materials.queues.into_iter().zip(peers);
    for ((index, (queues, peers)), core) in queues.enumerate().zip(cores) {
        let counters = WorkerCounters::new(SERVERS_MAX);
        let (handle, channels) = connect(core, Arc::clone(&counters));
        let tables = Tables::new(capacities, hash_key, materials.numa_node)?;
        let state = Arc::clone(&state);
        workers.push(Worker::new(
            index,
            state,
            (tables, hash_key),
            counters,
            queues,
            channels,
            peers,
        ));
        handles.push(handle);
    }
    let parts = Parts {
        ports: materials.ports,
        pool: materials.pool,
        workers: handles,
        state,
        requests: materials.requests,
        info: materials.info,
        saved: materials.saved,
    };
    Ok(Director {
        management: Management::new(config, parts, now)?,
        workers,
    })
}

/// Which workers have queues of each port.
fn shares<D: Driver>(config: &Config, queues: &[WorkerQueues<D>]) -> Vec<Shares> {
    let workers_with = |has: &dyn Fn(&WorkerQueues<D>) -> bool| {
        (0..)
            .zip(queues)
            .filter_map(|(worker, queues)| has(queues).then_some(worker))
            .collect()
    };
    config
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| Shares {
            receivers: workers_with(&|queues| matches!(queues.receive.get(index), Some(Some(_)))),
            transmitters: workers_with(&|queues| {
                matches!(queues.transmit.get(index), Some(Some(_)))
            }),
            rx_len: port.rx_descriptors.into(),
            tx_len: port.tx_descriptors.into(),
        })
        .collect()
}

/// How many connections of each IP version each worker can hold. Those over
/// IPv6 come on top of the number in the configuration, a quarter as many.
fn capacities(config: &Config) -> Capacities {
    let connections_max = u32::try_from(config.director.connections_max);
    Capacities::of(connections_max.unwrap_or(CONNECTIONS_LIMIT))
}
