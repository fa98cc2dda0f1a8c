"""The parts of one model at work: loaded once, kept where the memory preset says, asked for one clip after another."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refeval.cases import ClipSpec
from refeval.devices import pick_device
from refeval.errors import BadInput
from refeval.generators.wan.catalogue import ModelSpec
from refeval.generators.wan.latents import VideoCodec
from refeval.generators.wan.memory import SPARING, Preset, choose
from refeval.generators.wan.parallel import check_team, dtype_name
from refeval.generators.wan.sampling import Conditions, denoise
from refeval.generators.wan.schedules import Schedule
from refeval.generators.wan.settings import WanSettings
from refeval.generators.wan.team import FollowerOrder, Team
from refeval.generators.wan.text import TextEmbeddings
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.place import Place

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_CHANNELS, _SPATIAL, _TEMPORAL = 16, 8, 4
_HOPPER = 9


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the parts of a model come from; every function loads one, to the CPU, in evaluation mode.

    Attributes:
        transformer: gives the transformer in the dtype it is told; norms and modulation stay float32.
        text: gives tokenizer and text encoder.
        vae: gives the VAE in the dtype it is told.
    """

    transformer: Callable[[torch.dtype], Any]
    text: Callable[[], tuple[Any, Any]]
    vae: Callable[[torch.dtype], Any]


def velocity_of(transformer: Any) -> Callable[..., Tensor]:
    """The forward of any of the three transformers, as one that gives the velocity alone."""
    if isinstance(transformer, ReferenceTransformer):
        return lambda **inputs: transformer(**inputs).velocity
    return lambda **inputs: transformer(**inputs, return_dict=False)[0]


def make_ready(transformer: Any, attention: str, device: torch.device, *, compiled: bool, split: bool) -> str:
    """Give a transformer its attention, and compile its blocks.

    Args:
        transformer: just loaded.
        attention: the backend asked for, or ``auto``.
        device: that it will be on.
        compiled: compile.
        split: its tokens will be split over processes.

    Returns:
        The name of the backend.

    Raises:
        BadInput: there is no such backend here.
    """
    dtype = next(transformer.parameters()).dtype
    name = fastest_attention(device, dtype, split=split) if attention == "auto" else attention
    if name != "native":
        try:
            transformer.set_attention_backend(name)
        except (ValueError, RuntimeError, ImportError) as error:
            raise BadInput(f"setting 'attention' is '{name}': {error}", cure="attention=auto") from error
    if compiled:
        transformer.compile_repeated_blocks()
    return name


class Engine:
    """Samples clips of one model.

    Args:
        spec: the model.
        settings: of the model.
        place: where to work.
        parts: where its parts come from.
    """

    def __init__(self, spec: ModelSpec, settings: WanSettings, place: Place, parts: Parts) -> None:
        self.spec = spec
        self.settings = settings
        # Small random models work on the CPU unless a GPU is asked for.
        device = "cpu" if spec.tiny and place.device == "auto" else place.device
        self.device = pick_device(device, spec.name, on_cpu="days for one clip of a published model")
        self._place = place
        self._parts = parts
        self._team: Team | None = None
        self._text = TextEmbeddings(self._load_text, spec.architecture.text_tokens)

    @torch.no_grad()
    def load(self, prompts: Sequence[str], clip: ClipSpec) -> None:
        """Load everything; the transformer is read while the prompts are encoded.

        Args:
            prompts: of the clips to come; others can be rendered too, and cost another loading of the text encoder.
            clip: size and length of the clips to come.

        Raises:
            BadInput: it cannot be spread over that many GPUs, which is said before loading.
            MissingPrerequisite: files are missing, or the memory does not suffice, which is said before loading.
        """
        gpus = self._place.gpus_per_clip
        if gpus > 1:
            check_team(self.spec, clip, self.settings.attention, self.device, gpus)
        self.preset = choose(self._place.memory, self.spec, clip, self._free(), gpus)
        if gpus > 1:
            self._team = Team(self._follower_order(), self.device)
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(self._parts.transformer, DTYPES[self.settings.precision])
            self._text.learn(prompts)
            self._codec = VideoCodec(self._parts.vae(DTYPES[self.settings.vae]), tiling=self.settings.tiling)
            self._transformer = loading.result()
        self.attention = make_ready(
            self._transformer, self.settings.attention, self.device, compiled=self.settings.compile, split=gpus > 1
        )
        self.forward = velocity_of(self._transformer)
        if self._team is not None:
            self._team.join(self._transformer, self.forward)
            self.forward = self._team.forward
        self._settle(self.preset)

    def text(self, prompt: str) -> Tensor:
        """The embedding of a prompt: (1, text tokens, text_dim), in the transformer's precision."""
        return self._text.embedding(prompt, self.device, DTYPES[self.settings.precision])

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """As :meth:`VideoCodec.encode`, in the transformer's precision, on its device."""
        self._bring(self._codec.vae)
        return self._codec.encode(pixels).to(self.device, DTYPES[self.settings.precision])

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, schedule: Schedule, *, seed: int, clip: ClipSpec, round_timesteps: bool
    ) -> NDArray[np.uint8]:
        """Sample and decode one clip.

        The noise is made on the CPU in float32, so that it is the same for every device and precision.

        Returns:
            uint8 RGB, (T, H, W, 3).

        Raises:
            UnusableClip: the result is not finite.
        """
        frames = (clip.frames - 1) // _TEMPORAL + 1 + conditions.extra_frames
        shape = (1, _CHANNELS, frames, clip.height // _SPATIAL, clip.width // _SPATIAL)
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        if not self.preset.resident:
            self._send_away(self._codec.vae)
        if not self.preset.streamed:
            self._bring(self._transformer)
        latents = denoise(
            noise.to(self.device, DTYPES[self.settings.latents]),
            schedule,
            conditions,
            together=self.together,
            round_timesteps=round_timesteps,
        )
        if not self.preset.resident and not self.preset.streamed:
            self._send_away(self._transformer)
        self._bring(self._codec.vae)
        return self._codec.decode(conditions.video(latents))

    @property
    def together(self) -> bool:
        """Whether the branches of the guidance are predicted in one batch."""
        return self.preset.together if self.settings.together == "auto" else self.settings.together == "yes"

    def spare(self) -> str | None:
        """Go over to the most sparing preset; its name, or None where there is nothing to spare."""
        if self.device.type == "cpu" or self.preset == SPARING or self._place.gpus_per_clip > 1:
            return None
        self._send_away(self._codec.vae)
        self._send_away(self._transformer)
        self._settle(SPARING)
        return SPARING.name

    def close(self) -> None:
        """Free what was loaded."""
        if self._team is not None:
            self._team.close()
            self._team = None
        for name in ("_transformer", "_codec", "forward"):
            self.__dict__.pop(name, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _settle(self, preset: Preset) -> None:
        self.preset = preset
        if preset.streamed and self.device.type == "cuda":
            self._transformer.enable_group_offload(
                onload_device=self.device, offload_type="block_level", num_blocks_per_group=1, use_stream=True
            )

    def _follower_order(self) -> FollowerOrder:
        return FollowerOrder(
            model=self.spec.name,
            weights=self._place.weights,
            dtype=dtype_name(DTYPES[self.settings.precision]),
            attention=self.settings.attention,
            compiled=self.settings.compile,
            device=self.device.type,
            size=self._place.gpus_per_clip,
        )

    def _load_text(self) -> tuple[Any, Any]:
        tokenizer, encoder = self._parts.text()
        return tokenizer, encoder if self.preset.streamed else encoder.to(self.device)

    def _bring(self, module: Any) -> None:
        if module.device != self.device:
            module.to(self.device)

    def _send_away(self, module: Any) -> None:
        module.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _free(self) -> int | None:
        return torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else None


def release_cached_memory() -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fastest_attention(device: torch.device, dtype: torch.dtype, *, split: bool = False) -> str:
    """The fastest exact attention of a device and dtype, as diffusers names it.

    Args:
        device: to run on.
        dtype: of the transformer; the kernels for Hopper and later take 16 bits only.
        split: it must be one that can be spread over processes.
    """
    if device.type != "cuda" or dtype == torch.float32:
        return "native"
    major, _ = torch.cuda.get_device_capability(device)
    if major == _HOPPER and not split and _has_module("flash_attn_interface"):
        return "_flash_3"
    return "_native_cudnn" if major >= _HOPPER else "native"


def _has_module(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
