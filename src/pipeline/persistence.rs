//! Connections of a client to a persistent service: all to one real server.

use crate::{
    connection::{
        CoarseDuration, CoarseTime, Templates,
        templates::{Attached, Ending, Template, TemplateEvent, TemplateIndex, TemplateKey},
    },
    counters::WorkerCounters,
    flow::Endpoints,
    forwarding::{
        FTP_PORT, ForwardingState, Presence, RealServerIndex, ServerLoads, ServiceForwarding,
    },
    service::Persistence,
};

/// The real server of a new connection: that of the client's template, or what
/// `pick` gives, which then becomes the client's. `None` when `pick` gives none.
pub(super) fn attach(
    state: &ForwardingState,
    counters: &WorkerCounters,
    (service, persistence): (&ServiceForwarding, Persistence),
    flow: &Endpoints,
    now: CoarseTime,
    pick: impl FnOnce() -> Option<RealServerIndex>,
) -> Option<Attached> {
    let attached = state.templates.attach(
        &key_of(service, persistence, flow),
        CoarseDuration::from_seconds(persistence.timeout_s),
        now,
        |server| is_usable(state, RealServerIndex(server)),
        || pick().map(|server| server.0),
        |server, event| count(&state.loads, counters, server, event),
    )?;
    if attached.template.is_none() {
        counters.templates_full.add(1);
    }
    Some(attached)
}

/// The template that a new connection would come to, if there is one and the
/// service is persistent.
pub(super) fn template_of(
    state: &ForwardingState,
    service: &ServiceForwarding,
    flow: &Endpoints,
) -> Option<Template> {
    let persistence = service.options.persistence?;
    state.templates.find(&key_of(service, persistence, flow))
}

/// Brings a copy of a template into another table, with one connection more
/// than it had.
pub(super) fn restore(
    templates: &Templates,
    template: &Template,
    now: CoarseTime,
) -> Option<TemplateIndex> {
    let attached = templates.attach(
        &template.key,
        CoarseDuration::between(now, template.deadline),
        now,
        |_| true,
        || Some(template.server),
        |_, _| {},
    );
    let index = attached?.template?;
    if template.assured {
        templates.assure(index);
    }
    Some(index)
}

/// A connection ended that may have been under a template.
pub(super) fn release(
    (templates, loads): (&Templates, &ServerLoads),
    counters: &WorkerCounters,
    controller: u32,
    ending: Ending,
    now: CoarseTime,
) {
    if let Some(template) = TemplateIndex::of_controller(controller) {
        templates.release(template, ending, now, |server, event| {
            count(loads, counters, server, event);
        });
    }
}

/// Keeps count of a template that began or ended.
pub(super) fn count(
    loads: &ServerLoads,
    counters: &WorkerCounters,
    server: u32,
    event: TemplateEvent,
) {
    let load = loads.of(RealServerIndex(server));
    match event {
        TemplateEvent::Began => load.open_template(),
        TemplateEvent::Ended => load.close_template(),
        TemplateEvent::Evicted => {
            load.close_template();
            counters.templates_evicted.add(1);
        }
    }
}

/// The template that a connection belongs to. One on the service's own port is
/// apart from those on others, which only a service on all ports has, and FTP's:
/// its data connections must come to the server of their control connection.
/// In a service by mark, or on a network of VIPs, a client has one server for all
/// of it.
fn key_of(service: &ServiceForwarding, persistence: Persistence, flow: &Endpoints) -> TemplateKey {
    let l4_port = flow.service.port();
    let has_own_port = l4_port == service.key.l4_port() && l4_port != FTP_PORT;
    let is_mark = service.key.protocol().is_none();
    TemplateKey {
        protocol: if is_mark { 0 } else { flow.protocol },
        client: persistence.mask.apply(flow.client.ip()),
        service: service.key.address(),
        l4_port: if has_own_port && !is_mark { l4_port } else { 0 },
    }
}

/// Whether a client may go on with the real server of its template. Weight 0
/// and thresholds do not keep it away.
fn is_usable(state: &ForwardingState, server: RealServerIndex) -> bool {
    state.server(server).is_some_and(|server| {
        server.presence == Presence::Listed
            && !(server.quiesced && state.tunables.expire_quiescent_template)
    })
}
