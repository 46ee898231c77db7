"""The emulated machine: QEMU, and commands that are run in it."""

import ctypes
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

BOOT_SECONDS = 90
COMMAND_SECONDS = 90
END_SECONDS = 10

IOMMU = ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]


def end_with_parent():
    """However this program ends, QEMU does not stay behind (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # What it leaves when it aborts would be as large as the machine's memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class LabError(Exception):
    """The lab itself does not work: nothing is known of the director."""


class NotStarted(LabError):
    """The machine did not come up."""


class QemuAborted(LabError):
    """QEMU ended in an assertion of its own, which nothing that the machine
    does should bring about. QEMU 10.0 was seen to do so now and then, in
    `msix_table_mmio_write` while the kernel starts."""


class Machine:
    """One start of the machine. Its files are in a folder that goes with it."""

    def __init__(self, root, cache, iommu, devices):
        self.root, self.cache, self.iommu, self.devices = Path(root), Path(cache), iommu, devices
        self.folder = self.out = self.process = self.agent = None

    def __enter__(self):
        try:
            self.start()
        except BaseException as error:
            self.stop()
            if isinstance(error, LabError) and not isinstance(error, QemuAborted):
                raise NotStarted(error) from error
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pointsman-vm-lab-"))
        self.out = self.folder / "out"
        self.out.mkdir()
        self.commands = 0
        self.lines = b""
        agent = self.folder / "agent"
        with open(self.folder / "qemu.log", "wb") as log:
            self.process = subprocess.Popen(
                self.arguments(agent),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + BOOT_SECONDS
        self.agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                self.agent.connect(str(agent))
                break
            except OSError:
                self.must_run()
                if time.monotonic() > deadline:
                    raise LabError("QEMU does not take connections")
                time.sleep(0.05)
        if self.line(deadline) != "ready":
            raise LabError("the machine did not start:\n" + self.console())

    def arguments(self, agent):
        words = ["console=ttyS0", "quiet", "panic=-1", "mitigations=off", "random.trust_cpu=on"]
        # A host that is busy lets the timer seem dead for long enough to panic.
        words += ["no_timer_check", "nowatchdog"]
        words += [f"lab_root={self.root}", f"lab_cache={self.cache}"]
        machine = []
        if self.iommu:
            words += ["intel_iommu=on", "iommu=pt"]
            machine = IOMMU
        # One thread for all processors: with one for each, QEMU 10.0 aborts in
        # `iotlb_to_section` now and then, and is no faster on a host with two.
        threads = "tcg,thread=single"
        share = "local,security_model=none"
        return [
            str(self.cache / "qemu"), "-nodefaults", "-no-user-config", "-display", "none",
            "-monitor", "none", "-no-reboot", "-machine", "q35", "-accel", threads,
            "-cpu", "max", "-smp", "4", "-m", "2G", *machine,
            "-kernel", str(self.cache / "kernel/boot/vmlinuz"),
            "-initrd", str(self.cache / "initramfs.gz"), "-append", " ".join(words),
            "-virtfs", f"{share},path=/,mount_tag=hostroot,readonly=on,multidevs=remap",
            "-virtfs", f"{share},path={self.out},mount_tag=hostout",
            "-device", "virtio-rng-pci",
            "-serial", f"file:{self.folder}/console.log",
            "-chardev", f"socket,id=agent,path={agent},server=on,wait=off",
            "-serial", "chardev:agent",
            *self.devices(self.folder),
        ]  # fmt: skip

    def run(self, command, seconds=COMMAND_SECONDS):
        """Runs a command of bash. Returns its exit code and what it printed."""
        assert "\n" not in command
        self.commands += 1
        try:
            self.agent.sendall(f"{self.commands} {command}\n".encode())
        except OSError:
            self.must_end()
        answer = self.line(time.monotonic() + seconds)
        if answer is None:
            raise LabError(f"no answer within {seconds} s to: {command}\n{self.console()}")
        number, code = answer.split()
        assert int(number) == self.commands
        return int(code), (self.out / f"{number}.out").read_text(errors="replace")

    def line(self, deadline):
        while b"\n" not in self.lines:
            self.must_run()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.agent.settimeout(min(left, 1))
            try:
                more = self.agent.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                more = b""
            if not more:
                self.must_end()
            self.lines += more
        line, _, self.lines = self.lines.partition(b"\n")
        return line.decode().strip()

    def must_run(self):
        code = self.process.poll()
        if code == -signal.SIGABRT:
            raise QemuAborted(f"QEMU aborted (SIGABRT):\n{self.console()}")
        if code is not None:
            raise LabError(f"QEMU ended with {code}:\n{self.console()}")

    def must_end(self):
        """For when one of its sockets is closed: tells how it ended."""
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        self.must_run()
        raise LabError(f"QEMU closed its end and still runs:\n{self.console()}")

    def console(self):
        """The end of what QEMU and the kernel said."""
        said = ""
        for name in ("qemu.log", "console.log"):
            path = self.folder / name
            if path.exists():
                said += path.read_text(errors="replace")[-2000:]
        return said

    def stop(self):
        if self.agent:
            self.agent.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
