//! Changes under traffic lose nothing: each flow keeps its real server unless
//! the change says otherwise, and no packet is lost that need not be.
//!
//! A worker takes up a change some bursts after it was made. Until everything
//! has settled, each packet may be treated by any of the states that there were
//! meanwhile, and by no others; the checker knows them all.

use std::{collections::BTreeMap, net::Ipv4Addr};

use pointsman::{
    config::{NeighborConfig, RouteAction},
    control::command::Command,
    scheduler::SchedulerKind,
    service::ServiceOptions,
    wire::ethernet::MacAddr,
};
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::{
    decode::{one_hop_on, outer},
    frames::{ACK, SYN, arp_reply, server, server_mac, tcp},
    lab::{Lab, Setup, config, for_all, server_key, web, web_service, weight},
};

/// The service, as far as it says where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    is_there: bool,
    scheduler: SchedulerKind,
    /// Weights by host.
    servers: BTreeMap<u8, u32>,
}

impl Service {
    fn lists(&self, host: u8) -> bool {
        self.is_there && self.servers.contains_key(&host)
    }

    fn may_pick(&self, host: u8) -> bool {
        self.lists(host) && self.servers[&host] > 0
    }

    /// Whether there is always somebody to pick. A hashing scheduler picks
    /// nobody in place of a server of weight 0, and ovf nobody when all have as
    /// many connections as their weights say.
    fn has_a_server_for_all(&self) -> bool {
        let is_hashing = matches!(
            self.scheduler,
            SchedulerKind::Sh | SchedulerKind::Dh | SchedulerKind::Mh
        );
        let mut weights = self.servers.values();
        let is_usable = |weight: &u32| *weight > 0;
        let suffices = if is_hashing {
            weights.all(is_usable) && !self.servers.is_empty()
        } else {
            weights.any(is_usable)
        };
        self.is_there && suffices && self.scheduler != SchedulerKind::Ovf
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A packet of the flow with this client port: the first one is a SYN.
    Packet(u16),
    AddServer(u8, u32),
    EditServer(u8, u32),
    DeleteServer(u8),
    SetScheduler(SchedulerKind),
    AddService,
    DeleteService,
    /// The management thread publishes what has changed.
    Publish,
    /// All is taken up.
    Settle,
}

fn any_step() -> impl Strategy<Value = Step> {
    let host = 11..15_u8;
    prop_oneof![
        20 => (1000..1040_u16).prop_map(Step::Packet),
        3 => (host.clone(), 0..4_u32).prop_map(|(host, weight)| Step::AddServer(host, weight)),
        3 => (host.clone(), 0..4_u32).prop_map(|(host, weight)| Step::EditServer(host, weight)),
        2 => host.prop_map(Step::DeleteServer),
        2 => prop::sample::select(SchedulerKind::ALL.to_vec()).prop_map(Step::SetScheduler),
        1 => Just(Step::AddService),
        1 => Just(Step::DeleteService),
        6 => Just(Step::Publish),
        1 => Just(Step::Settle),
    ]
}

struct Checker {
    lab: Lab,
    service: Service,
    /// What has been the service since all had settled, the present included.
    since: Vec<Service>,
    /// The real server of each flow that was forwarded.
    flows: BTreeMap<u16, u8>,
}

impl Checker {
    fn start(workers: usize) -> Self {
        let servers = [(11, 1), (12, 2)];
        let service = Service {
            is_there: true,
            scheduler: SchedulerKind::Rr,
            servers: servers.into(),
        };
        Self {
            lab: Lab::with(&Setup {
                workers,
                services: vec![web_service(SchedulerKind::Rr, &servers)],
                ..Setup::default()
            }),
            since: vec![service.clone()],
            service,
            flows: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Packet(client_port) => return self.packet(client_port),
            Step::Publish => {
                self.lab.director.management.turn(self.lab.now);
            }
            Step::Settle => {
                self.lab.settle();
                self.since = vec![self.service.clone()];
            }
            _ => self.change(step)?,
        }
        Ok(())
    }

    /// A change is accepted as the kernel would, or refused and nothing
    /// happens.
    fn change(&mut self, step: &Step) -> TestCaseResult {
        let mut after = self.service.clone();
        let (command, is_good) = match *step {
            Step::AddServer(host, value) => (
                Command::AddServer(web(), server_key(host), weight(value)),
                after.is_there && after.servers.insert(host, value).is_none(),
            ),
            Step::EditServer(host, value) => (
                Command::EditServer(web(), server_key(host), weight(value)),
                after.is_there && after.servers.insert(host, value).is_some(),
            ),
            Step::DeleteServer(host) => (
                Command::DeleteServer(web(), server_key(host)),
                after.is_there && after.servers.remove(&host).is_some(),
            ),
            Step::SetScheduler(scheduler) => {
                after.scheduler = scheduler;
                let options = ServiceOptions::from(scheduler);
                (Command::EditService(web(), options), after.is_there)
            }
            Step::AddService => {
                let options = ServiceOptions::from(after.scheduler);
                let is_good = !std::mem::replace(&mut after.is_there, true);
                (Command::AddService(web(), options), is_good)
            }
            Step::DeleteService => {
                let is_good = std::mem::take(&mut after.is_there);
                after.servers.clear();
                (Command::DeleteService(web()), is_good)
            }
            Step::Packet(_) | Step::Publish | Step::Settle => return Ok(()),
        };
        let result = self.lab.director.management.apply(&command);
        prop_assert_eq!(result.is_ok(), is_good, "{:?}", command);
        if is_good {
            self.service = after.clone();
            self.since.push(after);
        }
        Ok(())
    }

    /// Sends a packet by the worker of its flow, and checks what becomes of it.
    fn packet(&mut self, client_port: u16) -> TestCaseResult {
        let workers = self.lab.director.workers.len();
        let worker = usize::from(client_port) % workers;
        let known = self.flows.get(&client_port).copied();
        let packet = tcp(client_port, if known.is_some() { ACK } else { SYN });
        let before = self.lab.counters();
        self.lab.receive_at(0, worker, &packet.frame());
        self.lab.director.workers[worker].turn(self.lab.now);
        let mut sent = self.lab.take_sent();
        // By port 0 go answers to clients whose packets had no server, and by
        // both, when the service is new, ARP that announces the VIP.
        sent.retain(|(port, frame)| *port == 1 && frame[12..14] == [8, 0]);
        let after = self.lab.counters();
        let counted = |name: &str| after[name] - before[name];
        prop_assert!(sent.len() <= 1, "sent more than once");
        let host = sent.first().map(|(_, frame)| frame[33]);
        if let (Some(host), Some((_, frame))) = (host, sent.first()) {
            prop_assert_eq!(next_hop(frame), server_mac(host));
            let inner = inner(frame, server(host));
            prop_assert_eq!(inner, one_hop_on(&packet.packet()));
        }
        let (is_listed, may_be_unlisted) = match known {
            Some(host) => (
                self.since.iter().any(|it| it.lists(host)),
                self.since.iter().any(|it| !it.lists(host)),
            ),
            None => (true, self.since.iter().any(|it| !it.has_a_server_for_all())),
        };
        match (known, host) {
            (Some(known), Some(host)) => {
                prop_assert_eq!(host, known, "the flow changed its server");
                prop_assert!(is_listed, "its server is not listed");
            }
            (Some(_), None) => {
                prop_assert!(may_be_unlisted, "lost: {:?}", after);
                // Without any service IPVS is out of the way altogether.
                let told = counted("server_gone") + counted("local") + counted("not_local");
                prop_assert_eq!(told, 1);
            }
            (None, Some(host)) => {
                let may_be = self.since.iter().any(|it| it.may_pick(host));
                prop_assert!(may_be, "{} should not be picked", host);
                self.flows.insert(client_port, host);
            }
            (None, None) => {
                prop_assert!(may_be_unlisted, "no server: {:?}", after);
                let told = counted("no_server") + counted("local") + counted("not_local");
                prop_assert_eq!(told, 1, "{:?} to {:?}", before, after);
            }
        }
        Ok(())
    }
}

#[test]
fn flows_keep_their_servers_through_every_change() {
    let steps = prop::collection::vec(any_step(), 1..300);
    for_all(48, &mut (), (1..4_usize, steps), |(), (workers, steps)| {
        let mut checker = Checker::start(workers);
        for step in &steps {
            checker.take(step)?;
        }
        // All flows at the end, with all changes taken up.
        checker.take(&Step::Settle)?;
        checker.lab.take_sent();
        let flows: Vec<_> = checker.flows.keys().copied().collect();
        for client_port in flows {
            checker.packet(client_port)?;
        }
        checker.lab.settle();
        checker.lab.assert_everything_is_accounted_for();
        Ok(())
    });
}

/// The packet in a frame to the real server `rip`, whatever the next hop is.
fn inner(frame: &[u8], rip: Ipv4Addr) -> Vec<u8> {
    let frame = [&server_mac(11)[..], &frame[6..]].concat();
    outer(&frame, rip).payload
}

/// Where a frame goes.
fn next_hop(frame: &[u8]) -> [u8; 6] {
    frame[..6].try_into().unwrap()
}

#[test]
fn a_changed_mac_address_moves_no_flow_and_loses_no_packet() {
    let mut lab = Lab::with(&Setup {
        services: vec![web_service(SchedulerKind::Rr, &[(20, 1)])],
        ..Setup::default()
    });
    let (old, new) = ([2, 0, 0, 0, 2, 20], [2, 0, 0, 0, 3, 20]);
    lab.send(&tcp(1000, SYN).frame());
    lab.receive_at(1, 0, &arp_reply(old, server(20)));
    lab.settle();
    // The packet that waited is sent, after the question.
    let (_, waited) = lab.take_sent().pop().unwrap();
    assert_eq!(inner(&waited, server(20))[20..22], 1000_u16.to_be_bytes());

    // Within a second, a second answer would not count.
    lab.advance(2_000);
    let mut seen = Vec::new();
    for number in 0..64 {
        if number == 8 {
            lab.receive_at(1, 0, &arp_reply(new, server(20)));
        }
        // The management thread has its turn now and then.
        if number % 5 == 4 {
            lab.director.management.turn(lab.now);
        }
        lab.receive(&tcp(1000, ACK).frame());
        lab.turn_workers();
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1, "packet {number}");
        assert_eq!(
            inner(&sent[0].1, server(20))[20..22],
            1000_u16.to_be_bytes()
        );
        seen.push(next_hop(&sent[0].1));
    }
    seen.dedup();
    assert_eq!(seen, [old, new], "one change, and no way back");
}

#[test]
fn a_changed_route_moves_no_flow_and_loses_no_packet() {
    let setup = Setup {
        services: vec![web_service(SchedulerKind::Rr, &[(11, 0)])],
        ..Setup::default()
    };
    let mut lab = Lab::with(&setup);
    // Behind the routers 10.0.0.11 and then 10.0.0.12.
    let far = Ipv4Addr::new(10, 0, 3, 9);
    let key = pointsman::service::ServerKey {
        address: far.into(),
    };
    lab.apply(&Command::AddServer(web(), key, weight(1)));
    let through = |router: u8| {
        let mut config = config(&setup);
        config.services[0].servers.push((key, weight(1)));
        for route in &mut config.routes {
            let RouteAction::Forward { via, .. } = &mut route.action else {
                continue;
            };
            if route.to.contains(&std::net::IpAddr::from(far)) && route.to.prefix_len() == 24 {
                *via = Some(server(router).into());
            }
        }
        config
    };
    lab.director
        .management
        .reconfigure(&through(11), lab.now)
        .unwrap();
    lab.send(&tcp(1000, SYN).frame());
    lab.take_sent();
    let mut seen = Vec::new();
    for number in 0..64 {
        if number == 8 {
            let now = lab.now;
            let management = &mut lab.director.management;
            management.reconfigure(&through(12), now).unwrap();
        }
        if number % 5 == 4 {
            lab.director.management.turn(lab.now);
        }
        lab.receive(&tcp(1000, ACK).frame());
        lab.turn_workers();
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1, "packet {number}");
        assert_eq!(inner(&sent[0].1, far)[20..22], 1000_u16.to_be_bytes());
        seen.push(next_hop(&sent[0].1));
    }
    seen.dedup();
    assert_eq!(seen, [server_mac(11), server_mac(12)]);
}

#[test]
fn a_reload_moves_no_flow_of_a_server_that_stays() {
    let setup = |servers: &[(u8, u32)], scheduler| Setup {
        services: vec![web_service(scheduler, servers)],
        ..Setup::default()
    };
    let first = setup(&[(11, 1), (12, 1), (13, 1)], SchedulerKind::Rr);
    let mut lab = Lab::with(&first);
    let mut flows = BTreeMap::new();
    for client_port in 1000..1030 {
        let sent = lab.answers(&tcp(client_port, SYN).frame());
        flows.insert(client_port, sent[0].1[33]);
    }
    let mut is_gone = |servers: &[(u8, u32)], scheduler| {
        let mut config = config(&setup(servers, scheduler));
        // Something else changes, too.
        config.neighbors.push(NeighborConfig {
            port: 1,
            address: server(77).into(),
            mac: MacAddr([2, 0, 0, 0, 9, u8::try_from(servers.len()).unwrap()]),
        });
        let now = lab.now;
        let management = &mut lab.director.management;
        management.reconfigure(&config, now).unwrap();
        for (client_port, host) in &flows {
            lab.receive(&tcp(*client_port, ACK).frame());
            lab.turn_workers();
            let sent = lab.take_sent();
            assert_eq!(sent.len(), 1, "not yet published: {client_port}");
            assert_eq!(sent[0].1[33], *host);
        }
        lab.settle();
        lab.take_sent();
        let mut gone = Vec::new();
        for (client_port, host) in &flows {
            match lab.answers(&tcp(*client_port, ACK).frame()).first() {
                Some((_, frame)) => assert_eq!(frame[33], *host),
                None => gone.push(*host),
            }
        }
        gone.dedup();
        flows.retain(|_, host| !gone.contains(host));
        gone
    };
    assert!(is_gone(&[(11, 1), (12, 0), (13, 5), (14, 1)], SchedulerKind::Mh).is_empty());
    assert_eq!(
        is_gone(&[(11, 3), (13, 5), (14, 1)], SchedulerKind::Wlc),
        [12]
    );
    assert!(is_gone(&[(14, 1), (13, 1), (11, 1)], SchedulerKind::Rr).is_empty());
}
