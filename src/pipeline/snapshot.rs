//! Copies of what a pipeline knows about some flows, and pipelines that go on
//! from such a copy: to see what would become of a packet and touch nothing.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::{Peers, Pipeline, peers::Received, persistence, route::Identifications};
use crate::{
    connection::{
        CoarseDuration, CoarseTime, ConnectionKey, Held, NewEntry, Tables,
        templates::{Template, TemplateIndex},
    },
    counters::WorkerCounters,
    flow::{Endpoints, FlowKeyV4, FlowKeyV6, HashKey},
    forwarding::{ForwardingState, ServiceAddress, ServiceForwarding, ServiceIndex},
    io::{Driver, PortIndex},
    scheduler::{Consideration, Request, Schedulers},
    service::Protocol,
};
/// What a pipeline knows about some flows.
#[derive(Debug)]
pub struct Snapshot {
    /// The generation that it works with.
    pub state: Arc<ForwardingState>,
    /// The connections of the flows that have one.
    pub connections: Vec<Held>,
    /// The states of the schedulers of the services that the flows are for.
    schedulers: Schedulers,
    untracked_until: Option<CoarseTime>,
    /// None of a pipeline that knows nothing.
    identifications: Option<Identifications>,
}

impl Snapshot {
    /// Of a pipeline that knows no flow.
    pub fn bare(state: Arc<ForwardingState>) -> Self {
        Self {
            state,
            connections: Vec::new(),
            schedulers: Schedulers::default(),
            untracked_until: None,
            identifications: None,
        }
    }
}

impl<D: Driver> Pipeline<D> {
    /// A copy of what is known about these flows. An ICMP error may be about a
    /// flow the other way round, so that both ways are looked for.
    pub fn snapshot(&self, flows: &[Endpoints]) -> Snapshot {
        let mut services: Vec<_> = flows
            .iter()
            .filter_map(|flow| service_of(&self.state, flow))
            .map(|(index, _)| index)
            .collect();
        services.sort_unstable();
        services.dedup();
        let both_ways = flows.iter().flat_map(|flow| [*flow, reversed(flow)]);
        Snapshot {
            state: Arc::clone(&self.state),
            connections: both_ways.filter_map(|flow| self.held(&flow)).collect(),
            schedulers: self.schedulers.snapshot(&services),
            untracked_until: self.untracked_until,
            identifications: Some(self.identifications),
        }
    }

    /// A pipeline without other workers that goes on from a copy. It changes
    /// loads and templates of its `state`, which must not be those of workers;
    /// connections of other snapshots may be added to those of the copy.
    pub fn resume(
        snapshot: Snapshot,
        state: Arc<ForwardingState>,
        (mut connections, hash_key): (Tables, HashKey),
        counters: Arc<CachePadded<WorkerCounters>>,
        pool: D::Pool,
        now: CoarseTime,
    ) -> Option<Self> {
        let peers = Peers::of(1).into_iter().next()?;
        for held in &snapshot.connections {
            let flow = &held.endpoints;
            let template = service_of(&snapshot.state, flow)
                .and_then(|(_, service)| persistence::template_of(&snapshot.state, service, flow))
                .filter(|_| held.controller != 0);
            let template = template.and_then(|it| persistence::restore(&state.templates, &it, now));
            restore(&mut connections, held, template, now);
        }
        let mut pipeline = Self::new(state, connections, counters, pool, hash_key, peers);
        pipeline.schedulers = snapshot.schedulers;
        pipeline.untracked_until = snapshot.untracked_until;
        if let Some(identifications) = snapshot.identifications {
            pipeline.identifications = identifications;
        }
        Some(pipeline)
    }

    /// Brings the template that this flow would come to from the state of a
    /// running director into this pipeline's, unless it is there.
    pub fn restore_template(&self, from: &ForwardingState, flow: &Endpoints, now: CoarseTime) {
        let Some((_, service)) = service_of(from, flow) else {
            return;
        };
        if self.template_of(flow).is_none()
            && let Some(template) = persistence::template_of(from, service, flow)
        {
            persistence::restore(&self.state.templates, &template, now);
        }
    }

    /// The flow whose connection decides about a packet; `None` when that is
    /// none.
    pub fn flow_of(&self, port: PortIndex, packet: D::Packet) -> Option<Endpoints> {
        let (parsed, _) = self.examine(port, &packet).ok()?;
        let received = Received { port, packet };
        let (_, key, _) = self.flow_asked_for(&received, &parsed)?;
        Some(key.endpoints())
    }

    /// The service that a flow is for.
    pub fn service_of(&self, flow: &Endpoints) -> Option<(ServiceIndex, &ServiceForwarding)> {
        service_of(&self.state, flow)
    }

    /// The connection of a flow.
    pub fn held(&self, flow: &Endpoints) -> Option<Held> {
        match key_of(flow)? {
            Key::V4(key) => self.held_by(&key),
            Key::V6(key) => self.held_by(&key),
        }
    }

    /// The template that a flow without a connection would come to.
    pub fn template_of(&self, flow: &Endpoints) -> Option<Template> {
        let (_, service) = service_of(&self.state, flow)?;
        persistence::template_of(&self.state, service, flow)
    }

    /// What the service's scheduler would go by for a new connection.
    pub fn consider(&self, flow: &Endpoints, now: CoarseTime) -> Option<Consideration> {
        let (index, service) = service_of(&self.state, flow)?;
        let request = Request {
            service,
            loads: &self.state.loads,
            flow,
            now,
        };
        self.schedulers.consider(index, &request)
    }

    fn held_by<K: ConnectionKey>(&self, key: &K) -> Option<Held> {
        let connections = self.connections.of::<K>();
        let index = connections.find(connections.hash(key), key)?;
        connections.entry(index).map(Held::from)
    }
}

fn service_of<'s>(
    state: &'s ForwardingState,
    flow: &Endpoints,
) -> Option<(ServiceIndex, &'s ServiceForwarding)> {
    state.services.find(&ServiceAddress {
        vip: flow.service.ip(),
        l4_port: flow.service.port(),
        protocol: Protocol::from_number(flow.protocol)?,
    })
}

/// Opens a copy of a connection, as far as there is room.
fn restore(tables: &mut Tables, held: &Held, template: Option<TemplateIndex>, now: CoarseTime) {
    match key_of(&held.endpoints) {
        Some(Key::V4(key)) => restore_as(tables, key, held, template, now),
        Some(Key::V6(key)) => restore_as(tables, key, held, template, now),
        None => {}
    }
}

fn restore_as<K: ConnectionKey>(
    tables: &mut Tables,
    key: K,
    held: &Held,
    template: Option<TemplateIndex>,
    now: CoarseTime,
) {
    let table = tables.of_mut::<K>();
    let hash = table.hash(&key);
    // Two packets of a capture may be of one flow.
    if table.find(hash, &key).is_some() {
        return;
    }
    let new = NewEntry {
        server: held.server,
        state: held.state,
        controller: TemplateIndex::to_controller(template),
        flags: held.flags,
    };
    let timeout = CoarseDuration::between(now, held.deadline);
    // What there is no room for is explained as a new connection.
    let _ = table.insert(hash, key, &new, timeout, now);
}

enum Key {
    V4(FlowKeyV4),
    V6(FlowKeyV6),
}

fn key_of(flow: &Endpoints) -> Option<Key> {
    use std::net::SocketAddr::{V4, V6};
    match (flow.client, flow.service) {
        (V4(client), V4(service)) => Some(Key::V4(FlowKeyV4::new(client, service, flow.protocol))),
        (V6(client), V6(service)) => Some(Key::V6(FlowKeyV6::new(client, service, flow.protocol))),
        _ => None,
    }
}

const fn reversed(flow: &Endpoints) -> Endpoints {
    Endpoints {
        client: flow.service,
        service: flow.client,
        protocol: flow.protocol,
    }
}
