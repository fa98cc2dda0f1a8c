"""The copy-paste baseline: what is pasted is seen, moves as the prompt says, and is the same every time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refeval.cases import Case, ClipSpec
from refeval.clips import Frame
from refeval.errors import BadInput
from refeval.generators.copy_paste import CopyPaste
from refeval.generators.cutout import cut_out, read_picture
from refeval.generators.prompt_motion import STILL, Motion, read_motions
from refeval.health import HealthCheck
from tests.generators.cases import CLIP, disk, make_case, make_job

RED, BLUE, GREEN = (220, 20, 20), (20, 40, 220), (20, 160, 40)


def frames_of(folder: Path, case: Case, *, clip: ClipSpec = CLIP, seed: int = 0) -> Frame:
    """The frames of a case, which must also be a healthy clip of the size that was asked for."""
    job = make_job(folder, case, clip=clip, seed=seed)
    job.scratch.rmdir()
    made = CopyPaste.from_argument(None).render(job)
    check = HealthCheck(clip)
    for frame in made:
        check.see(frame)
    check.finish(fps=made.fps)
    return made.frames


def where(frame: Frame, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(frame.astype(int) - colour).max(axis=-1) < 40)


def centre(frame: Frame, colour: tuple[int, int, int]) -> tuple[float, float, int]:
    """Mean column, mean row and number of the pixels of a colour."""
    rows, columns = np.nonzero(where(frame, colour))
    assert len(rows), "the colour is not in the frame"
    return float(columns.mean()), float(rows.mean()), len(rows)


@pytest.fixture
def two_disks(tmp_path: Path) -> tuple[tuple[str, str], tuple[str, str]]:
    disk(tmp_path / "thing/red.png", RED)
    disk(tmp_path / "thing/blue.png", BLUE)
    return ("thing/red.png", "Ball"), ("thing/blue.png", "Cup")


# --- pictures in, frames out ------------------------------------------------------------------------------


def test_the_same_job_gives_the_same_frames(tmp_path: Path, two_disks: tuple[tuple[str, str], ...]) -> None:
    photo(tmp_path / "thing/photo.png")
    case = make_case(tmp_path, *two_disks, ("thing/photo.png", "Toy"), prompt="They move in circles and spin.")
    first = frames_of(tmp_path, case)
    assert np.array_equal(first, frames_of(tmp_path, case))
    assert not np.array_equal(first, frames_of(tmp_path, case, seed=1))


@pytest.mark.parametrize(
    ("prompt", "axis", "sign"),
    [
        ("A ball moves to the left.", 0, -1),
        ("A ball rolls rightwards.", 0, 1),
        ("A ball floats slowly upwards.", 1, -1),
        ("The ball falls down.", 1, 1),
        ("The ball comes closer to the camera.", 2, 1),
        ("The ball goes away from the camera.", 2, -1),
        ("A ball.", 0, 1),
    ],
)
def test_the_subject_moves_as_the_prompt_says(prompt: str, axis: int, sign: int, tmp_path: Path) -> None:
    disk(tmp_path / "thing/red.png", RED)
    frames = frames_of(tmp_path, make_case(tmp_path, ("thing/red.png", "Ball"), prompt=prompt))
    track = np.array([centre(frame, RED) for frame in frames])[:, axis]
    assert np.all(np.diff(track) * sign > 0)


def test_a_circle_ends_where_it_began_and_goes_both_ways(tmp_path: Path) -> None:
    disk(tmp_path / "thing/red.png", RED)
    case = make_case(tmp_path, ("thing/red.png", "Ball"), prompt="The ball moves in a circle.")
    track = np.array([centre(frame, RED)[:2] for frame in frames_of(tmp_path, case)])
    assert np.allclose(track[0], track[-1], atol=0.5)
    assert np.all(np.ptp(track, axis=0) > 0.1 * CLIP.height)


def test_motion_is_smooth_below_a_pixel(tmp_path: Path) -> None:
    disk(tmp_path / "thing/red.png", RED)
    clip = ClipSpec(width=160, height=96, frames=81, fps=Fraction(16))
    frames = frames_of(tmp_path, make_case(tmp_path, ("thing/red.png", "Ball")), clip=clip)
    redness = frames[..., 0].astype(float) - frames[..., 1]
    steps = np.diff((redness * np.arange(160)).sum(axis=(1, 2)) / redness.sum(axis=(1, 2)))
    # 16 pixels (a tenth of the width) in 80 steps; whole pixels would make steps of 0 and 1. OpenCV
    # interpolates in steps of 1/32 pixel, rounded at both ends.
    assert np.allclose(steps, 0.2, atol=2 / 32)


def test_subjects_move_apart_when_the_prompt_names_them(tmp_path: Path, two_disks: tuple[tuple[str, str], ...]) -> None:
    case = make_case(tmp_path, *two_disks, prompt="The ball moves to the left, while the cup rises.")
    frames = frames_of(tmp_path, case)
    red, blue = (np.subtract(centre(frames[-1], c), centre(frames[0], c)) for c in (RED, BLUE))
    assert red[0] < -10 and abs(red[1]) < 1
    assert blue[1] < -10 and abs(blue[0]) < 1


@pytest.mark.parametrize("size", [(160, 96), (96, 160), (320, 64), (64, 320), (98, 98)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_reference_is_seen_in_every_frame(size: tuple[int, int], count: int, tmp_path: Path) -> None:
    references = []
    for name, colour in zip(("red", "blue", "green"), (RED, BLUE, GREEN), strict=True):
        disk(tmp_path / f"thing/{name}.png", colour)
        references.append((f"thing/{name}.png", name))
    case = make_case(tmp_path, *references[:count])
    clip = ClipSpec(width=size[0], height=size[1], frames=5, fps=Fraction(8))
    for frame in frames_of(tmp_path, case, clip=clip):
        for colour in (RED, BLUE, GREEN)[:count]:
            assert centre(frame, colour)[2] > 40


def test_people_are_taller_than_objects_and_stand_on_one_line(tmp_path: Path) -> None:
    disk(tmp_path / "man/red.png", RED, side=600)
    disk(tmp_path / "thing/blue.png", BLUE, side=600)
    case = make_case(tmp_path, ("man/red.png", "Man"), ("thing/blue.png", "Cup"))
    frame = frames_of(tmp_path, case, clip=ClipSpec(width=480, height=240, frames=5, fps=Fraction(8)))[2]
    (red, red_feet), (blue, blue_feet) = (
        (np.ptp(rows := np.nonzero(where(frame, c))[0]), rows.max()) for c in (RED, BLUE)
    )
    assert red == pytest.approx(0.66 * 240, abs=6)
    assert blue == pytest.approx(0.5 * 240, abs=6)
    # The seed shifts each by at most 1 % of the height.
    assert abs(int(red_feet) - int(blue_feet)) <= 2 * 0.01 * 240 + 2


def test_the_background_reference_fills_the_frame_and_stays_behind(tmp_path: Path) -> None:
    disk(tmp_path / "thing/red.png", RED)
    Image.new("RGB", (50, 200), GREEN).save(tmp_path / "scene.png")
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene.png").rename(tmp_path / "scene/1.png")
    case = make_case(tmp_path, ("thing/red.png", "Ball"), ("scene/1.png", "Park"))
    for frame in frames_of(tmp_path, case):
        red, green = where(frame, RED), where(frame, GREEN)
        assert red.any() and green[0].all() and green[:, 0].all()
        # White of the reference would show as a rim between the two.
        assert np.mean(red | green) > 0.97
        assert not where(frame, (255, 255, 255)).any()


def test_a_case_of_a_background_alone_is_no_frozen_clip(tmp_path: Path) -> None:
    disk(tmp_path / "scene/1.png", RED, ground=GREEN)
    frames = frames_of(tmp_path, make_case(tmp_path, ("scene/1.png", "Park")))
    assert centre(frames[-1], RED)[2] > centre(frames[0], RED)[2]


def test_subjects_that_all_stay_still_drift(tmp_path: Path) -> None:
    disk(tmp_path / "thing/red.png", RED)
    frames = frames_of(tmp_path, make_case(tmp_path, ("thing/red.png", "Ball"), prompt="A ball stays still."))
    assert centre(frames[-1], RED)[0] > centre(frames[0], RED)[0]


# --- cutting out ------------------------------------------------------------------------------------------


def photo(path: Path) -> NDArray[np.bool_]:
    """Save a red figure before a blurred, many-coloured background with grain; where the figure is."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC) * 0.6 + np.array([0, 60, 40])
    figure = np.zeros((240, 320), np.uint8)
    cv2.ellipse(figure, (160, 90), (40, 50), 0, 0, 360, 1, -1)
    cv2.ellipse(figure, (160, 240), (90, 100), 0, 0, 360, 1, -1)
    scene[figure > 0] = (200, 30, 30)
    noisy = np.clip(cv2.GaussianBlur(scene, (0, 0), 1.0) + rng.normal(0, 6, scene.shape), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy.astype(np.uint8)).save(path)
    return np.asarray(figure > 0)


def test_a_figure_in_a_photo_is_cut_out(tmp_path: Path) -> None:
    figure = photo(tmp_path / "photo.png")
    cutout = cut_out(read_picture(tmp_path / "photo.png", where="x"))
    kept = cutout.rgba[..., 3] > 128
    rows, columns = (np.flatnonzero(figure.any(axis=axis)) for axis in (1, 0))
    # Within a twentieth of the figure's own size and area.
    assert kept.shape == pytest.approx((np.ptp(rows) + 1, np.ptp(columns) + 1), rel=0.05)
    assert kept.sum() == pytest.approx(figure.sum(), rel=0.05)
    assert cutout.cropped


@pytest.mark.parametrize("ground", [(255, 255, 255), (240, 238, 235), (30, 200, 60), (0, 0, 0)])
def test_a_plain_ground_is_removed_without_a_rim(ground: tuple[int, int, int], tmp_path: Path) -> None:
    disk(tmp_path / "a.jpg", RED, ground=ground, side=200)
    cutout = cut_out(read_picture(tmp_path / "a.jpg", where="x"))
    alpha = cutout.rgba[..., 3].astype(int)
    assert np.sum(alpha > 128) == pytest.approx(np.pi * 66**2, rel=0.06)
    assert not cutout.cropped
    # Over red, only red may be seen: what is left of the ground would lighten or darken the edge.
    over_red = cutout.rgba[..., :3] + (255 - alpha[..., None]) / 255 * np.array(RED)
    assert np.mean(np.abs(over_red - RED).max(axis=-1) < 60) > 0.98


def test_white_inside_a_subject_stays(tmp_path: Path) -> None:
    picture = disk(tmp_path / "a.png", RED, side=200)
    cv2.circle(picture, (100, 100), 20, (255, 255, 255), -1)
    Image.fromarray(picture).save(tmp_path / "a.png")
    cutout = cut_out(read_picture(tmp_path / "a.png", where="x"))
    middle = cutout.rgba.shape[0] // 2
    assert cutout.rgba[middle, middle].tolist() == [255, 255, 255, 255]


@pytest.mark.parametrize("colour", [(255, 255, 255), (252, 252, 252), (243, 243, 243)])
def test_white_on_white_does_not_fail(colour: tuple[int, int, int], tmp_path: Path) -> None:
    disk(tmp_path / "thing/white.png", colour)
    cutout = cut_out(read_picture(tmp_path / "thing/white.png", where="x"))
    assert np.mean(cutout.rgba[..., 3] > 128) > 0.5
    frames_of(tmp_path, make_case(tmp_path, ("thing/white.png", "Egg")))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (9, 9)])
def test_tiny_and_thin_pictures_do_not_fail(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    Image.new("RGB", size, RED).save(tmp_path / "thing/a.png")
    frames_of(tmp_path, make_case(tmp_path, ("thing/a.png", "Dot")))


def test_transparency_is_the_cut_out(tmp_path: Path) -> None:
    picture = np.zeros((100, 100, 4), np.uint8)
    picture[30:70, 20:80] = (*RED, 255)
    for mode in ("RGBA", "P"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(picture).convert(mode).save(path, **({"transparency": 0} if mode == "P" else {}))
        rgba = cut_out(read_picture(path, where="x")).rgba
        assert rgba.shape[:2] == (42, 62)
        assert np.abs(rgba[20, 30, :3].astype(int) - RED).max() < 30


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "I", "F", "RGBA"])
def test_every_mode_is_read(mode: str, tmp_path: Path) -> None:
    grey = np.full((40, 60), 255, np.uint8)
    grey[10:30, 20:40] = 0
    if mode in ("I;16", "I", "F"):
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        image = Image.fromarray((grey.astype(np.uint32) * 257).astype(kinds[mode]))
    else:
        image = Image.fromarray(grey).convert(mode) if mode != "CMYK" else Image.fromarray(grey).convert("RGB")
        image = image.convert("CMYK") if mode == "CMYK" else image
    image.save(tmp_path / "a.tiff")
    picture = read_picture(tmp_path / "a.tiff", where="x")
    assert picture.shape == (40, 60, 4)
    assert picture[20, 30].tolist() == [0, 0, 0, 255]
    assert picture[2, 2].tolist() == [255, 255, 255, 255]


def test_a_turned_photo_is_set_upright_and_a_large_one_made_small(tmp_path: Path) -> None:
    image = Image.new("RGB", (3000, 1500), RED)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg", where="x").shape == (1024, 512, 4)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_image_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing/a.png").write_bytes(content)
    with pytest.raises(BadInput, match=r"case 'singleobj_1': reference thing/a\.png: not a readable image"):
        frames_of(tmp_path, make_case(tmp_path, ("thing/a.png", "Cup")))


def test_an_image_cut_short_is_named(tmp_path: Path) -> None:
    disk(tmp_path / "thing/a.png", RED)
    content = (tmp_path / "thing/a.png").read_bytes()
    (tmp_path / "thing/a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match="not a readable image"):
        frames_of(tmp_path, make_case(tmp_path, ("thing/a.png", "Cup")))


@pytest.mark.parametrize("argument", ["", "x"])
def test_no_argument_is_taken(argument: str) -> None:
    with pytest.raises(BadInput, match="takes no argument"):
        CopyPaste.from_argument(argument)


# --- the words of a prompt --------------------------------------------------------------------------------

LEFT, RIGHT, UP, DOWN = Motion(right=-1), Motion(right=1), Motion(down=-1), Motion(down=1)
CLOSER, AWAY, CIRCLE, SPIN = Motion(growth=1), Motion(growth=-1), Motion(circle=True), Motion(spin=True)


@pytest.mark.parametrize(
    ("prompt", "motion"),
    [
        ("A car drives from left to right.", RIGHT),
        ("It enters from the right.", LEFT),
        ("A kite rises to the top.", UP),
        ("The camera zooms in.", CLOSER),
        ("The camera zooms out.", AWAY),
        ("She walks into the distance.", AWAY),
        ("A cat walks towards the camera.", CLOSER),
        ("A cat walks towards the left.", LEFT),
        ("A dog runs around.", CIRCLE),
        ("A top spins.", SPIN),
        ("A ball rotates and moves up.", Motion(spin=True, down=-1)),
        ("A leaf moves left, then right.", LEFT),
        ("A vase remains still.", STILL),
        ("A vase.", None),
        ("The man on the left sits down, looks up and raises his right hand.", None),
        ("A close-up of a cup under falling snow, and rain falls.", None),
        ("His arm is around her shoulders at a round table.", None),
    ],
)
def test_motion_words(prompt: str, motion: Motion | None) -> None:
    assert read_motions(prompt, ["Thing"]) == [motion]


@pytest.mark.parametrize(
    ("prompt", "labels", "motions"),
    [
        ("A man crouches, watching a cat walking towards him.", ["Man", "Cat"], [None, CLOSER]),
        ("A man and a tall woman walk to the left.", ["Man", "Woman"], [LEFT, LEFT]),
        ("A red ball and a box. Both move up.", ["Ball", "Box"], [UP, UP]),
        ("The ball spins and the box moves left.", ["Ball", "Box"], [SPIN, LEFT]),
        ("To the left flies a ball; the box falls.", ["Ball", "Box"], [LEFT, DOWN]),
        ("A ball lies there. Then it rises. The box spins.", ["Ball", "Box"], [UP, SPIN]),
        ("A woman moves left, a woman moves right.", ["Woman", "Woman"], [LEFT, RIGHT]),
        ("A cup falls.", ["Cup", "Phone"], [DOWN, DOWN]),
        ("A circle moves up, a star moves in a circle.", ["Circle", "Star"], [UP, CIRCLE]),
        ("The camera zooms in on the cup beside the box.", ["Cup", "Box"], [CLOSER, CLOSER]),
    ],
)
def test_each_subject_gets_its_own_words(prompt: str, labels: list[str], motions: list[Motion | None]) -> None:
    assert read_motions(prompt, labels) == motions


def test_any_label_and_any_prompt_can_be_read() -> None:
    assert read_motions("(((", ["", "(?:", "*"]) == [None, None, None]
    assert read_motions("", []) == []
