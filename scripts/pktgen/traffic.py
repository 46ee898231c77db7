"""What a generator is to send to a director: shared by the profiles beside it.

Sizes are those of RFC 2544: the whole Ethernet frame with its checksum (FCS),
so that 64 is the smallest. Clients are in 198.18.0.0/16, the network that RFC
2544 sets aside for such tests, or where --clients says.
"""

import argparse
import ipaddress
import math
from dataclasses import dataclass

FCS_LEN = 4

# Frames of RFC 2544 section 9.1, but for the longest: the tunnel adds 20 bytes.
SIZES = (64, 128, 256, 512, 1024, 1280, 1518)

# The "simple IMIX": frame size and how many of twelve frames have it.
IMIX = ((64, 7), (594, 4), (1518, 1))

KINDS = {
    "open": "a SYN of each flow, one after the other: opens the connections of tcp",
    "tcp": "ACKs of open connections, flows at random (TRex) or in turn (Pktgen)",
    "syn": "a flood of SYNs",
    "udp": "UDP",
}

PORT_FIRST = 1024
PORTS_MAX = 64_000


@dataclass(frozen=True)
class Traffic:
    """One kind of packets from many clients to one service."""

    kind: str
    flows: int
    size: str
    director_mac: str
    source_mac: str
    vip: ipaddress.IPv4Address
    service_port: int
    clients: ipaddress.IPv4Address

    @property
    def protocol(self):
        """The transport protocol, as both generators call it."""
        return "udp" if self.kind == "udp" else "tcp"

    @property
    def flags(self):
        """The TCP flags as scapy writes them."""
        return "A" if self.kind == "tcp" else "S"

    def frames(self):
        """Pairs of a frame size and its weight."""
        return IMIX if self.size == "imix" else ((int(self.size), 1),)

    def grid(self):
        """Numbers of client addresses and of source ports whose product is the
        number of flows, or a little more: for a generator that picks both at
        random."""
        addresses = max(math.isqrt(self.flows), math.ceil(self.flows / PORTS_MAX))
        return addresses, math.ceil(self.flows / addresses)

    def cycle(self):
        """The same for a generator that steps both at once. It comes to each
        pair only if the two numbers have no divisor in common."""
        if self.flows <= PORTS_MAX:
            return 1, self.flows
        ports = 1000 if self.flows <= 65_000_000 else PORTS_MAX - 1
        addresses = math.ceil(self.flows / ports)
        while math.gcd(addresses, ports) != 1:
            addresses += 1
        return addresses, ports


def parser(description):
    """Options that say what to send."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    options.add_argument("--kind", choices=KINDS, default="tcp", help=kinds)
    options.add_argument("--flows", type=flows, default=1000, help="1k, 64k, 1M or a number")
    options.add_argument("--size", type=size, default="64", help="of frames with FCS, or imix")
    options.add_argument("--director-mac", type=mac, required=True, help="of the port that takes them")
    options.add_argument("--source-mac", type=mac, default="02:00:00:00:00:01", help="of the sender")
    options.add_argument("--vip", type=ipaddress.IPv4Address, default="198.19.0.10")
    options.add_argument("--service-port", type=int, default=80)
    options.add_argument(
        "--clients", type=ipaddress.IPv4Address, default="198.18.0.1", help="the first one's address"
    )
    return options


def from_arguments(arguments):
    """The traffic that parsed options describe."""
    names = Traffic.__dataclass_fields__
    return Traffic(**{name: getattr(arguments, name) for name in names})


def flows(text):
    """A number of flows with k or M behind it, or without."""
    units = {"k": 1000, "m": 1_000_000}
    unit = units.get(text[-1:].lower())
    number = int(text[:-1]) * unit if unit else int(text)
    if not 1 <= number <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{text} flows; give 1 to 1000M")
    return number


def size(text):
    """A frame size, or imix."""
    if text != "imix" and not 64 <= int(text) <= 9018:
        raise argparse.ArgumentTypeError(f"frames of {text} bytes; give imix or 64 to 9018")
    return text


def mac(text):
    """Six octets in hexadecimal."""
    octets = text.split(":")
    if len(octets) != 6 or not all(len(octet) == 2 and int(octet, 16) >= 0 for octet in octets):
        raise argparse.ArgumentTypeError(f"{text} is no MAC address; write 02:00:00:00:00:01")
    return text.lower()
