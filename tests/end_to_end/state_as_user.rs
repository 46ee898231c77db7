//! The state file of a director that root starts and that becomes another user.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

use pointsman::{
    control::command::Command,
    service::{Protocol, ServerKey, ServerOptions, ServiceKey},
};
use rustix::process::Signal;

use crate::support::{Configuration, Director, Lab, Shape, rip, wait_for};

/// "nobody", by number, so that no machine has to have made anybody.
const USER: u32 = 65_534;
const GROUP: u32 = 65_533;
const KEYS: &str = "user = \"65534\"\ngroup = \"65533\"\n";

/// Starts a director that becomes the user, with its state file at this place
/// in the directory of the lab. That directory is the user's.
fn start(lab: &Lab, place: &str) -> Director {
    lab.give_directory_to(USER);
    start_with(lab, place, KEYS)
}

fn start_with(lab: &Lab, place: &str, director_keys: &'static str) -> Director {
    lab.write(&Configuration {
        director_keys,
        ..lab.configuration()
    });
    let file = lab.configuration_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("/state.json", &format!("/{place}"))).unwrap();
    lab.start_director_as_written()
}

/// Sets the weight of the first real server.
fn set_weight(director: &Director, weight: u32) {
    let service = ServiceKey::at(Protocol::Tcp, "198.51.100.10:80".parse().unwrap());
    let address = rip(1).into();
    let options = ServerOptions {
        weight,
        ..ServerOptions::default()
    };
    director.apply(&Command::EditServer(
        service,
        ServerKey { address },
        options,
    ));
}

fn weight(director: &Director) -> u64 {
    let services = director.show("services");
    services[0]["servers"][0]["options"]["weight"]
        .as_u64()
        .unwrap()
}

fn stop(mut director: Director) -> String {
    director.signal(Signal::TERM);
    let status = director.wait();
    let log = director.log();
    assert!(status.success(), "{log}");
    log
}

/// Owner, group and permissions.
fn rights(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

#[test]
fn the_user_saves_from_the_first_state_on_and_a_restart_restores_it() {
    const NAME: &str = "the_user_saves_from_the_first_state_on_and_a_restart_restores_it";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    // A directory that the director makes is its user's, too.
    for place in ["state.json", "made/state.json"] {
        let file = lab.path(place);
        let director = start(&lab, place);
        director.saved();
        assert_eq!(rights(&file), (USER, GROUP, 0o600), "{place}");
        set_weight(&director, 7);
        director.saved();
        assert_eq!(rights(&file), (USER, GROUP, 0o600), "{place}");
        let log = stop(director);
        assert!(!log.contains("state file"), "{log}");

        let director = start(&lab, place);
        assert_eq!(weight(&director), 7, "{place}");
        assert!(director.log().contains("are those of the last director"));
        set_weight(&director, 8);
        // The stop saves it.
        stop(director);
        assert_eq!(rights(&file), (USER, GROUP, 0o600), "{place}");
        let lock = lab.path(&format!("{place}.lock"));
        assert_eq!(rights(&lock), (USER, GROUP, 0o600), "{place}");
        let director = start(&lab, place);
        assert_eq!(weight(&director), 8, "{place}");
        stop(director);
    }
    assert_eq!(rights(&lab.path("made")), (USER, GROUP, 0o700));
}

#[test]
fn a_state_file_of_root_is_taken_over_by_the_user() {
    const NAME: &str = "a_state_file_of_root_is_taken_over_by_the_user";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let file = lab.path("state.json");
    let director = start_with(&lab, "state.json", "");
    set_weight(&director, 5);
    director.saved();
    stop(director);
    assert_eq!(rights(&file), (0, 0, 0o600));

    let director = start(&lab, "state.json");
    assert_eq!(weight(&director), 5);
    set_weight(&director, 6);
    director.saved();
    assert_eq!(rights(&file), (USER, GROUP, 0o600));
    let log = stop(director);
    assert!(!log.contains("cannot be written"), "{log}");
    // And back: root may read and replace what the user left.
    let director = start_with(&lab, "state.json", "");
    assert_eq!(weight(&director), 6);
    stop(director);
}

#[test]
fn a_directory_that_the_user_cannot_write_is_named_and_nothing_else_is_lost() {
    const NAME: &str = "a_directory_that_the_user_cannot_write_is_named_and_nothing_else_is_lost";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let kept = lab.path("kept");
    fs::create_dir(&kept).unwrap();
    let director = start(&lab, "kept/state.json");
    let doubt = format!(
        "kept/state.json: its directory is user 0's and not that of the director's user {USER}, \
         who may not be able to save there; give it away (chown {USER} {}), or set `state_file`",
        kept.display()
    );
    wait_for("the first state is refused", || {
        director.show("director")["state_file"]["errors"].as_u64() >= Some(1)
    });
    set_weight(&director, 9);
    assert_eq!(weight(&director), 9);
    assert_eq!(lab.ask(2), [1, 1]);
    let log = stop(director);
    assert!(log.contains(&doubt), "{log}");
    let complaint = "kept/state.json: cannot be written: Permission denied";
    assert_eq!(log.matches(complaint).count(), 1, "{log}");
    assert!(!kept.join("state.json").exists());

    // What the log says helps.
    chown(&kept, Some(USER), None).unwrap();
    let director = start(&lab, "kept/state.json");
    director.saved();
    assert_eq!(
        rights(&kept.join("state.json")),
        (USER, GROUP, 0o600),
        "{}",
        director.log()
    );
}
