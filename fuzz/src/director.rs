//! A director over ports in memory, with a virtual clock.

use crossbeam::channel::{Sender, bounded};
use pointsman::{
    clock::Ticks,
    config,
    control::{
        ProcessInfo,
        socket::ControlRequest,
        status::{Request, Response},
    },
    director::{Director, Materials, assemble},
    io::{
        PortCapabilities, PortDescription, PortIndex,
        mem::{MemDriver, MemNetwork},
    },
    pipeline::{DropReason, PuntReason},
    wire::{
        ethernet::{EtherType, EthernetHeader, MacAddr},
        ipv4::Ipv4Header,
        ipv6::Ipv6Header,
    },
    worker::WorkerQueues,
};

const WORKERS: usize = 2;

/// A director and the world around it.
pub(crate) struct Lab {
    network: MemNetwork,
    director: Director<MemDriver>,
    requests: Sender<ControlRequest>,
    now: Ticks,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let config = config::parse(include_str!("director.toml"), "director.toml").unwrap();
        let describe = |(port, mac): (&config::PortConfig, &[u8; 6])| PortDescription {
            name: port.name.clone(),
            device: "memory".to_owned(),
            driver: "mem".to_owned(),
            mac: MacAddr(*mac),
            mtu: 9702,
            numa_node: None,
            rx_queues: 2,
            tx_queues: 2,
            capabilities: PortCapabilities::default(),
        };
        let ports = config.ports.iter().zip(&MACS).map(describe);
        let network = MemNetwork::new(ports.collect(), WORKERS, PACKETS);
        let queues = (0..WORKERS).map(|worker| {
            let (receive, transmit) = network.queues(worker);
            WorkerQueues {
                receive,
                transmit,
                pool: network.pool(),
            }
        });
        let (requests, requests_out) = bounded(1);
        let materials = Materials {
            ports: network.ports(),
            queues: queues.collect(),
            pool: network.pool(),
            numa_node: None,
            requests: requests_out,
            info: ProcessInfo {
                version: String::new(),
                config_file: "director.toml".into(),
                tsc_hz: 1,
            },
            saved: None,
        };
        let director = assemble(config, materials, Ticks::ZERO).unwrap();
        let mut lab = Self {
            network,
            director,
            requests,
            now: Ticks::ZERO,
        };
        // Until nobody else has claimed its IPv6 addresses.
        for _ in 0..3 {
            lab.advance_by_a_second();
        }
        lab
    }

    /// A frame arrives, if the port has room for it and it fits.
    pub(crate) fn receive(&mut self, port: u8, queue: usize, frame: &[u8]) {
        if !self.network.send(PortIndex(port), queue, frame) {
            self.settle();
        }
    }

    /// Lets the director run until there is nothing to do, and looks at what it
    /// sent.
    pub(crate) fn settle(&mut self) {
        let is_idle = (0..10_000).any(|_| !self.turn());
        assert!(is_idle, "it found something to do 10,000 times in a row");
        for (_, frame) in self.network.take_sent() {
            check_frame(&frame);
        }
    }

    /// Returns whether there was something to do.
    fn turn(&mut self) -> bool {
        let mut busy = self.director.management.turn(self.now);
        for worker in &mut self.director.workers {
            busy |= worker.turn(self.now);
        }
        busy
    }

    pub(crate) fn advance_by_a_second(&mut self) {
        self.now = self.now + 1000;
        self.settle();
    }

    /// What it answers over its control socket, in 30 seconds of its own.
    pub(crate) fn ask(&mut self, request: Request) -> Option<Response> {
        let (reply, answer) = bounded(1);
        self.requests
            .send(ControlRequest::new(request, reply))
            .unwrap();
        for _ in 0..30 {
            self.settle();
            if let Ok(response) = answer.try_recv() {
                return Some(response);
            }
            self.now = self.now + 1000;
        }
        None
    }

    /// Every packet is accounted for, and no buffer is kept.
    pub(crate) fn check(&mut self) {
        for _ in 0..LONG_ENOUGH_S {
            self.advance_by_a_second();
        }
        let (mut received, mut accounted_for) = (0, 0);
        for counter in self.director.management.counters() {
            let name = counter.name.as_str();
            if name == "rx_packets" {
                received = counter.count;
            }
            if name == "forwarded"
                || DropReason::ALL.iter().any(|reason| reason.name() == name)
                || PuntReason::ALL.iter().any(|reason| reason.name() == name)
            {
                accounted_for += counter.count;
            }
        }
        assert_eq!(received, accounted_for);
        assert_eq!(self.network.packets_in_use(), 0);
    }
}

/// No frame goes out with a broken IP header or cut off.
fn check_frame(frame: &[u8]) {
    let (header, payload) = EthernetHeader::parse(frame).unwrap();
    match header.ether_type() {
        EtherType::IPV4 => {
            Ipv4Header::validate(payload).unwrap();
        }
        EtherType::IPV6 => {
            Ipv6Header::parse(payload).unwrap();
        }
        EtherType::ARP => {}
        other => panic!("{other:?}"),
    }
}

const MACS: [[u8; 6]; 2] = [*b"\x02pcap\x00", *b"\x02pcap\x01"];
/// Enough for what an input sends between two turns; each takes a frame's
/// room, which is written when it is made.
const PACKETS: usize = 256;
/// For fragments to be given up, and next hops.
const LONG_ENOUGH_S: u32 = 40;
