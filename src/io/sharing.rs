//! In words: how workers share a port that has fewer queues than there are of
//! them.
#![forbid(unsafe_code)]

use std::fmt;

/// How many of the workers have queues of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Workers that have a receive queue.
    pub receiving: u16,
    /// Workers that have a transmit queue.
    pub transmitting: u16,
    /// All workers.
    pub workers: u32,
}

impl Sharing {
    /// `None` where each worker has queues of its own.
    pub fn of(receiving: u16, transmitting: u16, workers: u32) -> Option<Self> {
        let sharing = Self {
            receiving,
            transmitting,
            workers,
        };
        (sharing.is_spread() || sharing.is_relayed()).then_some(sharing)
    }

    fn is_spread(self) -> bool {
        u32::from(self.receiving) < self.workers
    }

    fn is_relayed(self) -> bool {
        u32::from(self.transmitting) < self.workers
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.workers;
        if self.is_spread() {
            write!(
                f,
                "{} of {workers} workers receive; spread in software",
                self.receiving
            )?;
        }
        if self.is_spread() && self.is_relayed() {
            write!(f, "; ")?;
        }
        if self.is_relayed() {
            write!(
                f,
                "{} of {workers} workers transmit, for the others too",
                self.transmitting
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_said() {
        let text = |rx, tx, workers| Sharing::of(rx, tx, workers).map(|it| it.to_string());
        assert_eq!(text(4, 4, 4), None);
        assert_eq!(text(8, 8, 4), None);
        assert_eq!(
            text(1, 4, 4).as_deref(),
            Some("1 of 4 workers receive; spread in software")
        );
        assert_eq!(
            text(4, 2, 4).as_deref(),
            Some("2 of 4 workers transmit, for the others too")
        );
        assert_eq!(
            text(1, 1, 2).as_deref(),
            Some(
                "1 of 2 workers receive; spread in software; \
                 1 of 2 workers transmit, for the others too"
            )
        );
    }
}
