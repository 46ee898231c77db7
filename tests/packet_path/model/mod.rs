//! Second models of what a director decides, naive and slow, held against it
//! over random sequences of packets, commands and time.

mod connections;
mod hashing;
mod hashing_ipv6;
mod maglev;
mod schedulers;
mod two_choices;

use schedulers::{Scheduler, Server};
