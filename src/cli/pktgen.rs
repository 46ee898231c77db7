//! `pointsman pktgen`: sends traffic to a director and checks what comes back.
#![forbid(unsafe_code)]

use std::{net::IpAddr, num::ParseIntError, time::Duration};

use clap::{Args, ValueEnum, error::ErrorKind};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    config::Device,
    pktgen::{
        Options, Plan, Tunnel,
        address::AddressRange,
        plan::{ExpectedDf, Fragmentation, GUE_PORT_DEFAULT, TcpTraffic},
        service::ServiceRange,
        size::SizeMix,
    },
    wire::ethernet::MacAddr,
};

/// Traffic, ports and expectations.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct PktgenArguments {
    /// A port: PCI address or virtual device, as `device` of a configuration. Given twice, the
    /// first is the clients' and the second the real servers'
    #[arg(long = "port", value_name = "DEVICE", required = true, num_args = 1)]
    devices: Vec<Device>,
    /// A virtual service to send to: VIP:PORT, with a network or range as VIP and a range as PORT if
    /// wanted, [VIP]:PORT for IPv6, and /udp at its end for UDP; repeat for more
    #[arg(long = "service", value_name = "SERVICE", required = true)]
    services: Vec<ServiceRange>,
    /// Real servers to stand for: an address, a network or FIRST-LAST; repeat for more
    #[arg(
        long = "server",
        value_name = "RIP",
        required_unless_present = "reflected"
    )]
    servers: Vec<AddressRange>,
    /// Address of the director on the clients' side; its MAC address is asked for
    #[arg(long, value_name = "ADDRESS", required_unless_present = "director_mac")]
    director: Option<IpAddr>,
    /// MAC address of the director on the clients' side, in place of --director
    #[arg(long, value_name = "MAC", conflicts_with = "director")]
    director_mac: Option<MacAddr>,
    /// Address of pktgen itself, as the clients' router: ARP for it is answered, and the director is
    /// asked for from it; repeat for more
    #[arg(long = "local", value_name = "ADDRESS")]
    locals: Vec<IpAddr>,
    #[command(flatten)]
    traffic: TrafficArguments,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    expectation: ExpectationArguments,
    #[command(flatten)]
    machine: MachineArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Traffic")]
struct TrafficArguments {
    /// Flows at a time, up to 100M; each takes 16 bytes
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_flows)]
    flows: u32,
    /// What TCP flows consist of
    #[arg(long, value_name = "KIND", value_enum, default_value_t = TcpKind::Established)]
    tcp: TcpKind,
    /// Segments with data between ACK and FIN, with --tcp connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    data_segments: u32,
    /// Let a flow give way to a new one after so many packets [default: it lasts]
    #[arg(long, value_name = "N")]
    packets_per_flow: Option<u32>,
    /// Length of frames without FCS: a number from 60 to 9230, `imix` (7:4:1 of 60, 576 and 1500),
    /// or LENGTH:SHARE,...; SYN, FIN and ACK without data are of 60 bytes
    #[arg(long = "size", value_name = "BYTES", default_value = "60")]
    sizes: SizeMix,
    /// Networks of the clients, one of IPv4 and one of IPv6
    #[arg(long, value_name = "NETWORK", default_values = ["198.18.0.0/15", "2001:2::/104"])]
    clients: Vec<IpNet>,
    /// Send so many percent of the UDP datagrams in fragments
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    fragments: u8,
    /// In how many fragments, 2 to 8
    #[arg(long, value_name = "N", default_value_t = 2)]
    fragment_parts: u8,
    /// Send the last fragment first
    #[arg(long)]
    fragments_reversed: bool,
    /// Send IPv4 without DF
    #[arg(long)]
    no_df: bool,
    /// TTL or hop limit
    #[arg(long, value_name = "N", default_value_t = 64)]
    ttl: u8,
    /// DSCP and ECN, the second byte of an IPv4 header
    #[arg(long, value_name = "N", default_value_t = 0)]
    tos: u8,
    /// Tag frames for this VLAN
    #[arg(long, value_name = "VID")]
    vlan: Option<u16>,
    /// What the random order of flows begins from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Rate and length of the run")]
struct RunArguments {
    /// Packets a second, like 500k or 2M [default: as many as come back]
    #[arg(long, value_name = "PPS", value_parser = parse_number)]
    rate: Option<u64>,
    /// Flows a second that give way to new ones
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_number)]
    new_flows: u64,
    /// SYNs a second of ever new clients, beside all other traffic
    #[arg(long, value_name = "PPS", default_value = "0", value_parser = parse_number)]
    syn_flood: u64,
    /// Packets that may be on their way; 0 for any number [default: 512 without --rate, 0 with it]
    #[arg(long, value_name = "N")]
    window: Option<u32>,
    /// Stop after so many packets
    #[arg(long, value_name = "N", value_parser = parse_number)]
    count: Option<u64>,
    /// Stop after so many seconds [default: 10, or 3600 with --count]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Seconds of traffic before anything counts
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    warm_up: Duration,
    /// Seconds to wait at most for packets that are still on their way at the end
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    drain: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is right")]
struct ExpectationArguments {
    /// The tunnel that there must be [default: any, but the same for a real server]
    #[arg(long, value_name = "KIND", value_enum)]
    tunnel: Option<TunnelName>,
    /// UDP port of real servers behind GUE
    #[arg(long, value_name = "PORT", default_value_t = GUE_PORT_DEFAULT)]
    gue_port: u16,
    /// Where outer source addresses must be from [default: one address for each real server]
    #[arg(long, value_name = "NETWORK")]
    outer_source: Option<IpNet>,
    /// The outer DF flag: `copied` from the inner one, or `clear` (`pmtu_disc` 0)
    #[arg(long, value_name = "FLAG", value_enum, default_value_t = DfName::Copied)]
    outer_df: DfName,
    /// Expect frames as they were sent, with their MAC addresses swapped, as `dpdk-testpmd
    /// --forward-mode=macswap` sends them by the port that they came in by; with --director-mac
    #[arg(long, requires = "director_mac", conflicts_with_all = ["servers", "tunnel", "outer_source"])]
    reflected: bool,
    /// Real servers whose flows may go on with another one, since they are taken away during the
    /// run; repeat for more
    #[arg(long, value_name = "RIP")]
    may_move: Vec<AddressRange>,
    /// Real servers whose flows may lose packets: these do not count for --loss-max; repeat for more
    #[arg(long, value_name = "RIP")]
    may_lose: Vec<AddressRange>,
    /// Count packets by flow, and name the flows that lose some; 12 bytes more for each
    #[arg(long)]
    per_flow: bool,
    /// MAC address that frames to real servers may have beside that of the port: of a router, or one
    /// that changes during the run; repeat for more
    #[arg(long = "server-mac", value_name = "MAC")]
    server_macs: Vec<MacAddr>,
    /// Percent of the packets that may be lost [default: 0, or 100 with neither --rate nor a window]
    #[arg(long, value_name = "PERCENT")]
    loss_max: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
struct MachineArguments {
    /// Receive and transmit queues of each port; a flow stays in its transmit queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    queues: u16,
    /// Descriptors of each queue
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(64..=16384))]
    descriptors: u16,
    /// Largest IP packet of the ports [default: what --size and --tunnel need, at least 1500]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(68..=9702))]
    mtu: Option<u16>,
    /// Core to send and receive on [default: any]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Hugepages for packets: `auto`, `required` or `none`
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t = HugepagesName::Auto)]
    hugepages: HugepagesName,
    /// Memory that DPDK takes, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory_mib: u32,
    /// Keeps programs with DPDK on one host apart
    #[arg(long, value_name = "NAME", default_value = "pointsman-pktgen")]
    file_prefix: String,
    /// Handed to DPDK as it is; repeat for more
    #[arg(long = "eal", value_name = "ARGUMENT", allow_hyphen_values = true)]
    eal_arguments: Vec<String>,
    /// Seconds that ports may take until they have a link
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    link_wait: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TcpKind {
    /// A SYN, then data for good
    Established,
    /// SYN, ACK, data, FIN, and a new flow
    Connections,
    /// Data without a SYN before, for a director with `sloppy_tcp`
    Ack,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TunnelName {
    Ipip,
    Gre,
    GreCsum,
    Gue,
    GueCsum,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DfName {
    Copied,
    Clear,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HugepagesName {
    Auto,
    Required,
    None,
}

const AFTER_HELP: &str = "Numbers may end in k, M or G. Exits with 0 when every packet that came \
                          back was right and no more were lost than --loss-max allows, with 1 \
                          otherwise. Examples are in docs/pktgen.md.";

impl PktgenArguments {
    /// What to send and to expect.
    ///
    /// # Errors
    /// When the arguments do not go together.
    pub(super) fn plan(&self) -> Result<Plan, clap::Error> {
        if self.devices.len() > 2 {
            let message = format!("there can be one --port or two, not {}", self.devices.len());
            return Err(wrong(message));
        }
        if self.expectation.reflected && self.devices.len() > 1 {
            let message = "frames that are --reflected come back by the one --port";
            return Err(wrong(message.to_owned()));
        }
        let (clients_v4, clients_v6) = self.traffic.clients()?;
        let (traffic, run, right) = (&self.traffic, &self.run, &self.expectation);
        let window = match (run.window, run.rate) {
            (Some(0), _) | (None, Some(_)) => None,
            (Some(window), _) => Some(window),
            (None, None) => Some(WINDOW_DEFAULT),
        };
        let is_open = window.is_none() && run.rate.is_none();
        let options = Options {
            services: self.services.clone(),
            servers: self.servers.clone(),
            clients_v4,
            clients_v6,
            flows: traffic.flows,
            tcp: match traffic.tcp {
                TcpKind::Established => TcpTraffic::Established,
                TcpKind::Ack => TcpTraffic::Ack,
                TcpKind::Connections => TcpTraffic::Connections {
                    data_segments: traffic.data_segments,
                },
            },
            packets_per_flow: traffic.packets_per_flow,
            sizes: traffic.sizes.clone(),
            fragmentation: (traffic.fragments > 0).then_some(Fragmentation {
                percent: traffic.fragments,
                parts: traffic.fragment_parts,
                reversed: traffic.fragments_reversed,
            }),
            dont_fragment: !traffic.no_df,
            ttl: traffic.ttl,
            tos: traffic.tos,
            vlan: traffic.vlan,
            seed: traffic.seed,
            rate: run.rate,
            new_flows: run.new_flows,
            syn_flood: run.syn_flood,
            window,
            count: run.count,
            duration: run.duration.unwrap_or(match run.count {
                None => DURATION_DEFAULT,
                Some(_) => DURATION_WITH_COUNT,
            }),
            warm_up: run.warm_up,
            drain: run.drain,
            tunnel: right.tunnel.map(TunnelName::tunnel),
            gue_l4_port: right.gue_port,
            outer_sources: right.outer_source,
            outer_df: match right.outer_df {
                DfName::Copied => ExpectedDf::Copied,
                DfName::Clear => ExpectedDf::Clear,
            },
            reflected: right.reflected,
            may_move: right.may_move.clone(),
            may_lose: right.may_lose.clone(),
            per_flow: right.per_flow,
            server_macs: right.server_macs.clone(),
            loss_max_percent: right.loss_max.unwrap_or(if is_open { 100.0 } else { 0.0 }),
        };
        Plan::new(options).map_err(|error| wrong(error.to_string()))
    }

    /// Whether the report shall be JSON.
    #[cfg(feature = "dpdk")]
    pub(super) const fn wants_json(&self) -> bool {
        self.json
    }

    /// Ports and surroundings.
    #[cfg(feature = "dpdk")]
    pub(super) fn setup(&self) -> crate::pktgen::run::Setup {
        use crate::{
            config::{EalConfig, Hugepages},
            pktgen::{engine::Links, run::Setup},
        };
        let machine = &self.machine;
        Setup {
            devices: self.devices.clone(),
            queues: machine.queues,
            descriptors: machine.descriptors,
            mtu: machine.mtu.unwrap_or_else(|| self.mtu_needed()),
            eal: EalConfig {
                hugepages: match machine.hugepages {
                    HugepagesName::Auto => Hugepages::Auto,
                    HugepagesName::Required => Hugepages::Required,
                    HugepagesName::None => Hugepages::None,
                },
                memory_mib: machine.memory_mib,
                memory_channels: None,
                file_prefix: machine.file_prefix.clone(),
                extra_arguments: machine.eal_arguments.clone(),
            },
            core: machine.core,
            link_wait: machine.link_wait,
            links: Links {
                director_mac: self.director_mac,
                director: self.director,
                locals: self.locals.clone(),
            },
        }
    }

    /// Room for the longest frame and what the tunnel puts around it.
    #[cfg(feature = "dpdk")]
    fn mtu_needed(&self) -> u16 {
        const ETHERNET_LEN: u16 = 14;
        let lens = self.traffic.sizes.lens().iter();
        let longest = lens.max().copied().unwrap_or(0);
        let outer_lens = self
            .servers
            .iter()
            .map(|range| range.version().header_len());
        let outer_len = outer_lens.max().unwrap_or(0);
        let tunnel_len = self.expectation.tunnel.map_or(0, TunnelName::header_len);
        (longest.saturating_sub(ETHERNET_LEN) + outer_len + tunnel_len).max(1500)
    }
}

impl TrafficArguments {
    fn clients(&self) -> Result<(Ipv4Net, Ipv6Net), clap::Error> {
        let (mut v4, mut v6) = (None, None);
        for network in &self.clients {
            let is_second = match network {
                IpNet::V4(network) => v4.replace(network.trunc()).is_some(),
                IpNet::V6(network) => v6.replace(network.trunc()).is_some(),
            };
            if is_second {
                return Err(wrong(format!(
                    "--clients {network} is a second network of its IP version; give one of each"
                )));
            }
        }
        Ok((
            v4.unwrap_or(Ipv4Net::new_assert([198, 18, 0, 0].into(), 15)),
            v6.unwrap_or(Ipv6Net::new_assert(
                [0x2001, 2, 0, 0, 0, 0, 0, 0].into(),
                104,
            )),
        ))
    }
}

impl TunnelName {
    /// Bytes between outer and inner header.
    #[cfg(feature = "dpdk")]
    const fn header_len(self) -> u16 {
        match self {
            Self::Ipip => 0,
            Self::Gre => 4,
            Self::GreCsum => 8,
            Self::Gue | Self::GueCsum => 8 + 4,
        }
    }

    const fn tunnel(self) -> Tunnel {
        match self {
            Self::Ipip => Tunnel::Ipip,
            Self::Gre => Tunnel::Gre,
            Self::GreCsum => Tunnel::GreChecksum,
            Self::Gue => Tunnel::Gue,
            Self::GueCsum => Tunnel::GueChecksum,
        }
    }
}

fn wrong(message: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, message + "\n")
}

/// A whole number, perhaps in thousands, millions or more.
fn parse_number(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 1_000),
        Some((at, 'M')) => (text.get(..at), 1_000_000),
        Some((at, 'G')) => (text.get(..at), 1_000_000_000),
        _ => (Some(text), 1),
    };
    let number: Result<u64, ParseIntError> = digits.unwrap_or_default().parse();
    number
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "write a whole number, like 1000, 500k or 2M".to_owned())
}

fn parse_flows(text: &str) -> Result<u32, String> {
    let flows = parse_number(text)?;
    u32::try_from(flows).map_err(|_| "there can be up to 100M flows".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("write seconds, like 10 or 0.5, up to {SECONDS_MAX}"))
}

/// Packets on their way when nothing else limits the rate: enough for any
/// director to find work, and few enough for its queues.
const WINDOW_DEFAULT: u32 = 512;
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
const DURATION_WITH_COUNT: Duration = Duration::from_secs(3600);
/// A week.
const SECONDS_MAX: f64 = 604_800.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_a_unit() {
        assert_eq!(parse_number("17"), Ok(17));
        assert_eq!(parse_number("500k"), Ok(500_000));
        assert_eq!(parse_number("2M"), Ok(2_000_000));
        assert_eq!(parse_number("1G"), Ok(1_000_000_000));
        for text in ["", "k", "-1", "1.5M", "2 M", "99999999999999G"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
        assert!(parse_flows("5G").is_err());
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "-1", "1s", "1e9", "NaN", "inf"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
