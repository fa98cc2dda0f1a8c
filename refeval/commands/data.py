"""Commands on rows to train on: ``refeval data check``."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track

from refeval.commands.console import ERR, print_json, say, show_rows
from refeval.errors import ExitCode, MissingPrerequisite

if TYPE_CHECKING:
    from refeval.training.data.checking import FileReport, Spread

_NAMED = 10


def check(files: Sequence[Path], *, config: str | None, decode: int | None, as_json: bool) -> ExitCode:
    """``refeval data check``; ``decode`` None: every row."""
    require_torch()
    from refeval.training.data.checking import check_file
    from refeval.training.recipe import DataSettings, read_recipe

    data = read_recipe(config).data if config else DataSettings()
    threads = os.cpu_count() or 1
    reports = [check_file(path, data, decode=decode, threads=threads, watch=_watch) for path in files]
    if as_json:
        print_json({"files": [asdict(report) | {"path": str(report.path)} for report in reports]})
    else:
        _show(reports)
    return ExitCode.INCOMPLETE if any(report.broken for report in reports) else ExitCode.OK


def require_torch() -> None:
    """Refuse to work on rows where torch is missing.

    Nothing is computed with it, but the format of rows is part of the training.

    Raises:
        MissingPrerequisite: it is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        cure = "pip install 'refeval[train]' (docs/install.md: torch comes first)"
        raise MissingPrerequisite("torch is not installed", cure=cure)


def _watch(rows: Iterable[Any], what: str, count: int) -> Iterable[Any]:
    return track(rows, what, count, console=ERR, transient=True, disable=not ERR.is_terminal)


def _show(reports: Sequence[FileReport]) -> None:
    show_rows("rows to train on", [_table_row(report) for report in reports], as_json=False)
    for report in reports:
        for row, reason in list(report.broken.items())[:_NAMED]:
            say(f"broken  {row}: {reason}")
        more = len(report.broken) - _NAMED
        if more > 0:
            say(f"broken  and {more} more rows of {report.path}")
    decoded, rows = sum(report.decoded for report in reports), sum(report.rows for report in reports)
    say(f"{rows} rows are of the right format; of {decoded} the clip and the references were decoded")


def _table_row(report: FileReport) -> dict[str, str]:
    return {
        "file": str(report.path),
        "rows": str(report.rows),
        **{pair: str(report.pairs.get(pair, 0)) for pair in ("regular", "cross")},
        "references": _span(report.references_of_rows()),
        "cut, frames": _span(report.frames),
        "cut, seconds": _span(report.seconds),
        "decoded": str(report.decoded),
        "broken": str(len(report.broken)),
    }


def _span(spread: Spread | None) -> str:
    """The middle, and below it the range; short enough to be a column."""
    if spread is None:
        return "-"
    least, median, most = (f"{round(value, 1):g}" for value in (spread.least, spread.median, spread.most))
    return f"{median}\n{least}-{most}"
