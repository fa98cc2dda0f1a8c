"""What a command would do, how long and how much disk it would take: for ``--dry-run``; no run folder is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from refeval.cases import Case
from refeval.errors import MissingPrerequisite, RefevalError
from refeval.evaluation import Manner, Prepared, wanted_metrics
from refeval.metrics.base import Metric
from refeval.records import RenderStatus, ScoreStatus
from refeval.registry import load_metric
from refeval.rendering import Renderer
from refeval.runs import ClipText, Run
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
        render: clips to render, or to take where they are ready.
        nothing: cases that no ready clip exists for; they become ``missing``.
        score: cases to score, by metric id.
        unavailable: metrics that cannot run here.
        render_seconds: estimate for one worker, from tasks timed in this run or in runs of the same model and
            clip size beside it; None: nothing like it was timed yet.
        score_seconds: likewise, from runs of the same clip size.
        clip_bytes: for the clips to render.
        basis: what ``clip_bytes`` rests on, in words.
    """

    folder: Path
    cases: int
    render: int
    nothing: int
    score: dict[str, int]
    unavailable: tuple[str, ...]
    render_seconds: float | None
    score_seconds: float | None
    clip_bytes: int
    basis: str


def forecast(prepared: Prepared, manner: Manner) -> Forecast:
    """Look what a run would do.

    Raises:
        BadInput: the folder holds another run.
    """
    run = Run(prepared.folder)
    metrics, unavailable = _metrics(manner)
    to_render, to_score = prepared.cases, {metric_id: prepared.cases for metric_id in metrics}
    if prepared.exists():
        to_render = _to_render(run, prepared, manner)
        to_score = _to_score(run, prepared.cases, to_render, metrics, manner)
    nothing = [case for case in to_render if prepared.ready and not prepared.generator.inputs(case)]
    rendered = [case for case in to_render if case not in nothing]
    scored = {id_: sum(case not in nothing for case in cases) for id_, cases in to_score.items()}
    clip_bytes, basis = _clip_bytes(run, prepared, rendered)
    return Forecast(
        folder=run.folder,
        cases=len(prepared.cases),
        render=len(rendered),
        nothing=len(nothing),
        score=scored,
        unavailable=tuple(unavailable),
        render_seconds=_seconds(prepared, Phase.RENDER, len(rendered), {"render"}),
        score_seconds=_seconds(prepared, Phase.SCORE, max(scored.values(), default=0), set(scored)),
        clip_bytes=clip_bytes,
        basis=basis,
    )


def _metrics(manner: Manner) -> tuple[dict[str, Metric], list[str]]:
    metrics: dict[str, Metric] = {}
    unavailable = []
    for metric_id in wanted_metrics(manner):
        try:
            metrics[metric_id] = load_metric(metric_id, manner.place, tiny=manner.tiny)
        except MissingPrerequisite:
            unavailable.append(metric_id)
    return metrics, unavailable


def _to_render(run: Run, prepared: Prepared, manner: Manner) -> list[Case]:
    renderer = Renderer(run, prepared.generator)
    left = []
    for case in prepared.cases:
        record = renderer.done(case, renderer.key(case))
        if record is None or (manner.retry_failed and record.status is RenderStatus.FAILED):
            left.append(case)
    return left


def _to_score(
    run: Run, cases: Sequence[Case], to_render: Sequence[Case], metrics: dict[str, Metric], manner: Manner
) -> dict[str, list[Case]]:
    scorer = Scorer(run, metrics, decoder=manner.decoder, accept_lifeless=manner.accept_lifeless)
    fresh = {case.id for case in to_render}
    left: dict[str, list[Case]] = {metric_id: [] for metric_id in metrics}
    for case in cases:
        pending = set(metrics) if case.id in fresh else set(scorer.pending(case, scorer.keys(case)))
        if manner.retry_failed:
            pending |= {id_ for id_, status in scorer.statuses(case).items() if status == ScoreStatus.FAILED}
        for metric_id in pending:
            left[metric_id].append(case)
    return left


def _seconds(prepared: Prepared, phase: Phase, tasks: int, parts: set[str]) -> float | None:
    times = [t.seconds for t in _timings_nearby(prepared, phase) if t.phase is phase and set(t.parts) == parts]
    if not tasks:
        return 0.0
    return tasks * mean(times) if times else None


def _timings_nearby(prepared: Prepared, phase: Phase) -> Iterator[Timing]:
    own = list(read_timings(prepared.folder))
    parent = prepared.folder.parent
    if own or not parent.is_dir():
        yield from own
        return
    for neighbour in sorted(path for path in parent.iterdir() if (path / "manifest.json").is_file()):
        try:
            manifest = Run(neighbour).manifest
        except RefevalError:
            continue
        same_model = phase is Phase.SCORE or manifest.model == prepared.model
        if same_model and manifest.clip == ClipText.of(prepared.clip):
            yield from read_timings(neighbour)


def _clip_bytes(run: Run, prepared: Prepared, cases: Sequence[Case]) -> tuple[int, str]:
    if prepared.ready:
        files = [file for case in cases for file in prepared.generator.inputs(case)]
        return sum(file.stat().st_size for file in files), "the size of the files"
    sizes = [path.stat().st_size for path in sorted((run.folder / "videos").glob("*.mp4"))]
    if sizes:
        return round(mean(sizes) * len(cases)), "as the clips here"
    clip = prepared.clip
    return round(clip.width * clip.height * clip.frames * _BYTES_PER_PIXEL * len(cases)), "by a rule of thumb"
