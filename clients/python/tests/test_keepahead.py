# SPDX-License-Identifier: MIT OR Apache-2.0
"""With an agent at KEEPAHEAD_SOCKET, and without one where that is not set: python3 -m unittest discover -s clients/python/tests"""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import keepahead
import keepahead.weights

AGENT = os.environ.get("KEEPAHEAD_SOCKET")
NOWHERE = "/nonexistent/control.sock"
with_agent = unittest.skipUnless(AGENT, "no agent")


class Directory(unittest.TestCase):
    """Files on a real file system: the agent refuses those of tmpfs, where /tmp may be."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(dir=os.environ.get("KEEPAHEAD_TEST_DIR"))
        self.addCleanup(directory.cleanup)
        self.path = directory.name

    def fill(self, count, size=64 << 10):
        paths = [os.path.join(self.path, f"f{n}") for n in range(count)]
        for n, path in enumerate(paths):
            with open(path, "wb") as file:
                file.write(bytes([n % 251]) * size)
                os.fsync(file.fileno())
        return paths


class Without(Directory):
    """No agent: everything reads on."""

    def setUp(self):
        super().setUp()
        self.client = keepahead.Client(NOWHERE)
        self.addCleanup(self.client.close)

    def test_every_call_does_nothing(self):
        self.assertFalse(self.client)
        with self.client.workload("none", hint="shuffled") as work:
            self.assertEqual((work.add([0]), work.plan([(0, 0, 0)]), work.position(3)), (0, None, None))
            self.assertEqual((work.prefetch([(0, 0, 0)]), work.discard([(0, 0, 0)]), work.stats()), (0, 0, None))

    def test_files_are_read_as_ever(self):
        paths = self.fill(3)
        read = [(path, file.read()[:1]) for path, file in keepahead.files(paths, client=self.client)]
        self.assertEqual(read, [(path, bytes([n])) for n, path in enumerate(paths)])

    def test_it_is_said_once(self):
        program = "import keepahead; [keepahead.Client() for _ in range(3)]"
        for quiet, lines in (("", 1), ("1", 0)):
            env = {**os.environ, "KEEPAHEAD_SOCKET": NOWHERE, "PYTHONPATH": os.path.dirname(HERE), "KEEPAHEAD_QUIET": quiet}
            done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (0, lines), done.stderr)


class With(Directory):
    """An agent: it does what it is asked."""

    @with_agent
    def test_a_plan_is_counted_to_its_end(self):
        paths = self.fill(300)
        with keepahead.Client() as client:
            self.assertTrue(client)
            with client.workload("plan", 32 << 20, "shuffled") as work:
                fds = [os.open(path, os.O_RDONLY) for path in paths]
                self.assertEqual(work.add(fds), 0)
                work.plan((n, 0, 0) for n in range(300))
                for n, fd in enumerate(fds):
                    work.position(n)
                    os.pread(fd, 1 << 20, 0)
                    os.close(fd)
                work.position(300)
                stats = settled(work, 300)
                self.assertEqual((stats["files"], stats["ranges_total"]), (300, 300))

    @with_agent
    def test_files_are_read_ahead(self):
        paths = self.fill(200)
        with keepahead.Client() as client:
            ahead = keepahead._files.Ahead(paths, 4 << 20, "shuffled", "test", client)
            for n in range(200):
                ahead.reach(n)
            self.assertEqual(ahead.stats()["position"], 199)
            self.assertEqual(ahead.stats()["files"], 200)
            ahead.finish()
        self.assertEqual([file.read(1)[0] for _, file in keepahead.files(paths)], [n % 251 for n in range(200)])

    @with_agent
    def test_what_the_agent_refuses_is_read_all_the_same(self):
        paths = self.fill(3)
        mixed = [paths[0], "/proc/self/stat", paths[1], "/dev/null", paths[2]]
        with keepahead.Client() as client:
            ahead = keepahead._files.Ahead(mixed, 1 << 20, None, "test", client)
            for n in range(len(mixed)):
                ahead.reach(n)
            self.assertEqual((ahead.stats()["ranges_total"], ahead.stats()["position"]), (3, 2))
        self.assertEqual(len([file.read() for _, file in keepahead.files(mixed)]), 5)
        with self.assertRaises(FileNotFoundError):
            for _ in keepahead.files([paths[0], self.path + "/absent"]):
                pass

    @with_agent
    def test_more_files_than_one_workload_takes(self):
        paths = self.fill(4) * 50
        generation, keepahead._files.GENERATION = keepahead._files.GENERATION, 30
        try:
            self.assertEqual(len(list(keepahead.files(paths, 1 << 20))), 200)
        finally:
            keepahead._files.GENERATION = generation

    @with_agent
    def test_refusals_have_a_name_and_the_limit(self):
        with keepahead.Client() as client:
            with self.assertRaises(keepahead.KeepaheadError) as refused:
                client.workload("x", 1 << 60)
            self.assertEqual(refused.exception.name, "InvalidValue")
            work = client.workload("x", 4096)
            with self.assertRaises(keepahead.KeepaheadError) as refused:
                work.plan([(7, 0, 0)])
            self.assertEqual(refused.exception.parameters, {"file": 7, "files": 0})

    @with_agent
    def test_prefetch_and_discard_answer_when_done(self):
        (path,) = self.fill(1, 1 << 20)
        with keepahead.Client() as client, client.workload("x", 1 << 20) as work, open(path, "rb") as file:
            work.add([file])
            work.discard([(0, 0, 0)])
            self.assertEqual(work.prefetch([(0, 0, 0)]), 1 << 20)

    @with_agent
    def test_a_child_after_fork_leaves_its_parents_line_alone(self):
        client = keepahead.Client()
        child = os.fork()
        if child == 0:
            os._exit(0 if not client and client.workload("x").number is None else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertIsNotNone(client.workload("x").number)


class Weights(Directory):
    def write(self, tensors, header=None):
        path = os.path.join(self.path, "model.safetensors")
        at, entries = 0, {"__metadata__": {"format": "pt"}}
        for name, data in tensors.items():
            entries[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(entries).encode() if header is None else header
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text + b"".join(tensors.values()))
            os.fsync(file.fileno())
        return path

    def tensors(self):
        return {f"layer.{n}": bytes([n]) * (100_000 if n else 0) for n in range(20)}

    def test_tensors_are_those_of_the_file_in_any_order(self):
        tensors = self.tensors()
        path = self.write(tensors)
        scattered = sorted(tensors, key=lambda name: name[::-1])
        for order in (None, scattered, scattered[:3]):
            with keepahead.weights.load(path, order, 1 << 20) as weights:
                for name in scattered:
                    tensor = weights[name]
                    self.assertEqual((tensor.dtype, tensor.shape), ("U8", (len(tensors[name]),)))
                    self.assertEqual(bytes(tensor.data), tensors[name])
                self.assertEqual(set(weights), set(tensors))
            self.assertEqual(bytes(tensor.data), tensors[name])

    @with_agent
    def test_a_scattered_order_is_planned(self):
        tensors = self.tensors()
        order = list(reversed(tensors))
        with keepahead.weights.load(self.write(tensors), order, 1 << 20) as weights:
            self.assertEqual(weights.stats()["ranges_total"], 20)
            for name in weights:
                weights[name]
            self.assertEqual(weights.stats()["position"], 19)

    def test_what_is_no_such_file_is_named(self):
        for header in (b"[]", b'{"a":{}}', b"\xff", b'{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}',
                       b'{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,4,9]}}', b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[3,1]}}'):
            with self.assertRaisesRegex(ValueError, "no safetensors file"):
                keepahead.weights.load(self.write({}, header))
        with open(os.path.join(self.path, "short"), "wb") as file:
            file.write(b"\xff" * 12)
        with self.assertRaisesRegex(ValueError, "no safetensors file"):
            keepahead.weights.load(file.name)


def settled(work, ranges):
    """The figures follow the position within milliseconds."""
    for _ in range(500):
        stats = work.stats()
        if sum(stats[what]["ranges"] for what in ("hits", "late", "missed", "lost")) == ranges:
            return stats
        time.sleep(0.01)
    raise AssertionError(stats)


if __name__ == "__main__":
    unittest.main()
