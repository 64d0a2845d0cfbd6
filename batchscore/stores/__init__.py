"""Object stores: S3, Google Cloud Storage, Azure, and what fsspec knows beside them.

Reading goes through ``pyarrow.fs`` (``filesystem``, ``objects``, ``remote_file``). An upload that
appears as a whole, under a condition, or not at all is more than that offers, so writing speaks to
the stores itself (``uploads`` and the modules that it chooses from).
"""

from __future__ import annotations

from batchscore.stores.objects import (
    StoredFile,
    find,
    find_below,
    find_matching,
    has_wildcard,
    read_whole,
)
from batchscore.stores.options import StoreOptions
from batchscore.stores.uri import StoreURI, is_uri

__all__ = [
    "StoreOptions",
    "StoreURI",
    "StoredFile",
    "find",
    "find_below",
    "find_matching",
    "has_wildcard",
    "is_uri",
    "read_whole",
]
