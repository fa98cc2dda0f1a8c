"""The judge's pictures, request and waits are those of the official script."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.clips import Linspace, open_clip
from refeval.metrics.judges.base import VoteStatus, parse_vote
from refeval.metrics.judges.frames import OFFICIAL_FRAMES, STRICT_FRAMES, chat_request, judge_pictures, resize_frame
from refeval.metrics.judges.rubric import OFFICIAL_SHA256, Wording
from refeval.metrics.judges.server import least_wait


@pytest.fixture(scope="module")
def golden(goldens: Path) -> Any:
    """Facts that the official script left."""
    return json.loads((goldens / "metrics/naturalscore.json").read_text())


def test_pictures_of_the_demo_clips(golden: Any, opens2v: Path) -> None:
    there = {name: opens2v / f"demo/videos/{name}.mp4" for name in golden["videos"]}
    there = {name: file for name, file in there.items() if file.is_file()}
    if not there:
        pytest.skip(f"none of the demo clips {', '.join(golden['videos'])} is there")
    for name, file in there.items():
        facts = golden["videos"][name]
        clip = open_clip(file)
        assert len(clip) == facts["n_frames"]
        assert OFFICIAL_FRAMES.indices(len(clip)) == facts["indices"]
        resized = [np.ascontiguousarray(resize_frame(frame)[..., ::-1]) for frame in clip.take(OFFICIAL_FRAMES)]
        assert [list(frame.shape) for frame in resized] == [facts["resized_shape_hwc"]] * 16
        assert [hashlib.sha256(frame.tobytes()).hexdigest() for frame in resized] == facts["frame_bgr_sha256"]
        pictures = judge_pictures(clip, OFFICIAL_FRAMES)
        assert [len(picture) for picture in pictures] == facts["jpeg_bytes"]
        assert [hashlib.sha256(picture).hexdigest() for picture in pictures] == facts["jpeg_sha256"]


def test_frame_indices(golden: Any) -> None:
    for count, indices in golden["index_rule_table"].items():
        assert OFFICIAL_FRAMES.indices(int(count)) == indices, count


def test_sizes(golden: Any) -> None:
    for size, (height, width) in golden["resize_long_side"].items():
        w, h = map(int, size.split("x"))
        assert resize_frame(np.zeros((h, w, 3), np.uint8)).shape == (height, width, 3), size


def test_a_sliver_keeps_one_pixel() -> None:
    assert resize_frame(np.zeros((2, 4096, 3), np.uint8)).shape == (1, 512, 3)


def test_request(golden: Any) -> None:
    request = chat_request("gpt-4o-2024-11-20", [b"\xff\xd8"] * 16, "text")
    (message,) = request.pop("messages")
    (expected,) = golden["request"]["messages"]
    assert request == golden["request"]["kw"]
    assert message["role"] == expected["role"]
    assert [part["type"] for part in message["content"]] == expected["content_types"]
    for part in message["content"][:16]:
        assert list(part) == ["type", "image_url"]
        assert list(part["image_url"]) == expected["image_url_keys"]
        assert part["image_url"]["url"] == expected["image_url_prefix"][0] + "/9g="
    assert message["content"][16] == {"type": "text", "text": "text"}


def test_the_official_rubrics_are_told_by_their_sha256(golden: Any) -> None:
    facts = golden["prompt_sha256_utf8"]
    assert golden["request"]["messages"][0]["text_sha256"] == [facts["v1.1_official_210eb08"]["sha256"]]
    for name, fact in facts.items():
        wording = Wording.OFFICIAL_FORK if name == "v1.1_fork" else Wording.OFFICIAL
        assert OFFICIAL_SHA256[fact["sha256"]] is wording


def test_waits(golden: Any) -> None:
    facts = golden["on_failure"]
    assert [least_wait(attempt) for attempt in range(1, facts["n_attempts"])] == facts["sleeps_s"]
    assert least_wait(40) == 60.0


def test_votes_that_official_runs_left(golden: Any) -> None:
    for text, stored in golden["unparsed_replies"].items():
        vote = parse_vote(text)
        assert (vote.value, vote.status) == (float(stored), VoteStatus.VALID)


def test_strict_frames_span_the_clip() -> None:
    assert Linspace(16) == STRICT_FRAMES
    for count in (17, 31, 69, 81, 121):
        indices = STRICT_FRAMES.indices(count)
        assert (indices[0], indices[-1], len(indices)) == (0, count - 1, 16)
    assert STRICT_FRAMES.indices(16) == OFFICIAL_FRAMES.indices(16)
