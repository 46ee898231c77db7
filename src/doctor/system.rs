//! The rest: clock, privileges, limits, modules, DPDK itself, the director.
#![forbid(unsafe_code)]

use super::{
    Case, Finding,
    facts::{Facts, Limit, Module},
};
use crate::{
    config::{Config, Device},
    version::LONG_VERSION,
};

pub(super) fn check(case: Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let mut findings = vec![
        dpdk(),
        clock(facts),
        tun(facts),
        ipip(facts),
        director(case),
    ];
    if let Some(config) = case.config {
        findings.extend(privileges(facts));
        findings.extend(locked_memory(facts, config));
    }
    findings
}

fn dpdk() -> Finding {
    if !cfg!(feature = "dpdk") {
        return Finding::error(
            "dpdk",
            format!("pointsman {LONG_VERSION} was built without DPDK and cannot run a director"),
            "scripts/setup.sh && cargo build --release",
        );
    }
    Finding::ok("dpdk", format!("built with DPDK: pointsman {LONG_VERSION}"))
}

fn clock(facts: &Facts) -> Finding {
    match facts.clock_source.as_deref() {
        None => Finding::ok("clock", "the kernel does not name its clock source"),
        // kvm-clock reads the same counter, without a system call.
        Some(name @ ("tsc" | "kvm-clock" | "arch_sys_counter")) => {
            Finding::ok("clock", format!("clock source {name}"))
        }
        Some(name) => Finding::warning(
            "clock",
            format!(
                "clock source {name}: slow to read, and the time stamp counter may be unstable"
            ),
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, or add \
             tsc=reliable to GRUB_CMDLINE_LINUX in /etc/default/grub if the kernel refuses",
        ),
    }
}

fn tun(facts: &Facts) -> Finding {
    if facts.tun_device {
        Finding::ok("tun", "/dev/net/tun is there")
    } else {
        Finding::warning(
            "tun",
            "/dev/net/tun is missing: no tap ports, no `pointsman realserver`",
            "modprobe tun",
        )
    }
}

/// Matters on real servers only, which may be this machine.
fn ipip(facts: &Facts) -> Finding {
    Finding::ok(
        "ipip",
        match facts.ipip {
            Module::Loaded => "this kernel has ipip; as a real server: scripts/realserver.sh",
            Module::Loadable => {
                "this kernel can load ipip; as a real server: scripts/realserver.sh"
            }
            Module::Missing => "this kernel has no ipip; as a real server: pointsman realserver",
        },
    )
}

fn director(case: Case<'_>) -> Finding {
    let which = if case.config.is_some() {
        " with this configuration"
    } else {
        ""
    };
    if let Some(error) = case.silent {
        return Finding::warning(
            "director",
            format!("it could not be asked: {error}"),
            "ask as root; if it hangs, see its log",
        );
    }
    match case.running {
        None => Finding::ok("director", format!("none is running{which}")),
        Some(running) => Finding::ok(
            "director",
            format!(
                "process {} runs{which}, version {}",
                running.director.pid, running.director.version
            ),
        ),
    }
}

/// What DPDK and software ports do: lock memory, open raw sockets, change
/// interfaces, read physical addresses.
fn privileges(facts: &Facts) -> Option<Finding> {
    let needed = [
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        (CAP_NET_RAW, "CAP_NET_RAW"),
        (CAP_IPC_LOCK, "CAP_IPC_LOCK"),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    ];
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|(bit, _)| facts.capabilities & (1 << bit) == 0)
        .map(|(_, name)| name)
        .collect();
    (!missing.is_empty()).then(|| {
        Finding::warning(
            "privileges",
            format!(
                "this user lacks {}, which a director needs",
                missing.join(", ")
            ),
            "run the director as root (sudo pointsman run ...)",
        )
    })
}

/// vfio locks all of DPDK's memory.
fn locked_memory(facts: &Facts, config: &Config) -> Option<Finding> {
    if !config
        .ports
        .iter()
        .any(|port| matches!(port.device, Device::Pci(_)))
    {
        return None;
    }
    let needed = u64::from(config.eal.memory_mib) << 20;
    match facts.memlock? {
        _ if facts.capabilities & (1 << CAP_IPC_LOCK) != 0 => Some(Finding::ok(
            "memlock",
            "this user may lock any amount of memory",
        )),
        Limit::Bytes(limit) if limit < needed => Some(Finding::error(
            "memlock",
            format!(
                "{} MiB may be locked, {} MiB are needed",
                limit >> 20,
                needed >> 20
            ),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
        )),
        Limit::Bytes(_) | Limit::Unlimited => {
            Some(Finding::ok("memlock", "enough memory may be locked"))
        }
    }
}

/// Bits of `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::socket::QueryError;
    use crate::doctor::{
        Level,
        fake::{FakeRoot, assert_all_ok, config, findings, one, port, running},
    };

    /// Without the one about DPDK, which depends on the build.
    fn found(fake: &FakeRoot, config: Option<&Config>) -> Vec<Finding> {
        let mut found = findings(check, fake, config);
        found.retain(|finding| finding.subject != "dpdk");
        found
    }

    #[test]
    fn a_prepared_machine_is_ok() {
        let found = found(&FakeRoot::machine(), Some(&config()));
        assert_all_ok(&found);
        one(&found, "clock", "clock source tsc");
        one(&found, "ipip", "this kernel has ipip");
        one(&found, "memlock", "any amount");
        one(
            &found,
            "director",
            "none is running with this configuration",
        );
    }

    #[test]
    fn dpdk_is_an_error_exactly_when_it_is_not_built_in() {
        let found = findings(check, &FakeRoot::machine(), None);
        let expected = if cfg!(feature = "dpdk") {
            Level::Ok
        } else {
            Level::Error
        };
        assert_eq!(one(&found, "dpdk", "built with").level, expected);
    }

    #[test]
    fn a_slow_clock_is_a_warning() {
        let fake = FakeRoot::machine();
        fake.write(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
        );
        let found = found(&fake, None);
        assert_eq!(
            one(&found, "clock", "clock source hpet").level,
            Level::Warning
        );
    }

    #[test]
    fn a_kernel_without_tun_is_a_warning() {
        let fake = FakeRoot::machine();
        fake.remove("dev/net/tun");
        let found = found(&fake, None);
        assert_eq!(
            one(&found, "tun", "missing").mend.as_deref(),
            Some("modprobe tun")
        );
    }

    #[test]
    fn a_kernel_without_ipip_is_pointed_to_the_program() {
        let fake = FakeRoot::machine();
        fake.remove("sys/module/ipip");
        one(
            &found(&fake, None),
            "ipip",
            "as a real server: pointsman realserver",
        );
        fake.write(
            "lib/modules/6.1.0-test/modules.dep",
            "kernel/net/ipv4/ipip.ko: x\n",
        );
        one(&found(&fake, None), "ipip", "this kernel can load ipip");
    }

    #[test]
    fn a_user_without_privileges_is_warned() {
        let fake = FakeRoot::machine();
        fake.write("proc/self/status", "CapEff:\t0000000000002000\n");
        let found = found(&fake, Some(&config()));
        let finding = one(
            &found,
            "privileges",
            "lacks CAP_NET_ADMIN, CAP_IPC_LOCK, CAP_SYS_ADMIN,",
        );
        assert_eq!(finding.level, Level::Warning);
    }

    #[test]
    fn a_low_limit_of_locked_memory_is_an_error_with_vfio_only() {
        let fake = FakeRoot::machine();
        fake.write("proc/self/status", "CapEff:\t0000000000000000\n");
        let mut config = config();
        let finding = found(&fake, Some(&config));
        let finding = one(
            &finding,
            "memlock",
            "8 MiB may be locked, 1024 MiB are needed",
        );
        assert_eq!(finding.level, Level::Error);
        fake.write(
            "proc/self/limits",
            "Max locked memory         unlimited  unlimited  bytes\n",
        );
        one(
            &found(&fake, Some(&config)),
            "memlock",
            "enough memory may be locked",
        );
        config.ports = vec![port(Device::Vdev("net_tap0".to_owned()))];
        let found = found(&fake, Some(&config));
        assert!(found.iter().all(|finding| finding.subject != "memlock"));
    }

    #[test]
    fn a_running_director_is_named() {
        let (facts, running) = (FakeRoot::machine().facts(), running());
        let found = check(Case {
            facts: &facts,
            config: None,
            running: Some(&running),
            silent: None,
            probed: None,
        });
        one(&found, "director", "process 42 runs, version 0.1.0");
    }

    #[test]
    fn a_director_that_cannot_be_asked_is_a_warning() {
        let facts = FakeRoot::machine().facts();
        let error = QueryError::NoPermission("/run/pointsman/control.sock".into());
        let found = check(Case {
            facts: &facts,
            config: None,
            running: None,
            silent: Some(&error),
            probed: None,
        });
        let finding = one(
            &found,
            "director",
            "could not be asked: /run/pointsman/control.sock",
        );
        assert_eq!(finding.level, Level::Warning);
    }
}
