# SPDX-License-Identifier: MIT OR Apache-2.0
"""The wrappers with the real PyTorch and worker processes, with and without an agent."""

import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
try:
    import torch
    from torch.utils.data import DataLoader, Dataset, SequentialSampler, RandomSampler

    import keepahead.torch as ahead
except ImportError:
    print("skipped: torch is not installed")
    raise unittest.SkipTest("torch is not installed")


class Files(Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return decode(self.paths[index], open(self.paths[index], "rb"))


def decode(path, file):
    with file:
        return int(os.path.basename(path)[1:]), len(file.read())


class Torch(unittest.TestCase):
    COUNT = 120

    def setUp(self):
        directory = tempfile.TemporaryDirectory(dir=os.environ.get("KEEPAHEAD_TEST_DIR"))
        self.addCleanup(directory.cleanup)
        self.paths = [os.path.join(directory.name, f"f{n}") for n in range(self.COUNT)]
        for path in self.paths:
            with open(path, "wb") as file:
                file.write(b"x" * (64 << 10))
                os.fsync(file.fileno())

    def read(self, loader):
        numbers = []
        for number, size in loader:
            self.assertTrue(bool((size == 64 << 10).all()))
            numbers += number.tolist()
        return numbers

    def test_sampler(self):
        dataset = Files(self.paths)
        for workers in (0, 2):
            lag = workers * 2 * 8
            for inner, ordered in ((SequentialSampler(dataset), True), (RandomSampler(dataset), False)):
                sampler = ahead.AheadSampler(inner, self.paths, 8 << 20, lag)
                loader = DataLoader(dataset, 8, sampler=sampler, num_workers=workers, prefetch_factor=2 if workers else None)
                for _ in range(2):
                    read = self.read(loader)
                    self.assertEqual(read if ordered else sorted(read), list(range(self.COUNT)))

    def test_dataset(self):
        for workers, stay in ((0, False), (3, False), (3, True)):
            dataset = ahead.FileDataset(self.paths, decode, 8 << 20, shuffle=True)
            loader = DataLoader(dataset, 8, num_workers=workers, persistent_workers=stay)
            passes = [self.read(loader) for _ in range(2)]
            for read in passes:
                self.assertEqual(sorted(read), list(range(self.COUNT)))
            self.assertNotEqual(passes[0], passes[1])

    def test_spawned_workers(self):
        dataset = ahead.FileDataset(self.paths[:16], decode, 1 << 20)
        loader = DataLoader(dataset, 4, num_workers=2, multiprocessing_context="spawn")
        self.assertEqual(sorted(self.read(loader)), list(range(16)))


if __name__ == "__main__":
    unittest.main()
