"""Trained: the network of a training that this program made, before anybody publishes it.

Networks on Wan2.1 render as RefAlign does (:mod:`refeval.generators.wan.trained`); those of the sprites world draw what
that world draws. No torch is imported before a training is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refeval.cases import Case, ClipSpec
from refeval.clips import Clip
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.base import Generator, RenderJob
from refeval.generators.wan.generator import check_packages
from refeval.keys import file_sha256
from refeval.reference_images import open_reference
from refeval.seeds import case_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refeval.generators.wan.transformer import ReferenceTransformer
    from refeval.training.recipe import Recipe
    from refeval.training.testbed.world import SpritesWorld
    from refeval.training.trained_network import TrainedNetwork

_CURE = "--model trained:FOLDER, where FOLDER is one that refeval train made; then ,step=N or ,average=no"
_SETTING = re.compile(r"[a-z_]+=")
_TRUTHS = {"yes": True, "no": False}
_TEACHER = "teacher.safetensors"


class Trained(Generator):
    """The network of a training: ``trained:FOLDER``, a folder that ``refeval train`` made."""

    version = "1"

    @classmethod
    def from_argument(cls, argument: str | None) -> Generator:
        """Make the generator that fits the training.

        Raises:
            BadInput: no training, no such checkpoint, or a setting that it does not take.
            MissingPrerequisite: packages are missing.
        """
        given = _Argument.parse(argument)
        check_packages("generator 'trained'")
        from refeval.training.trained_network import open_trained

        training = open_trained(given.folder, step=given.step, average=given.average)
        return generator_of(training, given.others)


def generator_of(training: TrainedNetwork, settings: Sequence[str] = ()) -> Generator:
    """The generator that fits a training.

    Args:
        training: whose network is to render.
        settings: of the model, ``key=value``.

    Raises:
        BadInput: a setting that it does not take.
    """
    if training.recipe.network.base == "sprites":
        if settings:
            raise BadInput(f"unknown setting '{settings[0]}'", cure="the sprites world takes step and average")
        return TrainedSprites(training)
    from refeval.generators.wan.trained import TRAINED

    return TRAINED[training.recipe.network.base].of(training, settings)


@dataclass(frozen=True, kw_only=True)
class _Argument:
    """What stands behind ``trained:``.

    Attributes:
        folder: of the training.
        step: of the checkpoint; None: that of the end.
        average: averaged weights, where they are kept.
        others: settings of the model, ``key=value``.
    """

    folder: Path
    step: int | None
    average: bool
    others: tuple[str, ...]

    @classmethod
    def parse(cls, argument: str | None) -> _Argument:
        parts = (argument or "").split(",")
        # A folder may have commas in its name; settings are what looks like one, from the first on.
        first = next((i for i, part in enumerate(parts) if i and _SETTING.match(part)), len(parts))
        folder = ",".join(parts[:first])
        if not folder:
            raise BadInput("generator 'trained' needs a folder", cure=_CURE)
        own: dict[str, str] = {}
        others = []
        for part in parts[first:]:
            name, _, value = part.partition("=")
            if name not in ("step", "average"):
                others.append(part)
            elif name in own:
                raise BadInput(f"setting '{name}' is given twice")
            else:
                own[name] = value
        return cls(folder=Path(folder), step=_step(own), average=_average(own), others=tuple(others))


def _step(given: Mapping[str, str]) -> int | None:
    if "step" not in given:
        return None
    if not given["step"].isdecimal() or int(given["step"]) < 1:
        raise BadInput(f"setting 'step' is '{given['step']}'", cure="give the iteration of a checkpoint")
    return int(given["step"])


def _average(given: Mapping[str, str]) -> bool:
    value = given.get("average", "yes")
    if value not in _TRUTHS:
        raise BadInput(f"setting 'average' is '{value}'", cure="give yes or no")
    return _TRUTHS[value]


class TrainedSprites(Generator):
    """A network of the sprites world: clips of its own size, at once, on the CPU.

    Args:
        training: whose network it is.
    """

    version = "1"

    def __init__(self, training: TrainedNetwork) -> None:
        self._training = training
        self._loaded: tuple[SpritesWorld, ReferenceTransformer] | None = None

    @classmethod
    def from_argument(cls, argument: str | None) -> Generator:
        """As :meth:`Trained.from_argument`."""
        return Trained.from_argument(argument)

    def settings(self) -> dict[str, Any]:
        """Which network it is; how clips are drawn stands in its recipe."""
        return {**self._training.settings(), "references": self._recipe.data.references}

    def weights(self) -> dict[str, str]:
        """Of the checkpoint; of the teacher too, where the network reads its features."""
        return {**self._training.weights(), **self._teacher_sha256}

    def own_clip(self, suite: ClipSpec) -> ClipSpec:
        """The recipe's."""
        data = self._recipe.data
        return ClipSpec(width=data.width, height=data.height, frames=data.frames, fps=Fraction(str(data.fps)))

    def expected(self, wanted: ClipSpec) -> ClipSpec:
        """The recipe's: the network knows no other."""
        return self.own_clip(wanted)

    def check(self) -> None:
        """Look whether the teacher is there, which the world cannot do without.

        Raises:
            BadInput: the network is to be spread over GPUs.
            MissingPrerequisite: the teacher is gone.
        """
        if self.place.gpus_per_clip > 1:
            raise BadInput("networks of the sprites world are not spread over GPUs", cure="leave out --gpus-per-clip")
        if not (self._training.folder / _TEACHER).is_file():
            raise MissingPrerequisite(
                f"{self._training.folder}: {_TEACHER} is gone", cure="train again in a new folder, or bring it back"
            )

    def prepare(self, clip: ClipSpec) -> None:
        """Load the network.

        Raises:
            CorruptFile: its file is not as it was written.
        """
        from refeval.training.parameters import network_of
        from refeval.training.testbed.world import SpritesWorld

        world = SpritesWorld(self._recipe, self._training.folder, self._training.document.seed)
        self._loaded = (world, network_of(world, self._training.tensors()))

    def render(self, job: RenderJob) -> Clip:
        """Draw one clip.

        Raises:
            BadInput: a reference cannot be read.
        """
        from refeval.training.examples import Sample

        assert self._loaded is not None, "prepare() comes first"
        world, network = self._loaded
        data = self._recipe.data
        left_out = [reference.path for reference in job.case.references[data.references :]]
        if left_out:
            job.notes["references_left_out"] = left_out
        shape = (data.frames, data.height, data.width)
        sample = Sample(
            key=job.case.id,
            prompt=job.case.prompt,
            # Only the shapes of these two are looked at.
            frames=np.zeros((*shape, 3), np.uint8),
            emphasis=np.ones(shape, np.float32),
            references=self._pictures(job.case),
            pair="cross",
        )
        [drawn] = world.draw(network, [sample], seed=case_seed(job.seed, job.case.id))
        return Clip.from_frames(drawn.frames, job.clip.fps)

    def close(self) -> None:
        """Let go of the network."""
        self._loaded = None

    @property
    def _recipe(self) -> Recipe:
        return self._training.recipe

    @cached_property
    def _teacher_sha256(self) -> dict[str, str]:
        if self._recipe.references != "dual":
            return {}
        return {_TEACHER: file_sha256(self._training.folder / _TEACHER)}

    def _pictures(self, case: Case) -> tuple[NDArray[np.uint8], ...]:
        """The first references, whole, in the middle of a white canvas of the world's size."""
        from refeval.generators.wan.references import letterbox
        from refeval.training.testbed.scenes import reference_size

        height, width = reference_size(self._recipe)
        files = case.reference_files()[: self._recipe.data.references]
        return tuple(np.asarray(letterbox(open_reference(file, case.id), width, height)) for file in files)
