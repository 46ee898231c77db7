//! The merge against a model that knows only single facts, and what it says in
//! the cases that operators meet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    scheduler::SchedulerKind,
    service::{ClientMask, Protocol, Tunables, TunnelKind},
};

fn key(port: u16) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, ([198, 51, 100, 10], port).into())
}

fn rip(last: u8) -> ServerKey {
    let address = [10, 0, 0, last].into();
    ServerKey { address }
}

fn server(last: u8, weight: u32) -> ServerSnapshot {
    let options = ServerOptions {
        weight,
        ..ServerOptions::default()
    };
    ServerSnapshot::new(rip(last), options)
}

fn service(port: u16, servers: &[ServerSnapshot]) -> ServiceSnapshot {
    ServiceSnapshot {
        key: key(port),
        options: SchedulerKind::Rr.into(),
        servers: servers.to_vec(),
    }
}

fn snapshot(services: &[ServiceSnapshot]) -> Snapshot {
    Snapshot {
        services: services.to_vec(),
        ..Snapshot::default()
    }
}

/// Carries commands out as a director does, as far as a snapshot shows it.
/// Panics where a director would refuse.
fn applied(mut snapshot: Snapshot, commands: &[Command]) -> Snapshot {
    for command in commands {
        let services = &mut snapshot.services;
        let service_at = |services: &[ServiceSnapshot], key: &ServiceKey| {
            services.iter().position(|it| it.key == *key)
        };
        match command {
            Command::AddService(key, options) => {
                assert_eq!(service_at(services, key), None, "{command:?}");
                services.push(ServiceSnapshot {
                    key: *key,
                    options: *options,
                    servers: Vec::new(),
                });
            }
            Command::EditService(key, options) => {
                let at = service_at(services, key).unwrap();
                services[at].options = *options;
            }
            Command::DeleteService(key) => {
                let at = service_at(services, key).unwrap();
                services.remove(at);
            }
            Command::AddServer(key, server, options) => {
                let at = service_at(services, key).unwrap();
                let servers = &mut services[at].servers;
                assert!(servers.iter().all(|it| it.key != *server), "{command:?}");
                servers.push(ServerSnapshot::new(*server, *options));
            }
            Command::EditServer(key, server, options) => {
                let at = service_at(services, key).unwrap();
                let servers = &mut services[at].servers;
                let server = servers.iter_mut().find(|it| it.key == *server).unwrap();
                server.options = *options;
                if options.weight > 0 {
                    server.last_weight = options.weight;
                }
            }
            Command::DeleteServer(key, server) => {
                let at = service_at(services, key).unwrap();
                let servers = &mut services[at].servers;
                let before = servers.len();
                servers.retain(|it| it.key != *server);
                assert_eq!(servers.len() + 1, before, "{command:?}");
            }
            Command::SetTimeouts(timeouts) => snapshot.timeouts = *timeouts,
            Command::SetTunables(tunables) => snapshot.tunables = *tunables,
            Command::Flush | Command::Zero(_) => panic!("{command:?}"),
        }
    }
    snapshot
}

/// A thing, and of it one part with its value: `"tcp 80/10.0.0.1"`, `"weight"`.
type Facts = BTreeMap<String, BTreeMap<&'static str, String>>;

fn facts(snapshot: &Snapshot) -> Facts {
    let mut facts = Facts::new();
    let Timeouts { tcp, tcp_fin, udp } = snapshot.timeouts;
    let mut settings = BTreeMap::from([
        ("tcp", tcp.to_string()),
        ("tcp_fin", tcp_fin.to_string()),
        ("udp", udp.to_string()),
    ]);
    for tunable in &TUNABLES {
        settings.insert(tunable.name, tunable.of(&snapshot.tunables).to_string());
    }
    facts.insert(String::new(), settings);
    for service in &snapshot.services {
        let options = service.options;
        let parts = BTreeMap::from([
            (
                "scheduler",
                format!("{:?} {:?}", options.scheduler, options.flags),
            ),
            ("one_packet", format!("{}", options.one_packet)),
            ("persistence", format!("{:?}", options.persistence)),
            ("outer_source", format!("{:?}", options.outer_source)),
        ]);
        facts.insert(service.key.to_string(), parts);
        for server in &service.servers {
            let options = server.options;
            let limits = (options.upper_threshold, options.lower_threshold);
            let parts = BTreeMap::from([
                ("weight", options.weight.to_string()),
                ("thresholds", format!("{limits:?}")),
                ("tunnel", format!("{:?}", options.tunnel)),
            ]);
            facts.insert(format!("{}/{}", service.key, server.key), parts);
        }
    }
    facts
}

/// The service that a server belongs to.
fn owner(thing: &str) -> Option<&str> {
    thing.split_once('/').map(|(owner, _)| owner)
}

/// What holds after the merge, thing by thing.
fn model(base: &Snapshot, file: &Snapshot, running: &Snapshot) -> Facts {
    let (base, file, running) = (facts(base), facts(file), facts(running));
    // Things of which the file has something that it had not.
    let told: BTreeSet<&String> = file
        .iter()
        .filter(|(thing, parts)| base.get(*thing) != Some(*parts))
        .map(|(thing, _)| thing)
        .collect();
    // Services that were deleted at run time and come back whole.
    let comes_back = |service: &str| {
        file.contains_key(service)
            && !running.contains_key(service)
            && told
                .iter()
                .any(|thing| *thing == service || owner(thing) == Some(service))
    };
    let things: BTreeSet<&String> = file.keys().chain(running.keys()).collect();
    let mut after = Facts::new();
    for thing in things {
        let was_taken_out = |it: &str| base.contains_key(it) && !file.contains_key(it);
        let service = owner(thing).unwrap_or(thing);
        if was_taken_out(thing) || was_taken_out(service) {
            continue;
        }
        match (file.get(thing), running.get(thing)) {
            (None, Some(parts)) => {
                after.insert(thing.clone(), parts.clone());
            }
            (Some(parts), None) => {
                let is_there = running.contains_key(service) && told.contains(thing);
                if is_there || comes_back(service) {
                    after.insert(thing.clone(), parts.clone());
                }
            }
            (Some(now), Some(parts)) => {
                let mut parts = parts.clone();
                for (part, value) in now {
                    let before = base.get(thing).and_then(|parts| parts.get(part));
                    if before != Some(value) {
                        parts.insert(part, value.clone());
                    }
                }
                after.insert(thing.clone(), parts);
            }
            (None, None) => unreachable!(),
        }
    }
    after
}

fn any_server() -> impl Strategy<Value = ServerSnapshot> {
    let thresholds = select(vec![(0, 0), (8, 2), (5, 4)]);
    let tunnels = vec![TunnelKind::Ipip, TunnelKind::Gre { checksum: true }];
    (1..4_u8, 0..3_u32, thresholds, select(tunnels)).prop_map(|(last, weight, limits, tunnel)| {
        let options = ServerOptions {
            weight,
            upper_threshold: limits.0,
            lower_threshold: limits.1,
            tunnel,
        };
        ServerSnapshot::new(rip(last), options)
    })
}

fn any_service() -> impl Strategy<Value = ServiceSnapshot> {
    let scheduler = select(vec![SchedulerKind::Rr, SchedulerKind::Wlc]);
    let persistence = prop::option::of((1..3_u32).prop_map(|timeout_s| Persistence {
        timeout_s,
        mask: ClientMask::host(false),
    }));
    let options = (scheduler, any::<bool>(), any::<bool>(), persistence);
    (1..4_u16, options, vec(any_server(), 0..4)).prop_map(|(port, options, mut servers)| {
        let mut seen = BTreeSet::new();
        servers.retain(|server| seen.insert(server.key));
        let (scheduler, fallback, one_packet, persistence) = options;
        let mut options = ServiceOptions::from(scheduler);
        options.flags.fallback = fallback;
        options.one_packet = one_packet;
        options.persistence = persistence;
        ServiceSnapshot {
            key: key(port),
            options,
            servers,
        }
    })
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    (1..3_u32, 0..2_u32, any::<bool>(), vec(any_service(), 0..4)).prop_map(
        |(udp, conn_reuse_mode, sloppy_tcp, mut services)| {
            let mut seen = BTreeSet::new();
            services.retain(|service| seen.insert(service.key));
            Snapshot {
                timeouts: Timeouts {
                    udp,
                    ..Timeouts::default()
                },
                tunables: Tunables {
                    conn_reuse_mode,
                    sloppy_tcp,
                    ..Tunables::default()
                },
                services,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_holds_is_what_the_model_says(
        base in any_snapshot(), file in any_snapshot(), running in any_snapshot(),
    ) {
        let commands = merge(&base, &file, &running).commands;
        let after = applied(running.clone(), &commands);
        prop_assert_eq!(facts(&after), model(&base, &file, &running));
    }

    #[test]
    fn an_unchanged_file_changes_nothing(file in any_snapshot(), running in any_snapshot()) {
        prop_assert_eq!(merge(&file, &file, &running), Merge::default());
    }

    #[test]
    fn without_changes_at_run_time_the_file_holds(base in any_snapshot(), file in any_snapshot()) {
        let Merge { commands, overridden } = merge(&base, &file, &base);
        let after = applied(base.clone(), &commands);
        prop_assert_eq!(facts(&after), facts(&file));
        prop_assert_eq!(overridden, Vec::<String>::new());
    }

    #[test]
    fn servers_keep_their_order(
        base in any_snapshot(), file in any_snapshot(), running in any_snapshot(),
    ) {
        let after = applied(running.clone(), &merge(&base, &file, &running).commands);
        for service in &running.services {
            let Some(now) = after.services.iter().find(|it| it.key == service.key) else {
                continue;
            };
            let left = service.servers.iter().filter(|it| now.servers.iter().any(|server| server.key == it.key));
            let left: Vec<_> = left.map(|it| it.key).collect();
            let first: Vec<_> = now.servers.iter().take(left.len()).map(|it| it.key).collect();
            prop_assert_eq!(left, first);
        }
    }

    #[test]
    fn commands_of_a_snapshot_make_it(whole in any_snapshot(), last_weight in 0..3_u32) {
        let mut whole = whole;
        for server in whole.services.iter_mut().flat_map(|it| &mut it.servers) {
            if server.options.weight == 0 {
                server.last_weight = last_weight;
            }
        }
        let empty = Snapshot { services: Vec::new(), ..whole.clone() };
        let commands: Vec<_> = whole.commands().collect();
        prop_assert_eq!(applied(empty, &commands), whole);
    }
}

#[test]
fn what_was_made_at_run_time_and_is_not_in_the_file_stays() {
    let file = snapshot(&[service(80, &[server(1, 1)])]);
    let running = snapshot(&[
        service(80, &[server(1, 1), server(2, 1)]),
        service(81, &[server(3, 1)]),
    ]);
    let next = snapshot(&[service(80, &[server(1, 5)])]);
    let merge = merge(&file, &next, &running);
    let options = server(1, 5).options;
    assert_eq!(
        merge.commands,
        [Command::EditServer(key(80), rip(1), options)]
    );
    assert_eq!(merge.overridden, [""; 0]);
}

#[test]
fn what_was_deleted_at_run_time_stays_away_until_the_file_tells_of_it() {
    let file = snapshot(&[service(80, &[server(1, 1), server(2, 1)]), service(81, &[])]);
    let running = snapshot(&[service(80, &[server(1, 1)])]);
    assert_eq!(merge(&file, &file, &running), Merge::default());
    // A server less is nothing new of a service that is gone.
    let shorter = snapshot(&[service(80, &[server(1, 1)]), service(81, &[])]);
    assert_eq!(merge(&file, &shorter, &snapshot(&[])).commands, []);

    let next = snapshot(&[
        service(80, &[server(1, 1), server(2, 0)]),
        service(81, &[server(3, 1)]),
    ]);
    let merge = merge(&file, &next, &running);
    assert_eq!(
        merge.commands,
        [
            Command::AddServer(key(80), rip(2), server(2, 0).options),
            Command::AddService(key(81), SchedulerKind::Rr.into()),
            Command::AddServer(key(81), rip(3), server(3, 1).options),
        ]
    );
    assert_eq!(
        merge.overridden,
        [
            "service TCP 198.51.100.10:80: 10.0.0.2 is back, as the file says something new of \
             it; it was deleted at run time",
            "service TCP 198.51.100.10:81 is back, as the file says something new of it; it was \
             deleted at run time",
        ]
    );
}

#[test]
fn what_the_file_changes_holds_and_the_log_says_what_it_was() {
    let file = snapshot(&[service(80, &[server(1, 1)]), service(81, &[])]);
    let mut running = snapshot(&[service(80, &[server(1, 7)]), service(81, &[server(9, 1)])]);
    running.services[0].options.scheduler = SchedulerKind::Mh;
    running.services[0].options.flags.fallback = true;
    running.tunables.sloppy_tcp = true;
    running.timeouts.udp = 10;
    let mut next = snapshot(&[service(80, &[server(1, 2)])]);
    next.services[0].options.scheduler = SchedulerKind::Wlc;
    next.tunables.pmtu_disc = false;
    next.timeouts.udp = 20;
    let merge = merge(&file, &next, &running);
    let tunables = Tunables {
        sloppy_tcp: true,
        pmtu_disc: false,
        ..Tunables::default()
    };
    let timeouts = Timeouts {
        udp: 20,
        ..Timeouts::default()
    };
    assert_eq!(
        merge.commands,
        [
            Command::DeleteService(key(81)),
            Command::SetTunables(tunables),
            Command::SetTimeouts(timeouts),
            Command::EditService(key(80), SchedulerKind::Wlc.into()),
            Command::EditServer(key(80), rip(1), server(1, 2).options),
        ]
    );
    assert_eq!(
        merge.overridden,
        [
            "udp is 20, as the file now says; 10 was set at run time",
            "service TCP 198.51.100.10:80: the scheduler is wlc, as the file now says; mh \
             mh-fallback was set at run time",
            "service TCP 198.51.100.10:80: the weight of 10.0.0.1 is 2, as the file now says; 7 \
             was set at run time",
            "service TCP 198.51.100.10:81 goes, as the file no longer has it, with what was \
             changed of it at run time",
        ]
    );
}

#[test]
fn going_back_to_the_file_is_a_merge_with_what_runs_as_the_base() {
    let file = snapshot(&[service(80, &[server(1, 1), server(2, 1)])]);
    let mut running = snapshot(&[service(80, &[server(1, 0), server(3, 1)]), service(81, &[])]);
    running.tunables.secure_tcp = 3;
    let merge = merge(&running, &file, &running);
    assert_eq!(merge.overridden, [""; 0]);
    assert_eq!(facts(&applied(running, &merge.commands)), facts(&file));
}

#[test]
fn a_snapshot_that_no_director_wrote_is_known() {
    let defect = |snapshot: Snapshot| snapshot.defect();
    assert_eq!(defect(snapshot(&[service(80, &[server(1, 1)])])), None);
    assert_eq!(
        defect(snapshot(&[service(80, &[]), service(80, &[])])).unwrap(),
        "service TCP 198.51.100.10:80 stands twice"
    );
    assert_eq!(
        defect(snapshot(&[service(80, &[server(1, 1), server(1, 2)])])).unwrap(),
        "service TCP 198.51.100.10:80 has 10.0.0.1 twice"
    );
    let mut crossed = server(1, 1);
    crossed.options.lower_threshold = 1;
    let mut without_port = server(1, 1);
    without_port.options.tunnel = TunnelKind::Gue {
        l4_port: 0,
        checksum: crate::service::GueChecksum::None,
    };
    for server in [crossed, without_port, server(1, u32::MAX)] {
        assert_eq!(
            defect(snapshot(&[service(80, &[server])])).unwrap(),
            "service TCP 198.51.100.10:80 has 10.0.0.1 with impossible options"
        );
    }
    let mut settings = snapshot(&[]);
    settings.timeouts.udp = 0;
    assert_eq!(defect(settings).unwrap(), "a timeout is out of range");
    let mut settings = snapshot(&[]);
    settings.tunables.secure_tcp = 4;
    assert_eq!(defect(settings).unwrap(), "secure_tcp is out of range");
}
