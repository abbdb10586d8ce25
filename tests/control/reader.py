# SPDX-License-Identifier: MIT OR Apache-2.0
"""reader.py FILE SECONDS: serves random 4 KiB reads, and asks before each whether the page is cached (RWF_NOWAIT). After a first pass over
the file prints a JSON line a second: the share that was."""

import json
import os
import random
import sys
import time

fd, seconds = os.open(sys.argv[1], os.O_RDONLY), float(sys.argv[2])
pages = os.fstat(fd).st_size // 4096
while os.read(fd, 1 << 20):
    pass
buffer, draw = bytearray(4096), random.Random(5)
begun = last = time.monotonic()
hits = reads = 0
while last - begun < seconds:
    at = draw.randrange(pages) * 4096
    reads += 1
    try:
        os.preadv(fd, [buffer], at, os.RWF_NOWAIT)
        hits += 1
    except BlockingIOError:
        os.preadv(fd, [buffer], at)
    time.sleep(0.0002)
    now = time.monotonic()
    if now - last >= 1:
        print(json.dumps({"at_s": now - begun, "hit_ratio": hits / reads, "reads": reads}), flush=True)
        last, hits, reads = now, 0, 0
