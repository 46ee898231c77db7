#!/usr/bin/env python3
"""An RFC 2544 throughput test with TRex: searches, for each frame size, the
highest rate at which a director loses no more than it may.

    scripts/pktgen/trex_rfc2544.py --director-mac 02:00:00:00:00:10 \\
        --kind tcp --flows 64k --sizes 64 512 imix

The server of TRex runs already (t-rex-64 -i). Its client library has to be
found by Python: PYTHONPATH=.../automation/trex_control_plane/interactive of
TRex, or the package lbr-trex-client. docs/rfc2544.md says more.
"""

import dataclasses
import json
import sys

import traffic


@dataclasses.dataclass(frozen=True)
class Trial:
    """What one trial has counted."""

    percent: float
    sent: int
    received: int
    seconds: float

    @property
    def lost_per_million(self):
        """Frames lost of a million."""
        return (self.sent - self.received) * 1e6 / self.sent if self.sent else float("inf")


def search(run, maximum, step, loss_max):
    """The good trial of the highest rate, or None. `run` makes a trial at a
    percentage of the line rate; the search halves until it is within `step`."""
    low, high, best = 0.0, maximum, None
    percent = maximum
    while True:
        trial = run(percent)
        if trial.lost_per_million <= loss_max:
            best, low = trial, percent
        else:
            high = percent
        if high - low <= step:
            return best
        percent = (low + high) / 2


class Generator:
    """TRex, with one port to send by and one to receive by."""

    def __init__(self, arguments):
        # Not before it is needed: the search is of use without TRex.
        try:
            import lbr_trex_client  # noqa: F401  puts trex where Python finds it
        except ImportError:
            pass
        import trex_profile
        from trex.stl.api import STLClient

        self.streams = trex_profile.streams
        self.tx, self.rx = arguments.tx, arguments.rx
        self.seconds = arguments.seconds
        self.client = STLClient(server=arguments.server)
        self.client.connect()
        self.client.reset(ports=[self.tx, self.rx])
        # What comes has the MAC addresses of the real servers.
        self.client.set_port_attr(ports=[self.rx], promiscuous=True)

    def load(self, wanted):
        """Has the port send this traffic from now on."""
        self.client.remove_all_streams(ports=[self.tx])
        self.client.add_streams(self.streams(wanted), ports=[self.tx])

    def open(self, wanted):
        """Opens the connections of all flows, slowly."""
        self.load(dataclasses.replace(wanted, kind="open", size="64"))
        self.client.start(ports=[self.tx], force=True)
        self.client.wait_on_traffic(ports=[self.tx])

    def run(self, percent):
        """A trial at a percentage of the line rate."""
        self.client.clear_stats(ports=[self.tx, self.rx])
        self.client.start(
            ports=[self.tx], mult=f"{percent:.4f}%", duration=self.seconds, force=True
        )
        # What is under way comes in: RFC 2544 section 23.
        self.client.wait_on_traffic(ports=[self.tx], timeout=self.seconds + 60, rx_delay_ms=2000)
        statistics = self.client.get_stats()
        sent, received = statistics[self.tx]["opackets"], statistics[self.rx]["ipackets"]
        trial = Trial(percent, sent, received, self.seconds)
        print(
            f"  {percent:7.2f} %  sent {sent}  received {received}  "
            f"{trial.lost_per_million:.3f} of a million lost",
            file=sys.stderr,
        )
        return trial

    def close(self):
        """Leaves TRex as it was."""
        self.client.stop(ports=[self.tx])
        self.client.disconnect()


def main():
    """Runs the test that the command line describes and prints its results."""
    options = traffic.parser("Searches the throughput of a director with TRex.")
    sizes = [str(size) for size in traffic.SIZES]
    options.add_argument("--sizes", nargs="+", type=traffic.size, default=sizes, help="of frames")
    options.add_argument("--server", default="127.0.0.1", help="where TRex runs")
    options.add_argument("--tx", type=int, default=0, help="port of TRex that sends")
    options.add_argument("--rx", type=int, default=1, help="port of TRex that receives")
    options.add_argument("--seconds", type=float, default=60, help="length of a trial")
    options.add_argument("--maximum", type=float, default=100, help="percent of the line rate")
    options.add_argument("--step", type=float, default=0.5, help="where the search ends, percent")
    options.add_argument("--loss", type=float, default=0, help="frames of a million that may be lost")
    arguments = options.parse_args()
    wanted = traffic.from_arguments(arguments)
    generator = Generator(arguments)
    try:
        for size in arguments.sizes:
            if wanted.kind == "tcp":
                generator.open(wanted)
            generator.load(dataclasses.replace(wanted, size=size))
            best = search(generator.run, arguments.maximum, arguments.step, arguments.loss)
            row = {"size": size, "kind": wanted.kind, "flows": wanted.flows, "percent": None}
            if best:
                row["percent"] = round(best.percent, 2)
                row["frames_per_s"] = round(best.sent / best.seconds)
                row["lost_per_million"] = round(best.lost_per_million, 3)
            print(json.dumps(row), flush=True)
    finally:
        generator.close()


if __name__ == "__main__":
    main()
