//! Settings that are made at run time, over the queue of the control socket.

use pointsman::{
    control::{
        command::{Command, CommandError},
        status::{Request, Response, SettingsStatus},
    },
    service::{Timeouts, Tunables},
};

use crate::{
    asked::Asked,
    frames::{ACK, tcp},
    lab::{Setup, web},
};

impl Asked {
    fn start() -> Self {
        Self::with(&Setup::default())
    }

    fn settings(&mut self, request: Request) -> SettingsStatus {
        match self.ask(request) {
            Response::Settings(settings) => settings,
            other => panic!("{other:?}"),
        }
    }

    fn set(&mut self, name: &str, value: u32) -> SettingsStatus {
        let name = name.to_owned();
        self.settings(Request::SetTunable { name, value })
    }

    /// Whether an ACK without a connection is sent on to the real server, and
    /// not answered by a reset.
    fn forwards_ack(&mut self, client_port: u16) -> bool {
        let sent = self.lab.answers(&tcp(client_port, ACK).frame());
        assert_eq!(sent.len(), 1);
        sent[0].0 == 1
    }
}

#[test]
fn a_setting_holds_from_the_next_packet_on_until_it_is_taken_back() {
    let mut director = Asked::start();
    assert!(!director.forwards_ack(1000));
    let settings = director.set("sloppy_tcp", 1);
    assert!(settings.tunables.sloppy_tcp);
    assert_eq!(settings.configured_tunables, Tunables::default());
    assert!(director.forwards_ack(1001));

    // SIGHUP, with the same file.
    let (mut config, now) = (director.config.clone(), director.lab.now);
    let management = &mut director.lab.director.management;
    management.reconfigure(&config, now).unwrap();
    director.lab.settle();
    assert!(director.forwards_ack(1002));

    // With one that says something else of another setting, and of this one.
    config.director.tunables.pmtu_disc = false;
    let management = &mut director.lab.director.management;
    management.reconfigure(&config, now).unwrap();
    let settings = director.settings(Request::Settings);
    assert!(settings.tunables.sloppy_tcp && !settings.tunables.pmtu_disc);
    config.director.tunables = Tunables {
        sloppy_tcp: true,
        ..Tunables::default()
    };
    let management = &mut director.lab.director.management;
    management.reconfigure(&config, now).unwrap();
    config.director.tunables.sloppy_tcp = false;
    let management = &mut director.lab.director.management;
    management.reconfigure(&config, now).unwrap();
    director.lab.settle();
    assert!(!director.forwards_ack(1003));

    director.set("sloppy_tcp", 1);
    assert_eq!(director.lab.ask(Request::Revert), Response::Applied);
    assert!(!director.forwards_ack(1004));
    assert_eq!(
        director.settings(Request::Settings).tunables,
        Tunables::default()
    );
}

#[test]
fn settings_are_made_one_by_one() {
    let mut director = Asked::start();
    director.set("pmtu_disc", 0);
    director.set("conn_reuse_mode", 2);
    let expected = Tunables {
        pmtu_disc: false,
        conn_reuse_mode: 2,
        ..Tunables::default()
    };
    assert_eq!(director.settings(Request::Settings).tunables, expected);
}

#[test]
fn timeouts_of_0_stay_as_they_are() {
    let mut director = Asked::start();
    let settings = director.settings(Request::SetTimeouts {
        tcp: 0,
        tcp_fin: 30,
        udp: 0,
    });
    let timeouts = Timeouts {
        tcp: 900,
        tcp_fin: 30,
        udp: 300,
    };
    assert_eq!(settings.timeouts, timeouts);
    assert_eq!(settings.configured_timeouts, Timeouts::default());
}

#[test]
fn what_cannot_be_set_changes_nothing_and_says_why() {
    let mut director = Asked::start();
    let tunable = |name: &str, value| Request::SetTunable {
        name: name.to_owned(),
        value,
    };
    let too_long = Request::SetTimeouts {
        tcp: 0,
        tcp_fin: 0,
        udp: 2_678_401,
    };
    for (request, why) in [
        (
            tunable("backup_only", 1),
            "there is no setting \"backup_only\"",
        ),
        (
            tunable("secure_tcp", 4),
            "secure_tcp cannot be 4; write 0 to 3",
        ),
        (too_long, "a timeout cannot be 2678401 s"),
    ] {
        match director.ask(request) {
            Response::Error(text) => assert!(text.starts_with(why), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let settings = director.settings(Request::Settings);
    assert_eq!(settings.tunables, Tunables::default());
    assert_eq!(settings.timeouts, Timeouts::default());
}

#[test]
fn a_command_takes_effect_or_is_refused_with_its_reason() {
    let mut director = Asked::start();
    let delete = Request::Apply(Command::DeleteService(web()));
    assert_eq!(director.ask(delete.clone()), Response::Applied);
    assert_eq!(
        director.ask(delete),
        Response::Refused(CommandError::NoSuchService(web()))
    );
    assert_eq!(director.ask(Request::Services), Response::Services(vec![]));
}
