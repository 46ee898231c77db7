use super::*;

const SERVER: RealServerIndex = RealServerIndex(3);

struct Lab {
    reassembly: Reassembly<u32>,
    now: CoarseTime,
    lost: Vec<(u32, Refusal)>,
}

impl Lab {
    fn new() -> Self {
        Self {
            reassembly: Reassembly::new(HashKey::from_seed([1, 2, 3])),
            now: CoarseTime::default(),
            lost: Vec::new(),
        }
    }

    fn arrive(&mut self, fragment: &Fragment) -> Result<Arrival, Refusal> {
        let lost = &mut self.lost;
        self.reassembly
            .arrive(fragment, self.now, &mut |item, why| lost.push((item, why)))
    }

    /// A fragment that has to wait.
    fn wait(&mut self, fragment: &Fragment, item: u32) {
        assert_eq!(self.arrive(fragment), Ok(Arrival::Waits));
        let lost = &mut self.lost;
        self.reassembly
            .hold(&fragment.key, item, self.now, &mut |item, why| {
                lost.push((item, why));
            });
    }

    fn settle(&mut self, key: &DatagramKey, decision: Result<RealServerIndex, Refusal>) {
        let lost = &mut self.lost;
        self.reassembly
            .settle(key, decision, self.now, &mut |item, why| {
                lost.push((item, why));
            });
    }

    fn release(&mut self, key: &DatagramKey) -> Vec<(u32, RealServerIndex)> {
        std::iter::from_fn(|| self.reassembly.release(key, self.now)).collect()
    }

    /// Lets time pass and everything expire that is due.
    fn advance(&mut self, seconds: u32) {
        self.now = self.now + CoarseDuration::from_seconds(seconds);
        let lost = &mut self.lost;
        while self
            .reassembly
            .expire(self.now, &mut |item, why| lost.push((item, why)))
        {}
    }
}

fn key(identification: u32) -> DatagramKey {
    DatagramKey {
        source: [203, 0, 113, 7].into(),
        destination: [198, 51, 100, 10].into(),
        protocol: 17,
        identification,
    }
}

fn piece(identification: u32, offset: u16, len: u16, is_last: bool) -> Fragment {
    Fragment {
        key: key(identification),
        header_len: 20,
        offset,
        len,
        is_last,
    }
}

#[test]
fn later_fragments_follow_the_first_and_the_last_ends_the_datagram() {
    let mut lab = Lab::new();
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    lab.settle(&key(1), Ok(SERVER));
    assert_eq!(
        lab.arrive(&piece(1, 800, 800, false)),
        Ok(Arrival::Follows(SERVER))
    );
    assert_eq!(lab.reassembly.len(), 1);
    assert_eq!(
        lab.arrive(&piece(1, 1600, 4, true)),
        Ok(Arrival::Follows(SERVER))
    );
    assert!(lab.reassembly.is_empty());
    assert_eq!(lab.lost, []);
}

#[test]
fn fragments_before_the_first_wait_and_go_in_their_order() {
    let mut lab = Lab::new();
    lab.wait(&piece(1, 1600, 4, true), 30);
    lab.wait(&piece(1, 800, 800, false), 20);
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    assert_eq!(lab.release(&key(1)), [], "not settled yet");
    lab.settle(&key(1), Ok(SERVER));
    assert_eq!(lab.release(&key(1)), [(30, SERVER), (20, SERVER)]);
    assert!(lab.reassembly.is_empty());
    assert_eq!(lab.lost, []);
}

#[test]
fn nothing_follows_a_first_fragment_that_went_nowhere() {
    let mut lab = Lab::new();
    lab.wait(&piece(1, 800, 800, false), 20);
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    lab.settle(&key(1), Err(Refusal::FirstNotForwarded));
    assert_eq!(lab.lost, [(20, Refusal::FirstNotForwarded)]);
    assert_eq!(
        lab.arrive(&piece(1, 1600, 4, true)),
        Err(Refusal::FirstNotForwarded)
    );
    assert_eq!(lab.release(&key(1)), []);
}

#[test]
fn a_duplicate_is_dropped_and_harms_nothing() {
    let mut lab = Lab::new();
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    assert_eq!(
        lab.arrive(&piece(1, 0, 800, false)),
        Err(Refusal::Duplicate)
    );
    lab.settle(&key(1), Ok(SERVER));
    assert_eq!(
        lab.arrive(&piece(1, 80, 720, false)),
        Err(Refusal::Duplicate)
    );
    assert_eq!(
        lab.arrive(&piece(1, 800, 4, true)),
        Ok(Arrival::Follows(SERVER))
    );
}

#[test]
fn after_an_overlap_the_rest_of_the_datagram_is_refused() {
    for wrong in [
        piece(1, 792, 16, false),
        // Reaches over the end, and says that the end is elsewhere.
        piece(1, 1600, 16, false),
        piece(1, 1608, 8, true),
        piece(1, 800, 8, true),
    ] {
        let mut lab = Lab::new();
        assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
        lab.wait(&piece(1, 1592, 8, true), 7);
        assert_eq!(lab.arrive(&wrong), Err(Refusal::Overlap), "{wrong:?}");
        assert_eq!(lab.lost, [(7, Refusal::Overlap)]);
        lab.settle(&key(1), Ok(SERVER));
        assert_eq!(
            lab.arrive(&piece(1, 800, 792, false)),
            Err(Refusal::Overlap)
        );
    }
}

#[test]
fn a_tiny_first_fragment_takes_its_datagram_along() {
    let mut lab = Lab::new();
    let tcp = |offset, len| {
        let udp = piece(1, offset, len, false);
        let key = DatagramKey {
            protocol: 6,
            ..udp.key
        };
        Fragment { key, ..udp }
    };
    lab.wait(&tcp(32, 16), 7);
    assert_eq!(lab.arrive(&tcp(0, 16)), Err(Refusal::Tiny));
    assert_eq!(lab.lost, [(7, Refusal::Tiny)]);
    assert_eq!(lab.arrive(&tcp(48, 16)), Err(Refusal::Tiny));
}

#[test]
fn a_datagram_in_more_than_128_fragments_is_refused() {
    let mut lab = Lab::new();
    assert_eq!(lab.arrive(&piece(1, 0, 8, false)), Ok(Arrival::First));
    lab.settle(&key(1), Ok(SERVER));
    for at in 1..128 {
        assert_eq!(
            lab.arrive(&piece(1, at * 8, 8, false)),
            Ok(Arrival::Follows(SERVER))
        );
    }
    assert_eq!(lab.arrive(&piece(1, 1024, 8, true)), Err(Refusal::TooMany));
}

#[test]
fn what_waits_for_five_seconds_is_lost() {
    let mut lab = Lab::new();
    lab.wait(&piece(1, 800, 8, false), 7);
    lab.advance(4);
    assert_eq!(lab.lost, []);
    lab.wait(&piece(2, 800, 8, false), 8);
    lab.advance(1);
    assert_eq!(lab.lost, [(7, Refusal::TimedOut)]);
    assert_eq!(lab.reassembly.len(), 1);
    lab.advance(4);
    assert_eq!(lab.lost[1..], [(8, Refusal::TimedOut)]);
    assert!(lab.reassembly.is_empty());
}

/// Else a client that uses an identification again would have its new datagram
/// taken for a piece of the old one.
#[test]
fn what_is_known_of_a_datagram_is_forgotten_after_five_seconds() {
    let mut lab = Lab::new();
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    lab.settle(&key(1), Ok(SERVER));
    lab.now = lab.now + CoarseDuration::from_seconds(5);
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
}

#[test]
fn fragments_of_other_datagrams_do_not_mix() {
    let base = key(1);
    let others = [
        key(2),
        DatagramKey {
            protocol: 132,
            ..base
        },
        DatagramKey {
            source: [203, 0, 113, 8].into(),
            ..base
        },
        DatagramKey {
            destination: [198, 51, 100, 11].into(),
            ..base
        },
        DatagramKey {
            source: "2001:db8::7".parse().unwrap(),
            destination: "2001:db8:ff::10".parse().unwrap(),
            ..base
        },
    ];
    let mut lab = Lab::new();
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    lab.settle(&base, Ok(SERVER));
    for key in others {
        let later = Fragment {
            key,
            ..piece(1, 800, 8, true)
        };
        assert_eq!(lab.arrive(&later), Ok(Arrival::Waits), "{key:?}");
    }
}

#[test]
fn a_flood_of_first_fragments_stays_within_its_bound() {
    let mut lab = Lab::new();
    for identification in 0..100_000 {
        let first = piece(identification, 0, 800, false);
        assert_eq!(lab.arrive(&first), Ok(Arrival::First));
        lab.settle(&first.key, Ok(SERVER));
    }
    assert!(lab.reassembly.len() <= DATAGRAMS_MAX);
    // The newest are still known: they push the oldest out.
    for identification in 99_900..100_000 {
        assert_eq!(
            lab.arrive(&piece(identification, 800, 8, true)),
            Ok(Arrival::Follows(SERVER))
        );
    }
    lab.advance(6);
    assert!(lab.reassembly.is_empty());
}

/// Fragments without their first one, from one datagram each and then all of
/// the same: no more than 512 wait, and each is accounted for.
#[test]
fn a_flood_of_later_fragments_stays_within_its_bound() {
    for of_one in [false, true] {
        let mut lab = Lab::new();
        for at in 0..10_000_u16 {
            let fragment = if of_one {
                piece(u32::from(at / 100), 800 + at % 100 * 8, 8, false)
            } else {
                piece(u32::from(at), 800, 8, false)
            };
            lab.wait(&fragment, u32::from(at));
            let waiting = usize::from(at) + 1 - lab.lost.len();
            assert!(waiting <= HELD_MAX);
        }
        assert!(lab.lost.iter().all(|(_, why)| *why == Refusal::CrowdedOut));
        assert_eq!(lab.lost.len(), 10_000 - HELD_MAX);
        lab.advance(6);
        assert_eq!(lab.lost.len(), 10_000);
        lab.lost.sort_unstable_by_key(|(item, _)| *item);
        lab.lost.dedup_by_key(|(item, _)| *item);
        assert_eq!(lab.lost.len(), 10_000, "each once");
    }
}

/// A datagram that comes in one go gets through the flood.
#[test]
fn reordered_fragments_close_together_survive_a_flood() {
    let mut lab = Lab::new();
    for at in 0..10_000 {
        lab.wait(&piece(at, 800, 8, false), 0);
        if at % 50 == 0 {
            let own = 1_000_000 + at;
            lab.wait(&piece(own, 800, 8, true), own);
            lab.wait(&piece(2_000_000 + at, 800, 8, false), 0);
            assert_eq!(lab.arrive(&piece(own, 0, 800, false)), Ok(Arrival::First));
            lab.settle(&key(own), Ok(SERVER));
            assert_eq!(lab.release(&key(own)), [(own, SERVER)]);
        }
    }
}

#[test]
fn an_item_of_a_datagram_that_is_gone_is_given_back() {
    let mut lab = Lab::new();
    let lost = &mut lab.lost;
    lab.reassembly.hold(&key(1), 7, lab.now, &mut |item, why| {
        lost.push((item, why));
    });
    assert_eq!(lab.lost, [(7, Refusal::CrowdedOut)]);
}

/// An answer that comes when the datagram has gone, or was refused meanwhile,
/// changes nothing.
#[test]
fn a_late_decision_changes_nothing() {
    let mut lab = Lab::new();
    lab.settle(&key(1), Ok(SERVER));
    assert!(lab.reassembly.is_empty());
    assert_eq!(lab.arrive(&piece(1, 0, 800, false)), Ok(Arrival::First));
    assert_eq!(lab.arrive(&piece(1, 8, 800, false)), Err(Refusal::Overlap));
    lab.settle(&key(1), Ok(SERVER));
    assert_eq!(lab.release(&key(1)), []);
    assert_eq!(lab.arrive(&piece(1, 808, 8, true)), Err(Refusal::Overlap));
}
