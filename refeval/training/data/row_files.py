"""Files of rows: the text of any of millions of rows, with little memory."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refeval.errors import BadInput, MissingPrerequisite

_SCANNED_BYTES = 1 << 24
# A group of Parquet is read whole for one of its rows; so many stay in memory.
_KEPT_GROUPS = 8


class RowFile(Protocol):
    """A file of rows; used by several threads at once.

    Attributes:
        path: of the file.
    """

    path: Path

    def __len__(self) -> int: ...

    def text(self, index: int) -> tuple[bytes | str, int]:
        """A row as JSON, and the number of its line, from 1 (of Parquet: of the row)."""


class JsonLines:
    """One JSON object a line; empty lines are passed over. Memory: 16 bytes a row.

    Args:
        path: scanned once for the ends of its lines; nothing is parsed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        ends = _line_ends(self._descriptor)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))[: len(ends)]
        filled = np.flatnonzero(ends > starts)
        self._starts, self._sizes = starts[filled], (ends - starts)[filled].astype(np.int32)
        self._lines = (filled + 1).astype(np.int32)

    def __len__(self) -> int:
        return len(self._starts)

    def text(self, index: int) -> tuple[bytes | str, int]:
        """See :class:`RowFile`."""
        text = os.pread(self._descriptor, int(self._sizes[index]), int(self._starts[index]))
        return text, int(self._lines[index])


def _line_ends(descriptor: int) -> NDArray[np.int64]:
    """Offsets of the ends of lines; a last line without one ends with the file."""
    found = [np.zeros(0, np.int64)]
    offset, last = 0, b"\n"
    while chunk := os.pread(descriptor, _SCANNED_BYTES, offset):
        found.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + offset)
        offset, last = offset + len(chunk), chunk[-1:]
    if last != b"\n":
        found.append(np.array([offset], np.int64))
    return np.concatenate(found)


class Parquet:
    """Rows of Parquet.

    A group of rows is read whole for one of them, so rows in any order are fast where groups have some hundred rows.

    Args:
        path: its schema is read.

    Attributes:
        columns: their names.

    Raises:
        BadInput: not a Parquet file.
        MissingPrerequisite: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        parquet = import_parquet()
        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise BadInput(f"{path}: not a Parquet file", details=(("reason", str(error)),)) from error
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(np.array(sizes, np.int64))
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def text(self, index: int) -> tuple[bytes | str, int]:
        """See :class:`RowFile`."""
        group = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[group - 1]) if group else 0
        content = self._group(group).slice(index - first, 1).to_pylist()[0]
        return json.dumps(_without_nothing(content), default=str), index + 1

    def column(self, name: str) -> list[Any]:
        """The values of a column, of all rows."""
        with self._lock:
            values: list[Any] = self._file.read(columns=[name])[name].to_pylist()
        return values

    def _group(self, number: int) -> Any:
        # The reader of a file is not made for several threads.
        with self._lock:
            if number not in self._groups:
                self._groups[number] = self._read_group(number)
                if len(self._groups) > _KEPT_GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(number)
            return self._groups[number]

    def _read_group(self, number: int) -> Any:
        try:
            return self._file.read_row_group(number)
        except (OSError, ValueError) as error:
            details = (("reason", str(error)),)
            raise BadInput(f"{self.path}: group {number} of the rows cannot be read", details=details) from error


def _without_nothing(value: Any) -> Any:
    """Without what is null: a column of Parquet has a value in every row."""
    if isinstance(value, Mapping):
        return {key: _without_nothing(entry) for key, entry in value.items() if entry is not None}
    return [_without_nothing(entry) for entry in value] if isinstance(value, list) else value


def import_parquet() -> Any:
    """The module ``pyarrow.parquet``.

    Raises:
        MissingPrerequisite: it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        what = f"Parquet files cannot be read: {error}"
        raise MissingPrerequisite(what, cure="pip install 'refeval[train]'") from error
    return parquet
