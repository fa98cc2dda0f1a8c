"""Q-Align over a clip: every frame is seen once, and every window of frames is judged from what was seen.

Source: OpenS2V-Nexus eval/get_motion_smoothness.py at 210eb08. Differs: the official code prepares all windows first
and sends the frames of each through the vision tower, so that every frame goes through it three times.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refeval.metrics.networks.qalign import QAlign, expected_levels
from refeval.metrics.networks.qalign_input import Question, pixels_of

Frame = NDArray[np.uint8]
_IMAGES_AT_ONCE = 16
# The official batch: another one gives other last bits in float16.
_WINDOWS_AT_ONCE = 64
_THREADS = 8


class WindowScorer:
    """Looks at frames, and judges windows of them.

    Args:
        network: loaded; its device and dtype are used.
        question: in the network's tokens.
    """

    def __init__(self, network: QAlign, question: Question) -> None:
        self.network = network
        self.question = question

    @torch.inference_mode()
    def see(self, frames: Iterable[Frame]) -> list[Tensor]:
        """Look at every frame once.

        A few frames are in memory at a time; what was seen of one takes 0.5 MB in float16.

        Args:
            frames: uint8 RGB, each (H, W, 3).

        Returns:
            Per frame, the visual tokens: shape (queries + 1, width of the language model).
        """
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as pool:
            prepare = partial(pixels_of, side=self.network.config.vision.image)
            seen = [self._see(list(pool.map(prepare, some))) for some in _portions(frames)]
        return [tokens for some in seen for tokens in some]

    @torch.inference_mode()
    def logits(self, seen: Sequence[Tensor], windows: Sequence[Sequence[int]]) -> Tensor:
        """The logits of the levels, in the network's dtype, shape (windows, levels).

        Args:
            seen: of :meth:`see`.
            windows: frame indices of every window, at least one window.
        """
        starts = range(0, len(windows), _WINDOWS_AT_ONCE)
        return torch.cat([self._judge(seen, windows[start : start + _WINDOWS_AT_ONCE]) for start in starts])

    def scores(self, seen: Sequence[Tensor], windows: Sequence[Sequence[int]]) -> list[float]:
        """The expected quality of every window, 0 (bad) to 1 (excellent); arguments as :meth:`logits`."""
        return expected_levels(self.logits(seen, windows))

    def _see(self, pixels: list[NDArray[np.float32]]) -> Tensor:
        weight = self.network.lm_head.weight
        return self.network.see(torch.from_numpy(np.stack(pixels)).to(weight.device, weight.dtype))

    def _judge(self, seen: Sequence[Tensor], windows: Sequence[Sequence[int]]) -> Tensor:
        visual_bvc = torch.stack([torch.cat([seen[i] for i in window]) for window in windows])
        logits_bk: Tensor = self.network(self.question, visual_bvc)
        return logits_bk


def _portions(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while some := list(islice(remaining, _IMAGES_AT_ONCE)):
        yield some
