"""A wrong, broken or dangerous file of weights gets one error: what it is, what is wrong, and the cure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="weights need the extra 'render'")
pytest.importorskip("diffusers", reason="weights need the extra 'render'")
pytest.importorskip("transformers", reason="weights need the extra 'render'")

from diffusers import WanTransformer3DModel, WanVACETransformer3DModel  # noqa: E402

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, RefevalError  # noqa: E402
from refeval.generators.wan.catalogue import Architecture  # noqa: E402
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
    original_state,
    random_projectors,
    random_text_encoder,
    random_transformer,
    random_vae,
    to_original_text,
    to_original_vae,
)
from tests.refeval.weight_files import (  # noqa: E402
    State,
    as_pickle,
    as_single,
    same,
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


def test_what_cannot_be_opened_is_fetched_by_the_name_of_the_model(tmp_path: Path) -> None:
    assert "no weights at" in refusal(MissingPrerequisite, lambda: load_small(tmp_path / "absent"))
    for load in (load_vae, load_text_encoder):
        refusal(
            MissingPrerequisite,
            lambda load=load: load(tmp_path / "absent", dtype=torch.float32, model="refalign-1.3b"),
        )


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
