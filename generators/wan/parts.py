"""Where the parts of a model come from: published files, or small random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

from refeval.generators.wan.catalogue import Family, ModelSpec
from refeval.generators.wan.checkpoints import load_text_encoder, load_transformer, load_vae
from refeval.generators.wan.engine import Parts
from refeval.generators.wan.tiny import tiny_text_encoder, tiny_transformer, tiny_vae
from refeval.generators.wan.transformer import ReferenceTransformer, use_exact_timesteps
from refeval.weights import WeightsStore

_CLASSES: dict[Family, Any] = {
    Family.REFALIGN: ReferenceTransformer,
    Family.PHANTOM: WanTransformer3DModel,
    Family.VACE: WanVACETransformer3DModel,
}


def parts_of(spec: ModelSpec, store: WeightsStore) -> Parts:
    """The parts of a model.

    Args:
        spec: the model.
        store: the weights folder; not looked at for the tiny models.
    """
    if spec.tiny:
        return Parts(
            transformer=partial(_tiny_transformer, spec),
            text=partial(tiny_text_encoder, spec.architecture),
            vae=lambda dtype: in_precision(tiny_vae(), dtype),
        )
    return Parts(
        transformer=partial(_published_transformer, spec, store),
        text=partial(_published_text, spec, store),
        vae=partial(_published_vae, spec, store),
    )


def as_loaded(transformer: Any, dtype: torch.dtype) -> Any:
    """A transformer that is made, in the precision and with the timesteps that one from files would have."""
    return _exact(in_precision(transformer, dtype))


def _tiny_transformer(spec: ModelSpec, dtype: torch.dtype) -> Any:
    return as_loaded(tiny_transformer(_CLASSES[spec.family], spec.architecture), dtype)


def _published_transformer(spec: ModelSpec, store: WeightsStore, dtype: torch.dtype) -> Any:
    assert spec.transformer is not None
    path = store.checkpoint(spec.transformer, spec.name)
    transformer, _ = load_transformer(path, _CLASSES[spec.family], spec.architecture, dtype=dtype, model=spec.name)
    return _exact(transformer)


def _published_text(spec: ModelSpec, store: WeightsStore) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    assert spec.base is not None
    folder = store.folder_of(spec.base)
    tokenizer = AutoTokenizer.from_pretrained(folder / "google" / "umt5-xxl", local_files_only=True)
    file = folder / "models_t5_umt5-xxl-enc-bf16.pth"
    return tokenizer, load_text_encoder(file, dtype=torch.bfloat16, model=spec.name)


def _published_vae(spec: ModelSpec, store: WeightsStore, dtype: torch.dtype) -> Any:
    assert spec.base is not None
    return load_vae(store.folder_of(spec.base) / "Wan2.1_VAE.pth", dtype=dtype, model=spec.name)


def in_precision(module: Any, dtype: torch.dtype) -> Any:
    """As the loaders do: what diffusers keeps in float32 stays so."""
    kept = frozenset(getattr(module, "_keep_in_fp32_modules", None) or ())
    for name, parameter in module.named_parameters():
        if kept.isdisjoint(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    return module


def _exact(transformer: Any) -> Any:
    use_exact_timesteps(transformer)
    return transformer
