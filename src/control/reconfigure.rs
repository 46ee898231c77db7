//! Taking up a changed configuration while running (SIGHUP).

use std::{collections::BTreeMap, net::IpAddr};

use hashbrown::HashSet;

use super::{
    Management,
    command::{Command, CommandError},
    token_bucket::TokenBucket,
};
use crate::{
    clock::Ticks,
    config::{Config, ServiceConfig},
    io::{Driver, Port},
};

impl<D: Driver> Management<D> {
    /// Makes the running state what `config` says. Connections of services and
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
        self.log_settings_taken_back(director);
        self.config = config.clone();
        self.dirty = true;
        self.apply(&Command::SetTimeouts(director.timeouts))?;
        self.apply(&Command::SetTunables(director.tunables))?;
        let vips_before: HashSet<IpAddr> = self.services.vips().single().collect();
        self.services.set_mark_groups(&config.mark_groups);
        let vips: Vec<_> = self.services.vips().single().collect();
        for vip in vips.into_iter().filter(|vip| !vips_before.contains(vip)) {
            self.announce(vip);
        }
        self.reconfigure_services(&config.services)?;
        for address in new_addresses {
            self.announce(address);
        }
        Ok(())
    }

    /// Adds a service of the configuration with its servers.
    pub(super) fn add_configured(&mut self, service: &ServiceConfig) -> Result<(), CommandError> {
        self.apply(&Command::AddService(service.key, service.options))?;
        for &(key, options) in &service.servers {
            self.apply(&Command::AddServer(service.key, key, options))?;
        }
        Ok(())
    }

    fn reconfigure_services(&mut self, wanted: &[ServiceConfig]) -> Result<(), CommandError> {
        let unwanted: Vec<_> = self
            .services
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| !wanted.iter().any(|service| service.key == *key))
            .collect();
        for key in unwanted {
            self.apply(&Command::DeleteService(key))?;
        }
        for service in wanted {
            match self
                .services
                .service(&service.key)
                .map(|present| present.options)
            {
                None => {
                    self.add_configured(service)?;
                    continue;
                }
                Some(options) if options != service.options => {
                    self.apply(&Command::EditService(service.key, service.options))?;
                }
                Some(_) => {}
            }
            self.reconfigure_servers(service)?;
        }
        Ok(())
    }

    fn reconfigure_servers(&mut self, wanted: &ServiceConfig) -> Result<(), CommandError> {
        let present: BTreeMap<_, _> = self
            .services
            .service(&wanted.key)
            .into_iter()
            .flat_map(|service| &service.servers)
            .filter_map(|&index| self.services.server(index))
            .map(|server| (server.key, server.options))
            .collect();
        for key in present.keys() {
            if !wanted.servers.iter().any(|(server, _)| server == key) {
                self.apply(&Command::DeleteServer(wanted.key, *key))?;
            }
        }
        for &(key, options) in &wanted.servers {
            match present.get(&key) {
                None => self.apply(&Command::AddServer(wanted.key, key, options))?,
                Some(before) if *before != options => {
                    self.apply(&Command::EditServer(wanted.key, key, options))?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
