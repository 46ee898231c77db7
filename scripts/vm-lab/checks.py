"""What is checked on each NIC while the director runs on it."""

from collections import Counter

from frames import (
    ICMP,
    INNER_LEN_MAX,
    IP,
    PORT_ADDRESS,
    ROUTER,
    SERVERS,
    VIP,
    Client,
    Ether,
    NEIGHBORS,
    encapsulated,
    fragment,
    hash_of,
    icmp_error,
    inner_identification,
    on_wire,
    outer_destination,
    outer_identification,
    toeplitz,
)

# Frames on their way at the same time: fewer than any ring has room for.
WINDOW = 64
ARRIVAL_SECONDS = 15
# Where flows are spread, and where all of them come to one queue.
FLOWS, FLOWS_ON_ONE_QUEUE = 128, 48
# Of those, how many also get fragments and ICMP errors.
OWNED_FLOWS, OWNED_FLOWS_ON_ONE_QUEUE = 32, 8


class Failed(Exception):
    """The director, or a script of ours, did something wrong."""


def expect(condition, *said):
    if not condition:
        raise Failed(" ".join(map(str, said)))


class Case:
    """A NIC with a director on it."""

    def __init__(self, nic, director, wire):
        self.nic, self.director, self.wire = nic, director, wire
        self.identification = 0
        self.flows = FLOWS if nic.spreads else FLOWS_ON_ONE_QUEUE
        self.owned_flows = OWNED_FLOWS if nic.spreads else OWNED_FLOWS_ON_ONE_QUEUE

    def next_identification(self):
        self.identification = self.identification % 65535 + 1
        return self.identification

    def forward(self, packets):
        """Sends packets and compares what comes back, byte by byte. Returns
        the real server of each."""
        servers = []
        for start in range(0, len(packets), WINDOW):
            servers += self.forward_window(packets[start : start + WINDOW])
        return servers

    def forward_window(self, packets):
        sent = {packet.id: packet for packet in packets}
        expect(len(sent) == len(packets), "two packets have one identification")
        for packet in packets:
            self.wire.send(on_wire(packet, self.nic.mac))
        servers = {}
        for frame in self.wire.take(len(packets), ARRIVAL_SECONDS):
            number, server = inner_identification(frame), outer_destination(frame)
            expect(number in sent, "a frame that nobody sent:", frame.hex())
            expect(number not in servers, "a frame came twice:", frame.hex())
            expect(server in SERVERS, server, "is no real server:", frame.hex())
            identification = outer_identification(frame)
            wanted = encapsulated(sent[number], server, self.nic.mac, identification)
            expect(frame == wanted, f"sent\n{frame.hex()}\nwanted\n{wanted.hex()}")
            expect(
                identification == 0 or not sent[number].flags.DF,
                "a packet with DF has an outer identification:",
                frame.hex(),
            )
            servers[number] = server
        lost = [f"{packet!r}" for packet in packets if packet.id not in servers]
        if lost:
            counters = {name: count for name, count in self.director.counters().items() if count}
            raise Failed(
                f"{len(lost)} of {len(packets)} packets did not come back, of which the first is "
                f"{lost[0]}; counters: {counters}"
            )
        return [servers[packet.id] for packet in packets]

    def queue_of(self, packet):
        """Where the NIC has to put it: the redirection table goes round the
        queues, and its length is a power of two."""
        if not self.nic.spreads:
            return 0
        return hash_of(packet) % self.nic.reta_len % self.nic.workers

    def spread_of(self, packets):
        spread = Counter(self.queue_of(packet) for packet in packets)
        return [spread[worker] for worker in range(self.nic.workers)]

    def received_while(self, action):
        """How many packets each worker received meanwhile, without answers to
        ARP, which have no hash and come to the first queue."""
        before, answers = self.director.received_by_worker(), self.wire.arp_answers
        result = action()
        after = self.director.received_by_worker()
        received = [a - b for a, b in zip(after, before)]
        received[0] -= self.wire.arp_answers - answers
        return received, result


def first_packet(case):
    """The first packet waits for ARP."""
    client = Client(10_000, "first")
    case.forward([client.ip(id=case.next_identification()) / client.tcp("S")])


def offloads(case):
    """What the NIC can do is found and named, and it takes what it is told."""
    port = case.director.show("ports")[0]
    found = port["capabilities"]
    table = found.pop("redirection_len")
    names = sorted(name for name, has in found.items() if has)
    expect(names == sorted(case.nic.abilities), "found", names)
    expect(table == case.nic.reta_len, f"a redirection table of {table}")
    log = case.director.log()
    warnings = [line for line in log.splitlines() if " WARN " in line]
    if case.nic.is_shared:
        said = f"1 of {case.nic.workers} workers receive; spread in software"
        expect(len(warnings) == 1 and warnings[0].endswith(said), log)
    else:
        expect(not warnings, log)


def answers_ping(case):
    expect(toeplitz(b"\0" * 12) == 0, "the hash is wrong")
    for address in (PORT_ADDRESS, VIP):
        request = (
            IP(src=ROUTER, dst=address, ttl=64, id=5)
            / ICMP(type=8, id=3, seq=9)
            / bytes(range(48))
        )
        case.wire.send(on_wire(request, case.nic.mac))
        frames = case.wire.take(1, ARRIVAL_SECONDS)
        expect(len(frames) == 1, address, "does not answer")
        answer = Ether(frames[0])
        expect((answer.src, answer.dst) == (case.nic.mac, NEIGHBORS[ROUTER]), repr(answer))
        message = IP(src=address, dst=ROUTER, ttl=answer[IP].ttl, id=answer[IP].id)
        message.flags = answer[IP].flags
        message /= ICMP(type=0, id=3, seq=9) / bytes(range(48))
        expect(bytes(answer[IP]) == bytes(message), repr(answer))


def flows(case):
    """Connections of many clients, with packets of all lengths."""
    clients = [Client(number, "flows") for number in range(case.flows)]
    opening = [client.ip(id=case.next_identification()) / client.tcp("S") for client in clients]
    received, first = case.received_while(lambda: case.forward(opening))
    expect(
        received == case.spread_of(opening),
        f"workers received {received}, not {case.spread_of(opening)}",
    )
    expect(set(first) == set(SERVERS), "not all real servers got connections:", set(first))
    room = INNER_LEN_MAX - 40
    packets = []
    for number, client in enumerate(clients):
        # Also the shortest and the longest there are.
        data = client.data(number * 37 % (room + 1) if number else room)
        fields = {"tos": number % 64 << 2, "id": case.next_identification()}
        flags = "DF" if number % 3 else 0
        packets.append(client.ip(flags=flags, **fields) / client.tcp("PA", data))
    received, second = case.received_while(lambda: case.forward(packets))
    expect(second == first, "a flow went to another real server than before")
    expect(
        received == case.spread_of(packets),
        f"workers received {received}, not {case.spread_of(packets)}",
    )
    if case.nic.spreads:
        expect(all(received), f"a queue got nothing: {received}")
    check_connections(case, clients, opening)
    print(f"    workers received {received}")


def owners(case):
    """Fragments and ICMP errors come to another queue than their flow, and
    still go by its connection."""
    clients = [Client(number, "owners") for number in range(case.owned_flows)]
    whole = [
        client.ip(id=case.next_identification()) / client.udp(client.data(20)) for client in clients
    ]
    servers = case.forward(whole)
    before = case.director.counters()
    astray = 0
    for client, packet, server in zip(clients, whole, servers):
        number = case.next_identification()
        parts = fragment(client.ip(id=number, flags=0) / client.udp(client.data(1200)), 600)
        expect(len(parts) == 3, "not three fragments")
        astray += case.queue_of(parts[0]) != case.queue_of(packet)
        forward_parts(case, parts, server)
    handed = case.director.counters()["handed_over"] - before["handed_over"]
    if case.nic.spreads:
        expect(astray > case.owned_flows // 2, f"only {astray} flows have fragments on another queue")
        expect(handed >= astray, f"{handed} packets were handed over, of {astray} at least")
    check_connections(case, clients, whole)
    print(f"    fragments of {astray} flows came to another queue; handed over: {handed}")


def forward_parts(case, parts, server):
    """Fragments of one packet have one identification."""
    for part in parts:
        case.wire.send(on_wire(part, case.nic.mac))
    got = case.wire.take(len(parts), ARRIVAL_SECONDS)
    expect(len(got) == len(parts), f"{len(got)} of {len(parts)} fragments came back")
    wanted = []
    for frame in got:
        expect(outer_destination(frame) == server, "a fragment went to another real server")
    for part in parts:
        wanted.append(encapsulated(part, server, case.nic.mac, 0))
    masked = sorted(without_outer_identification(frame) for frame in got)
    wanted = sorted(map(without_outer_identification, wanted))
    expect(masked == wanted, f"sent {[frame.hex() for frame in got]}")


def without_outer_identification(frame):
    """And its checksum with it, which is looked at on its own: a header with
    its checksum sums up to 0xffff (RFC 1071)."""
    header = frame[14:34]
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    expect(total == 0xFFFF, "a wrong outer checksum:", frame.hex())
    return frame[:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:]


def check_connections(case, clients, packets):
    """Each flow has one connection, on the worker that the NIC gives its whole
    packets to, or on any where workers share a queue."""
    found = {}
    for connection in case.director.show("connections --limit 5000")["connections"]:
        found.setdefault(connection["client"], []).append(connection["worker"])
    for client, packet in zip(clients, packets):
        workers = found.get(f"{client.address}:{client.l4_port}")
        if case.nic.is_shared:
            expect(workers and len(workers) == 1, f"{client.address} has connections on {workers}")
            continue
        expect(
            workers == [case.queue_of(packet)],
            f"{client.address} has connections on workers {workers}, not {case.queue_of(packet)}",
        )
    if case.nic.is_shared:
        used = {worker for workers in found.values() for worker in workers}
        expect(used == set(range(case.nic.workers)), f"only the workers {used} have connections")


def icmp_errors(case):
    clients = [Client(number, "errors") for number in range(case.owned_flows)]
    opening = [client.ip(id=case.next_identification()) / client.tcp("S") for client in clients]
    servers = case.forward(opening)
    before = case.director.counters()
    errors = [icmp_error(client, case.next_identification()) for client in clients]
    expect(case.forward(errors) == servers, "an error went to another real server than its flow")
    handed = case.director.counters()["handed_over"] - before["handed_over"]
    astray = sum(
        case.queue_of(error) != case.queue_of(packet) for error, packet in zip(errors, opening)
    )
    if case.nic.spreads:
        expect(astray > case.owned_flows // 2, f"only {astray} errors are on another queue")
        expect(handed >= astray, f"{handed} packets were handed over, of {astray} at least")
    check_connections(case, clients, opening)
    print(f"    {astray} errors came to another queue; handed over: {handed}")


def bad_checksums(case):
    """A wrong header checksum is counted and dropped, whoever finds it."""
    before = case.director.counters()["bad_ipv4_checksum"]
    count = 20
    for number in range(count):
        client = Client(number, "checksums")
        packet = client.ip(id=case.next_identification()) / client.tcp("S")
        frame = bytearray(on_wire(packet, case.nic.mac))
        frame[24 + number % 2] ^= 1 + number % 255
        case.wire.send(bytes(frame))
    client = Client(count, "checksums")
    case.forward([client.ip(id=case.next_identification()) / client.tcp("S")])
    after = case.director.counters()["bad_ipv4_checksum"]
    expect(after - before == count, f"{after - before} of {count} were counted")


CHECKS = [offloads, first_packet, answers_ping, flows, bad_checksums]
# Errors first: fragments leave notes by which a later flow may be asked about
# and opened elsewhere (docs/packet-path.md).
OWNER_CHECKS = [icmp_errors, owners]
