"""Numbers against the official ones."""

from __future__ import annotations

from pathlib import Path

from refeval import conformance as conformance_module
from refeval.commands.console import OUT, print_json, say
from refeval.commands.options import refuse_folder
from refeval.commands.work import work_off
from refeval.documents import write_document
from refeval.errors import ExitCode
from refeval.evaluation import Manner
from refeval.work import Phase


def conformance(
    folder: Path,
    manner: Manner,
    *,
    expected: Path | None,
    suite: str,
    data: Path | None,
    out: Path | None,
    as_json: bool,
) -> ExitCode:
    """``refeval conformance``."""
    refuse_folder("--out", out)
    found = conformance_module.measure(
        conformance_module.find_demo(folder, expected),
        suite=suite,
        data=data,
        manner=manner,
        work=lambda run, cases, manner, model, root: work_off(
            run, cases, [Phase.RENDER, Phase.SCORE], manner, model, root
        ),
        keep_replies=out.with_name(f"{out.stem}-judge") if out else None,
    )
    if out:
        write_document(out, found.as_json())
    if as_json:
        print_json(found.as_json())
        return found.exit_code
    OUT.print(found.table().terminal())
    for line in [*found.remarks(), found.summary()]:
        say(line)
    return found.exit_code
