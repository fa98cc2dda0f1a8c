"""Goldens that the tests of several files read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="module")
def facesim_facts(goldens: Path) -> dict[str, Any]:
    """Seeds, tables and sums of the golden of FaceSim."""
    loaded: dict[str, Any] = json.loads((goldens / "metrics/facesim.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def facesim_arrays(goldens: Path) -> Mapping[str, NDArray[Any]]:
    """Its arrays."""
    with np.load(goldens / "metrics/facesim.npz") as file:
        return dict(file)
