"""The sprites world as a testbed: what it shows, what it hides, and whether its measures can tell right from wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from refeval.errors import BadInput
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.reports.figures.features import separation
from refeval.training.batches import collate
from refeval.training.examples import Sample
from refeval.training.recipe import Recipe, read_recipe
from refeval.training.testbed.assessment import assess
from refeval.training.testbed.encoder import SpritesEncoder, shrink, words
from refeval.training.testbed.identity_teacher import identity_teacher
from refeval.training.testbed.latents import decode, encode, encode_picture
from refeval.training.testbed.scenes import (
    SpritesSource,
    draw_scene,
    foreground,
    is_held_out,
    make_sample,
    plain_reference,
)
from refeval.training.testbed.views import held_out_views
from refeval.training.testbed.world import SpritesWorld
from refeval.training.worlds import DrawnClip, Measure

_SMALL = {"network.width": 32, "network.blocks": 2, "network.heads": 2, "testbed.teacher_steps": 2}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe("sprites", {**_SMALL, "testbed.subjects": [1, 2], "data.references": 2})


@pytest.fixture(scope="module")
def encoder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> SpritesEncoder:
    return SpritesEncoder(identity_teacher(recipe, tmp_path_factory.mktemp("teacher") / "teacher.safetensors", 0))


def test_latents_are_the_pixels_turned_round() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 24, 3), dtype=np.uint8)
    latents = encode(frames)
    assert latents.shape == (3, 192, 2, 4, 6) and latents.dtype == torch.float32
    assert (decode(latents) == frames).all()
    still = encode_picture(frames[:, 0])
    assert still.shape == (3, 192, 4, 6)
    assert (decode(still[:, :, None])[:, 2] == frames[:, 0]).all()
    # A picture that stands still has nothing in the channels of change over time.
    assert still[:, 48:].abs().max() < 1e-4


def test_latents_of_drawn_clips_have_about_the_size_of_the_noise(recipe: Recipe) -> None:
    clips = np.stack([SpritesSource(recipe, 0).sample(position).frames for position in range(200)])
    assert 0.8 < float(encode(clips).square().mean()) < 1.3


def test_the_same_position_is_the_same_sample_and_no_held_out_subject_is_shown(recipe: Recipe) -> None:
    first, again = SpritesSource(recipe, 3), SpritesSource(recipe, 3)
    for position in (0, 7, 123_456_789):
        one, other = first.sample(position), again.sample(position)
        assert one.prompt == other.prompt and (one.frames == other.frames).all()
        assert all((a == b).all() for a, b in zip(one.references, other.references, strict=True))
    trained = [draw_scene(recipe, "training", 3, position) for position in range(300)]
    tested = [draw_scene(recipe, "held-out", 3, position) for position in range(100)]
    assert not any(is_held_out(actor.subject) for scene in trained for actor in scene.actors)
    assert all(is_held_out(actor.subject) for scene in tested for actor in scene.actors)
    assert {len(scene.actors) for scene in trained} == {1, 2}
    pairs = [first.sample(position).pair for position in range(300)]
    assert 120 < pairs.count("cross") < 180


def test_references_show_the_subject_and_never_the_place(recipe: Recipe) -> None:
    for position in range(40):
        sample = SpritesSource(recipe, 0).sample(position)
        for picture in sample.references:
            assert picture.shape == (64, 64, 3)
            edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
            # White, a little tinted; wide subjects may touch the sides.
            assert (edge > 205).mean() > 0.6


def test_of_a_prompt_only_place_and_motion_are_read(recipe: Recipe) -> None:
    scene = draw_scene(recipe, "training", 0, 5, subjects=2)
    motions = [f"{index}:{actor.motion.value}" for index, actor in enumerate(scene.actors)]
    assert words(scene.prompt()) == [scene.background.kind, *motions]
    other = replace(
        scene,
        actors=tuple(
            replace(actor, subject=draw_scene(recipe, "training", 9, index, subjects=1).actors[0].subject)
            for index, actor in enumerate(scene.actors)
        ),
    )
    assert other.prompt() != scene.prompt() and words(other.prompt()) == words(scene.prompt())
    assert words("") == []


def test_examples_fit_together(recipe: Recipe, encoder: SpritesEncoder) -> None:
    samples = [SpritesSource(recipe, 0).sample(position) for position in range(6)]
    assert {len(sample.references) for sample in samples} == {1, 2}
    examples = encoder.examples(samples, with_teacher=True)
    batch = collate(examples, 4)
    assert batch.latents.shape == (6, 192, 2, 4, 4) and batch.references.shape == (6, 192, 2, 4, 4)
    assert batch.teacher.shape == (6, 2, 16, 64) and batch.text.shape == (6, 4, 64)
    assert batch.present.sum(dim=1).tolist() == [len(sample.references) for sample in samples]
    assert batch.emphasis is not None and set(batch.emphasis.unique().tolist()) == {1.0, 6.0}
    # What one sample becomes does not depend on the others.
    alone = encoder.examples(samples[3:4], with_teacher=True)[0]
    torch.testing.assert_close(alone.references, examples[3].references, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.teacher, examples[3].teacher, rtol=0, atol=1e-4)
    first = samples[0].references[0]
    assert (decode(examples[0].references[None, :, :1])[0, 0] == shrink(first[None])[0]).all()


def test_emphasis_lies_where_the_subject_is(recipe: Recipe) -> None:
    scene = draw_scene(recipe, "training", 0, 1, subjects=1)
    sample = make_sample(scene, recipe, (), key="a")
    assert sample.emphasis is not None
    assert ((sample.emphasis > 1) == foreground(sample.frames, scene)).all()
    assert 0.02 < (sample.emphasis > 1).mean() < 0.5


class _Forger(SpritesWorld):
    """Answers with the drawn truth: of whom the references show, or of whom the prompt was made for."""

    follows_references = True

    def draw(self, network: ReferenceTransformer, samples: Sequence[Sample], *, seed: int) -> list[DrawnClip]:
        shown = samples if self.follows_references else [replace(sample, references=()) for sample in samples]
        return [DrawnClip(sample=sample, frames=self._answer(sample)) for sample in shown]

    def _answer(self, sample: Sample) -> np.ndarray:
        if not sample.references:
            return sample.frames
        for position in range(12):
            for count in self._recipe.testbed.subjects:
                scene = draw_scene(self._recipe, "held-out", 0x41535345, position, count)
                if scene.prompt() == sample.prompt:
                    truth = [plain_reference(actor.subject, self._recipe) for actor in scene.actors]
                    if all((a == b).all() for a, b in zip(truth, sample.references, strict=True)):
                        return sample.frames
                    swapped = draw_scene(self._recipe, "held-out", 0x41535345, (position + 1) % 12, count)
                    actors = tuple(
                        replace(actor, subject=other.subject)
                        for actor, other in zip(scene.actors, swapped.actors, strict=True)
                    )
                    return make_sample(replace(scene, actors=actors), self._recipe, (), key="").frames
        raise AssertionError("a scene that was not asked about")


def _by_name(measures: Sequence[Measure], references: str) -> dict[tuple[str, int], float]:
    return {(one.name, one.subjects): one.share for one in measures if one.references == references}


def test_measures_tell_who_follows_the_references(recipe: Recipe, tmp_path: Path) -> None:
    world = _Forger(recipe, tmp_path, 0)
    network, _ = world.network()
    right = assess(world, network, recipe, clips=12, seed=0)
    assert all(one.share >= 0.75 for one in right)
    assert all(one.real >= 0.75 and one.share == one.real for one in right if one.references == "own")
    world.follows_references = False
    wrong = assess(world, network, recipe, clips=12, seed=0)
    assert _by_name(wrong, "own") == _by_name(right, "own")
    swapped = _by_name(wrong, "swapped")
    for subjects in (1, 2):
        # The subject of the prompt is drawn, so the motion is right and who is shown is not.
        assert swapped["motion", subjects] >= 0.9
        assert max(swapped["colour", subjects], swapped["identity", subjects]) <= 0.35
        assert swapped["both-ways", subjects] == 0


def test_an_untrained_network_answers_by_chance(recipe: Recipe, tmp_path: Path) -> None:
    world = SpritesWorld(recipe, tmp_path, 0)
    network, _ = world.network()
    found = assess(world, network.eval(), recipe, clips=16, seed=0)
    for one in found:
        low, high = one.interval
        assert low <= one.share <= high
        if one.name == "identity":
            assert one.share < 0.45


def test_the_teacher_learns_who_is_who(tmp_path: Path) -> None:
    apart = {}
    for steps, name in ((0, "untrained.safetensors"), (40, "trained.safetensors")):
        small = read_recipe("sprites", {**_SMALL, "testbed.teacher_steps": steps})
        teacher = identity_teacher(small, tmp_path / name, 0)
        views = held_out_views(small, SpritesEncoder(teacher))
        features = np.stack([view.example.teacher[0].mean(dim=0).numpy() for view in views])
        apart[name] = separation(features.astype(float), [view.subjects[0] for view in views]).ratio
    assert apart["trained.safetensors"] > 1.5 * apart["untrained.safetensors"]


def test_the_teacher_is_made_once_and_then_read(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    picture = torch.from_numpy(SpritesSource(recipe, 0).sample(0).references[0]).permute(2, 0, 1)[None]
    state = torch.get_rng_state()
    first = identity_teacher(recipe, file, 0).features(picture)
    assert torch.equal(torch.get_rng_state(), state)
    made = file.stat().st_mtime_ns
    assert torch.equal(identity_teacher(recipe, file, 0).features(picture), first)
    assert file.stat().st_mtime_ns == made
    with pytest.raises(BadInput, match="no teacher 'dinov3-l'"):
        identity_teacher(replace(recipe, teacher=replace(recipe.teacher, names=("dinov3-l",))), file, 0)
