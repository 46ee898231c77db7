//! Making the forwarding state and handing it to the workers.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};

use super::{Management, outer_sources::Tunnel, services::Server, touched::Stale};
use crate::{
    clock::Ticks,
    config::Config,
    connection::{StateTimeouts, Templates},
    forwarding::{
        ForwardingState, LocalAddresses, PortForwarding, Presence, RealServerIndex,
        ServerForwarding, ServerLink, ServerLoads, ServiceForwarding, ServiceTable,
    },
    io::Driver,
    scheduler::{HashTable, HashedServer},
    service::{ServiceKey, TunnelKind},
    wire::{IpVersion, ethernet::MacAddr},
    worker::WorkerRequest,
};

/// Generation 0: no ports, no services.
pub(super) fn empty(
    config: &Config,
    loads: Arc<ServerLoads>,
    templates: Arc<Templates>,
) -> Arc<ForwardingState> {
    let nowhere = PortForwarding {
        mac: MacAddr::default(),
        vlan: None,
    };
    Arc::new(ForwardingState {
        generation: 0,
        ports: vec![nowhere; config.ports.len()].into(),
        local: Arc::default(),
        gue_ends: Arc::default(),
        services: Arc::default(),
        changed_services: Arc::new([]),
        servers: Arc::new([]),
        loads,
        templates,
        tunables: config.director.tunables,
        timeouts: StateTimeouts::new(&config.director.timeouts),
    })
}

impl<D: Driver> Management<D> {
    /// Publishes a new generation when something changed and every worker has
    /// room for it; until then the change waits, and so it does while commands
    /// stream in ([`Pace`](super::pace::Pace)). Returns whether it did.
    pub(super) fn publish(&mut self, now: Ticks) -> bool {
        self.collect_retired();
        let has_room =
            |worker: &super::WorkerHandle<_>| worker.requests.len() + 2 <= super::REQUESTS_MAX;
        let is_held = self.pace.holds(now);
        if self.stale == Stale::Nothing || is_held || !self.workers.iter().all(has_room) {
            return false;
        }
        let stale = std::mem::take(&mut self.stale);
        self.pace.published(now);
        self.state = self.next_state(stale);
        for worker in &self.workers {
            // There is room, and nobody else sends.
            let _ = worker
                .requests
                .try_send(WorkerRequest::Adopt(Arc::clone(&self.state)));
            if self.end_deleted {
                let _ = worker
                    .requests
                    .try_send(WorkerRequest::EndConnectionsOfDeletedServers);
            }
        }
        self.end_deleted = false;
        log::debug!("published generation {}", self.state.generation);
        true
    }

    /// VIPs of all services.
    pub(super) fn vips(&self) -> HashSet<IpAddr> {
        self.services.vips().single().collect()
    }

    fn collect_retired(&self) {
        for worker in &self.workers {
            worker.retired.try_iter().for_each(drop);
        }
    }

    fn next_state(&mut self, stale: Stale) -> Arc<ForwardingState> {
        let before = Arc::clone(&self.state);
        let ports = self.network.port_forwarding();
        let mut addresses = self.vips();
        addresses.extend(self.network.own_addresses());
        let mut networks = self.services.vips().networks().clone();
        for network in self.services.outer_sources().iter() {
            networks.insert(network);
        }
        let local = LocalAddresses::new(addresses, networks);
        let touched = self.services.take_touched();
        let touched = touched.known().filter(|_| stale < Stale::Everything);
        let (servers, gue_ends) = match touched {
            Some(touched) => self.servers_as_before_but(touched),
            None => self.all_servers(),
        };
        let generation = before.generation + 1;
        let (tunables, timeouts) = (self.services.tunables, self.services.timeouts);
        let loads = Arc::clone(&before.loads);
        let local = shared(&before.local, local);
        let templates = Arc::clone(&before.templates);
        let unchanged = Arc::clone(&before.services);

        let changed_services = self.services.take_changed();
        let marks = self.services.vips().marks();
        let services = if changed_services.is_empty() && Arc::ptr_eq(unchanged.marks(), marks) {
            unchanged
        } else {
            self.service_table()
        };
        Arc::new(ForwardingState {
            generation,
            ports: ports.into(),
            local,
            gue_ends,
            services,
            changed_services: changed_services.into(),
            servers,
            loads,
            templates,
            tunables,
            timeouts: StateTimeouts::new(&timeouts),
        })
    }

    /// Makes all servers anew, and the ends of their tunnels over UDP.
    fn all_servers(&mut self) -> (Arc<[ServerForwarding]>, Arc<HashSet<SocketAddr>>) {
        let tunnels = self.services.tunnels();
        let gue_ends = gue_ends(&tunnels);
        self.network.path_mtus.set_tunnels(tunnels);
        let servers = self.services.servers().iter();
        let servers = servers.map(|server| self.server_forwarding(server));
        (servers.collect(), shared(&self.state.gue_ends, gue_ends))
    }

    /// The same, when no tunnel is gone and no other server has changed.
    fn servers_as_before_but(
        &mut self,
        touched: &[RealServerIndex],
    ) -> (Arc<[ServerForwarding]>, Arc<HashSet<SocketAddr>>) {
        let mut gue_ends = Arc::clone(&self.state.gue_ends);
        let before = &self.state.servers;
        let more = self.services.servers().len().saturating_sub(before.len());
        let more = std::iter::repeat_n(ServerForwarding::FREE, more);
        // Megabytes, copied once.
        let mut servers: Arc<[_]> = before.iter().copied().chain(more).collect();
        let places = Arc::make_mut(&mut servers);
        for &index in touched {
            let (Some(server), Some(place)) = (
                self.services.server(index),
                places.get_mut(index.as_usize()),
            ) else {
                continue;
            };
            let tunnel = self.services.tunnel_to(server);
            self.network
                .path_mtus
                .add_tunnel(server.key.address, tunnel);
            if let Some(end) = gue_end(server.key.address, tunnel.kind)
                && !gue_ends.contains(&end)
            {
                Arc::make_mut(&mut gue_ends).insert(end);
            }
            *place = self.server_forwarding(server);
        }
        (servers, gue_ends)
    }

    fn server_forwarding(&self, server: &Server) -> ServerForwarding {
        match server.presence {
            Presence::Free => ServerForwarding::FREE,
            presence => {
                let inner = IpVersion::of(server.service.address());
                let source = self.services.outer_source_of(server);
                let (address, options) = (server.key.address, &server.options);
                self.network
                    .server_forwarding((address, source), presence, options, inner)
            }
        }
    }

    /// The table of services: as before, but for those that were edited.
    fn service_table(&mut self) -> Arc<ServiceTable> {
        let mut table = ServiceTable::clone(&self.state.services);
        for index in self.state.changed_services.iter() {
            // Edits are told once.
            if let Some(service) = table.service(*index) {
                let service = ServiceForwarding {
                    edits: Arc::new([]),
                    ..service.clone()
                };
                table.set(*index, Arc::new(service));
            }
        }
        table.set_marks(Arc::clone(self.services.vips().marks()));
        for index in self.services.removed_services() {
            table.remove(index);
        }
        let edited: Vec<_> = self
            .services
            .take_edits()
            .map(|(key, service, edits)| {
                let servers = service.servers.clone();
                (service.index, *key, service.options, servers, edits)
            })
            .collect();
        for (index, key, options, servers, edits) in edited {
            let slots = || {
                servers
                    .iter()
                    .filter_map(|&server| self.services.server(server))
            };
            let hashed: Vec<_> = slots().map(|slot| hashed_server(slot, &key)).collect();
            let links = servers
                .iter()
                .zip(slots())
                .map(|(&server, slot)| ServerLink {
                    server,
                    link: slot.link,
                    weight: slot.options.weight,
                });
            let service = ServiceForwarding {
                key,
                options,
                servers: links.collect(),
                table: HashTable::build(options.scheduler, &hashed).map(Arc::new),
                edits: edits.into(),
            };
            table.set(index, Arc::new(service));
        }
        Arc::new(table)
    }
}

/// The part of the generation before, when it is still right.
fn shared<T: PartialEq>(before: &Arc<T>, now: T) -> Arc<T> {
    if **before == now {
        Arc::clone(before)
    } else {
        Arc::new(now)
    }
}

fn gue_ends(tunnels: &HashMap<IpAddr, Vec<Tunnel>>) -> HashSet<SocketAddr> {
    tunnels
        .iter()
        .flat_map(|(&rip, tunnels)| tunnels.iter().filter_map(move |it| gue_end(rip, it.kind)))
        .collect()
}

/// Where packets of a tunnel over UDP go.
fn gue_end(rip: IpAddr, kind: TunnelKind) -> Option<SocketAddr> {
    match kind {
        TunnelKind::Gue { l4_port, .. } => Some(SocketAddr::from((rip, l4_port))),
        TunnelKind::Ipip | TunnelKind::Gre { .. } => None,
    }
}

fn hashed_server(server: &Server, service: &ServiceKey) -> HashedServer {
    HashedServer {
        address: HashedServer::address_of(server.key.address, service.address()),
        l4_port: service.l4_port(),
        weight: server.options.weight,
        last_weight: server.last_weight,
    }
}
