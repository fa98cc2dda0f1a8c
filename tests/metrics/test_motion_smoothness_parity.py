"""Windows, jumps and pixels of MotionSmoothness are the official ones (the network: test_qalign_parity.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refeval.metrics.motion_smoothness import THRESHOLD, WINDOW, artefact_frames, smoothness, window_indices
from refeval.metrics.networks.qalign_input import expand_to_square, pixels_of

Arrays = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def facts(goldens: Path) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads((goldens / "metrics/motion_smoothness.json").read_text())
    return facts


@pytest.fixture(scope="module")
def arrays(goldens: Path) -> Arrays:
    with np.load(goldens / "metrics/motion_smoothness.npz") as file:
        return dict(file)


def test_windows(facts: Mapping[str, Any]) -> None:
    tables = facts["windows_0based_frame_indices"]
    assert f"w{WINDOW}_n9" in tables
    for name, table in tables.items():
        match = re.fullmatch(r"w(\d)_n(\d)", name)
        assert match
        assert window_indices(int(match[2]), int(match[1])) == table, name


def test_jumps_and_formula(facts: Mapping[str, Any]) -> None:
    assert facts["threshold"] == THRESHOLD
    for sequence in facts["score_sequences"]:
        scores = sequence["scores"]
        artefacts = artefact_frames(scores)
        if "error" in sequence:
            with pytest.raises(ZeroDivisionError):
                smoothness(artefacts, len(scores))
            continue
        assert artefacts == sequence["artifact_frames"], sequence["name"]
        assert smoothness(artefacts, len(scores)) == float(sequence["motion_smoothness"]), sequence["name"]


def test_squares(arrays: Arrays) -> None:
    cases = sorted({key.split("/")[1] for key in arrays if key.startswith("sq/")})
    assert cases
    for case in cases:
        square = np.asarray(expand_to_square(Image.fromarray(arrays[f"sq/{case}/in"])))
        assert np.array_equal(square, arrays[f"sq/{case}/out"]), case


def test_pixels(arrays: Arrays) -> None:
    cases = sorted({key.split("/")[1] for key in arrays if key.startswith("pp/")})
    assert cases
    for case in cases:
        pixels = pixels_of(arrays[f"pp/{case}/in"], 448)
        assert pixels.dtype == np.float32
        assert np.array_equal(pixels[None].astype(np.float16), arrays[f"pp/{case}/pixel_values_f16"]), case
        wide = pixels.astype(np.float64)
        stats = [wide.mean(), wide.std(ddof=1), wide.min(), wide.max()]
        assert stats == pytest.approx(arrays[f"pp/{case}/pixel_values_stats_f64"].tolist(), rel=1e-12), case
