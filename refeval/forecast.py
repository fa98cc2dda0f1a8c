"""What a command would do, how long and how much disk it would take: for ``--dry-run``; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from refeval.cases import Case, ClipSpec
from refeval.errors import MissingPrerequisite
from refeval.evaluation import Manner, Prepared, wanted_metrics
from refeval.metrics.base import Metric
from refeval.registry import load_metric
from refeval.rendering import Renderer
from refeval.runs import Run
from refeval.scoring import Scorer
from refeval.timings import Timing, read_timings
from refeval.work import Phase

# H.264 at crf 10 takes about so many bytes per pixel and frame of a generated clip.
_BYTES_PER_PIXEL = 0.08


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is left to do.

    Attributes:
        folder: of the run.
        cases: selected.
        render: clips to render.
        score: cases to score, by metric id.
        unavailable: metrics that cannot run here.
        seconds: estimate from tasks timed in this run or in runs beside it; None: nothing was timed yet.
        clip_bytes: estimate for the clips to render.
        measured: whether ``clip_bytes`` rests on clips of this run; otherwise it is a rule of thumb.
    """

    folder: Path
    cases: int
    render: int
    score: dict[str, int]
    unavailable: tuple[str, ...]
    seconds: float | None
    clip_bytes: int
    measured: bool


def forecast(prepared: Prepared, manner: Manner) -> Forecast:
    """Look what a run would do."""
    run = Run(prepared.folder)
    exists = (run.folder / "manifest.json").is_file()
    metrics, unavailable = _metrics(manner)
    to_render, to_score = prepared.cases, {metric_id: prepared.cases for metric_id in metrics}
    if exists:
        renderer = Renderer(run, prepared.generator, retry_failed=manner.retry_failed)
        to_render = [c for c in prepared.cases if renderer.done(c, renderer.key(c)) is None]
        to_score = _to_score(run, prepared.cases, to_render, metrics, manner)
    bytes_each, measured = _bytes_per_clip(run, prepared.clip)
    return Forecast(
        folder=run.folder,
        cases=len(prepared.cases),
        render=len(to_render),
        score={metric_id: len(cases) for metric_id, cases in to_score.items()},
        unavailable=tuple(unavailable),
        seconds=_seconds(run.folder, len(to_render), {m: len(c) for m, c in to_score.items()}),
        clip_bytes=round(bytes_each * len(to_render)),
        measured=measured,
    )


def _metrics(manner: Manner) -> tuple[dict[str, Metric], list[str]]:
    metrics: dict[str, Metric] = {}
    unavailable = []
    for metric_id in wanted_metrics(manner.metrics):
        try:
            metrics[metric_id] = load_metric(metric_id)
        except MissingPrerequisite:
            unavailable.append(metric_id)
    return metrics, unavailable


def _to_score(
    run: Run, cases: Sequence[Case], to_render: Sequence[Case], metrics: dict[str, Metric], manner: Manner
) -> dict[str, list[Case]]:
    scorer = Scorer(
        run,
        metrics,
        decoder=manner.decoder,
        accept_lifeless=manner.accept_lifeless,
        retry_failed=manner.retry_failed,
    )
    fresh = {case.id for case in to_render}
    left: dict[str, list[Case]] = {metric_id: [] for metric_id in metrics}
    for case in cases:
        pending = list(metrics) if case.id in fresh else scorer.pending(case, scorer.keys(case))
        for metric_id in pending:
            left[metric_id].append(case)
    return left


def _seconds(folder: Path, render: int, score: dict[str, int]) -> float | None:
    timings = list(_timings_nearby(folder))
    rendering = [t.seconds for t in timings if t.phase is Phase.RENDER]
    scoring = [t.seconds for t in timings if t.phase is Phase.SCORE and set(t.parts) == set(score)]
    scored = max(score.values(), default=0)
    if (render and not rendering) or (scored and not scoring):
        return None
    return render * mean(rendering or [0.0]) + scored * mean(scoring or [0.0])


def _timings_nearby(folder: Path) -> Iterator[Timing]:
    own = list(read_timings(folder))
    if own or not folder.parent.is_dir():
        yield from own
        return
    for neighbour in sorted(path for path in folder.parent.iterdir() if path.is_dir()):
        yield from read_timings(neighbour)


def _bytes_per_clip(run: Run, clip: ClipSpec) -> tuple[float, bool]:
    sizes = [path.stat().st_size for path in sorted((run.folder / "videos").glob("*.mp4"))]
    if sizes:
        return mean(sizes), True
    return clip.width * clip.height * clip.frames * _BYTES_PER_PIXEL, False
