# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tell keepahead what this program is about to read, and have it in the page cache when you come to it.

    for path, file in keepahead.files(paths, budget=64 << 20):
        use(file.read())

Without an agent everything here does what it would do without keepahead, and one line on standard error says so
(``KEEPAHEAD_QUIET=1`` silences it). Standard library only; `keepahead.torch` needs PyTorch.
"""

from ._client import Client, Connection, KeepaheadError, Workload
from ._files import files
from ._regions import Region

__all__ = ["Client", "Connection", "KeepaheadError", "Region", "Workload", "files"]
