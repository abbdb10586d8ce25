# SPDX-License-Identifier: MIT OR Apache-2.0
"""crowd.py SOCKET DIR CONNECTIONS PLANS: holds CONNECTIONS idle connections, and PLANS clients each with a plan over the file DIR/small,
whose readers go on and on: a position a client and second, and the plan anew at its end. Prints JSON when all stand, then one
line a second with the positions sent."""

import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import keepahead

address, where, idle, plans = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
held = []
for _ in range(idle):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(address)
fd = os.open(os.path.join(where, "small"), os.O_RDONLY)
pieces, size = 64, os.fstat(fd).st_size
step = size // pieces
works = []
for n in range(plans):
    client = keepahead.Client(address)
    assert client, "no agent"
    work = client.workload(f"crowd-{n}", budget=2 * step, hint="reused")
    work.add([fd])
    works.append([work, 0, 0])
print(json.dumps({"connections": len(held) + len(works), "plans": len(works)}), flush=True)
while True:
    begun = time.monotonic()
    for n, state in enumerate(works):
        work, at, total = state
        if at == total:
            work.plan([(0, k * step, step) for k in range(pieces)])
            state[2] += pieces
        state[1] += 1
        work.position(state[1])
        # Spread over the second.
        if n % 50 == 49:
            time.sleep(max(0.0, begun + (n + 1) / len(works) - time.monotonic()))
    print(json.dumps({"moved": len(works), "seconds": time.monotonic() - begun}), flush=True)
