//! What became of a packet.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    counters::WorkerCounters,
    pipeline::{DropReason, PuntReason},
};

/// What became of a packet, as the counters of its worker tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A port took the frame, or the frames, that it became.
    Forwarded,
    /// It is finished, and given to a worker that has a queue of the port.
    Relayed,
    /// It was dropped.
    Dropped(DropReason),
    /// The management thread has it.
    Punted(PuntReason),
    /// Another worker has it, which is the one that decides.
    HandedOver,
    /// A fragment that waits for the first one of its datagram.
    Held,
    /// It is a frame of the director itself.
    Own,
    /// It goes out, and another worker received it; or it is a fragment that
    /// has waited.
    Late,
    /// No counter tells.
    Unseen,
}

impl Fate {
    /// Which kind of end it is.
    pub const fn kind(self) -> FateKind {
        match self {
            Self::Forwarded | Self::Relayed | Self::Late => FateKind::Forwarded,
            Self::Dropped(_) => FateKind::Dropped,
            Self::Punted(_) => FateKind::Punted,
            Self::HandedOver | Self::Held | Self::Unseen => FateKind::Undecided,
            Self::Own => FateKind::Own,
        }
    }

    /// Why it was not forwarded.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Dropped(reason) => Some(Reason::Drop(reason)),
            Self::Punted(reason) => Some(Reason::Punt(reason)),
            _ => None,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarded => f.write_str("forwarded"),
            Self::Relayed => f.write_str("finished, another worker sends it"),
            Self::Dropped(reason) => write!(f, "dropped, {reason}: {}", reason.help()),
            Self::Punted(reason) => write!(
                f,
                "handed to the management thread, {reason}: {}",
                reason.help()
            ),
            Self::HandedOver => f.write_str("handed to another worker"),
            Self::Held => f.write_str("waits for the first fragment of its datagram"),
            Self::Own => f.write_str("sent by the director itself"),
            Self::Late => f.write_str("forwarded after it had waited or changed its worker"),
            Self::Unseen => f.write_str("what became of it was not seen"),
        }
    }
}

/// What a packet can end as, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FateKind {
    /// Sent into a tunnel.
    Forwarded,
    /// Dropped.
    Dropped,
    /// Handed to the management thread.
    Punted,
    /// Handed to another worker, or waiting.
    Undecided,
    /// A frame of the director itself.
    Own,
}

/// Why a packet was not forwarded. Written as its counter is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reason {
    /// It was dropped.
    Drop(DropReason),
    /// It was handed to the management thread.
    Punt(PuntReason),
}

impl Reason {
    /// The name of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop(reason) => reason.name(),
            Self::Punt(reason) => reason.name(),
        }
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.name().to_owned()
    }
}

impl TryFrom<String> for Reason {
    type Error = UnknownReason;

    fn try_from(name: String) -> Result<Self, UnknownReason> {
        name.parse()
    }
}

impl std::str::FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, UnknownReason> {
        let drops = DropReason::ALL.iter().copied().map(Self::Drop);
        let punts = PuntReason::ALL.iter().copied().map(Self::Punt);
        let mut all = drops.chain(punts);
        all.find(|reason| reason.name() == name)
            .ok_or_else(|| UnknownReason(name.to_owned()))
    }
}

/// There is no such reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no reason \"{0}\" to drop or to punt; `pointsman show counters --all` lists their \
     names"
)]
pub struct UnknownReason(pub String);

/// The counters that tell what became of a packet, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    drops: [u64; DropReason::ALL.len()],
    punts: [u64; PuntReason::ALL.len()],
    forwarded: u64,
    relayed: u64,
    handed_over: u64,
    held: u64,
}

impl Snapshot {
    pub(crate) fn of(counters: &WorkerCounters) -> Self {
        let mut drops = [0; DropReason::ALL.len()];
        for (count, reason) in drops.iter_mut().zip(DropReason::ALL) {
            *count = counters.drops(*reason).value();
        }
        let mut punts = [0; PuntReason::ALL.len()];
        for (count, reason) in punts.iter_mut().zip(PuntReason::ALL) {
            *count = counters.punts(*reason).value();
        }
        Self {
            drops,
            punts,
            forwarded: counters.forwarded.value(),
            relayed: counters.tx_handed_over.value(),
            handed_over: counters.handed_over.value(),
            held: counters.fragments_held.value(),
        }
    }

    /// What became of the only packet since then. A fragment may have taken
    /// others along, which have counted too: what can only be said of the packet
    /// itself comes first, and of several reasons the first.
    pub(crate) fn fate(&self, counters: &WorkerCounters) -> Fate {
        if counters.fragments_held.value() != self.held {
            return Fate::Held;
        }
        if counters.forwarded.value() != self.forwarded {
            return Fate::Forwarded;
        }
        if counters.tx_handed_over.value() != self.relayed {
            return Fate::Relayed;
        }
        let punts = PuntReason::ALL.iter().zip(&self.punts);
        for (reason, before) in punts {
            if counters.punts(*reason).value() != *before {
                return Fate::Punted(*reason);
            }
        }
        let drops = DropReason::ALL.iter().zip(&self.drops);
        for (reason, before) in drops {
            if counters.drops(*reason).value() != *before {
                return Fate::Dropped(*reason);
            }
        }
        if counters.handed_over.value() != self.handed_over {
            return Fate::HandedOver;
        }
        Fate::Unseen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_called_as_its_counter() {
        assert_eq!("not_local".parse(), Ok(Reason::Drop(DropReason::NotLocal)));
        assert_eq!("local".parse(), Ok(Reason::Punt(PuntReason::Local)));
        let unknown = "remote".parse::<Reason>();
        assert_eq!(unknown, Err(UnknownReason("remote".to_owned())));
        let json = serde_json::to_string(&Reason::Punt(PuntReason::Arp)).unwrap();
        assert_eq!(json, "\"arp\"");
        assert_eq!(
            serde_json::from_str::<Reason>(&json).unwrap(),
            Reason::Punt(PuntReason::Arp)
        );
    }

    #[test]
    fn names_of_reasons_do_not_meet() {
        let drops = DropReason::ALL.iter().map(|reason| reason.name());
        let punts = PuntReason::ALL.iter().map(|reason| reason.name());
        let names: Vec<_> = drops.chain(punts).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn a_fragment_that_waits_is_held_whatever_it_crowded_out() {
        let counters = WorkerCounters::new(1);
        let before = Snapshot::of(&counters);
        counters.drops(DropReason::FragmentCrowdedOut).add(1);
        counters.fragments_held.add(1);
        assert_eq!(before.fate(&counters), Fate::Held);
    }

    #[test]
    fn each_counter_tells_its_fate() {
        let counters = WorkerCounters::new(1);
        let fate_after = |act: &dyn Fn()| {
            let before = Snapshot::of(&counters);
            act();
            before.fate(&counters)
        };
        assert_eq!(fate_after(&|| {}), Fate::Unseen);
        assert_eq!(fate_after(&|| counters.forwarded.add(1)), Fate::Forwarded);
        assert_eq!(
            fate_after(&|| counters.tx_handed_over.add(1)),
            Fate::Relayed
        );
        assert_eq!(
            fate_after(&|| counters.handed_over.add(1)),
            Fate::HandedOver
        );
        for &reason in DropReason::ALL {
            let fate = fate_after(&|| counters.drops(reason).add(1));
            assert_eq!(fate, Fate::Dropped(reason));
        }
        for &reason in PuntReason::ALL {
            let fate = fate_after(&|| counters.punts(reason).add(1));
            assert_eq!(fate, Fate::Punted(reason));
        }
    }
}
