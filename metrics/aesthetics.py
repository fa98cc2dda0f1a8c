"""Aesthetics: how beautiful frames look, as OpenS2V-Eval measures it.

Source: OpenS2V-Nexus eval/get_aesscore.py at 210eb08. Differs: pixels always come from the image processor that
works with PIL, so that they do not depend on whether torchvision is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from refeval.cases import Case
from refeval.clips import Clip, Linspace
from refeval.digests import compute_sha256, known_sha256
from refeval.errors import MissingPrerequisite
from refeval.metrics.base import MemoryNeed, Metric, Score
from refeval.weights import Source

if TYPE_CHECKING:
    from refeval.metrics.networks.aesthetic_raters import Rater

CLIP = Source(repository="openai/clip-vit-large-patch14", patterns=("model.safetensors", "config.json"))
HEAD = Source(repository="BestWishYsh/OpenS2V-Weight", patterns=("aesthetic-model.pth",))
SOURCES = (CLIP, HEAD)


@dataclass(frozen=True, kw_only=True)
class OtherHead:
    """Another aesthetic head of LAION, on the CLIP that it was trained with, through open_clip.

    Attributes:
        model: open_clip's name of the CLIP, e.g. ``ViT-B-32-quickgelu``.
        clip: file with its weights, under the names of open_clip or of transformers.
        head: file with the head: one linear layer, or five.
    """

    model: str
    clip: Path
    head: Path


class Aesthetics(Metric):
    """Mean rating of 32 frames by a linear head on CLIP ViT-L/14.

    ``mean_t(head(e_t / |e_t|))`` with image embeddings of shape (T, 768), all in float32.

    Range: 1 to 10, the scale of the ratings that the head was trained on; 4 to 7 counts in totals. Higher is
    better. ``strict`` reads the same number.

    Args:
        tiny: small random weights on the CPU, for tests and a first try: the number means nothing.
        other: another head instead of the published one; its numbers cannot be compared with the leaderboard.
    """

    id = "aesthetics"
    label = "Aesthetics"
    version = "1"
    range = (1.0, 10.0)
    frames = Linspace(32)
    libraries = ("numpy", "pillow", "torch", "transformers")
    sources = SOURCES
    # 304 million numbers of the image tower in float32; 32 pictures at once.
    needs = MemoryNeed(models={"clip-vit-l-14": 1.3}, work=0.7)

    def __init__(self, *, tiny: bool = False, other: OtherHead | None = None) -> None:
        self.tiny = tiny
        self.other = other
        self._rater: Rater | None = None

    def settings(self) -> dict[str, Any]:
        """Precision, attention, frames, and the CLIP that embeds them."""
        settings = {"precision": "float32", "attention": "sdpa", "frames": self.frames.number}
        if self.tiny:
            return settings | {"weights": "random"}
        return settings | {"clip": f"open_clip {self.other.model}" if self.other else CLIP.repository}

    def weights(self) -> dict[str, str]:
        """sha256 of every file of CLIP and of the head.

        Raises:
            MissingPrerequisite: not all of them are there.
        """
        if self.tiny:
            return {}
        if self.other:
            return {"clip": _sha256(self.other.clip), "head": _sha256(self.other.head)}
        return self.store.sha256([file for source in SOURCES for file in self.store.find(source, self.id)])

    def check(self) -> None:
        """As for every metric; CLIP and head of the user's own are read, to be told apart."""
        if self.other:
            self.weights()
        else:
            super().check()

    def prepare(self) -> None:
        """Load CLIP and the head.

        Raises:
            MissingPrerequisite: weights or packages are missing.
            BadInput: other weights.
        """
        try:
            from refeval.metrics.networks import aesthetic_raters as raters
        except ImportError as error:
            raise MissingPrerequisite(
                f"metric '{self.id}' needs a package that is not installed: {error.name}",
                cure="pip install 'refeval[score]'",
            ) from error
        if self.tiny:
            self._rater = raters.tiny_rater()
        elif self.other:
            self._rater = raters.open_clip_rater(self.other.model, self.other.clip, self.other.head, self.place.device)
        else:
            for source in SOURCES:
                self.store.find(source, self.id)
            clip, head = (self.store.checkpoint(source, self.id) for source in SOURCES)
            self._rater = raters.published_rater(clip, head, self.place.device)

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: not used.
            clip: uint8 RGB, shape (T, H, W, 3); a clip of fewer than 32 frames counts some more than once.
        """
        assert self._rater, "prepare() comes first"
        ratings_t = self._rater.rate([Image.fromarray(frame) for frame in clip.take(self.frames)])
        value = ratings_t.mean().item()
        return Score(
            value=value,
            strict_value=value,
            frames_used=len(ratings_t),
            details={"rating_per_frame": ratings_t.tolist()},
        )


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise MissingPrerequisite(f"no weights at {file}", cure="give the path of the file")
    return known_sha256(file) or compute_sha256(file)
