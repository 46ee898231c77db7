//! The services and real servers of a director: what commands change.
//!
//! Pure bookkeeping with the rules of Linux IPVS: the newest server stands
//! first; a deleted server stays behind as long as connections to it are left
//! and comes back with them when it is added again. What the packet path needs
//! of it is made by [`super::publish`].
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::{
    command::{Command, CommandError},
    outer_sources::{OuterSources, Tunnel},
    touched::Touched,
    vips::Vips,
};
use crate::{
    control::status::Statistics,
    forwarding::{
        ListChange, Presence, RealServerIndex, SERVERS_MAX, SERVICES_MAX, ServerLoads, ServiceEdit,
        ServiceIndex, Weights,
    },
    service::{
        MarkGroup, ServerKey, ServerOptions, ServiceKey, ServiceOptions, Timeouts, Tunables,
        TunnelKind, WEIGHT_MAX,
    },
};

/// All services and servers.
#[derive(Debug)]
pub(super) struct Services {
    by_key: BTreeMap<ServiceKey, Service>,
    vips: Vips,
    outer_sources: OuterSources,
    servers: Vec<Server>,
    /// Slots of deleted servers that may come back.
    deleted: HashMap<(ServiceKey, ServerKey), RealServerIndex>,
    /// Slots without a server.
    free_servers: Vec<RealServerIndex>,
    /// Slots without a service.
    free_slots: Vec<ServiceIndex>,
    slots_made: u32,
    links_made: u64,
    changed: Vec<ServiceIndex>,
    touched: Touched,
    loads: Arc<ServerLoads>,
    /// The kernel's settings.
    pub tunables: Tunables,
    /// How long connections live without a packet.
    pub timeouts: Timeouts,
}

/// A virtual service.
#[derive(Debug)]
pub(super) struct Service {
    /// Its slot.
    pub index: ServiceIndex,
    /// What can be changed of it.
    pub options: ServiceOptions,
    /// Its servers, the newest first.
    pub servers: Vec<RealServerIndex>,
    /// What happened to it since it was last published, oldest first.
    pub edits: Vec<ServiceEdit>,
    /// What went to servers while they were in its list and are no longer.
    left_behind: Statistics,
}

/// A slot for a real server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Whether there is one.
    pub presence: Presence,
    /// The service it is or was in.
    pub service: ServiceKey,
    /// Its address.
    pub key: ServerKey,
    /// Weight and thresholds.
    pub options: ServerOptions,
    /// Its last weight above 0 since it was added; Maglev hashing goes by it.
    pub last_weight: u32,
    /// Differs each time it is put into a list.
    pub link: u64,
    /// Generation in which it was deleted.
    deleted_in: u64,
    /// Counters of the slot when it was last zeroed.
    zeroed_at: Statistics,
    /// Counters of the slot when its service began to count it.
    listed_at: Statistics,
    /// Packets to clients of which no worker knows, since the director started,
    /// and their bytes.
    sent: (u64, u64),
}

impl Server {
    /// The counters of the slot, with what no worker knows of.
    const fn totals(&self, workers: Statistics) -> Statistics {
        Statistics {
            out_packets: workers.out_packets + self.sent.0,
            out_bytes: workers.out_bytes + self.sent.1,
            ..workers
        }
    }
}

/// Reads the counters of a slot: what went to its server, over all workers,
/// since the director started.
pub(super) type ReadTotals<'a> = &'a dyn Fn(RealServerIndex) -> Statistics;

impl Services {
    /// No service yet.
    pub(super) fn new(loads: Arc<ServerLoads>, tunables: Tunables, timeouts: Timeouts) -> Self {
        Self {
            by_key: BTreeMap::new(),
            vips: Vips::default(),
            outer_sources: OuterSources::default(),
            servers: Vec::new(),
            deleted: HashMap::new(),
            free_servers: Vec::new(),
            free_slots: Vec::new(),
            slots_made: 0,
            links_made: 0,
            changed: Vec::new(),
            touched: Touched::default(),
            loads,
            tunables,
            timeouts,
        }
    }

    /// All services in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ServiceKey, &Service)> {
        self.by_key.iter()
    }

    /// The service with this key.
    pub(super) fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.by_key.get(key)
    }

    /// The VIPs of all services.
    pub(super) const fn vips(&self) -> &Vips {
        &self.vips
    }

    /// The networks that outer packets come from, where services have some.
    pub(super) const fn outer_sources(&self) -> &OuterSources {
        &self.outer_sources
    }

    /// The network that outer packets to a server come from, if its service
    /// has one.
    pub(super) fn outer_source_of(&self, server: &Server) -> Option<IpNet> {
        if self.outer_sources.is_empty() {
            return None;
        }
        let service = self.service(&server.service)?;
        service.options.outer_source_to(server.key.address)
    }

    /// Says what firewall marks stand for from now on.
    pub(super) fn set_mark_groups(&mut self, groups: &[MarkGroup]) {
        self.vips.set_groups(groups, self.by_key.keys());
    }

    /// The addresses of all real servers, deleted ones included, with the
    /// tunnels that lead there.
    pub(super) fn tunnels(&self) -> HashMap<IpAddr, Vec<Tunnel>> {
        let mut tunnels: HashMap<_, Vec<_>> = HashMap::new();
        let there = self.servers.iter();
        for server in there.filter(|server| server.presence != Presence::Free) {
            let tunnel = self.tunnel_to(server);
            let known = tunnels.entry(server.key.address).or_default();
            if !known.contains(&tunnel) {
                known.push(tunnel);
            }
        }
        tunnels
    }

    /// The tunnel that leads to a server.
    pub(super) fn tunnel_to(&self, server: &Server) -> Tunnel {
        Tunnel {
            kind: server.options.tunnel,
            source: self.outer_source_of(server),
        }
    }

    /// All slots for servers, by index.
    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server in a slot.
    pub(super) fn server(&self, index: RealServerIndex) -> Option<&Server> {
        self.servers.get(index.as_usize())
    }

    /// Carries out a command. `generation` is the one that will show it.
    ///
    /// # Errors
    /// [`CommandError`]; nothing has changed then.
    pub(super) fn apply(
        &mut self,
        command: &Command,
        generation: u64,
        totals: ReadTotals<'_>,
    ) -> Result<(), CommandError> {
        match command {
            Command::AddService(key, options) => self.add_service(*key, *options),
            Command::EditService(key, options) => self.edit_service(key, *options),
            Command::DeleteService(key) => self.delete_service(key, generation, totals),
            Command::AddServer(service, key, options) => {
                self.add_server(*service, *key, *options, totals)
            }
            Command::EditServer(service, key, options) => self.edit_server(service, key, *options),
            Command::DeleteServer(service, key) => {
                self.delete_server(service, key, generation, totals)
            }
            Command::Flush => {
                let keys: Vec<_> = self.by_key.keys().copied().collect();
                keys.iter()
                    .try_for_each(|key| self.delete_service(key, generation, totals))
            }
            Command::Zero(Some(key)) => self.zero(key, totals),
            Command::Zero(None) => {
                let keys: Vec<_> = self.by_key.keys().copied().collect();
                keys.iter().try_for_each(|key| self.zero(key, totals))
            }
            Command::SetTimeouts(timeouts) => {
                self.timeouts = *timeouts;
                Ok(())
            }
            Command::SetTunables(tunables) => {
                self.tunables = *tunables;
                Ok(())
            }
        }
    }

    /// Counts a packet to a client about its connection to a server, as Linux
    /// IPVS does: not for a deleted server, nor for one-packet scheduling, which
    /// leaves no connection.
    pub(super) fn count_sent(&mut self, index: RealServerIndex, bytes: usize) {
        let Some(server) = self.servers.get_mut(index.as_usize()) else {
            return;
        };
        let service = self.by_key.get(&server.service);
        let has_connections = service.is_some_and(|service| !service.options.one_packet);
        if server.presence == Presence::Listed && has_connections {
            server.sent.0 += 1;
            server.sent.1 += bytes as u64;
        }
    }

    /// What went through a service.
    pub(super) fn statistics(&self, service: &Service, totals: ReadTotals<'_>) -> Statistics {
        let listed = service.servers.iter().filter_map(|&index| {
            self.server(index)
                .map(|server| difference(server.totals(totals(index)), server.listed_at))
        });
        listed.fold(service.left_behind, sum)
    }

    /// What went to a server since it was new or zeroed.
    pub(super) fn server_statistics(
        &self,
        index: RealServerIndex,
        totals: ReadTotals<'_>,
    ) -> Statistics {
        self.server(index)
            .map(|server| difference(server.totals(totals(index)), server.zeroed_at))
            .unwrap_or_default()
    }

    /// What went to all servers since the director started, deleted ones
    /// included.
    pub(super) fn all_statistics(&self, totals: ReadTotals<'_>) -> Statistics {
        (0..)
            .map(RealServerIndex)
            .zip(&self.servers)
            .map(|(index, server)| server.totals(totals(index)))
            .fold(Statistics::default(), sum)
    }

    /// The slots of services that changed since the last call. Their edits are
    /// to be taken with [`take_edits`](Self::take_edits).
    pub(super) fn take_changed(&mut self) -> Vec<ServiceIndex> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The slots of servers that changed since the last call.
    pub(super) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// The slots of services that were deleted and not yet used again.
    pub(super) fn removed_services(&self) -> impl Iterator<Item = ServiceIndex> {
        self.free_slots.iter().copied()
    }

    /// The edits of each changed service, which are then forgotten.
    pub(super) fn take_edits(
        &mut self,
    ) -> impl Iterator<Item = (&ServiceKey, &Service, Vec<ServiceEdit>)> {
        self.by_key
            .iter_mut()
            .filter(|(_, service)| !service.edits.is_empty())
            .map(|(key, service)| {
                let edits = std::mem::take(&mut service.edits);
                (key, &*service, edits)
            })
    }

    /// Frees the slots of deleted servers that no worker can have a connection
    /// to any more: all of them work with generation `oldest` or later.
    /// Returns whether there was one.
    pub(super) fn free_deleted(&mut self, oldest: u64) -> bool {
        let before = self.free_servers.len();
        let (loads, servers) = (&self.loads, &mut self.servers);
        let free_servers = &mut self.free_servers;
        self.deleted.retain(|_, &mut index| {
            let Some(server) = servers.get_mut(index.as_usize()) else {
                return false;
            };
            let stays = server.deleted_in > oldest || !loads.of(index).is_idle();
            if !stays {
                server.presence = Presence::Free;
                free_servers.push(index);
            }
            stays
        });
        let has_freed = self.free_servers.len() > before;
        if has_freed {
            // Perhaps there was no other way to its address.
            self.touched.everything();
        }
        has_freed
    }

    fn add_service(
        &mut self,
        key: ServiceKey,
        options: ServiceOptions,
    ) -> Result<(), CommandError> {
        if self.by_key.contains_key(&key) {
            return Err(CommandError::ServiceExists(key));
        }
        let index = match self.free_slots.pop() {
            Some(index) => index,
            None if self.slots_made as usize >= SERVICES_MAX => {
                return Err(CommandError::TooManyServices(SERVICES_MAX));
            }
            None => {
                self.slots_made += 1;
                ServiceIndex(self.slots_made - 1)
            }
        };
        let service = Service {
            index,
            options,
            servers: Vec::new(),
            edits: vec![ServiceEdit::SchedulerSet(Weights::of([]))],
            left_behind: Statistics::default(),
        };
        self.by_key.insert(key, service);
        self.vips.add(&key);
        self.change_outer_source(None, Some(&options));
        self.changed.push(index);
        Ok(())
    }

    fn edit_service(
        &mut self,
        key: &ServiceKey,
        options: ServiceOptions,
    ) -> Result<(), CommandError> {
        let weights = self.weights(key);
        let service = self
            .by_key
            .get_mut(key)
            .ok_or(CommandError::NoSuchService(*key))?;
        // The same scheduler again keeps its state, as in Linux IPVS.
        if service.options.scheduler != options.scheduler {
            service.edits.push(ServiceEdit::SchedulerSet(weights));
            self.changed.push(service.index);
        } else if service.options != options {
            service.edits.push(ServiceEdit::OptionsChanged);
            self.changed.push(service.index);
        }
        let before = std::mem::replace(&mut service.options, options);
        self.change_outer_source(Some(&before), Some(&options));
        Ok(())
    }

    fn delete_service(
        &mut self,
        key: &ServiceKey,
        generation: u64,
        totals: ReadTotals<'_>,
    ) -> Result<(), CommandError> {
        let service = self
            .by_key
            .get(key)
            .ok_or(CommandError::NoSuchService(*key))?;
        for index in service.servers.clone() {
            self.unlist(key, index, generation, totals);
        }
        if let Some(service) = self.by_key.remove(key) {
            self.change_outer_source(Some(&service.options), None);
            self.changed.push(service.index);
            self.free_slots.push(service.index);
        }
        self.vips.remove(key);
        Ok(())
    }

    /// A service has other options than before, or is new, or gone. Its servers,
    /// deleted ones included, are then reached from another address.
    fn change_outer_source(
        &mut self,
        before: Option<&ServiceOptions>,
        now: Option<&ServiceOptions>,
    ) {
        let source = |options: Option<&ServiceOptions>| options?.outer_source;
        if source(before) != source(now) {
            self.touched.everything();
        }
        if let Some(before) = before {
            self.outer_sources.remove(before);
        }
        if let Some(now) = now {
            self.outer_sources.add(now);
        }
    }

    fn add_server(
        &mut self,
        service_key: ServiceKey,
        key: ServerKey,
        options: ServerOptions,
        totals: ReadTotals<'_>,
    ) -> Result<(), CommandError> {
        check_options(&options)?;
        if self.find(&service_key, &key)?.is_some() {
            return Err(CommandError::ServerExists(service_key, key));
        }
        let index = self.slot_for(&service_key, &key)?;
        self.links_made += 1;
        let listed_at = totals(index);
        let Some(server) = self.servers.get_mut(index.as_usize()) else {
            return Err(CommandError::TooManyServers(SERVERS_MAX));
        };
        let listed_at = server.totals(listed_at);
        self.touched.server(index);
        if server.presence == Presence::Free {
            server.zeroed_at = listed_at;
            self.loads.of(index).set_thresholds(0, 0);
        } else if server.options.tunnel != options.tunnel {
            // Its old tunnel is gone.
            self.touched.everything();
        }
        server.presence = Presence::Listed;
        server.service = service_key;
        server.key = key;
        server.options = options;
        server.last_weight = options.weight;
        server.link = self.links_made;
        server.listed_at = listed_at;
        self.loads
            .of(index)
            .set_thresholds(options.upper_threshold, options.lower_threshold);
        if let Some(service) = self.by_key.get_mut(&service_key) {
            service.servers.insert(0, index);
        }
        self.list_changed(&service_key, ListChange::Added(self.links_made));
        Ok(())
    }

    fn edit_server(
        &mut self,
        service_key: &ServiceKey,
        key: &ServerKey,
        options: ServerOptions,
    ) -> Result<(), CommandError> {
        check_options(&options)?;
        let index = self
            .find(service_key, key)?
            .ok_or(CommandError::NoSuchServer(*service_key, *key))?;
        self.touched.server(index);
        if let Some(server) = self.servers.get_mut(index.as_usize()) {
            if server.options.tunnel != options.tunnel {
                self.touched.everything();
            }
            server.options = options;
            if options.weight > 0 {
                server.last_weight = options.weight;
            }
        }
        self.loads
            .of(index)
            .set_thresholds(options.upper_threshold, options.lower_threshold);
        self.list_changed(service_key, ListChange::Edited);
        Ok(())
    }

    fn delete_server(
        &mut self,
        service_key: &ServiceKey,
        key: &ServerKey,
        generation: u64,
        totals: ReadTotals<'_>,
    ) -> Result<(), CommandError> {
        let index = self
            .find(service_key, key)?
            .ok_or(CommandError::NoSuchServer(*service_key, *key))?;
        let link = self.server(index).map_or(0, |server| server.link);
        self.unlist(service_key, index, generation, totals);
        self.list_changed(service_key, ListChange::Deleted(link));
        Ok(())
    }

    fn zero(&mut self, key: &ServiceKey, totals: ReadTotals<'_>) -> Result<(), CommandError> {
        let service = self
            .by_key
            .get_mut(key)
            .ok_or(CommandError::NoSuchService(*key))?;
        service.left_behind = Statistics::default();
        for &index in &service.servers {
            if let Some(server) = self.servers.get_mut(index.as_usize()) {
                server.zeroed_at = server.totals(totals(index));
                server.listed_at = server.zeroed_at;
            }
        }
        Ok(())
    }

    /// Takes a server out of its service's list. Its slot waits for its
    /// connections to end, or for its return.
    fn unlist(
        &mut self,
        service_key: &ServiceKey,
        index: RealServerIndex,
        generation: u64,
        totals: ReadTotals<'_>,
    ) {
        let Some(server) = self.servers.get_mut(index.as_usize()) else {
            return;
        };
        self.touched.server(index);
        server.presence = Presence::Deleted;
        server.deleted_in = generation;
        self.deleted.insert((*service_key, server.key), index);
        let passed = difference(server.totals(totals(index)), server.listed_at);
        if let Some(service) = self.by_key.get_mut(service_key) {
            service.servers.retain(|listed| *listed != index);
            service.left_behind = sum(service.left_behind, passed);
        }
    }

    /// The listed server with this key, or `None`; an error without a service.
    fn find(
        &self,
        service_key: &ServiceKey,
        key: &ServerKey,
    ) -> Result<Option<RealServerIndex>, CommandError> {
        let service = self
            .by_key
            .get(service_key)
            .ok_or(CommandError::NoSuchService(*service_key))?;
        Ok(service
            .servers
            .iter()
            .copied()
            .find(|&index| self.server(index).is_some_and(|server| server.key == *key)))
    }

    /// The slot that a server gets: its old one while connections are left, or
    /// a free one.
    fn slot_for(
        &mut self,
        service: &ServiceKey,
        key: &ServerKey,
    ) -> Result<RealServerIndex, CommandError> {
        if let Some(index) = self.deleted.remove(&(*service, *key)) {
            return Ok(index);
        }
        if let Some(index) = self.free_servers.pop() {
            return Ok(index);
        }
        let index = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        if index as usize >= SERVERS_MAX {
            return Err(CommandError::TooManyServers(SERVERS_MAX));
        }
        self.servers.push(Server {
            presence: Presence::Free,
            service: *service,
            key: *key,
            options: ServerOptions::default(),
            last_weight: 0,
            link: 0,
            deleted_in: 0,
            zeroed_at: Statistics::default(),
            listed_at: Statistics::default(),
            sent: (0, 0),
        });
        Ok(RealServerIndex(index))
    }

    fn list_changed(&mut self, key: &ServiceKey, change: ListChange) {
        let weights = self.weights(key);
        if let Some(service) = self.by_key.get_mut(key) {
            service
                .edits
                .push(ServiceEdit::ListChanged(change, weights));
            self.changed.push(service.index);
        }
    }

    fn weights(&self, key: &ServiceKey) -> Weights {
        let servers = self
            .by_key
            .get(key)
            .map(|service| service.servers.as_slice());
        let listed = servers.unwrap_or_default().iter();
        Weights::of(
            listed
                .filter_map(|&index| self.server(index))
                .map(|server| server.options.weight),
        )
    }
}

fn check_options(options: &ServerOptions) -> Result<(), CommandError> {
    let ServerOptions {
        weight,
        upper_threshold: upper,
        lower_threshold: lower,
        tunnel,
    } = *options;
    if weight > WEIGHT_MAX {
        Err(CommandError::WeightOutOfRange(weight))
    } else if lower > upper {
        Err(CommandError::ThresholdsCrossed { lower, upper })
    } else if matches!(tunnel, TunnelKind::Gue { l4_port: 0, .. }) {
        Err(CommandError::NoTunnelPort)
    } else {
        Ok(())
    }
}

fn sum(a: Statistics, b: Statistics) -> Statistics {
    Statistics {
        connections: a.connections + b.connections,
        in_packets: a.in_packets + b.in_packets,
        in_bytes: a.in_bytes + b.in_bytes,
        out_packets: a.out_packets + b.out_packets,
        out_bytes: a.out_bytes + b.out_bytes,
    }
}

/// What was added since `earlier`. Workers count on while this is computed, so
/// that a later reading may seem the smaller one.
pub(super) fn difference(now: Statistics, earlier: Statistics) -> Statistics {
    Statistics {
        connections: now.connections.saturating_sub(earlier.connections),
        in_packets: now.in_packets.saturating_sub(earlier.in_packets),
        in_bytes: now.in_bytes.saturating_sub(earlier.in_bytes),
        out_packets: now.out_packets.saturating_sub(earlier.out_packets),
        out_bytes: now.out_bytes.saturating_sub(earlier.out_bytes),
    }
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
