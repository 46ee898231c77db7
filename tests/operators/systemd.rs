//! What `scripts/install.sh` installs, under a real systemd: a container with
//! the tree of this machine, of which it changes a copy in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    installed::{Said, built},
    support::{Lab, Shape, skipped, wait_for, wait_long_for},
    tools::has,
};

/// Mounts are private, processes end with the first one, and systemd gets the
/// part of /sys that DPDK reads and a container has not.
const BOOT: &str = r#"
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
unit=()
[ -d /run/systemd/system ] || unit=(--keep-unit)
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
exec systemd-nspawn --quiet --directory=/mnt/root --machine="$1" --bind-ro="$2" --bind-ro="$3" \
    --private-network --register=no "${unit[@]}" --capability=all --console=pipe \
    --link-journal=no --boot -- --unit=basic.target
"#;

const PREPARE: &str = "
set -e
mkdir -p /mnt/sys /sys/module
mount -t sysfs sysfs /mnt/sys
mount --bind /mnt/sys/module /sys/module
rm -rf /var/lib/pointsman
getent passwd pointsman ||
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin pointsman
ip link add lan type veth peer name peer
ip link set lan up
ip link set peer up
mkdir -p /etc/pointsman
";

const CONFIGURATION: &str = r#"
[director]
workers = [0]
user = "pointsman"
idle = "adaptive"
connections_max = 1024

[eal]
hugepages = "none"
memory_mib = 64

[[port]]
name = "lan"
device = "net_af_packet0,iface=lan"
addresses = ["192.0.2.10/24"]

[[service]]
address = "198.51.100.10:80"

[[service.real_server]]
address = "192.0.2.11"
"#;

const KEEPALIVED: &str = "
virtual_server 198.51.100.12 80 {
    delay_loop 1
    lvs_sched rr
    lvs_method TUN
    protocol TCP
    real_server 192.0.2.12 80 {
        weight 5
    }
}
";

/// For `WatchdogSec`, `RestartSec` and a start.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A machine with a systemd of its own, which ends with its test.
struct Machine {
    nspawn: Child,
    systemd: u32,
    log: PathBuf,
}

impl Machine {
    /// `None`, with the reason printed, where there can be none.
    fn boot(test: &str, lab: &Lab) -> Option<Self> {
        if !has(test, "systemd-nspawn") || !has(test, "systemctl") {
            return None;
        }
        let log = lab.path("nspawn.log");
        let file = fs::File::create(&log).unwrap();
        let name = format!("pointsman-test-{}", std::process::id());
        let mut nspawn = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--mount",
                "--pid",
                "--mount-proc",
            ])
            .args(["--propagation", "private", "--fork", "--kill-child"])
            .args([
                "bash",
                "-euc",
                BOOT,
                "bash",
                &name,
                env!("CARGO_MANIFEST_DIR"),
            ])
            .arg(built())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut systemd = None;
        wait_for("systemd has started, or cannot", || {
            systemd = child_of(nspawn.id())
                .and_then(child_of)
                .filter(|id| is_up(*id));
            systemd.is_some() || nspawn.try_wait().unwrap().is_some()
        });
        let Some(systemd) = systemd else {
            let said = fs::read_to_string(&log).unwrap();
            let said: Vec<_> = said.lines().collect();
            skipped(test, &format!("systemd-nspawn: {}", said.join("; ")));
            return None;
        };
        Some(Self {
            nspawn,
            systemd,
            log,
        })
    }

    /// Runs lines of a shell in it.
    fn run(&self, lines: &str) -> Said {
        Said::from(within(self.systemd).arg(lines).output().unwrap())
    }

    #[track_caller]
    fn ok(&self, lines: &str) -> String {
        let said = self.run(lines);
        assert_eq!(said.code, Some(0), "{lines}: {said:?}\n{}", self.journal());
        said.out
    }

    fn journal(&self) -> String {
        let journal = self.run("journalctl --unit pointsman --unit keepalived --no-pager");
        journal.out + &fs::read_to_string(&self.log).unwrap()
    }

    fn property(&self, name: &str) -> String {
        let lines = format!("systemctl show --property {name} --value pointsman");
        self.ok(&lines).trim_end().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process of the namespace takes all the others with it.
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        // What is left of it where no systemd of the machine cleans up.
        // Its processes may take a moment to be gone.
        for _ in 0..50 {
            if GROUPS.iter().all(|group| remove_groups(Path::new(group))) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What systemd-nspawn calls them, in every kind of hierarchy.
const GROUPS: [&str; 6] = [
    "/sys/fs/cgroup/payload",
    "/sys/fs/cgroup/supervisor",
    "/sys/fs/cgroup/systemd/payload",
    "/sys/fs/cgroup/systemd/supervisor",
    "/sys/fs/cgroup/unified/payload",
    "/sys/fs/cgroup/unified/supervisor",
];

/// Returns whether the group is gone.
fn remove_groups(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

/// A shell in the machine whose first process this is.
fn within(systemd: u32) -> Command {
    let mut command = Command::new("timeout");
    let target = systemd.to_string();
    command.args(["60", "nsenter", "--target", &target, "--all", "bash", "-c"]);
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.stdin(Stdio::null());
    command
}

fn child_of(process: u32) -> Option<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = fs::read_to_string(path).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn is_up(systemd: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{systemd}/comm"));
    name.is_ok_and(|name| name == "systemd\n")
        && within(systemd)
            .arg("systemctl is-active basic.target")
            .output()
            .is_ok_and(|output| output.status.success())
}

#[test]
fn the_units_work_under_a_real_systemd() {
    const NAME: &str = "the_units_work_under_a_real_systemd";
    // For its folder, and for what it needs.
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    if !has(NAME, "keepalived") || !has(NAME, "ipvsadm") {
        return;
    }
    let Some(machine) = Machine::boot(NAME, &lab) else {
        return;
    };
    machine.ok(PREPARE);
    let write = |path: &str, text: &str| {
        machine.ok(&format!("cat >{path} <<'END'\n{text}END\n"));
    };
    write("/etc/pointsman/director.toml", CONFIGURATION);
    write("/etc/keepalived/keepalived.conf", KEEPALIVED);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh");
    machine.ok(&format!("{script} --from {}", built().display()));
    machine.ok("man --where pointsman-run");

    // It says when it is ready: its tools work from then on.
    machine.ok("systemctl start pointsman");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(
        machine.property("StatusText"),
        "1 workers, 1 services, generation 1"
    );
    let user = machine.ok("ps -o user:20= -p $(systemctl show -P MainPID pointsman)");
    assert_eq!(user.trim_end(), "pointsman");
    machine.ok("ipvsadm -A -t 198.51.100.11:80 -s wlc");

    // keepalived is led to it by the drop-in of its unit.
    machine.ok("systemctl start keepalived");
    let rules = || machine.ok("ipvsadm -Sn");
    let added = "-a -t 198.51.100.12:80 -r 192.0.2.12:80 -i -w 5";
    wait_for("keepalived has added its server", || {
        rules().contains(added)
    });
    machine.ok("systemctl stop keepalived");
    wait_for("keepalived has taken it back", || !rules().contains(added));
    let before = rules();
    assert!(before.contains("-A -t 198.51.100.11:80 -s wlc"), "{before}");

    // A reload ends when it is done, and what was set outlives the director.
    machine.ok("systemctl reload pointsman");
    let status = machine.property("StatusText");
    assert!(status.starts_with("1 workers, 2 services, "), "{status}");
    machine.ok("systemctl restart pointsman");
    assert_eq!(rules(), before, "{}", machine.journal());

    // One that hangs is killed and started anew.
    machine.ok("kill -STOP $(systemctl show -P MainPID pointsman)");
    wait_long_for(WATCHDOG, "it is started anew", || {
        machine.property("NRestarts") == "1" && machine.property("ActiveState") == "active"
    });
    assert_eq!(rules(), before, "{}", machine.journal());

    machine.ok("systemctl stop pointsman");
    assert_eq!(machine.property("Result"), "success");
    machine.ok("[ ! -e /run/pointsman/control.sock ] && [ -s /var/lib/pointsman/pointsman.json ]");
    machine.ok(&format!("{script} --uninstall"));
    assert_ne!(machine.run("systemctl cat pointsman").code, Some(0));
}
