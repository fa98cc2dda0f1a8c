"""A small recipe, and a training with it that nothing has disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.running import SMALL_RECIPE, refeval


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of the sprites world that is trained within seconds."""
    path = tmp_path_factory.mktemp("recipes") / "small.toml"
    path.write_text(SMALL_RECIPE)
    return path


@pytest.fixture(scope="session")
def undisturbed(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of 20 iterations by one process, from its start to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = refeval(folder / "said", "train", "--config", small_config, "--out", folder / "training")
    assert ended.code == 0, ended.err
    return folder / "training"
