//! The table against naive models, and its invariants recomputed from scratch.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddrV4,
};

use bytemuck::Zeroable;
use proptest::prelude::*;

use super::*;
use crate::{
    connection::{time::TIMEOUT_SECONDS_MAX, wheel::NIL},
    flow::{Endpoints, FlowKeyV4, FlowKeyV6},
};

const HASH_KEY: HashKey =
    HashKey::from_seed([0x9216_d5d9_8979_fb1b, 0xd131_0ba6_98df_b5ac, 0x2ffd]);

fn steps(n: u32) -> CoarseTime {
    CoarseTime::from_steps(n)
}

fn seconds(n: u32) -> CoarseDuration {
    CoarseDuration::from_seconds(n)
}

fn new_entry(state: State) -> NewEntry {
    NewEntry {
        server: 7,
        state,
        controller: 0,
        flags: 0,
    }
}

fn flow(n: u32) -> FlowKeyV4 {
    let client_port = u16::try_from(n & 0xffff).unwrap();
    let client = SocketAddrV4::new((0x0a00_0000 + (n >> 8)).into(), client_port);
    FlowKeyV4::new(client, "198.51.100.10:80".parse().unwrap(), 6)
}

fn table(connections_max: u32) -> Table<FlowKeyV4> {
    Table::new(connections_max, HASH_KEY, None).unwrap()
}

fn open<K: FlowKey>(
    table: &mut Table<K>,
    key: K,
    state: State,
    timeout_s: u32,
    now: u32,
) -> Result<Inserted<K>, Full> {
    let hash = table.hash(&key);
    table.insert(hash, key, &new_entry(state), seconds(timeout_s), steps(now))
}

fn lookup<K: FlowKey>(table: &Table<K>, key: K) -> Option<EntryIndex> {
    table.find(table.hash(&key), &key)
}

fn expire_all<K: FlowKey>(table: &mut Table<K>, now: u32) -> Vec<K> {
    let mut expired = Vec::new();
    table.expire(steps(now), u32::MAX, |entry| expired.push(*entry.key()));
    expired
}

/// Recomputes everything that the table keeps incrementally.
fn check_invariants<K: FlowKey>(table: &Table<K>) {
    let counted = table.directory.overflows();
    let mut overflows = vec![0; counted.len()];
    let mut used = 0;
    let entries = (0..).zip(table.slots.iter());
    for (index, entry) in entries.filter(|(_, entry)| !entry.is_free()) {
        used += 1;
        let hash = table.hash(&entry.key);
        let found = table.directory.find(hash, |place| place == index);
        assert_eq!(found, Some(index), "the directory knows the place");
        for bucket in table.directory.passed_over(hash, entry.passed) {
            overflows[bucket as usize] += 1;
        }
    }
    assert_eq!(table.len(), used);
    assert_eq!(counted, overflows);

    let mut linked = HashSet::new();
    for (list, &head) in table.wheel.heads().iter().enumerate() {
        let (mut previous, mut index) = (NIL, head);
        while index != NIL {
            let entry = &table.slots[index as usize];
            assert!(!entry.is_free(), "no free slot in the wheel");
            assert_eq!(
                (entry.links.previous, usize::from(entry.links.list)),
                (previous, list)
            );
            assert!(linked.insert(index), "an entry is in the wheel once");
            (previous, index) = (index, entry.links.next);
        }
    }
    assert_eq!(linked.len(), used, "every entry is in the wheel");
}

/// A flow whose hash has only a few values, so that buckets overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Zeroable)]
#[repr(C)]
struct CrowdedKey(u32);

impl FlowKey for CrowdedKey {
    fn hash(&self, key: &HashKey) -> FlowHash {
        key.hash_two(u64::from(self.0 % 3), 0)
    }

    fn endpoints(&self) -> Endpoints {
        flow(self.0).endpoints()
    }

    fn reversed(self) -> Self {
        self
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        key: u32,
        state: State,
        timeout_s: u32,
    },
    Touch {
        key: u32,
        timeout_s: u32,
        state: State,
    },
    Remove {
        key: u32,
    },
    Wait {
        steps: u32,
    },
    Expire {
        budget: u32,
    },
}

fn any_state() -> impl Strategy<Value = State> {
    prop::sample::select(State::ALL.to_vec())
}

fn any_timeout() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..20_u32, 2 => 60..1000_u32, 1 => 1000..=TIMEOUT_SECONDS_MAX]
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || 0..150_u32;
    prop_oneof![
        8 => (key(), any_state(), any_timeout())
            .prop_map(|(key, state, timeout_s)| Step::Insert { key, state, timeout_s }),
        4 => (key(), any_timeout(), any_state())
            .prop_map(|(key, timeout_s, state)| Step::Touch { key, timeout_s, state }),
        2 => key().prop_map(|key| Step::Remove { key }),
        2 => prop_oneof![6 => 0..40_u32, 2 => 0..20_000_u32, 1 => 0..50_000_000_u32]
            .prop_map(|steps| Step::Wait { steps }),
        2 => prop_oneof![Just(1_u32), 2..10_u32, Just(100_000)]
            .prop_map(|budget| Step::Expire { budget }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Modelled {
    index: EntryIndex,
    deadline: u32,
    seen: u32,
    packets: u32,
    state: State,
}

impl Modelled {
    fn may_be_evicted(&self, now: u32) -> bool {
        let is_idle = now.wrapping_sub(self.seen) >= 16;
        match self.state {
            State::SynRecv | State::SynAck | State::SctpInit1 | State::SctpInit | State::None => {
                true
            }
            State::Established | State::SctpEstablished => false,
            _ => is_idle && self.packets <= 3,
        }
    }
}

fn has_reached(now: u32, deadline: u32) -> bool {
    now.wrapping_sub(deadline) < 1 << 31
}

/// Runs `script` on a table and on a map and compares them after every step.
fn compare_with_model<K: FlowKey + std::hash::Hash>(
    key_of: impl Fn(u32) -> K,
    connections_max: u32,
    start: u32,
    script: &[Step],
) {
    let mut table: Table<K> = Table::new(connections_max, HASH_KEY, None).unwrap();
    let mut model: HashMap<K, Modelled> = HashMap::new();
    let mut now = start;
    for step in script {
        match *step {
            Step::Insert {
                key,
                state,
                timeout_s,
            } => {
                let key = key_of(key);
                if model.contains_key(&key) {
                    continue;
                }
                let free = connections_max as usize - model.len();
                let has_slot = table.directory.free_place(table.hash(&key)).is_some();
                let is_calm = has_slot && free > 0 && free >= connections_max as usize / 16;
                if let Ok(inserted) = open(&mut table, key, state, timeout_s, now) {
                    if let Some(evicted) = inserted.evicted {
                        assert!(!is_calm, "evicted without need");
                        let gone = model.remove(&evicted.key).expect("evicts what it holds");
                        assert!(gone.may_be_evicted(now), "{gone:?} at {now}");
                        assert_eq!(evicted.state, gone.state);
                    }
                    let index = inserted.index;
                    let deadline = now.wrapping_add(timeout_s * 16 + 1);
                    model.insert(
                        key,
                        Modelled {
                            index,
                            deadline,
                            seen: now,
                            packets: 1,
                            state,
                        },
                    );
                } else {
                    assert!(!is_calm, "refused without need");
                    let walk: HashSet<u32> = table.directory.places(table.hash(&key)).collect();
                    let evictable_here = model
                        .values()
                        .any(|held| walk.contains(&held.index.0) && held.may_be_evicted(now));
                    assert!(has_slot || !evictable_here, "refused though it could evict");
                }
            }
            Step::Touch {
                key,
                timeout_s,
                state,
            } => {
                let key = key_of(key);
                let found = lookup(&table, key);
                assert_eq!(
                    found,
                    model.get(&key).map(|held| held.index),
                    "handles are stable"
                );
                if let (Some(index), Some(held)) = (found, model.get_mut(&key)) {
                    table.touch(index, seconds(timeout_s), steps(now));
                    let entry = table.entry_mut(index).unwrap();
                    entry.set_state(state);
                    entry.count_packet();
                    held.deadline = now.wrapping_add(timeout_s * 16 + 1);
                    (held.seen, held.state, held.packets) = (now, state, held.packets + 1);
                }
            }
            Step::Remove { key } => {
                let key = key_of(key);
                let removed = lookup(&table, key).and_then(|index| table.remove(index));
                let expected = model.remove(&key);
                assert_eq!(removed.map(|r| r.state), expected.map(|held| held.state));
            }
            Step::Wait { steps } => now = now.wrapping_add(steps),
            Step::Expire { budget } => {
                let expiry = table.expire(steps(now), budget, |entry| {
                    let held = model.remove(entry.key()).expect("expires what it holds");
                    assert!(
                        has_reached(now, held.deadline),
                        "{held:?} ended early at {now}"
                    );
                });
                assert!(expiry.expired <= budget);
                let late = model.values().any(|held| has_reached(now, held.deadline));
                assert!(
                    expiry.has_backlog || !late,
                    "a connection outlived its deadline"
                );
            }
        }
        assert_eq!(table.len(), model.len());
    }
    check_against(&mut table, &model, now);
}

/// Compares everything at the end of a script, and lets the rest expire.
fn check_against<K: FlowKey + std::hash::Hash>(
    table: &mut Table<K>,
    model: &HashMap<K, Modelled>,
    now: u32,
) {
    check_invariants(table);
    for (key, held) in model {
        assert_eq!(lookup(table, *key), Some(held.index));
        let entry = table.entry(held.index).unwrap();
        assert_eq!((entry.packets(), entry.state()), (held.packets, held.state));
    }
    let end = now.wrapping_add(TIMEOUT_SECONDS_MAX * 16 + 1);
    let left = expire_all(table, end).len();
    assert_eq!(left, model.len(), "nothing is left behind");
    assert!(table.is_empty() && table.directory.overflows().iter().all(|&count| count == 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn behaves_like_a_map_with_deadlines(
        connections_max in 1..100_u32,
        start in any::<u32>(),
        script in prop::collection::vec(any_step(), 1..400),
    ) {
        compare_with_model(flow, connections_max, start, &script);
    }

    #[test]
    fn behaves_like_a_map_when_buckets_overflow(
        connections_max in 60..200_u32,
        start in any::<u32>(),
        script in prop::collection::vec(any_step(), 1..400),
    ) {
        compare_with_model(CrowdedKey, connections_max, start, &script);
    }

    #[test]
    fn ends_at_the_deadline_and_not_a_step_earlier(
        starts in prop::collection::vec((any::<u32>(), 1..=TIMEOUT_SECONDS_MAX), 1..20),
        base in any::<u32>(),
    ) {
        let mut table = table(100);
        let mut deadlines = Vec::new();
        let mut now = base;
        for (n, (pause, timeout_s)) in (0..).zip(starts) {
            now = now.wrapping_add(pause % 15);
            let _ = open(&mut table, flow(n), State::Udp, timeout_s, now).unwrap();
            deadlines.push((now.wrapping_add(timeout_s * 16 + 1), n));
        }
        deadlines.sort_by_key(|&(deadline, _)| deadline.wrapping_sub(base));
        for (deadline, n) in deadlines {
            let early = expire_all(&mut table, deadline.wrapping_sub(1));
            prop_assert!(!early.contains(&flow(n)));
            if lookup(&table, flow(n)).is_some() {
                prop_assert!(expire_all(&mut table, deadline).contains(&flow(n)));
            }
        }
        prop_assert!(table.is_empty());
    }
}

#[test]
fn deadlines_around_every_boundary_of_the_wheel_are_exact() {
    for level in 1..6 {
        let span = 1_u32 << (6 * level);
        for start in [
            span - 18,
            span - 17,
            span - 16,
            span - 1,
            span,
            0_u32.wrapping_sub(17),
        ] {
            let mut table = table(4);
            let _ = open(&mut table, flow(1), State::Udp, 1, start).unwrap();
            let deadline = start.wrapping_add(17);
            for step in 0..17 {
                let now = start.wrapping_add(step);
                assert_eq!(expire_all(&mut table, now), [], "{start} + {step}");
            }
            assert_eq!(expire_all(&mut table, deadline), [flow(1)], "start {start}");
        }
    }
}

#[test]
fn a_clock_that_jumps_by_days_ends_what_is_due_and_nothing_else() {
    let mut table = table(20_000);
    for n in 0..10_000 {
        let _ = open(&mut table, flow(n), State::Udp, 1 + n * 200, 5).unwrap();
    }
    let day = 24 * 3600 * 16;
    let mut expired = 0;
    for days in [1_u32, 11, 12] {
        let now = 5 + days * day + 1;
        expired += expire_all(&mut table, now).len();
        let due = (0..10_000).filter(|n| n * 200 < days * 24 * 3600).count();
        assert_eq!(expired, due, "after {days} days");
        check_invariants(&table);
    }
    let year = 365 * day;
    assert_eq!(expire_all(&mut table, year).len(), 10_000 - expired);
    assert_eq!(table.expire(steps(2 * year), 1, |_| ()), Expiry::default());
}

#[test]
fn a_list_emptied_by_the_last_of_the_budget_is_not_taken_for_due_later() {
    let mut table = table(4);
    let _ = open(&mut table, flow(1), State::Udp, 1, 0).unwrap();
    assert_eq!(table.expire(steps(17), 1, |_| ()).expired, 1);
    // One turn of the finest level later, so that it stands in the same list.
    let _ = open(&mut table, flow(2), State::Udp, 1, 64).unwrap();
    assert_eq!(table.expire(steps(65), 100, |_| ()), Expiry::default());
    assert_eq!(expire_all(&mut table, 81), [flow(2)]);
}

#[test]
fn a_touch_moves_the_deadline_both_ways() {
    let mut table = table(4);
    let index = open(&mut table, flow(1), State::SynRecv, 60, 0)
        .unwrap()
        .index;
    table.touch(index, seconds(900), steps(160));
    assert_eq!(expire_all(&mut table, 160 + 900 * 16), []);
    table.touch(index, seconds(10), steps(160 + 900 * 16));
    let deadline = 160 + 910 * 16 + 1;
    assert_eq!(expire_all(&mut table, deadline - 1), []);
    assert_eq!(expire_all(&mut table, deadline), [flow(1)]);
}

#[test]
fn a_million_connections_at_the_limit_all_fit_and_all_end() {
    let count = 1_000_000;
    let mut table = table(count);
    for n in 0..count {
        let inserted = open(&mut table, flow(n), State::Established, 900, n / 1000);
        assert_eq!(
            inserted.map(|inserted| inserted.evicted),
            Ok(None),
            "connection {n}"
        );
    }
    assert_eq!(
        open(&mut table, flow(count), State::SynRecv, 60, 1000),
        Err(Full)
    );
    assert!((0..count).all(|n| lookup(&table, flow(n)).is_some()));
    assert!(lookup(&table, flow(count)).is_none());

    let now = steps(1000 + 900 * 16);
    let (mut expired, mut calls) = (0, 0);
    loop {
        let expiry = table.expire(now, 64, |_| ());
        assert!(expiry.expired <= 64);
        (expired, calls) = (expired + expiry.expired, calls + 1);
        if !expiry.has_backlog {
            break;
        }
    }
    assert_eq!((expired, table.len()), (count, 0));
    assert!(
        calls <= 4 * count / 64,
        "each entry is handled a few times: {calls} calls"
    );
    assert!(table.slots.iter().all(Entry::is_free));
}

#[test]
fn a_flood_of_syns_evicts_its_own_and_leaves_established_connections() {
    let mut table = table(1600);
    for n in 0..1000 {
        let _ = open(&mut table, flow(n), State::Established, 900, 0).unwrap();
    }
    let mut evicted = 0;
    for n in 1000..20_000 {
        let inserted = open(&mut table, flow(n), State::SynRecv, 60, 16).unwrap();
        evicted += u32::from(
            inserted
                .evicted
                .is_some_and(|gone| gone.state == State::SynRecv),
        );
    }
    assert!((0..1000).all(|n| lookup(&table, flow(n)).is_some()));
    assert_eq!(table.len(), 1000 + 19_000 - evicted as usize);
    assert!(
        table.len() < 1600,
        "the reserve lasts until the oldest SYN is found"
    );
    assert!(
        lookup(&table, flow(19_999)).is_some(),
        "the newest SYN is there"
    );
    check_invariants(&table);
}

#[test]
fn evicts_a_syn_before_an_idle_connection_and_an_idle_one_before_refusing() {
    let mut table = table(3);
    let _ = open(&mut table, flow(1), State::Close, 900, 0).unwrap();
    let _ = open(&mut table, flow(2), State::SynRecv, 900, 0).unwrap();
    let _ = open(&mut table, flow(3), State::Established, 900, 0).unwrap();
    let gone = |inserted: Result<Inserted<FlowKeyV4>, Full>| {
        inserted.map(|inserted| inserted.evicted.map(|gone| gone.key))
    };
    let new = State::Established;
    assert_eq!(
        gone(open(&mut table, flow(4), new, 900, 160)),
        Ok(Some(flow(2)))
    );
    // The sweep over the table may need a few tries to come by.
    let fifth = (0..40).find_map(|_| open(&mut table, flow(5), new, 900, 160).ok());
    assert_eq!(gone(fifth.ok_or(Full)), Ok(Some(flow(1))));
    assert_eq!(gone(open(&mut table, flow(6), new, 900, 160)), Err(Full));
}

#[test]
fn a_connection_of_many_packets_or_of_just_now_is_not_evicted() {
    let mut table = table(2);
    let busy = open(&mut table, flow(1), State::Udp, 300, 0).unwrap().index;
    for _ in 0..3 {
        table.entry_mut(busy).unwrap().count_packet();
    }
    let fresh = open(&mut table, flow(2), State::Udp, 300, 0).unwrap().index;
    table.touch(fresh, seconds(300), steps(1000));
    for _ in 0..100 {
        assert_eq!(open(&mut table, flow(3), State::Udp, 300, 1015), Err(Full));
    }
    let third = (0..100).find_map(|_| open(&mut table, flow(3), State::Udp, 300, 1016).ok());
    assert_eq!(third.unwrap().evicted.unwrap().key, flow(2));
}

#[test]
fn a_stale_handle_names_nothing_or_is_seen_through() {
    let mut table = table(2);
    let index = open(&mut table, flow(1), State::Established, 900, 0)
        .unwrap()
        .index;
    assert_eq!(table.remove(index).unwrap().server, 7);
    assert!(table.entry(index).is_none() && table.remove(index).is_none());
    table.touch(index, seconds(5), steps(3));
    assert_eq!(expire_all(&mut table, 1000), []);
    let _ = open(&mut table, flow(1), State::Established, 900, 1000).unwrap();
    assert!(table.entry_of(index, &flow(2)).is_none());
    assert!(table.entry_of(index, &flow(1)).is_some());
}

#[test]
fn a_walk_in_small_pieces_visits_every_connection_once() {
    let mut table = table(500);
    for n in 0..300 {
        let _ = open(&mut table, flow(n), State::Udp, 300, 0).unwrap();
    }
    let mut seen = HashSet::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        let (entries, next) = table.iter_from(from, 7);
        for (index, entry) in entries {
            assert_eq!(lookup(&table, *entry.key()), Some(index));
            assert!(seen.insert(*entry.key()));
        }
        cursor = next;
    }
    assert_eq!(seen.len(), 300);
    assert_eq!(table.iter_from(u32::MAX, 7).0.count(), 0);
}

#[test]
fn the_key_of_zeros_is_a_key_like_any_other() {
    let mut table = table(4);
    let zero = FlowKeyV4::zeroed();
    assert_eq!(lookup(&table, zero), None);
    let index = open(&mut table, zero, State::Udp, 300, 0).unwrap().index;
    assert_eq!(lookup(&table, zero), Some(index));
}

#[test]
fn flows_of_one_hash_find_no_place_when_all_of_theirs_are_established() {
    let mut table: Table<CrowdedKey> = Table::new(1000, HASH_KEY, None).unwrap();
    let places = u32::try_from(table.directory.places(table.hash(&CrowdedKey(0))).count()).unwrap();
    assert_eq!(places, 224);
    for n in 0..places {
        let inserted = open(&mut table, CrowdedKey(3 * n), State::Established, 60, 0);
        assert_eq!(inserted.unwrap().evicted, None);
    }
    let more = CrowdedKey(3 * places);
    assert_eq!(open(&mut table, more, State::SynRecv, 60, 0), Err(Full));
    check_invariants(&table);

    // One that may go makes room, though the table is far from full.
    let embryonic = CrowdedKey(3 * 100);
    let index = lookup(&table, embryonic).unwrap();
    table.entry_mut(index).unwrap().set_state(State::SynRecv);
    let evicted = open(&mut table, more, State::SynRecv, 60, 0)
        .unwrap()
        .evicted;
    assert_eq!(evicted.map(|removed| removed.key), Some(embryonic));
    check_invariants(&table);
}

#[test]
fn ten_million_connections_take_less_than_a_gibibyte() {
    let bytes = Table::<FlowKeyV4>::memory_bytes_for(10_000_000);
    assert!(bytes < 1 << 30, "{bytes}");
    assert!(Table::<FlowKeyV4>::memory_bytes_for(1_000_000) < 107 * 1_000_000);
    // 32 buckets of 16 bytes and seven places.
    assert_eq!(table(100).memory_bytes(), 32 * 7 * 64 + 32 * 16 + 400);
}

#[test]
fn an_entry_with_a_key_of_ipv6_size_takes_two_lines() {
    assert_eq!(size_of::<Entry<FlowKeyV6>>(), 128);
    let mut table: Table<FlowKeyV6> = Table::new(10, HASH_KEY, None).unwrap();
    let key = FlowKeyV6 {
        client: [1, 2],
        ..FlowKeyV6::default()
    };
    let _ = open(&mut table, key, State::Udp, 5, 0).unwrap();
    assert_eq!(expire_all(&mut table, 81), [key]);
}

#[test]
fn absurd_sizes_are_refused() {
    for size in [0, CONNECTIONS_LIMIT + 1, u32::MAX] {
        let error = Table::<FlowKeyV4>::new(size, HASH_KEY, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a connection table of {size} connections: use 1 to 1073741824 per worker")
        );
    }
}

#[test]
fn seconds_left_are_rounded_down() {
    let mut table = table(2);
    let index = open(&mut table, flow(1), State::SynRecv, 60, 100)
        .unwrap()
        .index;
    let left = |now| table.entry(index).unwrap().seconds_left(steps(now));
    assert_eq!(
        [100, 101, 116, 117, 1060, 1061, 2000].map(left),
        [60, 59, 59, 58, 0, 0, 0]
    );
}
