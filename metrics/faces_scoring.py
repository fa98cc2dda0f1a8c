"""From cosines between faces and references to the two values of FaceSim. Pure functions.

Source: OpenS2V-Nexus eval/get_facesim.py:144-165 at 210eb08 for ``official_mean`` and ``arc_mean``, defects
included. ``match`` and what follows from it are this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Match:
    """Which face of a frame stands for which reference.

    Attributes:
        faces: index of the face by reference; None for a reference that is left without one.
        similarities: clamped cosine by reference, 0..1; 0 without a face.
    """

    faces: tuple[int | None, ...]
    similarities: tuple[float, ...]


def cosine(first: Embedding, second: Embedding) -> float:
    """Cosine between two embeddings of shape (D,), -1..1, in float32 by torch as officially; NaN is possible."""
    import torch

    one, other = (torch.from_numpy(np.asarray(part, np.float32))[None] for part in (first, second))
    return float(torch.nn.functional.cosine_similarity(one, other).item())


def clamp(similarity: float) -> float:
    """The cosine where it is positive, else 0: also for NaN, which is why the order of the arguments matters."""
    return max(0.0, similarity)


def official_mean(similarities: Sequence[float | None]) -> tuple[float, int]:
    """Mean over the frames that have a face with a positive cosine, and how many these are; 0.0 without any.

    One good frame is as much as a whole clip of them: frames without a face and frames with another person's
    face leave the mean.

    Args:
        similarities: clamped cosine by frame; None without a face.
    """
    kept = [value for value in similarities if value is not None and value != 0.0]
    return (sum(kept) / len(kept) if kept else 0.0), len(kept)


def arc_mean(similarities: Sequence[float | None]) -> float:
    """The same for ArcFace, where zeros count: the official test for zero looks at the list, not at the number."""
    kept = [value for value in similarities if value is not None]
    return sum(kept) / len(kept) if kept else 0.0


def match(cosines: Sequence[Sequence[float]]) -> Match:
    """The one-to-one assignment of faces to references with the largest sum of clamped cosines.

    Args:
        cosines: by reference, then by face; a row without numbers is a reference that has no embedding.

    Returns:
        The best of all assignments; of equal ones the one with the largest sum of plain cosines.
    """
    references, faces = len(cosines), max((len(row) for row in cosines), default=0)
    # By set of references that have a face: sums and assignment of the best choice among the faces so far.
    best: dict[frozenset[int], tuple[float, float, dict[int, int]]] = {frozenset(): (0.0, 0.0, {})}
    for face in range(faces):
        grown = dict(best)
        for taken, (clamped, plain, chosen) in best.items():
            for reference in range(references):
                if reference in taken or not cosines[reference] or math.isnan(cosines[reference][face]):
                    continue
                value = cosines[reference][face]
                wider = taken | {reference}
                choice = (clamped + clamp(value), plain + value, {**chosen, reference: face})
                if wider not in grown or choice[:2] > grown[wider][:2]:
                    grown[wider] = choice
        best = grown
    # More faces first: a reference keeps its face even where that adds nothing, so that confusion can be told.
    chosen = max(best.values(), key=lambda choice: (choice[0], len(choice[2]), choice[1]))[2]
    similarities = [clamp(cosines[i][chosen[i]]) if i in chosen else 0.0 for i in range(references)]
    return Match(faces=tuple(chosen.get(i) for i in range(references)), similarities=tuple(similarities))


def strict_mean(matches: Sequence[Match]) -> float:
    """Mean of the similarities over references and frames, 0..1; no frame and no reference leaves it."""
    values = [value for one in matches for value in one.similarities]
    return math.fsum(values) / len(values)


def per_reference(matches: Sequence[Match]) -> list[float]:
    """Mean over the frames for each reference, 0..1."""
    columns = zip(*(one.similarities for one in matches), strict=True)
    return [math.fsum(column) / len(matches) for column in columns]


def confusions(cosines: Sequence[Sequence[float]], one: Match) -> tuple[int, int]:
    """Of the faces that stand for a reference in a frame: how many are closer to another one, and how many there are.

    Args:
        cosines: of the frame, as :func:`match` took them.
        one: what it returned.
    """
    pairs = [(reference, face) for reference, face in enumerate(one.faces) if face is not None]
    confused = [
        any(row and row[face] > cosines[reference][face] for i, row in enumerate(cosines) if i != reference)
        for reference, face in pairs
    ]
    return sum(confused), len(confused)
