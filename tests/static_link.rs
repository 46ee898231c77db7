//! A program that has DPDK inside (`POINTSMAN_DPDK_LINK=static`): it is built
//! here, beside the one that all other tests use, and runs without any library
//! of DPDK.
#![cfg(feature = "dpdk")]
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes functions that tests call for no part of them"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// The constructors of the drivers that no such program may be without, unless
/// this DPDK was built without them.
const DRIVERS: [(&str, &str); 21] = [
    ("net_af_packet", "vdrvinitfn_pmd_af_packet_drv"),
    ("net_af_xdp", "vdrvinitfn_pmd_af_xdp_drv"),
    ("net_bnxt", "pciinitfn_net_bnxt"),
    ("net_bond", "vdrvinitfn_pmd_bond_drv"),
    ("net_e1000", "pciinitfn_net_e1000_em"),
    ("net_e1000", "pciinitfn_net_e1000_igb"),
    ("net_ena", "pciinitfn_net_ena"),
    ("net_i40e", "pciinitfn_net_i40e"),
    ("net_iavf", "pciinitfn_net_iavf"),
    ("net_ice", "pciinitfn_net_ice"),
    ("net_ixgbe", "pciinitfn_net_ixgbe"),
    ("net_memif", "vdrvinitfn_pmd_memif_drv"),
    ("net_mlx5", "rte_mlx5_pmd_init"),
    ("net_null", "vdrvinitfn_pmd_null_drv"),
    ("net_pcap", "vdrvinitfn_pmd_pcap_drv"),
    ("net_ring", "vdrvinitfn_pmd_ring_drv"),
    ("net_tap", "vdrvinitfn_pmd_tap_drv"),
    ("net_vhost", "vdrvinitfn_pmd_vhost_drv"),
    ("net_virtio", "rte_virtio_net_pci_pmd_init"),
    ("net_virtio", "vdrvinitfn_virtio_user_driver"),
    ("net_vmxnet3", "pciinitfn_net_vmxnet3"),
];

#[test]
fn a_static_program_has_its_drivers_and_no_library_of_dpdk() {
    let Some(program) = program("a_static_program_has_its_drivers_and_no_library_of_dpdk") else {
        return;
    };
    let program = program.to_str().unwrap();
    let version = output("", &[program, "--version"]);
    let first = version.lines().next().unwrap();
    assert!(first.ends_with(", static)"), "{version}");
    let libraries = output("", &["ldd", program]);
    assert!(libraries.contains("libc.so"), "{libraries}");
    assert!(!libraries.contains("librte_"), "{libraries}");

    let symbols = output("", &["nm", program]);
    let symbols: Vec<&str> = symbols.split_whitespace().collect();
    for (driver, constructor) in DRIVERS {
        let archive = archives().join(format!("librte_{driver}.a"));
        assert!(
            !archive.exists() || symbols.contains(&constructor),
            "{driver}: {constructor}"
        );
    }
}

#[test]
fn a_static_program_runs_on_ports_of_dpdk_alone() {
    let test = "a_static_program_runs_on_ports_of_dpdk_alone";
    let Some(program) = program(test) else {
        return;
    };
    let mut director = Director::start(program, "", ["net_null0,size=64", "net_ring0"]);
    assert_eq!(director.drivers(), ["net_null", "net_ring"]);
    director.check_libraries();
    assert!(director.end().success());
}

#[test]
fn a_static_program_runs_on_interfaces_of_the_kernel() {
    let test = "a_static_program_runs_on_interfaces_of_the_kernel";
    let Some(program) = program(test) else {
        return;
    };
    let may = Command::new("unshare")
        .args(["--net", "ip", "link"])
        .output();
    if !may.is_ok_and(|output| output.status.success()) {
        println!("skipped: {test}: network namespaces take root and iproute2");
        return;
    }
    let cable = "ip link add pm-a type veth peer name pm-b && ip link set pm-a up && ip link set pm-b up && ";
    let devices = ["net_af_packet0,iface=pm-a", "net_af_packet1,iface=pm-b"];
    let mut director = Director::start(program, cable, devices);
    assert_eq!(director.drivers(), ["net_af_packet", "net_af_packet"]);
    director.check_libraries();
    assert!(director.end().success());
}

/// The program, built when the first test needs it; `None`, with the reason
/// printed, where DPDK has no static libraries.
fn program(test: &str) -> Option<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let eal = archives().join("librte_eal.a");
    if !eal.exists() {
        println!("skipped: {test}: {} is missing", eal.display());
        return None;
    }
    Some(PROGRAM.get_or_init(|| {
        // Another folder, so that neither build throws away the other's work.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
        let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--locked", "--bin", "pointsman", "--target-dir"])
            .arg(&target)
            .env("POINTSMAN_DPDK_LINK", "static")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the static build: {status}");
        target.join("debug/pointsman")
    }))
}

/// Where libraries of DPDK are.
fn archives() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let words = ["pkg-config", "--variable=libdir", "libdpdk"];
        output("", &words).trim().into()
    })
}

/// What a command says, after `before` in a shell.
fn output(before: &str, words: &[&str]) -> String {
    let output = command(before, words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command; when there is anything to do before, in a network of its own.
fn command(before: &str, words: &[&str]) -> Command {
    let (first, rest) = words.split_first().unwrap();
    if before.is_empty() {
        let mut command = Command::new(first);
        command.args(rest);
        return command;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c"])
        .arg(format!("{before} exec \"$@\""))
        .arg("sh")
        .args(words);
    command
}

/// A running director, killed at the end if it has not ended by then.
struct Director {
    child: Child,
    program: &'static Path,
    directory: TempDir,
}

impl Director {
    fn start(program: &'static Path, before: &str, devices: [&str; 2]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name| directory.path().join(name).display().to_string();
        let file = path("director.toml");
        let director = format!(
            "[director]\nidle = \"adaptive\"\nconnections_max = 2000\ncontrol_socket = \"{}\"\n\
             state_file = \"none\"\n\
             [eal]\nhugepages = \"none\"\nmemory_mib = 128\nfile_prefix = \"pmstatic{}{}\"\n",
            path("control.sock"),
            std::process::id(),
            devices.concat().len()
        );
        let ports = devices.iter().enumerate().map(|(number, device)| {
            format!(
                "[[port]]\nname = \"p{number}\"\ndevice = \"{device}\"\n\
                 addresses = [\"10.0.{number}.1/24\"]\n"
            )
        });
        let text: String = std::iter::once(director).chain(ports).collect();
        fs::write(&file, text).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let words = [program.to_str().unwrap(), "run", "--config", &file];
        let child = command(before, &words)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut director = Self {
            child,
            program,
            directory,
        };
        director.wait_for("it is ready", |director| {
            let ended = director.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", director.log());
            director.log().contains("ready: ")
        });
        director
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The drivers of its ports.
    fn drivers(&self) -> Vec<String> {
        let socket = self.directory.path().join("control.sock");
        let (program, socket) = (self.program.to_str().unwrap(), socket.to_str().unwrap());
        let words = [program, "show", "ports", "--json", "--socket", socket];
        let ports: Value = serde_json::from_str(&output("", &words)).unwrap();
        let ports = ports.as_array().unwrap();
        let drivers = ports.iter().map(|port| port["driver"].as_str().unwrap());
        drivers.map(str::to_owned).collect()
    }

    /// None of DPDK has been loaded behind the linker's back.
    fn check_libraries(&self) {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap();
        assert!(maps.contains("libc.so"), "{maps}");
        assert!(!maps.contains("librte_"), "{maps}");
    }

    /// Ends it as an operator does.
    fn end(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut status = None;
        self.wait_for("it ends", |director| {
            status = director.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
