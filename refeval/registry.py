"""Generators and metrics by name; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refeval.catalogue import METRIC_BY_ID
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators import BUILT_IN as BUILT_IN_GENERATORS
from refeval.metrics import BUILT_IN as BUILT_IN_METRICS
from refeval.suggestions import did_you_mean

if TYPE_CHECKING:
    from refeval.generators.base import Generator
    from refeval.metrics.base import Metric
    from refeval.place import Place


def generator_targets() -> dict[str, str]:
    """Name -> ``module:Class`` of every generator, built in or installed."""
    return _targets(BUILT_IN_GENERATORS, "refeval.generators")


def metric_targets() -> dict[str, str]:
    """Id -> ``module:Class`` of every metric that can run, built in or installed."""
    return _targets(BUILT_IN_METRICS, "refeval.metrics")


def load_generator(model: str, place: Place | None = None) -> Generator:
    """Make the generator of ``--model name`` or ``--model name:argument``.

    Args:
        model: as given.
        place: where it is to work; by default on whatever there is.

    Raises:
        BadInput: unknown name, or an argument that it does not take.
        MissingPrerequisite: a package that it needs is not installed.
    """
    name, colon, argument = model.partition(":")
    targets = generator_targets()
    if name not in targets:
        raise BadInput(f"unknown model '{name}'{did_you_mean(name, targets)}", cure="refeval models")
    generator: Generator = _load(targets[name]).from_argument(argument if colon else None)
    if place is not None:
        generator.place = place
    return generator


def describe_generator(name: str) -> str:
    """The first line of a generator's docstring."""
    try:
        text = _load(generator_targets()[name]).__doc__ or ""
    except MissingPrerequisite as error:
        return error.what
    lines = text.strip().splitlines()
    return lines[0].replace("``", "") if lines else ""


def load_metric(metric_id: str, place: Place | None = None, *, tiny: bool = False) -> Metric:
    """Make a metric by id.

    Args:
        metric_id: its id.
        place: where it is to work; by default on whatever there is.
        tiny: with small random weights, if it can do so.

    Raises:
        BadInput: unknown id.
        MissingPrerequisite: it is known but cannot run here.
    """
    targets = metric_targets()
    if metric_id not in targets:
        if metric_id in METRIC_BY_ID:
            label = METRIC_BY_ID[metric_id].label
            raise MissingPrerequisite(f"metric '{metric_id}' ({label}) is not available in this version of refeval")
        known = {*targets, *METRIC_BY_ID}
        raise BadInput(f"unknown metric '{metric_id}'{did_you_mean(metric_id, known)}", cure="refeval metrics")
    made_from = metric_class(metric_id)
    takes_tiny = tiny and "tiny" in inspect.signature(made_from).parameters
    metric: Metric = made_from(tiny=True) if takes_tiny else made_from()
    if place is not None:
        metric.place = place
    metric.check()
    return metric


def metric_class(metric_id: str) -> Any:
    """The class of a metric that is there.

    Raises:
        MissingPrerequisite: it cannot be loaded.
    """
    return _load(metric_targets()[metric_id])


def _targets(built_in: Mapping[str, str], group: str) -> dict[str, str]:
    installed = {entry.name: entry.value for entry in importlib.metadata.entry_points(group=group)}
    # A package cannot take the name of a built-in one: published numbers must mean one thing.
    return {**installed, **built_in}


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        cure = "install or repair the package that brings it"
        raise MissingPrerequisite(f"{target} cannot be loaded: {error}", cure=cure) from error
