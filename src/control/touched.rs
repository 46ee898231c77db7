//! Which real servers the published state no longer shows as they are.
//!
//! A command touches a server or two of thousands, so that only these are made
//! anew for the workers. What may concern others as well (a way to a server is
//! gone, an outer source is another) has all of them made anew.
#![forbid(unsafe_code)]

use crate::forwarding::{RealServerIndex, SERVERS_MAX};

/// How much of the published state is out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stale {
    /// Nothing.
    #[default]
    Nothing,
    /// What commands changed: services, settings, and the servers that are
    /// [`Touched`].
    Services,
    /// Everything, perhaps.
    Everything,
}

/// Servers that were touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    servers: Vec<RealServerIndex>,
    is_everything: bool,
}

impl Touched {
    /// The server in this slot is new, or another than it was.
    pub(super) fn server(&mut self, index: RealServerIndex) {
        // More are never published at once.
        if self.servers.len() < SERVERS_MAX {
            self.servers.push(index);
        } else {
            self.everything();
        }
    }

    /// Any server may be another than it was.
    pub(super) const fn everything(&mut self) {
        self.is_everything = true;
    }

    /// The slots of the touched servers, some more than once; `None` when that
    /// may be any.
    pub(super) fn known(&self) -> Option<&[RealServerIndex]> {
        (!self.is_everything).then_some(&self.servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_known_until_it_is_everything() {
        let mut touched = Touched::default();
        assert_eq!(touched.known(), Some(&[][..]));
        touched.server(RealServerIndex(3));
        touched.server(RealServerIndex(1));
        let both = [RealServerIndex(3), RealServerIndex(1)];
        assert_eq!(touched.known(), Some(&both[..]));
        touched.everything();
        touched.server(RealServerIndex(2));
        assert_eq!(touched.known(), None);
    }

    #[test]
    fn more_servers_than_there_can_be_are_everything() {
        let mut touched = Touched::default();
        for _ in 0..SERVERS_MAX {
            touched.server(RealServerIndex(0));
        }
        assert!(touched.known().is_some());
        touched.server(RealServerIndex(0));
        assert!(touched.known().is_none());
    }
}
