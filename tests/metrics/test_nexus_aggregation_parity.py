"""The official value of NexusScore is that of the official script, bit for bit, for every golden and every release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refeval.cases import Case, Category, Reference, reference_kind
from refeval.metrics.nexus_boxes import FoundBox, count_boxes, official_value, scored_subjects

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def entries(goldens: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((goldens / "metrics/nexus_aggregation.json").read_text())
    return loaded


def _case(entry: dict[str, Any]) -> Case:
    # An id that is not in the suite has no references that anybody could look for.
    labels = entry["labels"] if entry.get("in_json", True) else []
    references = tuple(
        Reference(path=f"thing/{i}.jpg", label=label, kind=reference_kind(f"thing/{i}.jpg", label))
        for i, label in enumerate(labels)
    )
    category = Category(entry["prefix"].split("_")[0])
    return Case(id=entry["prefix"], category=category, prompt="", references=references)


def _boxes(entry: dict[str, Any]) -> tuple[list[FoundBox], Tensor, Tensor]:
    boxes, texts, images = [], [], []
    for frame, by_prompt in enumerate(entry["frames"]):
        for index, subject in enumerate(scored_subjects(_case(entry))):
            for found in by_prompt.get(str(subject.position - 1), []):
                confidence = float(np.float32(found["conf"]))
                boxes.append(FoundBox(frame=frame, subject=index, corners=tuple(found["box"]), confidence=confidence))
                texts.append(found["txt"])
                images.append(found["img"])
    dtype = _DTYPES[entry["gme_dtype"]]
    return boxes, torch.tensor(texts, dtype=dtype), torch.tensor(images, dtype=dtype)


@pytest.mark.parametrize("release", ["v1.1", "v1.0_last", "v1.0_first_release"])
def test_every_value(release: str, entries: list[dict[str, Any]]) -> None:
    assert len(entries) == 27
    for entry in entries:
        expected = entry["expected"][release]
        value = official_value(*_boxes(entry), first_release=release == "v1.0_first_release")
        assert (value is not None) == expected["in_output"], entry["name"]
        assert value is None or value == float(expected["value"]), entry["name"]


def test_what_is_looked_for_and_compared(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        expected = entry["expected"]["v1.1"]
        subjects = scored_subjects(_case(entry))
        assert len(subjects) * len(entry["frames"]) == expected["n_yolo_calls"], entry["name"]
        boxes, *_ = _boxes(entry)
        if expected["in_output"]:
            assert len(boxes) == expected["n_boxes_embedded"]
            labels = {subjects[box.subject].label for box in boxes}
            assert sorted(labels) == expected["texts_embedded_unique"]


def test_0_6_in_float32_counts_and_0_30_in_float16_does_not() -> None:
    box = FoundBox(frame=0, subject=0, corners=(0, 0, 1, 1), confidence=float(np.float32(0.6)))
    for dtype in _DTYPES.values():
        text_n = torch.tensor([0.30, 0.31], dtype=dtype)
        assert count_boxes([box, box], text_n, torch.ones(2, dtype=dtype)) == [1]
