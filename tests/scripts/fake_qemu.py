#!/usr/bin/env python3
"""Stands in the place of QEMU for scripts/vm-lab: a machine on whose serial
line somebody answers, and which ends as the test wants. ENDS says when and how:
start, a part of a command ("" for before it is up), and how; "*" is any start.
"""

import os
import re
import signal
import socket
import sys
from pathlib import Path

if sys.argv[-1].endswith(",help"):
    sys.exit(0)

HERE = Path(__file__).parent
ANSWERS = {"hugepages.sh set": "160 pages of 2M are reserved\n"}

with open(HERE / "starts", "a+") as starts:
    starts.write("start\n")
    starts.seek(0)
    number_of_start = len(starts.readlines())
when, at, how = os.environ["ENDS"].split("|")
is_meant = when in ("*", str(number_of_start))


def end():
    if how == "abort":
        os.kill(os.getpid(), signal.SIGABRT)
    sys.exit(int(how))


if is_meant and not at:
    end()
line = " ".join(sys.argv)
out = Path(re.search(r"path=([^ ,]+),mount_tag=hostout", line)[1])
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(re.search(r"id=agent,path=([^ ,]+)", line)[1])
listener.listen()
agent = listener.accept()[0].makefile("rw")
print("ready", file=agent, flush=True)
for request in agent:
    number, command = request.rstrip("\n").split(" ", 1)
    if is_meant and at in command:
        end()
    said = next((text for part, text in ANSWERS.items() if part in command), "")
    (out / f"{number}.out").write_text(said)
    print(number, 0 if said else 1, file=agent, flush=True)
