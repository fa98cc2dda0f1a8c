"""Published annotations become a file of rows: how it is written, and what is counted on the way.

A reader of annotations yields rows as JSON objects; nothing but the row at hand is in memory, and the file is there
when it is whole (see :mod:`refeval.training.data.rows` for the format).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from refeval.documents import write_file
from refeval.errors import BadInput
from refeval.training.data.rows import parse_row

JsonRow = dict[str, Any]
"""A row of the public format, as JSON types; paths are relative to the folder of the file of rows."""


class Unusable(Exception):
    """An annotation that no row can be made of. Its text is the reason, which is counted: it names no single video."""


@dataclass(kw_only=True)
class Tally:
    """What became of the annotations.

    Attributes:
        rows: written.
        skipped: annotated clips (or parts of them) without a row, by reason.
        left_out: references that rows are without, by reason.
    """

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


class Videos:
    """The videos that annotations speak of, on this disk.

    Args:
        root: the folder that holds them.
        beside: the file of rows that is written.
        keep_missing: whether videos that are not there (yet) may be named.

    Raises:
        BadInput: ``root`` is not a folder.
    """

    def __init__(self, root: Path, *, beside: Path, keep_missing: bool = False) -> None:
        if not root.is_dir():
            raise BadInput(f"{root} is not a folder", cure="--videos FOLDER: where the videos were unpacked")
        # A path upwards from a link leads elsewhere: both ends are real folders.
        self._root, self._from = root.resolve(), beside.parent.resolve()
        self._keep_missing = keep_missing

    def find(self, name: str, *, part: str = "") -> Path:
        """The first that is there: below the folder, then below its folder ``part``; at the whole name, then the last.

        Args:
            name: path of the annotation. What leads out of the folder is not followed.
            part: name of a part of the dataset, such as ``total_part1``.

        Raises:
            Unusable: there is none, and none may be missing.
        """
        path = PurePosixPath(name)
        leads_out = path.is_absolute() or ".." in path.parts
        names = [path.name] if leads_out else [str(path), path.name]
        folders = [self._root, *([self._root / part] if part else [])]
        places = [folder / below for folder in folders for below in names]
        for place in places:
            # Unlike Path.is_file this is false, and no error, for what can be no path.
            if path.name and os.path.isfile(place):  # noqa: PTH113
                return place
        if not (self._keep_missing and path.name):
            raise Unusable("the video is missing")
        return places[0]

    def named(self, video: Path) -> str:
        """A video as a row names it: its path from the folder of the file of rows."""
        return Path(os.path.relpath(video, self._from)).as_posix()


def sizes(sources: Sequence[Path]) -> int:
    """Bytes of all files together.

    Raises:
        BadInput: one is not there.
    """
    for source in sources:
        if not source.is_file():
            raise BadInput(f"{source}: no such file")
    return sum(source.stat().st_size for source in sources)


def prompts_of(caption: Any) -> list[str]:
    """The prompts in a caption: a text, or a list of texts; empty ones are passed over.

    Raises:
        Unusable: there is none.
    """
    captions = caption if isinstance(caption, list) else [caption]
    prompts = [text for text in captions if isinstance(text, str) and text.strip()]
    if not prompts:
        raise Unusable("no prompt")
    return prompts


def turns(groups: Iterable[Sequence[JsonRow]], most: int) -> Iterator[list[JsonRow]]:
    """References of the rows of a clip: one of each subject in every row, another one as long as there are more.

    Args:
        groups: the pictures of each subject; a subject without one is passed over.
        most: rows of a clip.

    Yields:
        As many times as the subject with most pictures has some, but at most ``most`` times.
    """
    filled = [group for group in groups if group]
    for turn in range(min(most, max(map(len, filled), default=0))):
        yield [group[turn % len(group)] for group in filled]


def write_rows(rows: Iterable[JsonRow], out: Path, *, tally: Tally, limit: int | None = None) -> None:
    """Write a file of rows, whole or not at all.

    Args:
        rows: read one after another; each is held against the format before it is written.
        out: the file, which ends in ``.jsonl``.
        tally: that of the reader of the rows; counts those written.
        limit: stop after so many.

    Raises:
        BadInput: another kind of file, no row, or whatever the reader of the rows raises.
        DiskFull: as :func:`refeval.documents.write_file`.
    """
    if out.suffix != ".jsonl":
        raise BadInput(f"{out} does not end in .jsonl", cure="--out ROWS.jsonl")

    def write(file: BinaryIO) -> None:
        for row in islice(rows, limit):
            # Half a character, which JSON can hold and UTF-8 cannot, is written as a question mark.
            line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode(errors="replace")
            parse_row(line, file=out, line=tally.rows + 1)
            file.write(line + b"\n")
            tally.rows += 1
        if not tally.rows:
            raise _no_row(out, tally)

    write_file(out, write)


def _no_row(out: Path, tally: Tally) -> BadInput:
    counters = (("skipped", tally.skipped), ("left out", tally.left_out))
    details = tuple((name, f"{n:,}  {reason}") for name, counter in counters for reason, n in counter.most_common(4))
    return BadInput(f"{out.name} would have no row", details=details or (("read", "no annotation"),))
