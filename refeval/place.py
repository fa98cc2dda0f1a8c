"""Where and by what means generators and metrics work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and by what means clips are made and scored; never what comes out. Only the parallel layout is hashed.

    Attributes:
        weights: folder that ``refeval fetch model`` and ``fetch metrics`` fill, if known.
        device: ``auto`` (the GPU, where a model needs one), ``cpu`` or ``cuda``.
        memory: a preset of the generator (:mod:`refeval.generators.wan.memory`), or ``auto``.
        gpus_per_clip: over how many GPUs one clip's model is spread.
        processes: of this command that work side by side.
    """

    weights: Path | None = None
    device: str = "auto"
    memory: str = "auto"
    gpus_per_clip: int = 1
    processes: int = 1

    @property
    def layout(self) -> str:
        """The parallel layout, as a task key holds it."""
        return "single" if self.gpus_per_clip == 1 else f"context-{self.gpus_per_clip}"
