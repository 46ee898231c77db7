//! What the steps of a packet cost, each by itself.
//!
//! `pick/KIND`: a real server of a hundred for a new connection, which then
//! counts for it. `encapsulate/KIND`: the outer headers around a TCP segment of
//! 40 bytes (60 over IPv6). `parse/KIND`: the views of `wire` over a frame's
//! headers with the checks that they make, not the parser of the packet path,
//! which is its own. `Elements` are packets.
//!
//! All of it works on memory that is in the cache: what a table of connections
//! costs is in `connection_table`, what all steps together in `packet_path`.
#![forbid(unsafe_code)]

use std::{
    error::Error,
    fmt::Write,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::channel::bounded;
use pointsman::{
    clock::Ticks,
    config,
    connection::CoarseTime,
    control::ProcessInfo,
    director::{Materials, assemble},
    flow::Endpoints,
    forwarding::{ForwardingState, RealServerIndex, ServiceAddress},
    io::{
        Packet, PacketPool, PortCapabilities, PortDescription,
        mem::{MemDriver, MemNetwork},
    },
    scheduler::{Request, Schedulers},
    service::Protocol,
    tunnel::{Fragmentation, Inner, encapsulate},
    wire::{
        IpProtocol, IpVersion,
        checksum::Sum,
        ethernet::{EtherType, EthernetFields, EthernetHeader, MacAddr},
        ipv4::{Ipv4Fields, Ipv4Header},
        ipv6::{Ipv6Fields, Ipv6Header, upper_layer},
        tcp::{TcpFields, TcpFlags, TcpHeader},
    },
    worker::WorkerQueues,
};

const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);
const DIRECTOR: MacAddr = MacAddr([2, 0, 0, 0, 0xd0, 0]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0xc0, 0]);
const SERVERS: u32 = 100;
const ETHERNET_LEN: usize = 14;

/// What the packet path reads, for these services, and buffers for packets.
fn forwarding(services: &str) -> Result<(Arc<ForwardingState>, MemNetwork), Box<dyn Error>> {
    let mut text = format!(
        "[director]\nworkers = [0]\nconnections_max = 1024\n[eal]\nhugepages = \"none\"\n\
         [[port]]\nname = \"p\"\ndevice = \"net_null0\"\n\
         addresses = [\"10.0.0.1/16\", \"2001:db8:2::1/64\"]\n{services}"
    );
    for rip in ["10.0.1.0", "2001:db8:2::1:0"] {
        write!(
            text,
            "[[neighbor]]\nport = \"p\"\naddress = \"{rip}\"\nmac = \"{ROUTER}\"\n"
        )?;
    }
    let description = PortDescription {
        name: "p".to_owned(),
        device: "memory".to_owned(),
        driver: "mem".to_owned(),
        mac: DIRECTOR,
        mtu: 1500,
        numa_node: None,
        rx_queues: 1,
        tx_queues: 1,
        capabilities: PortCapabilities::default(),
    };
    let network = MemNetwork::new(vec![description], 1, 64);
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
            config_file: "bench".into(),
            tsc_hz: 1,
        },
        saved: None,
    };
    let config = config::parse(&text, "bench")?;
    let mut director = assemble::<MemDriver>(config, materials, Ticks::ZERO)?;
    director.management.turn(Ticks::ZERO);
    Ok((Arc::clone(director.management.state()), network))
}

/// A table of real servers, `tunnel` being lines of each.
fn servers(count: u32, is_v6: bool, tunnel: &str) -> String {
    let server = |number| {
        let rip = if is_v6 {
            format!("2001:db8:2::1:{number:x}")
        } else {
            format!("10.0.1.{number}")
        };
        format!("[[service.real_server]]\naddress = \"{rip}\"\n{tunnel}")
    };
    (0..count).map(server).collect()
}

/// Ends with a message when the bench was put together wrong.
fn ready<T>(made: Result<T, Box<dyn Error>>) -> T {
    made.unwrap_or_else(|error| {
        eprintln!("parts: {error}");
        std::process::exit(1)
    })
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    group.throughput(Throughput::Elements(1));
    for kind in [
        "rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "fo", "ovf", "lblc", "lblcr",
        "twos",
    ] {
        let service = format!("[[service]]\naddress = \"{VIP}:80\"\nscheduler = \"{kind}\"\n");
        let (state, _) = ready(forwarding(&(service + &servers(SERVERS, false, ""))));
        let mut schedulers = Schedulers::default();
        schedulers.adopt(&state);
        let address = ServiceAddress {
            vip: VIP.into(),
            l4_port: 80,
            protocol: Protocol::Tcp,
        };
        let found = state.services.find(&address).ok_or("no service".into());
        let (index, service) = ready(found);
        let mut client = 0_u32;
        let mut picked = 0_u64;
        group.bench_function(kind, |b| {
            b.iter(|| {
                client = client.wrapping_add(0x9e37_79b1);
                let flow = Endpoints {
                    client: SocketAddr::new(Ipv4Addr::from_bits(client).into(), 40_000),
                    service: SocketAddr::new(VIP.into(), 80),
                    protocol: IpProtocol::TCP.0,
                };
                let request = Request {
                    service,
                    loads: &state.loads,
                    flow: &flow,
                    now: CoarseTime::from_steps(1),
                };
                let server = schedulers.pick(index, &request);
                if let Some(server) = server {
                    state.loads.of(server).open(true);
                    picked += 1;
                }
                server
            });
        });
        if picked == 0 {
            ready::<()>(Err(format!("{kind} picks none of {SERVERS} servers").into()));
        }
    }
    group.finish();
}

/// A segment without data, with what stands in front of it.
fn frame(version: IpVersion) -> Vec<u8> {
    let ethernet = EthernetFields {
        destination: DIRECTOR,
        source: ROUTER,
        ether_type: version.ether_type(),
    };
    let (ip, pseudo_header) = match version {
        IpVersion::V4 => {
            let fields = Ipv4Fields {
                tos: 0,
                total_len: 40,
                id: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol: IpProtocol::TCP,
                source: CLIENT,
                destination: VIP,
            };
            let sum = Sum::ipv4_pseudo_header(CLIENT, VIP, IpProtocol::TCP, 20);
            (fields.to_bytes().to_vec(), sum)
        }
        IpVersion::V6 => {
            let fields = Ipv6Fields {
                traffic_class: 0,
                flow_label: 0,
                payload_len: 20,
                next_header: IpProtocol::TCP,
                hop_limit: 64,
                source: CLIENT_V6,
                destination: VIP_V6,
            };
            let sum = Sum::ipv6_pseudo_header(CLIENT_V6, VIP_V6, IpProtocol::TCP, 20);
            (fields.to_bytes().to_vec(), sum)
        }
    };
    let tcp = TcpFields {
        source_port: 40_000,
        destination_port: 80,
        sequence: 1,
        acknowledgment: 1,
        flags: TcpFlags::ACK,
        window: 1000,
    };
    [&ethernet.to_bytes()[..], &ip, &tcp.to_bytes(pseudo_header)].concat()
}

fn encapsulation(c: &mut Criterion) {
    let mut group = c.benchmark_group("encapsulate");
    group.throughput(Throughput::Elements(1));
    let (v4, v6) = (IpVersion::V4, IpVersion::V6);
    for (name, inner, outer, tunnel) in [
        ("ipip", v4, v4, ""),
        ("gre", v4, v4, "tunnel = \"gre\"\n"),
        ("gue", v4, v4, "tunnel = \"gue\"\n"),
        (
            "gue with checksum",
            v4,
            v4,
            "tunnel = \"gue\"\ntunnel_checksum = true\n",
        ),
        ("6in6", v6, v6, ""),
        ("4in6", v4, v6, ""),
    ] {
        let vip: IpAddr = match inner {
            IpVersion::V4 => VIP.into(),
            IpVersion::V6 => VIP_V6.into(),
        };
        let service = format!("[[service]]\naddress = \"{}\"\n", SocketAddr::new(vip, 80));
        let service = service + &servers(1, outer == v6, tunnel);
        let (state, network) = ready(forwarding(&service));
        let server = ready(state.server(RealServerIndex(0)).ok_or("no server".into()));
        let frame = frame(inner);
        let mut pool = network.pool();
        let mut packet = ready(pool.allocate().ok_or("no packet".into()));
        if let Some(room) = packet.extend(frame.len()) {
            room.copy_from_slice(&frame);
        }
        let fragmentation = Fragmentation {
            identification: 0,
            dont_fragment: true,
        };
        let l3_offset = 14;
        let inner = ready(Inner::of(&frame, l3_offset).ok_or("no packet in the frame".into()));
        let mut encapsulated = 0_u64;
        group.bench_function(name, |b| {
            b.iter(|| {
                let done = encapsulate(&mut packet, black_box(inner), server, fragmentation);
                encapsulated += u64::from(done.is_ok());
                black_box(packet.bytes());
                // The inner packet is as it was; in front of it, room for the
                // next time.
                let more = packet.bytes().len() - frame.len();
                packet.trim_front(more);
            });
        });
        let is_whole = packet.bytes().get(ETHERNET_LEN..) == frame.get(ETHERNET_LEN..);
        if encapsulated == 0 || !is_whole {
            ready::<()>(Err(format!("{name} is not what was meant").into()));
        }
    }
    group.finish();
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    let ipv4 = frame(IpVersion::V4);
    group.bench_function("ipv4 tcp", |b| {
        b.iter(|| parse_v4(black_box(&ipv4)));
    });
    let ipv6 = frame(IpVersion::V6);
    group.bench_function("ipv6 tcp", |b| {
        b.iter(|| parse_v6(black_box(&ipv6)));
    });
    let ports = Some((40_000, 80));
    if parse_v4(&ipv4) != ports || parse_v6(&ipv6) != ports {
        ready::<()>(Err("the frames are not what was meant".into()));
    }
    group.finish();
}

/// Ports of a TCP segment over IPv4, the header checksum being right.
fn parse_v4(frame: &[u8]) -> Option<(u16, u16)> {
    let (ethernet, packet) = EthernetHeader::parse(frame).ok()?;
    if ethernet.ether_type() != EtherType::IPV4 {
        return None;
    }
    let (header, segment) = Ipv4Header::validate(packet).ok()?;
    if header.protocol() != IpProtocol::TCP {
        return None;
    }
    let (tcp, _) = TcpHeader::parse(segment).ok()?;
    Some((tcp.source_port(), tcp.destination_port()))
}

/// The same over IPv6.
fn parse_v6(frame: &[u8]) -> Option<(u16, u16)> {
    let (ethernet, packet) = EthernetHeader::parse(frame).ok()?;
    if ethernet.ether_type() != EtherType::IPV6 {
        return None;
    }
    let (header, payload) = Ipv6Header::parse(packet).ok()?;
    let upper = upper_layer(header.next_header(), payload).ok()?;
    if upper.protocol != IpProtocol::TCP {
        return None;
    }
    let (tcp, _) = TcpHeader::parse(payload.get(upper.offset..)?).ok()?;
    Some((tcp.source_port(), tcp.destination_port()))
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = pick, encapsulation, parse
}
criterion_main!(benches);
