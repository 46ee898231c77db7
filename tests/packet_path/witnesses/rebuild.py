"""Has scapy take each packet of a capture apart and put it together again.

    rebuild.py CAPTURE GUE_PORT

Lengths and checksums are left out and computed by scapy; the bytes must then
be those of the capture. Fragments are checked one by one, then as the packet
that they make. Prints how many whole packets came out the same.
"""

import sys

from scapy.all import (
    IP, TCP, UDP, ByteField, ICMP, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting, Packet,
    Raw, ShortField, bind_layers, conf, defragment, defragment6, rdpcap,
)
from scapy.layers.l2 import GRE


class GUE(Packet):
    """Version 0 without extension fields (draft-ietf-intarea-gue)."""

    fields_desc = [ByteField("first", 0), ByteField("proto", 4), ShortField("flags", 0)]

    def guess_payload_class(self, payload):
        return {4: IP, 41: IPv6}.get(self.proto, Raw)


OPTIONS = (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt)
ROUTING = (IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting)


def forget(packet):
    """Deletes what scapy computes by itself."""
    layer = packet
    while layer:
        if isinstance(layer, IP):
            del layer.len, layer.chksum
        elif isinstance(layer, IPv6):
            del layer.plen, layer.nh
        elif isinstance(layer, OPTIONS + ROUTING):
            del layer.nh, layer.len
        elif isinstance(layer, UDP):
            del layer.len
            # 0 says that there is none.
            if layer.chksum != 0:
                del layer.chksum
        elif isinstance(layer, TCP):
            del layer.chksum
        elif isinstance(layer, GRE) and layer.chksum_present:
            del layer.chksum
        elif isinstance(layer, ICMP):
            del layer.chksum
            # What it quotes is as it was when it was cut off.
            layer.remove_payload()
        layer = layer.payload
    return packet


def check(name, original, rebuilt):
    if original != rebuilt:
        sys.exit(f"{name}:\nis      {original.hex()}\nrebuilt {rebuilt.hex()}")


def main(capture, port):
    bind_layers(UDP, GUE, dport=port)
    # What the client's ports stand for is of no interest.
    conf.layers.filter([
        IP, IPv6, IPv6ExtHdrFragment, *OPTIONS, *ROUTING, TCP, UDP, GRE, GUE, ICMP,
        Raw,
    ])
    whole, pieces, pieces6 = 0, [], {}
    for number, frame in enumerate(rdpcap(capture), 1):
        packet = frame.payload
        original = bytes(packet.original)
        if isinstance(packet, IP) and (packet.flags.MF or packet.frag):
            pieces.append(IP(original))
            piece = IP(original[:20]) / Raw(original[20:])
            check(f"fragment {number}", original, bytes(forget(piece)))
        elif isinstance(packet.payload, IPv6ExtHdrFragment):
            header = IPv6ExtHdrFragment(original[40:48])
            piece = IPv6(original[:40]) / header / Raw(original[48:])
            check(f"fragment {number}", original, bytes(forget(piece)))
            pieces6.setdefault(header.id, []).append(IPv6(original))
        else:
            check(f"packet {number}", original, bytes(forget(packet)))
            whole += 1
    for packet in defragment(pieces):
        original = bytes(packet)
        again = forget(IP(original))
        check("reassembled packet", original, bytes(again))
        whole += 1
    for fragments in pieces6.values():
        original = bytes(defragment6(fragments))
        check("reassembled packet", original, bytes(forget(IPv6(original))))
        whole += 1
    print(whole)


main(sys.argv[1], int(sys.argv[2]))
