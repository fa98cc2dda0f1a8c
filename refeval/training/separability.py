"""Whether the network tells subjects apart: how its reference features lie before and after a training.

Letters of shapes: V views (references), M references of an example, T tokens of a reference, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refeval.documents import write_document
from refeval.errors import BadInput
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.reports.figures.features import Separation, draw_maps, separation
from refeval.statistics.scores import FloatArray
from refeval.training.alignment import Projector
from refeval.training.batches import collate
from refeval.training.dual import DualReferenceTransformer
from refeval.training.examples import Example, Stream, generator
from refeval.training.flow import STEPS
from refeval.training.worlds import View

_NAME = "separability"


@dataclass(frozen=True, kw_only=True)
class ReferenceFeatures:
    """What a network makes of references.

    Attributes:
        values: one row per reference, the mean over its tokens, (V, D).
        subjects: V ids.
        block: after how many blocks.
        sigma: share of noise in the video that the references stood beside.
        projected: whether the rows went through the projector of that block.
    """

    values: FloatArray
    subjects: tuple[str, ...]
    block: int
    sigma: float
    projected: bool


def reference_features(
    network: ReferenceTransformer,
    views: Sequence[View],
    *,
    block: int,
    sigma: float,
    text_tokens: int,
    slots: int = 0,
    projector: Projector | None = None,
    seed: int = 0,
) -> ReferenceFeatures:
    """The features of references after a block.

    Args:
        network: on its device, in its dtype; no gradient belongs to what it computes here.
        views: each is a forward pass of its own.
        block: after how many blocks, from 1.
        sigma: share of noise in the video, 0 to 1.
        text_tokens: that prompts are padded to.
        slots: references that examples are padded to, as in training.
        projector: of this block; None: the hidden states themselves.
        seed: of the noise: the same for every network that is compared.

    Raises:
        BadInput: there is no such block.
        ValueError: another number of subjects than references.
    """
    if not 1 <= block <= len(network.blocks):
        raise BadInput(f"the network has blocks 1 to {len(network.blocks)}, not {block}")
    rows = []
    for position, view in enumerate(views):
        if len(view.subjects) != view.example.references.shape[1]:
            raise ValueError(f"{len(view.subjects)} subjects for {view.example.references.shape[1]} references")
        drawn = generator(seed, position, Stream.NOISE).standard_normal(view.example.latents.shape, dtype=np.float32)
        with torch.no_grad():
            states_td = _states(network, view.example, torch.from_numpy(drawn), block, sigma, text_tokens, slots)
            if projector is not None:
                states_td = projector(states_td)
        rows.append(states_td.view(len(view.subjects), -1, states_td.shape[1]).double().mean(dim=1).cpu().numpy())
    return ReferenceFeatures(
        values=np.concatenate(rows),
        subjects=tuple(subject for view in views for subject in view.subjects),
        block=block,
        sigma=sigma,
        projected=projector is not None,
    )


@dataclass(frozen=True, kw_only=True)
class Separability:
    """How far apart subjects are before and after a training; see :func:`separation`.

    Attributes:
        before: of the network that training started from.
        after: of the trained one.
    """

    before: Separation
    after: Separation


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
    found = Separability(
        before=separation(before.values, before.subjects), after=separation(after.values, after.subjects)
    )
    content = {
        "block": before.block,
        "sigma": before.sigma,
        "projected": before.projected,
        "subjects": len(set(before.subjects)),
        "views": len(before.subjects),
        "before": _described(found.before),
        "after": _described(found.after),
    }
    write_document(folder / f"{_NAME}.json", content)
    return found


def draw_separability(folder: Path, before: ReferenceFeatures, after: ReferenceFeatures) -> list[Path]:
    """Write the maps of both side by side, ``separability.svg`` and ``.png``; returns the files.

    Raises:
        BadInput: as :func:`write_separability`, or fewer than four views.
        MissingPrerequisite: matplotlib or scikit-learn is not installed.
        ValueError: features that do not belong together.
    """
    _refuse_others(before, after)
    return draw_maps({"before": before.values, "after": after.values}, before.subjects, folder, _NAME)


def _states(
    network: ReferenceTransformer,
    example: Example,
    noise: Tensor,
    block: int,
    sigma: float,
    text_tokens: int,
    slots: int,
) -> Tensor:
    """Hidden states of the reference tokens of one example, (M T, D)."""
    batch = collate([example], text_tokens, slots)
    kind: dict[str, Any] = {"device": network.device, "dtype": network.dtype}
    noisy = (1 - sigma) * batch.latents + sigma * noise.to(batch.latents)
    found = network(
        noisy.to(**kind),
        torch.tensor([sigma * STEPS], device=network.device),
        batch.text.to(**kind),
        batch.references.to(**kind),
        (block - 1,),
        batch.teacher.to(**kind) if isinstance(network, DualReferenceTransformer) else None,
    )
    states: Tensor = found.reference_states[0][0]
    shown, every = example.references.shape[1], batch.references.shape[2]
    return states[: len(states) // every * shown]


def _refuse_others(before: ReferenceFeatures, after: ReferenceFeatures) -> None:
    settings = [(found.subjects, found.block, found.sigma, found.projected) for found in (before, after)]
    if settings[0] != settings[1]:
        raise ValueError("features before and after are of other views, or of another place in the network")


def _described(found: Separation) -> dict[str, float | None]:
    """Without infinity, which JSON does not know: a ratio without spread is null."""
    ratio = found.ratio if math.isfinite(found.ratio) else None
    return {"within": found.within, "between": found.between, "ratio": ratio}
