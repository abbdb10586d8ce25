# SPDX-License-Identifier: MIT OR Apache-2.0
"""Regions of this process's memory: takes maps of a workload's files, and gives the kernel the advice that the agent orders for them,
because nobody else may (`process_madvise(2)` refuses it). Without an agent, and after it has gone, they have none."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import threading
from typing import TYPE_CHECKING, Dict, List, Optional

from ._client import Connection, KeepaheadError, _say_once

if TYPE_CHECKING:
    from ._client import Workload

#: All that is ever carried out: what changes nothing but what is read ahead and what is kept.
ADVICE = {"normal": mmap.MADV_NORMAL, "random": mmap.MADV_RANDOM, "sequential": mmap.MADV_SEQUENTIAL}


class _Buffer(ctypes.Structure):
    """`Py_buffer`, as far as it is looked at; the rest is room."""

    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("rest", ctypes.c_byte * 128)]


def _address(mapped: mmap.mmap) -> int:
    # ctypes' own from_buffer() wants to write.
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(mapped), ctypes.byref(buffer), 0)
    try:
        return buffer.buf
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


class Region:
    """A part of a map that may be advised; a context manager. Close it before the map; a map that is closed first loses nothing."""

    def __init__(self, orders: "Orders", mapped: mmap.mmap, start: int, length: int):
        self._orders, self._mapped, self._start, self._length = orders, mapped, start, length
        self.number: Optional[int] = None
        #: What is in force now: normal, random or sequential.
        self.advice = "normal"

    def _advise(self, advice: str) -> int:
        """The errno; 0 where it was done."""
        if advice not in ADVICE:
            return errno.EPERM
        try:
            self._mapped.madvise(ADVICE[advice], self._start, self._length)
        except OSError as e:
            return e.errno or errno.EIO
        except ValueError:  # the map was closed
            return errno.EINVAL
        self.advice = advice
        return 0

    def close(self) -> None:
        """Ends it: what was advised is taken back."""
        self._orders._remove(self)

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Orders:
    """Waits for the orders of a workload, on a line of its own, in a thread of its own."""

    def __init__(self, workload: "Workload", path: Optional[str]):
        self._workload, self._path = workload, path
        self._lock = threading.Lock()
        self._regions: Dict[int, Region] = {}
        self._pid = os.getpid()
        self._ended = False
        self._connection: Optional[Connection] = None
        if workload:
            threading.Thread(target=self._serve, name="keepahead orders", daemon=True).start()

    def add(self, mapped: mmap.mmap, file: int, offset: int, start: int, length: int) -> Region:
        region = Region(self, mapped, start, length)
        asked = {"address": _address(mapped) + start, "length": length, "file": file, "offset": offset}
        reply = self._workload._client.call("AddRegions", workload=self._workload.number, regions=[asked]) if self._workload else None
        if reply:
            # Orders follow some seconds of watching, never at once.
            with self._lock:
                region.number = reply["first"]
                self._regions[region.number] = region
        return region

    def _remove(self, region: Region) -> None:
        number, region.number = region.number, None
        if number is None or self._pid != os.getpid():
            return
        with self._lock:
            self._regions.pop(number, None)
            region._advise("normal")
        if self._workload:
            try:
                self._workload._client.call("RemoveRegion", workload=self._workload.number, region=number)
            except KeepaheadError:
                pass  # the agent was faster: a workload of a lost line ends with its regions

    def _serve(self) -> None:
        done: List[Dict[str, int]] = []
        try:
            self._connection = Connection(self._path)
            while not self._ended:
                orders = self._connection.call("Orders", workload=self._workload.number, done=done)["orders"]
                with self._lock:
                    done = [{"order": order["order"], "errno": self._carry_out(order)} for order in orders]
        except (OSError, json.JSONDecodeError, KeepaheadError, KeyError) as gone:
            # A workload that ends takes its orders along.
            if not self._ended and getattr(gone, "name", None) != "NoSuchWorkload":
                _say_once(f"orders from the agent: {gone}")
        finally:
            if self._connection is not None:
                self._connection.close()
            with self._lock:
                for region in self._regions.values():
                    region._advise("normal")

    def _carry_out(self, order: dict) -> int:
        region = self._regions.get(order["region"])
        return errno.ENOENT if region is None else region._advise(order["advice"])

    def close(self) -> None:
        """Takes all advice back."""
        self._ended = True
        if self._connection is not None and self._pid == os.getpid():
            try:
                self._connection.socket.shutdown(2)  # wakes the thread
            except OSError:
                pass
        for region in list(self._regions.values()):
            self._remove(region)
