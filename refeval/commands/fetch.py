"""``refeval fetch``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refeval import fetching
from refeval.commands.console import ERR, print_json, say
from refeval.commands.options import names
from refeval.errors import ExitCode


def fetch_suite(name: str, folder: Path, *, revision: str | None, offline: bool, as_json: bool) -> ExitCode:
    """``refeval fetch suite``."""
    fetched = fetching.fetch_suite(
        name, folder, revision=revision, offline=offline, tell=lambda line: ERR.print(line, soft_wrap=True)
    )
    if as_json:
        print_json({"folder": str(fetched.folder), "revision": fetched.revision, "files": fetched.files})
    else:
        at = f" at {fetched.revision}" if fetched.revision else ""
        say(f"{fetched.files} files{at} in {fetched.folder}")
    return ExitCode.OK


def fetch_model(name: str, folder: Path, *, revision: str | None, offline: bool, as_json: bool) -> ExitCode:
    """``refeval fetch model``."""
    fetched = fetching.fetch_model(
        name, folder, revision=revision, offline=offline, tell=lambda line: ERR.print(line, soft_wrap=True)
    )
    return _show_fetched({"model": name}, fetched, folder, as_json)


def fetch_metrics(metrics: str | None, folder: Path, *, offline: bool, as_json: bool) -> ExitCode:
    """``refeval fetch metrics``."""
    ids = names(metrics)
    fetched = fetching.fetch_metrics(ids, folder, offline=offline, tell=lambda line: ERR.print(line, soft_wrap=True))
    return _show_fetched({"metrics": list(ids) or "all"}, fetched, folder, as_json)


def _show_fetched(
    what: Mapping[str, Any], fetched: Sequence[fetching.Fetched], folder: Path, as_json: bool
) -> ExitCode:
    if as_json:
        rows = [
            {
                "repository": one.repository,
                "revision": one.revision,
                "folder": str(one.folder),
                "files": one.files,
                "bytes": one.size,
            }
            for one in fetched
        ]
        print_json({**what, "folder": str(folder), "repositories": rows})
        return ExitCode.OK
    for one in fetched:
        say(f"{one.files} files, {one.size / 1e9:.2f} GB, of {one.repository} at {one.revision} in {one.folder}")
    return ExitCode.OK
