"""The director in the emulated machine, and what it says about itself."""

import json
import time

from frames import PORT_ADDRESS, SERVERS, TCP_PORT, UDP_PORT, VIP
from machine import LabError

START_SECONDS = 60
STOP_SECONDS = 20
SHOW_TRIES = 5
CONFIG = "/run/lab/director.toml"
# In MiB: packet buffers, and hugepages for them and for connection tables.
MEMORY_MIB = 192
HUGEPAGES = 160


class Director:
    def __init__(self, machine, program, address, workers):
        self.machine, self.program, self.address, self.workers = machine, program, address, workers
        self.started = False

    def write_config(self):
        servers = "".join(
            f'[[service.real_server]]\naddress = "{server}"\n' for server in SERVERS
        )
        services = "".join(
            f'[[service]]\naddress = "{VIP}:{l4_port}"\nprotocol = "{protocol}"\n'
            f'scheduler = "rr"\n{servers}'
            for protocol, l4_port in (("tcp", TCP_PORT), ("udp", UDP_PORT))
        )
        (self.machine.out / "director.toml").write_text(
            f"""
[director]
workers = {list(range(self.workers))}
# The emulated cores share few real ones.
idle = "adaptive"
connections_max = 4096
templates_max = 1024
state_file = "none"

[eal]
hugepages = "required"
memory_mib = {MEMORY_MIB}

[[port]]
name = "lan"
device = "{self.address}"
addresses = ["{PORT_ADDRESS}/24"]

{services}"""
        )

    def start(self):
        self.started = True
        for name in ("director.log", "director.code"):
            (self.machine.out / name).unlink(missing_ok=True)
        self.machine.run(
            f"({self.program} run --config {CONFIG} >/run/lab/director.log 2>&1;"
            " echo $? >/run/lab/director.code) &"
        )
        deadline = time.monotonic() + START_SECONDS
        while " ready: " not in self.log():
            if self.code() is not None:
                raise LabError(f"the director ended at its start:\n{self.log()}")
            if time.monotonic() > deadline:
                raise LabError(f"the director is not ready:\n{self.log()}")
            time.sleep(0.1)
        while not self.show("ports")[0]["link_up"]:
            if time.monotonic() > deadline:
                raise LabError(f"the port has no link:\n{self.log()}")
            time.sleep(0.3)

    def show(self, what):
        for _ in range(SHOW_TRIES):
            code, said = self.machine.run(f"{self.program} show {what} --json")
            # A machine this slow, on a host with other things to do.
            if "did not answer in time" not in said:
                break
        if code != 0:
            raise LabError(f"show {what}: {said}\n{self.log()}")
        return json.loads(said)

    def counters(self):
        return {counter["name"]: counter["count"] for counter in self.show("counters")}

    def received_by_worker(self):
        return [worker["rx_packets"] for worker in self.show("workers")]

    def log(self):
        path = self.machine.out / "director.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def code(self):
        """With what it ended, if it has."""
        path = self.machine.out / "director.code"
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text else None

    def stop(self):
        """Ends it as an operator does. Returns its exit code."""
        if self.code() is None:
            self.machine.run(f"kill -TERM $(pidof {self.program})")
        deadline = time.monotonic() + STOP_SECONDS
        while self.code() is None:
            if time.monotonic() > deadline:
                raise LabError(f"the director does not stop:\n{self.log()}")
            time.sleep(0.1)
        return self.code()

    def kill(self):
        """Ends it in any case, for the next one."""
        self.machine.run(f"pkill -KILL -f '^{self.program} run'")
