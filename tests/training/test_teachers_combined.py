"""Several teachers as one, and the teachers that a recipe names."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from refeval.errors import BadInput, MissingPrerequisite
from refeval.fetching import fetch_model
from refeval.training import teachers
from refeval.training.recipe import TeacherSettings
from refeval.training.teacher_catalogue import TEACHERS, find_teacher
from refeval.training.teachers import combine, load_teacher, specs_for, teachers_for, tiny_teacher
from refeval.weights import WeightsStore
from tests.refeval.small_hub import running
from tests.training.small_teachers import DINO, QWEN, SIGLIP, pictures, write_dinov3, write_qwen, write_siglip2

SMALL = {"dinov3-b": DINO, "siglip2-so": SIGLIP, "qwen2.5-vl": QWEN}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsStore:
    """A weights folder with small models of the published names."""
    write_dinov3(tmp_path / DINO.repository)
    write_siglip2(tmp_path / SIGLIP.repository)
    write_qwen(tmp_path / QWEN.repository)
    monkeypatch.setattr(teachers, "TEACHERS", {**TEACHERS, **SMALL})
    return WeightsStore(tmp_path)


def test_every_teacher_counts_alike_and_stands_at_its_place() -> None:
    """The cosine of combined features is the mean of the cosines, however long the features are."""
    small, large = tiny_teacher(16, family="siglip2"), tiny_teacher(64)
    both = combine([small, large])
    assert (both.width, both.side) == (80, 16)
    found = both.features(pictures())
    apart = [teacher.features(pictures()) for teacher in (small, large)]
    lengths = [features.norm(dim=-1).mean() for features in apart]
    assert max(lengths) > 1.5 * min(lengths)
    for features, part in zip(apart, (found[..., :16], found[..., 16:]), strict=True):
        torch.testing.assert_close(part, features / features.norm(dim=-1, keepdim=True))
    cosines = [cosine_similarity(features[0], features[1], dim=-1) for features in apart]
    torch.testing.assert_close(cosine_similarity(found[0], found[1], dim=-1), (cosines[0] + cosines[1]) / 2)


def test_one_teacher_stays_as_it_is() -> None:
    teacher = tiny_teacher()
    assert combine([teacher]) is teacher
    with pytest.raises(ValueError, match="no teachers"):
        combine([])


def test_pictures_must_suit_every_teacher() -> None:
    both = combine([tiny_teacher(), tiny_teacher(family="qwen2.5-vl")])
    assert both.features(pictures(1, 64, 96)).shape == (1, 24, 64)
    with pytest.raises(ValueError, match="multiples of 32"):
        both.features(pictures(1, 48, 96))


def test_a_recipe_names_teachers_layer_norm_and_precision(store: WeightsStore) -> None:
    settings = TeacherSettings(names=("siglip2-so", "qwen2.5-vl"), layer=2, final_norm=False, precision="fp32")
    found = teachers_for(settings, partial(find_teacher, store)).features(pictures(1, 64, 96))
    parts = [
        load_teacher(replace(spec, layer=2, final_norm=False), find_teacher(store, spec.name))
        for spec in (SIGLIP, QWEN)
    ]
    assert torch.equal(found, combine(parts).features(pictures(1, 64, 96)))
    last = teachers_for(TeacherSettings(names=("dinov3-b",)), partial(find_teacher, store))
    expected = load_teacher(DINO, find_teacher(store, "dinov3-b"), dtype=torch.bfloat16)
    assert torch.equal(last.features(pictures()), expected.features(pictures()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TeacherSettings(names=("dinov3l",)), "unknown teacher 'dinov3l'. Did you mean 'dinov3-l'?"),
        (TeacherSettings(names=("dinov3-l", "dinov3-l")), "'dinov3-l' is named twice"),
        (TeacherSettings(names=("dinov3-l", "dinov3-b"), layer=24), "dinov3-b has layers 1 to 12, not 24"),
    ],
)
def test_what_no_teacher_has_is_refused_before_anything_is_looked_for(settings: TeacherSettings, message: str) -> None:
    def find(name: str) -> Path:
        raise AssertionError(name)

    with pytest.raises(BadInput) as caught:
        teachers_for(settings, find)
    assert message in str(caught.value)


def test_a_recipe_takes_the_last_layer_unless_it_says_which() -> None:
    names = ("dinov3-b", "dinov3-h+")
    assert [spec.layer for spec in specs_for(TeacherSettings(names=names))] == [12, 32]
    assert [spec.layer for spec in specs_for(TeacherSettings(names=names, layer=7))] == [7, 7]


def test_what_is_fetched_by_name_is_what_training_finds(
    store: WeightsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFEVAL_CACHE", str(tmp_path / "cache"))
    published = {path.name: path.read_bytes() for path in (tmp_path / QWEN.repository).iterdir()}
    weights = tmp_path / "fetched"
    with running({QWEN.repository: published | {"README.md": b"#"}}, monkeypatch):
        fetch_model("qwen2.5-vl", weights, revision=None, offline=False, tell=lambda _: None)
    settings = TeacherSettings(names=("qwen2.5-vl",))
    found = teachers_for(settings, partial(find_teacher, WeightsStore(weights))).features(pictures(1, 64, 64))
    assert torch.equal(found, teachers_for(settings, partial(find_teacher, store)).features(pictures(1, 64, 64)))
    assert not (weights / QWEN.repository / "README.md").exists()


def test_weights_that_are_not_there_are_fetched_by_name(store: WeightsStore) -> None:
    """Nothing is loaded before everything is found."""
    with pytest.raises(MissingPrerequisite, match="facebook/dinov3-vitl16-pretrain-lvd1689m are missing") as caught:
        teachers_for(TeacherSettings(names=("dinov3-b", "dinov3-l")), partial(find_teacher, store))
    assert caught.value.cure == f"refeval fetch model dinov3-l --weights {store.folder}"
