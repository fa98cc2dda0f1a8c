"""GmeScore: how well the frames of a clip fit the prompt, as OpenS2V-Eval measures it.

Source: OpenS2V-Nexus eval/get_gmescore.py and eval/utils/gme/gme_model.py at 210eb08. Differs: the prompt is
embedded once per clip, not once per frame, and padding is on the right whatever the attention. Positions, prompt
layout, both resizes and the float16 sums are upstream's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from refeval.cases import Case
from refeval.clips import Clip, Linspace
from refeval.metrics.base import Score
from refeval.metrics.gme_metric import GmeMetric
from refeval.metrics.networks.gme_weights import GME

if TYPE_CHECKING:
    from refeval.metrics.networks.gme import Gme

SOURCES = (GME,)


class GmeScore(GmeMetric):
    """Mean cosine between the prompt and 32 frames in GME's space of embeddings.

    ``mean_t(text . image_t)`` with L2-normalised embeddings, shapes (D,) and (T, D); products, sums and mean in the
    model's precision, so that the published float16 gives steps of 2^-11 above 0.5.

    Range: -1 to 1; below 1 everything counts in totals as it is. Higher is better. ``strict`` reads the same number.

    Args:
        tiny: small random weights in float32 on the CPU, for tests and a first try: the number means nothing.
        precision: ``float16`` as published, ``bfloat16`` or ``float32``.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``; the same numbers up to rounding.
    """

    id = "gme"
    label = "GmeScore"
    version = "1"
    range = (-1.0, 1.0)
    frames = Linspace(32)
    libraries = ("numpy", "pillow", "tokenizers", "torch", "transformers")
    sources = SOURCES
    _gme: Gme | None = None

    def settings(self) -> dict[str, Any]:
        """How GME is run, and how many frames it sees."""
        return super().settings() | {"frames": self.frames.number}

    def prepare(self) -> None:
        """Load GME, or take the one that another metric loaded.

        Raises:
            MissingPrerequisite: weights, packages or a GPU that is asked for are missing.
            BadInput: other weights, or an unknown precision or attention.
        """
        self._gme = self.load_gme()

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: its prompt is used.
            clip: uint8 RGB, shape (T, H, W, 3); a clip of fewer than 32 frames counts some more than once.
        """
        assert self._gme, "prepare() comes first"
        text_1d = self._gme.embed_texts([case.prompt])
        images_td = self._gme.embed_images([Image.fromarray(frame) for frame in clip.take(self.frames)])
        fits_t = (text_1d * images_td).sum(dim=1)
        value = fits_t.mean().item()
        return Score(
            value=value, strict_value=value, frames_used=len(fits_t), details={"cosine_per_frame": fits_t.tolist()}
        )
