"""What two sides of a comparison must have in common, and what may differ once it is allowed by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refeval.baselines import Baseline
from refeval.catalogue import METRIC_BY_ID
from refeval.errors import BadInput
from refeval.suggestions import did_you_mean

# What --allow can name, and what it is about.
ALLOWANCES: Mapping[str, str] = {
    "suite-version": "sha256 of the suite file; the cases must be the same",
    "clip": "size, length and rate asked for",
    "judge": "the judge asked for, and the model that answered",
    "rubric": "what the judge was told",
    "decoder": "decoder and its version",
    "metric-version": "version of a metric",
    "metric-settings": "settings of a metric",
    "metric-weights": "weights of a metric",
    "libraries": "versions of the libraries behind a metric",
    "random-weights": "scores of small random weights, which mean nothing",
}
# Field of ScoreRecord.made_by -> the name that allows it to differ.
_FIELDS = {
    "version": "metric-version",
    "libraries": "libraries",
    "decoder": "decoder",
    "settings": "metric-settings",
    "weights": "metric-weights",
}
_JUDGE_FIELDS = {"judge": "judge", "served": "judge", "rubric": "rubric"}
_ABSENT = "none"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which two sides differ.

    Attributes:
        name: of :data:`ALLOWANCES`.
        what: e.g. ``decoder of MotionAmplitude``.
        base: as the base has it.
        candidate: as the candidate has it.
    """

    name: str
    what: str
    base: str
    candidate: str

    def __str__(self) -> str:
        return f"{self.what}: {self.base} in the base, {self.candidate} in the candidate"


def parse_allowances(texts: Iterable[str]) -> frozenset[str]:
    """Names that ``--allow`` was given, each text one or several with commas between.

    Raises:
        BadInput: an unknown name.
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ALLOWANCES:
            details = (("known", ", ".join(ALLOWANCES)),)
            raise BadInput(f"--allow: unknown name '{name}'{did_you_mean(name, ALLOWANCES)}", details=details)
    return frozenset(names)


def find_differences(
    base: Sequence[Baseline], candidate: Sequence[Baseline], metrics: Iterable[str]
) -> list[Difference]:
    """Everything in which two sides differ though their scores depend on it.

    Records of one side that disagree among themselves count as a difference too, even where the other side disagrees
    in the same way: which case was scored how is not told apart.

    Args:
        base: the runs of the one side.
        candidate: those of the other.
        metrics: ids that are compared; only those that both sides have values of are looked at.
    """
    found = []
    suites = [_texts(str(run.suite["sha256"])[:12] for run in side) for side in (base, candidate)]
    clips = [_texts(str(run.clip.spec()) for run in side) for side in (base, candidate)]
    names = "".join(sorted({f" {run.suite['name']}" for run in (*base, *candidate)}))
    found += _difference("suite-version", f"sha256 of suite{names}", *suites)
    found += _difference("clip", "clip", *clips)
    by_metric = [_of_metric(base, candidate, metric) for metric in metrics]
    found += _merged(difference for differences in by_metric for difference in differences)
    random = [sorted({metric for run in side for metric in run.random_weights}) for side in (base, candidate)]
    if any(random):
        texts = [", ".join(METRIC_BY_ID[metric].label for metric in ids) or _ABSENT for ids in random]
        found.append(Difference(name="random-weights", what="random weights", base=texts[0], candidate=texts[1]))
    return found


def refuse_differences(differences: Sequence[Difference], allowed: frozenset[str]) -> None:
    """Stop unless every difference is allowed.

    Raises:
        BadInput: with the list of those that are not.
    """
    refused = [difference for difference in differences if difference.name not in allowed]
    if not refused:
        return
    names = sorted({difference.name for difference in refused}, key=list(ALLOWANCES).index)
    raise BadInput(
        f"the two sides are not comparable: {', '.join(names)}",
        details=tuple((difference.name, str(difference)) for difference in refused),
        cure=f"score both in the same way, or say that it may differ: --allow {','.join(names)}",
    )


def find_unrecorded(side: Sequence[Baseline], metrics: Iterable[str]) -> list[str]:
    """Metrics of which a run does not record how every value was made: records of earlier releases.

    Args:
        side: the runs.
        metrics: ids to look at.
    """
    return [metric for metric in metrics if any("version" not in way for way in _ways(side, metric))]


def _of_metric(base: Sequence[Baseline], candidate: Sequence[Baseline], metric: str) -> list[Difference]:
    ways = [_ways(side, metric) for side in (base, candidate)]
    if not all(ways):
        return []
    # Where a way is not recorded there is nothing to hold against the other; find_unrecorded() tells that.
    made = [[way for way in side if "version" in way] for side in ways]
    judged = [[way for way in side if "judge" in way] for side in ways]
    found = []
    for fields, (first, second) in ((_FIELDS, made), (_JUDGE_FIELDS, judged)):
        if first and second:
            for field, name in fields.items():
                found += _field(metric, field, name, first, second)
    return found


def _field(
    metric: str, field: str, name: str, base: Sequence[Mapping[str, Any]], candidate: Sequence[Mapping[str, Any]]
) -> list[Difference]:
    label = METRIC_BY_ID[metric].label
    if field != "settings":
        return _difference(
            name, f"{field} of {label}", *(_texts(_text(way[field]) for way in s) for s in (base, candidate))
        )
    keys = sorted({key for way in (*base, *candidate) for key in way[field]})
    return [
        difference
        for key in keys
        for difference in _difference(
            name,
            f"setting {key} of {label}",
            *(_texts(_text(way[field].get(key, _ABSENT)) for way in side) for side in (base, candidate)),
        )
    ]


def _ways(side: Sequence[Baseline], metric: str) -> list[dict[str, Any]]:
    return [way for run in side for way in run.made_by.get(metric, [])]


def _difference(name: str, what: str, base: tuple[str, ...], candidate: tuple[str, ...]) -> list[Difference]:
    if base == candidate and len(base) == 1:
        return []
    return [Difference(name=name, what=what, base=" and ".join(base), candidate=" and ".join(candidate))]


def _merged(differences: Iterable[Difference]) -> list[Difference]:
    """Metrics that differ in the same way share a line."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for difference in differences:
        what, _, metric = difference.what.rpartition(" of ")
        groups.setdefault((difference.name, what, difference.base, difference.candidate), []).append(metric)
    return [
        Difference(name=name, what=f"{what} of {', '.join(metrics)}", base=base, candidate=candidate)
        for (name, what, base, candidate), metrics in groups.items()
    ]


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text[:12] if len(text) == 64 and " " not in text else text
