//! Requests to a director at work: commands, and what was counted.

use pointsman::{
    control::{
        command::Command,
        status::{Rates, Request, Response, ServiceStatus, Statistics},
    },
    scheduler::SchedulerKind,
};

use crate::{
    asked::Asked,
    frames::{SYN, tcp},
    lab::{Setup, server_key, web, weight},
};

fn start() -> Asked {
    Asked::with(&Setup::default())
}

/// The only service, asked for by its key.
fn service(asked: &mut Asked) -> ServiceStatus {
    match asked.ask(Request::Service(web())) {
        Response::Services(services) => services.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn totals(asked: &mut Asked) -> (Statistics, Rates) {
    match asked.ask(Request::Statistics) {
        Response::Statistics { total, rates } => (total, rates),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_not_done() {
    let mut asked = start();
    asked.lab.give_up(Request::Apply(Command::Flush));
    assert_eq!(asked.lab.director.management.services().len(), 1);
    assert_eq!(asked.ask(Request::Apply(Command::Flush)), Response::Applied);
    assert_eq!(
        asked.ask(Request::Service(web())),
        Response::Services(vec![])
    );
}

/// Twenty connections in two seconds are ten a second, of which a quarter is
/// believed at first: 2.5, which the kernel shows as 2.
#[test]
fn rates_are_estimated_every_two_seconds_and_zeroed() {
    let mut asked = start();
    for port in 0..20 {
        asked.lab.send(&tcp(1000 + port, SYN).frame());
    }
    assert_eq!(service(&mut asked).rates, Rates::default());
    asked.lab.advance(2000);
    let expected = Rates {
        connections_per_s: 2,
        in_packets_per_s: 2,
        // 20 packets of 40 bytes.
        in_bytes_per_s: 100,
        ..Rates::default()
    };
    let status = service(&mut asked);
    assert_eq!(
        (status.rates, status.servers[0].rates),
        (expected, Rates::default())
    );
    let (total, rates) = totals(&mut asked);
    assert_eq!((total, rates), (status.statistics, expected));
    assert_eq!(total.connections, 20);

    // A server is estimated from when it was first seen in the list on.
    for port in 0..20 {
        asked.lab.send(&tcp(2000 + port, SYN).frame());
    }
    asked.lab.advance(2000);
    assert_eq!(service(&mut asked).servers[0].rates, expected);

    asked.ask(Request::Apply(Command::Zero(None)));
    let status = service(&mut asked);
    assert_eq!(status.rates, Rates::default());
    assert_eq!(status.servers[0].rates, Rates::default());
    assert_eq!(totals(&mut asked), Default::default());
}

#[test]
fn commands_that_stream_in_are_published_at_intervals() {
    let mut asked = start();
    let generation = |asked: &Asked| asked.lab.director.management.state().generation;
    let add = |asked: &mut Asked, number: u8| {
        let command = Command::AddServer(web(), server_key(number), weight(1));
        assert_eq!(asked.ask(Request::Apply(command)), Response::Applied);
    };
    asked.lab.advance(1000);
    let before = generation(&asked);
    add(&mut asked, 12);
    assert_eq!(generation(&asked), before + 1, "alone, at once");
    add(&mut asked, 13);
    add(&mut asked, 14);
    assert_eq!(generation(&asked), before + 1);
    asked.lab.advance(9);
    assert_eq!(generation(&asked), before + 1);
    asked.lab.advance(1);
    assert_eq!(generation(&asked), before + 2, "both together");
    let scheduler = Command::EditService(web(), SchedulerKind::Wlc.into());
    asked.lab.advance(100);
    assert_eq!(asked.ask(Request::Apply(scheduler)), Response::Applied);
    assert_eq!(generation(&asked), before + 3);
}
