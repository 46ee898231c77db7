//! How much goes through services a second, as Linux IPVS estimates it.
//!
//! Every two seconds the counters are read, and a quarter of the difference
//! between what was counted since and the estimate goes into the estimate
//! (`net/netfilter/ipvs/ip_vs_est.c` of Linux 6.1), in whole numbers with so
//! many bits behind the point as there. The kernel takes its two seconds for
//! exact; here it is measured how long they were.
#![forbid(unsafe_code)]

use hashbrown::HashMap;

use super::{
    Management,
    services::difference,
    status::{Rates, Response, Statistics},
    totals,
};
use crate::{clock::Ticks, forwarding::RealServerIndex, io::Driver, service::ServiceKey};

/// The estimates of everything that is counted.
#[derive(Debug, Default)]
pub(super) struct RateTable {
    services: HashMap<ServiceKey, Estimator>,
    /// By slot.
    servers: Vec<ServerEstimator>,
    total: Estimator,
    /// What had been counted when all counters were zeroed.
    zeroed_at: Statistics,
    estimated: Ticks,
}

/// That of a real server while it is in one list.
#[derive(Clone, Copy, Debug, Default)]
struct ServerEstimator {
    link: u64,
    estimator: Estimator,
}

impl RateTable {
    pub(super) fn of_service(&self, key: &ServiceKey) -> Rates {
        self.services
            .get(key)
            .map(Estimator::rates)
            .unwrap_or_default()
    }

    pub(super) fn of_server(&self, index: RealServerIndex, link: u64) -> Rates {
        let server = self.servers.get(index.as_usize());
        server
            .filter(|server| server.link == link)
            .map(|server| server.estimator.rates())
            .unwrap_or_default()
    }
}

impl<D: Driver> Management<D> {
    /// Brings all estimates up to date, when it is time.
    pub(super) fn estimate_rates(&mut self, now: Ticks) {
        let ms = now.ms_since(self.rates.estimated);
        if ms < INTERVAL_MS {
            return;
        }
        let total = self.total_statistics();
        let Self {
            services,
            workers,
            rates,
            ..
        } = self;
        rates.estimated = now;
        rates.total.sample(&total, ms);
        rates
            .services
            .retain(|key, _| services.service(key).is_some());
        rates
            .servers
            .resize(services.servers().len(), ServerEstimator::default());
        let totals = |index| totals(workers, index);
        for (key, service) in services.iter() {
            let counted = services.statistics(service, &totals);
            let estimator = rates.services.entry(*key).or_default();
            estimator.sample(&counted, ms);
            for &index in &service.servers {
                let (Some(server), Some(estimate)) = (
                    services.server(index),
                    rates.servers.get_mut(index.as_usize()),
                ) else {
                    continue;
                };
                let counted = services.server_statistics(index, &totals);
                if estimate.link != server.link {
                    // It may have come back with its counters.
                    *estimate = ServerEstimator {
                        link: server.link,
                        estimator: Estimator::at(&counted),
                    };
                    continue;
                }
                estimate.estimator.sample(&counted, ms);
            }
        }
    }

    /// Counters go back to 0: those of one service, or all.
    pub(super) fn zero_rates(&mut self, key: Option<&ServiceKey>) {
        let Some(key) = key else {
            self.rates.zeroed_at = self.counted();
            self.rates.services.clear();
            self.rates.servers.clear();
            self.rates.total = Estimator::default();
            return;
        };
        let servers = self.services.service(key).map(|service| &service.servers);
        for index in servers.into_iter().flatten() {
            if let Some(server) = self.rates.servers.get_mut(index.as_usize()) {
                server.estimator = Estimator::default();
            }
        }
        self.rates.services.remove(key);
    }

    /// `/proc/net/ip_vs_stats`
    pub(super) fn all_statistics(&self) -> Response {
        Response::Statistics {
            total: self.total_statistics(),
            rates: self.rates.total.rates(),
        }
    }

    fn total_statistics(&self) -> Statistics {
        difference(self.counted(), self.rates.zeroed_at)
    }

    fn counted(&self) -> Statistics {
        self.services
            .all_statistics(&|index| totals(&self.workers, index))
    }
}

/// Estimates of one set of counters.
#[derive(Clone, Copy, Debug, Default)]
struct Estimator {
    /// Counters at the last sample.
    last: [u64; COUNTERS],
    /// Estimates with as many bits behind the point as [`SCALES`] says.
    scaled: [u64; COUNTERS],
}

impl Estimator {
    const fn at(counted: &Statistics) -> Self {
        Self {
            last: in_order(counted),
            scaled: [0; COUNTERS],
        }
    }

    /// Takes the counters `ms` milliseconds after the last time.
    fn sample(&mut self, counted: &Statistics, ms: u64) {
        let counted = in_order(counted);
        let estimates = self.scaled.iter_mut().zip(&mut self.last);
        for (((scaled, last), now), bits) in estimates.zip(counted).zip(SCALES) {
            let counted = u128::from(now.saturating_sub(*last));
            let per_s = (counted << bits) * 1000 / u128::from(ms.max(1));
            let per_s = i128::try_from(per_s).unwrap_or(i128::MAX);
            let before = i128::from(*scaled);
            let after = before + ((per_s - before) >> WEIGHT_BITS);
            *scaled = u64::try_from(after).unwrap_or(u64::MAX);
            *last = now;
        }
    }

    fn rates(&self) -> Rates {
        let mut rounded = [0; COUNTERS];
        for ((rounded, scaled), bits) in rounded.iter_mut().zip(self.scaled).zip(SCALES) {
            // Just less than a half is added.
            *rounded = (scaled + (1 << (bits - 1)) - 1) >> bits;
        }
        let [conns, in_packets, out_packets, in_bytes, out_bytes] = rounded;
        Rates {
            connections_per_s: conns,
            in_packets_per_s: in_packets,
            out_packets_per_s: out_packets,
            in_bytes_per_s: in_bytes,
            out_bytes_per_s: out_bytes,
        }
    }
}

const fn in_order(statistics: &Statistics) -> [u64; COUNTERS] {
    [
        statistics.connections,
        statistics.in_packets,
        statistics.out_packets,
        statistics.in_bytes,
        statistics.out_bytes,
    ]
}

const COUNTERS: usize = 5;
/// Bits behind the point of connections, packets in and out, bytes in and out.
const SCALES: [u32; COUNTERS] = [10, 10, 10, 5, 5];
/// A quarter of what is new goes into an estimate.
const WEIGHT_BITS: u32 = 2;
const INTERVAL_MS: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates at one sample after another.
    fn rates_of(counted: Statistics, samples: usize) -> Vec<Rates> {
        let mut estimator = Estimator::default();
        let sample = |_| {
            estimator.sample(&counted, INTERVAL_MS);
            estimator.rates()
        };
        (0..samples).map(sample).collect()
    }

    fn bytes(in_bytes: u64) -> Statistics {
        Statistics {
            in_bytes,
            ..Statistics::default()
        }
    }

    /// From the recorded case `09_formats`, where `ipvsadm --stats` and `--rate`
    /// stand one after the other.
    #[test]
    fn a_burst_fades_as_it_does_in_the_kernel() {
        for (counted, recorded) in [(940, 66), (180, 13)] {
            let rates = rates_of(bytes(counted), 3);
            assert_eq!(rates[2].in_bytes_per_s, recorded, "{rates:?}");
        }
        for (counted, recorded) in [(80, 7), (60, 6)] {
            let rates = rates_of(bytes(counted), 2);
            assert_eq!(rates[1].in_bytes_per_s, recorded, "{rates:?}");
        }
    }

    #[test]
    fn a_steady_rate_is_found_whatever_the_intervals() {
        let mut estimator = Estimator::default();
        let mut counted = Statistics::default();
        for ms in [2000, 2500, 2003].into_iter().cycle().take(200) {
            counted.connections += 10 * ms;
            counted.in_packets += 100 * ms;
            counted.out_packets += ms;
            counted.in_bytes += 64_000 * ms;
            counted.out_bytes += 28 * ms;
            estimator.sample(&counted, ms);
        }
        assert_eq!(
            estimator.rates(),
            Rates {
                connections_per_s: 10_000,
                in_packets_per_s: 100_000,
                out_packets_per_s: 1000,
                in_bytes_per_s: 64_000_000,
                out_bytes_per_s: 28_000,
            }
        );
    }
}
