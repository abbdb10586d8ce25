# SPDX-License-Identifier: MIT OR Apache-2.0
"""epoch.py DIR COUNT WORK_MS [SOCKET]: reads the files f0, f1 ... once, shuffled, in one thread, 16 KiB at a time, and computes for
WORK_MS on each, as a decoder would; through the Python package where a socket is given. Prints JSON."""

import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import keepahead
from keepahead._files import Ahead

where, count, work_ms = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
order = list(range(count))
random.Random(7).shuffle(order)
paths = [os.path.join(where, f"f{n}") for n in order]
begun = time.monotonic()
ahead, stats = None, None
if len(sys.argv) > 4:
    client = keepahead.Client(sys.argv[4])
    assert client, "no agent"
    ahead = Ahead(paths, 64 << 20, "shuffled", "epoch", client)
total = 0
for n, path in enumerate(paths):
    if ahead:
        ahead.reach(n)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(16 << 10):
            total += len(data)
    until = time.monotonic() + work_ms / 1000
    while time.monotonic() < until:
        pass
seconds = time.monotonic() - begun
if ahead:
    for _ in range(500):  # the figures follow the position within milliseconds
        stats = ahead.stats()
        if sum(stats[what]["ranges"] for what in ("hits", "late", "missed", "lost")) == count:
            break
        time.sleep(0.01)
print(json.dumps({"seconds": seconds, "mb_per_s": total / seconds / 1e6, "stats": stats}))
