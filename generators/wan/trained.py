"""RefAlign with the transformer of a training in place of the published one; everything else is RefAlign's.

A network that reads a teacher's features beside the latents gets them of the pictures that its VAE encodes. What is
not supported: spreading such a network over GPUs, whose other processes would load the published weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from refeval.cases import ClipSpec, Reference
from refeval.errors import BadInput
from refeval.generators.refalign import RefAlign, RefAlign1B, RefAlign14B, RefAlignTiny
from refeval.generators.wan.catalogue import BASES
from refeval.generators.wan.conditions import DualConditions
from refeval.generators.wan.engine import Engine, Parts
from refeval.generators.wan.parts import as_loaded, parts_of
from refeval.generators.wan.references import frames_to_pixels, to_pixels
from refeval.training.dual import FeatureForward
from refeval.training.parameters import network_from
from refeval.training.teacher_catalogue import TEACHERS
from refeval.training.teachers import Teacher
from refeval.training.trained_network import TrainedNetwork
from refeval.training.wan_world import teacher_of
from refeval.weights import Source

if TYPE_CHECKING:
    from PIL.Image import Image


class TrainedRefAlign(RefAlign):
    """The family; a class for each base is below.

    Attributes:
        training: whose transformer it is; set right after it is made.
    """

    training: TrainedNetwork

    @classmethod
    def of(cls, training: TrainedNetwork, settings: Sequence[str]) -> Self:
        """Make it.

        Args:
            training: whose transformer it is.
            settings: RefAlign's, ``key=value``; the shift is that of the training unless one is given.

        Raises:
            BadInput: as :meth:`WanSettings.parse`.
        """
        shift = f"shift={training.recipe.objective.flow.shift}"
        given = any(setting.startswith("shift=") for setting in settings)
        made = cls.from_argument(",".join(settings if given else [*settings, shift]))
        made.training = training
        return made

    @property
    def dual(self) -> bool:
        """Whether the network reads features of a teacher beside the latents."""
        return self.training.recipe.references == "dual"

    def settings(self) -> dict[str, Any]:
        """RefAlign's, and which network it is."""
        described = super().settings()
        if self.spec.tiny:
            described["weights"] = "random, but for the transformer"
        return {**described, **self.training.settings()}

    def weights(self) -> dict[str, str]:
        """Of all that is loaded, the checkpoint among them."""
        return {**super().weights(), **self.training.weights()}

    def sources(self) -> list[tuple[Source, str]]:
        """Text encoder and VAE of the base, and the teachers where their features are read."""
        base = BASES[self.training.recipe.network.base]
        if base.base is None:
            return []
        teachers = self.training.recipe.teacher.names if self.dual else ()
        return [(base.base, base.name), *((TEACHERS[name].source, name) for name in teachers)]

    def own_clip(self, suite: ClipSpec) -> ClipSpec:
        """Size and length that it was trained on, at the rate that the model renders as published."""
        data = self.training.recipe.data
        fps = super().own_clip(suite).fps
        return ClipSpec(width=data.width, height=data.height, frames=data.frames, fps=fps)

    def check(self) -> None:
        """As RefAlign.

        Raises:
            BadInput: it is to be spread over GPUs.
        """
        if self.place.gpus_per_clip > 1:
            raise BadInput(
                "a network of a training is not spread over GPUs",
                cure="leave out --gpus-per-clip: --gpus N renders N clips at once",
            )
        super().check()

    def parts(self) -> Parts:
        """Those of the base, with the transformer of the checkpoint.

        It is read now: making an empty model patches torch, which the threads of the engine must not see.
        """
        transformer = partial(as_loaded, network_from(self.training.tensors(), self.spec.architecture.config()))
        return dataclasses.replace(parts_of(self.spec, self.store), transformer=transformer)

    def prepare(self, clip: ClipSpec) -> None:
        """Load the model, and the teacher where its features are read."""
        super().prepare(clip)
        if self.dual and self._engine is not None:
            base = BASES[self.training.recipe.network.base]
            self._teacher: Teacher = teacher_of(self.training.recipe, base, self.store, self._engine.device)

    def picture(self, image: Image, reference: Reference, clip: ClipSpec) -> Tensor:
        """As RefAlign's; exact where a teacher is to see the picture too, and rounded for the VAE later."""
        if not self.dual:
            return super().picture(image, reference, clip)
        return to_pixels(self.cut_out(image, reference, clip), torch.float32)

    def conditions(
        self, engine: Engine, prompt: Tensor, negative: Tensor, references: Sequence[Tensor], clip: ClipSpec
    ) -> DualConditions:
        """RefAlign's, or those of a network that takes features with every forward."""
        if not self.dual:
            return super().conditions(engine, prompt, negative, references, clip)
        levels = [((pixels + 1) * 127.5).round().to(torch.uint8) for pixels in references]
        features = self._teacher.features(torch.cat([one[:, :, 0] for one in levels]))
        pixels = [frames_to_pixels(one[0].permute(1, 2, 3, 0), self.vae_dtype)[None] for one in levels]
        return self.conditions_class()(
            FeatureForward(engine.forward, features[None]),
            prompt=prompt,
            negative=negative,
            references=torch.cat([engine.encode(one) for one in pixels], dim=2),
            image=self.options.guidance,
            text=self.options.guidance_text,
        )

    def close(self) -> None:
        """Free the model and the teacher."""
        super().close()
        self.__dict__.pop("_teacher", None)


class Trained1B(TrainedRefAlign, RefAlign1B):
    """From Wan2.1-T2V-1.3B."""


class Trained14B(TrainedRefAlign, RefAlign14B):
    """From Wan2.1-T2V-14B."""


class TrainedTiny(TrainedRefAlign, RefAlignTiny):
    """From small random weights."""


TRAINED: dict[str, type[TrainedRefAlign]] = {
    "wan2.1-t2v-1.3b": Trained1B,
    "wan2.1-t2v-14b": Trained14B,
    "wan-tiny": TrainedTiny,
}
"""By ``network.base`` of the recipe."""
