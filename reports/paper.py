"""The tables and figures of a paper from run folders: which there are, and where they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from refeval.documents import write_bytes
from refeval.reports.ablations import Study, ablation_table, compared
from refeval.reports.breakdowns import categories_table, domains_table, protocols_table
from refeval.reports.figures.runs import write_figures
from refeval.reports.main_table import main_table
from refeval.reports.readings import RunReading, by_suite, read_runs
from refeval.reports.table import Table
from refeval.reports.views import SHOWN_PROTOCOLS
from refeval.runs import Run


def write_paper(runs: Sequence[Run], out: Path) -> tuple[list[Path], list[str]]:
    """Write tables and figures.

    Args:
        runs: one or more, of any suites.
        out: folder of the report.

    Returns:
        The files, and a sentence for everything that was left out.

    Raises:
        BadInput: a run names its ablation in another form than :mod:`refeval.reports.ablations` reads.
    """
    readings = read_runs(runs)
    drawn, left_out = write_figures(readings, out)
    return [*write_tables(readings, out), *drawn], left_out


def write_tables(runs: Sequence[RunReading], out: Path) -> list[Path]:
    """Write every table that the runs allow as ``tables/<name>.md``, ``.tex``, ``.csv`` and ``.html``.

    Args:
        runs: one or more; runs of differing suites get tables of their own, and one that puts the domains side by side.
        out: folder of the report.

    Returns:
        The files.
    """
    written = []
    for name, table in paper_tables(runs):
        contents = {
            "md": table.markdown(),
            "tex": table.latex(label=name),
            "csv": table.csv(),
            "html": table.html_page(),
        }
        for suffix, text in contents.items():
            path = out / "tables" / f"{name}.{suffix}"
            write_bytes(path, text.encode())
            written.append(path)
    return written


def paper_tables(runs: Sequence[RunReading]) -> list[tuple[str, Table]]:
    """Every table that the runs allow, with the name of its files."""
    found = [(name, table) for part, end in by_suite(runs) for name, table in _suite_tables(part, end)]
    if domains := domains_table(compared(runs)):
        found.append(("domains", domains))
    return found


def _suite_tables(runs: Sequence[RunReading], end: str) -> Iterator[tuple[str, Table]]:
    shown = compared(runs)
    yield f"main{end}", main_table(shown)
    for study in Study:
        if table := ablation_table(runs, study):
            yield f"ablation-{study}{end}", table
    for protocol in SHOWN_PROTOCOLS:
        yield f"categories-{protocol}{end}", categories_table(shown, protocol)
    yield f"protocols{end}", protocols_table(shown)
