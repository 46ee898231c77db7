//! What can be read: the same JSON as `pointsman show ... --json` prints.
#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::Response,
};
use serde::Deserialize;

use super::{
    Shared,
    changes::Body,
    problem::Problem,
    router::{asked, json, with_type},
};
use crate::{
    control::{
        command::CommandError,
        status::{
            self, CONNECTIONS_SHOWN_DEFAULT, CONNECTIONS_SHOWN_MAX, Request, ServiceStatus,
            explanation::Question,
        },
    },
    service::{ServerKey, ServiceKey},
};

type Answer = Result<Response, Problem>;
type Api = State<Arc<Shared>>;

pub(super) async fn services(State(api): Api) -> Answer {
    json(&all_services(&api).await?)
}

pub(super) async fn service(State(api): Api, path: Path<(String, String)>) -> Answer {
    json(&one_service(&api, service_key(&path)?).await?)
}

pub(super) async fn servers(State(api): Api, path: Path<(String, String)>) -> Answer {
    json(&one_service(&api, service_key(&path)?).await?.servers)
}

pub(super) async fn server(State(api): Api, path: Path<(String, String, String)>) -> Answer {
    let (service, server) = server_key(&path)?;
    let found = one_service(&api, service).await?;
    let found = found.servers.iter().find(|it| it.key == server);
    json(found.ok_or(CommandError::NoSuchServer(service, server))?)
}

/// `?limit=100&service=tcp/192.0.2.10:80`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<usize>,
    service: Option<String>,
}

pub(super) async fn connections(
    State(api): Api,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer {
    let Query(which) = which.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let service: Option<Result<ServiceKey, _>> = which.service.map(|text| text.parse());
    let service = service.transpose().map_err(Problem::unprocessable)?;
    let limit = which.limit.unwrap_or(CONNECTIONS_SHOWN_DEFAULT);
    let limit = limit.min(CONNECTIONS_SHOWN_MAX);
    match asked(&api, Request::Connections { limit, service }).await? {
        status::Response::Connections {
            connections,
            total,
            truncated,
        } => json(&serde_json::json!({
            "connections": connections,
            "total": total,
            "truncated": truncated,
        })),
        _ => Err(other_answer()),
    }
}

pub(super) async fn counters(State(api): Api) -> Answer {
    answer_to(&api, Request::Counters).await
}

pub(super) async fn workers(State(api): Api) -> Answer {
    answer_to(&api, Request::Workers).await
}

pub(super) async fn ports(State(api): Api) -> Answer {
    answer_to(&api, Request::Ports).await
}

pub(super) async fn neighbors(State(api): Api) -> Answer {
    answer_to(&api, Request::Neighbors).await
}

pub(super) async fn routes(State(api): Api) -> Answer {
    answer_to(&api, Request::Routes).await
}

pub(super) async fn director(State(api): Api) -> Answer {
    answer_to(&api, Request::Director).await
}

pub(super) async fn settings(State(api): Api) -> Answer {
    answer_to(&api, Request::Settings).await
}

/// What would become of packets: as `pointsman explain --json` prints it. A
/// question that has a body, and changes nothing.
pub(super) async fn explain(State(api): Api, Body(question): Body<Question>) -> Answer {
    answer_to(&api, Request::Explain(question)).await
}

/// What the management thread says, without the name of the answer around it.
async fn answer_to(api: &Arc<Shared>, request: Request) -> Answer {
    match asked(api, request).await? {
        status::Response::Counters(counters) => json(&counters),
        status::Response::Workers(workers) => json(&workers),
        status::Response::Ports(ports) => json(&ports),
        status::Response::Neighbors(neighbors) => json(&neighbors),
        status::Response::Routes(routes) => json(&routes),
        status::Response::Director(director) => json(&director),
        status::Response::Settings(settings) => json(&settings),
        status::Response::Explain(explanation) => json(&explanation),
        _ => Err(other_answer()),
    }
}

pub(super) async fn openapi() -> Response {
    with_type("application/json", OPENAPI)
}

pub(super) async fn all_services(api: &Arc<Shared>) -> Result<Vec<ServiceStatus>, Problem> {
    match asked(api, Request::Services).await? {
        status::Response::Services(services) => Ok(services),
        _ => Err(other_answer()),
    }
}

async fn one_service(api: &Arc<Shared>, key: ServiceKey) -> Result<ServiceStatus, Problem> {
    match asked(api, Request::Service(key)).await? {
        status::Response::Services(mut services) => {
            Ok(services.pop().ok_or(CommandError::NoSuchService(key))?)
        }
        _ => Err(other_answer()),
    }
}

/// The service that a path names: `/tcp/192.0.2.10:80`, `/fwmark/5`.
pub(super) fn service_key(
    Path((protocol, address)): &Path<(String, String)>,
) -> Result<ServiceKey, Problem> {
    let key = format!("{protocol}/{address}");
    key.parse().map_err(Problem::not_found)
}

/// The real server that a path names, and its service.
pub(super) fn server_key(
    Path((protocol, address, server)): &Path<(String, String, String)>,
) -> Result<(ServiceKey, ServerKey), Problem> {
    let service = format!("{protocol}/{address}").parse();
    let rip = server.parse().map_err(|_| {
        Problem::not_found(format!(
            "\"{server}\" is no address of a real server; write its RIP"
        ))
    })?;
    Ok((
        service.map_err(Problem::not_found)?,
        ServerKey { address: rip },
    ))
}

/// The management thread has answered what nobody asked: a defect.
pub(super) fn other_answer() -> Problem {
    let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "the director gave the answer to another question")
}

const OPENAPI: &str = include_str!("openapi.json");
