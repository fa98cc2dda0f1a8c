"""RefAlign: references as tokens beside the video, cut out on white, sampled with two guidance scales.

Source: RefAlign @6f91526, examples/wanvideo/model_inference and diffsynth/pipelines/wan_video_new6.py. Differs: the
demos decode in tiles (setting ``tiling``), and their seeds are 0 and 42 while ours comes from (run, case).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from refeval.cases import Case, ClipSpec, Reference
from refeval.errors import BadInput
from refeval.generators.wan.catalogue import MATTING
from refeval.generators.wan.dual import DualGenerator, DualSettings

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from refeval.generators.wan.conditions import DualConditions
    from refeval.generators.wan.matting import Matting
    from refeval.generators.wan.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class RefAlignSettings(DualSettings):
    """The published defaults; presets ``paper`` (the demos) and ``benchmark-script`` (the OpenS2V-Eval script).

    Attributes:
        matting: how people and objects are cut out: ``birefnet``, ``plain`` (whatever differs from a plain
            background) or ``none``. Backgrounds are never cut out.
        refined_prompts: render from the suite's field ``prompt_refine``.
        timesteps: ``bf16``: rounded to bfloat16 before the transformer sees them, as the official run does; ``exact``.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "benchmark-script": {"matting": "none", "refined_prompts": True},
    }
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **DualSettings.CHOICES,
        "matting": ("birefnet", "plain", "none"),
        "timesteps": ("bf16", "exact"),
    }

    latents: str = "bf16"
    vae: str = "bf16"
    matting: str = "birefnet"
    refined_prompts: bool = False
    timesteps: str = "bf16"


class RefAlign(DualGenerator):
    """The family; its models are below."""

    crf = 5
    settings_class = RefAlignSettings
    tiny_defaults: ClassVar[dict[str, Any]] = {"matting": "plain", "timesteps": "exact"}

    @property
    def extended_negative_prompt(self) -> bool:
        """The benchmark script adds to the official negative prompt."""
        return bool(self.options.preset == "benchmark-script")

    @property
    def round_timesteps(self) -> bool:
        """As the setting says."""
        return bool(self.options.timesteps == "bf16")

    def prompt(self, case: Case) -> str:
        """The case's prompt, or its refined one.

        Raises:
            BadInput: it has no refined one.
        """
        if not self.options.refined_prompts:
            return case.prompt
        if case.refined_prompt is None:
            raise BadInput(
                f"case '{case.id}' has no refined prompt (field 'prompt_refine')",
                cure="--suite with a file that has them, or the setting refined_prompts=no",
            )
        return case.refined_prompt

    def inputs(self, case: Case) -> list[Path]:
        """The references; a missing refined prompt is told here, before anything is rendered."""
        self.prompt(case)
        return super().inputs(case)

    def picture(self, image: Image, reference: Reference, clip: ClipSpec) -> Tensor:
        """As :meth:`cut_out`, in the precision of the VAE: bfloat16 in the official run."""
        from refeval.generators.wan.references import to_pixels

        return to_pixels(self.cut_out(image, reference, clip), self.vae_dtype)

    def cut_out(self, image: Image, reference: Reference, clip: ClipSpec) -> Image:
        """Letterboxed on white, then cut out: mode RGB, of the clip's size."""
        from refeval.generators.wan.references import letterbox, without_background

        boxed = letterbox(image, clip.width, clip.height)
        return without_background(boxed, reference.kind, self._matting)

    @property
    def vae_dtype(self) -> torch.dtype:
        """As the setting says."""
        import torch

        return torch.bfloat16 if self.options.vae == "bf16" else torch.float32

    def conditions_class(self) -> type[DualConditions]:
        """``RefAlignConditions``."""
        from refeval.generators.wan.conditions import RefAlignConditions

        return RefAlignConditions

    def schedule(self) -> Schedule:
        """Euler."""
        from refeval.generators.wan.schedules import Euler

        return Euler(self.options.steps, self.options.shift)

    def check(self) -> None:
        """As for every family; BiRefNet is needed too where it is asked for."""
        super().check()
        from refeval.generators.wan.matting import check_matting

        check_matting(self.options.matting, self._matting_folder)

    def files(self) -> list[Path]:
        """With the weights and the code of the matting."""
        matted = self.options.matting == "birefnet"
        return [*super().files(), *(self.store.find(MATTING, "birefnet") if matted else [])]

    @property
    def _matting_folder(self) -> Path | None:
        return self.store.folder_of(MATTING) if self.options.matting == "birefnet" else None

    @cached_property
    def _matting(self) -> Matting | None:
        from refeval.generators.wan.matting import make_matting

        return make_matting(self.options.matting, self._matting_folder, self._engine.device if self._engine else "cpu")


class RefAlign1B(RefAlign):
    """RefAlign on Wan2.1-T2V-1.3B."""

    model = "refalign-1.3b"


class RefAlign14B(RefAlign):
    """RefAlign on Wan2.1-T2V-14B."""

    model = "refalign-14b"


class RefAlignTiny(RefAlign):
    """RefAlign's procedure with small random weights, for tests on a CPU."""

    model = "refalign-tiny"
