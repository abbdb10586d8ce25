# SPDX-License-Identifier: MIT OR Apache-2.0
"""tenant.py SOCKET FILE KIND HINT SECONDS: a program that hands its descriptor over and reads: KIND is `sequential` (16 KiB reads, again
and again) or `random` (touches of mapped pages). SOCKET or HINT `-`: none. Prints a JSON line a second: MB/s, and what keepahead says.
At SIGUSR1 it hands 256 more descriptors over, of a file FILE.more."""

import json
import mmap
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import keepahead

address, path, kind, hint, seconds = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
work = None
if address != "-":
    client = keepahead.Client(address)
    assert client, "no agent"
    work = client.workload(kind, budget=1 << 20, hint=None if hint == "-" else hint)
    work.add([fd])


def grow(*_):
    work.add([os.open(path + ".more", os.O_RDONLY) for _ in range(256)])


signal.signal(signal.SIGUSR1, grow)
mapped = mmap.mmap(fd, size, prot=mmap.PROT_READ) if kind == "random" else None
draw, buffer, at, pages = random.Random(os.getpid()), bytearray(16 << 10), 0, size // 4096


def piece():
    """Some work; its bytes."""
    global at
    if mapped:
        sum(mapped[draw.randrange(pages) * 4096] for _ in range(16))
        return 16 * 4096
    got = os.preadv(fd, [buffer], at)
    at = (at + got) % size
    return got


begun = last = time.monotonic()
done = 0
while last - begun < seconds:
    done += piece()
    now = time.monotonic()
    if now - last >= 1:
        line = {"at_s": now - begun, "mb_per_s": done / 1e6 / (now - last)}
        if work:
            # None where the agent has gone.
            line["advised"] = (work.stats() or {}).get("advised")
        print(json.dumps(line), flush=True)
        last, done = time.monotonic(), 0
