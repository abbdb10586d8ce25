# SPDX-License-Identifier: MIT OR Apache-2.0
"""regions.py FILE: hands a map of it over and says what the kernel knows of it."""

import mmap
import os
import sys
import time

import keepahead
from keepahead._regions import _address


def wait(mapped, flag, there=True):
    while True:
        begins = f"{_address(mapped):08x}-"
        with open("/proc/self/smaps") as smaps:
            at = smaps.read().split(begins, 1)[1]
        flags = next(line for line in at.splitlines() if line.startswith("VmFlags:")).split()
        if (flag in flags) == there:
            return
        time.sleep(0.005)


with open(sys.argv[1], "rb") as file, keepahead.Client() as client, client.workload("regions", 1 << 20) as work:
    work.add([file])
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with work.region(mapped, 0) as region:
        print("ready", flush=True)
        wait(mapped, "rr")
        while region.advice != "random":
            time.sleep(0.005)
        print("advised", flush=True)
    wait(mapped, "rr", False)
    kept = work.region(mapped, 0)
    print("closed", flush=True)
    wait(mapped, "sr")
    work.close()
    wait(mapped, "sr", False)
    assert kept.advice == "normal", kept.advice
    late = keepahead.Client("/nonexistent").workload("none").region(mapped, 0)
    assert late.number is None
    late.close()
    print("scanned", flush=True)
