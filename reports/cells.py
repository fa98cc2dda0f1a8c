"""Cells of a table that know their number: the value, its interval or spread, and the cases behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

NO_PART = "–"
DAGGER = "†"
BEST_NOTE = "bold: best of its group and column; a value that lacks cases is never best."


@dataclass(frozen=True, kw_only=True)
class Number:
    """What a cell says about one value.

    Attributes:
        value: as shown, e.g. per cent; None where it is undefined, and ``word`` then says so.
        low: lower end of the interval, in the unit of ``value``; None without an interval.
        high: upper end.
        spread: sample standard deviation over the seeds; None for one seed.
        scored: cases with a value; None for a value that was not computed here.
        applicable: cases that count.
        mark: stands right behind the value, e.g. a dagger.
        word: stands instead of a value.
        comparable: whether it may be the best of its column.
        best: shown in bold.
        decimals: of everything but the counts.
        signed: show a plus before what is not negative.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    scored: int | None = None
    applicable: int | None = None
    mark: str = ""
    word: str = NO_PART
    comparable: bool = True
    best: bool = False
    decimals: int = 2
    signed: bool = False

    @property
    def shown(self) -> str:
        """The value as every format prints it."""
        if self.value is None:
            return self.word
        return self._text(self.value, sign="+" if self.signed else "") + self.mark

    @property
    def small_print(self) -> tuple[str, ...]:
        """What stands below the value: interval, spread, ``scored/applicable``; each only where there is one."""
        lines = []
        if self.low is not None and self.high is not None:
            # One digit less than the value: its place in the interval is what matters, and columns stay narrow.
            low, high = (self._text(end, decimals=self.decimals - 1) for end in (self.low, self.high))
            lines.append(f"[{low}, {high}]")
        if self.spread is not None:
            lines.append(f"sd {self._text(self.spread)}")
        if self.applicable is not None:
            lines.append(f"{self.scored}/{self.applicable}")
        return tuple(lines)

    def _text(self, value: float, *, sign: str = "", decimals: int | None = None) -> str:
        if not math.isfinite(value):
            return str(value)
        digits = self.decimals if decimals is None else decimals
        # What rounds to nothing has no sign of its own.
        return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


class Cell(str):
    """The text of a cell, its small print on further lines; whoever wants numbers reads ``number``.

    A cell is a plain text to everything that only shows tables, and no format can print another number than it.
    """

    __slots__ = ("number",)
    number: Number

    def __new__(cls, number: Number) -> Cell:
        cell = super().__new__(cls, "\n".join([number.shown, *number.small_print]))
        cell.number = number
        return cell


def mark_best(
    rows: Sequence[tuple[str, ...]], starts: Sequence[int], *, lower_is_better: frozenset[int] = frozenset()
) -> tuple[tuple[str, ...], ...]:
    """The rows with the best comparable cell of every group and column in bold.

    Values are compared as they are printed, so all that read alike are best together. A value that is undefined or
    not comparable is never best, nor is one that has no other to be compared with.

    Args:
        rows: of a table.
        starts: first row of each group, the first one 0.
        lower_is_better: columns in which the lowest value is the best.
    """
    found = [list(row) for row in rows]
    for first, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        for column in range(len(rows[first]) if first < end else 0):
            _mark_column(found[first:end], column, -1 if column in lower_is_better else 1)
    return tuple(tuple(row) for row in found)


def _mark_column(rows: Sequence[list[str]], column: int, sign: int) -> None:
    rivals = {i: value for i, row in enumerate(rows) if (value := _rival(row[column])) is not None}
    if len(rivals) < 2:
        return
    best = max(sign * value for value in rivals.values())
    for i, value in rivals.items():
        cell = rows[i][column]
        if sign * value == best and isinstance(cell, Cell):
            rows[i][column] = Cell(replace(cell.number, best=True))


def _rival(cell: str) -> float | None:
    if not isinstance(cell, Cell) or not cell.number.comparable:
        return None
    value = cell.number.value
    return None if value is None or not math.isfinite(value) else round(value, cell.number.decimals)
