//! The summary of a valid configuration, as `pointsman check` prints it.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Write};

use super::{Config, Device, Hugepages, RouteAction, ServiceConfig, memory::MIB, memory_need};
use crate::io::sharing::Sharing;

/// What a valid configuration amounts to: ports, workers, routes, services and
/// the memory they need, one thing a line.
pub fn check_report(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_report(&mut text, config);
    text
}

fn write_report(out: &mut String, config: &Config) -> fmt::Result {
    write_ports(out, config)?;
    let director = &config.director;
    let management = match director.management_core {
        Some(core) => format!("core {core}"),
        None => "any core".to_owned(),
    };
    let workers = director.worker_cores.len();
    let (noun, cores) = (plural(workers, "core"), list(&director.worker_cores));
    writeln!(
        out,
        "workers   {workers} on {noun} {cores}; management on {management}"
    )?;
    write_routes(out, config)?;
    write_services(out, &config.services)?;
    write_memory(out, config)
}

fn write_ports(out: &mut String, config: &Config) -> fmt::Result {
    let workers = u32::try_from(config.director.worker_cores.len()).unwrap_or(u32::MAX);
    writeln!(out, "ports     {}", config.ports.len())?;
    let width = |text: fn(&super::PortConfig) -> &str| {
        config
            .ports
            .iter()
            .map(|port| text(port).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (names, devices) = (width(|port| &port.name), width(|port| device(&port.device)));
    for port in &config.ports {
        let addresses = if port.addresses.is_empty() {
            "no address".to_owned()
        } else {
            list(&port.addresses)
        };
        write!(
            out,
            "  {:names$}  {:devices$}  {addresses}, MTU {}",
            port.name,
            device(&port.device),
            port.mtu
        )?;
        if let Some(vlan) = port.vlan {
            write!(out, ", VLAN {vlan}")?;
        }
        if let Some((receive, transmit)) = port.device.known_queues()
            && let Some(sharing) = Sharing::of(receive, transmit, workers)
        {
            write!(out, "; {sharing}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_routes(out: &mut String, config: &Config) -> fmt::Result {
    let silent = config.routes.iter().filter(|route| {
        matches!(
            route.action,
            RouteAction::Unreachable | RouteAction::Blackhole
        )
    });
    write!(out, "routes    {}", config.routes.len())?;
    match silent.count() {
        0 => writeln!(out),
        count => writeln!(out, ", {count} of them unreachable or blackhole"),
    }?;
    match config.neighbors.len() {
        0 => Ok(()),
        count => writeln!(out, "neighbors {count} permanent"),
    }
}

fn write_services(out: &mut String, services: &[ServiceConfig]) -> fmt::Result {
    let servers: usize = services.iter().map(|service| service.servers.len()).sum();
    writeln!(
        out,
        "services  {}, with {servers} real {}",
        services.len(),
        plural(servers, "server")
    )?;
    for service in services.iter().take(SERVICES_SHOWN_MAX) {
        let count = service.servers.len();
        let key = service.key.to_string();
        writeln!(
            out,
            "  {key:25}  {:3}  {count} real {}",
            service.options.scheduler,
            plural(count, "server")
        )?;
    }
    match services.len().saturating_sub(SERVICES_SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

fn write_memory(out: &mut String, config: &Config) -> fmt::Result {
    let need = memory_need(config);
    let pages = match config.eal.hugepages {
        Hugepages::Auto => "hugepages if there are enough",
        Hugepages::Required => "hugepages",
        Hugepages::None => "ordinary pages",
    };
    let workers = config.director.worker_cores.len();
    writeln!(
        out,
        "memory    {} MiB for {} connections on {} {}",
        need.connections.div_ceil(MIB),
        config.director.connections_max,
        if workers == 1 {
            "1".to_owned()
        } else {
            format!("each of {workers}")
        },
        plural(workers, "worker")
    )?;
    writeln!(
        out,
        "          {} MiB for packet buffers, of the {} MiB that DPDK takes ({pages})",
        need.packets.div_ceil(MIB),
        config.eal.memory_mib
    )
}

fn device(device: &Device) -> &str {
    match device {
        Device::Pci(text) | Device::Vdev(text) => text,
    }
}

fn list<T: Display>(items: &[T]) -> String {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        let _ = write!(text, "{}{item}", if index == 0 { "" } else { ", " });
    }
    text
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

/// Longer lists are counted only.
const SERVICES_SHOWN_MAX: usize = 20;
