"""What every report reads of a run folder: manifest, suite and records, each read once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from refeval.applicability import strict_applies
from refeval.cases import Suite
from refeval.catalogue import METRIC_BY_ID
from refeval.protocols import Contribution, ProtocolName, Total, case_contributions, run_total
from refeval.records import RenderRecord, ScoreRecord, ScoreStatus
from refeval.runs import Manifest, Run

SHOWN_PROTOCOLS = (ProtocolName.V1_1, ProtocolName.STRICT)
NO_RECORD = "no record"


@dataclass(frozen=True)
class RunView:
    """One run as the reports see it; nothing outside the folder is read.

    Args:
        run: the run folder.
    """

    run: Run

    @property
    def manifest(self) -> Manifest:
        return self.run.manifest

    @cached_property
    def suite(self) -> Suite:
        return self.run.suite()

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The manifest as rows of text: what was run, and with which versions."""
        manifest = self.manifest
        suite, spec = manifest.suite, manifest.clip.spec()
        settings = json.dumps(manifest.settings, sort_keys=True, ensure_ascii=False)
        return (
            ("model", manifest.model),
            ("suite", f"{suite['name']} ({suite['domain']} domain, {suite['cases']} cases)"),
            ("suite sha256", str(suite["sha256"])),
            ("seed", str(manifest.seed)),
            ("clip", f"{spec.width}x{spec.height}, {spec.frames} frames at {spec.fps} fps"),
            ("settings", settings),
            ("generator version", manifest.generator_version),
            *((f"weights {name}", sha256) for name, sha256 in sorted(manifest.weights.items())),
            ("refeval", manifest.refeval_version),
            ("git commit", manifest.git_commit or "–"),
            ("environment", ", ".join(f"{name} {v}" for name, v in sorted(manifest.environment.items()))),
        )

    @cached_property
    def scores(self) -> dict[tuple[str, str], ScoreRecord]:
        """Every current score by metric and case."""
        return {(record.metric, record.case): record for record in self.run.score_records()}

    @cached_property
    def renders(self) -> dict[str, RenderRecord]:
        """Every current record of a clip, by case."""
        return {record.case: record for record in self.run.render_records()}

    @cached_property
    def recorded(self) -> tuple[str, ...]:
        """Metrics that have a record: the published ones in their order, then the others by name."""
        there = {metric for metric, _ in self.scores}
        known = [metric for metric in METRIC_BY_ID if metric in there]
        return (*known, *sorted(there - set(known)))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The published metrics, recorded or not, then the others that have a record."""
        return (*METRIC_BY_ID, *(metric for metric in self.recorded if metric not in METRIC_BY_ID))

    def status(self, metric: str, case_id: str) -> tuple[ScoreStatus, str | None]:
        """Status and reason of a case under a metric, whether there is a record or not."""
        if record := self.scores.get((metric, case_id)):
            return record.status, record.reason
        if metric in METRIC_BY_ID and not strict_applies(metric, self.suite[case_id]):
            return ScoreStatus.NOT_APPLICABLE, "the suite gives this case nothing to measure"
        return ScoreStatus.MISSING, NO_RECORD

    def total(self, protocol: ProtocolName, *, allow_missing: bool = False) -> Total:
        """The total of the run under one protocol."""
        return run_total(self.suite, self.scores.values(), protocol=protocol, allow_missing=allow_missing)

    def contributions(self, protocol: ProtocolName) -> dict[str, tuple[Contribution, ...]]:
        """What every case adds under one of :data:`SHOWN_PROTOCOLS` or v1.0, by case id."""
        if protocol not in self._contributions:
            records = list(self.scores.values())
            self._contributions[protocol] = {
                case.id: case_contributions(self.suite, records, case.id, protocol=protocol)
                for case in self.suite.cases
            }
        return self._contributions[protocol]

    @cached_property
    def _contributions(self) -> dict[ProtocolName, dict[str, tuple[Contribution, ...]]]:
        return {}


def as_view(run: Run | RunView) -> RunView:
    """The view of a run; a view stays the same, with what it has read."""
    return run if isinstance(run, RunView) else RunView(run)


def metric_label(metric: str) -> str:
    """The name as published, or the id of a metric of another package."""
    return METRIC_BY_ID[metric].label if metric in METRIC_BY_ID else metric


def run_labels(views: Sequence[RunView]) -> list[str]:
    """A name per run, all different: the model, then what tells runs of one model apart.

    Names come from the manifests, so a copied folder has the same name; only runs with the same model, seed and
    clip size are told apart by their folders, or by their place where those agree too.
    """
    names = [view.manifest.model for view in views]
    for detail in (
        [f"seed {view.manifest.seed}" for view in views],
        [str(view.manifest.clip.spec()) for view in views],
        [view.run.folder.resolve().name for view in views],
        [f"run {i}" for i in range(1, len(views) + 1)],
    ):
        names = _tell_apart(names, detail)
    return names


def _tell_apart(names: list[str], details: list[str]) -> list[str]:
    found = []
    for name, detail in zip(names, details, strict=True):
        rivals = {other for twin, other in zip(names, details, strict=True) if twin == name}
        found.append(f"{name}, {detail}" if len(rivals) > 1 else name)
    return found
