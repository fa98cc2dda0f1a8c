"""What every command prints with: text for people, one JSON object for programs."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from refeval.errors import DiskFull, ExitCode, RefevalError
from refeval.signals import stop_received


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Keep the command's own exit code when ``| head`` has seen enough."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


# No text is markup, and none is an emoji: paths and prompts may hold brackets and colons.
OUT = _Console(markup=False, highlight=False, emoji=False)
ERR = _Console(markup=False, highlight=False, emoji=False, stderr=True)


def say_error(text: str) -> None:
    """Print an error as the program's last word."""
    ERR.print(f"refeval: {text}", soft_wrap=True)


def last_word(error: BaseException) -> ExitCode:
    """Say why the program ends, and how to go on; returns its exit code."""
    stop = stop_received()
    # What finds no space is lost, whoever has stopped the program.
    if stop and not isinstance(error, DiskFull):
        command = shlex.join(["refeval", *sys.argv[1:]])
        say_error(f"stopped by {stop}; nothing recorded is lost\n  go on  {command}")
        return stop.exit_code
    if isinstance(error, RefevalError):
        say_error(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.filename:
        say_error(f"{error.filename}: {error.strerror}\n  cure  look at the path and its permissions")
        return ExitCode.USAGE
    say_error(f"a defect: {type(error).__name__}: {error}\n  cure  repeat with --debug and report it")
    return ExitCode.BUG


def say(line: str) -> None:
    """Print one line for people."""
    OUT.print(line, soft_wrap=True)


def say_written(written: Sequence[Path]) -> None:
    """Name the files that were written, a line each."""
    for path in written:
        say(f"written     {path}")


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object; a NaN in it is a defect."""
    OUT.out(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False), highlight=False)


def show_rows(title: str, rows: Sequence[Mapping[str, Any]], as_json: bool) -> ExitCode:
    """Print rows that share their columns, as a table or as JSON under ``title``."""
    if as_json:
        print_json({title: [dict(row) for row in rows]})
        return ExitCode.OK
    from refeval.reports.table import Table

    columns = tuple(rows[0])
    texts = tuple(tuple(str(row[column]) for column in columns) for row in rows)
    OUT.print(Table(title=title, columns=columns, rows=texts, left=len(columns)).terminal())
    return ExitCode.OK
