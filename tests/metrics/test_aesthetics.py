"""What Aesthetics does: a mean over frames, other heads through open_clip, errors that a user can act on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from refeval.cases import Case, Category
from refeval.clips import Clip, Frame
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.metrics.aesthetics import CLIP, HEAD, Aesthetics, OtherHead
from refeval.metrics.networks.aesthetic_clip import load_open_clip, to_open_clip
from refeval.metrics.networks.aesthetic_head import AestheticHead, load_head
from refeval.metrics.networks.aesthetic_raters import open_clip_rater, published_rater, tiny_rater
from refeval.place import Place
from tests.metrics.parity_libraries import run_beside

_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=())
_TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 48,
    "hidden_act": "quick_gelu",
}


@pytest.fixture(scope="module")
def metric() -> Aesthetics:
    metric = Aesthetics(tiny=True)
    metric.prepare()
    return metric


def noise(count: int, height: int = 32, width: int = 48) -> Frame:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def tower(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**_TOWER)).eval()


def publish(folder: Path, model: Any) -> Place:
    for source in (CLIP, HEAD):
        (folder / source.repository).mkdir(parents=True)
    save_file(model.state_dict(), folder / CLIP.repository / "model.safetensors")
    (folder / CLIP.repository / "config.json").write_text(json.dumps(model.config.to_dict()))
    torch.save(AestheticHead(_TOWER["projection_dim"]).state_dict(), folder / HEAD.repository / HEAD.patterns[0])
    return Place(weights=folder, device="cpu")


def at(place: Place) -> Aesthetics:
    metric = Aesthetics()
    metric.place = place
    return metric


def test_the_score_is_the_mean_rating_of_32_frames(metric: Aesthetics) -> None:
    frames = noise(40)
    score = metric.score(_CASE, Clip.from_frames(frames, 8))
    ratings = score.details["rating_per_frame"]
    assert score.frames_used == len(ratings) == 32
    assert score.value == pytest.approx(np.mean(ratings), abs=1e-6)
    assert score.strict_value == score.value
    # Of 40 frames, the 5th that is looked at is number floor(4 * 39 / 31).
    alone = tiny_rater().rate([Image.fromarray(frames[5])])
    assert ratings[4] == pytest.approx(float(alone), abs=1e-6)
    assert np.std(ratings) > 1e-5


def test_order_of_frames_does_not_matter(metric: Aesthetics) -> None:
    frames = noise(32)
    forth, back = (metric.score(_CASE, Clip.from_frames(f, 8)).value for f in (frames, frames[::-1].copy()))
    # The sum of 32 float32 numbers in another order.
    assert back == pytest.approx(forth, abs=1e-6)


def test_settings_and_weights(tmp_path: Path) -> None:
    common = {"precision": "float32", "attention": "sdpa", "frames": 32}
    assert Aesthetics().settings() == {**common, "clip": CLIP.repository}
    assert Aesthetics(tiny=True).settings() == {**common, "weights": "random"}
    assert Aesthetics(tiny=True).weights() == {}
    digests = at(publish(tmp_path, tower())).weights()
    names = ("model.safetensors", "config.json")
    assert set(digests) == {f"{CLIP.repository}/{n}" for n in names} | {f"{HEAD.repository}/aesthetic-model.pth"}


def test_published_files_are_scored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    metric = at(publish(tmp_path, tower()))
    metric.prepare()
    assert np.isfinite(metric.score(_CASE, Clip.from_frames(noise(3), 8)).value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("missing", [CLIP, HEAD])
def test_missing_weights_name_the_command(tmp_path: Path, missing: Any) -> None:
    place = publish(tmp_path, tower())
    (tmp_path / missing.repository / missing.patterns[0]).unlink()
    for ask in (Aesthetics.prepare, Aesthetics.weights):
        with pytest.raises(MissingPrerequisite, match=f"'aesthetics'.*{missing.repository}") as caught:
            ask(at(place))
        assert caught.value.cure == f"refeval fetch metrics --weights {tmp_path}"


def test_wrong_weights_are_one_error_that_names_tensors(tmp_path: Path) -> None:
    place = publish(tmp_path, tower())
    clip = tmp_path / CLIP.repository / "model.safetensors"
    state = tower().state_dict()
    del state["vision_model.post_layernorm.bias"]
    save_file(state, clip)
    with pytest.raises(BadInput, match=r"not the weights of CLIP ViT-L/14") as caught:
        at(place).prepare()
    assert "missing  1 tensors: vision_model.post_layernorm.bias" in str(caught.value)

    save_file(tower().state_dict(), clip)
    head = tmp_path / HEAD.repository / HEAD.patterns[0]
    torch.save({f"other.{key}": value for key, value in AestheticHead().state_dict().items()}, head)
    with pytest.raises(BadInput, match="not the weights of an aesthetic head") as caught:
        published_rater(clip, head, "cpu")
    assert "left over  10 tensors: other.layers.0.bias" in str(caught.value)


def test_linear_heads_of_any_width_are_read(tmp_path: Path) -> None:
    linear = nn.Linear(512, 1)
    torch.save(linear.state_dict(), tmp_path / "sa_0_4_vit_b_32_linear.pth")
    embeddings = torch.randn(3, 512)
    assert torch.equal(load_head(tmp_path / "sa_0_4_vit_b_32_linear.pth")(embeddings), linear(embeddings))


def test_five_layers_are_one_affine_map() -> None:
    head = AestheticHead()
    a, b = torch.randn(2, 768)
    middle = (head(a) + head(b)) / 2
    assert torch.allclose(head((a + b) / 2), middle, atol=1e-5)


# open_clip.


def test_open_clip_names_and_shapes() -> None:
    block = {
        "ln_1.weight": (32,),
        "ln_1.bias": (32,),
        "attn.in_proj_weight": (96, 32),
        "attn.in_proj_bias": (96,),
        "attn.out_proj.weight": (32, 32),
        "attn.out_proj.bias": (32,),
        "ln_2.weight": (32,),
        "ln_2.bias": (32,),
        "mlp.c_fc.weight": (64, 32),
        "mlp.c_fc.bias": (64,),
        "mlp.c_proj.weight": (32, 64),
        "mlp.c_proj.bias": (32,),
    }
    expected = {
        "class_embedding": (32,),
        "positional_embedding": (50, 32),
        "proj": (32, 48),
        "conv1.weight": (32, 3, 32, 32),
        **{f"{norm}.{kind}": (32,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")},
        **{f"transformer.resblocks.{n}.{key}": shape for n in range(2) for key, shape in block.items()},
    }
    state = to_open_clip(tower().state_dict())
    assert {key: tuple(value.shape) for key, value in state.items()} == expected
    # Under open_clip's own names nothing changes, and the text tower is left out.
    again = to_open_clip({"logit_scale": torch.ones(()), **{f"visual.{key}": value for key, value in state.items()}})
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_query_key_and_value_are_stacked_in_this_order() -> None:
    state = tower().state_dict()
    merged = to_open_clip(state)["transformer.resblocks.1.attn.in_proj_weight"]
    for part, letter in zip(torch.split(merged, 32), "qkv", strict=True):
        assert torch.equal(part, state[f"vision_model.encoder.layers.1.self_attn.{letter}_proj.weight"])


def test_without_open_clip_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingPrerequisite, match="open_clip is not installed") as caught:
        load_open_clip("ViT-B-32-quickgelu", tmp_path / "clip.safetensors", torch.device("cpu"))
    assert "pip install open_clip_torch" in (caught.value.cure or "")


def test_no_command_is_said_to_fetch_files_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Visual(nn.Linear):
        image_size = (32, 32)

    library = SimpleNamespace(
        list_models=lambda: ["tiny"],
        create_model=lambda *_args, **_settings: SimpleNamespace(visual=Visual(2, 2)),
    )
    monkeypatch.setitem(sys.modules, "open_clip", library)
    good, other, broken = (tmp_path / name for name in ("good.safetensors", "other.safetensors", "broken.pt"))
    save_file({f"visual.{key}": value for key, value in nn.Linear(2, 2).state_dict().items()}, good)
    save_file({"visual.something": torch.zeros(2)}, other)
    broken.write_bytes(b"no weights")
    for clip, head in ((other, other), (broken, other), (good, other), (good, broken)):
        with pytest.raises((BadInput, CorruptFile), match=r"not the weights of|not a file of weights") as caught:
            open_clip_rater("tiny", clip, head, "cpu")
        assert "open_clip's tiny" in str(caught.value.cure)
        assert "refeval fetch" not in str(caught.value)


def test_open_clip_parity_for_the_same_weights(tmp_path: Path) -> None:
    model = tower()
    place = publish(tmp_path / "weights", model)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    head = tmp_path / "weights" / HEAD.repository / HEAD.patterns[0]
    (tmp_path / "head.pth").write_bytes(head.read_bytes())
    vision = {"layers": 2, "width": 32, "patch_size": 32, "image_size": 224, "head_width": 16, "mlp_ratio": 2.0}
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 48, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "tiny-quickgelu.json").write_text(json.dumps(config))
    images = [Image.fromarray(frame) for frame in noise(3, 120, 208)]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")

    run_beside("open_clip", "rated_by_open_clip", tmp_path)
    theirs = json.loads((tmp_path / "result.json").read_text())

    rater = _published(place)
    # Measured 7e-7: attention and projections are summed in another order.
    assert np.abs(rater.embed(images).numpy() - np.asarray(theirs["embeddings"])).max() < 1e-5
    assert rater.rate(images).tolist() == pytest.approx(theirs["ratings"], abs=1e-5)
    assert theirs["score"] == pytest.approx(theirs["ratings"][0], abs=1e-5)
    assert theirs["settings"]["clip"] == "open_clip tiny-quickgelu"
    assert sorted(theirs["weights"]) == ["clip", "head"]


def _published(place: Place) -> Any:
    assert place.weights
    return published_rater(
        place.weights / CLIP.repository / "model.safetensors", place.weights / HEAD.repository / HEAD.patterns[0], "cpu"
    )


def test_files_of_another_head_must_be_there(tmp_path: Path) -> None:
    other = OtherHead(model="ViT-B-32-quickgelu", clip=tmp_path / "clip.pt", head=tmp_path / "head.pth")
    with pytest.raises(MissingPrerequisite, match=r"no weights at .*clip\.pt"):
        Aesthetics(other=other).weights()
