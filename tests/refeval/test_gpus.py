"""GPUs: which ones a command may use, and who gets which."""

from __future__ import annotations

from pathlib import Path

import pytest

from refeval import gpus
from refeval.errors import BadInput, MissingPrerequisite
from refeval.gpus import require_gpus, share_gpus, visible_gpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without GPUs; its folder of programs."""
    programs, driver = tmp_path / "bin", tmp_path / "driver"
    programs.mkdir()
    driver.mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(gpus, "_DRIVER", driver)
    return tmp_path


def _install_smi(machine: Path, script: str) -> None:
    program = machine / "bin/nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3,5", ["3", "5"]), (" 3, GPU-a ", ["3", "GPU-a"]), ("", []), ("-1", []), ("0,-1,2", ["0"])],
)
def test_the_variable_is_read_as_cuda_reads_it(
    value: str, expected: list[str], machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_smi(machine, "echo 'GPU 0: NVIDIA H200 (UUID: GPU-a)'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == expected


def test_without_the_variable_the_driver_is_asked(machine: Path) -> None:
    assert visible_gpus() == []
    for name in ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0"):
        (machine / "driver" / name).mkdir()
    assert visible_gpus() == ["0", "1", "2"]
    _install_smi(machine, "echo 'GPU 0: NVIDIA H200 (UUID: GPU-a)'; echo '  MIG 1g.18gb'; echo 'GPU 1: NVIDIA H200'")
    assert visible_gpus() == ["0", "1"]
    _install_smi(machine, "echo 'GPU 0: NVIDIA H200'; exit 9")
    assert visible_gpus() == []


def test_fewer_gpus_than_asked_for(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPrerequisite, match="asked for 2 GPUs, this machine shows 0") as none:
        require_gpus(2)
    assert "leave --gpus out" in str(none.value)
    _install_smi(machine, "echo 'GPU 0: NVIDIA H200'")
    require_gpus(1)
    with pytest.raises(MissingPrerequisite, match="asked for 2 GPUs, this machine shows 1"):
        require_gpus(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    require_gpus(2)
    with pytest.raises(BadInput, match="asked for 3 GPUs, CUDA_VISIBLE_DEVICES names 2"):
        require_gpus(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadInput, match="asked for 1 GPUs, CUDA_VISIBLE_DEVICES names 0"):
        require_gpus(1)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("named", "count", "per_worker", "expected"),
    [
        (None, 0, 1, []),
        (None, 3, 1, ["0", "1", "2"]),
        (None, 4, 2, ["0,1", "2,3"]),
        ("7,3,GPU-a,1,0", 4, 2, ["7,3", "GPU-a,1"]),
    ],
)
def test_workers_get_their_share(
    named: str | None,
    count: int,
    per_worker: int,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert share_gpus(count, per_worker) == expected
