"""Vision foundation models whose patch features are the targets of the reference alignment.

Letters of shapes: N pictures, H and W height and width in pixels, T tokens of a picture, C width of the teacher.

Which there are, and how their patches are laid over the tokens of the transformer: see
:mod:`refeval.training.teacher_catalogue`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from math import lcm
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from refeval.errors import BadInput, MissingPrerequisite
from refeval.pretrained import load_pretrained
from refeval.suggestions import did_you_mean
from refeval.training.recipe import TeacherSettings
from refeval.training.teacher_catalogue import (
    CELL,
    TEACHERS,
    FamilyName,
    TeacherSpec,
    dinov3,
    qwen2_5_vl,
    siglip2,
)
from refeval.training.teacher_families import ATTENTION, FAMILIES
from refeval.weights import fetch_command

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Teacher(ABC):
    """Gives the features of pictures; never trained.

    Attributes:
        width: C.
        side: sides of pictures are multiples of it, in pixels.
    """

    width: int
    side: int

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where features are."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What the features of a picture follow from, as JSON types: the same for teachers that give the same."""

    def features(self, pictures_n3hw: Tensor) -> Tensor:
        """What the alignment pulls the reference tokens of these pictures to.

        Args:
            pictures_n3hw: uint8 (N, 3, H, W), RGB, letterboxed as for the VAE; at least one, sides multiples of
                ``side``.

        Returns:
            float32 (N, T, C) on ``device``, row by row from the upper left, T = H / 16 * W / 16. No gradient belongs to
            it, and it may be used in operations that have one, also where it was made in inference mode. The features
            of a picture do not depend on the others, to float error.

        Raises:
            ValueError: pictures of another type or shape.
        """
        shape = pictures_n3hw.shape
        if pictures_n3hw.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or not len(pictures_n3hw):
            raise ValueError(f"pictures are uint8 (N, 3, H, W), not {pictures_n3hw.dtype} {tuple(shape)}")
        if min(shape[2:]) < self.side or shape[2] % self.side or shape[3] % self.side:
            raise ValueError(f"sides of pictures are multiples of {self.side}, not {shape[2]} and {shape[3]}")
        with torch.inference_mode(False), torch.no_grad():
            return self._features(pictures_n3hw)

    @abstractmethod
    def _features(self, pictures_n3hw: Tensor) -> Tensor:
        """:meth:`features` of pictures that were checked, without gradients."""


class VisionTeacher(Teacher):
    """One vision model.

    Args:
        spec: which features.
        model: of the family of the spec, on its device and in its dtype. It is taken over: what comes after the
            wanted features is cut off.
    """

    def __init__(self, spec: TeacherSpec, model: Any) -> None:
        self.spec = spec
        self.width = spec.width
        self.side = CELL * spec.merge
        family = FAMILIES[spec.family]
        # Cut to what is wanted, the model's last output is the same in every version of transformers.
        del model.get_submodule(family.blocks)[spec.layer :]
        for name in family.unused if spec.final_norm else (family.norm, *family.unused):
            model.set_submodule(name, nn.Identity())
        self._model = model.eval().requires_grad_(False)
        self._states = family.states

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Spec, dtype, and the sha256 of the weights that are used, which takes seconds for a large model."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return {**asdict(self.spec), "dtype": str(self._model.dtype), "weights": digest.hexdigest()}

    def _features(self, pictures_n3hw: Tensor) -> Tensor:
        return self._states(self._model, self._pixels(pictures_n3hw)).float()

    def _pixels(self, pictures_n3hw: Tensor) -> Tensor:
        """Normalised float32 values with one patch to a cell."""
        values = pictures_n3hw.to(self.device).float() / 255
        patch = self.spec.patch
        if patch != CELL:
            size = [side // CELL * patch for side in values.shape[2:]]
            values = interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (values.new_tensor(triple).view(3, 1, 1) for triple in (self.spec.mean, self.spec.std))
        return (values - mean) / std


class CombinedTeacher(Teacher):
    """The features of several teachers, each scaled to length 1, side by side.

    So all of them count alike: the cosine of such features is the mean of the teachers' cosines.

    Args:
        teachers: at least one, on one device.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self._teachers = tuple(teachers)
        self.width = sum(teacher.width for teacher in self._teachers)
        self.side = lcm(*(teacher.side for teacher in self._teachers))

    @property
    def device(self) -> torch.device:
        return self._teachers[0].device

    @property
    def identity(self) -> dict[str, Any]:
        return {"side by side": [teacher.identity for teacher in self._teachers]}

    def _features(self, pictures_n3hw: Tensor) -> Tensor:
        return torch.cat(
            [normalize(teacher.features(pictures_n3hw), dim=-1, eps=1e-12) for teacher in self._teachers], dim=-1
        )


def combine(teachers: Sequence[Teacher]) -> Teacher:
    """One teacher of several, see :class:`CombinedTeacher`; a single one stays as it is.

    Raises:
        ValueError: there is none.
    """
    if not teachers:
        raise ValueError("no teachers to combine")
    return CombinedTeacher(teachers) if len(teachers) > 1 else teachers[0]


def specs_for(settings: TeacherSettings) -> list[TeacherSpec]:
    """The teachers of a recipe, before anything is loaded.

    Raises:
        BadInput: an unknown name, one that is named twice, or a layer that one of them does not have.
    """
    specs = []
    for name in settings.names:
        if name not in TEACHERS:
            raise BadInput(
                f"unknown teacher '{name}'{did_you_mean(name, TEACHERS)}",
                details=(("known", ", ".join(TEACHERS)),),
                cure="name one of these in teacher.names",
            )
        if settings.names.count(name) > 1:
            raise BadInput(f"teacher.names: '{name}' is named twice")
        spec = TEACHERS[name]
        try:
            specs.append(replace(spec, layer=settings.layer or spec.depth, final_norm=settings.final_norm))
        except ValueError as error:
            raise BadInput(f"teacher.layer: {error}", cure="0 is the last of every teacher") from error
    return specs


def teachers_for(
    settings: TeacherSettings, find_folder: Callable[[str], Path], device: str | torch.device = "cpu"
) -> Teacher:
    """Load the teachers of a recipe.

    Args:
        settings: of the recipe.
        find_folder: name of a teacher -> folder of its files, e.g.
            :func:`~refeval.training.teacher_catalogue.find_teacher` of a weights folder.
        device: where the models are to be.

    Raises:
        BadInput: as :func:`specs_for` and :func:`load_teacher`.
        MissingPrerequisite: weights that are not there.
        CorruptFile: a file that cannot be read.
    """
    dtype = _DTYPES[settings.precision]
    # All are found before the first is loaded.
    found = [(spec, find_folder(spec.name)) for spec in specs_for(settings)]
    return combine([load_teacher(spec, folder, dtype=dtype, device=device) for spec, folder in found])


def load_teacher(
    spec: TeacherSpec, folder: Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> VisionTeacher:
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
    family = FAMILIES[spec.family]
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise MissingPrerequisite(f"{folder}: no config.json in this folder", cure=fetch_command(spec.name, None))
    model = load_pretrained(
        family.model_class,
        folder,
        name=spec.name,
        wanted_by=spec.name,
        rename=family.own_name,
        dtype=dtype,
        attention=ATTENTION,
    )
    _refuse_others(spec, folder, model.config)
    return VisionTeacher(spec, model.to(device))


_LABELS = {
    "depth": "blocks",
    "special_tokens": "special tokens",
    "merge": "patches merged",
    "merged_width": "width when merged",
}


def _refuse_others(spec: TeacherSpec, folder: Path, config: Any) -> None:
    """The weights fit their own configuration; whether that is the teacher's is another question."""
    others = tuple(
        (_LABELS.get(fact, fact), f"{found} instead of {getattr(spec, fact)}")
        for fact, found in FAMILIES[spec.family].facts(config).items()
        if found != getattr(spec, fact)
    )
    if others:
        raise BadInput(f"{folder}: not the weights of {spec.name}", details=others, cure=fetch_command(spec.name, None))


def tiny_teacher(
    width: int = 32,
    *,
    family: FamilyName = "dinov3",
    patch: int | None = None,
    layer: int = 2,
    final_norm: bool = True,
    seed: int = 0,
) -> VisionTeacher:
    """A teacher of two blocks with random weights, for tests and for training on a CPU.

    Args:
        width: C, a multiple of 8.
        family: its architecture.
        patch: pixels of a side of its patches; None: as in the published models.
        layer: 1 or 2.
        final_norm: as in :class:`~refeval.training.teacher_catalogue.TeacherSpec`.
        seed: of the weights; the global random numbers are left as they are.

    Returns:
        float32, on the CPU.
    """
    if family == "qwen2.5-vl":
        made = qwen2_5_vl("tiny", "", width, 2, width)
    else:
        made = (dinov3 if family == "dinov3" else siglip2)("tiny", "", width, 2)
    spec = replace(made, patch=patch or made.patch, layer=layer, final_norm=final_norm)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = FAMILIES[family].model_class(FAMILIES[family].tiny(spec))
    return VisionTeacher(spec, model)
