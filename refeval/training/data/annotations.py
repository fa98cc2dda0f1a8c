"""Annotation files of many gigabytes, read record by record in bounded memory.

Three layouts hold the same records: one object keyed by id, one array, and records that simply follow one another
(with or without line breaks). Which one a file has is seen from its first fields.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from refeval.errors import BadInput, MissingPrerequisite

Seen = Callable[[int], None]
"""Is told of every further part of the sources that was read, in bytes."""

# What is looked at to tell the layouts apart, in events of the parser: a few kilobytes without long strings.
_HEAD = 5000
# As the parsers of ijson say it: yajl, and the one in Python.
_CUT_SHORT = ("parse error: premature EOF", "Incomplete JSON content")


class _Layout(Enum):
    KEYED = "an object keyed by id"
    ARRAY = "an array"
    FOLLOWING = "records that follow one another"


class _Counted:
    """A file that knows how far it was read.

    Attributes:
        before: byte at which the last block begins.
        position: byte at which it ends.
        records: how many were whole; counted by whoever parses them.
    """

    def __init__(self, file: BinaryIO, seen: Seen) -> None:
        self._file, self._seen = file, seen
        self.before = self.position = self.records = 0

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        if block:
            self.before, self.position = self.position, self.position + len(block)
            self._seen(len(block))
        return block


def read_records(path: Path, fields: Collection[str], seen: Seen) -> Iterator[tuple[str | None, Any]]:
    """The records of a JSON file, each as soon as it was read.

    Args:
        path: the file.
        fields: names of which every record has one or more: they tell the layouts apart.
        seen: is told of the bytes read.

    Yields:
        The key of the record, where the file has keys, and the record.

    Raises:
        BadInput: the file cannot be read, is cut short, is not JSON, or has none of the layouts.
        MissingPrerequisite: ijson is not installed.
    """
    with _opened(path, lambda _: None) as file:
        layout = _layout(path, _parser().basic_parse(file, multiple_values=True), fields)
    with _opened(path, seen) as file:
        for record in _parsed(file, layout):
            file.records += 1
            yield record


def read_entries(path: Path, seen: Seen) -> Iterator[tuple[str, Any]]:
    """The keys and values of a JSON file that holds one object; otherwise as :func:`read_records`."""
    with _opened(path, seen) as file:
        for entry in _parsed(file, _Layout.KEYED):
            file.records += 1
            yield entry
        if not file.records:
            raise BadInput(f"{path}: no object with entries")


def _parser() -> Any:
    try:
        import ijson
    except ImportError as error:
        raise MissingPrerequisite(f"JSON cannot be streamed: {error}", cure="pip install 'refeval[train]'") from error
    return ijson


@contextlib.contextmanager
def _opened(path: Path, seen: Seen) -> Iterator[_Counted]:
    try:
        with path.open("rb") as opened:
            file = _Counted(opened, seen)
            yield file
    except _parser().JSONError as error:
        raise _broken(path, error, file) from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _parsed(file: _Counted, layout: _Layout) -> Iterator[tuple[Any, Any]]:
    if layout is _Layout.KEYED:
        yield from _parser().kvitems(file, "", multiple_values=True, use_float=True)
        return
    prefix = "item" if layout is _Layout.ARRAY else ""
    for record in _parser().items(file, prefix, multiple_values=True, use_float=True):
        yield None, record


def _layout(path: Path, events: Iterator[tuple[str, Any]], fields: Collection[str]) -> _Layout:
    """Tell the layouts apart by the depth at which a field of records comes first."""
    depth, first = 0, ""
    names: list[str] = []
    for number, (event, value) in enumerate(events):
        first = first or event
        if event == "map_key" and depth <= 2:
            if value in fields:
                return _Layout.ARRAY if first == "start_array" else _Layout.KEYED if depth == 2 else _Layout.FOLLOWING
            names.append(value)
        depth += event.startswith("start_") - event.startswith("end_")
        if number > _HEAD:
            break
    raise BadInput(
        f"{path}: the layout of these annotations is not known",
        details=(
            ("first fields", ", ".join(names[:8]) or "none"),
            ("wanted", f"records with {' or '.join(sorted(fields))}: {', '.join(layout.value for layout in _Layout)}"),
        ),
    )


def _broken(path: Path, error: Exception, file: _Counted) -> BadInput:
    # The parser names no byte, but it took the file block by block; its own words come with lines of context.
    reason = str(error).splitlines()[0]
    if reason in _CUT_SHORT:
        what, where = "is cut short", f"byte {file.position:,}, where the file ends"
    else:
        what, where = "is not JSON", f"between bytes {file.before:,} and {file.position:,}"
    details = (("read", f"{file.records:,} whole records"), ("stops", where), ("reason", reason))
    return BadInput(f"{path} {what}", details=details, cure="fetch the file again, and compare its size")
