"""Q-Align has the keys of the published checkpoint and gives the numbers of the official network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray
from torch import Tensor, nn

from refeval.errors import BadInput
from refeval.metrics.motion_smoothness import artefact_frames, smoothness, window_indices
from refeval.metrics.networks.qalign import QAlign, QAlignConfig, expected_levels, load_qalign
from refeval.metrics.networks.qalign_input import IMAGE_TOKEN, Question
from refeval.metrics.networks.qalign_language import LanguageConfig
from refeval.metrics.networks.qalign_scorer import WindowScorer
from refeval.metrics.networks.qalign_vision import AbstractorConfig, VisionConfig
from refeval.stored_weights import write_safetensors
from refeval.wanted_tensors import shapes_of
from tests.metrics.seeded_weights import checksum, seeded_state

Arrays = Mapping[str, NDArray[Any]]
_FLOAT32 = 1e-5
_LOGITS_FLOAT16, _WEIGHTED_FLOAT16 = 1e-3, 5e-4
_CONFIG = QAlignConfig(
    vision=VisionConfig(image=56, layers=2, width=48, heads=4, inner=96),
    abstractor=AbstractorConfig(queries=16, layers=2, heads=4, inner=72),
    language=LanguageConfig(vocabulary=100, layers=2, width=64, heads=4, inner=128),
)


@pytest.fixture(scope="module")
def facts(goldens: Path) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads((goldens / "metrics/qalign_tiny.json").read_text())
    return facts


@pytest.fixture(scope="module")
def arrays(goldens: Path) -> Arrays:
    with np.load(goldens / "metrics/qalign_tiny.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def state(facts: Mapping[str, Any], arrays: Arrays) -> dict[str, Tensor]:
    """The seeded weights of the golden."""
    shapes = {key: tuple(entry["shape"]) for key, entry in facts["keys"].items()}
    kept = {key: torch.from_numpy(arrays[f"kept/{key}"]) for key in facts["kept_constructor_values"]}
    state = seeded_state(shapes, weight_seed=facts["weight_seed"], kept=kept)
    assert checksum(state, without=kept) == facts["weights_sha256"]
    return state


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qalign") / "model.safetensors"
    write_safetensors(path, state)
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> QAlign:
    return load_qalign(checkpoint, dtype=torch.float32, config=_CONFIG)


def _question(ids: NDArray[np.int64], levels: list[int]) -> Question:
    tokens = [int(token) for token in ids]
    middle = tokens.index(IMAGE_TOKEN)
    return Question(before=tuple(tokens[:middle]), after=tuple(tokens[middle + 1 :]), levels=tuple(levels))


def _difference(ours: Tensor, golden: NDArray[Any]) -> float:
    assert tuple(ours.shape) == golden.shape
    return float(np.abs(ours.float().numpy() - golden).max())


def test_keys_and_shapes_of_the_published_checkpoint(goldens: Path) -> None:
    golden = json.loads((goldens / "metrics/qalign_keys.json").read_text())
    with torch.device("meta"):
        shapes = shapes_of(QAlign(QAlignConfig()))
    assert shapes == {key: tuple(entry["shape"]) for key, entry in golden["keys"].items()}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == golden["n_params"]


def test_eyes_and_every_layer_of_the_language_model(network: QAlign, arrays: Arrays) -> None:
    states: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _module, _inputs, output: states.update({name: output}))

    hooks = [keep("vision_last_hidden", network.model.vision_model)]
    hooks += [keep(f"llama_layer{i}", layer) for i, layer in enumerate(network.model.layers)]
    pixels = torch.from_numpy(arrays["pixel_values"])
    ids = arrays["input_ids"]
    assert np.array_equal(ids[0], ids[1])
    with torch.inference_mode():
        seen = network.see(pixels.flatten(0, 1))
        last = network.read(_question(ids[0], []), seen.reshape(2, -1, seen.shape[-1]))
        states |= {"abstractor_last_hidden": seen, "logits_all": network.lm_head(last)}
    for hook in hooks:
        hook.remove()
    states["logits_last"] = states["logits_all"][:, -1]
    compared = set(arrays) - {"pixel_values", "input_ids", "frames", "prompt_ids"}
    assert set(states) == {name for name in compared if not name.startswith(("kept/", "scorer_"))}
    differences = {name: _difference(state, arrays[name]) for name, state in states.items()}
    assert max(differences.values()) <= _FLOAT32, differences


def test_only_the_levels_are_computed_and_they_are_the_same(
    network: QAlign, arrays: Arrays, facts: Mapping[str, Any]
) -> None:
    levels = facts["preferential_ids"]
    with torch.inference_mode():
        seen = network.see(torch.from_numpy(arrays["pixel_values"]).flatten(0, 1))
        logits = network(_question(arrays["input_ids"][0], levels), seen.reshape(2, -1, seen.shape[-1]))
    assert _difference(logits, arrays["logits_last"][:, levels]) <= _FLOAT32


def test_the_official_scorer_end_to_end(checkpoint: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    logits, scores = _end_to_end(torch.float32, checkpoint, arrays, facts)
    assert _difference(logits, arrays["scorer_float32_logits"]) <= _FLOAT32
    _check_scores(scores, "float32", arrays, facts, tolerance=_FLOAT32)


def test_the_official_scorer_end_to_end_in_float16(
    checkpoint: Path, arrays: Arrays, facts: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The golden's order of roundings: attention step by step, and no float16 units of a newer CPU (oneDNN).
    monkeypatch.setattr(F, "scaled_dot_product_attention", _attention_step_by_step)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    logits, scores = _end_to_end(torch.float16, checkpoint, arrays, facts)
    assert logits.dtype == torch.float16
    assert _difference(logits, arrays["scorer_float16_logits"]) <= _LOGITS_FLOAT16
    _check_scores(scores, "float16", arrays, facts, tolerance=_WEIGHTED_FLOAT16)


def test_float16_is_as_close_to_float32_as_the_official_one(
    checkpoint: Path, arrays: Arrays, facts: Mapping[str, Any]
) -> None:
    logits, scores = _end_to_end(torch.float16, checkpoint, arrays, facts)
    exact, official = arrays["scorer_float32_logits"], torch.from_numpy(arrays["scorer_float16_logits"])
    assert _difference(logits, exact) <= _difference(official, exact)
    _check_scores(scores, "float16", arrays, facts, tolerance=_WEIGHTED_FLOAT16)


def _end_to_end(
    dtype: torch.dtype, checkpoint: Path, arrays: Arrays, facts: Mapping[str, Any]
) -> tuple[Tensor, list[float]]:
    network = load_qalign(checkpoint, dtype=dtype, config=_CONFIG)
    scorer = WindowScorer(network, _question(arrays["prompt_ids"][0], facts["preferential_ids"]))
    windows = window_indices(len(arrays["frames"]))
    seen = scorer.see(arrays["frames"])
    return scorer.logits(seen, windows), scorer.scores(seen, windows)


def _check_scores(
    scores: list[float], name: str, arrays: Arrays, facts: Mapping[str, Any], *, tolerance: float
) -> None:
    assert scores == pytest.approx(facts["scores"][name], abs=tolerance)
    assert scores == pytest.approx(arrays[f"scorer_{name}_weighted"].tolist(), abs=tolerance)
    artefacts = artefact_frames(scores)
    assert artefacts == facts["scores"][f"{name}_artifacts"]
    assert smoothness(artefacts, len(scores)) == facts["scores"][f"{name}_final"]


def _attention_step_by_step(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False) -> Tensor:
    similarities = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if is_causal:
        later = torch.ones_like(similarities, dtype=torch.bool).triu(1)
        similarities = similarities.masked_fill(later, -math.inf)
    return similarities.softmax(-1) @ v


def test_parity_needs_each_frame_through_the_vision_tower_only_once(network: QAlign, arrays: Arrays) -> None:
    frames = np.concatenate([arrays["frames"]] * 5)
    passes: list[int] = []
    hook = network.model.vision_model.register_forward_hook(
        lambda _module, inputs, _output: passes.append(len(inputs[0]))
    )
    scorer = WindowScorer(network, Question(before=(1,), after=(2,), levels=(3, 4, 5, 6, 7)))
    scores = scorer.scores(scorer.see(frames), window_indices(len(frames)))
    hook.remove()
    assert len(scores) == len(frames)
    assert sum(passes) == len(frames)


def test_batches_change_nothing(network: QAlign, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = WindowScorer(network, Question(before=(1,), after=(2,), levels=(3, 4, 5, 6, 7)))
    windows = window_indices(len(arrays["frames"]))
    whole = scorer.logits(scorer.see(arrays["frames"]), windows)
    monkeypatch.setattr("refeval.metrics.networks.qalign_scorer._IMAGES_AT_ONCE", 2)
    monkeypatch.setattr("refeval.metrics.networks.qalign_scorer._WINDOWS_AT_ONCE", 3)
    assert _difference(scorer.logits(scorer.see(arrays["frames"]), windows), whole.numpy()) <= _FLOAT32


def test_levels_are_weighted_in_the_precision_of_the_logits(goldens: Path) -> None:
    with np.load(goldens / "metrics/motion_smoothness.npz") as file:
        logits = torch.from_numpy(file["logits_f32"])
        for dtype, suffix in ((torch.float16, "f16"), (torch.float32, "f32")):
            assert np.abs(logits.to(dtype).softmax(-1).numpy() - file[f"softmax_{suffix}"]).max() <= 1e-7
            expected = [float(value) for value in file[f"weighted_{suffix}"]]
            assert expected_levels(logits.to(dtype)) == pytest.approx(expected, abs=1e-7)


def test_other_weights_are_refused_and_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    others = dict(state)
    del others["model.visual_abstractor.vit_eos"]
    others["extra.weight"] = torch.zeros(2)
    others["lm_head.weight"] = torch.zeros(3, 4)
    write_safetensors(path, others)
    with pytest.raises(BadInput, match="not the weights of Q-Align") as caught:
        load_qalign(path, dtype=torch.float32, config=_CONFIG)
    assert dict(caught.value.details) == {
        "missing": "1 tensors: model.visual_abstractor.vit_eos",
        "left over": "1 tensors: extra.weight",
        "wrong shape": "1 tensors: lm_head.weight (3, 4) instead of (100, 64)",
    }
    assert "refeval fetch metrics" in str(caught.value)


def test_the_rotary_constant_of_older_exports_is_no_difference(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {**state, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)})
    network = load_qalign(path, dtype=torch.float16, config=_CONFIG)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float16}
    assert set(network.state_dict()) == set(state)
