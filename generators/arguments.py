"""Arguments of an external program: texts with placeholders, filled in one pass and never through a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from refeval.suggestions import did_you_mean

PLACEHOLDERS = (
    "prompt",
    "case",
    "seed",
    "run_seed",
    "output",
    "width",
    "height",
    "frames",
    "fps",
    "scratch",
    "references",
    "references_csv",
    "reference_1",
    "reference_2",
    "reference_3",
    "labels_csv",
)
_WHOLE_ONLY = "references"
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def check_arguments(command: Sequence[str]) -> str | None:
    """What is wrong with the first argument that cannot be filled, as ``command[2]: ...``, or None."""
    for position, argument in enumerate(command):
        for match in _TOKEN.finditer(argument):
            problem = _problem(match, argument, is_program=position == 0)
            if problem:
                return f"command[{position}]: {problem}"
    return None


def _problem(match: re.Match[str], argument: str, *, is_program: bool) -> str | None:
    token, name = match[0], match[1]
    if token in ("{{", "}}"):
        return None
    if name is None:
        return f"'{token}' stands alone in '{argument}'; write '{token * 2}' for a literal brace"
    if name not in PLACEHOLDERS:
        return f"unknown placeholder '{token}'{did_you_mean(name, PLACEHOLDERS)}"
    if is_program:
        return f"the program itself cannot be the placeholder '{token}'"
    if name == _WHOLE_ONLY and argument != token:
        return (
            f"'{token}' becomes several arguments and cannot be a part of '{argument}'; "
            "write it alone, or use '{references_csv}'"
        )
    return None


def fill_arguments(command: Sequence[str], values: Mapping[str, str], references: Sequence[Path]) -> list[str]:
    """The arguments of one run. What is put in is never read again: a prompt may hold braces.

    Args:
        command: arguments that :func:`check_arguments` has no complaint about.
        values: text of every placeholder except those of the references.
        references: files, in order. ``{references}`` becomes one argument each; an argument with
            ``{reference_n}`` is left out where there are fewer than n.
    """
    numbered = {f"reference_{i}": str(path) for i, path in enumerate(references, 1)}
    known = {**values, **numbered, "references_csv": ",".join(map(str, references))}
    filled: list[str] = []
    for argument in command:
        if argument == f"{{{_WHOLE_ONLY}}}":
            filled += map(str, references)
        elif all(match[1] is None or match[1] in known for match in _TOKEN.finditer(argument)):
            filled.append(_TOKEN.sub(lambda match: known[match[1]] if match[1] else match[0][0], argument))
    return filled
