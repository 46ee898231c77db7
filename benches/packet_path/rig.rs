//! Ports that are made of nothing: what is received is written on the spot
//! into packets that were sent before.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam::channel::bounded;
use pointsman::{
    clock::Ticks,
    config::Config,
    control::{
        ProcessInfo,
        socket::ControlRequest,
        status::{CaptureRequest, Request, Response},
    },
    director::{Director, Materials, assemble},
    io::{
        Burst, Driver, Link, Packet, PacketPool, Port, PortCapabilities, PortDescription,
        PortStatistics, RxQueue, TxQueue,
        dpdk::{DpdkPool, Mbuf},
    },
    worker::WorkerQueues,
};

use crate::{
    Failure,
    traffic::{DIRECTOR, Traffic},
};

/// Packets in a burst.
pub(crate) const BURST: usize = 32;
/// Packets that go round, as in the descriptors of a NIC.
const PACKETS: usize = 512;
/// Free space in front of a received frame.
const HEADROOM: usize = 128;

#[derive(Debug)]
pub(crate) enum Bench {}

impl Driver for Bench {
    type Packet = Mbuf;
    type RxQueue = Source;
    type TxQueue = Sink;
    type Pool = DpdkPool;
    type Port = Nothing;
}

/// Packets that are neither received nor sent. Its lock is never contended.
type Idle = Arc<Mutex<VecDeque<Mbuf>>>;

/// Makes packets.
#[derive(Debug)]
pub(crate) struct Source {
    idle: Idle,
    pool: DpdkPool,
    traffic: Arc<Mutex<Traffic>>,
}

impl RxQueue for Source {
    type Packet = Mbuf;

    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = 0;
        for _ in 0..BURST {
            let flow = traffic.next_flow();
            // Those that were dropped are back in the pool.
            let packet = idle.pop_front().or_else(|| self.pool.allocate());
            let Some(mut packet) = packet else { break };
            let frame_len = traffic.frame_len();
            let headroom = packet.headroom();
            if headroom < HEADROOM {
                packet.trim_front(HEADROOM - headroom);
            }
            let frame = if packet.bytes().len() == frame_len {
                packet.bytes_mut()
            } else {
                packet.truncate(0);
                let Some(frame) = packet.extend(frame_len) else {
                    break;
                };
                frame
            };
            traffic.write(frame, flow);
            burst.push(packet);
            received += 1;
        }
        received
    }
}

/// Keeps sent packets for the next ones, or gives them back to the pool.
#[derive(Debug)]
pub(crate) struct Sink(Option<Idle>);

impl TxQueue for Sink {
    type Packet = Mbuf;

    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let sent = burst.len();
        if let Some(idle) = &self.0 {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.extend(burst.drain(..));
        } else {
            burst.clear();
        }
        sent
    }
}

#[derive(Debug)]
pub(crate) struct Nothing(PortDescription);

impl Port for Nothing {
    fn description(&self) -> &PortDescription {
        &self.0
    }

    fn link(&self) -> Link {
        Link {
            up: true,
            speed_mbps: 0,
        }
    }

    fn statistics(&self) -> PortStatistics {
        PortStatistics::default()
    }
}

/// The ports of one worker.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) source: Source,
    pub(crate) sink: Sink,
}

impl Ports {
    pub(crate) fn new(pool: &DpdkPool, traffic: &Arc<Mutex<Traffic>>) -> Result<Self, Failure> {
        let mut pool = pool.clone();
        let packets: Option<VecDeque<Mbuf>> = (0..PACKETS).map(|_| pool.allocate()).collect();
        let idle = Arc::new(Mutex::new(packets.ok_or("the pool is too small")?));
        Ok(Self {
            source: Source {
                idle: Arc::clone(&idle),
                pool,
                traffic: Arc::clone(traffic),
            },
            sink: Sink(Some(idle)),
        })
    }

    /// Whose packets come from the pool and go back to it, so that two workers
    /// can have one end each, as of a NIC's queues.
    pub(crate) fn pooled(pool: &DpdkPool, traffic: &Arc<Mutex<Traffic>>) -> Self {
        Self {
            source: Source {
                idle: Idle::default(),
                pool: pool.clone(),
                traffic: Arc::clone(traffic),
            },
            sink: Sink(None),
        }
    }
}

/// A receive and a transmit queue of a worker, as far as it has them.
pub(crate) type Queues = (Option<Source>, Option<Sink>);

/// A director over such ports, with its configuration published.
pub(crate) fn director(
    config: &Config,
    pool: &DpdkPool,
    queues: Vec<Queues>,
    capture: Option<(&str, u32)>,
) -> Result<Director<Bench>, Failure> {
    let count = |has: fn(&Queues) -> bool| queues.iter().filter(|queues| has(queues)).count();
    let rx_queues = u16::try_from(count(|(source, _)| source.is_some()))?;
    let tx_queues = u16::try_from(count(|(_, sink)| sink.is_some()))?;
    let queues = queues.into_iter().map(|(source, sink)| WorkerQueues {
        receive: vec![source],
        transmit: vec![sink],
        pool: pool.clone(),
    });
    let description = PortDescription {
        name: "p".to_owned(),
        device: "bench".to_owned(),
        driver: "bench".to_owned(),
        mac: DIRECTOR,
        mtu: 1520,
        numa_node: None,
        rx_queues,
        tx_queues,
        capabilities: PortCapabilities::default(),
    };
    let (requests_in, requests) = bounded(1);
    let (reply, answer) = bounded(1);
    if let Some((filter, rate_per_s)) = capture {
        let request = Request::StartCapture(CaptureRequest {
            filter: serde_json::from_str(filter)?,
            port: None,
            snaplen: 2048,
            packets_max: u64::MAX,
            bytes_max: u64::MAX,
            duration_ms: 3_600_000,
            rate_per_s,
        });
        requests_in.send(ControlRequest::new(request, reply))?;
    }
    let materials = Materials {
        ports: vec![Nothing(description)],
        queues: queues.collect(),
        pool: pool.clone(),
        numa_node: None,
        requests,
        info: ProcessInfo {
            version: String::new(),
            config_file: "bench".into(),
            tsc_hz: 1,
        },
        saved: None,
    };
    let mut director = assemble(config.clone(), materials, Ticks::ZERO)?;
    // Packets that come before the configuration are dropped.
    for _ in 0..4 {
        while director.management.turn(Ticks::ZERO) {}
        for worker in &mut director.workers {
            for _ in 0..64 {
                worker.turn(Ticks::ZERO);
            }
        }
    }
    if capture.is_some() && !matches!(answer.try_recv(), Ok(Response::CaptureStarted { .. })) {
        return Err("the capture has not begun".into());
    }
    Ok(director)
}
