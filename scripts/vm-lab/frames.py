"""What clients send, and what the director has to make of it: written down
from the RFCs with scapy, and with nothing of the director."""

import logging
import random

logging.getLogger("scapy").setLevel(logging.ERROR)

# scapy takes its time to look at all protocols; these are enough.
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

VIP = "198.51.100.10"
PORT_ADDRESS = "192.0.2.10"
ROUTER = "192.0.2.1"
SERVERS = ["192.0.2.21", "192.0.2.22"]
# Whose errors come from another address than the client's.
FAR_ROUTER = "203.0.113.254"
NEIGHBORS = {
    ROUTER: "02:00:00:00:00:01",
    SERVERS[0]: "02:00:00:00:00:21",
    SERVERS[1]: "02:00:00:00:00:22",
}
TCP_PORT, UDP_PORT = 80, 53
# Largest IP packets that a tunnel through an MTU of 1500 takes.
INNER_LEN_MAX = 1480
OUTER_LEN = 20
ETHERNET_LEN = 14


class Client:
    """A flow: one of many clients, who all have their own address."""

    def __init__(self, number, seed):
        chance = random.Random(f"{seed} {number}")
        self.address = f"100.{64 + number // 250 % 64}.{chance.randrange(256)}.{1 + number % 250}"
        self.l4_port = chance.randrange(1024, 65536)
        self.chance = chance

    def data(self, length):
        return self.chance.randbytes(length)

    def ip(self, **fields):
        fields = {"ttl": self.chance.randrange(2, 256), "flags": "DF", **fields}
        return IP(src=self.address, dst=VIP, **fields)

    def tcp(self, flags, data=b""):
        return TCP(sport=self.l4_port, dport=TCP_PORT, flags=flags, seq=self.chance.getrandbits(32)) / data

    def udp(self, data=b""):
        return UDP(sport=self.l4_port, dport=UDP_PORT) / data


def on_wire(packet, port_mac):
    """As the router hands it to the director."""
    return bytes(Ether(src=NEIGHBORS[ROUTER], dst=port_mac, type=0x0800) / packet)


def icmp_error(client, identification):
    """A router near the client says that the server's answer was too long.
    The answer went from VIP to client: the director never saw it."""
    answer = IP(src=VIP, dst=client.address, flags="DF", ttl=57, id=7) / TCP(
        sport=TCP_PORT, dport=client.l4_port, flags="A", seq=client.chance.getrandbits(32)
    )
    quoted = bytes(answer / (b"x" * 1000))[:28]
    return (
        IP(src=FAR_ROUTER, dst=VIP, ttl=61, id=identification)
        / ICMP(type=3, code=4, nexthopmtu=1400)
        / quoted
    )


def encapsulated(packet, server, port_mac, identification):
    """The frame to a real server: RFC 2003, with the rules of Linux IPVS for
    TTL, TOS and identification (docs/packet-path.md)."""
    inner = IP(bytes(packet))
    inner.ttl -= 1
    del inner.chksum
    outer = IP(
        src=PORT_ADDRESS,
        dst=server,
        proto=4,
        ttl=inner.ttl,
        tos=inner.tos,
        flags=inner.flags & "DF",
        id=identification,
    )
    return bytes(Ether(src=port_mac, dst=NEIGHBORS[server], type=0x0800) / outer / inner)


def inner_identification(frame):
    """Of a frame from the director; each packet that is sent has its own."""
    start = ETHERNET_LEN + OUTER_LEN + 4
    return int.from_bytes(frame[start : start + 2], "big")


def outer_identification(frame):
    return int.from_bytes(frame[ETHERNET_LEN + 4 : ETHERNET_LEN + 6], "big")


def outer_destination(frame):
    return ".".join(map(str, frame[ETHERNET_LEN + 16 : ETHERNET_LEN + 20]))


# The key of the verification suite for RSS: what the director sets.
RSS_KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)


def toeplitz(data):
    """The hash of RSS, bit by bit."""
    key = int.from_bytes(RSS_KEY, "big")
    bits = len(RSS_KEY) * 8
    result = 0
    for place in range(len(data) * 8):
        if data[place // 8] >> (7 - place % 8) & 1:
            result ^= key >> (bits - 32 - place) & 0xFFFFFFFF
    return result


def addresses(source, destination):
    return bytes(map(int, f"{source}.{destination}".split(".")))


def hash_of(packet):
    """What a NIC that hashes addresses and L4 ports makes of a packet:
    of fragments and other protocols the addresses alone."""
    data = addresses(packet.src, packet.dst)
    if packet.frag == 0 and not packet.flags.MF and packet.proto in (6, 17):
        data += bytes(packet)[20:24]
    return toeplitz(data)
