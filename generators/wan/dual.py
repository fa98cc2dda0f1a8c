"""What RefAlign and Phantom share: one scale of guidance for the references, one for the prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refeval.cases import ClipSpec
from refeval.generators.wan.generator import WanGenerator
from refeval.generators.wan.settings import WanSettings

if TYPE_CHECKING:
    from torch import Tensor

    from refeval.generators.wan.conditions import DualConditions
    from refeval.generators.wan.engine import Engine


@dataclass(frozen=True, kw_only=True)
class DualSettings(WanSettings):
    """Two scales: ``guidance`` is that of the references.

    Attributes:
        guidance_text: scale of the prompt.
    """

    guidance_text: float = 7.5


class DualGenerator(WanGenerator):
    """Both families; each reference is encoded alone, as a video of one frame."""

    @abstractmethod
    def conditions_class(self) -> type[DualConditions]:
        """How references enter the transformer."""

    def conditions(
        self, engine: Engine, prompt: Tensor, negative: Tensor, references: Sequence[Tensor], clip: ClipSpec
    ) -> DualConditions:
        """As :meth:`WanGenerator.conditions`."""
        import torch

        return self.conditions_class()(
            engine.forward,
            prompt=prompt,
            negative=negative,
            references=torch.cat([engine.encode(pixels) for pixels in references], dim=2),
            image=self.options.guidance,
            text=self.options.guidance_text,
        )
