//! Requests as clients make them, with a made-up management thread behind.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::Mutex,
};

use axum::{
    body::{Body, to_bytes},
    http::{Request as HttpRequest, StatusCode, header},
};
use crossbeam::channel::{Sender, bounded};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    control::{
        command::{Command, CommandError},
        edit::{Edit, ServerPatch},
        status::{
            Request, Response,
            explanation::{Explanation, Question, QuestionPacket},
        },
    },
    scheduler::SchedulerKind,
    service::{ServerKey, ServerOptions, ServiceKey},
};

const TOKEN: &str = "0123456789abcdef";
const READ_TOKEN: &str = "fedcba9876543210";
const SERVICE: &str = "/v1/services/tcp/198.51.100.10:80";

fn service() -> ServiceKey {
    "198.51.100.10:80".parse().unwrap()
}

fn server() -> ServerKey {
    let address = "10.0.0.11".parse().unwrap();
    ServerKey { address }
}

/// A router before a management thread that answers as it is told, and what it
/// was asked.
struct Lab {
    router: Router,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Lab {
    /// Whose requests nobody answers.
    fn unanswered(requests: Sender<ControlRequest>) -> Self {
        let shared = Shared {
            requests,
            token: None,
            read_token: None,
            metrics_without_token: false,
            refuses_browsers: false,
        };
        Self {
            router: router::router(Arc::new(shared)),
            asked: Arc::default(),
        }
    }

    fn new(token: Option<&str>, answer: impl Fn(&Request) -> Response + Send + 'static) -> Self {
        let (requests, requests_out) = bounded::<ControlRequest>(4);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for (request, reply) in requests_out.iter().filter_map(ControlRequest::begin) {
                let response = answer(&request);
                log.lock().unwrap().push(request);
                let _ = reply.send(response);
            }
        });
        let shared = Shared {
            requests,
            token: token.map(|token| token.parse().unwrap()),
            read_token: READ_TOKEN.parse().ok(),
            metrics_without_token: false,
            refuses_browsers: false,
        };
        Self {
            router: router::router(Arc::new(shared)),
            asked,
        }
    }

    /// One that does whatever it is told to.
    fn obedient() -> Self {
        Self::new(None, |request| match request {
            Request::Services | Request::Service(_) => Response::Services(Vec::new()),
            _ => Response::Applied,
        })
    }

    fn send(&self, request: HttpRequest<Body>) -> Answer {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            Answer {
                status: parts.status,
                headers: parts.headers,
                body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
            }
        })
    }

    fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = HttpRequest::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap())
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// What a problem document says, which is of this status.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            (self.status.as_u16(), body["status"].as_u64()),
            (status, Some(status.into()))
        );
        assert_eq!(
            self.header(header::CONTENT_TYPE),
            "application/problem+json"
        );
        assert_eq!(body["type"], "about:blank");
        assert!(
            body["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{body}"
        );
        body["detail"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_description_has_every_path_and_method_and_no_other() {
    let lab = Lab::obedient();
    let text = include_str!("openapi.json");
    let description: Value = serde_json::from_str(text).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let described: Vec<_> = paths.keys().map(String::as_str).collect();
    let mut routes = ROUTES.to_vec();
    routes.sort_unstable();
    assert_eq!(described, routes);
    for (path, methods) in paths {
        let sample = path
            .replace("{protocol}", "tcp")
            .replace("{address}", "198.51.100.10:80")
            .replace("{server}", "10.0.0.11");
        for method in ["get", "post", "put", "patch", "delete"] {
            let answer = lab.request(&method.to_uppercase(), &sample, Some(json!({})));
            let is_taken = answer.status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(methods.get(method).is_some(), is_taken, "{method} {path}");
        }
    }
}

#[test]
fn nothing_is_told_without_the_token() {
    let lab = Lab::new(Some(TOKEN), |_| Response::Counters(Vec::new()));
    let send = |path: &str, token: Option<&str>| {
        let mut request = HttpRequest::builder().uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        lab.send(request.body(Body::empty()).unwrap())
    };
    for path in ["/v1/counters", "/metrics", "/v1/openapi.json", "/nothing"] {
        for token in [None, Some("0123456789abcdee")] {
            let answer = send(path, token);
            assert!(answer.problem(401).contains("Authorization: Bearer TOKEN"));
            assert_eq!(
                answer.header(header::WWW_AUTHENTICATE),
                "Bearer realm=\"pointsman\""
            );
        }
    }
    assert_eq!(lab.asked(), []);
    assert_eq!(send("/v1/counters", Some(TOKEN)).status, StatusCode::OK);
}

#[test]
fn the_token_for_reading_changes_nothing() {
    let lab = Lab::new(Some(TOKEN), |_| Response::Applied);
    let send = |method: &str, path: &str, token: &str| {
        let request = HttpRequest::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = json!({"packets": [], "options": {}, "key": {"address": "10.0.0.11"}});
        lab.send(request.body(Body::from(body.to_string())).unwrap())
    };
    let description: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let mut refused = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let sample = path
            .replace("{protocol}", "tcp")
            .replace("{address}", "198.51.100.10:80")
            .replace("{server}", "10.0.0.11");
        let methods = methods.as_object().unwrap().keys();
        // Some paths have parameters beside their methods.
        for method in methods.filter(|method| *method != "parameters") {
            let reads = method == "get" || path == "/v1/explain";
            let answer = send(&method.to_uppercase(), &sample, READ_TOKEN);
            let is_refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(is_refused, !reads, "{method} {path}");
            if is_refused {
                assert!(answer.problem(403).contains("for reading"));
                refused += 1;
            }
            let answer = send(&method.to_uppercase(), &sample, TOKEN);
            assert_ne!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            let answer = send(&method.to_uppercase(), &sample, "fedcba9876543211");
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        }
    }
    assert_eq!(refused, 13);
}

#[test]
fn metrics_can_be_open_while_all_else_is_not() {
    let (requests, _) = bounded(1);
    let shared = Shared {
        requests,
        token: Some(TOKEN.parse().unwrap()),
        read_token: None,
        metrics_without_token: true,
        refuses_browsers: false,
    };
    let lab = Lab {
        router: router::router(Arc::new(shared)),
        asked: Arc::default(),
    };
    // Nobody is there to answer, but the token is not asked for.
    lab.request("GET", "/metrics", None).problem(503);
    lab.request("GET", "/v1/counters", None).problem(401);
}

#[test]
fn what_is_not_there_is_said_in_a_problem_document() {
    let lab = Lab::obedient();
    assert!(
        lab.request("GET", "/v2/services", None)
            .problem(404)
            .contains("openapi.json")
    );
    let answer = lab.request("PUT", "/v1/counters", None);
    assert!(
        answer
            .problem(405)
            .contains("/v1/counters does not take PUT")
    );
    assert_eq!(answer.header(header::ALLOW), "GET,HEAD");
    assert!(
        lab.request("GET", "/v1/services/dccp/192.0.2.1:80", None)
            .problem(404)
            .contains("dccp")
    );
    assert!(
        lab.request("GET", SERVICE, None)
            .problem(404)
            .contains("there is no service")
    );
    let path = format!("{SERVICE}/servers/ten");
    assert!(
        lab.request("DELETE", &path, None)
            .problem(404)
            .contains("write its RIP")
    );
}

#[test]
fn bodies_that_are_no_json_or_other_json_are_refused() {
    let lab = Lab::obedient();
    let send = |kind: &str, body: String| {
        let request = HttpRequest::builder().method("POST").uri("/v1/services");
        lab.send(
            request
                .header(header::CONTENT_TYPE, kind)
                .body(Body::from(body))
                .unwrap(),
        )
    };
    let json = "application/json; charset=utf-8";
    assert!(
        send("text/plain", "{}".to_owned())
            .problem(415)
            .contains("application/json")
    );
    assert!(
        send(json, "{\"key\":".to_owned())
            .problem(400)
            .contains("EOF")
    );
    let misspelt = r#"{"key":{"protocol":"tcp","address":"198.51.100.10:80"},"option":{}}"#;
    assert!(
        send(json, misspelt.to_owned())
            .problem(422)
            .contains("unknown field `option`")
    );
    send(json, " ".repeat(BODY_LEN_MAX + 1)).problem(413);
    assert_eq!(lab.asked(), []);
}

#[test]
fn services_and_servers_are_added_by_commands() {
    let lab = Lab::obedient();
    let key = json!({"protocol": "tcp", "address": "198.51.100.10:80"});
    let body = json!({"key": key, "options": {"scheduler": "rr"}});
    let answer = lab.request("POST", "/v1/services", Some(body));
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header(header::LOCATION), SERVICE);
    let add = Command::AddService(service(), SchedulerKind::Rr.into());
    assert_eq!(lab.asked(), [Request::Apply(add)]);

    let body = json!({"key": {"address": "10.0.0.11"}, "options": {"weight": 7}});
    let answer = lab.request("POST", &format!("{SERVICE}/servers"), Some(body));
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(
        answer.header(header::LOCATION),
        format!("{SERVICE}/servers/10.0.0.11")
    );
    let options = ServerOptions {
        weight: 7,
        ..ServerOptions::default()
    };
    let add = Command::AddServer(service(), server(), options);
    assert_eq!(lab.asked(), [Request::Apply(add)]);
}

#[test]
fn what_makes_no_sense_does_not_reach_the_director() {
    let lab = Lab::obedient();
    let key = json!({"protocol": "tcp", "address": "198.51.100.10:0"});
    let problem = lab
        .request("POST", "/v1/services", Some(json!({"key": key})))
        .problem(422);
    assert!(problem.contains("needs `persistence`"), "{problem}");
    let body = json!({"key": {"address": "224.0.0.1"}});
    lab.request("POST", &format!("{SERVICE}/servers"), Some(body))
        .problem(422);
    assert_eq!(lab.asked(), []);
}

#[test]
fn put_changes_what_is_there_and_adds_what_is_not() {
    let body = || Some(json!({"options": {"scheduler": "rr"}}));
    let options = SchedulerKind::Rr.into();
    let (edit, add) = (
        Request::Apply(Command::EditService(service(), options)),
        Request::Apply(Command::AddService(service(), options)),
    );
    let lab = Lab::obedient();
    assert_eq!(
        lab.request("PUT", SERVICE, body()).status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(lab.asked(), std::slice::from_ref(&edit));
    let lab = Lab::new(None, |request| match request {
        Request::Apply(Command::EditService(key, _)) => {
            Response::Refused(CommandError::NoSuchService(*key))
        }
        _ => Response::Applied,
    });
    assert_eq!(
        lab.request("PUT", SERVICE, body()).status,
        StatusCode::CREATED
    );
    assert_eq!(lab.asked(), [edit, add]);
    // Without its service there is no place for a server.
    let lab = Lab::new(None, |_| {
        Response::Refused(CommandError::NoSuchService(service()))
    });
    let path = format!("{SERVICE}/servers/10.0.0.11");
    lab.request("PUT", &path, Some(json!({"options": {}})))
        .problem(404);
}

#[test]
fn patches_and_deletions_are_handed_on() {
    let lab = Lab::obedient();
    let path = format!("{SERVICE}/servers/10.0.0.11");
    for (method, path, body) in [
        (
            "PATCH",
            path.as_str(),
            Some(json!({"options": {"weight": 0}})),
        ),
        ("DELETE", &path, None),
        ("DELETE", SERVICE, None),
        ("POST", "/v1/services/tcp/198.51.100.10:80/zero", None),
        ("POST", "/v1/zero", None),
        ("POST", "/v1/revert", None),
        ("DELETE", "/v1/services", None),
    ] {
        let answer = lab.request(method, path, body);
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{method} {path}");
    }
    let quiesced = ServerPatch {
        weight: Some(0),
        ..ServerPatch::default()
    };
    assert_eq!(
        lab.asked(),
        [
            Request::Edit(Edit::Server(service(), server(), quiesced)),
            Request::Apply(Command::DeleteServer(service(), server())),
            Request::Apply(Command::DeleteService(service())),
            Request::Apply(Command::Zero(Some(service()))),
            Request::Apply(Command::Zero(None)),
            Request::Revert,
            Request::Apply(Command::Flush),
        ]
    );
}

#[test]
fn refusals_have_the_status_that_says_why() {
    let refusals = [
        (CommandError::ServiceExists(service()), 409),
        (CommandError::ServerExists(service(), server()), 409),
        (CommandError::NoSuchService(service()), 404),
        (CommandError::NoSuchServer(service(), server()), 404),
        (CommandError::WeightOutOfRange(u32::MAX), 422),
        (CommandError::ThresholdsCrossed { lower: 2, upper: 1 }, 422),
        (CommandError::NoTunnelPort, 422),
        (CommandError::TooManyServices(1), 507),
        (CommandError::TooManyServers(1), 507),
    ];
    for (error, status) in refusals {
        let refusal = error.clone();
        let lab = Lab::new(None, move |_| Response::Refused(refusal.clone()));
        let answer = lab.request("DELETE", SERVICE, None);
        assert_eq!(answer.problem(status), error.to_string());
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"], serde_json::to_value(&error).unwrap());
    }
}

#[test]
fn a_director_that_stops_is_not_available() {
    let (requests, _) = bounded(1);
    let lab = Lab::unanswered(requests);
    let answer = lab.request("GET", "/v1/services", None);
    assert_eq!(answer.problem(503), "the director is stopping");
    assert_eq!(answer.header(header::RETRY_AFTER), "1");
}

#[test]
fn what_was_answered_as_not_done_is_not_done_later() {
    let (requests, queue) = bounded::<ControlRequest>(4);
    let lab = Lab::unanswered(requests);
    let answer = lab.request("DELETE", "/v1/services/tcp/192.0.2.10:80", None);
    assert_eq!(
        answer.problem(503),
        "the director did not answer within 2 s; nothing was done, so try again"
    );
    assert!(queue.recv().unwrap().begin().is_none());
}

#[test]
fn connections_are_asked_for_with_a_limit_and_by_service() {
    let lab = Lab::new(None, |_| Response::Connections {
        connections: Vec::new(),
        total: 9,
        truncated: true,
    });
    let answer = lab.request(
        "GET",
        "/v1/connections?limit=5&service=udp/192.0.2.1:53",
        None,
    );
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        body,
        json!({"connections": [], "total": 9, "truncated": true})
    );
    let service = "udp/192.0.2.1:53".parse().ok();
    assert_eq!(lab.asked(), [Request::Connections { limit: 5, service }]);
    lab.request("GET", "/v1/connections?limit=999999999", None);
    assert_eq!(
        lab.asked(),
        [Request::Connections {
            limit: 50_000,
            service: None
        }]
    );
    lab.request("GET", "/v1/connections?limit=many", None)
        .problem(400);
    lab.request("GET", "/v1/connections?service=many", None)
        .problem(422);
}

#[test]
fn packets_are_explained_as_over_the_control_socket() {
    let explanation = Explanation {
        port: "wan".to_owned(),
        worker: 1,
        generation: 7,
        packets: Vec::new(),
    };
    let answered = explanation.clone();
    let lab = Lab::new(None, move |request| match request {
        Request::Explain(question) if question.port.as_deref() == Some("moon") => {
            Response::Error("there is no port \"moon\"".to_owned())
        }
        _ => Response::Explain(answered.clone()),
    });
    let body = json!({"port": "wan", "worker": 1, "packets": [{"ip": "4500"}, {"frame": "02Ff"}]});
    let answer = lab.request("POST", "/v1/explain", Some(body));
    assert_eq!(answer.status, StatusCode::OK);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body, serde_json::to_value(explanation).unwrap());
    let question = Question {
        port: Some("wan".to_owned()),
        worker: Some(1),
        packets: vec![
            QuestionPacket::Ip(vec![0x45, 0]),
            QuestionPacket::Frame(vec![2, 0xff]),
        ],
    };
    assert_eq!(lab.asked(), [Request::Explain(question)]);
    let refused = |body| lab.request("POST", "/v1/explain", Some(body)).problem(422);
    let problem = refused(json!({"port": "moon", "packets": []}));
    assert_eq!(problem, "there is no port \"moon\"");
    lab.asked();
    refused(json!({"packets": [{"ip": "4"}]}));
    refused(json!({"packets": [{"packet": "45"}]}));
    refused(json!({}));
    assert_eq!(lab.asked(), []);
    let lab = Lab::new(Some(TOKEN), |_| Response::Applied);
    let body = json!({"packets": [{"ip": "4500"}]});
    lab.request("POST", "/v1/explain", Some(body)).problem(401);
    assert_eq!(lab.asked(), []);
}

#[test]
fn where_a_service_is_leads_back_to_it() {
    let lab = Lab::obedient();
    for name in [
        "tcp/192.0.2.1:80",
        "udp/[2001:db8::1]:53",
        "tcp/192.0.2.0/28:80",
        "sctp/[2001:db8::/64]:9",
        "fwmark/5",
        "fwmark6/6",
    ] {
        let key: ServiceKey = name.parse().unwrap();
        let answer = lab.request("POST", "/v1/services", Some(json!({"key": key})));
        assert_eq!(answer.status, StatusCode::CREATED, "{name}");
        lab.asked();
        lab.request("DELETE", answer.header(header::LOCATION), None);
        assert_eq!(
            lab.asked(),
            [Request::Apply(Command::DeleteService(key))],
            "{name}"
        );
    }
}

fn config(listen: ApiListen) -> ApiConfig {
    ApiConfig {
        listen,
        token_file: None,
        read_token_file: None,
        metrics_without_token: false,
    }
}

/// What a client that asks for the counters gets over a connection.
fn counters_over(mut stream: impl Read + Write) -> String {
    let request = "GET /v1/counters HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn serve(listen: ApiListen) -> (ApiHandle, Option<SocketAddr>) {
    let api = Api::bind(&config(listen)).unwrap();
    let address = match &api.listener {
        Listener::Tcp(listener) => listener.local_addr().ok(),
        Listener::Unix(..) => None,
    };
    let (requests, requests_out) = bounded::<ControlRequest>(4);
    thread::spawn(move || {
        for (_, reply) in requests_out.iter().filter_map(ControlRequest::begin) {
            let _ = reply.send(Response::Counters(Vec::new()));
        }
    });
    (api.spawn(requests).unwrap(), address)
}

#[test]
fn web_pages_cannot_have_a_browser_ask() {
    let (_api, address) = serve(ApiListen::Tcp("127.0.0.1:0".parse().unwrap()));
    let status = |head: &str| {
        let mut stream = TcpStream::connect(address.unwrap()).unwrap();
        let request = format!("GET /v1/counters HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.get(9..12).unwrap().to_owned()
    };
    for host in [
        "127.0.0.1:9110",
        "[::1]:9110",
        "localhost:9110",
        "localhost",
        "[::1]",
    ] {
        assert_eq!(status(&format!("Host: {host}\r\n")), "200", "{host}");
    }
    assert_eq!(status("Host: evil.example:9110\r\n"), "403");
    assert_eq!(
        status("Host: localhost\r\nOrigin: http://evil.example\r\n"),
        "403"
    );
}

#[test]
fn silent_clients_keep_nobody_waiting() {
    let (_api, address) = serve(ApiListen::Tcp("127.0.0.1:0".parse().unwrap()));
    let silent: Vec<_> = (0..CLIENTS_MAX - 1)
        .map(|_| TcpStream::connect(address.unwrap()).unwrap())
        .collect();
    let answer = counters_over(TcpStream::connect(address.unwrap()).unwrap());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n[]"), "{answer}");
    drop(silent);
}

#[test]
fn a_unix_socket_is_the_owner_s_and_replaces_one_that_nobody_listens_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    let (api, _) = serve(ApiListen::Unix(path.clone()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let answer = counters_over(UnixStream::connect(&path).unwrap());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let error = Api::bind(&config(ApiListen::Unix(path.clone())))
        .unwrap_err()
        .to_string();
    assert!(error.contains("set `listen` to another path"), "{error}");
    drop(api);
    assert!(!path.exists());
    std::fs::write(&path, "mine").unwrap();
    let error = Api::bind(&config(ApiListen::Unix(path.clone())))
        .unwrap_err()
        .to_string();
    assert!(error.contains("it exists and is no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_socket_that_is_no_longer_there_is_not_given_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let (api, _) = serve(ApiListen::Unix(path.clone()));
    std::fs::remove_file(&path).unwrap();
    let precious = directory.path().join("precious");
    std::fs::write(&precious, "mine").unwrap();
    for make in [
        |precious: &Path, path: &Path| std::os::unix::fs::symlink(precious, path),
        |precious: &Path, path: &Path| std::fs::hard_link(precious, path),
    ] {
        make(&precious, &path).unwrap();
        let error = api.give_to(65_534, 65_534).unwrap_err().to_string();
        assert!(error.contains("something else stands there now"), "{error}");
        std::fs::remove_file(&path).unwrap();
    }
    let error = api.give_to(65_534, 65_534).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn a_token_file_that_is_none_keeps_the_director_from_starting() {
    let config = ApiConfig {
        token_file: Some("/nonexistent/token".into()),
        ..config(ApiListen::Tcp("127.0.0.1:0".parse().unwrap()))
    };
    let error = Api::bind(&config).unwrap_err().to_string();
    assert!(
        error.contains("token_file /nonexistent/token: it cannot be read"),
        "{error}"
    );
    let config = ApiConfig {
        token_file: None,
        read_token_file: Some("/nonexistent/token".into()),
        ..config
    };
    let error = Api::bind(&config).unwrap_err().to_string();
    assert!(
        error.contains("read_token_file /nonexistent/token: it cannot be read"),
        "{error}"
    );
}
