"""A profile for TRex in stateless mode, for its console and its API:

    start -f scripts/pktgen/trex_profile.py -p 0 -m 10% -t \\
        --director-mac 02:00:00:00:00:10 --kind udp --flows 1M --size imix

Sums of TCP stay wrong when addresses change: a director does not look at them.
docs/rfc2544.md says how to use it.
"""

import traffic
from trex.stl.api import (
    IP,
    TCP,
    UDP,
    Ether,
    STLPktBuilder,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLTXSingleBurst,
    STLVmFixIpv4,
    STLVmFlowVar,
    STLVmTupleGen,
    STLVmWrFlowVar,
)

# While connections are opened: any table keeps up with that.
OPENED_PER_SECOND = 200_000


def streams(wanted):
    """A stream for each frame size."""
    return [stream(wanted, size, weight) for size, weight in wanted.frames()]


def stream(wanted, size, weight):
    """Frames of one size; `weight` of them a second before TRex multiplies."""
    packet = Ether(src=wanted.source_mac, dst=wanted.director_mac) / IP(
        src=str(wanted.clients), dst=str(wanted.vip), flags="DF"
    )
    if wanted.protocol == "udp":
        packet /= UDP(sport=traffic.PORT_FIRST, dport=wanted.service_port, chksum=0)
    else:
        packet /= TCP(sport=traffic.PORT_FIRST, dport=wanted.service_port, flags=wanted.flags)
    padding = max(0, size - traffic.FCS_LEN - len(packet))
    mode = STLTXCont(pps=weight)
    if wanted.kind == "open":
        mode = STLTXSingleBurst(pps=OPENED_PER_SECOND, total_pkts=flows_of_grid(wanted))
    packet = STLPktBuilder(pkt=packet / (b"\0" * padding), vm=STLScVmRaw(flows(wanted)))
    return STLStream(name=f"{wanted.kind}-{size}", packet=packet, mode=mode)


def flows(wanted):
    """What changes from packet to packet: the client and its port."""
    addresses, ports = wanted.grid()
    layer = "UDP" if wanted.protocol == "udp" else "TCP"
    first, last = int(wanted.clients), int(wanted.clients) + addresses - 1
    port_last = traffic.PORT_FIRST + ports - 1
    if wanted.kind == "open":
        # Each pair once, in turn.
        variables = [
            STLVmTupleGen(
                name="flow",
                ip_min=str(wanted.clients),
                ip_max=str(wanted.clients + addresses - 1),
                port_min=traffic.PORT_FIRST,
                port_max=port_last,
                limit_flows=addresses * ports,
            )
        ]
        names = ("flow.ip", "flow.port")
    else:
        variables = [
            STLVmFlowVar(name="client", min_value=first, max_value=last, size=4, op="random"),
            STLVmFlowVar(
                name="port", min_value=traffic.PORT_FIRST, max_value=port_last, size=2, op="random"
            ),
        ]
        names = ("client", "port")
    return variables + [
        STLVmWrFlowVar(fv_name=names[0], pkt_offset="IP.src"),
        STLVmWrFlowVar(fv_name=names[1], pkt_offset=f"{layer}.sport"),
        STLVmFixIpv4(offset="IP"),
    ]


def flows_of_grid(wanted):
    """Flows that there are, once their number is a product."""
    addresses, ports = wanted.grid()
    return addresses * ports


class Profile:
    """What TRex asks for streams."""

    def get_streams(self, tunables, **_):
        """The streams that these options describe."""
        arguments = traffic.parser("Packets to a director.").parse_args(tunables)
        return streams(traffic.from_arguments(arguments))


def register():
    """The name that TRex looks for."""
    return Profile()
