"""Every published format of weights loads to the same bits, and goes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="weights need the extra 'render'")
pytest.importorskip("diffusers", reason="weights need the extra 'render'")
pytest.importorskip("transformers", reason="weights need the extra 'render'")

from diffusers import WanTransformer3DModel, WanVACETransformer3DModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import UMT5Config, UMT5EncoderModel  # noqa: E402

from refeval.errors import BadInput  # noqa: E402
from refeval.generators.wan.catalogue import MODELS, Architecture  # noqa: E402
from refeval.generators.wan.checkpoint_keys import describe_checkpoint  # noqa: E402
from refeval.generators.wan.checkpoints import (  # noqa: E402
    UMT5_XXL,
    load_text_encoder,
    load_transformer,
    load_vae,
    save_transformer,
)
from refeval.stored_weights import open_checkpoint  # noqa: E402
from tests.generators.checkpoint_states import (  # noqa: E402
    KINDS,
    SMALL,
    TEXT,
    VAE,
    as_prefixed,
    original_state,
    random_projectors,
    random_text_encoder,
    random_transformer,
    random_vae,
    to_original_text,
    to_original_vae,
)
from tests.refeval.weight_files import (  # noqa: E402
    Make,
    State,
    as_folder_with_index,
    as_folder_without_index,
    as_index,
    as_nested_pickle,
    as_old_pickle,
    as_one_shard_of_three,
    as_pickle,
    as_single,
    same,
    shards,
)

GOLDENS = {
    "refalign_tiny": (WanTransformer3DModel, 10, ()),
    "phantom_tiny": (WanTransformer3DModel, 6, ()),
    "vace_tiny": (WanVACETransformer3DModel, 6, None),
}

FORMATS = [
    as_single,
    as_index,
    as_folder_with_index,
    as_folder_without_index,
    as_one_shard_of_three,
    as_pickle,
    as_old_pickle,
    as_nested_pickle,
    as_prefixed,
]


@pytest.mark.parametrize("write", FORMATS)
def described(path: Path) -> str:
    return describe_checkpoint(open_checkpoint(path, "refalign-1.3b").shapes)


def forward(model: Any, architecture: Architecture) -> Tensor:
    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(3))

    inputs = {
        "hidden_states": numbers(1, 16, 3, 4, 6),
        "timestep": torch.tensor([731]),
        "encoder_hidden_states": numbers(1, 7, architecture.text_dim),
    }
    if architecture.vace_layers:
        inputs["control_hidden_states"] = numbers(1, 96, 3, 4, 6)
    with torch.no_grad():
        output: Tensor = model(**inputs, return_dict=False)[0]
    return output


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_of_original_keys_gives_the_same_bits(kind: str, write: Make, tmp_path: Path) -> None:
    source = random_transformer(kind)
    state = original_state(source, tmp_path)
    folder = tmp_path / "published"
    folder.mkdir()
    path = write(state, folder)
    loaded, aside = load_transformer(path, *KINDS[kind], dtype=torch.float32)
    assert not aside
    assert same(loaded.state_dict(), source.state_dict())
    assert torch.equal(forward(loaded, KINDS[kind][1]), forward(source, KINDS[kind][1]))
    assert not loaded.training


@pytest.mark.parametrize("prefix", ["pipe.dit.", "dit.", "diffusion_model.", "transformer.", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_keys_load_with_and_without_a_prefix(kind: str, prefix: str, tmp_path: Path) -> None:
    state = random_transformer(kind).state_dict()
    path = as_pickle({prefix + key: value for key, value in state.items()}, tmp_path)
    loaded, _ = load_transformer(path, *KINDS[kind], dtype=torch.float32)
    assert same(loaded.state_dict(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diffusers_folder_goes_both_ways(kind: str, tmp_path: Path) -> None:
    model_class, architecture = KINDS[kind]
    source = random_transformer(kind)
    source.save_pretrained(tmp_path / "theirs", max_shard_size="400KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    loaded, _ = load_transformer(tmp_path / "theirs", model_class, architecture, dtype=torch.float32)
    assert same(loaded.state_dict(), source.state_dict())

    save_transformer(loaded, tmp_path / "ours", keys="diffusers")
    theirs = model_class.from_pretrained(tmp_path / "ours")
    assert same(theirs.state_dict(), source.state_dict())
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs")]
    assert configs[0] == configs[1]
    ours, _ = load_transformer(tmp_path / "ours", model_class, architecture, dtype=torch.float32)
    assert same(ours.state_dict(), source.state_dict())


def test_a_refalign_checkpoint_returns_its_projectors_and_can_be_written_again(tmp_path: Path) -> None:
    source, projectors = random_transformer("t2v"), random_projectors()
    path = tmp_path / "step-500.safetensors"
    save_transformer(source, path, keys="refalign", projectors=projectors)
    stored = load_file(path)
    assert all(key.startswith("pipe.dit.") for key in stored)
    assert "pipe.dit.blocks.1.input_mlp.proj.2.weight" in stored
    loaded, aside = load_transformer(path, WanTransformer3DModel, SMALL, dtype=torch.float32)
    assert same(loaded.state_dict(), source.state_dict())
    assert same(aside, projectors)
    before = path.read_bytes()
    save_transformer(loaded, path, keys="refalign", projectors=aside)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_saved_steps_beside_each_other_are_not_shards(tmp_path: Path) -> None:
    for step in (500, 1000):
        save_transformer(random_transformer("t2v", seed=step), tmp_path / f"step-{step}.safetensors")
    loaded, _ = load_transformer(tmp_path / "step-1000.safetensors", WanTransformer3DModel, SMALL, dtype=torch.float32)
    assert same(loaded.state_dict(), random_transformer("t2v", seed=1000).state_dict())
    with pytest.raises(BadInput, match=r"several checkpoints") as caught:
        open_checkpoint(tmp_path, "refalign-1.3b")
    assert "step-1000.safetensors, step-500.safetensors" in str(caught.value)


@pytest.mark.parametrize("pattern", ["model-{:05}-of-00003", "model-{:05}"])
@pytest.mark.parametrize("first", [0, 1])
def test_shards_are_numbered_from_0_or_1_with_their_total_or_without(tmp_path: Path, pattern: str, first: int) -> None:
    source = random_transformer("t2v")
    (tmp_path / "original").mkdir()
    shards(original_state(source, tmp_path / "original"), tmp_path)
    for number, file in enumerate(sorted(tmp_path.glob("*.safetensors")), first):
        file.rename(tmp_path / f"{pattern.format(number)}.safetensors")
    (tmp_path / "original" / "original.safetensors").unlink()
    for path in (tmp_path, tmp_path / f"{pattern.format(first + 1)}.safetensors"):
        loaded, _ = load_transformer(path, WanTransformer3DModel, SMALL, dtype=torch.float32)
        assert same(loaded.state_dict(), source.state_dict())


def test_a_subclass_is_loaded_and_saved_as_the_published_class(tmp_path: Path) -> None:
    class Extended(WanTransformer3DModel):  # type: ignore[misc]
        """Same parameters, another forward."""

    source = random_transformer("t2v")
    source.save_pretrained(tmp_path / "base")
    loaded, _ = load_transformer(tmp_path / "base", Extended, SMALL, dtype=torch.float32)
    assert type(loaded) is Extended
    save_transformer(loaded, tmp_path / "back", keys="diffusers")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["_class_name"] == "WanTransformer3DModel"
    assert same(WanTransformer3DModel.from_pretrained(tmp_path / "back").state_dict(), source.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_low_precision_keeps_in_float32_what_diffusers_keeps(kind: str, dtype: Any, tmp_path: Path) -> None:
    model_class, architecture = KINDS[kind]
    random_transformer(kind).save_pretrained(tmp_path)
    theirs = model_class.from_pretrained(tmp_path, torch_dtype=dtype)
    ours, _ = load_transformer(tmp_path, model_class, architecture, dtype=dtype)
    assert same(ours.state_dict(), theirs.state_dict())
    assert {tensor.dtype for tensor in ours.state_dict().values()} == {dtype, torch.float32}
    assert ours.blocks[0].scale_shift_table.dtype == torch.float32
    save_transformer(ours, tmp_path / "low.safetensors")
    again, _ = load_transformer(tmp_path / "low.safetensors", model_class, architecture, dtype=dtype)
    assert same(again.state_dict(), ours.state_dict())


def test_a_loaded_model_does_not_live_in_its_file(tmp_path: Path) -> None:
    source = random_transformer("t2v")
    for path in (as_single(original_state(source, tmp_path), tmp_path), as_pickle(source.state_dict(), tmp_path)):
        loaded, _ = load_transformer(path, WanTransformer3DModel, SMALL, dtype=torch.float32)
        with path.open("r+b") as file:
            file.write(b"\0" * path.stat().st_size)
        assert same(loaded.state_dict(), source.state_dict())


@pytest.mark.parametrize("name", GOLDENS)
def test_official_state_dicts_load_and_go_back_to_the_same_tensors(name: str, goldens: Path, tmp_path: Path) -> None:
    model_class, layers, vace_layers = GOLDENS[name]
    path = goldens / "dit" / name / "state_dict.safetensors"
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    assert config["num_layers"] == layers
    architecture = replace(
        SMALL, layers=layers, ffn_dim=256, vace_layers=tuple(config["vace_layers"]) if vace_layers is None else ()
    )
    model, projectors = load_transformer(path, model_class, architecture, dtype=torch.float32)
    assert len(projectors) == (18 if name == "refalign_tiny" else 0)
    save_transformer(model, tmp_path / "back.safetensors", keys="refalign", projectors=projectors)
    back = {key.removeprefix("pipe.dit."): tensor for key, tensor in load_file(tmp_path / "back.safetensors").items()}
    assert same(back, load_file(path))


def test_the_vae_loads_from_original_and_diffusers_files(tmp_path: Path) -> None:
    source = random_vae()
    original = to_original_vae(source.state_dict())
    assert {"encoder.downsamples.2.resample.1.weight", "decoder.upsamples.4.shortcut.weight"} < original.keys()
    torch.save(original, tmp_path / "Wan2.1_VAE.pth")
    source.save_pretrained(tmp_path / "vae")
    for path in (tmp_path / "Wan2.1_VAE.pth", tmp_path / "vae"):
        loaded = load_vae(path, dtype=torch.float32, config=VAE)
        assert same(loaded.state_dict(), source.state_dict())
        video = torch.randn(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(4))
        with torch.no_grad():
            codes = [model.encode(video).latent_dist.mode() for model in (loaded, source)]
            assert torch.equal(*codes)
            assert torch.equal(*(model.decode(codes[0]).sample for model in (loaded, source)))
    assert described(tmp_path / "vae") == "a Wan VAE (16 latent channels), diffusers keys"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_text_encoder_loads_from_original_and_transformers_files(dtype: Any, tmp_path: Path) -> None:
    source = random_text_encoder()
    torch.save(to_original_text(source.state_dict()), tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    source.save_pretrained(tmp_path / "text_encoder")
    theirs = UMT5EncoderModel.from_pretrained(tmp_path / "text_encoder", dtype=dtype)
    tokens = torch.tensor([[3, 9, 1, 0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    for path in (tmp_path / "models_t5_umt5-xxl-enc-bf16.pth", tmp_path / "text_encoder"):
        loaded = load_text_encoder(path, dtype=dtype, config=TEXT)
        assert same(loaded.state_dict(), theirs.state_dict())
        assert loaded.encoder.embed_tokens.weight is loaded.shared.weight
        with torch.no_grad():
            ours = loaded(tokens, attention_mask=mask).last_hidden_state
            assert torch.equal(ours, theirs(tokens, attention_mask=mask).last_hidden_state)


@pytest.mark.parametrize("names", [("shared.weight",), ("encoder.embed_tokens.weight",), ("both",)])
def test_the_embedding_of_umt5_may_have_either_name(names: tuple[str], tmp_path: Path) -> None:
    state = random_text_encoder().state_dict()
    table = state.pop("shared.weight")
    del state["encoder.embed_tokens.weight"]
    both = ("shared.weight", "encoder.embed_tokens.weight")
    state |= {name: table.clone() for name in (both if names == ("both",) else names)}
    # A whole umT5 has a decoder too.
    state |= {"decoder.final_layer_norm.weight": torch.ones(16), "lm_head.weight": torch.ones(40, 16)}
    loaded = load_text_encoder(as_single(state, tmp_path), dtype=torch.float32, config=TEXT)
    assert same(loaded.state_dict(), random_text_encoder().state_dict())


def test_the_constant_is_the_encoder_of_wan() -> None:
    with torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config(**UMT5_XXL))
    assert encoder.shared.weight.shape == (256384, 4096)
    assert sum(tensor.numel() for tensor in encoder.parameters()) == 5_680_910_336
    assert encoder.config.dense_act_fn == "gelu_new"


def test_a_file_is_recognised_by_its_header(tmp_path: Path) -> None:
    def saved(state: State, name: str) -> str:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / f"{name}.safetensors")
        return described(tmp_path / f"{name}.safetensors")

    plain = original_state(random_transformer("t2v"), tmp_path)
    vace = original_state(random_transformer("vace"), tmp_path)
    width = "3 layers, width 96"
    text = "Wan2.1 text-to-video transformer"
    assert saved(plain, "a") == f"a {text} ({width}), original keys"
    assert saved({f"dit.{key}": tensor for key, tensor in plain.items()}, "b") == f"a {text} ({width}), original keys"
    assert saved(random_transformer("t2v").state_dict(), "c") == f"a {text} ({width}), diffusers keys"
    assert saved(plain | random_projectors(), "d") == f"a {text} ({width}), original keys, with RefAlign projectors"
    assert saved(random_projectors(), "e") == "RefAlign projectors without a transformer"
    assert saved(vace, "f") == f"a Wan2.1 VACE transformer with 2 VACE blocks ({width}), original keys"
    image = plain | {"patch_embedding.weight": torch.zeros(96, 36, 1, 2, 2)}
    assert saved(image, "g") == f"a Wan2.1 image-to-video transformer ({width}), original keys"
    animate = plain | {"face_adapter.fuser_blocks.0.linear1_kv.weight": torch.zeros(4, 2)}
    assert saved(animate, "h") == f"a Wan-Animate transformer ({width}), original keys"
    assert saved(to_original_vae(random_vae().state_dict()), "i") == "a Wan VAE (16 latent channels), original keys"
    text_state = to_original_text(random_text_encoder().state_dict())
    assert saved(text_state, "j") == "a umT5 text encoder (2 layers, width 16), original keys"
    lora = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.zeros(4, 96)}
    assert saved(lora, "k").startswith("a LoRA (1 low-rank tensors)")
    assert saved({"weight": torch.zeros(3)}, "l") == "unknown"


@pytest.mark.parametrize(("name", "size"), [("refalign-1.3b", "1.3B"), ("phantom-14b", "14B")])
def test_published_sizes_have_names(name: str, size: str) -> None:
    architecture = MODELS[name].architecture
    blocks = {f"blocks.{index}.modulation": (1, 6, architecture.width) for index in range(architecture.layers)}
    shapes = {"patch_embedding.weight": (architecture.width, 16, 1, 2, 2), "head.modulation": (1, 2, 8), **blocks}
    assert f"({size}: {architecture.layers} layers, width {architecture.width})" in describe_checkpoint(shapes)
