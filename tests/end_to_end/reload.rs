//! SIGHUP: another configuration for a director at work.

use std::{fs, io::ErrorKind, thread, time::Duration};

use crate::support::{Configuration, Lab, Shape, wait_for};

#[test]
fn servers_join_drain_and_leave_under_load_without_a_failed_request() {
    const NAME: &str = "servers_join_drain_and_leave_under_load_without_a_failed_request";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 3) else {
        return;
    };
    let with = |servers: &[(u8, u32)]| Configuration {
        servers: servers.to_vec(),
        expire_nodest_conn: true,
        ..lab.configuration()
    };
    let director = lab.start_director(&with(&[(1, 1), (2, 1)]));
    let loads = [lab.load(), lab.load()];
    let pause = || thread::sleep(Duration::from_millis(500));
    let mut long_lived = loop {
        let mut connection = lab.connect().unwrap();
        if connection.get().unwrap().server == 1 {
            break connection;
        }
    };
    pause();
    director.change_to(&lab, &with(&[(1, 1), (2, 1), (3, 1)]));
    pause();
    director.change_to(&lab, &with(&[(1, 0), (2, 1), (3, 1)]));
    assert!(!lab.ask(12).contains(&1), "drained");
    assert_eq!(long_lived.get().unwrap().server, 1, "drained, not cut off");
    drop(long_lived);
    pause();
    director.change_to(&lab, &with(&[(2, 1), (3, 1)]));
    pause();
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.failures, [""; 0], "{tally:?}\n{}", director.log());
        assert!(tally.answered() >= 50, "{tally:?}");
        assert!((1..=3).all(|server| tally.answers[server] > 0), "{tally:?}");
    }
    assert_eq!(
        director.show("services")[0]["servers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn connections_of_a_removed_server_are_reset_with_expire_nodest_conn() {
    const NAME: &str = "connections_of_a_removed_server_are_reset_with_expire_nodest_conn";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let configuration = Configuration {
        expire_nodest_conn: true,
        ..lab.configuration()
    };
    let director = lab.start_director(&configuration);
    let mut connection = lab.connect().unwrap();
    connection.get().unwrap();
    assert_eq!(director.counter("connections"), 1);
    let without = Configuration {
        servers: Vec::new(),
        ..configuration
    };
    director.change_to(&lab, &without);
    wait_for("the connection is gone", || {
        director.counter("connections") == 0
    });
    let error = connection.get().unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
        ),
        "{error}"
    );
}

#[test]
fn connections_of_a_removed_server_wait_for_its_return() {
    const NAME: &str = "connections_of_a_removed_server_wait_for_its_return";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let both = lab.configuration();
    let second_alone = Configuration {
        servers: vec![(2, 1)],
        ..both.clone()
    };
    let director = lab.start_director(&both);
    let mut connection = loop {
        let mut connection = lab.connect().unwrap();
        if connection.get().unwrap().server == 1 {
            break connection;
        }
    };
    director.change_to(&lab, &second_alone);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| connection.get());
        wait_for("its packets are dropped", || {
            director.counter("server_gone") > 0
        });
        director.change_to(&lab, &both);
        assert_eq!(waiting.join().unwrap().unwrap().server, 1);
    });
}

#[test]
fn a_wrong_file_changes_nothing_and_the_log_says_why() {
    const NAME: &str = "a_wrong_file_changes_nothing_and_the_log_says_why";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let (generation, services) = (director.generation(), director.show("services"));
    lab.write(&Configuration {
        servers: vec![(1, 1), (2, 2_147_483_648)],
        ..lab.configuration()
    });
    let news = director.reload();
    for part in ["stays as it is", "director.toml:", "weight", "2147483648"] {
        assert!(news.contains(part), "{part}: {news}");
    }
    assert_eq!(director.show("services"), services);
    assert_eq!(director.generation(), generation);
    assert_eq!(lab.ask(2).len(), 2);
}

#[test]
fn a_file_that_takes_a_restart_changes_nothing_and_the_log_names_the_key() {
    const NAME: &str = "a_file_that_takes_a_restart_changes_nothing_and_the_log_names_the_key";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let (generation, services) = (director.generation(), director.show("services"));
    lab.write(&Configuration {
        lan: "net_af_packet1,iface=lan,framesz=4096".to_owned(),
        servers: vec![(1, 1)],
        ..lab.configuration()
    });
    let news = director.reload();
    assert!(news.contains("only a restart can change"), "{news}");
    assert!(news.contains("device"), "{news}");
    assert_eq!(director.show("services"), services);
    assert_eq!(director.generation(), generation);
    assert_eq!(lab.ask(2).len(), 2);
}

#[test]
fn services_of_a_kernel_director_are_taken_up_changed_and_given_back() {
    const NAME: &str = "services_of_a_kernel_director_are_taken_up_changed_and_given_back";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let both = Configuration {
        in_rules: true,
        ..lab.configuration()
    };
    let director = lab.start_director(&both);
    let saved = || director.show_text("services --format ipvsadm");
    let rules = || fs::read_to_string(lab.path("services.rules")).unwrap();
    assert_eq!(saved(), rules());
    let mut answered = lab.ask(4);
    answered.sort_unstable();
    assert_eq!(answered, [1, 1, 2, 2]);

    let second_alone = Configuration {
        servers: vec![(2, 3)],
        ..both
    };
    director.change_to(&lab, &second_alone);
    assert_eq!(saved(), rules());
    assert_eq!(lab.ask(2), [2, 2]);

    let right = rules();
    fs::write(lab.path("services.rules"), right.replace(" -i ", " -m ")).unwrap();
    let news = director.reload();
    for part in ["stays as it is", "services.rules:2:", "masquerading (-m)"] {
        assert!(news.contains(part), "{part}: {news}");
    }
    assert_eq!(saved(), right);
}
