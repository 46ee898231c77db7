//! Whose the process is once it has started, and who may ask it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    thread,
};

use rustix::{
    process::{Gid, Signal, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::{
    ports::over_af_xdp,
    support::{Configuration, Lab, Shape},
};

/// "nobody", by number, so that no machine has to have made anybody.
const USER: u32 = 65_534;
const GROUP: u32 = 65_533;
const CONTROL_GROUP: u32 = 65_532;

fn configuration(lab: &Lab) -> Configuration {
    lab.give_directory_to(USER);
    Configuration {
        director_keys: "user = \"65534\"\ngroup = \"65533\"\ncontrol_group = \"65532\"\n",
        ..lab.configuration()
    }
}

/// `/proc/PID/status` of each thread, by its name.
fn threads(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    status
        .map(|status| (field(&status, "Name:").to_owned(), status))
        .collect()
}

fn field<'t>(status: &'t str, name: &str) -> &'t str {
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix(name))
        .unwrap()
        .trim()
}

#[test]
fn after_the_start_no_thread_is_root_s_or_has_capabilities_and_all_goes_on() {
    const NAME: &str = "after_the_start_no_thread_is_root_s_or_has_capabilities_and_all_goes_on";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let configuration = configuration(&lab);
    let mut director = lab.start_director(&configuration);
    assert!(
        director
            .log()
            .contains("user 65534 from now on, with no capabilities")
    );
    lab.ask(2);
    let threads = threads(director.id());
    assert!(threads.len() >= 4, "{threads:?}");
    assert!(threads.iter().any(|(name, _)| name == "worker-0"));
    for (name, status) in &threads {
        let all_four = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
        assert_eq!(field(status, "Uid:"), all_four(USER), "{name}");
        assert_eq!(field(status, "Gid:"), all_four(GROUP), "{name}");
        assert_eq!(
            field(status, "Groups:"),
            CONTROL_GROUP.to_string(),
            "{name}"
        );
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(status, set), "0000000000000000", "{name} {set}");
        }
        assert_eq!(field(status, "NoNewPrivs:"), "1", "{name}");
    }

    // It reads its file again, and changes what that says.
    let without = Configuration {
        servers: vec![(2, 1)],
        ..configuration
    };
    director.change_to(&lab, &without);
    assert_eq!(lab.ask(2), [2, 2]);
    let news = director.log();
    let line = "configuration file: server 10.0.0.11 deleted from TCP 198.51.100.10:80";
    assert!(news.contains(line), "{news}");

    director.signal(Signal::TERM);
    let status = director.wait();
    let log = director.log();
    assert!(status.success(), "{log}");
    assert!(
        log.contains("stopped; no packet buffer left in use"),
        "{log}"
    );
    assert!(
        !log.contains(" ERROR ") && !log.contains("cannot remove"),
        "{log}"
    );
    for left in [
        "control.sock",
        "control.sock.lock",
        "ipvs.sock",
        "ipvs.sock.lock",
    ] {
        assert!(!lab.path(left).exists(), "{left}");
    }
}

#[test]
fn what_drivers_change_of_interfaces_is_set_back_at_the_end_without_root() {
    const NAME: &str = "what_drivers_change_of_interfaces_is_set_back_at_the_end_without_root";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let configuration = Configuration {
        director_keys: configuration(&lab).director_keys,
        ..over_af_xdp(&lab)
    };
    let mut director = lab.start_director(&configuration);
    assert!(director.log().contains("with CAP_NET_ADMIN alone"));
    for (name, status) in threads(director.id()) {
        // The management thread, which stops the ports, is the main one.
        let is_main = field(&status, "Pid:") == director.id().to_string();
        let kept = if is_main {
            "0000000000001000"
        } else {
            "0000000000000000"
        };
        assert_eq!(field(&status, "CapEff:"), kept, "{name}");
        assert_eq!(field(&status, "CapPrm:"), kept, "{name}");
    }
    lab.ask(2);
    let has_program = || lab.director.ip("-d link show dev wan").contains("xdp");
    assert!(has_program());
    director.signal(Signal::TERM);
    assert!(director.wait().success(), "{}", director.log());
    assert!(!has_program(), "{}", director.log());
    assert!(!director.log().contains(" ERROR "), "{}", director.log());
}

/// The line that a thread of this user and group is answered on a socket.
fn answer_as(socket: &Path, uid: u32, gid: u32, question: &[u8]) -> io::Result<String> {
    let ask = || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        // Of this thread alone.
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(question)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    thread::scope(|scope| scope.spawn(ask).join().unwrap())
}

/// The same on the control socket.
fn ask_as(socket: &Path, uid: u32, gid: u32) -> io::Result<String> {
    let question = b"{\"version\":1,\"request\":\"director\"}\n";
    answer_as(socket, uid, gid, question)
}

#[test]
fn root_the_director_s_user_and_its_group_may_ask_and_others_are_told_why_not() {
    const NAME: &str = "root_the_director_s_user_and_its_group_may_ask_and_others_are_told_why_not";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let _director = lab.start_director(&configuration(&lab));
    let socket = lab.socket();
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o660);
    assert_eq!((metadata.uid(), metadata.gid()), (USER, CONTROL_GROUP));

    let is_answered = |uid, gid| {
        let answer = ask_as(&socket, uid, gid).unwrap();
        assert!(answer.contains("\"response\":{\"director\":"), "{answer}");
    };
    is_answered(0, 0);
    is_answered(USER, 7);
    is_answered(1234, CONTROL_GROUP);
    let error = ask_as(&socket, 1234, 1234).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);

    // Whoever makes it wider lets nobody in.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    is_answered(1234, CONTROL_GROUP);
    assert_eq!(
        ask_as(&socket, 1234, 1234).unwrap(),
        "{\"version\":1,\"response\":{\"error\":\"user 1234 may not ask this director; ask as root \
         or as the user 65534 who runs it or be in the group 65532, its `control_group`\"}}\n"
    );
}

/// The status of `GET /v1/director` on the API's socket, by this user.
fn api_status_as(socket: &Path, uid: u32, gid: u32) -> io::Result<String> {
    let question = b"GET /v1/director HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    answer_as(socket, uid, gid, question)
}

#[test]
fn the_api_s_socket_is_the_user_s_and_goes_at_the_end() {
    const NAME: &str = "the_api_s_socket_is_the_user_s_and_goes_at_the_end";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let socket = lab.path("api.sock");
    let mut director = lab.start_director(&Configuration {
        more: format!("[api]\nlisten = \"{}\"\n", socket.display()),
        ..configuration(&lab)
    });
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert_eq!((metadata.uid(), metadata.gid()), (USER, GROUP));
    for uid in [0, USER] {
        let line = api_status_as(&socket, uid, 7).unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n", "{uid}");
    }
    let error = api_status_as(&socket, 1234, GROUP).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    director.signal(Signal::TERM);
    assert!(director.wait().success());
    let log = director.log();
    assert!(!log.contains("cannot remove"), "{log}");
    assert!(!socket.exists(), "{log}");
}

#[test]
fn a_user_that_does_not_exist_is_named_before_anything_is_touched() {
    const NAME: &str = "a_user_that_does_not_exist_is_named_before_anything_is_touched";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    lab.write(&Configuration {
        director_keys: "user = \"no-such-user\"\n",
        ..lab.configuration()
    });
    let (status, log) = crate::support::run_to_its_end(&lab);
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("pointsman: there is no user \"no-such-user\"; make one"),
        "{log}"
    );
    assert!(!log.contains("DPDK"), "{log}");
}

#[test]
fn what_is_changed_over_the_control_socket_stands_in_the_log() {
    const NAME: &str = "what_is_changed_over_the_control_socket_stands_in_the_log";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let before = director.log().len();
    for (request, answer) in [
        (
            r#"{"add_server":[{"protocol":"tcp","address":"198.51.100.10:80"},{"address":"10.0.0.99"},{"weight":3,"upper_threshold":0,"lower_threshold":0}]}"#,
            "applied",
        ),
        (
            r#"{"edit_server":[{"protocol":"tcp","address":"198.51.100.10:80"},{"address":"10.0.0.99"},{"weight":0,"upper_threshold":0,"lower_threshold":0}]}"#,
            "applied",
        ),
        (
            r#"{"delete_server":[{"protocol":"tcp","address":"198.51.100.10:80"},{"address":"10.0.0.98"}]}"#,
            "refused",
        ),
    ] {
        let mut stream = UnixStream::connect(lab.socket()).unwrap();
        writeln!(
            stream,
            "{{\"version\":1,\"request\":{{\"apply\":{request}}}}}"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains(answer), "{line}");
    }
    let news = director.log().split_off(before);
    let lines: Vec<_> = news
        .lines()
        .filter_map(|line| line.split_once("at run time: "))
        .map(|(_, what)| what)
        .collect();
    assert_eq!(
        lines,
        [
            "server 10.0.0.99 added to TCP 198.51.100.10:80, weight 3",
            "server 10.0.0.99 of TCP 198.51.100.10:80 has weight 0, had 3",
        ],
        "{news}"
    );
}
