"""``refeval conformance``: clips with published official scores, scored here and held against them.

Scoring is a run like any other, in a temporary folder; comparing is :mod:`refeval.verdicts`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval import evaluation
from refeval.cases import Case, Suite
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.clips import decoder_version
from refeval.errors import BadInput, ExitCode, MissingPrerequisite
from refeval.evaluation import Manner, Target
from refeval.gpus import gpu_names
from refeval.keys import file_sha256, installed_version
from refeval.official import OfficialScores, read_folder
from refeval.protocols import ProtocolName
from refeval.records import ScoreRecord, ScoreStatus
from refeval.registry import load_metric
from refeval.runs import Run
from refeval.selection import Selection
from refeval.suggestions import did_you_mean
from refeval.suites import load_suite
from refeval.supervisor import Outcome
from refeval.verdicts import JUDGED, Lack, Row, Verdict, compare

if TYPE_CHECKING:
    from refeval.metrics.base import Metric
    from refeval.reports.table import Table

_SCHEMA_VERSION = 1
_RESULT_FILES = frozenset(info.official_file for info in PUBLISHED_METRICS)

# Renders and scores cases of a run: (run, cases, manner, model, data folder).
Work = Callable[[Run, Sequence[Case], Manner, str, Path | None], Outcome]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Clips and the official scores of them.

    Attributes:
        clips: files by name without ``.mp4``, sorted; all in one folder.
        results: the folder of the official result files.
        official: what they hold.
    """

    clips: Mapping[str, Path]
    results: Path
    official: OfficialScores

    def value(self, metric_id: str, case_id: str) -> float | None:
        """The official value, NaN too; None where the files have none."""
        return self.official.values.get(metric_id, {}).get(case_id)


def find_demo(folder: Path, expected: Path | None = None) -> Demo:
    """Look for clips and official result files.

    Args:
        folder: holds ``*.mp4``, directly or in ``videos/``, and result files of v1.1, at any depth.
        expected: the folder of the result files, as a path or below ``folder``, where there are several.

    Raises:
        BadInput: clips or result files are not there, are damaged, or lie in several folders.
    """
    clips = _clips(folder)
    results = _results(folder, expected)
    return Demo(clips=clips, results=results, official=read_folder(results, ProtocolName.V1_1))


def _clips(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {problem}", cure="give the folder of the official demo clips and their results")
    for place in (folder, folder / "videos"):
        clips = {path.stem: path for path in sorted(place.glob("[!.]*.mp4"))}
        if clips:
            return clips
    details = (("looked for", f"*.mp4  in  {folder}  and  {folder / 'videos'}"),)
    raise BadInput(f"{folder}: no clips", details=details, cure="give the folder that holds them")


def _results(folder: Path, expected: Path | None) -> Path:
    if expected is not None:
        there = next((place for place in (expected, folder / expected) if place.is_dir() and _holds(place)), None)
        if there is None:
            what = f"--expected {expected}: no folder with official result files"
            details = (("looked in", f"{expected}  and  {folder / expected}"),)
            raise BadInput(what, details=details, cure="give the folder that holds aesthetic_score.json and its like")
        return there
    found = sorted({path.parent for path in folder.rglob("*.json") if _is_result(path)})
    if not found:
        details = (("looked for", "aesthetic_score.json, motion_amplitude.json, ... at any depth"),)
        raise BadInput(f"{folder}: no official result files", details=details, cure="--expected FOLDER")
    if len(found) > 1:
        details = (("found", ", ".join(str(place) for place in found)),)
        cure = f"--expected {found[-1]}, or another of them"
        raise BadInput(f"{folder}: official result files in {len(found)} folders", details=details, cure=cure)
    return found[0]


def _holds(folder: Path) -> bool:
    return any(_is_result(path) for path in folder.glob("*.json"))


def _is_result(path: Path) -> bool:
    """Whether a file is named as the official scripts name their outputs; votes are numbered."""
    return re.sub(r"_[123]$", "", path.stem) in _RESULT_FILES


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """All comparisons.

    Attributes:
        rows: by clip, then by metric.
        proof: what was compared with what, on what, by which versions (JSON types).
    """

    rows: tuple[Row, ...]
    proof: Mapping[str, Any]

    @property
    def exit_code(self) -> ExitCode:
        """DIFFERS before INCOMPLETE (a value is missing, or nothing was compared) before OK."""
        verdicts = {row.verdict for row in self.rows}
        if Verdict.DIFFERS in verdicts:
            return ExitCode.DIFFERS
        if Verdict.MISSING in verdicts or not verdicts & set(JUDGED):
            return ExitCode.INCOMPLETE
        return ExitCode.OK

    def summary(self) -> str:
        """One sentence: how many metrics were compared, with what result, and why the others were not."""
        judged = [row for row in self.rows if row.verdict in JUDGED]
        labels, all_labels = _labels(judged), _labels(self.rows)
        parts = [f"{len(labels)} of {len(all_labels)} metrics compared" + (f", {_result(judged)}" if judged else "")]
        left = [row for row in self.rows if row.label not in labels]
        if left:
            first = {row.label: row for row in reversed(left)}
            plain = [replace(row, reason=_short_reason(row), cure=None) for row in first.values()]
            said = ", ".join(f"{', '.join(_labels(rows))} ({reason})" for (reason, _), rows in _by_reason(plain))
            parts.append(f"{len(first)} not compared: {said}")
        missing = sum(row.verdict is Verdict.MISSING for row in self.rows if row.label in labels)
        if missing:
            parts.append(f"{missing} values of compared metrics are missing")
        return "; ".join(parts)

    def table(self) -> Table:
        """One row per clip and metric, six digits; :meth:`as_json` has them all."""
        from refeval.reports.table import Section, Table

        cases = [row.case for row in self.rows]
        return Table(
            title="official values and ours",
            columns=("metric", "verdict", "official", "ours", "delta", "tolerance"),
            rows=tuple(_cells(row) for row in self.rows),
            left=2,
            sections=tuple(Section(first=cases.index(case), heading=case) for case in dict.fromkeys(cases)),
        )

    def remarks(self) -> list[str]:
        """What is missing, each reason once, and what mends it."""
        lines = []
        for (reason, cure), rows in _by_reason(row for row in self.rows if row.verdict is Verdict.MISSING):
            lines.append(f"missing  {', '.join(_labels(rows))}: {reason}")
            lines += [f"  cure   {cure}"] if cure else []
        absent = self.proof["official_without_clip"]
        return [*lines, *([f"no clip  {', '.join(absent)}"] if absent else [])]

    def as_json(self) -> dict[str, Any]:
        """Everything, with every digit (JSON types, no NaN)."""
        return {
            **self.proof,
            "rows": [row.as_json() for row in self.rows],
            "summary": self.summary(),
            "exit_code": int(self.exit_code),
        }


def _labels(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.label for row in rows))


def _short_reason(row: Row) -> str | None:
    """What is missing is told at length by the remarks."""
    return "missing" if row.verdict is Verdict.MISSING else row.reason


def _by_reason(rows: Iterable[Row]) -> list[tuple[tuple[str, str | None], list[Row]]]:
    """Rows by reason and cure, both in the order of the metrics."""
    order = list(METRIC_BY_ID)
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in sorted(rows, key=lambda row: order.index(row.metric)):
        groups.setdefault((row.reason or "", row.cure), []).append(row)
    return list(groups.items())


def _result(judged: Sequence[Row]) -> str:
    different = _labels(row for row in judged if row.verdict is Verdict.DIFFERS)
    if different:
        return f"{', '.join(different)} not as the official values"
    equal = all(row.verdict is Verdict.EQUAL for row in judged)
    return "all equal to the official values" + ("" if equal else " or within tolerance of them")


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form) if value else "0"

    return (
        row.label,
        row.verdict.value,
        number(row.official, ".6g"),
        number(row.ours, ".6g"),
        number(row.difference, "+.1e"),
        number(row.tolerance, ".1e"),
    )


def measure(
    demo: Demo,
    *,
    suite: str,
    data: Path | None,
    manner: Manner,
    work: Work,
    keep_replies: Path | None = None,
) -> Conformance:
    """Score the clips and compare.

    Args:
        demo: clips and official scores.
        suite: name or file; its cases are told by the names of the clips.
        data: folder of the suite's files.
        manner: how; without metrics, all published ones.
        work: carries out the run.
        keep_replies: folder for the judge's replies, which are gone with the temporary run otherwise.

    Raises:
        BadInput: no clip is of the suite, or a metric has no official values.
        MissingPrerequisite: the suite, or every metric asked for, is missing.
        RefevalError: as a run.
    """
    manner = replace(manner, metrics=_metric_ids(manner.metrics))
    loaded = load_suite(suite, data=data)
    cases = [case for case in loaded.cases if case.id in demo.clips]
    if not cases:
        what = f"no clip is named after a case of suite {loaded.name}"
        raise BadInput(what, details=(("clips", ", ".join(demo.clips)),), cure="--suite NAME or --suite FILE")
    folder = next(iter(demo.clips.values())).parent
    with tempfile.TemporaryDirectory(prefix="refeval-conformance-") as temporary:
        target = Target(model=f"videos:{folder}", suite=suite, data=data, out=Path(temporary) / "run")
        prepared = evaluation.prepare(target, Selection(ids=tuple(case.id for case in cases)), manner)
        run = prepared.start()
        outcome = work(run, prepared.cases, manner, target.model, prepared.suite.root)
        if keep_replies and (run.folder / "judge").is_dir():
            shutil.copytree(run.folder / "judge", keep_replies, dirs_exist_ok=True)
        rows = _rows(demo, loaded, run, outcome, manner)
        return Conformance(rows=rows, proof=_proof(demo, run, rows, manner))


def _metric_ids(asked: Sequence[str]) -> tuple[str, ...]:
    unknown = next((metric_id for metric_id in asked if metric_id not in METRIC_BY_ID), None)
    if unknown:
        details = (("known", ", ".join(METRIC_BY_ID)),)
        what = f"metric '{unknown}' has no official values{did_you_mean(unknown, METRIC_BY_ID)}"
        raise BadInput(what, details=details)
    return tuple(metric_id for metric_id in METRIC_BY_ID if metric_id in asked or not asked)


def _rows(demo: Demo, suite: Suite, run: Run, outcome: Outcome, manner: Manner) -> tuple[Row, ...]:
    cases = {case.id: case for case in suite.cases}
    metrics = {metric_id: _load(metric_id, manner, outcome) for metric_id in manner.metrics}
    rows = []
    for case_id in demo.clips:
        for metric_id, metric in metrics.items():
            official = demo.value(metric_id, case_id)
            if case_id not in cases:
                lack = Lack(why=f"suite {suite.name} has no case of this name", cure="--suite NAME or --suite FILE")
                rows.append(compare(case_id, metric_id, official, lack))
            elif isinstance(metric, Lack):
                rows.append(compare(case_id, metric_id, official, metric))
            else:
                found = _found(run, cases[case_id], metric)
                rows.append(compare(case_id, metric_id, official, found, noisy=_is_noisy(metric)))
    return tuple(rows)


def _load(metric_id: str, manner: Manner, outcome: Outcome) -> Metric | Lack:
    """The metric that scored, or why it could not."""
    if error := outcome.unavailable.get(metric_id):
        return Lack(why=error.what, cure=error.cure)
    try:
        return load_metric(metric_id, manner.place, tiny=manner.tiny)
    except MissingPrerequisite as error:
        return Lack(why=error.what, cure=error.cure)


def _found(run: Run, case: Case, metric: Metric) -> ScoreRecord | Lack:
    record = run.score_record(metric.id, case.id)
    if record is None:
        return Lack(why="nothing was recorded")
    if record.status is ScoreStatus.SCORED:
        return record
    try:
        metric.inputs(case)
    except MissingPrerequisite as error:
        return Lack(why=error.what, cure=error.cure)
    return Lack(why=f"{record.status.value}: {record.reason}")


def _is_noisy(metric: Metric) -> bool:
    from refeval.metrics.natural import NaturalScore

    return isinstance(metric, NaturalScore) and metric.config.replay is None


def _proof(demo: Demo, run: Run, rows: Iterable[Row], manner: Manner) -> dict[str, Any]:
    """What else a reader needs to believe the rows, without a path of this machine."""
    manifest = run.manifest
    scored = dict.fromkeys(row.metric for row in rows if row.ours is not None)
    metrics = [load_metric(metric_id, manner.place, tiny=manner.tiny) for metric_id in scored]
    return {
        "schema_version": _SCHEMA_VERSION,
        "refeval_version": manifest.refeval_version,
        "git_commit": manifest.git_commit,
        "environment": manifest.environment,
        "device": {"asked_for": manner.place.device, "gpus": gpu_names()},
        "decoder": decoder_version(manner.decoder),
        "suite": manifest.suite,
        "clips": {case_id: file_sha256(path) for case_id, path in demo.clips.items()},
        "official_files": {path.name: file_sha256(path) for path in sorted(demo.results.glob("*.json"))},
        "official_without_clip": sorted({*chain(*demo.official.values.values())} - set(demo.clips)),
        "metrics": {metric.id: _describe(metric) for metric in metrics},
    }


def _describe(metric: Metric) -> dict[str, Any]:
    return {
        "version": metric.version,
        "settings": metric.settings(),
        "libraries": {name: installed_version(name) for name in metric.libraries},
        "weights": metric.weights(),
    }
