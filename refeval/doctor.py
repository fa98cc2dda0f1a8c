"""``refeval doctor``: what is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.catalogue import PUBLISHED_METRICS
from refeval.clips import decoder_version
from refeval.errors import MissingPrerequisite, RefevalError
from refeval.gpus import gpu_names
from refeval.keys import installed_version
from refeval.place import Place
from refeval.receipts import Receipt
from refeval.registry import load_metric
from refeval.sources import fetchable_names, is_there, sources_of, sources_of_metrics
from refeval.suites import SUITES, load_suite
from refeval.weights import Source, WeightsStore, fetch_command

_EXTRAS = ("score", "render", "train", "face", "ray", "figures", "dev")


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that refeval can use.

    Attributes:
        area: python, extra, decoder, metric, suite, model or device.
        name: of the thing.
        present: whether it is there.
        note: its version, or what it is for.
        cure: the command that gets it, where it is missing.
    """

    area: str
    name: str
    present: bool
    note: str
    cure: str = ""


def diagnose() -> list[Diagnosis]:
    """Look at everything; loads no model and opens no socket."""
    python = Diagnosis(area="python", name="python", present=True, note=platform.python_version())
    return [python, *_extras(), *_decoders(), *_metrics(), *_suites(), *_models(), _gpu()]


def _extras() -> list[Diagnosis]:
    required = importlib.metadata.requires("refeval") or []
    found = []
    for extra in _EXTRAS:
        lines = [line for line in required if f"extra == '{extra}'" in line.replace('"', "'")]
        names = [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines]
        missing = [name for name in names if installed_version(name) is None]
        note = f"missing: {', '.join(missing)}" if missing else "complete"
        cure = f"pip install 'refeval[{extra}]'" if missing else ""
        found.append(Diagnosis(area="extra", name=extra, present=not missing, note=note, cure=cure))
    return found


def _decoders() -> list[Diagnosis]:
    found = []
    for name in ("pyav", "decord"):
        try:
            found.append(Diagnosis(area="decoder", name=name, present=True, note=decoder_version(name)))
        except MissingPrerequisite as error:
            found.append(Diagnosis(area="decoder", name=name, present=False, note="optional", cure=error.cure or ""))
    return found


def _metrics() -> list[Diagnosis]:
    store = _store()
    return [_metric(metric.id, metric.label, store) for metric in PUBLISHED_METRICS]


def _metric(metric_id: str, label: str, store: WeightsStore) -> Diagnosis:
    sources = sources_of_metrics([metric_id])[metric_id]
    note = label
    if sources and is_there(store, sources, metric_id):
        note = f"{label}: {_weights(store, sources, metric_id)}"
    try:
        load_metric(metric_id, Place(weights=store.folder))
    except MissingPrerequisite as error:
        return Diagnosis(area="metric", name=metric_id, present=False, note=error.what, cure=error.cure or "")
    return Diagnosis(area="metric", name=metric_id, present=True, note=note)


def _suites() -> list[Diagnosis]:
    found = []
    for name in SUITES:
        try:
            count = len(load_suite(name).cases)
            found.append(Diagnosis(area="suite", name=name, present=True, note=f"{count} cases"))
        except RefevalError as error:
            where = os.environ.get("REFEVAL_DATA") or "REFEVAL_DATA is not set"
            found.append(Diagnosis(area="suite", name=name, present=False, note=where, cure=error.cure or ""))
    return found


def _models() -> list[Diagnosis]:
    store = _store()
    return [_model(name, store) for name in fetchable_names()]


def _model(name: str, store: WeightsStore) -> Diagnosis:
    sources = sources_of(name)
    if is_there(store, sources, name):
        return Diagnosis(area="model", name=name, present=True, note=_weights(store, sources, name))
    note = str(store.folder or "REFEVAL_WEIGHTS is not set")
    return Diagnosis(area="model", name=name, present=False, note=note, cure=fetch_command(name, store.folder))


def _store() -> WeightsStore:
    value = os.environ.get("REFEVAL_WEIGHTS")
    return WeightsStore(Path(value) if value else None)


def _weights(store: WeightsStore, sources: Sequence[Source], wanted_by: str) -> str:
    files = {path for source in sources for path in store.find(source, wanted_by)}
    size = sum(path.stat().st_size for path in files)
    fetched = all(Receipt.read_if_whole(store.folder_of(source)) for source in sources)
    return f"{size / 1e9:.1f} GB, {'fetched' if fetched else 'put there by hand: no receipt'}"


def _gpu() -> Diagnosis:
    names = gpu_names()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    note = ", ".join(names) or "none: only the tiny models render here"
    if names and chosen is not None:
        note += f"; CUDA_VISIBLE_DEVICES={chosen}"
    return Diagnosis(area="device", name="gpu", present=bool(names), note=note)
