# SPDX-License-Identifier: MIT OR Apache-2.0
"""For PyTorch: takes the order in which a `DataLoader` will read files, has them read ahead of it. Works with worker processes.

    dataset = MyDataset(paths)                       # reads paths[index] in __getitem__
    sampler = keepahead.torch.AheadSampler(RandomSampler(dataset), paths, lag=workers * prefetch_factor * batch)
    for batch in DataLoader(dataset, batch, sampler=sampler, num_workers=workers): ...

    dataset = keepahead.torch.FileDataset(paths, decode, shuffle=True)
    for batch in DataLoader(dataset, batch, num_workers=workers): ...
"""

from __future__ import annotations

import random
from typing import Any, BinaryIO, Callable, Iterable, Iterator, Optional, Sequence

import torch
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from ._files import Ahead, Path, files


class AheadSampler(Sampler):
    """Another sampler's indices, with a plan of the files that they stand for. The order is drawn whole at the beginning of each pass,
    so the other one must end. It runs in the main process, which draws indices before the workers read: `lag` says how many, so that
    what is read ahead is not counted as passed; without workers it is 0."""

    def __init__(
        self,
        sampler: Iterable[int],
        paths: Sequence[Path],
        budget: int = 64 << 20,
        lag: int = 0,
        hint: Optional[str] = "shuffled",
    ):
        self.sampler, self.paths, self.budget, self.lag, self.hint = sampler, paths, budget, lag, hint

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        order = list(self.sampler)
        ahead = Ahead([self.paths[index] for index in order], self.budget, self.hint, "torch sampler")
        try:
            for number, index in enumerate(order):
                ahead.reach(max(0, number - self.lag))
                yield index
            ahead.finish()
        finally:
            ahead.close()


class FileDataset(IterableDataset):
    """`decode(path, file)` of each file, in each pass once, dealt out to the workers; each worker has its own line to the agent and
    its part of the budget. `decode` must be importable where workers are spawned rather than forked."""

    def __init__(
        self,
        paths: Sequence[Path],
        decode: Callable[[Path, BinaryIO], Any],
        budget: int = 64 << 20,
        shuffle: bool = False,
        hint: Optional[str] = "shuffled",
    ):
        self.paths, self.decode, self.budget, self.shuffle, self.hint = list(paths), decode, budget, shuffle, hint
        self._passes = 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        order = self.paths
        if self.shuffle:
            # The same in all workers, and another in each pass: the loader draws a seed for each pass, of which a worker that stays
            # sees the first only.
            base = worker.seed - worker.id if worker else torch.initial_seed()
            order = random.Random(base + self._passes).sample(order, len(order))
        self._passes += 1
        for path, file in files(order[number::workers], self.budget // workers, self.hint, name="torch dataset"):
            yield self.decode(path, file)
