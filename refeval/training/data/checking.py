"""What is in a file of rows, and whether its videos and pictures can be read."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from refeval.training.data.media import MIDDLE, prompts_of, read_clip, read_references, seconds_of
from refeval.training.data.rows import PAIRS, Row, open_rows
from refeval.training.examples import BrokenSample
from refeval.training.recipe import DataSettings

_SEED = 0
_AT_ONCE = 64

Watch = Callable[[Iterable[Row], str, int], Iterable[Row]]
"""Passes on rows, and shows how many of how many have come; the text says what is done with them."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Least, middle and greatest of some values."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[Any]) -> Self | None:
        """None where there are no values."""
        if not len(values):
            return None
        return cls(least=float(np.min(values)), median=float(np.median(values)), most=float(np.max(values)))


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What was found in a file.

    Attributes:
        path: of the file.
        rows: how many.
        pairs: rows of each kind.
        references: number of rows by their number of references.
        frames: of the cuts of the rows that give one; None: no row does.
        decoded: rows whose clip and references were read.
        seconds: of the cuts of those that could be read; None: there are none.
        broken: reasons by id, of those that could not.
    """

    path: Path
    rows: int
    pairs: dict[str, int]
    references: dict[int, int]
    frames: Spread | None
    decoded: int
    seconds: Spread | None
    broken: dict[str, str]

    def references_of_rows(self) -> Spread | None:
        """How many references a row has."""
        return Spread.of(np.repeat(list(self.references), list(self.references.values())))


def check_file(path: Path, data: DataSettings, *, decode: int | None, threads: int, watch: Watch) -> FileReport:
    """Parse every row of a file; decode some of them, drawn at random, always the same ones.

    Of a row that is decoded every reference is read, and the clip from the middle of its cut.

    Args:
        path: of the file.
        data: size, length and rate of clips.
        decode: how many rows, or None for all.
        threads: that decode.
        watch: shows the progress.

    Raises:
        BadInput: not a file of rows, or a row of another format; names file, line and field.
        MissingPrerequisite: what reads Parquet is not installed.
    """
    rows = open_rows(path)
    pairs, references = Counter[str](), Counter[int]()
    lengths = array("q")
    for row in watch(rows, f"read {path.name}", len(rows)):
        pairs[row.pair] += 1
        references[len(row.references)] += 1
        if row.frames:
            lengths.append(row.frames[1] - row.frames[0])
    chosen = _chosen(len(rows), decode)
    decoded = watch((rows[number] for number in chosen), f"decode {path.name}", len(chosen))
    seconds, broken = _decode(decoded, data, threads)
    return FileReport(
        path=path,
        rows=len(rows),
        pairs={pair: pairs[pair] for pair in PAIRS if pairs[pair]},
        references=dict(sorted(references.items())),
        frames=Spread.of(lengths),
        decoded=len(chosen),
        seconds=Spread.of(seconds),
        broken=broken,
    )


def _chosen(count: int, wanted: int | None) -> Sequence[int]:
    if wanted is None or wanted >= count:
        return range(count)
    # Drawn once more where two are the same: a permutation of millions is not needed for a few.
    rng = np.random.default_rng(_SEED)
    drawn: dict[int, None] = {}
    while len(drawn) < wanted:
        drawn[int(rng.integers(count))] = None
    return sorted(drawn)


def _decode(rows: Iterable[Row], data: DataSettings, threads: int) -> tuple[array[float], dict[str, str]]:
    """Seconds of the rows that can be read, and the reasons of the others by id."""
    seconds: array[float] = array("d")
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for batch in _batches(rows):
            for row, found in zip(batch, pool.map(partial(_try, data=data), batch), strict=True):
                if isinstance(found, str):
                    broken[row.id] = found
                else:
                    seconds.append(found)
    return seconds, broken


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """A pool takes in everything that it is given, and there may be millions."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    yield batch


def _try(row: Row, data: DataSettings) -> float | str:
    """Seconds of the cut, or the reason why a training would pass over the row."""
    try:
        prompts_of(row)
        read_references(row, row.references)
        read_clip(row, data, start=MIDDLE)
        return seconds_of(row)
    except BrokenSample as error:
        return error.what
