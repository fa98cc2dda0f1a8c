"""The documents of plug-ins and generators: their examples run, and their tables are complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.clips import Clip
from refeval.generators.arguments import PLACEHOLDERS
from refeval.generators.base import Generator
from refeval.generators.command import Command, CommandFile
from refeval.metrics.base import Metric
from tests.generators.cases import CLIP, disk, make_case, make_job

DOCS = Path(__file__).parents[2] / "docs"


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


def plugin(number: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(blocks("plugins.md", "python")[number], names)
    return names


def test_the_example_of_a_generator_renders(tmp_path: Path) -> None:
    disk(tmp_path / "a.png", (200, 0, 0))
    disk(tmp_path / "b.png", (0, 0, 200))
    generator: Generator = plugin(0)["Slideshow"].from_argument(None)
    clip = generator.render(make_job(tmp_path, make_case(tmp_path, ("a.png", "Cup"), ("b.png", "Box"))))
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (CLIP.frames, CLIP.height, CLIP.width, 3)
    assert clip.frames[0, 48, 80].tolist() == [200, 0, 0]
    assert clip.frames[-1, 48, 80].tolist() == [0, 0, 200]


def test_the_example_of_a_metric_scores(tmp_path: Path) -> None:
    metric: Metric = plugin(1)["Brightness"]()
    clip = Clip.from_frames(np.full((4, 8, 8, 3), 51, np.uint8), 8)
    score = metric.score(make_case(tmp_path, ("a.png", "Cup")), clip)
    assert score.value == score.strict_value == pytest.approx(0.2)


def test_the_entry_points_of_the_example_name_its_classes() -> None:
    groups = tomllib.loads(blocks("plugins.md", "toml")[0])["project"]["entry-points"]
    assert groups == {
        "refeval.generators": {"slideshow": "my_package.slideshow:Slideshow"},
        "refeval.metrics": {"brightness": "my_package.brightness:Brightness"},
    }
    assert "Slideshow" in plugin(0) and "Brightness" in plugin(1)


def test_the_example_of_a_command_file_is_valid(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(blocks("generators.md", "toml")[0])
    assert str(Command.from_argument(str(tmp_path / "model.toml")).clip) == "832x480x81@16"


def test_the_tables_list_every_key_and_placeholder() -> None:
    rows = "".join(re.findall(r"^\| (`.*?) \|", (DOCS / "generators.md").read_text(), re.MULTILINE))
    listed = set(re.findall(r"`\{?([a-z_0-9]+)\}?`", rows))
    assert {*PLACEHOLDERS, *CommandFile.model_fields} <= listed
    assert listed <= {*PLACEHOLDERS, *CommandFile.model_fields, "videos", "command", "copy-paste"}
