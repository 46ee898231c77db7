//! A director in the recorded lab: over two ports in memory, with a virtual
//! clock that stands still unless it is told to go on.

use crossbeam::channel::{Sender, bounded};
use pointsman::{
    clock::Ticks,
    config::{Config, Device, DirectorConfig, EalConfig, Hugepages, PortConfig, ServiceConfig},
    control::{
        ProcessInfo,
        command::{Command, CommandError},
        socket::ControlRequest,
        status::{ConnectionStatus, Request, Response, ServiceStatus},
    },
    director::{Director, Materials, assemble},
    io::{
        PortCapabilities, PortDescription, PortIndex,
        mem::{MemDriver, MemNetwork},
    },
    service::{Timeouts, Tunables},
    wire::ethernet::MacAddr,
    worker::WorkerQueues,
};

use super::{
    network::Network,
    replay::{PATIENCE_MS, wait},
    subject::Subject,
};

/// Connections that the director can hold; the recorded cases have a few
/// hundred.
const CONNECTIONS_MAX: usize = 4096;

/// Persistence templates that it can hold.
const TEMPLATES_MAX: u32 = 1024;

/// Packet buffers of the lab.
const PACKETS: usize = 256;

/// Turns after which a director that still finds something to do is taken to
/// be in a loop.
const TURNS_MAX: usize = 10_000;

/// A director with one worker, and the world around it.
#[derive(Debug)]
pub struct Lab {
    network: MemNetwork,
    director: Director<MemDriver>,
    config: Config,
    requests: Sender<ControlRequest>,
    now: Ticks,
}

impl Lab {
    /// Starts a director whose ports have these MAC addresses and
    /// capabilities.
    pub fn start(
        network: &Network,
        macs: [MacAddr; 2],
        capabilities: PortCapabilities,
    ) -> Result<Self, String> {
        let config = config_of(network);
        let descriptions = config
            .ports
            .iter()
            .zip(macs)
            .map(|(port, mac)| description(port, mac, capabilities))
            .collect();
        let memory = MemNetwork::new(descriptions, 1, PACKETS);
        let (receive, transmit) = memory.queues(0);
        let (requests, requests_out) = bounded(1);
        let materials = Materials {
            ports: memory.ports(),
            queues: vec![WorkerQueues {
                receive,
                transmit,
                pool: memory.pool(),
            }],
            pool: memory.pool(),
            numa_node: None,
            requests: requests_out,
            info: ProcessInfo {
                version: String::new(),
                config_file: "oracle.toml".into(),
                tsc_hz: 1,
            },
            saved: None,
        };
        let director =
            assemble(config.clone(), materials, Ticks::ZERO).map_err(|error| error.to_string())?;
        let mut lab = Self {
            network: memory,
            director,
            config,
            requests,
            now: Ticks::ZERO,
        };
        lab.settle();
        lab.network.take_sent();
        Ok(lab)
    }

    /// Lets the director run until there is nothing to do.
    #[expect(
        clippy::panic,
        reason = "fails the case in which the director is stuck"
    )]
    fn settle(&mut self) {
        let Director {
            management,
            workers,
        } = &mut self.director;
        for _ in 0..TURNS_MAX {
            let mut busy = management.turn(self.now);
            for worker in workers.iter_mut() {
                busy |= worker.turn(self.now);
            }
            if !busy {
                return;
            }
        }
        panic!("the director found something to do {TURNS_MAX} times in a row");
    }

    fn apply_config(&mut self) -> Result<(), String> {
        let services = self.director.management.services();
        self.config.services = services.iter().map(service_config).collect();
        self.director
            .management
            .reconfigure(&self.config, self.now)
            .map_err(|error| error.to_string())?;
        self.settle();
        Ok(())
    }
}

impl Subject for Lab {
    fn send(&mut self, port: u8, frame: &[u8]) -> Result<(), String> {
        if !self.network.send(PortIndex(port), 0, frame) {
            return Err(format!("port {port} did not receive the frame"));
        }
        self.settle();
        Ok(())
    }

    fn take_sent(&mut self) -> Result<Vec<(u8, Vec<u8>)>, String> {
        let sent = self.network.take_sent().into_iter();
        Ok(sent.map(|(port, frame)| (port.0, frame)).collect())
    }

    fn knows_order_of_ports(&self) -> bool {
        true
    }

    fn advance(&mut self, ms: u64) -> Result<(), String> {
        self.now = self.now + ms;
        self.settle();
        Ok(())
    }

    fn seconds_lost(&self) -> u64 {
        0
    }

    fn apply(&mut self, command: &Command) -> Result<Result<(), CommandError>, String> {
        let result = self.director.management.apply(command);
        self.settle();
        Ok(result)
    }

    fn set_tunable(&mut self, name: &str, value: u32) -> Result<(), String> {
        let mut tunables = self.config.director.tunables;
        tunables
            .set(name, value)
            .map_err(|error| error.to_string())?;
        self.config.director.tunables = tunables;
        self.apply(&Command::SetTunables(tunables))?
            .map_err(|error| error.to_string())
    }

    fn timeouts(&self) -> Timeouts {
        self.config.director.timeouts
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), String> {
        self.config.director.timeouts = timeouts;
        self.apply(&Command::SetTimeouts(timeouts))?
            .map_err(|error| error.to_string())
    }

    /// The kernel lets six through to a client and then one in each interval.
    /// Six at once is what the director does with a rate of six in the same
    /// time; the recorded cases do not go on for longer.
    fn limit_icmp(&mut self, interval_ms: u32) -> Result<(), String> {
        self.config.director.icmp_rate_per_s = 6000_u32.checked_div(interval_ms).unwrap_or(0);
        self.apply_config()
    }

    fn reconfigure(&mut self, network: &Network) -> Result<(), String> {
        let Config {
            ports,
            routes,
            neighbors,
            mark_groups,
            ..
        } = config_of(network);
        self.config = Config {
            ports,
            routes,
            neighbors,
            mark_groups,
            ..self.config.clone()
        };
        self.apply_config()
    }

    fn services(&mut self) -> Result<Vec<ServiceStatus>, String> {
        Ok(self.director.management.services())
    }

    fn connections(&mut self) -> Result<Vec<ConnectionStatus>, String> {
        let (reply, answer) = bounded(1);
        let request = Request::Connections {
            limit: CONNECTIONS_MAX,
            service: None,
        };
        self.requests
            .send(ControlRequest::new(request, reply))
            .map_err(|_| "the director takes no requests".to_owned())?;
        self.settle();
        match answer.try_recv() {
            Ok(Response::Connections {
                connections,
                truncated: false,
                ..
            }) => Ok(connections),
            other => Err(format!(
                "asked for the connections, the director answered {other:?}"
            )),
        }
    }

    /// Waits first, so that ARP gives up what waits for it.
    fn finish(&mut self) -> Result<(), String> {
        if self.network.packets_in_use() > 0 {
            wait(self, PATIENCE_MS)?;
        }
        match self.network.packets_in_use() {
            0 => Ok(()),
            leaked => Err(format!("{leaked} packets are still in use")),
        }
    }
}

fn config_of(network: &Network) -> Config {
    let ports = network
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| PortConfig {
            name: format!("vec{index}"),
            device: Device::Vdev(format!("memory{index}")),
            addresses: port.addresses.clone(),
            mtu: port.mtu,
            vlan: None,
            mac: None,
            rx_descriptors: 256,
            tx_descriptors: 256,
        });
    Config {
        director: DirectorConfig {
            worker_cores: vec![0],
            management_core: None,
            idle: None,
            connections_max: CONNECTIONS_MAX,
            templates_max: TEMPLATES_MAX,
            control_socket: "oracle.sock".into(),
            netlink_socket: "ipvs.sock".into(),
            netlink_group: None,
            control_group: None,
            user: None,
            group: None,
            timeouts: Timeouts::default(),
            tunables: Tunables::default(),
            state_file: None,
            icmp_rate_per_s: 0,
        },
        eal: EalConfig {
            hugepages: Hugepages::None,
            memory_mib: 0,
            memory_channels: None,
            file_prefix: "oracle".to_owned(),
            extra_arguments: Vec::new(),
        },
        api: None,
        ports: ports.collect(),
        routes: network.routes.clone(),
        neighbors: network.neighbors.clone(),
        mark_groups: network.mark_groups(),
        services: Vec::new(),
    }
}

fn description(port: &PortConfig, mac: MacAddr, capabilities: PortCapabilities) -> PortDescription {
    PortDescription {
        name: port.name.clone(),
        device: "memory".to_owned(),
        driver: "mem".to_owned(),
        mac,
        // Larger than any port's own, since a port's can be changed.
        mtu: 9702,
        numa_node: None,
        rx_queues: 1,
        tx_queues: 1,
        capabilities,
    }
}

/// The configuration that would make a service as it is.
fn service_config(service: &ServiceStatus) -> ServiceConfig {
    let servers = service.servers.iter().rev();
    ServiceConfig {
        key: service.key,
        options: service.options,
        servers: servers.map(|server| (server.key, server.options)).collect(),
    }
}
