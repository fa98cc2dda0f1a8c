"""The sprites world and the suite drawn from it."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import refeval.sprites
from refeval.cases import ClipSpec, Domain, ReferenceKind, Suite, parse_suite
from refeval.sprites import (
    BACKGROUNDS,
    COLOURS,
    OBJECT_SHAPES,
    SECOND_COLOURS,
    TEXTURES,
    Actor,
    Background,
    Motion,
    Pose,
    Scene,
    Subject,
    SubjectKind,
    draw_background,
    draw_clip,
    draw_reference,
    sample_scene,
    sample_subject,
)
from refeval.sprites.palette import SKINS
from refeval.sprites.subjects import BUILDS, CLOTHES, EXTRAS, EYES, FACE_SHAPES, HAIRS
from refeval.sprites.suite import case_ids, scene_for, write_suite

Clip = npt.NDArray[np.uint8]

# What SUITE_VERSION 1 is, in words and in pixels. If one changes on purpose, the version must rise.
_JSON_SHA256 = "448baeec947f3124bdaee719c3b308c4dffd94d788f4763426e14d06ef287882"
_PIXELS_SHA256 = "ebac3779f8a0cf2eb2cfdcf6daa71868d23669db715dc80906fd8b40c36d4242"

_EXAMPLES = {
    SubjectKind.OBJECT: Subject(kind=SubjectKind.OBJECT, shape="star", colour="red", second="white", texture="stripes"),
    SubjectKind.FACE: Subject(
        kind=SubjectKind.FACE,
        shape="round",
        colour="blue",
        second="yellow",
        texture="dots",
        gender="man",
        skin="tan",
        hair="short",
        eyes="round",
        extra="glasses",
        clothes="coat",
    ),
    SubjectKind.HUMAN: Subject(
        kind=SubjectKind.HUMAN,
        shape="broad",
        colour="green",
        second="brown",
        texture="checks",
        gender="woman",
        skin="dark",
        hair="long",
        eyes="wide",
        extra="none",
        clothes="coat",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sprites")
    assert write_suite(folder) == folder / "Sprites_Eval.json"
    return folder


@pytest.fixture(scope="module")
def suite(folder: Path) -> Suite:
    return parse_suite(
        (folder / "Sprites_Eval.json").read_text(),
        name="sprites",
        domain=Domain.OPEN,
        clip=ClipSpec(width=192, height=112, frames=16, fps=Fraction(8)),
        source="Sprites_Eval.json",
        root=folder,
    )


def _one(motion: Motion, amplitude: float, subject: Subject = _EXAMPLES[SubjectKind.OBJECT]) -> Scene:
    actor = Actor(subject=subject, pose=Pose(radius=0.25), motion=motion, amplitude=amplitude)
    return Scene(background=Background(kind="sand"), actors=(actor,))


def _track(scene: Scene, height: int, width: int, frames: int = 9) -> npt.NDArray[np.float64]:
    """Centre (x, y), in pixels, and area of what covers the background, for every frame: shape (frames, 3)."""
    covered = (draw_clip(scene, frames, height, width) != draw_background(scene.background, height, width)).any(-1)
    rows = []
    for frame in covered:
        y, x = np.nonzero(frame)
        rows.append((x.mean(), y.mean(), frame.sum()))
    return np.asarray(rows)


def _visible_share(first: Clip, second: Clip) -> float:
    """Share of pixels that differ by more than 30 of 255 in a channel."""
    return float((np.abs(first.astype(int) - second).max(-1) > 30).mean())


def _variations(subject: Subject) -> Iterator[list[Subject]]:
    """For every field but kind and gender: the subject with each name that the field can hold."""
    shapes = {SubjectKind.OBJECT: OBJECT_SHAPES, SubjectKind.FACE: FACE_SHAPES, SubjectKind.HUMAN: BUILDS}
    tables: dict[str, Iterable[str]] = {
        "shape": shapes[subject.kind],
        "colour": [name for name in COLOURS if name != subject.second],
        "second": [name for name in SECOND_COLOURS if name != subject.colour],
        "texture": TEXTURES,
    }
    if subject.gender:
        tables |= {"skin": SKINS, "eyes": EYES, "hair": HAIRS[subject.gender]}
        tables |= {"extra": EXTRAS[subject.gender], "clothes": CLOTHES[subject.gender]}
    for field, names in tables.items():
        yield [replace(subject, **{field: name}) for name in names]


# --- the suite ---------------------------------------------------------------------------------------------


def test_suite_has_four_cases_of_each_category_with_the_right_references(suite: Suite) -> None:
    assert len(suite.cases) == 32 == len(case_ids())
    assert set(Counter(case.category for case in suite.cases).values()) == {4}
    for case in suite.cases:
        scene = scene_for(case.id)
        kinds = [
            ReferenceKind.OBJECT if actor.subject.kind is SubjectKind.OBJECT else ReferenceKind.PERSON
            for actor in scene.actors
        ]
        found = [reference.kind for reference in case.references]
        assert found in (kinds, [*kinds, ReferenceKind.BACKGROUND])
        assert [r.label for r in case.references][: len(kinds)] == [a.subject.label for a in scene.actors]
        for reference, file in zip(case.references, case.reference_files(), strict=True):
            is_background = reference.kind is ReferenceKind.BACKGROUND
            with Image.open(file) as image:
                assert image.size == ((320, 192) if is_background else (256, 256))
    with_background = {c.category.value for c in suite.cases if c.of_kind(ReferenceKind.BACKGROUND)}
    assert with_background == {"faceobj", "humanobj", "multiface", "multihuman"}


def test_suite_categories_show_what_their_names_say() -> None:
    face, human, thing = SubjectKind.FACE, SubjectKind.HUMAN, SubjectKind.OBJECT
    expected = {
        "singleface": [[face]],
        "singlehuman": [[human]],
        "singleobj": [[thing]],
        "multiface": [[face, face]],
        "multihuman": [[human, human]],
        "multiobject": [[thing, thing], [thing, thing, thing]],
        "faceobj": [[face, thing]],
        "humanobj": [[human, thing]],
    }
    for case_id in case_ids():
        kinds = [actor.subject.kind for actor in scene_for(case_id).actors]
        assert kinds in expected[case_id.split("_")[0]], case_id


def test_suite_subjects_are_all_different(suite: Suite) -> None:
    actors = [actor for case_id in case_ids() for actor in scene_for(case_id).actors]
    assert len({actor.subject for actor in actors}) == len(actors)
    assert {actor.subject.shape for actor in actors} >= set(OBJECT_SHAPES)
    assert {actor.motion for actor in actors} == set(Motion)
    images = [np.asarray(Image.open(file)) for case in suite.cases for file in case.reference_files()]
    squares = [image[::4, ::4] for image in images if image.shape[0] == 256]
    assert len(squares) == len(actors)
    assert min(_visible_share(a, b) for a, b in itertools.combinations(squares, 2)) > 0.02


def test_suite_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    write_suite(tmp_path)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)


def test_suite_version_pins_words_and_pixels(folder: Path) -> None:
    pixels = hashlib.sha256()
    for file in sorted(folder.rglob("*.png")):
        pixels.update(np.asarray(Image.open(file)).tobytes())
    for case_id in case_ids():
        pixels.update(draw_clip(scene_for(case_id), 2, 56, 96).tobytes())
    text = (folder / "Sprites_Eval.json").read_bytes()
    assert (hashlib.sha256(text).hexdigest(), pixels.hexdigest()) == (_JSON_SHA256, _PIXELS_SHA256)


def test_prompts_name_subjects_motions_and_background(folder: Path) -> None:
    words = {
        Motion.STILL: "still",
        Motion.LEFT: "left",
        Motion.RIGHT: "right",
        Motion.UP: "up",
        Motion.DOWN: "down",
        Motion.CLOSER: "closer",
        Motion.AWAY: "away",
        Motion.CIRCLE: "circle",
        Motion.SPIN: "spins",
    }
    document = json.loads((folder / "Sprites_Eval.json").read_text())
    for case_id, entry in document.items():
        scene = scene_for(case_id)
        spoken = re.findall(r"[a-z]+", entry["prompt"].lower())
        for actor in scene.actors:
            assert {actor.subject.colour, actor.subject.label.lower()} <= set(spoken), case_id
        told = [word for word in spoken if word in words.values()]
        assert told == [words[actor.motion] for actor in scene.actors], case_id
        assert entry["prompt"].endswith(f", {scene.background.describe()}.")


# --- clips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 24), (112, 192)])
@pytest.mark.parametrize("kind", list(SubjectKind))
def test_direction_of_motion_is_seen(kind: SubjectKind, height: int, width: int) -> None:
    for motion, axis, sign, size in (
        (Motion.LEFT, 0, -1, width),
        (Motion.RIGHT, 0, 1, width),
        (Motion.UP, 1, -1, height),
        (Motion.DOWN, 1, 1, height),
    ):
        track = _track(_one(motion, 0.3, _EXAMPLES[kind]), height, width)
        way = track[-1, :2] - track[0, :2]
        # Centres of covered pixels are known to about half a pixel.
        assert way[axis] * sign == pytest.approx(0.3 * size, abs=1.0)
        assert abs(way[1 - axis]) < 1.0


def test_other_motions_are_seen() -> None:
    closer, away = (_track(_one(motion, 1.0), 64, 64) for motion in (Motion.CLOSER, Motion.AWAY))
    assert closer[-1, 2] / closer[0, 2] == pytest.approx(4, rel=0.15)
    assert away[0, 2] / away[-1, 2] == pytest.approx(4, rel=0.15)
    circle = _track(_one(Motion.CIRCLE, 0.3), 64, 64)
    assert np.ptp(circle[:, 0]) == pytest.approx(0.3 * 64, abs=1.5)
    assert np.ptp(circle[:, 1]) == pytest.approx(0.3 * 64, abs=1.5)
    assert np.abs(circle[0] - circle[-1]).max() < 1e-6
    still = draw_clip(_one(Motion.STILL, 0.0), 4, 64, 64)
    assert (still == still[0]).all()
    spin = draw_clip(_one(Motion.SPIN, 0.5), 4, 64, 64)
    assert min(_visible_share(a, b) for a, b in itertools.pairwise(spin)) > 0.02
    assert np.ptp(_track(_one(Motion.SPIN, 0.5), 64, 64)[:, :2], axis=0).max() < 1.5


def test_same_seed_same_bytes() -> None:
    for seed in (0, [4, 2]):
        assert sample_scene(seed) == sample_scene(seed)
        first, second = (draw_clip(sample_scene(seed), 4, 32, 48) for _ in range(2))
        assert first.tobytes() == second.tobytes()
    rng = np.random.default_rng(0)
    assert sample_scene(rng) == sample_scene(0) != sample_scene(rng)


@pytest.mark.parametrize("kind", list(SubjectKind))
def test_size_does_not_change_the_picture(kind: SubjectKind) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        subject = sample_subject(rng, [kind])
        large = draw_reference(subject, 256, 256).astype(float)
        # The largest seen of 450 subjects: 0.3, 0.8 and 6.4.
        for side, tolerance in ((128, 0.6), (64, 1.5), (16, 9.0)):
            small = draw_reference(subject, side, side).astype(float)
            assert np.abs(small.mean((0, 1)) - large.mean((0, 1))).max() < tolerance


@pytest.mark.parametrize("kind", list(SubjectKind))
def test_every_part_of_an_identity_is_visible(kind: SubjectKind) -> None:
    for variation in _variations(_EXAMPLES[kind]):
        images = [(subject, draw_reference(subject, 128, 128)) for subject in variation]
        assert len(images) >= 3
        for (one, first), (other, second) in itertools.combinations(images, 2):
            assert _visible_share(first, second) > 0.0005, (one, other)


def test_mirror_and_rotation_turn_the_picture() -> None:
    car = replace(_EXAMPLES[SubjectKind.OBJECT], shape="car")
    pose = Pose(radius=0.45)
    upright = draw_reference(car, 64, 64, pose)
    mirrored = draw_reference(car, 64, 64, replace(pose, mirror=True))
    turned = draw_reference(car, 64, 64, replace(pose, angle=np.pi / 2))
    # Coordinates are float32, so a pixel may be rounded the other way.
    assert np.abs(mirrored.astype(int) - upright[:, ::-1]).max() <= 1
    assert np.abs(turned.astype(int) - np.rot90(upright, -1)).max() <= 1


def test_backgrounds_differ_in_colour_or_texture() -> None:
    assert len(BACKGROUNDS) >= 8

    def look(background: Background) -> npt.NDArray[np.float64]:
        image = draw_background(background, 96, 160).astype(float)
        edges = [np.abs(np.diff(image, axis=axis)).mean() * 5 for axis in (0, 1)]
        return np.asarray([*image.mean((0, 1)), *edges])

    looks = {kind: look(Background(kind=kind, variant=3)) for kind in BACKGROUNDS}
    for first, second in itertools.combinations(BACKGROUNDS, 2):
        assert np.abs(looks[first] - looks[second]).max() > 12, (first, second)
    for kind in BACKGROUNDS:
        other = draw_background(Background(kind=kind, variant=4), 96, 160)
        assert (other != draw_background(Background(kind=kind, variant=3), 96, 160)).any()


def test_colours_are_well_separated() -> None:
    assert len(COLOURS) >= 10
    assert len(TEXTURES) >= 6
    distances = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(COLOURS.values(), 2)]
    assert min(distances) > 85


def test_mistakes_are_refused() -> None:
    star = _EXAMPLES[SubjectKind.OBJECT]
    with pytest.raises(ValueError, match="shape 'sofa'; known: star"):
        replace(star, shape="sofa")
    with pytest.raises(ValueError, match="both colours"):
        replace(star, second="red")
    with pytest.raises(ValueError, match="hair 'short'"):
        replace(star, hair="short")
    with pytest.raises(ValueError, match="background 'mars'"):
        Background(kind="mars")
    with pytest.raises(ValueError, match="16x16"):
        draw_clip(_one(Motion.UP, 0.1), 8, 15, 64)
    with pytest.raises(ValueError, match="1 to 3"):
        sample_scene(0, count=4)
    with pytest.raises(ValueError, match="no case 'singleobj_5'"):
        scene_for("singleobj_5")


def test_the_world_knows_nothing_of_the_rest_of_the_program() -> None:
    package = Path(refeval.sprites.__file__).parent
    for file in sorted(package.glob("*.py")):
        if file.name == "suite.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = name.split(".")[0]
                assert name.startswith("refeval.sprites.") or root in {*sys.stdlib_module_names, "numpy"}, name
