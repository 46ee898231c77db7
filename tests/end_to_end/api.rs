//! The JSON API and the metrics of a director at work.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use pointsman::control::{
    socket::query,
    status::{Request, Response},
};
use serde_json::{Value, json};

use crate::support::{Director, Lab, Shape, has_program, rip, skipped, wait_for};

const SERVICE: &str = "/v1/services/tcp/198.51.100.10:80";

/// A director that listens as `[api]` says.
fn start(lab: &Lab, api: &str) -> Director {
    lab.write(&lab.configuration());
    let file = lab.configuration_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}[api]\n{api}\n")).unwrap();
    lab.start_director_as_written()
}

/// A client of the API's Unix socket.
struct Client(PathBuf);

impl Client {
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let stream = UnixStream::connect(&self.0).unwrap();
        let body = body.map(ToString::to_string);
        exchange(stream, method, path, "", body.as_deref())
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}\n{body}"))
    }

    fn change(&self, method: &str, path: &str, body: &Value) -> u16 {
        self.request(method, path, Some(body)).0
    }
}

/// One request and its answer: status and body.
fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    head: &str,
    body: Option<&str>,
) -> (u16, String) {
    let about_body = body.map_or_else(String::new, |body| {
        let len = body.len();
        format!("Content-Type: application/json\r\nContent-Length: {len}\r\n")
    });
    let body = body.unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}{about_body}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    assert!(!is_chunked, "{head}");
    (status, body.to_owned())
}

fn with_socket(lab: &Lab) -> (Director, Client) {
    let socket = lab.path("api.sock");
    let director = start(lab, &format!("listen = \"{}\"", socket.display()));
    (director, Client(socket))
}

#[test]
fn servers_are_moved_over_the_api_while_clients_ask() {
    const NAME: &str = "servers_are_moved_over_the_api_while_clients_ask";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let (director, api) = with_socket(&lab);
    // Both ways of looking show the same.
    for what in ["services", "ports", "routes", "settings"] {
        assert_eq!(
            api.get(&format!("/v1/{what}")),
            director.show(what),
            "{what}"
        );
    }
    let second = format!("{SERVICE}/servers/{}", rip(2));
    let first = format!("{SERVICE}/servers/{}", rip(1));
    assert_eq!(api.request("DELETE", &second, None).0, 204);
    assert_eq!(lab.ask(4), [1; 4]);
    let load = lab.load();
    let body = json!({"key": {"address": rip(2).to_string()}, "options": {"weight": 3}});
    let servers = format!("{SERVICE}/servers");
    assert_eq!(api.change("POST", &servers, &body), 201);
    assert_eq!(api.change("POST", &servers, &body), 409);
    let drained = json!({"options": {"weight": 0}});
    assert_eq!(api.change("PATCH", &first, &drained), 204);
    assert_eq!(api.get(&first)["options"]["weight"], 0);
    assert_eq!(api.get(&second)["options"]["weight"], 3);
    wait_for("the second server gets all that is new", || {
        lab.ask(4) == [2; 4]
    });
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0], "{tally:?}");

    let scheduler =
        json!({"options": {"scheduler": "mh", "flags": {"fallback": true, "port": false}}});
    assert_eq!(api.change("PATCH", SERVICE, &scheduler), 204);
    assert_eq!(api.get(SERVICE)["options"]["scheduler"], "mh");
    let settings = json!({"tunables": {"sloppy_tcp": true}, "timeouts": {"udp": 20}});
    assert_eq!(api.change("PATCH", "/v1/settings", &settings), 204);
    assert_eq!(director.show("settings")["timeouts"]["udp"], 20);
    assert_eq!(
        api.change("PATCH", "/v1/settings", &json!({"tunables": {"sloppy": 1}})),
        422
    );
    let crossed = json!({"options": {"lower_threshold": 5}});
    assert_eq!(api.change("PATCH", &second, &crossed), 422);
    assert_eq!(api.request("DELETE", SERVICE, None).0, 204);
    assert_eq!(api.request("DELETE", SERVICE, None).0, 404);
    assert_eq!(api.request("POST", "/v1/revert", None).0, 204);
    assert_eq!(
        api.get(&format!("{SERVICE}/servers"))
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(lab.ask(4).len(), 4);
}

/// What a path is described to answer, and what it answered, are compared by
/// Python's jsonschema.
const VALIDATOR: &str = "
import json, sys, jsonschema
openapi, answers = json.load(sys.stdin)
for path, answer in answers.items():
    methods = openapi['paths'][path]
    described = methods.get('get', methods.get('post'))['responses']['200']['content']
    schema = dict(described['application/json']['schema'], components=openapi['components'])
    if '$ref' in schema:
        schema['$schema'] = 'https://json-schema.org/draft/2020-12/schema'
    for error in jsonschema.Draft202012Validator(schema).iter_errors(answer):
        print(path, error.json_path, error.message)
";

#[test]
fn answers_are_what_the_description_says() {
    const NAME: &str = "answers_are_what_the_description_says";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let python = Command::new("python3")
        .args(["-c", "import jsonschema"])
        .output();
    if !python.is_ok_and(|output| output.status.success()) {
        let reason = "python3-jsonschema is missing; scripts/setup.sh --tests installs it";
        return skipped(NAME, reason);
    }
    let (_director, api) = with_socket(&lab);
    lab.ask(10);
    let by_mark = json!({"key": {"fwmark": 5, "ipv6": true}, "options": {"persistence": {
        "timeout_s": 60, "mask": {"prefix_len": 64}}}});
    assert_eq!(api.change("POST", "/v1/services", &by_mark), 201);
    let gue = json!({"key": {"address": "10.9.9.9"}, "options": {"tunnel": {
        "kind": "gue", "l4_port": 6080, "checksum": "remote"}}});
    assert_eq!(
        api.change("POST", "/v1/services/fwmark6/5/servers", &gue),
        201
    );
    let openapi = api.get("/v1/openapi.json");
    let mut answers = serde_json::Map::new();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        let is_json = methods["get"]["responses"]["200"]["content"]["application/json"].is_object();
        if is_json {
            let sample = path
                .replace("{protocol}", "tcp")
                .replace("{address}", "198.51.100.10:80")
                .replace("{server}", &rip(1).to_string());
            answers.insert(path.clone(), api.get(&sample));
        }
    }
    assert!(answers.len() >= 13, "{answers:?}");
    // A new connection, one of no service, and nothing that makes sense.
    let packets = json!({"packets": [{"ip": SYN}, {"ip": SYN.replace("c633640a", "c633640b")},
        {"frame": "ff"}]});
    let (status, explanation) = api.request("POST", "/v1/explain", Some(&packets));
    assert_eq!(status, 200, "{explanation}");
    let explanation: Value = serde_json::from_str(&explanation).unwrap();
    answers.insert("/v1/explain".to_owned(), explanation);
    let mut validator = Command::new("python3")
        .args(["-c", VALIDATOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!([openapi, answers]).to_string();
    validator
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = validator.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
}

/// A SYN from 192.0.2.254:40000 to 198.51.100.10:80, of a packet maker other than ours.
const SYN: &str =
    "450000280001400040064d93c00002fec633640a9c40005000000000000000005002200006160000";

#[test]
fn packets_are_explained_over_the_api_and_nothing_changes() {
    const NAME: &str = "packets_are_explained_over_the_api_and_nothing_changes";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let (director, api) = with_socket(&lab);
    lab.ask(2);
    director.settle();
    let state = || {
        let counters = [
            "rx_packets",
            "forwarded",
            "connections_opened",
            "connections",
        ];
        (
            director.show("services"),
            counters.map(|name| director.counter(name)),
        )
    };
    let before = state();
    let question = json!({"packets": [{"ip": SYN}]});
    let ask = |question: &Value| {
        let (status, body) = api.request("POST", "/v1/explain", Some(question));
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body)
    };
    let (status, answer) = ask(&question);
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(answer["port"], "wan");
    let packet = &answer["packets"][0];
    assert_eq!(packet["flow"]["client"], "192.0.2.254:40000", "{packet:#}");
    assert_eq!(packet["service"]["rule"], "address_and_port");
    assert_eq!(packet["connection"], Value::Null);
    assert_eq!(packet["fate"]["kind"], "forwarded");
    let frame = packet["fate"]["frames"][0]["bytes"].as_str().unwrap();
    // The packet in the frame, with a TTL one less.
    assert_eq!(&frame[2 * 34..][..16], "4500002800014000", "{frame}");
    assert_eq!(&frame[2 * 34 + 16..][..2], "3f", "{frame}");
    assert!(frame.ends_with(&SYN[24..]), "{frame}");
    // The same answer again, as over the control socket.
    assert_eq!(ask(&question).1["packets"][0]["fate"], packet["fate"]);
    let over_socket = query(
        &lab.socket(),
        &Request::Explain(serde_json::from_value(question).unwrap()),
    );
    let Response::Explain(explanation) = over_socket.unwrap() else {
        panic!("another answer");
    };
    let explanation = serde_json::to_value(explanation).unwrap();
    for key in [
        "flow",
        "service",
        "scheduling",
        "server",
        "next_hop",
        "tunnel",
        "fate",
    ] {
        assert_eq!(explanation["packets"][0][key], packet[key], "{key}");
    }
    assert_eq!(state(), before);
    let (status, problem) = ask(&json!({"port": "moon", "packets": [{"ip": SYN}]}));
    assert_eq!(status, 422);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("there is no port \"moon\"")
    );
}

#[test]
fn prometheus_scrapes_what_promtool_accepts() {
    const NAME: &str = "prometheus_scrapes_what_promtool_accepts";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let token = "0123456789abcdef0123456789abcdef";
    fs::write(lab.path("token"), token).unwrap();
    let director = start(
        &lab,
        &format!(
            "listen = \"0.0.0.0:9110\"\ntoken_file = \"{}\"\nmetrics_without_token = true",
            lab.path("token").display()
        ),
    );
    lab.director.ip("link set lo up");
    lab.ask(10);
    director.settle();
    let get = |path: &str, head: &str| {
        let stream = lab
            .director
            .inside(|| TcpStream::connect("127.0.0.1:9110").unwrap());
        exchange(stream, "GET", path, head, None)
    };
    assert_eq!(get("/v1/services", "").0, 401);
    assert_eq!(
        get(
            "/v1/services",
            &format!("Authorization: Bearer {token}\r\n")
        )
        .0,
        200
    );
    let (status, metrics) = get("/metrics", "");
    assert_eq!(status, 200, "{metrics}");
    let value = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}\n{metrics}"))
            .parse()
            .unwrap()
    };
    assert!(
        (value("node_ipvs_connections_total") - 10.0).abs() < 0.1,
        "{metrics}"
    );
    let incoming = value("node_ipvs_incoming_packets_total");
    assert!(incoming >= 40.0, "{metrics}");
    assert!((value("pointsman_connections_opened_total") - 10.0).abs() < 0.1);
    assert!((value("pointsman_port_link_up{port=\"wan\"}") - 1.0).abs() < 0.1);
    assert!((value("pointsman_state_file_saved") - 1.0).abs() < 0.1);
    if !has_program("promtool") {
        return skipped(
            NAME,
            "promtool is missing; scripts/setup.sh --tests installs it",
        );
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8(complaints).unwrap(), "");
}

#[test]
fn an_api_that_cannot_listen_keeps_the_director_from_starting() {
    const NAME: &str = "an_api_that_cannot_listen_keeps_the_director_from_starting";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    lab.write(&lab.configuration());
    let file = lab.configuration_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{text}[api]\nlisten = \"127.0.0.1:9110\"\ntoken_file = \"/no/token\"\n"),
    )
    .unwrap();
    let (status, log) = crate::support::run_to_its_end(&lab);
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("pointsman: [api] token_file /no/token: it cannot be read"),
        "{log}"
    );
    assert!(!lab.socket().exists(), "{log}");
}
