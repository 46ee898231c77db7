//! The texts that `ipvsadm` prints about services and connections, and that
//! the kernel shows in `/proc/net/ip_vs_conn`.

use std::{fmt::Write as _, net::SocketAddr};

use pointsman::service::{Protocol, ServerOptions, Timeouts, TunnelKind};

use super::ipvsadm::Columns;

/// A virtual service as far as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedService {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub scheduler: &'static str,
    /// Names of its flags.
    pub flags: Vec<String>,
    /// One-packet scheduling.
    pub one_packet: bool,
    pub statistics: Statistics,
    /// Newest first.
    pub servers: Vec<ListedServer>,
}

/// A real server as far as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedServer {
    /// With the port of the service.
    pub address: SocketAddr,
    pub options: ServerOptions,
    pub active: u32,
    pub inactive: u32,
    pub statistics: Statistics,
}

/// Counters of a service or a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub connections: u64,
    pub in_packets: u64,
    pub out_packets: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
}

/// A connection as far as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedConnection {
    pub protocol: Protocol,
    pub client: SocketAddr,
    pub service: SocketAddr,
    pub server: SocketAddr,
    pub state: String,
    pub remaining_s: u64,
}

/// `ipvsadm -Ln`: `title` is left out when one service is asked for.
/// Services are sorted by protocol, address and port when `sorted`, their
/// servers by address and port; else they stand as they are.
pub fn services(
    listed: &[ListedService],
    columns: Columns,
    title: bool,
    sorted: bool,
    exact: bool,
) -> String {
    let mut text = String::new();
    if title {
        text.push_str("IP Virtual Server version 1.2.1 (size=4096)\n");
    }
    text.push_str(heading(columns));
    let mut listed: Vec<&ListedService> = listed.iter().collect();
    if sorted {
        listed.sort_by_key(|service| {
            (
                service.address.is_ipv6(),
                service.protocol.number(),
                service.address,
            )
        });
    }
    for service in listed {
        let name = format!("{:<4} {}", service.protocol, service.address);
        if columns == Columns::Statistics {
            statistics_line(&mut text, &name, &service.statistics, exact);
        } else {
            let _ = write!(text, "{name} {}", service.scheduler);
            if !service.flags.is_empty() {
                let _ = write!(text, " ({})", service.flags.join(","));
            }
            if service.one_packet {
                text.push_str(" ops");
            }
            text.push('\n');
        }
        let mut servers: Vec<&ListedServer> = service.servers.iter().collect();
        if sorted {
            servers.sort_by_key(|server| server.address);
        }
        for server in servers {
            server_line(&mut text, server, columns, exact);
        }
    }
    text
}

/// `ipvsadm -Lcn`
pub fn connections(listed: &[ListedConnection]) -> String {
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination\n");
    for connection in listed {
        let (minutes, seconds) = (connection.remaining_s / 60, connection.remaining_s % 60);
        let _ = writeln!(
            text,
            "{:<3} {minutes:02}:{seconds:02}  {:<11} {:<18} {:<18} {}",
            connection.protocol,
            connection.state,
            connection.client.to_string(),
            connection.service.to_string(),
            connection.server,
        );
    }
    text
}

/// `/proc/net/ip_vs_conn`
pub fn proc_connections(listed: &[ListedConnection]) -> String {
    let mut text = String::from(
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
    );
    for connection in listed {
        let _ = writeln!(
            text,
            "{:<3} {} {} {} {:<11} {:>7}",
            connection.protocol,
            hexadecimal(connection.client),
            hexadecimal(connection.service),
            hexadecimal(connection.server),
            connection.state,
            connection.remaining_s,
        );
    }
    text
}

/// `ipvsadm -Sn`: the command lines that would make these services.
pub fn save(listed: &[ListedService]) -> String {
    let mut text = String::new();
    let mut listed: Vec<&ListedService> = listed.iter().collect();
    listed.sort_by_key(|service| {
        (
            service.address.is_ipv6(),
            service.protocol.number(),
            service.address,
        )
    });
    for service in listed {
        let option = match service.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        let name = format!("{option} {}", service.address);
        let _ = write!(text, "-A {name} -s {}", service.scheduler);
        if !service.flags.is_empty() {
            let _ = write!(text, " -b {}", service.flags.join(","));
        }
        if service.one_packet {
            text.push_str(" -o");
        }
        text.push('\n');
        let mut servers: Vec<&ListedServer> = service.servers.iter().collect();
        servers.sort_by_key(|server| server.address);
        for server in servers {
            let _ = writeln!(
                text,
                "-a {name} -r {} -i -w {} --tun-type {}",
                server.address,
                server.options.weight,
                saved_tunnel(server.options.tunnel),
            );
        }
    }
    text
}

fn saved_tunnel(tunnel: TunnelKind) -> String {
    let option = |checksum| {
        if checksum {
            "--tun-csum"
        } else {
            "--tun-nocsum"
        }
    };
    match tunnel {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gre { checksum } => format!("gre {}", option(checksum)),
        TunnelKind::Gue { l4_port, checksum } => {
            format!("gue --tun-port {l4_port} {}", option(checksum))
        }
    }
}

/// `ipvsadm -L --timeout`
pub fn timeouts(timeouts: Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

fn heading(columns: Columns) -> &'static str {
    match columns {
        Columns::Ordinary => {
            "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        }
        Columns::Statistics => {
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
             -> RemoteAddress:Port\n"
        }
        Columns::Rates => {
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
             -> RemoteAddress:Port\n"
        }
        Columns::Thresholds => {
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
             -> RemoteAddress:Port\n"
        }
        Columns::PersistentConnections => {
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
             -> RemoteAddress:Port\n"
        }
        Columns::TunnelInfo => {
            "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        }
    }
}

fn server_line(text: &mut String, server: &ListedServer, columns: Columns, exact: bool) {
    let name = format!("  -> {:<28}", server.address.to_string());
    let ServerOptions {
        weight,
        upper_threshold,
        lower_threshold,
        tunnel,
    } = server.options;
    let (active, inactive) = (server.active, server.inactive);
    let _ = match columns {
        Columns::Ordinary => {
            writeln!(
                text,
                "{name} Tunnel  {weight:<6} {active:<10} {inactive:<10}"
            )
        }
        Columns::Statistics | Columns::Rates => {
            return statistics_line(text, &name, &server.statistics, exact);
        }
        Columns::Thresholds => writeln!(
            text,
            "{name} {upper_threshold:<10} {lower_threshold:<10} {active:<10} {inactive:<10}"
        ),
        // Without persistence there are no such connections.
        Columns::PersistentConnections => {
            writeln!(
                text,
                "{name} {weight:<9} {:<11} {active:<10} {inactive:<10}",
                0
            )
        }
        Columns::TunnelInfo => writeln!(
            text,
            "{name} Tunnel  {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}"
        ),
    };
}

fn statistics_line(text: &mut String, name: &str, statistics: &Statistics, exact: bool) {
    let Statistics {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *statistics;
    let _ = write!(text, "{name:<33}");
    for number in [connections, in_packets, out_packets, in_bytes, out_bytes] {
        let _ = if exact {
            write!(text, " {number:>8}")
        } else {
            write!(text, "{:>9}", abbreviated(number))
        };
    }
    text.push('\n');
}

/// A number in at most eight digits, and then in thousands (K), millions (M) or more.
fn abbreviated(number: u64) -> String {
    let units = [
        ("", 1),
        ("K", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let fitting = units.iter().find(|(_, unit)| number / unit < 100_000_000);
    let (suffix, unit) = fitting.unwrap_or(&("T", 1_000_000_000_000));
    format!("{}{suffix}", number / unit)
}

fn hexadecimal(address: SocketAddr) -> String {
    let port = address.port();
    match address {
        SocketAddr::V4(address) => format!("{:08X} {port:04X}", address.ip().to_bits()),
        SocketAddr::V6(address) => {
            let groups = address.ip().segments().map(|group| format!("{group:04x}"));
            format!("{} {port:04X}", groups.join(":"))
        }
    }
}
