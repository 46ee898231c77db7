//! Cores: whether workers have theirs to themselves, at full speed.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{Case, Finding, core_list, counted, facts::Facts, list};
use crate::config::{Config, Device, IdlePolicy};

pub(super) fn check(case: Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let mut findings = vec![Finding::ok("cores", summary(facts))];
    if let Some(config) = case.config {
        findings.extend(missing(facts, config));
        findings.push(isolation(facts, config));
        findings.push(siblings(facts, config));
        findings.push(governor(facts, &config.director.worker_cores));
    } else {
        let all: Vec<_> = facts.cores.keys().copied().collect();
        findings.push(governor(facts, &all));
    }
    findings
}

fn summary(facts: &Facts) -> String {
    let physical: BTreeSet<_> = facts.cores.values().map(|core| &core.siblings).collect();
    let nodes: BTreeSet<_> = facts
        .cores
        .values()
        .filter_map(|core| core.numa_node)
        .collect();
    let isolated = if facts.isolated.is_empty() {
        "none isolated".to_owned()
    } else {
        format!("{} isolated", list(facts.isolated.iter().copied()))
    };
    format!(
        "{} logical on {}, {}; {isolated}",
        facts.cores.len(),
        counted(physical.len(), "physical core"),
        counted(nodes.len().max(1), "NUMA node")
    )
}

fn missing(facts: &Facts, config: &Config) -> Option<Finding> {
    let director = &config.director;
    let missing: Vec<_> = director
        .worker_cores
        .iter()
        .chain(&director.management_core)
        .copied()
        .filter(|core| !facts.cores.contains_key(core))
        .collect();
    (!missing.is_empty()).then(|| {
        let online = list(facts.cores.keys().copied());
        Finding::error(
            "cores",
            format!("{} not online; {online} are", core_list(missing)),
            "set `workers` and `management_core` in [director] to cores that are online",
        )
    })
}

/// Only a worker that polls suffers from sharing: an adaptive one gives way
/// all the time by itself.
fn isolation(facts: &Facts, config: &Config) -> Finding {
    let workers = &config.director.worker_cores;
    let polls = match config.director.idle {
        Some(idle) => idle == IdlePolicy::Poll,
        None => config
            .ports
            .iter()
            .any(|port| matches!(port.device, Device::Pci(_))),
    };
    let lacking = |set: &BTreeSet<usize>| -> Vec<_> {
        workers
            .iter()
            .copied()
            .filter(|core| !set.contains(core))
            .collect()
    };
    let (shared, ticking) = (lacking(&facts.isolated), lacking(&facts.nohz_full));
    if !polls {
        return Finding::ok(
            "isolation",
            "workers are adaptive and need no cores of their own",
        );
    }
    if shared.is_empty() && ticking.is_empty() {
        return Finding::ok(
            "isolation",
            format!("workers have {} alone", core_list(workers.iter().copied())),
        );
    }
    let mut found = Vec::new();
    if !shared.is_empty() {
        found.push(format!(
            "the kernel runs other programs on {}",
            core_list(shared)
        ));
    }
    if !ticking.is_empty() {
        found.push(format!("the timer interrupts {}", core_list(ticking)));
    }
    let cores = list(workers.iter().copied());
    Finding::warning(
        "isolation",
        format!("worker cores are not theirs alone: {}", found.join("; ")),
        format!(
            "add isolcpus={cores} nohz_full={cores} rcu_nocbs={cores} to GRUB_CMDLINE_LINUX in \
             /etc/default/grub, then update-grub and reboot"
        ),
    )
}

fn siblings(facts: &Facts, config: &Config) -> Finding {
    let director = &config.director;
    let mut threads = director.worker_cores.clone();
    threads.extend(director.management_core);
    let shared = threads.iter().enumerate().find_map(|(place, &first)| {
        let siblings = &facts.cores.get(&first)?.siblings;
        let second = threads
            .iter()
            .skip(place + 1)
            .find(|second| siblings.contains(second))?;
        Some((first, *second))
    });
    match shared {
        None => Finding::ok(
            "siblings",
            "no two threads of the director share a physical core",
        ),
        Some((first, second)) if first == second => Finding::warning(
            "siblings",
            format!("core {first} is both a worker's and the management thread's"),
            "set `management_core` in [director] to another core",
        ),
        Some((first, second)) => Finding::warning(
            "siblings",
            format!("cores {first} and {second} are hyperthreads of one physical core"),
            "use one of them in `workers`; each gets about half of the core's speed",
        ),
    }
}

fn governor(facts: &Facts, cores: &[usize]) -> Finding {
    let governors: Vec<_> = cores
        .iter()
        .filter_map(|core| Some((*core, facts.cores.get(core)?.governor.as_deref()?)))
        .collect();
    let slow: Vec<_> = governors
        .iter()
        .filter(|(_, governor)| *governor != "performance")
        .collect();
    match slow.first() {
        None if governors.is_empty() => Finding::ok(
            "governor",
            "the kernel does not change the frequency of cores",
        ),
        None => Finding::ok("governor", "cores run with the governor \"performance\""),
        Some((_, name)) => {
            let slow: Vec<_> = slow.iter().map(|(core, _)| *core).collect();
            let cores = list(slow.iter().copied());
            Finding::warning(
                "governor",
                format!("{} may run slowly: governor \"{name}\"", core_list(slow)),
                format!("cpupower -c {cores} frequency-set -g performance"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Level,
        fake::{FakeRoot, assert_all_ok, config, findings, one},
    };

    #[test]
    fn a_prepared_machine_is_ok() {
        let found = findings(check, &FakeRoot::machine(), Some(&config()));
        assert_all_ok(&found);
        one(
            &found,
            "cores",
            "8 logical on 4 physical cores, 2 NUMA nodes; 2-5 isolated",
        );
        one(&found, "isolation", "workers have cores 2,4 alone");
    }

    #[test]
    fn without_a_configuration_only_the_machine_is_described() {
        let found = findings(check, &FakeRoot::machine(), None);
        assert_all_ok(&found);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_core_that_is_offline_is_an_error() {
        let mut config = config();
        config.director.worker_cores = vec![2, 64];
        let found = findings(check, &FakeRoot::machine(), Some(&config));
        let finding = one(&found, "cores", "core 64 not online; 0-7 are");
        assert_eq!(finding.level, Level::Error);
    }

    #[test]
    fn cores_that_are_not_isolated_are_a_warning() {
        let fake = FakeRoot::machine();
        fake.write("sys/devices/system/cpu/isolated", "2\n");
        fake.write("sys/devices/system/cpu/nohz_full", "\n");
        let found = findings(check, &fake, Some(&config()));
        let finding = one(
            &found,
            "isolation",
            "other programs on core 4; the timer interrupts cores 2,4",
        );
        assert_eq!(finding.level, Level::Warning);
        assert!(
            finding
                .mend
                .as_ref()
                .unwrap()
                .contains("isolcpus=2,4 nohz_full=2,4")
        );
    }

    #[test]
    fn adaptive_workers_need_no_isolated_cores() {
        let fake = FakeRoot::machine();
        fake.remove("sys/devices/system/cpu/isolated");
        let mut config = config();
        config.director.idle = Some(IdlePolicy::Adaptive);
        assert_all_ok(&findings(check, &fake, Some(&config)));
    }

    #[test]
    fn workers_on_one_physical_core_are_a_warning() {
        let mut config = config();
        config.director.worker_cores = vec![2, 3];
        let found = findings(check, &FakeRoot::machine(), Some(&config));
        let finding = one(&found, "siblings", "cores 2 and 3 are hyperthreads");
        assert_eq!(finding.level, Level::Warning);
    }

    #[test]
    fn the_management_thread_on_a_worker_s_core_is_a_warning() {
        let mut config = config();
        config.director.management_core = Some(4);
        let found = findings(check, &FakeRoot::machine(), Some(&config));
        one(
            &found,
            "siblings",
            "core 4 is both a worker's and the management thread's",
        );
    }

    #[test]
    fn a_saving_governor_is_a_warning_for_workers_only() {
        let fake = FakeRoot::machine();
        fake.write(
            "sys/devices/system/cpu/cpu4/cpufreq/scaling_governor",
            "powersave\n",
        );
        fake.write(
            "sys/devices/system/cpu/cpu7/cpufreq/scaling_governor",
            "powersave\n",
        );
        let found = findings(check, &fake, Some(&config()));
        let finding = one(
            &found,
            "governor",
            "core 4 may run slowly: governor \"powersave\"",
        );
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.mend.as_ref().unwrap().contains("-c 4 "));
    }
}
