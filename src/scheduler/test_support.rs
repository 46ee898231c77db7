use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::*;
use crate::service::{Protocol, ServiceKey, ServiceOptions};

/// A list as after `ipvsadm -a` of servers with these weights in order: server
/// and link numbers count up from 1, addresses from 10.0.0.11, the last one
/// stands first.
pub(super) fn list(weights: &[u32]) -> Vec<ServerLink> {
    let mut links: Vec<_> = (1..)
        .zip(weights)
        .map(|(number, &weight)| ServerLink {
            server: RealServerIndex(number),
            link: u64::from(number),
            weight,
        })
        .collect();
    links.reverse();
    links
}

/// A service with these servers.
pub(super) fn service(
    scheduler: SchedulerKind,
    flags: SchedulerFlags,
    servers: &[ServerLink],
) -> ServiceForwarding {
    let key = ServiceKey::at(Protocol::Tcp, ([198, 51, 100, 10], 80).into());
    let hashed: Vec<_> = servers
        .iter()
        .map(|link| HashedServer {
            address: 0x0a00_000a + link.server.0,
            l4_port: 80,
            weight: link.weight,
            last_weight: link.weight,
        })
        .collect();
    ServiceForwarding {
        key,
        options: ServiceOptions {
            flags,
            ..ServiceOptions::from(scheduler)
        },
        servers: servers.into(),
        table: HashTable::build(scheduler, &hashed).map(Arc::new),
        edits: Arc::new([]),
    }
}

/// The number of the server picked for a flow.
pub(super) fn pick_flow(
    state: &mut dyn Schedule,
    service: &ServiceForwarding,
    loads: &ServerLoads,
    flow: &Endpoints,
) -> Option<u32> {
    let now = CoarseTime::from_steps(0);
    let request = Request {
        service,
        loads,
        flow,
        now,
    };
    state.pick(&request).map(|server| server.0)
}

/// A flow over TCP to port 80 of a VIP.
pub(super) fn flow(
    client: impl Into<IpAddr>,
    client_port: u16,
    vip: impl Into<IpAddr>,
) -> Endpoints {
    Endpoints {
        client: SocketAddr::new(client.into(), client_port),
        service: SocketAddr::new(vip.into(), 80),
        protocol: 6,
    }
}

/// The number of the server picked for a new connection of a client.
pub(super) fn pick_for(
    state: &mut dyn Schedule,
    service: &ServiceForwarding,
    loads: &ServerLoads,
    client: u32,
    client_port: u16,
) -> Option<u32> {
    let flow = flow(Ipv4Addr::from(client), client_port, [198, 51, 100, 10]);
    pick_flow(state, service, loads, &flow)
}

/// The numbers of the servers of a list that are picked for new connections of
/// 203.0.113.7, which stay.
pub(super) fn picks(
    state: &mut dyn Schedule,
    servers: &[ServerLink],
    loads: &ServerLoads,
    n: u16,
) -> Vec<u32> {
    let service = service(SchedulerKind::Rr, SchedulerFlags::default(), servers);
    (0..n)
        .filter_map(|number| {
            let server = pick_for(state, &service, loads, 0xcb00_7107, 50_000 + number)?;
            loads.of(RealServerIndex(server)).open(true);
            Some(server)
        })
        .collect()
}

/// Tells a state that the servers of a list were added one by one.
pub(super) fn add_one_by_one(state: &mut dyn Schedule, servers: &[ServerLink]) {
    for added in 1..=servers.len() {
        let list = &servers[servers.len() - added..];
        let weights = Weights::of(list.iter().map(|link| link.weight));
        state.list_changed(ListChange::Added(list[0].link), weights);
    }
    state.list_is(servers);
}

/// The 24 clients of the recordings of hashing schedulers.
pub(super) fn recorded_clients() -> impl Iterator<Item = u32> {
    let low_halves = [
        0x7108, 0x712d, 0x7152, 0x7177, 0x719c, 0x71c1, 0x71e6, 0x710d, 0x7232, 0x7257, 0x727c,
        0x72a1, 0x72c6, 0x72eb, 0x7212, 0x7237, 0x735c, 0x7381, 0x73a6, 0x73cb, 0x73f0, 0x7317,
        0x733c, 0x7361,
    ];
    low_halves.into_iter().map(|low| 0xcb00_0000 | low)
}
