"""Phantom-Wan: references as the last latent frames, sampled with two guidance scales.

Source: sbalani/Phantom-cog @9a9be62, generate.py and phantom_wan/subject2video.py. Differs: the official noise comes
from the CUDA generator, ours from the CPU's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refeval.cases import ClipSpec, Reference
from refeval.generators.wan.dual import DualGenerator, DualSettings

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from refeval.generators.wan.conditions import DualConditions
    from refeval.generators.wan.schedules import Schedule


class Phantom(DualGenerator):
    """The family; its models are below."""

    crf = 10
    settings_class = DualSettings

    def picture(self, image: Image, reference: Reference, clip: ClipSpec) -> Tensor:
        """Letterboxed on white; nothing is cut out."""
        import torch

        from refeval.generators.wan.references import letterbox, to_pixels

        return to_pixels(letterbox(image, clip.width, clip.height), torch.float32)

    def conditions_class(self) -> type[DualConditions]:
        """``PhantomConditions``."""
        from refeval.generators.wan.conditions import PhantomConditions

        return PhantomConditions

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
