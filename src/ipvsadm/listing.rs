//! The texts that `ipvsadm` prints about services and connections, and that
//! the kernel shows in `/proc/net/ip_vs_conn`.
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::Columns;
use crate::{
    control::status::{ConnectionStatus, Rates, ServerStatus, ServiceStatus, Statistics},
    service::{
        GueChecksum, Persistence, Protocol, ServerOptions, ServiceKey, ServiceOptions, Timeouts,
        TunnelKind,
    },
};

/// `ipvsadm -Ln`: `title` is left out when one service is asked for.
/// Services are sorted by protocol, address and port when `sorted`, their
/// servers by address and port; else they stand as they are.
pub fn services(
    listed: &[ServiceStatus],
    columns: Columns,
    title: bool,
    sorted: bool,
    exact: bool,
) -> String {
    let mut text = String::new();
    if title {
        text.push_str(TITLE);
    }
    text.push_str(heading(columns));
    let mut listed: Vec<&ServiceStatus> = listed.iter().collect();
    if sorted {
        listed.sort_by_key(|service| place(&service.key));
    }
    for service in listed {
        let name = title_of(&service.key);
        if columns == Columns::Statistics {
            statistics_line(&mut text, &name, &service.statistics, exact);
        } else if columns == Columns::Rates {
            rates_line(&mut text, &name, &service.rates, exact);
        } else {
            let _ = writeln!(text, "{name} {}", scheduler(service.options));
        }
        let mut servers: Vec<&ServerStatus> = service.servers.iter().collect();
        if sorted {
            servers.sort_by_key(|server| server.key);
        }
        for server in servers {
            server_line(&mut text, &service.key, server, columns, exact);
        }
    }
    text
}

/// `ipvsadm -Lcn`
pub fn connections(listed: &[ConnectionStatus]) -> String {
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination\n");
    for connection in listed {
        let remaining_s = connection.expires_ms / 1000;
        let (minutes, seconds) = (remaining_s / 60, remaining_s % 60);
        let _ = writeln!(
            text,
            "{:<3} {minutes:02}:{seconds:02}  {:<11} {:<18} {:<18} {}",
            protocol(connection),
            connection.state,
            connection.client.to_string(),
            connection.service.to_string(),
            server_of(connection),
        );
    }
    text
}

/// `/proc/net/ip_vs_conn`
pub fn proc_connections(listed: &[ConnectionStatus]) -> String {
    let mut text = String::from(
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
    );
    for connection in listed {
        let _ = writeln!(
            text,
            "{:<3} {} {} {} {:<11} {:>7}",
            protocol(connection),
            hexadecimal(connection.client),
            hexadecimal(connection.service),
            hexadecimal(server_of(connection)),
            connection.state,
            connection.expires_ms / 1000,
        );
    }
    text
}

/// `ipvsadm -Sn`: the command lines that would make these services.
pub fn save(listed: &[ServiceStatus]) -> String {
    let mut text = String::new();
    let mut listed: Vec<&ServiceStatus> = listed.iter().collect();
    listed.sort_by_key(|service| place(&service.key));
    for service in listed {
        let Some(name) = option_of(&service.key) else {
            // ipvsadm knows no networks of VIPs.
            let _ = writeln!(text, "# {} cannot be written in this language", service.key);
            continue;
        };
        let ServiceOptions {
            scheduler,
            flags,
            one_packet,
            persistence,
            outer_source,
        } = service.options;
        if let Some(network) = outer_source {
            // Nor does it know of outer sources.
            let _ = writeln!(
                text,
                "# outer_source {network} of {} is left out",
                service.key
            );
        }
        let _ = write!(text, "-A {name} -s {scheduler}");
        if let Some(Persistence { timeout_s, mask }) = persistence {
            let _ = write!(text, " -p {timeout_s}");
            if !mask.is_host() {
                let _ = write!(text, " -M {mask}");
            }
        }
        let flags = flags.names(scheduler);
        if !flags.is_empty() {
            let _ = write!(text, " -b {}", flags.join(","));
        }
        if one_packet {
            text.push_str(" -o");
        }
        text.push('\n');
        let mut servers: Vec<&ServerStatus> = service.servers.iter().collect();
        servers.sort_by_key(|server| server.key);
        for server in servers {
            let _ = writeln!(
                text,
                "-a {name} -r {} -i -w {} --tun-type {}",
                with_port(&service.key, server),
                server.options.weight,
                saved_tunnel(server.options.tunnel),
            );
        }
    }
    text
}

fn saved_tunnel(tunnel: TunnelKind) -> String {
    let option = |checksum| match checksum {
        GueChecksum::None => "--tun-nocsum",
        GueChecksum::Outer => "--tun-csum",
        GueChecksum::Remote => "--tun-remcsum",
    };
    match tunnel {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gre { checksum: false } => format!("gre {}", option(GueChecksum::None)),
        TunnelKind::Gre { checksum: true } => format!("gre {}", option(GueChecksum::Outer)),
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

/// Where a service stands in a sorted list.
fn place(key: &ServiceKey) -> (u32, bool, u8, IpAddr, u16) {
    let fwmark = match *key {
        ServiceKey::Mark { fwmark, .. } => fwmark,
        _ => 0,
    };
    let protocol = key.protocol().map_or(0, Protocol::number);
    (
        fwmark,
        key.is_ipv6(),
        protocol,
        key.address(),
        key.l4_port(),
    )
}

/// A service as lists name it: "TCP  198.51.100.10:80", "FWM  6 IPv6".
pub fn title_of(key: &ServiceKey) -> String {
    let text = key.to_string();
    match text.split_once(' ') {
        Some((first, rest)) => format!("{first:<4} {rest}"),
        None => text,
    }
}

/// A service as command lines name it, where they can.
fn option_of(key: &ServiceKey) -> Option<String> {
    match *key {
        ServiceKey::Vip { protocol, address } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            Some(format!("{option} {address}"))
        }
        ServiceKey::Mark { fwmark, ipv6 } => {
            Some(format!("-f {fwmark}{}", if ipv6 { " -6" } else { "" }))
        }
        ServiceKey::Network { .. } => None,
    }
}

/// As `-Ln` prints it: "mh (mh-port)", "rr ops".
pub fn scheduler(options: ServiceOptions) -> String {
    let mut text = options.scheduler.to_string();
    let flags = options.flags.names(options.scheduler);
    if !flags.is_empty() {
        let _ = write!(text, " ({})", flags.join(","));
    }
    if let Some(Persistence { timeout_s, mask }) = options.persistence {
        let _ = write!(text, " persistent {timeout_s}");
        if !mask.is_host() {
            let _ = write!(text, " mask {mask}");
        }
    }
    if options.one_packet {
        text.push_str(" ops");
    }
    text
}

/// The protocol of a connection; that of a template for several is "IP".
pub fn protocol(connection: &ConnectionStatus) -> String {
    match connection.protocol {
        Some(protocol) => protocol.to_string(),
        None => "IP".to_owned(),
    }
}

/// A real server with its port, which is that of the service.
pub(super) fn with_port(service: &ServiceKey, server: &ServerStatus) -> SocketAddr {
    SocketAddr::new(server.key.address, service.l4_port())
}

/// The real server of a connection with its port, which is that of the
/// service.
fn server_of(connection: &ConnectionStatus) -> SocketAddr {
    SocketAddr::new(connection.server, connection.service.port())
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

fn server_line(
    text: &mut String,
    service: &ServiceKey,
    server: &ServerStatus,
    columns: Columns,
    exact: bool,
) {
    let name = format!("  -> {:<28}", with_port(service, server).to_string());
    let ServerOptions {
        weight,
        upper_threshold,
        lower_threshold,
        tunnel,
    } = server.options;
    let (active, inactive) = (server.active_connections, server.inactive_connections);
    let _ = match columns {
        Columns::Ordinary => {
            writeln!(
                text,
                "{name} Tunnel  {weight:<6} {active:<10} {inactive:<10}"
            )
        }
        Columns::Statistics => {
            return statistics_line(text, &name, &server.statistics, exact);
        }
        Columns::Rates => return rates_line(text, &name, &server.rates, exact),
        Columns::Thresholds => writeln!(
            text,
            "{name} {upper_threshold:<10} {lower_threshold:<10} {active:<10} {inactive:<10}"
        ),
        Columns::PersistentConnections => writeln!(
            text,
            "{name} {weight:<9} {:<11} {active:<10} {inactive:<10}",
            server.templates
        ),
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
    let numbers = [connections, in_packets, out_packets, in_bytes, out_bytes];
    numbers_line(text, name, numbers, exact);
}

fn rates_line(text: &mut String, name: &str, rates: &Rates, exact: bool) {
    let Rates {
        connections_per_s,
        in_packets_per_s,
        out_packets_per_s,
        in_bytes_per_s,
        out_bytes_per_s,
    } = *rates;
    let numbers = [
        connections_per_s,
        in_packets_per_s,
        out_packets_per_s,
        in_bytes_per_s,
        out_bytes_per_s,
    ];
    numbers_line(text, name, numbers, exact);
}

fn numbers_line(text: &mut String, name: &str, numbers: [u64; 5], exact: bool) {
    let _ = write!(text, "{name:<33}");
    for number in numbers {
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

/// The version of IPVS that is followed, and the size of the kernel's hash
/// table as it is unless changed: nothing here is of that size, but programs
/// that read such lists look for the line.
pub(super) const TITLE: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";

#[cfg(test)]
mod tests;
