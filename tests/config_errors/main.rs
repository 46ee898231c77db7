//! Every way to get a configuration file wrong: the text, and exactly what an
//! operator reads.
#![expect(
    clippy::expect_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod api;
mod director;
mod ipv6;
mod keys;
mod ports;
mod routes;
mod rules;
mod servers;
mod services;
mod warnings;

use std::path::Path;

use pointsman::config::{self, Machine, Problem};

/// A machine with four cores, so that messages do not depend on this one.
fn machine() -> Machine {
    Machine {
        cores: vec![0, 1, 2, 3],
        ..Machine::default()
    }
}

/// The text, without the line end that opens it in the source, is refused with
/// exactly these messages; each says what to write instead.
fn refused(text: &str, messages: &str) {
    let (text, messages) = (&text[1..], &messages[1..]);
    let errors = config::parse_for(text, "director.toml", &machine()).expect_err(text);
    assert_eq!(format!("{errors}\n"), messages);
    for error in &errors.errors {
        let problem = error.problem.to_string();
        let (wrong, instead) = problem
            .split_once("; ")
            .expect("says what to write instead");
        assert!(!wrong.is_empty() && !instead.is_empty(), "{error}");
    }
}

/// The text is accepted with exactly these warnings.
fn doubted(text: &str, messages: &str) {
    let (text, messages) = (&text[1..], &messages[1..]);
    let loaded = config::parse_for(text, "director.toml", &machine()).expect(text);
    let warnings: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| format!("{warning}\n"))
        .collect();
    assert_eq!(warnings.concat(), messages);
}

#[test]
fn file_that_is_not_there_is_refused() {
    let errors = config::load_for(Path::new("/nonexistent/director.toml"), &machine()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "/nonexistent/director.toml: cannot be read: No such file or directory (os error 2); name \
         a readable configuration file"
    );
}

#[test]
fn file_that_is_not_text_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("director.toml");
    std::fs::write(&path, b"[director]\n# \xff\n").unwrap();
    let errors = config::load_for(&path, &machine()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        format!(
            "{}: is not UTF-8 text; save it in that encoding",
            path.display()
        )
    );
}

#[test]
fn more_ports_than_dpdk_takes_are_refused() {
    let ports: Vec<_> = (0..33)
        .map(|port| {
            format!(
                "[[port]]\nname = \"p{port}\"\ndevice = \"net_null{port}\"\n\
                 addresses = [\"10.{port}.0.1/24\"]\n"
            )
        })
        .collect();
    let errors = config::parse_for(&ports.concat(), "director.toml", &machine()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "director.toml: there are 33 ports; write 32 at most"
    );
}

#[test]
fn more_workers_than_dpdk_takes_are_refused() {
    let machine = Machine {
        cores: (0..200).collect(),
        ..Machine::default()
    };
    let text = format!(
        "[director]\nworkers = {:?}\n[eal]\nmemory_mib = 4096\n{PORT}",
        (0..128).collect::<Vec<_>>()
    );
    let errors = config::parse_for(&text, "director.toml", &machine).unwrap_err();
    let problems: Vec<_> = errors.errors.iter().map(|error| &error.problem).collect();
    assert_eq!(
        problems,
        [&Problem::TooManyWorkers {
            count: 128,
            max: 127
        }]
    );
}

#[test]
fn long_lists_of_errors_are_cut() {
    let text = format!("{PORT}{}", "[[route]]\nvia = \"192.0.2.1\"\n".repeat(60));
    let errors = config::parse_for(&text, "director.toml", &machine()).unwrap_err();
    assert_eq!(errors.errors.len(), 60);
    assert!(
        errors.to_string().ends_with("\n... and 10 more errors"),
        "{errors}"
    );
}

#[test]
fn errors_know_line_and_column() {
    let text = format!("{PORT}mtu = 64000\n");
    let errors = config::parse_for(&text, "director.toml", &machine()).unwrap_err();
    let place = errors.errors[0].place.as_ref().unwrap();
    assert_eq!((place.line, place.column, place.length), (5, 7, 5));
}

const PORT: &str = r#"[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
"#;
