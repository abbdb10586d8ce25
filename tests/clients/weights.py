# SPDX-License-Identifier: MIT OR Apache-2.0
"""weights.py FILE make MIB [KIB] | weights.py FILE WORK_MS [SOCKET]: makes a safetensors file of tensors of KIB (1024); or loads it through its map
in a scattered order, one byte of each page, and computes for WORK_MS on each tensor, as a conversion would; with a plan where a socket
is given. Prints JSON."""

import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import keepahead
import keepahead.weights

path = sys.argv[1]
if sys.argv[2:3] == ["make"]:
    size = (int(sys.argv[4]) if len(sys.argv) > 4 else 1024) << 10
    count = (int(sys.argv[3]) << 20) // size
    entries = {f"t{n}": {"dtype": "U8", "shape": [size], "data_offsets": [n * size, (n + 1) * size]} for n in range(count)}
    header = json.dumps(entries).encode()
    block = random.Random(1).randbytes(size)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + block * count)
        os.fsync(file.fileno())
    sys.exit()
work_ms = float(sys.argv[2])
client = keepahead.Client(sys.argv[3] if len(sys.argv) > 3 else "/nonexistent")
assert bool(client) == (len(sys.argv) > 3), "no agent"
with open(path, "rb") as file:
    names = list(keepahead.weights._header(file, os.path.getsize(path))[0])
random.Random(3).shuffle(names)
begun, pages = time.monotonic(), 0
with keepahead.weights.load(path, names, client=client) as weights:
    for name, tensor in weights.items():
        for at in range(0, len(tensor.data), 4096):
            pages += tensor.data[at] >= 0
        until = time.monotonic() + work_ms / 1000
        while time.monotonic() < until:
            pass
    stats = weights.stats()
seconds = time.monotonic() - begun
print(json.dumps({"seconds": seconds, "mb_per_s": pages * 4096 / seconds / 1e6, "stats": stats}))
