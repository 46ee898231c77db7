//! The connections of one worker: which real server each flow goes to.
//!
//! [`Table`] is bounded and allocated at start, keeps each IPv4 connection in
//! one cache line, and lets a worker ask for the lines of a whole burst before
//! it looks at the first. [`Tables`] are one for each IP version. [`state`] and
//! [`sctp`] follow connections by the client's packets alone, and a timer wheel
//! inside the table ends connections that fall silent.
//!
//! The connections of a client to a persistent service share a template; those
//! of all workers stand in one table ([`templates`]).
//!
//! A table of connections belongs to one worker. It knows no services,
//! schedulers or counters: it tells its caller about every connection that
//! leaves it, and the caller keeps count.
#![forbid(unsafe_code)]

mod directory;
mod entry;
mod opening_queue;
pub mod sctp;
pub mod state;
mod table;
mod tables;
pub mod templates;
pub mod time;
mod wheel;

pub use entry::{Entry, NewEntry, Removed};
pub use state::{State, StateTimeouts, transition};
pub use table::{
    CONNECTIONS_LIMIT, EntryGuess, EntryIndex, Expiry, Full, Inserted, Table, TableError,
};
pub use tables::{Capacities, ConnectionKey, Held, Place, Tables};
pub use templates::Templates;
pub use time::{CoarseDuration, CoarseTime};
