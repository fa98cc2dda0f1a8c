"""Phantom-Wan: references as the last latent frames, sampled with two guidance scales.

Source: sbalani/Phantom-cog @9a9be62, generate.py and phantom_wan/subject2video.py. Differs: the official noise comes
from the CUDA generator, ours from the CPU's.
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
class PhantomSettings(WanSettings):
    """The published defaults.

    Attributes:
        guidance_text: scale of the prompt.
    """

    guidance_text: float = 7.5


class Phantom(WanGenerator):
    """The family; its models are below."""

    crf = 10
    settings_class = PhantomSettings

    def picture(self, image: Image, reference: Reference, clip: ClipSpec) -> Tensor:
        """Letterboxed on white; nothing is cut out."""
        import torch

        from refeval.generators.wan.references import letterbox, to_pixels

        return to_pixels(letterbox(image, clip.width, clip.height), torch.float32)

    def conditions(
        self, engine: Engine, prompt: Tensor, negative: Tensor, references: Sequence[Tensor], clip: ClipSpec
    ) -> Conditions:
        """Each reference is encoded alone, as a video of one frame."""
        import torch

        from refeval.generators.wan.conditions import PhantomConditions

        return PhantomConditions(
            engine.forward,
            prompt=prompt,
            negative=negative,
            references=torch.cat([engine.encode(pixels) for pixels in references], dim=2),
            image=self.options.guidance,
            text=self.options.guidance_text,
        )

    def schedule(self) -> Schedule:
        """UniPC."""
        from refeval.generators.wan.schedules import UniPC

        return UniPC(self.options.steps, self.options.shift)


class Phantom1B(Phantom):
    """Phantom-Wan 1.3B."""

    model = "phantom-1.3b"


class Phantom14B(Phantom):
    """Phantom-Wan 14B: 121 frames at 24 per second, as its README publishes it."""

    model = "phantom-14b"


class PhantomTiny(Phantom):
    """Phantom's procedure with small random weights, for tests on a CPU."""

    model = "phantom-tiny"
