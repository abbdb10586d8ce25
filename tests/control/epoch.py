# SPDX-License-Identifier: MIT OR Apache-2.0
"""epoch.py DIR COUNT WORK_MS [SOCKET]: reads the files f0, f1 ... once, shuffled, in one thread, 16 KiB at a time, and computes for
WORK_MS on each, as a decoder would; with a plan where a socket is given. Prints JSON."""

import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from client import Keepahead

where, count, work_ms = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
order = list(range(count))
random.Random(7).shuffle(order)
paths = [os.path.join(where, f"f{n}") for n in order]
begun = time.monotonic()
k, work, stats = None, None, None
if len(sys.argv) > 4:
    k = Keepahead(sys.argv[4])
    work = k.call("Register", name="epoch", budget_bytes=64 << 20, hint="shuffled")["workload"]
    for at in range(0, count, k.FDS):
        part = [os.open(p, os.O_RDONLY) for p in paths[at : at + k.FDS]]
        k.call("AddFiles", part, workload=work)
        for fd in part:
            os.close(fd)
        k.plan(work, [{"file": at + n, "offset": 0, "length": 0} for n in range(len(part))])
total = 0
for n, path in enumerate(paths):
    if k:
        k.position(work, n)
    fd = os.open(path, os.O_RDONLY)
    while data := os.read(fd, 16 << 10):
        total += len(data)
    os.close(fd)
    until = time.monotonic() + work_ms / 1000
    while time.monotonic() < until:
        pass
seconds = time.monotonic() - begun
if k:
    k.position(work, count)
    for _ in range(500):  # the figures follow the position within milliseconds
        stats = k.call("Stats", workload=work)
        if sum(stats[what]["ranges"] for what in ("hits", "late", "missed", "lost")) == count:
            break
        time.sleep(0.01)
print(json.dumps({"seconds": seconds, "mb_per_s": total / seconds / 1e6, "stats": stats}))
