//! The texts that the kernel shows in `/proc/net/ip_vs` and `ip_vs_stats`.
#![forbid(unsafe_code)]

use std::{fmt::Write as _, net::SocketAddr};

use super::listing::{TITLE, with_port};
use crate::{
    control::status::{Rates, ServiceStatus, Statistics},
    service::{ClientMask, Persistence, ServiceKey},
};

/// `/proc/net/ip_vs`. Services of networks of VIPs are left out, for which the
/// kernel has no words.
pub fn services(listed: &[ServiceStatus]) -> String {
    let mut text = String::from(TITLE);
    text.push_str("Prot LocalAddress:Port Scheduler Flags\n");
    text.push_str("  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n");
    for service in listed {
        let Some(title) = title(service) else {
            continue;
        };
        text.push_str(&title);
        for server in &service.servers {
            let address = hexadecimal(with_port(&service.key, server));
            let _ = writeln!(
                text,
                "  -> {address}      Tunnel  {:<6} {:<10} {:<10}",
                server.options.weight, server.active_connections, server.inactive_connections,
            );
        }
    }
    text
}

fn title(service: &ServiceStatus) -> Option<String> {
    let options = service.options;
    let scheduler = options.scheduler;
    let ops = if options.one_packet { "ops " } else { "" };
    let mut title = match service.key {
        ServiceKey::Network { .. } => return None,
        ServiceKey::Mark { fwmark, .. } => format!("FWM  {fwmark:08X} {scheduler} {ops}"),
        ServiceKey::Vip { protocol, address } => {
            let name = format!("{protocol}  {} {scheduler} ", hexadecimal(address));
            match address {
                SocketAddr::V4(_) => format!("{name}{ops} "),
                SocketAddr::V6(_) => name,
            }
        }
    };
    if let Some(Persistence { timeout_s, mask }) = options.persistence {
        let mask = match mask {
            ClientMask::Netmask(mask) => mask.to_bits(),
            // It goes for a netmask, of which the first byte is the highest.
            ClientMask::PrefixLen(len) => u32::from(len) << 24,
        };
        let ticks = u64::from(timeout_s) * TICKS_PER_S;
        let _ = write!(title, "persistent {ticks} {mask:08X}");
    }
    title.push('\n');
    Some(title)
}

/// `/proc/net/ip_vs_stats`
pub fn statistics(total: &Statistics, rates: &Rates) -> String {
    let line = |[conns, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]| {
        format!("{conns:>8X} {in_packets:>8X} {out_packets:>8X} {in_bytes:>16X} {out_bytes:>16X}\n")
    };
    let total = line([
        total.connections,
        total.in_packets,
        total.out_packets,
        total.in_bytes,
        total.out_bytes,
    ]);
    let rates = line([
        rates.connections_per_s,
        rates.in_packets_per_s,
        rates.out_packets_per_s,
        rates.in_bytes_per_s,
        rates.out_bytes_per_s,
    ]);
    [
        "   Total Incoming Outgoing         Incoming         Outgoing\n",
        "   Conns  Packets  Packets            Bytes            Bytes\n",
        &total,
        "\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n",
        &rates,
    ]
    .concat()
}

/// "C633640A:0050"
fn hexadecimal(address: SocketAddr) -> String {
    let port = address.port();
    match address {
        SocketAddr::V4(address) => format!("{:08X}:{port:04X}", address.ip().to_bits()),
        SocketAddr::V6(address) => {
            let groups = address.ip().segments().map(|group| format!("{group:04x}"));
            format!("[{}]:{port:04X}", groups.join(":"))
        }
    }
}

/// Of the clock that the kernel shows timeouts in, where it is as recorded.
const TICKS_PER_S: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::status::{NextHopStatus, ServerStatus},
        scheduler::SchedulerKind,
        service::{Protocol, ServerKey, ServerOptions, ServiceOptions},
    };

    fn service(key: ServiceKey, options: ServiceOptions, servers: &[(&str, u32)]) -> ServiceStatus {
        let server = |&(address, weight): &(&str, u32)| ServerStatus {
            key: ServerKey {
                address: address.parse().unwrap(),
            },
            options: ServerOptions {
                weight,
                ..ServerOptions::default()
            },
            active_connections: weight,
            inactive_connections: 1,
            templates: 0,
            overloaded: false,
            next_hop: NextHopStatus::NoRoute,
            path_mtu: 0,
            statistics: Statistics::default(),
            rates: Rates::default(),
        };
        ServiceStatus {
            key,
            options,
            servers: servers.iter().map(server).collect(),
            statistics: Statistics::default(),
            rates: Rates::default(),
        }
    }

    /// Lines of the recorded case `09_formats`.
    #[test]
    fn services_stand_as_the_kernel_shows_them() {
        let at = |protocol, address: &str| ServiceKey::at(protocol, address.parse().unwrap());
        let persistent = |scheduler: SchedulerKind, timeout_s, mask| ServiceOptions {
            persistence: Some(Persistence { timeout_s, mask }),
            ..scheduler.into()
        };
        let one_packet = ServiceOptions {
            one_packet: true,
            ..SchedulerKind::Rr.into()
        };
        let listed = [
            service(
                at(Protocol::Tcp, "[2001:db8:ff::10]:80"),
                persistent(SchedulerKind::Rr, 100, ClientMask::PrefixLen(64)),
                &[("2001:db8:2::11", 1)],
            ),
            service(
                at(Protocol::Tcp, "198.51.100.10:8080"),
                persistent(
                    SchedulerKind::Mh,
                    300,
                    ClientMask::Netmask([255, 255, 255, 0].into()),
                ),
                &[],
            ),
            service(
                at(Protocol::Tcp, "198.51.100.10:80"),
                SchedulerKind::Wlc.into(),
                &[("10.0.0.12", 2)],
            ),
            service(at(Protocol::Udp, "198.51.100.10:53"), one_packet, &[]),
            service(
                ServiceKey::Mark {
                    fwmark: 5,
                    ipv6: false,
                },
                SchedulerKind::Wrr.into(),
                &[],
            ),
            service(
                ServiceKey::Network {
                    protocol: Protocol::Tcp,
                    network: "192.0.2.0/24".parse().unwrap(),
                    l4_port: 80,
                },
                SchedulerKind::Rr.into(),
                &[("10.0.0.12", 2)],
            ),
        ];
        let lines = [
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn",
            "TCP  [2001:0db8:00ff:0000:0000:0000:0000:0010]:0050 rr persistent 10000 40000000",
            "  -> [2001:0db8:0002:0000:0000:0000:0000:0011]:0050      Tunnel  1      1          1         ",
            "TCP  C633640A:1F90 mh  persistent 30000 FFFFFF00",
            "TCP  C633640A:0050 wlc  ",
            "  -> 0A00000C:0050      Tunnel  2      2          1         ",
            "UDP  C633640A:0035 rr ops  ",
            "FWM  00000005 wrr ",
            "",
        ];
        assert_eq!(services(&listed), lines.join("\n"));
    }

    #[test]
    fn statistics_stand_as_the_kernel_shows_them() {
        let total = Statistics {
            connections: 12,
            in_packets: 19,
            in_bytes: 0x924,
            ..Statistics::default()
        };
        let rates = Rates {
            connections_per_s: 1,
            in_packets_per_s: 1,
            in_bytes_per_s: 168,
            ..Rates::default()
        };
        let lines = [
            "   Total Incoming Outgoing         Incoming         Outgoing",
            "   Conns  Packets  Packets            Bytes            Bytes",
            "       C       13        0              924                0",
            "",
            " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s",
            "       1        1        0               A8                0",
            "",
        ];
        assert_eq!(statistics(&total, &rates), lines.join("\n"));
    }
}
