"""Suites: the real files, every kind of bad file, selection and what applies to whom."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from refeval.applicability import nexus_prompts, official_applies, strict_applies
from refeval.cases import Category, ClipSpec, Domain, ReferenceKind, parse_suite
from refeval.checking import check_references
from refeval.errors import BadInput, MissingPrerequisite
from refeval.selection import Selection
from refeval.suites import SUITES, load_suite

CLIP = ClipSpec(width=64, height=48, frames=8, fps=Fraction(8))
GOOD = {"img_paths": ["Images/singleobject/cup/1.jpg"], "prompt": "A cup.", "class_label": ["Cup"]}


def _parse(text: str) -> None:
    parse_suite(text, name="x", domain=Domain.OPEN, clip=CLIP, source="x.json", root=None)


def test_the_published_suites(opens2v: Path) -> None:
    suites = {name: load_suite(name, data=opens2v) for name in SUITES if name != "sprites"}
    for name, suite in suites.items():
        assert len(suite.cases) == SUITES[name].cases
    cases = suites["opens2v-open"].cases
    pairs = Category.FACEOBJ, Category.HUMANOBJ, Category.MULTIFACE, Category.MULTIHUMAN
    assert Counter(case.category for case in cases) == {c: 15 if c in pairs else 30 for c in Category}
    assert Counter(len(case.references) for case in cases) == {1: 90, 2: 40, 3: 50}
    # Facts of the official scripts: 39 of 180 cases can never have a NexusScore, 90 never a FaceSim.
    assert sum(official_applies("nexus", case) for case in cases) == 141
    assert sum(len(nexus_prompts(case)) for case in cases) == 242
    assert sum(official_applies("facesim", case) for case in cases) == 90
    assert sum(strict_applies("facesim", case) for case in cases) == 120


def test_references_know_what_they_show(opens2v: Path) -> None:
    suite = load_suite("opens2v-open", data=opens2v)
    kinds = {(r.path, r.kind) for case in suite.cases for r in case.references}
    for path, kind in kinds:
        background = "/environment/" in path or "/scene/" in path
        assert (kind is ReferenceKind.BACKGROUND) == background
        if "/crop_" in path or "/man/" in path or "/woman/" in path:
            assert kind is ReferenceKind.PERSON
    assert {case.category for case in suite.cases if case.of_kind(ReferenceKind.BACKGROUND)} == {
        Category.FACEOBJ,
        Category.HUMANOBJ,
        Category.MULTIFACE,
        Category.MULTIHUMAN,
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**GOOD, "prompt": "  "}, "field 'prompt' is empty"),
        ({**GOOD, "class_label": ["Cup", "Cup"]}, "field 'class_label' has 2 entries for 1 images"),
        ({**GOOD, "img_paths": []}, "field 'img_paths' is not a list"),
        ({**GOOD, "img_paths": "a.jpg"}, "field 'img_paths' is not a list"),
        ({**GOOD, "colour": "red"}, "unknown field 'colour'"),
        ({"prompt": "x", "class_label": ["Cup"]}, "field 'img_paths' is missing"),
        ([], "not an object but a list"),
    ],
)
def test_a_bad_case_is_named_with_file_case_and_field(entry: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        _parse(json.dumps({"singleobj_1": entry}))
    assert "x.json: case 'singleobj_1'" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a JSON object but a list"),
        ('{"a": ', "not valid JSON"),
        ("[" * 200_000, "nested too deeply"),
        ("{}", "no cases"),
        (f'{{"singleobj_1": {json.dumps(GOOD)}, "singleobj_1": {json.dumps(GOOD)}}}', "'singleobj_1' is given twice"),
        (json.dumps({"singleobj_a": GOOD, "singleobj_A": GOOD}), "differ only in upper and lower case"),
        (json.dumps({"cup_1": GOOD}), "names no category"),
    ],
)
def test_a_bad_file_is_named(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=r"x\.json") as caught:
        _parse(text)
    assert message in str(caught.value)


def test_images_are_only_opened_when_needed(tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text(json.dumps({"singleobj_1": GOOD}))
    suite = load_suite(str(tmp_path / "suite.json"))
    with pytest.raises(MissingPrerequisite, match="case 'singleobj_1': reference 1 of 1 is missing"):
        suite.cases[0].reference_files()
    (finding,) = check_references(suite)
    assert "Images/singleobject/cup/1.jpg" in finding.text


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text(json.dumps({"singleobj_1": GOOD}))
    image = tmp_path / GOOD["img_paths"][0]
    image.parent.mkdir(parents=True)
    image.write_bytes(b"not a picture")
    (finding,) = check_references(load_suite(str(tmp_path / "suite.json")))
    assert "case 'singleobj_1'" in finding.text
    assert "cannot be read" in finding.text


def test_every_sprites_image_opens() -> None:
    assert check_references(load_suite("sprites")) == []


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"singleobj_1": GOOD}).encode())
    assert load_suite(str(tmp_path / "suite.json")).cases[0].id == "singleobj_1"
    with pytest.raises(BadInput, match="is a folder"):
        load_suite(str(tmp_path))


def test_the_domain_follows_the_file_name(opens2v: Path) -> None:
    files = {"Open-Domain_Eval": Domain.OPEN, "Human-Domain_Eval": Domain.HUMAN, "Single-Domain_Eval": Domain.SINGLE}
    for name, domain in files.items():
        suite = load_suite(str(opens2v / f"{name}.json"))
        assert (suite.name, suite.domain) == (name, domain)


def test_unknown_suites_and_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFEVAL_DATA", raising=False)
    with pytest.raises(BadInput, match="Did you mean 'sprites'"):
        load_suite("sprite")
    with pytest.raises(BadInput, match="does not exist"):
        load_suite(str(tmp_path / "no.json"))
    with pytest.raises(MissingPrerequisite, match="refeval fetch suite opens2v-human"):
        load_suite("opens2v-human")
    monkeypatch.setenv("REFEVAL_DATA", str(tmp_path))
    with pytest.raises(MissingPrerequisite) as caught:
        load_suite("opens2v-human")
    assert str(tmp_path) in str(caught.value)


def test_selections_narrow_and_shards_cover() -> None:
    suite = load_suite("sprites")
    everything = [case.id for case in suite.cases]
    shards = [case.id for i in (1, 2, 3) for case in Selection(shard=f"{i}/3").of(suite)]
    assert sorted(shards) == sorted(everything)
    assert len(shards) == len(everything)
    assert [case.id for case in Selection(limit=2).of(suite)] == everything[:2]
    chosen = Selection(category="multiface", limit=3).of(suite)
    assert [case.category for case in chosen] == [Category.MULTIFACE] * 3
    assert [case.id for case in Selection(ids=(everything[5], everything[1])).of(suite)] == [
        everything[1],
        everything[5],
    ]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(ids=("nobody_1",)), "unknown case 'nobody_1'"),
        (Selection(category="multifaces"), "Did you mean 'multiface'"),
        (Selection(shard="3/2"), "is not i/n"),
        (Selection(shard="0/2"), "is not i/n"),
        (Selection(shard="half"), "is not i/n"),
        (Selection(limit=0), "no case"),
    ],
)
def test_bad_selections(selection: Selection, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        selection.of(load_suite("sprites"))
    assert message in str(caught.value)
