//! Taking up a changed configuration while running (SIGHUP).

use std::net::IpAddr;

use hashbrown::HashSet;

use super::{
    Management, changes::Origin, command::CommandError, keep::of_config, token_bucket::TokenBucket,
    touched::Stale,
};
use crate::{
    clock::Ticks,
    config::Config,
    io::{Driver, Port},
};

impl<D: Driver> Management<D> {
    /// Makes the running state what `config` says. Of services and settings that
    /// is what the file has changed since it was read last; what was changed at
    /// run time stays ([`merge`](super::merge)). Connections of services and
    /// servers that stay are not touched. What cannot change while running
    /// (`config::needs_restart`) is left as it is.
    ///
    /// # Errors
    /// [`CommandError`] when the director cannot hold it all; what came before
    /// the refused change has taken effect.
    pub fn reconfigure(&mut self, config: &Config, now: Ticks) -> Result<(), CommandError> {
        let descriptions: Vec<_> = self
            .ports
            .iter()
            .map(|port| port.description().clone())
            .collect();
        let new_addresses = self.network.configure(config, &descriptions, now);
        let director = &config.director;
        if director.icmp_rate_per_s != self.config.director.icmp_rate_per_s {
            let rate = director.icmp_rate_per_s;
            self.icmp_limit = TokenBucket::new(rate, now);
            self.fragmentation_needed_limit = TokenBucket::new(rate.saturating_mul(10), now);
        }
        let (base, file) = (of_config(&self.config), of_config(config));
        self.config = config.clone();
        self.stale = Stale::Everything;
        let vips_before: HashSet<IpAddr> = self.services.vips().single().collect();
        self.services.set_mark_groups(&config.mark_groups);
        let vips: Vec<_> = self.services.vips().single().collect();
        for vip in vips.into_iter().filter(|vip| !vips_before.contains(vip)) {
            self.announce(vip);
        }
        self.apply_merge(Some(Origin::File), &base, &file)?;
        for address in new_addresses {
            self.announce(address);
        }
        Ok(())
    }
}
