# SPDX-License-Identifier: MIT OR Apache-2.0
"""The line to the agent: takes calls and open files, gives replies. This module stands alone: copy it if you like."""

from __future__ import annotations

import array
import json
import os
import socket
import sys
import threading
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple, Union

DEFAULT_SOCKET = "/run/keepahead/control.sock"
INTERFACE = "io.keepahead.Control"

#: A file number, byte offset and length; length 0 is to the end of the file.
Range = Tuple[int, int, int]
#: A descriptor, or something with one.
File = Union[int, Any]

_said = threading.Event()


class KeepaheadError(RuntimeError):
    """A living agent refuses: `name` is the error of the interface, `parameters` name the thing and the limit."""

    def __init__(self, name: str, parameters: Any = None):
        super().__init__(name, parameters)
        self.name = name.rsplit(".", 1)[-1]
        self.parameters = parameters or {}


def _say_once(why: object) -> None:
    if _said.is_set() or os.environ.get("KEEPAHEAD_QUIET", "0") not in ("", "0"):
        return
    _said.set()
    print(f"keepahead: {why}; going on without it", file=sys.stderr)


class Connection:
    """A connection that hides nothing: OSError where there is no agent, KeepaheadError where it refuses."""

    FDS = 253  # the most that one message carries: the kernel's SCM_MAX_FD

    def __init__(self, path: Optional[str] = None, timeout: float = 60.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path or os.environ.get("KEEPAHEAD_SOCKET") or DEFAULT_SOCKET)
        except OSError:
            self.socket.close()
            raise
        self._buffer = bytearray()

    def send(self, method: str, parameters: Any, files: Sequence[File] = (), **flags: bool) -> None:
        """Sends a call of a method of the interface, or of another one where the name has a dot."""
        if "." not in method:
            method = f"{INTERFACE}.{method}"
        message = json.dumps({"method": method, "parameters": parameters, **flags}).encode() + b"\0"
        fds = array.array("i", [f if isinstance(f, int) else f.fileno() for f in files])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        sent = self.socket.sendmsg([message], rights)
        self.socket.sendall(message[sent:])

    def receive(self) -> Any:
        """The next reply, whole."""
        while (end := self._buffer.find(0)) < 0:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the agent has closed the connection")
            self._buffer += data
        reply = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        if "error" in reply:
            raise KeepaheadError(reply["error"], reply.get("parameters"))
        return reply

    def call(self, method: str, files: Sequence[File] = (), **parameters: Any) -> Any:
        """One call; the reply's parameters."""
        self.send(method, parameters, files)
        return self.receive().get("parameters", {})

    def close(self) -> None:
        self.socket.close()


class Client:
    """The line to the agent, if there is one; a context manager. Threads may share it. After a fork the child's copy does nothing:
    make another there. Its workloads end with it."""

    def __init__(self, path: Optional[str] = None):
        self._lock = threading.Lock()
        self._path = path
        self._pid = os.getpid()
        self._connection: Optional[Connection] = None
        try:
            self._connection = Connection(path)
        except OSError as e:
            _say_once(f"no agent at {path or os.environ.get('KEEPAHEAD_SOCKET') or DEFAULT_SOCKET}: {e}")

    def __bool__(self) -> bool:
        """Whether there is an agent."""
        return self._connection is not None and self._pid == os.getpid()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, files: Sequence[File] = (), oneway: bool = False, **parameters: Any) -> Any:
        """One call; the reply's parameters, or None without an agent."""
        if not self:
            return None
        with self._lock:
            try:
                if self._connection is None:
                    return None
                if oneway:
                    return self._connection.send(method, parameters, files, oneway=True)
                return self._connection.call(method, files, **parameters)
            except (OSError, json.JSONDecodeError) as gone:
                _say_once(f"the agent's socket: {gone}")
                self._connection = None
                return None

    def workload(self, name: str, budget: int = 64 << 20, hint: Optional[str] = None) -> "Workload":
        """Registers a workload. budget: bytes that may lie prefetched and unread. hint: sequential, random, strided, shuffled,
        once or reused."""
        parameters: Dict[str, Any] = {"name": name, "budget_bytes": budget}
        if hint is not None:
            parameters["hint"] = hint
        reply = self.call("Register", **parameters)
        return Workload(self, reply["workload"] if reply else None)

    def close(self) -> None:
        """Ends the connection and its workloads."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Workload:
    """Files and a plan; a context manager. Without an agent every method does nothing."""

    RANGES = 4096  # in one message: a quarter of what the agent takes

    def __init__(self, client: Client, number: Optional[int]):
        self._client = client
        self._orders: Any = None
        self.number = number

    def __bool__(self) -> bool:
        return self.number is not None and bool(self._client)

    def __enter__(self) -> "Workload":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, files: Sequence[File]) -> int:
        """Adds files, any number of them; the number of the first. They may be closed afterwards."""
        first = None
        for at in range(0, len(files) if self else 0, Connection.FDS):
            reply = self._client.call("AddFiles", files[at : at + Connection.FDS], workload=self.number)
            first = reply["first"] if reply and first is None else first
        return first or 0

    def _ranges(self, method: str, ranges: Iterable[Range], field: str) -> int:
        listed = [{"file": file, "offset": offset, "length": length} for file, offset, length in ranges]
        total = 0
        for at in range(0, len(listed) if self else 0, self.RANGES):
            reply = self._client.call(method, workload=self.number, ranges=listed[at : at + self.RANGES])
            total += reply[field] if reply else 0
        return total

    def plan(self, ranges: Iterable[Range]) -> None:
        """Appends ranges in the order in which they will be read. Reading ahead begins at once."""
        self._ranges("Plan", ranges, "ranges_total")

    def position(self, number: int, offset: int = 0) -> None:
        """The reader begins with range `number` of the plan. One send; no reply is waited for."""
        if self:
            self._client.call("Position", workload=self.number, range=number, offset=offset, oneway=True)

    def prefetch(self, ranges: Iterable[Range]) -> int:
        """Reads ranges into the page cache and waits; bytes cached then."""
        return self._ranges("Prefetch", ranges, "cached_bytes")

    def discard(self, ranges: Iterable[Range]) -> int:
        """Drops ranges from the page cache; bytes."""
        return self._ranges("Discard", ranges, "dropped_bytes")

    def stats(self) -> Optional[dict]:
        """The figures, as `Stats` of the interface; None without an agent."""
        return self._client.call("Stats", workload=self.number) if self else None

    def region(self, mapped: Any, file: int, offset: int = 0, start: int = 0, length: Optional[int] = None) -> Any:
        """A part of a map (`mmap.mmap`) that the agent may have advised: `length` bytes from its byte `start` on, where the map begins
        at byte `offset` of file number `file`. Whole pages. A thread takes the agent's orders and carries them out."""
        from ._regions import Orders

        if self._orders is None:
            self._orders = Orders(self, self._client._path)
        length = len(mapped) - start if length is None else length
        return self._orders.add(mapped, file, offset + start, start, length)

    def close(self) -> None:
        """Ends the workload: what was read ahead and never reached is dropped."""
        if self._orders is not None:
            self._orders.close()
        if self:
            try:
                self._client.call("Unregister", workload=self.number)
            finally:
                self.number = None
