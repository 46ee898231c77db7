//! twos after the words of Linux IPVS. What it draws nobody knows, but how often
//! it picks which server can be counted: of all pairs of draws, those that lead
//! there. Over many picks of random states the product must come to the same.

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::SchedulerKind,
    service::{ServerOptions, ServiceOptions},
};
use proptest::prelude::*;

use super::schedulers::sent_to;
use crate::{
    frames::{ACK, FIN, SYN},
    lab::{Lab, Setup, for_all, server_key, web, web_service},
};

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u32),
    Delete(u8),
    Edit(u8, u32),
    /// A new client.
    Connect,
    /// The n-th client, modulo their number, closes.
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 11..=14_u8;
    // Small ones, of which one draw is a good part.
    let weight = || prop_oneof![4 => 0..=2_u32, 1 => 3..=9_u32];
    prop_oneof![
        3 => (host(), weight()).prop_map(|(host, weight)| Step::Add(host, weight)),
        1 => host().prop_map(Step::Delete),
        2 => (host(), weight()).prop_map(|(host, weight)| Step::Edit(host, weight)),
        16 => Just(Step::Connect),
        4 => any::<usize>().prop_map(Step::Close),
    ]
}

/// Connections that a host may have; 0 for any number.
const fn threshold(host: u8) -> u32 {
    if host == 14 { 5 } else { 0 }
}

fn options(host: u8, weight: u32) -> ServerOptions {
    ServerOptions {
        weight,
        upper_threshold: threshold(host),
        ..ServerOptions::default()
    }
}

/// A server that may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    host: u8,
    weight: u32,
    /// An active connection counts as 256 others.
    overhead: u32,
}

#[derive(Default)]
struct World {
    /// The newest first: host and weight.
    servers: Vec<(u8, u32)>,
    /// Client port, host, and whether it is active.
    connections: Vec<(u16, u8, bool)>,
    next_client_port: u16,
}

impl World {
    fn position(&self, host: u8) -> Option<usize> {
        self.servers.iter().position(|server| server.0 == host)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let of_host = |host| self.connections.iter().filter(move |it| it.1 == host);
        let is_full =
            |host| threshold(host) != 0 && of_host(host).count() >= threshold(host) as usize;
        let usable = self
            .servers
            .iter()
            .filter(|(host, weight)| *weight > 0 && !is_full(*host));
        let candidate = |&(host, weight): &(u8, u32)| Candidate {
            host,
            weight,
            overhead: of_host(host).map(|it| if it.2 { 256 } else { 1 }).sum(),
        };
        usable.map(candidate).collect()
    }
}

/// The one that a draw leads to.
fn drawn(candidates: &[Candidate], draw: u32) -> Candidate {
    let mut sum = 0;
    let mut candidates = candidates.iter();
    let found = candidates.find(|candidate| {
        sum += candidate.weight;
        draw <= sum
    });
    *found.unwrap()
}

/// The chance of each candidate: counted over all pairs of draws.
fn chances(candidates: &[Candidate]) -> Vec<f64> {
    let draws = || 0..=candidates.iter().map(|it| it.weight).sum();
    let mut pairs = 0.0;
    let mut chances = vec![0.0; candidates.len()];
    for one in draws() {
        for two in draws() {
            let (one, two) = (drawn(candidates, one), drawn(candidates, two));
            let is_less = two.overhead * one.weight < one.overhead * two.weight;
            let better = if is_less { two } else { one };
            let at = candidates.iter().position(|it| *it == better).unwrap();
            chances[at] += 1.0;
            pairs += 1.0;
        }
    }
    chances.iter().map(|count| count / pairs).collect()
}

/// How often something came about, and how often it was to be expected.
#[derive(Debug, Default)]
struct Tally {
    occurred: f64,
    expected: f64,
    variance: f64,
}

impl Tally {
    fn count(&mut self, chance: f64, occurred: bool) {
        self.occurred += f64::from(u8::from(occurred));
        self.expected += chance;
        self.variance += chance * (1.0 - chance);
    }

    /// Six times the deviation to be expected comes about once in 500 million
    /// runs.
    fn assert_as_expected(&self, what: &str) {
        assert!(self.variance > 100.0, "{what}: {self:?}");
        let deviation = (self.occurred - self.expected).abs();
        assert!(
            deviation <= 6.0 * self.variance.sqrt(),
            "{what}: {deviation} off: {self:?}"
        );
    }
}

/// The newest candidate, which Linux prefers a little, and the one with the
/// least and the most to do for its weight.
#[derive(Debug, Default)]
struct Tallies {
    newest: Tally,
    least: Tally,
    most: Tally,
    refused: u32,
}

impl Tallies {
    fn count(&mut self, candidates: &[Candidate], picked: u8) {
        let load = |it: &Candidate| f64::from(it.overhead) / f64::from(it.weight);
        let loads = || candidates.iter().map(load).enumerate();
        let by_load = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        let (least, _) = loads().min_by(by_load).unwrap();
        let (most, _) = loads().max_by(by_load).unwrap();
        let chances = chances(candidates);
        for (tally, at) in [
            (&mut self.newest, 0),
            (&mut self.least, least),
            (&mut self.most, most),
        ] {
            tally.count(chances[at], candidates[at].host == picked);
        }
    }
}

fn lab() -> Lab {
    let service = web_service(SchedulerKind::Twos, &[]);
    Lab::with(&Setup {
        packets: 16,
        services: vec![ServiceConfig {
            options: ServiceOptions::from(SchedulerKind::Twos),
            ..service
        }],
        ..Setup::default()
    })
}

/// Does one step on both sides.
fn take(
    world: &mut World,
    lab: &mut Lab,
    tallies: &mut Tallies,
    step: &Step,
) -> Result<(), TestCaseError> {
    match *step {
        Step::Add(host, value) if world.position(host).is_none() => {
            let options = options(host, value);
            lab.command(&Command::AddServer(web(), server_key(host), options));
            world.servers.insert(0, (host, value));
        }
        Step::Edit(host, value) => {
            if let Some(at) = world.position(host) {
                let options = options(host, value);
                lab.command(&Command::EditServer(web(), server_key(host), options));
                world.servers[at].1 = value;
            }
        }
        Step::Delete(host) => {
            if let Some(at) = world.position(host) {
                lab.command(&Command::DeleteServer(web(), server_key(host)));
                world.servers.remove(at);
            }
        }
        Step::Connect => {
            let client_port = 1000 + world.next_client_port;
            world.next_client_port += 1;
            let candidates = world.candidates();
            let picked = sent_to(lab, client_port, SYN);
            let Some(host) = picked else {
                tallies.refused += 1;
                prop_assert_eq!(candidates, []);
                return Ok(());
            };
            let is_candidate = candidates.iter().any(|it| it.host == host);
            prop_assert!(is_candidate, "{} of {:?}", host, candidates);
            tallies.count(&candidates, host);
            world.connections.push((client_port, host, true));
        }
        Step::Close(number) if !world.connections.is_empty() => {
            let number = number % world.connections.len();
            let (client_port, host, _) = world.connections[number];
            // Packets of a deleted server's connections change nothing.
            if world.position(host).is_some() {
                prop_assert_eq!(sent_to(lab, client_port, FIN | ACK), Some(host));
                world.connections[number].2 = false;
            }
        }
        Step::Add(..) | Step::Close(_) => {}
    }
    Ok(())
}

#[test]
fn twos_picks_usable_servers_as_often_as_the_model_whatever_is_added_deleted_and_edited() {
    let mut tallies = Tallies::default();
    let cases = prop::collection::vec(step(), 1..120);
    for_all(100, &mut tallies, cases, |tallies, steps| {
        let (mut lab, mut world) = (lab(), World::default());
        for step in &steps {
            take(&mut world, &mut lab, tallies, step)?;
        }
        lab.assert_everything_is_accounted_for();
        Ok(())
    });
    assert!(tallies.refused > 0);
    tallies.newest.assert_as_expected("newest");
    tallies.least.assert_as_expected("least to do");
    tallies.most.assert_as_expected("most to do");
}

/// Of one candidate each, the newest would get 860 of these connections.
#[test]
fn twos_keeps_connections_that_stay_as_even_as_their_weights() {
    let mut lab = lab();
    let weights = [(11, 3), (12, 2), (13, 1)];
    for (host, value) in weights {
        let options = options(host, value);
        lab.command(&Command::AddServer(web(), server_key(host), options));
    }
    let picked: Vec<_> = (0..3000)
        .map(|number| sent_to(&mut lab, 10_000 + number, SYN))
        .collect();
    for (host, value) in weights {
        let count = picked.iter().filter(|it| **it == Some(host)).count();
        let share = 500 * value as usize;
        assert!(count.abs_diff(share) <= 30, "{host}: {count}, not {share}");
    }
}

/// Counted by hand: of the draws 0, 1 and 2 two lead to the first one.
#[test]
fn chances_are_those_of_all_pairs() {
    let candidates = |overheads: [u32; 2]| {
        overheads.map(|overhead| Candidate {
            host: 11,
            weight: 1,
            overhead,
        })
    };
    for (overheads, expected) in [([0, 256], 8.0), ([256, 0], 4.0)] {
        let chances = chances(&candidates(overheads));
        assert!((chances[0] * 9.0 - expected).abs() < 1e-9, "{chances:?}");
    }
}
