"""The outside end of an emulated NIC: one frame a datagram."""

import socket
import threading
import time

ARP_HEADER = bytes.fromhex("0001080006040001")


class Wire:
    """Sends frames to a NIC and keeps what comes from it. Answers ARP for the
    neighbors of the director, and counts the answers."""

    def __init__(self, folder, name, neighbors):
        self.to_nic = f"{folder}/{name}.q"
        self.neighbors = neighbors
        self.arp_answers = 0
        self.frames = []
        self.arrived = threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(f"{folder}/{name}.h")
        self.socket.settimeout(0.2)
        self.closed = False
        self.thread = threading.Thread(target=self.receive, daemon=True)
        self.thread.start()

    def receive(self):
        while not self.closed:
            try:
                frame = self.socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            kind = frame[12:14]
            if kind == b"\x08\x06":
                self.answer_arp(frame)
            elif kind == b"\x08\x00":
                with self.arrived:
                    self.frames.append(frame)
                    self.arrived.notify()

    def answer_arp(self, frame):
        asker, wanted = frame[22:32], frame[38:42]
        mac = self.neighbors.get(socket.inet_ntoa(wanted))
        if frame[14:22] != ARP_HEADER or mac is None:
            return
        mac = bytes.fromhex(mac.replace(":", ""))
        answer = frame[6:12] + mac + b"\x08\x06" + ARP_HEADER[:7] + b"\x02" + mac + wanted + asker
        self.arp_answers += 1
        try:
            self.send(answer)
        except OSError:
            # The machine is gone, which whoever waits for frames finds out.
            pass

    def send(self, frame):
        # Shorter ones do not exist on Ethernet.
        self.socket.sendto(frame.ljust(60, b"\0"), self.to_nic)

    def take(self, count, seconds):
        """Waits until `count` frames of IPv4 have come, or for `seconds`, and
        takes what has come by then."""
        deadline = time.monotonic() + seconds
        with self.arrived:
            while len(self.frames) < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.arrived.wait(left)
            taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    def close(self):
        self.closed = True
        self.thread.join()
        self.socket.close()
