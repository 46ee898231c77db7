use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::connection::time::STEPS_PER_SECOND;

const KEY: HashKey = HashKey::from_seed([
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
]);

fn table(templates_max: u32) -> Templates {
    Templates::new(templates_max, KEY, None).unwrap()
}

fn at(seconds: u32) -> CoarseTime {
    CoarseTime::from_steps(seconds * STEPS_PER_SECOND)
}

fn key(client: u8) -> TemplateKey {
    TemplateKey {
        protocol: 6,
        client: [203, 0, 113, client].into(),
        service: [198, 51, 100, 10].into(),
        l4_port: 80,
    }
}

/// A connection of a client under a template of 3 s: to `server` if it is the
/// first.
fn attach(table: &Templates, client: u8, server: u32, now: CoarseTime) -> Attached {
    attach_where(table, client, server, now, |_| true)
}

fn attach_where(
    table: &Templates,
    client: u8,
    server: u32,
    now: CoarseTime,
    is_usable: impl Fn(u32) -> bool,
) -> Attached {
    let timeout = CoarseDuration::from_seconds(3);
    let attached = table.attach(
        &key(client),
        timeout,
        now,
        is_usable,
        || Some(server),
        |_, _| (),
    );
    attached.unwrap()
}

fn release(table: &Templates, attached: Attached, ending: Ending, now: CoarseTime) {
    table.release(attached.template.unwrap(), ending, now, |_, _| ());
}

fn expire(table: &Templates, now: CoarseTime) -> u32 {
    table.expire((0, 1), now, u32::MAX, |_, _| ()).expired
}

/// All templates as "client:port server state seconds controlled".
fn shown(table: &Templates, now: CoarseTime) -> Vec<String> {
    let mut lines = Vec::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        let (page, next) = table.page(from, 7);
        lines.extend(page.iter().map(|template| {
            format!(
                "{}:{} {} {} {} {}",
                template.key.client,
                template.key.l4_port,
                template.server,
                template.state_name(),
                template.deadline.steps_since(now).saturating_sub(1) / STEPS_PER_SECOND,
                template.controlled,
            )
        }));
        cursor = next;
    }
    lines.sort();
    assert_eq!(lines.len(), table.len());
    lines
}

#[test]
fn the_second_connection_of_a_client_goes_where_the_first_went() {
    let table = table(100);
    let first = attach(&table, 1, 7, at(0));
    let second = attach(&table, 1, 8, at(1));
    assert_eq!(first, second);
    assert_eq!(first.server, 7);
    assert_eq!(attach(&table, 2, 8, at(1)).server, 8);
    assert_eq!(
        shown(&table, at(1)),
        ["203.0.113.1:80 7 NONE 3 2", "203.0.113.2:80 8 NONE 3 1"]
    );
}

#[test]
fn families_protocols_services_and_ports_are_told_apart() {
    let table = table(1000);
    let v4 = key(1);
    let keys = [
        v4,
        TemplateKey { protocol: 17, ..v4 },
        TemplateKey { l4_port: 0, ..v4 },
        TemplateKey {
            service: [198, 51, 100, 11].into(),
            ..v4
        },
        TemplateKey {
            client: "cb00:7101::".parse().unwrap(),
            service: "c633:640a::".parse().unwrap(),
            ..v4
        },
    ];
    let timeout = CoarseDuration::from_seconds(360);
    for (server, key) in (0..).zip(&keys) {
        let attached = table.attach(key, timeout, at(0), |_| true, || Some(server), |_, _| ());
        assert_eq!(attached.unwrap().server, server);
    }
    assert!(keys.iter().all(|key| {
        table
            .attach(key, timeout, at(0), |_| true, || None, |_, _| ())
            .is_some()
    }));
}

#[test]
fn a_template_ends_with_its_time_when_no_connection_is_left() {
    let table = table(100);
    let connection = attach(&table, 1, 7, at(10));
    release(&table, connection, Ending::Natural, at(12));
    assert_eq!(expire(&table, at(13)), 0, "the time is rounded up a step");
    let after = CoarseTime::from_steps(13 * STEPS_PER_SECOND + 1);
    assert_eq!(expire(&table, after), 1);
    assert!(table.is_empty());
}

/// Recording `08_persistent_timer`: `-p 3`, a connection in `SYN_RECV`. The
/// template shows 00:02; after 4 s 00:58; after another connection 00:59.
#[test]
fn a_template_whose_connections_outlive_it_goes_on_for_a_minute_as_recorded() {
    let table = table(100);
    attach(&table, 1, 7, at(0));
    let soon = CoarseTime::from_steps(2);
    assert_eq!(shown(&table, soon), ["203.0.113.1:80 7 NONE 2 1"]);
    let later = CoarseTime::from_steps(4 * STEPS_PER_SECOND + 2);
    assert_eq!(expire(&table, later), 0);
    assert_eq!(shown(&table, later), ["203.0.113.1:80 7 NONE 58 1"]);
    assert_eq!(attach(&table, 1, 8, later).server, 7);
    let soon = CoarseTime::from_steps(later.as_steps() + 2);
    assert_eq!(shown(&table, soon), ["203.0.113.1:80 7 NONE 59 2"]);
}

/// Without a look in between: a deadline that passed while a connection was
/// there counts, one that passed after it does not.
#[test]
fn a_template_that_nobody_looked_at_is_what_it_would_be() {
    let table = table(100);
    let connection = attach(&table, 1, 7, at(0));
    // Deadlines at 3, 63 and 123 s.
    release(&table, connection, Ending::Natural, at(100));
    assert_eq!(attach(&table, 1, 8, at(123)).server, 7);
    let connection = attach(&table, 2, 7, at(200));
    release(&table, connection, Ending::Natural, at(201));
    assert_eq!(attach(&table, 2, 8, at(204)).server, 8);
}

#[test]
fn a_template_whose_server_is_not_usable_is_replaced_and_stays_to_be_seen() {
    let table = table(100);
    attach(&table, 1, 7, at(0));
    let second = attach_where(&table, 1, 8, at(1), |server| server != 7);
    assert_eq!(second.server, 8);
    assert_eq!(attach(&table, 1, 9, at(1)).server, 8, "7 is usable again");
    assert_eq!(
        shown(&table, at(1)),
        ["203.0.113.1:65535 7 NONE 2 1", "203.0.113.1:80 8 NONE 3 2"]
    );
}

#[test]
fn without_a_server_there_is_no_template() {
    let table = table(100);
    let timeout = CoarseDuration::from_seconds(3);
    let none = table.attach(&key(1), timeout, at(0), |_| true, || None, |_, _| ());
    assert_eq!(none, None);
    assert!(table.is_empty());
}

#[test]
fn an_evicted_connection_takes_its_template_along_unless_that_is_assured() {
    let table = table(100);
    let flood = attach(&table, 1, 7, at(0));
    release(&table, flood, Ending::Evicted, at(0));
    assert!(table.is_empty());

    let real = attach(&table, 2, 7, at(0));
    table.assure(real.template.unwrap());
    release(&table, real, Ending::Evicted, at(0));
    assert_eq!(shown(&table, at(0)), ["203.0.113.2:80 7 ASSURED 3 0"]);

    let flushed = attach(&table, 2, 7, at(0));
    let other = attach(&table, 2, 7, at(0));
    release(&table, flushed, Ending::Flushed, at(0));
    assert_eq!(table.len(), 1, "one connection is left");
    release(&table, other, Ending::Flushed, at(0));
    assert!(table.is_empty());
}

#[test]
fn a_full_table_gives_room_to_new_clients_and_else_serves_them_without() {
    let table = table(4);
    let kept = attach(&table, 1, 7, at(0));
    let idle = attach(&table, 2, 7, at(0));
    release(&table, idle, Ending::Natural, at(0));
    let assured = attach(&table, 3, 7, at(0));
    table.assure(assured.template.unwrap());
    release(&table, assured, Ending::Natural, at(0));
    attach(&table, 4, 7, at(0));
    let mut events = Vec::new();
    let timeout = CoarseDuration::from_seconds(3);
    let mut open = |client, now| {
        table.attach(
            &key(client),
            timeout,
            now,
            |_| true,
            || Some(9),
            |server, event| events.push((server, event)),
        )
    };
    assert!(open(5, at(0)).unwrap().template.is_some());
    let served = Attached {
        server: 9,
        template: None,
    };
    assert_eq!(open(6, at(0)), Some(served));
    // The assured one is over by now.
    assert!(open(6, at(4)).unwrap().template.is_some());
    assert_eq!(
        events,
        [
            (7, TemplateEvent::Evicted),
            (9, TemplateEvent::Began),
            (7, TemplateEvent::Ended),
            (9, TemplateEvent::Began),
        ]
    );
    assert_eq!(attach(&table, 1, 9, at(4)), kept);
}

#[test]
fn templates_of_servers_that_are_gone_end_when_they_have_no_connections() {
    let table = table(1000);
    for client in 0..200 {
        let connection = attach(&table, client, u32::from(client % 2), at(0));
        if client < 100 {
            release(&table, connection, Ending::Natural, at(0));
        }
    }
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        cursor = table.end_unused(from, 10, |server| server == 1, |_, _| ());
    }
    assert_eq!(table.len(), 150);
}

#[test]
fn workers_expire_disjoint_shards_and_together_all() {
    let table = table(100_000);
    for client in 0..=255 {
        let connection = attach(&table, client, 7, at(0));
        release(&table, connection, Ending::Natural, at(0));
    }
    let expired = [0, 1, 2].map(|worker| {
        let expiry = table.expire((worker, 3), at(10), u32::MAX, |_, _| ());
        assert!(!expiry.has_backlog);
        expiry.expired
    });
    assert_eq!(expired.iter().sum::<u32>(), 256);
    assert!(expired.iter().all(|count| *count > 0), "{expired:?}");
}

#[test]
fn expiry_keeps_to_its_budget() {
    let table = table(100);
    for client in 0..20 {
        let connection = attach(&table, client, 7, at(0));
        release(&table, connection, Ending::Natural, at(0));
    }
    let mut left = 20;
    while left > 0 {
        let expiry = table.expire((0, 1), at(10), 3, |_, _| ());
        assert!(expiry.expired <= 3);
        assert!(expiry.expired > 0 || expiry.has_backlog);
        left -= expiry.expired;
    }
}

#[test]
fn of_several_workers_that_open_a_clients_first_connections_at_once_all_agree() {
    let table = table(10_000);
    for client in 0..=255 {
        let barrier = std::sync::Barrier::new(4);
        let servers: Vec<u32> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let (table, barrier) = (&table, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        attach(table, client, worker, at(0)).server
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .collect()
        });
        assert!(
            servers.iter().all(|server| *server == servers[0]),
            "{servers:?}"
        );
    }
    assert_eq!(table.len(), 256);
}

/// What a client does to its templates, or what happens to them.
#[derive(Clone, Debug)]
enum Step {
    /// A client opens a connection to one of two services.
    Open { client: u8, service: u8 },
    /// A connection ends, chosen by number.
    Close { connection: usize, ending: Ending },
    /// A connection is established.
    Establish { connection: usize },
    /// A server becomes usable, or not.
    Toggle { server: u32 },
    /// Time passes, in steps of the table's clock.
    Wait { steps: u32 },
    /// Whoever expires templates gets to it.
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![
        3 => Just(Ending::Natural),
        1 => Just(Ending::Evicted),
        1 => Just(Ending::Flushed)
    ];
    prop_oneof![
        6 => (0..5_u8, 0..2_u8).prop_map(|(client, service)| Step::Open { client, service }),
        4 => (any::<usize>(), ending)
            .prop_map(|(connection, ending)| Step::Close { connection, ending }),
        1 => any::<usize>().prop_map(|connection| Step::Establish { connection }),
        1 => (0..3_u32).prop_map(|server| Step::Toggle { server }),
        3 => prop_oneof![1..64_u32, 1..3000_u32].prop_map(|steps| Step::Wait { steps }),
        2 => Just(Step::Expire),
    ]
}

/// A template of the model.
#[derive(Clone, Debug)]
struct Model {
    key: (u8, u8),
    valid: bool,
    server: u32,
    deadline: u32,
    timeout: u32,
    controlled: u32,
    assured: bool,
}

/// Templates as a list, with everything done at its very step of time.
#[derive(Debug, Default)]
struct Naive {
    templates: BTreeMap<u64, Model>,
    made: u64,
    now: u32,
}

impl Naive {
    fn wait(&mut self, steps: u32) {
        for _ in 0..steps {
            self.now += 1;
            let now = self.now;
            self.templates
                .retain(|_, template| template.deadline != now || template.controlled > 0);
            for template in self.templates.values_mut() {
                if template.deadline == now {
                    template.timeout = 60 * STEPS_PER_SECOND;
                    template.deadline = now + template.timeout;
                }
            }
        }
    }

    fn open(&mut self, key: (u8, u8), timeout: u32, usable: [bool; 3], pick: u32) -> (u64, u32) {
        let now = self.now;
        let found = self
            .templates
            .iter_mut()
            .find(|(_, template)| template.valid && template.key == key);
        if let Some((&id, template)) = found {
            if usable[template.server as usize] {
                template.controlled += 1;
                template.deadline = now + template.timeout + 1;
                return (id, template.server);
            }
            template.valid = false;
        }
        self.made += 1;
        let template = Model {
            key,
            valid: true,
            server: pick,
            deadline: now + timeout + 1,
            timeout,
            controlled: 1,
            assured: false,
        };
        self.templates.insert(self.made, template);
        (self.made, pick)
    }

    fn close(&mut self, id: u64, ending: Ending) {
        let template = self.templates.get_mut(&id).unwrap();
        template.controlled -= 1;
        let ends = match ending {
            Ending::Natural => false,
            Ending::Evicted => !template.assured,
            Ending::Flushed => true,
        };
        if template.controlled == 0 && ends {
            self.templates.remove(&id);
        }
    }

    fn shown(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .templates
            .values()
            .map(|template| {
                format!(
                    "{:?} {} {} {} {} {}",
                    template.key,
                    template.valid,
                    template.server,
                    template.deadline - self.now,
                    template.controlled,
                    template.assured
                )
            })
            .collect();
        lines.sort();
        lines
    }
}

fn shown_in_full(table: &Templates, now: CoarseTime) -> Vec<String> {
    let mut lines: Vec<String> = table
        .page(0, u32::MAX)
        .0
        .iter()
        .map(|template| {
            let IpAddr::V4(client) = template.key.client else {
                panic!("IPv4")
            };
            let IpAddr::V4(service) = template.key.service else {
                panic!("IPv4")
            };
            format!(
                "{:?} {} {} {} {} {}",
                (client.octets()[3], service.octets()[3]),
                template.key.l4_port == 80,
                template.server,
                template.deadline.steps_since(now),
                template.controlled,
                template.assured
            )
        })
        .collect();
    lines.sort();
    lines
}

proptest! {
    /// Whenever anybody looks: the table is what a list would be on which
    /// everything happens in time, though the table does it later.
    #[test]
    fn the_table_is_a_list_of_templates(
        steps in proptest::collection::vec(step(), 1..120),
        start in prop_oneof![Just(0_u32), Just(u32::MAX - 2000)],
    ) {
        let table = table(200);
        let mut naive = Naive::default();
        let mut usable = [true; 3];
        let mut connections: Vec<(u64, Attached)> = Vec::new();
        let mut balance = [0_i32; 3];
        for (number, step) in (0_u32..).zip(steps) {
            let now = CoarseTime::from_steps(start.wrapping_add(naive.now));
            match step {
                Step::Open { client, service } => {
                    let timeout = CoarseDuration::from_seconds(1 + 4 * u32::from(service));
                    let pick = number % 3;
                    let key = TemplateKey {
                        protocol: 6,
                        client: [10, 0, 0, client].into(),
                        service: [10, 0, 1, service].into(),
                        l4_port: 80,
                    };
                    let attached = table.attach(
                        &key,
                        timeout,
                        now,
                        |server| usable[server as usize],
                        || Some(pick),
                        |server, event| {
                            balance[server as usize] +=
                                if event == TemplateEvent::Began { 1 } else { -1 };
                        },
                    );
                    let attached = attached.unwrap();
                    let (id, server) =
                        naive.open((client, service), timeout.as_steps(), usable, pick);
                    prop_assert_eq!(attached.server, server);
                    connections.push((id, attached));
                }
                Step::Close { connection, ending } if !connections.is_empty() => {
                    let place = connection % connections.len();
                    let (id, attached) = connections.swap_remove(place);
                    naive.close(id, ending);
                    table.release(attached.template.unwrap(), ending, now, |server, _| {
                        balance[server as usize] -= 1;
                    });
                }
                Step::Establish { connection } if !connections.is_empty() => {
                    let (id, attached) = connections[connection % connections.len()];
                    naive.templates.get_mut(&id).unwrap().assured = true;
                    table.assure(attached.template.unwrap());
                }
                Step::Close { .. } | Step::Establish { .. } => {}
                Step::Toggle { server } => usable[server as usize] ^= true,
                Step::Wait { steps } => naive.wait(steps),
                Step::Expire => {
                    let expiry = table.expire((0, 1), now, u32::MAX, |server, _| {
                        balance[server as usize] -= 1;
                    });
                    prop_assert!(!expiry.has_backlog);
                    prop_assert_eq!(shown_in_full(&table, now), naive.shown());
                    prop_assert_eq!(table.len(), naive.templates.len());
                    for server in 0..3 {
                        let listed = naive.templates.values().filter(|t| t.server == server);
                        prop_assert_eq!(balance[server as usize], i32::try_from(listed.count()).unwrap());
                    }
                }
            }
        }
    }
}
