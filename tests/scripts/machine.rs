//! A machine made of files, and what a script says on it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use tempfile::TempDir;

use crate::{CONF, NIC, SETTINGS};

pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Self {
            root: TempDir::new().unwrap(),
        };
        for dir in [
            "sys/bus/pci/devices",
            "sys/class/net",
            "etc",
            "bin",
            "state",
        ] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        machine.write("proc/mounts", "proc /proc proc rw 0 0\n");
        machine.write("proc/net/route", "Iface\tDestination\tGateway\n");
        machine.write("proc/net/ipv6_route", "");
        machine
    }

    /// A machine with a NIC that has a kernel driver and an interface.
    pub(crate) fn with_nic() -> Self {
        let machine = Self::new();
        machine.device(NIC, "0x020000");
        machine.driver(NIC, "i40e");
        machine.interface(NIC, "ens1");
        machine.write("sys/bus/pci/drivers/vfio-pci/unbind", "");
        machine.write("sys/bus/pci/drivers_probe", "");
        machine
    }

    pub(crate) fn with_hugepages() -> Self {
        let machine = Self::new();
        for dir in ["kernel/mm/hugepages", "devices/system/node/node0/hugepages"] {
            machine.hugepages(dir, 2048, 3);
        }
        machine.hugepages("devices/system/node/node1/hugepages", 2048, 8);
        machine.hugepages("devices/system/node/node1/hugepages", 1_048_576, 1);
        machine
    }

    pub(crate) fn with_tunl0() -> Self {
        let machine = Self::new();
        for (name, before, _) in SETTINGS {
            machine.write(&format!("{CONF}/{name}"), &format!("{before}\n"));
        }
        machine.stub("ip", "");
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name))
            .unwrap()
            .trim_end()
            .to_owned()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// A command that writes its arguments to "calls" and then does `body`.
    pub(crate) fn stub(&self, name: &str, body: &str) {
        let calls = self.path("calls");
        let name = format!("bin/{name}");
        let text = format!(
            "#!/bin/sh\necho \"${{0##*/}} $*\" >>'{}'\n{body}\n",
            calls.display()
        );
        self.write(&name, &text);
        fs::set_permissions(self.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> Answer {
        self.run_with(script, arguments, &[])
    }

    pub(crate) fn run_with(
        &self,
        script: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Answer {
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new(script_path(script))
            .args(arguments)
            .env("PATH", path)
            .env("POINTSMAN_SYSFS", self.path("sys"))
            .env("POINTSMAN_PROC", self.path("proc"))
            .env("POINTSMAN_ETC", self.path("etc"))
            .env("POINTSMAN_STATE", self.path("state"))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Answer::from(&output)
    }

    pub(crate) fn hugepages(&self, dir: &str, kib: u32, total: u32) {
        let dir = format!("sys/{dir}/hugepages-{kib}kB");
        self.write(&format!("{dir}/nr_hugepages"), &format!("{total}\n"));
        self.write(&format!("{dir}/free_hugepages"), &format!("{total}\n"));
    }

    pub(crate) fn device(&self, address: &str, class: &str) {
        let dir = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{dir}/class"), &format!("{class}\n"));
        self.write(&format!("{dir}/vendor"), "0x8086\n");
        self.write(&format!("{dir}/device"), "0x1572\n");
        self.write(&format!("{dir}/numa_node"), "1\n");
        self.write(&format!("{dir}/driver_override"), "(null)\n");
    }

    pub(crate) fn driver(&self, address: &str, driver: &str) {
        self.write(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
        let target = format!("../../drivers/{driver}");
        symlink(
            target,
            self.path(&format!("sys/bus/pci/devices/{address}/driver")),
        )
        .unwrap();
    }

    pub(crate) fn interface(&self, address: &str, name: &str) {
        let dir = format!("sys/bus/pci/devices/{address}/net/{name}");
        fs::create_dir_all(self.path(&dir)).unwrap();
        symlink(self.path(&dir), self.path(&format!("sys/class/net/{name}"))).unwrap();
    }

    pub(crate) fn group(&self, number: u32, addresses: &[&str]) {
        let group = self.path(&format!("sys/kernel/iommu_groups/{number}"));
        fs::create_dir_all(group.join("devices")).unwrap();
        for address in addresses {
            let device = self.path(&format!("sys/bus/pci/devices/{address}"));
            symlink(&group, device.join("iommu_group")).unwrap();
            symlink(&device, group.join("devices").join(address)).unwrap();
        }
    }

    pub(crate) fn default_route(&self, interface: &str) {
        let line = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
             {interface}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n"
        );
        self.write("proc/net/route", &line);
    }

    /// Does what the kernel does when the NIC is unbound from `from` and
    /// probed again: the driver `to` takes it. Gives what was written to
    /// `unbind` and to `driver_override`.
    pub(crate) fn kernel(&self, from: &str, to: &str) -> thread::JoinHandle<[String; 2]> {
        let unbind = self.fifo(&format!("sys/bus/pci/drivers/{from}/unbind"));
        let probe = self.fifo("sys/bus/pci/drivers_probe");
        let device = self.path(&format!("sys/bus/pci/devices/{NIC}"));
        let to = format!("../../drivers/{to}");
        thread::spawn(move || {
            let unbound = fs::read_to_string(unbind).unwrap();
            fs::remove_file(device.join("driver")).unwrap();
            fs::read_to_string(probe).unwrap();
            symlink(to, device.join("driver")).unwrap();
            let wanted = fs::read_to_string(device.join("driver_override")).unwrap();
            [unbound.trim().to_owned(), wanted.trim().to_owned()]
        })
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::remove_file(&path).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        path
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn from(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn refused(self, because: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(because), "{because:?} is not in {self:?}");
    }
}

pub(crate) fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}
