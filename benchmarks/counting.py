"""Counts what a procedure does, where it does it: in the decoder, in the networks and in OpenCV.

Nothing is told by the procedures themselves: forward hooks on every module, and wrappers around the few functions
through which files are opened and pictures are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, NamedTuple

import av
import cv2
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import CLIPVisionModelWithProjection

from benchmarks.official_metrics import Vocabulary
from refeval.metrics.faces_sprites import SpriteFaceDetector
from refeval.metrics.networks import qalign_input
from refeval.metrics.networks.curricularface import CurricularFace
from refeval.metrics.networks.gme import Gme, load_gme
from refeval.metrics.networks.qalign import QAlign, tiny_qalign
from refeval.metrics.networks.qalign_vision import VisionTower
from refeval.metrics.networks.yolo_world import Backbone, Neck, PromptAdapter
from refeval.place import Place

_SHARED = "all"


class Forward(NamedTuple):
    """One forward of a module: arguments by position and by name, and what came out."""

    args: tuple[Any, ...]
    named: Mapping[str, Any]
    output: Any


# How much of which parts a forward is.
_Rule = Callable[[Forward], Mapping[str, int]]


class Counts:
    """How much was done, by metric and part.

    Attributes:
        done: by (metric, part); what is not one metric's own, the decoding, is under ``all``.
    """

    def __init__(self) -> None:
        self.done: Counter[tuple[str, str]] = Counter()
        self._metric = _SHARED
        self._lock = Lock()

    @contextmanager
    def during(self, metric: str) -> Iterator[None]:
        """What is done in here, in whatever thread, is done for a metric."""
        before, self._metric = self._metric, metric
        try:
            yield
        finally:
            self._metric = before

    def add(self, part: str, number: int = 1, *, shared: bool = False) -> None:
        """Count."""
        with self._lock:
            self.done[_SHARED if shared else self._metric, part] += number

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count everything that is done in here."""
        rules = _rules()

        def hook(module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
            rule = rules.get(type(module))
            for part, number in (rule(Forward(args, named, output)) if rule else {}).items():
                self.add(part, number)

        with ExitStack() as stack:
            stack.callback(register_module_forward_hook(hook, with_kwargs=True).remove)
            for owner, name, wrapper in self._wrappers():
                stack.enter_context(_wrapped(owner, name, wrapper))
            yield

    def _wrappers(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        def counted(part: str, number: Callable[..., int] = lambda *_: 1) -> Callable[..., Any]:
            def wrapper(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **named: Any) -> Any:
                    self.add(part, number(*args))
                    return real(*args, **named)

                return call

            return wrapper

        return [
            (av, "open", lambda real: lambda *args, **named: _Watched(real(*args, **named), self)),
            (Image, "open", counted("reference files opened")),
            (cv2, "calcOpticalFlowFarneback", counted("Farneback flows")),
            (cv2, "calcOpticalFlowPyrLK", counted("Lucas-Kanade steps")),
            (cv2, "imencode", counted("pictures resized, JPEG")),
            (qalign_input, "expand_to_square", counted("frames squared, resized")),
            (SpriteFaceDetector, "detect", counted("face detector, pictures", lambda _, pictures: len(pictures))),
            (Gme, "embed_texts", counted("GME, texts", lambda _, texts: len(texts))),
        ]


def _rules() -> dict[type, _Rule]:
    """What a forward of a module counts as; the inner modules of GME and Q-Align are known by a small one."""
    gme, qalign = load_gme(Place(), tiny=True).model, tiny_qalign()

    def images(forward: Forward) -> dict[str, int]:
        number, patches = len(forward.named["grid_thw"]), len(forward.args[0])
        return {"GME vision tower, images": number, "GME vision tower, patches": patches}

    def sequences(forward: Forward) -> dict[str, int]:
        number, length = forward.named["inputs_embeds"].shape[:2]
        return {"GME language model, sequences": number, "GME language model, positions": number * length}

    def pairs(forward: Forward) -> dict[str, int]:
        return {"detector neck and head, frames x prompts": len(forward.output[0]) * len(forward.args[1])}

    return {
        CLIPVisionModelWithProjection: lambda forward: {"CLIP, images": len(forward.output.image_embeds)},
        VisionTower: lambda forward: {"vision tower, images": len(forward.output)},
        type(qalign.model): lambda forward: {"language model, windows": len(forward.output)},
        # The one or the other: ours never calls the layer that has the whole vocabulary.
        Vocabulary: lambda forward: {"logits": forward.output.numel()},
        QAlign: lambda forward: {"logits": forward.output.numel()},
        CurricularFace: lambda forward: {"face network, faces": len(forward.output)},
        type(gme.visual): images,
        type(gme.language_model): sequences,
        Backbone: lambda forward: {"detector backbone, frames": len(forward.output[0])},
        Neck: pairs,
        PromptAdapter: lambda forward: {"prompts made of references": len(forward.output)},
    }


@contextmanager
def _wrapped(owner: Any, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    real = getattr(owner, name)
    setattr(owner, name, wrapper(real))
    try:
        yield
    finally:
        setattr(owner, name, real)


class _Watched:
    """A container of PyAV, a packet or a frame, of which decoding, seeking and conversion are counted."""

    def __init__(self, real: Any, counts: Counts) -> None:
        self._real = real
        self._counts = counts
        self._decoding = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> _Watched:
        self._real.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._real.__exit__(*raised)

    def demux(self, stream: Any) -> Iterator[_Watched]:
        for packet in self._real.demux(stream):
            yield _WatchedPacket(packet, self._counts, self)

    def seek(self, *args: Any, **named: Any) -> None:
        self._counts.add("seeks", shared=True)
        self._real.seek(*args, **named)

    def begin_decoding(self) -> None:
        if not self._decoding:
            self._decoding = True
            self._counts.add("passes of decoding", shared=True)


class _WatchedPacket(_Watched):
    def __init__(self, real: Any, counts: Counts, container: _Watched) -> None:
        super().__init__(real, counts)
        self._container = container

    def decode(self) -> list[_Watched]:
        self._container.begin_decoding()
        frames = self._real.decode()
        self._counts.add("frames decoded", len(frames), shared=True)
        return [_WatchedFrame(frame, self._counts) for frame in frames]


class _WatchedFrame(_Watched):
    def to_ndarray(self, **named: Any) -> Any:
        picture = self._real.to_ndarray(**named)
        self._counts.add("bytes of RGB pictures", picture.nbytes, shared=True)
        return picture
