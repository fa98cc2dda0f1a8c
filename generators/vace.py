"""VACE: references as the leading frames of a context that a second branch of blocks reads, with plain guidance.

Source: VACE @48eb44f, vace/vace_wan_inference.py and vace/models/wan/wan_vace.py: shift 16 is the command line's
default (the class's own is 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refeval.cases import ClipSpec, Reference
from refeval.generators.wan.generator import WanGenerator
from refeval.generators.wan.settings import WanSettings

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from refeval.generators.wan.engine import Engine
    from refeval.generators.wan.sampling import Conditions
    from refeval.generators.wan.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class VaceSettings(WanSettings):
    """The published defaults.

    Attributes:
        context_scale: weight of the hints.
    """

    shift: float = 16.0
    context_scale: float = 1.0


class Vace(WanGenerator):
    """The family; its models are below."""

    crf = 10
    settings_class = VaceSettings

    def __init__(self, options: WanSettings) -> None:
        super().__init__(options)
        self._grey: dict[tuple[int, int, int], Tensor] = {}

    def picture(self, image: Image, reference: Reference, clip: ClipSpec) -> Tensor:
        """Letterboxed on white, on values; nothing is cut out."""
        from refeval.generators.wan.references import letterbox_tensor

        return letterbox_tensor(image, clip.width, clip.height).unsqueeze(1)

    def conditions(
        self, engine: Engine, prompt: Tensor, negative: Tensor, references: Sequence[Tensor], clip: ClipSpec
    ) -> Conditions:
        """References alone: the video is mid-grey and all of it is to be made."""
        import torch

        from refeval.generators.wan.conditions import VaceConditions, vace_context

        size = (clip.frames, clip.height, clip.width)

        def encode(pixels: Tensor) -> Tensor:
            if pixels.shape[2] == 1:
                return engine.encode(pixels)
            # The same mid-grey video for every clip of a size.
            if size not in self._grey:
                self._grey = {size: engine.encode(pixels)}
            return self._grey[size]

        context = vace_context(encode, references, torch.zeros(1, 3, *size), torch.ones(1, 1, *size))
        return VaceConditions(
            engine.forward,
            prompt=prompt,
            negative=negative,
            context=context,
            references=len(references),
            scale=self.options.guidance,
            context_scale=self.options.context_scale,
            hints=len(self.spec.architecture.vace_layers),
        )

    def schedule(self) -> Schedule:
        """UniPC."""
        from refeval.generators.wan.schedules import UniPC

        return UniPC(self.options.steps, self.options.shift)


class Vace1B(Vace):
    """Wan2.1-VACE-1.3B."""

    model = "vace-1.3b"


class Vace1BPreview(Vace):
    """VACE-Wan2.1-1.3B-Preview."""

    model = "vace-1.3b-preview"


class Vace14B(Vace):
    """Wan2.1-VACE-14B."""

    model = "vace-14b"


class VaceTiny(Vace):
    """VACE's procedure with small random weights, for tests on a CPU."""

    model = "vace-tiny"
