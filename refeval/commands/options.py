"""Command-line options as the library takes them."""

from __future__ import annotations

import os
from pathlib import Path

from refeval.cases import Domain
from refeval.errors import BadInput
from refeval.evaluation import Manner
from refeval.place import DEVICES, Place
from refeval.protocols import ProtocolName
from refeval.selection import Selection
from refeval.suggestions import did_you_mean

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def selection(cases: str | None, category: str | None, limit: int | None, shard: str | None) -> Selection:
    """A selection from command-line options."""
    return Selection(ids=names(cases), category=category, limit=limit, shard=shard)


def place(weights: Path | None, device: str, memory: str, gpus_per_clip: int) -> Place:
    """A place from command-line options."""
    if device not in DEVICES:
        known = ", ".join(DEVICES)
        raise BadInput(f"unknown device '{device}'{did_you_mean(device, DEVICES)}", details=(("known", known),))
    return Place(weights=weights, device=device, memory=memory, gpus_per_clip=gpus_per_clip)


def manner(
    metrics: str | None,
    workers: int | None,
    decoder: str,
    accept_lifeless: bool,
    retry_failed: bool,
    place: Place | None = None,
    gpus: int | None = None,
    *,
    tiny: bool = False,
    gpu_memory: float | None = None,
) -> Manner:
    """A manner from command-line options."""
    place = place or Place()
    if gpus is not None and workers is not None:
        cure = "leave --workers out: with --gpus there is one process for each GPU, or for --gpus-per-clip of them"
        raise BadInput("--gpus and --workers exclude each other", cure=cure)
    if gpus is not None and gpus % place.gpus_per_clip:
        whole = max(gpus - gpus % place.gpus_per_clip, place.gpus_per_clip)
        what = f"--gpus {gpus} is not a multiple of --gpus-per-clip {place.gpus_per_clip}"
        raise BadInput(what, cure=f"--gpus {whole}")
    return Manner(
        metrics=names(metrics),
        workers=workers or 1,
        decoder=decoder,
        accept_lifeless=accept_lifeless,
        retry_failed=retry_failed,
        place=place,
        tiny=tiny,
        gpus=gpus or 0,
        gpu_memory=gpu_memory,
    )


def names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def protocol_named(name: str | None) -> ProtocolName:
    try:
        return ProtocolName(name) if name else ProtocolName.V1_1
    except ValueError:
        known = [protocol.value for protocol in ProtocolName]
        details = (("known", ", ".join(known)),)
        raise BadInput(f"unknown protocol '{name}'{did_you_mean(str(name), known)}", details=details) from None


def domain_named(name: str | None) -> Domain | None:
    try:
        return Domain(name) if name else None
    except ValueError:
        raise BadInput(f"unknown domain '{name}'", details=(("known", "open, human, single"),)) from None


def refuse_folder(option: str, path: Path | None) -> None:
    """Look, before any work, whether an option that takes a file names a folder.

    Raises:
        BadInput: it does.
    """
    if path and path.is_dir():
        raise BadInput(f"{option} {path} is a folder", cure="give a file")


def go_offline() -> None:
    # Workers inherit it: no library that a generator or a metric loads may ask a hub.
    for variable in _OFFLINE:
        os.environ[variable] = "1"
