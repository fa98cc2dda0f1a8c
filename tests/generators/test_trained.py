"""``trained:FOLDER``: clips of the network that was trained, told from everything else that could have made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from refeval.cases import Case, ClipSpec
from refeval.documents import write_document
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.generators.base import Generator, RenderJob
from refeval.generators.wan.catalogue import MODELS
from refeval.generators.wan.references import letterbox
from refeval.generators.wan.tiny import randomise, tiny_transformer
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.keys import file_sha256
from refeval.place import Place
from refeval.registry import load_generator
from refeval.seeds import case_seed
from refeval.training.checkpoints import State, write_checkpoint
from refeval.training.dual import DualReferenceTransformer
from refeval.training.examples import Sample
from refeval.training.folder import TrainingDocument, begin_training, read_training, trained_tensors
from refeval.training.parameters import network_of
from refeval.training.testbed.world import SpritesWorld
from tests.generators.cases import make_case
from tests.training.data.small_world import make_data, recipe_of, world_of
from tests.training.running import SMALL_RECIPE, refeval

SUITE_CLIP = ClipSpec(width=192, height=112, frames=16, fps=Fraction(8))
MEMBER = {"study": "depth", "member": "1"}


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of 8 iterations with a checkpoint half-way, which keeps averaged weights."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.toml").write_text(SMALL_RECIPE)
    changes = ("--set", "run.save_every=4", "--iterations", "8", "--seed", "5")
    training = folder / "some-place" / "training"
    ended = refeval(folder / "said", "train", "--config", folder / "small.toml", "--out", training, *changes)
    assert ended.code == 0, ended.err
    return training


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Two references: a square as large as the world's, and a wide one."""
    for name, size, colour in (("a.png", (64, 64), "red"), ("b.png", (90, 30), "blue")):
        picture = Image.new("RGB", size, "white")
        picture.paste(colour, (20, 8, 60, 22))
        picture.save(tmp_path / name)
    return make_case(tmp_path, ("a.png", "Cup"), ("b.png", "Hat"), prompt="On a meadow, a cup moves to the left.")


def make(argument: str | Path) -> Generator:
    return load_generator(f"trained:{argument}", Place(device="cpu"))


def render(
    generator: Generator, case: Case, *, seed: int = 0, clip: ClipSpec | None = None
) -> tuple[NDArray[np.uint8], Mapping[str, object]]:
    """The frames of a clip, and what was noted."""
    clip = clip or generator.own_clip(SUITE_CLIP)
    generator.check()
    generator.foresee([case])
    generator.prepare(clip)
    job = RenderJob(case=case, seed=seed, clip=clip, scratch=Path(), log=Path())
    made = generator.render(job)
    generator.close()
    assert not isinstance(made, Path)
    assert (made.frames[0].shape, made.fps) == ((clip.height, clip.width, 3), float(clip.fps))
    return np.stack(list(made.frames)), job.notes


def drawn_by_the_world(folder: Path, case: Case, pictures: list[Image.Image], seed: int) -> NDArray[np.uint8]:
    """What the world draws with the averaged weights of a training's end."""
    recipe = read_training(folder).recipe
    world = SpritesWorld(recipe, folder, 5)
    _, tensors = trained_tensors(folder)
    sample = Sample(
        key="any",
        prompt=case.prompt,
        frames=np.zeros((8, 16, 16, 3), np.uint8),
        references=tuple(np.asarray(picture) for picture in pictures),
        pair="cross",
        emphasis=np.ones((8, 16, 16), np.float32),
    )
    [drawn] = world.draw(network_of(world, tensors), [sample], seed=case_seed(seed, case.id))
    return drawn.frames


def test_a_network_of_the_sprites_world_draws_what_its_world_draws(sprites: Path, case: Case, tmp_path: Path) -> None:
    frames, notes = render(make(sprites), case, seed=3)
    picture = Image.open(tmp_path / "a.png").convert("RGB")
    assert np.array_equal(frames, drawn_by_the_world(sprites, case, [picture], 3))
    assert notes["references_left_out"] == ["b.png"], "the recipe has one reference"
    assert make(sprites).own_clip(SUITE_CLIP) == ClipSpec(width=16, height=16, frames=8, fps=Fraction(8))
    assert make(sprites).expected(SUITE_CLIP) == make(sprites).own_clip(SUITE_CLIP)
    again, _ = render(make(sprites), case, seed=3)
    other, _ = render(make(sprites), case, seed=4)
    elsewhere, _ = render(make(sprites), replace(case, id="singleobj_2"), seed=3)
    assert np.array_equal(frames, again)
    assert not np.array_equal(frames, other) and not np.array_equal(frames, elsewhere)


def test_a_reference_of_another_shape_stands_whole_on_white(sprites: Path, case: Case, tmp_path: Path) -> None:
    wide = replace(case, references=case.references[1:])
    frames, notes = render(make(sprites), wide)
    canvas = Image.new("RGB", (64, 64), "white")
    canvas.paste(Image.open(tmp_path / "b.png").resize((64, 21), Image.Resampling.LANCZOS), (0, 21))
    assert np.array_equal(frames, drawn_by_the_world(sprites, wide, [canvas], 0))
    assert "references_left_out" not in notes


def test_settings_say_which_network_it_is_and_nothing_of_the_machine(sprites: Path, case: Case) -> None:
    end, middle, raw = (make(f"{sprites}{rest}") for rest in ("", ",step=4", ",step=8,average=no"))
    told = [one.settings()["training"] for one in (end, middle, raw)]
    assert [(one["step"], one["averaged"], one["seed"]) for one in told] == [(8, True, 5), (4, True, 5), (8, False, 5)]
    assert len({one["recipe_sha256"] for one in told}) == 1
    folder = sprites / "checkpoints"
    names = ("step-000008/average", "step-000004/average", "step-000008/parameters")
    assert [one.weights() for one in (end, middle, raw)] == [
        {f"checkpoints/{name}.safetensors": file_sha256(folder / f"{name}.safetensors")} for name in names
    ]
    clips = [render(one, case)[0] for one in (end, middle, raw)]
    assert not any(np.array_equal(clips[0], clip) for clip in clips[1:])
    for one in (end, middle, raw):
        text = json.dumps([one.settings(), one.weights()])
        assert "some-place" not in text and str(sprites.parent) not in text
        assert "ablation" not in one.settings()


def test_only_the_weights_of_the_end_are_a_member_of_an_ablation(sprites: Path, tmp_path: Path) -> None:
    copy = tmp_path / "member"
    (copy / "checkpoints").mkdir(parents=True)
    document = json.loads((sprites / "training.json").read_text())
    del document["digest"]
    write_document(copy / "training.json", {**document, "ablation": MEMBER})
    for path in (sprites / "checkpoints").iterdir():
        (copy / "checkpoints" / path.name).symlink_to(path)
    assert read_training(copy).ablation == MEMBER
    assert make(copy).settings()["ablation"] == MEMBER
    assert "ablation" not in make(f"{copy},step=4").settings()
    assert "ablation" not in make(f"{copy},average=no").settings()
    assert make(copy).settings()["training"] == make(sprites).settings()["training"]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (",step=5", "no checkpoint of iteration 5"),
        (",step=zero", "'step' is 'zero'"),
        (",step=4,step=8", "given twice"),
        (",average=maybe", "'average' is 'maybe'"),
        (",guidance=3", "unknown setting 'guidance=3'"),
        ("/checkpoints", "is not a training"),
    ],
)
def test_what_cannot_be_meant_is_said(sprites: Path, rest: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make(f"{sprites}{rest}")


def test_a_training_that_goes_on_is_not_taken_for_its_end(sprites: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a folder"):
        load_generator("trained")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "training.json").write_bytes((sprites / "training.json").read_bytes())
    (tmp_path / "checkpoints/step-000004").symlink_to(sprites / "checkpoints/step-000004")
    with pytest.raises(BadInput, match="no checkpoint of iteration 8") as caught:
        make(tmp_path)
    assert ("there are", "4") in caught.value.details
    assert make(f"{tmp_path},step=4").settings()["training"]["step"] == 4
    with pytest.raises(MissingPrerequisite, match=r"teacher\.safetensors is gone"):
        make(f"{tmp_path},step=4").check()


def test_weights_that_were_changed_are_not_rendered_with(sprites: Path, case: Case, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_bytes((sprites / "training.json").read_bytes())
    (tmp_path / "teacher.safetensors").write_bytes((sprites / "teacher.safetensors").read_bytes())
    folder = tmp_path / "checkpoints/step-000008"
    folder.mkdir(parents=True)
    for path in (sprites / "checkpoints/step-000008").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damaged = bytearray((folder / "average.safetensors").read_bytes())
    damaged[-1] ^= 1
    (folder / "average.safetensors").write_bytes(damaged)
    with pytest.raises(CorruptFile, match="does not match"):
        render(make(tmp_path), case)


def wan_training(folder: Path, rows: Path, network: ReferenceTransformer) -> Path:
    """A training from small random weights that has ended with this network."""
    recipe = recipe_of(rows)
    dual = isinstance(network, DualReferenceTransformer)
    recipe = replace(
        recipe,
        run=replace(recipe.run, iterations=1),
        references="dual" if dual else "tokens",
        objective=replace(recipe.objective, depth=0 if dual else 2),
    )
    begin_training(folder, TrainingDocument(recipe=recipe, seed=0, data={}, start={}, ablation=None))
    parameters: dict[str, Tensor] = {f"network.{name}": one for name, one in network.state_dict().items()}
    parameters["projectors.0.proj.0.weight"] = torch.zeros(2, 2)
    write_checkpoint(folder, State(step=1, loss_mean=1.0, parameters=parameters, optimizers={}, average={}), keep=1)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("rows"))


def tiny() -> ReferenceTransformer:
    """The transformer of the model ``refalign-tiny``."""
    network: ReferenceTransformer = tiny_transformer(ReferenceTransformer, MODELS["refalign-tiny"].architecture)
    return network


def test_a_network_on_wan_renders_as_refalign_with_its_own_transformer(rows: Path, case: Case, tmp_path: Path) -> None:
    settings = "steps=2,matting=none"
    training = wan_training(tmp_path / "same", rows, tiny())
    clip = make(training).own_clip(SUITE_CLIP)
    assert clip == ClipSpec(width=48, height=32, frames=5, fps=Fraction(8))
    published, _ = render(load_generator(f"refalign-tiny:{settings}", Place(device="cpu")), case, clip=clip)
    same, notes = render(make(f"{training},{settings}"), case, clip=clip)
    assert np.array_equal(published, same)
    assert notes["device"] == "cpu"
    randomise(network := tiny(), 99)
    trained = make(f"{wan_training(tmp_path / 'other', rows, network)},{settings}")
    assert not np.array_equal(published, render(trained, case, clip=clip)[0])
    assert trained.settings()["weights"] == "random, but for the transformer"
    assert (trained.settings()["steps"], trained.settings()["shift"]) == (2, recipe_of(rows).objective.flow.shift)
    with pytest.raises(BadInput, match="multiples of 16"):
        trained.expected(replace(clip, width=40))
    with pytest.raises(BadInput, match="not spread over GPUs"):
        load_generator(f"trained:{training}", Place(gpus_per_clip=2)).check()
    with pytest.raises(BadInput, match="unknown setting 'step_count'"):
        make(f"{training},step_count=2")


def test_a_dual_network_is_given_the_features_of_its_references(rows: Path, case: Case, tmp_path: Path) -> None:
    """Held against the training's own drawing, which asks the teacher in another way."""
    clip = ClipSpec(width=48, height=32, frames=5, fps=Fraction(16))
    dual = DualReferenceTransformer.from_plain(tiny(), 32).eval()
    torch.nn.init.normal_(dual.feature_embedding.weight, generator=torch.Generator().manual_seed(1))
    settings = "steps=2,matting=none,negative_prompt=,together=no"
    rendered, _ = render(make(f"{wan_training(tmp_path / 'dual', rows, dual)},{settings}"), case, seed=7, clip=clip)
    plain, _ = render(make(f"{wan_training(tmp_path / 'plain', rows, tiny())},{settings}"), case, seed=7, clip=clip)
    assert not np.array_equal(rendered, plain)

    boxed = [letterbox(Image.open(tmp_path / name).convert("RGB"), 48, 32) for name in ("a.png", "b.png")]
    sample = Sample(
        key=case.id,
        prompt=case.prompt,
        frames=np.zeros((5, 32, 48, 3), np.uint8),
        references=tuple(np.asarray(picture) for picture in boxed),
        pair="cross",
    )
    recipe = replace(recipe_of(rows), references="dual")
    (drawn,) = world_of(rows, recipe=recipe, steps=2).draw(dual, [sample], seed=7)
    assert np.array_equal(rendered, drawn.frames)
