//! The cases: who forwards, and what comes.

/// Who stands where a director does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarder {
    Director,
    Testpmd,
}

/// What happens to a director meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Nothing,
    /// Once a second SIGHUP, with another weight of a real server.
    Reload,
    /// Flows give way to new ones, so many a second, and the connections of the
    /// old ones end after two seconds.
    Expiry(u32),
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A few packets, to see whether it works.
    Smoke,
    Quick,
    Full,
}

/// One line of the result.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) forwarder: Forwarder,
    /// As in the configuration.
    pub(crate) protocol: &'static str,
    pub(crate) flows: u32,
    pub(crate) frame_len: u16,
    /// Packets a second; else as many as come back.
    pub(crate) rate: Option<u32>,
    /// Packets, when not the time limits them.
    pub(crate) count: Option<u32>,
    /// In which it is measured.
    pub(crate) seconds: u32,
    pub(crate) event: Event,
}

/// What is sent, by name: protocol, flows, bytes of a frame.
type Shape = (&'static str, &'static str, u32, u16);

const M: u32 = 1_000_000;
/// A memif port takes IP packets of 1500 bytes, the outer header's 20 included.
const LONGEST: u16 = 1494;
const SHAPES: [Shape; 8] = [
    ("tcp 1k flows", "tcp", 1000, 60),
    ("tcp 64k flows", "tcp", 65_536, 60),
    ("tcp 1M flows", "tcp", M, 60),
    ("udp 1k flows", "udp", 1000, 60),
    ("udp 64k flows", "udp", 65_536, 60),
    ("udp 1M flows", "udp", M, 60),
    ("tcp 1k flows of 512 bytes", "tcp", 1000, 512),
    ("tcp 1k flows of 1494 bytes", "tcp", 1000, LONGEST),
];
/// Packets a second for latencies: a fraction of what software ports do.
const MODERATE: u32 = 1_000_000;
const NEW_FLOWS: u32 = 500_000;

/// All of them, or those of a quick look.
pub(crate) fn cases(length: Length) -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: Vec<Shape> = match length {
        Length::Full => SHAPES.to_vec(),
        Length::Quick => [0, 2].map(|place| SHAPES[place]).to_vec(),
        Length::Smoke => vec![SHAPES[0]],
    };
    for shape in shapes {
        for forwarder in [Forwarder::Testpmd, Forwarder::Director] {
            cases.push(case(forwarder, shape, length));
        }
    }
    if length == Length::Smoke {
        return cases;
    }
    let shape = SHAPES[1];
    for (forwarder, event, what) in [
        (Forwarder::Testpmd, Event::Nothing, ""),
        (Forwarder::Director, Event::Nothing, ""),
        (Forwarder::Director, Event::Reload, ", reloads"),
    ] {
        let of = case(forwarder, shape, length);
        cases.push(Case {
            name: format!("{} at 1 Mpps{what}", of.name),
            rate: Some(MODERATE),
            seconds: if event == Event::Reload {
                5
            } else {
                of.seconds
            },
            event,
            ..of
        });
    }
    cases.push(Case {
        name: "director udp at 1 Mpps, a million entries expire".to_owned(),
        protocol: "udp",
        flows: 50_000,
        rate: Some(MODERATE),
        seconds: 4,
        event: Event::Expiry(NEW_FLOWS),
        ..case(Forwarder::Director, shape, length)
    });
    if length == Length::Quick {
        cases.retain(|case| case.event == Event::Nothing);
    }
    cases
}

fn case(forwarder: Forwarder, (name, protocol, flows, frame_len): Shape, length: Length) -> Case {
    let by = match forwarder {
        Forwarder::Director => "director",
        Forwarder::Testpmd => "testpmd",
    };
    Case {
        name: format!("{by} {name}"),
        forwarder,
        protocol,
        flows,
        frame_len,
        rate: None,
        count: (length == Length::Smoke).then_some(5_000),
        seconds: 3,
        event: Event::Nothing,
    }
}
