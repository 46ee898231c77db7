//! pktgen on one side, a director on the other, and a test that carries frames
//! between their ports.

use std::{cell::Cell, fmt::Write as _, net::SocketAddr, time::Duration};

use crossbeam::channel::bounded;
use pointsman::{
    clock::Ticks,
    config,
    control::ProcessInfo,
    director::{Director, Materials, assemble},
    io::{
        PortCapabilities, PortDescription,
        mem::{MemDriver, MemNetwork},
    },
    pktgen::{
        Options, Pktgen, PktgenPort, Plan, Report,
        engine::{Links, Turn},
        plan::{ExpectedDf, GUE_PORT_DEFAULT, TcpTraffic},
        size::SizeMix,
    },
    wire::ethernet::MacAddr,
    worker::WorkerQueues,
};

/// A virtual service of the director.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) address: &'static str,
    pub(crate) protocol: &'static str,
    /// Lines of its table.
    pub(crate) options: &'static str,
    pub(crate) servers: &'static [&'static str],
    /// Lines of the tables of its real servers.
    pub(crate) tunnel: &'static str,
}

impl Service {
    fn to_toml(self) -> String {
        let Self {
            address,
            protocol,
            options,
            ..
        } = self;
        let mut text =
            format!("[[service]]\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n{options}");
        for server in self.servers {
            let tunnel = self.tunnel;
            write!(
                text,
                "[[service.real_server]]\naddress = \"{server}\"\n{tunnel}"
            )
            .unwrap();
        }
        text
    }
}

/// 3000 packets of 200 flows to these services.
pub(crate) fn options(services: &[Service]) -> Options {
    Options {
        services: services
            .iter()
            .map(|service| {
                format!("{}/{}", service.address, service.protocol)
                    .parse()
                    .unwrap()
            })
            .collect(),
        servers: vec![
            "10.0.0.11-10.0.0.13".parse().unwrap(),
            "2001:db8:2::11-2001:db8:2::12".parse().unwrap(),
        ],
        clients_v4: "198.18.0.0/15".parse().unwrap(),
        clients_v6: "2001:2::/104".parse().unwrap(),
        flows: 200,
        tcp: TcpTraffic::Established,
        packets_per_flow: None,
        sizes: SizeMix::fixed(60),
        fragmentation: None,
        dont_fragment: true,
        ttl: 64,
        tos: 0,
        vlan: None,
        seed: 1,
        rate: None,
        new_flows: 0,
        syn_flood: 0,
        window: Some(256),
        count: Some(3_000),
        duration: Duration::from_secs(60),
        warm_up: Duration::from_millis(1),
        drain: Duration::from_millis(100),
        tunnel: None,
        gue_l4_port: GUE_PORT_DEFAULT,
        outer_sources: None,
        outer_df: ExpectedDf::Copied,
        reflected: false,
        loss_max_percent: 0.0,
        may_move: Vec::new(),
        may_lose: Vec::new(),
        per_flow: false,
        server_macs: Vec::new(),
    }
}

/// A director and pktgen.
pub(crate) struct Lab {
    /// Ports of the director.
    network: MemNetwork,
    director: Director<MemDriver>,
    /// Ports of pktgen.
    outside: MemNetwork,
    pktgen: Pktgen<MemDriver>,
    /// Cycles; a second has ten million of them.
    now: Cell<u64>,
}

const CYCLES_PER_SECOND: u64 = 10_000_000;
/// What a turn takes, in cycles.
const TURN: u64 = 1_000;

impl Lab {
    pub(crate) fn new(services: &[Service], settings: &str, options: Options) -> Self {
        Self::with(services, settings, ("", 2), options)
    }

    pub(crate) fn tagged(services: &[Service], vlan: u16, options: Options) -> Self {
        Self::with(services, "", (&format!("vlan = {vlan}\n"), 2), options)
    }

    pub(crate) fn one_armed(services: &[Service], options: Options) -> Self {
        Self::with(services, "", ("", 1), options)
    }

    /// `settings` are lines of `[director]`, `port` those of each port.
    fn with(
        services: &[Service],
        settings: &str,
        (port, ports): (&str, usize),
        options: Options,
    ) -> Self {
        let mut text = String::from("[director]\nworkers = [0]\n");
        if !settings.contains("connections_max") {
            text += "connections_max = 8192\n";
        }
        text += settings;
        text += "[eal]\nhugepages = \"none\"\n";
        let (clients, servers) = (
            "\"192.0.2.10/24\", \"2001:db8:1::10/64\"",
            "\"10.0.0.1/24\", \"2001:db8:2::1/64\"",
        );
        let addresses = match ports {
            1 => vec![format!("{clients}, {servers}")],
            _ => vec![clients.to_owned(), servers.to_owned()],
        };
        for (number, addresses) in addresses.iter().enumerate() {
            let mtu = if options.sizes.lens().contains(&1500) {
                1600
            } else {
                1500
            };
            write!(
                text,
                "[[port]]\nname = \"p{number}\"\ndevice = \"net_null{number}\"\n\
                 addresses = [{addresses}]\nmtu = {mtu}\n{port}"
            )
            .unwrap();
        }
        for (to, via) in [("default", "192.0.2.1"), ("::/0", "2001:db8:1::1")] {
            write!(text, "[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n").unwrap();
        }
        for service in services {
            text += &service.to_toml();
        }
        let config = config::parse(&text, "lab.toml").unwrap_or_else(|error| panic!("{error}"));

        let network = network(ports, 0xd0);
        let (receive, transmit) = network.queues(0);
        let (_, requests) = bounded(1);
        let materials = Materials {
            ports: network.ports(),
            queues: vec![WorkerQueues {
                receive,
                transmit,
                pool: network.pool(),
            }],
            pool: network.pool(),
            numa_node: None,
            requests,
            info: ProcessInfo {
                version: String::new(),
                config_file: "lab.toml".into(),
                tsc_hz: 1,
            },
            saved: None,
        };
        let director = assemble(config, materials, Ticks::ZERO).unwrap();

        let outside = network_of_pktgen(ports);
        let (receive, transmit) = outside.queues(0);
        let queues = receive.into_iter().zip(transmit);
        let ports = (0..)
            .zip(queues)
            .map(|(number, (receive, transmit))| PktgenPort {
                mac: mac(0xaa, number),
                receive: receive.into_iter().collect(),
                transmit: transmit.into_iter().collect(),
            })
            .collect();
        let is_v6 = services.iter().any(|service| {
            let address: SocketAddr = service.address.parse().unwrap();
            address.is_ipv6()
        });
        let director_address = if is_v6 {
            "2001:db8:1::10"
        } else {
            "192.0.2.10"
        };
        let links = Links {
            director_mac: None,
            director: Some(director_address.parse().unwrap()),
            locals: ["192.0.2.1", "2001:db8:1::1"]
                .map(|local| local.parse().unwrap())
                .into(),
        };
        let plan = Plan::new(options).unwrap();
        let pktgen = Pktgen::new(plan, links, ports, outside.pool(), CYCLES_PER_SECOND).unwrap();
        Self {
            network,
            director,
            outside,
            pktgen,
            now: Cell::new(0),
        }
    }

    /// Runs to the end. What the director sends becomes what `change` makes of
    /// it.
    pub(crate) fn run(mut self, mut change: impl FnMut(Vec<u8>) -> Vec<Vec<u8>>) -> Report {
        for _ in 0..1_000_000 {
            self.now.set(self.now.get() + TURN);
            if self.pktgen.turn(&|| self.now.get()) == Turn::Finished {
                return Report::of(&self.pktgen);
            }
            for (port, frame) in self.outside.take_sent() {
                assert!(self.network.send(port, 0, &frame));
            }
            self.settle();
            for (port, frame) in self.network.take_sent() {
                let is_tunnelled = is_tunnelled(&frame);
                let frames = if is_tunnelled {
                    change(frame)
                } else {
                    vec![frame]
                };
                for frame in frames {
                    assert!(self.outside.send(port, 0, &frame));
                }
            }
        }
        panic!("the run does not end: {}", Report::of(&self.pktgen));
    }

    /// Lets the director do what there is to do.
    fn settle(&mut self) {
        let now = Ticks::from_ms(self.now.get() / (CYCLES_PER_SECOND / 1000));
        for _ in 0..10_000 {
            let mut busy = self.director.management.turn(now);
            for worker in &mut self.director.workers {
                busy |= worker.turn(now);
            }
            if !busy {
                return;
            }
        }
        panic!("the director found something to do 10,000 times in a row");
    }
}

/// Whether a frame of the director goes to a real server by a tunnel.
fn is_tunnelled(frame: &[u8]) -> bool {
    match frame.get(12..).unwrap_or_default() {
        [0x08, 0x00, rest @ ..] => rest
            .get(9)
            .is_some_and(|protocol| ![1, 6].contains(protocol)),
        [0x86, 0xdd, rest @ ..] => rest
            .get(6)
            .is_some_and(|protocol| ![0, 58].contains(protocol)),
        _ => false,
    }
}

fn mac(side: u8, number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, side, number])
}

fn network_of_pktgen(ports: usize) -> MemNetwork {
    network(ports, 0xaa)
}

fn network(ports: usize, side: u8) -> MemNetwork {
    let describe = |number| PortDescription {
        name: String::new(),
        device: "memory".to_owned(),
        driver: "mem".to_owned(),
        mac: mac(side, number),
        mtu: 9702,
        numa_node: None,
        rx_queues: 1,
        tx_queues: 1,
        capabilities: PortCapabilities::default(),
    };
    let descriptions = (0..).map(describe).take(ports).collect();
    MemNetwork::new(descriptions, 1, 2_000)
}
