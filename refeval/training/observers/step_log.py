"""``steps.jsonl`` and ``notes.jsonl``: one line for every iteration, and for every number noted now and then."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from refeval.documents import naming_a_full_disk, write_bytes
from refeval.errors import CorruptFile
from refeval.training.observation import Observer, StepReport

STEPS, NOTES = "steps.jsonl", "notes.jsonl"
_T = TypeVar("_T")
# What differs between two runs of the same training.
_MACHINE = ("samples_per_second", "seconds", "memory_bytes", "skipped")


@dataclass(frozen=True, kw_only=True)
class Note:
    """A number that belongs to a step; see :meth:`Observer.note`."""

    step: int
    name: str
    value: float


class StepLog(Observer):
    """Appends to the files of a training's folder; a line is with the system before the next step begins.

    What differs between two runs of one training (time, memory, samples read ahead) stands under ``machine``; the rest
    of a line follows from recipe and seed. Numbers that are not finite are written as the words that ``float`` reads.

    Args:
        folder: of the training. Half a line that a crash has left there is cut off.

    Raises:
        CorruptFile: a damaged line.
    """

    def __init__(self, folder: Path) -> None:
        self._steps = _Lines(folder / STEPS)
        self._notes = _Lines(folder / NOTES)
        self._last = max((report.step for report in read_steps(folder)), default=0)

    def begin(self, done: int) -> None:
        """Forget what came after the step that the training goes on from."""
        for lines in (self._steps, self._notes):
            lines.truncate_after(done)
        self._last = min(self._last, done)

    def step(self, report: StepReport) -> None:
        """Write a line.

        Raises:
            ValueError: the step, or a later one, is there already.
            DiskFull: no space.
        """
        if report.step <= self._last:
            raise ValueError(f"step {report.step} after step {self._last}")
        row = dataclasses.asdict(report)
        row["machine"] = {name: row.pop(name) for name in _MACHINE}
        self._steps.add(row)
        self._last = report.step

    def note(self, step: int, name: str, value: float) -> None:
        """Write a line.

        Raises:
            DiskFull: no space.
        """
        self._notes.add({"step": step, "name": name, "value": value})

    def close(self) -> None:
        """Close the files."""
        self._steps.close()
        self._notes.close()


def read_steps(folder: Path) -> list[StepReport]:
    """The finished iterations of a training, in order; half a line at the end is passed over.

    Raises:
        CorruptFile: a damaged line before the end.
    """
    kind = TypeAdapter(StepReport)
    return _read(folder / STEPS, lambda row: kind.validate_python({**row, **row["machine"]}))


def read_notes(folder: Path) -> list[Note]:
    """The notes of a training, in order; as :func:`read_steps`."""
    return _read(folder / NOTES, TypeAdapter(Note).validate_python)


class _Lines:
    """JSON objects with a step, a line each, appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with naming_a_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def add(self, row: dict[str, Any]) -> None:
        line = memoryview((json.dumps(_plain(row), sort_keys=True, allow_nan=False) + "\n").encode())
        with naming_a_full_disk(self._path):
            while line:
                line = line[self._file.write(line) :]
            # A checkpoint survives a power failure; so must the lines before it.
            os.fsync(self._file.fileno())

    def truncate_after(self, step: int) -> None:
        numbers = _read(self._path, lambda row: int(row["step"]))
        kept = [line for line, number in zip(_whole_lines(self._path), numbers, strict=True) if number <= step]
        if len(kept) < len(numbers):
            self.close()
            write_bytes(self._path, b"".join(line + b"\n" for line in kept))
            self._open()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        whole = sum(len(line) + 1 for line in _whole_lines(self._path))
        self._file = self._path.open("ab", buffering=0)
        os.truncate(self._file.fileno(), whole)


def _whole_lines(path: Path) -> list[bytes]:
    """Without their ends; what has no end was never finished."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _read(path: Path, parse: Callable[[dict[str, Any]], _T]) -> list[_T]:
    found = []
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            found.append(parse(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            cure = "delete the line: no weights depend on it"
            raise CorruptFile(f"{path}:{number} is damaged", cure=cure) from error
    return found


def _plain(value: Any) -> Any:
    """Without NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
