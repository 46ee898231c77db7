#!/usr/bin/env python3
"""What scripts/vm-lab.sh runs: the director on emulated NICs."""

import argparse
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checks import CHECKS, OWNER_CHECKS, Case, Failed, expect
from director import HUGEPAGES, Director
from frames import NEIGHBORS
from machine import LabError, Machine, NotStarted, QemuAborted
from wire import Wire


@dataclass(frozen=True)
class Nic:
    name: str
    # As QEMU and as Linux call it.
    device: str
    kernel_driver: str
    slot: int
    workers: int
    # Whether it spreads flows over its queues, by a table of this length.
    spreads: bool = False
    # Whether one receive queue is for all workers, which share it in software.
    is_shared: bool = False
    reta_len: int = 0
    # What the director finds that it can do.
    abilities: tuple = ()

    @property
    def address(self):
        return f"0000:00:{self.slot:02x}.0"

    @property
    def mac(self):
        return f"52:54:00:00:00:{self.slot:02x}"

    @property
    def wire_name(self):
        return f"nic{self.slot:02x}"

    def arguments(self, folder, iommu):
        device = f"{self.device},netdev={self.wire_name},addr={self.slot:#x},mac={self.mac},romfile="
        if self.device == "virtio-net-pci" and iommu:
            device += ",disable-legacy=on,iommu_platform=on"
        path = f"{folder}/{self.wire_name}"
        return [
            "-netdev",
            f"dgram,id={self.wire_name},local.type=unix,local.path={path}.q,"
            f"remote.type=unix,remote.path={path}.h",
            "-device",
            device,
        ]


CHECKSUMS = ("rx_ipv4_checksum", "tx_ipv4_checksum")
NICS = [
    Nic("igb", "igb", "igb", 0x0B, 4, spreads=True, reta_len=128,
        abilities=(*CHECKSUMS, "rss", "rss_hash", "packet_types")),
    Nic("e1000e", "e1000e", "e1000e", 0x0C, 2, is_shared=True, abilities=CHECKSUMS),
    # On a socket it has one queue.
    Nic("virtio-net", "virtio-net-pci", "virtio_net", 0x0D, 1),
    # Says that it does RSS, and gives all to the first queue.
    Nic("vmxnet3", "vmxnet3", "vmxnet3", 0x0E, 2,
        abilities=("rss", "rss_hash", "packet_types")),
]  # fmt: skip
# Two NICs that the IOMMU cannot tell apart.
SHARED_GROUP = ["-device", "pcie-pci-bridge,id=bridge,addr=0x10"] + [
    word for slot in (1, 2) for word in ("-device", f"e1000,bus=bridge,addr={slot},romfile=")
]


# When no further NIC is begun, and when all of it ends. A host with two cores
# and nothing else to do takes less than the first.
NIC_BEGUN_SECONDS, LAB_SECONDS = 240, 420


TOO_SLOW = (
    f"this host is busy: not begun after {NIC_BEGUN_SECONDS} s; scripts/vm-lab.sh --nic and "
    "--iommu run a part of it"
)


class TimeIsOver(Exception):
    pass


def time_is_over(*_):
    raise TimeIsOver(f"the time is over: {LAB_SECONDS} s")


def input_line(prompt):
    """An empty one at the end of the input, too."""
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


class Report:
    """What became of each check, by its name. One that is done once more, on a
    machine that was started once more, counts once."""

    def __init__(self):
        self.results = {}

    def run(self, machine, name, action, *arguments):
        """Returns whether the check passed."""
        started = time.monotonic()
        try:
            action(*arguments)
        except (Failed, AssertionError) as failure:
            # What a machine that is no more left out is no failure.
            machine.must_run()
            self.fail(name, failure)
            return False
        except OSError:
            machine.must_end()
        # What failed before is not mended by passing.
        self.results.setdefault(name, "passed")
        print(f"ok: vm-lab {name} ({time.monotonic() - started:.1f} s)", flush=True)
        return True

    def fail(self, name, why):
        self.results[name] = "failed"
        print(f"failed: vm-lab {name}: {why}", flush=True)

    def skip(self, name, why):
        self.results[name] = "skipped"
        print(f"skipped: vm-lab {name}: {why}", flush=True)

    def count(self, result):
        return sum(1 for each in self.results.values() if each == result)


class Lab:
    def __init__(self, options):
        self.options = options
        self.root, self.cache = Path(options.root), Path(options.cache)
        self.report = Report()
        self.started = time.monotonic()

    def run(self):
        try:
            self.run_machines()
        except TimeIsOver as error:
            self.report.fail("the rest", error)
        print(f"the lab took {time.monotonic() - self.started:.0f} s")
        results = ("passed", "failed", "skipped")
        print(", ".join(f"{self.report.count(result)} {result}" for result in results))
        return self.report.count("failed") == 0

    def run_machines(self):
        wanted = [nic for nic in NICS if not self.options.nic or nic.name in self.options.nic]
        present = [nic for nic in wanted if self.qemu_has(nic)]
        for iommu in (True, False):
            if self.options.iommu and (self.options.iommu == "intel") != iommu:
                continue
            kind = "with IOMMU" if iommu else "without IOMMU"
            for nic in wanted:
                if nic not in present:
                    self.report.skip(f"{nic.name} {kind}", "this QEMU does not have it; 8 or later has")
            if self.is_late():
                self.report.skip(kind, TOO_SLOW)
                continue
            if present:
                self.run_machine(iommu, kind, present)

    def run_machine(self, iommu, kind, nics):
        """Where QEMU aborts or does not get the machine up, it is started once
        more, and goes on with the NIC that was not done."""
        done = []
        for tries_left in (1, 0):
            try:
                self.boot(iommu, kind, nics, done)
            except (QemuAborted, NotStarted) as error:
                if tries_left:
                    print(f"the machine {kind} is started once more: {error}", flush=True)
                    continue
                self.report.fail(kind, f"this is the second start, and that is enough: {error}")
            except LabError as error:
                self.report.fail(kind, error)
            return

    def is_late(self):
        return not self.options.keep and time.monotonic() - self.started > NIC_BEGUN_SECONDS

    def qemu_has(self, nic):
        answer = subprocess.run(
            [self.cache / "qemu", "-device", f"{nic.device},help"], capture_output=True, check=False
        )
        return answer.returncode == 0

    def boot(self, iommu, kind, nics, done):
        def devices(folder):
            words = [word for nic in nics for word in nic.arguments(folder, iommu)]
            return words + (SHARED_GROUP if iommu else [])

        started = time.monotonic()
        with Machine(self.root, self.cache, iommu, devices) as machine:
            print(f"machine {kind}: up after {time.monotonic() - started:.1f} s", flush=True)
            check = partial(self.report.run, machine)
            check(f"{kind}: hugepages are reserved", self.reserve_hugepages, machine)
            refusals = self.shared_group_is_refused if iommu else self.vfio_is_refused
            check(f"{kind}: what is refused", refusals, machine, nics)
            for nic in nics:
                if nic not in done:
                    self.test_unless_late(machine, nic, iommu, f"{nic.name} {kind}", nics)
                    done.append(nic)
            check(f"{kind}: hugepages are given back", self.release_hugepages, machine)

    def test_unless_late(self, machine, nic, iommu, name, nics):
        if self.is_late():
            self.report.skip(name, TOO_SLOW)
            return
        driver = "vfio-pci" if iommu else "uio_pci_generic"
        # Who owns a flow has to do with how it is spread, and not with the IOMMU.
        checks = CHECKS
        if nic.spreads or iommu and nic.workers > 1:
            checks = CHECKS + OWNER_CHECKS
        try:
            self.test(machine, nic, name, driver, checks, nic is nics[-1])
        except QemuAborted:
            raise
        except LabError as error:
            self.report.fail(name, error)

    def script(self, machine, *words):
        return machine.run(f"cd {self.root} && scripts/" + " ".join(words))

    def reserve_hugepages(self, machine):
        code, said = self.script(machine, f"hugepages.sh set {HUGEPAGES}")
        expect(code == 0 and f"{HUGEPAGES} pages of 2M are reserved" in said, said)

    def release_hugepages(self, machine):
        code, said = self.script(machine, "hugepages.sh undo")
        reserved = machine.run("cat /proc/sys/vm/nr_hugepages")[1].strip()
        expect(code == 0 and reserved == "0", f"{reserved} are left:", said)

    def shared_group_is_refused(self, machine, _nics):
        """One of two NICs that the IOMMU cannot tell apart cannot be taken
        while the kernel has the other."""
        machine.run("modprobe e1000")
        said = machine.run("ls -d /sys/bus/pci/devices/0000:00:10.0/0000:*")[1]
        first, second = (Path(path).name for path in said.split())
        code, said = self.script(machine, f"bind-nic.sh bind {first}")
        expect(code == 1 and f"is shared with {second} (e1000)" in said, said)
        expect(self.driver_of(machine, first) == "e1000", "it was taken from the kernel")
        machine.run(f"echo {second} >/sys/bus/pci/drivers/e1000/unbind")
        code, said = self.script(machine, f"bind-nic.sh bind {first}")
        expect(code == 0 and self.driver_of(machine, first) == "vfio-pci", said)
        for address in (first, second):
            code, said = self.script(machine, f"bind-nic.sh restore {address}")
            expect(code == 0 and self.driver_of(machine, address) == "e1000", said)

    def vfio_is_refused(self, machine, nics):
        """Debian's kernel has no vfio without an IOMMU."""
        nic = nics[0]
        machine.run(f"modprobe {nic.kernel_driver}")
        before = self.driver_of(machine, nic.address)
        expect(before not in ("", "vfio-pci"), f"the kernel does not have it: {before}")
        for option, why in (
            ("", "is in no IOMMU group"),
            ("--no-iommu", "this kernel's vfio cannot work without an IOMMU"),
        ):
            code, said = self.script(machine, f"bind-nic.sh bind {nic.address} {option}")
            expect(code == 1 and why in said, said)
            expect(self.driver_of(machine, nic.address) == before, "it was taken from the kernel")

    def test(self, machine, nic, name, driver, checks, is_last):
        wire = Wire(machine.folder, nic.wire_name, NEIGHBORS)
        director = Director(machine, self.options.director, nic.address, nic.workers)
        check = partial(self.report.run, machine)
        try:
            machine.run(f"modprobe {nic.kernel_driver}")
            if not check(f"{name}: bind", self.bind, machine, nic, driver):
                return
            director.write_config()
            check(f"{name}: start", director.start)
            case = Case(nic, director, wire)
            for one in checks:
                check(f"{name}: {one.__name__.replace('_', ' ')}", one, case)
            if self.options.keep and is_last:
                self.take_commands(machine, director)
            check(f"{name}: stop", self.stop, director)
            check(f"{name}: restore", self.restore, machine, nic)
        finally:
            wire.close()
            if director.started and director.code() is None:
                print(f"the log of the director:\n{director.log()}")
                director.kill()

    def take_commands(self, machine, director):
        print(f"the director runs; try: {director.program} show ports. An empty line ends this")
        for line in iter(lambda: input_line("lab# "), ""):
            code, said = machine.run(line, seconds=600)
            print(said, end="" if code == 0 else f"exit code {code}\n")

    def stop(self, director):
        code = director.stop()
        expect(code == 0, f"exit code {code}:\n{director.log()}")
        expect("no packet buffer left in use" in director.log(), director.log())

    def driver_of(self, machine, address):
        return machine.run(f"basename $(readlink /sys/bus/pci/devices/{address}/driver) 2>/dev/null")[1].strip()

    def bind(self, machine, nic, driver):
        before = self.driver_of(machine, nic.address)
        option = "" if driver == "vfio-pci" else f"--driver {driver}"
        code, said = self.script(machine, "bind-nic.sh bind", nic.address, option)
        expect(code == 0, said)
        expect(self.driver_of(machine, nic.address) == driver, said)
        expect(before != driver, "it was bound before")

    def restore(self, machine, nic):
        code, said = self.script(machine, "bind-nic.sh restore", nic.address)
        expect(code == 0, said)
        code, said = machine.run(f"ls /sys/bus/pci/devices/{nic.address}/{{,virtio*/}}net 2>/dev/null")
        expect(said.strip(), "the kernel has no interface of it")


def main():
    parser = argparse.ArgumentParser()
    for name in ("root", "cache", "director"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--nic", action="append")
    parser.add_argument("--iommu")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    # So that what was begun is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not options.keep:
        signal.signal(signal.SIGALRM, time_is_over)
        signal.alarm(LAB_SECONDS)
    try:
        good = Lab(options).run()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
