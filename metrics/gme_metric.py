"""What the metrics that embed with GME have in common: how it may be run, and that they share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refeval.errors import MissingPrerequisite
from refeval.metrics.base import MemoryNeed, Metric
from refeval.metrics.networks.gme_weights import ATTENTIONS, BATCH, PRECISIONS

if TYPE_CHECKING:
    from refeval.metrics.networks.gme import Gme


class GmeMetric(Metric):
    """A metric that embeds with GME. Those of one process that are set up alike share one model.

    Args:
        tiny: small random weights in float32 on the CPU, for tests and a first try: the number means nothing.
        precision: of GME: ``float16`` as published, ``bfloat16`` or ``float32``.
        attention: of GME: ``sdpa``, ``eager`` or ``flash_attention_2``; the same numbers up to rounding.
    """

    def __init__(self, *, tiny: bool = False, precision: str = PRECISIONS[0], attention: str = ATTENTIONS[0]) -> None:
        self.tiny = tiny
        self.precision = precision
        self.attention = attention

    def settings(self) -> dict[str, Any]:
        """Precision, attention, and how many frames or crops GME embeds at once."""
        settings = {
            "precision": "float32" if self.tiny else self.precision,
            "attention": self.attention,
            "batch": BATCH,
        }
        return settings | ({"weights": "random"} if self.tiny else {})

    def weights(self) -> dict[str, str]:
        """sha256 of every file of its sources.

        Raises:
            MissingPrerequisite: not all of them are there.
        """
        if self.tiny:
            return {}
        return self.store.sha256([file for source in self.sources for file in self.store.find(source, self.id)])

    def memory(self) -> MemoryNeed:
        """Of its detector, if it has one, and of GME: 7.75 billion numbers; 32 pictures of at most 1280 tokens."""
        if self.tiny:
            return MemoryNeed()
        size = 2 if self.precision == "float32" else 1
        # Under a name of its own where it is set up otherwise: such models are not shared.
        gme = {f"gme {self.precision} {self.attention}": 15.5 * size}
        return MemoryNeed(models={**self.needs.models, **gme}, work=5.0 * size)

    def load_gme(self) -> Gme:
        """GME, or the one that another metric loaded.

        Raises:
            MissingPrerequisite: weights, packages or a GPU that is asked for are missing.
            BadInput: other weights, or an unknown precision, attention or device.
            CorruptFile: a file that cannot be read.
        """
        try:
            from refeval.metrics.networks.gme import load_gme
        except ImportError as error:
            raise MissingPrerequisite(
                f"metric '{self.id}' needs a package that is not installed: {error.name}",
                cure="pip install 'refeval[score]'",
            ) from error
        return load_gme(self.place, tiny=self.tiny, precision=self.precision, attention=self.attention)
