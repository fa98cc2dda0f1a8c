"""Matting: plain backgrounds without a model, and BiRefNet's loading path with a small repository made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.wan.matting import BiRefNet, PlainBackground, check_matting, make_matting
from refeval.generators.wan.references import composite_on_white, letterbox

_CONFIG_CODE = """
from transformers import PretrainedConfig


class SmallConfig(PretrainedConfig):
    model_type = "small_segmentation"

    def __init__(self, backbone_pretrained=False, **rest):
        self.backbone_pretrained = backbone_pretrained
        super().__init__(**rest)
"""
# As published code of that age is: no post_init, `config` replaced by an object of its own, a list as output.
_MODEL_CODE = """
import torch
from torch import nn
from transformers import PreTrainedModel

from .small_config import SmallConfig


class Options:
    pass


class SmallSegmentation(PreTrainedModel):
    config_class = SmallConfig

    def __init__(self, pretrained=True, config=SmallConfig()):
        super().__init__(config)
        self.config = Options()
        self.mix = nn.Conv2d(3, 1, 1)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        assert x.shape[-1] % 32 == 0 and x.shape[-2] % 32 == 0
        assert x.dtype == torch.float32 and not self.training
        logits = self.norm(self.mix(x))
        return [logits[..., ::4, ::4], logits]
"""
_CONFIG = {"auto_map": {"AutoModelForImageSegmentation": "owner/Other--small.SmallSegmentation"}}


def _weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "mix.weight": torch.randn(1, 3, 1, 1, generator=generator),
        "mix.bias": torch.randn(1, generator=generator),
        "norm.weight": torch.tensor([1.5]),
        "norm.bias": torch.tensor([0.2]),
        "norm.running_mean": torch.tensor([0.3]),
        "norm.running_var": torch.tensor([0.8]),
        "norm.num_batches_tracked": torch.tensor(1),
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "weights" / "owner" / "Small"
    folder.mkdir(parents=True)
    (folder / "small_config.py").write_text(_CONFIG_CODE)
    (folder / "small.py").write_text(_MODEL_CODE)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    save_file(_weights(), folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """transformers copies modelling code to a folder that it names at its own import."""
    folder = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


def _picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def _expected(image: Image.Image) -> NDArray[np.uint8]:
    """The small model in plain float64, pixel by pixel."""
    tensors = {name: tensor.double().numpy() for name, tensor in _weights().items()}
    values = (np.asarray(image) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    mixed = values @ tensors["mix.weight"][0, :, 0, 0] + tensors["mix.bias"][0]
    scale = tensors["norm.weight"] / np.sqrt(tensors["norm.running_var"] + 1e-5)
    logits = (mixed - tensors["norm.running_mean"]) * scale + tensors["norm.bias"]
    return np.asarray(np.floor(255 / (1 + np.exp(-logits))), np.uint8)


@pytest.mark.parametrize("size", [(64, 32), (50, 70), (1, 1)])
def test_the_last_output_becomes_a_mask_of_the_same_size(repository: Path, size: tuple[int, int]) -> None:
    image = _picture(*size)
    mask = BiRefNet(repository, "cpu").soft_mask(image)
    assert (mask.mode, mask.size) == ("L", size)
    # A share that lies on a whole level may be truncated to either side.
    assert np.abs(np.asarray(mask, int) - _expected(image)).max() <= 1
    assert len(np.unique(np.asarray(mask))) > 10 or size == (1, 1)


def test_loading_leaves_the_random_numbers_alone(repository: Path) -> None:
    before = torch.random.get_rng_state()
    BiRefNet(repository, "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_code_runs_from_the_cache_and_the_repository_stays_as_it_is(tmp_path: Path, repository: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = sorted(repository.rglob("*"))
    program = (
        "import sys; from pathlib import Path; from refeval.generators.wan.matting import BiRefNet\n"
        "print(sys.modules[type(BiRefNet(Path(sys.argv[1]), 'cpu').model).__module__].__file__)"
    )
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, "-c", program, str(repository)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "hub" / "modules")
    assert sorted(repository.rglob("*")) == before
    assert list(home.iterdir()) == []


def test_missing_files_name_the_command(repository: Path) -> None:
    (repository / "model.safetensors").unlink()
    for folder in (None, repository, repository / "nothing"):
        with pytest.raises(MissingPrerequisite) as caught:
            make_matting("birefnet", folder, "cpu")
        assert "refeval fetch model birefnet" in str(caught.value)
        assert "matting=plain" in str(caught.value)


def test_missing_packages_name_the_command(repository: Path, modules: Path) -> None:
    code = "import not_there_a\nfrom not_there_b.part import x\n" + _MODEL_CODE
    (repository / "small.py").write_text(code)
    with pytest.raises(MissingPrerequisite) as caught:
        make_matting("birefnet", repository, "cpu")
    assert "pip install not_there_a not_there_b; or the setting matting=plain" in str(caught.value)
    assert not list(modules.rglob("small.py"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{}"),
        ("config.json", "{"),
        ("model.safetensors", "short"),
        ("small.py", ""),
        ("small.py", "x x"),
    ],
)
def test_a_folder_that_does_not_fit_together_is_bad_input(repository: Path, name: str, content: str) -> None:
    (repository / name).write_text(content)
    with pytest.raises(BadInput) as caught:
        make_matting("birefnet", repository, "cpu")
    assert str(repository) in str(caught.value)


def test_weights_of_something_else_are_bad_input(repository: Path) -> None:
    save_file({"mix.bias": torch.zeros(1)}, repository / "model.safetensors")
    with pytest.raises(BadInput, match="cannot be loaded"):
        make_matting("birefnet", repository, "cpu")


def test_checking_does_not_run_the_code(repository: Path, modules: Path) -> None:
    (repository / "small.py").write_text("raise SystemExit")
    check_matting("birefnet", repository)
    assert not modules.exists()


def test_names(repository: Path) -> None:
    assert make_matting("none", None, "cpu") is None
    assert isinstance(make_matting("plain", None, "cpu"), PlainBackground)
    assert isinstance(make_matting("birefnet", repository, "cpu"), BiRefNet)
    with pytest.raises(BadInput, match="birefnet"):
        make_matting("birefnett", None, "cpu")


def _disc(size: tuple[int, int], background: str, noise: int = 0) -> tuple[Image.Image, NDArray[np.bool_]]:
    """A red disc with a hole in the background's colour, and where the disc is."""
    width, height = size
    image, where = Image.new("RGB", size, background), Image.new("1", size)
    radius = min(size) // 3
    box = (width // 2 - radius, height // 2 - radius, width // 2 + radius, height // 2 + radius)
    ImageDraw.Draw(image).ellipse(box, "red")
    ImageDraw.Draw(where).ellipse(box, 1)
    centre = (width // 2 - 3, height // 2 - 3, width // 2 + 3, height // 2 + 3)
    ImageDraw.Draw(image).ellipse(centre, background)
    grain = np.random.default_rng(0).integers(-noise, noise + 1, (height, width, 3))
    pixels = (np.asarray(image, int) + grain).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels), np.asarray(where)


@pytest.mark.parametrize("background", ["white", "#d0d0d0", "#3060a0"])
@pytest.mark.parametrize("noise", [0, 3])
def test_a_plain_background_is_taken_away(background: str, noise: int) -> None:
    image, where = _disc((90, 60), background, noise)
    mask = PlainBackground().soft_mask(image)
    assert (mask.mode, mask.size) == ("L", image.size)
    # The hole is not connected with the border: it belongs to the subject.
    assert np.asarray(mask)[where].min() == 255
    assert np.asarray(mask)[~where].mean() < 20
    assert np.asarray(composite_on_white(image, mask))[~where].min() > 150


def test_the_bars_of_a_letterbox_are_looked_past() -> None:
    image, _ = _disc((60, 60), "#a0a0a0")
    for size in ((128, 64), (64, 128)):
        framed = letterbox(image, *size)
        result = np.asarray(composite_on_white(framed, PlainBackground().soft_mask(framed)))
        middle = np.asarray(framed)[size[1] // 2, size[0] // 2]
        assert result[0, size[0] // 2].tolist() == [255] * 3
        assert result[size[1] // 2, 0].tolist() == [255] * 3
        assert result[size[1] // 2, size[0] // 2].tolist() == middle.tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (40, 30)])
def test_what_has_no_plain_background_or_no_subject_stays_whole(size: tuple[int, int]) -> None:
    for image in (_picture(*size), Image.new("RGB", size, "white"), Image.new("RGB", size, "navy")):
        assert composite_on_white(image, PlainBackground().soft_mask(image)) == image


def test_a_photograph_in_a_letterbox_stays_whole() -> None:
    framed = letterbox(_picture(60, 60), 128, 64)
    assert composite_on_white(framed, PlainBackground().soft_mask(framed)) == framed
