"""What a command would do, how long and how much disk it would take: for ``--dry-run``; no run folder is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from refeval.cases import Case
from refeval.errors import MissingPrerequisite, RefevalError
from refeval.evaluation import Manner, Prepared, plan_scoring, wanted_metrics
from refeval.metrics.base import Metric
from refeval.passes import Pass
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
class ScoreForecast:
    """What is left to score.

    Attributes:
        open: cases to score, by metric id.
        unavailable: metrics that cannot run here.
        passes: which metrics score together.
        seconds: estimate for one worker, from tasks timed in this run or in runs of the same clip size beside it;
            None: nothing like it was timed yet.
    """

    open: dict[str, int]
    unavailable: tuple[str, ...]
    passes: list[Pass]
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is left to do.

    Attributes:
        folder: of the run.
        cases: selected.
        render: clips to render, or to take where they are ready.
        nothing: cases that no ready clip exists for; they become ``missing``.
        scores: what is left to score then.
        render_seconds: estimate for one worker, as for scores, from runs of the same model.
        clip_bytes: for the clips to render.
        basis: what ``clip_bytes`` rests on, in words.
    """

    folder: Path
    cases: int
    render: int
    nothing: int
    scores: ScoreForecast
    render_seconds: float | None
    clip_bytes: int
    basis: str


def forecast(prepared: Prepared, manner: Manner) -> Forecast:
    """Look what a run would do.

    Raises:
        BadInput: the folder holds another run.
    """
    run = Run(prepared.folder)
    begun = prepared.exists()
    to_render = _to_render(run, prepared, manner) if begun else prepared.cases
    nothing = [case for case in to_render if prepared.ready and not prepared.generator.inputs(case)]
    rendered = [case for case in to_render if case not in nothing]
    timings = _timings_nearby(run.folder, Phase.RENDER, ClipText.of(prepared.clip), prepared.model)
    clip_bytes, basis = _clip_bytes(run, prepared, rendered)
    return Forecast(
        folder=run.folder,
        cases=len(prepared.cases),
        render=len(rendered),
        nothing=len(nothing),
        scores=_scores(run, prepared.cases, manner, ClipText.of(prepared.clip), to_render, nothing, begun=begun),
        render_seconds=_seconds(timings, len(rendered), ["render"]),
        clip_bytes=clip_bytes,
        basis=basis,
    )


def forecast_scores(run: Run, cases: Sequence[Case], manner: Manner) -> ScoreForecast:
    """Look what scoring the clips of a run would do.

    Raises:
        BadInput: as :func:`refeval.evaluation.plan_scoring`.
        MissingPrerequisite: likewise.
    """
    return _scores(run, cases, manner, run.manifest.clip, fresh=[], nothing=[], begun=True)


def _scores(
    run: Run,
    cases: Sequence[Case],
    manner: Manner,
    clip: ClipText,
    fresh: Sequence[Case],
    nothing: Sequence[Case],
    *,
    begun: bool,
) -> ScoreForecast:
    metrics, unavailable = _metrics(manner)
    pending = _to_score(run, cases, fresh, metrics, manner) if begun else {metric_id: cases for metric_id in metrics}
    left = {id_: sum(case not in nothing for case in cases) for id_, cases in pending.items()}
    passes = plan_scoring(manner)
    timings = list(_timings_nearby(run.folder, Phase.SCORE, clip))
    seconds = [
        _seconds(timings, max((left[id_] for id_ in group.metrics if id_ in left), default=0), group.metrics)
        for group in passes
    ]
    known = [second for second in seconds if second is not None]
    return ScoreForecast(
        open=left,
        unavailable=tuple(unavailable),
        passes=passes,
        seconds=sum(known) if len(known) == len(seconds) else None,
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
) -> dict[str, Sequence[Case]]:
    scorer = Scorer(run, metrics, decoder=manner.decoder, accept_lifeless=manner.accept_lifeless)
    fresh = {case.id for case in to_render}
    left: dict[str, list[Case]] = {metric_id: [] for metric_id in metrics}
    for case in cases:
        pending = set(metrics) if case.id in fresh else set(scorer.pending(case, scorer.keys(case)))
        if manner.retry_failed:
            pending |= {id_ for id_, status in scorer.statuses(case).items() if status == ScoreStatus.FAILED}
        for metric_id in pending:
            left[metric_id].append(case)
    return {**left}


def _seconds(timings: Iterable[Timing], tasks: int, parts: Sequence[str]) -> float | None:
    times = [timing.seconds for timing in timings if sorted(timing.parts) == sorted(parts)]
    if not tasks:
        return 0.0
    return tasks * mean(times) if times else None


def _timings_nearby(folder: Path, phase: Phase, clip: ClipText, model: str | None = None) -> Iterator[Timing]:
    """Of this run, else of runs beside it with such clips, and of this model if one is named."""
    own = list(read_timings(folder))
    if own or not folder.parent.is_dir():
        yield from (timing for timing in own if timing.phase is phase)
        return
    for neighbour in sorted(path for path in folder.parent.iterdir() if (path / "manifest.json").is_file()):
        try:
            manifest = Run(neighbour).manifest
        except RefevalError:
            continue
        if manifest.clip == clip and model in (None, manifest.model):
            yield from (timing for timing in read_timings(neighbour) if timing.phase is phase)


def _clip_bytes(run: Run, prepared: Prepared, cases: Sequence[Case]) -> tuple[int, str]:
    if prepared.ready:
        files = [file for case in cases for file in prepared.generator.inputs(case)]
        return sum(file.stat().st_size for file in files), "the size of the files"
    sizes = [path.stat().st_size for path in sorted((run.folder / "videos").glob("*.mp4"))]
    if sizes:
        return round(mean(sizes) * len(cases)), "as the clips here"
    clip = prepared.clip
    return round(clip.width * clip.height * clip.frames * _BYTES_PER_PIXEL * len(cases)), "by a rule of thumb"
