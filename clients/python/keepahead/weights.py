# SPDX-License-Identifier: MIT OR Apache-2.0
"""Takes a safetensors file, gives its tensors as memory-mapped bytes, read ahead in the order in which they are asked for.

    with keepahead.weights.load("model.safetensors") as weights:
        for name, tensor in weights.items():
            use(name, tensor.dtype, tensor.shape, tensor.data)

The format (github.com/huggingface/safetensors): 8 bytes little-endian length, a JSON header of that length, the tensors' bytes.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from typing import BinaryIO, Dict, Iterable, Iterator, NamedTuple, Optional, Tuple, Union

from ._client import Client, KeepaheadError, _say_once

#: The format's own limit of the header.
HEADER_BYTES = 100_000_000


#: A tensor's dtype, shape, and first and last byte in the file.
Place = Tuple[str, Tuple[int, ...], int, int]


class Tensor(NamedTuple):
    """dtype: the format's word, such as BF16. data: the tensor's bytes in the map; they are read from the disk when touched."""

    dtype: str
    shape: Tuple[int, ...]
    data: memoryview


class Weights(Mapping):
    """The tensors by name; in the order of the plan. Close it, or use it as a context manager, when the tensors are loaded: their
    data stays valid, what was read ahead and not asked for goes."""

    def __init__(self, file: BinaryIO, order: Optional[Iterable[str]], budget: int, client: Optional[Client]):
        size = os.fstat(file.fileno()).st_size
        self._places, header = _header(file, size)
        self._order = header if order is None else list(order)
        unknown = [name for name in self._order if name not in self._places]
        if unknown:
            raise KeyError(f"{file.name} has no tensor {unknown[0]!r}")
        ordered = set(self._order)
        self._order += [name for name in header if name not in ordered]
        self._map = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._number = {name: number for number, name in enumerate(self._order)}
        self._asked = [False] * len(self._order)
        self._next = 0  # the first that was not asked for
        self._client, self._owns = client or Client(), client is None
        self._budget = budget
        self._work = None
        try:
            self._work = self._client.workload(f"weights {os.path.basename(file.name)}"[:64], budget)
            self._work.add([file])
            self._work.plan([self._range(name) for name in self._order])
        except KeepaheadError as refused:
            _say_once(refused)
            self.close()

    def _range(self, name: str) -> Tuple[int, int, int]:
        _, _, begin, end = self._places[name]
        # Length 0 would be the rest of the file: an empty tensor asks for one byte.
        return 0, begin, max(1, end - begin)

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, begin, end = self._places[name]
        self._tell(name)
        return Tensor(dtype, shape, self._map[begin:end])

    def _tell(self, name: str) -> None:
        number = self._number[name]
        if not self._work or self._asked[number]:
            return
        self._asked[number] = True
        try:
            if number == self._next:
                self._work.position(number)
            elif self._places[name][3] - self._places[name][2] <= self._budget:
                # Out of the order: at once, in pieces larger than a page fault's.
                self._work.prefetch([self._range(name)])
        except KeepaheadError as refused:
            _say_once(refused)
        while self._next < len(self._asked) and self._asked[self._next]:
            self._next += 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def stats(self) -> Optional[dict]:
        """The workload's figures; None without an agent."""
        return self._work.stats() if self._work else None

    def close(self) -> None:
        """Ends the plan. Tensors stay valid."""
        work, self._work = self._work, None
        if work and self._next >= len(self._asked):
            work.position(len(self._asked))
        if self._owns:
            self._client.close()
        elif work:
            work.close()

    def __enter__(self) -> "Weights":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    path: Union[str, "os.PathLike[str]"],
    order: Optional[Iterable[str]] = None,
    budget: int = 128 << 20,
    *,
    client: Optional[Client] = None,
) -> Weights:
    """Maps a safetensors file and has its tensors read ahead, in the order of its header or the given one (names that it leaves out come
    last). budget: bytes that may lie read and not asked for. ValueError where it is no such file."""
    with open(path, "rb") as file:
        return Weights(file, order, budget, client)


def _header(file: BinaryIO, size: int) -> Tuple[Dict[str, Place], list]:
    """For each tensor its dtype, shape, and first and last byte in the file; and the names in the header's order."""

    def wrong(reason: str) -> ValueError:
        return ValueError(f"{file.name} is no safetensors file: {reason}")

    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, HEADER_BYTES):
        raise wrong(f"a header of {length} bytes in a file of {size}; at most {HEADER_BYTES}")
    places: Dict[str, Place] = {}
    try:
        for name, entry in json.loads(file.read(length)).items():
            if name != "__metadata__":
                begin, end = (8 + length + int(at) for at in entry["data_offsets"])
                places[name] = (str(entry["dtype"]), tuple(map(int, entry["shape"])), begin, end)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise wrong(f"its header is not understood ({e!r})") from e
    for name, (_, _, begin, end) in places.items():
        if not 8 + length <= begin <= end <= size:
            raise wrong(f"tensor {name!r} lies outside of the file")
    return places, list(places)
