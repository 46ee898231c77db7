//! The life of connections: states by the client's packets alone, timeouts,
//! and what becomes of them when their server goes or is quiesced.

use std::collections::BTreeMap;

use pointsman::{control::command::Command, scheduler::SchedulerKind, service::Tunables};
use proptest::prelude::*;

use super::{Scheduler, Server, schedulers::sent_to};
use crate::{
    frames::{ACK, FIN, RST, SYN},
    lab::{Lab, Setup, for_all, server_key, web, web_service, weight},
};

/// Rows: states. Columns: SYN, FIN, ACK, RST, null. `*` is SYN_RECV, or SYNACK
/// with `secure_tcp`.
const STATES: [(&str, [&str; 5]); 7] = [
    ("", ["*", "CLOSE", "ESTABLISHED", "", "CLOSE"]),
    (
        "SYN_RECV",
        ["SYN_RECV", "TIME_WAIT", "ESTABLISHED", "SYN_RECV", "CLOSE"],
    ),
    (
        "SYNACK",
        ["*", "TIME_WAIT", "ESTABLISHED", "CLOSE", "CLOSE"],
    ),
    (
        "ESTABLISHED",
        ["ESTABLISHED", "FIN_WAIT", "ESTABLISHED", "CLOSE", "CLOSE"],
    ),
    ("FIN_WAIT", ["*", "FIN_WAIT", "FIN_WAIT", "CLOSE", "CLOSE"]),
    (
        "TIME_WAIT",
        ["*", "TIME_WAIT", "TIME_WAIT", "CLOSE", "CLOSE"],
    ),
    ("CLOSE", ["*", "CLOSE", "CLOSE", "CLOSE", "CLOSE"]),
];

fn next_state(state: &str, flags: u8, tunables: &Tunables) -> &'static str {
    // The first of these that is set.
    let column = [(RST, 3), (SYN, 0), (FIN, 1), (ACK, 2)]
        .iter()
        .find(|(flag, _)| flags & flag != 0)
        .map_or(4, |(_, column)| *column);
    let row = STATES.iter().find(|(name, _)| *name == state).unwrap();
    match row.1[column] {
        "*" if tunables.secure_tcp > 0 => "SYNACK",
        "*" => "SYN_RECV",
        next => next,
    }
}

fn timeout_s(state: &str) -> u64 {
    match state {
        "SYN_RECV" => 60,
        "SYNACK" | "FIN_WAIT" | "TIME_WAIT" => 120,
        "ESTABLISHED" => 900,
        "CLOSE" => 10,
        other => panic!("{other}"),
    }
}

#[derive(Debug)]
struct Connection {
    state: &'static str,
    host: u8,
    /// Still there at this second, gone at the next.
    until_s: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// A client's packet with these flags.
    Packet(u16, u8),
    Wait(u64),
    Add(u8),
    Delete(u8),
    SetWeight(u8, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = vec![
        SYN,
        SYN,
        SYN,
        ACK,
        ACK,
        FIN | ACK,
        FIN,
        RST,
        RST | ACK,
        0,
        SYN | ACK,
        SYN | FIN,
        SYN | RST,
        // Those that do not count: PSH, URG.
        0x08,
        0x28 | ACK,
    ];
    let host = || 11..=12_u8;
    prop_oneof![
        12 => (1..=4_u16, prop::sample::select(flags)).prop_map(|(port, flags)| Step::Packet(port, flags)),
        3 => prop::sample::select(vec![1, 9, 10, 11, 50, 60, 61, 119, 121, 899, 901]).prop_map(Step::Wait),
        1 => host().prop_map(Step::Add),
        1 => host().prop_map(Step::Delete),
        1 => (host(), 0..=1_u32).prop_map(|(host, weight)| Step::SetWeight(host, weight)),
    ]
}

fn tunables() -> impl Strategy<Value = Tunables> {
    let secure_tcp = prop::sample::select(vec![0, 0, 3]);
    (0..=3_u32, any::<bool>(), any::<bool>(), secure_tcp).prop_map(
        |(conn_reuse_mode, expire_nodest_conn, sloppy_tcp, secure_tcp)| Tunables {
            conn_reuse_mode,
            expire_nodest_conn,
            sloppy_tcp,
            secure_tcp,
            ..Tunables::default()
        },
    )
}

struct World {
    tunables: Tunables,
    scheduler: Scheduler,
    connections: BTreeMap<u16, Connection>,
    now_s: u64,
}

impl World {
    fn server(&self, host: u8) -> Option<&Server> {
        let at = self.scheduler.position(host)?;
        Some(&self.scheduler.servers[at])
    }

    /// Where a packet goes; `None` when into no tunnel.
    fn packet(&mut self, client_port: u16, flags: u8) -> Option<u8> {
        let tunables = self.tunables;
        if let Some(connection) = self.connections.get(&client_port) {
            let host = connection.host;
            let server = self.server(host);
            let is_quiesced = server.is_some_and(|server| server.weight == 0);
            let may_reuse = match tunables.conn_reuse_mode {
                0 => false,
                1 => matches!(connection.state, "CLOSE" | "TIME_WAIT"),
                _ => matches!(connection.state, "CLOSE" | "TIME_WAIT" | "FIN_WAIT"),
            };
            let ends =
                flags & SYN != 0 && (may_reuse || (is_quiesced && tunables.expire_nodest_conn));
            if ends {
                self.connections.remove(&client_port);
            } else if server.is_some() {
                let state = next_state(connection.state, flags, &tunables);
                self.put(client_port, host, state);
                return Some(host);
            } else {
                return None;
            }
        }
        if flags & RST != 0 || (flags & SYN == 0 && !tunables.sloppy_tcp) {
            return None;
        }
        let host = self.scheduler.pick(|_| 0)?;
        self.put(client_port, host, next_state("", flags, &tunables));
        Some(host)
    }

    fn put(&mut self, client_port: u16, host: u8, state: &'static str) {
        let until_s = self.now_s + timeout_s(state);
        let connection = Connection {
            state,
            host,
            until_s,
        };
        self.connections.insert(client_port, connection);
    }

    fn take(&mut self, lab: &mut Lab, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Packet(client_port, flags) => {
                let expected = self.packet(client_port, flags);
                prop_assert_eq!(sent_to(lab, client_port, flags), expected);
            }
            Step::Wait(seconds) => {
                self.now_s += seconds;
                let now_s = self.now_s;
                self.connections
                    .retain(|_, connection| connection.until_s >= now_s);
                lab.advance(seconds * 1_000);
            }
            Step::Add(host) if self.server(host).is_none() => {
                lab.add_server(host, 1);
                self.scheduler.add(host, 1);
            }
            Step::Delete(host) if self.server(host).is_some() => {
                lab.delete_server(host);
                self.scheduler.delete(host);
                if self.tunables.expire_nodest_conn {
                    self.connections
                        .retain(|_, connection| connection.host != host);
                }
            }
            Step::SetWeight(host, value) if self.server(host).is_some() => {
                lab.apply(&Command::EditServer(web(), server_key(host), weight(value)));
                self.scheduler.edit(host, value);
            }
            Step::Add(_) | Step::Delete(_) | Step::SetWeight(..) => {}
        }
        let states: Vec<_> = (1..=4).map(|port| lab.state_of(port)).collect();
        let expected: Vec<_> = (1..=4)
            .map(|port| {
                self.connections
                    .get(&port)
                    .map(|connection| connection.state)
            })
            .collect();
        prop_assert_eq!(states, expected);
        Ok(())
    }
}

#[test]
fn connections_live_and_die_as_in_the_model() {
    let cases = (tunables(), prop::collection::vec(step(), 1..100));
    let mut seen = BTreeMap::new();
    for_all(100, &mut seen, cases, |seen, (tunables, steps)| {
        let mut lab = Lab::with(&Setup {
            packets: 16,
            tunables,
            services: vec![web_service(SchedulerKind::Rr, &[(11, 1), (12, 1)])],
            ..Setup::default()
        });
        let mut world = World {
            tunables,
            scheduler: Scheduler::new(SchedulerKind::Rr),
            connections: BTreeMap::new(),
            now_s: 0,
        };
        world.scheduler.add(11, 1);
        world.scheduler.add(12, 1);
        for step in &steps {
            world.take(&mut lab, step)?;
            for connection in world.connections.values() {
                *seen.entry(connection.state).or_insert(0) += 1;
            }
        }
        lab.assert_everything_is_accounted_for();
        Ok(())
    });
    assert_eq!(seen.len(), 6, "not all states were reached: {seen:?}");
}
