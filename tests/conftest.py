"""Folders of golden data, and a small suite with random records."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from refeval.cases import ClipSpec, Domain, Suite, parse_suite
from refeval.catalogue import PUBLISHED_METRICS
from refeval.protocols import ProtocolName, slots
from refeval.records import ScoreRecord, ScoreStatus

# Tests run beside each other: more threads than cores would only wait for one another. Children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_BESIDE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared"

# A busy machine is not a failure; speed belongs to benchmarks/.
settings.register_profile("refeval", deadline=None)
settings.load_profile("refeval")


def _folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable) or _BESIDE_REPOSITORY / name)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set {variable} to the folder '{name}'")
    return folder


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Numbers made by running the official code (``metrics/``, ``dit/``)."""
    return _folder("REFEVAL_GOLDENS", "goldens")


@pytest.fixture(scope="session")
def opens2v() -> Path:
    """Suites, demo clip, demo scores and leaderboards of OpenS2V-Eval."""
    return _folder("REFEVAL_OPENS2V", "opens2v")


@pytest.fixture(scope="session")
def mixed_suite() -> Suite:
    """Nine cases: every category, one with a background."""
    man, dog, street = ("man/1.jpg", "Man"), ("thing/2.jpg", "dog"), ("environment/3.jpg", "street")
    cases = {
        "singleface_1": [man],
        "singlehuman_1": [man],
        "singleobj_1": [dog],
        "multiface_1": [man, man],
        "multiface_2": [man, man, street],
        "multihuman_1": [man, man],
        "multiobject_1": [dog, dog],
        "faceobj_1": [man, dog],
        "humanobj_1": [man, dog],
    }
    document = {
        case: {
            "img_paths": [path for path, _ in references],
            "prompt": "A walk.",
            "class_label": [label for _, label in references],
        }
        for case, references in cases.items()
    }
    clip = ClipSpec(width=64, height=64, frames=8, fps=Fraction(16))
    text = json.dumps(document)
    return parse_suite(text, name="mixed", domain=Domain.OPEN, clip=clip, source="mixed.json", root=None)


@pytest.fixture(scope="session")
def score_records(mixed_suite: Suite) -> st.SearchStrategy[list[ScoreRecord]]:
    """Records of some metrics and cases of the mixed suite: scored in and out of range, or not scored."""
    ranges = {slot.metric: (slot.low, slot.high) for slot in slots(ProtocolName.V1_1, Domain.OPEN)}
    keys = [(metric.id, case.id) for metric in PUBLISHED_METRICS for case in mixed_suite.cases]
    part = st.just(0.0) | st.floats(-0.2, 1.2)
    outcome = st.tuples(part, part) | st.sampled_from([s for s in ScoreStatus if s is not ScoreStatus.SCORED])

    def record(key: tuple[str, str], outcome: tuple[float, float] | ScoreStatus) -> ScoreRecord:
        metric, case = key
        if isinstance(outcome, ScoreStatus):
            return ScoreRecord(metric=metric, case=case, status=outcome, reason="planted", task_key="0")
        bottom, top = ranges[metric]
        value = outcome[0] * top if metric == "nexus" else bottom + outcome[0] * (top - bottom)
        strict = outcome[1] if metric == "nexus" else bottom + outcome[1] * (top - bottom)
        scored = ScoreStatus.SCORED
        return ScoreRecord(metric=metric, case=case, status=scored, value=value, strict_value=strict, task_key="0")

    chosen = st.dictionaries(st.sampled_from(keys), outcome, max_size=len(keys))
    return chosen.map(lambda table: [record(key, outcome) for key, outcome in table.items()])
