"""Receipts: what was fetched into a folder, with the commit and the sha256 of every file."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from refeval.documents import read_document, write_document
from refeval.errors import CorruptFile
from refeval.keys import file_sha256

RECEIPT = "fetched.json"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a file was when its sha256 was computed.

    Attributes:
        sha256: of its bytes.
        size: in bytes; None in receipts of earlier versions, as is the next.
        mtime_ns: time of its last change.
    """

    sha256: str
    size: int | None
    mtime_ns: int | None

    @classmethod
    def of(cls, path: Path) -> Mark:
        """Read a file and mark it."""
        status = path.stat()
        return cls(sha256=file_sha256(path), size=status.st_size, mtime_ns=status.st_mtime_ns)

    def holds_for(self, path: Path) -> bool:
        """Whether a file has the size and the time of change that it had then; it is not read."""
        status = path.stat()
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was fetched into a folder.

    Attributes:
        repository: ``owner/name`` on the hub.
        revision: the commit that all files are of.
        files: marks by path below the folder.
    """

    repository: str
    revision: str
    files: Mapping[str, Mark]

    @classmethod
    def read(cls, folder: Path) -> Receipt | None:
        """The receipt of a folder, or None.

        Raises:
            CorruptFile: it is there and damaged.
        """
        try:
            content = read_document(folder / RECEIPT)
            stats = content.get("stat", {})
            files = {name: _mark(sha256, stats.get(name)) for name, sha256 in content["sha256"].items()}
            return cls(repository=content["repository"], revision=content["revision"], files=files)
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptFile(f"{folder / RECEIPT}: not a receipt", cure="fetch again: it is made anew") from error

    @classmethod
    def read_if_whole(cls, folder: Path) -> Receipt | None:
        """The same, where a damaged one is as good as none."""
        try:
            return cls.read(folder)
        except CorruptFile:
            return None

    def write(self, folder: Path) -> None:
        """Put it into the folder."""
        content = {
            "repository": self.repository,
            "revision": self.revision,
            "sha256": {name: mark.sha256 for name, mark in self.files.items()},
            "stat": {name: [mark.size, mark.mtime_ns] for name, mark in self.files.items()},
        }
        write_document(folder / RECEIPT, content)

    def matching(self, patterns: Iterable[str]) -> dict[str, Mark]:
        """The files that match one of the patterns."""
        return {name: self.files[name] for name in matching(self.files, patterns)}


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Names that match a pattern, sorted; as on the hub, ``*`` also matches ``/``."""
    patterns = tuple(patterns)
    return sorted(n for n in names if n != RECEIPT and any(fnmatch.fnmatchcase(n, p) for p in patterns))


def _mark(sha256: str, stat: list[int] | None) -> Mark:
    size, mtime_ns = stat or (None, None)
    return Mark(sha256=sha256, size=size, mtime_ns=mtime_ns)
