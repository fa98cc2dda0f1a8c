"""A wrong, broken or dangerous file of weights gets one error: what it is, what is wrong, and the cure."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="weights need the extra 'render'")
pytest.importorskip("diffusers", reason="weights need the extra 'render'")
pytest.importorskip("transformers", reason="weights need the extra 'render'")

from diffusers import WanTransformer3DModel, WanVACETransformer3DModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, RefevalError  # noqa: E402
from refeval.generators.wan.catalogue import Architecture  # noqa: E402
from refeval.generators.wan.checkpoint_files import inspect_checkpoint, open_checkpoint  # noqa: E402
from refeval.generators.wan.checkpoints import (  # noqa: E402
    load_text_encoder,
    load_transformer,
    load_vae,
    save_transformer,
)
from tests.generators.checkpoint_states import (  # noqa: E402
    SMALL,
    SMALL_VACE,
    TEXT,
    VAE,
    Make,
    State,
    as_index,
    as_nested_pickle,
    as_old_pickle,
    as_pickle,
    as_single,
    original_state,
    random_projectors,
    random_text_encoder,
    random_transformer,
    random_vae,
    same,
    to_original_text,
    to_original_vae,
)


def load_small(path: Path, architecture: Architecture = SMALL) -> None:
    load_transformer(path, WanTransformer3DModel, architecture, dtype=torch.float32, model="refalign-1.3b")


def refusal(kind: type[RefevalError], action: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "refeval fetch model refalign-1.3b" in (caught.value.cure or "")
    return str(caught.value)


def test_the_wrong_size_is_named_with_both_shapes(tmp_path: Path) -> None:
    path = as_single(original_state(random_transformer("t2v"), tmp_path), tmp_path)
    larger = replace(SMALL, layers=4, heads=6)
    text = refusal(BadInput, lambda: load_small(path, larger))
    assert "not the weights of refalign-1.3b" in text
    assert "a transformer of 4 layers and width 144" in text
    assert "text-to-video transformer (3 layers, width 96)" in text
    assert re.search(r"patch_embedding.weight has \(96, 16, 1, 2, 2\), model wants \(144, 16, 1, 2, 2\)", text)
    assert re.search(r"missing +27 tensors: blocks.3.scale_shift_table", text)
    smaller = replace(SMALL, layers=2)
    assert re.search(r"unexpected +27 tensors: blocks.2", refusal(BadInput, lambda: load_small(path, smaller)))


def test_missing_and_extra_tensors_are_counted_and_named(tmp_path: Path) -> None:
    state = original_state(random_transformer("t2v"), tmp_path)
    for block in range(3):
        for name in ("q", "k"):
            del state[f"blocks.{block}.self_attn.{name}.bias"]
    state["novelty.weight"] = torch.zeros(2, 5)
    text = refusal(BadInput, lambda: load_small(as_pickle(state, tmp_path)))
    assert re.search(r"missing +6 tensors: blocks.0.attn1.to_q.bias \(96,\); .*; \.\.\.", text)
    assert re.search(r"unexpected +1 tensors: novelty.weight \(2, 5\)\n", text)
    assert "wrong shape" not in text


def test_the_same_tensor_under_two_prefixes_is_refused(tmp_path: Path) -> None:
    state = original_state(random_transformer("t2v"), tmp_path)
    state["module.head.head.bias"] = state["head.head.bias"].clone()
    assert re.search(
        r"twice +1 tensors: .*head.head.bias", refusal(BadInput, lambda: load_small(as_pickle(state, tmp_path)))
    )


@pytest.mark.parametrize(
    ("other", "seems"),
    [
        (lambda: to_original_vae(random_vae().state_dict()), "a Wan VAE"),
        (lambda: to_original_text(random_text_encoder().state_dict()), "a umT5 text encoder"),
        (lambda: random_transformer("vace").state_dict(), "a Wan2.1 VACE transformer"),
        (lambda: {"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 96)}, "a LoRA"),
        (random_projectors, "RefAlign projectors without a transformer"),
    ],
)
def test_other_weights_are_named_for_what_they_are(other: Callable[[], State], seems: str, tmp_path: Path) -> None:
    assert seems in refusal(BadInput, lambda: load_small(as_pickle(other(), tmp_path)))


def test_a_transformer_is_neither_vae_nor_text_encoder(tmp_path: Path) -> None:
    path = as_pickle(random_transformer("t2v").state_dict(), tmp_path)
    for load, config in ((load_vae, VAE), (load_text_encoder, TEXT)):
        text = refusal(
            BadInput,
            lambda load=load, config=config: load(path, dtype=torch.float32, config=config, model="refalign-1.3b"),
        )
        assert "text-to-video transformer" in text


def test_a_config_that_contradicts_the_architecture_is_refused(tmp_path: Path) -> None:
    random_transformer("vace").save_pretrained(tmp_path)
    other = replace(SMALL_VACE, vace_layers=(0, 1))
    with pytest.raises(BadInput, match="vace_layers"):
        load_transformer(tmp_path, WanVACETransformer3DModel, other, dtype=torch.float32)
    official = {"_class_name": "VaceWanModel", "num_heads": 8, "vace_layers": [0, 2]}
    (tmp_path / "config.json").write_text(json.dumps(official))
    with pytest.raises(BadInput, match="num_attention_heads"):
        load_transformer(tmp_path, WanVACETransformer3DModel, SMALL_VACE, dtype=torch.float32)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(CorruptFile, match=r"config\.json"):
        load_transformer(tmp_path, WanVACETransformer3DModel, SMALL_VACE, dtype=torch.float32)


@pytest.mark.parametrize("write", [as_single, as_pickle, as_old_pickle, as_nested_pickle])
@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.5, 0.97, 0.9999])
def test_a_file_that_is_cut_short_is_named(write: Make, share: float, tmp_path: Path) -> None:
    path = write(random_transformer("t2v").state_dict(), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    text = refusal(CorruptFile, lambda: load_small(path))
    assert text.startswith(f"{path}: cut short or not a file of weights")
    assert refusal(CorruptFile, lambda: inspect_checkpoint(path, model="refalign-1.3b"))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html>Not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
        b"\x80\x02.",
    ],
)
def test_a_file_of_something_else_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((CorruptFile, BadInput)) as caught:
        load_small(path)
    assert str(path) in str(caught.value)
    assert ("git-lfs pointer" in str(caught.value)) == (b"git-lfs" in content)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = as_index(random_transformer("t2v").state_dict(), tmp_path)
    lost = tmp_path / "Phantom_Wan_14B-00002-of-00003.safetensors"
    lost.unlink()
    assert "1 of 3 files" in refusal(MissingPrerequisite, lambda: load_small(index))
    index.unlink()
    for path in (tmp_path, tmp_path / "Phantom_Wan_14B-00003-of-00003.safetensors"):
        assert lost.name in refusal(MissingPrerequisite, lambda path=path: load_small(path))


def test_a_broken_shard_and_a_broken_index_are_named(tmp_path: Path) -> None:
    index = as_index(random_transformer("t2v").state_dict(), tmp_path)
    shard = tmp_path / "Phantom_Wan_14B-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert refusal(CorruptFile, lambda: load_small(index)).startswith(str(shard))
    for text in ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(text)
        assert refusal(CorruptFile, lambda: load_small(index)).startswith(str(index))


def test_an_index_decides_between_two_copies_and_without_one_they_are_refused(tmp_path: Path) -> None:
    state = random_transformer("t2v").state_dict()
    index = as_index(state, tmp_path)
    key = "proj_out.bias"
    owner = json.loads(index.read_text())["weight_map"][key]
    other = next(file for file in sorted(tmp_path.glob("*.safetensors")) if file.name != owner)
    save_file(load_file(other) | {key: torch.zeros(64)}, other)
    loaded, _ = load_transformer(index, WanTransformer3DModel, SMALL, dtype=torch.float32)
    assert same(loaded.state_dict(), state)
    index.unlink()
    with pytest.raises(BadInput, match=r"two files hold a tensor named 'proj_out\.bias'"):
        open_checkpoint(tmp_path)


class Payload:
    """Unpickled by an ordinary reader, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.target, "it ran")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_with_a_payload_is_refused_and_does_not_run(new_format: bool, tmp_path: Path) -> None:
    target, path = tmp_path / "ran.txt", tmp_path / "model.pth"
    content = {"weight": torch.zeros(2), "extra": Payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    for action in (lambda: load_small(path), lambda: inspect_checkpoint(path, model="refalign-1.3b")):
        assert "could run code" in refusal(BadInput, action)
    path.write_bytes(pickle.dumps(content["extra"]))
    refusal(BadInput, lambda: load_small(path))
    assert not target.exists()
    torch.load(as_payload(path, target), weights_only=False)
    assert target.exists(), "the payload must be live, or this test proves nothing"


def as_payload(path: Path, target: Path) -> Path:
    torch.save({"extra": Payload(target)}, path)
    return path


def test_paths_without_weights_say_what_to_do(tmp_path: Path) -> None:
    assert "no weights at" in refusal(MissingPrerequisite, lambda: load_small(tmp_path / "absent"))
    assert "no weights in this folder" in refusal(MissingPrerequisite, lambda: load_small(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    assert ".safetensors, .index.json" in refusal(BadInput, lambda: load_small(tmp_path / "notes.txt"))
    random_transformer("t2v").save_pretrained(tmp_path / "pipeline" / "transformer")
    with pytest.raises(BadInput, match="transformer"):
        load_small(tmp_path / "pipeline")
    torch.save({"step": 3}, tmp_path / "nothing.pth")
    assert "no tensors" in refusal(BadInput, lambda: load_small(tmp_path / "nothing.pth"))


def test_weights_are_not_saved_beside_older_ones_that_would_be_read_instead(tmp_path: Path) -> None:
    old, new = random_transformer("t2v"), random_transformer("t2v", seed=1)
    old.save_pretrained(tmp_path, max_shard_size="400KB")
    with pytest.raises(BadInput, match="other weights"):
        save_transformer(new, tmp_path, keys="diffusers")
    loaded, _ = load_transformer(tmp_path, WanTransformer3DModel, SMALL, dtype=torch.float32)
    assert same(loaded.state_dict(), old.state_dict())


def test_projectors_go_only_where_they_belong(tmp_path: Path) -> None:
    source = random_transformer("t2v")
    for keys in ("original", "diffusers"):
        with pytest.raises(ValueError, match="projectors"):
            save_transformer(source, tmp_path / "x", keys=keys, projectors=random_projectors())
    with pytest.raises(ValueError, match="projectors"):
        save_transformer(source, tmp_path / "x", keys="refalign", projectors={"head.head.bias": torch.zeros(1)})
    # Wan's norm3 is the norm2 of diffusers: this one would come back as another parameter.
    source.blocks[0].norm3 = torch.nn.LayerNorm(SMALL.width)
    with pytest.raises(ValueError, match=r"blocks\.0\.norm3\.weight"):
        save_transformer(source, tmp_path / "x", keys="original")
    assert not list(tmp_path.iterdir())
