#!/usr/bin/env python3
"""Writes a profile for Pktgen-DPDK: commands that pktgen -f reads.

    scripts/pktgen/pktgen_profile.py --director-mac 02:00:00:00:00:10 \\
        --kind open --flows 64k >open.pkt
    scripts/pktgen/pktgen_profile.py --director-mac 02:00:00:00:00:10 \\
        --kind tcp --flows 64k --size 64 >trial.pkt

The commands are those of Pktgen 24.10 and later, which can set TCP flags.
docs/rfc2544.md says how to use them.
"""

import sys

import traffic

# Of a 16-bit source port, the bits that are drawn at random for IMIX.
SOURCE_PORT_OFFSET = 34
SEQUENCE_MAX = 16


def commands(wanted, port):
    """The lines of a profile for a port of Pktgen."""
    lines = [f"stop {port}", f"set {port} count 0", f"set {port} ttl 64"]
    if wanted.size == "imix":
        return lines + sequence(wanted, port)
    return lines + range_of(wanted, port)


def range_of(wanted, port):
    """Frames of one size; addresses and ports step with each packet."""
    addresses, ports = wanted.cycle()
    last_client = wanted.clients + addresses - 1
    last_port = traffic.PORT_FIRST + ports - 1

    def fixed(what, value, step):
        return f"range {port} {what} {value} {value} {value} {step}"

    lines = [
        f"set {port} seq_cnt 0",
        f"disable {port} random",
        fixed("dst mac", wanted.director_mac, "00:00:00:00:00:00"),
        fixed("src mac", wanted.source_mac, "00:00:00:00:00:00"),
        fixed("dst ip", wanted.vip, "0.0.0.0"),
        f"range {port} src ip {wanted.clients} {wanted.clients} {last_client} "
        f"0.0.0.{int(addresses > 1)}",
        f"range {port} proto {wanted.protocol}",
        fixed("dst port", wanted.service_port, 0),
        f"range {port} src port {traffic.PORT_FIRST} {traffic.PORT_FIRST} {last_port} {int(ports > 1)}",
        fixed("size", wanted.size, 0),
    ]
    if wanted.protocol == "tcp":
        flag = {"A": "ack", "S": "syn"}[wanted.flags]
        lines += [f"range {port} tcp flag clr all", f"range {port} tcp flag set {flag}"]
    return lines + [f"enable {port} range"]


def sequence(wanted, port):
    """Frames of several sizes: a sequence of packets, with random bits as the
    source port. Pktgen cannot mix sizes while it steps through ranges, and
    neither sets TCP flags in a sequence."""
    bits = (wanted.flows - 1).bit_length()
    if wanted.protocol != "udp" or not 1 <= bits <= 16:
        sys.exit("with Pktgen imix is for --kind udp and 2 to 65536 flows; use TRex for others")
    lines = [f"disable {port} range"]
    sizes = [size for size, weight in wanted.frames() for _ in range(weight)]
    # Long ones in between, not in a row.
    sizes = [sizes[(number * 5) % len(sizes)] for number in range(len(sizes))]
    for number, size in enumerate(sizes):
        lines.append(
            f"seq {number} {port} {wanted.director_mac} {wanted.source_mac} {wanted.vip} "
            f"{wanted.clients}/32 {traffic.PORT_FIRST} {wanted.service_port} ipv4 udp 1 {size} 0"
        )
    mask = "." * (16 - bits) + "X" * bits
    lines.append(f"set {port} seq_cnt {len(sizes)}")
    lines.append(f"set {port} rnd 0 {SOURCE_PORT_OFFSET} {mask}")
    return lines


def main():
    """Prints the profile that the command line describes."""
    options = traffic.parser("Writes a profile for Pktgen-DPDK.")
    options.add_argument("--port", type=int, default=0, help="of Pktgen, that sends")
    arguments = options.parse_args()
    print("\n".join(commands(traffic.from_arguments(arguments), arguments.port)))


if __name__ == "__main__":
    main()
