"""Commands on what is recorded: ``refeval total``, ``report``, ``check``, ``explain`` and ``export``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from refeval import checking
from refeval.cases import Domain
from refeval.commands.console import OUT, print_json, say, say_written
from refeval.commands.options import domain_named, protocol_named
from refeval.errors import BadInput, ExitCode
from refeval.official import folder_total, write_folder
from refeval.protocols import ProtocolName, run_total
from refeval.runs import Run
from refeval.thumbnails import keep_references


def total(path: Path, *, domain: str | None, protocol: str | None, allow_missing: bool, as_json: bool) -> ExitCode:
    """``refeval total``."""
    from refeval.reports.explain import total_table

    chosen = protocol_named(protocol)
    if (path / "manifest.json").is_file():
        opened = Run(path)
        wanted = domain_named(domain) or opened.manifest.domain
        result = run_total(
            opened.suite(),
            opened.score_records(),
            protocol=chosen,
            domain=wanted,
            allow_missing=allow_missing,
        )
    elif path.is_dir():
        result = folder_total(path, protocol=chosen, domain=domain_named(domain) or Domain.OPEN)
    else:
        raise BadInput(f"{path} is not a folder", cure="give a run folder, or a folder of official score files")
    if as_json:
        # The official result may hold NaN, and then so does ours; every other command writes strict JSON.
        OUT.out(json.dumps(result.as_json(), indent=1), highlight=False)
    else:
        OUT.print(total_table(result, title=str(path)).terminal())
    return ExitCode.OK if result.total is not None else ExitCode.INCOMPLETE


def report(runs: Sequence[Path], *, out: Path | None, copy_clips: bool, data: Path | None, as_json: bool) -> ExitCode:
    """``refeval report``."""
    from refeval.reports.media import CLIPS
    from refeval.reports.totals import totals_table

    opened = [Run(folder) for folder in runs]
    place = out or opened[0].folder / "reports"
    written, left_out = make_report(opened, place, own=out is None, copy_clips=copy_clips, data=data)
    clips = [path.stat().st_size for path in place.glob(f"{CLIPS}/*")] if copy_clips else []
    if as_json:
        print_json({"written": [str(path) for path in written], "left_out": left_out, "clips_bytes": sum(clips)})
    else:
        OUT.print(totals_table(opened, published=False).transposed().terminal())
        say_written(written)
        if clips:
            say(f"copied      {len(clips)} clips, {sum(clips) / 1e6:.1f} MB, to {place / CLIPS}")
        for sentence in left_out:
            say(f"left out    {sentence}")
    return ExitCode.OK


def make_report(
    runs: Sequence[Run], place: Path, *, own: bool, copy_clips: bool = False, data: Path | None = None
) -> tuple[list[Path], list[str]]:
    """Write the page, the tables and the figures of runs.

    Args:
        runs: one or more.
        place: folder of the report.
        own: the folder is the program's own: tables and figures of an earlier report, maybe of other runs, go.
        copy_clips: copy the clips into the folder.
        data: folder of the reference images, if they are needed.

    Returns:
        The files, and a sentence for everything that was left out.
    """
    from refeval.reports.paper import write_paper
    from refeval.reports.web import write_report

    for one in runs:
        rendered = {record.case for record in one.render_records()}
        keep_references(one, [case for case in one.suite(data).cases if case.id in rendered])
    for path in (*place.glob("tables/*"), *place.glob("figures/*")) if own else ():
        path.unlink()
    one_suite = len({run.manifest.suite["sha256"] for run in runs}) == 1
    pages = write_report(runs, place, copy_clips=copy_clips) if one_suite else []
    more, left_out = write_paper(runs, place)
    if not one_suite:
        left_out.insert(0, "the page is left out: it shows runs of one suite, so give those of each suite alone")
    return [*pages, *more], left_out


def check(folder: Path, *, as_json: bool) -> ExitCode:
    """``refeval check``."""
    return show_findings(checking.check_run(Run(folder)), "every file is there and as recorded", as_json)


def explain(folder: Path, case_id: str | None, *, as_json: bool) -> ExitCode:
    """``refeval explain``."""
    from refeval.reports.explain import explain_case, explain_run

    opened = Run(folder)
    tables = explain_case(opened, case_id) if case_id else explain_run(opened)
    if as_json:
        print_json(
            {table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows] for table in tables}
        )
    else:
        for table in tables:
            OUT.print(table.terminal())
    return ExitCode.OK


def export(folder: Path, *, out: Path | None, name: str | None, as_json: bool) -> ExitCode:
    """``refeval export``."""
    opened = Run(folder)
    model = name or re.sub(r"[^A-Za-z0-9._-]+", "-", opened.manifest.model)
    suite, records = opened.suite(), opened.score_records()
    place = out or folder / "reports" / "official"
    if out is None:
        # This folder is the program's own: what an earlier export left there goes.
        for path in place.glob("*.json"):
            path.unlink()
    written = write_folder(place, suite, records, model=model)
    total = run_total(suite, records, protocol=ProtocolName.V1_1)
    if as_json:
        print_json({"written": [str(path) for path in written], "problems": list(total.problems)})
    else:
        say_written(written)
        for problem in total.problems:
            say(f"incomplete  {problem}")
    return ExitCode.OK if total.complete else ExitCode.INCOMPLETE


def show_findings(findings: Sequence[checking.Finding], fine: str, as_json: bool) -> ExitCode:
    code = checking.exit_code(list(findings))
    if as_json:
        rows = [{"severity": finding.severity.value, "text": finding.text} for finding in findings]
        print_json({"findings": rows, "exit_code": int(code)})
        return code
    for finding in findings:
        say(f"{finding.severity.value:<10}  {finding.text}")
    if code is ExitCode.OK:
        OUT.print(fine)
    return code
