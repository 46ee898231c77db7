//! What can be changed. Each request is one command and takes effect as a
//! whole or not at all.
#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Path, Request as HttpRequest, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;

use super::{
    Shared,
    problem::Problem,
    questions::{other_answer, server_key, service_key},
    router::asked,
};
use crate::{
    control::{
        command::{Command, CommandError},
        edit::{Edit, ServerPatch, ServicePatch, SettingsPatch, check_server, check_service},
        status::{self, Request},
    },
    scheduler::SchedulerKind,
    service::{ServerKey, ServerOptions, ServiceKey, ServiceOptions},
};

type Answer = Result<Response, Problem>;
type Api = State<Arc<Shared>>;

/// A service to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewService {
    key: ServiceKey,
    #[serde(default)]
    options: ServicePatch,
}

/// A real server to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewServer {
    key: ServerKey,
    #[serde(default)]
    options: ServerPatch,
}

/// Options of a service or a real server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options<T> {
    options: T,
}

/// A body of JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: HttpRequest, api: &Arc<Shared>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "send JSON, and say so: Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let bytes = Bytes::from_request(request, api).await;
        let bytes = bytes
            .map_err(|error: BytesRejection| Problem::new(error.status(), error.body_text()))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let status = match error.classify() {
                Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
                Category::Io | Category::Syntax | Category::Eof => StatusCode::BAD_REQUEST,
            };
            Problem::new(status, error)
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

pub(super) async fn add_service(State(api): Api, Body(new): Body<NewService>) -> Answer {
    let options = new.options.applied_to(service_default());
    check_service(&new.key, &options).map_err(Problem::unprocessable)?;
    apply(&api, Command::AddService(new.key, options)).await?;
    Ok(created(&path_of(&new.key)))
}

/// Changes a service to these options, or adds it with them.
pub(super) async fn put_service(
    State(api): Api,
    path: Path<(String, String)>,
    Body(Options { options }): Body<Options<ServicePatch>>,
) -> Answer {
    let key = service_key(&path)?;
    let options = options.applied_to(service_default());
    check_service(&key, &options).map_err(Problem::unprocessable)?;
    put(
        &api,
        Command::EditService(key, options),
        Command::AddService(key, options),
        &path_of(&key),
    )
    .await
}

pub(super) async fn patch_service(
    State(api): Api,
    path: Path<(String, String)>,
    Body(Options { options }): Body<Options<ServicePatch>>,
) -> Answer {
    edit(&api, Edit::Service(service_key(&path)?, options)).await
}

pub(super) async fn delete_service(State(api): Api, path: Path<(String, String)>) -> Answer {
    apply(&api, Command::DeleteService(service_key(&path)?)).await
}

pub(super) async fn flush(State(api): Api) -> Answer {
    apply(&api, Command::Flush).await
}

pub(super) async fn add_server(
    State(api): Api,
    path: Path<(String, String)>,
    Body(new): Body<NewServer>,
) -> Answer {
    let service = service_key(&path)?;
    check_server(&new.key).map_err(Problem::unprocessable)?;
    let options = new.options.applied_to(ServerOptions::default());
    apply(&api, Command::AddServer(service, new.key, options)).await?;
    Ok(created(&format!(
        "{}/servers/{}",
        path_of(&service),
        new.key
    )))
}

/// Changes a server to these options, or adds it with them.
pub(super) async fn put_server(
    State(api): Api,
    path: Path<(String, String, String)>,
    Body(Options { options }): Body<Options<ServerPatch>>,
) -> Answer {
    let (service, server) = server_key(&path)?;
    check_server(&server).map_err(Problem::unprocessable)?;
    let options = options.applied_to(ServerOptions::default());
    let edit = Command::EditServer(service, server, options);
    let add = Command::AddServer(service, server, options);
    put(
        &api,
        edit,
        add,
        &format!("{}/servers/{server}", path_of(&service)),
    )
    .await
}

pub(super) async fn patch_server(
    State(api): Api,
    path: Path<(String, String, String)>,
    Body(Options { options }): Body<Options<ServerPatch>>,
) -> Answer {
    let (service, server) = server_key(&path)?;
    edit(&api, Edit::Server(service, server, options)).await
}

pub(super) async fn delete_server(State(api): Api, path: Path<(String, String, String)>) -> Answer {
    let (service, server) = server_key(&path)?;
    apply(&api, Command::DeleteServer(service, server)).await
}

pub(super) async fn zero_service(State(api): Api, path: Path<(String, String)>) -> Answer {
    apply(&api, Command::Zero(Some(service_key(&path)?))).await
}

pub(super) async fn zero(State(api): Api) -> Answer {
    apply(&api, Command::Zero(None)).await
}

pub(super) async fn patch_settings(State(api): Api, Body(patch): Body<SettingsPatch>) -> Answer {
    edit(&api, Edit::Settings(patch)).await
}

pub(super) async fn revert(State(api): Api) -> Answer {
    request(&api, Request::Revert).await
}

/// Edits what is there, or adds it. Somebody else may do either in between;
/// then it is edited after all.
async fn put(api: &Arc<Shared>, edit: Command, add: Command, path: &str) -> Answer {
    match command(api, edit.clone()).await? {
        Err(CommandError::NoSuchService(_)) if !matches!(add, Command::AddService(..)) => {
            apply(api, edit).await
        }
        Err(CommandError::NoSuchService(_) | CommandError::NoSuchServer(..)) => {
            match command(api, add).await? {
                Ok(()) => Ok(created(path)),
                Err(CommandError::ServiceExists(_) | CommandError::ServerExists(..)) => {
                    apply(api, edit).await
                }
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn command(api: &Arc<Shared>, command: Command) -> Result<Result<(), CommandError>, Problem> {
    match asked(api, Request::Apply(command)).await {
        Ok(status::Response::Applied) => Ok(Ok(())),
        Ok(_) => Err(other_answer()),
        Err(problem) => problem.into_command_error().map(Err),
    }
}

async fn apply(api: &Arc<Shared>, command: Command) -> Answer {
    request(api, Request::Apply(command)).await
}

async fn edit(api: &Arc<Shared>, edit: Edit) -> Answer {
    request(api, Request::Edit(edit)).await
}

async fn request(api: &Arc<Shared>, request: Request) -> Answer {
    match asked(api, request).await? {
        status::Response::Applied => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(other_answer()),
    }
}

fn created(path: &str) -> Response {
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Where a service is, RFC 3986 having its say about brackets and slashes.
fn path_of(key: &ServiceKey) -> String {
    let name = match *key {
        ServiceKey::Vip { protocol, address } => {
            format!("{}/{address}", protocol.to_string().to_lowercase())
        }
        ServiceKey::Network {
            protocol,
            network,
            l4_port,
        } => {
            let network = match network {
                ipnet::IpNet::V4(network) => network.to_string(),
                ipnet::IpNet::V6(network) => format!("[{network}]"),
            };
            let network = network.replace('/', "%2F");
            format!(
                "{}/{network}:{l4_port}",
                protocol.to_string().to_lowercase()
            )
        }
        ServiceKey::Mark { fwmark, ipv6 } => {
            format!("fwmark{}/{fwmark}", if ipv6 { "6" } else { "" })
        }
    };
    format!(
        "/v1/services/{}",
        name.replace('[', "%5B").replace(']', "%5D")
    )
}

/// What a service is that says nothing of itself, as in the configuration.
fn service_default() -> ServiceOptions {
    SchedulerKind::default().into()
}
