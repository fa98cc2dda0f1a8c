"""Weights from a rule instead of a file: the fill that the goldens with networks were made with (their README)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor


def seeded_value(key: str, shape: tuple[int, ...], *, weight_seed: int, gain: float) -> Tensor:
    """The float32 value of one key."""
    seed = (zlib.crc32(key.encode()) + weight_seed) % 2**32
    u = np.random.Generator(np.random.PCG64(seed)).random(size=shape, dtype=np.float64)
    s = 2 * u - 1
    if key.endswith("running_mean"):
        value = 0.1 * s
    elif key.endswith("running_var"):
        value = 0.5 + u
    elif len(shape) == 1 and key.endswith("weight"):
        value = 0.25 + u
    elif len(shape) <= 1:
        value = 0.1 * s
    else:
        value = s * gain * np.sqrt(3 / (u.size / shape[0]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32).reshape(shape))


def seeded_state(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    weight_seed: int,
    gain: float = 1.0,
    integers: Collection[str] = (),
    kept: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """A whole state dict.

    Args:
        shapes: by key.
        weight_seed: of the golden.
        gain: of the golden.
        integers: keys of integer tensors, which become zeros.
        kept: values that are not filled.
    """
    state = {}
    for key in sorted(shapes):
        if kept and key in kept:
            state[key] = kept[key]
        elif key in integers:
            state[key] = torch.zeros(shapes[key], dtype=torch.int64)
        else:
            state[key] = seeded_value(key, tuple(shapes[key]), weight_seed=weight_seed, gain=gain)
    return state


def checksum(state: Mapping[str, Tensor], without: Collection[str] = ()) -> str:
    """sha256 over keys and float32 bytes, in sorted order; integers and ``without`` do not enter."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if key not in without and state[key].is_floating_point():
            digest.update(key.encode())
            digest.update(state[key].numpy().astype("<f4").tobytes())
    return digest.hexdigest()
