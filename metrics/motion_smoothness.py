"""MotionSmoothness: how rarely the quality of a clip jumps from frame to frame, as OpenS2V-Eval measures it.

Source: OpenS2V-Nexus eval/get_motion_smoothness.py at 210eb08 with Q-Align (q-future/one-align). Differs: needs no
old fork of transformers; every frame goes through the vision tower once instead of three times, and the clip is
decoded once, in order; a clip without frames is a failed case instead of the end of the script.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from refeval.cases import Case
from refeval.clips import AllFrames, Clip
from refeval.devices import pick_device
from refeval.errors import MissingPrerequisite, UnusableClip
from refeval.metrics.base import MemoryNeed, Metric, Score
from refeval.weights import Source

if TYPE_CHECKING:
    from refeval.metrics.networks.qalign_scorer import WindowScorer

# Both kinds of shards: whichever the repository holds.
SOURCE = Source(
    repository="q-future/one-align", patterns=("*model-*-of-*", "*.index.json", "config.json", "tokenizer.model")
)
SOURCES = (SOURCE,)
WINDOW = 3
THRESHOLD = 0.025
_PACKAGES = ("torch", "safetensors", "sentencepiece")


class MotionSmoothness(Metric):
    """One minus the share of frames beside a jump of quality.

    ``1 - |{i, i + 1 : |q[i + 1] - q[i]| > 0.025}| / T`` with q, shape (T,), the quality from 0 to 1 that Q-Align
    expects of the three frames around each. The first window holds the first frame three times, the last one
    ``T - 2, T - 2, T - 1``. A jump is between frames, so a lower rate makes the same motion less smooth.

    Range: 0 to 1. Higher is better.

    Short clips: one frame cannot jump and scores 1; of two frames, both windows are filled up with repeats.
    ``strict`` reads the same number, for these clips too.

    Args:
        tiny: a small network with random weights, for tests and a first try on a CPU; the number means nothing.
    """

    id = "motion_smoothness"
    label = "MotionSmoothness"
    version = "1"
    range = (0.0, 1.0)
    frames = AllFrames()
    libraries = ("numpy", "pillow", "torch", "sentencepiece")
    sources = SOURCES
    # 8.2 billion numbers in float16; 64 windows of about 230 tokens at once.
    needs = MemoryNeed(models={"q-align": 16.5}, work=2.0)

    def __init__(self, *, tiny: bool = False) -> None:
        self.tiny = tiny
        self._scorer: WindowScorer | None = None

    def settings(self) -> dict[str, Any]:
        """Precision, window and threshold; the official ones, except that random weights are in fp32."""
        measured = {"precision": "fp32" if self.tiny else "fp16", "window": WINDOW, "threshold": THRESHOLD}
        return measured | ({"weights": "random"} if self.tiny else {})

    def weights(self) -> dict[str, str]:
        """sha256 of every file of Q-Align.

        Raises:
            MissingPrerequisite: files are missing.
        """
        return {} if self.tiny else self.store.sha256(self.store.find(SOURCE, self.id))

    def prepare(self) -> None:
        """Load Q-Align: 16.4 GB in fp16.

        Raises:
            MissingPrerequisite: packages, weights or a GPU are missing.
            BadInput: the weights are others, or there is no such device.
            CorruptFile: a file cannot be read.
        """
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            what = f"metric '{self.id}' needs {', '.join(missing)}"
            raise MissingPrerequisite(what, cure="pip install 'refeval[score]' (docs/install.md: torch comes first)")
        self._scorer = self._tiny_scorer() if self.tiny else self._published_scorer()

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: not used.
            clip: uint8 RGB, shape (T, H, W, 3), T >= 1.

        Raises:
            UnusableClip: no frames, or the network gives no number for a window (officially no jump).
        """
        if self._scorer is None:
            self.prepare()
        assert self._scorer is not None, "prepare sets it"
        seen = self._scorer.see(clip)
        if not seen:
            raise UnusableClip("the clip has no frames")
        scores = self._scorer.scores(seen, window_indices(len(seen)))
        unknown = sum(map(math.isnan, scores))
        if unknown:
            raise UnusableClip(f"the network gives no number for {unknown} of {len(scores)} windows")
        artefacts = artefact_frames(scores)
        value = smoothness(artefacts, len(scores))
        return Score(
            value=value,
            strict_value=value,
            frames_used=len(scores),
            details={"window_scores": scores, "artefact_frames": artefacts},
        )

    def _tiny_scorer(self) -> WindowScorer:
        from refeval.metrics.networks.qalign import TINY_QUESTION, tiny_qalign
        from refeval.metrics.networks.qalign_scorer import WindowScorer

        return WindowScorer(tiny_qalign(), TINY_QUESTION)

    def _published_scorer(self) -> WindowScorer:
        import torch

        from refeval.metrics.networks.qalign import load_qalign
        from refeval.metrics.networks.qalign_input import read_question
        from refeval.metrics.networks.qalign_scorer import WindowScorer

        self.store.find(SOURCE, self.id)
        device = pick_device(self.place.device, self.id, on_cpu="hours for one clip")
        question = read_question(self.store.folder_of(SOURCE) / "tokenizer.model")
        checkpoint = self.store.checkpoint(SOURCE, self.id)
        return WindowScorer(load_qalign(checkpoint, dtype=torch.float16, device=device), question)


def window_indices(count: int, width: int = WINDOW) -> list[list[int]]:
    """The frames around each frame, as the official code takes them.

    A window that would begin before the clip is the first frame alone, repeated. One that ends behind it is filled up
    at its other end, unless it begins with the first frame: then with its last.

    Args:
        count: frames of the clip.
        width: frames of a window.
    """
    return [_window(i - (width - 1) // 2, count, width) for i in range(count)]


def _window(start: int, count: int, width: int) -> list[int]:
    if start < 0:
        return [0] * width
    inside = list(range(start, min(start + width, count)))
    lacking = width - len(inside)
    return inside + [inside[-1]] * lacking if start == 0 else [inside[0]] * lacking + inside


def artefact_frames(scores: Sequence[float], threshold: float = THRESHOLD) -> list[int]:
    """Both frames of every pair whose scores differ by more than the threshold, each once, in order."""
    jumps = [i for i, (before, after) in enumerate(pairwise(scores)) if abs(after - before) > threshold]
    return sorted({frame for i in jumps for frame in (i, i + 1)})


def smoothness(artefacts: Sequence[int], count: int) -> float:
    """The share of ``count`` frames that are not artefacts, ``count >= 1``."""
    return 1 - len(artefacts) / count
