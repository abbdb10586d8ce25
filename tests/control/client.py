# SPDX-License-Identifier: MIT OR Apache-2.0
"""A client of the control socket in the standard library alone: docs/control.md shows this file, tests/control.rs runs it.

    keepahead = Keepahead("/run/keepahead/control.sock")
    keepahead.call("Status")
    work = keepahead.register("epoch", 64 << 20, [open(p, "rb") for p in paths], hint="shuffled")
"""

import array
import json
import socket


class Keepahead:
    FDS = 253  # the most that one message carries

    def __init__(self, path="/run/keepahead/control.sock"):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.buffer = b""

    def send(self, method, parameters, files=(), **flags):
        if "." not in method:
            method = "io.keepahead.Control." + method
        message = json.dumps({"method": method, "parameters": parameters, **flags}).encode() + b"\0"
        fds = array.array("i", [f if isinstance(f, int) else f.fileno() for f in files])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if files else []
        sent = self.socket.sendmsg([message], rights)
        self.socket.sendall(message[sent:])

    def receive(self):
        while b"\0" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("keepahead has closed the connection")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        reply = json.loads(message)
        if "error" in reply:
            raise RuntimeError(reply["error"], reply.get("parameters"))
        return reply

    def call(self, method, files=(), **parameters):
        self.send(method, parameters, files)
        return self.receive()["parameters"]

    def register(self, name, budget, files, hint=None):
        parameters = {"name": name, "budget_bytes": budget, **({"hint": hint} if hint else {})}
        work = self.call("Register", files[: self.FDS], **parameters)["workload"]
        for at in range(self.FDS, len(files), self.FDS):
            self.call("AddFiles", files[at : at + self.FDS], workload=work)
        return work

    def plan(self, work, ranges, part=4096):
        for at in range(0, len(ranges), part):
            self.call("Plan", workload=work, ranges=ranges[at : at + part])

    def position(self, work, number):
        """No reply is waited for: it costs the reader one send."""
        self.send("Position", {"workload": work, "range": number}, oneway=True)
