# SPDX-License-Identifier: MIT OR Apache-2.0
"""region.py FILE SECONDS PART...: one program with one open file and a process for each PART of its mapping, given as
KIND:FROM:MIB[:HOT[:ADVICE]]: `lookups` touches pages at random, nine of ten in the first HOT MiB; `scan` touches all in order, again and
again. ADVICE: random, sequential, normal (madvise of the part), noreuse (POSIX_FADV_NOREUSE of the file) or `-`. Prints a JSON line
with what each part did in the second half of the time: touched MB/s, and major faults a touch."""

import ctypes
import json
import mmap
import os
import random
import resource
import sys
import time

ADVICE = {"normal": mmap.MADV_NORMAL, "random": mmap.MADV_RANDOM, "sequential": mmap.MADV_SEQUENTIAL}
path, seconds = sys.argv[1], float(sys.argv[2])
fd = os.open(path, os.O_RDONLY)


def touch(kind, start, mib, hot="0", advice="-"):
    """Runs a part to its end; its figures."""
    pages, hot_pages = int(mib) << 8, int(hot) << 8
    mapped = mmap.mmap(fd, pages * 4096, prot=mmap.PROT_READ, offset=int(start) << 20)
    if advice == "noreuse":
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NOREUSE)
    elif advice != "-":
        mapped.madvise(ADVICE[advice])
    draw, at, touched, half = random.Random(os.getpid()), 0, 0, None
    begun = now = time.monotonic()
    while now - begun < seconds:
        for _ in range(32):
            if kind == "scan":
                at = (at + 1) % pages
            elif hot_pages and draw.random() < 0.9:
                at = draw.randrange(hot_pages)
            else:
                at = draw.randrange(pages)
            mapped[at * 4096]
        touched += 32
        now = time.monotonic()
        if half is None and now - begun >= seconds / 2:
            half = (now, touched, resource.getrusage(resource.RUSAGE_SELF).ru_majflt)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - half[2]
    pages = touched - half[1]
    return {"kind": kind, "mb_per_s": pages * 4096 / 1e6 / (now - half[0]), "faults_per_touch": faults / max(pages, 1)}


readers = []
for part in sys.argv[3:]:
    out, into = os.pipe()
    if os.fork() == 0:
        os.write(into, json.dumps(touch(*part.split(":"))).encode())
        os._exit(0)
    os.close(into)
    readers.append(out)
print(json.dumps([json.loads(os.read(out, 4096)) for out in readers]))
