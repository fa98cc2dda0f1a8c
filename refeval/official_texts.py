"""Texts of published programs that are not shipped: found in files that the user has, by their sha256.

The files are parsed and never executed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LARGEST_FILE = 1_000_000


def text_sha256(text: str) -> str:
    """sha256 (hex) of a text in UTF-8."""
    # A lone surrogate is legal in a Python or JSON string and has no UTF-8 form.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def texts_below(folder: Path) -> Iterator[str]:
    """The strings of a folder's files, at its top level and one below, files in the order of their names.

    Links that lead out of the folder are left out. Nothing for a folder that is not there or not readable.
    """
    for file in _files(folder):
        yield from texts_of(file)


def texts_of(file: Path) -> list[str]:
    """The strings of one file of at most 1 MB, in its order.

    A file that cannot be read, decoded or parsed gives none, on purpose: it need not hold the wanted text, and
    what is used in the end is recorded.

    Args:
        file: ``.py`` (string constants), ``.json`` (strings at any depth) or ``.txt`` (the whole file without its
            last line break); any other gives none.
    """
    try:
        if file.suffix not in _READERS or not file.is_file() or file.stat().st_size > _LARGEST_FILE:
            return []
        return list(_READERS[file.suffix](file.read_bytes()))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []


def _files(folder: Path) -> Iterator[Path]:
    top = _listing(folder)
    below = [file for sub in top if sub.is_dir() and not sub.is_symlink() for file in _listing(sub)]
    inside = folder.resolve()
    for file in (*top, *below):
        if file.resolve().is_relative_to(inside):
            yield file


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text_string(content: bytes) -> Iterator[str]:
    yield content.decode("utf-8-sig").rstrip("\r\n")


def _json_strings(content: bytes) -> Iterator[str]:
    waiting: list[Any] = [json.loads(content)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            waiting.extend(reversed(value.values()))


def _python_strings(content: bytes) -> Iterator[str]:
    """String constants in the order of the source; those joined by ``+`` as one."""
    with warnings.catch_warnings():
        # A stray backslash in someone else's file is not this user's concern.
        warnings.simplefilter("ignore")
        waiting: list[ast.AST] = [ast.parse(content)]
    while waiting:
        node = waiting.pop()
        operands = _operands(node)
        joined = [node.value for node in operands if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        if len(joined) == len(operands):
            yield "".join(joined)
        elif len(operands) > 1:
            waiting.extend(reversed(operands))
        else:
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _operands(node: ast.AST) -> list[ast.AST]:
    """The terms of a sum, left to right; of anything else the node itself."""
    terms: list[ast.AST] = []
    waiting = [node]
    while waiting:
        term = waiting.pop()
        if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Add):
            waiting += [term.right, term.left]
        else:
            terms.append(term)
    return terms


_READERS: dict[str, Callable[[bytes], Iterator[str]]] = {
    ".py": _python_strings,
    ".json": _json_strings,
    ".txt": _text_string,
}
