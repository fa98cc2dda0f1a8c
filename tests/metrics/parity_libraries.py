"""Child processes that see the libraries which only parity tests need.

``make test`` keeps these in a folder of their own. In the environment of the tests insightface would bring a second
OpenCV, and torchvision breaks transformers beside a torch for the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

_FOLDER = Path(sys.prefix) / "parity"
_REPOSITORY = Path(__file__).resolve().parents[2]


def run_beside(library: str, script: str, folder: Path) -> None:
    """Run a script that imports one of the libraries; the test is skipped where that is not installed.

    Args:
        library: name of its module.
        script: name of a module of this folder.
        folder: its argument: where it finds what it needs, and leaves what it found.
    """
    if not _FOLDER.is_dir() and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: 'make .venv/.parity' puts it into {_FOLDER}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_REPOSITORY), str(_FOLDER)])}
    command = [sys.executable, "-m", f"tests.metrics.{script}", str(folder)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
