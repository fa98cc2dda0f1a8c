"""What leaves a training: RefAlign's, Wan's and diffusers' files, and a second stage that starts from the first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

from refeval.generators.wan.catalogue import MODELS
from refeval.generators.wan.checkpoints import load_transformer
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.checkpoints import checkpoint_folder, checkpoints, read_checkpoint
from refeval.training.parameters import network_of
from tests.training.data.small_world import make_data, world_of
from tests.training.running import lines_of, refeval

ARCHITECTURE = MODELS["refalign-tiny"].architecture
SHORT = ("--set", "run.global_batch=2", "--set", "run.sample_every=0", "--set", "optimizer.ema=0.9")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def first(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two iterations from small random weights of Wan's architecture."""
    folder = tmp_path_factory.mktemp("first")
    rare = ("--set", "run.save_every=1", "--set", "data.broken_limit=1.0")
    config = ("--config", rows.parent / "tiny.toml", "--data", rows, "--iterations", "2")
    ended = refeval(folder / "said", "train", *config, *SHORT, *rare, "--out", folder / "training")
    assert ended.code == 0, ended.err
    return folder / "training"


def velocity(network: ReferenceTransformer | WanTransformer3DModel, **more: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 2, 4, 6, generator=generator)
    text = torch.randn(1, 7, ARCHITECTURE.text_dim, generator=generator)
    with torch.no_grad():
        found = network(latents, torch.tensor([700.0]), encoder_hidden_states=text, **more)
    return found.velocity if isinstance(network, ReferenceTransformer) else found.sample  # type: ignore[no-any-return]


def references() -> dict[str, Tensor]:
    return {"reference_latents": torch.randn(1, 16, 2, 4, 6, generator=torch.Generator().manual_seed(1))}


def trained_network(rows: Path, training: Path, *, step: int = 2, average: bool = True) -> ReferenceTransformer:
    """As the checkpoint has it."""
    state = read_checkpoint(checkpoint_folder(training, step))
    return network_of(world_of(rows), state.average if average else state.parameters)


def export(first: Path, out: Path, *options: str) -> None:
    ended = refeval(out.parent / "said", "export-weights", first, "--out", out, *options)
    assert ended.code == 0, ended.err
    assert "exported" in ended.out


def load(path: Path) -> tuple[ReferenceTransformer, dict[str, Tensor]]:
    return load_transformer(path, ReferenceTransformer, ARCHITECTURE, dtype=torch.float32)


def test_training_has_moved_the_network(rows: Path, first: Path) -> None:
    before, _ = world_of(rows).network()
    assert not torch.equal(velocity(before, **references()), velocity(trained_network(rows, first), **references()))


@pytest.mark.parametrize("keys", ["refalign", "original", "diffusers"])
def test_every_format_gives_the_same_velocity(keys: str, rows: Path, first: Path, tmp_path: Path) -> None:
    out = tmp_path / ("folder" if keys == "diffusers" else "weights.safetensors")
    export(first, out, "--keys", keys)
    network, projectors = load(out)
    assert projectors == {}, "inference needs none"
    assert torch.equal(velocity(network, **references()), velocity(trained_network(rows, first), **references()))
    if keys == "diffusers":
        stock = WanTransformer3DModel.from_pretrained(out)
        assert type(stock) is WanTransformer3DModel
        # It computes the sinusoid of the timestep in float32: measured 1.5e-5 of values up to 5.
        torch.testing.assert_close(velocity(stock), velocity(network), atol=1e-4, rtol=0)


def test_names_are_those_of_refaligns_own_training(first: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    export(first, path, "--projectors")
    names = load_file(path).keys()
    assert all(name.startswith("pipe.dit.") for name in names)
    projectors = {name for name in names if "input_mlp" in name}
    layers = ("proj.0.weight", "proj.2.weight")
    assert projectors == {f"pipe.dit.blocks.{block}.input_mlp.{layer}" for block in range(2) for layer in layers}


def test_a_checkpoint_and_raw_weights_can_be_named(rows: Path, first: Path, tmp_path: Path) -> None:
    found = {}
    for step in (1, 2):
        for average in (True, False):
            path = tmp_path / f"{step}{average}.safetensors"
            export(first, path, "--step", str(step), *(() if average else ("--raw",)))
            found[step, average] = velocity(load(path)[0], **references())
            expected = velocity(trained_network(rows, first, step=step, average=average), **references())
            assert torch.equal(found[step, average], expected)
    assert len({tuple(tensor.flatten()[:20].tolist()) for tensor in found.values()}) == 4


def test_a_second_stage_starts_from_the_first(rows: Path, first: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    export(first, path, "--projectors", "--raw")
    config = ("--config", rows.parent / "tiny.toml", "--data", rows, "--start", path, "--iterations", "1")
    # Nothing moves, so that what is kept is what was started from.
    still = ("--set", "optimizer.learning_rate=0.0", "--set", "data.broken_limit=1.0")
    second = tmp_path / "second"
    ended = refeval(tmp_path / "said", "train", *config, *SHORT, *still, "--out", second)
    assert ended.code == 0, ended.err
    state = read_checkpoint(checkpoint_folder(second, 1)).parameters
    expected = read_checkpoint(checkpoint_folder(first, 2)).parameters
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    start = json.loads((second / "training.json").read_text())["start"]
    assert list(start) == ["1:weights.safetensors"]
    assert lines_of(second)[0]["positive"] != lines_of(first)[0]["positive"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--keys", "refaling"), "unknown keys 'refaling'. Did you mean 'refalign'?"),
        (("--keys", "diffusers", "--projectors"), "have no names for projectors"),
        (("--step", "7"), "there is no checkpoint of iteration 7"),
    ],
)
def test_what_cannot_be_exported_is_said(options: tuple[str, ...], complaint: str, first: Path, tmp_path: Path) -> None:
    ended = refeval(tmp_path / "said", "export-weights", first, "--out", tmp_path / "out", *options)
    assert ended.code == 2 and complaint in ended.err, ended
    assert not (tmp_path / "out").exists()


def test_the_sprites_network_has_no_published_format(undisturbed: Path, tmp_path: Path) -> None:
    ended = refeval(tmp_path / "said", "export-weights", undisturbed, "--out", tmp_path / "out.safetensors")
    assert ended.code == 2 and "no published format" in ended.err
    nowhere = refeval(tmp_path / "said", "export-weights", tmp_path, "--out", tmp_path / "out.safetensors")
    assert nowhere.code == 2 and "is not a training" in nowhere.err
    assert [step for step, _ in checkpoints(undisturbed)][-1] == 20
