//! Fragments that wait: a ring of fixed length, in which a new one takes the
//! place of the oldest.

/// The fragments of one datagram that wait, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain(Option<Ends>);

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: usize,
    last: usize,
}

/// A ring of waiting items. Each is part of the [`Chain`] of its owner.
#[derive(Debug)]
pub(super) struct Holding<T> {
    ring: Box<[Option<Held<T>>]>,
    next: usize,
}

#[derive(Debug)]
struct Held<T> {
    item: T,
    owner: usize,
    /// The next younger one of the same owner.
    following: Option<usize>,
}

impl<T> Holding<T> {
    /// A ring for `len` items; at least one.
    pub(super) fn new(len: usize) -> Self {
        Self {
            ring: std::iter::repeat_with(|| None).take(len.max(1)).collect(),
            next: 0,
        }
    }

    /// Whom the oldest item belongs to, if the ring is full at its end. It has
    /// to be taken from that owner's chain before another one is pushed.
    pub(super) fn owner_in_the_way(&self) -> Option<usize> {
        self.ring.get(self.next)?.as_ref().map(|held| held.owner)
    }

    /// Puts an item at the end of its owner's chain. Gives it back when another
    /// is in the way.
    pub(super) fn push(&mut self, owner: usize, chain: &mut Chain, item: T) -> Result<(), T> {
        let at = self.next;
        match self.ring.get_mut(at) {
            Some(place @ None) => {
                *place = Some(Held {
                    item,
                    owner,
                    following: None,
                });
            }
            _ => return Err(item),
        }
        self.next = (at + 1) % self.ring.len();
        let first = match chain.0 {
            None => at,
            Some(Ends { first, last }) => {
                if let Some(Some(last)) = self.ring.get_mut(last) {
                    last.following = Some(at);
                }
                first
            }
        };
        chain.0 = Some(Ends { first, last: at });
        Ok(())
    }

    /// Takes the oldest item of a chain. As items are pushed in the order of
    /// the ring, the oldest of all is always the first of its chain.
    pub(super) fn take(&mut self, chain: &mut Chain) -> Option<T> {
        let Ends { first, last } = chain.0?;
        let held = self.ring.get_mut(first)?.take()?;
        chain.0 = held.following.map(|first| Ends { first, last });
        Some(held.item)
    }
}

impl Chain {
    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_in_their_order_and_by_owner() {
        let mut holding = Holding::new(4);
        let mut chains = [Chain::default(); 2];
        for (owner, item) in [(0, 'a'), (1, 'b'), (0, 'c'), (0, 'd')] {
            assert_eq!(holding.push(owner, &mut chains[owner], item), Ok(()));
        }
        assert_eq!(holding.owner_in_the_way(), Some(0));
        assert_eq!(holding.push(1, &mut chains[1], 'e'), Err('e'));
        assert_eq!(holding.take(&mut chains[0]), Some('a'));
        assert_eq!(holding.owner_in_the_way(), None);
        assert_eq!(holding.push(1, &mut chains[1], 'e'), Ok(()));
        let rest: Vec<_> = std::iter::from_fn(|| holding.take(&mut chains[0])).collect();
        assert_eq!(rest, ['c', 'd']);
        let rest: Vec<_> = std::iter::from_fn(|| holding.take(&mut chains[1])).collect();
        assert_eq!(rest, ['b', 'e']);
        assert!(chains.iter().all(Chain::is_empty));
    }
}
