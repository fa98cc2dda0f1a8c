"""Whether the network tells subjects apart: how its reference features lie before and after a training.

Letters of shapes: V views (references), M references of an example, T tokens of a reference, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refeval.documents import write_document
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.reports.figures.features import Separation, draw_maps, separation
from refeval.statistics.scores import FloatArray
from refeval.training.batches import collate
from refeval.training.dual import DualReferenceTransformer
from refeval.training.examples import Example, Stream, generator
from refeval.training.flow import STEPS
from refeval.training.worlds import View

SEPARABILITY = "separability.json"


@dataclass(frozen=True, kw_only=True)
class ReferenceFeatures:
    """What a network makes of references.

    Attributes:
        values: by block, counted from 1: one row per reference, the mean over its tokens, (V, D).
        subjects: V ids.
        sigma: share of noise in the video that the references stood beside.
    """

    values: Mapping[int, FloatArray]
    subjects: tuple[str, ...]
    sigma: float


def reference_features(
    network: ReferenceTransformer,
    views: Sequence[View],
    *,
    sigma: float,
    text_tokens: int,
    slots: int = 0,
    seed: int = 0,
) -> ReferenceFeatures:
    """The features of references after every block.

    Args:
        network: on its device, in its dtype; no gradient belongs to what it computes here.
        views: each is a forward pass of its own.
        sigma: share of noise in the video, 0 to 1.
        text_tokens: that prompts are padded to.
        slots: references that examples are padded to, as in training.
        seed: of the noise: the same for every network that is compared.

    Raises:
        ValueError: another number of subjects than references.
    """
    rows: dict[int, list[FloatArray]] = {block: [] for block in range(1, len(network.blocks) + 1)}
    for position, view in enumerate(views):
        count = len(view.subjects)
        if count != view.example.references.shape[1]:
            raise ValueError(f"{count} subjects for {view.example.references.shape[1]} references")
        drawn = generator(seed, position, Stream.NOISE).standard_normal(view.example.latents.shape, dtype=np.float32)
        with torch.no_grad():
            states = _states(network, view.example, torch.from_numpy(drawn), sigma, text_tokens, slots)
        for block, states_td in enumerate(states, start=1):
            rows[block].append(states_td.view(count, -1, states_td.shape[1]).double().mean(dim=1).cpu().numpy())
    return ReferenceFeatures(
        values={block: np.concatenate(found) for block, found in rows.items()},
        subjects=tuple(subject for view in views for subject in view.subjects),
        sigma=sigma,
    )


@dataclass(frozen=True, kw_only=True)
class Separability:
    """How far apart subjects are before and after a training; see :func:`separation`.

    Attributes:
        before: of the network that training started from, by block.
        after: of the trained one.
    """

    before: Mapping[int, Separation]
    after: Mapping[int, Separation]


def write_separability(folder: Path, before: ReferenceFeatures, after: ReferenceFeatures) -> Separability:
    """Write ``separability.json``.

    Args:
        folder: of the training.
        before: of the network that training started from.
        after: of the trained one, from the same views.

    Raises:
        BadInput: fewer than two subjects, no subject in two views, or features that are not finite.
        ValueError: features that do not belong together.
    """
    _refuse_others(before, after)
    found = Separability(before=_separations(before), after=_separations(after))
    content = {
        "sigma": before.sigma,
        "subjects": len(set(before.subjects)),
        "views": len(before.subjects),
        "blocks": [
            {"block": block, "before": _described(found.before[block]), "after": _described(found.after[block])}
            for block in found.before
        ],
    }
    write_document(folder / SEPARABILITY, content)
    return found


def draw_separability(folder: Path, before: ReferenceFeatures, after: ReferenceFeatures, block: int) -> list[Path]:
    """Write the maps of both side by side, ``separability.svg`` and ``.png``; returns the files.

    Args:
        folder: of the training.
        before: of the network that training started from.
        after: of the trained one, from the same views.
        block: that is shown.

    Raises:
        BadInput: as :func:`write_separability`, or fewer than four views.
        MissingPrerequisite: matplotlib or scikit-learn is not installed.
        ValueError: features that do not belong together.
    """
    _refuse_others(before, after)
    maps = {"before": before.values[block], "after": after.values[block]}
    return draw_maps(maps, before.subjects, folder, Path(SEPARABILITY).stem)


def _states(
    network: ReferenceTransformer,
    example: Example,
    noise: Tensor,
    sigma: float,
    text_tokens: int,
    slots: int,
) -> list[Tensor]:
    """Hidden states of the reference tokens of one example, (M T, D), after each block."""
    batch = collate([example], text_tokens, slots)
    kind: dict[str, Any] = {"device": network.device, "dtype": network.dtype}
    noisy = (1 - sigma) * batch.latents + sigma * noise.to(batch.latents)
    found = network(
        noisy.to(**kind),
        torch.tensor([sigma * STEPS], device=network.device),
        batch.text.to(**kind),
        batch.references.to(**kind),
        range(len(network.blocks)),
        batch.teacher.to(**kind) if isinstance(network, DualReferenceTransformer) else None,
    )
    shown, every = example.references.shape[1], batch.references.shape[2]
    return [states[0][: states.shape[1] // every * shown] for states in found.reference_states]


def _separations(features: ReferenceFeatures) -> dict[int, Separation]:
    return {block: separation(values, features.subjects) for block, values in features.values.items()}


def _refuse_others(before: ReferenceFeatures, after: ReferenceFeatures) -> None:
    settings = [(found.subjects, [*found.values], found.sigma) for found in (before, after)]
    if settings[0] != settings[1]:
        raise ValueError("features before and after are of other views, or of another place in the network")


def _described(found: Separation) -> dict[str, float | None]:
    """Without infinity, which JSON does not know: a ratio without spread is null."""
    ratio = found.ratio if math.isfinite(found.ratio) else None
    return {"within": found.within, "between": found.between, "ratio": ratio}
