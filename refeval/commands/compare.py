"""``refeval compare`` and ``refeval baseline``: what a candidate lost, and the file that it is held against."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.baselines import baseline_of
from refeval.commands.console import ERR, OUT, print_json, say, say_written
from refeval.commands.options import domain_named, protocol_named, refuse_folder
from refeval.comparability import parse_allowances
from refeval.comparing import Terms
from refeval.documents import write_bytes, write_document
from refeval.errors import BadInput, ExitCode, RefevalError
from refeval.gates import Judged
from refeval.protocols import ProtocolName, run_total
from refeval.regression import hold_against
from refeval.reports.comparison import comparison_tables
from refeval.reports.github import annotation_lines, refusal, summary_text
from refeval.reports.junit import junit_xml
from refeval.runs import Run
from refeval.statistics import Resampling

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a comparison is to write and print.

    Attributes:
        junit: JUnit XML.
        out: JSON, as ``--json`` prints it.
        github: a summary and annotations for GitHub Actions.
        as_json: JSON on standard output.
        worst: how many of the largest losses.
    """

    junit: Path | None
    out: Path | None
    github: bool
    as_json: bool
    worst: int


def compare(
    base: str,
    candidate: str,
    gates: Sequence[str],
    *,
    protocol: str | None,
    domain: str | None,
    allow_missing: bool,
    allow: Sequence[str],
    seed: int,
    resamples: int,
    wanted: Wanted,
) -> ExitCode:
    """``refeval compare``."""
    summary = _summary_file() if wanted.github else None
    refuse_folder("--junit", wanted.junit)
    refuse_folder("--out", wanted.out)
    try:
        terms = Terms(
            protocol=protocol_named(protocol),
            domain=domain_named(domain),
            allow_missing=allow_missing,
            allowed=parse_allowances(allow),
            resampling=Resampling(resamples=resamples, seed=seed),
        )
        judged = hold_against(_runs(base), _runs(candidate), gates, terms)
    except RefevalError as error:
        if summary:
            _tell_github(summary, *refusal(error), wanted.as_json)
        raise
    return _show(judged, wanted, summary)


def baseline(folder: Path, *, out: Path | None, as_json: bool) -> ExitCode:
    """``refeval baseline``."""
    refuse_folder("--out", out)
    found = baseline_of(Run(folder))
    total = run_total(found.parsed_suite, found.records, protocol=ProtocolName.STRICT)
    lacking = [m for m in total.metrics if m.metric in found.scores and m.scored < m.applicable]
    for metric in lacking:
        ERR.print(f"incomplete  {metric.label}: {metric.scored} of {metric.applicable} cases have a value")
    if out is None:
        OUT.out(found.text(), highlight=False, end="")
    else:
        write_bytes(out, found.text().encode())
        if as_json:
            print_json({"written": [str(out)]})
        else:
            say_written([out])
    return ExitCode.INCOMPLETE if lacking else ExitCode.OK


def _show(judged: Judged, wanted: Wanted, summary: Path | None) -> ExitCode:
    content = judged.as_json(wanted.worst)
    written = []
    if wanted.junit:
        write_bytes(wanted.junit, junit_xml(judged))
        written.append(wanted.junit)
    if wanted.out:
        write_document(wanted.out, content)
        written.append(wanted.out)
    if wanted.as_json:
        print_json(content)
    else:
        for table in comparison_tables(judged, wanted.worst):
            OUT.print(table.terminal())
        say_written(written)
        say(judged.summary())
    if summary:
        _tell_github(summary, summary_text(judged, wanted.worst), annotation_lines(judged), wanted.as_json)
    return judged.exit_code


def _runs(text: str) -> list[Path]:
    """One path, or several with commas between; a name that exists is taken as it is."""
    parts = [text] if Path(text).exists() else [part.strip() for part in text.split(",")]
    return [Path(part) for part in parts if part]


def _summary_file() -> Path:
    path = os.environ.get(SUMMARY_VARIABLE)
    if not path:
        cure = f"leave --github out, or set {SUMMARY_VARIABLE} to the file that takes the summary"
        raise BadInput(f"--github works in GitHub Actions: {SUMMARY_VARIABLE} is not set", cure=cure)
    return Path(path)


def _tell_github(summary: Path, text: str, lines: Sequence[str], as_json: bool) -> None:
    # Other steps of the job append to the same file.
    with summary.open("a", encoding="utf-8") as file:
        file.write(text)
    # Actions reads commands from both streams; one JSON object stays alone on standard output.
    console = ERR if as_json else OUT
    for line in lines:
        console.out(line, highlight=False)
