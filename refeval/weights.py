"""The weights folder: which files are needed of it, what a loader is to open, and their sha256. No torch here."""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.catalogue import METRIC_BY_ID
from refeval.digests import compute_sha256, known_sha256
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.receipts import Receipt, matching

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_INDEX = ".index.json"
_SHARD = re.compile(r"(?P<stem>.+)-\d+-of-(?P<total>\d+)")
_WORTH_TELLING = 10**9


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files of one repository of the hub.

    Attributes:
        repository: ``owner/name``; the files lie in a folder of that name below the weights folder.
        patterns: glob patterns of the files that are fetched.
    """

    repository: str
    patterns: tuple[str, ...]


def required_patterns(source: Source) -> tuple[str, ...]:
    """The patterns without which a source cannot be used: a ``*`` in a JSON name stands for what is not everywhere."""
    return tuple(pattern for pattern in source.patterns if not pattern.endswith(".json") or "*" not in pattern)


class WeightsStore:
    """A folder with the files of repositories in ``owner/name``, fetched or put there by hand.

    Args:
        folder: None where the user named none; then everything is missing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._digests: dict[tuple[Path, int, int], str] = {}

    def folder_of(self, source: Source) -> Path:
        """Where the files of a source lie, there or not.

        Raises:
            MissingPrerequisite: there is no weights folder.
        """
        if self.folder is None:
            raise MissingPrerequisite(
                f"no weights folder for {source.repository}", cure="--weights DIR or REFEVAL_WEIGHTS=DIR"
            )
        return self.folder / source.repository

    def find(self, source: Source, wanted_by: str) -> list[Path]:
        """The files of a source, sorted.

        Args:
            source: what is needed.
            wanted_by: the model, or the metric by its id.

        Raises:
            MissingPrerequisite: not all of them are there.
        """
        if self.folder is None:
            raise MissingPrerequisite(
                f"{asker(wanted_by)}: no weights folder is given",
                details=(("looked for", f"the files of {source.repository} (no --weights and no REFEVAL_WEIGHTS)"),),
                cure=f"{fetch_command(wanted_by, None)}, then --weights DIR or REFEVAL_WEIGHTS=DIR",
            )
        folder = self.folder_of(source)
        names = matching(_names_in(folder), source.patterns)
        missing = _missing(folder, source, names)
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise MissingPrerequisite(
                f"{asker(wanted_by)}: weights of {source.repository} are missing",
                details=(("looked for", f"{shown}  in  {folder}"),),
                cure=fetch_command(wanted_by, self.folder),
            )
        return [folder / name for name in names]

    def checkpoint(self, source: Source, wanted_by: str) -> Path:
        """What a loader is to open: the index of shards, the only file of weights, or the folder of its shards.

        Args:
            source: of one set of weights.
            wanted_by: as for :meth:`find`.

        Raises:
            MissingPrerequisite: as :meth:`find`.
            BadInput: the files are of several sets of weights.
        """
        files = self.find(source, wanted_by)
        indexes = [path for path in files if path.name.endswith(_INDEX)]
        # The same weights in two formats are one set: the one that holds nothing but tensors is read.
        indexes = [path for path in indexes if path.name.endswith(".safetensors" + _INDEX)] or indexes
        weights = [path for path in files if path.suffix in _WEIGHTS]
        choices = indexes or weights
        if len(choices) == 1:
            return choices[0]
        if not indexes and len({(path.parent, re.sub(r"\d+", "0", path.name)) for path in weights}) == 1:
            return weights[0].parent
        folder = self.folder_of(source)
        found = ", ".join(path.relative_to(folder).as_posix() for path in choices)
        raise BadInput(
            f"{asker(wanted_by)}: {folder} holds several sets of weights",
            details=(("found", found or "no file of weights"),),
            cure="keep one of them there: one file, or shards with their index",
        )

    def sha256(self, paths: Sequence[Path], *, tell: Callable[[str], None] | None = None) -> dict[str, str]:
        """sha256 by path below the weights folder.

        A file is read only if neither its receipt nor an earlier computation knows it in its present size and time.

        Args:
            paths: files below the weights folder.
            tell: takes a line for the user if it will take long.
        """
        known = {path: self._known(path) for path in paths}
        unread = [path for path, digest in known.items() if digest is None]
        size = sum(path.stat().st_size for path in unread)
        if tell and size >= _WORTH_TELLING:
            tell(f"computing the sha256 of {len(unread)} files, {size / 1e9:.1f} GB: once, then it is remembered")
        digests = {path: digest or self._remember(path, compute_sha256(path)) for path, digest in known.items()}
        return {self._relative(path).as_posix(): digest for path, digest in digests.items()}

    def _known(self, path: Path) -> str | None:
        digest = self._digests.get(_stamp(path)) or self._recorded(path) or known_sha256(path)
        return self._remember(path, digest) if digest else None

    def _recorded(self, path: Path) -> str | None:
        """What the receipt says, if the file is as it was when it was fetched."""
        assert self.folder is not None
        owner, repository, *rest = self._relative(path).parts
        receipt = Receipt.read_if_whole(self.folder / owner / repository)
        mark = receipt.files.get("/".join(rest)) if receipt else None
        return mark.sha256 if mark and mark.holds_for(path) else None

    def _remember(self, path: Path, digest: str) -> str:
        self._digests[_stamp(path)] = digest
        return digest

    def _relative(self, path: Path) -> Path:
        assert self.folder is not None, "files are found in a folder"
        return path.relative_to(self.folder)


def fetch_command(wanted_by: str, folder: Path | None) -> str:
    """The command that brings the weights of a model, or of the metrics, to a folder."""
    what = "metrics" if wanted_by in METRIC_BY_ID else f"model {wanted_by}"
    return f"refeval fetch {what} --weights {shlex.quote(str(folder)) if folder else 'DIR'}"


def asker(wanted_by: str) -> str:
    """What needs something, as messages name it: ``metric 'gme'``, or ``model 'vace-14b'``."""
    return f"{'metric' if wanted_by in METRIC_BY_ID else 'model'} '{wanted_by}'"


def _stamp(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


def _names_in(folder: Path) -> list[str]:
    """Paths of all files below a folder; hidden ones are not the user's."""
    names = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder)
        names += [(below / name).as_posix() for name in files if not name.startswith(".")]
    return names


def _missing(folder: Path, source: Source, names: list[str]) -> list[str]:
    """What should be there beside what is: patterns without a file, recorded files, shards."""
    if not folder.is_dir():
        return list(source.patterns)
    receipt = Receipt.read_if_whole(folder)
    recorded = receipt.matching(source.patterns) if receipt else {}
    wanted = {*recorded, *(shard for name in names for shard in _siblings(folder, name))}
    unmatched = [pattern for pattern in required_patterns(source) if not matching(names, [pattern])]
    return [*unmatched, *sorted(name for name in wanted if not (folder / name).is_file())]


def _siblings(folder: Path, name: str) -> list[str]:
    """The files that a file cannot do without: the shards of an index, the other shards of a numbered one."""
    path = Path(name)
    if name.endswith(_INDEX):
        try:
            shards = set(json.loads((folder / path).read_bytes())["weight_map"].values())
            return [(path.parent / shard).as_posix() for shard in shards]
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise CorruptFile(f"{folder / path}: not an index of shards", cure="delete it and fetch again") from error
    match = _SHARD.fullmatch(path.stem)
    if match is None or path.suffix not in _WEIGHTS:
        return []
    end = f"-*-of-{match['total']}{path.suffix}"
    there = list((folder / path.parent).glob(glob.escape(match["stem"]) + end))
    # Counted, not named: some publishers number from 0, others from 1.
    return [] if len(there) >= int(match["total"]) else [f"{path.parent / match['stem']}{end}"]
