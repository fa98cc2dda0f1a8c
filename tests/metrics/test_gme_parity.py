"""GME has the numbers of the official script, on a small Qwen2-VL with the golden's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from refeval.errors import UnusableClip
from refeval.metrics.networks.gme import (
    IMAGE_INSTRUCTION,
    TEXT_INSTRUCTION,
    Gme,
    image_content,
    load_gme,
    prompt_of,
)
from refeval.metrics.networks.gme_images import first_size, patches_of
from refeval.metrics.networks.gme_tiny import SPECIAL_TOKENS, tiny_tokenizer
from refeval.metrics.networks.gme_weights import GME
from refeval.place import Place
from tests.metrics.seeded_weights import checksum, seeded_state

# The golden's own spread (padding, batch) is 2e-7; measured here: 3e-7 at most.
_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def facts(goldens: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((goldens / "metrics/gme_tiny.json").read_text())
    return content


@pytest.fixture(scope="module")
def arrays(goldens: Path) -> Mapping[str, NDArray[Any]]:
    with np.load(goldens / "metrics/gme_tiny.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def images(arrays: Mapping[str, NDArray[Any]]) -> list[Image.Image]:
    return [Image.fromarray(arrays[f"image{index}"]) for index in range(3)]


@pytest.fixture(scope="module")
def state(facts: Mapping[str, Any]) -> dict[str, Tensor]:
    state = seeded_state(
        {key: tuple(value["shape"]) for key, value in facts["keys"].items()}, weight_seed=facts["weight_seed"]
    )
    assert checksum(state) == facts["weights_sha256"]
    return state


def publish(folder: Path, facts: Mapping[str, Any], state: Mapping[str, Tensor], *, shards: int = 2) -> Place:
    """A weights folder with GME as it is published: flat configuration, tokenizer, shards with an index."""
    target = folder / GME.repository
    target.mkdir(parents=True)
    names = [f"model-{index:05d}-of-{shards:05d}.safetensors" for index in range(1, shards + 1)]
    owners = {key: names[index % shards] for index, key in enumerate(state)}
    for name in names:
        save_file({key: state[key] for key in state if owners[key] == name}, target / name)
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": owners}))
    tokens = {"bos_token_id": None, "eos_token_id": facts["special_ids"]["<|im_end|>"]}
    config = {**facts["text_config"], **tokens, "vision_config": facts["vision_config"], "model_type": "qwen2_vl"}
    (target / "config.json").write_text(json.dumps(config))
    tiny_tokenizer().backend_tokenizer.save(str(target / "tokenizer.json"))
    return Place(weights=folder, device="cpu")


@pytest.fixture(scope="module")
def gme(facts: Mapping[str, Any], state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Gme:
    return load_gme(publish(tmp_path_factory.mktemp("gme"), facts, state), tiny=False, precision="float32")


def distance(ours: Tensor, theirs: NDArray[Any]) -> float:
    assert tuple(ours.shape) == theirs.shape
    return float(np.abs(ours.double().numpy() - theirs.astype(np.float64)).max())


def test_token_ids_parity_is_exact(gme: Gme, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    prompts = [prompt_of(TEXT_INSTRUCTION, text) for text in facts["texts"]]
    assert facts["instruction_text_instr"] == TEXT_INSTRUCTION
    assert facts["instruction_text_noinstr"] == IMAGE_INSTRUCTION
    assert prompts[0] == facts["decoded_template_text0"]
    ids, mask = gme.tokens(prompts)
    assert np.array_equal(ids, arrays["text_input_ids"])
    assert np.array_equal(mask, arrays["text_attention_mask"])
    ids = facts["special_ids"]
    assert ids.items() <= {token: 256 + index for index, token in enumerate(SPECIAL_TOKENS)}.items()


def test_image_prompt_parity_is_exact(gme: Gme, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    counts = arrays["image_grid_thw"].prod(1) // 4
    prompts = [prompt_of(IMAGE_INSTRUCTION, image_content(int(count))) for count in counts]
    assert prompts[0].startswith(facts["decoded_template_image0_head"])
    assert prompts[0].endswith(facts["decoded_template_image0_tail"])
    _, mask = gme.tokens(prompts)
    assert np.array_equal(mask.sum(1), arrays["image_input_ids_len"])


def test_size_table_parity_is_exact(facts: Mapping[str, Any]) -> None:
    for name, expected in facts["size_table"].items():
        width, height = map(int, name.removeprefix("crop").split("x"))
        if "error" in expected:
            with pytest.raises(UnusableClip, match=f"{width}x{height}"):
                first_size(width, height)
            continue
        assert list(first_size(width, height)) == expected["fetch_image_wh"], name
        _, grids = patches_of([Image.new("RGB", (width, height))])
        assert grids.tolist() == [expected["grid_thw"]], name
        assert int(grids.prod()) // 4 == expected["n_image_tokens"], name


def test_pixels_parity(images: list[Image.Image], facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    pixels, grids = patches_of(images)
    assert np.array_equal(grids, arrays["image_grid_thw"])
    assert list(pixels.shape) == facts["pixel_values_shape"]
    assert distance(pixels[:64], arrays["pixel_values_first64rows_f32"]) < _TOLERANCE
    assert pixels.double().sum().item() == pytest.approx(arrays["pixel_values_sum_f64"].item(), rel=1e-9)


def test_vision_tower_parity(gme: Gme, images: list[Image.Image], arrays: Mapping[str, NDArray[Any]]) -> None:
    pixels, grids = patches_of(images)
    with torch.inference_mode():
        features = gme.model.visual(pixels, grid_thw=grids).pooler_output
    assert distance(features[:32], arrays["visual_features_first32"]) < _TOLERANCE


def test_text_embeddings_parity(gme: Gme, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    texts = gme.embed_texts(facts["texts"])
    assert distance(texts, arrays["text_instr"]) < _TOLERANCE
    # Upstream pads on the left for flash attention.
    assert distance(texts, arrays["text_instr_leftpad"]) < _TOLERANCE
    assert distance(gme.embed_texts(facts["texts"], IMAGE_INSTRUCTION), arrays["text_noinstr"]) < _TOLERANCE


def test_image_embeddings_parity(gme: Gme, images: list[Image.Image], arrays: Mapping[str, NDArray[Any]]) -> None:
    together = gme.embed_images(images)
    one_by_one = torch.cat([gme.embed_images([image]) for image in images])
    for name in ("image_emb", "image_emb_leftpad", "image_emb_single"):
        assert distance(together, arrays[name]) < _TOLERANCE
        assert distance(one_by_one, arrays[name]) < _TOLERANCE


def test_score_parity(
    gme: Gme, images: list[Image.Image], facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    texts_nd, images_nd = gme.embed_texts(facts["texts"]), gme.embed_images(images)
    assert distance((texts_nd * images_nd).sum(1), arrays["text_image_scores"]) < _TOLERANCE
    rounded = (texts_nd.half() * images_nd.half()).sum(1)
    assert np.array_equal(rounded.float(), arrays["scores_f16_mul_sum"])
    assert rounded.mean().item() == arrays["scores_f16_mean"].item()


def test_parity_is_not_reached_by_the_stock_forward(
    gme: Gme, images: list[Image.Image], facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    pixels, grids = patches_of(images)
    contents = [image_content(int(count)) for count in grids.prod(1) // 4]
    stock = _stock_embeddings(
        gme, [prompt_of(IMAGE_INSTRUCTION, c) for c in contents], pixel_values=pixels, image_grid_thw=grids
    )
    cosines = (stock * gme.embed_images(images)).sum(1)
    assert distance(stock, arrays["image_emb"]) > 0.01
    assert cosines.tolist() == pytest.approx(facts["cosine_gme_vs_true_mrope_forward_images"], abs=_TOLERANCE)
    texts = _stock_embeddings(gme, [prompt_of(TEXT_INSTRUCTION, text) for text in facts["texts"]])
    assert distance(texts, arrays["text_instr"]) < _TOLERANCE


def _stock_embeddings(gme: Gme, prompts: list[str], **vision: Tensor) -> Tensor:
    """Last tokens of Qwen2-VL as transformers runs it, with rows and columns as positions of image tokens."""
    ids, mask = gme.tokens(prompts)
    kinds = (ids == gme.model.config.image_token_id).int()
    with torch.inference_mode():
        outputs = gme.model(input_ids=ids, attention_mask=mask, mm_token_type_ids=kinds, **vision)
    last = outputs.last_hidden_state[torch.arange(len(prompts)), mask.sum(1) - 1]
    return torch.nn.functional.normalize(last, dim=1)
