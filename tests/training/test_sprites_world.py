"""The sprites world as an endless source of clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refeval.sprites import (
    Motion,
    SubjectKind,
    colour_votes,
    draw_background,
    draw_clip,
    draw_reference,
    sample_scene,
)


def test_two_hundred_seeds_give_two_hundred_scenes() -> None:
    scenes = [sample_scene([1, index]) for index in range(200)]
    assert len(set(scenes)) == len({scene.prompt() for scene in scenes}) == 200
    clips = [draw_clip(scene, 4, 16, 16) for scene in scenes]
    assert len({clip.tobytes() for clip in clips}) == 200
    assert {len(scene.actors) for scene in scenes} == {1, 2, 3}
    for scene in scenes:
        colours = [actor.subject.colour for actor in scene.actors]
        assert len(set(colours)) == len(colours)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 40), (64, 24), (112, 192), (256, 256)])
def test_any_size_is_drawn(height: int, width: int) -> None:
    for index in range(6):
        scene = sample_scene([2, index], count=1 + index % 3)
        clip = draw_clip(scene, 3, height, width)
        assert clip.dtype == np.uint8
        assert clip.shape == (3, height, width, 3)
        assert clip.flags.c_contiguous
        image = draw_reference(scene.actors[0].subject, height, width)
        assert image.shape == (height, width, 3)
        assert (image[0, 0] == 255).all()


def test_every_subject_is_seen_in_every_frame() -> None:
    for index in range(60):
        scene = sample_scene([3, index])
        background = draw_background(scene.background, 32, 32)
        for actor in scene.actors:
            alone = draw_clip(replace(scene, actors=(actor,)), 8, 32, 32)
            assert (alone != background).any(-1).sum((1, 2)).min() >= 12


def test_a_small_clip_is_the_large_one_seen_from_afar() -> None:
    for index in range(30):
        scene = sample_scene([4, index], count=1)
        large = draw_clip(scene, 2, 128, 128).astype(float).reshape(2, 32, 4, 32, 4, 3).mean((2, 4))
        # Edges are anti-aliased by distance, not by exact area.
        assert np.abs(draw_clip(scene, 2, 32, 32) - large).mean() < 6


def test_main_colour_of_a_subject_is_recovered() -> None:
    right = 0
    for index in range(300):
        scene = sample_scene([5, index], count=1)
        clip = draw_clip(scene, 4, 32, 32)
        votes = colour_votes(clip[(clip != draw_background(scene.background, 32, 32)).any(-1)])
        right += max(votes, key=votes.__getitem__) == scene.actors[0].subject.colour
    assert right >= 0.95 * 300


def test_sampling_keeps_to_what_is_asked() -> None:
    for index in range(40):
        scene = sample_scene(
            [6, index],
            count=2,
            kinds=[SubjectKind.FACE],
            motions=[Motion.LEFT, Motion.UP],
            backgrounds=["snow"],
            freedom=0.0,
        )
        assert scene.background.kind == "snow"
        assert {actor.subject.kind for actor in scene.actors} == {SubjectKind.FACE}
        assert {actor.motion for actor in scene.actors} <= {Motion.LEFT, Motion.UP}
        assert {actor.pose.x for actor in scene.actors} == {0.26, 0.74}
        assert {(actor.pose.y, actor.pose.angle, actor.pose.radius) for actor in scene.actors} == {(0.5, 0.0, 0.19)}
