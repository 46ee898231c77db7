//! Counters, workers, ports, neighbors, routes and the director itself.
#![forbid(unsafe_code)]

use crate::{
    cli::{
        format::{bytes, count, duration},
        table::{Column, table},
    },
    control::status::{
        CounterStatus, DirectorStatus, NeighborStatus, PortStatus, RouteStatus, SettingsStatus,
        StateFileStatus, WorkerStatus,
    },
    io::{PortCapabilities, sharing::Sharing},
    service::{TUNABLES, Tunables},
};

/// The table of `show counters`; counters that are 0 only with `all`.
pub(super) fn counters(counters: &[CounterStatus], all: bool) -> String {
    let shown: Vec<_> = counters
        .iter()
        .filter(|counter| all || counter.count > 0)
        .collect();
    if shown.is_empty() {
        return "nothing was counted yet; --all shows what could be".to_owned();
    }
    let rows = shown.into_iter().map(|counter| {
        vec![
            counter.kind.name().to_owned(),
            counter.name.clone(),
            counter.count.to_string(),
            counter.help.clone(),
        ]
    });
    table(
        &[
            Column::Left("Kind"),
            Column::Left("Name"),
            Column::Right("Count"),
            Column::Wrapped("Meaning"),
        ],
        rows,
    )
}

/// The table of `show workers`.
pub(super) fn workers(workers: &[WorkerStatus]) -> String {
    let rows = workers.iter().map(|worker| {
        vec![
            worker.index.to_string(),
            worker.core.to_string(),
            worker.generation.to_string(),
            format!("{:.1}%", worker.busy_share * 100.0),
            format!("{:.1}", worker.packets_per_burst),
            format!("{:.0}", worker.cycles_per_packet),
            format!(
                "{} of {}",
                count(worker.connections),
                count(worker.connections_max)
            ),
            count(worker.rx_packets),
            count(worker.forwarded),
            count(worker.punted),
            count(worker.dropped),
        ]
    });
    let mut text = table(
        &[
            Column::Right("Worker"),
            Column::Right("Core"),
            Column::Right("Generation"),
            Column::Right("Busy"),
            Column::Right("Pkt/burst"),
            Column::Right("Cycles/pkt"),
            Column::Right("Connections"),
            Column::Right("Received"),
            Column::Right("Forwarded"),
            Column::Right("Punted"),
            Column::Right("Dropped"),
        ],
        rows,
    );
    let has_handed =
        |worker: &WorkerStatus| worker.handed_over + worker.taken_over + worker.tx_handed_over > 0;
    if workers.iter().any(has_handed) {
        text.push_str("\n\n");
        text.push_str(&handed(workers));
    }
    text
}

/// What workers did for each other.
fn handed(workers: &[WorkerStatus]) -> String {
    let rows = workers.iter().map(|worker| {
        vec![
            worker.index.to_string(),
            count(worker.handed_over),
            count(worker.taken_over),
            count(worker.tx_handed_over),
        ]
    });
    table(
        &[
            Column::Right("Worker"),
            Column::Right("Handed over"),
            Column::Right("Taken over"),
            Column::Right("Sent by others"),
        ],
        rows,
    )
}

/// The paragraphs of `show ports`.
pub(super) fn ports(ports: &[PortStatus]) -> String {
    ports.iter().map(port).collect::<Vec<_>>().join("\n")
}

fn port(port: &PortStatus) -> String {
    let link = match (port.link_up, port.speed_mbps) {
        (false, _) => "link down".to_owned(),
        (true, 0) => "link up".to_owned(),
        (true, speed_mbps) => format!("link up at {speed_mbps} Mbit/s"),
    };
    let vlan = port
        .vlan
        .map_or_else(String::new, |vlan| format!(", VLAN {vlan}"));
    let node = port
        .numa_node
        .map_or_else(String::new, |node| format!(", NUMA node {node}"));
    let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
    let statistics = &port.statistics;
    let sharing = Sharing::of(port.rx_queues, port.tx_queues, port.workers)
        .map_or_else(String::new, |sharing| format!("\n    workers    {sharing}"));
    format!(
        "{name}: {link}, MAC {mac}, MTU {mtu}{vlan}{node}\n\
         \x20   device     {device} ({driver}), {rx_queues} receive and {tx_queues} transmit \
         queues{sharing}\n\
         \x20   addresses  {addresses}\n\
         \x20   offloads   {offloads}\n\
         {bursts}\
         \x20   received   {rx_packets} packets, {rx_bytes}; {missed} missed, {rx_errors} errors, \
         {no_buffer} without buffer\n\
         \x20   sent       {tx_packets} packets, {tx_bytes}; {tx_errors} errors",
        name = port.name,
        mac = port.mac,
        mtu = port.mtu,
        device = port.device,
        driver = port.driver,
        rx_queues = port.rx_queues,
        tx_queues = port.tx_queues,
        addresses = if addresses.is_empty() {
            "none".to_owned()
        } else {
            addresses.join(", ")
        },
        offloads = offloads(port.capabilities, port.rx_queues).join("\n               "),
        bursts = burst_modes(port),
        rx_packets = statistics.rx_packets,
        rx_bytes = bytes(statistics.rx_bytes),
        missed = statistics.rx_missed,
        rx_errors = statistics.rx_errors,
        no_buffer = statistics.rx_no_buffer,
        tx_packets = statistics.tx_packets,
        tx_bytes = bytes(statistics.tx_bytes),
        tx_errors = statistics.tx_errors,
    )
}

/// What the NIC does, what is done in its place, and what it could do besides.
fn offloads(capabilities: PortCapabilities, rx_queues: u16) -> Vec<String> {
    let PortCapabilities {
        tx_ipv4_checksum,
        tx_fast_free,
        rx_ipv4_checksum,
        rss,
        redirection_len,
        rss_hash,
        packet_types,
    } = capabilities;
    let rss_name = match redirection_len {
        0 => "RSS".to_owned(),
        len => format!("RSS (table of {len})"),
    };
    let names = [
        (rx_ipv4_checksum, "receive IPv4 checksum"),
        (tx_ipv4_checksum, "transmit IPv4 checksum"),
        (tx_fast_free, "fast free"),
    ];
    let of = |wanted: bool| {
        names
            .iter()
            .filter(move |(has, _)| *has == wanted)
            .map(|(_, name)| *name)
    };
    let hardware: Vec<_> = rss
        .then_some(rss_name.as_str())
        .into_iter()
        .chain(of(true))
        .collect();
    let software: Vec<_> = of(false).collect();
    let unused: Vec<_> = [(rss_hash, "RSS hash"), (packet_types, "packet types")]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
    // With one queue there is nothing to spread.
    let missing = if rss || rx_queues <= 1 {
        Vec::new()
    } else {
        vec!["RSS"]
    };
    [
        ("in hardware", hardware),
        ("in software", software),
        ("missing", missing),
        ("not used", unused),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what}: {}", names.join(", ")))
    .collect()
}

/// The line about how the driver works, where it tells.
fn burst_modes(port: &PortStatus) -> String {
    let said: Vec<_> = [
        ("receive", &port.rx_burst_mode),
        ("transmit", &port.tx_burst_mode),
    ]
    .into_iter()
    .filter_map(|(what, mode)| mode.as_ref().map(|mode| format!("{what} {mode}")))
    .collect();
    if said.is_empty() {
        String::new()
    } else {
        format!("    bursts     {}\n", said.join(", "))
    }
}

/// The table of `show neighbors`.
pub(super) fn neighbors(neighbors: &[NeighborStatus]) -> String {
    if neighbors.is_empty() {
        return "there are no neighbors".to_owned();
    }
    let rows = neighbors.iter().map(|neighbor| {
        vec![
            neighbor.address.to_string(),
            neighbor.port.clone(),
            neighbor
                .mac
                .map_or_else(|| "-".to_owned(), |mac| mac.to_string()),
            neighbor.state.clone(),
            neighbor.age_ms.map_or_else(|| "never".to_owned(), duration),
        ]
    });
    table(
        &[
            Column::Left("Address"),
            Column::Left("Port"),
            Column::Left("MAC"),
            Column::Left("State"),
            Column::Right("Confirmed ago"),
        ],
        rows,
    )
}

/// The table of `show routes`.
pub(super) fn routes(routes: &[RouteStatus]) -> String {
    if routes.is_empty() {
        return "there are no routes".to_owned();
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = routes.iter().map(|route| {
        vec![
            if route.to.prefix_len() == 0 {
                "default".to_owned()
            } else {
                route.to.to_string()
            },
            or_dash(route.via.map(|via| via.to_string())),
            or_dash(route.port.clone()),
            or_dash(route.source.map(|source| source.to_string())),
            or_dash(route.mtu.map(|mtu| mtu.to_string())),
            route.kind.name().to_owned(),
        ]
    });
    table(
        &[
            Column::Left("To"),
            Column::Left("Via"),
            Column::Left("Port"),
            Column::Left("Source"),
            Column::Right("MTU"),
            Column::Left("Kind"),
        ],
        rows,
    )
}

/// The table of `show settings`.
pub(super) fn settings(settings: &SettingsStatus) -> String {
    let row = |name: &str, now: u32, file: u32, meaning: &str| {
        vec![
            name.to_owned(),
            now.to_string(),
            file.to_string(),
            meaning.to_owned(),
        ]
    };
    let tunables = TUNABLES.iter().map(|tunable| {
        row(
            tunable.name,
            tunable.of(&settings.tunables),
            tunable.of(&settings.configured_tunables),
            tunable.meaning,
        )
    });
    let (now, file) = (settings.timeouts, settings.configured_timeouts);
    let timeouts = [
        row("timeouts tcp", now.tcp, file.tcp, "seconds in ESTABLISHED"),
        row(
            "timeouts tcp_fin",
            now.tcp_fin,
            file.tcp_fin,
            "seconds in FIN_WAIT",
        ),
        row("timeouts udp", now.udp, file.udp, "seconds of UDP"),
    ];
    table(
        &[
            Column::Left("Name"),
            Column::Right("Value"),
            Column::Right("File"),
            Column::Wrapped("Meaning"),
        ],
        tunables.chain(timeouts),
    )
}

/// "name value", as many as fit into a line.
fn setting_lines(tunables: &Tunables) -> String {
    let settings: Vec<_> = TUNABLES
        .iter()
        .map(|tunable| format!("{} {}", tunable.name, tunable.of(tunables)))
        .collect();
    let lines: Vec<_> = settings.chunks(3).map(|line| line.join(", ")).collect();
    lines.join(",\n               ")
}

/// The lines of `show director`.
pub(super) fn director(director: &DirectorStatus) -> String {
    let DirectorStatus {
        timeouts, tunables, ..
    } = director;
    format!(
        "pointsman {version}, process {pid}, up for {uptime}\n\
         configuration  {config_file}\n\
         state          generation {generation}, live on {live} of {workers} workers\n\
         services       {services}\n\
         kept in        {kept}\n\
         connections    {connections}\n\
         timeouts       tcp {tcp} s, tcpfin {tcp_fin} s, udp {udp} s\n\
         settings       {settings}",
        version = director.version,
        pid = director.pid,
        uptime = duration(director.uptime_ms),
        config_file = director.config_file.display(),
        generation = director.generation,
        live = director.workers_live,
        workers = director.workers,
        services = director.services,
        kept = state_file(director.state_file.as_ref()),
        connections = director.connections,
        tcp = timeouts.tcp,
        tcp_fin = timeouts.tcp_fin,
        udp = timeouts.udp,
        settings = setting_lines(tunables),
    )
}

fn state_file(state_file: Option<&StateFileStatus>) -> String {
    let Some(file) = state_file else {
        return "no file: what changes at run time ends with the director".to_owned();
    };
    let progress = if file.is_saved { "" } else { ", not yet all" };
    let errors = match file.errors {
        0 => String::new(),
        1 => "; 1 error".to_owned(),
        errors => format!("; {errors} errors"),
    };
    format!("{}{progress}{errors}", file.path.display())
}

#[cfg(test)]
mod tests;
