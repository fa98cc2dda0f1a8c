"""What ``refeval fetch`` can bring: repositories of models, metrics, bases and teachers of training. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.generators.wan.catalogue import BASES, MATTING, MODELS
from refeval.registry import metric_class, metric_targets
from refeval.suggestions import did_you_mean
from refeval.training.teacher_catalogue import TEACHERS
from refeval.weights import Source, WeightsStore

MATTING_NAME = "birefnet"


def fetchable_names() -> list[str]:
    """What ``refeval fetch model`` takes."""
    return [*(name for name, spec in (MODELS | BASES).items() if not spec.tiny), MATTING_NAME, *TEACHERS]


def sources_of(name: str) -> list[Source]:
    """The repositories of a model, its own first.

    Args:
        name: of a model, of a base or a teacher of training, or ``birefnet``.

    Raises:
        BadInput: no such name, or a model with random weights.
    """
    if name == MATTING_NAME:
        return [MATTING]
    if name in TEACHERS:
        return [TEACHERS[name].source]
    specs = MODELS | BASES
    if name not in specs:
        known = fetchable_names()
        raise BadInput(f"unknown model '{name}'{did_you_mean(name, known)}", cure=f"one of {', '.join(known)}")
    spec = specs[name]
    if spec.tiny:
        raise BadInput(
            f"{name} has random weights: there is nothing to fetch", cure="use it as it is: it needs no weights"
        )
    return [source for source in (spec.transformer, spec.base) if source is not None]


def sources_of_metrics(metric_ids: Sequence[str]) -> dict[str, tuple[Source, ...]]:
    """The repositories of metrics, by id; metrics without weights have none.

    Args:
        metric_ids: empty: every metric.

    Raises:
        BadInput: no such metric.
    """
    known = metric_targets()
    for metric_id in metric_ids:
        if metric_id not in known:
            raise BadInput(f"unknown metric '{metric_id}'{did_you_mean(metric_id, known)}", cure="refeval metrics")
    return {metric_id: metric_class(metric_id).sources for metric_id in metric_ids or sorted(known)}


def is_there(store: WeightsStore, sources: Sequence[Source], wanted_by: str) -> bool:
    """Whether all files of some repositories are in the weights folder."""
    try:
        return all(store.find(source, wanted_by) for source in sources)
    except (MissingPrerequisite, CorruptFile):
        return False
