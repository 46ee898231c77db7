//! What is changed at run time outlives SIGHUP, a restart and a killed director.

use std::{fs, path::Path, process::Command as Program};

use pointsman::{
    control::command::Command,
    service::{Protocol, ServerKey, ServerOptions, ServiceKey},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Configuration, Director, Lab, Shape, rip, wait_for};

fn http() -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, "198.51.100.10:80".parse().unwrap())
}

fn echo() -> ServiceKey {
    ServiceKey::at(Protocol::Udp, "198.51.100.10:7".parse().unwrap())
}

fn server(number: u8) -> ServerKey {
    let address = rip(number).into();
    ServerKey { address }
}

fn weighing(weight: u32) -> ServerOptions {
    ServerOptions {
        weight,
        ..ServerOptions::default()
    }
}

/// Servers of a service with their weights, the newest first.
fn servers(director: &Director, address: &str) -> Vec<(String, u64)> {
    listed(director, address).unwrap()
}

/// The same; `None` without the service.
fn listed(director: &Director, address: &str) -> Option<Vec<(String, u64)>> {
    let services = director.show("services");
    let service = services
        .as_array()
        .unwrap()
        .iter()
        .find(|service| service["key"]["address"] == address)?;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let servers = service["servers"].as_array().unwrap().iter();
    Some(
        servers
            .map(|it| {
                let weight = it["options"]["weight"].as_u64().unwrap();
                (text(&it["key"]["address"]), weight)
            })
            .collect(),
    )
}

fn list(servers: &[(u8, u64)]) -> Vec<(String, u64)> {
    let server = |&(number, weight): &(u8, u64)| (rip(number).to_string(), weight);
    servers.iter().map(server).collect()
}

fn with(lab: &Lab, servers: &[(u8, u32)]) -> Configuration {
    Configuration {
        servers: servers.to_vec(),
        ..lab.configuration()
    }
}

const HTTP: &str = "198.51.100.10:80";
const ECHO: &str = "198.51.100.10:7";

#[test]
fn a_killed_director_comes_back_with_what_was_changed_at_run_time() {
    const NAME: &str = "a_killed_director_comes_back_with_what_was_changed_at_run_time";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let configuration = with(&lab, &[(1, 1)]);
    let mut director = lab.start_director(&configuration);
    director.apply(&Command::EditServer(http(), server(1), weighing(0)));
    director.apply(&Command::AddServer(http(), server(2), weighing(3)));
    director.apply(&Command::DeleteService(echo()));
    director.set("sloppy_tcp 1");
    director.set("timeouts 0 30 0");
    director.saved();
    director.signal(Signal::KILL);
    director.wait();

    let director = lab.start_director(&configuration);
    // Also the first request goes where it was told to at run time.
    assert_eq!(lab.ask(4), [2; 4]);
    assert_eq!(servers(&director, HTTP), list(&[(2, 3), (1, 0)]));
    assert_eq!(listed(&director, ECHO), None);
    let settings = director.show("settings");
    assert_eq!(settings["tunables"]["sloppy_tcp"], true);
    assert_eq!(settings["configured_tunables"]["sloppy_tcp"], false);
    assert_eq!(settings["timeouts"]["tcp_fin"], 30);
    assert!(director.log().contains("are those of the last director"));
}

#[test]
fn sighup_takes_up_what_the_file_changed_and_leaves_the_rest() {
    const NAME: &str = "sighup_takes_up_what_the_file_changed_and_leaves_the_rest";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 3) else {
        return;
    };
    let director = lab.start_director(&with(&lab, &[(1, 1), (2, 1)]));
    director.apply(&Command::AddServer(http(), server(3), weighing(1)));
    director.apply(&Command::EditServer(http(), server(1), weighing(7)));
    director.apply(&Command::DeleteServer(http(), server(2)));
    director.set("sloppy_tcp 1");
    let news = director.reload();
    assert!(news.contains("read again"), "{news}");
    assert!(!news.contains("set at run time"), "{news}");
    let changed = list(&[(3, 1), (1, 7)]);
    assert_eq!(servers(&director, HTTP), changed);
    assert_eq!(director.show("settings")["tunables"]["sloppy_tcp"], true);

    lab.write(&Configuration {
        expire_nodest_conn: true,
        ..with(&lab, &[(1, 0), (2, 1)])
    });
    let news = director.reload();
    let line = "service TCP 198.51.100.10:80: the weight of 10.0.0.11 is 0, as the file now says; \
                7 was set at run time";
    assert!(news.contains(line), "{news}");
    assert_eq!(servers(&director, HTTP), list(&[(3, 1), (1, 0)]));
    let settings = director.show("settings");
    assert_eq!(settings["tunables"]["sloppy_tcp"], true);
    assert_eq!(settings["tunables"]["expire_nodest_conn"], true);
    assert_eq!(lab.ask(3), [3; 3]);
}

#[test]
fn a_file_changed_while_the_director_was_down_is_merged_at_the_start() {
    const NAME: &str = "a_file_changed_while_the_director_was_down_is_merged_at_the_start";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 3) else {
        return;
    };
    let mut director = lab.start_director(&with(&lab, &[(1, 1), (2, 1)]));
    director.apply(&Command::EditServer(http(), server(2), weighing(0)));
    // The last change is saved by the stop itself.
    director.signal(Signal::TERM);
    assert!(director.wait().success());
    let director = lab.start_director(&with(&lab, &[(2, 1), (3, 1)]));
    assert_eq!(servers(&director, HTTP), list(&[(3, 1), (2, 0)]));
    assert_eq!(servers(&director, ECHO), list(&[(3, 1), (2, 1)]));
    assert_eq!(lab.ask(3), [3; 3]);
}

#[test]
fn revert_takes_everything_back() {
    const NAME: &str = "revert_takes_everything_back";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    director.set("sloppy_tcp 1");
    director.apply(&Command::Flush);
    assert_eq!(listed(&director, HTTP), None);
    director.revert();
    assert_eq!(servers(&director, HTTP), list(&[(1, 1)]));
    assert_eq!(director.show("settings")["tunables"]["sloppy_tcp"], false);
    assert_eq!(lab.ask(2), [1, 1]);
}

#[test]
fn a_torn_state_file_is_put_aside_and_the_director_runs_by_its_configuration() {
    const NAME: &str = "a_torn_state_file_is_put_aside_and_the_director_runs_by_its_configuration";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let mut director = lab.start_director(&lab.configuration());
    director.apply(&Command::Flush);
    director.signal(Signal::TERM);
    director.wait();
    let whole = fs::read(lab.state_file()).unwrap();
    let torn = &whole[..whole.len() - 9];
    fs::write(lab.state_file(), torn).unwrap();

    let director = lab.start_director(&lab.configuration());
    let log = director.log();
    let name = lab.state_file().display().to_string();
    for part in [
        format!("state file {name}: it is cut off or was changed"),
        format!("kept as {name}.refused; to use it after all, stop the director"),
    ] {
        assert!(log.contains(&part), "{part}: {log}");
    }
    assert_eq!(fs::read(format!("{name}.refused")).unwrap(), torn);
    assert_eq!(servers(&director, HTTP), list(&[(1, 1)]));
    director.saved();
    assert_eq!(lab.ask(2), [1, 1]);
}

/// A file system of a few pages; gone when dropped.
struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    fn mount(at: &'p Path) -> Self {
        fs::create_dir(at).unwrap();
        let mounted = Program::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success());
        Self(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_once_and_counted_and_the_director_goes_on() {
    const NAME: &str = "a_full_disk_is_told_once_and_counted_and_the_director_goes_on";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let place = lab.path("disk");
    let _disk = SmallDisk::mount(&place);
    let ballast = place.join("ballast");
    lab.write(&lab.configuration());
    let file = lab.configuration_file();
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("/state.json", "/disk/state.json");
    fs::write(&file, text).unwrap();
    let director = lab.start_director_as_written();
    director.saved();
    let before = fs::read(place.join("state.json")).unwrap();
    // Writing ends when there is no room.
    fs::write(&ballast, vec![0; 128 << 10]).unwrap_err();
    let errors = || {
        director.show("director")["state_file"]["errors"]
            .as_u64()
            .unwrap()
    };
    director.set("sloppy_tcp 1");
    wait_for("the disk has refused twice", || errors() >= 2);
    let complaint = "disk/state.json: cannot be written: No space left on device";
    assert_eq!(
        director.log().matches(complaint).count(),
        1,
        "{}",
        director.log()
    );
    assert_eq!(lab.ask(2), [1, 1]);
    assert_eq!(fs::read(place.join("state.json")).unwrap(), before);
    assert!(!place.join("state.json.new").exists());
    fs::remove_file(&ballast).unwrap();
    director.saved();
    assert!(director.log().contains("disk/state.json: saved again"));
    assert_ne!(fs::read(place.join("state.json")).unwrap(), before);
}
