//! Which cases are replayed, and what came of it.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use tempfile::TempDir;

use crate::{
    case::{self, Case, Step},
    installed::Tools,
    interpret::{Action, interpret},
    lists::Intended,
    namespace::has_program,
    process::{By, RunningDirector},
    replay, shell,
};

/// Those replayed with files: of each group at least one that needs no long time
/// and nothing that only a restart can change.
const BY_FILE: &[&str] = &[
    "01_encap_basic",
    "02_mtu_pmtu_disc1",
    "03_fragments",
    "04_icmp_client_side",
    "04_icmp_from_tunnel_path",
    "04_icmp_schedule_icmp1",
    "05_ttl_ipforward0",
    "06_deleted_dest_expire_nodest1",
    "06_noconn_sloppy1",
    "07_dh_24vips_w321",
    "07_mh_24src_w321",
    "07_sh_24src_then_w0",
    "07_wlc_w321_x2_y1",
    "07_wrr_w321",
    "08_fwmark",
    "08_fwmark_nonlocal",
    "08_ops",
    "08_persistent",
    "08_port0",
    "09_tcp_syn_ack_fin_ack",
    "09_timeouts_default",
    "10_6in6",
    "10_v4svc_v6server",
    "10_v6svc_v4server",
    "11_gue_csum",
    "11_gre_nocsum",
    "11_gue_remcsum",
    "12_conn_reuse_mode1",
    "12_dynamic_rr",
    "12_secure_tcp3",
    "13_sctp",
    "r_ext_02",
    "r_lblc_00",
    "r_mix_00",
    "r_mix_02",
    "r_persist_06",
    "r_tun_01",
    "r_v6_01",
];

/// Those that are not replayed with `ipvsadm`, and why.
const NOT_BY_IPVSADM: &[(&str, &str)] = &[
    (
        "02_mtu_srv80",
        "has IPv6 on a port with an MTU of 80, which the configuration refuses",
    ),
    (
        "13_default_icmp_ratelimit",
        "counts how much time goes by between two packets",
    ),
];

/// What a step may wait for.
const WAIT_MS_MAX: u64 = 5000;

const INTENDED: &str = include_str!("../oracle/intended.toml");

pub fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("black_box: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Why nothing can be replayed here.
fn hindrance(by: By) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces take root".to_owned());
    }
    let programs: &[&str] = match by {
        By::File => &["ip", "setpriv"],
        By::Ipvsadm => &["ip", "setpriv", "ipvsadm"],
    };
    for program in programs {
        if !has_program(program) && !Path::new("/usr/sbin").join(program).exists() {
            return Some(format!(
                "{program} is missing; scripts/setup.sh --tests installs it"
            ));
        }
    }
    (!Path::new("/dev/net/tun").exists()).then(|| "ports need /dev/net/tun".to_owned())
}

/// What there is to replay, each under its name.
fn replays(cases: &[Case]) -> Result<Vec<(String, By, &Case)>, String> {
    let find = |name: &str| {
        let case = cases.iter().find(|case| case.name == name);
        case.ok_or_else(|| format!("there is no case {name}"))
    };
    for (name, _) in NOT_BY_IPVSADM {
        find(name)?;
    }
    let by_file = BY_FILE.iter().map(|name| {
        let case = find(name)?;
        Ok((format!("file {name}"), By::File, case))
    });
    let is_replayed = |case: &&Case| !NOT_BY_IPVSADM.iter().any(|(name, _)| *name == case.name);
    let by_ipvsadm = cases.iter().filter(is_replayed).map(|case| {
        let name = format!("ipvsadm {}", case.name);
        Ok((name, By::Ipvsadm, case))
    });
    by_file.chain(by_ipvsadm).collect()
}

/// Replays the cases whose name has one of the words among the arguments, or
/// all. Returns whether all went well.
fn run(arguments: Vec<String>) -> Result<bool, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let mut cases = case::read_folder(&folder)?;
    cases.iter_mut().try_for_each(end_before_long_waits)?;
    let replays = replays(&cases)?;
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, ..) in replays {
            println!("{name}: test");
        }
        return Ok(true);
    }
    let words: Vec<_> = arguments
        .into_iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let intended = Intended::parse(INTENDED)?;
    let directory = TempDir::new().map_err(|error| error.to_string())?;
    let mut tools = None;
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, by, case) in replays {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        if let Some(reason) = hindrance(by) {
            println!("skipped: black_box {name}: {reason}");
            skipped += 1;
            continue;
        }
        let tools = (by == By::Ipvsadm).then(|| {
            &*tools.get_or_insert_with(|| Tools::install(directory.path(), PathBuf::new()))
        });
        match replay_case(tools, case, &intended) {
            Ok(()) => passed += 1,
            Err(problem) => {
                println!("failed: black_box {name}: {problem}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

/// The kernel puts fragments together before it hands them to the packet socket
/// of `net_af_packet` (`PACKET_FANOUT_FLAG_DEFRAG`, which DPDK asks for), so that
/// their case is for another driver.
fn driver_for(case: &str) -> &'static str {
    if case.starts_with("03_") {
        "net_af_xdp"
    } else {
        "net_af_packet"
    }
}

/// Leaves out the steps from the first one on that waits for long.
fn end_before_long_waits(case: &mut Case) -> Result<(), String> {
    let mut waits = None;
    for (index, step) in case.steps.iter().enumerate() {
        let (Step::Config(step) | Step::Cmd(step)) = step else {
            continue;
        };
        let is_long =
            |pipeline| matches!(interpret(pipeline), Ok(Action::SleepMs(ms)) if ms > WAIT_MS_MAX);
        if shell::parse(&step.cmd)?.iter().any(is_long) {
            waits = Some(index);
            break;
        }
    }
    case.steps.truncate(waits.unwrap_or(case.steps.len()));
    Ok(())
}

/// Replays a case; a panic is a failure of that case alone.
fn replay_case(tools: Option<&Tools>, case: &Case, intended: &Intended) -> Result<(), String> {
    let macs = case.mac_director.each_ref().map(String::as_str);
    let replay = || {
        replay::replay(case, intended, |network| {
            RunningDirector::new(tools, driver_for(&case.name), network, macs)
        })
    };
    match catch_unwind(AssertUnwindSafe(replay)) {
        Ok(result) => result.map_err(|failure| failure.to_string()),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!(
                "panicked: {}",
                message.unwrap_or("without a message")
            ))
        }
    }
}
