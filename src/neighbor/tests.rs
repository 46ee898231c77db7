//! Every transition, with virtual time.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::io::PortIndex;

const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0xc0, 0x11]);
const OTHER_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0xc0, 0x99]);
const SOLICITED: LearnKind = LearnKind::Reply { solicited: true };
const BROADCAST_REPLY: LearnKind = LearnKind::Reply { solicited: false };

fn key(last: u8) -> NeighborKey {
    NeighborKey {
        port: PortIndex(1),
        ip: Ipv4Addr::new(10, 0, 0, last).into(),
    }
}

fn at(ms: u64) -> Ticks {
    Ticks::from_ms(ms)
}

fn broadcast(last: u8) -> Action {
    Action::SendRequest {
        key: key(last),
        unicast: None,
    }
}

fn unicast(last: u8) -> Action {
    Action::SendRequest {
        key: key(last),
        unicast: Some(MAC),
    }
}

fn table() -> NeighborTable {
    NeighborTable::new(NeighborParameters::default())
}

fn small_table(entries_max: usize) -> NeighborTable {
    NeighborTable::new(NeighborParameters {
        entries_max,
        ..NeighborParameters::default()
    })
}

fn state(table: &NeighborTable, last: u8) -> Option<NeighborState> {
    table
        .iter()
        .find(|neighbor| neighbor.key == key(last))
        .map(|neighbor| neighbor.state)
}

/// All actions up to and including `until`, polled exactly when due, with the
/// time of each.
fn run(table: &mut NeighborTable, until: u64) -> Vec<(u64, Action)> {
    let mut actions = Vec::new();
    while let Some(deadline) = table
        .next_deadline()
        .filter(|&deadline| deadline <= at(until))
    {
        let due = table.poll(deadline);
        actions.extend(due.into_iter().map(|action| (deadline.as_ms(), action)));
    }
    actions
}

/// A table in which neighbor 11 became reachable at time 0.
fn reachable() -> NeighborTable {
    let mut table = table();
    table.resolve(key(11), at(0));
    table.poll(at(0));
    assert_eq!(
        table.learn(key(11), MAC, SOLICITED, at(0)),
        Change::Resolved
    );
    assert_eq!(state(&table, 11), Some(NeighborState::Reachable));
    table
}

/// A table in which neighbor 11 went stale at time 30 000.
fn stale() -> NeighborTable {
    let mut table = reachable();
    assert_eq!(run(&mut table, 30_000), []);
    assert_eq!(state(&table, 11), Some(NeighborState::Stale));
    table
}

/// A table in which neighbor 11 failed at time 3 000.
fn failed() -> NeighborTable {
    let mut table = table();
    table.resolve(key(11), at(0));
    run(&mut table, 3_000);
    assert_eq!(state(&table, 11), Some(NeighborState::Failed));
    table
}

#[test]
fn silent_neighbor_gets_three_broadcasts_a_second_apart_and_fails_after_another() {
    let mut table = table();
    assert_eq!(table.resolve(key(99), at(0)), Resolution::Pending);
    assert_eq!(
        run(&mut table, 10_000),
        [
            (0, broadcast(99)),
            (1_000, broadcast(99)),
            (2_000, broadcast(99)),
            (3_000, Action::Failed { key: key(99) }),
        ]
    );
    assert_eq!(table.mac(key(99)), None);
}

#[test]
fn packet_to_a_failed_neighbor_starts_a_new_request_at_once() {
    let mut table = failed();
    assert_eq!(table.resolve(key(11), at(3_700)), Resolution::Pending);
    assert_eq!(table.next_deadline(), Some(at(3_700)));
    assert_eq!(
        run(&mut table, 10_000),
        [
            (3_700, broadcast(11)),
            (4_700, broadcast(11)),
            (5_700, broadcast(11)),
            (6_700, Action::Failed { key: key(11) }),
        ]
    );
}

#[test]
fn further_packets_to_an_incomplete_neighbor_send_no_further_requests() {
    let mut table = table();
    table.resolve(key(11), at(0));
    assert_eq!(table.poll(at(0)), [broadcast(11)]);
    assert_eq!(table.resolve(key(11), at(10)), Resolution::Pending);
    assert_eq!(table.poll(at(10)), []);
    assert_eq!(table.next_deadline(), Some(at(1_000)));
}

#[test]
fn late_poll_sends_one_request_and_not_all_that_were_missed() {
    let mut table = table();
    table.resolve(key(11), at(0));
    table.poll(at(0));
    assert_eq!(table.poll(at(5_000)), [broadcast(11)]);
    assert_eq!(table.next_deadline(), Some(at(6_000)));
}

#[test]
fn reply_resolves_an_incomplete_neighbor() {
    let mut table = table();
    table.resolve(key(11), at(0));
    table.poll(at(0));
    assert_eq!(
        table.learn(key(11), MAC, SOLICITED, at(2)),
        Change::Resolved
    );
    assert_eq!(state(&table, 11), Some(NeighborState::Reachable));
    assert_eq!(table.resolve(key(11), at(3)), Resolution::Resolved(MAC));
    assert_eq!(table.next_deadline(), Some(at(30_002)));
}

#[test]
fn announcement_resolves_an_incomplete_neighbor_without_proving_it_reachable() {
    for kind in [LearnKind::Gratuitous, LearnKind::Request, BROADCAST_REPLY] {
        let mut table = table();
        table.resolve(key(11), at(0));
        table.poll(at(0));
        assert_eq!(table.learn(key(11), MAC, kind, at(2)), Change::Resolved);
        assert_eq!(state(&table, 11), Some(NeighborState::Stale));
        assert_eq!(run(&mut table, 10_000), []);
    }
}

#[test]
fn announcement_revives_a_failed_neighbor() {
    let mut table = failed();
    assert_eq!(
        table.learn(key(11), MAC, LearnKind::Gratuitous, at(4_000)),
        Change::Resolved
    );
    assert_eq!(state(&table, 11), Some(NeighborState::Stale));
    assert_eq!(table.mac(key(11)), Some(MAC));
}

#[test]
fn request_to_us_makes_a_stale_entry() {
    let mut table = table();
    assert_eq!(
        table.learn(key(11), MAC, LearnKind::Request, at(5)),
        Change::Resolved
    );
    let neighbor = table.iter().next().unwrap();
    assert_eq!(
        neighbor,
        Neighbor {
            key: key(11),
            state: NeighborState::Stale,
            mac: Some(MAC),
            updated: at(5),
            confirmed: None,
            used: None,
        }
    );
}

#[test]
fn replies_and_announcements_of_strangers_make_no_entry() {
    let mut table = table();
    for kind in [SOLICITED, BROADCAST_REPLY, LearnKind::Gratuitous] {
        assert_eq!(table.learn(key(11), MAC, kind, at(0)), Change::Unchanged);
    }
    assert!(table.is_empty());
}

#[test]
fn same_address_on_another_port_is_another_neighbor() {
    let mut table = reachable();
    let elsewhere = NeighborKey {
        port: PortIndex(0),
        ..key(11)
    };
    assert_eq!(table.mac(elsewhere), None);
    assert_eq!(
        table.learn(elsewhere, OTHER_MAC, SOLICITED, at(1)),
        Change::Unchanged
    );
    assert_eq!(table.mac(key(11)), Some(MAC));
}

#[test]
fn unused_reachable_neighbor_goes_stale_and_then_away() {
    let mut table = stale();
    assert_eq!(run(&mut table, 89_999), []);
    assert_eq!(
        run(&mut table, 90_000),
        [(90_000, Action::Removed { key: key(11) })]
    );
    assert!(table.is_empty());
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn failed_neighbor_goes_away() {
    let mut table = failed();
    assert_eq!(
        run(&mut table, 63_000),
        [(63_000, Action::Removed { key: key(11) })]
    );
    assert!(table.is_empty());
}

#[test]
fn each_reply_extends_the_reachable_time() {
    let mut table = reachable();
    assert_eq!(
        table.learn(key(11), MAC, SOLICITED, at(20_000)),
        Change::Unchanged
    );
    run(&mut table, 49_999);
    assert_eq!(state(&table, 11), Some(NeighborState::Reachable));
    run(&mut table, 50_000);
    assert_eq!(state(&table, 11), Some(NeighborState::Stale));
}

#[test]
fn stale_neighbor_is_used_at_once_and_probed_by_unicast_after_the_delay() {
    let mut table = stale();
    assert_eq!(
        table.resolve(key(11), at(40_000)),
        Resolution::Resolved(MAC)
    );
    assert_eq!(state(&table, 11), Some(NeighborState::Delay));
    assert_eq!(run(&mut table, 44_999), []);
    assert_eq!(run(&mut table, 45_000), [(45_000, unicast(11))]);
    assert_eq!(state(&table, 11), Some(NeighborState::Probe));
    assert_eq!(table.mac(key(11)), Some(MAC));
}

#[test]
fn use_of_a_neighbor_in_delay_does_not_put_the_probe_off() {
    let mut table = stale();
    for ms in [40_000, 42_000, 44_000] {
        table.mark_used(key(11), at(ms));
    }
    assert_eq!(run(&mut table, 45_000), [(45_000, unicast(11))]);
}

#[test]
fn reply_in_delay_or_probe_makes_the_neighbor_reachable() {
    for polled_until in [40_000, 45_000] {
        let mut table = stale();
        table.mark_used(key(11), at(40_000));
        run(&mut table, polled_until);
        assert_eq!(
            table.learn(key(11), MAC, SOLICITED, at(45_001)),
            Change::Unchanged
        );
        assert_eq!(state(&table, 11), Some(NeighborState::Reachable));
        assert_eq!(table.next_deadline(), Some(at(75_001)));
    }
}

#[test]
fn announcement_of_the_known_mac_does_not_end_probing() {
    let mut table = stale();
    table.mark_used(key(11), at(40_000));
    run(&mut table, 45_000);
    for kind in [LearnKind::Gratuitous, LearnKind::Request, BROADCAST_REPLY] {
        assert_eq!(
            table.learn(key(11), MAC, kind, at(45_001)),
            Change::Unchanged
        );
        assert_eq!(state(&table, 11), Some(NeighborState::Probe));
    }
    assert_eq!(table.next_deadline(), Some(at(46_000)));
}

#[test]
fn dead_neighbor_in_use_is_noticed() {
    let mut table = reachable();
    let mut actions = Vec::new();
    for second in 1..60 {
        actions.extend(run(&mut table, second * 1_000));
        table.mark_used(key(11), at(second * 1_000));
    }
    assert_eq!(
        actions,
        [
            (35_000, unicast(11)),
            (36_000, unicast(11)),
            (37_000, unicast(11)),
            (38_000, Action::Failed { key: key(11) }),
        ]
    );
    assert_eq!(table.mac(key(11)), None);
}

#[test]
fn live_neighbor_in_use_keeps_its_mac_for_good() {
    let mut table = reachable();
    let mut probes = 0;
    for second in 1..1_000 {
        for (ms, action) in run(&mut table, second * 1_000) {
            assert_eq!(action, unicast(11));
            table.learn(key(11), MAC, SOLICITED, at(ms));
            probes += 1;
        }
        table.mark_used(key(11), at(second * 1_000));
        assert_eq!(table.mac(key(11)), Some(MAC));
    }
    // One probe every 30 + 5 seconds.
    assert_eq!(probes, 28);
}

#[test]
fn use_of_a_failed_or_unknown_neighbor_changes_nothing() {
    let mut table = failed();
    table.mark_used(key(11), at(4_000));
    table.mark_used(key(12), at(4_000));
    assert_eq!(state(&table, 11), Some(NeighborState::Failed));
    assert_eq!(table.len(), 1);
    assert_eq!(table.next_deadline(), Some(at(63_000)));
}

#[test]
fn neighbor_that_announces_a_new_mac_has_moved_and_is_stale() {
    for kind in [LearnKind::Gratuitous, LearnKind::Request] {
        let mut table = reachable();
        assert_eq!(
            table.learn(key(11), OTHER_MAC, kind, at(1)),
            Change::Moved { from: MAC }
        );
        assert_eq!(table.mac(key(11)), Some(OTHER_MAC));
        assert_eq!(state(&table, 11), Some(NeighborState::Stale));
    }
}

#[test]
fn of_two_hosts_that_answer_the_first_wins_for_a_second() {
    for kind in [SOLICITED, BROADCAST_REPLY] {
        let mut table = reachable();
        assert_eq!(
            table.learn(key(11), OTHER_MAC, kind, at(1_000)),
            Change::Unchanged
        );
        assert_eq!(table.mac(key(11)), Some(MAC));
        assert_eq!(
            table.learn(key(11), OTHER_MAC, kind, at(1_001)),
            Change::Moved { from: MAC }
        );
        assert_eq!(table.mac(key(11)), Some(OTHER_MAC));
    }
}

#[test]
fn reply_from_a_new_mac_is_reachable_at_once() {
    let mut table = stale();
    let change = table.learn(key(11), OTHER_MAC, SOLICITED, at(40_000));
    assert_eq!(change, Change::Moved { from: MAC });
    assert_eq!(state(&table, 11), Some(NeighborState::Reachable));
}

#[test]
fn permanent_neighbor_changes_only_by_order() {
    let mut table = table();
    assert_eq!(table.set_permanent(key(11), MAC, at(0)), Change::Resolved);
    for kind in [SOLICITED, LearnKind::Gratuitous, LearnKind::Request] {
        assert_eq!(
            table.learn(key(11), OTHER_MAC, kind, at(5_000)),
            Change::Unchanged
        );
    }
    assert_eq!(
        table.resolve(key(11), at(100_000)),
        Resolution::Resolved(MAC)
    );
    assert_eq!(table.next_deadline(), None);
    assert_eq!(table.poll(at(1_000_000)), []);
    assert_eq!(state(&table, 11), Some(NeighborState::Permanent));
    assert_eq!(table.set_permanent(key(11), MAC, at(1)), Change::Unchanged);
    assert_eq!(
        table.set_permanent(key(11), OTHER_MAC, at(1)),
        Change::Moved { from: MAC }
    );
}

#[test]
fn permanent_mac_ends_the_search_for_a_neighbor() {
    let mut table = table();
    table.resolve(key(11), at(0));
    table.poll(at(0));
    assert_eq!(table.set_permanent(key(11), MAC, at(500)), Change::Resolved);
    assert_eq!(run(&mut table, 10_000), []);
}

#[test]
fn removed_neighbor_has_no_deadline_left() {
    let mut table = reachable();
    table.set_permanent(key(12), MAC, at(0));
    assert!(table.remove(key(11)));
    assert!(table.remove(key(12)));
    assert!(!table.remove(key(11)));
    assert_eq!(table.next_deadline(), None);
    assert!(table.is_empty());
}

#[test]
fn neighbors_are_listed_by_port_and_address() {
    let mut table = table();
    let first = NeighborKey {
        port: PortIndex(0),
        ip: Ipv4Addr::new(192, 0, 2, 254).into(),
    };
    for key in [key(12), key(2), first] {
        table.resolve(key, at(0));
    }
    let keys: Vec<_> = table.iter().map(|neighbor| neighbor.key).collect();
    assert_eq!(keys, [first, key(2), key(12)]);
}

#[test]
fn full_table_spares_a_neighbor_that_was_never_used_first() {
    let mut table = small_table(3);
    table.learn(key(11), MAC, LearnKind::Request, at(0));
    table.mark_used(key(11), at(1));
    table.learn(key(12), MAC, LearnKind::Request, at(2));
    table.learn(key(13), MAC, LearnKind::Request, at(3));
    assert_eq!(table.resolve(key(14), at(4)), Resolution::Pending);
    let left: Vec<_> = table.iter().map(|neighbor| neighbor.key).collect();
    assert_eq!(left, [key(11), key(13), key(14)]);
    assert_eq!(table.refusals(), 0);
}

#[test]
fn full_table_spares_a_failed_neighbor() {
    let mut table = small_table(2);
    table.resolve(key(11), at(0));
    run(&mut table, 3_000);
    table.learn(key(12), MAC, LearnKind::Request, at(3_000));
    table.mark_used(key(12), at(3_000));
    assert_eq!(table.resolve(key(13), at(3_001)), Resolution::Pending);
    assert_eq!(state(&table, 11), None);
    assert_eq!(table.mac(key(12)), Some(MAC));
}

#[test]
fn full_table_of_neighbors_in_use_refuses_and_counts() {
    let mut table = small_table(3);
    table.resolve(key(11), at(0));
    table.set_permanent(key(12), MAC, at(0));
    table.learn(key(13), MAC, LearnKind::Request, at(0));
    table.mark_used(key(13), at(0));
    assert_eq!(table.resolve(key(14), at(1)), Resolution::TableFull);
    assert_eq!(
        table.learn(key(14), MAC, LearnKind::Request, at(1)),
        Change::TableFull
    );
    assert_eq!(table.set_permanent(key(14), MAC, at(1)), Change::TableFull);
    assert_eq!(table.refusals(), 3);
    assert_eq!(table.len(), 3);
    assert_eq!(table.resolve(key(13), at(1)), Resolution::Resolved(MAC));
}

#[test]
fn neighbor_that_is_being_asked_for_is_never_spared() {
    let parameters = NeighborParameters {
        entries_max: 1,
        unused_ms: 1,
        ..NeighborParameters::default()
    };
    let mut table = NeighborTable::new(parameters);
    table.resolve(key(11), at(0));
    assert_eq!(table.resolve(key(12), at(10)), Resolution::TableFull);
    assert_eq!(state(&table, 11), Some(NeighborState::Incomplete));
}

#[test]
fn flood_of_strangers_does_not_push_out_neighbors_in_use() {
    let mut table = small_table(10);
    for last in 1..=5 {
        table.learn(key(last), MAC, LearnKind::Request, at(0));
        table.mark_used(key(last), at(0));
    }
    for last in 6..=255 {
        table.learn(
            key(last),
            OTHER_MAC,
            LearnKind::Request,
            at(u64::from(last)),
        );
    }
    assert_eq!(table.len(), 10);
    for last in 1..=5 {
        assert_eq!(table.mac(key(last)), Some(MAC));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Resolve(u8),
    Use(u8),
    Learn(u8, bool, LearnKind),
    Permanent(u8),
    Remove(u8),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![
        LearnKind::Request,
        SOLICITED,
        BROADCAST_REPLY,
        LearnKind::Gratuitous,
    ]);
    let step = prop_oneof![
        4 => (0_u8..8).prop_map(Step::Resolve),
        4 => (0_u8..8).prop_map(Step::Use),
        6 => (0_u8..8, any::<bool>(), kind).prop_map(|(last, moved, kind)| {
            Step::Learn(last, moved, kind)
        }),
        1 => (0_u8..8).prop_map(Step::Permanent),
        1 => (0_u8..8).prop_map(Step::Remove),
        6 => (0_u64..20_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens: the bound holds, a MAC is there in exactly the states
    /// that have one, only permanent entries have no deadline, and every poll
    /// leaves deadlines in the future only.
    #[test]
    fn invariants_hold_after_every_step(steps in steps()) {
        let mut table = small_table(5);
        let mut now = 0;
        for step in steps {
            match step {
                Step::Resolve(last) => drop(table.resolve(key(last), at(now))),
                Step::Use(last) => table.mark_used(key(last), at(now)),
                Step::Learn(last, moved, kind) => {
                    let mac = if moved { OTHER_MAC } else { MAC };
                    table.learn(key(last), mac, kind, at(now));
                }
                Step::Permanent(last) => drop(table.set_permanent(key(last), MAC, at(now))),
                Step::Remove(last) => drop(table.remove(key(last))),
                Step::Wait(ms) => {
                    now += ms;
                    table.poll(at(now));
                    prop_assert!(table.next_deadline().is_none_or(|deadline| deadline > at(now)));
                }
            }
            prop_assert!(table.len() <= 5);
            let mut with_deadline = 0;
            for neighbor in table.iter() {
                let has_mac =
                    !matches!(neighbor.state, NeighborState::Incomplete | NeighborState::Failed);
                prop_assert_eq!(neighbor.mac.is_some(), has_mac);
                with_deadline += usize::from(neighbor.state != NeighborState::Permanent);
            }
            prop_assert_eq!(table.deadlines.len(), with_deadline);
        }
    }
}

fn advertisement(solicited: bool, overrides: bool) -> LearnKind {
    LearnKind::Advertisement {
        solicited,
        overrides,
    }
}

#[test]
fn solicited_advertisement_makes_a_neighbor_reachable() {
    let mut table = table();
    table.resolve(key(11), at(0));
    table.poll(at(0));
    let change = table.learn(key(11), MAC, advertisement(true, false), at(5));
    assert_eq!(change, Change::Resolved);
    assert_eq!(state(&table, 11), Some(NeighborState::Reachable));
}

#[test]
fn unsolicited_advertisement_does_not_prove_that_a_neighbor_is_there() {
    let mut table = table();
    table.resolve(key(11), at(0));
    table.poll(at(0));
    let change = table.learn(key(11), MAC, advertisement(false, true), at(5));
    assert_eq!(change, Change::Resolved);
    assert_eq!(state(&table, 11), Some(NeighborState::Stale));
}

#[test]
fn advertisement_that_overrides_moves_a_neighbor_at_once() {
    let mut table = reachable();
    let change = table.learn(key(11), OTHER_MAC, advertisement(false, true), at(1));
    assert_eq!(change, Change::Moved { from: MAC });
    assert_eq!(table.mac(key(11)), Some(OTHER_MAC));
    assert_eq!(state(&table, 11), Some(NeighborState::Stale));
}

#[test]
fn advertisement_that_does_not_override_only_raises_doubt() {
    let mut table = reachable();
    let change = table.learn(key(11), OTHER_MAC, advertisement(true, false), at(1));
    assert_eq!(change, Change::Unchanged);
    assert_eq!(table.mac(key(11)), Some(MAC));
    assert_eq!(state(&table, 11), Some(NeighborState::Stale));
    // Said again, it changes nothing more.
    let change = table.learn(key(11), OTHER_MAC, advertisement(true, false), at(2));
    assert_eq!(change, Change::Unchanged);
    assert_eq!(table.mac(key(11)), Some(MAC));
}

#[test]
fn advertisement_of_a_neighbor_that_nobody_asked_for_is_not_kept() {
    let mut table = table();
    let change = table.learn(key(11), MAC, advertisement(false, true), at(0));
    assert_eq!(change, Change::Unchanged);
    assert!(table.is_empty());
}
