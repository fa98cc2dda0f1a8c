"""The teachers of the alignment that are known by name, and where their weights are published. No torch here.

A reference token of the transformer stands for 16 x 16 pixels (the VAE's 8 times the patch of 2), and so does a feature
of a teacher. For a teacher with other patches the picture is resized so that a patch covers the same cell: features
resized afterwards would mix the neighbours of a token, and 832 x 480 is not a whole number of patches of 14.

Source: the ``config.json`` and ``preprocessor_config.json`` values of the repositories named below. RefAlign (arXiv
2603.25743) table 3 compares DINOv3, SigLIP2 and Qwen2.5-VL; its code @6f91526
diffsynth/pipelines/wan_video_new6.py:754-762, 1231 takes ``hidden_states[-1][:, 5:]`` of DINOv3-L in bfloat16, without
resizing. Versions of transformers disagree on whether that is before or after the last norm, so here it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refeval.weights import Source, WeightsStore

CELL = 16
"""Pixels of a side of the square that a reference token stands for."""

Triple = tuple[float, float, float]
FamilyName = Literal["dinov3", "siglip2", "qwen2.5-vl"]

_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json")


@dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """Which features are taken of which model.

    Attributes:
        name: of the teacher.
        family: its architecture.
        repository: of the published weights, ``owner/name``; empty: none are published.
        width: C.
        depth: how many blocks the model has.
        patch: pixels of a side of its patches.
        special_tokens: how many tokens come before those of the patches.
        merge: the model joins squares of so many patches a side, so that sides of pictures are multiples of as many
            cells; 1: it joins none.
        merged_width: of its own output after joining, which no feature is taken of: it tells sizes of a model apart
            whose patches have the same width; 0: it joins none.
        layer: after how many blocks the features are taken, 1 to ``depth``.
        final_norm: whether the norm after the last block is applied to them, whichever layer they are from.
        mean: of the red, green and blue values that the model is used to, of 0 to 1.
        std: likewise.

    Raises:
        ValueError: there is no such layer.
    """

    name: str
    family: FamilyName
    repository: str
    width: int
    depth: int
    patch: int
    special_tokens: int = 0
    merge: int = 1
    merged_width: int = 0
    layer: int
    mean: Triple
    std: Triple
    final_norm: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.layer <= self.depth:
            raise ValueError(f"{self.name} has layers 1 to {self.depth}, not {self.layer}")

    @property
    def source(self) -> Source:
        """The files of the published weights; of a larger model that they are a part of, all shards."""
        return Source(repository=self.repository, patterns=_FILES)


def dinov3(name: str, repository: str, width: int, depth: int) -> TeacherSpec:
    """DINOv3's vision transformers: one token for the picture and four registers come first."""
    return TeacherSpec(
        name=name,
        family="dinov3",
        repository=repository,
        width=width,
        depth=depth,
        patch=16,
        special_tokens=5,
        layer=depth,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def siglip2(name: str, repository: str, width: int, depth: int) -> TeacherSpec:
    """The vision model of SigLIP2, before its pooling."""
    return TeacherSpec(
        name=name,
        family="siglip2",
        repository=repository,
        width=width,
        depth=depth,
        patch=16,
        layer=depth,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def qwen2_5_vl(name: str, repository: str, width: int, depth: int, merged_width: int) -> TeacherSpec:
    """The vision tower of Qwen2.5-VL, patch by patch.

    The tower ends with a merger: a norm (``merger.ln_q``, the final norm here), and two layers that make one token of
    2 x 2 patches, in the width of the language model. Features are taken before these two layers. After them a token
    would cover 28 x 28 pixels, and one per cell would need pictures of four times the patches, and with them a space
    made for a language model to read rather than for places of a picture to be compared in.
    """
    return TeacherSpec(
        name=name,
        family="qwen2.5-vl",
        repository=repository,
        width=width,
        depth=depth,
        patch=14,
        merge=2,
        merged_width=merged_width,
        layer=depth,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )


TEACHERS: Mapping[str, TeacherSpec] = {
    spec.name: spec
    for spec in (
        dinov3("dinov3-b", "facebook/dinov3-vitb16-pretrain-lvd1689m", 768, 12),
        dinov3("dinov3-l", "facebook/dinov3-vitl16-pretrain-lvd1689m", 1024, 24),
        dinov3("dinov3-h+", "facebook/dinov3-vith16plus-pretrain-lvd1689m", 1280, 32),
        siglip2("siglip2-so", "google/siglip2-so400m-patch16-512", 1152, 27),
        # The towers of 3B and 7B have one shape and different weights, and which one RefAlign took is not known:
        # this is the one whose licence (Apache 2.0) allows every use.
        qwen2_5_vl("qwen2.5-vl", "Qwen/Qwen2.5-VL-7B-Instruct", 1280, 32, 3584),
    )
}
"""By name. Take other features of one with ``dataclasses.replace(spec, layer=..., final_norm=...)``."""


def find_teacher(store: WeightsStore, name: str) -> Path:
    """The folder of a teacher's files in the weights folder.

    Args:
        store: the weights folder.
        name: of a teacher in :data:`TEACHERS`.

    Raises:
        MissingPrerequisite: not all of its files are there; the cure fetches them.
    """
    source = TEACHERS[name].source
    store.find(source, name)
    return store.folder_of(source)
