//! Services and connections, laid out as `ipvsadm` does.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cli::{
        format::{bytes, count, minutes},
        table::{Column, table},
    },
    control::status::{ConnectionStatus, NextHopStatus, ServerStatus, ServiceStatus},
    ipvsadm::listing::{protocol, scheduler, title_of},
    service::TunnelKind,
};

/// The table of `show services`.
pub(super) fn services(services: &[ServiceStatus]) -> String {
    if services.is_empty() {
        return "there are no services".to_owned();
    }
    let rows = services.iter().flat_map(|service| {
        let mut rows = vec![service_row(service)];
        rows.extend(service.servers.iter().map(server_row));
        rows
    });
    table(
        &[
            Column::Left("Prot VIP:Port\n  -> RIP"),
            Column::Left("Scheduler\nForward"),
            Column::Right("\nWeight"),
            Column::Right("\nActive"),
            Column::Right("\nInAct"),
            Column::Right("\nConns"),
            Column::Right("\nPackets"),
            Column::Right("\nBytes"),
            Column::Right("\nMTU"),
            Column::Left("\nState"),
        ],
        rows,
    )
}

fn service_row(service: &ServiceStatus) -> Vec<String> {
    let statistics = &service.statistics;
    vec![
        title_of(&service.key),
        scheduler(service.options),
        String::new(),
        String::new(),
        String::new(),
        count(statistics.connections),
        count(statistics.in_packets),
        bytes(statistics.in_bytes),
        String::new(),
        if service.servers.is_empty() {
            "no servers".to_owned()
        } else {
            String::new()
        },
    ]
}

fn server_row(server: &ServerStatus) -> Vec<String> {
    let statistics = &server.statistics;
    vec![
        format!("  -> {}", bracketed(server.key.address)),
        forward(server.options.tunnel),
        server.options.weight.to_string(),
        count(server.active_connections.into()),
        count(server.inactive_connections.into()),
        count(statistics.connections),
        count(statistics.in_packets),
        bytes(statistics.in_bytes),
        path_mtu(server),
        server_state(server),
    ]
}

/// The largest outer packet on the way: that of the route, or less when an ICMP
/// error told so.
fn path_mtu(server: &ServerStatus) -> String {
    match server.path_mtu {
        0 => "-".to_owned(),
        mtu => mtu.to_string(),
    }
}

/// As `ipvsadm` writes addresses, with brackets around those of IPv6.
pub(in crate::cli) fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// As `ipvsadm` shows it, and the kind of the tunnel where it is not IPIP.
pub(in crate::cli) fn forward(tunnel: TunnelKind) -> String {
    match tunnel {
        TunnelKind::Ipip => "Tunnel".to_owned(),
        other => other.to_string(),
    }
}

/// What an operator should know first: whether packets can get there, then
/// whether new connections do.
pub(in crate::cli) fn server_state(server: &ServerStatus) -> String {
    match &server.next_hop {
        NextHopStatus::Resolved { .. } if server.overloaded => "overloaded".to_owned(),
        NextHopStatus::Resolved { .. } if server.options.weight == 0 => "quiesced".to_owned(),
        NextHopStatus::Resolved { port, .. } => format!("up {port}"),
        NextHopStatus::Unresolved { address, .. } if address.is_ipv6() => {
            format!("no answer from {address}")
        }
        NextHopStatus::Unresolved { address, .. } => format!("no ARP from {address}"),
        NextHopStatus::NoRoute => "no route".to_owned(),
        NextHopStatus::Local => "own address".to_owned(),
    }
}

/// The table of `show connections`.
pub(super) fn connections(connections: &[ConnectionStatus], total: u64, truncated: bool) -> String {
    let rows = connections.iter().map(|connection| {
        vec![
            protocol(connection),
            minutes(connection.expires_ms),
            connection.state.clone(),
            connection.client.to_string(),
            connection.service.to_string(),
            bracketed(connection.server),
            count(connection.packets),
            if connection.is_template {
                "all".to_owned()
            } else {
                connection.worker.to_string()
            },
        ]
    });
    let table = table(
        &[
            Column::Left("Pro"),
            Column::Right("Expire"),
            Column::Left("State"),
            Column::Left("Source"),
            Column::Left("Virtual"),
            Column::Left("Destination"),
            Column::Right("Packets"),
            Column::Right("Worker"),
        ],
        rows,
    );
    let shown = connections.len();
    let more = if truncated {
        "; --limit shows more"
    } else {
        ""
    };
    format!("{table}\n{shown} shown of {total} in all tables{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::status::{Rates, Statistics},
        scheduler::SchedulerKind,
        service::{GueChecksum, Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions},
        wire::ethernet::MacAddr,
    };

    fn server(address: &str, weight: u32, next_hop: NextHopStatus) -> ServerStatus {
        ServerStatus {
            key: ServerKey {
                address: address.parse().unwrap(),
            },
            options: ServerOptions {
                weight,
                ..ServerOptions::default()
            },
            active_connections: 12,
            inactive_connections: 1_234_567,
            templates: 0,
            overloaded: false,
            next_hop,
            path_mtu: 1500,
            rates: Rates::default(),
            statistics: Statistics {
                connections: 99,
                in_packets: 12_345_678,
                in_bytes: 7 << 30,
                ..Statistics::default()
            },
        }
    }

    fn with_tunnel(mut server: ServerStatus) -> ServerStatus {
        server.path_mtu = 0;
        server.options.tunnel = TunnelKind::Gue {
            l4_port: 6080,
            checksum: GueChecksum::Outer,
        };
        server
    }

    fn resolved() -> NextHopStatus {
        NextHopStatus::Resolved {
            port: "lan".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
        }
    }

    #[test]
    fn services_look_like_ipvsadm() {
        let unresolved = NextHopStatus::Unresolved {
            port: "lan".to_owned(),
            address: "10.0.0.3".parse().unwrap(),
        };
        let service = ServiceStatus {
            key: ServiceKey::Vip {
                protocol: Protocol::Tcp,
                address: "192.0.2.10:80".parse().unwrap(),
            },
            options: ServiceOptions::from(SchedulerKind::Wlc),
            servers: vec![
                ServerStatus {
                    overloaded: true,
                    ..server("10.0.0.4", 5, resolved())
                },
                server("10.0.0.3", 1, unresolved),
                with_tunnel(server("10.0.0.2", 0, resolved())),
                server("10.0.0.1", 1, resolved()),
            ],
            rates: Rates::default(),
            statistics: Statistics::default(),
        };
        assert_eq!(services(&[service]), SERVICES);
    }

    const SERVICES: &str = "\
Prot VIP:Port      Scheduler
  -> RIP           Forward     Weight Active InAct Conns Packets    Bytes  MTU State
TCP  192.0.2.10:80 wlc                                 0       0      0 B
  -> 10.0.0.4      Tunnel           5     12 1.23M    99   12.3M 7.00 GiB 1500 overloaded
  -> 10.0.0.3      Tunnel           1     12 1.23M    99   12.3M 7.00 GiB 1500 no ARP from 10.0.0.3
  -> 10.0.0.2      gue:6080:+c      0     12 1.23M    99   12.3M 7.00 GiB    - quiesced
  -> 10.0.0.1      Tunnel           1     12 1.23M    99   12.3M 7.00 GiB 1500 up lan";

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let unresolved = NextHopStatus::Unresolved {
            port: "lan".to_owned(),
            address: "fe80::1".parse().unwrap(),
        };
        let service = ServiceStatus {
            key: ServiceKey::Vip {
                protocol: Protocol::Tcp,
                address: "[2001:db8:ff::10]:80".parse().unwrap(),
            },
            options: ServiceOptions::from(SchedulerKind::Wlc),
            servers: vec![server("2001:db8:2::11", 1, unresolved)],
            rates: Rates::default(),
            statistics: Statistics::default(),
        };
        let text = services(&[service]);
        assert!(text.contains("TCP  [2001:db8:ff::10]:80 "), "{text}");
        assert!(text.contains("  -> [2001:db8:2::11] "), "{text}");
        assert!(text.ends_with("no answer from fe80::1"), "{text}");
    }

    #[test]
    fn one_packet_scheduling_is_shown_as_ops() {
        let options = ServiceOptions {
            one_packet: true,
            ..ServiceOptions::from(SchedulerKind::Rr)
        };
        assert_eq!(scheduler(options), "rr ops");
        assert_eq!(scheduler(ServiceOptions::from(SchedulerKind::Rr)), "rr");
    }

    #[test]
    fn a_director_without_services_says_so() {
        assert_eq!(services(&[]), "there are no services");
    }

    #[test]
    fn connections_look_like_ipvsadm_and_fit() {
        let connection = ConnectionStatus {
            worker: 3,
            protocol: Some(Protocol::Tcp),
            is_template: false,
            client: "198.51.100.200:65535".parse().unwrap(),
            service: "192.0.2.100:8080".parse().unwrap(),
            server: "10.100.100.100".parse().unwrap(),
            state: "ESTABLISHED".to_owned(),
            expires_ms: 899_000,
            packets: 17,
        };
        let text = connections(&[connection], 5, true);
        assert_eq!(text, CONNECTIONS);
        assert!(text.lines().all(|line| line.len() <= 100));
    }

    #[test]
    fn a_template_of_a_mark_belongs_to_no_protocol_and_no_worker() {
        let template = ConnectionStatus {
            worker: 0,
            protocol: None,
            is_template: true,
            client: "203.0.113.7:0".parse().unwrap(),
            service: "0.0.0.6:0".parse().unwrap(),
            server: "10.0.0.13".parse().unwrap(),
            state: "NONE".to_owned(),
            expires_ms: 99_000,
            packets: 0,
        };
        assert_eq!(
            connections(&[template], 1, false),
            "\
Pro Expire State Source        Virtual   Destination Packets Worker
IP   01:39 NONE  203.0.113.7:0 0.0.0.6:0 10.0.0.13         0    all
1 shown of 1 in all tables"
        );
    }

    const CONNECTIONS: &str = "\
Pro Expire State       Source               Virtual          Destination    Packets Worker
TCP  14:59 ESTABLISHED 198.51.100.200:65535 192.0.2.100:8080 10.100.100.100      17      3
1 shown of 5 in all tables; --limit shows more";
}
