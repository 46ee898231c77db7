//! The program as an operator meets it: help, mistakes, and no director.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

fn pointsman(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Answers one client with these bytes, and returns what it asked.
fn answer_one(path: &Path, answer: &'static str) -> thread::JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut request)
            .unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        request
    })
}

#[test]
fn help_names_every_subcommand() {
    let output = pointsman(&["--help"]);
    assert!(output.status.success());
    for subcommand in [
        "run",
        "check",
        "show",
        "top",
        "set",
        "generate",
        "doctor",
        "realserver",
        "pktgen",
    ] {
        let line = format!("  {subcommand} ");
        assert!(stdout(&output).contains(&line), "{}", stdout(&output));
    }
}

#[test]
fn help_of_show_names_everything_to_show() {
    let output = pointsman(&["show", "--help"]);
    assert!(output.status.success());
    for what in [
        "services",
        "connections",
        "counters",
        "workers",
        "ports",
        "neighbors",
        "routes",
        "director",
        "settings",
        "--json",
        "--socket",
        "/run/pointsman/control.sock",
    ] {
        assert!(
            stdout(&output).contains(what),
            "{what}: {}",
            stdout(&output)
        );
    }
}

#[test]
fn version_says_what_it_was_built_from() {
    let output = pointsman(&["--version"]);
    assert!(output.status.success());
    let short = env!("CARGO_PKG_VERSION");
    let details = option_env!("POINTSMAN_VERSION_DETAILS").unwrap_or(short);
    let text = stdout(&output);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(&*format!("pointsman {details}")));
    let build = lines.next().unwrap();
    let features = if cfg!(feature = "dpdk") {
        "dpdk"
    } else {
        "none"
    };
    for part in [
        "profile ",
        "opt-level ",
        &format!("features {features}, for "),
    ] {
        assert!(build.contains(part), "{part}: {build}");
    }
    assert_eq!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("runs on DPDK ")),
        cfg!(feature = "dpdk")
    );
    assert_eq!(stdout(&pointsman(&["-V"])), format!("pointsman {short}\n"));
}

#[test]
fn mistakes_on_the_command_line_exit_with_2() {
    for (arguments, complaint) in [
        (&[][..], "Usage: pointsman"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&["run"], "--config <FILE>"),
        (&["check"], "<FILE>"),
        (&["show"], "Usage: pointsman show"),
        (&["show", "moons"], "unrecognized subcommand 'moons'"),
        (
            &["show", "connections", "--limit", "x"],
            "invalid value 'x' for '--limit <N>'",
        ),
        (
            &["show", "connections", "--service", "dccp/192.0.2.1:80"],
            "write tcp, udp or sctp",
        ),
        (
            &["show", "services", "--format", "xml"],
            "invalid value 'xml' for '--format <FORMAT>'",
        ),
        (&["set", "pmtu_disc"], "<VALUE>..."),
        (
            &["set", "pmtu", "1"],
            "there is no setting \"pmtu\"; write conn_reuse_mode",
        ),
        (
            &["set", "pmtu_disc", "2"],
            "pmtu_disc cannot be 2; write 0 to 1",
        ),
        (
            &["set", "pmtu_disc", "1", "0"],
            "pmtu_disc takes one value; write for example: pointsman set pmtu_disc 1",
        ),
        (
            &["set", "timeouts", "900"],
            "timeouts takes three values; write for example: pointsman set timeouts 900 120 300",
        ),
        (&["realserver", "--local", "192.0.2.1"], "--vip <VIP>"),
        (
            &["realserver", "--vip", "x", "--local", "192.0.2.1"],
            "invalid value 'x'",
        ),
    ] {
        let output = pointsman(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(complaint),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn show_without_a_director_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let output = pointsman(&["show", "services", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "pointsman: no director is running on {}; start one",
        socket.display()
    );
    assert!(
        stderr(&output).starts_with(&expected),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn show_prints_a_table_without_colours_into_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let director = answer_one(
        &socket,
        "{\"version\":1,\"response\":{\"routes\":[{\"to\":\"10.0.0.0/8\",\"via\":null,\
         \"port\":\"lan\",\"source\":null,\"mtu\":null,\"kind\":\"connected\"}]}}\n",
    );
    let output = pointsman(&["show", "--socket", socket.to_str().unwrap(), "routes"]);
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
    assert_eq!(
        stdout(&output),
        "To         Via Port Source MTU Kind\n10.0.0.0/8 -   lan  -        - connected\n"
    );
    assert_eq!(
        director.join().unwrap(),
        "{\"version\":1,\"request\":\"routes\"}\n"
    );
}

#[test]
fn show_json_prints_json_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let director = answer_one(
        &socket,
        "{\"version\":1,\"response\":{\"connections\":{\"connections\":[],\"total\":7,\
         \"truncated\":true}}}\n",
    );
    let socket = socket.to_str().unwrap();
    let service = "udp/192.0.2.1:53";
    let output = pointsman(&[
        "show",
        "connections",
        "--limit",
        "0",
        "--service",
        service,
        "--json",
        "--socket",
        socket,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"connections": [], "total": 7, "truncated": true})
    );
    assert_eq!(
        director.join().unwrap(),
        "{\"version\":1,\"request\":{\"connections\":{\"limit\":0,\
         \"service\":{\"protocol\":\"udp\",\"address\":\"192.0.2.1:53\"}}}}\n"
    );
}

#[test]
fn a_director_of_another_version_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let director = answer_one(&socket, "{\"version\":9,\"answer\":[]}\n");
    let output = pointsman(&["show", "ports", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the director speaks version 9"),
        "{}",
        stderr(&output)
    );
    director.join().unwrap();
}

#[test]
fn doctor_examines_this_machine() {
    let output = pointsman(&["doctor"]);
    let text = stdout(&output);
    for subject in [
        "cores",
        "hugepages",
        "iommu",
        "vfio",
        "clock",
        "tun",
        "dpdk",
        "director",
    ] {
        assert!(
            text.lines()
                .any(|line| line.get(9..).unwrap_or("").starts_with(subject)),
            "{text}"
        );
    }
    let summary = text.lines().last().unwrap();
    let errors = text
        .lines()
        .filter(|line| line.starts_with("error "))
        .count();
    let plural = if errors == 1 { "" } else { "s" };
    assert!(
        summary.ends_with(&format!(" {errors} error{plural}")),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(i32::from(errors > 0)), "{text}");
}

#[test]
fn doctor_knows_the_number_of_cores() {
    let output = pointsman(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let count: usize = online
        .trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1
        })
        .sum();
    let found = findings[0]["found"].as_str().unwrap();
    assert!(
        found.starts_with(&format!("{count} logical on ")),
        "{found}"
    );
}

#[test]
fn check_and_doctor_say_where_a_configuration_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pointsman.toml");
    fs::write(&file, "[director]\nworker = [1]\n").unwrap();
    let file = file.to_str().unwrap();
    for arguments in [&["check", file][..], &["doctor", "--config", file]] {
        let output = pointsman(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let place = format!("\n{file}:2: unknown key `worker`");
        assert!(
            stderr(&output).contains(&place),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn check_of_a_missing_file_names_it() {
    let output = pointsman(&["check", "/nonexistent/pointsman.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("/nonexistent/pointsman.toml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn check_of_a_good_file_says_what_it_amounts_to() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/dpdk-config/software-ports.toml"
    );
    let output = pointsman(&["check", file]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("workers"), "{}", stdout(&output));
}

#[test]
fn doctor_with_a_configuration_looks_at_its_ports() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pointsman.toml");
    let socket = directory.path().join("control.sock");
    fs::write(
        &file,
        format!(
            "[director]\ncontrol_socket = \"{}\"\n\
             [[port]]\nname = \"lan\"\ndevice = \"net_af_packet0,iface=pmnone\"\n\
             addresses = [\"192.0.2.1/24\"]\n",
            socket.display()
        ),
    )
    .unwrap();
    let output = pointsman(&["doctor", "--config", file.to_str().unwrap()]);
    let text = stdout(&output);
    assert!(
        text.contains("lan: there is no interface pmnone"),
        "{text}{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(1), "{text}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["doctor", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_real_server_cannot_tunnel_to_its_own_virtual_address() {
    let output = pointsman(&["realserver", "--vip", "192.0.2.10", "--local", "192.0.2.10"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("pointsman: 192.0.2.10 is both a VIP and the local address"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn set_asks_the_director_and_says_what_holds_then() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let director = answer_one(
        &socket,
        "{\"version\":1,\"response\":{\"settings\":{\"tunables\":{\"conn_reuse_mode\":2},\
         \"timeouts\":{\"udp\":7},\"configured_tunables\":{},\"configured_timeouts\":{}}}}\n",
    );
    let output = pointsman(&[
        "set",
        "--socket",
        socket.to_str().unwrap(),
        "conn_reuse_mode",
        "2",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), "conn_reuse_mode = 2\n");
    assert_eq!(
        director.join().unwrap(),
        "{\"version\":1,\"request\":{\"set_tunable\":{\"name\":\"conn_reuse_mode\",\"value\":2}}}\n"
    );
}

#[test]
fn services_are_printed_as_ipvsadm_saves_them() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let service = r#"{"version":1,"response":{"services":[{
        "key":{"protocol":"tcp","address":"198.51.100.10:80"},
        "options":{"scheduler":"rr"},
        "servers":[{"key":{"address":"10.0.0.11"},
            "options":{"weight":3,"upper_threshold":0,"lower_threshold":0},
            "active_connections":1,"inactive_connections":0,"overloaded":false,
            "next_hop":{"state":"no_route"},"path_mtu":0,
            "statistics":{"connections":0,"in_packets":0,"in_bytes":0,"out_packets":0,"out_bytes":0}}],
        "statistics":{"connections":0,"in_packets":0,"in_bytes":0,"out_packets":0,"out_bytes":0}}]}}"#;
    let answer: &'static str = Box::leak((service.replace('\n', "") + "\n").into_boxed_str());
    let director = answer_one(&socket, answer);
    let socket = socket.to_str().unwrap();
    let output = pointsman(&[
        "show", "services", "--socket", socket, "--format", "ipvsadm",
    ]);
    director.join().unwrap();
    assert_eq!(
        stdout(&output),
        "-A -t 198.51.100.10:80 -s rr\n\
         -a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 3 --tun-type ipip\n",
        "{output:?}"
    );
}

/// `pktgen` with what it needs at least, and more.
fn pktgen(more: &[&str]) -> Output {
    let words = [
        "pktgen",
        "--port",
        "net_null0",
        "--service",
        "198.51.100.10:80",
        "--server",
        "10.0.0.11",
        "--director-mac",
        "02:00:00:00:00:01",
    ];
    pointsman(&[&words, more].concat())
}

#[test]
fn pktgen_says_what_is_wrong_with_its_arguments() {
    for (more, complaint) in [
        (
            &["--flows", "0"][..],
            "there can be 1 to 100000000 flows, not 0",
        ),
        (
            &["--flows", "1T"],
            "write a whole number, like 1000, 500k or 2M",
        ),
        (&["--port", "eth0"], "\"eth0\" cannot be a port's `device`"),
        (
            &["--port", "net_null1", "--port", "net_null2"],
            "one --port or two, not 3",
        ),
        (
            &["--service", "10.0.0.1"],
            "\"10.0.0.1\" does not name services; write VIP:PORT",
        ),
        (&["--server", "10.0.0.0-"], "is not a range of addresses"),
        (&["--server", "10.0.0.0/28"], "overlap others"),
        (&["--size", "9999"], "write a number from 60 to 9230"),
        (
            &["--clients", "10.0.0.0/8", "--clients", "10.1.0.0/16"],
            "give one of each",
        ),
        (&["--fragments", "10"], "--fragments needs a service of UDP"),
        (&["--rate", "0"], "--rate 0 sends nothing"),
        (&["--duration", "-1"], "unexpected argument"),
        (&["--duration", "x"], "write seconds, like 10 or 0.5"),
        (
            &["--loss-max", "101"],
            "--loss-max is a percentage from 0 to 100, not 101",
        ),
        (&["--ttl", "1"], "write 2 or more"),
        (&["--director", "10.0.0.1"], "cannot be used with"),
        (&["--reflected"], "cannot be used with"),
    ] {
        let output = pktgen(more);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{more:?}: {}",
            stderr(&output)
        );
        let text = stderr(&output);
        assert!(text.contains(complaint), "{more:?}: {text}");
    }
}

#[test]
fn manual_pages_have_no_mistakes_and_tell_of_every_subcommand() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert!(pointsman(&["generate", "man", path]).status.success());
    let page = |name: &str| directory.path().join(name);
    for subcommand in ["run", "check", "show", "show-services", "top", "realserver"] {
        let name = format!("pointsman-{subcommand}.1");
        let text = fs::read_to_string(page(&name)).unwrap();
        assert!(text.contains(".SH OPTIONS"), "{name}: {text}");
    }
    let main = fs::read_to_string(page("pointsman.1")).unwrap();
    assert!(main.contains("pointsman\\-top(1)"), "{main}");
    if Command::new("groff").arg("--version").output().is_err() {
        println!(
            "skipped: manual_pages_have_no_mistakes_and_tell_of_every_subcommand: groff, of \
                  Debian's package of that name, is missing"
        );
        return;
    }
    for entry in fs::read_dir(directory.path()).unwrap() {
        let file = entry.unwrap().path();
        let output = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(stderr(&output), "", "{}", file.display());
        assert!(output.status.success());
    }
}

#[test]
fn completions_are_scripts_that_bash_takes_and_that_know_the_subcommands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert!(
        pointsman(&["generate", "completions", path])
            .status
            .success()
    );
    for name in ["_pointsman", "pointsman.fish"] {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(text.contains("neighbors"), "{name}");
    }
    let script = directory.path().join("pointsman.bash");
    let ask = format!(
        "source {} && COMP_WORDS=(pointsman to) COMP_CWORD=1 && \
         _pointsman pointsman to pointsman && echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output), "top\n");
}

#[test]
fn top_says_why_it_shows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let socket = socket.to_str().unwrap();
    let output = pointsman(&["top", "--once", "--socket", socket]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no director is running on "));
    let output = pointsman(&["top", "--socket", socket]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "pointsman: stdout is no terminal; --once prints one frame as text\n"
    );
    let output = pointsman(&["top", "--once", "--sort", "size", "--socket", socket]);
    assert!(stderr(&output).contains("there is no column \"size\"; write one of: Service, "));
    let output = pointsman(&["top", "--interval", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("write 0.1 to 3600 seconds"));
}

/// `top` on a terminal of its own until its user ends it: all that the terminal
/// got.
fn top_on_a_terminal(end: impl FnOnce(u32, &mut dyn Write)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let command = format!(
        "stty rows 24 cols 80; echo \"<$$>\"; exec {} top --socket {}",
        env!("CARGO_BIN_EXE_pointsman"),
        directory.path().join("control.sock").display()
    );
    let mut script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    let mut end = Some(end);
    loop {
        let len = screen.read(&mut piece).unwrap();
        if len == 0 {
            break;
        }
        seen.extend_from_slice(piece.get(..len).unwrap());
        let text = String::from_utf8_lossy(&seen);
        if text.contains("retrying")
            && let Some(end) = end.take()
        {
            let id = text.split_once('<').unwrap().1.split_once('>').unwrap().0;
            end(id.parse().unwrap(), &mut keys);
        }
    }
    assert!(script.wait().unwrap().success());
    String::from_utf8_lossy(&seen).into_owned()
}

/// The terminal's own screen again, with its cursor.
const GIVEN_BACK: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

#[test]
fn top_gives_the_terminal_back_when_its_user_has_seen_enough() {
    let screen = top_on_a_terminal(|_, keys| keys.write_all(b"q").unwrap());
    assert!(screen.contains("\u{1b}[?1049h"), "{screen}");
    for part in GIVEN_BACK {
        assert!(screen.contains(part), "{screen}");
    }
}

#[test]
fn top_gives_the_terminal_back_when_it_is_ended_by_a_signal() {
    let screen = top_on_a_terminal(|id, _| {
        let id = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    });
    for part in GIVEN_BACK {
        assert!(screen.contains(part), "{screen}");
    }
}
