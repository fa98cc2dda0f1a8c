"""refeval: the evaluation harness for reference-to-video generation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from refeval.cases import Case
    from refeval.clips import Frame
    from refeval.metrics.base import Score

__version__ = "0.1.0"


def results(run: str | Path) -> pd.DataFrame:
    """The scores of a run folder, for notebooks.

    Args:
        run: the folder.

    Returns:
        One row per record: case, category, metric, status, value, strict_value, reason, frames_used.

    Raises:
        BadInput: not a run folder.
    """
    import pandas as pd

    from refeval.runs import Run

    opened = Run(Path(run))
    categories = {case.id: case.category.value for case in opened.suite().cases}
    columns = ["case", "category", "metric", "status", "value", "strict_value", "reason", "frames_used"]
    rows = [
        {**record.model_dump(mode="json"), "category": categories[record.case]} for record in opened.score_records()
    ]
    return pd.DataFrame(rows, columns=columns)


def score(
    clip: str | Path | Frame,
    case: Case,
    metrics: Sequence[str],
    *,
    fps: float | Fraction = 16,
    weights: str | Path | None = None,
    device: str = "auto",
    tiny: bool = False,
) -> dict[str, Score]:
    """Score one clip, for notebooks; nothing is recorded.

    Args:
        clip: a video file, or frames: uint8 RGB, shape (T, H, W, 3).
        case: its prompt and references, e.g. one of ``refeval.suites.load_suite(...).cases``.
        metrics: ids.
        fps: of frames; a file has its own.
        weights: folder that ``refeval fetch metrics`` fills.
        device: ``auto``, ``cpu`` or ``cuda``.
        tiny: small random weights, to try the procedure.

    Returns:
        Scores by metric id.

    Raises:
        BadInput: an unknown metric.
        MissingPrerequisite: a metric cannot run here.
        UnusableClip: a metric cannot score this clip.
    """
    from refeval.clips import Clip, open_clip
    from refeval.place import Place
    from refeval.registry import load_metric

    place = Place(weights=Path(weights) if weights else None, device=device)
    loaded = {metric_id: load_metric(metric_id, place, tiny=tiny) for metric_id in metrics}
    seen = open_clip(Path(clip)) if isinstance(clip, str | Path) else Clip.from_frames(clip, Fraction(fps))
    if len(loaded) > 1:
        # Read once and kept, where several look at it.
        _ = seen.frames
    for metric in loaded.values():
        metric.prepare()
    return {metric_id: metric.score(case, seen) for metric_id, metric in loaded.items()}
