"""What GmeScore does: one text per clip, batches, settings, and errors that a user can act on."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from refeval.cases import Case, Category
from refeval.clips import Clip
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.metrics.gme import SOURCES, GmeScore
from refeval.metrics.networks.gme import Gme, load_gme
from refeval.metrics.networks.gme_tiny import tiny_model, tiny_tokenizer
from refeval.metrics.networks.gme_weights import GME
from refeval.place import Place

_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="a man plays {a guitar}", references=())
_CPU = Place(device="cpu")


@pytest.fixture(scope="module")
def metric() -> GmeScore:
    metric = GmeScore(tiny=True)
    metric.prepare()
    return metric


@pytest.fixture(scope="module")
def gme() -> Gme:
    return load_gme(_CPU, tiny=True)


def noise(seed: int, width: int = 48, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def clip(count: int = 40) -> Clip:
    return Clip.from_frames(np.stack([np.asarray(noise(seed)) for seed in range(count)]), 8)


@pytest.fixture
def batches(gme: Gme) -> Any:
    """Shapes of what goes into the language model."""
    seen: list[tuple[int, ...]] = []

    def remember(_module: Any, _args: Any, kwargs: Mapping[str, Tensor]) -> None:
        seen.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    handle = gme.model.language_model.register_forward_pre_hook(remember, with_kwargs=True)
    yield seen
    handle.remove()


def test_the_prompt_is_embedded_once_and_frames_in_batches(metric: GmeScore, batches: list[tuple[int, ...]]) -> None:
    score = metric.score(_CASE, clip())
    assert [rows for rows, _ in batches] == [1, 32]
    assert score.frames_used == len(score.details["cosine_per_frame"]) == 32


def test_the_score_is_the_mean_cosine_of_prompt_and_frames(metric: GmeScore, gme: Gme) -> None:
    score = metric.score(_CASE, clip())
    (text,) = gme.embed_texts([_CASE.prompt])
    # Of 40 frames, the 5th that is looked at is number floor(4 * 39 / 31).
    (frame,) = gme.embed_images([noise(5)])
    assert score.details["cosine_per_frame"][4] == pytest.approx(float(text @ frame), abs=1e-6)
    assert score.value == pytest.approx(np.mean(score.details["cosine_per_frame"]), abs=1e-6)
    assert score.strict_value == score.value
    assert -1 <= score.value <= 1


def test_scores_are_the_same_again(metric: GmeScore) -> None:
    first, again = (metric.score(_CASE, clip(5)) for _ in range(2))
    # Two runs may differ in the last bits where threads differ.
    assert again.value == pytest.approx(first.value, abs=1e-6)


def test_embeddings_have_length_one(gme: Gme) -> None:
    for embeddings in (gme.embed_texts(["a", "b " * 50]), gme.embed_images([noise(0), noise(1, 300, 20)])):
        assert embeddings.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_images_of_many_sizes_in_one_batch_are_as_each_alone(gme: Gme) -> None:
    images = [noise(seed, *size) for seed, size in enumerate([(5, 300), (48, 32), (640, 360), (100, 100), (1, 1)])]
    alone = torch.cat([gme.embed_images([image]) for image in images])
    # Measured 3e-7: sums are taken in another order.
    assert torch.allclose(gme.embed_images(images), alone, atol=2e-6, rtol=0)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_more_texts_and_images_than_a_batch(gme: Gme, batches: list[tuple[int, ...]]) -> None:
    texts = [f"{index} dogs" for index in range(40)]
    together = gme.embed_texts(texts)
    assert [rows for rows, _ in batches] == [32, 8]
    assert torch.allclose(together[35], gme.embed_texts([texts[35]])[0], atol=2e-6, rtol=0)
    assert gme.embed_images([noise(seed) for seed in range(33)]).shape == together[:33].shape


def test_no_texts_and_no_images_give_no_embeddings(gme: Gme) -> None:
    assert gme.embed_texts([]).shape == gme.embed_images([]).shape == (0, 32)


def test_long_texts_are_cut_at_1800_tokens(gme: Gme, batches: list[tuple[int, ...]]) -> None:
    long, longer = gme.embed_texts(["x" * 3000]), gme.embed_texts(["x" * 4000])
    assert batches == [(1, 1800), (1, 1800)]
    assert torch.equal(long, longer)


def test_grey_and_transparent_images_are_taken_as_rgb(gme: Gme) -> None:
    image = noise(0)
    grey = image.convert("L")
    embeddings = gme.embed_images([image, image.convert("RGBA"), grey, grey.convert("RGB")])
    assert torch.allclose(embeddings[0], embeddings[1], atol=2e-6)
    assert torch.allclose(embeddings[2], embeddings[3], atol=2e-6)


def test_metrics_share_one_model() -> None:
    assert load_gme(_CPU, tiny=True) is load_gme(Place(weights=Path("/nowhere")), tiny=True)


def test_attention_moves_only_the_last_bits(gme: Gme) -> None:
    eager = load_gme(_CPU, tiny=True, attention="eager")
    images = [noise(0), noise(1, 300, 20)]
    assert eager.model.config._attn_implementation == "eager"
    assert torch.allclose(eager.embed_images(images), gme.embed_images(images), atol=2e-6)


def test_settings_say_precision_attention_and_frames() -> None:
    settings = GmeScore().settings()
    assert settings == {"precision": "float16", "attention": "sdpa", "frames": 32, "batch": 32}
    other = GmeScore(precision="bfloat16", attention="eager").settings()
    assert (other["precision"], other["attention"]) == ("bfloat16", "eager")
    tiny = GmeScore(tiny=True)
    assert tiny.settings() == {**settings, "precision": "float32", "weights": "random"}
    assert tiny.weights() == {}


def test_listing_imports_no_torch() -> None:
    code = "import sys, refeval.metrics.gme, refeval.metrics.aesthetics; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


# What a user can get wrong.


def rename_as_newer_files(state: dict[str, Tensor]) -> None:
    for key in list(state):
        newer = key if key.startswith("visual.") else key.replace("model.", "language_model.")
        state[f"model.{newer}"] = state.pop(key)
    state["lm_head.weight"] = torch.zeros(264, 32)


def leave(_state: dict[str, Tensor]) -> None:
    pass


def publish(folder: Path, change: Callable[[dict[str, Tensor]], None] = leave) -> Place:
    """The tiny model in a weights folder, with the names of tensors that older files have."""
    target = folder / GME.repository
    target.mkdir(parents=True)
    model = tiny_model()
    state = {key.replace("language_model.", "model."): value for key, value in model.state_dict().items()}
    change(state)
    save_file(state, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(model.config.to_dict()))
    tiny_tokenizer().backend_tokenizer.save(str(target / "tokenizer.json"))
    return Place(weights=folder, device="cpu")


def at(place: Place) -> GmeScore:
    metric = GmeScore(precision="float32")
    metric.place = place
    return metric


@pytest.mark.parametrize("change", [leave, rename_as_newer_files])
def test_published_files_give_the_same_scores(
    tmp_path: Path, metric: GmeScore, change: Callable[[dict[str, Tensor]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    published = at(publish(tmp_path, change))
    published.prepare()
    assert published.score(_CASE, clip(3)).value == pytest.approx(metric.score(_CASE, clip(3)).value, abs=1e-6)
    digests = published.weights()
    assert sorted(digests) == [
        f"{GME.repository}/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert all(len(digest) == 64 for digest in digests.values())
    # The load report and the progress bar of transformers are not for users.
    assert capfd.readouterr() == ("", "")


def test_a_configuration_of_the_published_kind_is_understood(tmp_path: Path, metric: GmeScore) -> None:
    # Older files have the language model's numbers at the top, and the rotation under two names.
    place = publish(tmp_path)
    file = tmp_path / GME.repository / "config.json"
    config = json.loads(file.read_text())
    text = config.pop("text_config")
    rotation = text.pop("rope_parameters")
    scaling = {"type": "mrope", "mrope_section": rotation["mrope_section"]}
    older = {**text, **config, "rope_theta": rotation["rope_theta"], "rope_scaling": scaling}
    file.write_text(json.dumps(older))
    published = at(place)
    published.prepare()
    assert published.score(_CASE, clip(3)).value == pytest.approx(metric.score(_CASE, clip(3)).value, abs=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_stays_near_float32(tmp_path: Path, precision: str, tolerance: float, gme: Gme) -> None:
    half = load_gme(publish(tmp_path), tiny=False, precision=precision)
    assert half.dtype == getattr(torch, precision)
    for kind, item in (("embed_texts", _CASE.prompt), ("embed_images", noise(1))):
        embedding = getattr(half, kind)([item])
        assert embedding.dtype == half.dtype
        # Measured 7e-4 and 6e-3.
        assert torch.allclose(embedding.float(), getattr(gme, kind)([item]), atol=tolerance)


def test_products_sum_and_mean_are_in_half_precision(tmp_path: Path) -> None:
    metric = GmeScore()
    metric.place = publish(tmp_path)
    metric.prepare()
    score = metric.score(_CASE, clip(12))
    cosines = score.details["cosine_per_frame"]
    assert cosines == [float(np.float16(value)) for value in cosines]
    assert score.value == torch.tensor(cosines, dtype=torch.float16).mean().item()


@pytest.mark.parametrize("ask", [GmeScore.prepare, GmeScore.weights])
def test_missing_weights_name_the_command(tmp_path: Path, ask: Callable[[GmeScore], object]) -> None:
    assert SOURCES == (GME,)
    for place in (Place(), Place(weights=tmp_path)):
        with pytest.raises(MissingPrerequisite, match="metric 'gme'") as caught:
            ask(at(place))
        assert GME.repository in str(caught.value)
        assert str(caught.value.cure).startswith(f"refeval fetch metrics --weights {place.weights or 'DIR'}")


def test_a_missing_tokenizer_is_missed(tmp_path: Path) -> None:
    place = publish(tmp_path)
    (tmp_path / GME.repository / "tokenizer.json").unlink()
    with pytest.raises(MissingPrerequisite, match=r"tokenizer\.json"):
        at(place).prepare()


def test_wrong_weights_are_one_error_that_names_tensors(tmp_path: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        del state["visual.merger.ln_q.weight"]
        state["model.norm.weight"] = torch.zeros(7)
        state["model.adapter.weight"] = torch.zeros(2)

    with pytest.raises(BadInput) as caught:
        at(publish(tmp_path, spoil)).prepare()
    text = str(caught.value)
    assert "not the weights of GME" in text
    assert "missing      1 tensors: visual.merger.ln_q.weight" in text
    assert "left over    1 tensors: language_model.adapter.weight" in text
    assert "language_model.norm.weight (7,) instead of (32,)" in text
    assert caught.value.cure == "refeval fetch metrics --weights DIR"


def test_damaged_files_are_told(tmp_path: Path) -> None:
    place = publish(tmp_path)
    config = tmp_path / GME.repository / "config.json"
    config.write_text("{")
    with pytest.raises(CorruptFile, match=r"config\.json"):
        at(place).prepare()
    (tmp_path / GME.repository / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        at(place).prepare()


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    for wrong in ({"precision": "float8"}, {"attention": "guess"}):
        with pytest.raises(BadInput, match="GME: unknown setting"):
            load_gme(_CPU, tiny=False, **wrong)
    place = Place(weights=publish(tmp_path).weights, device="tpu")
    with pytest.raises(BadInput, match="unknown device 'tpu'"):
        at(place).prepare()


def test_an_attention_that_is_not_installed_is_missed() -> None:
    if importlib.util.find_spec("flash_attn"):
        pytest.skip("flash_attn is installed here")
    with pytest.raises(MissingPrerequisite, match="'flash_attention_2' is not available") as caught:
        load_gme(_CPU, tiny=True, attention="flash_attention_2")
    assert "sdpa" in (caught.value.cure or "")
