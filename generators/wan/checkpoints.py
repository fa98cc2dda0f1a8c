"""Models from their published weights, and the weights back into files.

Loading builds the model without memory and then takes one tensor after another, so that the peak is about one copy
of the model in the wanted dtype. It is strict: every tensor of the model is filled, none of the file is dropped
unnamed.

Source: diffusers 0.42.1 ``from_pretrained`` for what stays in float32; transformers 5 for umT5.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import diffusers
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from refeval.documents import write_bytes
from refeval.errors import BadInput, CorruptFile
from refeval.generators.wan.catalogue import Architecture
from refeval.generators.wan.checkpoint_keys import (
    REFALIGN_PREFIX,
    Shapes,
    bare_key,
    describe_checkpoint,
    is_projector,
    original_transformer_key,
    text_encoder_keys,
    transformer_keys,
    vae_keys,
)
from refeval.stored_weights import Checkpoint, open_checkpoint, write_safetensors
from refeval.weights import fetch_command

UMT5_XXL: Mapping[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
}
"""The umT5-xxl encoder of Wan2.1, as keyword arguments of ``UMT5Config``."""

KeyFormat = Literal["original", "diffusers", "refalign"]
_Model = TypeVar("_Model", bound=nn.Module)
_ONE_AT_A_TIME = threading.Lock()
_SHOWN = 3
# Where a cure would name the model.
_UNNAMED = "NAME"
# Fields that shapes do not tell apart: diffusers name -> name in the config.json of Wan.
_UNSEEN_FIELDS = {"num_attention_heads": "num_heads", "vace_layers": "vace_layers"}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where tensors go and as what.

    Attributes:
        dtype: of floating-point tensors.
        device: on which the model ends.
        float32: names of modules and parameters that stay in float32.
    """

    dtype: torch.dtype
    device: torch.device
    float32: frozenset[str] = frozenset()

    def put(self, key: str, tensor: Tensor) -> Tensor:
        """A copy of its own of the tensor of parameter ``key``; integers keep their dtype."""
        dtype = self.dtype if self.float32.isdisjoint(key.split(".")) else torch.float32
        if not tensor.is_floating_point():
            dtype = tensor.dtype
        # Without the copy a parameter would live in the mapped file.
        return tensor.to(self.device, dtype, copy=True, memory_format=torch.contiguous_format)


def load_transformer(
    path: Path,
    model_class: type[_Model],
    architecture: Architecture,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    model: str | None = None,
) -> tuple[_Model, dict[str, Tensor]]:
    """Load a transformer from original Wan, diffusers or RefAlign files.

    Args:
        path: a file, an index or a folder (see ``open_checkpoint``).
        model_class: ``WanTransformer3DModel``, ``WanVACETransformer3DModel`` or a subclass with the same parameters.
        architecture: the size.
        dtype: of the parameters; what diffusers keeps in float32 (timestep embedding, norms, modulation) stays so.
        device: where the model ends.
        model: its name, for messages.

    Returns:
        The model in evaluation mode, and RefAlign's projectors as stored (``blocks.N.input_mlp.proj.{0,2}.weight``,
        on the CPU), empty if the file has none.

    Raises:
        BadInput: other weights, or a ``config.json`` beside them that contradicts ``architecture``.
        MissingPrerequisite: no such file, or a missing shard.
        CorruptFile: a file that cannot be read.
    """
    checkpoint = open_checkpoint(path, model or _UNNAMED)
    _check_config(path, architecture, model)
    transformer = _empty(lambda: model_class(**architecture.config()))
    names = transformer_keys(checkpoint.tensors)
    own = transformer.state_dict().keys()
    aside = {key for key in names if is_projector(bare_key(key)) and names[key] not in own}
    kept = frozenset(getattr(model_class, "_keep_in_fp32_modules", None) or ())
    placement = Placement(dtype=dtype, device=torch.device(device), float32=kept)
    wanted = {key: name for key, name in names.items() if key not in aside}
    wish = f"a transformer of {architecture.layers} layers and width {architecture.width}"
    _fill(transformer, checkpoint, wanted, placement, wish=wish, model=model)
    projectors = {bare_key(key): checkpoint.tensors[key].read().clone() for key in sorted(aside)}
    return transformer, projectors


def transformer_of(tensors: Mapping[str, Tensor], make: Callable[[], _Model]) -> _Model:
    """A transformer from tensors at hand, which become its parameters as they are.

    Args:
        tensors: by the names of diffusers.
        make: gives a transformer of their shapes; its own parameters take no memory.

    Returns:
        The model in evaluation mode.

    Raises:
        BadInput: tensors of another network.
    """
    transformer = _empty(make)
    try:
        transformer.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise BadInput("the tensors are not of this network", details=(("found", str(error)),)) from None
    return transformer


def load_vae(
    path: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    config: Mapping[str, Any] | None = None,
    model: str | None = None,
) -> AutoencoderKLWan:
    """Load Wan2.1's video VAE from ``Wan2.1_VAE.pth`` or a diffusers folder.

    Args:
        path: a file or a folder; a ``config.json`` in the folder is followed.
        dtype: of the parameters.
        device: where the model ends.
        config: keyword arguments of ``AutoencoderKLWan`` for a file without one; default: Wan2.1's.
        model: its name, for messages.

    Raises:
        BadInput, MissingPrerequisite, CorruptFile: as :func:`load_transformer`.
    """
    checkpoint = open_checkpoint(path, model or _UNNAMED)
    values = _config_beside(path) or config or {}
    vae = _empty(lambda: AutoencoderKLWan(**{key: value for key, value in values.items() if key[0] != "_"}))
    placement = Placement(dtype=dtype, device=torch.device(device))
    _fill(vae, checkpoint, vae_keys(checkpoint.tensors), placement, wish="a Wan VAE", model=model)
    return vae


def load_text_encoder(
    path: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    config: Mapping[str, Any] = UMT5_XXL,
    model: str | None = None,
) -> UMT5EncoderModel:
    """Load umT5 from ``models_t5_umt5-xxl-enc-bf16.pth`` or a transformers folder.

    Args:
        path: a file or a folder; a ``config.json`` in the folder is followed.
        dtype: of the parameters; float16 keeps the last feed-forward matrices in float32, as transformers does.
        device: where the model ends.
        config: keyword arguments of ``UMT5Config`` for a file without one.
        model: its name, for messages.

    Raises:
        BadInput, MissingPrerequisite, CorruptFile: as :func:`load_transformer`.
    """
    checkpoint = open_checkpoint(path, model or _UNNAMED)
    encoder = _empty(lambda: UMT5EncoderModel(UMT5Config(**(_config_beside(path) or config))))
    kept = frozenset({"wo"} if dtype is torch.float16 else ())
    placement = Placement(dtype=dtype, device=torch.device(device), float32=kept)
    names = text_encoder_keys(checkpoint.tensors)
    _fill(encoder, checkpoint, names, placement, wish="a umT5 text encoder", model=model)
    return encoder


def save_transformer(
    transformer: nn.Module,
    path: Path,
    *,
    keys: KeyFormat = "original",
    projectors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a transformer so that other programs and :func:`load_transformer` read it; dtypes are kept.

    Args:
        transformer: as :func:`load_transformer` makes it, also of a subclass.
        path: a safetensors file; for ``diffusers`` a folder.
        keys: ``original``: Wan's names; ``diffusers``: ``config.json`` and ``diffusion_pytorch_model.safetensors``;
            ``refalign``: Wan's names after ``pipe.dit.``, as RefAlign's training writes them.
        projectors: as returned by :func:`load_transformer`; for ``refalign`` only.

    Raises:
        ValueError: projectors for another format, or names that are no projectors; a parameter without a Wan name.
        BadInput: the folder for ``diffusers`` holds other weights.
        DiskFull: no space; a file that was there is unchanged.
    """
    state = transformer.state_dict()
    extra = dict(projectors or {})
    if extra and (keys != "refalign" or not all(map(is_projector, extra))):
        raise ValueError("projectors are named blocks.N.input_mlp. and go with keys='refalign' only")
    if keys == "diffusers":
        _save_diffusers(transformer, path, state)
        return
    prefix = REFALIGN_PREFIX if keys == "refalign" else ""
    named = {original_transformer_key(key): tensor for key, tensor in state.items()} | extra
    write_safetensors(path, {prefix + key: tensor for key, tensor in named.items()})


def _save_diffusers(transformer: nn.Module, folder: Path, state: Mapping[str, Tensor]) -> None:
    target = folder / "diffusion_pytorch_model.safetensors"
    others = [file.name for file in folder.glob("*.safetensors*") if file != target]
    if others:
        # An index of older shards would be read in place of the new file.
        found = ", ".join(sorted(others)[:_SHOWN])
        raise BadInput(f"{folder}: other weights are here", details=(("found", found),), cure="give an empty folder")
    write_safetensors(target, state)
    write_bytes(folder / "config.json", _diffusers_config(transformer))


def _diffusers_config(transformer: Any) -> bytes:
    """The ``config.json`` of diffusers' own class, whatever the subclass is called."""
    published = next(kind for kind in type(transformer).__mro__ if kind.__module__.startswith("diffusers."))
    fields = {key: value for key, value in transformer.config.items() if not key.startswith("_")}
    config = {"_class_name": published.__name__, "_diffusers_version": diffusers.__version__, **fields}
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _empty(make: Callable[[], _Model]) -> _Model:
    """A model with parameters on the meta device; buffers (rotary tables) are real, for no file holds them."""
    # It patches torch for the whole process: two threads at once would leave it patched.
    with _ONE_AT_A_TIME, init_empty_weights(include_buffers=False):
        return make().eval()


def _fill(
    target: nn.Module,
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    placement: Placement,
    *,
    wish: str,
    model: str | None,
) -> None:
    """Put the tensors of a checkpoint into an empty model.

    Args:
        target: parameters on the meta device.
        checkpoint: the file.
        names: stored key -> key of the model.
        placement: dtype and device.
        wish: what the file should be, in words.
        model: its name.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in target.state_dict().items()}
    tied = _tied_keys(target)
    shapes = {key: shape for key, shape in shapes.items() if key not in tied}
    problems = _differences(shapes, checkpoint.shapes, names)
    if problems:
        raise BadInput(
            f"{checkpoint.path}: not the weights of {model or wish}",
            details=(("wanted", wish), ("it seems", describe_checkpoint(checkpoint.shapes)), *problems),
            cure=fetch_command(model or _UNNAMED, None),
        )
    state = {name: placement.put(name, checkpoint.tensors[key].read()) for key, name in names.items()}
    state |= {copy: state[source] for copy, source in tied.items()}
    target.load_state_dict(state, strict=True, assign=True)
    for copy, source in tied.items():
        # Two parameters of the same memory would part company on the next move to another device.
        owner, _, name = copy.rpartition(".")
        setattr(target.get_submodule(owner), name, target.get_parameter(source))
    target.to(placement.device)


def _tied_keys(target: nn.Module) -> Mapping[str, str]:
    """copy -> source, for the parameters that transformers ties; diffusers' models have none."""
    return dict(getattr(target, "_tied_weights_keys", None) or {})


def _differences(wanted: Shapes, stored: Shapes, names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Rows of an error: tensors that are missing, unexpected, of another shape, or there twice."""
    found = {name: key for key, name in names.items()}
    missing = [f"{key} {wanted[key]}" for key in wanted if key not in found]
    unexpected = [f"{key} {stored[key]}" for key, name in names.items() if name not in wanted]
    reshaped = [
        f"{found[key]} has {stored[found[key]]}, model wants {shape}"
        for key, shape in wanted.items()
        if key in found and stored[found[key]] != shape
    ]
    twice = [key for key, name in names.items() if found[name] != key]
    rows = (("missing", missing), ("unexpected", unexpected), ("wrong shape", reshaped), ("twice", twice))
    return tuple((label, _first(texts)) for label, texts in rows if texts)


def _first(texts: list[str]) -> str:
    more = "; ..." if len(texts) > _SHOWN else ""
    return f"{len(texts)} tensors: {'; '.join(texts[:_SHOWN])}{more}"


def _config_beside(path: Path) -> dict[str, Any] | None:
    """The ``config.json`` of a folder of weights; None for a file or without one."""
    config = path / "config.json"
    if not config.is_file():
        return None
    try:
        return dict(json.loads(config.read_bytes()))
    except (ValueError, TypeError) as error:
        raise CorruptFile(f"{config}: not a JSON object", cure="fetch the folder again") from error


def _check_config(path: Path, architecture: Architecture, model: str | None) -> None:
    """Compare what shapes cannot show: heads, and which blocks receive the hints of VACE."""
    stored = _config_beside(path) or {}
    if "Wan" not in str(stored.get("_class_name")):
        return
    for field, official in _UNSEEN_FIELDS.items():
        wanted = architecture.config().get(field)
        has = stored.get(field, stored.get(official))
        if wanted is not None and has is not None and has != wanted:
            raise BadInput(
                f"{path / 'config.json'}: not the model that was asked for",
                details=(("field", field), ("it has", str(has)), ("wanted", str(wanted))),
                cure=fetch_command(model or _UNNAMED, None),
            )
