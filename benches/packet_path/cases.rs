//! The cases: what comes, and to what kind of director.

use std::fmt::Write;

use pointsman::config::{self, Config};

use crate::{
    Failure,
    measure::Length,
    traffic::{Kind, Order, SERVER},
};

/// One line of the result.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) order: Order,
    pub(crate) frame_len: usize,
    pub(crate) services: u32,
    pub(crate) workers: usize,
    /// Whether they have one receive and one transmit queue, in place of one of
    /// each for each of them.
    pub(crate) is_shared: bool,
    pub(crate) connections_max: u64,
    /// Lines of each real server.
    pub(crate) tunnel: &'static str,
    /// A capture that runs meanwhile: its filter, and packets a second.
    pub(crate) capture: Option<(&'static str, u32)>,
    /// Bursts that come in a virtual millisecond, each worker's own.
    pub(crate) bursts_per_ms: f64,
    pub(crate) bursts: usize,
}

/// Packets a second when nothing else is said: what a worker can do at best.
const BURSTS_PER_MS: f64 = 300.0;
const M: u64 = 1_000_000;
const K64: u64 = 65_536;

/// All of them, or those of a quick look.
pub(crate) fn cases(length: Length) -> Vec<Case> {
    let mut cases = established();
    cases.extend(opening());
    cases.extend(other_shapes());
    cases.extend(captured());
    if length != Length::Full {
        let quick = [
            "tcp 1k flows",
            "tcp 64k flows",
            "tcp 1M flows",
            "new flow, 1M live, expiry",
            "syn flood, full table",
            "not for a service",
            "ipv6 1k flows",
            "gue 1k flows",
        ];
        cases.retain(|case| quick.contains(&case.name));
    }
    cases
}

fn case(name: &'static str, kind: Kind, order: Order) -> Case {
    Case {
        name,
        kind,
        order,
        frame_len: 60,
        services: 1,
        workers: 1,
        is_shared: false,
        connections_max: 100_000,
        tunnel: "",
        capture: None,
        bursts_per_ms: BURSTS_PER_MS,
        bursts: 200_000,
    }
}

/// Packets of so many flows that are all there.
fn flows(name: &'static str, kind: Kind, flows: u64) -> Case {
    Case {
        connections_max: (flows * 5 / 4).max(100_000),
        bursts: if flows > K64 { 100_000 } else { 200_000 },
        ..case(name, kind, Order::Random(flows))
    }
}

fn established() -> Vec<Case> {
    vec![
        flows("tcp 1 flow", Kind::TcpAck, 1),
        flows("tcp 1k flows", Kind::TcpAck, 1000),
        flows("tcp 64k flows", Kind::TcpAck, K64),
        flows("tcp 1M flows", Kind::TcpAck, M),
        flows("tcp 10M flows", Kind::TcpAck, 10 * M),
        flows("udp 1k flows", Kind::Udp, 1000),
        flows("udp 1M flows", Kind::Udp, M),
    ]
}

fn opening() -> Vec<Case> {
    let new = |name| case(name, Kind::TcpSyn, Order::New);
    vec![
        // 60 seconds of SYN_RECV at so many packets a millisecond.
        Case {
            connections_max: 2 * M,
            bursts_per_ms: M as f64 / 60_000.0 / 32.0,
            bursts: 100_000,
            ..new("new flow, 1M live, expiry")
        },
        Case {
            connections_max: 8 * M,
            bursts: 60_000,
            ..new("new flow, no expiry")
        },
        Case {
            connections_max: M,
            bursts: 60_000,
            ..new("syn flood, full table")
        },
        Case {
            connections_max: M,
            bursts: 120_000,
            ..case(
                "64k flows in a syn flood of 10 times their rate",
                Kind::TcpAck,
                Order::Flooded(K64),
            )
        },
        Case {
            services: 65_536,
            connections_max: 8 * M,
            bursts: 40_000,
            ..new("64k services, new flow, no expiry")
        },
    ]
}

fn captured() -> Vec<Case> {
    let captured = |name, filter, rate_per_s| Case {
        capture: Some((filter, rate_per_s)),
        ..flows(name, Kind::TcpAck, 1000)
    };
    vec![
        captured(
            "1k flows, a capture of another VIP",
            r#"{"vip":"192.0.2.77/32"}"#,
            10_000,
        ),
        // All of them go alone and are noted, since the reason is known in the
        // end only.
        Case {
            bursts_per_ms: 31.0,
            ..captured(
                "1k flows, all traced for a drop reason",
                r#"{"reasons":["not_local"]}"#,
                1_000_000,
            )
        },
        captured("1k flows, a capture beyond its rate", "{}", 16),
    ]
}

fn other_shapes() -> Vec<Case> {
    vec![
        flows("not for a service", Kind::Stray, 1000),
        Case {
            services: 1000,
            ..flows("1k services, 64k flows", Kind::TcpAck, K64)
        },
        Case {
            services: 65_536,
            ..flows("64k services, 64k flows", Kind::TcpAck, K64)
        },
        Case {
            frame_len: 512,
            ..flows("512 byte packets", Kind::TcpAck, 1000)
        },
        Case {
            frame_len: 1514,
            ..flows("1514 byte packets", Kind::TcpAck, 1000)
        },
        Case {
            frame_len: 78,
            ..flows("ipv6 1k flows", Kind::TcpAckV6, 1000)
        },
        // A quarter of the connections may be of IPv6.
        Case {
            frame_len: 78,
            connections_max: 5 * M,
            ..flows("ipv6 1M flows", Kind::TcpAckV6, M)
        },
        Case {
            tunnel: "tunnel = \"gue\"\n",
            ..flows("gue 1k flows", Kind::TcpAck, 1000)
        },
        Case {
            tunnel: "tunnel = \"gue\"\ntunnel_checksum = true\n",
            ..flows("gue with checksum 1k flows", Kind::TcpAck, 1000)
        },
        Case {
            tunnel: "tunnel = \"gre\"\n",
            ..flows("gre 1k flows", Kind::TcpAck, 1000)
        },
        Case {
            workers: 2,
            ..flows("2 workers, 64k flows each", Kind::TcpAck, K64)
        },
        Case {
            workers: 2,
            is_shared: true,
            ..flows(
                "2 workers, one queue, spread in software, 64k flows",
                Kind::TcpAck,
                K64,
            )
        },
        Case {
            workers: 2,
            is_shared: true,
            connections_max: 2 * M,
            bursts_per_ms: M as f64 / 60_000.0 / 32.0,
            bursts: 100_000,
            ..case(
                "2 workers, one queue, spread in software, new flow",
                Kind::TcpSyn,
                Order::New,
            )
        },
    ]
}

/// As much as the EAL needs.
pub(crate) fn bare_configuration() -> Result<Config, Failure> {
    Ok(config::parse(HEAD, "bench")?)
}

const HEAD: &str = "[director]\nworkers = [1]\n[eal]\nhugepages = \"auto\"\nmemory_mib = 128\n\
    [[port]]\nname = \"p\"\ndevice = \"net_null0\"\nmtu = 1520\n\
    addresses = [\"10.0.0.1/16\", \"2001:db8:2::1/64\"]\n";

/// Real servers of a service; one each where there are many services.
const SERVERS: u32 = 100;

impl Case {
    /// How many flows are there from the start.
    pub(crate) const fn flows(&self) -> u64 {
        match self.order {
            Order::Random(flows) | Order::InTurn(flows) | Order::Flooded(flows) => flows,
            Order::New => 0,
        }
    }

    /// The director for it.
    pub(crate) fn configuration(&self) -> Result<Config, Failure> {
        let cores: Vec<String> = (0..self.workers).map(|n| (1 - n).to_string()).collect();
        let cores = cores.join(", ");
        let mut text = format!(
            "[director]\nworkers = [{cores}]\nconnections_max = {}\n[director.ipvs]\nsloppy_tcp = true\n",
            self.connections_max
        );
        text += HEAD
            .split_once("workers = [1]\n")
            .map_or("", |(_, rest)| rest);
        let is_v6 = self.kind == Kind::TcpAckV6;
        for service in 0..self.services {
            let [.., a, b] = service.to_be_bytes();
            let address = if is_v6 {
                format!("[2001:db8:ff::{service:x}]:80")
            } else {
                format!("198.51.{a}.{b}:80")
            };
            let protocol = if self.kind == Kind::Udp { "udp" } else { "tcp" };
            write!(
                text,
                "[[service]]\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nscheduler = \"wrr\"\n"
            )?;
            let servers = if self.services > 1 {
                service % SERVERS..service % SERVERS + 1
            } else {
                0..SERVERS
            };
            for server in servers {
                let address = rip(is_v6, server);
                write!(
                    text,
                    "[[service.real_server]]\naddress = \"{address}\"\n{}",
                    self.tunnel
                )?;
            }
        }
        for server in 0..SERVERS {
            let address = rip(is_v6, server);
            write!(
                text,
                "[[neighbor]]\nport = \"p\"\naddress = \"{address}\"\nmac = \"{SERVER}\"\n"
            )?;
        }
        Ok(config::parse(&text, "bench")?)
    }
}

fn rip(is_v6: bool, server: u32) -> String {
    if is_v6 {
        format!("2001:db8:2::1:{server:x}")
    } else {
        format!("10.0.1.{server}")
    }
}
