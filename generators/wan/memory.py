"""How much memory a clip needs on the GPU, and the presets that need less. No torch here.

The figures are computed from the architecture, not measured: the weights to the byte, what the computation adds
from the largest tensors that a block keeps at once. They hold for the published precisions (RefAlign decodes in bf16,
the others in fp32); a matting network on the GPU comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from refeval.cases import ClipSpec
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.wan.catalogue import Architecture, Family, ModelSpec
from refeval.generators.wan.shares import check_shares
from refeval.gpus import gpu_memory, visible_gpus
from refeval.place import DEVICES, Place
from refeval.suggestions import did_you_mean

AUTO = "auto"
_SMALLEST = ClipSpec(width=16, height=16, frames=5, fps=Fraction(8))
_GIB = 1024**3
_BF16 = 2
# The encoder half of umT5-xxl, and Wan2.1's VAE.
_TEXT_PARAMETERS = 5_680_910_336
_VAE_PARAMETERS = 126_892_531
# Bytes that a block keeps per token and channel: the stream in bf16, two float32 copies around a norm, query, key,
# value and result in bf16, and rotated float32 halves of two of them.
_BLOCK_BYTES = 2 + 2 * 4 + 4 * 2 + 2 * 4
# Bytes per pixel of a frame that decoding keeps at its highest, in float32: counted on diffusers' decoder with tensors
# that have shapes but no content. Every decoded frame stays until the last, three times over.
_DECODER_BYTES_PER_PIXEL = 20_000
_FRAME_BYTES_PER_PIXEL = 3 * 3 * 4
_CUDA_CONTEXT = _GIB


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A way to fit into memory; none changes what is computed.

    Attributes:
        name: as given to ``--memory``.
        summary: for people.
        together: all branches of the guidance in one batch.
        resident: the transformer stays on the GPU while the VAE works.
        streamed: only a few blocks of the transformer are on the GPU at a time, and texts are encoded on the CPU.
    """

    name: str
    summary: str
    together: bool
    resident: bool
    streamed: bool


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="full",
            summary="everything on the GPU, guidance branches in one batch",
            together=True,
            resident=True,
            streamed=False,
        ),
        Preset(
            name="in-turn",
            summary="everything on the GPU, guidance branches one after the other",
            together=False,
            resident=True,
            streamed=False,
        ),
        Preset(
            name="offload",
            summary="transformer and VAE take turns on the GPU",
            together=False,
            resident=False,
            streamed=False,
        ),
        Preset(
            name="stream",
            summary="blocks of the transformer are brought to the GPU when their turn comes",
            together=False,
            resident=False,
            streamed=True,
        ),
    )
}
# What a generator goes over to when memory does not suffice.
SPARING = PRESETS["stream"]


def transformer_parameters(architecture: Architecture) -> int:
    """How many parameters a transformer has."""
    width, inner = architecture.width, architecture.ffn_dim
    attention = 4 * (width * width + width) + 2 * width
    feed_forward = 2 * width * inner + inner + width
    block = 2 * attention + feed_forward + 2 * width + 6 * width
    embedding = 16 * 4 * width + width
    time = architecture.freq_dim * width + width + width * width + width + 6 * (width * width + width)
    text = architecture.text_dim * width + width + width * width + width
    head = width * 64 + 64 + 2 * width
    hints = len(architecture.vace_layers)
    branch = hints * (block + width * width + width) + (96 * 4 * width + width + width * width + width if hints else 0)
    return architecture.layers * block + embedding + time + text + head + branch


def tokens(spec: ModelSpec, clip: ClipSpec) -> int:
    """How many tokens the transformer reads at most, with as many references as the model takes."""
    frames = (clip.frames - 1) // 4 + 1 + spec.references
    return frames * (clip.height // 16) * (clip.width // 16)


def need(spec: ModelSpec, clip: ClipSpec, preset: Preset, gpus: int = 1) -> int:
    """Bytes that rendering takes on one GPU, at its highest.

    Args:
        spec: the model.
        clip: its size and length.
        preset: of memory.
        gpus: over how many the transformer is spread.
    """
    architecture = spec.architecture
    weights = transformer_parameters(architecture) * _BF16 // gpus
    branches = 1 if not preset.together else 2 if spec.family is Family.VACE else 3
    each = tokens(spec, clip) // gpus * (architecture.width * _BLOCK_BYTES + architecture.ffn_dim * 2 * _BF16)
    # Every hint of the VACE branch is kept until its block has run.
    each += tokens(spec, clip) // gpus * architecture.width * _BF16 * len(architecture.vace_layers)
    at_once = _DECODER_BYTES_PER_PIXEL // (2 if spec.family is Family.REFALIGN else 1)
    decoding = clip.width * clip.height * (at_once + clip.frames * _FRAME_BYTES_PER_PIXEL) + _VAE_PARAMETERS * 4
    held = weights // architecture.layers * 4 if preset.streamed else weights
    sampling = held + branches * each + (_VAE_PARAMETERS * 4 if preset.resident else 0)
    last = decoding + (weights if preset.resident else 0)
    first = 0 if preset.streamed else _TEXT_PARAMETERS * _BF16
    return max(sampling, last, first) + _CUDA_CONTEXT


def choose(name: str, spec: ModelSpec, clip: ClipSpec, free: int | None, gpus: int = 1) -> Preset:
    """The preset to use: the one named, or the fastest that fits.

    Args:
        name: of a preset, or ``auto``.
        spec: the model.
        clip: its size and length.
        free: bytes free on each GPU; None: on the CPU, where nothing is chosen.
        gpus: over how many the transformer is spread.

    Raises:
        BadInput: no such preset.
        MissingPrerequisite: even the most sparing one, or the one named, does not fit.
    """
    if name != AUTO and name not in PRESETS:
        raise BadInput(
            f"unknown memory preset '{name}'{did_you_mean(name, PRESETS)}", cure=f"one of {AUTO}, {', '.join(PRESETS)}"
        )
    candidates = list(PRESETS.values()) if name == AUTO else [PRESETS[name]]
    if gpus > 1:
        # What is spread over GPUs is not moved away from them.
        candidates = [preset for preset in candidates if preset.resident]
    if not candidates:
        raise BadInput(f"memory preset '{name}' cannot be used with --gpus-per-clip", cure="--memory full or in-turn")
    if free is None:
        return candidates[0]
    for preset in candidates:
        if need(spec, clip, preset, gpus) <= free:
            return preset
    needs = [(preset.name, f"needs about {need(spec, clip, preset, gpus) / _GIB:.1f} GiB") for preset in candidates]
    raise MissingPrerequisite(
        f"model '{spec.name}' does not fit into the GPU's memory",
        details=(*needs, ("free", f"{free / _GIB:.1f} GiB")),
        cure="--memory auto, a smaller model, a shorter or smaller clip, or --gpus-per-clip",
    )


def check_place(spec: ModelSpec, clip: ClipSpec | None, place: Place) -> None:
    """Look from the command's own process whether a place can do, without torch and before anything is loaded.

    Args:
        spec: the model.
        clip: to render, if known.
        place: where.

    Raises:
        BadInput: no such device or memory preset.
        MissingPrerequisite: no GPU, or none that has the memory.
    """
    if place.device not in DEVICES:
        hint = did_you_mean(place.device, DEVICES)
        raise BadInput(f"unknown device '{place.device}'{hint}", cure=f"--device {', '.join(DEVICES)}")
    on_cpu = place.device == "cpu" or (place.device == "auto" and spec.tiny)
    if not on_cpu and not visible_gpus():
        cure = "run on a machine with a GPU, or --device cpu, which takes days for one clip of a published model"
        raise MissingPrerequisite(f"model '{spec.name}' needs a GPU, and none is visible", cure=cure)
    clip = clip or spec.clip or _SMALLEST
    if place.gpus_per_clip > 1:
        check_shares(spec, clip, place.gpus_per_clip)
    largest = None if on_cpu else max(gpu_memory(), default=None)
    choose(place.memory, spec, clip, largest, place.gpus_per_clip)
