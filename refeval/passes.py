"""Which metrics score together: as many as the memory holds at once, because every pass decodes every clip."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from refeval.errors import BadInput
from refeval.gpus import gpu_memory, visible_gpus
from refeval.metrics.base import MemoryNeed
from refeval.place import Place

# The rest goes to the driver, to what kernels ask for by themselves, and to gaps between what was freed.
_USABLE = 0.92


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Metrics whose models are loaded at the same time.

    Attributes:
        metrics: ids, in alphabetical order.
        gigabytes: what they need together.
        fits: whether that is there; one metric alone may need more than there is, and is tried all the same.
    """

    metrics: tuple[str, ...]
    gigabytes: float
    fits: bool


def plan_passes(needs: Mapping[str, MemoryNeed], available: float | None) -> list[Pass]:
    """Group metrics into few passes; the largest first, each into the pass that is smallest with it and still fits.

    A model that two metrics of a pass share counts once.

    Args:
        needs: by metric id.
        available: gigabytes (1e9 bytes) of the device; None: not known, then all go together.
    """
    usable = float("inf") if available is None else available * _USABLE
    groups: list[list[str]] = []

    def size_with(group: list[str], metric_id: str) -> float:
        return _together([needs[id_] for id_ in (*group, metric_id)])

    for metric_id in sorted(needs, key=lambda id_: (-_together([needs[id_]]), id_)):
        room = [group for group in groups if size_with(group, metric_id) <= usable]
        if room:
            min(room, key=lambda group: size_with(group, metric_id)).append(metric_id)
        else:
            groups.append([metric_id])
    sizes = [_together([needs[id_] for id_ in group]) for group in groups]
    return [
        Pass(metrics=tuple(sorted(group)), gigabytes=size, fits=size <= usable)
        for group, size in zip(groups, sizes, strict=True)
    ]


def _together(needs: list[MemoryNeed]) -> float:
    models = {name: size for need in needs for name, size in need.models.items()}
    # Metrics work in turn: what one works with is free for the next.
    return sum(models.values()) + max(need.work for need in needs)


def device_memory(place: Place, *, given: float | None, sharing: int) -> float | None:
    """Gigabytes that one process has for models: of its GPU, or of the machine where none is used.

    Args:
        place: where metrics work.
        given: what the user says that each GPU has.
        sharing: processes that share a GPU, or the machine.

    Raises:
        BadInput: no positive number is given.
    """
    if given is not None:
        if not given > 0:
            raise BadInput(f"--gpu-memory {given:g} is not an amount of memory", cure="e.g. --gpu-memory 24")
        return given / sharing
    if place.device == "cpu" or not visible_gpus():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9 / sharing
    sizes = gpu_memory()
    return min(sizes) / 1e9 / sharing if sizes else None
