"""Whether a checkpoint is the one that a network wants: every tensor there, none left over, all of its shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite

Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 3


def shapes_of(module: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters and kept buffers of a module."""
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def refuse_others(weights: Path, found: Shapes, wanted: Shapes, name: str, cure: str) -> None:
    """Raise unless a checkpoint holds what a network wants.

    Args:
        weights: where it was read from, for the message.
        found: shapes of its tensors, by their names in the network.
        wanted: shapes of the network's tensors.
        name: of the network, for the message.
        cure: for the message.

    Raises:
        BadInput: with the names of the first tensors that are missing, left over or of another shape.
    """
    rows = {
        "missing": [key for key in wanted if key not in found],
        "left over": [key for key in found if key not in wanted],
        "wrong shape": [
            f"{key} {found[key]} instead of {shape}" for key, shape in wanted.items() if found.get(key, shape) != shape
        ],
    }
    if any(rows.values()):
        raise BadInput(
            f"{weights}: not the weights of {name}",
            details=tuple((label, _first(keys)) for label, keys in rows.items() if keys),
            cure=cure,
        )


@contextmanager
def cured_by(cure: str) -> Iterator[None]:
    """Give errors about a file of the user's own a cure that helps: no command of ours fetches it."""
    try:
        yield
    except (BadInput, CorruptFile, MissingPrerequisite) as error:
        error.cure = cure
        raise


def _first(keys: list[str]) -> str:
    more = ", ..." if len(keys) > _SHOWN else ""
    return f"{len(keys)} tensors: {', '.join(sorted(keys)[:_SHOWN])}{more}"
