"""What may happen to pictures of references, and how strongly."""

from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from refeval.training.data.augmentation import augment
from refeval.training.recipe import AugmentationSettings

NONE = AugmentationSettings(**{field.name: 0.0 for field in fields(AugmentationSettings)})


def _picture(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _dot(at: tuple[int, int], size: int = 101) -> NDArray[np.uint8]:
    """A black dot on grey, which no edge of white confuses; ``at`` is x and y."""
    picture = np.full((size, size, 3), 128, np.uint8)
    return np.ascontiguousarray(cv2.circle(picture, at, 2, (0, 0, 0), -1))


def _found(picture: NDArray[np.uint8]) -> tuple[float, float]:
    weights = (100.0 - picture[..., 0]).clip(0)
    y, x = np.indices(weights.shape)
    return float(np.average(x, weights=weights)), float(np.average(y, weights=weights))


def _many(picture: NDArray[np.uint8], settings: AugmentationSettings, count: int = 300) -> list[NDArray[np.uint8]]:
    return [augment(picture, settings, np.random.default_rng([7, seed])) for seed in range(count)]


@pytest.mark.parametrize("shape", [(40, 60), (1, 30), (30, 1), (2, 2)])
def test_nothing_is_changed_where_every_setting_is_0(shape: tuple[int, int]) -> None:
    picture = _picture(*shape)
    for found in _many(picture, NONE, 20):
        assert np.array_equal(found, picture)


@pytest.mark.parametrize("shape", [(40, 60), (1, 30), (30, 1), (2, 2)])
def test_size_and_argument_stay(shape: tuple[int, int]) -> None:
    picture, before = _picture(*shape), _picture(*shape)
    picture.flags.writeable = False
    every = AugmentationSettings(flip=1, perspective=1, crop=1)
    for found in _many(picture, every, 20):
        assert (found.shape, found.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(picture, before)


def test_the_same_numbers_give_the_same_picture() -> None:
    settings = AugmentationSettings()
    once, again = _many(_picture(), settings, 20), _many(_picture(), settings, 20)
    assert all(np.array_equal(one, other) for one, other in zip(once, again, strict=True))
    assert len({one.tobytes() for one in once}) == 20


def test_an_operation_that_is_switched_off_leaves_the_others_as_they_were() -> None:
    """So recipes with and without it compare on the same pictures."""
    moved = replace(NONE, rotate=45.0, translate=0.05, colour=0.05)
    bent = replace(moved, perspective=1.0, crop=1.0)
    for seed in range(20):
        alone = augment(_dot((70, 50)), moved, np.random.default_rng(seed))
        unbent = augment(_dot((70, 50)), replace(bent, crop=0.0), np.random.default_rng(seed))
        assert np.array_equal(alone, unbent), "a perspective without strength"
        centres = [augment(_dot((20, 20)), one, np.random.default_rng(seed))[50, 50] for one in (moved, bent)]
        assert np.array_equal(*centres), "the colour of the grey"


def test_a_flip_is_the_mirror_image() -> None:
    picture = _picture()
    for found in _many(picture, replace(NONE, flip=1.0), 3):
        assert np.array_equal(found, picture[:, ::-1])
    half = _many(picture, replace(NONE, flip=0.5))
    assert 0.4 < np.mean([np.array_equal(found, picture) for found in half]) < 0.6


def test_turns_are_about_the_centre_and_within_their_angle() -> None:
    places = np.array([_found(found) for found in _many(_dot((80, 50)), replace(NONE, rotate=45.0))]) - 50
    assert np.hypot(*places.T) == pytest.approx(30, abs=0.6)
    angles = np.rad2deg(np.arctan2(places[:, 1], places[:, 0]))
    assert (-46 < angles.min() < -42) and (42 < angles.max() < 46)
    assert np.abs(np.quantile(angles, [0.25, 0.75]) - [-22.5, 22.5]).max() < 5


def test_scales_and_shifts_are_within_their_share() -> None:
    apart = np.array([_found(found)[0] for found in _many(_dot((90, 50)), replace(NONE, scale=0.1))]) - 50
    assert (35.5 < apart.min() < 36.8) and (43.2 < apart.max() < 44.5)
    moved = np.array([_found(found) for found in _many(_dot((50, 50)), replace(NONE, translate=0.05))]) - 50
    assert np.abs(moved).max() == pytest.approx(5.05, abs=0.3)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2, "the axes are independent"


def test_shears_lean_both_axes_within_their_angle() -> None:
    settings = replace(NONE, shear=10.0)
    below = np.array([_found(found) for found in _many(_dot((50, 90)), settings)]) - 50
    beside = np.array([_found(found) for found in _many(_dot((90, 50)), settings)]) - 50
    for leaning, straight in ((below[:, 0], below[:, 1]), (beside[:, 1], beside[:, 0])):
        assert straight == pytest.approx(40, abs=0.5)
        angles = np.rad2deg(np.arctan2(leaning, straight))
        assert (-10.8 < angles.min() < -9) and (9 < angles.max() < 10.8)


def test_perspective_moves_corners_inwards_onto_white() -> None:
    grey = np.full((100, 200, 3), 128, np.uint8)
    settings = replace(NONE, perspective=1.0, perspective_strength=0.3)
    pictures = _many(grey, settings, 100)
    for found in pictures:
        assert set(np.unique(found)) <= set(range(128, 256))
        assert (found[16:84, 31:169] == 128).all(), "a corner moves by 30 of 200 and 15 of 100 at most"
    corners = np.array([found[[0, 0, -1, -1], [0, -1, 0, -1], 0] for found in pictures])
    assert (corners.mean(0) > 240).all()
    assert 0.4 < np.mean([(found == 128).all() for found in _many(grey, replace(settings, perspective=0.5))]) < 0.6


def test_what_is_left_empty_is_white() -> None:
    black = np.zeros((60, 60, 3), np.uint8)
    turned = replace(NONE, rotate=45.0)
    found = next(one for one in _many(black, turned) if (one[0, 0] == 255).all())
    assert (found[20:40, 20:40] == 0).all()
    away = _many(black, replace(NONE, translate=2.0))
    assert any((one == 255).all() for one in away)


def test_a_crop_keeps_at_least_four_fifths() -> None:
    """A ramp tells which part is seen: from where to where."""
    ramp = np.repeat(np.tile(np.arange(200, dtype=np.uint8)[:, None], (1, 50))[..., None], 3, 2)
    pictures = _many(ramp, replace(NONE, crop=1.0))
    first = np.array([found[0, 25, 0] for found in pictures], float)
    last = np.array([found[-1, 25, 0] for found in pictures], float)
    assert (last <= 199).all()
    assert (last - first).min() == pytest.approx(0.8 * 199, abs=2)
    assert (last - first).max() > 195
    assert first.max() > 30, "the part lies anywhere"
    assert all((found < 255).all() for found in pictures)


def test_colours_and_brightness_are_within_their_ranges() -> None:
    grey = np.full((2, 2, 3), 100, np.uint8)
    tinted = np.array([found[0, 0] for found in _many(grey, replace(NONE, colour=0.05))], float) - 100
    assert (-13 <= tinted.min() < -12) and (12 < tinted.max() <= 13)
    assert np.abs(np.corrcoef(tinted.T)[np.triu_indices(3, 1)]).max() < 0.2, "channels are independent"
    brighter = np.array([found[0, 0] for found in _many(grey, replace(NONE, brightness=0.1))], float) / 100
    assert (brighter == brighter[:, :1]).all()
    assert (0.9 <= brighter.min() < 0.91) and (1.09 < brighter.max() <= 1.1)
    both = np.array([found[0, 0] for found in _many(np.full((2, 2, 3), 250, np.uint8), AugmentationSettings())])
    assert both.max() == 255, "values end at white, they do not start anew at black"


def test_a_blur_takes_contrast_and_no_light() -> None:
    picture = _picture(200, 300)
    pictures = _many(picture, replace(NONE, blur=1.0), 40)
    spreads = np.array([found.std() for found in pictures])
    assert spreads.max() > 0.95 * picture.std()
    # White noise under a Gaussian of 1.2 pixels, the widest here, keeps 1 / (2 * 1.2 * sqrt(pi)) of its spread.
    assert 0.22 < spreads.min() / picture.std() < 0.3
    assert [float(found.mean()) for found in pictures] == pytest.approx([float(picture.mean())] * 40, abs=1)


def test_one_warp_shows_what_perspective_and_then_turn_show() -> None:
    """The order matters: the other way round the pictures differ."""
    picture = cv2.GaussianBlur(_picture(120, 160), (0, 0), 6)
    both = AugmentationSettings(flip=0, perspective=1, blur=0, colour=0, brightness=0)
    only = {"first": replace(both, rotate=0, shear=0, scale=0, translate=0), "then": replace(both, perspective=0)}
    for seed in range(10):
        at_once, bent, turned, other = (
            augment(picture, both, np.random.default_rng(seed)),
            augment(
                augment(picture, only["first"], np.random.default_rng(seed)), only["then"], np.random.default_rng(seed)
            ),
            augment(picture, only["then"], np.random.default_rng(seed)),
            augment(
                augment(picture, only["then"], np.random.default_rng(seed)), only["first"], np.random.default_rng(seed)
            ),
        )
        same = np.abs(at_once.astype(float) - bent).mean()
        assert same < 2
        assert min(np.abs(at_once.astype(float) - wrong).mean() for wrong in (turned, other)) > 3 * same
