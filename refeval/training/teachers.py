"""Vision foundation models whose patch features are the targets of the reference alignment.

Letters of shapes: N pictures, H and W height and width in pixels, T tokens of a picture, C width of the teacher.

A reference token of the transformer stands for 16 x 16 pixels (the VAE's 8 times the patch of 2), and so does a feature
here. For a teacher with other patches the picture is resized so that a patch covers the same cell: features resized
afterwards would mix the neighbours of a token, and 832 x 480 is not a whole number of patches of 14.

Source: RefAlign (arXiv 2603.25743) table 3 compares teachers; its code @6f91526
diffsynth/pipelines/wan_video_new6.py:754-762, 1231 takes ``hidden_states[-1][:, 5:]`` of DINOv3-L in bfloat16, without
resizing. Versions of transformers disagree on whether that is before or after the last norm, so here it is said.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import DINOv3ViTConfig, DINOv3ViTModel, SiglipVisionConfig, SiglipVisionModel

from refeval.errors import BadInput, MissingPrerequisite
from refeval.pretrained import load_pretrained
from refeval.wanted_tensors import cured_by

CELL = 16
"""Pixels of a side of the square that a reference token stands for."""

Triple = tuple[float, float, float]
FamilyName = Literal["dinov3", "siglip2"]

# Works on every device and gives the same features to float error; others need packages of their own.
_ATTENTION = "sdpa"
_TINY_HEADS = 2


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
    special_tokens: int
    layer: int
    mean: Triple
    std: Triple
    final_norm: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.layer <= self.depth:
            raise ValueError(f"{self.name} has layers 1 to {self.depth}, not {self.layer}")


@dataclass(frozen=True, kw_only=True)
class _Family:
    """An architecture of transformers.

    Attributes:
        model_class: without a head for classes.
        own_name: published name of a tensor -> name in the model, None for what is not of the vision model.
        blocks: where they are in the model.
        norm: the module after the last block.
        options: of a forward pass.
    """

    model_class: Any
    own_name: Callable[[str], str | None]
    blocks: str
    norm: str
    options: Mapping[str, bool] = field(default_factory=dict)


def _own_name_dinov3(key: str) -> str:
    return f"model.{key}" if key.startswith("layer.") else key


def _own_name_siglip2(key: str) -> str | None:
    """The published files hold the text model too."""
    return key.removeprefix("vision_model.") if key.startswith("vision_model.") else None


_FAMILIES = {
    "dinov3": _Family(model_class=DINOv3ViTModel, own_name=_own_name_dinov3, blocks="model.layer", norm="norm"),
    "siglip2": _Family(
        model_class=SiglipVisionModel,
        own_name=_own_name_siglip2,
        blocks="encoder.layers",
        norm="post_layernorm",
        options={"interpolate_pos_encoding": True},
    ),
}


def _dinov3(name: str, repository: str, width: int, depth: int) -> TeacherSpec:
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


def _siglip2(name: str, repository: str, width: int, depth: int) -> TeacherSpec:
    return TeacherSpec(
        name=name,
        family="siglip2",
        repository=repository,
        width=width,
        depth=depth,
        patch=16,
        special_tokens=0,
        layer=depth,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


TEACHERS: Mapping[str, TeacherSpec] = {
    spec.name: spec
    for spec in (
        _dinov3("dinov3-b", "facebook/dinov3-vitb16-pretrain-lvd1689m", 768, 12),
        _dinov3("dinov3-l", "facebook/dinov3-vitl16-pretrain-lvd1689m", 1024, 24),
        _dinov3("dinov3-h+", "facebook/dinov3-vith16plus-pretrain-lvd1689m", 1280, 32),
        _siglip2("siglip2-so", "google/siglip2-so400m-patch16-512", 1152, 27),
    )
}
"""By name. Take other features of one with ``dataclasses.replace(spec, layer=..., final_norm=...)``."""


class Teacher:
    """Gives the features of pictures; never trained.

    Args:
        spec: which features.
        model: of the family of the spec, on its device and in its dtype. It is taken over: what comes after the
            wanted features is cut off.
    """

    def __init__(self, spec: TeacherSpec, model: Any) -> None:
        self.spec = spec
        family = _FAMILIES[spec.family]
        # Cut to what is wanted, the model's last output is the same in every version of transformers.
        del model.get_submodule(family.blocks)[spec.layer :]
        if not spec.final_norm:
            setattr(model, family.norm, nn.Identity())
        self._model = model.eval().requires_grad_(False)
        self._options = family.options

    def features(self, pictures_n3hw: Tensor) -> Tensor:
        """What the alignment pulls the reference tokens of these pictures to.

        Args:
            pictures_n3hw: uint8 (N, 3, H, W), RGB, letterboxed as for the VAE; at least one, sides multiples of 16.

        Returns:
            float32 (N, T, C) on the model's device, row by row from the upper left, T = H / 16 * W / 16. No gradient
            belongs to it, and it may be used in operations that have one, also where it was made in inference mode.

        Raises:
            ValueError: pictures of another type or shape.
        """
        shape = pictures_n3hw.shape
        if pictures_n3hw.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or not len(pictures_n3hw):
            raise ValueError(f"pictures are uint8 (N, 3, H, W), not {pictures_n3hw.dtype} {tuple(shape)}")
        if min(shape[2:]) < CELL or shape[2] % CELL or shape[3] % CELL:
            raise ValueError(f"sides of pictures are multiples of {CELL}, not {shape[2]} and {shape[3]}")
        with torch.inference_mode(False), torch.no_grad():
            states = self._model(self._pixels(pictures_n3hw), **self._options).last_hidden_state
            found: Tensor = states[:, self.spec.special_tokens :].float()
            return found

    def _pixels(self, pictures_n3hw: Tensor) -> Tensor:
        """Normalised float32 values with one patch to a cell."""
        values = pictures_n3hw.to(self._model.device).float() / 255
        patch = self.spec.patch
        if patch != CELL:
            size = [side // CELL * patch for side in values.shape[2:]]
            values = interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (values.new_tensor(triple).view(3, 1, 1) for triple in (self.spec.mean, self.spec.std))
        return (values - mean) / std


def load_teacher(
    spec: TeacherSpec, folder: Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Teacher:
    """Load published weights.

    Args:
        spec: of a teacher with published weights.
        folder: with the files of its repository: the weights and ``config.json``.
        dtype: of the model; bfloat16 is RefAlign's.
        device: where the model is to be.

    Raises:
        MissingPrerequisite: no weights or no ``config.json``.
        BadInput: those of another model.
        CorruptFile: a file that cannot be read.
    """
    family = _FAMILIES[spec.family]
    cure = f"hf download {spec.repository} --local-dir {shlex.quote(str(folder))}"
    with cured_by(cure):
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise MissingPrerequisite(f"{folder}: no config.json in this folder")
        model = load_pretrained(
            family.model_class,
            folder,
            name=spec.name,
            wanted_by=spec.name,
            rename=family.own_name,
            dtype=dtype,
            attention=_ATTENTION,
        )
        _refuse_others(spec, folder, model.config)
    return Teacher(spec, model.to(device))


def _refuse_others(spec: TeacherSpec, folder: Path, config: Any) -> None:
    """The weights fit their own configuration; whether that is the teacher's is another question."""
    specials = 1 + config.num_register_tokens if spec.family == "dinov3" else 0
    rows = (
        ("width", config.hidden_size, spec.width),
        ("blocks", config.num_hidden_layers, spec.depth),
        ("patch", config.patch_size, spec.patch),
        ("special tokens", specials, spec.special_tokens),
    )
    others = tuple((label, f"{found} instead of {wanted}") for label, found, wanted in rows if found != wanted)
    if others:
        raise BadInput(f"{folder}: not the weights of {spec.name}", details=others)


def tiny_teacher(
    width: int = 32,
    *,
    family: FamilyName = "dinov3",
    patch: int = CELL,
    layer: int = 2,
    final_norm: bool = True,
    seed: int = 0,
) -> Teacher:
    """A teacher of two blocks with random weights, for tests and for training on a CPU.

    Args:
        width: C, a multiple of 8.
        family: its architecture.
        patch: pixels of a side of its patches.
        layer: 1 or 2.
        final_norm: as in :class:`TeacherSpec`.
        seed: of the weights; the global random numbers are left as they are.

    Returns:
        float32, on the CPU.
    """
    made = _dinov3("tiny", "", width, 2) if family == "dinov3" else _siglip2("tiny", "", width, 2)
    spec = replace(made, patch=patch, layer=layer, final_norm=final_norm)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _FAMILIES[family].model_class(_tiny_config(spec))
    return Teacher(spec, model)


def _tiny_config(spec: TeacherSpec) -> Any:
    """The configuration of transformers of a small model with the shapes of a spec."""
    shapes = {
        "hidden_size": spec.width,
        "intermediate_size": 2 * spec.width,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": _TINY_HEADS,
        "patch_size": spec.patch,
        "attn_implementation": _ATTENTION,
    }
    if spec.family == "dinov3":
        return DINOv3ViTConfig(num_register_tokens=spec.special_tokens - 1, **shapes)
    return SiglipVisionConfig(image_size=4 * spec.patch, **shapes)
