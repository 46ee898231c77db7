//! Which cases are replayed, and what came of it.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
};

use crate::{
    case::{self, Case, Step},
    interpret::{Action, interpret},
    lists::Intended,
    namespace::has_program,
    process::RunningDirector,
    replay, shell,
};

/// Of each group at least one that needs no long time and nothing that only a
/// restart can change.
const CASES: &[&str] = &[
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
fn hindrance() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces take root".to_owned());
    }
    for program in ["ip", "setpriv"] {
        if !has_program(program) {
            return Some(format!(
                "{program} is missing; scripts/setup.sh --tests installs it"
            ));
        }
    }
    (!Path::new("/dev/net/tun").exists()).then(|| "ports need /dev/net/tun".to_owned())
}

/// Replays the cases whose name has one of the words among the arguments, or
/// all. Returns whether all went well.
fn run(arguments: Vec<String>) -> Result<bool, String> {
    if arguments.iter().any(|argument| argument == "--list") {
        for name in CASES {
            println!("{name}: test");
        }
        return Ok(true);
    }
    let words: Vec<_> = arguments
        .into_iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let mut cases = case::read_folder(&folder)?;
    let intended = Intended::parse(INTENDED)?;
    let hindrance = hindrance();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for name in CASES {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let case = cases.iter_mut().find(|case| case.name == *name);
        let case = case.ok_or_else(|| format!("there is no case {name}"))?;
        end_before_long_waits(case)?;
        if let Some(reason) = hindrance.as_deref() {
            println!("skipped: black_box {name}: {reason}");
            skipped += 1;
            continue;
        }
        match replay_case(case, &intended) {
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
fn replay_case(case: &Case, intended: &Intended) -> Result<(), String> {
    let macs = case.mac_director.each_ref().map(String::as_str);
    let replay = || {
        replay::replay(case, intended, |network| {
            RunningDirector::new(driver_for(&case.name), network, macs)
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
