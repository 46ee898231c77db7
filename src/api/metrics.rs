//! `/metrics`: what Prometheus scrapes.
//!
//! Two families of names. Those of `node_exporter`'s IPVS collector, with its
//! labels and its texts, so that dashboards and alerts for kernel directors
//! work; and our own, `pointsman_`, which say what a kernel director does not
//! tell. `docs/counters.md` lists them.
#![forbid(unsafe_code)]

mod node_exporter;
mod own;
mod text;

use std::sync::Arc;

use axum::{extract::State, response::Response};

use self::text::Text;
use super::{
    Shared,
    problem::Problem,
    questions::{all_services, other_answer},
    router::{asked, with_type},
};
use crate::{
    control::status::{
        self, CounterStatus, DirectorStatus, NeighborStatus, PortStatus, Request, ServiceStatus,
        Statistics, WorkerStatus,
    },
    service::ServiceKey,
};

/// All that the metrics are made of.
#[derive(Debug)]
struct Facts {
    director: DirectorStatus,
    services: Vec<ServiceStatus>,
    /// Of all services, deleted ones included.
    total: Statistics,
    counters: Vec<CounterStatus>,
    workers: Vec<WorkerStatus>,
    ports: Vec<PortStatus>,
    neighbors: Vec<NeighborStatus>,
}

pub(super) async fn metrics(State(api): State<Arc<Shared>>) -> Result<Response, Problem> {
    let text = render(&Facts::gather(&api).await?);
    Ok(with_type(CONTENT_TYPE, text))
}

impl Facts {
    async fn gather(api: &Arc<Shared>) -> Result<Self, Problem> {
        let services = all_services(api).await?;
        let status::Response::Statistics { total, .. } = asked(api, Request::Statistics).await?
        else {
            return Err(other_answer());
        };
        let status::Response::Director(director) = asked(api, Request::Director).await? else {
            return Err(other_answer());
        };
        let status::Response::Counters(counters) = asked(api, Request::Counters).await? else {
            return Err(other_answer());
        };
        let status::Response::Workers(workers) = asked(api, Request::Workers).await? else {
            return Err(other_answer());
        };
        let status::Response::Ports(ports) = asked(api, Request::Ports).await? else {
            return Err(other_answer());
        };
        let status::Response::Neighbors(neighbors) = asked(api, Request::Neighbors).await? else {
            return Err(other_answer());
        };
        Ok(Self {
            director,
            services,
            total,
            counters,
            workers,
            ports,
            neighbors,
        })
    }
}

fn render(facts: &Facts) -> String {
    let mut text = Text::default();
    node_exporter::write(facts, &mut text);
    own::write(facts, &mut text);
    text.finish()
}

/// How `node_exporter` names a service in labels, by way of
/// `/proc/net/ip_vs`: the address is empty where there is a mark, which stands
/// there in hexadecimal.
struct ServiceLabels {
    address: String,
    l4_port: String,
    mark: String,
    protocol: String,
}

impl ServiceLabels {
    fn of(key: &ServiceKey) -> Self {
        let protocol = key
            .protocol()
            .map_or_else(|| "FWM".to_owned(), |it| it.to_string());
        let (address, mark) = match *key {
            ServiceKey::Vip { address, .. } => (address.ip().to_string(), String::new()),
            ServiceKey::Network { network, .. } => (network.to_string(), String::new()),
            ServiceKey::Mark { fwmark, .. } => (String::new(), format!("{fwmark:08X}")),
        };
        Self {
            address,
            l4_port: key.l4_port().to_string(),
            mark,
            protocol,
        }
    }

    /// The labels of one of its real servers; the tunnel keeps the service's
    /// port.
    fn with<'l>(&'l self, rip: &'l str) -> [(&'static str, &'l str); 6] {
        [
            ("local_address", &self.address),
            ("local_port", &self.l4_port),
            ("remote_address", rip),
            ("remote_port", &self.l4_port),
            ("proto", &self.protocol),
            ("local_mark", &self.mark),
        ]
    }
}

/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests;
