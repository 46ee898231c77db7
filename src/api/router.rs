//! Which request is for whom, and what all requests have in common: the token,
//! the time, errors as problem documents.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use tokio::{task, time};

use super::{BODY_LEN_MAX, REQUEST_TIMEOUT, Shared, changes, metrics, problem::Problem, questions};
use crate::control::{
    socket::ask,
    status::{self, Request as Question},
};

pub(super) type Handlers = MethodRouter<Arc<Shared>>;

/// All paths with what can be done there. `openapi.json` describes them, and a
/// test holds both against each other.
pub const ROUTES: [&str; 18] = [
    METRICS,
    "/v1/connections",
    "/v1/counters",
    "/v1/director",
    EXPLAIN,
    "/v1/neighbors",
    "/v1/openapi.json",
    "/v1/ports",
    "/v1/revert",
    "/v1/routes",
    "/v1/services",
    SERVICE,
    "/v1/services/{protocol}/{address}/servers",
    SERVER,
    "/v1/services/{protocol}/{address}/zero",
    "/v1/settings",
    "/v1/workers",
    "/v1/zero",
];

const METRICS: &str = "/metrics";
const EXPLAIN: &str = "/v1/explain";
const SERVICE: &str = "/v1/services/{protocol}/{address}";
const SERVER: &str = "/v1/services/{protocol}/{address}/servers/{server}";

/// What is done at a path of [`ROUTES`].
fn handlers(path: &str) -> Handlers {
    match path {
        METRICS => get(metrics::metrics),
        "/v1/connections" => get(questions::connections),
        "/v1/counters" => get(questions::counters),
        "/v1/director" => get(questions::director),
        EXPLAIN => post(questions::explain),
        "/v1/neighbors" => get(questions::neighbors),
        "/v1/openapi.json" => get(questions::openapi),
        "/v1/ports" => get(questions::ports),
        "/v1/revert" => post(changes::revert),
        "/v1/routes" => get(questions::routes),
        "/v1/services" => get(questions::services)
            .post(changes::add_service)
            .delete(changes::flush),
        SERVICE => get(questions::service)
            .put(changes::put_service)
            .patch(changes::patch_service)
            .delete(changes::delete_service),
        "/v1/services/{protocol}/{address}/servers" => {
            get(questions::servers).post(changes::add_server)
        }
        SERVER => get(questions::server)
            .put(changes::put_server)
            .patch(changes::patch_server)
            .delete(changes::delete_server),
        "/v1/services/{protocol}/{address}/zero" => post(changes::zero_service),
        "/v1/settings" => get(questions::settings).patch(changes::patch_settings),
        "/v1/workers" => get(questions::workers),
        "/v1/zero" => post(changes::zero),
        _ => MethodRouter::new(),
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for path in ROUTES {
        router = router.route(path, handlers(path));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            admitted,
        ))
        .with_state(shared)
}

/// Lets a request through that says the token, or that for reading when it
/// changes nothing, and not for longer than it may take.
async fn admitted(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if shared.refuses_browsers {
        check_sender(request.headers())?;
    }
    let is_open = shared.metrics_without_token && request.uri().path() == METRICS;
    if let Some(token) = &shared.token
        && !is_open
        && !token.is_said(request.headers())
    {
        let read_token = shared.read_token.as_ref();
        if !read_token.is_some_and(|token| token.is_said(request.headers())) {
            let detail = "say the token of this director: Authorization: Bearer TOKEN";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        }
        if !is_reading(&request) {
            let detail = "this token is for reading; changes take that of `token_file`";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    let answered = time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answered.map_err(|_| {
        let detail = "the request was not there in time";
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    })
}

fn is_reading(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) || request.uri().path() == EXPLAIN
}

/// Refuses what a web page makes a browser on this host send: without a token
/// nothing else tells it from a client. Browsers name the page's origin with
/// requests that change something, and the page's host with all of them.
fn check_sender(headers: &HeaderMap) -> Result<(), Problem> {
    let forbidden = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    if headers.contains_key(header::ORIGIN) {
        return forbidden("without a token, web pages are not served; set `token_file` in [api]");
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_here = host.is_none_or(|host| {
        host == "localhost"
            || host.starts_with("localhost:")
            || host.parse::<SocketAddr>().is_ok()
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    });
    if is_here {
        Ok(())
    } else {
        forbidden(
            "without a token, say the address or localhost as Host, or set `token_file` in [api]",
        )
    }
}

/// Asks the management thread.
pub(super) async fn asked(
    shared: &Arc<Shared>,
    question: Question,
) -> Result<status::Response, Problem> {
    let requests = shared.requests.clone();
    // Waiting for it would stop everybody else.
    let answer = task::spawn_blocking(move || ask(question, &requests)).await;
    match answer {
        Ok(Ok(status::Response::Refused(error))) => Err(error.into()),
        Ok(Ok(status::Response::Error(why))) => Err(Problem::unprocessable(why)),
        Ok(answer) => Ok(answer?),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error)),
    }
}

/// A value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(with_type("application/json", body))
}

pub(super) fn with_type(kind: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn not_found(uri: Uri) -> Problem {
    let path = uri.path();
    Problem::not_found(format!(
        "there is nothing at {path}; GET /v1/openapi.json says what there is"
    ))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let path = uri.path();
    let detail = format!("{path} does not take {method}; GET /v1/openapi.json says what it takes");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
