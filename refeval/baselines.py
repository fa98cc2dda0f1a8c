"""Baselines: all that a comparison reads of a run, in one small file that can be committed.

A run folder is compared through the baseline that it would give, so file and folder give the same bytes of output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from refeval.cases import Case, Domain, Suite, parse_suite
from refeval.catalogue import METRIC_BY_ID
from refeval.documents import read_document, with_digest
from refeval.errors import BadInput, CorruptFile
from refeval.metrics.judges.calibration import CALIBRATION, Calibration, read_calibration
from refeval.records import RANDOM_WEIGHTS, ScoreRecord, ScoreStatus
from refeval.runs import ClipText, Run

BASELINE_SCHEMA_VERSION = 1
_KIND = "refeval-baseline"
_NATURAL = METRIC_BY_ID["natural"].id
_CURE = "make it anew from its run: refeval baseline RUN --out FILE"


class BaselineCase(BaseModel):
    """What a protocol asks of a case: its category is in the id, who counts follows from the references."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    img_paths: list[str]
    class_label: list[str]

    @classmethod
    def of(cls, case: Case) -> BaselineCase:
        paths, labels = zip(*((reference.path, reference.label) for reference in case.references), strict=True)
        return cls(id=case.id, img_paths=list(paths), class_label=list(labels))


class Baseline(BaseModel):
    """The scores of one run and what they depend on; of no protocol, since both values of a score are kept.

    Attributes:
        refeval_version: of the run.
        suite: name, domain, sha256 and number of cases.
        model: as the manifest names it; with version, settings and weights.
        seed: of the run.
        clip: size, length and rate asked for.
        cases: in suite order.
        made_by: metric id -> every different way in which its values were made, see ``ScoreRecord.made_by``; of
            NaturalScore also ``judge``, ``served`` and the sha256 of the ``rubric``. An empty one: not recorded.
        random_weights: metrics whose scores mean nothing.
        calibration: of the judge.
        scores: metric id -> case id -> the value, or the official and the ``strict`` one where they differ, or the
            status of a case without a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["refeval-baseline"] = "refeval-baseline"
    schema_version: int = BASELINE_SCHEMA_VERSION
    refeval_version: str
    git_commit: str | None
    suite: dict[str, str | int]
    model: str
    generator_version: str
    settings: dict[str, Any]
    weights: dict[str, str]
    seed: int
    clip: ClipText
    cases: list[BaselineCase]
    made_by: dict[str, list[dict[str, Any]]]
    random_weights: list[str]
    calibration: Calibration | None
    scores: dict[str, dict[str, float | tuple[float, float] | ScoreStatus]]

    @property
    def domain(self) -> Domain:
        return Domain(str(self.suite["domain"]))

    @cached_property
    def parsed_suite(self) -> Suite:
        """The suite as far as a protocol asks for it: without prompts, and its sha256 is not that of the suite."""
        entries = {
            case.id: {"img_paths": case.img_paths, "class_label": case.class_label, "prompt": "-"}
            for case in self.cases
        }
        source = f"the baseline of {self.model}"
        name, clip = str(self.suite["name"]), self.clip.spec()
        return parse_suite(json.dumps(entries), name=name, domain=self.domain, clip=clip, source=source, root=None)

    @cached_property
    def records(self) -> tuple[ScoreRecord, ...]:
        """The scores as records, by metric and case."""
        return tuple(
            self._record(metric, case, entry)
            for metric, table in sorted(self.scores.items())
            for case, entry in sorted(table.items())
        )

    def categories(self) -> list[str]:
        """The category of every case."""
        return [case.category.value for case in self.parsed_suite.cases]

    def text(self) -> str:
        """The file: sorted keys and one line per case and score, so that a change shows as a change of that line."""
        return _laid_out(with_digest(self.model_dump(mode="json")), "") + "\n"

    def _record(self, metric: str, case: str, entry: float | tuple[float, float] | ScoreStatus) -> ScoreRecord:
        details = {RANDOM_WEIGHTS: True} if metric in self.random_weights else {}
        if isinstance(entry, ScoreStatus):
            reason = f"recorded as {entry}"
            return ScoreRecord(case=case, metric=metric, status=entry, reason=reason, task_key="", details=details)
        value, strict = entry if isinstance(entry, tuple) else (entry, entry)
        scored = ScoreStatus.SCORED
        return ScoreRecord(
            case=case, metric=metric, status=scored, value=value, strict_value=strict, task_key="", details=details
        )


def baseline_of(run: Run) -> Baseline:
    """The baseline of a run folder.

    Raises:
        BadInput: not a run folder.
        CorruptFile: manifest or suite are damaged. A damaged score is left out, as everywhere: its case is missing.
    """
    manifest = run.manifest
    records = [record for record in run.score_records() if record.metric in METRIC_BY_ID]
    metrics = sorted({record.metric for record in records})
    calibration = read_calibration(run.folder / "judge" / CALIBRATION)
    return Baseline(
        refeval_version=manifest.refeval_version,
        git_commit=manifest.git_commit,
        suite=manifest.suite,
        model=manifest.model,
        generator_version=manifest.generator_version,
        settings=manifest.settings,
        weights=manifest.weights,
        seed=manifest.seed,
        clip=manifest.clip,
        cases=[BaselineCase.of(case) for case in run.suite().cases],
        made_by={metric: _ways([record for record in records if record.metric == metric]) for metric in metrics},
        random_weights=sorted({record.metric for record in records if record.details.get(RANDOM_WEIGHTS)}),
        calibration=calibration.model_copy(update={"drift": None}) if calibration else None,
        scores={metric: {r.case: _entry(r) for r in records if r.metric == metric} for metric in metrics},
    )


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        BadInput: it is something else, or of another schema version.
        CorruptFile: it does not match its sha256.
    """
    try:
        content = read_document(path)
    except CorruptFile as error:
        raise CorruptFile(error.what, cure=_CURE) from error
    if content.get("kind") != _KIND:
        raise BadInput(f"{path} is neither a run folder nor a baseline", cure="refeval baseline RUN --out FILE")
    version = content.get("schema_version")
    if version != BASELINE_SCHEMA_VERSION:
        what = f"{path}: schema_version of the baseline is {version}, this refeval reads {BASELINE_SCHEMA_VERSION}"
        raise BadInput(what, cure=f"{_CURE}, or use the refeval that wrote it")
    try:
        return Baseline.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise CorruptFile(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}", cure=_CURE) from error


def read_side(paths: Sequence[Path]) -> tuple[Baseline, ...]:
    """One side of a comparison, by seed.

    Args:
        paths: run folders, baseline files, or folders that hold run folders.

    Raises:
        BadInput: one is none of these, or the runs are not of one system with different seeds.
        CorruptFile: a file is damaged.
    """
    found = [baseline for path in paths for baseline in _read(path)]
    if not found:
        raise BadInput("no run is named", cure="give a run folder or a baseline file")
    _require_one_system(found, ", ".join(map(str, paths)))
    return tuple(sorted(found, key=lambda baseline: baseline.seed))


def _read(path: Path) -> list[Baseline]:
    if path.is_file():
        return [read_baseline(path)]
    if not path.is_dir():
        raise BadInput(f"{path} does not exist", cure="give a run folder or a baseline file")
    if (path / "manifest.json").is_file():
        return [baseline_of(Run(path))]
    runs = sorted(manifest.parent for manifest in path.glob("*/manifest.json"))
    if not runs:
        cure = "give a folder that refeval run made, or a file that refeval baseline wrote"
        raise BadInput(f"{path} is not a run folder: it has no manifest.json, and no run folders in it", cure=cure)
    return [baseline_of(Run(folder)) for folder in runs]


def _require_one_system(runs: Sequence[Baseline], text: str) -> None:
    first = runs[0]
    for other in runs[1:]:
        for field in ("model", "generator_version", "settings", "weights", "suite", "clip"):
            if getattr(first, field) != getattr(other, field):
                raise BadInput(
                    f"{text}: the runs are not of one system: their {field} differs",
                    details=tuple((f"seed {run.seed}", str(getattr(run, field))[:200]) for run in (first, other)),
                    cure="several runs on one side are seeds of one model, with the same settings and suite",
                )
    seeds = [run.seed for run in runs]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise BadInput(f"{text}: two runs of seed {twice}", cure="give each seed once")


def _ways(records: Sequence[ScoreRecord]) -> list[dict[str, Any]]:
    scored = [record for record in records if record.status is ScoreStatus.SCORED]
    texts = {json.dumps(_way(record), sort_keys=True) for record in scored}
    return [json.loads(text) for text in sorted(texts)]


def _way(record: ScoreRecord) -> dict[str, Any]:
    way = dict(record.made_by)
    if record.metric != _NATURAL:
        return way
    # Judge and rubric have names of their own: among the settings they would be told twice.
    if "settings" in way:
        way["settings"] = {key: value for key, value in way["settings"].items() if key not in ("judge", "rubric")}
    if "judge" in record.details:
        way["judge"] = record.details["judge"]
        way["served"] = record.details.get("served", [])
        way["rubric"] = record.details.get("rubric", {}).get("sha256", "unknown")
    return way


def _entry(record: ScoreRecord) -> float | tuple[float, float] | ScoreStatus:
    if record.value is None or record.strict_value is None:
        return record.status
    return record.value if record.value == record.strict_value else (record.value, record.strict_value)


def _laid_out(value: Any, margin: str) -> str:
    """JSON with an object's fields and a list's objects on lines of their own; what stands in a list is one line."""
    if isinstance(value, Mapping) and value:
        fields = (f"{margin} {json.dumps(key)}: {_laid_out(value[key], margin + ' ')}" for key in sorted(value))
        return "{\n" + ",\n".join(fields) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return "[\n" + ",\n".join(f"{margin} {_in_one_line(item)}" for item in value) + f"\n{margin}]"
    return _in_one_line(value)


def _in_one_line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
