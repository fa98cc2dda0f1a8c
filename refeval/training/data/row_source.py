"""Samples of rows: which row stands at a position, and what is drawn of it."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refeval.errors import BadInput
from refeval.generators.wan.references import letterbox_training
from refeval.training.data.augmentation import augment
from refeval.training.data.media import prompts_of, read_clip, read_references
from refeval.training.data.rows import PAIRS, Row, Rows
from refeval.training.examples import BrokenSample, Encoded, PairKind, Sample, Source, Stream, generator
from refeval.training.recipe import DataSettings

EncodedRow = Callable[[Row, str], Encoded | None]
"""Gives what was encoded of a row and one of its prompts, or None.

What is encoded is the clip that :func:`refeval.training.data.media.read_clip` gives for ``start=MIDDLE``: it does not
depend on the position of the sample.
"""

_BLOCK = 256
_COUNTED_FROM = 100
_NAMED = 5
# Second number of the generators of orders: those of rows have the place of their kind instead.
_KINDS = len(PAIRS)


class RowSource(Source):
    """Regular and cross pairs in the shares of the settings; every epoch of a kind has each of its rows once.

    A block of 256 positions holds the two kinds in the wanted share, to one sample, in an order of its own. The rows of
    a kind follow one another in the order of their epoch. Both orders follow from the seed.

    A row that is broken is replaced by another one of its kind, drawn at random for this position.

    Args:
        rows: of each kind that the share asks for (see :meth:`refeval.training.data.rows.Rows.by_pair`).
        data: settings of the recipe.
        seed: of the training.
        encoded: gives clips and prompts that were encoded before the training; None: every clip is decoded.

    Raises:
        BadInput: there are no rows, or none of a kind that the share asks for.
    """

    def __init__(
        self,
        rows: Mapping[PairKind, Sequence[Row]],
        data: DataSettings,
        *,
        seed: int,
        encoded: EncodedRow | None = None,
    ) -> None:
        self._rows = {pair: rows[pair] for pair in PAIRS if rows.get(pair)}
        if not self._rows:
            raise BadInput("no rows to train on", cure="give a .jsonl or .parquet file of rows")
        _check_kinds(self._rows, data.cross_share)
        self._data = data
        self._seed = seed
        self._encoded = encoded
        self._order = lru_cache(maxsize=4)(self._new_order)
        self._kinds = lru_cache(maxsize=16)(self._new_kinds)
        self._lock = threading.Lock()
        self._read = self._broken = 0
        self._skipped: dict[str, str] = {}

    def sample(self, position: int) -> Sample:
        """See :class:`Source`."""
        pair, rank = self._place(position)
        rows = self._rows[pair]
        epoch, number = divmod(rank, len(rows))
        row = rows[int(self._order(pair, epoch)[number])]
        attempt = 0
        while True:
            rng = generator(self._seed, position, Stream.CHOICE, attempt)
            try:
                sample = self._sample(row, position, rng)
            except BrokenSample as error:
                self._count(row, error.what)
            else:
                self._count(row, None)
                return sample
            attempt += 1
            row = rows[int(generator(self._seed, position, Stream.ORDER, _KINDS + attempt).integers(len(rows)))]

    def skipped(self) -> dict[str, str]:
        """See :class:`Source`."""
        with self._lock:
            return dict(self._skipped)

    def _sample(self, row: Row, position: int, rng: np.random.Generator) -> Sample:
        data = self._data
        prompts = prompts_of(row)
        start, prompt = rng.random(), prompts[int(rng.integers(len(prompts)))]
        count = len(row.references)
        chosen = np.sort(rng.choice(count, min(count, data.references), replace=False))
        pictures = read_references(row, [row.references[place] for place in chosen])
        if data.augment and row.pair == "regular":
            augmenting = generator(self._seed, position, Stream.AUGMENTATION)
            pictures = [augment(picture, data.augmentation, augmenting) for picture in pictures]
        encoded = self._encoded(row, prompt) if self._encoded else None
        empty = np.zeros((0, data.height, data.width, 3), np.uint8)
        return Sample(
            key=row.id,
            prompt=prompt,
            frames=read_clip(row, data, start=start) if encoded is None else empty,
            references=tuple(_letterboxed(picture, data) for picture in pictures),
            pair=row.pair,
            encoded=encoded,
        )

    def _place(self, position: int) -> tuple[PairKind, int]:
        """The kind of a position, and how many of that kind come before it."""
        block, inside = divmod(position, _BLOCK)
        kinds, crosses = self._kinds(block), _crosses(block * _BLOCK, self._data.cross_share)
        crosses += int(kinds[:inside].sum())
        return ("cross", crosses) if kinds[inside] else ("regular", position - crosses)

    def _new_kinds(self, block: int) -> NDArray[np.bool_]:
        """Which positions of a block are cross pairs."""
        share, first = self._data.cross_share, block * _BLOCK
        kinds = np.arange(_BLOCK) < _crosses(first + _BLOCK, share) - _crosses(first, share)
        return generator(self._seed, block, Stream.ORDER, _KINDS).permutation(kinds)

    def _new_order(self, pair: PairKind, epoch: int) -> NDArray[np.int32]:
        """The rows of a kind in the order of an epoch."""
        rng = generator(self._seed, epoch, Stream.ORDER, PAIRS.index(pair))
        return rng.permutation(np.arange(len(self._rows[pair]), dtype=np.int32))

    def _count(self, row: Row, reason: str | None) -> None:
        """Count a row that was read; too many broken ones are an error."""
        with self._lock:
            self._read += 1
            if reason is None:
                return
            self._broken += 1
            self._skipped[row.id] = reason
            read, broken, named = self._read, self._broken, tuple(islice(self._skipped.items(), _NAMED))
        # A source without a single row that can be read has to end, whatever is allowed.
        if read >= _COUNTED_FROM and (broken > self._data.broken_limit * read or broken == read):
            raise BadInput(
                f"{broken} of {read} rows that were read are broken; at most {self._data.broken_limit:.1%} may be",
                details=named,
                cure=f"{self._check_command()}; mend or remove these rows, or raise data.broken_limit",
            )

    def _check_command(self) -> str:
        files = dict.fromkeys(path for rows in self._rows.values() if isinstance(rows, Rows) for path in rows.paths)
        return shlex.join(["refeval", "data", "check", *map(str, files), "--all"])


def _check_kinds(rows: Mapping[PairKind, Sequence[Row]], share: float) -> None:
    wanted: dict[PairKind, bool] = {"regular": share < 1, "cross": share > 0}
    for pair, is_wanted in wanted.items():
        if is_wanted and pair not in rows:
            raise BadInput(
                f"none of the rows is a {pair} pair, but data.cross_share is {share:g}",
                cure=f"add rows of {pair} pairs, or train on the others alone: "
                f"--set data.cross_share={0.0 if pair == 'cross' else 1.0}",
            )


def _crosses(positions: int, share: float) -> int:
    """How many of the first positions are cross pairs; only asked for at the borders of blocks."""
    return round(positions * share)


def _letterboxed(picture: NDArray[np.uint8], data: DataSettings) -> NDArray[np.uint8]:
    return np.asarray(letterbox_training(Image.fromarray(picture), data.width, data.height))
