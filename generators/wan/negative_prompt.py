"""The negative prompt: the official one where it can be found, else the user's or a wording of our own.

The official text is not shipped. It is recognised by its digest in configuration files that the user has, which
are parsed and never executed.

Source: RefAlign @6f91526, Phantom-Wan (sbalani/Phantom-cog @9a9be62) and VACE @48eb44f all use Wan2.1's
``sample_neg_prompt`` (Chinese, 137 characters); RefAlign's benchmark script
(examples/wanvideo/model_training/lora/run_inference14b.py:39-47) adds more terms after it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

OFFICIAL_SHA256 = "ce96e0324e4b54ce4b6e867f669ca520952e1a34cc116543516b1897f0d3c47e"
OFFICIAL_CHARACTERS = 137
OWN_TEXT = (
    "blurry or noisy picture, compression artifacts, wrong exposure, dull colours, flicker, stuttering motion, "
    "a clip that stands still, watermark, logo, captions, misshapen face, malformed hands, too many fingers or limbs, "
    "merged bodies, objects that melt or pass through each other, cluttered background, looks painted or rendered"
)
_LARGEST_FILE = 1_000_000


class Wording(StrEnum):
    """Where a negative prompt comes from."""

    OFFICIAL = "official"
    OFFICIAL_EXTENDED = "official-extended"
    GIVEN = "given"
    OWN = "own"


@dataclass(frozen=True, kw_only=True)
class NegativePrompt:
    """A negative prompt and what it is.

    Attributes:
        text: as it goes to :func:`refeval.generators.wan.prompts.clean_prompt`.
        wording: official; official with more after it; the user's; or ours, which the official numbers do not hold for.
    """

    text: str
    wording: Wording

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, hex."""
        return _sha256(self.text)

    def as_settings(self) -> dict[str, Any]:
        """For the settings of a generator (JSON types): hashed, and kept in the manifest."""
        return {"wording": self.wording.value, "sha256": self.sha256, "text": self.text}


def find_negative_prompt(
    folders: Sequence[Path], given: str | None, *, extended: bool = False, expected: str = OFFICIAL_SHA256
) -> NegativePrompt:
    """The negative prompt to use.

    Args:
        folders: searched in order, each at its top level and one below, files in the order of their names: ``.py``
            (string constants), ``.json`` (strings at any depth), ``.txt`` (the whole file without its last line
            break), at most 1 MB each.
        given: the user's text; it wins, and is told to be official by its digest. An empty text is a text.
        extended: prefer RefAlign's longer benchmark text; the plain official one is taken where only that is found.
        expected: sha256 (hex) of the official text; the first 137 characters of an extended one have it too.

    Returns:
        The given text, the first official one that is found, or our own wording.
    """
    if given is not None:
        return NegativePrompt(text=given, wording=_wording(given, expected) or Wording.GIVEN)
    official: NegativePrompt | None = None
    for text in _texts(folders):
        if _wording(text, expected) is None:
            continue
        if extended and len(text) > OFFICIAL_CHARACTERS:
            return NegativePrompt(text=text, wording=Wording.OFFICIAL_EXTENDED)
        # A file with only the longer text holds the official one too: its beginning.
        official = official or NegativePrompt(text=text[:OFFICIAL_CHARACTERS], wording=Wording.OFFICIAL)
        if not extended:
            break
    return official or NegativePrompt(text=OWN_TEXT, wording=Wording.OWN)


def _sha256(text: str) -> str:
    # A lone surrogate is legal in a Python or JSON string and has no UTF-8 form.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _wording(text: str, expected: str) -> Wording | None:
    if len(text) < OFFICIAL_CHARACTERS or _sha256(text[:OFFICIAL_CHARACTERS]) != expected:
        return None
    return Wording.OFFICIAL if len(text) == OFFICIAL_CHARACTERS else Wording.OFFICIAL_EXTENDED


def _texts(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        for file in _files(folder):
            yield from _strings_of(file)


def _files(folder: Path) -> Iterator[Path]:
    """Files that can hold the text, top level first; links that lead out of the folder are left out."""
    top = _listing(folder)
    below = [file for sub in top if sub.is_dir() and not sub.is_symlink() for file in _listing(sub)]
    inside = folder.resolve()
    for file in (*top, *below):
        if file.suffix in _READERS and file.is_file() and file.resolve().is_relative_to(inside):
            yield file


def _listing(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing for one that is not there or not readable (weights not fetched yet)."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _strings_of(file: Path) -> list[str]:
    """The strings of one file.

    A file that cannot be read, decoded or parsed gives none, on purpose: it was never said to hold the text, and
    the wording that is used in the end is in the manifest.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE:
            return []
        return list(_READERS[file.suffix](file.read_bytes()))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
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
