//! What a recorded case is replayed against.

use pointsman::{
    control::{
        command::{Command, CommandError},
        status::{ConnectionStatus, ServiceStatus},
    },
    ipvsadm::listing,
    service::Timeouts,
};

use super::{interpret::Action, network::Network};

/// What a program printed, and the code that it ended with.
#[derive(Debug)]
pub struct Printed {
    pub text: String,
    pub code: u8,
}

/// A director in the recorded lab. Errors are failures of the replay itself.
pub trait Subject {
    /// Sends a frame to a port of the director and lets it do its work.
    fn send(&mut self, port: u8, frame: &[u8]) -> Result<(), String>;

    /// What the director has sent since this was last called, in order for
    /// each port.
    fn take_sent(&mut self) -> Result<Vec<(u8, Vec<u8>)>, String>;

    /// Whether [`take_sent`](Self::take_sent) has the order over all ports.
    fn knows_order_of_ports(&self) -> bool;

    /// Lets time pass.
    fn advance(&mut self, ms: u64) -> Result<(), String>;

    /// Time that steps have taken by themselves, in seconds.
    fn seconds_lost(&self) -> u64;

    /// Runs a program of the recording, `ipvsadm` or `cat`, which does what
    /// `action` says. `None` where the replay is to do that in its place.
    fn run_program(
        &mut self,
        _words: &[String],
        _action: &Action,
    ) -> Result<Option<Printed>, String> {
        Ok(None)
    }

    /// Carries out a command. The inner error is the director's answer.
    fn apply(&mut self, command: &Command) -> Result<Result<(), CommandError>, String>;

    /// Changes a setting of `/proc/sys/net/ipv4/vs`.
    fn set_tunable(&mut self, name: &str, value: u32) -> Result<(), String>;

    /// How long connections live.
    fn timeouts(&self) -> Timeouts;

    /// Changes how long connections live.
    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), String>;

    /// Limits ICMP errors to one in each interval; 0 is no limit.
    fn limit_icmp(&mut self, interval_ms: u32) -> Result<(), String>;

    /// Takes over changed addresses, routes and neighbors.
    fn reconfigure(&mut self, network: &Network) -> Result<(), String>;

    /// The services with their servers.
    fn services(&mut self) -> Result<Vec<ServiceStatus>, String>;

    /// The connections.
    fn connections(&mut self) -> Result<Vec<ConnectionStatus>, String>;

    /// The text of `ipvsadm -Sn`.
    fn saved(&mut self) -> Result<String, String> {
        Ok(listing::save(&self.services()?))
    }

    /// The text of `ipvsadm -Lcn`.
    fn listed_connections(&mut self) -> Result<String, String> {
        Ok(listing::connections(&self.connections()?))
    }

    /// Ends the replay. What has not gone back to where it came from is a
    /// failure.
    fn finish(&mut self) -> Result<(), String>;
}
