"""MotionAmplitude has the bits of the official script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refeval.cases import Case, Category
from refeval.clips import DECODERS, Clip, open_clip
from refeval.errors import UnusableClip
from refeval.metrics.motion_amplitude import MotionAmplitude, flow_fields, grey, optical_flow, signed_mean

_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=())


@pytest.fixture(scope="module")
def synthetic(goldens: Path) -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]]:
    """Facts and arrays of every synthetic case."""
    facts = json.loads((goldens / "metrics/motion_amplitude_synth.json").read_text())
    with np.load(goldens / "metrics/motion_amplitude_synth.npz") as file:
        return facts["cases"], dict(file)


@pytest.mark.parametrize("decoder", DECODERS)
def test_demo_clips(decoder: str, goldens: Path, opens2v: Path) -> None:
    if decoder == "decord":
        pytest.importorskip("decord", reason="decord is not installed")
    golden = json.loads((goldens / "metrics/motion_amplitude_demo.json").read_text())["videos"]
    files = {name: opens2v / f"demo/videos/{name}.mp4" for name in golden}
    there = {name: file for name, file in files.items() if file.is_file()}
    if not there:
        pytest.skip(f"none of the demo clips {', '.join(files)} is there")
    for name, file in there.items():
        clip = open_clip(file, decoder=decoder)
        score = MotionAmplitude().score(_CASE, clip)
        assert score.value == golden[name]["motion_fb"]
        assert score.frames_used == golden[name]["frames"]
        assert [clip.width, clip.height] == golden[name]["size_wh"]


def test_flows_downscaled_flows_and_score_have_the_same_bits(
    synthetic: tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]],
) -> None:
    facts, arrays = synthetic
    scored = [name for name in facts if f"{name}/down" in arrays]
    assert scored
    for name in scored:
        frames, down = arrays[f"{name}/frames"], arrays[f"{name}/down"]
        fields = flow_fields(Clip.from_frames(frames, 8))
        cells = np.stack([field.cells for field in fields])
        assert cells.dtype == np.float32
        assert np.array_equal(cells, down), name
        assert float(signed_mean(fields)) == float(facts[name]["score_signed"]), name
        assert MotionAmplitude().score(_CASE, Clip.from_frames(frames, 8)).value == float(facts[name]["motion_fb"])


def test_full_size_flows_have_the_same_bits(
    synthetic: tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]],
) -> None:
    facts, arrays = synthetic
    with_flow = [name for name in facts if f"{name}/flow" in arrays]
    assert with_flow
    for name in with_flow:
        frames, flows = arrays[f"{name}/frames"], arrays[f"{name}/flow"]
        for i, flow in enumerate(flows):
            assert np.array_equal(optical_flow(grey(frames[i]), grey(frames[i + 1])), flow), name


def test_what_the_official_script_cannot_score_is_unusable(
    synthetic: tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]],
) -> None:
    facts, arrays = synthetic
    refused = [name for name, case in facts.items() if "error" in case or math.isnan(float(case["motion_fb"]))]
    assert refused
    for name in refused:
        with pytest.raises(UnusableClip, match=r"too flat|fewer than 2 frames"):
            MotionAmplitude().score(_CASE, Clip.from_frames(arrays[f"{name}/frames"], 8))
