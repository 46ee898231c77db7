//! From start to stop, and what keeps a director from starting.

use rustix::process::Signal;

use crate::support::{Configuration, Lab, Shape, run_to_its_end, wait_for};

#[test]
fn sigterm_stops_cleanly_under_load() {
    stops_cleanly("sigterm_stops_cleanly_under_load", Signal::TERM);
}

#[test]
fn sigint_stops_cleanly_under_load() {
    stops_cleanly("sigint_stops_cleanly_under_load", Signal::INT);
}

fn stops_cleanly(test: &str, signal: Signal) {
    let Some(lab) = Lab::build(test, Shape::TwoArms, 2) else {
        return;
    };
    let mut director = lab.start_director(&lab.configuration());
    let _load = lab.load();
    wait_for("there is load", || director.counter("forwarded") > 100);
    assert!(lab.socket().exists());
    director.signal(signal);
    let status = director.wait();
    let log = director.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.contains("stopped; no packet buffer left in use"),
        "{log}"
    );
    assert!(!log.contains(" ERROR "), "{log}");
    // The summary counts what was done.
    assert!(log.contains("other connections_opened: "), "{log}");
    assert!(!lab.socket().exists());
    let left: Vec<_> = std::fs::read_dir(lab.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("control"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_stopped_director_can_be_started_again() {
    const NAME: &str = "a_stopped_director_can_be_started_again";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    for _ in 0..2 {
        let mut director = lab.start_director(&lab.configuration());
        assert_eq!(lab.ask(2), [1, 1]);
        director.signal(Signal::TERM);
        assert!(director.wait().success());
    }
}

#[test]
fn a_killed_director_can_be_started_again() {
    const NAME: &str = "a_killed_director_can_be_started_again";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let mut director = lab.start_director(&lab.configuration());
    director.signal(Signal::KILL);
    director.wait();
    assert!(lab.socket().exists(), "the next one finds it in its way");
    let _director = lab.start_director(&lab.configuration());
    assert_eq!(lab.ask(2), [1, 1]);
}

#[test]
fn a_second_director_on_the_same_socket_is_refused_and_harms_nothing() {
    const NAME: &str = "a_second_director_on_the_same_socket_is_refused_and_harms_nothing";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let (status, log) = run_to_its_end(&lab);
    assert_eq!(status.code(), Some(1), "{log}");
    let socket = lab.socket();
    let complaint = format!(
        "pointsman: another director is running on {}",
        socket.display()
    );
    assert!(log.contains(&complaint), "{log}");
    assert_eq!(director.show("director")["pid"], director.id());
    assert_eq!(lab.ask(2), [1, 1]);
}

/// Starts a director that must not start: what it says last.
fn refusal(lab: &Lab, configuration: &Configuration) -> String {
    lab.write(configuration);
    let (status, log) = run_to_its_end(lab);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!lab.socket().exists(), "{log}");
    log
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    const NAME: &str = "an_interface_that_does_not_exist_is_named";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let configuration = Configuration {
        lan: "net_af_packet1,iface=nosuch0".to_owned(),
        ..lab.configuration()
    };
    let log = refusal(&lab, &configuration);
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("pointsman: "), "{log}");
    assert!(last.contains("net_af_packet1"), "{log}");
    assert!(log.contains("nosuch0"), "{log}");
}

#[test]
fn a_nic_that_does_not_exist_is_named() {
    const NAME: &str = "a_nic_that_does_not_exist_is_named";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let configuration = Configuration {
        lan: "0000:ff:1f.7".to_owned(),
        ..lab.configuration()
    };
    let log = refusal(&lab, &configuration);
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("pointsman: "), "{log}");
    assert!(last.contains("0000:ff:1f.7"), "{log}");
}
