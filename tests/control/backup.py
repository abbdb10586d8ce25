# SPDX-License-Identifier: MIT OR Apache-2.0
"""backup.py FILE [SOCKET]: reads a file once from end to end, 128 KiB at a time; where a socket is given, as a workload of hint `once` with
a plan: fetched ahead of it, dropped behind it. Prints JSON."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import keepahead

fd, step, work = os.open(sys.argv[1], os.O_RDONLY), 8 << 20, None
size = os.fstat(fd).st_size
if len(sys.argv) > 2:
    client = keepahead.Client(sys.argv[2])
    assert client, "no agent"
    work = client.workload("backup", budget=32 << 20, hint="once")
    work.add([fd])
    work.plan([(0, at, min(step, size - at)) for at in range(0, size, step)])
begun, at = time.monotonic(), 0
while at < size:
    if work and at % step == 0:
        work.position(at // step)
    at += len(os.pread(fd, 128 << 10, at))
if work:
    work.position((size + step - 1) // step)
print(json.dumps({"seconds": time.monotonic() - begun, "mb_per_s": size / 1e6 / (time.monotonic() - begun)}))
