"""One clip of a case, and both procedures that score it: what the benchmark of the metrics measures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.official_metrics import (
    VOTES,
    Found,
    aesthetics,
    facesim,
    gme_score,
    motion_amplitude,
    motion_smoothness,
    natural,
    natural_pictures,
)
from benchmarks.official_nexus import nexus_score
from refeval.cases import Case, Suite
from refeval.catalogue import METRIC_BY_ID
from refeval.clips import Clip, encode_clip, open_clip
from refeval.generators.base import RenderJob
from refeval.generators.copy_paste import CopyPaste
from refeval.metrics.base import Metric
from refeval.metrics.faces_models import tiny_models
from refeval.metrics.judges.base import Reply, Request
from refeval.metrics.judges.frames import STRICT_FRAMES, judge_pictures
from refeval.metrics.judges.replies import ReplyFolder
from refeval.metrics.judges.settings import JudgeConfig
from refeval.metrics.natural import NaturalScore
from refeval.metrics.networks.aesthetic_raters import tiny_rater
from refeval.metrics.networks.gme import load_gme
from refeval.metrics.networks.qalign import TINY_QUESTION, tiny_qalign
from refeval.metrics.networks.yolo_world_detector import tiny_detector
from refeval.place import Place
from refeval.records import RenderRecord, RenderStatus, ScoreRecord, ScoreStatus
from refeval.registry import load_metric
from refeval.runs import Run, make_manifest, start_run
from refeval.scoring import Scorer
from refeval.suites import load_suite

CASE, FRAMES = "faceobj_1", 81
# Official and strict votes of a judge that was asked beforehand.
_VOTES = (4.0, 3.0, 4.0)
_PLACE = Place(device="cpu")

Watch = Callable[[str], AbstractContextManager[None]]
"""Called with a metric's id; what is done inside is done for it."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is scored.

    Attributes:
        suite: of the case.
        case: with references.
        clip: file.
    """

    suite: Suite
    case: Case
    clip: Path


def draw(folder: Path) -> Scene:
    """A face, a fish and a meadow of the sprites suite, pasted together: 81 frames of 192x112, always the same."""
    suite = load_suite("sprites")
    case = next(case for case in suite.cases if case.id == CASE)
    spec = replace(suite.clip, frames=FRAMES)
    job = RenderJob(case=case, seed=0, clip=spec, scratch=folder, log=folder / "log")
    path = folder / f"{CASE}.mp4"
    path.write_bytes(encode_clip(CopyPaste().render(job), spec.fps))
    return Scene(suite=suite, case=case, clip=path)


class Official:
    """The seven official scripts, one after another, each of which reads the clip itself."""

    def __init__(self, scene: Scene) -> None:
        path, case = scene.clip, scene.case
        rater, qalign, gme = tiny_rater(), tiny_qalign(), load_gme(_PLACE, tiny=True)
        faces, detector = tiny_models(), tiny_detector()
        self._scripts: dict[str, Callable[[], Found]] = {
            "aesthetics": lambda: aesthetics(path, rater),
            "motion_smoothness": lambda: motion_smoothness(path, qalign, TINY_QUESTION),
            "motion_amplitude": lambda: motion_amplitude(path),
            "facesim": lambda: facesim(path, case, faces),
            "gme": lambda: gme_score(path, case, gme),
            "nexus": lambda: nexus_score(path, case, detector, gme),
            "natural": lambda: natural(path, _VOTES),
        }

    def run(self, watch: Watch) -> dict[str, Found]:
        """What every script finds, by metric id."""
        found = {}
        for metric_id, script in self._scripts.items():
            with watch(metric_id):
                found[metric_id] = script()
        return found


class Ours:
    """One case as ``refeval score`` scores it, in a run folder that nothing was scored in before.

    Args:
        scene: what is scored.
        folder: for the run.
    """

    def __init__(self, scene: Scene, folder: Path) -> None:
        self._case = scene.case
        self._run = _start(scene, folder)
        _record_votes(scene, folder / "votes")
        natural = NaturalScore(JudgeConfig(replay=folder / "votes"))
        self._metrics: dict[str, Metric] = {
            metric_id: natural if metric_id == "natural" else load_metric(metric_id, _PLACE, tiny=True)
            for metric_id in METRIC_BY_ID
        }
        for metric in self._metrics.values():
            metric.prepare()

    def run(self, watch: Watch) -> dict[str, Found]:
        """What stands in the records afterwards, by metric id."""
        watched: Any = {metric_id: _Watched(metric, watch) for metric_id, metric in self._metrics.items()}
        scorer = Scorer(self._run, watched, decoder="pyav", accept_lifeless=False)
        keys = scorer.keys(self._case)
        pending = scorer.pending(self._case, keys)
        scorer.score(self._case, keys, pending, scorer.open(self._case, pending))
        return {metric_id: _found(self._run.score_record(metric_id, self._case.id)) for metric_id in self._metrics}


class _Watched:
    """A metric whose scoring is watched."""

    def __init__(self, metric: Metric, watch: Watch) -> None:
        self._metric = metric
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metric, name)

    def score(self, case: Case, clip: Clip) -> Any:
        with self._watch(self._metric.id):
            return self._metric.score(case, clip)


# Where a record keeps the numbers that the value is made of.
_PARTS = {
    "aesthetics": "rating_per_frame",
    "gme": "cosine_per_frame",
    "motion_smoothness": "window_scores",
    "nexus": "frames_with_a_box",
}


def _found(record: ScoreRecord | None) -> Found:
    assert record is not None and record.status is ScoreStatus.SCORED, record
    assert record.value is not None
    if record.metric == "facesim":
        return Found(value=record.value, parts=(float(record.frames_used or 0),))
    parts = record.details.get(_PARTS.get(record.metric, ""), [])
    return Found(value=record.value, parts=tuple(map(float, parts if isinstance(parts, list) else [parts])))


def _start(scene: Scene, folder: Path) -> Run:
    content, suite = scene.clip.read_bytes(), scene.suite
    spec = replace(suite.clip, frames=FRAMES)
    manifest = make_manifest(
        suite,
        model="copy-paste",
        generator_version=CopyPaste.version,
        settings={},
        weights={},
        seed=0,
        clip=spec,
        expected=spec,
    )
    run = start_run(folder / "run", manifest, suite)
    record = RenderRecord(
        case=scene.case.id,
        status=RenderStatus.RENDERED,
        task_key="0" * 64,
        sha256=sha256(content).hexdigest(),
        clip={"width": spec.width, "height": spec.height, "frames": spec.frames, "fps": str(spec.fps)},
        seed=0,
        settings={},
        seconds=0.0,
        peak_memory_mb=0.0,
    )
    run.write_render(record, content)
    return run


def _record_votes(scene: Scene, folder: Path) -> None:
    """Votes on the pictures of the official procedure: ours finds them only where it shows the very same bytes."""
    folder.mkdir(parents=True)
    metric, replies = NaturalScore(JudgeConfig(replay=folder)), ReplyFolder(folder)
    strict = [judge_pictures(open_clip(scene.clip), STRICT_FRAMES)] * VOTES
    for prefix, pictures in (("", natural_pictures(scene.clip)), ("strict-", strict)):
        for number, (vote, shown) in enumerate(zip(_VOTES, pictures, strict=True), 1):
            request = Request(
                case=scene.case.id,
                repeat=f"{prefix}{number}",
                model=metric.model,
                rubric=metric.rubric,
                pictures=shown,
            )
            replies.write(request, Reply(text=str(vote), model_served=metric.model))
