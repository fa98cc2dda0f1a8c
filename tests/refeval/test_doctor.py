"""Doctor: what is there is called there, and what is not comes with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from refeval import doctor
from refeval.doctor import Diagnosis, diagnose
from refeval.generators.wan.catalogue import MATTING
from refeval.receipts import Receipt


def _found() -> dict[tuple[str, str], Diagnosis]:
    return {(found.area, found.name): found for found in diagnose()}


def test_what_is_missing_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": None}
    monkeypatch.setattr(doctor, "installed_version", lambda name: versions.get(name, "1.0"))
    monkeypatch.delenv("REFEVAL_DATA", raising=False)
    found = _found()
    assert found["extra", "dev"].present
    assert not found["extra", "score"].present
    assert found["extra", "score"].note == "missing: torch"
    assert found["extra", "score"].cure == "pip install 'refeval[score]'"
    assert found["metric", "motion_amplitude"].present
    assert found["decoder", "pyav"].present
    assert found["suite", "sprites"].note == "32 cases"
    assert "refeval fetch suite opens2v-human" in found["suite", "opens2v-human"].cure


def test_data_that_is_there_is_counted(opens2v: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFEVAL_DATA", str(opens2v))
    found = _found()
    assert found["suite", "opens2v-open"].note == "180 cases"
    assert found["suite", "opens2v-open"].cure == ""


def test_models_and_what_they_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFEVAL_WEIGHTS", raising=False)
    found = _found()
    assert found["model", "refalign-1.3b"].note == "REFEVAL_WEIGHTS is not set"
    assert found["model", "refalign-1.3b"].cure == "refeval fetch model refalign-1.3b --weights DIR"
    assert ("model", "refalign-tiny") not in found
    monkeypatch.setenv("REFEVAL_WEIGHTS", str(tmp_path))
    folder = tmp_path / MATTING.repository
    folder.mkdir(parents=True)
    for name in ("birefnet.py", "config.json", "model.safetensors"):
        (folder / name).write_bytes(b"by hand")
    found = _found()
    assert not found["model", "phantom-14b"].present
    assert found["model", "phantom-14b"].cure == f"refeval fetch model phantom-14b --weights {tmp_path}"
    assert found["model", "birefnet"].present
    assert found["model", "birefnet"].note == "0.0 GB, put there by hand: no receipt"
    Receipt(repository=MATTING.repository, revision="a" * 40, files={}).write(folder)
    assert _found()["model", "birefnet"].note == "0.0 GB, fetched"


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ('echo "GPU 0: NVIDIA H200 (UUID: GPU-1-2)"; echo "  MIG 1g.18gb Device 0: (UUID: MIG-3)"', "NVIDIA H200"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", "none: only the tiny models render here"),
        ("echo 'No devices were found'", "none: only the tiny models render here"),
    ],
)
def test_the_gpu_is_asked_of_its_driver(
    script: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu = _found()["device", "gpu"]
    assert gpu.note == note
    assert gpu.present == (note == "NVIDIA H200")
