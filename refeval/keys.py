"""Task keys: what a stored result depends on, in one sha256. Any change gives another key, so resume never mixes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def task_key(
    kind: str,
    *,
    case: str,
    seed: int | None,
    plugin: str,
    version: str,
    settings: Mapping[str, Any],
    weights: Mapping[str, str],
    decoder: str | None,
    layout: str,
    inputs: Mapping[str, str],
) -> str:
    """sha256 (hex) over everything that a result depends on.

    Args:
        kind: ``render`` or ``score``.
        case: digest of the case.
        seed: of the run, where it matters.
        plugin: id of the generator or metric.
        version: its version, with the versions of the libraries that can move its result.
        settings: what it was told.
        weights: sha256 by name.
        decoder: name and version, where a clip is decoded.
        layout: parallel layout (``single`` unless a model is spread over devices).
        inputs: sha256 of every file read, by role.
    """
    fields = {
        "kind": kind,
        "case": case,
        "seed": seed,
        "plugin": plugin,
        "version": version,
        "settings": settings,
        "weights": weights,
        "decoder": decoder,
        "layout": layout,
        "inputs": inputs,
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions(distributions: Sequence[str]) -> str:
    """``name version`` of installed distributions, for the version of a task key; absent ones say so."""
    return ", ".join(f"{name} {installed_version(name) or 'absent'}" for name in distributions)


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
