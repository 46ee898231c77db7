//! A table without room for another connection.

use pointsman::scheduler::SchedulerKind;

use crate::{
    frames::tcp,
    lab::{Lab, Setup, web_service},
};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// How many connections the table takes.
const ROOM: u16 = 64;

/// A lab whose table is full of established connections of L4 ports 101 to
/// 100 + [`ROOM`].
fn full(scheduler: SchedulerKind) -> Lab {
    let mut lab = Lab::with(&Setup {
        connections_max: usize::from(ROOM),
        services: vec![web_service(scheduler, &[(11, 1), (12, 1), (13, 1)])],
        ..Setup::default()
    });
    for client_port in 101..=100 + ROOM {
        lab.send(&tcp(client_port, SYN).frame());
        lab.send(&tcp(client_port, ACK).frame());
    }
    assert_eq!(lab.counter("connections"), u64::from(ROOM));
    lab.take_sent();
    lab
}

/// The last byte of the real server's address, to which a segment goes.
fn server_of(lab: &mut Lab, client_port: u16, flags: u8) -> Option<u8> {
    match lab.answers(&tcp(client_port, flags).frame()).as_slice() {
        [] => None,
        [(1, frame)] => Some(frame[33]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hashing_schedulers_go_on_without_a_connection() {
    for scheduler in [SchedulerKind::Sh, SchedulerKind::Mh] {
        let mut lab = full(scheduler);
        let by_hash = server_of(&mut lab, 101, ACK);
        assert!(by_hash.is_some());
        // All ports of a client hash alike.
        for flags in [SYN, ACK, ACK, RST] {
            assert_eq!(server_of(&mut lab, 1000, flags), by_hash, "{scheduler}");
        }
        assert_eq!(lab.counter("untracked"), 4);
        assert_eq!(lab.counter("table_full"), 0);
        assert_eq!(lab.counter("connections"), u64::from(ROOM));
        assert_eq!(lab.counter("connections_opened"), u64::from(ROOM));
        lab.assert_everything_is_accounted_for();
    }
}

#[test]
fn what_had_no_room_gets_a_connection_when_there_is_some() {
    let mut lab = full(SchedulerKind::Sh);
    let by_hash = server_of(&mut lab, 1000, SYN);
    lab.send(&tcp(101, RST).frame());
    // CLOSE lasts ten seconds.
    lab.advance(11_000);
    assert_eq!(lab.counter("connections"), u64::from(ROOM) - 1);
    assert_eq!(server_of(&mut lab, 1000, ACK), by_hash);
    assert_eq!(lab.state_of(1000), Some("ESTABLISHED"));
    assert_eq!(lab.counter("untracked"), 1);
}

#[test]
fn a_stray_segment_gets_a_reset_when_no_flow_without_a_connection_can_live() {
    let mut lab = full(SchedulerKind::Sh);
    lab.send(&tcp(1000, SYN).frame());
    lab.take_sent();
    // Longer than ESTABLISHED lasts.
    lab.advance(1000 * 1000);
    let answers = lab.answers(&tcp(2000, ACK).frame());
    assert_eq!(answers.len(), 1);
    let (port, reset) = &answers[0];
    assert_eq!((*port, reset[14 + 20 + 13] & RST), (0, RST));
}

#[test]
fn without_a_full_table_a_stray_segment_gets_a_reset_at_once() {
    let mut lab = Lab::with(&Setup {
        services: vec![web_service(SchedulerKind::Sh, &[(11, 1)])],
        ..Setup::default()
    });
    let answers = lab.answers(&tcp(2000, ACK).frame());
    assert_eq!(answers[0].0, 0);
    assert_eq!(lab.counter("untracked"), 0);
}

#[test]
fn other_schedulers_drop_and_count() {
    for scheduler in [SchedulerKind::Rr, SchedulerKind::Wlc, SchedulerKind::Dh] {
        let mut lab = full(scheduler);
        let _ = lab.counts_one("table_full", |lab| lab.send(&tcp(1000, SYN).frame()));
        assert_eq!(lab.take_sent(), [], "{scheduler}");
        assert_eq!(lab.counter("untracked"), 0);
    }
}
