# SPDX-License-Identifier: MIT OR Apache-2.0
"""Takes a list of files in the order in which they are read, gives each open while those behind it are read ahead."""

from __future__ import annotations

import os
from typing import BinaryIO, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union

from ._client import Client, KeepaheadError, Range, Workload, _say_once

Path = Union[str, "os.PathLike[str]"]
P = TypeVar("P", bound=Path)

#: Files that are handed over at once, while the reader waits: a part of what one message carries.
CHUNK = 64
#: Files that lie ahead at most, where they are so small that the budget never fills.
AHEAD = 4096
#: The agent holds each file open until its workload ends, and takes 65536 of them.
GENERATION = 16384


class Ahead:
    """Hands files over to the agent, as far ahead of the reader as the budget needs. What cannot be opened or is refused is left out:
    it is read as it always was."""

    def __init__(self, paths: Sequence[Path], budget: int, hint: Optional[str], name: str, client: Optional[Client] = None):
        self._paths, self._budget, self._hint, self._name = paths, budget, hint, name
        self._client, self._owns = client or Client(), client is None
        self._work: Optional[Workload] = None
        self._begin(0)

    def _begin(self, number: int) -> None:
        self._base = number  # the first file of this workload
        self._reached = number - 1
        self._planned = 0  # ranges of the plan
        self._ahead = 0  # bytes handed over and not reached
        self._files: List[Tuple[int, int]] = []  # for each file its range, or that of the next that has one, and its bytes

    def reach(self, number: int) -> None:
        """The reader begins with file `number`. Forward only."""
        if number <= self._reached or not self._client:
            return
        try:
            if self._work is None or number >= self._base + GENERATION:
                if self._work:
                    self._work.close()
                self._begin(number)
                self._work = self._client.workload(self._name, self._budget, self._hint)
            known = self._files[self._reached + 1 - self._base : number + 1 - self._base]
            self._ahead -= sum(size for _, size in known)
            self._reached = number
            self._hand_over(self._work)
            if number - self._base < len(self._files):
                self._work.position(self._files[number - self._base][0])
        except KeepaheadError as refused:
            _say_once(refused)
            self.close()

    def _hand_over(self, work: Workload) -> None:
        """One chunk, where there is room: the reader waits for it."""
        end = self._base + len(self._files)
        limit = min(len(self._paths), self._base + GENERATION)
        # Twice the budget, so that the agent never comes to the plan's end before the next chunk.
        if end >= limit or self._ahead >= 2 * self._budget or end - self._reached > AHEAD:
            return
        opened = [_open(path) for path in self._paths[end : min(limit, end + CHUNK)]]
        try:
            numbers = iter(_add(work, [file[0] for file in opened if file]))
        finally:
            for file in opened:
                if file:
                    os.close(file[0])
        ranges: List[Range] = []
        for file in opened:
            number = next(numbers) if file else None
            size = file[1] if file and number is not None else 0
            self._files.append((self._planned + len(ranges), size))
            self._ahead += size
            if number is not None:
                ranges.append((number, 0, 0))
        self._planned += len(ranges)
        work.plan(ranges)

    def finish(self) -> None:
        """All are read, or soon will be: what was read ahead stays."""
        if self._work:
            self._work.position(self._planned)
        self.close()

    def stats(self) -> Optional[dict]:
        return self._work.stats() if self._work else None

    def close(self) -> None:
        """What was read ahead and not reached is dropped."""
        work, self._work = self._work, None
        if self._owns:
            self._client.close()
        elif work:
            work.close()


def _open(path: Path) -> Optional[Tuple[int, int]]:
    """A descriptor and the file's size; None where the reader will hear why not. O_NONBLOCK: a pipe without a writer is no wait."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    return fd, os.fstat(fd).st_size


def _add(work: Workload, fds: List[int]) -> List[Optional[int]]:
    """The agent's numbers of some files; None for one that it refuses. It refuses whole messages, so then one goes at a time."""
    try:
        first = work.add(fds)
    except KeepaheadError as refused:
        if refused.name != "BadDescriptor":
            raise
        return [None] if len(fds) == 1 else [_add(work, [fd])[0] for fd in fds]
    return list(range(first, first + len(fds)))


def files(
    paths: Iterable[P],
    budget: int = 64 << 20,
    hint: Optional[str] = "shuffled",
    *,
    name: str = "files",
    client: Optional[Client] = None,
) -> Iterator[Tuple[P, BinaryIO]]:
    """Yields each path with its open file (binary, closed when the next is asked for), in the given order, while those behind it are
    read ahead. budget: bytes that may lie read and unused. Raises what `open` raises for a file, when its turn comes."""
    listed = list(paths)
    ahead = Ahead(listed, budget, hint, name, client)
    try:
        for number, path in enumerate(listed):
            ahead.reach(number)
            with open(path, "rb") as file:
                yield path, file
        ahead.finish()
    finally:
        ahead.close()
