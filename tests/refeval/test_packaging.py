"""What pip installs: a wheel that holds only ``refeval/``, and a base without torch."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_only_refeval(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = [name for name in tracked.split("\0") if name and (ROOT / name).exists()]
    archive = ["tar", "-c", "--files-from=-"]
    tar = subprocess.run(archive, cwd=ROOT, input="\n".join(names).encode(), capture_output=True, check=True).stdout
    source.mkdir()
    subprocess.run(["tar", "-x"], cwd=source, input=tar, check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("refeval-*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert {re.sub(r"refeval-[^/]*\.dist-info", "dist-info", name).split("/")[0] for name in files} == {
        "refeval",
        "dist-info",
    }
    for name in ("cli.py", "py.typed", "data/published.csv", "generators/base.py", "metrics/base.py", "reports/web.py"):
        assert f"refeval/{name}" in files
    assert [name for name in files if name.startswith("refeval/reports/") and name.endswith((".html", ".css", ".js"))]


def test_the_base_needs_no_torch() -> None:
    required = importlib.metadata.requires("refeval") or []
    base = [line for line in required if "extra ==" not in line]
    heavy = re.compile("torch|transformers|diffusers|insightface|onnx|ray|open_clip|matplotlib|scikit-learn")
    assert base
    assert not [line for line in base if heavy.match(line)]
    extras = importlib.metadata.metadata("refeval").get_all("Provides-Extra") or []
    assert set(extras) == {"score", "render", "train", "face", "ray", "figures", "dev", "all"}


def test_importing_the_command_line_loads_no_heavy_package() -> None:
    heavy = ("torch", "transformers", "pandas", "huggingface_hub")
    code = f"import sys, refeval.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
