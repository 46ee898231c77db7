#!/usr/bin/env python3
"""Writes the capture files of the golden cases: what a director receives
(NAME-in.pcap) and what it has to send (NAME-out.pcap).

Made by hand from the RFCs, with nothing of the director and nothing but
Python's standard library: run it in this folder to write the files again.
"""
import struct

DIRECTOR = "02:70:63:61:70:00"  # what DPDK's net_pcap calls its first port
ROUTER = "02:00:00:00:01:fe"
SERVER = "02:00:00:00:02:0b"
CLIENT, VIP = "203.0.113.7", "198.51.100.10"
RIP, SOURCE = "10.0.0.11", "10.0.0.1"
DF, MF = 0x4000, 0x2000


def address(text):
    return bytes(map(int, text.split(".")))


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(payload, protocol, source=CLIENT, destination=VIP, ttl=64, tos=0, ident=0x1234, flags=DF):
    def header(check):
        return (
            struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), ident, flags, ttl, protocol, check)
            + address(source)
            + address(destination)
        )

    return header(checksum(header(0))) + payload


def tcp(flags, data=b"", client_port=40000, seq=1000, ack=0, options=b"", back=False):
    ports = (80, client_port) if back else (client_port, 80)
    ends = (VIP, CLIENT) if back else (CLIENT, VIP)
    window = 0 if back else 64240

    def segment(check):
        offset = (5 + len(options) // 4) << 4
        return (
            struct.pack("!HHIIBBHHH", *ports, seq, ack, offset, flags, window, check, 0)
            + options
            + data
        )

    length = len(segment(0))
    pseudo = address(ends[0]) + address(ends[1]) + struct.pack("!BBH", 0, 6, length)
    return segment(checksum(pseudo + segment(0)))


def udp(data, client_port=40000):
    return struct.pack("!HHHH", client_port, 53, 8 + len(data), 0) + data


def icmp(kind, code, rest):
    check = checksum(struct.pack("!BBH", kind, code, 0) + rest)
    return struct.pack("!BBH", kind, code, check) + rest


def ethernet(to, source, ether_type, payload, tag=None):
    macs = bytes.fromhex((to + source).replace(":", ""))
    vlan = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    return macs + vlan + struct.pack("!H", ether_type) + payload


def padded(frame, filler=b"\xaa"):
    return frame + filler * (60 - len(frame))


def received(packet, tag=None):
    return ethernet(DIRECTOR, ROUTER, 0x0800, packet, tag)


def tunnelled(inner, ttl, tos=0, ident=0, flags=DF, tag=None):
    outer = ip(inner, 4, SOURCE, RIP, ttl, tos, ident, flags)
    return ethernet(SERVER, DIRECTOR, 0x0800, outer, tag)


def fragments(inner, ttl, ident):
    """The outer packet in fragments for an MTU of 1500 (RFC 791)."""
    first, rest = inner[:1480], inner[1480:]
    for payload, flags in (first, MF), (rest, 1480 // 8):
        outer = ip(payload, 4, SOURCE, RIP, ttl, 0, ident, flags)
        yield ethernet(SERVER, DIRECTOR, 0x0800, outer)


def answer(payload, protocol, ident, tos=0, flags=0, tag=None):
    packet = ip(payload, protocol, VIP, CLIENT, 64, tos, ident, flags)
    return ethernet(ROUTER, DIRECTOR, 0x0800, packet, tag)


def announcement(own, tag=None):
    """RFC 5227 section 3: an ARP request for the sender's own address."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    arp += bytes.fromhex(DIRECTOR.replace(":", "")) + address(own) + bytes(6) + address(own)
    return ethernet("ff:ff:ff:ff:ff:ff", DIRECTOR, 0x0806, arp, tag)


def write(name, frames):
    with open(name, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", 0, number, len(frame), len(frame)) + frame)


def plain():
    data = bytes(range(256)) * 6
    large = tcp(0x10, data[:1440])
    too_large = tcp(0x18, data[:1441])
    options = b"\x01\x01\x08\x0a" + struct.pack("!II", 1, 2)
    push = tcp(0x18, b"hello", seq=1001, ack=7, options=options)
    query, one_more, longest = udp(b"query"), udp(data[:1453], 40001), udp(data[:1472], 40002)
    syn, hop = tcp(0x02), tcp(0x02, client_port=40003)
    ping = b"\x12\x34\x00\x01pointsman"
    stray = tcp(0x10, client_port=40009, seq=5, ack=77)
    write(
        "plain-in.pcap",
        [
            padded(received(ip(syn, 6))),
            received(ip(large, 6)),
            padded(received(ip(push, 6, tos=0xFF))),
            padded(received(ip(query, 17, flags=0))),
            received(ip(too_large, 6)),
            received(ip(one_more, 17, flags=0)),
            received(ip(longest, 17, flags=0)),
            padded(received(ip(hop, 6, ttl=2))),
            padded(received(ip(hop, 6, ttl=1))),
            padded(received(ip(icmp(8, 0, ping), 1, tos=0x10, flags=0))),
            padded(received(ip(stray, 6))),
        ],
    )
    write(
        "plain-out.pcap",
        [
            *map(announcement, (SOURCE, "192.0.2.1", VIP)),
            tunnelled(ip(syn, 6, ttl=63), 63),
            tunnelled(ip(large, 6, ttl=63), 63),
            tunnelled(ip(push, 6, ttl=63, tos=0xFF), 63, tos=0xFE),
            tunnelled(ip(query, 17, ttl=63, flags=0), 63, ident=0, flags=0),
            *fragments(ip(one_more, 17, ttl=63, flags=0), 63, 1),
            *fragments(ip(longest, 17, ttl=63, flags=0), 63, 2),
            tunnelled(ip(hop, 6, ttl=1), 1),
            answer(
                icmp(3, 4, struct.pack("!HH", 0, 1480) + ip(too_large, 6, ttl=63)[:548]),
                1,
                1,
                tos=0xC0,
            ),
            answer(icmp(11, 0, bytes(4) + ip(hop, 6, ttl=1)), 1, 2, tos=0xC0),
            answer(icmp(0, 0, ping), 1, 3, tos=0x10),
            answer(tcp(0x04, client_port=40009, seq=77, back=True), 6, 0, flags=DF),
        ],
    )


def vlan():
    """Tag 7 on the port; the priority (here 5) does not travel on."""
    syn, query, ping = tcp(0x02), udp(b"query"), b"\x12\x34\x00\x01pointsman"
    write(
        "vlan-in.pcap",
        [
            padded(received(ip(syn, 6), tag=0xA007)),
            padded(received(ip(query, 17, flags=0), tag=7)),
            padded(received(ip(icmp(8, 0, ping), 1), tag=7)),
            padded(received(ip(syn, 6))),
            padded(received(ip(syn, 6), tag=8)),
        ],
    )
    write(
        "vlan-out.pcap",
        [
            *(announcement(own, 7) for own in (SOURCE, "192.0.2.1", VIP)),
            tunnelled(ip(syn, 6, ttl=63), 63, tag=7),
            tunnelled(ip(query, 17, ttl=63, flags=0), 63, flags=0, tag=7),
            answer(icmp(0, 0, ping), 1, 1, tag=7),
        ],
    )


plain()
vlan()
