"""The report of a study: tables, the numbers with every digit, a page, and the votes as a figure."""

from __future__ import annotations

import importlib.resources
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from refeval.documents import read_document, write_bytes, write_document
from refeval.errors import BadInput
from refeval.keys import file_sha256
from refeval.reports.figures.study import draw_votes
from refeval.reports.html import html_fragment
from refeval.reports.table import Table
from refeval.runs import Run
from refeval.statistics.results import Resampling
from refeval.studies.analysis import Analysis, analyse
from refeval.studies.analysis_metrics import Scores, scores_of_runs
from refeval.studies.comparisons import Comparison
from refeval.studies.study import StudyDocument, StudyFolder
from refeval.studies.tally_method import method
from refeval.studies.tally_tables import pairs_csv, raters_table, study_tables
from refeval.studies.votes import read_comparisons

_DEFAULT = Resampling()


def tally(
    folder: Path,
    *,
    key: Path | None,
    runs: Sequence[Path] = (),
    files: Sequence[Path] = (),
    out: Path,
    resampling: Resampling = _DEFAULT,
) -> list[Path]:
    """Write ``tally.md``, ``tally.html``, ``tally.csv``, ``tally.json``, ``votes.svg`` and ``votes.png``.

    The same votes give the same bytes.

    Args:
        folder: of the study.
        key: the key folder; by default ``<STUDY>-key`` beside the study.
        runs: one per arm, to hold their scores against the votes; none: metrics are left out.
        files: votes that are not in the study folder yet.
        out: folder; it is made.
        resampling: number of draws, seed, level.

    Returns:
        The files.

    Raises:
        BadInput: no vote, no key, an arm without a run, or a run that is no arm.
        CorruptFile: a damaged key or log.
        MissingPrerequisite: matplotlib is not installed.
    """
    study = StudyFolder(folder)
    comparisons = read_comparisons(folder, key, files)
    scores = _scores(study.key_folder(key), runs) if runs else None
    analysis = analyse(comparisons, study.document.exclusion, scores=scores, resampling=resampling)
    return write_tally(study.document, comparisons, analysis, out)


def write_tally(study: StudyDocument, comparisons: Sequence[Comparison], analysis: Analysis, out: Path) -> list[Path]:
    """As :func:`tally`, of votes that have been read and analysed."""
    figures = draw_votes(analysis.main.pairs, out)
    kinds = Counter(one.kind for one in comparisons)
    words = method(study, analysis, dict(kinds))
    title = f"Study of {study.arms} arms on {study.suite}"
    main, others = _tables(analysis)
    texts = {
        "tally.md": _markdown(title, words, main, others),
        "tally.html": _page(title, words, main, others, figures[0]),
        "tally.csv": pairs_csv(analysis),
    }
    for name, text in texts.items():
        write_bytes(out / name, text.encode())
    write_document(out / "tally.json", _document(study, analysis, words))
    return [*(out / name for name in texts), out / "tally.json", *figures]


def _scores(key: Path, folders: Sequence[Path]) -> Scores:
    """The scores of the clips that were shown; runs are known by the sha256 of their manifests."""
    arms = {arm["label"]: arm for arm in read_document(key / "key.json")["arms"]}
    left = [Run(folder) for folder in folders]
    found: dict[str, Run] = {}
    for label, arm in arms.items():
        fitting = [run for run in left if file_sha256(run.folder / "manifest.json") == arm["manifest_sha256"]]
        if not fitting:
            cure = "--runs with the runs that the study was made from"
            raise BadInput(f"no run of arm '{label}' is given", details=(("model", arm["model"]),), cure=cure)
        found[label] = fitting[0]
        left.remove(fitting[0])
    if left:
        raise BadInput(f"{left[0].folder} is no arm of the study", cure="leave it out of --runs")
    return scores_of_runs(found, {label: arm["clips"] for label, arm in arms.items()})


def _tables(analysis: Analysis) -> tuple[list[Table], list[Table]]:
    """Tables of the results to quote, and of everyone's where they differ."""
    main, left_out = analysis.main, len(analysis.excluded)
    others: list[Table] = []
    whose = f"{main.raters} raters"
    if analysis.kept is None:
        whose = f"all {whose}, whom the rule leaves out"
    elif analysis.everyone:
        whose = f"{whose}, {left_out} left out"
        others = study_tables(analysis.everyone, f"all {analysis.everyone.raters} raters")
    return [*study_tables(main, whose), raters_table(analysis.raters)], others


def _markdown(title: str, words: Sequence[tuple[str, str]], main: Sequence[Table], others: Sequence[Table]) -> str:
    parts = [f"# {title}\n", "![Wins, ties and losses of each pair of arms](votes.svg)\n"]
    parts += [table.markdown() for table in main]
    if others:
        parts += ["## With everyone\n", *(table.markdown() for table in others)]
    parts += ["## Method\n", *(f"**{heading}.** {text}\n" for heading, text in words)]
    return "\n".join(parts)


def _page(
    title: str, words: Sequence[tuple[str, str]], main: Sequence[Table], others: Sequence[Table], figure: Path
) -> str:
    template = (importlib.resources.files("refeval.studies") / "assets" / "tally.html").read_bytes().decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Without the XML declaration, which is not allowed within a page.
    drawing = figure.read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        words=words,
        main=[Markup(html_fragment(table)) for table in main],
        others=[Markup(html_fragment(table)) for table in others],
        figure=Markup(drawing[drawing.index("<svg") :]),
    )


def _document(study: StudyDocument, analysis: Analysis, words: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    return {
        "suite": study.suite,
        "arms": study.arms,
        "rule": analysis.rule.model_dump(mode="json"),
        "resampling": asdict(analysis.resampling),
        "raters": [asdict(rater) for rater in analysis.raters],
        "kept": asdict(analysis.kept) if analysis.kept else None,
        "everyone": asdict(analysis.everyone) if analysis.everyone else None,
        "method": dict(words),
    }
