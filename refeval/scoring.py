"""The scores of one case: its clip is decoded once, every metric looks at it, every record is written at once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refeval.applicability import official_applies, strict_applies
from refeval.cases import Case
from refeval.clips import Clip, decoder_version, open_clip
from refeval.errors import DiskFull, MissingPrerequisite, RefevalError, Unavailable, Unparseable, UnusableClip
from refeval.faults import fault_point
from refeval.health import HealthCheck
from refeval.keys import file_sha256, library_versions, task_key
from refeval.metrics.base import Metric
from refeval.records import RANDOM_WEIGHTS, RenderRecord, RenderStatus, ScoreRecord, ScoreStatus
from refeval.redaction import describe_failure
from refeval.runs import Run
from refeval.signals import raise_if_stopped


@dataclass(frozen=True)
class NoClip:
    """Why there is nothing to score.

    Attributes:
        status: what every metric of the case gets.
        reason: likewise.
    """

    status: ScoreStatus
    reason: str


class Scorer:
    """Scores cases of one run.

    Args:
        run: the run folder.
        metrics: ready to score, by id.
        decoder: ``pyav`` or ``decord``.
        accept_lifeless: score black and frozen clips, as the official scripts do.
    """

    def __init__(
        self,
        run: Run,
        metrics: Mapping[str, Metric],
        *,
        decoder: str,
        accept_lifeless: bool,
    ) -> None:
        self.run = run
        self.metrics = metrics
        self.decoder = decoder
        self.accept_lifeless = accept_lifeless
        for metric in metrics.values():
            metric.keep_in(run.folder)
        self._decoder_version = decoder_version(decoder)
        self._library_versions = {id_: library_versions(m.libraries) for id_, m in metrics.items()}

    def keys(self, case: Case) -> dict[str, str]:
        """The task key of every metric for a case, by metric id."""
        clip = self._clip_state(self.run.render_record(case.id))
        return {metric_id: self._key(case, metric, clip) for metric_id, metric in self.metrics.items()}

    def pending(self, case: Case, keys: Mapping[str, str]) -> list[str]:
        """The metrics that this case has no fitting record for."""
        return [metric_id for metric_id in self.metrics if self._done(case, metric_id, keys[metric_id]) is None]

    def statuses(self, case: Case) -> dict[str, str]:
        """The recorded status of every metric for a case."""
        records = {metric_id: self.run.score_record(metric_id, case.id) for metric_id in self.metrics}
        return {metric_id: record.status.value for metric_id, record in records.items() if record}

    def open(self, case: Case, pending: Sequence[str]) -> Clip | NoClip | None:
        """Decode the clip of a case as far as the pending metrics need it; None: not one of them applies."""
        wanted = self._applicable(case, pending)
        if not wanted:
            return None
        render = self.run.render_record(case.id)
        if render is None or render.status is RenderStatus.MISSING:
            return NoClip(ScoreStatus.MISSING, (render.reason if render else None) or "no clip was rendered")
        if render.status is RenderStatus.FAILED:
            return NoClip(ScoreStatus.FAILED, f"no clip: {render.reason}")
        if not self.run.has_clip(render):
            return NoClip(ScoreStatus.FAILED, "the clip is not the one that was rendered (sha256 differs)")
        expected = self.run.manifest.expected
        check = HealthCheck(expected.spec() if expected else None, accept_lifeless=self.accept_lifeless)
        try:
            clip = open_clip(self.run.clip_path(case.id), decoder=self.decoder, check=check)
            if len(wanted) > 1:
                # Read once and kept, where several look at it.
                _ = clip.frames
        except UnusableClip as error:
            return NoClip(ScoreStatus.FAILED, error.what)
        fault_point("decoded")
        return clip

    def score(self, case: Case, keys: Mapping[str, str], pending: Sequence[str], clip: Clip | NoClip | None) -> None:
        """Score and record the pending metrics; a failure becomes a recorded status with its reason.

        Args:
            case: to score.
            keys: of :meth:`keys`.
            pending: of :meth:`pending`.
            clip: what :meth:`open` gave for them.
        """
        render = self.run.render_record(case.id)
        wanted = self._applicable(case, pending)
        for metric_id in pending:
            if metric_id not in wanted:
                reason = "the suite gives this case nothing to measure"
                self._write(case, metric_id, keys, render, ScoreStatus.NOT_APPLICABLE, reason)
            elif isinstance(clip, NoClip):
                self._write(case, metric_id, keys, render, clip.status, clip.reason)
            else:
                assert clip is not None, "a metric applies"
                self._score_one(case, metric_id, keys, render, clip)

    def _applicable(self, case: Case, metric_ids: Sequence[str]) -> list[str]:
        return [m for m in metric_ids if official_applies(m, case) or strict_applies(m, case)]

    def _score_one(
        self, case: Case, metric_id: str, keys: Mapping[str, str], render: RenderRecord | None, clip: Clip
    ) -> None:
        metric = self.metrics[metric_id]
        try:
            metric.inputs(case)
            score = metric.score(case, clip)
        except DiskFull:
            raise
        except Unavailable as error:
            error.metric = metric_id
            raise
        except Unparseable as error:
            self._write(case, metric_id, keys, render, ScoreStatus.UNPARSEABLE, error.what)
            return
        except MissingPrerequisite as error:
            self._write(case, metric_id, keys, render, ScoreStatus.MISSING, error.what)
            return
        except RefevalError as error:
            self._write(case, metric_id, keys, render, ScoreStatus.FAILED, error.what)
            return
        except Exception as error:  # noqa: BLE001 - whatever else a metric raises is its failure on this clip
            raise_if_stopped()
            self._write(case, metric_id, keys, render, ScoreStatus.FAILED, describe_failure(error))
            return
        fault_point("scored")
        if not (math.isfinite(score.value) and math.isfinite(score.strict_value)):
            self._write(case, metric_id, keys, render, ScoreStatus.FAILED, "the value is not a finite number")
            return
        record = ScoreRecord(
            case=case.id,
            metric=metric_id,
            status=ScoreStatus.SCORED,
            task_key=keys[metric_id],
            value=score.value,
            strict_value=score.strict_value,
            frames_used=score.frames_used,
            details={**score.details, **({RANDOM_WEIGHTS: True} if metric.tiny else {})},
            clip_sha256=render.sha256 if render else None,
            made_by=self._made_by(metric),
        )
        self.run.write_score(record)

    def _write(
        self,
        case: Case,
        metric_id: str,
        keys: Mapping[str, str],
        render: RenderRecord | None,
        status: ScoreStatus,
        reason: str,
    ) -> None:
        record = ScoreRecord(
            case=case.id,
            metric=metric_id,
            status=status,
            reason=reason,
            task_key=keys[metric_id],
            clip_sha256=render.sha256 if render else None,
        )
        self.run.write_score(record)

    def _done(self, case: Case, metric_id: str, key: str) -> ScoreRecord | None:
        record = self.run.score_record(metric_id, case.id)
        return record if record is not None and record.task_key == key else None

    def _clip_state(self, render: RenderRecord | None) -> str:
        """What there is to score: the clip's sha256, or why there is none; a clip that comes later is another key."""
        if render is None:
            return "no clip"
        if render.status is not RenderStatus.RENDERED:
            return f"{render.status}: {render.reason}"
        return str(render.sha256) if self.run.has_clip(render) else "damaged"

    def _settings(self, metric: Metric) -> dict[str, Any]:
        return {**metric.settings(), "accept_lifeless": self.accept_lifeless}

    def _made_by(self, metric: Metric) -> dict[str, Any]:
        """What of the task key two runs must have in common for their scores to be compared.

        The size and length that clips must have are not of it: ready clips may have any, and a run knows its own.
        """
        weights = json.dumps(metric.weights(), sort_keys=True).encode()
        return {
            "version": metric.version,
            "libraries": self._library_versions[metric.id],
            "decoder": self._decoder_version,
            "settings": self._settings(metric),
            "weights": hashlib.sha256(weights).hexdigest(),
        }

    def _key(self, case: Case, metric: Metric, clip: str) -> str:
        expected = self.run.manifest.expected
        return task_key(
            "score",
            case=case.digest(),
            seed=None,
            plugin=metric.id,
            version=f"{metric.version} ({self._library_versions[metric.id]})",
            settings={**self._settings(metric), "expected": expected.model_dump() if expected else None},
            weights=metric.weights(),
            decoder=self._decoder_version,
            layout="single",
            inputs={"clip": clip, **self._inputs(case, metric)},
        )

    def _inputs(self, case: Case, metric: Metric) -> dict[str, str]:
        """sha256 of what the metric reads besides the clip; a file that turns up later makes another key."""
        try:
            return {str(i): file_sha256(file) for i, file in enumerate(metric.inputs(case))}
        except MissingPrerequisite as error:
            return {"missing": error.what}
        except OSError as error:
            # The metric will meet it too, and record it as the case's failure.
            return {"unreadable": str(error.strerror)}
