//! What ends by itself: connections, templates and fragments whose time is up,
//! and what leads to real servers that are gone.

use super::{Outputs, Pipeline, persistence};
use crate::{
    connection::{CoarseTime, Expiry, Place, templates::Ending},
    flow::{FlowKeyV4, FlowKeyV6},
    forwarding::{ForwardingState, Presence, RealServerIndex},
    io::Driver,
};

impl<D: Driver> Pipeline<D> {
    /// Ends connections whose time is up. Looks at `budget` of them at most,
    /// and says whether more may be due.
    pub fn expire(&mut self, now: CoarseTime, budget: u32) -> Expiry {
        let loads = &self.state.loads;
        let counters = &self.counters;
        let shared = (&*self.state.templates, &**loads);
        let expiry = self.connections.expire(now, budget, |ended| {
            loads
                .of(RealServerIndex(ended.server))
                .close(ended.state.is_active());
            counters.connections_expired.add(1);
            // It was over then, however late it is noticed.
            let then = ended.deadline;
            persistence::release(shared, counters, ended.controller, Ending::Natural, then);
        });
        if expiry.expired > 0 {
            self.publish_connection_count();
        }
        expiry
    }

    /// Ends this worker's share of the persistence templates whose time is up,
    /// `budget` of them at most, and says whether more may be due.
    pub fn expire_templates(&mut self, now: CoarseTime, budget: u32) -> Expiry {
        let templates = &self.state.templates;
        if now == self.templates_expired || templates.is_empty() {
            return Expiry::default();
        }
        let share = (self.peers.own(), self.peers.count());
        let expiry = templates.expire(share, now, budget, |server, event| {
            persistence::count(&self.state.loads, &self.counters, server, event);
        });
        if !expiry.has_backlog {
            self.templates_expired = now;
        }
        expiry
    }

    /// Forgets fragments whose time is up, some of them, and says whether more
    /// may be due.
    pub fn expire_fragments(&mut self, now: CoarseTime, outputs: &mut Outputs<D>) -> bool {
        self.reassembly.expire(now, &mut |lost, refusal| {
            outputs.discard(lost.packet, refusal.into());
        })
    }

    /// Ends all connections of real servers that were deleted
    /// (`expire_nodest_conn`), and then the templates that lead to one, looking
    /// at [`SWEEP_LEN`] slots from `sweep` on. Returns where to go on, or
    /// `None` at the end.
    pub fn end_what_leads_to_deleted_servers(
        &mut self,
        sweep: Sweep,
        now: CoarseTime,
    ) -> Option<Sweep> {
        match sweep {
            Sweep::Connections(cursor) => {
                let next = self.end_connections_of_deleted_servers(cursor, now);
                Some(next.map_or(Sweep::Templates(0), Sweep::Connections))
            }
            Sweep::Templates(cursor) => {
                let state = &self.state;
                let next = state.templates.end_unused(
                    cursor,
                    SWEEP_LEN,
                    |server| !is_listed(state, server),
                    |server, event| {
                        persistence::count(&state.loads, &self.counters, server, event);
                    },
                );
                next.map(Sweep::Templates)
            }
        }
    }

    fn end_connections_of_deleted_servers(&mut self, cursor: u64, now: CoarseTime) -> Option<u64> {
        let (connections, next) = self.connections.iter_from(cursor, SWEEP_LEN);
        let gone: arrayvec::ArrayVec<Place, { SWEEP_LEN as usize }> = connections
            .filter(|(_, held)| !is_listed(&self.state, held.server))
            .map(|(place, _)| place)
            .collect();
        for place in gone {
            match place {
                Place::V4(index) => self.end::<FlowKeyV4>(index, Ending::Flushed, now),
                Place::V6(index) => self.end::<FlowKeyV6>(index, Ending::Flushed, now),
            }
        }
        self.publish_connection_count();
        next
    }
}

/// How far the search for what leads to deleted servers has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// A cursor of the connection tables.
    Connections(u64),
    /// A cursor of the table of templates.
    Templates(u32),
}

impl Sweep {
    /// At its begin.
    pub const START: Self = Self::Connections(0);
}

fn is_listed(state: &ForwardingState, server: u32) -> bool {
    let server = state.server(RealServerIndex(server));
    server.is_some_and(|server| server.presence == Presence::Listed)
}

/// Slots of the connection table that a sweep looks at in one go.
pub const SWEEP_LEN: u32 = 256;
