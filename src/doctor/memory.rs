//! Memory: hugepages, and what the tables will take.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{
    Case, Finding, counted,
    facts::{Facts, HugepagePool},
    list,
};
use crate::config::{Config, Hugepages, memory_need};

pub(super) fn check(case: Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let Some(config) = case.config else {
        return vec![pools(facts)];
    };
    let mut findings = vec![pools(facts)];
    if case.running.is_some() {
        findings.push(Finding::ok(
            "memory",
            "the director runs with this configuration and has its memory",
        ));
        return findings;
    }
    findings.push(tables(facts, config));
    if config.eal.hugepages == Hugepages::None {
        findings.push(Finding::ok(
            "hugepages",
            "not wanted by the configuration (slower: more TLB misses)",
        ));
    } else {
        findings.push(enough_hugepages(facts, config));
        findings.extend(hugepages_by_node(facts, config));
    }
    findings
}

fn pools(facts: &Facts) -> Finding {
    let pools: Vec<_> = facts
        .hugepages
        .iter()
        .filter(|pool| pool.total > 0)
        .map(|pool| {
            let size = pool.page_bytes / MIB;
            format!(
                "node {}: {} of {size} MiB, {} free",
                pool.numa_node, pool.total, pool.free
            )
        })
        .collect();
    let found = if pools.is_empty() {
        "none reserved".to_owned()
    } else {
        pools.join("; ")
    };
    Finding::ok("hugepages", found)
}

/// The connection tables, against all memory there is.
fn tables(facts: &Facts, config: &Config) -> Finding {
    let needed = memory_need(config).connections;
    let workers = config.director.worker_cores.len();
    let found = format!(
        "{} for {} connections each: {} MiB",
        counted(workers, "table"),
        config.director.connections_max,
        needed.div_ceil(MIB)
    );
    let free_hugepages: u64 = facts.hugepages.iter().map(HugepagePool::free_bytes).sum();
    match facts.memory_available_bytes {
        None => Finding::ok("memory", found),
        Some(available) if needed <= available.saturating_add(free_hugepages) => Finding::ok(
            "memory",
            format!("{found}; {} MiB are available", available / MIB),
        ),
        Some(available) => Finding::error(
            "memory",
            format!("{found}, but {} MiB are available", available / MIB),
            "set a lower `connections_max` in [director]",
        ),
    }
}

fn enough_hugepages(facts: &Facts, config: &Config) -> Finding {
    let needed = u64::from(config.eal.memory_mib) * MIB;
    let free: u64 = facts.hugepages.iter().map(HugepagePool::free_bytes).sum();
    let found = format!("{} MiB wanted, {} MiB free", needed / MIB, free / MIB);
    if free >= needed {
        return Finding::ok("hugepages", found);
    }
    // "set" gives the number of pages that there are afterwards.
    let pages = |pool: &HugepagePool| pool.total.saturating_sub(pool.free);
    let used: u64 = facts
        .hugepages
        .iter()
        .filter(|pool| pool.page_bytes == PAGE_LEN)
        .map(pages)
        .sum();
    let mend = format!(
        "scripts/hugepages.sh set {}",
        needed.div_ceil(PAGE_LEN) + used
    );
    if config.eal.hugepages == Hugepages::Required {
        Finding::error("hugepages", found, mend)
    } else {
        Finding::warning(
            "hugepages",
            format!("{found}; runs on ordinary pages"),
            mend,
        )
    }
}

/// Packet buffers stand on the node of their NIC: pages elsewhere do not help.
fn hugepages_by_node(facts: &Facts, config: &Config) -> Option<Finding> {
    let nodes: BTreeSet<_> = config
        .ports
        .iter()
        .filter_map(|port| super::network::nic_of(facts, port)?.numa_node)
        .collect();
    let free = |node: usize| -> u64 {
        let pools = facts.hugepages.iter().filter(|pool| pool.numa_node == node);
        pools.map(HugepagePool::free_bytes).sum()
    };
    let empty: Vec<_> = nodes.into_iter().filter(|&node| free(node) == 0).collect();
    let &first = empty.first()?;
    Some(Finding::warning(
        "hugepages",
        format!("NUMA node {} has a NIC and no free hugepage", list(empty)),
        format!(
            "scripts/hugepages.sh set {} --node {first}",
            u64::from(config.eal.memory_mib)
                .saturating_mul(MIB)
                .div_ceil(PAGE_LEN)
        ),
    ))
}

const MIB: u64 = 1 << 20;

/// Bytes of the pages that `scripts/hugepages.sh` reserves.
const PAGE_LEN: u64 = 2 * MIB;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Level,
        fake::{FakeRoot, assert_all_ok, config, findings, one, running},
    };

    #[test]
    fn enough_pages_and_memory_are_ok() {
        let found = findings(check, &FakeRoot::machine(), Some(&config()));
        assert_all_ok(&found);
        one(&found, "hugepages", "node 0: 1024 of 2 MiB, 1024 free");
        one(&found, "hugepages", "1024 MiB wanted, 2048 MiB free");
        one(
            &found,
            "memory",
            "2 tables for 1000000 connections each: 300 MiB",
        );
    }

    #[test]
    fn too_few_pages_are_an_error_when_required_and_a_warning_else() {
        let fake = FakeRoot::machine();
        fake.hugepages(0, 1024, 100);
        let mut config = config();
        let found = findings(check, &fake, Some(&config));
        let finding = one(&found, "hugepages", "1024 MiB wanted, 200 MiB free");
        assert_eq!(finding.level, Level::Error);
        // 512 for us on top of the 924 that others use.
        assert_eq!(
            finding.mend.as_deref(),
            Some("scripts/hugepages.sh set 1436")
        );
        config.eal.hugepages = Hugepages::Auto;
        let found = findings(check, &fake, Some(&config));
        let finding = one(&found, "hugepages", "200 MiB free; runs on ordinary pages");
        assert_eq!(finding.level, Level::Warning);
    }

    #[test]
    fn a_configuration_without_hugepages_needs_none() {
        let fake = FakeRoot::machine();
        fake.hugepages(0, 0, 0);
        let mut config = config();
        config.eal.hugepages = Hugepages::None;
        let found = findings(check, &fake, Some(&config));
        assert_all_ok(&found);
        one(&found, "hugepages", "none reserved");
    }

    #[test]
    fn pages_on_the_wrong_node_are_a_warning() {
        let fake = FakeRoot::machine();
        fake.hugepages(0, 0, 0);
        fake.hugepages(1, 1024, 1024);
        let found = findings(check, &fake, Some(&config()));
        let finding = one(
            &found,
            "hugepages",
            "NUMA node 0 has a NIC and no free hugepage",
        );
        assert_eq!(finding.level, Level::Warning);
        assert_eq!(
            finding.mend.as_deref(),
            Some("scripts/hugepages.sh set 512 --node 0")
        );
    }

    /// The director takes its memory by `--in-memory`, which needs no mount.
    #[test]
    fn pages_need_no_mount() {
        let fake = FakeRoot::machine();
        fake.write("proc/mounts", "proc /proc proc rw 0 0\n");
        assert_all_ok(&findings(check, &fake, Some(&config())));
    }

    #[test]
    fn tables_larger_than_the_memory_are_an_error() {
        let fake = FakeRoot::machine();
        fake.write("proc/meminfo", "MemAvailable: 100000 kB\n");
        fake.hugepages(0, 0, 0);
        let found = findings(check, &fake, Some(&config()));
        let finding = one(&found, "memory", "each: 300 MiB, but 97 MiB are available");
        assert_eq!(finding.level, Level::Error);
    }

    #[test]
    fn a_running_director_has_its_memory_already() {
        let fake = FakeRoot::machine();
        fake.hugepages(0, 1024, 0);
        let (facts, config, running) = (fake.facts(), config(), running());
        let case = Case {
            facts: &facts,
            config: Some(&config),
            running: Some(&running),
            silent: None,
            probed: None,
        };
        assert_all_ok(&check(case));
    }
}
