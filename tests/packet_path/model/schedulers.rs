//! The schedulers after the words of Linux IPVS: a list with the newest server
//! first, and a cursor into it that each change of the list moves.

use std::collections::HashMap;

use pointsman::{control::command::Command, scheduler::SchedulerKind, service::ServiceOptions};
use proptest::prelude::*;

use crate::{
    frames::{ACK, FIN, SYN, tcp},
    lab::{Lab, Setup, for_all, server_key, web, web_service, weight},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) host: u8,
    pub(super) weight: u32,
}

/// A service's scheduler and its list of servers.
#[derive(Debug)]
pub(super) struct Scheduler {
    kind: SchedulerKind,
    /// The newest first.
    pub(super) servers: Vec<Server>,
    /// The server picked last; before the head with `None`.
    cursor: Option<usize>,
    /// wrr's "cw".
    current: u32,
    /// The hosts that serve the VIP in lblc (one) and lblcr (the newest first).
    local: Vec<u8>,
}

impl Scheduler {
    pub(super) fn new(kind: SchedulerKind) -> Self {
        Self {
            kind,
            servers: Vec::new(),
            cursor: None,
            current: 0,
            local: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, host: u8, weight: u32) {
        self.servers.insert(0, Server { host, weight });
        self.cursor = self.cursor.map(|cursor| cursor + 1);
        self.changed();
    }

    pub(super) fn edit(&mut self, host: u8, weight: u32) {
        let at = self.position(host).unwrap();
        self.servers[at].weight = weight;
        self.changed();
    }

    pub(super) fn delete(&mut self, host: u8) {
        let at = self.position(host).unwrap();
        self.servers.remove(at);
        // From the server itself to the one in front of it.
        self.cursor = match self.cursor {
            Some(cursor) if cursor >= at => cursor.checked_sub(1),
            cursor => cursor,
        };
        self.changed();
    }

    fn set_kind(&mut self, kind: SchedulerKind) {
        if self.kind != kind {
            self.kind = kind;
            self.cursor = None;
            self.current = self.top();
            self.local.clear();
        }
    }

    pub(super) fn position(&self, host: u8) -> Option<usize> {
        self.servers.iter().position(|server| server.host == host)
    }

    /// The greatest common divisor by trying.
    fn step(&self) -> u32 {
        let divides = |step: &u32| self.servers.iter().all(|server| server.weight % step == 0);
        let max = self.servers.iter().map(|server| server.weight).max();
        (1..=max.unwrap_or(1).max(1)).rev().find(divides).unwrap()
    }

    /// The largest weight on the grid of steps that begins at 1.
    fn top(&self) -> u32 {
        let max = self.servers.iter().map(|server| server.weight).max();
        (max.unwrap_or(0) + 1).saturating_sub(self.step())
    }

    fn changed(&mut self) {
        if self.kind != SchedulerKind::Wrr {
            return;
        }
        self.cursor = None;
        let (top, step) = (self.top(), self.step());
        if self.current > top || self.current == 0 {
            self.current = top;
        } else if step > 1 {
            self.current = self.current / step * step + 1;
        }
    }

    /// The host for a new connection. `overhead` tells 256 * active + inactive
    /// connections of a host.
    pub(super) fn pick(&mut self, overhead: impl Fn(u8) -> u64) -> Option<u8> {
        if self.servers.iter().all(|server| server.weight == 0) {
            return None;
        }
        let active = |server: &Server| overhead(server.host) / 256;
        let at = match self.kind {
            SchedulerKind::Rr => self.next_round_robin(|server, _| server.weight > 0),
            SchedulerKind::Wrr => self.next_round_robin(|server, current| server.weight >= current),
            SchedulerKind::Lc => self.least(|server| (overhead(server.host), 1)),
            SchedulerKind::Wlc => {
                self.least(|server| (overhead(server.host), u64::from(server.weight)))
            }
            SchedulerKind::Sed => self.shortest_delay(active),
            SchedulerKind::Nq => {
                let idle = |server: &Server| server.weight > 0 && active(server) == 0;
                let first_idle = self.servers.iter().position(idle);
                first_idle.unwrap_or_else(|| self.shortest_delay(active))
            }
            SchedulerKind::Fo => self.heaviest(|server| server.weight > 0)?,
            SchedulerKind::Ovf => self.heaviest(|server| {
                server.weight > 0 && active(server) <= u64::from(server.weight)
            })?,
            SchedulerKind::Lblc | SchedulerKind::Lblcr => self.local_one(&overhead),
            kind => unreachable!("{kind} is not modelled"),
        };
        Some(self.servers[at].host)
    }

    /// Steps through the list for as long as it takes; at its end wrr's current
    /// weight goes down.
    fn next_round_robin(&mut self, is_eligible: impl Fn(&Server, u32) -> bool) -> usize {
        loop {
            let at = self.cursor.map_or(0, |cursor| cursor + 1);
            if at == self.servers.len() {
                self.cursor = None;
                self.current = match self.current.checked_sub(self.step()) {
                    None | Some(0) => self.top(),
                    Some(lower) => lower,
                };
                continue;
            }
            self.cursor = Some(at);
            if is_eligible(&self.servers[at], self.current) {
                return at;
            }
        }
    }

    /// One of the hosts that serve the VIP already, unless all are gone,
    /// quiesced or have too much to do while others idle.
    fn local_one(&mut self, overhead: &impl Fn(u8) -> u64) -> usize {
        let per_weight = |server: &Server| (overhead(server.host), u64::from(server.weight));
        let active = |server: &Server| overhead(server.host) / 256;
        let members: Vec<usize> = self
            .local
            .iter()
            .filter_map(|host| self.position(*host))
            .filter(|at| self.servers[*at].weight > 0)
            .collect();
        let is_least = |at: &&usize| {
            let (load_a, weight_a) = per_weight(&self.servers[**at]);
            members.iter().all(|other| {
                let (load_b, weight_b) = per_weight(&self.servers[*other]);
                load_a * weight_b <= load_b * weight_a
            })
        };
        let somebody_idles = self
            .servers
            .iter()
            .any(|server| active(server) * 2 < u64::from(server.weight));
        let chosen = members.iter().find(is_least).copied().filter(|at| {
            let server = &self.servers[*at];
            !(active(server) > u64::from(server.weight) && somebody_idles)
        });
        if let Some(at) = chosen {
            return at;
        }
        let at = self.least(per_weight);
        let host = self.servers[at].host;
        if self.kind == SchedulerKind::Lblc {
            self.local = vec![host];
        } else if !self.local.contains(&host) {
            self.local.insert(0, host);
        }
        at
    }

    fn shortest_delay(&self, active: impl Fn(&Server) -> u64) -> usize {
        self.least(|server| (active(server) + 1, u64::from(server.weight)))
    }

    /// The first of those with the highest weight.
    fn heaviest(&self, is_eligible: impl Fn(&Server) -> bool) -> Option<usize> {
        let eligible = || self.servers.iter().filter(|server| is_eligible(server));
        let most = eligible().map(|server| server.weight).max()?;
        self.servers
            .iter()
            .position(|server| is_eligible(server) && server.weight == most)
    }

    /// The first that no other is less than, by fractions.
    fn least(&self, load: impl Fn(&Server) -> (u64, u64)) -> usize {
        let usable = |at: &usize| self.servers[*at].weight > 0;
        let is_least = |at: &usize| {
            let (load_a, weight_a) = load(&self.servers[*at]);
            (0..self.servers.len()).filter(usable).all(|other| {
                let (load_b, weight_b) = load(&self.servers[other]);
                load_a * weight_b <= load_b * weight_a
            })
        };
        (0..self.servers.len())
            .filter(usable)
            .find(is_least)
            .unwrap()
    }
}

/// Those that go by the list and the loads. sh, dh and mh, which hash, are in
/// models of their own, and so is twos, which picks at random.
const MODELLED: [SchedulerKind; 10] = [
    SchedulerKind::Rr,
    SchedulerKind::Wrr,
    SchedulerKind::Lc,
    SchedulerKind::Wlc,
    SchedulerKind::Sed,
    SchedulerKind::Nq,
    SchedulerKind::Fo,
    SchedulerKind::Ovf,
    SchedulerKind::Lblc,
    SchedulerKind::Lblcr,
];

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u32),
    Delete(u8),
    Edit(u8, u32),
    SetScheduler(SchedulerKind),
    /// A new client.
    Connect,
    /// The n-th client, modulo their number, closes.
    Close(usize),
    /// Workers get to know what changed; else it is told with what follows.
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 11..=14_u8;
    let weight = || prop_oneof![0..=9_u32, (0..=4_u32).prop_map(|half| half * 2)];
    prop_oneof![
        3 => (host(), weight()).prop_map(|(host, weight)| Step::Add(host, weight)),
        2 => host().prop_map(Step::Delete),
        3 => (host(), weight()).prop_map(|(host, weight)| Step::Edit(host, weight)),
        1 => prop::sample::select(MODELLED.to_vec()).prop_map(Step::SetScheduler),
        12 => Just(Step::Connect),
        2 => any::<usize>().prop_map(Step::Close),
        2 => Just(Step::Publish),
    ]
}

/// The model, and what it needs to know of connections: host, and whether it
/// is active.
struct World {
    scheduler: Scheduler,
    connections: Vec<(u16, u8, bool)>,
    next_client_port: u16,
}

impl World {
    fn overhead(connections: &[(u16, u8, bool)], host: u8) -> u64 {
        let of_host = connections.iter().filter(|connection| connection.1 == host);
        of_host
            .map(|connection| if connection.2 { 256 } else { 1 })
            .sum()
    }

    /// Does one step on both sides and compares where packets go.
    fn take(&mut self, lab: &mut Lab, step: &Step) -> Result<(), TestCaseError> {
        let listed = |host| self.scheduler.position(host).is_some();
        match *step {
            Step::Add(host, value) if !listed(host) => {
                lab.command(&Command::AddServer(web(), server_key(host), weight(value)));
                self.scheduler.add(host, value);
            }
            Step::Edit(host, value) if listed(host) => {
                lab.command(&Command::EditServer(web(), server_key(host), weight(value)));
                self.scheduler.edit(host, value);
            }
            Step::Delete(host) if listed(host) => {
                lab.command(&Command::DeleteServer(web(), server_key(host)));
                self.scheduler.delete(host);
            }
            Step::SetScheduler(kind) => {
                lab.command(&Command::EditService(web(), ServiceOptions::from(kind)));
                self.scheduler.set_kind(kind);
            }
            Step::Publish => lab.settle(),
            Step::Connect => {
                let client_port = self.next_client_port;
                self.next_client_port += 1;
                let connections = &self.connections;
                let picked = self
                    .scheduler
                    .pick(|host| Self::overhead(connections, host));
                prop_assert_eq!(sent_to(lab, client_port, SYN), picked);
                self.connections
                    .extend(picked.map(|host| (client_port, host, true)));
            }
            Step::Close(number) if !self.connections.is_empty() => {
                let number = number % self.connections.len();
                let (client_port, host, is_active) = &mut self.connections[number];
                // Packets of a deleted server's connections change nothing.
                let is_listed = self.scheduler.position(*host).is_some();
                *is_active &= !is_listed;
                let expected = is_listed.then_some(*host);
                prop_assert_eq!(sent_to(lab, *client_port, FIN | ACK), expected);
            }
            Step::Add(..) | Step::Edit(..) | Step::Delete(_) | Step::Close(_) => {}
        }
        Ok(())
    }
}

/// The host that a packet of a client is tunnelled to, if it is.
pub(super) fn sent_to(lab: &mut Lab, client_port: u16, flags: u8) -> Option<u8> {
    lab.settle();
    let sent = lab.answers(&tcp(client_port, flags).frame());
    let tunnelled = sent.iter().find(|(port, _)| *port == 1);
    tunnelled.map(|(_, frame)| frame[33])
}

#[test]
fn picks_are_those_of_the_model_whatever_is_added_deleted_and_edited() {
    let cases = (
        prop::sample::select(MODELLED.to_vec()),
        prop::collection::vec(step(), 1..80),
    );
    for_all(100, &mut HashMap::new(), cases, |picks, (kind, steps)| {
        let mut lab = Lab::with(&Setup {
            packets: 16,
            services: vec![web_service(kind, &[])],
            ..Setup::default()
        });
        let mut world = World {
            scheduler: Scheduler::new(kind),
            connections: Vec::new(),
            next_client_port: 1000,
        };
        for step in &steps {
            world.take(&mut lab, step)?;
        }
        lab.settle();
        let services = lab.director.management.services();
        for server in &services[0].servers {
            let of_server = |is_active| {
                let connections = world.connections.iter();
                let of_server = connections.filter(|(_, host, active)| {
                    server.key == server_key(*host) && *active == is_active
                });
                of_server.count()
            };
            prop_assert_eq!(server.active_connections as usize, of_server(true));
            prop_assert_eq!(server.inactive_connections as usize, of_server(false));
        }
        lab.assert_everything_is_accounted_for();
        *picks.entry(kind.name()).or_insert(0) += world.connections.len();
        Ok(())
    });
}

/// The model is not the product's twin: it knows the recorded sequences.
#[test]
fn the_model_picks_as_recorded() {
    for (kind, expected) in [
        (SchedulerKind::Rr, [13, 12, 11, 13, 12, 11]),
        (SchedulerKind::Wrr, [13, 12, 11, 11, 12, 11]),
        (SchedulerKind::Lc, [13, 12, 11, 13, 12, 11]),
        (SchedulerKind::Wlc, [13, 12, 11, 11, 12, 11]),
    ] {
        let mut scheduler = Scheduler::new(kind);
        for (host, weight) in [(11, 3), (12, 2), (13, 1)] {
            scheduler.add(host, weight);
        }
        let mut connections = HashMap::new();
        for expected in expected {
            let picked = scheduler.pick(|host| *connections.get(&host).unwrap_or(&0));
            assert_eq!(picked, Some(expected), "{kind}");
            *connections.entry(expected).or_insert(0) += 256;
        }
    }
}
