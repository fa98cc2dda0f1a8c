"""The names of tensors in published checkpoints, translated to the names of diffusers and transformers and back.

Only names and shapes, never tensors: what a file is can be told from its header.

Source: diffusers 0.42.1 loaders/single_file_utils.py (its converters are called, not repeated); Wan2.1
wan/modules/model.py and t5.py for the original names; RefAlign @6f91526 for ``pipe.dit.`` and ``input_mlp``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers

Shapes = Mapping[str, tuple[int, ...]]

REFALIGN_PREFIX = "pipe.dit."
_PREFIXES = (
    REFALIGN_PREFIX,
    "dit.",
    "model.diffusion_model.",
    "module.",
    "diffusion_model.",
    "transformer.",
)
_PROJECTOR = re.compile(r"blocks\.\d+\.input_mlp\.")
# Parts of Wan-Animate, whose tensors (not only names) diffusers' converter would change.
_ANIMATE = ("motion_encoder", "face_adapter")
_LORA = (".lora_A.", ".lora_B.", "lora_down", "lora_up")
_SIZES = {(30, 1536): "1.3B", (40, 5120): "14B"}
_Z_CHANNELS_PER_MEAN = 2

_OUTER_TO_ORIGINAL = {
    "condition_embedder.time_embedder.linear_1.": "time_embedding.0.",
    "condition_embedder.time_embedder.linear_2.": "time_embedding.2.",
    "condition_embedder.text_embedder.linear_1.": "text_embedding.0.",
    "condition_embedder.text_embedder.linear_2.": "text_embedding.2.",
    "condition_embedder.time_proj.": "time_projection.1.",
    "proj_out.": "head.head.",
    "scale_shift_table": "head.modulation",
}
_BLOCK_TO_ORIGINAL = {
    ".attn1.": ".self_attn.",
    ".attn2.": ".cross_attn.",
    ".to_q.": ".q.",
    ".to_k.": ".k.",
    ".to_v.": ".v.",
    ".to_out.0.": ".o.",
    ".ffn.net.0.proj.": ".ffn.0.",
    ".ffn.net.2.": ".ffn.2.",
    ".norm2.": ".norm3.",
    ".scale_shift_table": ".modulation",
    ".proj_in.": ".before_proj.",
    ".proj_out.": ".after_proj.",
}
_TEXT_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "norm2": "layer.1.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_TEXT_OUTER = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
_TEXT_KEY = re.compile(r"blocks\.(\d+)\.(.+)\.weight")


def bare_key(key: str) -> str:
    """The key without the prefixes that trainers and other programs put before it."""
    while prefix := next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None):
        key = key.removeprefix(prefix)
    return key


def is_projector(key: str) -> bool:
    """Whether a bare key belongs to RefAlign's training-only projectors (``blocks.N.input_mlp.``)."""
    return _PROJECTOR.match(key) is not None


def transformer_keys(keys: Iterable[str]) -> dict[str, str]:
    """Names in diffusers of the tensors of a transformer.

    Args:
        keys: as stored: original or diffusers names, with or without a prefix.

    Returns:
        stored key -> diffusers key; a key that belongs to no transformer keeps its bare name.
    """
    bare = {key: bare_key(key) for key in keys}
    original = _has_original_names(bare.values())
    return {key: _diffusers_key(name) if original else name for key, name in bare.items()}


def original_transformer_key(key: str) -> str:
    """The name that Wan's own code gives to a parameter of diffusers' transformer (also VACE).

    Raises:
        ValueError: diffusers would not find the parameter again under that name.
    """
    rules = _BLOCK_TO_ORIGINAL if key.startswith(("blocks.", "vace_blocks.")) else _OUTER_TO_ORIGINAL
    original = key
    for ours, theirs in rules.items():
        original = original.replace(ours, theirs)
    if _diffusers_key(original) != key:
        raise ValueError(f"no original Wan name is known for the parameter {key!r}")
    return original


def vae_keys(keys: Iterable[str]) -> dict[str, str]:
    """stored key -> key of diffusers' ``AutoencoderKLWan``, from original or diffusers names."""
    stored = list(keys)
    if "encoder.conv1.weight" not in stored:
        return {key: key for key in stored}
    return {key: _only_key(convert_wan_vae_to_diffusers({key: None})) for key in stored}


def text_encoder_keys(keys: Iterable[str]) -> dict[str, str]:
    """stored key -> key of ``UMT5EncoderModel``; the decoder and head of a whole umT5 are left out."""
    stored = list(keys)
    if "token_embedding.weight" not in stored:
        names = {key: "shared.weight" if key == "encoder.embed_tokens.weight" else key for key in stored}
        twice = "shared.weight" in stored
        return {
            key: name
            for key, name in names.items()
            if not key.startswith(("decoder.", "lm_head.")) and not (twice and key != name)
        }
    return {key: _text_key(key) for key in stored}


def describe_checkpoint(shapes: Shapes) -> str:
    """What a file seems to be, in words, from the names and shapes of its tensors; ``unknown`` if nothing fits."""
    bare = {bare_key(key): shape for key, shape in shapes.items()}
    for recognise in (_lora, _transformer, _projectors, _vae, _text_encoder):
        if text := recognise(bare):
            return text
    return "unknown"


def _only_key(converted: Mapping[str, object]) -> str:
    (key,) = converted
    return key


def _has_original_names(keys: Iterable[str]) -> bool:
    return any(key.startswith("head.") or ".self_attn." in key or ".cross_attn." in key for key in keys)


def _diffusers_key(original: str) -> str:
    if any(part in original for part in _ANIMATE):
        return original
    return _only_key(convert_wan_transformer_to_diffusers({original: None}))


def _text_key(key: str) -> str:
    match = _TEXT_KEY.fullmatch(key)
    if match is None:
        return _TEXT_OUTER.get(key, key)
    layer, name = match.groups()
    return f"encoder.block.{layer}.{_TEXT_BLOCK.get(name, name)}.weight"


def _count(shapes: Shapes, prefix: str) -> int:
    """How many blocks ``prefix`` + number there are."""
    numbers = [int(match[1]) for key in shapes if (match := re.match(rf"{re.escape(prefix)}(\d+)\.", key))]
    return max(numbers, default=-1) + 1


def _lora(shapes: Shapes) -> str | None:
    count = sum(any(part in key for part in _LORA) for key in shapes)
    return f"a LoRA ({count} low-rank tensors): it must be merged into its base model first" if count else None


def _transformer(shapes: Shapes) -> str | None:
    patch = shapes.get("patch_embedding.weight", ())
    layers = _count(shapes, "blocks.")
    if len(patch) != 5 or not layers:
        return None
    width, channels = patch[:2]
    size = f"{name}: " if (name := _SIZES.get((layers, width))) else ""
    names = "original" if _has_original_names(shapes) else "diffusers"
    also = ", with RefAlign projectors" if any(map(is_projector, shapes)) else ""
    kind = _transformer_kind(shapes, channels)
    return f"a {kind} ({size}{layers} layers, width {width}), {names} keys{also}"


def _transformer_kind(shapes: Shapes, channels: int) -> str:
    if any(part in key for key in shapes for part in _ANIMATE):
        return "Wan-Animate transformer"
    if blocks := _count(shapes, "vace_blocks."):
        return f"Wan2.1 VACE transformer with {blocks} VACE blocks"
    if channels == 36 or any(key.startswith("img_emb.") or "image_embedder" in key for key in shapes):
        return "Wan2.1 image-to-video transformer"
    return "Wan2.1 text-to-video transformer"


def _projectors(shapes: Shapes) -> str | None:
    return "RefAlign projectors without a transformer" if any(map(is_projector, shapes)) else None


def _vae(shapes: Shapes) -> str | None:
    for key, statistics, names in (
        ("encoder.conv1.weight", "conv1.weight", "original"),
        ("encoder.conv_in.weight", "quant_conv.weight", "diffusers"),
    ):
        # An image VAE has the same names and convolutions of four dimensions.
        if len(shapes.get(key, ())) == 5 and statistics in shapes:
            return f"a Wan VAE ({shapes[statistics][0] // _Z_CHANNELS_PER_MEAN} latent channels), {names} keys"
    return None


def _text_encoder(shapes: Shapes) -> str | None:
    for key, block, names in (
        ("token_embedding.weight", "blocks.", "original"),
        ("shared.weight", "encoder.block.", "transformers"),
        ("encoder.embed_tokens.weight", "encoder.block.", "transformers"),
    ):
        if key in shapes and (layers := _count(shapes, block)):
            return f"a umT5 text encoder ({layers} layers, width {shapes[key][-1]}), {names} keys"
    return None
