"""The report of one or more runs: a folder with a web page, the same as Markdown, and CSV files.

Made from run folders alone, without a clock, a network or weights: the same folders give the same bytes. What
is shown comes from manifests, suites, records, replies of the judge and clips only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refeval.documents import write_bytes
from refeval.errors import BadInput
from refeval.reports.gallery import build_gallery
from refeval.reports.markdown import report_markdown
from refeval.reports.media import CLIPS, Cutting, MediaFolder, relative_link
from refeval.reports.page import page
from refeval.reports.table import csv_text
from refeval.reports.totals import category_means, totals_csv, totals_table
from refeval.reports.views import SHOWN_PROTOCOLS, RunView, metric_label, run_labels
from refeval.runs import Run


def write_report(runs: Sequence[Run], out: Path, *, copy_clips: bool = False) -> list[Path]:
    """Write ``index.html``, ``report.md``, ``totals.csv``, ``categories.csv``, ``cases.csv`` and ``media/``.

    ``media/`` holds small pictures: thumbnails of the references, a poster per clip, and what metrics saw. What an
    earlier report cut is not cut again.

    Args:
        runs: one or more runs of the same suite, shown side by side; the first one is the base of every delta.
        out: folder; it is made.
        copy_clips: copy the clips to ``clips/``, so that the folder can be moved or published. Else the page links to
            the run folders by relative paths, and page and runs have to be moved together.

    Returns:
        The documents, without pictures and clips.

    Raises:
        BadInput: no run, a folder that is not a run, or runs of differing suites.
        CorruptFile: a damaged manifest or suite.
        DiskFull: no space left.
    """
    views = [RunView(run) for run in runs]
    _refuse_differing_suites(views)
    labels = run_labels(views)
    media = MediaFolder(out)
    gallery = build_gallery(views, labels, media)

    def link(clip: Cutting) -> str:
        if copy_clips:
            return f"{CLIPS}/{media.copy_clip(clip.file, clip.sha256)}"
        return relative_link(clip.file, out)

    # Its intervals take a while, so the page and the Markdown share it.
    totals = totals_table(views)
    contents = {
        "index.html": page(views, labels, gallery, link, totals),
        "report.md": report_markdown(views, labels, gallery, totals),
        "totals.csv": totals_csv(views),
        "categories.csv": _categories_csv(views, labels),
        "cases.csv": _cases_csv(views, labels),
    }
    for name, text in contents.items():
        write_bytes(out / name, text.encode())
    # Last: until then an older page still finds its pictures.
    media.remove_others()
    return [out / name for name in contents]


def _refuse_differing_suites(views: Sequence[RunView]) -> None:
    if not views:
        raise BadInput("no run to report", cure="give one or more run folders")
    first = views[0]
    for view in views[1:]:
        if view.manifest.suite["sha256"] != first.manifest.suite["sha256"]:
            raise BadInput(
                "runs of differing suites cannot be shown side by side",
                details=tuple((str(v.run.folder), str(v.manifest.suite["name"])) for v in (first, view)),
                cure="write one report per suite",
            )


def _categories_csv(views: Sequence[RunView], labels: Sequence[str]) -> str:
    columns = ("run", "protocol", "category", "metric", "mean", "unit", "scored", "applicable")
    rows: list[tuple[Any, ...]] = []
    for view, label in zip(views, labels, strict=True):
        for protocol in SHOWN_PROTOCOLS:
            for category, means in category_means(view, protocol).items():
                rows += [
                    (
                        label,
                        protocol.value,
                        category.value,
                        metric,
                        mean.value,
                        "per cent" if mean.in_total else "raw",
                        mean.scored,
                        mean.applicable,
                    )
                    for metric, mean in means.items()
                ]
    return csv_text(columns, rows)


def _cases_csv(views: Sequence[RunView], labels: Sequence[str]) -> str:
    columns = ("run", "case", "category", "metric", "label", "value", "strict_value", "status", "reason")
    rows: list[tuple[Any, ...]] = []
    for view, label in zip(views, labels, strict=True):
        for case in view.suite.cases:
            for metric in view.metrics:
                record = view.scores.get((metric, case.id))
                values = (record.value, record.strict_value) if record else (None, None)
                status, reason = view.status(metric, case.id)
                name = metric_label(metric)
                rows.append((label, case.id, case.category.value, metric, name, *values, status.value, reason))
    return csv_text(columns, rows)
