"""sha256 of large files, computed once per machine: a file of the same path, size and time is not read again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import asdict
from pathlib import Path

import platformdirs

from refeval.documents import read_document, write_document
from refeval.errors import CorruptFile, DiskFull
from refeval.receipts import Mark

# A file that is written twice within one tick of the kernel's clock has the same time both times.
_SETTLED_NS = 100_000_000


def known_sha256(path: Path) -> str | None:
    """The sha256 that :func:`compute_sha256` kept, if the file has not changed since; else None."""
    try:
        content = read_document(_document(path))
        mark = Mark(sha256=content["sha256"], size=content["size"], mtime_ns=content["mtime_ns"])
    except (OSError, CorruptFile, KeyError):
        return None
    return mark.sha256 if mark.holds_for(path) else None


def compute_sha256(path: Path) -> str:
    """Read a file, and keep its sha256 in the user's cache folder, or in ``REFEVAL_CACHE``.

    Any number of processes may do this at once: each file has a document of its own.
    """
    mark = Mark.of(path)
    settled = mark.mtime_ns is not None and time.time_ns() - mark.mtime_ns > _SETTLED_NS
    if settled and mark.holds_for(path):
        # A cache that cannot be written costs time, nothing else.
        with contextlib.suppress(OSError, DiskFull):
            write_document(_document(path), {**asdict(mark), "path": str(path.resolve())})
    return mark.sha256


def _document(path: Path) -> Path:
    cache = os.environ.get("REFEVAL_CACHE") or platformdirs.user_cache_dir("refeval")
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return Path(cache) / "digests" / f"{name}.json"
