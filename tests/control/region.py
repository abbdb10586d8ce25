# SPDX-License-Identifier: MIT OR Apache-2.0
"""region.py SOCKET FILE SECONDS PART...: a program that maps one open file and reads parts of it in ways of their own, a thread each.
PART is KIND:FROM:MIB[:HOT[:ADVICE]]: `lookups` touches pages at random, nine of ten in the first HOT MiB; `scan` touches all in order,
again and again. ADVICE, where SOCKET is `-`: random, sequential (madvise of the part), noreuse (POSIX_FADV_NOREUSE of the file), or
`-`. Prints a JSON line a second: MB touched and major faults of each part since the last, and what keepahead says."""

import ctypes
import json
import mmap
import os
import random
import resource
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import keepahead
from keepahead._regions import ADVICE, _address

address, path, seconds, parts = sys.argv[1], sys.argv[2], float(sys.argv[3]), [p.split(":") for p in sys.argv[4:]]
# Calls through ctypes let other threads run, so that a page fault holds up its own thread alone.
touch = ctypes.CDLL(None).memchr
touch.argtypes, touch.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
fd = os.open(path, os.O_RDONLY)
work, begun, over = None, time.monotonic(), False
if address != "-":
    client = keepahead.Client(address)
    assert client, "no agent"
    work = client.workload("regions", budget=1 << 20)
    work.add([fd])


class Part(threading.Thread):
    def __init__(self, kind, start, mib, hot="0", advice="-"):
        super().__init__(daemon=True)
        self.kind, self.pages, self.hot, self.touched, self.faults = kind, int(mib) << 8, int(hot) << 8, 0, 0
        self.mapped = mmap.mmap(fd, self.pages * 4096, prot=mmap.PROT_READ, offset=int(start) << 20)
        self.at = _address(self.mapped)
        if work:
            self.region = work.region(self.mapped, 0, int(start) << 20)
        elif advice == "noreuse":
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NOREUSE)
        elif advice != "-":
            self.mapped.madvise(ADVICE[advice])

    def run(self):
        draw, page = random.Random(self.pages), 0
        while not over:
            for _ in range(32):
                if self.kind == "scan":
                    page = (page + 1) % self.pages
                else:
                    page = draw.randrange(self.hot if self.hot and draw.random() < 0.9 else self.pages)
                touch(self.at + page * 4096, 0, 1)
            self.touched += 32
            self.faults = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt

    def since(self, before):
        return {"kind": self.kind, "mb": (self.touched - before[0]) * 4096 / 1e6, "faults": self.faults - before[1]}


parts = [Part(*part) for part in parts]
for part in parts:
    part.start()
while time.monotonic() - begun < seconds:
    before = [(part.touched, part.faults) for part in parts]
    time.sleep(1)
    line = {"at_s": time.monotonic() - begun, "parts": [part.since(b) for part, b in zip(parts, before)]}
    if work:
        # None where the agent has gone.
        line["advised"] = (work.stats() or {}).get("advised")
        line["in_force"] = [part.region.advice for part in parts]
    print(json.dumps(line), flush=True)
over = True
for part in parts:
    part.join()
