"""What may not differ: each is refused by name with what differs, accepted by name, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refeval.baselines import Baseline, baseline_of
from refeval.comparability import ALLOWANCES, parse_allowances
from refeval.comparing import Terms, compare
from refeval.errors import BadInput
from refeval.runs import ClipText
from refeval.statistics import Resampling
from tests.refeval.small_sides import even, folder_of, made, side, suite_of
from tests.reports.small_run import small_suite

FEW = Resampling(resamples=100)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    return side(tmp_path_factory.mktemp("comparable") / "run", even(suite_of()))


def _changed(base: Baseline, name: str) -> Baseline:
    """The base with one thing changed."""
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "judge": ("natural", {"judge": "another-judge"}),
        "rubric": ("natural", {"rubric": "8" * 64}),
        "decoder": ("gme", {"decoder": "decord 0.6.0"}),
        "metric-version": ("gme", {"version": "2"}),
        "metric-settings": ("gme", {"settings": {"frames": 16}}),
        "metric-weights": ("gme", {"weights": "1" * 64}),
        "libraries": ("gme", {"libraries": "numpy 2.5.0"}),
    }
    others: dict[str, dict[str, Any]] = {
        "suite-version": {"suite": {**base.suite, "sha256": "5" * 64}},
        "clip": {"clip": ClipText(width=64, height=48, frames=7, fps="8")},
        "random-weights": {"random_weights": ["gme"]},
    }
    if name in others:
        return _copy(base, others[name])
    metric, way = ways[name]
    (old,) = base.made_by[metric]
    return _copy(base, {"made_by": {**base.made_by, metric: [{**old, **way}]}})


def _copy(base: Baseline, update: dict[str, Any]) -> Baseline:
    return Baseline.model_validate({**base.model_dump(), **update})


EXPECTED = {
    "suite-version": "in the base, 555555555555 in the candidate",
    "clip": "clip: 64x48x6@8 in the base, 64x48x7@8 in the candidate",
    "judge": "judge of NaturalScore: a-judge in the base, another-judge in the candidate",
    "rubric": "rubric of NaturalScore: 777777777777 in the base, 888888888888 in the candidate",
    "decoder": "decoder of GmeScore: pyav 18.1.0 in the base, decord 0.6.0 in the candidate",
    "metric-version": "version of GmeScore: 1 in the base, 2 in the candidate",
    "metric-settings": "setting frames of GmeScore: 32 in the base, 16 in the candidate",
    "metric-weights": "weights of GmeScore: 000000000000 in the base, 111111111111 in the candidate",
    "libraries": "libraries of GmeScore: numpy 2.4.6 in the base, numpy 2.5.0 in the candidate",
    "random-weights": "random weights: none in the base, GmeScore in the candidate",
}


@pytest.mark.parametrize("name", ALLOWANCES)
def test_a_difference_is_refused_unless_it_is_named(base: Baseline, name: str) -> None:
    other = _changed(base, name)
    everything_else = frozenset(ALLOWANCES) - {name}
    with pytest.raises(BadInput) as error:
        compare([base], [other], Terms(allowed=everything_else, resampling=FEW))
    assert error.value.what == f"the two sides are not comparable: {name}"
    assert EXPECTED[name] in str(error.value)
    assert error.value.cure is not None
    assert error.value.cure.endswith(f"--allow {name}")
    accepted = compare([base], [other], Terms(allowed=frozenset({name}), resampling=FEW)).accepted
    assert [difference.name for difference in accepted] == [name]


def test_who_answered_is_part_of_the_judge(base: Baseline) -> None:
    (old,) = base.made_by["natural"]
    other = _copy(base, {"made_by": {**base.made_by, "natural": [{**old, "served": ["a-judge-2"]}]}})
    with pytest.raises(BadInput, match="not comparable: judge"):
        compare([base], [other], Terms(resampling=FEW))


def test_all_differences_are_listed_at_once_and_metrics_share_a_line(base: Baseline) -> None:
    made_by = {metric: [{**way, "decoder": "decord 0.6.0"} for way in ways] for metric, ways in base.made_by.items()}
    with pytest.raises(BadInput) as error:
        compare([base], [_copy(base, {"made_by": made_by})], Terms(resampling=FEW))
    assert [name for name, _ in error.value.details] == ["decoder"]
    labels = "Aesthetics, MotionSmoothness, MotionAmplitude, FaceSim, GmeScore, NexusScore, NaturalScore"
    assert error.value.details[0][1].startswith(f"decoder of {labels}: pyav")
    both = _copy(_changed(base, "clip"), {"made_by": made_by})
    with pytest.raises(BadInput, match="not comparable: clip, decoder") as error:
        compare([base], [both], Terms(resampling=FEW))
    assert "--allow clip,decoder" in str(error.value)


def test_model_settings_seed_and_version_of_the_run_may_differ(base: Baseline) -> None:
    changed = {"model": "circles", "settings": {"steps": 50}, "weights": {"a": "b"}, "seed": 9}
    other = _copy(base, {**changed, "generator_version": "2", "refeval_version": "0.2"})
    assert compare([base], [other], Terms(resampling=FEW)).accepted == ()


def test_records_of_one_run_that_disagree_are_refused(tmp_path: Path) -> None:
    run = folder_of(tmp_path / "run", even(suite_of()))
    record = run.score_record("gme", "singleobj_1")
    assert record is not None
    run.write_score(made(record, decoder="decord 0.6.0"))
    mixed = baseline_of(run)
    with pytest.raises(BadInput, match="not comparable: decoder") as error:
        compare([mixed], [mixed], Terms(resampling=FEW))
    assert "decord 0.6.0 and pyav 18.1.0 in the base" in str(error.value)


def test_what_was_not_recorded_is_told_and_not_guessed(base: Baseline) -> None:
    old = _copy(base, {"made_by": {**base.made_by, "gme": [{}]}})
    (note,) = [note for note in compare([old], [base], Terms(resampling=FEW)).notes if "not recorded" in note]
    assert "in the base (an earlier release)" in note
    assert note.endswith("GmeScore.")


def test_a_metric_without_values_on_one_side_has_nothing_to_differ(base: Baseline) -> None:
    without = _copy(base, {"made_by": {m: w for m, w in base.made_by.items() if m != "gme"}})
    assert compare([base], [without], Terms(resampling=FEW)).accepted == ()


def test_other_cases_cannot_be_allowed(base: Baseline, tmp_path: Path) -> None:
    suite = suite_of(4)
    fewer = side(tmp_path / "run", even(suite), suite=suite)
    with pytest.raises(BadInput, match="not comparable: suite-version"):
        compare([base], [fewer], Terms(resampling=FEW))
    with pytest.raises(BadInput, match="different cases"):
        compare([base], [fewer], Terms(allowed=frozenset({"suite-version"}), resampling=FEW))


def test_cases_of_one_id_with_other_references_cannot_be_allowed(base: Baseline, tmp_path: Path) -> None:
    """Another reference makes another case of it, whatever its id: FaceSim would be a mean over other cases."""
    labels = {case.id: tuple(r.label for r in case.references) for case in suite_of().cases}
    suite = small_suite(None, {**labels, "humanobj_0": ("cat", "bag")}, name="opens2v-open")
    other = side(tmp_path / "run", even(suite), suite=suite)
    with pytest.raises(BadInput, match="count different cases for FaceSim") as error:
        compare([base], [other], Terms(allowed=frozenset({"suite-version"}), resampling=FEW))
    assert error.value.details == (("for example", "humanobj_0"),)


def test_names_are_checked() -> None:
    assert parse_allowances(["judge, decoder", "clip"]) == {"judge", "decoder", "clip"}
    with pytest.raises(BadInput, match="Did you mean 'decoder'"):
        parse_allowances(["decodr"])
