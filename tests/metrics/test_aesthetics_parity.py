"""Aesthetics has the numbers of the official script, on seeded embeddings and on a small CLIP."""

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
from torch.nn import functional

from refeval.cases import Case, Category
from refeval.clips import Clip
from refeval.metrics.aesthetics import CLIP, HEAD, Aesthetics
from refeval.metrics.networks.aesthetic_head import load_head
from refeval.metrics.networks.aesthetic_raters import Rater, published_rater
from refeval.place import Place
from tests.metrics.seeded_weights import checksum, seeded_state

# Measured here: 9e-7 at most.
_TOLERANCE = 1e-5
_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="a man", references=())


@pytest.fixture(scope="module")
def facts(goldens: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((goldens / "metrics/aesthetics.json").read_text())
    return content


@pytest.fixture(scope="module")
def arrays(goldens: Path) -> Mapping[str, NDArray[Any]]:
    with np.load(goldens / "metrics/aesthetics.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def place(facts: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A weights folder with CLIP and head under their published names."""
    folder = tmp_path_factory.mktemp("aesthetics")
    clip, head = folder / CLIP.repository, folder / HEAD.repository
    clip.mkdir(parents=True)
    head.mkdir(parents=True)
    tower = _filled(facts["clip_tiny_keys"], facts["weight_seed"], facts["clip_tiny_weights_sha256"])
    # The published file holds the whole CLIP, and the numbers of the positions.
    rest = {
        "logit_scale": torch.tensor(1.0),
        "text_model.embeddings.position_ids": torch.arange(8)[None],
        "vision_model.embeddings.position_ids": torch.arange(257)[None],
    }
    save_file({**tower, **rest}, clip / "model.safetensors")
    config = {"model_type": "clip", "vision_config": {**facts["clip_tiny_config"], "model_type": "clip_vision_model"}}
    (clip / "config.json").write_text(json.dumps(config))
    layers = _filled(facts["mlp_keys"], facts["weight_seed"], facts["mlp_weights_sha256"])
    torch.save(layers, head / "aesthetic-model.pth")
    return Place(weights=folder, device="cpu")


@pytest.fixture(scope="module")
def rater(place: Place) -> Rater:
    assert place.weights
    return published_rater(
        place.weights / CLIP.repository / "model.safetensors",
        place.weights / HEAD.repository / "aesthetic-model.pth",
        "cpu",
    )


@pytest.fixture(scope="module")
def images(arrays: Mapping[str, NDArray[Any]]) -> list[Image.Image]:
    return [Image.fromarray(image) for image in arrays["images"]]


def _filled(keys: Mapping[str, Any], seed: int, sha256: str) -> dict[str, Tensor]:
    state = seeded_state({key: tuple(value["shape"]) for key, value in keys.items()}, weight_seed=seed)
    assert checksum(state) == sha256
    return state


def distance(ours: Tensor, theirs: NDArray[Any]) -> float:
    assert tuple(ours.shape) == theirs.shape
    return float(np.abs(ours.double().numpy() - theirs.astype(np.float64)).max())


def test_head_parity(place: Place, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    assert place.weights
    head = load_head(place.weights / HEAD.repository / "aesthetic-model.pth")
    with torch.inference_mode():
        normed = functional.normalize(torch.from_numpy(arrays["raw_embed"]))
        ratings = head(normed)[:, 0]
        first_layer = head.get_submodule("layers.0")(normed)
    assert distance(normed, arrays["normed"]) < _TOLERANCE
    assert distance(first_layer[:, :16], arrays["mid_1024"]) < _TOLERANCE
    assert distance(ratings, arrays["scores"]) < _TOLERANCE
    assert ratings.mean().item() == pytest.approx(float(facts["aes_score_mean"]), abs=1e-7)


def test_pixels_parity(rater: Rater, images: list[Image.Image], arrays: Mapping[str, NDArray[Any]]) -> None:
    pixels = rater.pixels(images)
    # The golden is kept in half precision: at most half a step of values below 4.
    assert distance(pixels[0], arrays["pixel_values_0_f16"]) < 2**-10
    assert pixels.double().sum((1, 2, 3)).tolist() == pytest.approx(arrays["pixel_values_sum_f64"].tolist(), rel=1e-6)


def test_embeddings_and_ratings_parity(
    rater: Rater, images: list[Image.Image], arrays: Mapping[str, NDArray[Any]]
) -> None:
    assert distance(rater.embed(images), arrays["clip_image_embeds"]) < _TOLERANCE
    assert distance(rater.rate(images), arrays["scorer_out"]) < _TOLERANCE


def test_metric_parity(place: Place, arrays: Mapping[str, NDArray[Any]]) -> None:
    metric = Aesthetics()
    metric.place = place
    metric.prepare()
    score = metric.score(_CASE, Clip.from_frames(arrays["images"], 8))
    # Of two frames the second is taken once, by truncation.
    assert score.frames_used == 32
    assert score.details["rating_per_frame"] == pytest.approx(
        [*[arrays["scorer_out"][0]] * 31, arrays["scorer_out"][1]], abs=_TOLERANCE
    )
    assert score.value == pytest.approx(np.mean(score.details["rating_per_frame"]), abs=1e-7)
    assert score.strict_value == score.value


def test_frames_parity_is_exact(facts: Mapping[str, Any]) -> None:
    for count, indices in facts["frame_indices_linspace32"].items():
        assert Aesthetics.frames.indices(int(count)) == indices
